"""The whole recipe in one go: training set, training, evaluation, and a run folder that holds it all."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import safetensors.torch
import torch

from deepcr_zoo import machine
from deepcr_zoo.bench.runs import Run
from deepcr_zoo.dataset.reading import Dataset
from deepcr_zoo.dataset.store import StampSplit
from deepcr_zoo.dataset.trainingsets import find_or_build
from deepcr_zoo.errors import DatasetError, DeviceError, RunError, StoppedError, TrainingError, UsageError
from deepcr_zoo.files import write_atomically
from deepcr_zoo.models.model import select_device
from deepcr_zoo.progress import NullReporter, Reporter
from deepcr_zoo.training import checkpoints, finishing, runs
from deepcr_zoo.training.distributed import Ranks, joined, stop_requested
from deepcr_zoo.training.loop import LossIsNotFiniteError, fit
from deepcr_zoo.training.objectives import Examples, Feed
from deepcr_zoo.training.runs import add_environment, new_run, write_metrics
from deepcr_zoo.training.stamps import open_stamps
from deepcr_zoo.training.state import Training, start
from deepcr_zoo.zoo.recipe import Recipe
from deepcr_zoo.zoo.recipefiles import find_recipe, read_recipe

RUNS = Path("runs")

TRAINED_ON: tuple[StampSplit, StampSplit] = ("train", "validation")

BAD_BATCH_FILE = "not-finite.safetensors"


def train(
    recipe: Recipe | str | os.PathLike[str],
    *,
    data: Sequence[str | Path] = (),
    dataset: Dataset | None = None,
    rehearse: bool = False,
    runs: str | os.PathLike[str] = RUNS,
    device: str = "auto",
    jobs: int = 1,
    settings: Sequence[str] = (),
    command: str = "deepcr_zoo.train",
    prove: bool = True,
    reporter: Reporter | None = None,
) -> Run:
    """Train the model of a recipe: its training set is built if it is not there, then trained on and evaluated.

    Parameters
    ----------
    recipe : Recipe or path-like
        Or the name of a shipped recipe.
    data : sequence of path-like
        Folders, wildcards and files with exposures, besides those that the recipe names; ``mast`` for the
        archive, or a manifest of it.
    dataset : Dataset, optional
        A training set of this recipe that is built already.
    rehearse : bool
        Simulated exposures in the place of the data, and the schedule of the recipe's rehearsal.
    runs : path-like
        Folder of all runs; this one gets a folder of its own in it.
    device : str
        As for `deepcr_zoo.load`; CUDA devices of several processes are theirs by number.
    jobs : int
        Visits that are labelled at a time. With more than one, a script needs ``if __name__ == "__main__":``.
    settings : sequence of str
        Overrides of a recipe that is read from a file, ``path.to.field=VALUE``.
    command : str
        What the run says that made it.
    prove : bool
        Whether the model is judged beside baselines, held against its gates, and gets a report; else it is judged alone.
    reporter : Reporter, optional
        What is told meanwhile; by default nothing is shown.

    Returns
    -------
    Run

    Raises
    ------
    StoppedError
        If Ctrl-C or SIGTERM stopped it: everything is saved, and `resume` goes on.
    TrainingError
        If there is nothing to train on, ``train.init_from`` does not fit, or a loss is not finite.
    DatasetError
        If `dataset` is of another recipe.
    DeepcrZooError
        As `dataset.plans.plan_build` and `label_visits` raise.
    """
    reporter = reporter or NullReporter()
    if dataset is not None and (data or rehearse is not dataset.manifest.rehearsal):
        raise UsageError("with a training set: leave out data, and rehearse exactly if it is of a rehearsal")
    if isinstance(recipe, Recipe) and settings:
        raise UsageError("settings are for a recipe that is read from a file: expected its path, or none")
    read = recipe if isinstance(recipe, Recipe) else _read(recipe, settings)
    beside = None if isinstance(recipe, Recipe) else find_recipe(os.fspath(recipe)).parent
    trained = read.rehearsed if rehearse else read
    target = _device(device)
    with joined(target) as ranks:
        training = ranks.by_all(lambda: start(trained, target))  # what does not fit is told before the long work
        reporter = reporter if ranks.is_writer else NullReporter()
        folder = Path(
            ranks.by_writer(
                lambda: str((dataset or find_or_build(read, data, rehearse, jobs, beside, reporter)).folder.absolute())
            )
        )
        used = ranks.by_all(lambda: dataset or Dataset.open(_seen(folder)))
        ranks.by_all(lambda: used.check_recipe(read, rehearse))
        feeds = ranks.by_all(lambda: _feeds(trained, used, training))
        # processes on several machines may have several working folders
        place = Path(runs) if ranks.count == 1 else Path(runs).absolute()
        made = Path(ranks.by_writer(lambda: str(new_run(trained, used, place, command).folder)))
        run = ranks.by_all(lambda: Run.open(_seen(made)))
        return _finish(run, used, training, feeds, ranks, reporter, prove, jobs)


def resume(
    folder: str | os.PathLike[str],
    *,
    recipe: Recipe | None = None,
    dataset: Dataset | None = None,
    device: str = "auto",
    jobs: int = 1,
    prove: bool = True,
    reporter: Reporter | None = None,
) -> Run:
    """Go on with a run where it ended; on a CPU with as many threads, it ends with the bytes of one that never stopped.

    Parameters
    ----------
    folder : path-like
        Of the run.
    recipe : Recipe, optional
        That the run must be of.
    dataset : Dataset, optional
        Its training set, if that has moved.
    device, jobs, prove, reporter
        As for `train`.

    Raises
    ------
    RunError
        If the run is damaged, or of another recipe or training set.
    DeepcrZooError
        As for `train`.
    """
    target = _device(device)
    with joined(target) as ranks:
        run = ranks.by_all(lambda: _run_of(Path(folder), recipe))
        if run.is_finished:
            return run
        used = ranks.by_all(lambda: run.dataset(dataset))
        training = ranks.by_all(lambda: start(run.recipe, target))
        feeds = ranks.by_all(lambda: _feeds(run.recipe, used, training))
        reporter = (reporter or NullReporter()) if ranks.is_writer else NullReporter()
        return _finish(run, used, training, feeds, ranks, reporter, prove, jobs)


def _run_of(folder: Path, recipe: Recipe | None) -> Run:
    run = Run.open(folder)
    if recipe is not None and (recipe.rehearsed if run.facts.rehearsal else recipe) != run.recipe:
        raise RunError(
            f"{run.folder}: is a run of another recipe, or of other settings: leave the recipe out to go on with it"
        )
    return run


def _seen(folder: Path) -> Path:
    """A folder that another process has made, perhaps on another machine."""
    if not folder.is_dir():
        raise DatasetError(
            f"{folder}: is not there on {platform.node()}: expected the same files at the same place on every machine "
            "(a shared file system)"
        )
    return folder


def _feeds(recipe: Recipe, dataset: Dataset, training: Training) -> tuple[Feed, Feed]:
    """Examples for training and for validation."""
    train, validation = (open_stamps(dataset, split, training.device) for split in TRAINED_ON)
    return Feed(recipe, train), Feed(recipe, validation)


def _finish(
    run: Run,
    dataset: Dataset,
    training: Training,
    feeds: tuple[Feed, Feed],
    ranks: Ranks,
    reporter: Reporter,
    prove: bool,
    jobs: int,
) -> Run:
    """Do what is left of a run."""
    if training.device.type == "cpu":
        machine.keep_freed_memory()
    if ranks.total(float(checkpoints.is_there(run.folder)))[0] > 0:
        ranks.by_all(lambda: checkpoints.restore(training, run.folder, run.facts.recipe_sha256))
    ranks.by_writer(lambda: _begin(run, training, ranks, reporter))

    def save(state: Training) -> None:
        ranks.by_writer(lambda: _save(run, state))
        if state.progress.step == 0:
            reporter.epoch(state.progress.history[-1])

    with stop_requested() as stop, reporter.epochs(training.schedule.max_epochs):
        try:
            ended = fit(training, *feeds, ranks=ranks, save=save, on_step=reporter.step, should_stop=stop)
        except LossIsNotFiniteError as error:
            failure = _not_finite(run, error, ranks)
            ranks.wait()
            raise failure from None
    if not ended or ranks.total(float(stop()))[0] > 0:
        ranks.by_writer(lambda: _stopped(run))
    ranks.by_writer(lambda: finishing.write(run, dataset, training, reporter, whole=prove, jobs=jobs))
    return run


def _begin(run: Run, training: Training, ranks: Ranks, reporter: Reporter) -> str:
    add_environment(run, runs.describe(training.device, ranks.count))
    reporter.message("run", str(run.folder))
    return ""


def _save(run: Run, training: Training) -> str:
    checkpoints.save(training, run.folder, run.facts.recipe_sha256)
    write_metrics(run, training.progress.history)
    return ""


def _stopped(run: Run) -> NoReturn:
    raise StoppedError(f"stopped, and saved: deepcr-zoo train --resume {run.folder} goes on")


def _read(recipe: str | os.PathLike[str], settings: Sequence[str]) -> Recipe:
    return read_recipe(find_recipe(os.fspath(recipe)), settings)


def _device(name: str) -> torch.device:
    """A CPU or a CUDA device; MPS has no float64, which random numbers are drawn in."""
    device = select_device(name)
    if device.type == "mps":
        if name != "auto":
            raise DeviceError(f"device {name!r}: training runs on the CPU or on CUDA devices: expected auto, cpu or cuda")
        return torch.device("cpu")
    if device.type == "cuda" and (rank := os.environ.get("LOCAL_RANK")):
        device = select_device(f"cuda:{rank}")
        torch.cuda.set_device(device)
    return device


def _not_finite(run: Run, error: LossIsNotFiniteError, ranks: Ranks) -> TrainingError:
    """Keep the batch, and say what happened."""
    way_out = "a smaller train.schedule.learning_rate or a train.schedule.gradient_clip may help, in a new run"
    if error.examples is None:
        return TrainingError(f"{run.folder}: {error}; its last checkpoint is intact; {way_out}")
    path = run.folder / (BAD_BATCH_FILE if ranks.is_writer else f"rank{ranks.rank}-{BAD_BATCH_FILE}")
    with checkpoints.failure_is_told(run.folder):
        write_atomically(_batch_bytes(error.examples), path)
    return TrainingError(f"{run.folder}: {error}; the batch is in {path.name}, the last checkpoint is intact; {way_out}")


def _batch_bytes(examples: Examples) -> bytes:
    tensors = {"input": examples.input, "target": examples.target, "counted": examples.counted}
    return safetensors.torch.save({name: tensor.cpu().contiguous() for name, tensor in tensors.items()})
