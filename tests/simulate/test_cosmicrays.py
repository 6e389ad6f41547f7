import numpy as np
import pytest
from scipy import ndimage

from deepcr_zoo.simulate.cosmicrays import IN_ORBIT, Particles, cosmic_rays
from tests.simulate.visits import instrument

SHAPE = (1024, 1024)
AREA_CM2 = SHAPE[0] * SHAPE[1] * (15e-4) ** 2


@pytest.fixture(scope="module")
def hits():
    return cosmic_rays(SHAPE, 500.0, instrument(), IN_ORBIT, np.random.default_rng(1))


def test_cosmic_rays_come_at_the_rate_of_the_recipe(hits):
    _, events = ndimage.label(hits > 0, np.ones((3, 3)))
    # diffusion joins a few neighbours and breaks up a few tracks; weak ones that only graze the chip are lost
    assert events / AREA_CM2 / 500 == pytest.approx(instrument().cosmic_rays_per_cm2_s, rel=0.2)


def test_twice_the_time_brings_twice_the_charge(hits):
    longer = [cosmic_rays(SHAPE, 1000.0, instrument(), IN_ORBIT, np.random.default_rng(seed)) for seed in (2, 3)]
    fraction = np.mean([(image > 20).mean() for image in longer])
    assert fraction / (hits > 20).mean() == pytest.approx(2, rel=0.1)


def test_events_are_a_few_pixels_wide_and_some_are_long(hits):
    labels, _ = ndimage.label(hits > 20, np.ones((3, 3)))
    sizes = np.bincount(labels.ravel())[1:]
    assert 4 <= np.median(sizes) <= 8
    assert 20 < np.percentile(sizes, 99) < 200
    assert 0.004 < (hits > 20).mean() < 0.02  # ACS Instrument Handbook: 1.5 to 3 % of the pixels in 1000 s


def test_a_minimum_ionising_particle_frees_the_charge_that_the_handbook_measures():
    protons = Particles(electrons=0.0, helium=0.0, heavy=0.0)
    charge = cosmic_rays(SHAPE, 300.0, instrument(), protons, np.random.default_rng(1))
    labels, events = ndimage.label(charge > 0, np.ones((3, 3)))
    sums = ndimage.sum_labels(charge, labels, np.arange(1, events + 1))
    # 16 um of silicon at about 65 e- per um, longer for slanted tracks
    assert 600 < np.median(sums) < 2500


def test_thicker_silicon_collects_more_charge():
    thick = instrument().model_copy(update={"silicon_um": 64.0})
    thin, more = (
        cosmic_rays((512, 512), 300.0, block, IN_ORBIT, np.random.default_rng(1)).sum() for block in (instrument(), thick)
    )
    assert more > 2 * thin
