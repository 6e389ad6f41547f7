"""Stars of the simulated point spread of ACS/WFC beside what must not pass for one."""

import numpy as np
import pytest

from deepcr_zoo.bench.measures.stars import PEAK_EDGES, find_stars, star_cores
from deepcr_zoo.bench.measures.tally import NO_GROUP
from deepcr_zoo.simulate.optics import OVERSAMPLING, point_spread
from tests.bench.stamps import recipe_of

SIDE, SKY, NOISE = 128, 50.0, 8.0
GRID = np.arange(12, SIDE - 12, 13)
PLACES = [(row, column) for row in GRID for column in GRID]


@pytest.fixture(scope="module")
def kernel():
    """Light of a star on sub-pixels."""
    return point_spread(recipe_of().instrument, defocus=0.03)


def sky(seed):
    return np.random.default_rng(seed).normal(SKY, NOISE, (SIDE, SIDE))


def with_stars(kernel, peak, seed=1):
    """Stars of this peak, anywhere in their pixel, one at each of `PLACES`, with photon noise."""
    rng = np.random.default_rng(seed)
    image = sky(seed)
    middle = kernel.shape[0] // 2
    for row, column in PLACES:
        down, right = rng.integers(-1, 2, 2)
        star = kernel[middle - 5 * OVERSAMPLING + down :: OVERSAMPLING, middle - 5 * OVERSAMPLING + right :: OVERSAMPLING]
        light = star[:11, :11] * (peak / star.max())
        image[row - 5 : row + 6, column - 5 : column + 6] += rng.poisson(light)
    return image.astype(np.float32)[None]


def nothing():
    return np.zeros((1, SIDE, SIDE), dtype=bool)


@pytest.mark.parametrize("peak", [150, 600, 2e3, 6e3, 2e4, 5e4])
def test_stars_are_found_where_they_are_and_in_the_group_of_their_peak(kernel, peak):
    cores = star_cores(with_stars(kernel, peak), nothing(), nothing())[0]
    expected = np.zeros((SIDE, SIDE), dtype=bool)
    for row, column in PLACES:
        expected[row - 2 : row + 3, column - 2 : column + 3] = True
    assert not (cores != NO_GROUP)[~expected].any()
    complete = sum((cores[row - 1 : row + 2, column - 1 : column + 2] != NO_GROUP).all() for row, column in PLACES)
    assert complete >= 0.85 * len(PLACES)
    group = int(np.digitize(peak, PEAK_EDGES))
    assert set(np.unique(cores)) == {NO_GROUP, group}


def test_noise_has_no_stars():
    image = np.stack([sky(seed) for seed in range(20)]).astype(np.float32)
    nowhere = np.zeros(image.shape, dtype=bool)
    assert (star_cores(image, nowhere, nowhere) == NO_GROUP).all()


def test_unlabelled_cosmic_rays_do_not_pass_for_stars():
    image = sky(3)
    rng = np.random.default_rng(3)
    for row, column in PLACES:
        image[row, column] += 2000
        along = rng.integers(0, 3)  # a point, a short track, a long one
        image[row, column + 1 : column + 1 + 3 * along] += 1500
        image[row + 1, column] += 400 * rng.random()  # charge that has spread
    assert (star_cores(image.astype(np.float32)[None], nothing(), nothing()) == NO_GROUP).all()


def test_galaxies_do_not_pass_for_stars():
    image = sky(4)
    rows, columns = np.mgrid[-6:7, -6:7]
    for row, column in PLACES:
        light = 2000 * np.exp(-np.hypot(rows, columns * 1.3) / 3)
        image[row - 6 : row + 7, column - 6 : column + 7] += light
    assert (star_cores(image.astype(np.float32)[None], nothing(), nothing()) == NO_GROUP).all()


@pytest.mark.parametrize("angle", range(0, 180, 20))
@pytest.mark.parametrize("signal", [15, 50, 200])
def test_trails_of_satellites_do_not_pass_for_stars(angle, signal):
    rng = np.random.default_rng(angle)
    rows, columns = np.indices((SIDE, SIDE)) - SIDE / 2
    across = rows * np.cos(np.radians(angle)) - columns * np.sin(np.radians(angle))
    trail = NOISE * signal * np.exp(-np.square(across) / (2 * 0.9**2)) * rng.normal(1, 0.02, (SIDE, SIDE))
    trail[: SIDE // 3] = 0  # it may end anywhere
    image = (sky(5) + trail).astype(np.float32)[None]
    assert (star_cores(image, nothing(), nothing()) == NO_GROUP).all()


def test_a_star_with_a_neighbour_at_one_side_is_a_star(kernel):
    image = with_stars(kernel, 2e3)[0]
    places, _ = find_stars(image[None], nothing())
    beside = image + np.roll(image, 5, axis=1) - SKY
    with_neighbours, _ = find_stars(beside[None], nothing())
    assert len(with_neighbours.T) > 1.5 * len(places.T)


def test_labelled_and_ignored_pixels_are_never_part_of_a_core(kernel):
    image = with_stars(kernel, 5000)
    rng = np.random.default_rng(8)
    cosmic_rays, ignore = rng.random((2, *image.shape)) < 0.03
    cores = star_cores(image, cosmic_rays, ignore)
    assert (cores != NO_GROUP).any()
    assert (cores[cosmic_rays | ignore] == NO_GROUP).all()


def test_a_cosmic_ray_beside_a_star_does_not_hide_it_from_the_ring(kernel):
    image = with_stars(kernel, 1000)
    cosmic_rays = nothing()
    for row, column in PLACES:
        cosmic_rays[0, row + 4, column - 5 : column + 6] = True
    without, _ = find_stars(image, cosmic_rays)
    image[cosmic_rays] += 1e5
    with_them, _ = find_stars(image, cosmic_rays)
    assert len(without[0]) > 0.8 * len(PLACES)
    np.testing.assert_array_equal(with_them, without)
