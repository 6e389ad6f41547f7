import dataclasses
import hashlib
from functools import cache

import numpy as np
import pytest
from astropy.io import fits

from deepcr_zoo.errors import InvalidFileError, UsageError
from deepcr_zoo.exposures.reading import read_exposure
from deepcr_zoo.simulate import VERSION
from deepcr_zoo.simulate.scenes import CONTENTS, draw_scene
from deepcr_zoo.simulate.simulation import write_visit
from deepcr_zoo.simulate.truth import read_truth, truth_path
from deepcr_zoo.zoo.recipe import SIMULATED_FIELD_TYPES
from tests.simulate.visits import EXPOSURE_TIME_S, instrument, small_visit

SEED = 3


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    """Return the exposures of a visit, which is simulated once for all tests of this module."""

    @cache
    def paths(name, field_type):
        return write_visit(small_visit(SEED, field_type, name), tmp_path_factory.mktemp("visit"))

    return paths


def hashes(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def test_a_whole_frame_of_each_field_type_has_no_more_sources_than_may_be_drawn():
    acs = instrument("acs-wfc")
    rows, columns = acs.chip_shape
    # somewhat more than the simulation draws: a distorted field, the gap and a margin
    half = (0.55 * columns * acs.pixel_scale_arcsec, 0.55 * 2 * rows * acs.pixel_scale_arcsec)
    for content in CONTENTS.values():
        scene = draw_scene(content, acs.zeropoint_ab, half, np.eye(2), np.random.default_rng(SEED))
        assert len(scene.stars) > 0


def test_the_same_seed_gives_the_same_bytes_and_another_seed_gives_another_visit(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_visit(small_visit(seed), tmp_path / name)
    assert hashes(tmp_path / "a") == hashes(tmp_path / "b")
    assert len(hashes(tmp_path / "a")) == 4
    assert not set(hashes(tmp_path / "a").values()) & set(hashes(tmp_path / "c").values())
    assert not hashes(tmp_path / "a").keys() & hashes(tmp_path / "c").keys()


@pytest.mark.parametrize("name", ["acs-wfc", "wfc3-uvis"])
@pytest.mark.parametrize("field_type", SIMULATED_FIELD_TYPES)
def test_an_exposure_is_its_scene_its_cosmic_rays_and_the_noise_of_its_truth(simulated, name, field_type):
    path, other = simulated(name, field_type)
    (truth,) = read_truth(truth_path(path))
    (chip,) = read_exposure(path).chips
    quality = fits.getdata(path, ("DQ", 1))
    good = (quality == 0) & (truth.scene < 50_000)
    pull = (chip.pixels - truth.scene - truth.cosmic_rays)[good] / truth.noise[good]
    quiet = truth.cosmic_rays[good] == 0
    # percentiles: the last pixel of a blooming trail is not full and not flagged
    low, middle, high = np.percentile(pull[quiet], (15.87, 50, 84.13))
    assert abs(middle) < 0.03
    assert (high - low) / 2 == pytest.approx(1, abs=0.02)
    assert (truth.cosmic_rays > 20).mean() > 0.004
    assert not np.array_equal(truth.cosmic_rays, read_truth(truth_path(other))[0].cosmic_rays)


@pytest.mark.parametrize(("name", "recognised"), [("acs-wfc", "HST ACS/WFC"), ("wfc3-uvis", "HST WFC3/UVIS")])
def test_our_own_reader_recognises_the_instrument_filter_and_unit(simulated, name, recognised):
    path, _ = simulated(name, "extragalactic")
    exposure = read_exposure(path)
    assert (exposure.instrument.name, exposure.filter_name) == (recognised, "F606W")
    (chip,) = exposure.chips
    assert (chip.unit.quantity, chip.exposure_time_s) == ("electron", EXPOSURE_TIME_S)
    assert not exposure.cautions


def test_a_header_says_that_the_exposure_is_simulated_and_how(simulated):
    path, second = simulated("acs-wfc", "globular_cluster")
    header = fits.getheader(path)
    assert header["SIMULATD"] is True
    assert header["TARGNAME"] == "SIMULATED-GLOBULAR-CLUSTER"
    history = " ".join(header["HISTORY"])
    assert f"simulator version {VERSION}, seed {SEED}, field type globular_cluster" in history
    assert "Not an observation" in history
    assert header["ROOTNAME"] == path.name[:9]
    assert header["LINENUM"] == f"{path.name[4:6].upper()}.001"
    assert fits.getheader(second)["EXPSTART"] > header["EXPEND"]


def test_mdrizsky_is_the_sky_level(simulated):
    path, _ = simulated("acs-wfc", "extragalactic")
    level = fits.getval(path, "MDRIZSKY", ("SCI", 1))
    assert level == pytest.approx(np.median(fits.getdata(path, ("SCI", 1))), rel=0.05)
    assert level == pytest.approx(instrument().sky_electron_s * EXPOSURE_TIME_S, rel=0.6)


def test_a_full_frame_has_two_chips_the_lower_one_first(tmp_path):
    small = instrument().model_copy(update={"chip_shape": [256, 512]})
    path, _ = write_visit(dataclasses.replace(small_visit(side=None), instrument=small), tmp_path)
    with fits.open(path) as hdus:
        assert [(hdu.name, hdu.ver, hdu.shape) for hdu in hdus[1:]] == [
            (name, version, (256, 512)) for version in (1, 2) for name in ("SCI", "ERR", "DQ")
        ]
        assert [hdus["SCI", version].header["CCDCHIP"] for version in (1, 2)] == [2, 1]
        assert not hdus[0].header["SUBARRAY"]
    assert [truth.scene.shape for truth in read_truth(truth_path(path))] == [(256, 512)] * 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"side": 4000}, "side: expected 128 to 2048 pixels"),
        ({"seed": 1_000_000}, "seed: expected 0 to 999999"),
        ({"exposures": 7}, "exposures: expected 1 to 6"),
        ({"exposure_time_s": 0.0}, "exposure_time_s: expected > 0"),
    ],
)
def test_a_visit_that_cannot_be_simulated_is_refused(tmp_path, change, message):
    with pytest.raises(UsageError, match=message):
        write_visit(dataclasses.replace(small_visit(), **change), tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_error_names_a_file_that_is_not_a_truth(tmp_path):
    path = tmp_path / "x_truth.safetensors"
    with pytest.raises(InvalidFileError, match="cannot be read: No such file"):
        read_truth(path)
    path.write_bytes(b"nothing")
    with pytest.raises(InvalidFileError, match="is not the truth of a simulated exposure"):
        read_truth(path)
