"""The layers of an exposure's stamps, as they are stored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepcr_zoo.dataset import footprints
from deepcr_zoo.dataset.cutting import cut_stamps, stamp_positions
from deepcr_zoo.dataset.labelling import LabelledExposure
from deepcr_zoo.models.images import has_value
from deepcr_zoo.zoo.recipe import StampBlock

Cut = Callable[[Sequence[NDArray[Any]], type[np.generic]], NDArray[Any]]
"""Cut one layer of all chips into stamps of a data type."""


def cutter(labelled: LabelledExposure, block: StampBlock) -> Cut:
    """Return a function that cuts layers of the exposure's chips into stamps, shape (N, S, S)."""
    positions = [stamp_positions(chip.image.shape, block) for chip in labelled.chips]

    def cut(layers: Sequence[NDArray[Any]], dtype: type[np.generic]) -> NDArray[Any]:
        stamps = [cut_stamps(layer, at, block.size) for layer, at in zip(layers, positions, strict=True)]
        return np.concatenate(stamps).astype(dtype)

    return cut


def stamp_layers(labelled: LabelledExposure, block: StampBlock, sky_electron: float) -> dict[str, NDArray[Any]]:
    """Return `store.LAYERS` of an exposure; pixels without a value get the sky level."""
    cut = cutter(labelled, block)
    images = [np.where(has_value(chip.image), chip.image, np.float32(sky_electron)) for chip in labelled.chips]
    chips = [(chip, stamp_positions(chip.image.shape, block)) for chip in labelled.chips]
    return {
        "image": cut(images, np.float32),
        "cosmic_rays": cut(labelled.cosmic_rays, np.uint8),
        "ignore": cut(labelled.ignored, np.uint8),
        "position": np.concatenate([at for _, at in chips]),
        "chip": np.concatenate([np.full(len(at), chip.version, np.int32) for chip, at in chips]),
        "corners": np.concatenate([footprints.corners(chip.wcs, at, block.size) for chip, at in chips]),
    }
