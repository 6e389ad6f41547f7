"""Particles on the ground: rates, directions and shapes."""

from dataclasses import dataclass

import numpy as np
import pytest
from scipy import ndimage

from deepcr_zoo.simulate.particles import compton_energies_kev, ground_particles, muon_directions
from deepcr_zoo.zoo.simulation import SimulationBlock

NONE = {"muons_per_cm2_min": 0.0, "compton_electrons_per_cm2_min": 0.0, "alphas_per_cm2_day": 0.0}


@dataclass(frozen=True)
class Ccd:
    silicon_um: float = 250.0
    charge_spread_um: float = 6.0
    pixel_size_um: float = 15.0


def hits(seed=1, seconds=1200.0, silicon=Ccd(), **rates):
    """Return the sizes (pixels) and charges (e-) of the particles on 2.36 cm2."""
    random = np.random.default_rng(seed)
    image = ground_particles((1024, 1024), seconds, silicon, SimulationBlock(**{**NONE, **rates}), 0.0, random)
    found, count = ndimage.label(image > 20, np.ones((3, 3)))
    numbers = np.arange(1, count + 1)
    return ndimage.sum_labels(found > 0, found, numbers), ndimage.sum_labels(image, found, numbers)


def test_muons_cross_a_horizontal_detector_at_their_rate():
    sizes, _ = hits(muons_per_cm2_min=1.0)
    assert len(sizes) == pytest.approx(1.0 * 2.36 * 20, rel=0.35)


def test_a_detector_that_looks_aside_sees_fewer_muons():
    random = np.random.default_rng(2)
    assert muon_directions(0.0, random)[1] == pytest.approx(1, abs=0.02)
    assert muon_directions(90.0, random)[1] == pytest.approx(0.5, abs=0.05)


def test_muons_leave_the_charge_of_minimum_ionising_particles():
    _, charges = hits(muons_per_cm2_min=3.0)
    assert 60 < np.median(charges) / 250 < 130  # e- per micrometre, about 80 for a vertical path


def test_recoils_end_at_the_compton_edge_of_thallium():
    energies = compton_energies_kev(20_000, np.random.default_rng(3))
    assert energies.max() == pytest.approx(2382, rel=0.01)
    assert np.median(energies) < 1000


def test_alpha_particles_leave_bright_round_spots():
    sizes, charges = hits(alphas_per_cm2_day=600.0)
    assert np.median(charges) > 5e5
    assert 15 < np.median(sizes) < 150
