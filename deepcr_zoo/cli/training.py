"""The command that trains."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deepcr_zoo import batch
from deepcr_zoo.cli.bench import print_results
from deepcr_zoo.cli.console import TerminalReporter, message, print_json
from deepcr_zoo.cli.datasets import AsJson, Settings, default_jobs
from deepcr_zoo.errors import UsageError
from deepcr_zoo.zoo.recipefiles import find_recipe, read_recipe

if TYPE_CHECKING:
    from deepcr_zoo.bench.runs import Run


def train(
    file: Annotated[
        str | None,
        typer.Argument(metavar="RECIPE", help="a file, or the name of a shipped recipe; not needed with --resume"),
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(
            help="exposures: folder, wildcard or file, may be given several times; mast: from the archive; a "
            "manifest of fetch; or a built training set"
        ),
    ] = None,
    rehearse: Annotated[
        bool, typer.Option("--rehearse", help="simulated visits and a short schedule: the whole way in minutes")
    ] = False,
    resume: Annotated[Path | None, typer.Option(metavar="RUN", help="go on with a run where it ended")] = None,
    runs: Annotated[Path, typer.Option(help="folder of all runs")] = Path("runs"),
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N")] = "auto",
    jobs: Annotated[
        int | None,
        typer.Option(help="processes that label and run L.A.Cosmic [default: as processors and memory allow]"),
    ] = None,
    prove: Annotated[
        bool, typer.Option(help="judge it beside baselines, hold it against its gates, write a report; else judge it alone")
    ] = True,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Train the model of a recipe: build its training set if it is not there, train, prove it on the test visits.

    Prints the path of the run, a folder that holds the recipe, the environment, the metrics of each epoch, the last
    checkpoint, the model with the draft of its card, its results and pictures. Ctrl-C and SIGTERM save and stop (exit code
    130): --resume goes on. Several processes: torchrun --nproc-per-node N -m deepcr_zoo train ...
    """
    from deepcr_zoo.training.distributed import is_writer

    workers = default_jobs() if jobs is None else jobs
    try:
        run = (
            _train(file, data or [], rehearse, runs, device, workers, settings or [], prove)
            if resume is None
            else _resume(resume, file, data or [], rehearse, device, workers, settings or [], prove)
        )
    except KeyboardInterrupt:
        message("interrupted", "what is finished stays: the same command goes on, or --resume RUN", "error")
        raise typer.Exit(batch.INTERRUPTED) from None
    if is_writer():
        _print(run, as_json)


def _train(
    file: str | None,
    data: list[str],
    rehearse: bool,
    runs: Path,
    device: str,
    jobs: int,
    settings: list[str],
    prove: bool,
) -> Run:
    from deepcr_zoo.training import pipeline

    if file is None:
        raise UsageError("expected a RECIPE, or --resume RUN")
    return pipeline.train(
        file,
        data=data,
        rehearse=rehearse,
        runs=runs,
        device=device,
        jobs=jobs,
        settings=settings,
        prove=prove,
        command=shlex.join(["deepcr-zoo", *sys.argv[1:]]),
        reporter=TerminalReporter(),
    )


def _resume(
    folder: Path,
    file: str | None,
    data: list[str],
    rehearse: bool,
    device: str,
    jobs: int,
    settings: list[str],
    prove: bool,
) -> Run:
    from deepcr_zoo.bench.runs import Run
    from deepcr_zoo.dataset import trainingsets
    from deepcr_zoo.training import pipeline

    if settings and file is None:
        raise UsageError("--resume goes on with the recipe of the run: leave out --set")
    moved = trainingsets.find_built(data)
    if data and moved is None:
        raise UsageError("--resume goes on with the training set of the run: leave out --data, or name where it is now")
    if rehearse and not Run.open(folder).facts.rehearsal:
        raise UsageError("--resume goes on with the schedule of the run, which is no rehearsal: leave out --rehearse")
    recipe = None if file is None else read_recipe(find_recipe(file), settings)
    return pipeline.resume(
        folder, recipe=recipe, dataset=moved, device=device, jobs=jobs, prove=prove, reporter=TerminalReporter()
    )


def _print(run: Run, as_json: bool) -> None:
    """The evaluation, and where everything is."""
    results = run.results() if run.is_evaluated else None
    if as_json:
        results_json = None if results is None else results.model_dump(mode="json")
        print_json({"run": str(run.folder), "facts": run.facts.model_dump(mode="json"), "results": results_json})
        return
    if results is not None:
        print_results(results)
    typer.echo(str(run.folder))
