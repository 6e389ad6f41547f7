"""Positions and pixels of stamps."""

import numpy as np

from deepcr_zoo.dataset.cutting import cut_stamps, stamp_positions
from deepcr_zoo.zoo.recipe import StampBlock


def test_a_full_acs_chip_has_105_stamps_side_by_side_within_the_border():
    found = stamp_positions((2048, 4096), StampBlock())
    assert len(found) == 105
    assert found.min(axis=0).tolist() == [128, 128]
    assert (found.max(axis=0) + 256).tolist() == [1920, 3968]
    covered = np.zeros((2048, 4096), dtype=int)
    for row, column in found:
        covered[row : row + 256, column : column + 256] += 1
    assert (covered[128:1920, 128:3968] == 1).all()
    assert covered.sum() == 105 * 256**2


def test_stamps_are_cut_where_they_are_and_a_small_chip_has_none():
    chip = np.arange(100 * 120).reshape(100, 120)
    block = StampBlock(size=32, border=3)
    where = stamp_positions(chip.shape, block)
    assert len(where) == 2 * 3
    for (row, column), stamp in zip(where, cut_stamps(chip, where, 32), strict=True):
        assert stamp[0, 0] == chip[row, column]
        assert stamp[-1, -1] == chip[row + 31, column + 31]
    assert cut_stamps(chip, stamp_positions((30, 120), block), 32).shape == (0, 32, 32)
