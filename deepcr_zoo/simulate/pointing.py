"""Pointing of simulated visits: their keys and positions, and the projection of the sky onto their chips."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.polynomial import polynomial
from numpy.typing import NDArray

from deepcr_zoo.simulate.cameras import Camera
from deepcr_zoo.zoo.recipe import SIMULATED_FIELD_TYPES, SimulatedFieldType, SimulatedInstrument

Floats = NDArray[np.float64]

DITHERS_ARCSEC = ((0.0, 0.0), (0.2475, 0.1775), (0.4875, 0.0875), (-0.26, 0.4275), (1.2, -0.6), (-0.9, 0.8))
"""Offsets of the exposures along x and y: a box with fractions of a pixel, and two larger steps (assumed)."""

_DITHER_ERROR_ARCSEC = 0.045
_VISITS_PER_PROPOSAL = 1000
_BASE36 = "0123456789abcdefghijklmnopqrstuvwxyz"
_CELL_DEG = 0.1  # the diagonal of a full frame is 0.08
_LIMIT_DEG = 60.0

# fit of the inverse distortion
_SCALE = 2000.0  # pixels
_SURROUNDINGS = 150.0  # pixels around the window
_FIT_POINTS = 25
_FIT_ORDER = 5


@dataclass(frozen=True)
class VisitIdentity:
    """Keys and position of a simulated visit, unique for its camera."""

    number: int  # counts the field types of seed 0, then those of seed 1, and so on
    proposal: int  # PROPOSID: one for each thousand visits
    visit: str  # two characters, lower case, as in file names
    centre: tuple[float, float]
    """Right ascension and declination in degrees: the centre of a cell of 0.1 degrees that no other visit uses."""

    def root_name(self, letter: str, exposure: int) -> str:
        """Return ROOTNAME: instrument, proposal (3), visit (2), exposure (2), ``q``."""
        return f"{letter}{_base36(self.proposal, 3)}{self.visit}{_base36(exposure + 1, 2)}q"


def identify(field_type: SimulatedFieldType, seed: int, camera: Camera) -> VisitIdentity:
    """Return the identity of the visit of this seed and field type, unique for seeds below `MOST_SEEDS`."""
    number = seed * len(SIMULATED_FIELD_TYPES) + SIMULATED_FIELD_TYPES.index(field_type)
    proposal, visit = divmod(number, _VISITS_PER_PROPOSAL)
    return VisitIdentity(number, camera.first_proposal + proposal, _base36(visit, 2), cell(number))


def _base36(number: int, digits: int) -> str:
    return "".join(_BASE36[number // 36**place % 36] for place in reversed(range(digits)))


def cell(number: int, side_deg: float = _CELL_DEG) -> tuple[float, float]:
    """Return the centre of a cell of the sky, degrees; cells lie in rows of equal declination between the limits.

    After the last cell numbers start again with the first.
    """
    declinations = np.arange(-_LIMIT_DEG + side_deg / 2, _LIMIT_DEG, side_deg)
    cells = np.floor(360 * np.cos(np.radians(np.abs(declinations) + side_deg / 2)) / side_deg).astype(int)
    ends = np.cumsum(cells)
    number %= int(ends[-1])
    row = int(np.searchsorted(ends, number, side="right"))
    place = number - (ends[row] - cells[row])
    return float((place + 0.5) * 360 / cells[row]), float(declinations[row])


@dataclass(frozen=True)
class Window:
    """The part of a chip that is read."""

    chip: int  # CCDCHIP
    corner: tuple[int, int]  # row and column of its first pixel
    shape: tuple[int, int]  # rows and columns


@dataclass(frozen=True)
class ChipPointing:
    """The projection of the sky onto a chip: TAN with SIP distortion, as in its header."""

    window: Window
    crpix: tuple[float, float]  # x and y of the reference pixel; the first pixel read is (1, 1)
    crval: tuple[float, float]  # degrees
    cd: Floats  # degrees per pixel, shape (2, 2)
    a: Mapping[tuple[int, int], float]  # SIP coefficients, like `b`
    b: Mapping[tuple[int, int], float]

    @property
    def orientation_deg(self) -> float:
        """ORIENTAT: the position angle of the y axis, east of north."""
        return float(np.degrees(np.arctan2(self.cd[0, 1], self.cd[1, 1])))

    def pixels(self, sky_deg: Floats) -> Floats:
        """Return x and y in pixels, shape (N, 2), of right ascensions and declinations in degrees, shape (N, 2).

        Pixels count from 0 at the centre of the first; positions far outside the window give NaN.
        """
        ideal = project(sky_deg, self.crval) @ np.linalg.inv(self.cd).T
        inverse, low, high = self._inverse()
        near = ((ideal >= low) & (ideal <= high)).all(axis=1)
        offsets = np.full(ideal.shape, np.nan)
        x, y = ideal[near].T / _SCALE
        offsets[near] = ideal[near] + np.stack([polynomial.polyval2d(x, y, terms) for terms in inverse], axis=1)
        return np.asarray(offsets + self.crpix - 1)

    @property
    def pixels_per_arcsec(self) -> Floats:
        """Matrix, shape (2, 2), from (east, north) in arcsec to (x, y) in pixels, at the centre of the window."""
        middle = (np.array(self.window.shape[::-1]) + 1) / 2 - self.crpix
        steps = middle + np.array([[0.5, 0], [0, 0.5], [-0.5, 0], [0, -0.5]])
        ends = self._distorted(steps)
        return np.asarray(np.linalg.inv(self.cd @ (ends[:2] - ends[2:]).T) / 3600)

    def _distorted(self, offsets: Floats) -> Floats:
        """Add SIP's polynomials to offsets from the reference pixel."""
        return offsets + np.stack([_polynomial(terms, offsets) for terms in (self.a, self.b)], axis=1)

    def _inverse(self) -> tuple[Floats, Floats, Floats]:
        """Return polynomials that invert the distortion to better than 0.01 pixels, and the corners that bound their use."""
        low = np.array([1.0, 1.0]) - self.crpix - _SURROUNDINGS
        high = np.array(self.window.shape[::-1]) - self.crpix + _SURROUNDINGS
        axes = [np.linspace(start, end, _FIT_POINTS) for start, end in zip(low, high, strict=True)]
        offsets = np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 2)
        ideal = self._distorted(offsets)
        x, y = ideal.T / _SCALE
        design = polynomial.polyvander2d(x, y, [_FIT_ORDER, _FIT_ORDER])
        terms: Floats = np.asarray(np.linalg.lstsq(design, offsets - ideal, rcond=None)[0], dtype=np.float64)
        return terms.T.reshape(2, _FIT_ORDER + 1, _FIT_ORDER + 1), ideal.min(axis=0), ideal.max(axis=0)


def _polynomial(terms: Mapping[tuple[int, int], float], offsets: Floats) -> Floats:
    total = np.zeros(len(offsets))
    for (i, j), coefficient in terms.items():
        total += coefficient * offsets[:, 0] ** i * offsets[:, 1] ** j
    return total


def point_chip(
    window: Window, aim: tuple[float, float], roll_deg: float, instrument: SimulatedInstrument, camera: Camera
) -> ChipPointing:
    """Point a chip at a right ascension and declination in degrees, with the camera rolled from north to east.

    The point aimed is the centre of a cut-out. For a full frame it is the middle of the gap, which keeps the chips as far
    apart as in the recipe.
    """
    optics = camera.chips[window.chip]
    rows, columns = instrument.chip_shape
    turn = np.radians(roll_deg)
    rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    cd = rotation @ np.array(optics.cd) * (instrument.pixel_scale_arcsec / camera.nominal_scale_arcsec)
    reference = np.array([columns / 2, rows / 2])  # counts from 1
    crpix = reference - window.corner[::-1]
    aim_pixel = _aim_pixel(window, instrument) - reference
    distorted = aim_pixel + [float(_polynomial(terms, aim_pixel[None])[0]) for terms in (optics.a, optics.b)]
    crval = deproject(-(cd @ distorted)[None], aim)[0]
    reference_pixel, reference_sky = (float(crpix[0]), float(crpix[1])), (float(crval[0]), float(crval[1]))
    return ChipPointing(window, reference_pixel, reference_sky, cd, optics.a, optics.b)


def _aim_pixel(window: Window, instrument: SimulatedInstrument) -> Floats:
    """Return the pixel of the chip, counted from 1, that points at the target."""
    rows, columns = instrument.chip_shape
    if list(window.shape) != [rows, columns] or instrument.chips == 1:
        return np.array([window.corner[1] + (window.shape[1] + 1) / 2, window.corner[0] + (window.shape[0] + 1) / 2])
    gap = instrument.chip_gap_pixels / 2
    return np.array([(columns + 1) / 2, 0.5 - gap if window.chip == 1 else rows + 0.5 + gap])


def project(sky_deg: Floats, centre_deg: tuple[float, float]) -> Floats:
    """Gnomonic projection (Calabretta & Greisen 2002, section 5.1.3) to degrees east and north of a centre, shape (N, 2)."""
    ra, dec = np.radians(sky_deg).T
    ra0, dec0 = np.radians(centre_deg)
    along = np.cos(ra - ra0)
    depth = np.sin(dec) * np.sin(dec0) + np.cos(dec) * np.cos(dec0) * along
    east = np.cos(dec) * np.sin(ra - ra0) / depth
    north = (np.sin(dec) * np.cos(dec0) - np.cos(dec) * np.sin(dec0) * along) / depth
    return np.asarray(np.degrees(np.stack([east, north], axis=1)))


def deproject(plane_deg: Floats, centre_deg: tuple[float, float]) -> Floats:
    """Invert `project`: return right ascension and declination in degrees, shape (N, 2)."""
    east, north = np.radians(plane_deg).T
    ra0, dec0 = np.radians(centre_deg)
    depth = np.cos(dec0) - north * np.sin(dec0)
    ra = ra0 + np.arctan2(east, depth)
    dec = np.arctan2(np.sin(dec0) + north * np.cos(dec0), np.hypot(east, depth))
    return np.stack([np.degrees(ra) % 360, np.degrees(dec)], axis=1)


def dither(exposure: int, rng: np.random.Generator) -> Floats:
    """Return the offset of an exposure along x and y, arcsec."""
    return np.asarray(np.array(DITHERS_ARCSEC[exposure]) + rng.normal(0, _DITHER_ERROR_ARCSEC, 2))
