"""What notebooks show of results and runs."""

from __future__ import annotations

from contextlib import suppress

from deepcr_zoo.bench.report.figures import drawn, plots
from deepcr_zoo.bench.report.tables import headline
from deepcr_zoo.bench.results import BenchmarkResults
from deepcr_zoo.bench.runs import Run
from deepcr_zoo.errors import InvalidDocumentError, MissingExtraError, RunError
from deepcr_zoo.models.notebooks import html_table


def results_html(results: BenchmarkResults) -> str:
    """Return the main table of a benchmark, and its first figure if matplotlib is installed."""
    table = headline(results)
    rows = [[block.heading, *(cell.text for cell in row)] for block in table.blocks for row in block.rows]
    picture = None
    with suppress(MissingExtraError):
        picture = next((one.png for one in drawn(results, plots(results)[:1])), None)
    title = f"{table.title}: {results.data.description} ({results.data.kind}), {results.date}"
    return html_table(title, rows, picture, ["field type", *table.columns])


def run_html(run: Run) -> str:
    """Return the state of a run, and its results if it has any."""
    rows = [("folder", str(run.folder)), ("training set", run.facts.dataset)]
    with suppress(RunError):
        history = run.history()
        most = run.recipe.train.schedule.max_epochs
        rows.append(("epochs", f"{len(history)} of at most {most}"))
        if history:
            best = min(history, key=lambda one: one.validation_loss)
            rows.append(("best validation loss", f"{best.validation_loss:.4g}, epoch {best.epoch}"))
    rows.append(("state", "judged" if run.is_evaluated else "trained" if run.is_trained else "in training, or interrupted"))
    shown = html_table(run.reference, rows)
    with suppress(RunError, InvalidDocumentError):
        shown += results_html(run.results()) if run.is_evaluated else ""
    return shown
