"""The stamps of an exposure as the pieces of chips that they were cut from, for methods that users give whole chips."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.float32]
Masks = NDArray[np.bool_]


def masked_as_chips(
    image: Images, position: NDArray[np.int32], chip: NDArray[np.int32], mask: Callable[[Images], Sequence[Masks]]
) -> Masks:
    """Mask stamps in one piece: each chip is put together, masked, and cut up again.

    A stamp by itself has edges that its chip has not: filters of L.A.Cosmic do not reach there, and it mistakes the wings of
    stars for cosmic rays.

    Parameters
    ----------
    image : ndarray of float32, shape (N, S, S)
    position : ndarray of int, shape (N, 2)
        Row and column of each stamp's first pixel on its chip.
    chip : ndarray of int, shape (N,)
        Which chip each stamp is of.
    mask : callable
        Gives T masks of an image, shape (H, W), in which what lies between stamps is NaN.

    Returns
    -------
    ndarray of bool, shape (T, N, S, S)
    """
    side = image.shape[1]
    found: list[Any] = [None] * len(image)
    for one in np.unique(chip):
        numbers = np.flatnonzero(chip == one)
        first = position[numbers].min(axis=0)
        places = [tuple(slice(start, start + side) for start in place) for place in (position[numbers] - first).tolist()]
        frame = np.full(position[numbers].max(axis=0) - first + side, np.nan, dtype=np.float32)
        for number, place in zip(numbers, places, strict=True):
            frame[place] = image[number]
        masks = np.stack(mask(frame))
        for number, place in zip(numbers, places, strict=True):
            found[number] = masks[:, *place]
    return np.stack(found, axis=1)
