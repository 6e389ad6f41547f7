"""Masked pixels of images in units of the noise start from an estimate."""

import numpy as np
import pytest
import torch

from deepcr_zoo.models import interpolation
from deepcr_zoo.models.baselines import biharmonic
from deepcr_zoo.models.interpolation import LAYERS, STEPS, interpolate
from deepcr_zoo.models.networkinput import NoiseScaling
from deepcr_zoo.training.objectives import interpolated

SKY, NOISE = np.float32(50), np.float32(4)
EVERYTHING = slice(None)


def scaling_for(image):
    return NoiseScaling(np.broadcast_to(SKY, image.shape), np.broadcast_to(NOISE, image.shape))


def z(values):
    return np.arcsinh((values - SKY) / NOISE)


def test_the_estimate_is_that_of_biharmonic_interpolation_in_the_networks_values():
    """Away from the frame's edges, where scikit-image takes other neighbours, and to the precision that few steps reach."""
    random = np.random.default_rng(1)
    image = np.float32(SKY) + NOISE * random.normal(size=(60, 60)).astype(np.float32)
    row, column = np.mgrid[:60, :60]
    image[0, 0] = 1e6
    image += (50_000 * np.exp(-((row - 30.3) ** 2 + (column - 29.6) ** 2) / 8)).astype(np.float32)
    mask = np.zeros(image.shape, bool)
    for line, where in ((10, 12), (29, 28), (30, 30), (45, 20)):
        mask[line : line + 2, where : where + 2] = True
    mask[20:23, 45:48] = True
    seen = interpolate(image, mask, scaling_for(image))
    np.testing.assert_array_equal(seen[~mask], z(image[~mask]))
    expected = biharmonic(z(image)[None], mask[None])[0]  # within the range of the known pixels
    np.testing.assert_allclose(seen[mask], expected[mask], atol=0.02)


def test_the_core_of_a_star_is_estimated_to_a_tenth_of_its_light():
    row, column = np.mgrid[:40, :40]
    image = (SKY + 50_000 * np.exp(-((row - 20.3) ** 2 + (column - 19.6) ** 2) / 4)).astype(np.float32)
    mask = np.zeros(image.shape, bool)
    mask[19:22, 19:21] = True
    scaling = scaling_for(image)
    seen = scaling.undo(interpolate(image, mask, scaling), EVERYTHING, EVERYTHING)
    np.testing.assert_allclose(seen[mask], image[mask], rtol=0.1)


def test_more_steps_reach_the_surface_of_least_curvature(monkeypatch):
    random = np.random.default_rng(4)
    image = random.uniform(0, 5000, (30, 30)).astype(np.float32)
    mask = random.random(image.shape) < 0.3
    mask[0, 4:9] = mask[12:18, 12:17] = True

    def bending(seen):
        wide = np.pad(seen.astype(float), 1, mode="edge")
        beside = wide[:-2, 1:-1] + wide[2:, 1:-1] + wide[1:-1, :-2] + wide[1:-1, 2:]
        return ((beside - 4 * seen) ** 2).sum()

    found = {}
    for steps in (0, STEPS, 1000):
        monkeypatch.setattr(interpolation, "STEPS", steps)
        found[steps] = bending(interpolate(image, mask, scaling_for(image)))
    assert found[1000] < found[STEPS] < found[0]
    assert found[STEPS] - found[1000] < 0.01 * (found[0] - found[1000])


def test_masked_pixels_are_not_looked_at():
    image = np.full((12, 12), 300, np.float32)
    mask = np.zeros(image.shape, bool)
    mask[3:9, 0:7] = True
    image[mask] = 60_000
    np.testing.assert_allclose(interpolate(image, mask, scaling_for(image)), z(np.float32(300)), rtol=1e-5)


def test_what_lies_deep_in_a_mask_gets_the_level_of_the_sky():
    image = np.full((140, 140), 300, np.float32)
    mask = np.zeros(image.shape, bool)
    mask[10:130, 10:130] = True
    seen = interpolate(image, mask, scaling_for(image))
    beyond = LAYERS + 2 * STEPS + 2
    deep = np.s_[10 + beyond : 130 - beyond, 10 + beyond : 130 - beyond]
    assert (seen[deep] == 0).all()
    assert seen[10, 10:130] == pytest.approx(z(np.float32(300)), rel=0.01)


def test_a_frame_that_is_masked_as_a_whole_gets_the_level_of_the_sky():
    image = np.full((8, 8), 300, np.float32)
    assert (interpolate(image, np.ones(image.shape, bool), scaling_for(image)) == 0).all()


@pytest.mark.parametrize("band", [1, 7, 40])
def test_bands_of_rows_give_what_the_whole_frame_gives(band, monkeypatch):
    random = np.random.default_rng(3)
    image = random.uniform(0, 5000, (90, 50)).astype(np.float32)
    mask = random.random(image.shape) < 0.6
    mask[20:70, 5:45] = True
    mask[:, 30:] = False  # known pixels on one side of all rows
    whole = interpolate(image, mask, scaling_for(image))
    monkeypatch.setattr(interpolation, "_BAND", band)
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
