"""Masked pixels get an estimate from those around them, in the network's own values, from which inpainting starts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deepcr_zoo.models.engines import Block
from deepcr_zoo.models.images import Mask, near
from deepcr_zoo.models.networkinput import NoiseScaling

LAYERS = 16
"""Of masked pixels that get the mean of their known neighbours, from the edge of a mask inwards."""

STEPS = 16
"""Of heavy-ball descent (Polyak 1964, USSR Comp. Math. 4(5), 1, Eq. 9) towards the surface of least curvature."""

STEP_SIZE, MOMENTUM = 4 / 81, 49 / 81
"""4 / (sqrt(L) + sqrt(l))^2 and ((sqrt(L) - sqrt(l)) / (sqrt(L) + sqrt(l)))^2, the fastest for eigenvalues of the squared
Laplacian from l = 1 to L = 64, its largest (Polyak 1964); those below 1, of wide holes, converge later."""

_REACH = 2 * STEPS + 2  # rows: each step sees two pixels further
_BAND = 256  # rows that are estimated at a time, which bounds the memory
_NEIGHBOURS = [(row, column) for row in (-1, 0, 1) for column in (-1, 0, 1) if (row, column) != (0, 0)]
_SIDES = [(-1, 0), (1, 0), (0, -1), (0, 1)]


def interpolate(pixels: Block, masked: Mask, scaling: NoiseScaling) -> Block:
    """Return a frame as a network sees it, with an estimate in masked pixels.

    They start from the mean of their known neighbours, layer by layer from the edge inwards (0, the level of the sky, deeper
    than `LAYERS`), and go `STEPS` steps towards the surface of least curvature, that of biharmonic interpolation. Since
    values grow as the logarithm of the light, the core of a star is nearly a parabola, which such a surface follows.
    """
    seen = _from_edges(pixels, masked, scaling)
    estimate = seen.copy()
    for first in range(0, len(seen), _BAND):
        if masked[first : first + _BAND].any():
            low = max(first - _REACH, 0)
            window = slice(low, first + _BAND + _REACH)
            estimate[first : first + _BAND] = _smoothed(seen[window], masked[window])[first - low :][:_BAND]
    return estimate


def _from_edges(pixels: Block, masked: Mask, scaling: NoiseScaling) -> Block:
    """Return a frame as a network sees it, with the mean of their known neighbours in masked pixels."""
    seen, known = np.zeros(pixels.shape, np.float32), ~masked
    for first in range(0, len(pixels), _BAND):
        rows = slice(first, first + _BAND)
        seen[rows] = np.where(known[rows], scaling.apply(pixels[rows], rows, slice(None)), 0)
    for _ in range(LAYERS):
        ready = near(known, side=3) & ~known
        places = np.stack(np.nonzero(ready))
        if not places.size:
            break
        seen[ready] = _mean_of_neighbours(seen, known, places)
        known |= ready
    return seen


def _mean_of_neighbours(seen: Block, known: Mask, places: NDArray[np.intp]) -> Block:
    """Return the mean of the known pixels of the 3x3 around masked ones; `places` are their rows and columns, (2, K)."""
    total, count = np.zeros((2, places.shape[1]), np.float32)
    for step in _NEIGHBOURS:
        near_by = places + np.reshape(step, (2, 1))
        inside = ((near_by >= 0) & (near_by < np.reshape(seen.shape, (2, 1)))).all(axis=0)
        at = tuple(np.where(inside, near_by, places))  # a masked pixel is not known
        total += np.where(known[at], seen[at], 0)
        count += known[at]
    return np.asarray(total / count)


def _smoothed(seen: Block, masked: Mask) -> Block:
    """Return values whose masked ones went `STEPS` steps towards the least sum of squared Laplacians."""
    values, curvature = seen.flatten(), np.zeros(seen.size, np.float32)
    hidden, around = np.flatnonzero(masked), np.flatnonzero(near(masked, side=3))
    change = np.zeros(hidden.size, np.float32)
    sides_of_hidden, sides_of_around = (_sides(places, seen.shape) for places in (hidden, around))
    for _ in range(STEPS):
        curvature[around] = _laplacian(values, around, sides_of_around)
        gradient = _laplacian(curvature, hidden, sides_of_hidden)
        change = np.float32(MOMENTUM) * change - np.float32(STEP_SIZE) * gradient
        values[hidden] += change
    return values.reshape(seen.shape)


def _sides(places: NDArray[np.intp], shape: tuple[int, ...]) -> NDArray[np.intp]:
    """Return the numbers of the pixels beside each, shape (4, K); the pixel's own number where the frame ends."""
    rows, columns = np.unravel_index(places, shape)
    beside = [(np.clip(rows + row, 0, shape[0] - 1), np.clip(columns + column, 0, shape[1] - 1)) for row, column in _SIDES]
    return np.stack([np.ravel_multi_index(one, shape) for one in beside])


def _laplacian(values: Block, places: NDArray[np.intp], sides: NDArray[np.intp]) -> Block:
    return np.asarray(values[sides].sum(axis=0) - 4 * values[places])
