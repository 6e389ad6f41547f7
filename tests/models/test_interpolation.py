"""Masked pixels of images in units of the noise start from an estimate."""

import numpy as np
import pytest
import torch

from deepcr_zoo.models import networkinput
from deepcr_zoo.models.networkinput import LAYERS, NoiseScaling, interpolate
from deepcr_zoo.training.objectives import interpolated

SKY, NOISE = np.float32(50), np.float32(4)
EVERYTHING = slice(None)


def scaling_for(image):
    return NoiseScaling(np.broadcast_to(SKY, image.shape), np.broadcast_to(NOISE, image.shape))


def z(values):
    return np.arcsinh((values - SKY) / NOISE)


def test_a_masked_pixel_starts_from_the_mean_of_its_neighbours_as_the_network_sees_them():
    image = np.random.default_rng(1).uniform(0, 5000, (5, 6)).astype(np.float32)
    mask = np.zeros(image.shape, bool)
    mask[2, 3] = True
    around = np.delete(image[1:4, 2:5].flatten(), 4)
    seen = interpolate(image, mask, scaling_for(image))
    assert seen[2, 3] == pytest.approx(z(around).mean(), rel=1e-5)
    np.testing.assert_array_equal(seen[~mask], z(image[~mask]))


def test_masked_pixels_are_not_looked_at():
    image = np.full((12, 12), 300, np.float32)
    mask = np.zeros(image.shape, bool)
    mask[3:9, 0:7] = True
    image[mask] = 60_000
    np.testing.assert_allclose(interpolate(image, mask, scaling_for(image)), z(np.float32(300)), rtol=1e-5)


def test_what_lies_deep_in_a_mask_gets_the_level_of_the_sky():
    image = np.full((60, 60), 300, np.float32)
    mask = np.zeros(image.shape, bool)
    mask[10:50, 10:50] = True
    seen = interpolate(image, mask, scaling_for(image))
    deep = np.s_[10 + LAYERS : 50 - LAYERS, 10 + LAYERS : 50 - LAYERS]
    assert (seen[deep] == 0).all()
    seen[deep] = z(np.float32(300))
    np.testing.assert_allclose(seen, z(np.float32(300)), rtol=1e-5)


def test_a_frame_that_is_masked_as_a_whole_gets_the_level_of_the_sky():
    image = np.full((8, 8), 300, np.float32)
    assert (interpolate(image, np.ones(image.shape, bool), scaling_for(image)) == 0).all()


@pytest.mark.parametrize("band", [1, 7, 40])
def test_bands_of_rows_give_what_the_whole_frame_gives(band, monkeypatch):
    random = np.random.default_rng(3)
    image = random.uniform(0, 5000, (90, 50)).astype(np.float32)
    mask = random.random(image.shape) < 0.6
    mask[20:70, 5:45] = True
    whole = interpolate(image, mask, scaling_for(image))
    monkeypatch.setattr(networkinput, "_BAND", band)
    np.testing.assert_array_equal(interpolate(image, mask, scaling_for(image)), whole)


@pytest.mark.parametrize("share", [0.02, 0.5, 0.98])
def test_training_starts_from_the_same_estimate(share):
    random = np.random.default_rng(2)
    images = random.uniform(0, 5000, (3, 64, 64)).astype(np.float32)
    masks = random.random(images.shape) < share
    seen = np.stack([scaling_for(one).apply(one, EVERYTHING, EVERYTHING) for one in images])
    trained = interpolated(torch.from_numpy(seen), torch.from_numpy(masks)).numpy()
    for image, mask, expected in zip(images, masks, trained, strict=True):
        np.testing.assert_allclose(interpolate(image, mask, scaling_for(image)), expected, atol=1e-5)
