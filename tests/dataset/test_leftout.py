"""Label methods refuse what they cannot serve: one sentence with the reason and the way out, however many exposures."""

import numpy as np
import pytest
from astropy.io import fits

from deepcr_zoo.dataset import leftout
from deepcr_zoo.dataset.build import build_dataset
from deepcr_zoo.dataset.expectations import doubts
from deepcr_zoo.dataset.plans import plan_build
from deepcr_zoo.dataset.store import Home, Rejected
from deepcr_zoo.errors import DataError, MissingDataError, UsageError
from deepcr_zoo.zoo.recipefiles import read_recipe
from tests.described import describe, settings_of, write_recipe
from tests.groundframes import SHAPE, counts, field, write_frame

DITHERS = [(0, 0), (3, -2), (-2, 4), (6, 5)]


@pytest.fixture
def recipe_with(tmp_path, monkeypatch):
    """Return a function that reads the recipe of the described camera with settings."""
    describe(settings_of(tmp_path / "settings", monkeypatch) / "my.yaml")
    file = write_recipe(tmp_path / "r.yaml")
    return lambda *settings: read_recipe(file, settings)


def write_dithers(folder, with_wcs, targets=(1, 2)):
    """Exposures of each target, shifted by some pixels against each other."""
    for target in targets:
        for number, shift in enumerate(DITHERS):
            path = folder / f"img{target}-{number}.fits"
            write_frame(path, target, number)
            with fits.open(path, mode="update") as hdus:
                moved = np.roll(field(target), shift, axis=(0, 1))
                hdus[0].data = counts(moved, np.random.default_rng([target, number]))
                if with_wcs:
                    place = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 10.0 * target, "CRVAL2": 5.0}
                    scale = 0.4 / 3600
                    pixel = {"CRPIX1": SHAPE[1] / 2 + shift[1], "CRPIX2": SHAPE[0] / 2 + shift[0]}
                    hdus[0].header.update({**place, **pixel, "CD1_1": -scale, "CD2_2": scale})


def test_repeats_are_not_made_of_dithered_exposures_and_one_sentence_names_dithers(recipe_with, tmp_path):
    write_dithers(tmp_path / "raw", with_wcs=True)
    with pytest.raises(DataError) as raised:
        plan_build(recipe_with("build.labels=cr_split"), [tmp_path / "raw"], home=Home(tmp_path / "home"))
    assert "\n" not in str(raised.value)
    assert "and 7 others: its exposure shares its pixels with no other of the field" in str(raised.value)
    assert "choose build.labels dithers" in str(raised.value)


def test_a_single_exposure_among_repeats_is_named_without_advice_to_dither(recipe_with, tmp_path):
    for target, number in [(1, 0), (1, 1), (2, 0)]:
        write_frame(tmp_path / "raw" / f"img{target}-{number}.fits", target, number)
    plan = plan_build(recipe_with("build.labels=cr_split"), [tmp_path / "raw"], home=Home(tmp_path / "home"))
    (rejected,) = plan.rejected
    assert "no other exposure of this visit, target and filter overlaps" in rejected.reason


@pytest.mark.slow
def test_dithered_exposures_without_wcs_are_found_by_their_stars(recipe_with, tmp_path):
    write_dithers(tmp_path / "raw", with_wcs=False, targets=(1,))
    with pytest.raises(DataError, match=r"choose build\.labels dithers") as raised:
        build_dataset(recipe_with("build.labels=cr_split"), [tmp_path / "raw"], home=Home(tmp_path / "home"))
    assert str(raised.value).count("\n") == 1
    assert "no two of its exposures lie on the same pixels, by their stars" in str(raised.value)


REFUSED = {
    "astrodrizzle": (UsageError, r"calibrated exposures of HST.* My camera is none .*choose build\.labels dithers"),
    "dark_paste": (MissingDataError, r"labels dark_paste .* names no dark exposures: .* under build\.dark_paste\.darks"),
    "given": (MissingDataError, r"none of 4 exposures has one: expected .*img0_mask\.fits .*\(build\.given\.mask\)"),
}


@pytest.mark.parametrize("labels", REFUSED)
def test_what_a_method_lacks_is_one_sentence_before_frames_are_read(labels, recipe_with, tmp_path):
    (tmp_path / "raw").mkdir()
    for number in range(4):
        (tmp_path / "raw" / f"img{number}.fits").write_bytes(b"no frame")
    error, reason = REFUSED[labels]
    with pytest.raises(error, match=reason) as raised:
        plan_build(recipe_with(f"build.labels={labels}"), [tmp_path / "raw"], home=Home(tmp_path / "home"))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(("labels", "way_out"), [("dark_paste", "dithers or repeats"), ("given", "dithers or cr_split")])
def test_a_rehearsal_has_no_darks_and_no_masks_and_says_so(labels, way_out, recipe_with, tmp_path):
    recipe = recipe_with(f"build.labels={labels}", "build.dark_paste.darks=[darks]")
    with pytest.raises(UsageError, match=f"--rehearse: .*labels {labels} need: .*{way_out}") as raised:
        plan_build(recipe, rehearse=True, home=Home(tmp_path / "home"))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("labels", ["astrodrizzle", "dark_paste"])
def test_the_check_of_a_recipe_says_once_that_its_labels_cannot_be_made(labels, recipe_with):
    found = [one for one in doubts(recipe_with(f"build.labels={labels}")) if f"labels {labels}" in one]
    (only,) = (one for one in found if one.startswith("it cannot be built: "))
    assert found == [only] or (labels == "dark_paste" and "simulator makes no darks" in found[1])


def test_darks_that_are_too_few_or_no_darks_share_a_line(recipe_with, tmp_path):
    for number in range(5):
        write_frame(tmp_path / "darks" / f"d{number}.fits", 1, number)
        write_frame(tmp_path / "raw" / f"img{number}.fits", 1, number)
    recipe = recipe_with("build.labels=dark_paste", f"build.dark_paste.darks=[{tmp_path / 'darks'}]")
    with pytest.raises(DataError) as raised:
        plan_build(recipe, [tmp_path / "raw"], home=Home(tmp_path / "home"))
    first, *others = str(raised.value).split("\n")
    assert "0 dark exposures can be used (build.dark_paste.darks): expected 6 or more" in first
    assert len(others) == 1
    assert "d0.fits and 4 others: it has no IMAGETYP" in others[0]


def test_exposures_without_a_mask_among_others_share_a_line():
    one = [Rejected(what=f"a/img{n}.fits", reason=f"has no img{n}_mask.fits beside it") for n in range(5)]
    other = [Rejected(what="a/flat.fits", reason="is a flat")]
    assert leftout.lines([*one, *other]) == [
        "a/img0.fits and 4 others: has no img0_mask.fits beside it",
        "a/flat.fits: is a flat",
    ]
    assert len(leftout.lines(one[:3])) == 3
