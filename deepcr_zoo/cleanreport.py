"""Telling the user what becomes of many files."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections import Counter
from typing import Any

import typer
from rich.table import Table

from deepcr_zoo import filecleaning
from deepcr_zoo.batch import Outcome
from deepcr_zoo.console import note, notes, output, table
from deepcr_zoo.filecleaning import CleanedFile


class Teller(logging.Handler):
    """Tells what happens to many files while it happens, each thing once, and sums up."""

    def __init__(self, as_json: bool, named: set[str]) -> None:
        super().__init__(logging.INFO)
        self.as_json = as_json
        self.named = named
        self.outcomes: list[Outcome[CleanedFile]] = []
        self.told: set[str] = set()
        filecleaning.log.addHandler(self)
        filecleaning.log.setLevel(logging.INFO)

    @property
    def failed(self) -> list[str]:
        """Files that could not be cleaned, but for those in folders that are no exposures."""
        return [outcome.path for outcome in self.outcomes if outcome.error and not self.is_skipped(outcome)]

    def is_skipped(self, outcome: Outcome[CleanedFile]) -> bool:
        """Whether a file is a sound one that nobody named and that is no exposure."""
        return outcome.no_exposure and outcome.path not in self.named

    def emit(self, record: logging.LogRecord) -> None:
        """Tell a choice as soon as `clean_file` logs it (in this process)."""
        if record.levelno == logging.INFO and isinstance(record.args, tuple):
            self._once("chosen", str(record.args[-1]), "bold")

    def tell(self, outcome: Outcome[CleanedFile]) -> None:
        """Tell what became of a file."""
        self.outcomes.append(outcome)
        result = outcome.result
        if result:
            for reason in result.reasons if result.status == "cleaned" else ():
                self._once("chosen", reason, "bold")
            for caution in result.cautions:
                self._once("caution", caution, "yellow", f"{result.path}: ")
        elif self.is_skipped(outcome):
            note("skipped", str(outcome.error), "yellow")
        else:
            note("error", str(outcome.error), "bold red")
        if self.as_json:
            typer.echo(json.dumps(_record(outcome, "skipped" if self.is_skipped(outcome) else "failed")))
        elif result and not notes.is_terminal:
            note(result.status, f"{result.path}: {result.fraction:.2%} masked, {result.seconds:.1f} s", "bold")

    def sum_up(self) -> None:
        """A table of what was done, and what to mind."""
        done = [outcome.result for outcome in self.outcomes if outcome.result]
        for caution, times in Counter(caution for result in done for caution in result.cautions).items():
            if times > 1:
                note("caution", f"{caution} ({times} of {len(done)} files)", "yellow")
        if done and not self.as_json:
            output.print(_summary(done))
        for advice in dict.fromkeys(result.advice for result in done if result.advice):
            note("advice", advice, "bold")
        if self.failed and len(self.outcomes) > 1:
            note("error", f"{len(self.failed)} of {len(self.outcomes)} failed: {', '.join(self.failed)}", "bold red")

    def _once(self, label: str, message: str, style: str, where: str = "") -> None:
        if message not in self.told:
            self.told.add(message)
            note(label, where + message, style)


def _record(outcome: Outcome[CleanedFile], status: str) -> dict[str, Any]:
    """A line for machines: the same keys whether a file was cleaned or not."""
    if outcome.result:
        return {**dataclasses.asdict(outcome.result), "error": None}
    nothing = {field.name: None for field in dataclasses.fields(CleanedFile)}
    return {**nothing, "path": outcome.path, "status": status, "error": outcome.error}


def _summary(done: list[CleanedFile]) -> Table:
    rows = table("file", "", "masked pixels", "%", "per cm2 s", "s")
    for column in rows.columns[2:]:
        column.justify = "right"
    for result in done:
        rate = "-" if result.rate is None else f"{result.rate:.2f}"
        cells = (result.status, f"{result.pixels}", f"{100 * result.fraction:.2f}", rate, f"{result.seconds:.1f}")
        rows.add_row(result.path, *cells)
    return rows
