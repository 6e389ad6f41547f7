"""The block ``instrument.simulation`` of a recipe: site, seeing and particles of a camera whose exposures are simulated."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from deepcr_zoo.documents import Document, optional

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, lt=1)]
Binning = Annotated[list[Annotated[int, Field(ge=1, le=32)]], Field(min_length=2, max_length=2)]
MostOfIt = Annotated[float, Field(gt=0, le=1)]
Rate = Annotated[float, Field(ge=0, le=1e6)]
Pixels = Annotated[float, Field(ge=0, le=1e4)]
Density = Annotated[float, Field(gt=0, le=1e6)]
FieldStep = Annotated[float, Field(gt=0, le=10)]
Columns = Annotated[int, Field(ge=0, le=4096)]
Trails = Annotated[float, Field(ge=0, le=100)]
BlurPixels = Annotated[float, Field(ge=0, le=30)]
TrailPixels = Annotated[float, Field(ge=0, le=60)]


class SimulationBlock(Document):
    """Properties of a simulated camera, apart from those of HST that AstroDrizzle reads; the defaults are assumed.

    A thin CCD of a telescope of 1 m at sea level. What the instrument block gives (silicon, dark current, sky, zero point,
    aperture) is used.
    """

    site: Literal["ground", "orbit"] = Field(
        default="ground", description="muons and natural radioactivity, or protons and ions at cosmic_rays_per_cm2_s"
    )
    seeing_arcsec: Positive | None = Field(
        default=None,
        le=100,
        description="median FWHM; none: diffraction by aperture_m, obstruction, wavelength_um and bandwidth_um where the "
        "block gives them, else 1.2 on the ground and 2 pixels in orbit",
    )
    seeing_spread: Share = Field(default=0.15, description="sigma of the logarithm of the seeing between visits")
    seeing_variation: Share = Field(default=0.05, description="the same between the exposures of a visit")
    moffat_beta: float = Field(default=3.0, gt=1, le=100, description="exponent of the Moffat profile of a star")
    least_transparency: MostOfIt = Field(default=0.85, description="transparency of an exposure is drawn between this and 1")
    sky_variation: Share = Field(default=0.05, description="sigma of the logarithm of the sky between exposures")
    dither_pixels: Pixels = Field(
        default=12.0, description="largest offset along an axis; labels that compare the same pixels have none"
    )
    wcs: bool = Field(default=True, description="whether headers of images have a WCS")
    wcs_error_arcsec: NotNegative = Field(default=0.5, le=3600, description="sigma of its error, along each axis")
    binning: Binning = Field(default=[1, 1], description="detector pixels per pixel, x and y; chip_shape is binned")
    dispersion: Literal["x", "y"] = Field(default="x", description="axis of the wavelengths in spectra")
    flat_residual: Share = Field(default=0.005, description="sigma of the sensitivity of a pixel, about its mean")
    warm_pixels: Share = Field(default=2e-4, description="share of pixels with more dark current, without a flag")
    bad_columns: int = Field(default=1, ge=0, le=100, description="columns with more dark current, without a flag")
    muons_per_cm2_min: Rate = Field(
        default=1.0, description="through a horizontal surface: 1 at sea level (Particle Data Group), more on a mountain"
    )
    compton_electrons_per_cm2_min: Rate = Field(
        default=0.8, description="recoils of natural gamma rays (Groom 2004); cover glass with potassium gives several"
    )
    alphas_per_cm2_day: Rate = Field(default=1.0, description="alpha particles of uranium and thorium in the package")
    field_step_deg: FieldStep | None = optional(
        None, "distance between the fields of neighbouring seeds on the sky; none: twice the frame, at least 0.1"
    )
    spectra: Literal["long_slit", "echelle"] = optional("long_slit", "form of spectra")
    sources_per_megapixel: Density | None = optional(
        None, "stars and galaxies of an image, brighter than what the noise hides; none: by the field type on the sky"
    )
    nebula_electron_s: Rate = optional(0.0, "mean brightness of nebulosity in an image, per unbinned pixel")
    satellites: Trails = optional(0.0, "mean number of trails of satellites in an image")
    trailing_pixels: TrailPixels = optional(
        0.0, "length by which stars are trailed, along one direction in each visit, unevenly and not quite straight"
    )
    defocus_pixels: BlurPixels = optional(0.0, "radius of the ring that a star out of focus makes")
    banding_electron: Rate = optional(0.0, "sigma of a level that the pixels of a row share")
    unlit_columns: Columns = optional(0, "columns at the right edge that see no light, as overscan that is not cut off")
    noise_correlation: Share = optional(0.0, "correlation of the read noise of neighbours along a row")

    @model_validator(mode="after")
    def _some_particles_fall(self) -> SimulationBlock:
        if (
            self.site == "ground"
            and not self.muons_per_cm2_min + self.compton_electrons_per_cm2_min + self.alphas_per_cm2_day
        ):
            raise ValueError("a rate above 0 of muons, Compton electrons or alpha particles at a site on the ground")
        return self
