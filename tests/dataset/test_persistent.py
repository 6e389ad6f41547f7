"""Defects of the detector that exposures of a visit share."""

import numpy as np
import pytest

from deepcr_zoo.dataset.overview import in_runs
from deepcr_zoo.dataset.persistent import Observed, find_defects

SHAPE, NOISE, SKY = (256, 96), 5.0, 100.0


def exposures(count=4, sources=None, expected=None):
    """Exposures of a flat sky and what else lies on the detector; `sources` are added to each by number."""
    for number in range(count):
        random = np.random.default_rng(number)
        light = SKY + (sources(number) if sources else 0)
        image = (random.poisson(np.broadcast_to(light, SHAPE)) + random.normal(0, NOISE, SHAPE)).astype(np.float32)
        yield Observed(image, expected, np.ones(SHAPE, bool), NOISE)


def flat():
    return np.full(SHAPE, SKY, np.float32)


def test_without_defects_nothing_is_found():
    assert not find_defects(exposures(expected=flat())).mask.any()
    assert not find_defects(exposures()).mask.any()


@pytest.mark.parametrize("expected", [flat(), None], ids=["predicted", "alone"])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_faint_column_is_found_bright_and_dark_with_and_without_a_prediction(expected, sign):
    def column(number):
        light = np.zeros(SHAPE)
        light[:, 40] = 12 * sign  # a sigma of a pixel
        return light

    found = find_defects(exposures(sources=column, expected=expected))
    assert found.columns == (40,)
    assert found.mask[:, 40].all()
    assert found.mask.sum() == SHAPE[0]


def test_a_line_of_a_spectrum_is_as_wide_as_its_slit_and_no_defect():
    columns = np.arange(SHAPE[1])
    line = 500 * np.exp(-((columns - 40.3) ** 2) / (2 * (2.0 / 2.355) ** 2))[None] * np.ones(SHAPE)
    assert find_defects(exposures(sources=lambda number: line)).columns == ()


def test_a_star_that_does_not_move_is_no_defect_without_a_prediction():
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    star = 5000 * np.exp(-((rows - 100) ** 2 + (columns - 50) ** 2) / 2)
    assert not find_defects(exposures(sources=lambda number: star)).mask.any()


def test_cosmic_rays_are_no_defects_also_where_two_of_four_hit_a_pixel():
    def struck(number):
        light = np.zeros(SHAPE)
        light[20:24, 30] = 800 * (number < 2)
        light[100 + 30 * number : 120 + 30 * number, 60] = 900  # a track along a column
        return light

    assert not find_defects(exposures(sources=struck, expected=flat())).mask.any()


def test_one_exposure_shows_nothing_that_lasts():
    def hot(number):
        light = np.zeros(SHAPE)
        light[:, 40] = 900
        return light

    assert not find_defects(exposures(1, hot, flat())).mask.any()
    assert find_defects(exposures(2, hot, flat())).columns == (40,)


def test_columns_are_listed_in_runs():
    assert in_runs([3, 7, 8, 9, 12]) == "3, 7-9, 12"
    assert in_runs([]) == ""
