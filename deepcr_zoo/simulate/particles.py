"""Particles that hit a detector on the ground: muons, Compton electrons and their worms, and alpha particles.

After Groom 2004 (Experimental Astronomy 14, 45, "Cosmic rays and other nonsense in astronomical CCD imagers"): muons leave
straight tracks; low-energy electrons, mostly recoils of gamma rays of 40K and of the U and Th chains, wander ("worms").
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deepcr_zoo.simulate.bounds import MOST_DEPOSITS, drawn, within
from deepcr_zoo.simulate.charge import Deposits, Floats, Silicon, collect
from deepcr_zoo.simulate.cosmicrays import (
    ELECTRON_REST_KEV,
    EV_PER_ELECTRON,
    MARGIN_PIXELS,
    secondary_electrons,
    straight_tracks,
)
from deepcr_zoo.zoo.simulation import SimulationBlock

_POOL = 20_000  # directions from which those of the muons are drawn
_MINUTE, _DAY = 60.0, 86_400.0
_GAMMA_KEV = np.array([609.0, 1120.0, 1461.0, 1764.0, 2615.0])
"""Strong lines of 214Bi (609, 1120, 1764), 40K (1461) and 208Tl (2615); that they are equally strong is assumed."""

_LEAST_RECOIL_KEV = 15.0  # assumed
_ELECTRON_RANGE_UM = 400.0  # in silicon, of a recoil of some 400 keV (order of magnitude, not verified)
_ALPHA_EV = 5.3e6  # of 210Po, on surfaces
_ALPHA_RANGE_UM = 26.0  # in silicon (not verified)
_ALPHA_POINTS = 1500
_PLASMA_UM = 12.0  # sigma by which the dense charge of an alpha particle repels itself (assumed)


def ground_particles(
    shape: tuple[int, int],
    seconds: float,
    silicon: Silicon,
    block: SimulationBlock,
    zenith_angle_deg: float,
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """Return the electrons that particles leave on a chip, shape (H, W), of a camera that looks this far from the zenith."""
    rows, columns = (side + 2 * MARGIN_PIXELS for side in shape)
    area_cm2 = rows * columns * (silicon.pixel_size_um * 1e-4) ** 2
    directions, flux = muon_directions(zenith_angle_deg, rng)

    def starts(expected: float, what: str) -> Floats:
        return np.asarray(rng.random((drawn(expected, what, rng), 2)) * (columns, rows) - MARGIN_PIXELS)

    muons = starts(block.muons_per_cm2_min * flux * area_cm2 * seconds / _MINUTE, "muons")
    crossing = np.abs(directions[:, 2])
    chosen = directions[rng.choice(len(directions), len(muons), p=crossing / crossing.sum())]
    azimuth = np.arctan2(chosen[:, 1], chosen[:, 0])
    deposits = straight_tracks(muons, np.abs(chosen[:, 2]), azimuth, np.ones(len(muons)), silicon, rng)
    recoils = starts(block.compton_electrons_per_cm2_min * area_cm2 * seconds / _MINUTE, "Compton electrons")
    born_inside = silicon.silicon_um / (silicon.silicon_um + _ELECTRON_RANGE_UM)
    deposits.append(secondary_electrons(recoils, silicon, rng, compton_energies_kev, born_inside))
    deposits.append(_alphas(starts(block.alphas_per_cm2_day * area_cm2 * seconds / _DAY, "alpha particles"), silicon, rng))
    return collect(deposits, shape, silicon, rng)


def muon_directions(zenith_angle_deg: float, rng: np.random.Generator) -> tuple[Floats, float]:
    """Return directions of muons in the frame of the detector, shape (N, 3), and the flux / that of a horizontal surface.

    Their intensity falls as the squared cosine of the zenith angle (Particle Data Group); the third axis is the normal.
    """
    cosine = rng.random(_POOL) ** (1 / 3)
    azimuth = rng.random(_POOL) * 2 * np.pi
    sine = np.sqrt(1 - cosine**2)
    x, y, up = sine * np.cos(azimuth), sine * np.sin(azimuth), cosine
    tilt = np.radians(zenith_angle_deg)
    tilted = np.stack([x * np.cos(tilt) - up * np.sin(tilt), y, x * np.sin(tilt) + up * np.cos(tilt)], axis=1)
    # a horizontal surface sees a mean cosine of 3/4
    return tilted, float(np.abs(tilted[:, 2]).mean() / 0.75)


def compton_energies_kev(number: int, rng: np.random.Generator) -> Floats:
    """Draw energies of Compton recoils: flat up to the edge of a gamma line, roughly as the Klein-Nishina formula."""
    gamma = rng.choice(_GAMMA_KEV, number)
    edge = 2 * gamma**2 / (ELECTRON_REST_KEV + 2 * gamma)
    return np.asarray(_LEAST_RECOIL_KEV + (edge - _LEAST_RECOIL_KEV) * rng.random(number))


def _alphas(starts: Floats, silicon: Silicon, rng: np.random.Generator) -> Deposits:
    """Deposits of alpha particles, which enter from either side and stop within some 26 micrometres."""
    number = len(starts)
    within(number * _ALPHA_POINTS, MOST_DEPOSITS, "deposits of alpha particles")
    cosine, azimuth = np.sqrt(rng.random(number)), rng.random(number) * 2 * np.pi
    along = np.sort(rng.random((number, _ALPHA_POINTS)), axis=1) * _ALPHA_RANGE_UM
    down = along * cosine[:, None]
    depth = np.where((rng.random(number) < 0.5)[:, None], down, silicon.silicon_um - down)
    across = along * np.sqrt(1 - cosine**2)[:, None]
    place_um = np.stack([across * np.cos(azimuth)[:, None], across * np.sin(azimuth)[:, None]], axis=2)
    place_um += rng.standard_normal(place_um.shape) * _PLASMA_UM
    inside = (depth > 0) & (depth < silicon.silicon_um)
    place = (starts[:, None, :] + place_um / silicon.pixel_size_um)[inside]
    charge = np.full(len(place), _ALPHA_EV / EV_PER_ELECTRON / _ALPHA_POINTS)
    return Deposits(place, depth[inside], charge)
