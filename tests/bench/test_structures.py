"""Masked pixels that lie as no cosmic rays do."""

from dataclasses import dataclass

import numpy as np
import pytest

from deepcr_zoo import machine
from deepcr_zoo.bench.measures.structures import TRAIL_PIXELS, Structures, find_structures
from deepcr_zoo.errors import DatasetError

SIDE, STAMPS = 64, 8  # two rows of four on a chip
PLACES = np.array([(row, column) for row in (10, 10 + SIDE) for column in (20, 84, 148, 212)], np.int32)


@dataclass
class Stamps:
    """The parts of judged stamps that structures are found by."""

    ignore: np.ndarray
    position: np.ndarray
    chip: np.ndarray


def stamps(ignore=None, position=PLACES, chip=1):
    nothing = np.zeros((STAMPS, SIDE, SIDE), bool)
    return Stamps(nothing if ignore is None else ignore, position, np.full(STAMPS, chip, np.int32))


def cut(frame):
    """The stamps of a frame that starts at the first of them."""
    return np.stack([frame[row - 10 : row - 10 + SIDE, column - 20 : column - 20 + SIDE] for row, column in PLACES])


def a_frame(density=0.01, seed=1):
    return np.random.default_rng(seed).random((2 * SIDE, 4 * SIDE)) < density


@pytest.mark.parametrize("density", [0.0, 0.001, 0.01, 0.06, 0.3])
def test_scattered_pixels_are_no_structures_however_many(density):
    mask = cut(a_frame(density))
    found = find_structures(mask, stamps())
    assert (found.masked, found.in_lines, found.in_trails, found.persistent) == (mask.sum(), 0, 0, 0)


@pytest.mark.parametrize("axis", [0, 1])
def test_a_column_or_row_that_is_masked_over_several_stamps_is_a_line(axis):
    frame = a_frame()
    line = (slice(None, None, 2), 100) if axis == 0 else (30, slice(None, None, 2))
    frame[line] = True
    whole = frame[:, 100] if axis == 0 else frame[30]
    found = find_structures(cut(frame), stamps())
    assert found.in_lines == whole.sum()
    assert found.masked == frame.sum()
    assert find_structures(cut(a_frame()), stamps()).in_lines == 0


def test_a_long_group_is_a_trail_and_a_cosmic_ray_is_none():
    frame = np.zeros((2 * SIDE, 4 * SIDE), bool)
    along = np.arange(TRAIL_PIXELS)
    frame[along // 4, along + 20] = True
    frame[100, 10 : 10 + TRAIL_PIXELS // 4] = True
    assert find_structures(cut(frame), stamps()).in_trails == TRAIL_PIXELS


def test_pixels_that_are_masked_in_most_exposures_are_persistent():
    hot = np.zeros((2 * SIDE, 4 * SIDE), bool)
    hot[::20, ::20] = True
    masks = [a_frame(seed=seed) | hot for seed in range(4)]
    masks[3] &= ~hot
    counts = [find_structures(cut(mask), stamps()) for mask in masks]
    assert sum(counts[:2], Structures()).persistent == 0
    by_chance = sum(find_structures(cut(a_frame(seed=seed)), stamps()).persistent for seed in range(4))
    assert by_chance == 0
    assert 3 * hot.sum() <= sum(counts, Structures()).persistent <= 3 * hot.sum() + 20
    elsewhere = [*counts[:2], find_structures(cut(masks[2]), stamps(chip=2))]
    assert sum(elsewhere, Structures()).persistent == 0


def test_pixels_that_the_truth_calls_cosmic_rays_are_no_structures():
    along = np.arange(TRAIL_PIXELS)
    muon, satellite = (np.zeros((2 * SIDE, 4 * SIDE), bool) for _ in range(2))
    muon[along // 4, along + 20] = True
    satellite[60 + along // 4, along + 20] = True
    satellite[60 + along // 4, along + 21] = True
    mask, truth = cut(muon | satellite), cut(muon)
    alone = find_structures(mask, stamps(), truth)
    assert (alone.masked, alone.in_trails) == ((muon | satellite).sum(), satellite.sum())
    assert find_structures(mask, stamps()).in_trails == alone.masked
    hot = cut(np.eye(2 * SIDE, 4 * SIDE, dtype=bool))
    for truth, persistent in ((~hot, 3 * hot.sum()), (hot, 0)):
        assert sum([find_structures(hot, stamps(), truth)] * 3, Structures()).persistent == persistent


def test_ignored_pixels_do_not_count():
    frame = a_frame()
    frame[:, 100] = True
    ignore = np.zeros_like(frame)
    ignore[:, 99:102] = True
    found = find_structures(cut(frame), stamps(cut(ignore)))
    assert (found.masked, found.in_lines) == ((frame & ~ignore).sum(), 0)


@pytest.mark.parametrize("place", [(-5, 0), (2**31 - 1, 2**31 - 1)])
def test_stamps_that_lie_on_no_chip_are_refused(place):
    with pytest.raises(DatasetError, match="expected a chip"):
        find_structures(cut(a_frame()), stamps(position=np.vstack([PLACES[:-1], [place]])))


def test_stamps_so_far_apart_that_their_chip_takes_all_memory_are_refused(monkeypatch):
    monkeypatch.setattr(machine, "free_memory_bytes", lambda: 10_000_000)
    far = PLACES + np.array([20_000, 20_000], np.int32) * (np.arange(STAMPS) == STAMPS - 1)[:, None]
    with pytest.raises(DatasetError, match=r"takes 6.* GB to judge, 0.01 GB of memory are free"):
        find_structures(cut(a_frame()), stamps(position=far))
    assert find_structures(cut(a_frame()), stamps()).masked
