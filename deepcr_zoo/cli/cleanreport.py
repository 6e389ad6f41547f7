"""Messages and tables about the cleaning of many files."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any

from deepcr_zoo.batch import Outcome
from deepcr_zoo.cli.console import message, notes, print_json, print_table, whole
from deepcr_zoo.exposures import CleanedFile
from deepcr_zoo.progress import Level


class CleanReport:
    """Report on many files while they are cleaned, each message once, with a summary at the end."""

    def __init__(self, as_json: bool, named: set[str]) -> None:
        self.as_json = as_json
        self.named = named
        self.outcomes: list[Outcome[CleanedFile]] = []
        self.shown: set[str] = set()

    @property
    def failed(self) -> list[str]:
        """Files that could not be cleaned, without those that were skipped."""
        return [outcome.path for outcome in self.outcomes if outcome.error and not self.is_skipped(outcome)]

    def is_skipped(self, outcome: Outcome[CleanedFile]) -> bool:
        """True for a sound file that is not an exposure and that the user did not name."""
        return outcome.no_exposure and outcome.path not in self.named

    def choice(self, reason: str) -> None:
        """Print the reason for a choice of model or threshold."""
        self._once("chosen", reason)

    def add(self, outcome: Outcome[CleanedFile]) -> None:
        """Print the outcome of a file and keep it for the summary."""
        self.outcomes.append(outcome)
        result, skipped = outcome.result, self.is_skipped(outcome)
        if result:
            for reason in result.reasons if result.status == "cleaned" else ():
                self.choice(reason)
            for caution in result.cautions:
                self._once("caution", caution, "caution", f"{result.path}: ")
        elif skipped:
            message("skipped", str(outcome.error), "caution")
        else:
            message("error", str(outcome.error), "error")
        if self.as_json:
            print_json(_record(outcome, "skipped" if skipped else "failed"), indent=None)
        elif result and not notes.is_terminal:
            message(result.status, f"{result.path}: {result.fraction:.2%} masked, {result.seconds:.1f} s")

    def summarise(self) -> None:
        """Print a table of the cleaned files, repeated cautions, advice and failures."""
        done = [outcome.result for outcome in self.outcomes if outcome.result]
        for caution, times in Counter(caution for result in done for caution in result.cautions).items():
            if times > 1:
                message("caution", f"{caution} ({times} of {len(done)} files)", "caution")
        if done and not self.as_json:
            _print_table(done)
        for advice in dict.fromkeys(result.advice for result in done if result.advice):
            message("advice", advice)
        if self.failed and len(self.outcomes) > 1:
            message("error", f"{len(self.failed)} of {len(self.outcomes)} failed: {', '.join(self.failed)}", "error")

    def _once(self, label: str, text: str, level: Level = "info", where: str = "") -> None:
        if text not in self.shown:
            self.shown.add(text)
            message(label, where + text, level)


def _record(outcome: Outcome[CleanedFile], status: str) -> dict[str, Any]:
    """Return a JSON record, with the same keys whether a file was cleaned or not."""
    if outcome.result:
        return {**dataclasses.asdict(outcome.result), "error": None}
    empty = {field.name: None for field in dataclasses.fields(CleanedFile)}
    return {**empty, "path": outcome.path, "status": status, "error": outcome.error}


def _print_table(done: list[CleanedFile]) -> None:
    rows = []
    for one in done:
        rate = "-" if one.rate is None else f"{one.rate:.2f}"
        rows.append((one.path, one.status, f"{one.pixels}", f"{100 * one.fraction:.2f}", rate, f"{one.seconds:.1f}"))
    print_table(["file", "", *(whole(header, "right") for header in ("masked pixels", "%", "per cm2 s", "s"))], rows)
