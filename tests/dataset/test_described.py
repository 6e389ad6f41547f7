"""Training sets of a described camera: raw frames without DQ, WCS, proposal and visit."""

import numpy as np
import pytest
from astropy.io import fits

from deepcr_zoo.dataset.build import build_dataset
from deepcr_zoo.dataset.exposures import read_chips, read_facts
from deepcr_zoo.dataset.ignore import ignore_mask, quality_bits
from deepcr_zoo.dataset.plans import plan_build
from deepcr_zoo.dataset.store import Home
from deepcr_zoo.dataset.visitnames import VisitName
from deepcr_zoo.errors import DataError
from deepcr_zoo.zoo.recipefiles import read_recipe
from deepcr_zoo.zoo.recipeinstruments import detector_of
from tests.described import describe, settings_of, write_recipe
from tests.groundframes import SHAPE, write_frame

TARGETS, EXPOSURES = (1, 2, 3, 4), (0, 1, 2)


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    """Three exposures of each of four targets, each night in a folder of its own, beside a bias frame."""
    folder = tmp_path_factory.mktemp("frames")
    struck = {(t, n): write_frame(folder / f"night{t}" / f"img{n}.fits", t, n) for t in TARGETS for n in EXPOSURES}
    write_frame(folder / "bias.fits", IMAGETYP="bias")
    return folder, struck


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    describe(settings_of(tmp_path / "settings", monkeypatch) / "my.yaml")
    return read_recipe(write_recipe(tmp_path / "r.yaml"))


@pytest.mark.slow
def test_repeats_become_a_training_set_that_finds_their_cosmic_rays(frames, recipe, tmp_path, monkeypatch):
    folder, struck = frames
    plan = plan_build(recipe, [folder], home=Home(tmp_path / "home"))
    settings_of(tmp_path / "elsewhere", monkeypatch)  # the recipe holds the description
    dataset = build_dataset(recipe, [folder], home=Home(tmp_path / "home"))
    assert [visit.name for visit in plan.visits] == [f"FIELD_{t}-2026010{t}-R" for t in TARGETS]
    assert sorted(visit.split for visit in dataset.manifest.visits) == ["test", "train", "train", "train"]
    rejected = {one.what: one.reason for one in dataset.manifest.rejected}
    assert rejected == {str(folder / "bias.fits"): "IMAGETYP is bias: this is a bias frame, no exposure of the sky"}
    (caution,) = [one for one in dataset.manifest.cautions if "no WCS" in one]
    assert "FIELD_1-20260101-R, FIELD_2-20260102-R" in caution
    names = [one.name for visit in dataset.manifest.visits for one in visit.record.exposures]
    assert len(set(names)) == len(names) == 12
    (group,) = (one for one in dataset.exposures("train") if one.exposure.name == "night3-img0")
    layers = group.read("cosmic_rays", "ignore", "image", "position")
    found, truth, counted = ([], [], [])
    for cosmic_rays, ignore, _, (row, column) in zip(*layers.values(), strict=True):
        found.append(cosmic_rays.astype(bool))
        truth.append(struck[3, 0][row : row + 32, column : column + 32])
        counted.append(ignore == 0)
    found, truth, counted = map(np.concatenate, (found, truth, counted))
    assert found[truth & counted].mean() > 0.95
    assert found[~truth & counted].mean() < 0.002
    assert np.median(layers["image"]) == pytest.approx(400, abs=5)
    assert group.exposure.read_noise_electron == pytest.approx(6, abs=0.4)


def test_a_target_that_is_observed_in_two_nights_has_a_visit_for_each_also_over_midnight(recipe, tmp_path):
    for number, time in enumerate(("01T23:50:00", "02T00:20:00", "02T23:50:00", "03T00:20:00")):
        write_frame(tmp_path / "raw" / f"{number}.fits", 1, number, **{"DATE-OBS": f"2026-01-{time}"})
    plan = plan_build(recipe, [tmp_path / "raw"], home=Home(tmp_path / "home"))
    found = {visit.name: [one.name for one in visit.exposures] for visit in plan.visits}
    assert found == {"FIELD_1-20260101-R": ["0", "1"], "FIELD_1-20260102-R": ["2", "3"]}


def test_exposures_without_a_target_are_grouped_by_folder_and_of_one_folder_in_one_split(recipe, tmp_path):
    for number in (0, 1):
        for folder in ("a field", "b", "c"):
            write_frame(tmp_path / folder / f"{folder}{number}.fits", 2, number, TARGET=None, **{"DATE-OBS": None})
    plan = plan_build(recipe, [tmp_path / one for one in ("a field", "b", "c")], home=Home(tmp_path / "home"))
    assert [visit.name for visit in plan.visits] == ["A_FIELD-R", "FIELD_B-R", "FIELD_C-R"]


def test_pixels_above_the_level_of_the_description_are_ignored_with_their_surroundings(recipe, tmp_path):
    write_frame(tmp_path / "a.fits")
    with fits.open(tmp_path / "a.fits", mode="update") as hdus:
        hdus[0].data[100, 100] = 60_500
    (facts,) = read_facts(tmp_path / "a.fits", recipe.instrument, "cr_split")
    (chip,) = read_chips(facts, recipe.instrument)
    block = recipe.build.ignore.model_copy(update={"saturation_electron": 1e9})
    expected = np.zeros(SHAPE, dtype=bool)
    expected[97:104, 97:104] = True
    bits = quality_bits(block, detector_of(recipe.instrument))
    np.testing.assert_array_equal(ignore_mask(chip, bits, block), expected)
    assert chip.area_cm2 == pytest.approx(SHAPE[0] * SHAPE[1] * 13.5e-4**2)


def test_darks_of_the_camera_serve_dark_paste_and_are_no_data(tmp_path, monkeypatch):
    describe(settings_of(tmp_path / "settings", monkeypatch) / "my.yaml")
    for number in range(6):
        write_frame(tmp_path / "raw" / "darks" / f"{number}.fits", 1, number, TARGET="dark", OBSTYPE="Dark")
    for target in TARGETS:
        write_frame(tmp_path / "raw" / f"img{target}.fits", target)
    build = {"labels": "dark_paste", "dark_paste": {"darks": ["raw/darks"]}, "quality": {"min_exposures": 1}}
    recipe = read_recipe(write_recipe(tmp_path / "r.yaml", build={**build, "stamps": {"size": 32, "border": 4}}))
    plan = plan_build(recipe, [tmp_path / "raw"], beside=tmp_path, home=Home(tmp_path / "home"))
    assert len(plan.visits) == 4
    assert {len(visit.darks) for visit in plan.visits} == {3}
    assert [one.reason for one in plan.rejected] == ["OBSTYPE is Dark: this is a dark exposure, no exposure of the sky"] * 6


def test_a_visit_of_the_ground_is_named_by_target_and_night_and_is_none_of_the_archive():
    assert str(VisitName(0, "M31-20260109", "R")) == "M31-20260109-R"
    assert VisitName.parse("M31-20260109-R") is None
    assert str(VisitName.parse("10420-01-F606W")) == "10420-01-F606W"


def test_exposures_of_another_camera_are_named(recipe, tmp_path):
    write_frame(tmp_path / "raw" / "a.fits", INSTRUME="Other", BUNIT="adu")
    with pytest.raises(DataError, match=r"is of Test 1\.0m Other, the recipe takes exposures of My camera"):
        plan_build(recipe, [tmp_path / "raw"], home=Home(tmp_path / "home"))
