"""Sky level and noise of images: empty and crowded fields, spectra, integers, bad columns."""

import numpy as np
import pytest

from deepcr_zoo.exposures.noisecheck import measure_background

SHAPE = (256, 256)


def noise(sky=40.0, read_noise=5.0, seed=1, shape=SHAPE):
    rng = np.random.default_rng(seed)
    return rng.poisson(sky, shape) + rng.normal(0, read_noise, shape)


@pytest.mark.parametrize(("sky", "read_noise"), [(0.1, 5.0), (40.0, 5.0), (1000.0, 3.0), (10_000.0, 15.0)])
def test_level_and_noise_of_an_empty_field(sky, read_noise):
    found = measure_background(noise(sky, read_noise))
    expected = np.sqrt(sky + read_noise**2)
    assert found.level == pytest.approx(sky, abs=0.1 * expected)
    assert found.noise == pytest.approx(expected, rel=0.06)


def test_integers_that_are_coarse_do_not_make_the_noise_zero():
    counts = np.round(noise(1.0, 5.0) / 10) * 10  # two steps of noise: the MAD of the differences is 0
    assert np.median(np.abs(np.diff(counts))) == 0
    assert measure_background(counts).noise == pytest.approx(np.hypot(5.1, 10 / np.sqrt(12)), rel=0.25)


def test_integers_without_noise_give_none():
    image = np.zeros(SHAPE)
    image[::9, ::11] = 1
    found = measure_background(image)
    assert found is None or found.noise is None


def test_traces_sky_lines_and_bad_columns_do_not_count_as_noise():
    image = noise()
    image[100:110] += 3000
    image[:, ::8] += 500
    image[:, 77] += 1e5
    assert measure_background(image).noise == pytest.approx(np.sqrt(65), rel=0.1)


def test_stars_do_not_count_as_noise():
    rng = np.random.default_rng(2)
    image = noise()
    for _ in range(800):
        row, column = rng.integers(4, 252, 2)
        y, x = np.mgrid[-4:5, -4:5]
        image[row - 4 : row + 5, column - 4 : column + 5] += rng.pareto(0.8) * 50 * np.exp(-(y**2 + x**2) / 2)
    found = measure_background(image)
    assert found.noise == pytest.approx(np.sqrt(65), rel=0.2)
    assert found.level == pytest.approx(40, abs=8)


def test_pixels_that_are_not_usable_and_constant_edges_do_not_count():
    image, usable = noise(), np.ones(SHAPE, dtype=bool)
    image[:, :64] = 0  # filled by a pipeline
    image[:64] = -1e6
    usable[:64] = False
    found = measure_background(image, usable)
    assert found.level == pytest.approx(40, abs=1)
    assert found.noise == pytest.approx(np.sqrt(65), rel=0.06)


@pytest.mark.parametrize("shape", [(1, 1), (3, 40), (20, 20)])
def test_tiny_images_have_no_background(shape):
    assert measure_background(noise(shape=shape)) is None
