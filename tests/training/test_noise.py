"""Training on stamps in units of the noise of their whole exposure."""

from functools import partial

import numpy as np
import pytest
import torch

from deepcr_zoo.errors import InvalidDocumentError, TrainingError
from deepcr_zoo.models.interpolation import interpolate
from deepcr_zoo.models.networkinput import estimated_channels, image_channel, scaling_of
from deepcr_zoo.models.skynoise import frame_noise
from deepcr_zoo.training.augmentation import augment
from deepcr_zoo.training.objectives import NATIVE, Feed
from deepcr_zoo.training.pipeline import train
from deepcr_zoo.training.stamps import MappedStamps, ResidentStamps, StampBatch, open_stamps
from deepcr_zoo.training.state import initial_state
from deepcr_zoo.zoo.recipe import AugmentationBlock
from tests.training.stamps import BY_NOISE, CPU, SIDE, recipe_of, write_dataset

EVERYTHING = slice(None)


@pytest.fixture(params=[ResidentStamps, MappedStamps])
def source(request, dataset):
    return request.param(list(dataset.exposures("train")), CPU, "noise")


def test_stamps_come_with_sky_and_noise_of_all_stamps_of_their_exposure(source, dataset):
    batch = source.take(torch.arange(len(source)))
    expected = []
    for group in dataset.exposures("train"):
        layers = group.stamps.read("image", "ignore")
        (found,) = frame_noise(layers["image"], layers["ignore"] == 0)
        assert found.sky == pytest.approx(group.exposure.sky_electron, abs=0.5)
        assert found.noise == pytest.approx(np.sqrt(group.exposure.sky_electron), rel=0.05)
        expected += [[found.sky, found.noise]] * len(group.indices)
    torch.testing.assert_close(batch.noise, torch.tensor(expected))
    places = torch.tensor([5, 0, 17])
    torch.testing.assert_close(source.take(places).noise, batch.noise[places])


def test_each_chip_of_an_exposure_has_its_own(tmp_path):
    def second_chip(exposure, tensors):
        half = len(tensors["image"]) // 2
        tensors["chip"][half:] = 2
        tensors["image"][half:] = tensors["image"][half:] * 3 + 40

    (first, *_) = write_dataset(tmp_path / "home", change=second_chip).exposures("train")
    found = {chip: noise[0] for chip, noise in zip(first.read("chip")["chip"].tolist(), first.noise(), strict=True)}
    assert found[2].noise == pytest.approx(3 * found[1].noise, rel=0.1)
    assert found[2].sky == pytest.approx(3 * found[1].sky + 40, abs=2)


def test_other_networks_measure_nothing(dataset):
    assert open_stamps(dataset, "train", CPU).take(torch.arange(2)).noise is None


@pytest.mark.parametrize("task", ["mask", "inpaint"])
def test_a_network_is_trained_on_what_it_sees_in_use(task, source, dataset):
    recipe, numbers = recipe_of(task, *BY_NOISE), torch.arange(12)
    examples = Feed(recipe, source).examples(numbers, NATIVE)
    card = type("Card", (), {"input": recipe.train.input})
    stamps = dataset.stamps("train")
    for number in numbers.tolist():
        image = stamps[number].image
        scaling = scaling_of(card, image, None, stamps.noise(number))
        channels = partial(image_channel, image, scaling)
        if task == "inpaint":
            hidden = examples.input[number, 1].numpy().astype(bool)
            channels = partial(estimated_channels, interpolate(image, hidden, scaling), hidden)
            whole = examples.input[number, 0] + examples.target[number, 0]
            np.testing.assert_allclose(scaling.undo(whole.numpy(), EVERYTHING, EVERYTHING), image, 1e-4)
        np.testing.assert_allclose(channels(EVERYTHING, EVERYTHING), examples.input[number].numpy(), atol=1e-5)


@pytest.mark.parametrize("shot_noise", [False, True])
def test_sky_that_augmentation_adds_or_takes_moves_the_level_and_adds_its_noise(shot_noise):
    sky, noise = 100.0, 12.0
    random = torch.Generator().manual_seed(1)
    image = sky + noise * torch.randn((40, 64, 64), generator=random)
    empty = torch.zeros(image.shape, dtype=torch.bool)
    known = torch.tensor([[sky, noise]]).expand(40, 2)
    batch = StampBatch(torch.arange(40), image, empty, empty, torch.full((40,), sky), known)
    changed = augment(batch, 1, 1, AugmentationBlock(sky=[-0.9, 3.0], shot_noise=shot_noise, flips=True))
    for one, (level, sigma) in zip(changed.image.numpy(), changed.noise.tolist(), strict=True):
        (found,) = frame_noise(one)
        assert found.sky == pytest.approx(level, abs=1.5)
        assert found.noise == pytest.approx(sigma, rel=0.1)
    assert np.ptp(changed.noise[:, 0].numpy()) > 200
    assert (np.ptp(changed.noise[:, 1].numpy()) > 3) == shot_noise


@pytest.mark.parametrize("task", ["mask", "inpaint"])
def test_a_run_has_a_card_and_a_network_for_any_unit(task, tmp_path):
    recipe = recipe_of(task, *BY_NOISE, "train.schedule.max_epochs=2", "benchmark.inpainting_stamps=5")
    dataset = write_dataset(tmp_path / "home", test=6, recipe=recipe)
    run = train(recipe, dataset=dataset, runs=tmp_path / "runs", prove=False)
    found = run.card().input
    assert (found.unit, found.scale, found.normalisation, found.pixel_unit) == ("any", 1, "noise", None)
    assert run.card().training.sky_range is None
    model = run.model("cpu", "torch")
    stamp, noise = dataset.stamps("test")[0], [dataset.stamps("test").noise(0)]
    if task == "mask":
        np.testing.assert_allclose(model.logits(stamp.image * 2 + 500), model.logits(stamp.image), atol=1e-2)
        assert model.logits(stamp.image, noise=noise).shape == (SIDE, SIDE)
    else:
        assert np.isfinite(model.fill(stamp.image, stamp.cosmic_rays, noise=noise)).all()
        assert ", of asinh((pixel - sky) / noise)" in run.card().training.method


def test_the_first_epochs_see_values_of_order_one(source):
    examples = Feed(recipe_of("mask", *BY_NOISE), source).examples(torch.arange(24), 1)
    assert examples.input.median().abs() < 0.2
    assert 0.5 < examples.input.std() < 3
    assert examples.input.max() < 12


def test_a_recipe_says_noise_alone_in_either_spelling(tmp_path):
    for name in ("normalisation", "normalization"):
        found = recipe_of("mask", "train.input.unit=any", "train.input.scale=1", f"train.input.{name}=noise").train.input
        assert (found.normalisation, found.unit, found.scale) == ("noise", "any", 1)
    assert "normalisation" not in recipe_of("mask").train.input.model_dump()  # keys of existing runs stay as they are
    with pytest.raises(InvalidDocumentError, match=r"train\.input: .*unit any and scale 1, or neither, with normalisation"):
        recipe_of("mask", "train.input.normalisation=noise")


def test_training_does_not_start_from_a_network_for_another_input():
    start = "train.init_from=ACS-WFC-F606W-2-4@1.0"
    recipe = recipe_of("mask", *BY_NOISE, start, "train.architecture.hidden=4")
    with pytest.raises(TrainingError, match=r"has input\.unit electron: expected any"):
        initial_state(recipe, CPU)


def test_errors_of_the_noise_have_their_size_and_leave_the_pixels():
    image = torch.zeros(4000, 4, 4)
    empty = torch.zeros(image.shape, dtype=torch.bool)
    known = torch.tensor([[100.0, 12.0]]).expand(4000, 2)
    batch = StampBatch(torch.arange(4000), image, empty, empty, torch.full((4000,), 100.0), known)
    changed = augment(batch, 1, 1, AugmentationBlock(sky=None, noise_error=0.1))
    assert torch.equal(changed.image, image)
    assert changed.noise[:, 0].std() == pytest.approx(1.2, rel=0.05)
    assert torch.log(changed.noise[:, 1] / 12).std() == pytest.approx(0.1, rel=0.05)
    assert torch.equal(augment(batch, 1, 1, AugmentationBlock(sky=None)).noise, known)
