"""Masks that cosmic rays do not make get a sentence, and masks of cosmic rays get none."""

import numpy as np
import pytest
from astropy.io import fits
from scipy import ndimage

from deepcr_zoo import clean_file
from deepcr_zoo.exposures.suspicions import find_structures, too_few
from tests.fitsfiles import ACS, science, write
from tests.registries import SMALL
from tests.scenes import star_field

SHAPE = (384, 384)


def tracks(number, seed=1, shape=SHAPE, longest=60):
    """Straight tracks in all directions, most of them short."""
    rng, mask = np.random.default_rng(seed), np.zeros(shape, dtype=bool)
    for _ in range(number):
        steps = np.arange(min(longest, 2 + rng.exponential(5)))
        angle = rng.uniform(0, np.pi)
        rows = (rng.uniform(0, shape[0]) + steps * np.sin(angle)).astype(int)
        columns = (rng.uniform(0, shape[1]) + steps * np.cos(angle)).astype(int)
        inside = (rows < shape[0]) & (columns < shape[1]) & (columns >= 0)
        mask[rows[inside], columns[inside]] = True
    return mask


def sky(seed=1, shape=SHAPE):
    return np.random.default_rng(seed).normal(40, 8, shape)


def sentences(mask, image=None):
    image = sky(shape=mask.shape) if image is None else image
    return list(find_structures(mask, np.where(mask, image + 500, image)))


@pytest.mark.parametrize("number", [0, 3, 100, 600, 1800])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_cosmic_rays_get_no_sentence(number, seed):
    assert sentences(tracks(number, seed)) == []


def test_a_few_columns_or_rows_that_hold_much_of_the_mask_are_named():
    mask = tracks(100)
    mask[:, [30, 31, 200]] = True
    (found,) = sentences(mask)
    assert "of the masked pixels lie in 3 of 384 columns" in found
    assert "the first is number 31" in found
    (found,) = sentences(mask.T)
    assert "of the masked pixels lie in 3 of 384 rows" in found


def test_one_bad_column_among_many_cosmic_rays_is_no_reason():
    mask = tracks(1500)
    mask[:, 30] = True
    assert sentences(mask) == []


def test_a_long_track_of_a_muon_is_no_trail_and_no_bad_column():
    mask = tracks(20)
    mask[60:280, 100:102] = True
    mask[np.arange(40, 300), np.arange(40, 300)] = True
    assert sentences(mask) == []


@pytest.mark.parametrize("angle", [0.1, 0.8, 2.0])
def test_a_straight_trail_across_the_frame_has_a_sentence_of_its_own(angle):
    mask = tracks(300)
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    away = (columns - 192) * np.sin(angle) - (rows - 192) * np.cos(angle)
    broken = np.random.default_rng(1).random(SHAPE) < 0.85
    (found,) = sentences(mask | ((np.abs(away) < 2) & broken))
    assert "trail of a satellite" in found


def test_trailed_stars_share_direction_and_length():
    mask, rng = tracks(20), np.random.default_rng(3)
    for _ in range(30):
        row, column = rng.integers(10, 360), rng.integers(10, 340)
        steps = np.arange(rng.integers(12, 18))
        mask[(row + 0.5 * steps).astype(int), column + steps] = True
    (found,) = sentences(mask)
    assert "share direction" in found
    assert "trailed stars" in found


def test_parts_of_a_faint_spectrum_in_few_columns_are_noticed_and_one_long_track_is_not():
    mask = np.zeros(SHAPE, bool)
    for first in range(20, 120, 14):
        mask[first : first + 8, 130:133] = True
    (found,) = sentences(mask, sky())
    assert "3 of" in found
    assert "the first is number 131" in found
    track = np.zeros(SHAPE, bool)
    track[20:76, 130:133] = True
    assert sentences(track, sky()) == []


def test_light_of_a_spectrum_under_the_mask_is_noticed():
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    away = rows - 100 - 0.3 * columns  # a tilted one: pieces of a level one lie in few rows
    trace = 2000 * np.exp(-0.5 * (away / 4) ** 2)
    mask, rng = tracks(50), np.random.default_rng(4)
    assert sentences(mask, sky() + trace) == []
    pieces = ndimage.binary_dilation(rng.random(SHAPE) < 0.02, np.ones((3, 3))) & (np.abs(away) < 6)
    (found,) = sentences(mask | pieces, sky() + trace)
    assert "of the light of extended sources" in found


def test_far_too_few_cosmic_rays_for_the_exposure_time_are_noticed():
    assert too_few(700, 18.9, 60.0, True) is None
    assert "20 cosmic rays were found, and 794 or more" in too_few(20, 18.9, 60.0, True)
    assert too_few(20, 18.9, 60.0, False) is None  # on the ground 19 are expected
    assert "0 cosmic rays were found" in too_few(0, 18.9, 1200.0, False)
    assert too_few(0, 18.9, 0.5, True) is None  # a short exposure proves nothing


def test_cleaning_a_file_says_so_in_result_and_history(tmp_path):
    image = star_field((64, 96), seed=1)[0]
    path = write(tmp_path / "x_flc.fits", science(image), **{**ACS, "EXPTIME": 20_000.0})
    done = clean_file(path, model=SMALL, inpaint="none")
    (caution,) = [one for one in done.cautions if "cosmic rays were found" in one]
    assert caution.startswith("SCI,1: ")
    history = " ".join(str(line) for line in fits.getheader(done.outputs[0])["HISTORY"])
    assert "cosmic rays were found" in history


def test_a_named_network_out_of_its_sky_range_leaves_a_caution_and_auto_takes_another(tmp_path):
    path = write(tmp_path / "x_flc.fits", science(star_field((64, 96), seed=1)[0] - 50), **ACS)
    named = clean_file(path, model=SMALL, inpaint="ACS-WFC-F606W-2-32", output_dir=tmp_path / "named")
    assert any("ACS-WFC-F606W-2-32@1.0 does well at sky levels of" in one for one in named.cautions)
    auto = clean_file(path, model=SMALL, output_dir=tmp_path / "auto")
    assert auto.inpaint == "inpaint/CCD-ANY-3-16@1.0"
    assert not any("does well at" in one for one in auto.cautions)
    assert "next choice for HST ACS/WFC" in auto.reasons[1]
