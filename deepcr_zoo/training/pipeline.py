"""A whole recipe: training set, training and evaluation, in a run folder that holds everything."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import safetensors.torch
import torch

from deepcr_zoo import machine
from deepcr_zoo.bench.runs import Run
from deepcr_zoo.dataset.reading import Dataset
from deepcr_zoo.dataset.trainingsets import find_or_build
from deepcr_zoo.errors import (
    COUNT,
    PATH,
    SEVERAL,
    SWITCH,
    TEXT,
    DatasetError,
    DeviceError,
    Kind,
    RunError,
    StoppedError,
    TrainingError,
    UsageError,
    command,
    with_kinds,
)
from deepcr_zoo.files import locked, refuse_exchanged, sweep_leftovers, write_atomically
from deepcr_zoo.models.isolation import isolated_training
from deepcr_zoo.models.model import select_device
from deepcr_zoo.progress import NullReporter, Reporter
from deepcr_zoo.training import checkpoints
from deepcr_zoo.training.distributed import Ranks, joined
from deepcr_zoo.training.finalize import finalize
from deepcr_zoo.training.interruption import noting_signals
from deepcr_zoo.training.loop import LossIsNotFiniteError, batch_size, fit
from deepcr_zoo.training.objectives import Feed
from deepcr_zoo.training.runs import add_environment, check_inherited, current_environment, new_run, write_metrics
from deepcr_zoo.training.stamps import open_stamps
from deepcr_zoo.training.state import TrainingState, initial_state, teacher_of
from deepcr_zoo.zoo.recipe import Recipe
from deepcr_zoo.zoo.recipefiles import find_recipe, read_recipe

RUNS = Path("runs")
BAD_BATCH_FILE = "not-finite.safetensors"
_OF_ARRAYS = (
    "for images and masks in arrays, deepcr_zoo.training.compat.train has the signature of deepCR's, and "
    "deepcr_zoo.dataset.training_set makes a training set"
)
Feeds = tuple[Feed, Feed]  # for training and for validation


_KINDS: dict[str, Kind] = {
    "recipe": ((Recipe, str, os.PathLike, type(None)), "a recipe, its file or name"),
    "dataset": ((Dataset, type(None)), "a training set, as `dataset.build_dataset` returns it"),
    **dict.fromkeys(("data", "settings"), SEVERAL),
    **dict.fromkeys(("runs", "folder"), PATH),
    **dict.fromkeys(("rehearse", "prove"), SWITCH),
    **dict.fromkeys(("device", "command"), TEXT),
    "jobs": COUNT,
}


@with_kinds(_KINDS | {"recipe": ((Recipe, str, os.PathLike), "a recipe, its file or name")}, _OF_ARRAYS)
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
    """Train the model of a recipe and evaluate it; its training set is built first if it is not there.

    Parameters
    ----------
    recipe : Recipe or path-like
        A recipe, its file, or the name of a shipped one.
    data : sequence of path-like
        Folders, wildcards and files with exposures, besides those that the recipe names; ``mast`` for the
        archive, or a manifest of it.
    dataset : Dataset, optional
        A training set of this recipe that is built already.
    rehearse : bool
        Use simulated exposures in place of the data, and the schedule of the recipe's rehearsal.
    runs : path-like
        Folder of all runs; the new run gets its own folder in it.
    device : str
        As for `deepcr_zoo.load`; of several processes each takes the CUDA device with its own number.
    jobs : int
        Number of visits to label at a time. With more than one, a script needs ``if __name__ == "__main__":``.
    settings : sequence of str
        Overrides of a recipe that is read from a file, ``path.to.field=VALUE``.
    command : str
        Command that the run records as its origin.
    prove : bool
        Compare the model with baselines, check its gates and write a report; else evaluate it alone.
    reporter : Reporter, optional
        Receiver of messages and progress; by default nothing is shown.

    Returns
    -------
    Run

    Raises
    ------
    StoppedError
        If Ctrl-C or SIGTERM stopped it: everything is saved, and `resume` goes on.
    TrainingError
        If there is nothing to train on, ``train.init_from`` or ``teacher`` does not fit, or a loss is not finite.
    DatasetError
        If `dataset` is of another recipe.
    DeepcrZooError
        As `dataset.plans.plan_build` and `label_visits` raise.
    """
    if dataset is not None and (data or rehearse is not dataset.manifest.rehearsal):
        raise UsageError("with a training set: leave out data, and rehearse exactly if it is of a rehearsal")
    if isinstance(recipe, Recipe):
        if settings:
            raise UsageError("settings are for a recipe that is read from a file: expected its path, or none")
        original, beside = recipe, None
    else:
        file = find_recipe(os.fspath(recipe))
        original, beside = read_recipe(file, settings), file.parent
    trained = original.rehearsed if rehearse else original
    target = _training_device(device)
    with joined(target) as ranks, isolated_training(target), ExitStack() as held:
        state = ranks.by_all(lambda: initial_state(trained, target))  # a model that does not fit fails before the long work
        ranks.by_all(lambda: _check_validation(trained))
        ranks.by_all(lambda: batch_size(state, state.schedule.batch_size, ranks))  # as do more processes than stamps
        shown = _writers_reporter(reporter, ranks)
        built = ranks.path_by_writer(
            lambda: (dataset or find_or_build(original, data, rehearse, jobs, beside, shown)).folder.absolute()
        )
        used = ranks.by_all(lambda: dataset or Dataset.open(_shared_folder(built)))
        ranks.by_all(lambda: used.check_recipe(original, rehearse))
        feeds = ranks.by_all(lambda: _feeds(trained, used, state))
        # processes on several machines may have several working folders
        parent = Path(runs) if ranks.count == 1 else Path(runs).absolute()
        made = ranks.path_by_writer(lambda: new_run(trained, used, parent, command).folder)
        run = ranks.by_all(lambda: Run.open(_shared_folder(made)))
        ranks.by_all(lambda: check_inherited(run))  # several machines may have several models of a name
        ranks.by_writer(lambda: _lock(run, held))
        return _fit_and_finalize(run, used, state, feeds, ranks, shown, prove, jobs)


@with_kinds(_KINDS)
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
    """Go on with a run where it ended; on a CPU with as many threads it ends with the same bytes as without a stop.

    Parameters
    ----------
    folder : path-like
        Folder of the run.
    recipe : Recipe, optional
        Recipe that the run must be of.
    dataset : Dataset, optional
        Its training set, if that has moved.
    device, jobs, prove, reporter
        As for `train`.

    Returns
    -------
    Run

    Raises
    ------
    RunError
        If the run is damaged, or of another recipe or training set, or what it started or learns from has other weights.
    InUseError
        If another process trains the run.
    DeepcrZooError
        As for `train`.
    """
    target = _training_device(device)
    with joined(target) as ranks, isolated_training(target), ExitStack() as held:
        run = ranks.by_all(lambda: _open_run(Path(folder), recipe))
        if run.is_finished:
            return run
        ranks.by_all(lambda: check_inherited(run))
        ranks.by_writer(lambda: _lock(run, held))
        ranks.by_writer(
            lambda: sweep_leftovers(run.folder.absolute().parent)
        )  # of trainings that were killed at their start
        used = ranks.by_all(lambda: run.dataset(dataset))
        state = ranks.by_all(lambda: initial_state(run.recipe, target))
        feeds = ranks.by_all(lambda: _feeds(run.recipe, used, state))
        return _fit_and_finalize(run, used, state, feeds, ranks, _writers_reporter(reporter, ranks), prove, jobs)


def _lock(run: Run, held: ExitStack) -> None:
    """Keep other processes from training this run until `held` is closed."""
    with checkpoints.reporting_run_failures(run.folder):
        held.enter_context(locked(run.folder, wait=False))


def _check_validation(recipe: Recipe) -> None:
    """Raise `TrainingError` if a recipe sets no stamps aside for validation, which training needs."""
    simulated = recipe.data.simulated
    if simulated is not None and any(one.validation for one in simulated.visits.values()):
        return
    if recipe.build.stamps.validation_fraction == 0:
        raise TrainingError(
            f"{recipe.name}: validation_fraction of the stamps is 0: expected more, training ends by the validation loss"
        )


def _writers_reporter(reporter: Reporter | None, ranks: Ranks) -> Reporter:
    return reporter if reporter is not None and ranks.is_writer else NullReporter()


def _open_run(folder: Path, recipe: Recipe | None) -> Run:
    run = Run.open(folder)
    if recipe is not None and (recipe.rehearsed if run.facts.rehearsal else recipe) != run.recipe:
        advice = "leave the recipe out to go on with it"
        raise RunError(f"{run.folder}: is a run of another recipe, or of other settings: {advice}")
    return run


def _shared_folder(folder: Path) -> Path:
    """Return a folder that another process has made, perhaps on another machine; DatasetError if it is not there."""
    if not folder.is_dir():
        raise DatasetError(
            f"{folder}: is not there on {platform.node()}: expected the same files at the same place on every machine "
            "(a shared file system)"
        )
    return folder


def _feeds(recipe: Recipe, dataset: Dataset, state: TrainingState) -> Feeds:
    dataset.verify()  # before hours of training, also what is read after them
    normalisation = recipe.train.input.normalisation
    train, validation = (open_stamps(dataset, one, state.device, normalisation) for one in ("train", "validation"))
    return Feed(recipe, train, teacher_of(recipe, state.device)), Feed(recipe, validation)


def _fit_and_finalize(
    run: Run, dataset: Dataset, state: TrainingState, feeds: Feeds, ranks: Ranks, reporter: Reporter, prove: bool, jobs: int
) -> Run:
    """Do what is left of a run."""
    if state.device.type == "cpu":
        machine.keep_freed_memory()
    if ranks.in_any(checkpoints.has_checkpoint(run.folder)):
        ranks.by_all(lambda: checkpoints.restore(state, run.folder, run.facts.recipe_sha256))
    elif run.is_trained:
        way_out = f"{command('bench', run.folder)} judges it, a new run trains another"
        raise RunError(f"{run.folder}: was trained, and its checkpoint is gone, from which it would go on: {way_out}")
    ranks.by_writer(lambda: add_environment(run, current_environment(state.device, ranks.count)))
    reporter.message("run", str(run.folder))
    folder = run.folder.resolve()
    known = folder.lstat()

    def save(state: TrainingState) -> None:
        def save_here() -> None:
            refuse_exchanged(folder, known)
            _save(run, state)

        ranks.by_writer(save_here)
        if state.progress.step == 0:
            reporter.epoch(state.progress.history[-1])

    with noting_signals() as stop_requested, reporter.epochs(state.schedule.max_epochs):
        try:
            ended = fit(state, *feeds, ranks=ranks, save=save, on_step=reporter.step, should_stop=stop_requested)
        except LossIsNotFiniteError as error:
            failure = _not_finite(run, error, ranks)
            ranks.wait()
            raise failure from None
    stopped = not ended or ranks.in_any(stop_requested())

    def finish() -> None:
        if stopped:
            raise StoppedError(f"stopped, and saved: {command('train', '--resume', run.folder)} goes on")
        refuse_exchanged(folder, known)
        finalize(run, dataset, state, reporter, proves=prove, jobs=jobs)

    ranks.by_writer(finish)
    return run


def _save(run: Run, state: TrainingState) -> None:
    checkpoints.save(state, run.folder, run.facts.recipe_sha256)
    write_metrics(run, state.progress.history)


def _training_device(name: str) -> torch.device:
    """Return a CPU or a CUDA device; MPS has no float64, the type of the random numbers."""
    device = torch.device(select_device(name))
    if device.type == "mps":
        if name != "auto":
            raise DeviceError(f"device {name!r}: training runs on the CPU or on CUDA devices: expected auto, cpu or cuda")
        return torch.device("cpu")
    if device.type == "cuda" and (rank := os.environ.get("LOCAL_RANK")):
        device = torch.device(select_device(f"cuda:{rank}"))
        torch.cuda.set_device(device)
    return device


def _not_finite(run: Run, error: LossIsNotFiniteError, ranks: Ranks) -> TrainingError:
    """Keep the batch whose loss is not finite, and return the error to raise."""
    advice = "a smaller train.schedule.learning_rate or a train.schedule.gradient_clip may help, in a new run"
    saved = checkpoints.condition(run.folder)
    if error.examples is None:
        return TrainingError(f"{run.folder}: {error}; {saved}; {advice}")
    path = run.folder / (BAD_BATCH_FILE if ranks.is_writer else f"rank{ranks.rank}-{BAD_BATCH_FILE}")
    tensors = {name: tensor.cpu().contiguous() for name, tensor in vars(error.examples).items() if tensor is not None}
    with checkpoints.reporting_run_failures(run.folder):
        write_atomically(safetensors.torch.save(tensors), path)
    return TrainingError(f"{run.folder}: {error}; the batch is in {path.name}, {saved}; {advice}")
