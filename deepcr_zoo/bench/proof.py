"""A benchmark in a folder: ``results.json`` with all figures, and the report for people."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from deepcr_zoo.bench.judging import Extent, benchmark
from deepcr_zoo.bench.report.page import write_report
from deepcr_zoo.bench.report.worst import worst_stamps
from deepcr_zoo.bench.results import BenchmarkResults, ModelMethod, write_results
from deepcr_zoo.bench.subjects import Subject
from deepcr_zoo.dataset.reading import Dataset
from deepcr_zoo.errors import OutputError
from deepcr_zoo.exposures.pictures import require_matplotlib
from deepcr_zoo.progress import Reporter
from deepcr_zoo.zoo.recipe import Recipe

RESULTS_FILE = "results.json"
MOST_PICTURED = 3
"""Of no more models than this, stamps are shown."""


def prove(
    subjects: Sequence[Subject],
    dataset: Dataset,
    recipe: Recipe,
    command: str,
    folder: Path,
    *,
    extent: Extent,
    device: str = "auto",
    engine: str = "auto",
    jobs: int = 1,
    reporter: Reporter,
) -> tuple[BenchmarkResults, Path]:
    """Run a benchmark and write what it finds; what an earlier one has left in the folder is replaced.

    Parameters
    ----------
    folder : Path
        Gets ``results.json``, ``report.html`` and the pictures of that.
    subjects, dataset, recipe, command, extent, device, engine, jobs, reporter
        As for `benchmark.benchmark`.

    Returns
    -------
    BenchmarkResults
    Path
        Of the report.

    Raises
    ------
    OutputError
        If the folder cannot be made.
    MissingExtraError
        If matplotlib is not installed, which draws the pictures.
    DeepcrZooError
        As `benchmark.benchmark`.
    """
    require_matplotlib()
    _make(folder)
    results = benchmark(
        subjects, dataset, recipe, command, extent=extent, device=device, engine=engine, jobs=jobs, reporter=reporter
    )
    write_results(results, folder / RESULTS_FILE)
    before = [previous for one in subjects if (previous := one.previous()) is not None]
    judged = [result.name for result in results.methods if isinstance(result.method, ModelMethod)]
    cards = {one.reference: one.card() for one in [*subjects, *extent.against, *before] if one.reference in judged}
    pictured = [one for one in subjects if one.reference in judged]
    pictures = []
    if len(pictured) <= MOST_PICTURED:
        with reporter.pieces("drawing", len(pictured)) as drawn:
            for one in pictured:
                pictures += worst_stamps(one.model(device, engine), dataset, results)
                drawn(one)
    return results, write_report(results, cards, folder, pictures)


def _make(folder: Path) -> None:
    """What cannot be written is told before the long work."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written: {error.strerror}; name another folder") from None
