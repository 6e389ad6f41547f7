"""Previews have a sensible size, whatever the shape and the number of the chips."""

import io

import numpy as np
import pytest
from matplotlib.image import imread
from scipy import ndimage

from deepcr_zoo.exposures.pictures import DPI, MOST_INCHES, Panels, draw


def panels(shape, chips=1, cleaned=True):
    for number in range(chips):
        image = np.random.default_rng(number).normal(100, 10, shape).astype(np.float32)
        mask = np.zeros(shape, bool)
        mask[shape[0] // 2, shape[1] // 2] = True
        yield Panels(f"SCI {number + 1}", image, mask, image if cleaned else None)


def drawn(shape, chips=1, cleaned=True):
    """Height, width and grey levels of a preview."""
    return imread(io.BytesIO(draw(list(panels(shape, chips, cleaned)), "x.fits: network", "made")))[..., 0]


@pytest.mark.parametrize(
    ("shape", "chips"),
    [((4200, 483), 1), ((483, 4200), 1), ((1, 10_000), 1), ((10_000, 1), 1), ((500, 250), 4)],
)
def test_no_side_is_long_and_none_is_thin(shape, chips):
    height, width = drawn(shape, chips).shape
    assert min(height, width) > 600
    assert max(height, width) <= MOST_INCHES * DPI
    assert max(height, width) < 2.6 * min(height, width)


@pytest.mark.slow
@pytest.mark.parametrize(("shape", "chips"), [((60, 120), 16), ((30, 15), 62), ((16, 16), 1500)])
def test_many_chips_stay_within_bounds(shape, chips):
    assert max(drawn(shape, chips).shape) <= MOST_INCHES * DPI


@pytest.mark.parametrize(("shape", "chips", "size"), [((64, 96), 1, (1274, 650)), ((128, 256), 2, (975, 1300))])
def test_usual_chips_stand_in_columns_as_ever(shape, chips, size):
    assert drawn(shape, chips).shape == size


@pytest.mark.parametrize("shape", [(4200, 483), (483, 4200), (2048, 4096)])
def test_a_reduced_mask_keeps_every_track(shape):
    grey = drawn(shape, cleaned=False)
    # the mask is the second panel: side by side with the image if the chip is tall, else below it
    half = grey[:, grey.shape[1] // 2 :] if shape[0] > shape[1] else grey[grey.shape[0] // 2 :]
    black, _ = ndimage.label(half < 0.01)
    panel = ndimage.binary_fill_holes(black == np.argmax(np.bincount(black[black > 0])))
    assert (half[panel] > 0.99).any()


def test_a_pixel_that_is_not_finite_hides_none_of_its_neighbours():
    (one,) = panels((2000, 2000))
    one.image[::2, ::2] = np.nan
    grey = imread(io.BytesIO(draw([one], "x.fits", "made")))[..., 0]
    top = grey[80 : grey.shape[0] // 3 - 20]
    assert (top[:, 200:450] < 1).mean() > 0.95
