"""Files cleaned by a network that needs neither unit nor gain nor bias level."""

from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits
from typer.testing import CliRunner

from deepcr_zoo import clean_file
from deepcr_zoo.cli.main import app
from deepcr_zoo.errors import InvalidFileError, NoModelError
from deepcr_zoo.exposures.reading import MissingFactsError, read_exposure
from deepcr_zoo.exposures.selection import ranked_models
from deepcr_zoo.zoo.instrumentfiles import default_instruments
from deepcr_zoo.zoo.registries import default_registry, local_root
from deepcr_zoo.zoo.registry import RankedModel, read_registry
from tests.described import describe, settings_of
from tests.fitsfiles import ACS, science, write
from tests.noisenetworks import NAME, PAINTER, imported, loaded, sky_with_tracks
from tests.registries import SMALL

ELECTRONS, STRUCK = sky_with_tracks((160, 220), seed=9)
COUNTS = np.rint(ELECTRONS / 1.6 + 900).astype(np.uint16)
LOCAL = f"local:{NAME}"
pytestmark = pytest.mark.filterwarnings("ignore:.*imported from a file")


@pytest.fixture(autouse=True)
def own_network(tmp_path, monkeypatch):
    monkeypatch.setenv("DEEPCR_ZOO_DATA", str(tmp_path / "data"))
    imported(tmp_path)


def raw(path, pixels=COUNTS, **header):
    fits.PrimaryHDU(pixels, fits.Header(header)).writeto(path)
    return path


def masked(path, **options):
    clean_file(path, LOCAL, **options)
    with fits.open(path.with_name(f"{path.stem}_crmask.fits")) as hdus:
        return hdus["CRMASK"].data.astype(bool), hdus["CRMASK"].header


def test_a_raw_file_without_any_keyword_is_cleaned_in_its_own_unit(tmp_path):
    path = raw(tmp_path / "x.fits")
    with pytest.raises(InvalidFileError, match="bias=LEVEL"):
        clean_file(path, SMALL)
    done = clean_file(path, LOCAL)
    assert [caution for caution in done.cautions if "were taken as stored" in caution]
    with fits.open(tmp_path / "x_crclean.fits") as hdus, fits.open(path) as given:
        cleaned, header = hdus[0].data, hdus[0].header
        mask = fits.getdata(tmp_path / "x_crmask.fits", "CRMASK").astype(bool)
        assert cleaned.dtype == given[0].data.dtype == np.uint16
        np.testing.assert_array_equal(cleaned[~mask], COUNTS[~mask])
    assert mask[STRUCK].mean() > 0.9
    assert mask[~STRUCK].mean() < 0.002
    assert np.abs(cleaned[mask & STRUCK].astype(float) - 960).max() < 400
    assert np.median(cleaned[mask & STRUCK]) == pytest.approx(962, abs=10)
    for record in (header, fits.getheader(tmp_path / "x_crmask.fits", "CRMASK")):
        assert record["CRSKY1"] == pytest.approx(900 + 100 / 1.6, abs=1)
        assert record["CRNOIS1"] == pytest.approx(np.hypot(10, 5) / 1.6, rel=0.05)
    np.testing.assert_array_equal(loaded(tmp_path).mask(COUNTS), mask)


def test_gain_pedestal_and_sky_subtraction_change_no_mask(tmp_path):
    expected, _ = masked(raw(tmp_path / "counts.fits", ELECTRONS.astype(np.float32), BUNIT="adu"))
    changes = [(0.25, 0, "adu"), (4, 0, "electron"), (1, 10_000, "electron"), (1, -100, "fluxions"), (0.3, -30, "adu")]
    for number, (factor, level, unit) in enumerate(changes):
        path = raw(tmp_path / f"{number}.fits", (ELECTRONS * factor + level).astype(np.float32), BUNIT=unit, GAIN=2.0)
        done = clean_file(path, LOCAL, inpaint="none")
        np.testing.assert_array_equal(fits.getdata(tmp_path / f"{number}_crmask.fits", "CRMASK"), expected)
        assert not [caution for caution in done.cautions if "background" in caution]  # its level is of no importance


def test_what_a_file_states_changes_no_mask(tmp_path):
    expected, _ = masked(raw(tmp_path / "x.fits"))
    for name, options in (
        ("g", {"gain": 1.6}),
        ("b", {"bias": 900}),
        ("u", {"unit": "electron"}),
        ("t", {"unit": "counts"}),
    ):
        found, header = masked(raw(tmp_path / f"{name}.fits"), **options)
        np.testing.assert_array_equal(found, expected)
        assert header["CRSKY1"] == pytest.approx(100 / 1.6 + (0 if name == "b" else 900), abs=1)


def test_each_amplifier_is_seen_in_units_of_its_own_noise(tmp_path, monkeypatch):
    halves = [{"image": "[1:110,1:160]", "bias": "[221:230,1:160]"}, {"image": "[111:220,1:160]", "bias": "[231:240,1:160]"}]
    folder = settings_of(tmp_path / "settings", monkeypatch)
    describe(folder / "my.yaml", amplifiers=halves, chip_shape=[160, 220], gain_electron_per_count=None, gain_keywords=[])
    pixels = np.pad(ELECTRONS, ((0, 0), (0, 20)))
    pixels[:, 110:220] /= 4
    pixels[:, 110:] += 5000
    pixels[:, 220:230] = 800
    pixels[:, :110] += 800
    keywords = {"TELESCOP": "Test 1.0m", "INSTRUME": "TestCam", "EXPTIME": 100.0, "FILTER": "R"}
    counts = np.rint(pixels + np.random.default_rng(1).normal(0, 2, pixels.shape)).astype(np.uint16)
    found, header = masked(raw(tmp_path / "x.fits", counts, **keywords))
    assert not found[:, 220:].any()
    for half in (np.s_[:, :110], np.s_[:, 110:220]):
        assert found[half][STRUCK[half]].mean() > 0.9
        assert found[:, :220][half][~STRUCK[half]].mean() < 0.002
    assert (header["CRSKY1"], header["CRSKY2"]) == pytest.approx((100, 25), abs=2)
    assert header["CRNOIS1"] / header["CRNOIS2"] == pytest.approx(11.36 / 3.43, rel=0.1)
    trimmed, header = masked(raw(tmp_path / "t.fits", counts[:, :220].astype(np.float32), BUNIT="adu", **keywords))
    assert (trimmed != found[:, :220]).mean() < 1e-3
    assert (header["CRSKY1"], header["CRSKY2"]) == pytest.approx((900, 5025), abs=2)


def test_saturated_masked_and_cosmic_ray_pixels_are_treated_as_by_other_networks(tmp_path):
    image = ELECTRONS.astype(np.float32)
    image[40:60, 40:60], flags = np.nan, np.zeros(image.shape, dtype=np.int16)
    flags[100:120] = 4
    exposure = [science(image, "electron"), fits.ImageHDU(flags, name="DQ", ver=1)]
    path = write(tmp_path / "x_flc.fits", *exposure, **ACS)
    clean_file(path, LOCAL, grow=1)
    mask = fits.getdata(tmp_path / "x_flc_crmask.fits", "CRMASK").astype(bool)
    assert not mask[40:60, 40:60].any()
    assert not mask[100:120].any()
    assert (fits.getdata(tmp_path / "x_flc_crclean.fits", "DQ")[mask] & 4096).all()


def test_products_are_the_same_from_a_batch_on_the_command_line(tmp_path):
    paths = [raw(tmp_path / f"{name}.fits") for name in "abc"]
    expected, _ = masked(paths[0])
    done = CliRunner().invoke(app, ["clean", *map(str, paths[1:]), "--model", LOCAL, "--jobs", "1"])
    assert done.exit_code == 0, done.output
    for path in paths[1:]:
        np.testing.assert_array_equal(fits.getdata(path.with_name(f"{path.stem}_crmask.fits"), "CRMASK"), expected)


def test_a_painter_for_any_unit_repaints_in_the_unit_of_the_file(tmp_path):
    imported(tmp_path, PAINTER)
    path = raw(tmp_path / "x.fits")
    done = clean_file(path, LOCAL, inpaint=f"local:{PAINTER}")
    assert done.inpaint == f"local:inpaint/{PAINTER}@1.0"
    mask = fits.getdata(tmp_path / "x_crmask.fits", "CRMASK").astype(bool)
    expected = loaded(tmp_path, PAINTER).fill(COUNTS, mask)[mask]
    assert np.abs(fits.getdata(tmp_path / "x_crclean.fits")[mask] - expected).max() < 0.6
    of_electrons = write(tmp_path / "e_flc.fits", science(ELECTRONS.astype(np.float32), "electron"), **ACS)
    assert clean_file(of_electrons, SMALL, inpaint=f"local:{PAINTER}").inpaint == f"local:inpaint/{PAINTER}@1.0"
    assert fits.getheader(tmp_path / "e_flc_crmask.fits", "CRMASK")["CRSKY1"] == pytest.approx(100, abs=2)


def test_a_mask_that_is_given_is_repainted_in_the_unit_of_the_file_where_the_painter_needs_none(tmp_path):
    imported(tmp_path, PAINTER)
    path, mask = raw(tmp_path / "x.fits"), tmp_path / "mine.npz"
    np.savez(mask, mask=STRUCK)
    assert clean_file(path, mask=mask, inpaint=f"local:{PAINTER}").inpaint == f"local:inpaint/{PAINTER}@1.0"
    with pytest.raises(MissingFactsError, match="gain"):
        clean_file(path, mask=mask, inpaint="ACS-WFC-F606W-2-32", overwrite=True)


def test_a_painter_for_electrons_is_refused_beside_a_network_for_any_unit(tmp_path):
    with pytest.raises(NoModelError, match="takes electron, the mask model any"):
        clean_file(raw(tmp_path / "x.fits"), LOCAL, inpaint="ACS-WFC-F606W-2-32")


def test_products_of_other_networks_have_no_such_keywords(tmp_path):
    path = write(tmp_path / "x_flc.fits", science(ELECTRONS.astype(np.float32), "electron"), **ACS)
    clean_file(path, SMALL)
    for name, extension in (("x_flc_crmask.fits", "CRMASK"), ("x_flc_crclean.fits", "SCI")):
        assert not [keyword for keyword in fits.getheader(tmp_path / name, extension) if keyword.startswith("CRSKY")]
    assert read_exposure(path).chips[0].amplifiers == ()


def test_a_camera_without_a_network_gets_that_for_any_unit_and_others_keep_theirs():
    zoo, any_camera = default_registry(), RankedModel(model=f"mask/{NAME}", reason="for any CCD")
    registry = replace(read_registry(local_root()), preferences=zoo.preferences, foreign=[any_camera])
    acs, unknown = default_instruments().named("HST", "ACS", "WFC"), default_instruments().named("HST", "STIS", "CCD")
    assert ranked_models(acs, registry, "mask", "F606W") == [*ranked_models(acs, zoo, "mask", "F606W")[:-1], any_camera]
    for camera in (unknown, None):
        assert ranked_models(camera, registry, "mask") == [any_camera]
        assert ranked_models(camera, zoo, "mask") == zoo.for_any_camera("mask")
        assert ranked_models(camera, registry, "inpaint") == []
