import numpy as np
import pytest

from deepcr_zoo.simulate.detector import (
    BAD_COLUMN,
    FULL_WELL,
    HOT,
    WARM,
    Defects,
    bloom,
    draw_defects,
    leave_trails,
    read_out,
)
from tests.simulate.visits import instrument

SHAPE = (300, 200)
STILL = np.zeros(SHAPE[0], np.float32)
CLEAN = Defects(np.zeros(SHAPE, np.int16), np.zeros(SHAPE, np.float32))
FULL = instrument().saturation_electron


def test_blooming_conserves_charge_and_leaves_no_pixel_beyond_its_full_well():
    charge = np.full(SHAPE, 100.0, np.float32)
    charge[150, 90:94] = [5 * FULL, 20 * FULL, 7 * FULL, 1.5 * FULL]
    charge[160, 91] = 2 * FULL
    before = charge.astype(np.float64).sum()
    bloom(charge, FULL)
    assert charge.max() <= FULL * (1 + 1e-6)
    assert charge.astype(np.float64).sum() == pytest.approx(before, rel=1e-7)
    assert (charge[:, [80, 95]] == 100).all()


def test_blooming_runs_up_and_down_the_column_alike():
    charge = np.zeros(SHAPE, np.float32)
    charge[150, 100] = 9 * FULL
    bloom(charge, FULL)
    np.testing.assert_allclose(charge[146:155, 100], FULL)
    assert charge.sum() == pytest.approx(9 * FULL)


def test_charge_that_reaches_the_edge_leaves_the_chip():
    charge = np.zeros(SHAPE, np.float32)
    charge[1, 100] = 9 * FULL
    bloom(charge, FULL)
    np.testing.assert_allclose(charge[:6, 100], FULL)
    assert charge.sum() == pytest.approx(6 * FULL)


def test_the_noise_is_that_of_electrons_dark_current_and_reading():
    scene = np.full(SHAPE, 200.0, np.float32)
    reading = read_out(scene, np.zeros_like(scene), CLEAN, STILL, 500.0, instrument(), np.random.default_rng(1))
    residual = (reading.electrons - scene) / reading.noise
    assert residual.std() == pytest.approx(1, abs=0.01)
    assert abs(residual.mean()) < 0.015
    assert np.median(reading.error) == pytest.approx(reading.noise[0, 0], rel=0.01)


def test_saturated_pixels_and_their_trails_are_flagged():
    scene = np.full(SHAPE, 50.0, np.float32)
    scene[100, 100] = 6 * FULL
    reading = read_out(scene, np.zeros_like(scene), CLEAN, STILL, 10.0, instrument(), np.random.default_rng(1))
    flagged = (reading.quality & FULL_WELL) != 0
    assert 5 <= flagged.sum() <= 7
    assert flagged[:, 100].sum() == flagged.sum()


def test_a_chip_has_hot_and_warm_pixels_and_bad_columns():
    defects = draw_defects((2048, 1024), np.random.default_rng(1))
    hot, warm = ((defects.quality & bit) != 0 for bit in (HOT, WARM))
    assert 0.003 < (hot | warm).mean() < 0.01
    assert np.median(defects.excess[hot & ~warm]) > np.median(defects.excess[warm])
    assert 1 <= ((defects.quality & BAD_COLUMN) != 0).any(axis=0).sum() <= 4


@pytest.mark.parametrize("towards", ["lower rows", "higher rows"])
def test_trails_lie_behind_and_grow_with_the_distance_to_the_register(towards):
    rows = SHAPE[0]
    down = towards == "lower rows"
    transfers = np.arange(1, rows + 1) if down else np.arange(-rows, 0)
    behind, near_row, far_row = (1, 40, 260) if down else (-1, 260, 40)
    charge = np.full(SHAPE, 60.0, np.float32)
    charge[[near_row, far_row], [50, 150]] = 10_000
    before = charge.copy()
    leave_trails(charge, transfers.astype(np.float32))
    change = charge - before
    assert change[far_row, 150] < 4 * change[near_row, 50] < 0
    assert change[far_row + behind, 150] > 1 > change[far_row - behind, 150]
    moved = change[:, 150] - change[:, 0]
    assert abs(moved.sum()) < 0.1 * np.abs(moved).sum()
