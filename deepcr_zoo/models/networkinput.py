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

LAYERS = 16
"""Of masked pixels that are interpolated, from the edge of a mask inwards."""

_BAND = 256  # rows that are interpolated at a time, which bounds the memory
_NEIGHBOURS = [(row, column) for row in (-1, 0, 1) for column in (-1, 0, 1) if (row, column) != (0, 0)]

Place = slice | NDArray[np.intp]
"""Rows or columns of a frame: a window, or those of single pixels."""


class Scaling(Protocol):
    """The values that a network was trained on, for the pixels at some rows and columns of a frame, and the way back."""

    def apply(self, pixels: Block, rows: Place, columns: Place) -> Block: ...
    def undo(self, values: Block, rows: Place, columns: Place) -> Block: ...


@dataclass(frozen=True)
class LinearScaling:
    """``(value / scale - mean) / deviation``."""

    scale: np.float32
    mean: np.float32
    deviation: np.float32

    def apply(self, pixels: Block, rows: Place, columns: Place) -> Block:
        with np.errstate(all="ignore"):  # the caller may have set another state
            return (pixels / self.scale - self.mean) / self.deviation

    def undo(self, values: Block, rows: Place, columns: Place) -> Block:
        with np.errstate(all="ignore"):
            return (values * self.deviation + self.mean) * self.scale


@dataclass(frozen=True)
class NoiseScaling:
    """``asinh((value - sky) / noise)``."""

    sky: Block  # shape (H, W)
    noise: Block

    def apply(self, pixels: Block, rows: Place, columns: Place) -> Block:
        with np.errstate(all="ignore"):
            return np.asarray(np.arcsinh((pixels - self.sky[rows, columns]) / self.noise[rows, columns]))

    def undo(self, values: Block, rows: Place, columns: Place) -> Block:
        with np.errstate(all="ignore"):
            return np.asarray(np.sinh(values) * self.noise[rows, columns] + self.sky[rows, columns])

    def deviation(self, values: Block, logarithms: Block, rows: slice, columns: slice) -> Block:
        """Return the standard deviation of pixels for the two outputs of a network, mean and log(sigma) of a normal z.

        It is that of ``sky + noise * sinh(z)``, whose median is `undo` (Johnson 1949, Biometrika 36, 149: the system S_U).
        """
        growth = np.exp(np.exp(2 * np.clip(logarithms, *LOG_SPREAD)))
        with np.errstate(all="ignore"):
            found = np.sqrt((growth - 1) * (growth * np.cosh(2 * values) + 1) / 2) * self.noise[rows, columns]
        return np.asarray(found)


def image_channel(pixels: Block, scaling: Scaling, rows: slice, columns: slice) -> Block:
    """Return the input of a mask network for part of a frame, shape (1, h, w)."""
    return scaling.apply(pixels[rows, columns], rows, columns)[None]


def interpolate(pixels: Block, masked: Mask, scaling: NoiseScaling) -> Block:
    """Return a frame with an estimate in its masked pixels: the mean of the known neighbours, of what a network sees.

    They are filled from the edge inwards, layer by layer; what lies deeper than `LAYERS` gets the level of the sky.
    """
    filled = pixels.copy()
    for first in range(0, len(pixels), _BAND):
        rows = slice(max(0, first - LAYERS), first + _BAND + LAYERS)  # nothing further away counts
        part = _interpolated(pixels[rows], masked[rows], NoiseScaling(scaling.sky[rows], scaling.noise[rows]))
        filled[first : first + _BAND] = part[first - rows.start :][:_BAND]
    return filled


def _interpolated(pixels: Block, masked: Mask, scaling: NoiseScaling) -> Block:
    filled, known = pixels.copy(), ~masked
    places = np.stack(np.nonzero(masked))
    for _ in range(LAYERS):
        if not places.size:
            break
        total, count = np.zeros((2, places.shape[1]), np.float32)
        for step in _NEIGHBOURS:
            near = places + np.reshape(step, (2, 1))
            inside = ((near >= 0) & (near < np.reshape(pixels.shape, (2, 1)))).all(axis=0)
            rows, columns = np.where(inside, near, places)  # a masked pixel is not known
            is_known = known[rows, columns]
            total += np.where(is_known, scaling.apply(filled[rows, columns], rows, columns), 0)
            count += is_known
        ready = count > 0
        rows, columns = places[:, ready]
        filled[rows, columns] = scaling.undo(total[ready] / count[ready], rows, columns)
        known[rows, columns] = True
        places = places[:, ~ready]
    filled[tuple(places)] = scaling.sky[tuple(places)]
    return filled


def inpainting_channels(pixels: Block, masked: Mask, scaling: Scaling, rows: slice, columns: slice) -> Block | None:
    """Return [image, mask], or None where nothing is masked; `pixels` of a `NoiseScaling` are those of `interpolate`.

    Other networks see 0 in masked pixels: [image * (1 - mask), mask] (Zhang & Bloom 2020).
    """
    hidden = masked[rows, columns]
    if not hidden.any():
        return None
    scaled = scaling.apply(pixels[rows, columns], rows, columns)
    shown = scaled if isinstance(scaling, NoiseScaling) else np.where(hidden, np.float32(0), scaled)
    return np.stack([shown, hidden.astype(np.float32)])


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
