"""Cosmic rays: the electrons that charged particles free along their paths through the silicon of a detector."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from deepcr_zoo.simulate.bounds import MOST_DEPOSITS, drawn, within
from deepcr_zoo.simulate.charge import Deposits, Floats, Silicon, collect

EV_PER_ELECTRON = 3.65  # energy that frees one electron in silicon: 3.64 to 3.75 in the literature, by temperature
MARGIN_PIXELS = 60  # tracks may start this far outside the chip

# of a minimum-ionising particle of charge 1 (3.8 after Bichsel 1988, not verified):
# fitted to the charge of real cosmic rays on the CCD of STIS
_COLLISIONS_PER_UM = 2.8
_LEAST_EV, _MOST_EV = 8.5, 6.0e4  # energy losses fall as E^-2 between these (Rutherford; the bounds are assumed)
_DELTA_EV = 12_000.0  # an electron of this energy is followed, since it travels more than a micrometre
_SLOW = 0.12  # share of particles slower than minimum-ionising; this and the following values are assumed
_SLOW_INDEX, _MOST_LOSS = 1.6, 30.0  # Pareto index and bound of their losses
_HEAVY = (36, 64, 144, 196)  # charge squared: C, O, Mg, Si
_BUNDLE = 12.0  # losses per bundle: collisions of heavy ions are drawn in bundles, to keep their number down
_LEAST_COSINE = 0.01
_ELECTRON_KEV = (25.0, 3000.0)  # secondary electrons of the spacecraft, flat in log energy
_BORN_INSIDE = 0.5  # share of electrons that a photon frees within the silicon

ELECTRON_REST_KEV = 511.0
_RADIATION_LENGTH_UM = 93_600.0  # silicon, about 9.4 cm (Particle Data Group)
_MINIMUM_LOSS_KEV_PER_UM = 0.27  # of a minimum-ionising electron, assumed: thin layers lose less than the tabulated mean
_STEP_UM, _LEAST_STEP_UM = 1.5, 0.15
_SCATTERING = 0.8  # assumed: of Highland's formula, whose logarithm is below 1 for steps this short
_STOPPED_KEV = 0.5
_MOST_STEPS = 2500


@dataclass(frozen=True)
class Particles:
    """Composition of the particles that cross the detector."""

    electrons: float  # share of secondary electrons among all particles
    helium: float  # share of the other particles, like heavy
    heavy: float


class StruckSilicon(Silicon, Protocol):
    """A detector that particles cross at a rate."""

    @property
    def cosmic_rays_per_cm2_s(self) -> float:
        """Rate of all particles."""
        ...


IN_ORBIT = Particles(electrons=0.5, helium=0.06, heavy=0.004)
"""Fewer ions than in galactic cosmic rays, because the radiation belts add protons (estimated, not measured)."""


def cosmic_rays(
    shape: tuple[int, int], seconds: float, instrument: StruckSilicon, particles: Particles, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Return the electrons that cosmic rays leave on a chip, shape (H, W)."""
    rows, columns = (side + 2 * MARGIN_PIXELS for side in shape)
    area_cm2 = rows * columns * (instrument.pixel_size_um * 1e-4) ** 2
    number = drawn(instrument.cosmic_rays_per_cm2_s * area_cm2 * seconds, "cosmic rays", rng)
    electrons = rng.binomial(number, particles.electrons)
    starts = rng.random((number, 2)) * (columns, rows) - MARGIN_PIXELS
    deposits = _ions(starts[electrons:], instrument, particles, rng)
    deposits += [secondary_electrons(starts[:electrons], instrument, rng, _of_spacecraft, _BORN_INSIDE)]
    return collect(deposits, shape, instrument, rng)


def _ions(starts: Floats, instrument: Silicon, particles: Particles, rng: np.random.Generator) -> list[Deposits]:
    number = len(starts)
    cosine = np.sqrt(rng.random(number))  # isotropic flux through a plane
    azimuth = rng.random(number) * 2 * np.pi
    losses = _relative_losses(number, particles, rng)
    return straight_tracks(starts, cosine, azimuth, losses, instrument, rng)


def straight_tracks(
    starts: Floats, cosine: Floats, azimuth: Floats, losses: Floats, instrument: Silicon, rng: np.random.Generator
) -> list[Deposits]:
    """Deposits of particles that are not deflected, and of the energetic electrons that they knock out.

    `cosine` is that of the angle to the normal of the detector; `losses` are relative to a minimum-ionising particle.
    """
    number = len(starts)
    cosine = np.maximum(cosine, _LEAST_COSINE)
    length_um = instrument.silicon_um / cosine
    bundle = np.maximum(1.0, losses / _BUNDLE)
    expected = _COLLISIONS_PER_UM * losses / bundle * length_um
    within(float(expected.sum()), MOST_DEPOSITS, "collisions of cosmic rays")
    collisions = rng.poisson(expected)
    track = np.repeat(np.arange(number), collisions)
    along = rng.random(track.size)
    energy_ev = 1 / (1 / _LEAST_EV - rng.random(track.size) * (1 / _LEAST_EV - 1 / _MOST_EV))
    across = along * (length_um * np.sqrt(1 - cosine**2) / instrument.pixel_size_um)[track]
    place = starts[track] + across[:, None] * np.stack([np.cos(azimuth), np.sin(azimuth)], axis=1)[track]
    depth_um = along * instrument.silicon_um
    is_delta = energy_ev > _DELTA_EV
    local = Deposits(place[~is_delta], depth_um[~is_delta], (energy_ev * bundle[track] / EV_PER_ELECTRON)[~is_delta])
    sideways = rng.random(is_delta.sum()) * 2 * np.pi
    down = rng.normal(0, 0.3, sideways.size)  # knocked out nearly at right angles
    directions = _directions(np.clip(down, -0.97, 0.97), sideways)
    delta = _walk(place[is_delta], depth_um[is_delta], directions, energy_ev[is_delta] / 1000, instrument, rng)
    return [local, delta]


def _relative_losses(number: int, particles: Particles, rng: np.random.Generator) -> Floats:
    """Energy loss per length, in units of that of a minimum-ionising particle of charge 1."""
    losses = np.ones(number)
    kind = rng.random(number)
    losses[kind < particles.helium] = 4.0
    heavy = kind > 1 - particles.heavy
    losses[heavy] = rng.choice(_HEAVY, heavy.sum())
    slow = rng.random(number) < _SLOW
    losses[slow] *= np.minimum(1 + rng.pareto(_SLOW_INDEX, slow.sum()), _MOST_LOSS)
    return losses


def _of_spacecraft(number: int, rng: np.random.Generator) -> Floats:
    """Draw energies (keV) of secondary electrons from the spacecraft."""
    low, high = np.log10(_ELECTRON_KEV)
    return np.asarray(10 ** rng.uniform(low, high, number))


def secondary_electrons(
    starts: Floats,
    instrument: Silicon,
    rng: np.random.Generator,
    draw_energies_kev: Callable[[int, np.random.Generator], Floats],
    born_inside: float,
) -> Deposits:
    """Deposits of electrons, which enter from either side or, a share of them, are freed within the silicon."""
    number = len(starts)
    cosine = np.sqrt(rng.random(number))
    azimuth = rng.random(number) * 2 * np.pi
    energy_kev = draw_energies_kev(number, rng)
    from_below = rng.random(number) < 0.5
    inside = rng.random(number) < born_inside
    surface = np.where(from_below, 1e-3, instrument.silicon_um - 1e-3)
    depth_um = np.where(inside, rng.random(number) * instrument.silicon_um, surface)
    directions = _directions(np.where(from_below, cosine, -cosine), azimuth)
    return _walk(starts, depth_um, directions, energy_kev, instrument, rng)


def _directions(along_depth: Floats, azimuth: Floats) -> Floats:
    across = np.sqrt(1 - along_depth**2)
    return np.stack([across * np.cos(azimuth), across * np.sin(azimuth), along_depth], axis=1)


def _walk(
    place: Floats,
    depth_um: Floats,
    direction: Floats,
    energy_kev: Floats,
    instrument: Silicon,
    rng: np.random.Generator,
) -> Deposits:
    """Follow electrons that lose energy and are deflected at each step until they stop or leave."""
    position = np.concatenate([place * instrument.pixel_size_um, depth_um[:, None]], axis=1)
    energy = energy_kev.copy()
    positions, losses = [], []
    for _ in range(_MOST_STEPS):
        if not energy.size:
            break
        beta2 = 1 - 1 / (1 + energy / ELECTRON_REST_KEV) ** 2
        loss_per_um = _MINIMUM_LOSS_KEV_PER_UM * np.maximum(1.0, 0.95 * beta2**-0.85)
        step = np.minimum(_STEP_UM, np.maximum(_LEAST_STEP_UM, 0.3 * energy / loss_per_um))
        loss = np.minimum(energy, loss_per_um * step * rng.gamma(4.0, 0.25, energy.size))
        momentum_mev = np.sqrt(energy * (energy + 2 * ELECTRON_REST_KEV)) / 1000
        # Highland's formula, as in the Particle Data Group's review, with 13.6 MeV
        deflection = _SCATTERING * 13.6 / (momentum_mev * np.sqrt(beta2)) * np.sqrt(step / _RADIATION_LENGTH_UM)
        direction = direction + rng.standard_normal((energy.size, 3)) * np.minimum(deflection, 1.2)[:, None]
        direction /= np.linalg.norm(direction, axis=1)[:, None]
        position = position + direction * step[:, None]
        inside = (position[:, 2] > 0) & (position[:, 2] < instrument.silicon_um)
        positions.append(position[inside])
        losses.append(loss[inside])
        energy = energy - loss
        moving = inside & (energy > _STOPPED_KEV)
        position, direction, energy = position[moving], direction[moving], energy[moving]
    where = np.concatenate([np.empty((0, 3)), *positions])
    freed = np.concatenate([np.empty(0), *losses]) * 1000 / EV_PER_ELECTRON
    return Deposits(where[:, :2] / instrument.pixel_size_um, where[:, 2], freed)
