import copy
import math

import pytest
import torch
from torch import nn
from torch.optim import Adam
from torch.optim.lr_scheduler import ReduceLROnPlateau

from deepcr_zoo.training import state
from deepcr_zoo.training.state import TrainingProgress
from tests.training.stamps import assert_same_weights, gone_on, new_training, recipe_of, weights

PATIENCE = 2


def training_of(*settings, **more):
    patience = f"decay_patience_epochs={PATIENCE}"
    recipe = recipe_of("mask", *(f"train.schedule.{one}" for one in ("max_epochs=100", patience, *settings)))
    return new_training(recipe, **more)


def end_epochs(training, *losses):
    return [training.end_epoch(loss, stamps=8) for loss in losses]


def epochs_until_the_end(training, loss):
    for epoch in range(1, 100):
        training.end_epoch(loss, stamps=8)
        if training.is_finished:
            return epoch
    return None


def test_the_learning_rate_is_that_of_torch_for_the_same_losses():
    training = training_of(frozen=True)
    reference = Adam([nn.Parameter(torch.zeros(1))], lr=0.005)
    plateau = ReduceLROnPlateau(reference, factor=0.1, patience=PATIENCE, threshold=0.001, threshold_mode="rel")
    losses = [1, 0.9, 0.8995, 0.8994, 0.8993, 0.8992, 0.5, 0.6, 0.6, 0.6, 0.6, 0.4, 0.4, 0.4, 0.4]
    for loss in losses:
        before = reference.param_groups[0]["lr"]
        assert training.end_epoch(loss, stamps=8).learning_rate == before == pytest.approx(before)
        plateau.step(loss)
        assert training.learning_rate == reference.param_groups[0]["lr"]
    assert training.learning_rate == pytest.approx(0.005 * 0.1**3)


@pytest.mark.parametrize(
    ("precision", "mixed"), [("auto", (False, True)), ("float32", (False, False)), ("bfloat16", (True, True))]
)
def test_convolutions_are_in_bfloat16_where_the_processor_is_quicker_with_it(precision, mixed, monkeypatch):
    recipe = recipe_of("mask", f"train.precision={precision}")
    for is_quicker, expected in zip((False, True), mixed, strict=True):
        monkeypatch.setattr(state, "multiplies_bfloat16", lambda is_quicker=is_quicker: is_quicker)
        assert state.initial_state(recipe, torch.device("cpu")).progress.mixed is expected


def test_an_improvement_of_less_than_the_recipe_asks_is_none():
    slow, fast = training_of("decay_min_improvement=0.01"), training_of("decay_min_improvement=0.01")
    end_epochs(slow, 1, 0.995, 0.9945, 0.994)
    end_epochs(fast, 1, 0.985, 0.97, 0.95)
    assert slow.learning_rate == pytest.approx(0.0005)
    assert fast.learning_rate == 0.005


def test_decays_are_counted_and_forgotten_at_an_improvement():
    training = training_of(frozen=True)
    decays = []
    for loss in (1, 2, 2, 2, 2, 2, 2, 0.5, 2, 2, 2):
        training.end_epoch(loss, stamps=8)
        decays.append(training.progress.decays)
    assert decays == [0, 0, 0, 1, 1, 1, 2, 0, 0, 0, 1]


@pytest.mark.parametrize("decays", [1, 2, 3])
def test_training_ends_when_each_decay_had_its_patience_and_brought_nothing(decays):
    training = training_of(f"stop_after_decays={decays}", frozen=True)
    assert not training.is_finished
    # the best epoch, then patience + 1 epochs before each decay, and as many after the last
    assert epochs_until_the_end(training, 1.0) == 1 + (PATIENCE + 1) * (decays + 1)


def test_training_does_not_end_so_in_the_first_phase():
    training = training_of("max_epochs=30", "freeze_after_epochs=40")
    assert epochs_until_the_end(training, 1.0) == 30


def test_training_ends_with_the_last_epoch_of_the_recipe():
    training = training_of("max_epochs=5", frozen=True)
    assert [end_epochs(training, 1 / epoch) and training.is_finished for epoch in range(1, 6)] == [False] * 4 + [True]


def test_an_epoch_that_has_begun_is_never_the_end():
    training = training_of("max_epochs=2")
    end_epochs(training, 2, 1)
    training.progress.step = 1
    assert not training.is_finished


def test_the_second_phase_begins_when_the_recipe_says():
    training = training_of("freeze_after_epochs=3")
    frozen = []
    for epoch in range(5):
        if training.freezes_now:
            training.freeze()
        frozen.append(training.end_epoch(1 / (epoch + 1), stamps=8).frozen)
    assert frozen == [False, False, False, True, True]


def test_the_second_phase_can_be_the_first():
    assert training_of("freeze_after_epochs=0").freezes_now
    started = training_of("freeze_after_epochs=20", frozen=True)
    assert started.progress.frozen
    assert not started.freezes_now


def test_without_normalisation_there_is_nothing_to_freeze():
    training = new_training(recipe_of("inpaint", "train.architecture.norm=none", "train.schedule.freeze_after_epochs=0"))
    assert training.progress.frozen
    assert not training.freezes_now


def one_step(training):
    for parameter in training.network.parameters():
        parameter.grad = torch.ones_like(parameter)
    training.optimiser.step()


@pytest.mark.parametrize("restart", [True, False])
def test_optimiser_and_schedule_start_anew_at_the_freeze_if_the_recipe_says_so(restart):
    training = training_of(f"restart_at_freeze={str(restart).lower()}")
    one_step(training)
    end_epochs(training, 1, 2, 2, 2)
    before, state = copy.deepcopy(training.plateau.state_dict()), copy.deepcopy(training.optimiser.state_dict())
    assert training.progress.decays == 1
    training.freeze()
    assert training.progress.frozen
    if restart:
        assert training.learning_rate == pytest.approx(0.005 * 0.4)
        assert not training.optimiser.state
        assert training.plateau.best == math.inf
        assert training.progress.decays == 0
    else:
        assert training.learning_rate == pytest.approx(0.0005)
        assert training.plateau.state_dict() == before
        assert training.optimiser.state_dict().keys() == state.keys()
        assert training.optimiser.state_dict()["state"].keys() == state["state"].keys()
    assert training.plateau.optimizer is training.optimiser


def test_the_best_weights_are_kept():
    training, kept = training_of(), []
    for loss in (1.0, 0.5, 0.7, 0.49999, 0.6):
        one_step(training)
        kept.append(weights(training.network))
        training.end_epoch(loss, stamps=8)
    one_step(training)
    assert_same_weights(training.best, kept[3])  # however small the improvement
    assert [record.is_best for record in training.progress.history] == [True, True, False, True, False]
    assert (training.progress.best_epoch, training.progress.best_loss) == (4, 0.49999)


def test_the_best_weights_of_the_first_phase_stay_the_best_in_the_second():
    training = training_of()
    kept = weights(training.network)
    end_epochs(training, 0.5)
    training.freeze()
    one_step(training)
    end_epochs(training, 0.6)
    assert_same_weights(training.best, kept)
    assert training.progress.best_epoch == 1


def test_a_record_describes_the_epoch_and_the_next_begins_at_zero():
    training = training_of(mixed=True)
    progress = training.progress
    progress.step, progress.loss_sum, progress.pixels, progress.seconds = 3, 50.0, 200.0, 4.0
    (record,) = end_epochs(training, 0.5)
    assert (record.epoch, record.train_loss, record.seconds, record.stamps_per_second) == (1, 0.25, 4.0, 2.0)
    assert (record.frozen, record.precision, record.learning_rate) == (False, "bfloat16", 0.005)
    assert (progress.step, progress.loss_sum, progress.pixels, progress.seconds) == (0, 0, 0, 0)
    assert progress.history == [record]


def test_what_was_written_goes_on_as_if_nothing_had_happened():
    training = training_of(frozen=True)
    one_step(training)
    end_epochs(training, 1, 2, 2)
    other = gone_on(training)
    assert TrainingProgress.model_validate_json(training.progress.model_dump_json()) == training.progress
    for one in (training, other):
        one_step(one)
        end_epochs(one, 2, 2, 0.5)
    assert_same_weights(weights(other.network), weights(training.network))
    assert_same_weights(other.best, training.best)
    assert other.progress == training.progress
    assert other.learning_rate == training.learning_rate == pytest.approx(0.0005)


def test_the_weights_are_in_channels_last_layout():
    weight = training_of().network.encoder[1].conv2.weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
