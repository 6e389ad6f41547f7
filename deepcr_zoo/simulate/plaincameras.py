"""Facts of any camera for the simulator: of a recipe and of its description, with assumed ones where both are silent."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deepcr_zoo.zoo.instruments import Instrument
from deepcr_zoo.zoo.recipe import InstrumentBlock
from deepcr_zoo.zoo.recipeinstruments import detector_of
from deepcr_zoo.zoo.simulation import SimulationBlock

# assumed where neither the recipe nor the description gives them
_SILICON_UM, _CHARGE_SPREAD_UM = 20.0, 4.5
_DARK_ELECTRON_S = {"ground": 0.002, "orbit": 0.01}
_COSMIC_RAYS_PER_CM2_S = 1.2  # in orbit: 0.95 to 1.36 on exposures of HST's CCDs
_ZEROPOINT_AB = 23.0  # of a telescope of 1 m through a broad red filter
_SKY_MAG_ARCSEC2 = {"ground": 20.5, "orbit": 22.5}
_SEEING_ARCSEC, _SHARP_PIXELS = 1.2, 2.0


@dataclass(frozen=True)
class Optics:
    """What diffraction depends on."""

    pixel_scale_arcsec: float
    aperture_m: float
    obstruction: float
    wavelength_um: float
    bandwidth_um: float
    silicon_um: float
    charge_spread_um: float
    pixel_size_um: float


@dataclass(frozen=True)
class PlainCamera:
    """A camera whose exposures are written as it would write them."""

    block: InstrumentBlock

    @property
    def description(self) -> Instrument:
        """Its keywords, overscan and unit."""
        return detector_of(self.block)

    @property
    def settings(self) -> SimulationBlock:
        """What the recipe says of the site."""
        return self.block.simulation or SimulationBlock()

    @property
    def pixel_size_um(self) -> float:
        """Side of an unbinned pixel."""
        return self.block.pixel_size_um

    @property
    def silicon_um(self) -> float:
        """Thickness of the silicon."""
        return self.block.silicon_um or _SILICON_UM

    @property
    def charge_spread_um(self) -> float:
        """Sigma of the spread of charge freed at the back."""
        given = self.block.charge_spread_um
        return _CHARGE_SPREAD_UM if given is None else given

    @property
    def cosmic_rays_per_cm2_s(self) -> float:
        """Rate of particles in orbit."""
        return self.block.cosmic_rays_per_cm2_s or _COSMIC_RAYS_PER_CM2_S

    @property
    def zeropoint_ab(self) -> float:
        """AB magnitude of one electron per second."""
        return self.block.zeropoint_ab or _ZEROPOINT_AB

    @property
    def dark_electron_s(self) -> float:
        """Dark current of a pixel as read."""
        given = self.block.dark_electron_s
        return _DARK_ELECTRON_S[self.settings.site] if given is None else given

    @property
    def scale_arcsec(self) -> tuple[float, float]:
        """Sides of a pixel as read along x and y."""
        x, y = self.settings.binning
        return self.block.pixel_scale_arcsec * x, self.block.pixel_scale_arcsec * y

    @property
    def sky_electron_s(self) -> float:
        """Sky in a pixel as read, of an image."""
        if self.block.sky_electron_s is not None:
            return self.block.sky_electron_s
        rate = 10 ** (-0.4 * (_SKY_MAG_ARCSEC2[self.settings.site] - self.zeropoint_ab))
        return float(rate * np.prod(self.scale_arcsec))

    @property
    def optics(self) -> Optics | None:
        """The optics whose diffraction makes a star's image; None if seeing does, or if the block does not give them."""
        block = self.block
        given = block.aperture_m, block.obstruction, block.wavelength_um, block.bandwidth_um
        if self.settings.seeing_arcsec is not None or any(one is None for one in given):
            return None
        aperture, obstruction, wavelength, band = (float(one) for one in given if one is not None)
        silicon = self.silicon_um, self.charge_spread_um, self.pixel_size_um
        return Optics(block.pixel_scale_arcsec, aperture, obstruction, wavelength, band, *silicon)

    @property
    def fwhm_pixels(self) -> float:
        """Median FWHM of a star, in unbinned pixels, where seeing makes its image."""
        seeing, scale = self.settings.seeing_arcsec, self.block.pixel_scale_arcsec
        if seeing is None and self.settings.site == "orbit":
            return _SHARP_PIXELS
        return (seeing or _SEEING_ARCSEC) / scale
