"""The point spread of an aberrated, obstructed telescope on the pixels of its detector."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from deepcr_zoo.simulate.charge import Silicon, spread_um

OVERSAMPLING = 4  # sub-pixels per pixel, each axis
HALF_WIDTH = 64  # the point spread reaches this many pixels to each side
ABSORPTION_UM = 3.3
"""Depth from the back of the silicon where light at 600 nm is absorbed (Green 2008: 2.4 um at 300 K, more when cold).

It makes stars of ACS/WFC 0.108 arcsec wide (FWHM); the ACS Instrument Handbook, 5.6.6, has 0.10 to 0.13 over the field.
"""

JITTER_PIXELS = 0.12  # sigma within an exposure, 6 milliarcseconds for ACS/WFC (HST Primer 2005: below 7 rms)
ARCSEC = np.pi / 180 / 3600

_PUPIL_SAMPLES = 160
_WAVELENGTHS = 7
_VANE_WIDTH = 0.022  # width of a spider vane / radius of the mirror (Tiny Tim, pupil tables)
_PADS = (90.0, 210.0, 330.0)  # degrees: three pads that hold the mirror
_PAD_DISTANCE, _PAD_RADIUS = 0.89, 0.065  # of the mirror's radius (Tiny Tim, pupil tables)
_ASTIGMATISM, _COMA = 0.035, 0.02  # waves rms, Zernike; assumed
_POLISHING = 0.03  # waves rms, at the scale of the pupil samples, for the halo; assumed
_POLISHING_SEED = 7
_TAPER = 0.15  # outer share of the kernel that fades to zero


class Telescope(Silicon, Protocol):
    """What diffraction depends on."""

    @property
    def pixel_scale_arcsec(self) -> float:
        """Side of a pixel on the sky."""
        ...

    @property
    def aperture_m(self) -> float:
        """Diameter of the mirror."""
        ...

    @property
    def obstruction(self) -> float:
        """Diameter of the obstruction / of the mirror."""
        ...

    @property
    def wavelength_um(self) -> float:
        """Pivot wavelength."""
        ...

    @property
    def bandwidth_um(self) -> float:
        """Width of the band."""
        ...


def point_spread(instrument: Telescope, defocus: float) -> NDArray[np.float32]:
    """Return the share of a star's light on a pixel, for pixels on a grid of sub-pixels around the star.

    Fraunhofer diffraction of the pupil by matrix Fourier transform (Soummer et al. 2007), summed over the band, then
    convolved with pixel, charge diffusion and jitter. `defocus` is in waves rms at the pivot wavelength. The kernel has
    ``2 * HALF_WIDTH * OVERSAMPLING + 1`` values a side; each set of every OVERSAMPLING-th value sums to nearly 1.
    """
    intensity = _diffraction(instrument, defocus, offsets_pixels() * instrument.pixel_scale_arcsec * ARCSEC)
    return on_pixels(intensity, instrument)


def offsets_pixels() -> NDArray[np.float64]:
    """Return the offsets of the sub-pixels of a kernel from a star, along an axis."""
    extent = HALF_WIDTH * OVERSAMPLING
    return np.asarray(np.arange(-extent, extent + 1) / OVERSAMPLING)


def on_pixels(intensity: NDArray[np.float64], instrument: Silicon) -> NDArray[np.float32]:
    """Return the kernel of an intensity on the grid of `offsets_pixels`, after pixel, diffusion and jitter."""
    pixels = offsets_pixels()
    frequency = fft.fftfreq(pixels.size) * OVERSAMPLING
    absorbed_um = np.asarray(instrument.silicon_um - min(ABSORPTION_UM, instrument.silicon_um))
    diffusion = float(spread_um(absorbed_um, instrument)) / instrument.pixel_size_um
    variance = diffusion**2 + JITTER_PIXELS**2
    transfer = np.sinc(frequency) * np.exp(-2 * np.pi**2 * variance * frequency**2)
    blurred = fft.fftshift(fft.ifft2(fft.fft2(fft.ifftshift(intensity)) * np.outer(transfer, transfer)).real)
    fading = np.clip((1 - np.abs(pixels) / HALF_WIDTH) / _TAPER, 0, 1)
    kernel = np.clip(blurred, 0, None) * np.outer(fading, fading)
    return np.asarray(kernel * (OVERSAMPLING**2 / kernel.sum()), dtype=np.float32)


def _diffraction(instrument: Telescope, defocus: float, angles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the intensity over the band at these angles (radians) along both axes."""
    across, aperture, wavefront = _pupil(instrument.obstruction, defocus)
    optical_path = wavefront * instrument.wavelength_um
    half_band = instrument.bandwidth_um / 2
    band = instrument.wavelength_um + np.linspace(-half_band, half_band, _WAVELENGTHS)
    intensity = np.zeros((angles.size, angles.size))
    for wavelength_um in band:
        wavenumber = 2 * np.pi / (wavelength_um * 1e-6)
        transform = np.exp(-1j * wavenumber * np.outer(angles, across * instrument.aperture_m / 2))
        field = aperture * np.exp(2j * np.pi * optical_path / wavelength_um)
        intensity += np.abs(transform @ field @ transform.T) ** 2 / wavelength_um**2
    return intensity


def _pupil(obstruction: float, defocus: float) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return coordinate along an axis (mirror radii), transmission, and wavefront error (waves at the pivot wavelength)."""
    across = (np.arange(_PUPIL_SAMPLES) + 0.5) / (_PUPIL_SAMPLES / 2) - 1
    x, y = np.meshgrid(across, across)
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    open_ = (radius <= 1) & (radius >= obstruction) & (np.minimum(np.abs(x), np.abs(y)) > _VANE_WIDTH / 2)
    for pad in np.radians(_PADS):
        open_ &= np.hypot(x - _PAD_DISTANCE * np.cos(pad), y - _PAD_DISTANCE * np.sin(pad)) > _PAD_RADIUS
    wavefront = np.asarray(
        defocus * np.sqrt(3) * (2 * radius**2 - 1)
        + _ASTIGMATISM * np.sqrt(6) * radius**2 * np.cos(2 * angle + 1.0)
        + _COMA * np.sqrt(8) * (3 * radius**3 - 2 * radius) * np.cos(angle + 0.5)
        + _POLISHING * np.random.default_rng(_POLISHING_SEED).standard_normal(radius.shape)
    )
    return np.asarray(across), np.asarray(open_, dtype=np.float64), wavefront
