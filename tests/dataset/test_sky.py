"""Sky levels of exposures."""

import numpy as np
import pytest

from deepcr_zoo.dataset.sky import SkyLevel, choose_sky_level, measure_sky


def test_the_sky_level_says_where_it_comes_from():
    assert choose_sky_level("mdrizsky", [50.0, 52.0], 40.0) == SkyLevel(51.0, "mdrizsky")
    for absent in ([None], [0.0, 0.0], [50.0, None], [float("nan")]):
        assert choose_sky_level("mdrizsky", absent, 40.0) == SkyLevel(40.0, "measured")
    assert choose_sky_level("measured", [50.0], 40.0) == SkyLevel(40.0, "measured")


def test_a_measured_level_is_the_sky_between_stars_cosmic_rays_and_what_is_ignored():
    rng = np.random.default_rng(2)
    image = rng.normal(60, 8, (500, 500)).astype(np.float32)
    image[rng.random(image.shape) < 0.02] += 500
    image[:100] = 1e4
    image[200, 200] = np.nan
    ignored = ~np.isfinite(image)
    ignored[:100] = True
    assert measure_sky([image], [ignored]) == pytest.approx(60, abs=0.3)
