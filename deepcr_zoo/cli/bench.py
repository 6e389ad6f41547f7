"""The command that judges models."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deepcr_zoo import batch, files
from deepcr_zoo.cli.console import message, output, print_json, table
from deepcr_zoo.cli.datasets import AsJson, Settings, default_jobs
from deepcr_zoo.errors import UsageError
from deepcr_zoo.zoo.recipefiles import find_recipe, read_recipe
from deepcr_zoo.zoo.registries import default_registry

if TYPE_CHECKING:
    from deepcr_zoo.bench.results import BenchmarkResults, ModelVerdict
    from deepcr_zoo.bench.subjects import Subject

LACOSMIC, NOTHING = "lacosmic", "none"


def bench(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME|RUN...", help="models of the zoo, or folders of runs")
    ] = None,
    all_models: Annotated[bool, typer.Option("--all", help="every mask network of the zoo: a leaderboard")] = False,
    data: Annotated[
        str | None,
        typer.Option(metavar="RECIPE|DIR", help="what they are judged on [default: the training set of the run]"),
    ] = None,
    rehearse: Annotated[bool, typer.Option("--rehearse", help="the simulated visits of the recipe")] = False,
    against: Annotated[
        str, typer.Option(metavar="lacosmic,NAME,...", help="compared with these; none: with nothing")
    ] = LACOSMIC,
    recipe: Annotated[
        str | None, typer.Option(metavar="RECIPE", help="that a training set is of, where it is none of those that ship")
    ] = None,
    output_dir: Annotated[
        Path | None, typer.Option(help="folder for report and results [default: the run, on its own data; else bench/NAME]")
    ] = None,
    record: Annotated[
        bool, typer.Option("--record", help="append the operating points to the results of the models in this checkout")
    ] = False,
    runtime: Annotated[bool, typer.Option(help="measure speed and memory too")] = True,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps")] = "auto",
    engine: Annotated[str, typer.Option(help="auto, torch or openvino")] = "auto",
    jobs: Annotated[int | None, typer.Option(help="processes [default: as processors and memory allow]")] = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Judge models on the test visits of a recipe, beside L.A.Cosmic and others, and hold them against their gates.

    Prints the path of a report for people, report.html, beside results.json with all figures. What L.A.Cosmic finds is kept
    and not computed again. Exit code 1: a model that was asked for fails a gate.
    """
    try:
        results, report = _bench(
            _subjects(names or [], all_models),
            against.split(","),
            (data, recipe, rehearse, settings or []),
            runtime,
            output_dir,
            (device, engine),
            default_jobs() if jobs is None else jobs,
        )
    except KeyboardInterrupt:
        message("interrupted", "the same command goes on where this one ended", "error")
        raise typer.Exit(batch.INTERRUPTED) from None
    recorded = _record(results) if record else []
    if as_json:
        print_json(results.model_dump(mode="json"))
    else:
        print_results(results)
        for path in (*recorded, report):
            typer.echo(str(path))
    if any(not verdict.passes for verdict in results.verdicts):
        raise typer.Exit(1)


def _subjects(names: list[str], all_models: bool) -> list[Subject]:
    from deepcr_zoo.bench.subjects import all_of_the_zoo, find_subject

    if bool(names) == all_models:
        raise UsageError("name a model of the zoo or the folder of a run, or give --all (not both)")
    return [*all_of_the_zoo("mask")] if all_models else [find_subject(name) for name in names]


def _bench(
    subjects: list[Subject],
    against: list[str],
    judged_on: tuple[str | None, str | None, bool, list[str]],
    runtime: bool,
    output_dir: Path | None,
    where: tuple[str, str],
    jobs: int,
) -> tuple[BenchmarkResults, Path]:
    from deepcr_zoo.bench.benchdata import find_data
    from deepcr_zoo.bench.judging import Extent
    from deepcr_zoo.bench.proof import prove
    from deepcr_zoo.bench.subjects import find_subject
    from deepcr_zoo.cli.console import TerminalReporter

    data, recipe_file, rehearse, settings = judged_on
    reporter = TerminalReporter()
    known = None if recipe_file is None else read_recipe(find_recipe(recipe_file), settings)
    dataset, recipe = find_data(
        data, subjects, recipe=known, rehearse=rehearse, settings=settings, jobs=jobs, reporter=reporter
    )
    others = [find_subject(name) for name in against if name not in (LACOSMIC, NOTHING)]
    return prove(
        subjects,
        dataset,
        recipe,
        shlex.join(["deepcr-zoo", *sys.argv[1:]]),
        output_dir or _folder(subjects, data),
        extent=Extent(against=others, lacosmic=LACOSMIC in against, runtime=runtime),
        device=where[0],
        engine=where[1],
        jobs=jobs,
        reporter=reporter,
    )


def _record(results: BenchmarkResults) -> list[Path]:
    """Append what was measured of networks of the zoo; gives the files."""
    from deepcr_zoo.bench import operating

    known = default_registry().references()
    ours = [one.name for one in results.methods if one.operating_points and one.name in known]
    return [operating.record(results, reference, files.data_root()) for reference in ours]


def _folder(subjects: list[Subject], data: str | None) -> Path:
    """That of a run that is judged alone on its own data, else one in the current folder."""
    if len(subjects) == 1 and subjects[0].run is not None and data is None:
        return subjects[0].run.folder
    return Path("bench", subjects[0].reference.replace("/", "-") if len(subjects) == 1 else f"{len(subjects)}-models")


def print_results(results: BenchmarkResults) -> None:
    """The figures, what every gate says, and who was left out."""
    from deepcr_zoo.bench.measures.summary import figure_text, rows

    found = rows(results)
    shown = table("field type", "method", *found[0].figures)
    for row in found:
        shown.add_row(row.field_type, row.method, *map(figure_text, row.figures.items()))
    output.print(shown)
    for verdict in results.verdicts:
        output.print(f"{verdict.reference}: {'passes its gates' if verdict.passes else 'FAILS'}")
        print_gates(verdict)
    for one in results.excluded:
        message("left out", f"{one.reference}: {one.reason}", "caution")
    for caution in results.cautions:
        message("caution", caution, "caution")


def print_gates(verdict: ModelVerdict) -> None:
    """What every gate of a model says."""
    gates = table("gate", "field type", "measured", "bound", "verdict")
    for gate in verdict.gates:
        gates.add_row(gate.gate, gate.field_type or "", gate.measured, gate.bound, gate.verdict)
    output.print(gates)
