import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from deepcr_zoo.errors import TrainingError
from deepcr_zoo.models.isolation import isolated_training
from deepcr_zoo.training import loop
from deepcr_zoo.training.distributed import Ranks
from deepcr_zoo.training.frozenbatchnorm import FrozenNorm
from deepcr_zoo.training.loop import LossIsNotFiniteError, batches, fit, validation_loss
from deepcr_zoo.training.objectives import NATIVE, summed_loss
from deepcr_zoo.training.stamps import MappedStamps, ResidentStamps
from tests.training.stamps import (
    CPU,
    assert_same_weights,
    feeds,
    gone_on,
    is_statistic,
    new_training,
    recipe_of,
    weights,
    write_dataset,
)

both_tasks = pytest.mark.parametrize("task", ["mask", "inpaint"])
both_sources = pytest.mark.parametrize("kind", [ResidentStamps, MappedStamps])


def after(steps):
    """Asks to stop after so many steps."""
    asked = iter(range(1, 10_000))
    return lambda: next(asked) >= steps


def records(training):
    """All that an epoch was, without how long it took."""
    return [record.model_dump(exclude={"seconds", "stamps_per_second"}) for record in training.progress.history]


def assert_same_state(one, other):
    assert_same_weights(weights(one.network), weights(other.network))
    assert_same_weights(one.best, other.best)
    assert records(one) == records(other)
    states = [training.optimiser.state_dict()["state"] for training in (one, other)]
    assert states[0].keys() == states[1].keys()
    for number, state in states[0].items():
        assert_same_weights(state, states[1][number])


@both_tasks
def test_a_network_learns(task, dataset):
    # a few dozen batches are too few for the paper's momentum
    schedule = ("max_epochs=16", "freeze_after_epochs=10", "learning_rate=0.02", "batchnorm_momentum=0.1", "batch_size=4")
    recipe = recipe_of(task, "train.architecture.hidden=4", *(f"train.schedule.{one}" for one in schedule))
    training = new_training(recipe)
    train, validation = feeds(recipe, dataset)
    assert fit(training, train, validation)
    examples = validation.examples(torch.arange(len(validation)), NATIVE)
    target = examples.target[examples.counted]
    share = target.mean()
    # the least that a constant can reach
    blind = -(share * share.log() + (1 - share) * (1 - share).log()) if task == "mask" else target.var()
    history = training.progress.history
    assert training.progress.best_loss < 0.7 * blind
    assert history[-1].train_loss < 0.7 * history[0].train_loss


def test_running_statistics_change_in_the_first_phase_alone_and_weights_in_both(dataset):
    training = new_training(recipe_of("mask"))
    train, validation = feeds(training.recipe, dataset)
    kept = [weights(training.network)]
    assert fit(training, train, validation, save=lambda training: kept.append(weights(training.network)))
    assert [record.frozen for record in training.progress.history] == [False, False, True, True]
    for epoch, (before, now) in enumerate(pairwise(kept)):
        for name, tensor in now.items():
            assert torch.equal(before[name], tensor) == (is_statistic(name) and epoch >= 2), (epoch, name)


def test_running_statistics_are_those_of_the_batches_with_the_momentum_of_the_recipe(dataset):
    recipe = recipe_of("mask", "train.schedule.batchnorm_momentum=0.03")
    training, reference = new_training(recipe), new_training(recipe).network
    train, validation = feeds(recipe, dataset)
    with torch.no_grad():
        seen = reference.encoder[0].conv1(train.examples(batches(training, 24)[0], 1).input)
    fit(training, train, validation, should_stop=after(1))
    norm = training.network.encoder[0].norm1
    torch.testing.assert_close(norm.running_mean, 0.03 * seen.mean(dim=(0, 2, 3)))
    torch.testing.assert_close(norm.running_var, 0.03 * seen.var(dim=(0, 2, 3)) + 0.97)


def test_a_step_is_one_of_adam_on_the_mean_loss_of_the_pixels_that_count(dataset):
    training, other = (new_training(recipe_of("mask"), frozen=True) for _ in range(2))
    train, validation = feeds(training.recipe, dataset)
    examples = train.examples(batches(training, 24)[0], 1)
    output = FrozenNorm(other.network, other.architecture, "mask")(examples.input)
    loss = nn.BCEWithLogitsLoss()(output[examples.counted], examples.target[examples.counted])
    torch.autograd.backward(loss)
    steps = []
    assert not fit(training, train, validation, should_stop=after(1), on_step=steps.append)
    assert steps[0].loss == pytest.approx(loss.item(), rel=1e-5)
    # a first step of Adam is as long for any gradient: compare what it keeps of the gradient
    for parameter, same in zip(training.network.parameters(), other.network.parameters(), strict=True):
        torch.testing.assert_close(training.optimiser.state[parameter]["exp_avg"], 0.1 * same.grad, rtol=1e-3, atol=1e-7)
        assert (parameter - same).abs().max().item() == pytest.approx(0.005, rel=1e-2)


def test_batches_of_an_epoch_are_full_and_take_each_stamp_at_most_once():
    training = new_training(recipe_of("mask"))
    planned = batches(training, 29)
    assert [len(batch) for batch in planned] == [8, 8, 8]
    assert len(set(torch.cat(planned).tolist())) == 24
    training.progress.epoch = 1
    assert not torch.equal(torch.cat(batches(training, 29)), torch.cat(planned))
    assert [len(batch) for batch in batches(training, 5)] == [5]


def test_each_step_is_reported(dataset):
    training, steps, saved = new_training(recipe_of("mask")), [], []
    train, validation = feeds(training.recipe, dataset)
    assert fit(training, train, validation, on_step=steps.append, save=lambda one: saved.append(one.progress.epoch))
    assert [(step.epoch, step.step, step.steps) for step in steps] == [(e, s, 3) for e in (1, 2, 3, 4) for s in (1, 2, 3)]
    assert [step.loss for step in steps[2::3]] == [record.train_loss for record in training.progress.history]
    assert saved == [1, 2, 3, 4]


@both_tasks
def test_the_validation_loss_is_the_mean_over_all_pixels_that_count_and_changes_nothing(task, dataset):
    training = new_training(recipe_of(task))
    _, validation = feeds(training.recipe, dataset)
    before = weights(training.network.train())
    found = validation_loss(training, validation)
    assert_same_weights(weights(training.network), before)
    examples = validation.examples(torch.arange(9), NATIVE)
    with torch.no_grad():
        expected = summed_loss(task, training.network.eval()(examples.input), examples) / examples.counted.sum()
    assert found == pytest.approx(expected.item(), rel=1e-5)


@both_tasks
@both_sources
def test_training_that_is_stopped_again_and_again_ends_with_the_same_weights(task, kind, dataset):
    recipe = recipe_of(task, "train.augmentation.flips=true", "train.augmentation.shot_noise=true")
    train, validation = feeds(recipe, dataset, kind)
    whole, training, stopped_at = new_training(recipe), new_training(recipe), []
    assert fit(whole, train, validation)
    while not fit(training, train, validation, should_stop=after(2)):
        stopped_at.append((training.progress.epoch, training.progress.step))
        training = gone_on(training)
    assert stopped_at == [(0, 2), (1, 1), (2, 0), (2, 2), (3, 1), (4, 0)]
    assert_same_state(training, whole)


def test_training_that_is_stopped_saves_first(dataset):
    training, saved = new_training(recipe_of("mask")), []
    train, validation = feeds(training.recipe, dataset)
    stops, save = after(5), lambda one: saved.append((one.progress.epoch, one.progress.step))
    assert not fit(training, train, validation, save=save, should_stop=stops)
    assert saved == [(1, 0), (1, 2)]


def test_what_is_finished_is_not_trained_again(dataset):
    training = new_training(recipe_of("mask"))
    train, validation = feeds(training.recipe, dataset)
    fit(training, train, validation)
    assert fit(gone_on(training), train, validation, on_step=lambda step: pytest.fail("a step"))


@both_tasks
def test_stamps_in_their_files_train_the_same_network_as_stamps_in_memory(task, dataset):
    trained = [new_training(recipe_of(task)) for _ in range(2)]
    for training, kind in zip(trained, (ResidentStamps, MappedStamps), strict=True):
        assert fit(training, *feeds(training.recipe, dataset, kind))
    assert_same_state(*trained)


def test_gradients_are_clipped_if_the_recipe_says_so(dataset):
    lengths = []
    for limit in ("null", "0.01"):
        training = new_training(recipe_of("mask", f"train.schedule.gradient_clip={limit}"), frozen=True)
        before = torch.cat([parameter.detach().flatten().clone() for parameter in training.network.parameters()])
        training.optimiser = torch.optim.SGD(training.network.parameters(), lr=1)
        fit(training, *feeds(training.recipe, dataset), should_stop=after(1))
        now = torch.cat([parameter.detach().flatten() for parameter in training.network.parameters()])
        lengths.append((now - before).norm().item())
    assert lengths[0] > 0.02
    assert lengths[1] == pytest.approx(0.01, rel=1e-3)


def spoiling(kind, number):
    """Stamps that lose a pixel's value after they were read from files, which hold none without."""

    class Spoiled(kind):
        def take(self, numbers):
            batch = super().take(numbers)
            image = batch.image.clone()
            image[numbers == number, 3, 4] = math.nan
            return batch.with_image(image)

    return Spoiled


@pytest.mark.parametrize("frozen", [False, True])
@both_sources
def test_a_loss_that_is_nan_stops_before_the_step_and_hands_over_the_batch(frozen, kind, dataset):
    training = new_training(recipe_of("mask"), frozen=frozen)
    train, validation = feeds(training.recipe, dataset, spoiling(kind, 5))
    kept, saved = [weights(training.network)], []
    with pytest.raises(LossIsNotFiniteError, match=r"the loss of epoch 1, batch \d is nan") as caught:
        fit(training, train, validation, on_step=lambda step: kept.append(weights(training.network)), save=saved.append)
    assert len(kept) == training.progress.step + 1
    for name, tensor in weights(training.network).items():
        if frozen or not is_statistic(name):
            assert torch.equal(tensor, kept[-1][name]), name
    assert torch.isnan(caught.value.examples.input).sum() == 1
    assert math.isfinite(training.progress.loss_sum)
    assert not saved


def test_a_validation_loss_that_is_nan_stops_before_anything_is_taken_in(dataset):
    training, saved = new_training(recipe_of("mask")), []
    train, _ = feeds(training.recipe, dataset)
    _, validation = feeds(training.recipe, dataset, spoiling(ResidentStamps, 1))
    with pytest.raises(LossIsNotFiniteError, match="the validation loss after epoch 1 is nan") as caught:
        fit(training, train, validation, save=saved.append)
    assert caught.value.examples is None
    assert not (training.best)
    assert not (training.progress.history)
    assert not saved


def test_inpainting_without_cosmic_rays_is_refused(folder):
    def clean(exposure, tensors):
        tensors["cosmic_rays"][:] = 0

    training = new_training(recipe_of("inpaint"))
    train, validation = feeds(training.recipe, write_dataset(folder, change=clean))
    with pytest.raises(TrainingError, match="no pixel of the validation stamps counts"):
        fit(training, train, validation)


@both_tasks
def test_mixed_precision_stays_where_it_agrees(task, dataset):
    training, single = new_training(recipe_of(task), mixed=True), new_training(recipe_of(task))
    train, validation = feeds(training.recipe, dataset)
    assert fit(training, train, validation)
    assert fit(single, train, validation)
    full, mixed = (validation_loss(training, validation, mixed=mixed) for mixed in (False, True))
    assert full != mixed
    assert mixed == pytest.approx(full, rel=0.01)
    history = training.progress.history
    assert full == history[-1].validation_loss  # float32 decides
    assert [record.precision for record in history] == ["bfloat16"] * 4
    assert history[-1].train_loss == pytest.approx(single.progress.history[-1].train_loss, rel=0.05)
    assert history[-1].train_loss != single.progress.history[-1].train_loss
    assert all(tensor.dtype in (torch.float32, torch.int64) for tensor in training.network.state_dict().values())


def test_mixed_precision_learns_the_same_in_isolation(dataset):
    """Autocast caches weights while any autocast context lives."""
    alone, isolated = new_training(recipe_of("mask"), mixed=True), new_training(recipe_of("mask"), mixed=True)
    assert fit(alone, *feeds(alone.recipe, dataset))
    with isolated_training(CPU):
        assert fit(isolated, *feeds(isolated.recipe, dataset))
    losses = [[(one.train_loss, one.validation_loss) for one in each.progress.history] for each in (alone, isolated)]
    assert losses[0] == losses[1]


def test_mixed_precision_is_taken_by_all_processes_or_none(dataset):
    class BesideAnotherProcessor(Ranks):
        def in_any(self, flag):
            return True

    training = new_training(recipe_of("mask"), mixed=True)
    assert fit(training, *feeds(training.recipe, dataset), ranks=BesideAnotherProcessor())
    assert {record.precision for record in training.progress.history} == {"float32"}


def test_mixed_precision_goes_where_it_does_not_agree(dataset, monkeypatch):
    monkeypatch.setattr(loop, "MIXED_PRECISION_AGREES", 1e-9)
    training = new_training(recipe_of("mask"), mixed=True)
    train, validation = feeds(training.recipe, dataset)
    assert fit(training, train, validation)
    assert not training.progress.mixed
    assert [record.precision for record in training.progress.history] == ["bfloat16", *["float32"] * 3]


def test_a_network_without_normalisation_learns_in_one_phase(dataset):
    recipe = recipe_of("inpaint", "train.architecture.norm=none", "train.schedule.learning_rate=0.003")
    training = new_training(recipe)
    assert fit(training, *feeds(recipe, dataset))
    history = training.progress.history
    assert [(record.frozen, record.learning_rate) for record in history] == [(True, 0.003)] * 4
    assert history[-1].train_loss < history[0].train_loss


def test_training_and_validation_use_the_scale_of_the_recipe(dataset):
    one, other = (feeds(recipe_of("mask", f"train.input.scale={scale}"), dataset) for scale in (100, 50))
    for feed, same, epoch in zip(one, other, (1, NATIVE), strict=True):
        numbers = torch.arange(3)
        torch.testing.assert_close(2 * feed.examples(numbers, epoch).input, same.examples(numbers, epoch).input)


def test_the_learning_rate_falls_along_a_half_cosine_also_after_a_stop(dataset):
    recipe = recipe_of("mask", "train.schedule.decay=cosine", "train.schedule.max_epochs=4", "train.schedule.batch_size=4")
    train, validation = feeds(recipe, dataset)
    steps = len(train) // 4

    def rates(training, should_stop=lambda: False):
        seen = []
        fit(
            training,
            train,
            validation,
            on_step=lambda step: seen.append(training.learning_rate),
            should_stop=should_stop,
        )
        return seen

    whole = rates(new_training(recipe))
    expected = [0.005 * (1 + math.cos(math.pi * step / (4 * steps))) / 2 for step in range(4 * steps)]
    assert whole == pytest.approx(expected)
    stopped = new_training(recipe)
    first = rates(stopped, after(steps + 1))
    assert first + rates(stopped) == pytest.approx(expected)
    assert stopped.progress.decays == 0
