import numpy as np
import pytest

from deepcr_zoo.bench.measures.lacosmicmasks import masked_as_chips

SIDE = 4


def test_stamps_are_masked_as_the_piece_of_the_chip_that_they_were_cut_from():
    chip = np.random.default_rng(1).random((12, 16), dtype=np.float32)
    places = [(row, column) for row in (0, 4, 8) for column in (0, 4, 8, 12) if (row, column) != (4, 8)]
    stamps = np.stack([chip[row : row + SIDE, column : column + SIDE] for row, column in places])
    order = np.random.default_rng(2).permutation(len(places))
    seen = []

    def mask(frame):
        seen.append(frame)
        return [frame > 0.5, frame > 0.9]

    position = np.array(places, np.int32)[order] + [100, 200]
    found = masked_as_chips(stamps[order], position, np.ones(len(order), np.int32), mask)
    np.testing.assert_array_equal(found, [stamps[order] > 0.5, stamps[order] > 0.9])
    (frame,) = seen
    assert np.isnan(frame[4:8, 8:12]).all()
    np.testing.assert_array_equal(np.nan_to_num(frame), np.where(np.isnan(frame), 0, chip))


@pytest.mark.parametrize("chips", [(1, 1), (1, 2)])
def test_chips_are_masked_each_by_itself(chips):
    stamps = np.zeros((2, SIDE, SIDE), np.float32)
    shapes = []

    def mask(frame):
        shapes.append(frame.shape)
        return [np.ones(frame.shape, bool)]

    position = np.array([[0, 0], [0, SIDE]], np.int32)
    assert masked_as_chips(stamps, position, np.array(chips, np.int32), mask).all()
    assert shapes == ([(SIDE, 2 * SIDE)] if chips == (1, 1) else [(SIDE, SIDE)] * 2)
