"""Telling the user what becomes of many files."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections import Counter
from typing import Any

import typer
from rich.table import Table

from deepcr_zoo.batch import Outcome
from deepcr_zoo.cli.console import message, notes, output, table
from deepcr_zoo.exposures import cleaning
from deepcr_zoo.exposures.cleaning import CleanedFile
from deepcr_zoo.progress import Level


class Teller(logging.Handler):
    """Tells what happens to many files while it happens, each thing once, and sums up."""

    def __init__(self, as_json: bool, named: set[str]) -> None:
        super().__init__(logging.INFO)
        self.as_json = as_json
        self.named = named
        self.outcomes: list[Outcome[CleanedFile]] = []
        self.told: set[str] = set()
        cleaning.log.addHandler(self)
        cleaning.log.setLevel(logging.INFO)

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
            self._once("chosen", str(record.args[-1]))

    def tell(self, outcome: Outcome[CleanedFile]) -> None:
        """Tell what became of a file."""
        self.outcomes.append(outcome)
        result = outcome.result
        if result:
            for reason in result.reasons if result.status == "cleaned" else ():
                self._once("chosen", reason)
            for caution in result.cautions:
                self._once("caution", caution, "caution", f"{result.path}: ")
        elif self.is_skipped(outcome):
            message("skipped", str(outcome.error), "caution")
        else:
            message("error", str(outcome.error), "error")
        if self.as_json:
            typer.echo(json.dumps(_record(outcome, "skipped" if self.is_skipped(outcome) else "failed")))
        elif result and not notes.is_terminal:
            message(result.status, f"{result.path}: {result.fraction:.2%} masked, {result.seconds:.1f} s")

    def sum_up(self) -> None:
        """A table of what was done, and what to mind."""
        done = [outcome.result for outcome in self.outcomes if outcome.result]
        for caution, times in Counter(caution for result in done for caution in result.cautions).items():
            if times > 1:
                message("caution", f"{caution} ({times} of {len(done)} files)", "caution")
        if done and not self.as_json:
            output.print(_summary(done))
        for advice in dict.fromkeys(result.advice for result in done if result.advice):
            message("advice", advice)
        if self.failed and len(self.outcomes) > 1:
            message("error", f"{len(self.failed)} of {len(self.outcomes)} failed: {', '.join(self.failed)}", "error")

    def _once(self, label: str, text: str, level: Level = "info", where: str = "") -> None:
        if text not in self.told:
            self.told.add(text)
            message(label, where + text, level)


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
