"""What is told while the archive works."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from deepcr_zoo.console import note, notes

SECONDS_BETWEEN_LINES = 10.0
"""Where there is no terminal, so that a log stays short."""


class Watch(Protocol):
    """Who is told."""

    def note(self, label: str, message: str, style: str) -> None:
        """Something that the user should know."""

    def done(self, verb: str) -> AbstractContextManager[Callable[[int, int], None]]:
        """Work of which it is told how much is done, and of how much."""


class OnConsole:
    """A bar on a terminal, lines elsewhere."""

    def note(self, label: str, message: str, style: str) -> None:
        """A line."""
        note(label, message, style)

    @contextmanager
    def done(self, verb: str) -> Iterator[Callable[[int, int], None]]:
        """A bar, or a line now and then."""
        if not notes.is_terminal:
            yield _lines(verb)
            return
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=notes, transient=True) as bar:
            task = bar.add_task(verb, total=None)
            yield lambda done, of: bar.update(task, completed=done, total=of)


def _lines(verb: str) -> Callable[[int, int], None]:
    last = time.monotonic()

    def tell(done: int, of: int) -> None:
        nonlocal last
        if done < of and time.monotonic() - last >= SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            note(verb, f"{done} of {of}", "bold")

    return tell
