"""Assignment of stamps to training, validation and test, so that no patch of sky is on two sides."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from deepcr_zoo.dataset import footprints
from deepcr_zoo.dataset.store import STAMP_SPLITS, StampSplit
from deepcr_zoo.zoo.recipe import Split


@dataclass(frozen=True)
class VisitStamps:
    """The stamps of a visit.

    Visits of one pointing, through several filters, have their validation strip at the same edge; otherwise the guard of
    each would take columns out of the training of all.
    """

    pointing: str
    split: Split
    largest_dither_arcsec: float
    positions: list[NDArray[np.int32]]  # of each exposure: row and column of its stamps, (N, 2)
    corners: list[NDArray[np.float64]]  # of each exposure: their corners on the sky, degrees, (N, 4, 2)
    is_validation: bool = False  # True if all of them are for validation


def assign_splits(visits: Sequence[VisitStamps], fraction: float, seed: int) -> list[list[dict[StampSplit, list[int]]]]:
    """Return the stamp indices of each split, for each exposure of each visit.

    A strip of stamp columns at one edge of each training visit is for validation: this fraction of them, and one at least
    unless the fraction is 0; visits may also be for validation as a whole. The seed chooses the edges. Training stamps of
    any visit that lie nearer to such a strip than the largest dither of its visit belong to no split: they are the guard.
    """
    labels = [[_first_labels(visit, positions, fraction, seed) for positions in visit.positions] for visit in visits]
    _mark_guard(visits, labels)
    return [[_by_split(stamps) for stamps in of_visit] for of_visit in labels]


def _first_labels(visit: VisitStamps, positions: NDArray[np.int32], fraction: float, seed: int) -> NDArray[np.str_]:
    labels = np.full(len(positions), "validation" if visit.is_validation else visit.split, dtype="<U10")
    if not visit.is_validation and visit.split == "train" and fraction > 0 and len(positions):
        # the same edge for all exposures, whatever the order of visits
        left = hashlib.sha256(f"{seed} {visit.pointing}".encode()).digest()[0] % 2 == 0
        columns = np.unique(np.concatenate(visit.positions)[:, 1])
        count = _strip(len(columns), fraction)
        strip = columns[:count] if left else columns[-count:]
        labels[np.isin(positions[:, 1], strip)] = "validation"
    return labels


def training_columns(columns: int, fraction: float) -> int:
    """Return the most columns of a chip's stamps that are left for training, beside those for validation and guard."""
    return columns if fraction == 0 else max(0, columns - _strip(columns, fraction) - 1)


def _strip(columns: int, fraction: float) -> int:
    return max(1, round(fraction * columns))


def _mark_guard(visits: Sequence[VisitStamps], labels: list[list[NDArray[np.str_]]]) -> None:
    """Relabel training stamps near validation stamps as guard, in place."""
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
    first = footprints.directions(corners[:, 0])  # locates a stamp to within its diagonal
    tree = cKDTree(first[training])
    diagonal = footprints.distance_arcsec(corners[:, 0], corners[:, 2]).max()
    for index in validation:
        reach = np.radians((2 * diagonal + guard[index]) / 3600)
        near = training[tree.query_ball_point(first[index], reach)]
        if not len(near):
            continue
        origin = corners[index, 0]
        own = footprints.in_plane(corners[index], origin)[None].repeat(len(near), axis=0)
        gaps = footprints.gap_arcsec(own, footprints.in_plane(corners[near], origin))
        for other in near[gaps < guard[index]]:
            v, e, i = places[other]
            labels[v][e][i] = "guard"


def _by_split(labels: NDArray[np.str_]) -> dict[StampSplit, list[int]]:
    return {split: np.flatnonzero(labels == split).tolist() for split in STAMP_SPLITS if (labels == split).any()}
