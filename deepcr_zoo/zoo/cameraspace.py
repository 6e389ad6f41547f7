"""The block ``data.simulated.cameras`` of a recipe: a space from which a camera is drawn for each simulated visit."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from deepcr_zoo.documents import Document, ascending

Share = Annotated[float, Field(ge=0, le=1)]
Range = Annotated[list[float], Field(min_length=2, max_length=2), AfterValidator(ascending)]

_BOUNDS = {
    "fwhm_pixels": (0.5, 30),
    "moffat_beta": (1.5, 20),
    "pixel_scale_arcsec": (0.01, 10),
    "pixel_size_um": (1, 50),
    "silicon_um": (1, 1000),
    "read_noise_electron": (0.1, 100),
    "gain_electron_per_count": (0.01, 100),
    "saturation_electron": (1e3, 1e6),
    "sky_electron": (1e-3, 1e5),
    "exposure_time_s": (0.1, 1e5),
    "zeropoint_ab": (10, 35),
    "sparse_per_megapixel": (1, 1e6),
    "crowded_per_megapixel": (1, 1e6),
    "cosmic_rays_per_megapixel": (1, 1e5),
    "warm_pixels": (1e-7, 0.1),
}
"""What the ranges may hold: cameras beyond have no use, or their frames no end."""


class CameraSpace(Document):
    """Ranges from which properties are drawn, evenly in their logarithm, and shares of cameras; the defaults are assumed."""

    fwhm_pixels: Range = Field(default=[1.1, 6.0], description="FWHM of a star, in pixels as read")
    moffat_beta: Range = Field(default=[2.2, 6.0], description="exponent of its Moffat profile")
    pixel_scale_arcsec: Range = Field(default=[0.05, 1.5], description="unbinned")
    pixel_size_um: Range = Field(default=[5.0, 24.0], description="unbinned")
    silicon_um: Range = Field(default=[10.0, 300.0], description="thin to deep depletion")
    read_noise_electron: Range = Field(default=[2.0, 15.0])
    gain_electron_per_count: Range = Field(default=[0.3, 6.0], description="at most 1.2 times the read noise")
    saturation_electron: Range = Field(default=[2e4, 3e5], description="full well")
    sky_electron: Range = Field(default=[1.0, 1e4], description="of an image, in a pixel as read")
    exposure_time_s: Range = Field(default=[5.0, 3600.0])
    zeropoint_ab: Range = Field(default=[21.0, 27.0])
    sparse_per_megapixel: Range = Field(default=[30.0, 3e3], description="stars and galaxies of extragalactic fields")
    crowded_per_megapixel: Range = Field(default=[1e3, 1e5], description="the same of other images")
    cosmic_rays_per_megapixel: Range = Field(default=[50.0, 2500.0], description="particles in an exposure")
    warm_pixels: Range = Field(
        default=[1e-5, 2e-2], description="share of pixels with more dark current (in orbit 2 % and more, ACS ISR 2002-06)"
    )
    most_bad_columns: int = Field(default=4, ge=0, le=100)
    in_orbit: Share = Field(default=0.35, description="share of cameras in orbit, which protons hit; muons hit the others")
    diffracted: Share = Field(
        default=0.4, description="share of those in orbit: stars have the rings and spikes of a mirror"
    )
    overscanned: Share = Field(default=0.12, description="share of cameras whose frames end in columns without light")
    binned: Share = Field(default=0.2, description="share of cameras whose pixels are binned along one axis or both")
    echelle: Share = Field(default=0.35, description="share of spectra")
    trailed: Share = Field(default=0.3, description="share of images, as the following")
    defocused: Share = 0.1
    nebulous: Share = 0.2
    with_satellites: Share = 0.2
    banded: Share = Field(default=0.15, description="share of cameras whose rows share a level, as noise of the electronics")
    correlated: Share = Field(default=0.15, description="share of cameras whose read noise is correlated along rows")

    @model_validator(mode="after")
    def _ranges_are_within_bounds(self) -> CameraSpace:
        for name, (least, most) in _BOUNDS.items():
            low, high = getattr(self, name)
            if not least <= low <= high <= most:
                raise ValueError(f"{name} between {least:g} and {most:g}, got {low:g} to {high:g}")
        return self
