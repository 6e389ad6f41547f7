"""The training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor, nn
from torch.func import functional_call

from deepcr_zoo.errors import TrainingError, UsageError
from deepcr_zoo.models.nets import UNet, folded_parameters, without_norm
from deepcr_zoo.progress import TrainingStep
from deepcr_zoo.training.augmentation import order
from deepcr_zoo.training.distributed import ALONE, Ranks
from deepcr_zoo.training.objectives import NATIVE, Examples, Feed, summed_loss
from deepcr_zoo.training.state import Training
from deepcr_zoo.zoo.names import Task
from deepcr_zoo.zoo.registry import Architecture


class FrozenNorm(nn.Module):
    """A network whose BatchNorm uses its running statistics and never changes them; affine parameters still learn.

    Frozen normalisation is linear, so each is folded into the convolution before it, anew for every batch: the same
    function and the same gradients, at 0.4 to 0.7 of the time on a CPU.

    Parameters
    ----------
    network : UNet
        Whose parameters learn.
    architecture : Architecture
    task : {"mask", "inpaint"}
    """

    def __init__(self, network: UNet, architecture: Architecture, task: Task) -> None:
        super().__init__()
        self.network = network
        with torch.device("meta"):
            self._plain = (without_norm(architecture, task),)  # in a tuple: its parameters are not of this module

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, 1, H, W)."""
        output: Tensor = functional_call(self._plain[0], folded_parameters(self.network, torch.float32), (x,))
        return output


MIXED_PRECISION_AGREES = 0.01
"""Relative difference of the validation losses in float32 and in bfloat16 up to which bfloat16 is kept."""


class LossIsNotFiniteError(ArithmeticError):
    """A loss that is NaN or infinite; parameters are those from before this batch, running statistics may have seen it.

    Attributes
    ----------
    examples : Examples or None
        The batch; None if it was a validation loss.
    """

    def __init__(self, where: str, examples: Examples | None) -> None:
        super().__init__(where)
        self.examples = examples


def fit(
    training: Training,
    train: Feed,
    validation: Feed,
    *,
    ranks: Ranks = ALONE,
    save: Callable[[Training], None] = lambda training: None,
    on_step: Callable[[TrainingStep], None] = lambda step: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> bool:
    """Train until the schedule ends or somebody stops it; both phases, or what is left of them.

    Parameters
    ----------
    training : Training
        Changed in place.
    train, validation : Feed
    ranks : Ranks
        The processes that do this together, each with all stamps; they share every batch.
    save : callable
        Called after each epoch, and before it returns because of `should_stop`.
    on_step : callable
        Called after each step.
    should_stop : callable
        Asked after each step.

    Returns
    -------
    bool
        Whether the schedule has ended.

    Raises
    ------
    LossIsNotFiniteError
    TrainingError
        If no pixel of the validation stamps counts.
    UsageError
        If there are more processes than stamps in a batch.
    """
    while not training.is_finished:
        if training.freezes_now:
            training.freeze()
        size = batch_size(training, len(train), ranks)
        steps = len(train) // size
        stops = _train_epoch(training, train, ranks, on_step, should_stop)
        _average_statistics(training, ranks)
        if training.progress.step < steps:
            save(training)
            return False
        loss = validation_loss(training, validation, ranks)
        if not math.isfinite(loss):
            raise LossIsNotFiniteError(f"the validation loss after epoch {training.progress.epoch + 1} is {loss}", None)
        mixed = training.progress.mixed
        if mixed and training.recipe.train.precision == "auto":
            mixed = _mixed_precision_agrees(training, validation, ranks, loss)
        training.end_epoch(loss, stamps=steps * size)
        training.progress.mixed = mixed  # of the next epoch: the record tells how this one ran
        save(training)
        if stops:
            return False
    return True


def validation_loss(training: Training, feed: Feed, ranks: Ranks = ALONE, mixed: bool = False) -> float:
    """Mean loss over the pixels that count, of stamps as they are, with running statistics, in float32 unless `mixed`.

    Raises
    ------
    TrainingError
        If no pixel counts.
    """
    module = FrozenNorm(training.network, training.architecture, training.recipe.task)
    total = pixels = 0.0
    with torch.no_grad():
        for numbers in torch.split(torch.arange(len(feed)), training.schedule.batch_size):
            share = ranks.share(numbers)
            if len(share) == 0:  # of the last batch, if it has fewer stamps than there are processes
                continue
            examples = feed.examples(share, NATIVE)
            total += _loss(training, module, examples, mixed).item()
            pixels += int(examples.counted.sum())
    total, pixels = ranks.total(total, pixels)
    if pixels == 0:
        raise TrainingError(
            "no pixel of the validation stamps counts: expected some that are not ignored, and for inpainting cosmic rays "
            "in several stamps, which its masks are made of; give the recipe more visits"
        )
    return total / pixels


def _mixed_precision_agrees(training: Training, feed: Feed, ranks: Ranks, loss: float) -> bool:
    return abs(validation_loss(training, feed, ranks, mixed=True) - loss) <= MIXED_PRECISION_AGREES * loss


def batch_size(training: Training, stamps: int, ranks: Ranks = ALONE) -> int:
    """Stamps in each batch, of all processes together.

    Raises
    ------
    UsageError
        If that is less than one for each process.
    """
    size = min(training.schedule.batch_size, stamps)
    if size < ranks.count:
        raise UsageError(f"{ranks.count} processes share batches of {size} stamps: expected at most {size} processes")
    return size


def batches(training: Training, stamps: int, ranks: Ranks = ALONE) -> list[Tensor]:
    """The batches of the next epoch; stamps that do not fill one wait for another epoch."""
    size = batch_size(training, stamps, ranks)
    shuffled = order(training.recipe.train.seed, training.progress.epoch + 1, stamps)
    return list(torch.split(shuffled[: stamps // size * size], size))


def _train_epoch(
    training: Training, feed: Feed, ranks: Ranks, on_step: Callable[[TrainingStep], None], should_stop: Callable[[], bool]
) -> bool:
    """Do what is left of the next epoch; gives whether somebody has asked to stop, which ends it early."""
    progress = training.progress
    network = training.network.train()
    frozen = FrozenNorm(network, training.architecture, training.recipe.task)
    module = ranks.together(frozen if progress.frozen else network)
    planned = batches(training, len(feed), ranks)
    size, started, before = len(planned[0]), time.perf_counter(), progress.seconds
    for examples in _examples(feed, [ranks.share(batch) for batch in planned[progress.step :]], progress.epoch + 1):
        loss = _loss(training, module, examples, progress.mixed)
        counted, stops = float(examples.counted.sum()), float(should_stop())
        total, pixels, stops = ranks.total(loss.item(), counted, stops)
        if not math.isfinite(total):
            raise LossIsNotFiniteError(
                f"the loss of epoch {progress.epoch + 1}, batch {progress.step + 1} is {total}", examples
            )
        training.optimiser.zero_grad()
        mean = loss * (ranks.count / max(pixels, 1))  # gradients are averaged over processes
        torch.autograd.backward(mean)
        if training.schedule.gradient_clip is not None:
            nn.utils.clip_grad_norm_(network.parameters(), training.schedule.gradient_clip)
        training.optimiser.step()
        progress.step += 1
        progress.loss_sum += total
        progress.pixels += pixels
        progress.seconds = before + time.perf_counter() - started
        rate = progress.step * size / progress.seconds
        on_step(
            TrainingStep(progress.epoch + 1, progress.step, len(planned), progress.loss_sum / max(progress.pixels, 1), rate)
        )
        if stops:
            return True
    return False


def _loss(training: Training, module: nn.Module, examples: Examples, mixed: bool) -> Tensor:
    with torch.autocast(examples.input.device.type, torch.bfloat16, enabled=mixed):
        output = module(examples.input.contiguous(memory_format=torch.channels_last))
    return summed_loss(training.recipe.task, output, examples)


def _examples(feed: Feed, planned: list[Tensor], epoch: int) -> Iterator[Examples]:
    """Examples of the batches; what comes from files is read while the network learns from the batch before."""
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


def _average_statistics(training: Training, ranks: Ranks) -> None:
    """In the first phase each process has seen other batches."""
    if not training.progress.frozen:
        ranks.average([buffer for buffer in training.network.buffers() if buffer.is_floating_point()])
