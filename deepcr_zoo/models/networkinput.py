"""Pixel values become a network's input, and its output becomes pixel values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deepcr_zoo.models.engines import Block
from deepcr_zoo.models.images import Mask
from deepcr_zoo.models.skynoise import FrameNoise, frame_noise, normalised
from deepcr_zoo.zoo.cards import Card


@dataclass(frozen=True)
class Scaling:
    """Scaling to the values that a network was trained on: ``(value / scale - mean) / deviation``."""

    scale: np.float32
    mean: np.float32
    deviation: np.float32

    def apply(self, pixels: Block) -> Block:
        with np.errstate(all="ignore"):  # the caller may have set another state
            return (pixels / self.scale - self.mean) / self.deviation

    def undo(self, values: Block) -> Block:
        with np.errstate(all="ignore"):
            return (values * self.deviation + self.mean) * self.scale


UNCHANGED = Scaling(np.float32(1), np.float32(0), np.float32(1))


def network_frame(card: Card, pixels: Block, valid: Mask | None, noise: FrameNoise | None = None) -> tuple[Block, Scaling]:
    """Return a frame of a mask network, and the scaling of its parts; `noise` is its own unless given."""
    if card.input.normalisation != "noise":
        return pixels, scaling_of(card, pixels, valid)
    return normalised(pixels, noise or frame_noise(pixels, valid)), UNCHANGED


def image_channel(pixels: Block, scaling: Scaling, rows: slice, columns: slice) -> Block:
    """Return the input of a mask network for part of a frame, shape (1, h, w)."""
    return scaling.apply(pixels[rows, columns])[None]


def inpainting_channels(pixels: Block, masked: Mask, scaling: Scaling, rows: slice, columns: slice) -> Block | None:
    """Return [image * (1 - mask), mask] (Zhang & Bloom 2020), or None where nothing is masked."""
    hidden = masked[rows, columns]
    if not hidden.any():
        return None
    return np.stack([np.where(hidden, np.float32(0), scaling.apply(pixels[rows, columns])), hidden.astype(np.float32)])


def scaling_of(card: Card, pixels: Block, valid: Mask | None) -> Scaling:
    """Return the scaling of a frame by the card's scale and normalisation; pixel values are in the card's unit."""
    scale = np.float32(card.input.scale)
    if card.input.normalisation == "scale":
        return Scaling(scale, np.float32(0), np.float32(1))
    with np.errstate(all="ignore"):
        mean, deviation = _frame_statistics(pixels, valid)
        # a constant frame has no deviation: it becomes zero, not NaN
        return Scaling(scale, np.float32(mean / scale), np.float32(deviation / scale or 1))


def _frame_statistics(pixels: Block, valid: Mask | None) -> tuple[float, float]:
    """Return mean and standard deviation of the valid pixels, in float64 without a float64 copy of the frame."""

    def total(function: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> float:
        rows = zip(pixels, valid if valid is not None else [...] * len(pixels), strict=True)
        return sum(float(function(row[good].astype(np.float64)).sum()) for row, good in rows)

    count = pixels.size if valid is None else int(valid.sum())
    if count == 0:
        return 0.0, 0.0
    mean = total(lambda row: row) / count
    return mean, float(np.sqrt(total(lambda row: (row - mean) ** 2) / count))
