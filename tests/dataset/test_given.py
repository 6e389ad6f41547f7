"""Training sets of masks that users give: beside exposures as FITS or npz, or in extensions of their files."""

import gzip

import numpy as np
import pytest
from astropy.io import fits

from deepcr_zoo.dataset.build import build_dataset
from deepcr_zoo.dataset.plans import plan_build
from deepcr_zoo.dataset.store import Home
from deepcr_zoo.errors import InvalidFileError, UsageError
from deepcr_zoo.files import sha256_of
from deepcr_zoo.zoo.recipefiles import read_recipe
from tests.described import describe, settings_of, write_recipe
from tests.groundframes import SHAPE, write_frame

ORPHAN = "is a mask by its name (build.given), and its exposure is missing"
ONE = ["build.labels=given", "build.quality.min_exposures=1"]


@pytest.fixture
def recipe_with(tmp_path, monkeypatch):
    """Return a function that reads the recipe of the described camera with settings."""
    describe(settings_of(tmp_path / "settings", monkeypatch) / "my.yaml")
    file = write_recipe(tmp_path / "r.yaml")
    return lambda *settings: read_recipe(file, [*ONE, *settings])


def write_npz(path, cosmic_rays, ignore):
    np.savez_compressed(path.with_suffix(".npz"), mask=cosmic_rays, bad=ignore)


def write_beside(path, cosmic_rays, ignore):
    fits.writeto(path.with_name(f"{path.stem}_mask.fits"), cosmic_rays.astype(np.uint8))
    fits.writeto(path.with_name(f"{path.stem}_bad.fits"), ignore.astype(np.uint8))


def write_within(path, cosmic_rays, ignore):
    with fits.open(path, mode="append") as hdus:
        hdus.append(fits.ImageHDU(cosmic_rays.astype(np.uint8), name="CRMASK"))
        hdus.append(fits.ImageHDU(ignore.astype(np.uint8), name="BAD"))


PLACES = {
    "npz": (write_npz, ["build.given.mask=.npz[mask]", "build.given.ignore=.npz[bad]"]),
    "beside": (write_beside, ["build.given.ignore=_bad.fits"]),
    "within": (write_within, ["build.given.mask=.fits[CRMASK]", "build.given.ignore=.fits[bad]"]),
}


def write_pairs(folder, write):
    """One exposure of each of four targets with its masks; return the CR masks."""
    ignore = np.zeros(SHAPE, bool)
    ignore[:, 50] = True
    struck = {}
    for target in (1, 2, 3, 4):
        path = folder / f"img{target}.fits"
        struck[path.stem] = write_frame(path, target) > 0
        write(path, struck[path.stem], ignore)
    return struck


@pytest.mark.parametrize("place", PLACES)
def test_given_masks_are_the_labels_of_the_stamps(place, recipe_with, tmp_path):
    write, settings = PLACES[place]
    struck = write_pairs(tmp_path / "data", write)
    dataset = build_dataset(recipe_with(*settings), [tmp_path / "data"], home=Home(tmp_path / "home"))
    assert dataset.manifest.rejected == []
    groups = [one for split in ("train", "validation", "test") for one in dataset.exposures(split)]
    assert {one.exposure.name for one in groups} == set(struck)
    for group in groups:
        layers = group.read("cosmic_rays", "ignore", "position")
        for cosmic_rays, ignore, (row, column) in zip(*layers.values(), strict=True):
            rows, columns = slice(row, row + len(ignore)), slice(column, column + len(ignore))
            assert np.array_equal(cosmic_rays, struck[group.exposure.name][rows, columns])
            assert ignore[:, 50 - column].all() if column <= 50 < column + len(ignore) else not ignore.all()


def test_other_masks_make_another_training_set_and_the_same_masks_the_same(recipe_with, tmp_path):
    write_pairs(tmp_path / "data", write_beside)
    keys = [plan_build(recipe_with(), [tmp_path / "data"], home=Home(tmp_path / "home")).key for _ in range(2)]
    fits.writeto(tmp_path / "data" / "img1_mask.fits", np.zeros(SHAPE, np.uint8), overwrite=True)
    other = plan_build(recipe_with(), [tmp_path / "data"], home=Home(tmp_path / "home")).key
    assert keys[0] == keys[1] != other


def test_an_exposure_without_a_mask_is_left_out_with_the_reason_or_refused(recipe_with, tmp_path):
    write_pairs(tmp_path / "data", write_beside)
    (tmp_path / "data" / "img2_mask.fits").unlink()
    bad = "build.given.ignore=_bad.fits"
    plan = plan_build(recipe_with(bad), [tmp_path / "data"], home=Home(tmp_path / "home"))
    reasons = {one.what: one.reason for one in plan.rejected}
    assert "has no img2_mask.fits beside it: expected its mask" in reasons[str(tmp_path / "data" / "img2.fits")]
    with pytest.raises(InvalidFileError, match="img2_mask"):
        plan_build(recipe_with(bad, "build.quality.on_bad_file=refuse"), [tmp_path / "data"], home=Home(tmp_path / "home"))


@pytest.mark.parametrize("packed", ["", ".gz"])
def test_a_mask_whose_exposure_is_missing_is_no_exposure(packed, recipe_with, tmp_path):
    write_pairs(tmp_path / "data", write_beside)
    fits.writeto(tmp_path / "data" / f"img9_mask.fits{packed}", np.zeros(SHAPE, np.uint8))
    plan = plan_build(recipe_with("build.given.ignore=_bad.fits"), [tmp_path / "data"], home=Home(tmp_path / "home"))
    assert sorted(one.name for visit in plan.visits for one in visit.exposures) == ["img1", "img2", "img3", "img4"]
    (rejected,) = plan.rejected
    assert (rejected.what, rejected.reason) == (str(tmp_path / "data" / f"img9_mask.fits{packed}"), ORPHAN)


def test_a_packed_exposure_has_its_masks_within(recipe_with, tmp_path):
    write_pairs(tmp_path / "data", write_within)
    for path in (tmp_path / "data").glob("*.fits"):
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    plan = plan_build(recipe_with(*PLACES["within"][1]), [tmp_path / "data"], home=Home(tmp_path / "home"))
    assert len(plan.visits) == 4
    assert plan.rejected == ()


@pytest.mark.parametrize(
    ("mask", "reason"),
    [
        (np.ones(SHAPE, np.uint8), "marks 100 % of the pixels that count: expected 1 for a cosmic ray"),
        (np.full(SHAPE, 4096, np.int16), "holds other values than 0 and 1"),
        (np.zeros((10, 10), np.uint8), "has 10 x 10 pixels: expected 256 x 288, as its exposure"),
        (np.zeros((2, *SHAPE), np.uint8), "holds 0 masks of two axes: expected 1"),
    ],
)
def test_what_is_no_mask_of_the_exposure_is_rejected_with_the_reason(mask, reason, recipe_with, tmp_path):
    write_pairs(tmp_path / "data", write_beside)
    fits.writeto(tmp_path / "data" / "img1_mask.fits", mask, overwrite=True)
    dataset = build_dataset(recipe_with(), [tmp_path / "data"], home=Home(tmp_path / "home"))
    (rejected,) = (one.reason for one in dataset.manifest.rejected if one.what.endswith("img1"))
    assert reason in rejected


def test_a_mask_that_states_another_exposure_is_a_caution(recipe_with, tmp_path):
    data = tmp_path / "data"
    write_pairs(data, write_beside)
    for name, made_for in (("img1", "img2"), ("img3", "img3")):
        with fits.open(data / f"{name}_mask.fits", mode="update") as hdus:
            hdus[0].header["CRFILE"] = f"{made_for}.fits"
            hdus[0].header["CRINPUT"] = sha256_of(data / f"{made_for}.fits")
    dataset = build_dataset(recipe_with(), [data], home=Home(tmp_path / "home"))
    (caution,) = (one for one in dataset.manifest.cautions if "was made for" in one)
    assert caution.startswith("img1: img1_mask.fits was made for img2.fits, with other bytes")


def test_a_recipe_with_given_masks_cannot_be_rehearsed(recipe_with, tmp_path):
    with pytest.raises(UsageError, match="no masks of yours"):
        plan_build(recipe_with(), rehearse=True, home=Home(tmp_path / "home"))
