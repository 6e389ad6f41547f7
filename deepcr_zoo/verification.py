"""Does a model, as installed here, still give what its card promises?"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal

import numpy as np

from deepcr_zoo import sources, testvectors
from deepcr_zoo.cards import read_card
from deepcr_zoo.errors import DeepcrZooError, UsageError
from deepcr_zoo.models import MaskModel, load_resolved
from deepcr_zoo.registry import TEST_VECTOR_FILE, ResolvedModel

Verdict = Literal["reproduces", "runs but differs", "fails"]


@dataclass(frozen=True)
class Verification:
    """The outcome for one model.

    Attributes
    ----------
    model : str
        ``task/name@version``.
    verdict : {"reproduces", "runs but differs", "fails"}
    max_difference : float or None
        Largest difference from the test vector: of probability, or relative to the largest value (inpainting).
    tolerance : float or None
        Largest difference that the card allows.
    flipped_pixels : int or None
        Pixels on the other side of the threshold; None for inpainting.
    reason : str or None
        Why it fails.
    """

    model: str
    verdict: Verdict
    max_difference: float | None = None
    tolerance: float | None = None
    flipped_pixels: int | None = None
    reason: str | None = None


def verify(
    model: ResolvedModel,
    device: str = "auto",
    *,
    engine: str = "auto",
    source: sources.Source | None = None,
    mirror: str | os.PathLike[str] | None = None,
) -> Verification:
    """Check the hash of a model's files, run it on its test vector and compare."""
    try:
        card = read_card(model)
        loaded = load_resolved(model, device, engine=engine, source=source, mirror=mirror)
        file = sources.fetch(model, TEST_VECTOR_FILE, source=source, mirror=mirror)
        vector = testvectors.read(file.data, model.reference)
    except UsageError:
        raise
    except DeepcrZooError as error:
        return Verification(model.reference, "fails", reason=str(error))
    flipped, unit = None, 1.0
    if isinstance(loaded, MaskModel):
        found = loaded.predict(vector.image)
        flipped = int(((found > loaded.threshold) != (vector.expected > loaded.threshold)).sum())
    else:
        found = loaded.fill(vector.image, vector.mask)
        unit = float(np.abs(vector.expected).max())
    difference = float(np.abs(found - vector.expected).max()) / unit
    tolerance = card.test_vector.tolerance
    verdict: Verdict = "reproduces" if difference <= tolerance else "runs but differs"
    return Verification(model.reference, verdict, difference, tolerance, flipped)
