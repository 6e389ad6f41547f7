import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from deepcr_zoo.models.images import local_median, replace_from_neighbours


def brute_force_median(image, good, row, column):
    rows, columns = slice(max(0, row - 2), row + 3), slice(max(0, column - 2), column + 3)
    values = image[rows, columns][good[rows, columns]]
    return np.median(values) if values.size else np.nan


@given(
    hnp.arrays(np.float32, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.floats(-1e4, 1e4, width=32)),
    st.integers(0, 2**32 - 1),
    st.floats(0, 1),
)
def test_the_local_median_equals_a_loop_over_pixels(image, seed, fraction):
    rng = np.random.default_rng(seed)
    wanted, good = rng.random(image.shape) < 0.5, rng.random(image.shape) < fraction
    expected = [brute_force_median(image.astype(float), good, *place) for place in zip(*np.nonzero(wanted), strict=True)]
    np.testing.assert_allclose(local_median(image, wanted, good), np.array(expected, dtype=float), rtol=1e-6, atol=1e-30)


def test_a_pixel_far_from_good_ones_takes_the_nearest():
    image = np.arange(20 * 20, dtype=np.float32).reshape(20, 20)
    good = np.zeros((20, 20), dtype=bool)
    good[:, 0] = True
    replaced = replace_from_neighbours(image, ~good, good)
    np.testing.assert_array_equal(replaced[good], image[good])
    assert replaced[7, 19] == image[7, 0]
    assert np.isfinite(replaced).all()


def test_without_a_good_pixel_the_replacement_is_zero():
    image, everywhere = np.full((3, 3), np.nan, np.float32), np.ones((3, 3), bool)
    assert (replace_from_neighbours(image, everywhere, ~everywhere) == 0).all()
