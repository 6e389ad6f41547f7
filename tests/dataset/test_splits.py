"""No patch of sky is on two sides, even where several visits overlap."""

from itertools import pairwise

import numpy as np
import pytest
from scipy.spatial import cKDTree

from deepcr_zoo.dataset import footprints, splits
from deepcr_zoo.dataset.cutting import stamp_positions
from deepcr_zoo.dataset.footprints import POINTING_ARCSEC
from deepcr_zoo.dataset.splits import VisitStamps
from deepcr_zoo.zoo.recipe import StampBlock
from tests.dataset.test_footprints import wcs

SIDE, BLOCK = 400, StampBlock(size=32, border=8)


def visit(pointing, ra, dec, roll, split="train", dither=2.0, block=BLOCK):
    """Three exposures, each `dither` arcsec beside the one before."""
    positions = stamp_positions((SIDE, SIDE), block)
    chips = [wcs(ra, dec + step * dither / 3600, roll, (SIDE, SIDE)) for step in range(3)]
    corners = [footprints.corners(chip, positions, block.size) for chip in chips]
    return VisitStamps(pointing, split, 2 * dither, [positions] * 3, corners)


def pixels(visits, assigned, wanted):
    """Directions of every fourth pixel of all stamps that are for something, their edges included."""
    offsets = np.linspace(0, 1, 9)
    u, v = (part[..., None] for part in np.meshgrid(offsets, offsets))
    found = []
    for one, of_visit in zip(visits, assigned, strict=True):
        for corners, by_split in zip(one.corners, of_visit, strict=True):
            for a, b, c, d in corners[by_split.get(wanted, [])]:
                found.append(((1 - u) * (1 - v) * a + (1 - v) * u * b + u * v * c + (1 - u) * v * d).reshape(-1, 2))
    ra, dec = np.radians(np.concatenate(found).T)
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=-1)


@pytest.mark.parametrize("seed", range(2))
def test_the_guard_separates_training_and_validation_of_overlapping_visits(seed):
    # half over each other, turned against each other, and one far away
    visits = [
        visit("a", 50.0, 10.0, 0.0),
        visit("b", 50.0 + 10 / 3600, 10.0, 0.0, dither=0.5),
        visit("c", 50.0, 10.0 + 12 / 3600, 33.0),
        visit("d", 51.0, 10.0, 70.0),
    ]
    assigned = splits.assign_splits(visits, 0.25, seed)
    train, validation = (pixels(visits, assigned, split) for split in ("train", "validation"))
    nearest = cKDTree(train).query(validation)[0].min() * 206265
    assert nearest > 2 * 0.5 + POINTING_ARCSEC
    kept = {split: sum(len(e.get(split, [])) for v in assigned for e in v) for split in ("train", "validation", "guard")}
    assert sum(kept.values()) == 4 * 3 * 144
    assert kept["validation"] == 4 * 3 * 36
    assert kept["train"] > 250


def test_one_strip_is_for_validation_and_the_next_column_is_the_guard():
    (found,) = splits.assign_splits([visit("a", 50.0, 10.0, 0.0, dither=0.1)], 0.25, 1)
    columns = stamp_positions((SIDE, SIDE), BLOCK)[:, 1]
    for by_split in found:
        places = {split: sorted({(columns[i] - 8) // 32 for i in chosen}) for split, chosen in by_split.items()}
        left = places["validation"][0] == 0
        assert places["validation"] == ([0, 1, 2] if left else [9, 10, 11])
        assert places["guard"] == ([3] if left else [8])
        assert places["train"] == (list(range(4, 12)) if left else list(range(8)))


def test_the_seed_chooses_the_side_and_the_order_of_visits_does_not():
    few = StampBlock(size=96, border=8)
    visits = [visit(name, 50.0 + number, 10.0, 0.0, block=few) for number, name in enumerate("abcdefgh")]
    first = splits.assign_splits(visits, 0.2, 1)
    assert splits.assign_splits(visits[::-1], 0.2, 1) == first[::-1]
    sides = {seed: [0 in v[0]["validation"] for v in splits.assign_splits(visits, 0.2, seed)] for seed in range(6)}
    assert {True, False} == set(sides[1])
    assert any(one != other for one, other in pairwise(sides.values()))


def test_test_visits_stay_whole_and_a_fraction_of_zero_leaves_all_for_training():
    visits = [visit("a", 50.0, 10.0, 0.0), visit("t", 50.0, 11.0, 0.0, "test")]
    assert splits.assign_splits(visits, 0.0, 1) == [[{"train": list(range(144))}] * 3, [{"test": list(range(144))}] * 3]
