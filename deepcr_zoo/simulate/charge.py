"""Diffusion of charge from the place where it is freed to the pixels that collect it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

FRONT_UM = 0.75
"""Sigma of the spread of charge freed at the gates; it grows linearly with depth up to `charge_spread_um`.

Both agree with the shapes of real cosmic rays on the CCD of HST's STIS (CR-SPLIT pairs of proposal 7353).
"""

_MOST_PACKETS = 24  # a cloud of electrons diffuses in at most this many parts
_CHUNK = 1_000_000


class Silicon(Protocol):
    """The light-sensitive silicon of a detector."""

    @property
    def silicon_um(self) -> float:
        """Thickness."""
        ...

    @property
    def charge_spread_um(self) -> float:
        """Sigma of the spread of charge freed at the back."""
        ...

    @property
    def pixel_size_um(self) -> float:
        """Side of a pixel."""
        ...


@dataclass(frozen=True)
class Deposits:
    """Electrons freed within the silicon at N places."""

    place: Floats  # shape (N, 2): x, y in pixels, counted from 0 at the centre of the first
    depth_um: Floats  # distance from the gates that collect the electrons
    electrons: Floats


def spread_um(depth_um: Floats, instrument: Silicon) -> Floats:
    """Return sigma, in micrometres, of the spread of charge freed at a distance from the gates."""
    return np.asarray(FRONT_UM + (instrument.charge_spread_um - FRONT_UM) * depth_um / instrument.silicon_um)


def collect(
    deposits: Iterable[Deposits], shape: tuple[int, int], instrument: Silicon, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Return the electrons in each pixel, shape (H, W), after diffusion on their way to the gates."""
    total = np.zeros(shape[0] * shape[1])
    for freed in deposits:
        for start in range(0, freed.electrons.size, _CHUNK):
            part = slice(start, start + _CHUNK)
            electrons = freed.electrons[part]
            packets = np.clip(np.ceil(electrons), 1, _MOST_PACKETS).astype(np.int64)
            source = np.repeat(np.arange(electrons.size), packets)
            sigma = spread_um(freed.depth_um[part], instrument) / instrument.pixel_size_um
            offset = rng.standard_normal((source.size, 2)) * sigma[source, None]
            column, row = np.rint(freed.place[part][source] + offset).astype(np.int64).T
            inside = (column >= 0) & (column < shape[1]) & (row >= 0) & (row < shape[0])
            shares = (electrons / packets)[source][inside]
            total += np.bincount(row[inside] * shape[1] + column[inside], shares, total.size)
    return total.astype(np.float32).reshape(shape)
