"""The names of the deepCR package for training and evaluation, so that an existing script only changes its import.

from deepcr_zoo.training.compat import deepCR, train, roc, roc_lacosmic    # was: from deepCR import ...
"""

from __future__ import annotations

import datetime
import io
import os
import re
from itertools import count
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import safetensors.torch
import torch

from deepcr_zoo.bench.compat import require_arrays, roc, roc_lacosmic
from deepcr_zoo.bench.runs import Run
from deepcr_zoo.dataset.arrayrecipes import arrays_recipe
from deepcr_zoo.dataset.arrays import training_set
from deepcr_zoo.errors import COUNT, PATH, TEXT, AbsentAttributeError, Kind, UsageError, check_kinds
from deepcr_zoo.files import read_file, reporting_failures, write_new
from deepcr_zoo.models.compat import deepCR
from deepcr_zoo.models.images import read_image
from deepcr_zoo.models.upstream import upstream_state
from deepcr_zoo.training import pipeline
from deepcr_zoo.zoo.recipe import Recipe
from deepcr_zoo.zoo.registry import WEIGHTS_FILE

__all__ = ["deepCR", "roc", "roc_lacosmic", "train"]

_VALIDATION = 0.1  # upstream's share of the images, the last ones
_FIRST_PHASE = 0.4  # upstream's share of the epochs before BatchNorm is frozen
_IMPROVEMENT = 0.005  # upstream's threshold of the schedule
_ADVICE = "name another directory"
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")
_KINDS: dict[str, Kind] = {"directory": PATH, "name": TEXT, "epoch": COUNT}


class train:  # noqa: N801 - upstream's name
    """The training of a mask network on arrays, behind upstream's interface (deepCR 0.3.1).

    Differences from upstream: images are divided by one number, their standard deviation, which `save` folds into the
    weights, where upstream standardises each batch and `clean` does not; ignored pixels count neither in the loss nor in its
    mean; the best epoch is kept; a run's folder in `directory` holds card, metrics and pictures. `plot_every`,
    `save_after`, `verbose`, the progress bars and arguments of mode simulate have no effect.
    """

    def __init__(
        self,
        image: Any,
        mask: Any = None,
        ignore: Any = None,
        sky: Any = None,
        mode: str = "pair",
        aug_sky: Any = (0, 0),
        aug_img: Any = (1, 1),
        noise: bool = False,
        saturation: float = 1e5,
        n_mask_train: int = 1,
        n_mask_val: int = 1,
        norm: bool = False,
        percentile_limit: float = 50,
        name: str = "model",
        hidden: int = 32,
        epoch: int = 50,
        epoch_phase0: int | None = None,
        batch_size: int = 16,
        lr: float = 0.005,
        auto_lr_decay: bool = True,
        lr_decay_patience: int = 4,
        lr_decay_factor: float = 0.1,
        save_after: float = 1e5,
        plot_every: int = 10,
        verbose: bool = True,
        use_tqdm: bool = False,
        use_tqdm_notebook: bool = False,
        directory: str = "./",
    ) -> None:
        if mode != "pair":
            raise UsageError(f"mode {mode!r}: expected 'pair'; labels dark_paste of a recipe replace 'simulate'")
        require_arrays(image, mask)
        check_kinds({"directory": directory, "name": name, "epoch": epoch}, _KINDS)
        if not _NAME.fullmatch(name):
            raise UsageError(f"name is {name!r}: expected letters, digits, '.', '_' and '-', as it becomes part of a file's")
        aug = _pair(aug_sky)
        if sky is None and any(aug):
            raise UsageError("aug_sky: expected sky too, the sky level of each image")
        self._arrays = {"images": image, "masks": mask, "ignore": ignore, "sky": sky}
        self._directory, self._name = Path(directory), name
        schedule = {
            "learning_rate": lr,
            "batch_size": batch_size,
            "max_epochs": epoch,
            "freeze_after_epochs": int(epoch * _FIRST_PHASE + 0.5) if epoch_phase0 is None else epoch_phase0,
            "decay_factor": lr_decay_factor,
            "decay_patience_epochs": lr_decay_patience if auto_lr_decay else epoch + 1,
            "decay_min_improvement": _IMPROVEMENT,
            "stop_after_decays": epoch,  # it ends after all epochs
        }
        self._recipe = _recipe(image, hidden, schedule, aug if any(aug) else None)
        self._run: Run | None = None

    def __getattr__(self, name: str) -> NoReturn:
        raise AbsentAttributeError(
            f"{type(self).__name__!r} object has no attribute {name!r}: expected train, save, run, epoch_mask or "
            "validation_loss; deepcr_zoo.resume(trainer.run.folder) goes on with a training that was stopped"
        )

    @property
    def run(self) -> Run:
        """The run, with its folder, once `train` was called."""
        if self._run is None:
            raise UsageError("nothing is trained yet: call train() first")
        return self._run

    @property
    def epoch_mask(self) -> int:
        """Number of epochs of training."""
        return 0 if self._run is None else len(self._run.history())

    @property
    def validation_loss(self) -> list[float]:
        """Validation loss of each epoch."""
        return [] if self._run is None else [one.validation_loss for one in self._run.history()]

    def train(self) -> None:
        """Train the network; the run lies in a folder of its own in `directory`."""
        dataset = training_set(self._recipe, **self._arrays, test_fraction=0.0)
        command = "deepcr_zoo.training.compat.train"
        self._run = pipeline.train(self._recipe, dataset=dataset, runs=self._directory, command=command, prove=False)

    def save(self) -> str:
        """Write the network as upstream does, DATE_NAME_epochN.pth in `directory`, and return the name without .pth.

        Where that is a file with other weights it takes the next free name, DATE_NAME_epochN_2 and so on.
        """
        run = self.run
        filename = f"{datetime.datetime.now().astimezone().date()}_{self._name}_epoch{self.epoch_mask}"
        # sorted, as it comes in any order, and equal weights are to give equal bytes
        state = dict(sorted(safetensors.torch.load(read_file(run.folder / WEIGHTS_FILE)).items()))
        block, content = run.recipe.train, io.BytesIO()
        torch.save(upstream_state(block.architecture, state, block.input.scale), content)
        with reporting_failures(self._directory / f"{filename}.pth", _ADVICE):
            return _write_numbered(content.getvalue(), self._directory, filename)


def _write_numbered(data: bytes, directory: Path, filename: str) -> str:
    """Write a .pth file under the first of its names that is free, or holds the same bytes already; return that name."""
    for number in count(1):
        name = filename if number == 1 else f"{filename}_{number}"
        path = directory / f"{name}.pth"
        try:
            write_new(data, path)
        except FileExistsError:
            if not os.path.lexists(path):  # the folder is a file
                raise
            if not _holds(path, data):
                continue
        return name
    raise AssertionError  # there are numbers enough


def _holds(path: Path, data: bytes) -> bool:
    try:
        return read_file(path, len(data)) == data
    except OSError:
        return False


def _pair(aug_sky: Any) -> list[float]:
    """Return the bounds of the added sky, as two numbers."""
    try:
        low, high = map(float, aug_sky)
    except (TypeError, ValueError):
        raise UsageError(f"aug_sky is {aug_sky!r}: expected two numbers, as in (-0.9, 3)") from None
    return [low, high]


def _recipe(image: Any, hidden: int, schedule: dict[str, Any], sky: list[float] | None) -> Recipe:
    schedule = {key: value.item() if isinstance(value, np.generic) else value for key, value in schedule.items()}
    channels = hidden.item() if isinstance(hidden, np.generic) else hidden
    stack = read_image(image, "electron")
    pixels = stack.pixels if stack.valid is None else stack.pixels[stack.valid]
    spread = float(np.std(pixels, dtype=np.float64)) if pixels.size else 0.0
    settings = {
        "architecture": {"depth": 2, "hidden": channels, "norm": "batch"},
        "input": {"scale": float(f"{spread:.3g}") or 1.0},
        "schedule": schedule,
        "augmentation": {"sky": sky},
    }
    return arrays_recipe(
        f"deepCR-arrays-2-{channels}", stack.pixels.shape[1:], train=settings, validation_fraction=_VALIDATION
    )
