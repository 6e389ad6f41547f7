"""Pixel values become a network's input, and its output becomes pixel values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from deepcr_zoo.models.architectures import LOG_SPREAD
from deepcr_zoo.models.engines import Block
from deepcr_zoo.models.images import Mask
from deepcr_zoo.models.skynoise import FrameNoise, frame_noise, sky_and_noise
from deepcr_zoo.zoo.cards import Card


class Scaling(Protocol):
    """The values that a network was trained on, for a window of a frame, and the way back."""

    def apply(self, pixels: Block, rows: slice, columns: slice) -> Block: ...
    def undo(self, values: Block, rows: slice, columns: slice) -> Block: ...


@dataclass(frozen=True)
class LinearScaling:
    """``(value / scale - mean) / deviation``."""

    scale: np.float32
    mean: np.float32
    deviation: np.float32

    def apply(self, pixels: Block, rows: slice, columns: slice) -> Block:
        with np.errstate(all="ignore"):  # the caller may have set another state
            return (pixels / self.scale - self.mean) / self.deviation

    def undo(self, values: Block, rows: slice, columns: slice) -> Block:
        with np.errstate(all="ignore"):
            return (values * self.deviation + self.mean) * self.scale


@dataclass(frozen=True)
class NoiseScaling:
    """``asinh((value - sky) / noise)``."""

    sky: Block  # shape (H, W)
    noise: Block

    def apply(self, pixels: Block, rows: slice, columns: slice) -> Block:
        with np.errstate(all="ignore"):
            return np.asarray(np.arcsinh((pixels - self.sky[rows, columns]) / self.noise[rows, columns]))

    def undo(self, values: Block, rows: slice, columns: slice) -> Block:
        with np.errstate(all="ignore"):
            return np.asarray(np.sinh(values) * self.noise[rows, columns] + self.sky[rows, columns])

    def deviation(self, values: Block, logarithms: Block, rows: slice, columns: slice) -> Block:
        """Return the standard deviation of pixels whose z is normal: `values` are its mean, `logarithms` log(sigma)."""
        with np.errstate(all="ignore"):
            return np.asarray(johnson_deviation(values, logarithms) * self.noise[rows, columns])


def johnson_deviation(values: Block, logarithms: Block) -> Block:
    """Return the standard deviation of ``sinh(z)``, z normal: `values` are its mean, `logarithms` log(sigma), within bounds.

    The median is ``sinh(values)`` (Johnson 1949, Biometrika 36, 149: the system S_U).
    """
    growth = np.exp(np.exp(2 * np.clip(logarithms, *LOG_SPREAD)))
    return np.asarray(np.sqrt((growth - 1) * (growth * np.cosh(2 * values) + 1) / 2))


def image_channel(pixels: Block, scaling: Scaling, rows: slice, columns: slice) -> Block:
    """Return the input of a mask network for part of a frame, shape (1, h, w)."""
    return scaling.apply(pixels[rows, columns], rows, columns)[None]


def estimated_channels(seen: Block, masked: Mask, rows: slice, columns: slice) -> Block | None:
    """Return [estimate, mask] for part of a frame as from `interpolation.interpolate`, or None where nothing is masked."""
    hidden = masked[rows, columns]
    return np.stack([seen[rows, columns], hidden.astype(np.float32)]) if hidden.any() else None


def hidden_channels(pixels: Block, masked: Mask, scaling: Scaling, rows: slice, columns: slice) -> Block | None:
    """Return [image * (1 - mask), mask] for part of a frame, or None where nothing is masked (Zhang & Bloom 2020)."""
    hidden = masked[rows, columns]
    if not hidden.any():
        return None
    scaled = scaling.apply(pixels[rows, columns], rows, columns)
    return np.stack([np.where(hidden, np.float32(0), scaled), hidden.astype(np.float32)])


def scaling_of(card: Card, pixels: Block, valid: Mask | None, noise: FrameNoise | None = None) -> Scaling:
    """Return the scaling of a frame by the card's scale and normalisation; pixel values are in the card's unit.

    `noise` is the sky and noise of the exposure that the frame is a part of; by default those of the frame.
    """
    if card.input.by_noise:
        return noise_scaling(pixels, valid, noise)
    scale = np.float32(card.input.scale)
    if card.input.normalisation == "scale":
        return LinearScaling(scale, np.float32(0), np.float32(1))
    with np.errstate(all="ignore"):
        mean, deviation = _frame_statistics(pixels, valid)
        # a constant frame has no deviation: it becomes zero, not NaN
        return LinearScaling(scale, np.float32(mean / scale), np.float32(deviation / scale or 1))


def noise_scaling(pixels: Block, valid: Mask | None = None, noise: FrameNoise | None = None) -> NoiseScaling:
    """Return the scaling by sky and noise, as `scaling_of`."""
    return NoiseScaling(*sky_and_noise(noise or frame_noise(pixels, valid), pixels.shape))


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
