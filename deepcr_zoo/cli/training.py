"""The command that trains."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from deepcr_zoo.cli.bench import print_results
from deepcr_zoo.cli.console import TerminalReporter, interruptible, print_json, print_result
from deepcr_zoo.cli.options import AsJson, Settings, default_jobs, this_command
from deepcr_zoo.errors import UsageError
from deepcr_zoo.zoo.recipefiles import find_recipe, read_recipe

if TYPE_CHECKING:
    from deepcr_zoo.bench.runs import Run
    from deepcr_zoo.dataset import Dataset
    from deepcr_zoo.zoo.recipe import Recipe


def train(
    file: Annotated[str | None, Argument(metavar="RECIPE", help="file, or name of a shipped recipe")] = None,
    data: Annotated[
        list[str] | None,
        Option(help="exposures (folder, wildcard, file), mast, a manifest of fetch, or a training set; may be repeated"),
    ] = None,
    rehearse: Annotated[bool, Option("--rehearse", help="simulated visits, short schedule: minutes")] = False,
    resume: Annotated[Path | None, Option(metavar="RUN", help="continue a run where it ended")] = None,
    runs: Annotated[Path, Option(help="folder of all runs")] = Path("runs"),
    device: Annotated[str, Option(help="auto, cpu, cuda or cuda:N")] = "auto",
    jobs: Annotated[int | None, Option(help="processes [default: as processors and memory allow]")] = None,
    prove: Annotated[bool, Option(help="benchmark beside baselines, check gates, write a report")] = True,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Train the model of a recipe: build its training set if it is absent, train, benchmark on the test visits.

    Prints the path of the run, a folder with the recipe, the environment, the metrics of each epoch, the last checkpoint,
    the model with a draft of its card, its results and pictures. Ctrl-C and SIGTERM save and stop (exit code 130), and
    --resume continues. Several processes: torchrun --nproc-per-node N -m deepcr_zoo train ...
    """
    from deepcr_zoo.training import pipeline
    from deepcr_zoo.training.distributed import is_writer

    jobs = default_jobs() if jobs is None else jobs
    with interruptible("finished work stays: the same command continues, or --resume RUN"):
        if resume is not None:
            recipe, dataset = _resumed(resume, file, data or [], rehearse, settings or [])
            run = pipeline.resume(
                resume, recipe=recipe, dataset=dataset, device=device, jobs=jobs, prove=prove, reporter=TerminalReporter()
            )
        elif file is None:
            raise UsageError("expected a RECIPE, or --resume RUN")
        else:
            run = pipeline.train(
                file,
                data=data or [],
                rehearse=rehearse,
                runs=runs,
                device=device,
                jobs=jobs,
                settings=settings or [],
                prove=prove,
                command=this_command(),
                reporter=TerminalReporter(),
            )
    if is_writer():
        _print_run(run, as_json)


def _resumed(
    folder: Path, file: str | None, data: list[str], rehearse: bool, settings: list[str]
) -> tuple[Recipe | None, Dataset | None]:
    """Return the recipe and the training set to resume a run with, if they were given; refuse what would change it."""
    from deepcr_zoo.bench.runs import Run
    from deepcr_zoo.dataset import trainingsets

    if settings and file is None:
        raise UsageError("--resume goes on with the recipe of the run: leave out --set")
    moved = trainingsets.find_built(data)
    if data and moved is None:
        raise UsageError("--resume goes on with the training set of the run: leave out --data, or name where it is now")
    if rehearse and not Run.open(folder).facts.rehearsal:
        raise UsageError("--resume goes on with the schedule of the run, which is no rehearsal: leave out --rehearse")
    return None if file is None else read_recipe(find_recipe(file), settings), moved


def _print_run(run: Run, as_json: bool) -> None:
    """Print the evaluation and the path of a run."""
    results = run.results() if run.is_evaluated else None
    if as_json:
        results_json = None if results is None else results.model_dump(mode="json")
        print_json({"run": str(run.folder), "facts": run.facts.model_dump(mode="json"), "results": results_json})
        return
    if results is not None:
        print_results(results)
    print_result(run.folder)
