"""Made-up test stamps, written as the training set of a recipe's rehearsal."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from deepcr_zoo.dataset.plans import plan_build
from deepcr_zoo.dataset.reading import Dataset
from deepcr_zoo.dataset.store import (
    MANIFEST_FILE,
    DatasetVisit,
    ExposureRecord,
    Home,
    Manifest,
    VisitRecord,
    count_stamps,
    recipe_key,
    write_document,
    write_tensors,
)
from deepcr_zoo.zoo.recipe import SIMULATED_FIELD_TYPES, Recipe
from deepcr_zoo.zoo.recipefiles import find_recipe, read_recipe
from tests.scenes import star_field

SIDE = 64
EXPOSURES, STAMPS = 2, 3
SKY_ELECTRON = 50.0
FIELD = "globular_cluster"

Tensors = dict[str, np.ndarray]
Change = Callable[[str, Tensors], object]


def recipe_of(*settings: str) -> Recipe:
    """The recipe that the stamps are of, which are judged against their labels alone."""
    return read_recipe(find_recipe("acs-wfc-f606w-2-4"), ("benchmark.truth=null", *settings))


def made_up(field_type: str, exposure: int) -> Tensors:
    """Star fields with cosmic rays, wrong labels and ignored pixels here and there; one stamp more than are for testing."""
    seed = zlib.crc32(f"{field_type}-{exposure}".encode())
    fields = [star_field((SIDE, SIDE), seed + number, SKY_ELECTRON) for number in range(STAMPS + 1)]
    image, cosmic_rays = (np.stack(layers) for layers in zip(*fields, strict=True))
    ignore, wrong = np.random.default_rng(seed).random((2, *image.shape)) < [[[[0.02]]], [[[0.003]]]]
    cosmic_rays |= wrong
    masks = {"cosmic_rays": cosmic_rays.astype(np.uint8), "ignore": ignore.astype(np.uint8)}
    return {"image": image, **masks, **placed(len(image), SIDE)}


def placed(count: int, side: int) -> Tensors:
    """Where stamps lie that follow each other in a row of a chip, pixels of 0.05 arcsec."""
    size = side * 0.05 / 3600
    square = np.array([[0, 0], [0, size], [size, size], [size, 0]])
    return {
        "corners": np.arange(count)[:, None, None] * [size, 0] + square + [10.0, -5.0],
        "position": np.stack([np.zeros(count), np.arange(count) * side], axis=1).astype(np.int32),
        "chip": np.ones(count, np.int32),
    }


def write_dataset(
    folder: Path,
    recipe: Recipe,
    field_types: Sequence[str] = SIMULATED_FIELD_TYPES,
    change: Change = lambda field_type, tensors: None,
    rehearsal: bool = True,
    test: bool = True,
) -> Dataset:
    """Write a training set with a test visit of each field type; the first stamp of each exposure is in no split.

    Parameters
    ----------
    folder : Path
    recipe : Recipe
    field_types : sequence of str
    change : callable
        Is given the field type and the tensors of each exposure, to change them.
    rehearsal : bool
        Whether it says that its exposures were simulated.
    test : bool
        False: its visits are for training.
    """
    home = Home(folder)
    plan = plan_build(recipe, rehearse=True, home=home)
    wanted = [visit for visit in plan.visits if visit.split == "test" and visit.field_type in field_types]
    visits = []
    for visit in wanted:
        home.visit(visit.key).mkdir(parents=True)
        exposures = []
        for number in range(EXPOSURES):
            tensors = made_up(visit.field_type, number)
            change(visit.field_type, tensors)
            side = tensors["image"].shape[-1]
            exposures.append(_exposure(home.visit(visit.key), f"exposure-{number}", tensors))
        record = VisitRecord(
            key=visit.key,
            name=visit.name,
            field_type=visit.field_type,
            instrument="HST ACS/WFC",
            filter_name="F606W",
            stamp_size=side,
            software="drizzlepac 3.11.0",
            exposures=exposures,
        )
        split = "test" if test else "train"
        stamps = [{"guard": [0], split: list(range(1, STAMPS + 1))} for _ in exposures]
        visits.append(DatasetVisit(record=record, split=split, stamps=stamps))
    manifest = Manifest(
        name=recipe.name,
        key=plan.key,
        rehearsal=rehearsal,
        recipe_key=recipe_key(recipe, rehearsal),
        stamp_size=side,
        counts=count_stamps(visits),
        visits=visits,
        rejected=[],
        missing=[],
    )
    path = home.dataset(recipe.name, plan.key)
    path.mkdir(parents=True)
    write_document(path / MANIFEST_FILE, manifest)
    return Dataset.open(path)


def layers(dataset: Dataset, field_type: str = FIELD) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return image, CR mask and ignore mask of the test stamps, each (N, S, S), read stamp by stamp."""
    stamps = list(dataset.stamps("test", field_type))
    image, labels, ignored = (
        np.stack([getattr(one, name) for one in stamps]) for name in ("image", "cosmic_rays", "ignore")
    )
    return image, labels == 1, ignored == 1


def _exposure(folder: Path, name: str, tensors: Tensors) -> ExposureRecord:
    return ExposureRecord(
        name=name,
        stamps=write_tensors(folder / f"{name}.safetensors", tensors, {"visit": folder.name, "exposure": name}),
        count=len(tensors["image"]),
        exposure_time_s=400.0,
        sky_electron=SKY_ELECTRON,
        sky_source="mdrizsky",
        background_ratio=1.0,
        cosmic_ray_fraction=0.01,
        cosmic_rays_per_cm2_s=1.0,
        rate_ratio=1.0,
        star_excess=1.0,
        ignored_fraction=0.02,
    )


def with_truth(dataset: Dataset, truth_of: Callable[[np.ndarray], Tensors]) -> Dataset:
    """The same stamps, simulated: with a truth that is made from the images of each exposure."""
    visits = []
    for visit in dataset.manifest.visits:
        exposures = []
        for record in visit.record.exposures:
            folder = dataset.home.visit(visit.record.key)
            image = next(one for one in dataset.exposures("test") if one.exposure == record).stamps.read("image")["image"]
            truth = write_tensors(folder / f"{record.name}-truth.safetensors", truth_of(image), {})
            exposures.append(record.model_copy(update={"truth": truth}))
        visits.append(visit.model_copy(update={"record": visit.record.model_copy(update={"exposures": exposures})}))
    return Dataset(dataset.folder, dataset.home, dataset.manifest.model_copy(update={"visits": visits}))
