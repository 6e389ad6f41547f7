"""Which stamps are for training, validation and test, so that no patch of sky is on two sides."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from deepcr_zoo.dataset import footprints
from deepcr_zoo.dataset.store import STAMP_SPLITS, StampSplit
from deepcr_zoo.zoo.recipe import Split, StampBlock


@dataclass(frozen=True)
class VisitStamps:
    """The stamps of a visit.

    Attributes
    ----------
    pointing : str
        Visits of the same one, through several filters, have their strip at the same edge: else the guard of each would
        take columns out of the training of all.
    split : Split
    largest_dither_arcsec : float
    positions : list of ndarray of int32, shape (N, 2)
        Row and column of each exposure's stamps.
    corners : list of ndarray of float64, shape (N, 4, 2)
        Their corners on the sky, degrees.
    """

    pointing: str
    split: Split
    largest_dither_arcsec: float
    positions: list[NDArray[np.int32]]
    corners: list[NDArray[np.float64]]


def assign(visits: Sequence[VisitStamps], fraction: float, seed: int) -> list[list[dict[StampSplit, list[int]]]]:
    """What each stamp is for.

    A strip of stamp columns at one edge of each training visit is for validation. Training stamps, of whatever visit, that
    come nearer to such a strip on the sky than the largest dither of its visit are for nothing: the guard.

    Parameters
    ----------
    visits : sequence of VisitStamps
    fraction : float
        Share of the columns that is for validation: at least one column, unless it is 0.
    seed : int
        Chooses the edges.

    Returns
    -------
    list of list of dict
        For each visit, for each of its exposures: indices of the stamps by what they are for.
    """
    labels = [[_first_labels(visit, positions, fraction, seed) for positions in visit.positions] for visit in visits]
    _guard(visits, labels)
    return [[_by_split(stamps) for stamps in of_visit] for of_visit in labels]


def _first_labels(visit: VisitStamps, positions: NDArray[np.int32], fraction: float, seed: int) -> NDArray[np.str_]:
    labels = np.full(len(positions), visit.split, dtype="<U10")
    if visit.split == "train" and fraction > 0 and len(positions):
        # of all exposures alike, whatever order the visits come in
        left = hashlib.sha256(f"{seed} {visit.pointing}".encode()).digest()[0] % 2 == 0
        columns = np.unique(np.concatenate(visit.positions)[:, 1])
        count = max(1, round(fraction * len(columns)))
        strip = columns[:count] if left else columns[-count:]
        labels[np.isin(positions[:, 1], strip)] = "validation"
    return labels


def _guard(visits: Sequence[VisitStamps], labels: list[list[NDArray[np.str_]]]) -> None:
    """Take training stamps near validation stamps out of the training, in place."""
    places = [
        (v, e, i) for v, of_visit in enumerate(labels) for e, stamps in enumerate(of_visit) for i in range(len(stamps))
    ]
    if not places:
        return
    label = np.array([labels[v][e][i] for v, e, i in places])
    corners = np.concatenate([corners for visit in visits for corners in visit.corners])
    guard = np.array([visits[v].largest_dither_arcsec + footprints.POINTING_ARCSEC for v, _, _ in places])
    training, validation = np.flatnonzero(label == "train"), np.flatnonzero(label == "validation")
    if not len(training) or not len(validation):
        return
    first = footprints.directions(corners[:, 0])  # where a stamp is, to within its diagonal
    tree = cKDTree(first[training])
    diagonal = footprints.distance_arcsec(corners[:, 0], corners[:, 2]).max()
    for index in validation:
        reach = np.radians((2 * diagonal + guard[index]) / 3600)
        near = training[tree.query_ball_point(first[index], reach)]
        if not len(near):
            continue
        origin = corners[index, 0]
        mine = footprints.in_plane(corners[index], origin)[None].repeat(len(near), axis=0)
        gaps = footprints.gap_arcsec(mine, footprints.in_plane(corners[near], origin))
        for other in near[gaps < guard[index]]:
            v, e, i = places[other]
            labels[v][e][i] = "guard"


def _by_split(labels: NDArray[np.str_]) -> dict[StampSplit, list[int]]:
    return {split: np.flatnonzero(labels == split).tolist() for split in STAMP_SPLITS if (labels == split).any()}


def positions(shape: tuple[int, int], block: StampBlock) -> NDArray[np.int32]:
    """Row and column of the first pixel of each stamp, in rows, shape (N, 2).

    Stamps lie side by side from the border on; what is left at the far border and is no whole stamp is not used. A chip of
    2048 x 4096 pixels holds 7 x 15 stamps of 256 pixels within borders of 128; two chips make the 210
    stamps per exposure of Zhang & Bloom 2020.
    """
    rows, columns = (block.border + block.size * np.arange(max(0, side - 2 * block.border) // block.size) for side in shape)
    grid = np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1)
    return grid.reshape(-1, 2).astype(np.int32)


def cut(pixels: NDArray[Any], where: NDArray[np.int32], size: int) -> NDArray[Any]:
    """Stamps of a chip, shape (N, size, size)."""
    if not len(where):
        return np.empty((0, size, size), dtype=pixels.dtype)
    return np.stack([pixels[row : row + size, column : column + size] for row, column in where])
