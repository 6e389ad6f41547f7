import numpy as np
import pytest

from deepcr_zoo.errors import ImageWarning, InvalidImageError
from deepcr_zoo.models.baselines import biharmonic, medmask
from tests.scenes import star_field


def test_medmask_equals_the_median_of_the_unmasked_pixels_in_5x5():
    image, mask = star_field((60, 50), seed=1)
    filled = medmask(image, mask)
    np.testing.assert_array_equal(filled[~mask], image[~mask])
    for row, column in zip(*np.nonzero(mask), strict=True):
        near = slice(max(0, row - 2), row + 3), slice(max(0, column - 2), column + 3)
        assert filled[row, column] == pytest.approx(np.median(image[near][~mask[near]]), rel=1e-6)


def test_medmask_keeps_true_zeros():
    image = np.zeros((5, 5))
    image[0, 0] = 100.0
    mask = np.zeros((5, 5), bool)
    mask[2, 2] = True
    # upstream drops zeros and would give 100
    assert medmask(image, mask)[2, 2] == 0


def test_a_pixel_without_an_unmasked_neighbour_takes_the_median_of_the_image():
    image = np.full((20, 20), 3.0)
    mask = np.zeros((20, 20), bool)
    mask[5:15, 5:15] = True
    image[mask] = 1000
    np.testing.assert_array_equal(medmask(image, mask), np.full((20, 20), 3.0))


@pytest.mark.parametrize("method", [medmask, biharmonic])
def test_a_stack_is_filled_image_by_image_and_nan_stays_outside_the_mask(method):
    image, mask = star_field((40, 40), seed=2)
    images, masks = np.stack([image, image + 100]), np.stack([mask, ~np.eye(40, dtype=bool) & mask])
    images[0, 0, 0] = np.nan
    masks[:, 0, 0] = False
    filled = method(images, masks)
    assert filled.shape == images.shape
    assert filled.dtype == np.float32
    assert np.isnan(filled).sum() == 1
    np.testing.assert_array_equal(filled[1], method(images[1], masks[1]))


@pytest.mark.parametrize("method", [medmask, biharmonic])
def test_an_image_that_is_masked_everywhere_is_left_with_a_warning(method):
    with pytest.warns(ImageWarning, match="no good pixel outside the mask"):
        np.testing.assert_array_equal(method(np.ones((4, 4)), np.ones((4, 4))), np.ones((4, 4)))


def test_biharmonic_fills_no_region_that_takes_memory_without_bound():
    image, mask = np.ones((600, 600), np.float32), np.zeros((600, 600), bool)
    mask[:450, :450] = True
    with pytest.raises(InvalidImageError, match=r"202,500 touching pixels .* choose medmask or a network"):
        biharmonic(image, mask)


def test_biharmonic_is_that_of_scikit_image():
    from skimage.restoration import inpaint_biharmonic

    image, mask = star_field((40, 40), seed=3)
    filled = biharmonic(image, mask)
    np.testing.assert_array_equal(filled[~mask], image[~mask])
    expected = inpaint_biharmonic(np.where(mask, 0, image), mask, split_into_regions=True)
    np.testing.assert_allclose(filled[mask], expected[mask], rtol=1e-5)


def test_a_mask_of_another_shape_is_refused():
    with pytest.raises(InvalidImageError, match="the shape of the image"):
        medmask(np.zeros((4, 4)), np.zeros((4, 5)))
