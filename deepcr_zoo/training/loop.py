"""The training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor, nn

from deepcr_zoo.errors import TrainingError, UsageError
from deepcr_zoo.progress import TrainingStep
from deepcr_zoo.training.distributed import ALONE, Ranks
from deepcr_zoo.training.frozenbatchnorm import FrozenNorm
from deepcr_zoo.training.objectives import NATIVE, Examples, Feed, summed_loss
from deepcr_zoo.training.randomness import order
from deepcr_zoo.training.state import TrainingState

MIXED_PRECISION_AGREES = 0.01
"""Relative difference of the validation losses in float32 and in bfloat16 up to which bfloat16 is kept."""


class LossIsNotFiniteError(ArithmeticError):
    """A loss is NaN or infinite; parameters are those from before this batch, running statistics may include it.

    `examples` is the batch, None for a validation loss.
    """

    def __init__(self, where: str, examples: Examples | None) -> None:
        super().__init__(where)
        self.examples = examples


def fit(
    state: TrainingState,
    train: Feed,
    validation: Feed,
    *,
    ranks: Ranks = ALONE,
    save: Callable[[TrainingState], None] = lambda state: None,
    on_step: Callable[[TrainingStep], None] = lambda step: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> bool:
    """Train through both phases, or what is left of them; return False if `should_stop` ended it first.

    `state` is changed in place. `ranks` are the processes that do this together: each has all stamps, and they share
    every batch. `save` is called after each epoch and before a stop, `on_step` and `should_stop` after each step.
    """
    state.progress.mixed = not ranks.in_any(not state.progress.mixed)  # processors of several machines may differ
    while not state.is_finished:
        if state.freezes_now:
            state.freeze()
        size = batch_size(state, len(train), ranks)
        steps = len(train) // size
        stops = _train_epoch(state, train, ranks, on_step, should_stop)
        if not state.progress.frozen:  # running statistics: each process has seen other stamps
            ranks.average([buffer for buffer in state.network.buffers() if buffer.is_floating_point()])
        if state.progress.step < steps:
            save(state)
            return False
        loss = validation_loss(state, validation, ranks)
        if not math.isfinite(loss):
            raise LossIsNotFiniteError(f"the validation loss after epoch {state.progress.epoch + 1} is {loss}", None)
        mixed = state.progress.mixed
        if mixed and state.recipe.train.precision == "auto":
            loss_in_bfloat16 = validation_loss(state, validation, ranks, mixed=True)
            mixed = abs(loss_in_bfloat16 - loss) <= MIXED_PRECISION_AGREES * loss
        state.end_epoch(loss, stamps=steps * size)
        state.progress.mixed = mixed  # of the next epoch: the record has the precision of this one
        save(state)
        if stops:
            return False
    return True


def validation_loss(state: TrainingState, feed: Feed, ranks: Ranks = ALONE, mixed: bool = False) -> float:
    """Return the mean loss over the pixels that count, with running statistics, in float32 unless `mixed`."""
    module = FrozenNorm(state.network, state.architecture, state.recipe.task)
    total = pixels = 0.0
    with torch.no_grad():
        for numbers in torch.split(torch.arange(len(feed)), state.schedule.batch_size):
            share = ranks.share(numbers)
            if len(share) == 0:  # the last batch may have fewer stamps than there are processes
                continue
            examples = feed.examples(share, NATIVE)
            total += batch_loss(state, module, examples, mixed).item()
            pixels += int(examples.counted.sum())
    total, pixels = ranks.total(total, pixels)
    if pixels == 0:
        raise TrainingError(
            "no pixel of the validation stamps counts: expected some that are not ignored, and for inpainting cosmic rays "
            "in several stamps, which its masks are made of; give the recipe more visits"
        )
    return total / pixels


def batch_size(state: TrainingState, stamps: int, ranks: Ranks = ALONE) -> int:
    """Return the number of stamps in each batch, of all processes together."""
    size = min(state.schedule.batch_size, stamps)
    if size < ranks.count:
        raise UsageError(f"{ranks.count} processes share batches of {size} stamps: expected at most {size} processes")
    return size


def batches(state: TrainingState, stamps: int, ranks: Ranks = ALONE) -> list[Tensor]:
    """Return the batches of the next epoch; stamps that do not fill one are left to another epoch."""
    size = batch_size(state, stamps, ranks)
    shuffled = order(state.recipe.train.seed, state.progress.epoch + 1, stamps)
    return list(torch.split(shuffled[: stamps // size * size], size))


def _train_epoch(
    state: TrainingState, feed: Feed, ranks: Ranks, on_step: Callable[[TrainingStep], None], should_stop: Callable[[], bool]
) -> bool:
    """Do what is left of the next epoch; return True if a stop is requested, which ends it early."""
    progress = state.progress
    network = state.network.train()
    frozen = FrozenNorm(network, state.architecture, state.recipe.task)
    module = ranks.averaging_gradients(frozen if progress.frozen else network)
    planned = batches(state, len(feed), ranks)
    size, started, before = len(planned[0]), time.perf_counter(), progress.seconds
    for examples in _examples(feed, [ranks.share(batch) for batch in planned[progress.step :]], progress.epoch + 1):
        loss = batch_loss(state, module, examples, progress.mixed)
        counted, stops = float(examples.counted.sum()), float(should_stop())
        total, pixels, stops = ranks.total(loss.item(), counted, stops)
        if not math.isfinite(total):
            where = f"epoch {progress.epoch + 1}, batch {progress.step + 1}"
            raise LossIsNotFiniteError(f"the loss of {where} is {total}", examples)
        state.anneal(len(planned))
        state.optimiser.zero_grad()
        mean = loss * (ranks.count / max(pixels, 1))  # gradients are averaged over processes
        torch.autograd.backward(mean)
        if state.schedule.gradient_clip is not None:
            nn.utils.clip_grad_norm_(network.parameters(), state.schedule.gradient_clip)
        state.optimiser.step()
        progress.step += 1
        progress.loss_sum += total
        progress.pixels += pixels
        progress.seconds = before + time.perf_counter() - started
        mean_loss, rate = progress.loss_sum / max(progress.pixels, 1), progress.step * size / progress.seconds
        on_step(TrainingStep(progress.epoch + 1, progress.step, len(planned), mean_loss, rate))
        if stops:
            return True
    return False


def batch_loss(state: TrainingState, module: nn.Module, examples: Examples, mixed: bool) -> Tensor:
    """Return the summed loss of a batch that goes through the network, in bfloat16 if `mixed`."""
    # its cache would keep the first weights as long as an outer context lives, such as that of `isolated_training`
    with torch.autocast(examples.input.device.type, torch.bfloat16, enabled=mixed, cache_enabled=False):
        output = module(examples.input.contiguous(memory_format=torch.channels_last))
    return summed_loss(state.recipe.task, output, examples)


def _examples(feed: Feed, planned: list[Tensor], epoch: int) -> Iterator[Examples]:
    """Yield the examples of the batches; files are read while the network learns from the batch before."""
    if feed.source.is_resident:
        yield from (feed.examples(batch, epoch) for batch in planned)
        return
    with ThreadPoolExecutor(1) as reader:
        following = [reader.submit(feed.examples, batch, epoch) for batch in planned[:1]]
        for batch in [*planned[1:], None]:
            current = following.pop()
            if batch is not None:
                following.append(reader.submit(feed.examples, batch, epoch))
            yield current.result()
