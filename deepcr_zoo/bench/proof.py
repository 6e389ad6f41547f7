"""A benchmark written to a folder: ``results.json`` with all figures, and the report for people."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deepcr_zoo.bench import output
from deepcr_zoo.bench.judging import Extent, benchmark
from deepcr_zoo.bench.report.htmlpage import write_report
from deepcr_zoo.bench.report.worst import worst_stamps
from deepcr_zoo.bench.results import RESULTS_FILE, BenchmarkResults, ModelMethod, keep_results, write_results
from deepcr_zoo.bench.subjects import Subject
from deepcr_zoo.dataset.reading import Dataset
from deepcr_zoo.exposures.pictures import require_matplotlib
from deepcr_zoo.files import locked, reporting_failures, scratch_folder
from deepcr_zoo.progress import Reporter
from deepcr_zoo.zoo.recipe import Recipe

MOST_PICTURED = 3
"""With more models than this, the report shows no stamps."""


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
    """Run a benchmark (see `judging.benchmark`) and write its results and report, replacing earlier ones in `folder`.

    Returns the results and the path of the report.
    """
    require_matplotlib()
    alone = subjects[0].run if len(subjects) == 1 else None
    output.check_run(folder, alone.folder if alone else None)
    output.check(folder, (RESULTS_FILE, output.PAGE))  # before the long work, as is an unwritable folder
    with reporting_failures(folder, output.ELSEWHERE):
        folder.mkdir(parents=True, exist_ok=True)
        with scratch_folder(folder / RESULTS_FILE):
            pass
    subjects = [one.load(device, engine) for one in subjects]  # for the benchmark and for the pictures
    results = benchmark(
        subjects, dataset, recipe, command, extent=extent, device=device, engine=engine, jobs=jobs, reporter=reporter
    )
    output.remove_report(folder)
    if alone is not None and folder.samefile(alone.folder):
        keep_results(folder, dataset.manifest_sha256)
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


def prove_alone(
    subjects: Sequence[Subject], dataset: Dataset, recipe: Recipe, command: str, folder: Path, **options: Any
) -> tuple[BenchmarkResults, Path]:
    """Do as `prove`, and let no other process write to the folder meanwhile."""
    with reporting_failures(folder, output.ELSEWHERE):
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder, wait=False):
            return prove(subjects, dataset, recipe, command, folder, **options)
