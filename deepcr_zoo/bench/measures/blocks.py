"""Blocks of sky to resample over: neighbouring pixels, and exposures of one sky, are not independent."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from deepcr_zoo.dataset.footprints import Positions, centre, in_plane
from deepcr_zoo.dataset.reading import Dataset, ExposureStamps
from deepcr_zoo.errors import DatasetError
from deepcr_zoo.zoo.recipe import FieldType

STAMPS_A_SIDE = 2
"""Side of a block in stamps: dithered exposures of one piece of sky should mostly fall into the same block."""


@dataclass(frozen=True, eq=False)
class SkyBlocks:
    """The blocks of all test stamps of a field type.

    `of_stamps` holds the block of each test stamp by visit and exposure (`key`), `visits` the visit number of each block.
    """

    of_stamps: dict[tuple[str, str], NDArray[np.intp]]
    visits: NDArray[np.intp]

    @property
    def count(self) -> int:
        return len(self.visits)


def key(group: ExposureStamps) -> tuple[str, str]:
    """Return the visit's key and the exposure's name, which identify an exposure."""
    return group.visit.key, group.exposure.name


def sky_blocks(dataset: Dataset, field_type: FieldType) -> SkyBlocks:
    """Cut the sky of each test visit into blocks of 2 x 2 stamps; the centre of a stamp decides its block."""
    of_stamps: dict[tuple[str, str], NDArray[np.intp]] = {}
    visits: list[int] = []
    by_visit = groupby(dataset.exposures("test", field_type), key=lambda group: group.visit.key)
    for number, groups in enumerate(list(each) for _, each in by_visit):
        corners = [group.read("corners")["corners"] for group in groups]
        origin = centre(np.concatenate(corners))
        planes = [in_plane(one, origin) for one in corners]
        found, block = np.unique(_cells(planes), axis=0, return_inverse=True)
        ends = np.cumsum([len(one) for one in planes])[:-1]
        for group, numbers in zip(groups, np.split(block.ravel() + len(visits), ends), strict=True):
            of_stamps[key(group)] = numbers
        visits += [number] * len(found)
    return SkyBlocks(of_stamps, np.array(visits, dtype=np.intp))


def _cells(planes: list[Positions]) -> NDArray[np.int64]:
    """Return row and column of the block that holds each stamp's centre, along the sides of the first exposure's stamps."""
    first, middles = planes[0], np.concatenate(planes).mean(axis=1)
    sides = np.stack([first[:, 1] - first[:, 0], first[:, 3] - first[:, 0]]).mean(axis=1)
    if not abs(np.linalg.det(sides)) > 0:
        raise DatasetError("the corners of stamps are no squares on the sky: build the training set again")
    in_stamps = (middles - middles[0]) @ np.linalg.inv(sides)
    # half a stamp aside: no centre lies on the edge between blocks, where a dither would carry it over
    cells: NDArray[np.int64] = np.floor((in_stamps + 0.5) / STAMPS_A_SIDE).astype(np.int64)
    return cells
