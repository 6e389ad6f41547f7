"""The test stamps of a training set, exposure by exposure, as every method is judged on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepcr_zoo.bench.results import ModelMethod
from deepcr_zoo.dataset.reading import Dataset, ExposureStamps
from deepcr_zoo.dataset.store import ExposureRecord
from deepcr_zoo.errors import UsageError
from deepcr_zoo.models.model import Model
from deepcr_zoo.zoo.cards import contract_sha256
from deepcr_zoo.zoo.recipe import FIELD_TYPES, FieldType

Change = Callable[[NDArray[np.float32], ExposureRecord], NDArray[np.float32]]
"""Gives another image of the same shape, (N, S, S) in e-, for the stamps of an exposure: with more sky, for example."""

OnExposure = Callable[[ExposureStamps], Any]
"""Is told of every exposure that has been judged."""


def as_method(model: Model) -> ModelMethod:
    """What a network is, for ``results.json``."""
    return ModelMethod(
        reference=model.reference,
        sha256=model.sha256,
        contract_sha256=contract_sha256(model.card),
        engine=model.engine,
        device=str(model.device),
    )


@dataclass(frozen=True, eq=False)
class JudgedStamps:
    """The test stamps of one exposure.

    Attributes
    ----------
    group : ExposureStamps
        Which exposure, and what else its file holds.
    numbers : range
        Of these stamps among all test stamps, in the order of `Dataset.stamps`.
    image : ndarray of float32, shape (N, S, S)
        e-.
    cosmic_rays, ignore : ndarray of bool, shape (N, S, S)
        CR mask and ignore mask.
    """

    group: ExposureStamps
    numbers: range
    image: NDArray[np.float32]
    cosmic_rays: NDArray[np.bool_]
    ignore: NDArray[np.bool_]


def field_types_of(dataset: Dataset) -> list[FieldType]:
    """The field types that have test stamps."""
    return [field_type for field_type in FIELD_TYPES if any(dataset.exposures("test", field_type))]


def judged_stamps(
    dataset: Dataset, field_type: FieldType, change: Change | None = None, on_exposure: OnExposure | None = None
) -> Iterator[JudgedStamps]:
    """The test stamps of a field type, one exposure in memory at a time.

    Parameters
    ----------
    dataset : Dataset
    field_type : FieldType
    change : callable, optional
        Gives the image that is judged in place of the exposure's own.
    on_exposure : callable, optional
        Called after each exposure, when the next one is asked for.

    Raises
    ------
    DatasetError
        If a file is missing or damaged.
    """
    first = 0
    for group in dataset.exposures("test"):
        numbers = range(first, first := first + len(group.indices))
        if group.visit.field_type != field_type:
            continue
        layers = group.read("image", "cosmic_rays", "ignore")
        image = layers["image"] if change is None else change(layers["image"], group.exposure)
        yield JudgedStamps(group, numbers, image, layers["cosmic_rays"].astype(bool), layers["ignore"].astype(bool))
        if on_exposure is not None:
            on_exposure(group)


def check_input(model: Model) -> None:
    """Make sure that a model can be judged on stamps in electrons.

    Raises
    ------
    UsageError
        If it needs whole frames, or another unit.
    """
    card, way_out = model.card.input, "judge it on whole exposures"
    if card.normalisation != "scale":
        raise UsageError(f"{model.reference} is normalised by the whole frame, of which stamps are a part: {way_out}")
    if card.unit != "electron":
        raise UsageError(f"{model.reference} takes {card.unit}, and stamps are in electrons: {way_out}")
