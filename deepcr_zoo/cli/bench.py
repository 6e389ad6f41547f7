"""The command that benchmarks models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

from deepcr_zoo import locations
from deepcr_zoo.cli.console import (
    TerminalReporter,
    interruptible,
    message,
    print_json,
    print_line,
    print_result,
    print_table,
    whole,
)
from deepcr_zoo.cli.options import AsJson, Device, Engine, Settings, default_jobs, this_command
from deepcr_zoo.errors import UsageError
from deepcr_zoo.zoo.recipefiles import find_recipe, read_recipe
from deepcr_zoo.zoo.registries import default_registry

if TYPE_CHECKING:
    from deepcr_zoo.bench.results import BenchmarkResults, ModelVerdict
    from deepcr_zoo.bench.subjects import Subject

LACOSMIC, NOTHING = "lacosmic", "none"


def bench(
    names: Annotated[list[str] | None, Argument(metavar="NAME|RUN...", help="models, or folders of runs")] = None,
    all_models: Annotated[bool, Option("--all", help="every mask network of the zoo: a leaderboard")] = False,
    data: Annotated[str | None, Option(metavar="RECIPE|DIR", help="test data [default: that of the run]")] = None,
    rehearse: Annotated[bool, Option("--rehearse", help="the simulated visits of the recipe")] = False,
    fresh: Annotated[bool, Option("--fresh", help="new test visits of the run, which nobody has looked at")] = False,
    against: Annotated[str, Option(metavar="lacosmic,NAME,...", help="methods to compare with, or none")] = LACOSMIC,
    recipe: Annotated[
        str | None, Option(metavar="RECIPE", help="recipe of the data [default: search the shipped ones]")
    ] = None,
    output_dir: Annotated[Path | None, Option(help="folder of the report [default: that of the run, or bench/NAME]")] = None,
    record: Annotated[bool, Option("--record", help="append operating points to this checkout's results")] = False,
    runtime: Annotated[bool, Option(help="measure speed and memory too")] = True,
    device: Device = "auto",
    engine: Engine = "auto",
    jobs: Annotated[int | None, Option(help="processes [default: as processors and memory allow]")] = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Benchmark models on the test visits of a recipe, beside L.A.Cosmic and others, and check their gates.

    Prints the path of a report, report.html; results.json beside it has all figures. The results of L.A.Cosmic are kept
    and not computed again. Exit code 1: a benchmarked model fails a gate.
    """
    from deepcr_zoo.bench.benchdata import find_data
    from deepcr_zoo.bench.judging import Extent
    from deepcr_zoo.bench.proof import prove_alone
    from deepcr_zoo.bench.results import check_replaced
    from deepcr_zoo.bench.subjects import find_subject

    reporter = TerminalReporter()
    jobs = default_jobs() if jobs is None else jobs
    others = against.split(",")
    with interruptible():
        subjects = _subjects(names or [], all_models)
        known = None if recipe is None else read_recipe(find_recipe(recipe), settings or [])
        dataset, found_recipe = find_data(
            data,
            subjects,
            recipe=known,
            rehearse=rehearse,
            fresh=fresh,
            settings=settings or [],
            jobs=jobs,
            reporter=reporter,
        )
        compared = [find_subject(name) for name in others if name not in (LACOSMIC, NOTHING)]
        of_run = _folder_of_run(subjects, data)
        folder = output_dir or of_run or Path("bench", _named_after(subjects))
        if output_dir is None:
            check_replaced(
                folder,
                [one.reference for one in subjects],
                dataset.manifest_sha256,
                lacosmic=LACOSMIC in others,
                runtime=runtime,
                is_of_run=of_run is not None,
            )
        results, report = prove_alone(
            subjects,
            dataset,
            found_recipe,
            this_command(),
            folder,
            extent=Extent(against=compared, lacosmic=LACOSMIC in others, runtime=runtime),
            device=device,
            engine=engine,
            jobs=jobs,
            reporter=reporter,
        )
    recorded = _record(results) if record else []
    if as_json:
        print_json(results.model_dump(mode="json"))
    else:
        print_results(results)
        for path in (*recorded, report):
            print_result(path)
    if any(not verdict.passes for verdict in results.verdicts):
        raise typer.Exit(1)


def _subjects(names: list[str], all_models: bool) -> list[Subject]:
    from deepcr_zoo.bench.subjects import all_of_the_zoo, find_subject

    if bool(names) == all_models:
        raise UsageError("name a model of the zoo or the folder of a run, or give --all (not both)")
    return [*all_of_the_zoo("mask")] if all_models else [find_subject(name) for name in names]


def _record(results: BenchmarkResults) -> list[Path]:
    """Append the operating points of the zoo's networks to their results; return the files."""
    from deepcr_zoo.bench import operatingpoints

    known = default_registry().references()
    ours = [one.name for one in results.methods if one.operating_points and one.name in known]
    return [operatingpoints.record(results, reference, locations.data_root()) for reference in ours]


def _folder_of_run(subjects: list[Subject], data: str | None) -> Path | None:
    """Return the folder of a run that is alone and on test visits of its own recipe."""
    run = subjects[0].run if len(subjects) == 1 and data is None else None
    return None if run is None else run.folder


def _named_after(subjects: list[Subject]) -> str:
    return subjects[0].reference.replace("/", "-") if len(subjects) == 1 else f"{len(subjects)}-models"


def print_results(results: BenchmarkResults) -> None:
    """Print the figures, the gates, the excluded models and cautions."""
    from deepcr_zoo.bench.measures.summary import figure_text, rows

    found = rows(results)
    cells = [(row.field_type, row.method, *map(figure_text, row.figures.items())) for row in found]
    print_table(["field type", "method", *map(whole, found[0].figures)], cells)
    for verdict in results.verdicts:
        print_line(f"{verdict.reference}: {'passes its gates' if verdict.passes else 'FAILS'}")
        print_gates(verdict)
    for one in results.excluded:
        message("left out", f"{one.reference}: {one.reason}", "caution")
    for caution in results.cautions:
        message("caution", caution, "caution")


def print_gates(verdict: ModelVerdict) -> None:
    """Print the verdict of each gate of a model."""
    rows = [(gate.gate, gate.field_type or "", gate.measured, gate.bound, gate.verdict) for gate in verdict.gates]
    print_table(["gate", "field type", whole("measured"), whole("bound"), "verdict"], rows)
