"""Clean pixels of star cores weigh more in the loss, where a recipe says so."""

import numpy as np
import pytest
import torch

import deepcr_zoo
from deepcr_zoo.bench.measures.stars import star_cores
from deepcr_zoo.bench.measures.tally import NO_GROUP
from deepcr_zoo.training.objectives import Feed, summed_loss
from deepcr_zoo.training.stamps import open_stamps
from tests.training.stamps import CPU, SIDE, recipe_of, write_dataset

WEIGHT = "train.star_weight=10"


def with_a_star(exposure, tensors):
    """Put a sharp star into each stamp, where cosmic rays of some stamps are."""
    rows, columns = np.mgrid[:SIDE, :SIDE] - np.array([13, 18])[:, None, None]
    tensors["image"] += (3000 * np.exp(-(rows**2 + columns**2) / 2)).astype(np.float32)


def test_the_clean_pixels_of_star_cores_weigh_more_and_cosmic_rays_and_all_others_do_not(tmp_path):
    dataset = write_dataset(tmp_path, change=with_a_star)
    source, numbers = open_stamps(dataset, "train", CPU), torch.arange(20)
    plain = Feed(recipe_of("mask", "train.augmentation.sky=null"), source).examples(numbers, 1)
    heavy = Feed(recipe_of("mask", "train.augmentation.sky=null", WEIGHT), source).examples(numbers, 1)
    image = plain.input[:, 0].numpy() * recipe_of("mask").train.input.scale
    cosmic_rays, ignore = plain.target[:, 0].numpy() == 1, ~plain.counted[:, 0].numpy()
    core = star_cores(image, cosmic_rays, ignore) != NO_GROUP
    assert 9 <= core.sum() < 0.05 * core.size
    assert plain.weight is None
    np.testing.assert_array_equal(heavy.weight[:, 0].numpy(), np.where(core & ~cosmic_rays, 10, 1))
    output = torch.randn(plain.target.shape, generator=torch.Generator().manual_seed(1))
    light, whole = (summed_loss("mask", output, examples).item() for examples in (plain, heavy))
    at_cores = torch.nn.functional.softplus(output[:, 0].double())[torch.from_numpy(core)].sum().item()
    assert whole == pytest.approx(light + 9 * at_cores, rel=1e-5)


def test_an_inpainting_network_learns_more_from_the_star_cores_that_it_repaints(tmp_path):
    dataset = write_dataset(tmp_path, recipe=recipe_of("inpaint"), change=with_a_star)
    source, numbers = open_stamps(dataset, "train", CPU), torch.arange(20)
    many = ("train.augmentation.sky=null", "train.augmentation.inpainting_masks=[20,20]")
    plain = Feed(recipe_of("inpaint", *many), source).examples(numbers, 1)
    heavy = Feed(recipe_of("inpaint", *many, WEIGHT), source).examples(numbers, 1)
    core = heavy.weight[:, 0] == 10
    assert (core & plain.counted[:, 0]).any()
    output = plain.target + 1
    light, whole = (summed_loss("inpaint", output, examples).item() for examples in (plain, heavy))
    assert whole == pytest.approx(light + 9 * (core & plain.counted[:, 0]).sum().item(), rel=1e-5)


@pytest.mark.parametrize("task", ["mask", "inpaint"])
def test_a_model_that_was_trained_so_says_it_on_its_card(task, tmp_path):
    recipe = recipe_of(task, WEIGHT, "train.schedule.max_epochs=1")
    dataset = write_dataset(tmp_path / "home", recipe=recipe_of(task))
    run = deepcr_zoo.train(recipe, dataset=dataset, runs=tmp_path / "runs", prove=False, device="cpu")
    assert "; clean pixels of star cores weigh 10 times as much" in run.card().training.method
