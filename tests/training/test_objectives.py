import pytest
import torch
from torch import nn

from deepcr_zoo.errors import TrainingError
from deepcr_zoo.training.objectives import NATIVE, Examples, Feed, inpainting_examples, mask_examples, summed_loss
from deepcr_zoo.training.stamps import StampBatch
from tests.training.stamps import SIDE, feeds, new_training, recipe_of, sources, write_dataset


@pytest.fixture
def batch():
    random = torch.Generator().manual_seed(3)
    shape = (4, 16, 16)
    image = torch.rand(shape, generator=random) * 5000
    cosmic_rays, ignore = (torch.rand(shape, generator=random) < share for share in (0.1, 0.05))
    return StampBatch(torch.arange(4), image, cosmic_rays, ignore, torch.full((4,), 80.0))


@pytest.fixture
def added(batch):
    mask = torch.rand(batch.image.shape, generator=torch.Generator().manual_seed(4)) < 0.2
    assert (mask & batch.cosmic_rays & ~batch.ignore).any()
    assert (mask & ~batch.cosmic_rays & batch.ignore).any()
    return mask


def output_for(batch, size=3.0):
    output = torch.randn(len(batch.image), 1, *batch.image.shape[1:], generator=torch.Generator().manual_seed(5)) * size
    return output.requires_grad_()


def test_the_mask_loss_is_the_cross_entropy_of_the_pixels_that_are_not_ignored(batch):
    examples, output = mask_examples(batch, 100), output_for(batch)
    kept = ~batch.ignore
    expected = nn.BCELoss()(torch.sigmoid(output[:, 0][kept].double()), batch.cosmic_rays[kept].double())
    assert int(examples.counted.sum()) == int(kept.sum())
    assert (summed_loss("mask", output, examples) / kept.sum()).item() == pytest.approx(expected.item(), rel=1e-6)
    torch.testing.assert_close(examples.input, batch.image[:, None] / 100)


def test_the_mask_loss_is_finite_for_any_logit(batch):
    output = output_for(batch, 1e6)
    loss = summed_loss("mask", output, mask_examples(batch, 100))
    torch.autograd.backward(loss)
    assert torch.isfinite(loss)
    assert torch.isfinite(output.grad).all()


def test_inpainting_learns_the_squared_error_under_the_added_mask(batch, added):
    examples, output = inpainting_examples(batch, added, 100), output_for(batch)
    counted = added & ~batch.cosmic_rays & ~batch.ignore
    expected = ((output[:, 0] - batch.image / 100)[counted].double() ** 2).sum()
    assert torch.equal(examples.counted[:, 0], counted)
    assert summed_loss("inpaint", output, examples).item() == pytest.approx(expected.item(), rel=1e-6)


def test_own_cosmic_rays_are_hidden_from_inpainting_but_not_learnt(batch, added):
    examples = inpainting_examples(batch, added, 100)
    image, mask = examples.input.unbind(1)
    hidden = added | batch.cosmic_rays
    assert torch.equal(mask, hidden.float())
    assert not image[hidden].any()
    assert torch.equal(image[~hidden], batch.image[~hidden] / 100)
    assert not (examples.counted[:, 0] & batch.cosmic_rays).any()


def test_inpainting_does_not_see_the_values_that_it_shall_find(batch, added):
    other = batch.with_image(torch.where(added | batch.cosmic_rays, torch.tensor(1e9), batch.image))
    assert torch.equal(inpainting_examples(other, added, 100).input, inpainting_examples(batch, added, 100).input)


@pytest.mark.parametrize("task", ["mask", "inpaint"])
def test_pixels_that_do_not_count_have_no_gradient_however_bright_they_are(task, batch, added):
    huge = batch.with_image(torch.where(batch.ignore | batch.cosmic_rays, torch.tensor(3e30), batch.image))
    examples = mask_examples(huge, 100) if task == "mask" else inpainting_examples(huge, added, 100)
    output = output_for(batch)
    loss = summed_loss(task, output, examples)
    torch.autograd.backward(loss)
    assert torch.isfinite(loss)
    assert not output.grad[~examples.counted].any()
    assert output.grad[examples.counted].all()


def test_a_batch_of_which_nothing_counts_has_loss_zero_and_no_gradient(batch):
    output = output_for(batch)
    examples = mask_examples(batch, 100)
    loss = summed_loss("mask", output, Examples(examples.input, examples.target, torch.zeros_like(examples.counted)))
    torch.autograd.backward(loss)
    assert loss == 0
    assert not output.grad.any()


def test_the_loss_of_a_bfloat16_output_is_formed_in_float32(batch):
    output = output_for(batch).bfloat16()
    loss = summed_loss("mask", output, mask_examples(batch, 100))
    assert loss.dtype == torch.float32
    assert loss == summed_loss("mask", output.float(), mask_examples(batch, 100))


def test_native_examples_are_the_stamps_as_they_are(dataset):
    feed, _ = feeds(recipe_of("mask", "train.augmentation.flips=true"), dataset)
    numbers = torch.tensor([3, 0, 11])
    stamps, examples = feed.source.take(numbers), feed.examples(numbers, NATIVE)
    assert torch.equal(examples.input[:, 0], stamps.image / 100)
    assert torch.equal(examples.target[:, 0], stamps.cosmic_rays.float())
    assert torch.equal(examples.counted[:, 0], ~stamps.ignore)
    assert not torch.equal(feed.examples(numbers, 1).input, examples.input)


def test_inpainting_masks_of_validation_stay_those_of_training_change(dataset):
    feed, _ = feeds(recipe_of("inpaint"), dataset)
    numbers = torch.arange(5)
    one, again, first, second = (feed.examples(numbers, epoch).counted for epoch in (NATIVE, NATIVE, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, first)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("task", ["mask", "inpaint"])
def test_examples_fit_the_network(task, dataset):
    feed, _ = feeds(recipe_of(task), dataset)
    examples = feed.examples(torch.arange(3), 1)
    output = new_training(feed.recipe).network(examples.input)
    assert output.shape == examples.target.shape == examples.counted.shape == (3, 1, SIDE, SIDE)
    assert examples.input.dtype == examples.target.dtype == torch.float32


def test_a_single_stamp_cannot_be_inpainted_for_want_of_others(folder):
    train, validation = sources(write_dataset(folder, train=4, validation=1))
    Feed(recipe_of("mask"), validation)
    Feed(recipe_of("inpaint"), train)
    with pytest.raises(TrainingError, match=r"expected at least 2 stamps .*, got 1"):
        Feed(recipe_of("inpaint"), validation)
