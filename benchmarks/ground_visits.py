"""Simple dithered visits of a CCD on the ground, with their truth: Moffat stars, sky, noise, and tracks of the simulator.

Seeing, transparency, sky and pointing vary from exposure to exposure. The frames are independent of the label method, not of
the simulator's particle tracks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deepcr_zoo.simulate.cosmicrays import Particles, cosmic_rays
from deepcr_zoo.zoo.recipe import SimulatedInstrument

READ_NOISE_ELECTRON, SKY_ELECTRON, SECONDS = 6.0, 400.0, 300.0
_BETA = 3.0  # of the Moffat profile
_PARTS = 3  # points along the side of a pixel at which the profile is evaluated
_REACH = 8  # FWHM around a star
_PAD = 60  # pixels around the frame that hold stars too
_FAINTEST_ELECTRON, _SLOPE, _BRIGHTEST_ELECTRON = 300.0, 0.9, 3e5  # fluxes: N(> f) ~ f^-slope
_NO_IONS = Particles(electrons=0.5, helium=0.0, heavy=0.0)  # the atmosphere stops ions; shares are assumed

CAMERA = SimulatedInstrument(
    telescope="-", instrument="-", detector="CCD", filters=["R"], simulated_filter="R", pixel_scale_arcsec=0.4,
    pixel_size_um=15.0, gain_electron_per_count=1.8, read_noise_electron=READ_NOISE_ELECTRON, saturation_electron=100_000.0,
    chips=1, chip_shape=[512, 512], aperture_m=1.0, obstruction=0.3, wavelength_um=0.65, bandwidth_um=0.1,
    zeropoint_ab=25.0, silicon_um=20.0, charge_spread_um=4.0, dark_electron_s=0.0, sky_electron_s=1.0,
    # much more than at sea level, so that small frames hold enough of them
    cosmic_rays_per_cm2_s=0.6, chip_gap_pixels=0.0,
)  # fmt: skip
"""A thin CCD of 15 micrometre pixels."""


@dataclass(frozen=True, eq=False)
class Exposure:
    """A simulated exposure, e-, shape (H, W)."""

    image: NDArray[np.float32]
    scene: NDArray[np.float64]  # with sky
    cosmic_rays: NDArray[np.float32]
    offset: NDArray[np.float64]  # x and y, pixels
    fwhm_pixels: float
    transparency: float

    @property
    def noise(self) -> NDArray[np.float64]:
        """Sigma of the noise of the scene, e-."""
        return np.asarray(np.sqrt(self.scene + READ_NOISE_ELECTRON**2))


@dataclass(frozen=True)
class Conditions:
    """What a visit is like."""

    stars: int = 120  # on the frame and `_PAD` pixels around it
    exposures: int = 5
    side: int = 512
    largest_dither: float = 25.0  # pixels along an axis
    fwhm_pixels: tuple[float, float] = (2.8, 3.6)
    transparency: tuple[float, float] = (0.75, 1.0)
    half_turn: bool = False  # whether the last exposure follows a meridian flip


def simulate(seed: int, conditions: Conditions = Conditions()) -> list[Exposure]:
    """Return the exposures of a visit."""
    random = np.random.default_rng(seed)
    side = conditions.side
    stars = random.uniform(-_PAD, side + _PAD, (conditions.stars, 2))
    fluxes = np.minimum(_FAINTEST_ELECTRON * random.random(conditions.stars) ** (-1 / _SLOPE), _BRIGHTEST_ELECTRON)
    exposures = []
    for number in range(conditions.exposures):
        offset = random.uniform(-1, 1, 2) * conditions.largest_dither * (number > 0)
        turn = np.radians(random.normal(0, 0.01) + 180 * (conditions.half_turn and number == conditions.exposures - 1))
        rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        places = (stars - side / 2) @ rotation + side / 2 + offset
        fwhm, transparency = random.uniform(*conditions.fwhm_pixels), random.uniform(*conditions.transparency)
        y, x = np.mgrid[:side, :side] / side
        sky = SKY_ELECTRON * random.uniform(0.7, 1.4) * (1 + 0.05 * (x - 0.5) + 0.03 * (y - 0.5))
        scene = draw(places, fluxes * transparency, fwhm, (side, side)) + sky
        struck = cosmic_rays((side, side), SECONDS, CAMERA, _NO_IONS, random)
        image = random.poisson(scene) + struck + random.normal(0, READ_NOISE_ELECTRON, scene.shape)
        exposures.append(Exposure(image.astype(np.float32), scene, struck, offset, fwhm, transparency))
    return exposures


def draw(
    places: NDArray[np.float64], fluxes: NDArray[np.float64], fwhm: float, shape: tuple[int, int]
) -> NDArray[np.float64]:
    """Return stars (e-) at x and y in pixels, shape (H, W)."""
    image = np.zeros(shape)
    radius = fwhm / 2 / np.sqrt(2 ** (1 / _BETA) - 1)
    central = (_BETA - 1) / (np.pi * radius**2) / _PARTS**2
    parts = (np.arange(_PARTS) - (_PARTS - 1) / 2) / _PARTS
    reach = int(_REACH * fwhm)
    for (x, y), flux in zip(places, fluxes, strict=True):
        left, right = max(int(x) - reach, 0), min(int(x) + reach + 1, shape[1])
        low, high = max(int(y) - reach, 0), min(int(y) + reach + 1, shape[0])
        if left >= right or low >= high:
            continue
        across = (np.arange(left, right)[:, None] + parts - x) ** 2
        along = (np.arange(low, high)[:, None] + parts - y) ** 2
        squared = along[:, None, :, None] + across[None, :, None, :]
        image[low:high, left:right] += flux * central * ((1 + squared / radius**2) ** -_BETA).sum(axis=(2, 3))
    return image
