"""Check that a model, as installed here, reproduces its test vector."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal

import numpy as np

from deepcr_zoo.errors import DeepcrZooError, UsageError
from deepcr_zoo.models import testvectors
from deepcr_zoo.models.model import InpaintModel, MaskModel, load_resolved
from deepcr_zoo.models.testvectors import VectorArrays
from deepcr_zoo.zoo import sources
from deepcr_zoo.zoo.registry import TEST_VECTOR_FILE, ResolvedModel

Verdict = Literal["reproduces", "runs but differs", "fails"]


@dataclass(frozen=True)
class Verification:
    """The verdict on one model, ``task/name@version``."""

    model: str
    verdict: Verdict
    max_difference: float | None = None
    """Largest difference from the test vector: of probability, or relative to the largest value (inpainting)."""
    tolerance: float | None = None  # largest difference that the card allows
    flipped_pixels: int | None = None  # pixels on the other side of the threshold; None for inpainting
    reason: str | None = None  # why it fails


def verify(
    model: ResolvedModel,
    device: str = "auto",
    *,
    engine: str = "auto",
    source: sources.Source | None = None,
    mirror: str | os.PathLike[str] | None = None,
) -> Verification:
    """Check the hashes of a model's files, run it on its test vector and compare."""
    try:
        loaded = load_resolved(model, device, engine=engine, source=source, mirror=mirror)
        file = sources.fetch(model, TEST_VECTOR_FILE, source=source, mirror=mirror)
        vector = testvectors.read(file.data, model.reference)
        return compare(loaded, vector)
    except UsageError:
        raise
    except DeepcrZooError as error:
        return Verification(model.reference, "fails", reason=str(error))


def compare(model: MaskModel | InpaintModel, vector: VectorArrays) -> Verification:
    """Run a model on a test vector and compare within the tolerance of its card."""
    flipped, unit = None, 1.0
    if isinstance(model, MaskModel):
        found = model.predict(vector.image)
        flipped = int(((found > model.threshold) != (vector.expected > model.threshold)).sum())
    else:
        found = model.fill(vector.image, vector.mask)
        # other pixels are copied: a bright one would hide any difference
        unit = float(np.abs(vector.expected[vector.mask]).max(initial=0)) or 1.0
    difference = float(np.abs(found - vector.expected).max()) / unit
    tolerance = model.card.test_vector.tolerance
    verdict: Verdict = "reproduces" if difference <= tolerance else "runs but differs"
    return Verification(model.reference, verdict, difference, tolerance, flipped)
