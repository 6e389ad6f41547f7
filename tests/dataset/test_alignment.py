"""Offsets between exposures."""

import numpy as np
import pytest
from scipy import ndimage

from deepcr_zoo.dataset.alignment import measure_offsets


@pytest.mark.parametrize("shift", [(0.0, 0.0), (0.5, -0.4), (1.5, 2.25), (-3.0, 1.0)])
def test_the_exposure_beside_the_others_is_found_with_its_offset(shift):
    rng = np.random.default_rng(4)
    sky_with_stars = np.zeros((300, 300))
    sky_with_stars[rng.integers(10, 290, 200), rng.integers(10, 290, 200)] = 10 ** rng.uniform(2, 4.5, 200)
    images = []
    for offset in ((0, 0), shift, (0, 0)):
        seen = ndimage.gaussian_filter(ndimage.shift(sky_with_stars, offset, order=3), 1.2)
        seen = seen + rng.normal(50, 6, seen.shape)
        seen[rng.random(seen.shape) < 0.01] += 800
        seen[:7] = 0
        images.append(seen.astype(np.float32))
    found = measure_offsets(images)
    np.testing.assert_allclose(found[1], shift, atol=0.15)
    np.testing.assert_allclose(found[[0, 2]], 0, atol=0.15)
