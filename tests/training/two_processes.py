"""What each of several processes does in `test_distributed`; run by torch.distributed.run with two folders."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from deepcr_zoo.dataset.reading import Dataset
from deepcr_zoo.errors import DeepcrZooError, StoppedError, TrainingError
from deepcr_zoo.training.distributed import Ranks, joined, run_and_exit
from deepcr_zoo.training.loop import LossIsNotFiniteError, fit
from deepcr_zoo.training.stamps import MappedStamps, ResidentStamps
from deepcr_zoo.training.state import TrainingState
from tests.training.stamps import CPU, feeds, is_statistic, new_training, recipe_of, weights

VARIED = ("train.augmentation.flips=true", "train.augmentation.shot_noise=true")


def statistics(training: TrainingState) -> dict[str, Tensor]:
    """The running statistics of a network."""
    return {name: tensor for name, tensor in weights(training.network).items() if is_statistic(name)}


def second_phase(task: str, dataset: Dataset, ranks: Ranks) -> tuple[TrainingState, list[float]]:
    """Train with frozen statistics; gives the mean losses at each step as well."""
    # masks from files, the last batch of validation of which has one stamp: none is left for the second process
    training, losses = new_training(recipe_of(task, *VARIED), frozen=True), []
    kind = MappedStamps if task == "mask" else ResidentStamps
    train, validation = feeds(training.recipe, dataset, kind)
    fit(training, train, validation, ranks=ranks, on_step=lambda step: losses.append(step.loss))
    return training, losses


def _first_phase(dataset: Dataset, ranks: Ranks, out: Path) -> None:
    """Running statistics at the end of each epoch, before they are averaged and after."""
    training = new_training(recipe_of("mask", "train.schedule.max_epochs=2"))
    last: dict[str, Tensor] = {}

    def keep(training: TrainingState) -> None:
        epoch = training.progress.epoch
        save_file(last, out / f"own-{ranks.rank}-{epoch}.safetensors")
        save_file(statistics(training), out / f"averaged-{ranks.rank}-{epoch}.safetensors")

    fit(
        training,
        *feeds(training.recipe, dataset),
        ranks=ranks,
        on_step=lambda step: last.update(statistics(training)),
        save=keep,
    )
    save_file({name: tensor.contiguous() for name, tensor in weights(training.network).items()}, out / f"first-{ranks.rank}")


def _stopped(dataset: Dataset, ranks: Ranks) -> list[int | bool]:
    """Only the second process asks to stop, at its fifth step."""
    training, asked = new_training(recipe_of("mask")), iter(range(1, 100))
    done = fit(
        training,
        *feeds(training.recipe, dataset),
        ranks=ranks,
        should_stop=lambda: next(asked) >= 5 and ranks.rank == 1,
    )
    return [training.progress.epoch, training.progress.step, done]


def _spoilt(dataset: Dataset, ranks: Ranks) -> str:
    """A loss that is not finite, in one process alone."""
    training = new_training(recipe_of("mask"))
    train, validation = feeds(training.recipe, dataset)
    if ranks.rank == 1:
        train.source._image.fill_(math.nan)
    try:
        fit(training, train, validation, ranks=ranks)
    except LossIsNotFiniteError as error:
        return str(error)
    return "finite"


def _outcome(work: Callable[[], None]) -> str | int:
    """Give the name of the user's error that some work ends with, or the exit code."""
    try:
        work()
    except DeepcrZooError as error:
        return type(error).__name__
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def _fail(error: DeepcrZooError, fails: bool = True) -> None:
    if fails:
        raise error


def main(dataset: Dataset, out: Path) -> None:
    torch.set_num_threads(1)
    with joined(CPU) as ranks:
        trained = {task: second_phase(task, dataset, ranks) for task in ("mask", "inpaint")}
        _first_phase(dataset, ranks, out)
        for task, (training, _) in trained.items():
            own = {name: tensor.contiguous() for name, tensor in weights(training.network).items()}
            save_file(own, out / f"{task}-{ranks.rank}")
        found = {
            "losses": {task: losses for task, (_, losses) in trained.items()},
            "validation": {
                task: [record.validation_loss for record in training.progress.history]
                for task, (training, _) in trained.items()
            },
            "stopped": _stopped(dataset, ranks),
            "spoilt": _spoilt(dataset, ranks),
            "by_writer": _outcome(lambda: ranks.by_writer(lambda: _fail(StoppedError("stopped")))),
            "by_all": _outcome(lambda: ranks.by_all(lambda: _fail(TrainingError("failed"), fails=ranks.rank == 1))),
            "path": str(ranks.path_by_writer(lambda: Path(f"/runs/übung-{ranks.rank}"))),
            "agreed": ranks.agreed(f"runs/übung\udcff-{ranks.rank}"),
            "writer": ranks.is_writer,
            "total": ranks.total(ranks.rank + 1.0, 10.0),
        }
        ranks.wait()
        (out / f"{ranks.rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    run_and_exit(lambda: main(Dataset.open(Path(sys.argv[1])), Path(sys.argv[2])))
