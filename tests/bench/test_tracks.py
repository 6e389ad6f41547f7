import itertools

import numpy as np
import pytest

from deepcr_zoo.bench.measures.tally import NO_GROUP
from deepcr_zoo.bench.measures.tracks import (
    BRIGHTNESS_EDGES,
    OUTER_PIXELS,
    REGIONS,
    SIZE_EDGES,
    brightness_group,
    class_group,
    middle_of_each,
    region_group,
    size_group,
    whole_cosmic_rays,
)

SHAPE = (3, 32, 32)


@pytest.fixture
def masks():
    """Random labels and ignored pixels."""
    rng = np.random.default_rng(5)
    return rng.random(SHAPE) < 0.1, rng.random(SHAPE) < 0.05


def flooded(mask, start):
    """Pixels of the 8-connected part of a mask that holds a pixel, by walking from it."""
    found, edge = {start}, [start]
    while edge:
        row, column = edge.pop()
        for place in itertools.product((row - 1, row, row + 1), (column - 1, column, column + 1)):
            if place not in found and all(0 <= axis < 32 for axis in place) and mask[place]:
                found.add(place)
                edge.append(place)
    return found


def test_the_size_of_a_pixel_is_that_of_its_cosmic_ray_in_its_own_stamp(masks):
    cosmic_rays, ignore = masks
    group = size_group(cosmic_rays, ignore)
    for place in np.ndindex(SHAPE):
        if not cosmic_rays[place] or ignore[place]:
            assert group[place] == NO_GROUP
        else:
            size = len(flooded(cosmic_rays[place[0]], place[1:]))
            assert group[place] == sum(size >= edge for edge in SIZE_EDGES) - 1


def test_ignored_pixels_count_for_the_size_of_their_cosmic_ray():
    cosmic_rays, ignore = np.zeros((2, *SHAPE), dtype=bool)
    cosmic_rays[1, 4, 4:9] = True
    ignore[1, 4, 4:8] = True
    group = size_group(cosmic_rays, ignore)
    assert group[1, 4, 8] == SIZE_EDGES.index(5)
    assert (group != NO_GROUP).sum() == 1


def test_stamps_without_cosmic_rays_are_in_no_group():
    nothing = np.zeros(SHAPE, dtype=bool)
    assert (size_group(nothing, nothing) == NO_GROUP).all()
    assert (brightness_group(np.zeros(SHAPE, np.float32), nothing, nothing) == NO_GROUP).all()


def test_brightness_is_the_excess_over_the_median_of_the_unmasked_pixels_around(masks):
    cosmic_rays, ignore = masks
    image = (10 ** np.random.default_rng(6).uniform(0, 5, SHAPE)).astype(np.float32)
    group = brightness_group(image, cosmic_rays, ignore)
    good = ~cosmic_rays & ~ignore
    for stamp, row, column in np.ndindex(SHAPE):
        if not cosmic_rays[stamp, row, column] or ignore[stamp, row, column]:
            assert group[stamp, row, column] == NO_GROUP
            continue
        near = stamp, slice(max(0, row - 2), row + 3), slice(max(0, column - 2), column + 3)
        excess = image[stamp, row, column] - np.median(image[near][good[near]])
        assert group[stamp, row, column] == sum(excess >= edge for edge in BRIGHTNESS_EDGES)


def test_the_first_and_the_last_group_of_brightness_have_no_bound():
    cosmic_rays, ignore = np.zeros((2, *SHAPE), dtype=bool)
    image = np.full(SHAPE, 1000, dtype=np.float32)
    for row, excess in ((5, -500.0), (15, 30.0), (25, 1e6)):
        cosmic_rays[0, row, 9], image[0, row, 9] = True, 1000 + excess
    group = brightness_group(image, cosmic_rays, ignore)
    assert group[0, [5, 15, 25], 9].tolist() == [0, 1, len(BRIGHTNESS_EDGES)]


def test_every_counted_pixel_is_in_the_region_and_class_that_it_is_of(masks):
    cosmic_rays, ignore = masks
    group = region_group(cosmic_rays, ignore)
    for place in np.ndindex(SHAPE):
        is_outer = any(min(axis, 31 - axis) < OUTER_PIXELS for axis in place[1:])
        region = REGIONS.index("outer 8 pixels" if is_outer else "interior")
        assert group[place] == (NO_GROUP if ignore[place] else 2 * region + cosmic_rays[place])


def test_every_counted_pixel_is_in_the_block_of_its_stamp_and_its_class(masks):
    cosmic_rays, ignore = masks
    block = np.array([7, 0, 2])
    group = class_group(cosmic_rays, ignore, block)
    for place in np.ndindex(SHAPE):
        assert group[place] == (NO_GROUP if ignore[place] else 2 * block[place[0]] + cosmic_rays[place])


def test_a_cosmic_ray_is_found_where_half_of_its_counted_pixels_are_masked(masks):
    cosmic_rays, ignore = masks
    number, sizes = whole_cosmic_rays(cosmic_rays, ignore)
    values = np.random.default_rng(2).random(SHAPE).astype(np.float32)
    middle = middle_of_each(values, number)
    assert len(middle) == len(sizes) == number.max() + 1 > 50
    assert ((number == NO_GROUP) == (ignore | ~cosmic_rays)).all()
    for one, size in enumerate(sizes):
        stamp, row, column = np.argwhere(number == one)[0]
        whole = np.array(sorted(flooded(cosmic_rays[stamp], (row, column))))
        assert size == sum(len(whole) >= edge for edge in SIZE_EDGES) - 1
        own = [values[stamp, row, column] for row, column in whole if not ignore[stamp, row, column]]
        assert (number == one).sum() == len(own)
        for threshold in (0.2, 0.5, 0.8):
            assert (middle[one] > threshold) == (np.mean(np.array(own) > threshold) >= 0.5)


def test_stamps_without_cosmic_rays_have_none_to_find():
    number, sizes = whole_cosmic_rays(np.zeros(SHAPE, bool), np.zeros(SHAPE, bool))
    assert len(sizes) == 0
    assert len(middle_of_each(np.zeros(SHAPE), number)) == 0
