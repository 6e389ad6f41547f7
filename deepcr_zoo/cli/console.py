"""Terminal output: results on stdout; messages and progress on stderr.

Every text of a command goes through this module, which escapes control characters. JSON keeps the real text.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from io import TextIOWrapper
from typing import Any

import typer
from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console, JustifyMethod
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Column, Table
from rich.text import Text

from deepcr_zoo.batch import INTERRUPTED
from deepcr_zoo.errors import DeepcrZooError, printable
from deepcr_zoo.progress import FinishedEpoch, Item, Level, NullReporter, TrainingStep

UNLIMITED = 100_000
"""Width of lines in a file or a pipe: each row is one line, as for grep."""

LEAST_TEXT = 12
"""Width that a column of text may shrink to; longer words are folded."""

SECONDS_BETWEEN_LINES = 10.0
"""Pause between progress lines without a terminal, so that a log stays short."""

if isinstance(sys.stdout, TextIOWrapper):
    sys.stdout.reconfigure(errors="surrogateescape")  # paths need not be text
if not os.environ.get("COLUMNS", "1").strip("0"):
    del os.environ["COLUMNS"]  # rich would show nothing at all in 0 columns
# no markup and no emoji: names and messages may hold brackets and colons
_limited = (sys.stdout is not None and sys.stdout.isatty()) or "COLUMNS" in os.environ
output = Console(markup=False, emoji=False, highlight=False, soft_wrap=True, width=None if _limited else UNLIMITED)
notes = Console(stderr=True, markup=False, emoji=False, highlight=False, soft_wrap=True)

_STYLES: dict[Level, str] = {"info": "bold", "success": "green", "caution": "yellow", "error": "bold red"}


def open_closed_streams() -> None:
    """Lead standard streams that the caller has closed to nowhere: a file would get their number, and what is printed."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            os.dup2(opened, number)
            if opened == number:
                os.set_inheritable(number, True)
            else:
                os.close(opened)
            setattr(sys, name, os.fdopen(number, "w" if number else "r", closefd=False))


def message(label: str, text: str, level: Level = "info") -> None:
    """Print a line on stderr, with a coloured label."""
    notes.print(Text.assemble((printable(label), _STYLES[level]), " ", printable(text)))


def print_error(error: DeepcrZooError) -> None:
    """Print an error on stderr; only its own lines are lines."""
    first, *more = error.args or ("",)
    message("error", str(first), "error")
    for line in more:
        print_note(str(line))


def print_usage_error(error: Any) -> None:
    """Print typer's own message on a mistake in the arguments, which it repeats; a page of help repeats none."""
    if not error.message.startswith("Usage:"):
        error.message = printable(error.message)
    error.show()


def print_note(text: str) -> None:
    """Print a line without a label on stderr."""
    notes.print(printable(text))


def print_line(text: str) -> None:
    """Print a line on stdout."""
    output.print(printable(text))


def print_result(text: str | os.PathLike[str]) -> None:
    """Print a result for scripts, such as a path, on stdout: as it is in a file or a pipe, escaped on a terminal."""
    # not by typer, which removes colours
    sys.stdout.write(f"{printable(os.fspath(text)) if output.is_terminal else os.fspath(text)}\n")
    sys.stdout.flush()


def print_json(content: Any, indent: int | None = 2) -> None:
    """Print one JSON document on stdout; its escapes keep the real text."""
    typer.echo(json.dumps(content, indent=indent))


def whole(header: str, justify: JustifyMethod = "left") -> Column:
    """Return a column, usually of numbers, whose cells never wrap; its header may."""
    return Column(header, no_wrap=True, justify=justify)


Cell = str | Sequence[str]
"""A text, or several lines."""


def print_table(columns: Sequence[str | Column], rows: Iterable[Sequence[Cell]]) -> None:
    """Print a table on stdout, or lines of header and value where the console is too narrow for its numbers."""
    cells = [[_lines([cell] if isinstance(cell, str) else cell) for cell in row] for row in rows]
    headers = [one if isinstance(one, str) else str(one.header) for one in columns]
    table = Table(*columns, box=SIMPLE_HEAD)
    for row in cells:
        table.add_row(*row)
    table_room = output.width - 3 * len(headers) - 1  # padding and separators
    widths = _widths(headers, [not isinstance(one, str) for one in columns], cells, table_room)
    if sum(widths) > table_room:
        for row in cells:
            for header, cell in zip(headers, row, strict=True):
                output.print(f"{header}: {cell}" if header else cell)
        return
    for column, width in zip(table.columns, widths, strict=True):
        column.width, column.no_wrap, column.overflow = width, False, "fold"
    output.print(table, soft_wrap=False)


def _lines(lines: Iterable[str]) -> str:
    return "\n".join(map(printable, lines))


def _widths(headers: Sequence[str], whole_ones: Sequence[bool], rows: Sequence[Sequence[str]], room: int) -> list[int]:
    """Return a width for each column; to fit into the room, texts fold first, then headers of whole columns do."""
    columns = list(zip(*rows, strict=True)) or [()] * len(headers)
    longest_cells = [max((cell_len(line) for cell in column for line in cell.split("\n")), default=0) for column in columns]
    longest_words = [max(map(cell_len, header.split()), default=0) for header in headers]
    widths = [max(cell_len(header), longest) for header, longest in zip(headers, longest_cells, strict=True)]
    least = [
        max(word, longest if is_whole else min(longest, LEAST_TEXT))
        for word, longest, is_whole in zip(longest_words, longest_cells, whole_ones, strict=True)
    ]
    for kind in (False, True):
        shrinking = [index for index, is_whole in enumerate(whole_ones) if is_whole == kind]
        while sum(widths) > room and (able := [index for index in shrinking if widths[index] > least[index]]):
            widths[max(able, key=widths.__getitem__)] -= 1
    return widths


def print_facts(facts: Iterable[tuple[str, str]]) -> None:
    """Print pairs of label and text on stdout; the lines of a text stay in their column."""
    table = Table(show_header=False, box=None)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for label, text in facts:
        table.add_row(printable(label), _lines(text.rstrip().split("\n")))
    output.print(table, soft_wrap=False)


@contextmanager
def hiding_logs() -> Iterator[None]:
    """Hide the logs of this package, whose contents commands print themselves, unless logging is configured."""
    logger, handler = logging.getLogger("deepcr_zoo"), logging.NullHandler()
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


@contextmanager
def interruptible(advice: str = "the same command goes on where this one ended") -> Iterator[None]:
    """Turn Ctrl-C into a message and the exit code of an interruption."""
    try:
        yield
    except KeyboardInterrupt:
        message("interrupted", advice, "error")
        raise typer.Exit(INTERRUPTED) from None


def _has_bars() -> bool:
    """True on a terminal, and in a notebook with the widgets that rich draws with."""
    return notes.is_terminal or (notes.is_jupyter and importlib.util.find_spec("ipywidgets") is not None)


class TerminalReporter(NullReporter):
    """A `Reporter` that draws bars on a terminal and in notebooks, and prints occasional lines elsewhere."""

    def __init__(self) -> None:
        self._bar: tuple[Progress, TaskID] | None = None
        self._most_epochs = 0
        self._last_line = -SECONDS_BETWEEN_LINES
        self._validation = ""

    def message(self, label: str, text: str, level: Level = "info") -> None:
        """Print a line on stderr."""
        message(label, text, level)

    def track(self, items: Iterable[Item], activity: str, total: int) -> Iterable[Item]:
        """Yield items beside a bar with rate and time left, if there are several and stderr is a terminal."""
        if total < 2 or not _has_bars():
            yield from items
            return
        with _bar(TextColumn("{task.fields[rate]}"), TimeRemainingColumn()) as bar:
            task = bar.add_task(activity, total=total, rate="")
            for item in items:
                yield item
                bar.advance(task)
                speed = bar.tasks[task].speed
                bar.update(task, rate=f"{60 * speed:.1f} a minute" if speed else "")

    @contextmanager
    def pieces(self, activity: str, total: int) -> Iterator[Callable[[object], None]]:
        """Draw a bar that advances by one piece at a time."""
        if not _has_bars():
            yield lambda piece: None
            return
        with _bar() as bar:
            task = bar.add_task(activity, total=total)
            yield lambda piece: bar.advance(task)

    @contextmanager
    def amount(self, activity: str) -> Iterator[Callable[[int, int], None]]:
        """Draw a bar, or print a line every few seconds."""
        if not _has_bars():
            self._last_line = time.monotonic()
            yield lambda done, total: self._line(activity, done, total)
            return
        with _bar(TimeRemainingColumn()) as bar:
            task = bar.add_task(activity, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)

    @contextmanager
    def epochs(self, most: int) -> Iterator[None]:
        """Draw the bar of a training."""
        self._most_epochs = most
        if not _has_bars():
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

    def step(self, step: TrainingStep) -> None:
        """Move the bar of the training."""
        if self._bar is None:
            return
        bar, task = self._bar
        bar.update(
            task,
            total=self._most_epochs * step.steps,
            completed=(step.epoch - 1) * step.steps + step.step,
            epoch=f"{step.epoch}/{self._most_epochs}",
            loss=f"{step.loss:.5f}",
            validation=self._validation,
            rate=step.stamps_per_second,
        )

    def epoch(self, record: FinishedEpoch) -> None:
        """Print a line every few seconds, and after the last epoch."""
        self._validation = f", validation {record.validation_loss:.5f}"
        if self._bar is not None or not (record.epoch >= self._most_epochs or self._is_time_for_a_line()):
            return
        self._last_line = time.monotonic()
        losses = f"loss {record.train_loss:.5f}, validation {record.validation_loss:.5f}"
        how = f"learning rate {record.learning_rate:g}{', frozen' if record.frozen else ''}"
        message(
            "epoch",
            f"{record.epoch} of at most {self._most_epochs}: {losses}, {how}, {record.stamps_per_second:.0f} stamps/s",
        )

    def _line(self, activity: str, done: int, total: int) -> None:
        if done < total and self._is_time_for_a_line():
            self._last_line = time.monotonic()
            message(activity, f"{done} of {total}")

    def _is_time_for_a_line(self) -> bool:
        return time.monotonic() - self._last_line >= SECONDS_BETWEEN_LINES


def _bar(*columns: ProgressColumn) -> Progress:
    first = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*first, *columns, console=notes, transient=True)
