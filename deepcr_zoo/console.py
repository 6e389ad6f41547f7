"""What the commands print: results on stdout, notes on stderr."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from typing import Any, TypeVar

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

WIDE = 160
"""Columns of a table that goes into a file or a pipe."""

# no markup: names and messages may hold brackets
output = Console(markup=False, highlight=False, width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else WIDE)
notes = Console(stderr=True, markup=False, highlight=False, soft_wrap=True)

Item = TypeVar("Item")


def progress(items: Iterable[Item], verb: str, total: int) -> Iterable[Item]:
    """Show a bar with rate and time left, on a terminal and for more than one item."""
    if total < 2 or not notes.is_terminal:
        yield from items
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=notes, transient=True) as bar:
        task = bar.add_task(verb, total=total, rate="")
        for item in items:
            yield item
            bar.advance(task)
            speed = bar.tasks[task].speed
            bar.update(task, rate=f"{60 * speed:.1f} a minute" if speed else "")


def print_json(content: Any) -> None:
    """One document for machines."""
    typer.echo(json.dumps(content, indent=2, ensure_ascii=False))


def note(label: str, message: str, style: str) -> None:
    """A line for people, with a label in a style."""
    notes.print(Text.assemble((label, style), " ", message))


def table(first: str, *others: str) -> Table:
    """A table whose first column is never wrapped."""
    made = Table(box=SIMPLE_HEAD)
    made.add_column(first, no_wrap=True)
    for header in others:
        made.add_column(header, overflow="fold")
    return made
