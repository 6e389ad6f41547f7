"""Clean pixels of sources weigh more in the loss, where a recipe says so."""

import dataclasses

import numpy as np
import pytest
import torch

import deepcr_zoo
from deepcr_zoo.training.objectives import Feed, sources, summed_loss
from deepcr_zoo.training.stamps import StampBatch, open_stamps
from tests.training.stamps import CPU, SIDE, recipe_of, write_dataset

WEIGHT = "train.source_weight=10"


def with_a_star(exposure, tensors):
    """Put a sharp star into each stamp, where cosmic rays of some stamps are."""
    rows, columns = np.mgrid[:SIDE, :SIDE] - np.array([13, 18])[:, None, None]
    tensors["image"] += (3000 * np.exp(-(rows**2 + columns**2) / 2)).astype(np.float32)


def found(image, cosmic_rays=None, ignore=None):
    """Return the sources of one image on a sky of 100 with a noise of 10."""
    sky = np.random.default_rng(1).normal(100, 10, image.shape)
    none = torch.zeros((1, *image.shape), dtype=torch.bool)
    layers = [none if one is None else torch.from_numpy(one)[None] for one in (cosmic_rays, ignore)]
    batch = StampBatch(
        torch.tensor([0]), torch.from_numpy((sky + image).astype(np.float32))[None], *layers, sky=torch.tensor([100.0])
    )
    return sources(batch)[0].numpy()


def test_stars_and_trails_are_sources_and_hot_pixels_columns_and_spectra_are_not():
    image = np.zeros((64, 64))
    rows, columns = np.mgrid[:64, :64]
    star, trail = np.hypot(rows - 20, columns - 20) < 2, (abs(rows - 45) < 2) & (abs(columns - 32) < 12)
    image[star | trail] = 500
    image[10, 50] = image[40:, 3] = 5000
    image[56:60] += 500
    np.testing.assert_array_equal(found(image), star | trail)


def test_cosmic_rays_and_ignored_pixels_are_no_sources():
    image = np.zeros((64, 64))
    image[20:30, 20:30] = 500
    struck, ignored = np.zeros((2, 64, 64), dtype=bool)
    struck[20:30, 20:24], ignored[20:30, 26:30] = True, True
    np.testing.assert_array_equal(np.nonzero(found(image, struck, ignored).any(axis=0))[0], [24, 25])


@pytest.mark.parametrize("task", ["mask", "inpaint"])
def test_the_clean_pixels_of_sources_weigh_more_and_all_others_do_not(task, tmp_path):
    dataset = write_dataset(tmp_path, recipe=recipe_of(task), change=with_a_star)
    source, numbers = open_stamps(dataset, "train", CPU), torch.arange(20)
    many = ("train.augmentation.sky=null", "train.augmentation.inpainting_masks=[20,20]")
    plain = Feed(recipe_of(task, *many), source).examples(numbers, 1)
    heavy = Feed(recipe_of(task, *many, WEIGHT), source).examples(numbers, 1)
    at_source = sources(source.take(numbers))[:, None]
    assert plain.weight is None
    assert (at_source & plain.counted).sum() > 9
    np.testing.assert_array_equal(heavy.weight, torch.where(at_source, 10, 1))
    output = plain.target + torch.randn(plain.target.shape, generator=torch.Generator().manual_seed(1))
    light, whole = (summed_loss(task, output, examples) for examples in (plain, heavy))
    there = summed_loss(task, output, dataclasses.replace(plain, counted=plain.counted & at_source))
    assert whole.item() == pytest.approx((light + 9 * there).item(), rel=1e-5)


@pytest.mark.parametrize("task", ["mask", "inpaint"])
def test_a_model_that_was_trained_so_says_it_on_its_card(task, tmp_path):
    recipe = recipe_of(task, WEIGHT, "train.schedule.max_epochs=1")
    dataset = write_dataset(tmp_path / "home", recipe=recipe_of(task))
    run = deepcr_zoo.train(recipe, dataset=dataset, runs=tmp_path / "runs", prove=False, device="cpu")
    assert "; clean pixels of sources weigh 10 times as much" in run.card().training.method
