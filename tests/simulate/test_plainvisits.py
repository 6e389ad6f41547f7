"""Simulated visits of any camera: files as its description says, with their truth, which the product reads back."""

import numpy as np
import pytest
from astropy.io import fits

from deepcr_zoo.dataset.expectations import why_no_rehearsal
from deepcr_zoo.dataset.exposures import read_chips, read_facts
from deepcr_zoo.dataset.planned import rehearsed_visits
from deepcr_zoo.errors import UsageError
from deepcr_zoo.exposures.reading import read_exposure
from deepcr_zoo.simulate.cameras import simulated
from deepcr_zoo.simulate.truth import read_truth, truth_path
from deepcr_zoo.simulate.visits import visit_of, write
from deepcr_zoo.zoo.recipefiles import find_recipe, read_recipe
from tests.described import describe, settings_of, write_recipe

SIDE, SECONDS = 256, 300.0


def recipe_of(folder, monkeypatch, settings=(), **facts):
    describe(settings_of(folder / "settings", monkeypatch) / "my.yaml", **facts)
    return read_recipe(write_recipe(folder / "r.yaml"), settings)


def visit(recipe, exposures=1, seed=6, same_pixels=False, field_type="extragalactic"):
    return visit_of(recipe, field_type, seed, exposures, SECONDS, SIDE, same_pixels)


def test_a_described_camera_reads_its_simulated_frames_back_as_truth_and_noise(tmp_path, monkeypatch):
    recipe = recipe_of(tmp_path, monkeypatch)
    (path,) = write(visit(recipe), tmp_path / "visit")
    with fits.open(path) as hdus:
        assert len(hdus) == 1
        assert hdus[0].data.dtype == np.uint16
        assert hdus[0].header["RDNOISE"] == 6.0
        assert hdus[0].header["TARGET"] == "SIMULATED-EXTRAGALACTIC-6"
    (facts,) = read_facts(path, recipe.instrument, "cr_split")
    (chip,) = read_chips(facts, recipe.instrument)
    (truth,) = read_truth(truth_path(path))
    assert facts.has_coordinates
    assert facts.filter_name == "R"
    assert chip.image.shape == truth.scene.shape == (SIDE, SIDE)
    pull = (chip.image - truth.scene - truth.cosmic_rays) / truth.noise
    counted = (truth.cosmic_rays == 0) & (truth.scene < 20_000)
    assert np.mean(pull[counted]) == pytest.approx(0, abs=0.03)
    assert np.std(pull[counted]) == pytest.approx(1, abs=0.03)


def test_dithers_show_the_same_stars_where_the_wcs_says(tmp_path, monkeypatch):
    recipe = recipe_of(tmp_path, monkeypatch, ["instrument.simulation.wcs_error_arcsec=0"])
    paths = write(visit(recipe, exposures=2, seed=5), tmp_path / "visit")
    chips = [read_chips(read_facts(one, recipe.instrument, "cr_split")[0], recipe.instrument)[0] for one in paths]
    first, second = (read_truth(truth_path(one))[0].scene for one in paths)
    middle = first[40:-40, 40:-40]
    row, column = np.array(np.unravel_index(np.argmax(middle), middle.shape)) + 40
    sky = chips[0].wcs.all_pix2world([[column, row]], 0)
    x, y = np.rint(chips[1].wcs.all_world2pix(sky, 0)[0]).astype(int)
    assert np.hypot(x - column, y - row) > 2
    around = second[y - 3 : y + 4, x - 3 : x + 4]
    assert np.abs(np.array(np.unravel_index(np.argmax(around), around.shape)) - 3).max() <= 1
    assert around.max() / first[row, column] == pytest.approx(0.9, abs=0.3)  # transparency and seeing vary


def test_a_visit_is_the_same_in_each_run_and_its_exposures_differ(tmp_path, monkeypatch):
    recipe = recipe_of(tmp_path, monkeypatch)
    one, other = (write(visit(recipe, exposures=2), tmp_path / name) for name in ("one", "other"))
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in other]
    first, second = (read_truth(truth_path(path))[0].cosmic_rays > 0 for path in one)
    assert (first & second).sum() < 0.1 * first.sum()


@pytest.mark.parametrize(
    "facts",
    [
        {"amplifiers": [{"image": "SECA", "bias": "BSECA"}, {"image": "SECB", "bias": "BSECB", "gain": 2.1}]},
        {"amplifiers": None},
        {"amplifiers": None, "bias_count": 700.0},
        {"amplifiers": [{"image": "[1:288,1:256]", "bias": "[289:304,1:256]"}]},
        {"exposure_time_keywords": ["ITIME"], "filter_keywords": ["FILTA", "FILTB"], "no_filter": ["OPEN*"]},
    ],
)
def test_frames_follow_the_description(facts, tmp_path, monkeypatch):
    recipe = recipe_of(tmp_path, monkeypatch, **facts)
    (path,) = write(visit(recipe), tmp_path / "visit")
    (facts_read,) = read_facts(path, recipe.instrument, "cr_split")
    (chip,) = read_chips(facts_read, recipe.instrument)
    (truth,) = read_truth(truth_path(path))
    assert (facts_read.filter_name, facts_read.exposure_time_s) == ("R", SECONDS)
    assert np.median(chip.image - truth.scene) == pytest.approx(0, abs=1.5)


def test_binned_pixels_hold_the_light_of_all_their_parts(tmp_path, monkeypatch):
    skies = []
    for number, binning in enumerate(("[1, 1]", "[2, 2]")):
        folder = tmp_path / str(number)
        folder.mkdir()
        recipe = recipe_of(folder, monkeypatch, [f"instrument.simulation.binning={binning}"])
        (path,) = write(visit(recipe), folder / "visit")
        skies.append(np.median(read_truth(truth_path(path))[0].scene))
    assert skies[1] / skies[0] == pytest.approx(4, rel=0.05)


def test_stis_repeats_of_a_slit_are_one_raw_file_that_the_product_reads(tmp_path):
    recipe = read_recipe(find_recipe("stis-ccd"))
    (path,) = write(visit_of(recipe, "spectrum", 3, 2, 600.0, None, True), tmp_path)
    assert path.name.endswith("_raw.fits")
    assert [chip.image_area.sum() for chip in read_exposure(path).chips] == [1024 * 511] * 2
    facts = read_facts(path, recipe.instrument, "cr_split")
    chips = [read_chips(one, recipe.instrument)[0] for one in facts]
    truths = read_truth(truth_path(path))
    assert len(facts) == len(truths) == 2
    for chip, truth in zip(chips, truths, strict=True):
        assert np.median(chip.image - truth.scene) == pytest.approx(0, abs=1)
    assert np.abs(truths[0].scene - truths[1].scene).max() < 1  # the same slit on the same pixels
    assert 0.01 < (truths[0].cosmic_rays > 20).mean() < 0.1


def test_a_shape_that_the_description_does_not_read_is_named(tmp_path):
    recipe = read_recipe(find_recipe("stis-ccd"), ["instrument.simulation.binning=[1, 1]"])
    with pytest.raises(UsageError, match="no frame of HST STIS/CCD binned 1 x 1"):
        write(visit_of(recipe, "spectrum", 3, 2, 600.0, None, True), tmp_path)


def test_cameras_of_hst_refuse_settings_that_they_do_not_use():
    recipe = read_recipe(find_recipe("acs-wfc-f606w"), ["instrument.simulation.site=orbit"])
    with pytest.raises(UsageError, match="remove it"):
        simulated(recipe.instrument)


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        ("astrodrizzle", "calibrated exposures of HST, which AstroDrizzle reads"),
        ("dark_paste", "makes no darks"),
        ("cr_split", None),
        ("dithers", None),
    ],
)
def test_a_described_camera_is_rehearsed_with_the_labels_that_serve(labels, reason, tmp_path, monkeypatch):
    recipe = recipe_of(tmp_path, monkeypatch, [f"build.labels={labels}"])
    why = why_no_rehearsal(recipe)
    assert why is None if reason is None else reason in str(why)
    if reason is None:
        (first, *_) = rehearsed_visits(recipe)
        assert first.simulated is not None
        assert first.simulated.same_pixels == (labels == "cr_split")
