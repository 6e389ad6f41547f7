"""The test stamps of a training set, exposure by exposure, in the form in which every method is judged on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepcr_zoo.bench.results import ModelMethod
from deepcr_zoo.dataset.reading import Dataset, ExposureStamps
from deepcr_zoo.errors import UsageError
from deepcr_zoo.models.model import Model
from deepcr_zoo.models.skynoise import FrameNoise
from deepcr_zoo.zoo.cards import contract_sha256
from deepcr_zoo.zoo.recipe import FIELD_TYPES, FieldType

OnExposure = Callable[[ExposureStamps], Any] | None
"""Called after each exposure that has been judged."""


def as_method(model: Model) -> ModelMethod:
    """Return the description of a network for ``results.json``."""
    contract, device = contract_sha256(model.card), str(model.device)
    return ModelMethod(
        reference=model.reference, sha256=model.sha256, contract_sha256=contract, engine=model.engine, device=device
    )


@dataclass(frozen=True, eq=False)
class JudgedStamps:
    """The test stamps of one exposure: image (e-), CR mask and ignore mask, each of shape (N, S, S).

    `numbers` are those of the stamps among all test stamps, in the order of `Dataset.stamps`. `position` holds row and
    column of the first pixel of each on its chip, shape (N, 2), and `chip` the chip, shape (N,).
    """

    group: ExposureStamps
    numbers: range
    image: NDArray[np.float32]
    cosmic_rays: NDArray[np.bool_]
    ignore: NDArray[np.bool_]
    position: NDArray[np.int32]
    chip: NDArray[np.int32]


def noise_for(model: Model, group: ExposureStamps) -> list[FrameNoise] | None:
    """Return what the input of a model needs to know of the exposure that stamps are cut from; None for most models."""
    return group.noise() if model.card.input.by_noise else None


def field_types_of(dataset: Dataset) -> list[FieldType]:
    """Return the field types that have test stamps."""
    return [field_type for field_type in FIELD_TYPES if any(dataset.exposures("test", field_type))]


def judged_stamps(dataset: Dataset, field_type: FieldType, on_exposure: OnExposure = None) -> Iterator[JudgedStamps]:
    """Yield the test stamps of a field type, with one exposure in memory at a time."""
    first = 0
    for group in dataset.exposures("test"):
        numbers = range(first, first := first + len(group.indices))
        if group.visit.field_type != field_type:
            continue
        layers = group.read("image", "cosmic_rays", "ignore", "position", "chip")
        masks = {name: layers.pop(name).astype(bool) for name in ("cosmic_rays", "ignore")}
        yield JudgedStamps(group, numbers, **masks, **layers)
        if on_exposure is not None:
            on_exposure(group)


def check_input(model: Model) -> None:
    """Raise UsageError if a model needs whole frames, or another unit than the electrons of stamps."""
    card, way_out = model.card.input, "judge it on whole exposures"
    if card.normalisation == "frame-standardise":
        raise UsageError(f"{model.reference} is normalised by the whole frame, of which stamps are a part: {way_out}")
    if card.unit == "adu":
        raise UsageError(f"{model.reference} takes {card.unit}, and stamps are in electrons: {way_out}")
