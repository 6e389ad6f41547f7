"""What training tells people while it works."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from deepcr_zoo.console import note, notes, progress
from deepcr_zoo.training.loop import Step
from deepcr_zoo.training.state import EpochRecord

Item = TypeVar("Item")

SECONDS_BETWEEN_LINES = 10.0
"""Where there is no terminal, so that a log stays short."""


class Silent:
    """Tells nothing."""

    def note(self, label: str, message: str, style: str) -> None:
        """Something that the user should know."""

    def work(self, items: Iterable[Item], verb: str, total: int) -> Iterable[Item]:
        """Pieces of work, as they are done."""
        return items

    @contextmanager
    def counted(self, verb: str, total: int) -> Iterator[Callable[[object], None]]:
        """Pieces of work that are told one by one."""
        yield lambda piece: None

    @contextmanager
    def done(self, verb: str) -> Iterator[Callable[[int, int], None]]:
        """Pieces of work of which it is told how many are done, and of how many."""
        yield lambda done, of: None

    @contextmanager
    def epochs(self, most: int) -> Iterator[None]:
        """Around the epochs of a training."""
        yield

    def step(self, step: Step) -> None:
        """After each step."""

    def epoch(self, record: EpochRecord) -> None:
        """After each epoch."""


class Terminal(Silent):
    """A bar with loss, rate and time left on a terminal; lines elsewhere."""

    def __init__(self) -> None:
        self._bar: tuple[Progress, TaskID] | None = None
        self._most = 0
        self._last_line = -SECONDS_BETWEEN_LINES
        self._validation = ""

    def note(self, label: str, message: str, style: str) -> None:
        """A line."""
        note(label, message, style)

    def work(self, items: Iterable[Item], verb: str, total: int) -> Iterable[Item]:
        """A bar."""
        return progress(items, verb, total)

    @contextmanager
    def counted(self, verb: str, total: int) -> Iterator[Callable[[object], None]]:
        """A bar."""
        if not notes.is_terminal:
            yield lambda piece: None
            return
        with Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), console=notes, transient=True
        ) as bar:
            task = bar.add_task(verb, total=total)
            yield lambda piece: bar.advance(task)

    @contextmanager
    def done(self, verb: str) -> Iterator[Callable[[int, int], None]]:
        """A bar on a terminal, lines elsewhere; nothing where all is done at once."""
        if not notes.is_terminal:
            yield partial(self._line, verb)
            return
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=notes, transient=True) as bar:
            task = bar.add_task(verb, total=None)
            yield lambda done, of: bar.update(task, completed=done, total=of)

    @contextmanager
    def epochs(self, most: int) -> Iterator[None]:
        """The bar of the epochs."""
        self._most = most
        if not notes.is_terminal:
            yield
            return
        columns = (
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            TextColumn("loss {task.fields[loss]}{task.fields[validation]}  {task.fields[rate]:.0f} stamps/s"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=notes, transient=True) as bar:
            task = bar.add_task("training", total=None, epoch=f"-/{most}", loss="-", validation="", rate=0)
            self._bar = (bar, task)
            try:
                yield
            finally:
                self._bar = None

    def step(self, step: Step) -> None:
        """Move the bar."""
        if self._bar is None:
            return
        bar, task = self._bar
        bar.update(
            task,
            total=self._most * step.steps,
            completed=(step.epoch - 1) * step.steps + step.step,
            epoch=f"{step.epoch}/{self._most}",
            loss=f"{step.loss:.5f}",
            validation=self._validation,
            rate=step.stamps_per_second,
        )

    def epoch(self, record: EpochRecord) -> None:
        """A line now and then, and at the end."""
        self._validation = f", validation {record.validation_loss:.5f}"
        now = time.monotonic()
        if self._bar is not None or (now - self._last_line < SECONDS_BETWEEN_LINES and record.epoch < self._most):
            return
        self._last_line = now
        losses = f"loss {record.train_loss:.5f}, validation {record.validation_loss:.5f}"
        how = f"learning rate {record.learning_rate:g}{', frozen' if record.frozen else ''}"
        note(
            "epoch",
            f"{record.epoch} of at most {self._most}: {losses}, {how}, {record.stamps_per_second:.0f} stamps/s",
            "bold",
        )

    def _line(self, verb: str, done: int, of: int) -> None:
        """A line now and then."""
        now = time.monotonic()
        if done < of and now - self._last_line >= SECONDS_BETWEEN_LINES:
            self._last_line = now
            note(verb, f"{done} of {of}", "bold")
