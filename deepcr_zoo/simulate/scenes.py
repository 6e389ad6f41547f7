"""Scenes: stars and galaxies of the three field types, as sources above the atmosphere."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deepcr_zoo.simulate.bounds import drawn
from deepcr_zoo.zoo.recipe import SimulatedFieldType

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class LuminosityFunction:
    """Numbers of sources that grow with magnitude m as ``10 ** (slope * m)``."""

    per_arcmin2: float  # sources between the two magnitudes
    brightest: float  # AB magnitude, like faintest
    faintest: float
    slope: float

    def draw(self, number: int, rng: np.random.Generator) -> Floats:
        """Draw magnitudes, shape (number,)."""
        growth = self.slope * np.log(10)
        span = np.expm1(growth * (self.faintest - self.brightest))
        return np.asarray(self.brightest + np.log1p(rng.random(number) * span) / growth)


@dataclass(frozen=True)
class FieldContent:
    """Contents of a field type."""

    stars: LuminosityFunction  # stars of a cluster are counted at its centre
    galaxies: LuminosityFunction
    diffuse_electron_s: float = 0.0  # light of stars too faint to be drawn, e- per pixel and second
    core_radius_arcsec: float | None = None
    """Core radius of a cluster, whose density falls as ``1 / (1 + (r / core radius)^2)`` (King 1962, no tidal term)."""
    scale_length: float | None = None  # widths of the field over which the density of a disk falls by e


# numbers, magnitudes and sizes are assumed unless a comment says they are fitted
CONTENTS: dict[SimulatedFieldType, FieldContent] = {
    "extragalactic": FieldContent(
        stars=LuminosityFunction(12, 17.0, 27.0, 0.12), galaxies=LuminosityFunction(220, 19.0, 28.3, 0.30)
    ),
    # stars at the centre are fitted to Zhang & Bloom 2020, Table 2
    "globular_cluster": FieldContent(
        stars=LuminosityFunction(13_000, 16.0, 27.5, 0.20),
        galaxies=LuminosityFunction(20, 19.0, 28.3, 0.30),
        diffuse_electron_s=0.03,
        core_radius_arcsec=22.0,
    ),
    # stars are fitted to Zhang & Bloom 2020, Table 2; the diffuse light includes those beyond 29.5 mag
    "resolved_galaxy": FieldContent(
        stars=LuminosityFunction(420_000, 19.5, 29.5, 0.30),
        galaxies=LuminosityFunction(20, 19.0, 28.3, 0.30),
        diffuse_electron_s=0.1,
        scale_length=1.25,
    ),
}

# Gaussians that make up a profile of effective radius 1: weights and variances (Hogg & Lang 2013, "lux" and "luv")
_EXPONENTIAL = (
    np.array([2.34853813e-03, 3.07995260e-02, 2.23364214e-01, 1.17949102, 4.33873750, 5.99820770]),
    np.array([1.20078965e-03, 8.84526493e-03, 3.91463084e-02, 1.39976817e-01, 4.60962500e-01, 1.50159566]),
)
_DE_VAUCOULEURS = (
    np.array([4.26347652e-02, 2.40127183e-01, 6.85907632e-01, 1.51937350, 2.83627243, 4.46467501, 5.72440830, 5.60989349]),
    np.array([2.23759216e-04, 1.00220099e-03, 4.18731126e-03, 1.69432589e-02, 6.84850479e-02, 0.287207080, 1.3332, 8.4022]),
)
_EARLY_TYPES = 0.25  # share of galaxies
_FAINTEST_WITH_KNOTS = 25.5
_BRIGHTEST_SIZE = 0.75  # arcsec, effective radius at 20 mag, 10 ** -0.1 per magnitude (roughly as in deep fields)
_LEAST_RATE = 2e-4  # e- per second: weaker components are left out


@dataclass(frozen=True)
class SceneSources:
    """N stars, and M Gaussians (blobs) that make up galaxies: positions x, y and light, in units of arcsec or of pixels."""

    stars: Floats  # (N, 2)
    star_light: Floats  # (N,), electrons, or electrons per second
    blobs: Floats  # (M, 2)
    blob_light: Floats  # (M,)
    blob_covariances: Floats  # (M, 2, 2)


def draw_scene(
    content: FieldContent, zeropoint_ab: float, half_size_arcsec: tuple[float, float], roll: Floats, rng: np.random.Generator
) -> SceneSources:
    """Draw sources (e- per second) in the plane tangent to the sky at the centre of a field, arcsec east and north.

    Half width and half height lie along the axes of the detector; `roll`, shape (2, 2), turns those to east and north.
    The zero point is the AB magnitude of one electron per second.
    """
    area_arcmin2 = 4 * half_size_arcsec[0] * half_size_arcsec[1] / 3600
    places = _places(drawn(content.stars.per_arcmin2 * area_arcmin2, "stars", rng), half_size_arcsec, rng)
    places = places[_is_kept(content, places, half_size_arcsec, rng)]
    magnitudes = content.stars.draw(len(places), rng)
    galaxies = _places(drawn(content.galaxies.per_arcmin2 * area_arcmin2, "galaxies", rng), half_size_arcsec, rng)
    blobs = [
        blob
        for place, magnitude in zip(galaxies, content.galaxies.draw(len(galaxies), rng), strict=True)
        for blob in _galaxy(magnitude, rate(magnitude, zeropoint_ab), place, rng)
    ]
    return SceneSources(
        stars=places @ roll.T,
        star_light=rate(magnitudes, zeropoint_ab),
        blobs=np.array([place for place, _, _ in blobs]).reshape(-1, 2) @ roll.T,
        blob_light=np.array([light for _, light, _ in blobs]),
        blob_covariances=np.array([covariance for _, _, covariance in blobs]).reshape(-1, 2, 2),
    )


def rate(magnitude: Floats | float, zeropoint_ab: float) -> Floats:
    """Return the electrons per second of a source of this AB magnitude."""
    return np.asarray(10 ** (-0.4 * (np.asarray(magnitude) - zeropoint_ab)))


def _places(number: int, half_size: tuple[float, float], rng: np.random.Generator) -> Floats:
    return rng.uniform(-1, 1, (number, 2)) * half_size


def _is_kept(
    content: FieldContent, places: Floats, half_size: tuple[float, float], rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Draw which sources of an even field remain at the density of its type."""
    density = np.ones(len(places))
    if content.core_radius_arcsec is not None:
        centre = rng.uniform(-0.6, 0.6, 2) * half_size
        density /= 1 + ((places - centre) ** 2).sum(axis=1) / content.core_radius_arcsec**2
    if content.scale_length is not None:
        density *= np.exp(-(places[:, 0] / half_size[0] + 1) / (2 * content.scale_length))
    return np.asarray(rng.random(len(places)) < density)


def _galaxy(
    magnitude: float, total: Floats, place: Floats, rng: np.random.Generator
) -> Iterator[tuple[Floats, float, Floats]]:
    """Yield place, light and covariance of Gaussians: a smooth profile, and star-forming knots in brighter late types."""
    radius = _BRIGHTEST_SIZE * 10 ** (-0.1 * (magnitude - 20) + rng.normal(0, 0.2))
    axis_ratio = rng.uniform(0.25, 1)
    angle = rng.uniform(0, np.pi)
    axes = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * (radius, radius * axis_ratio)
    is_early = rng.random() < _EARLY_TYPES
    in_knots = 0.0 if is_early or magnitude > _FAINTEST_WITH_KNOTS else rng.uniform(0, 0.25)
    weights, variances = _DE_VAUCOULEURS if is_early else _EXPONENTIAL
    for share, variance in zip(weights / weights.sum(), variances, strict=True):
        if total * (1 - in_knots) * share >= _LEAST_RATE:
            yield place, float(total * (1 - in_knots) * share), variance * axes @ axes.T
    if in_knots:
        number = rng.integers(4, 30)
        brightness = rng.pareto(1.5, number) + 0.1
        for share in brightness / brightness.sum():
            spread = 10 ** rng.uniform(-2.0, -1.1)
            yield place + axes @ rng.normal(0, 0.7, 2), float(total * in_knots * share), np.eye(2) * spread**2
