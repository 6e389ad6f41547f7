"""Progress of long work: the `Reporter` interface, and an implementation that shows nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

from deepcr_zoo.errors import printable

__all__ = ["NullReporter", "Reporter"]

Item = TypeVar("Item")


class _Printable(logging.Filter):
    """A filter of log records that makes them `printable`."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = printable(record.getMessage()), ()
        return True


def logger(name: str) -> logging.Logger:
    """Return the logger of this name, whose lines are `printable`."""
    log = logging.getLogger(name)
    if not any(isinstance(one, _Printable) for one in log.filters):
        log.addFilter(_Printable())
    return log


Level = Literal["info", "success", "caution", "error"]


@dataclass(frozen=True)
class TrainingStep:
    """State of a training after one step; epoch and step count from 1, loss and rate are means of the epoch so far."""

    epoch: int
    step: int
    steps: int  # in an epoch
    loss: float
    stamps_per_second: float


class FinishedEpoch(Protocol):
    """Figures of a finished epoch."""

    epoch: int
    frozen: bool
    learning_rate: float
    train_loss: float
    validation_loss: float
    stamps_per_second: float


class Reporter(Protocol):
    """Receiver of messages and progress; hand one to `train`, `benchmark` and other long work."""

    def message(self, label: str, text: str, level: Level = "info") -> None:
        """Report one sentence under a short label."""

    def track(self, items: Iterable[Item], activity: str, total: int) -> Iterable[Item]:
        """Yield items and report progress as each is consumed."""

    def pieces(self, activity: str, total: int) -> AbstractContextManager[Callable[[object], None]]:
        """Return a context that gives a function to call with each finished piece."""

    def amount(self, activity: str) -> AbstractContextManager[Callable[[int, int], None]]:
        """Return a context that gives a function to call with the amount done and the total."""

    def epochs(self, most: int) -> AbstractContextManager[None]:
        """Return a context that spans all epochs of a training."""

    def step(self, step: TrainingStep) -> None:
        """Report a training step."""

    def epoch(self, record: FinishedEpoch) -> None:
        """Report a finished epoch."""


class NullReporter:
    """A `Reporter` that shows nothing."""

    def message(self, label: str, text: str, level: Level = "info") -> None:
        """Ignore the message."""

    def track(self, items: Iterable[Item], activity: str, total: int) -> Iterable[Item]:
        """Return the items."""
        return items

    @contextmanager
    def pieces(self, activity: str, total: int) -> Iterator[Callable[[object], None]]:
        """Yield a function that does nothing."""
        yield lambda piece: None

    @contextmanager
    def amount(self, activity: str) -> Iterator[Callable[[int, int], None]]:
        """Yield a function that does nothing."""
        yield lambda done, total: None

    @contextmanager
    def epochs(self, most: int) -> Iterator[None]:
        """Do nothing."""
        yield

    def step(self, step: TrainingStep) -> None:
        """Ignore the step."""

    def epoch(self, record: FinishedEpoch) -> None:
        """Ignore the epoch."""
