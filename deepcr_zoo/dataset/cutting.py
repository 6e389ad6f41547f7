"""Stamps of a chip: their positions and their pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepcr_zoo.zoo.recipe import StampBlock


def stamp_positions(shape: tuple[int, int], block: StampBlock) -> NDArray[np.int32]:
    """Return the row and column of each stamp's first pixel, row by row, shape (N, 2).

    Stamps lie side by side from the border on; a remainder at the far border is not used. A chip of 2048 x 4096 pixels
    holds 7 x 15 stamps of 256 pixels within borders of 128; two chips make the 210 stamps per exposure of Zhang & Bloom
    2020.
    """
    rows, columns = (block.border + block.size * np.arange(max(0, side - 2 * block.border) // block.size) for side in shape)
    grid = np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1)
    return grid.reshape(-1, 2).astype(np.int32)


def cut_stamps(pixels: NDArray[Any], positions: NDArray[np.int32], size: int) -> NDArray[Any]:
    """Return the stamps of a chip, shape (N, size, size)."""
    if not len(positions):
        return np.empty((0, size, size), dtype=pixels.dtype)
    return np.stack([pixels[row : row + size, column : column + size] for row, column in positions])
