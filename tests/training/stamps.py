"""Made-up stamps with bright cosmic rays, written as a training set; recipes of tiny networks that learn from them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from deepcr_zoo.dataset.reading import Dataset
from deepcr_zoo.dataset.store import (
    MANIFEST_FILE,
    DatasetVisit,
    ExposureRecord,
    Home,
    Manifest,
    StampSplit,
    VisitRecord,
    recipe_key,
    write_document,
    write_tensors,
)
from deepcr_zoo.models.nets import UNet
from deepcr_zoo.training.checkpoints import CHECKPOINT_FILE, Checkpoint
from deepcr_zoo.training.objectives import Feed
from deepcr_zoo.training.stamps import MappedStamps, ResidentStamps, StampSource
from deepcr_zoo.training.state import TrainingProgress, TrainingState, initial_state
from deepcr_zoo.zoo.recipe import Recipe
from deepcr_zoo.zoo.recipefiles import find_recipe, read_recipe
from tests.bench.stamps import placed

CPU = torch.device("cpu")
SIDE = 32
SKY_ELECTRON = (60.0, 110.0)
"""Of the two exposures."""

Tensors = dict[str, np.ndarray]
Source = type[ResidentStamps] | type[MappedStamps]

BY_NOISE = ("train.input.unit=any", "train.input.scale=1", "train.input.normalization=noise")
"""Settings of a network for any unit."""


def recipe_of(task: str, *settings: str) -> Recipe:
    """A shipped recipe with a network of two channels and a schedule of a few epochs, judged against labels alone."""
    name = {"mask": "acs-wfc-f606w-2-4", "inpaint": "acs-wfc-f606w-inpaint-2-32"}[task]
    small = ("architecture.hidden=2", "schedule.batch_size=8", "schedule.max_epochs=4", "schedule.freeze_after_epochs=2")
    return read_recipe(find_recipe(name), ["benchmark.truth=null", *(f"train.{one}" for one in small), *settings])


def made_up(count: int, sky_electron: float, seed: int) -> Tensors:
    """Sky with its noise, stars, cosmic rays that are straight lines, and a few ignored pixels."""
    random = np.random.default_rng(seed)
    image = random.normal(sky_electron, np.sqrt(sky_electron), (count, SIDE, SIDE))
    rows, columns = np.mgrid[:SIDE, :SIDE]
    cosmic_rays = np.zeros(image.shape, np.uint8)
    for stamp, mask in zip(image, cosmic_rays, strict=True):
        row, column = random.uniform(0, SIDE, 2)
        stamp += 3000 * np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / 4)
        for _ in range(3):
            start, angle = random.uniform(4, SIDE - 4, 2), random.uniform(0, 2 * np.pi)
            path = start + np.outer(np.arange(8), [np.sin(angle), np.cos(angle)])
            mask[tuple(np.clip(path.round().astype(int), 0, SIDE - 1).T)] = 1
        stamp += mask * random.uniform(500, 4000)
    ignore = random.random(image.shape) < 0.02
    masks = {"cosmic_rays": cosmic_rays, "ignore": ignore.astype(np.uint8)}
    return {"image": image.astype(np.float32), **masks, **placed(count, SIDE)}


def write_dataset(
    folder: Path,
    train: int = 24,
    validation: int = 9,
    change: Callable[[int, Tensors], None] = lambda exposure, tensors: None,
    test: int = 0,
    recipe: Recipe | None = None,
) -> Dataset:
    """A training set of a visit with two exposures, the first stamp of each of which is a guard.

    Parameters
    ----------
    folder : Path
    train, validation : int
        Stamps of each split, of both exposures together.
    change : callable
        Is given the number of each exposure of that visit and its tensors, to change them.
    test : int
        Stamps of both exposures of another visit.
    recipe : Recipe, optional
        Whose training set it shall be.
    """
    home = Home(folder)
    visits = [write_visit(home, "made-up", {"guard": 2, "validation": validation, "train": train}, change)]
    visits += [write_visit(home, "for-testing", {"test": test}, first=len(SKY_ELECTRON))] if test else []
    manifest = Manifest(
        name="made-up",
        key="made-up",
        rehearsal=False,
        recipe_key="made-up" if recipe is None else recipe_key(recipe, False),
        stamp_size=SIDE,
        counts={"extragalactic": {"train": train, "validation": validation, "test": test, "guard": 2}},
        visits=visits,
        rejected=[],
        missing=[],
    )
    made = home.dataset("made-up", "made-up")
    made.mkdir(parents=True)
    write_document(made / MANIFEST_FILE, manifest)
    return Dataset.open(made)


def write_visit(
    home: Home,
    key: str,
    counts: dict[StampSplit, int],
    change: Callable[[int, Tensors], None] = lambda exposure, tensors: None,
    first: int = 0,
) -> DatasetVisit:
    """A visit of two exposures with so many stamps of each split, of both together; exposures are numbered from `first`."""
    home.visit(key).mkdir(parents=True)
    exposures, stamps = [], []
    for place, sky in enumerate(SKY_ELECTRON):
        number = first + place
        here = {split: len(range(place, total, 2)) for split, total in counts.items()}
        starts = np.cumsum([0, *here.values()]).tolist()
        tensors = made_up(starts[-1], sky, seed=number)
        change(number, tensors)
        exposures.append(
            ExposureRecord(
                name=f"exposure-{number}",
                stamps=write_tensors(home.visit(key) / f"exposure-{number}.safetensors", tensors, {}),
                count=starts[-1],
                exposure_time_s=500.0,
                sky_electron=sky,
                sky_source="measured",
                background_ratio=1.0,
                cosmic_ray_fraction=0.02,
                cosmic_rays_per_cm2_s=1.0,
                rate_ratio=1.0,
                star_excess=None,
                ignored_fraction=0.02,
            )
        )
        indices = {split: list(range(start, stop)) for split, start, stop in zip(here, starts[:-1], starts[1:], strict=True)}
        stamps.append({split: numbers for split, numbers in indices.items() if numbers})
    record = VisitRecord(
        key=key,
        name=key,
        field_type="extragalactic",
        instrument="ACS",
        filter_name="F606W",
        stamp_size=SIDE,
        software="none",
        exposures=exposures,
    )
    return DatasetVisit(record=record, split="test" if "test" in counts else "train", stamps=stamps)


def sources(dataset: Dataset, kind: Source = ResidentStamps) -> tuple[StampSource, StampSource]:
    """The stamps for training and for validation."""
    return kind(list(dataset.exposures("train")), CPU), kind(list(dataset.exposures("validation")), CPU)


def feeds(recipe: Recipe, dataset: Dataset, kind: Source = ResidentStamps) -> tuple[Feed, Feed]:
    """Examples for training and for validation."""
    train, validation = sources(dataset, kind)
    return Feed(recipe, train), Feed(recipe, validation)


def new_training(recipe: Recipe, frozen: bool = False, mixed: bool = False) -> TrainingState:
    """A network with weights that are the same every time."""
    return TrainingState(recipe, initial_state(recipe, CPU).network, frozen, mixed)


def read_progress(run: Path) -> TrainingProgress:
    """How far the checkpoint of a run has come; the start if there is none."""
    path = run / CHECKPOINT_FILE
    return Checkpoint.model_validate_json(path.read_bytes()).progress if path.is_file() else TrainingProgress()


def gone_on(training: TrainingState) -> TrainingState:
    """Another training that starts where this one is, as from a checkpoint."""
    other = TrainingState(training.recipe, copy.deepcopy(training.network))
    other.progress = TrainingProgress.model_validate_json(training.progress.model_dump_json())
    other.optimiser.load_state_dict(copy.deepcopy(training.optimiser.state_dict()))
    other.plateau.load_state_dict(copy.deepcopy(training.plateau.state_dict()))
    other.best = {name: tensor.clone() for name, tensor in training.best.items()}
    return other


def weights(network: UNet) -> dict[str, Tensor]:
    """A copy of all parameters and buffers."""
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}


def is_statistic(name: str) -> bool:
    """Whether a tensor of a network is one of the running statistics."""
    return ".running_" in name or name.endswith("num_batches_tracked")


def assert_same_weights(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    """Bit for bit."""
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name


def same_bytes(one: Path, other: Path) -> bool:
    """Whether two files are equal."""
    return one.read_bytes() == other.read_bytes()
