"""The schema of a recipe (``recipes/*.yaml``): the whole life of a model, from exposures to publication."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    Field,
    StringConstraints,
    ValidationError,
    WrapValidator,
    field_validator,
    model_validator,
)

from deepcr_zoo.documents import EITHER_SPELLING, Document, ascending, optional
from deepcr_zoo.zoo.cameraspace import CameraSpace
from deepcr_zoo.zoo.instruments import BLEEDING, Instrument
from deepcr_zoo.zoo.names import NAME_PATTERN, PINNED_PATTERN, Task
from deepcr_zoo.zoo.registry import REPOSITORY_PATTERN, Architecture
from deepcr_zoo.zoo.simulation import SimulationBlock

SimulatedFieldType = Literal["extragalactic", "globular_cluster", "resolved_galaxy"]
SIMULATED_FIELD_TYPES: tuple[SimulatedFieldType, ...] = get_args(SimulatedFieldType)
"""Field types that the simulator offers for every camera: images of the sky."""

FieldType = Literal["extragalactic", "globular_cluster", "resolved_galaxy", "spectrum"]
FIELD_TYPES: tuple[FieldType, ...] = get_args(FieldType)
Split = Literal["train", "test"]  # purpose of a visit; validation stamps are blocks of sky of the training visits
SplitBy = Literal["sky", "observation"]  # what training and test must not share
Labels = Literal["astrodrizzle", "cr_split", "dark_paste", "dithers", "given", "truth"]
"""Label method: AstroDrizzle, repeats on the same pixels, dark exposures, dithers of any camera, masks of your own, or the
truth of simulated exposures."""

ONE_EXPOSURE: tuple[Labels, ...] = ("dark_paste", "given", "truth")
"""Label methods that label an exposure without others."""

RESERVED_SEED = 900_000
"""Simulated visits from this seed up are reserved for independent evaluation; no tuning, training or test uses them."""

ANY_PRODUCT = "*"
"""In place of the end of file names: every FITS file that is no product of this package."""

MOST_SEEDS = 1_000_000  # upper bound of the seeds of simulated visits
MOST_PLACES = 1_000  # folders or wildcards of exposures, each of which may search a whole disk
Product = Annotated[str, StringConstraints(pattern=r"^(\*|[A-Za-z0-9][A-Za-z0-9_-]{0,30})$")]
"""End of file names; it becomes a part of those that the simulator writes."""

Fraction = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Level = Annotated[float, Field(ge=0, le=1e9)]
Size = Annotated[float, Field(gt=0, le=1e4)]
Seconds = Annotated[float, Field(gt=0, le=1e6)]


def _in_one_sentence(value: Any, validate: Callable[[Any], Any]) -> Any:
    try:
        return validate(value)
    except ValidationError:  # one error for each of the two types
        raise ValueError("a number of seconds above 0 and up to 1e6, or two of them, the smaller number first") from None


ExposureTime = Annotated[
    Seconds | Annotated[list[Seconds], Field(min_length=2, max_length=2), AfterValidator(ascending)],
    WrapValidator(_in_one_sentence),
]
WavelengthUm = Annotated[float, Field(gt=0, le=5)]
Magnitude = Annotated[float, Field(ge=10, le=40)]
Seed = Annotated[int, Field(ge=0, lt=RESERVED_SEED)]
ModelName = Annotated[str, StringConstraints(pattern=f"^{NAME_PATTERN}$")]
PinnedName = Annotated[str, StringConstraints(pattern=f"^{PINNED_PATTERN}$")]
DqBits = Annotated[int, Field(gt=0, lt=2**31)]
Thresholds = Annotated[list[Positive], Field(min_length=2, max_length=2)]
MaskPlace = Annotated[str, StringConstraints(pattern=r"^[^\[\]/\\]+(\[[^\[\]]+\])?$")]
Shape = Annotated[list[Annotated[int, Field(gt=0, le=65_536)]], Field(min_length=2, max_length=2)]


def _of_this_machine(pattern: str) -> str:
    if "://" in pattern:  # a run and a release would repeat its password
        raise ValueError("a folder, a file or a wildcard of this machine; no address is read")
    return pattern


Places = Annotated[list[Annotated[str, AfterValidator(_of_this_machine)]], Field(max_length=MOST_PLACES)]
CountRange = Annotated[list[Annotated[int, Field(gt=0)]], Field(min_length=2, max_length=2), AfterValidator(ascending)]
AlphaRange = Annotated[list[float], Field(min_length=2, max_length=2), AfterValidator(ascending)]


class DetectorBlock(Document):
    """Names of the detector and the properties that a build needs."""

    telescope: str = Field(description="as in zoo/instruments.yaml")
    instrument: str
    detector: str
    filters: list[str] = Field(min_length=1, description="filters of the training data")
    pixel_scale_arcsec: Annotated[float, Field(ge=1e-6, le=1e4)]
    pixel_size_um: Annotated[float, Field(ge=0.01, le=1e4)]
    gain_electron_per_count: Annotated[float, Field(ge=1e-6, le=1e6)]
    read_noise_electron: Level
    saturation_electron: Positive = Field(description="full well, where charge begins to bloom")
    chips: Annotated[int, Field(ge=1, le=1000)] = Field(description="chips of a full frame, one image each")
    chip_shape: Shape = Field(description="rows and columns of a chip")
    description: Instrument | None = optional(
        None, "description of an instrument that does not ship, so that the recipe can be used anywhere"
    )


class InstrumentBlock(DetectorBlock):
    """Properties of the detector and, for simulation, of the optics; ACS/WFC and WFC3/UVIS need all but `simulation`."""

    simulated_filter: str | None = Field(default=None, description="filter of the wavelength, zero point and sky below")
    aperture_m: Positive | None = Field(default=None, description="diameter of the primary mirror")
    obstruction: Fraction | None = Field(default=None, description="diameter of the central obstruction / of the mirror")
    wavelength_um: WavelengthUm | None = Field(default=None, description="pivot wavelength of the filter that is simulated")
    bandwidth_um: WavelengthUm | None = Field(default=None, description="width of that filter")
    zeropoint_ab: Magnitude | None = Field(default=None, description="AB magnitude of 1 electron per second in that filter")
    silicon_um: Size | None = Field(default=None, description="thickness of the light-sensitive silicon")
    charge_spread_um: Level | None = Field(
        default=None, description="sigma of the spread of charge freed at the back of the silicon"
    )
    dark_electron_s: Level | None = None
    sky_electron_s: Level | None = Field(default=None, description="sky background per pixel")
    cosmic_rays_per_cm2_s: Size | None = Field(default=None, description="rate of cosmic rays through the detector")
    chip_gap_pixels: NotNegative | None = Field(default=None, description="distance between the two chips")
    simulation: SimulationBlock | None = optional(
        None, "site, seeing and particles of a simulated camera other than ACS/WFC and WFC3/UVIS; none: the defaults"
    )


class SimulatedInstrument(DetectorBlock):
    """An instrument block with everything that the simulator needs."""

    simulated_filter: str
    aperture_m: Positive
    obstruction: Fraction
    wavelength_um: WavelengthUm
    bandwidth_um: WavelengthUm
    zeropoint_ab: Magnitude
    silicon_um: Positive
    charge_spread_um: NotNegative
    dark_electron_s: NotNegative
    sky_electron_s: NotNegative
    cosmic_rays_per_cm2_s: Positive
    chip_gap_pixels: NotNegative


class TweakReg(Document):
    """Settings of DrizzlePac's TweakReg, which aligns the exposures of a visit."""

    conv_width: Positive = Field(description="width of the detection kernel, 2 x FWHM, in pixels")
    threshold: Positive = Field(description="detection threshold, in sigma of the background")


def visit_code(visit: str) -> str:
    """Return a visit as file names spell it: two characters, upper case."""
    return visit.strip().upper().zfill(2)


class VisitRule(Document):
    """Visits to use: one, if proposal and visit are given, or all that match."""

    field_type: FieldType
    split: Split | None = Field(default=None, description="none: test_fraction of the matching visits are for testing")
    test_fraction: Fraction = Field(default=0.2, description="share of the visits for testing, where split is not given")
    proposal: int | None = Field(default=None, description="PROPOSID")
    visit: str | None = Field(default=None, description="two characters, as in file names and LINENUM")
    observation: str | None = Field(default=None, description="pattern of ROOTNAME, with * and ?")
    target: str | None = Field(default=None, description="pattern of TARGNAME, with * and ?")
    filters: list[str] = Field(default_factory=list, description="none: the filters of the instrument block")
    exposures: int | None = Field(default=None, ge=1, description="exposures of the visit, as published or in the archive")
    exposure_time_s: Positive | None = Field(default=None, description="mean exposure time")
    tweakreg: TweakReg | None = Field(default=None, description="none: the header's astrometry is trusted")
    note: str | None = None

    @model_validator(mode="after")
    def _a_named_visit_has_a_split(self) -> VisitRule:
        if self.is_one_visit and self.split is None:
            raise ValueError("a split, train or test, for a visit that is named")
        return self

    @property
    def is_one_visit(self) -> bool:
        """True if proposal and visit are given."""
        return self.proposal is not None and self.visit is not None


class SimulatedVisitCount(Document):
    """Number of simulated visits of a field type."""

    train: int = Field(default=0, ge=0, le=100_000)
    validation: int = Field(default=0, ge=0, le=100_000)
    test: int = Field(default=0, ge=0, le=100_000)


class SimulatedData(Document):
    """Visits that are simulated in place of exposures: of the recipe's camera, or each of another one."""

    visits: dict[FieldType, SimulatedVisitCount] = Field(min_length=1)
    exposures: int = Field(default=1, ge=1, le=6, description="of each visit")
    exposure_time_s: dict[FieldType, ExposureTime] = Field(
        default_factory=dict,
        description="of each field type, or a range from which each visit draws, evenly in the logarithm; a space of "
        "cameras has its own",
    )
    side: int | None = Field(default=None, ge=128, le=8192, description="of the frames, pixels; none: whole frames")
    seed: Seed = Field(default=10_000, description="of the first visit; the others follow")
    cameras: CameraSpace | None = Field(default=None, description="a camera for each visit; none: the recipe's own")

    @model_validator(mode="after")
    def _exposures_have_a_time(self) -> SimulatedData:
        if self.cameras is None and (missing := [one for one in self.visits if one not in self.exposure_time_s]):
            raise ValueError(f"exposure_time_s of {', '.join(missing)}, because no space of cameras is given")
        return self

    @model_validator(mode="after")
    def _seeds_are_not_reserved(self) -> SimulatedData:
        if self.seed + self.count > RESERVED_SEED:
            raise ValueError(f"seeds below {RESERVED_SEED}, got up to {self.seed + self.count - 1}")
        return self

    @property
    def count(self) -> int:
        """Number of visits, each with a seed of its own."""
        return sum(one.train + one.validation + one.test for one in self.visits.values())


class DataBlock(Document):
    """Exposures for training and testing."""

    product: Product = Field(
        default="flc",
        description=f"end of the file names of the exposures: flc, flt, raw; {ANY_PRODUCT} for any FITS file, as is the "
        "default with instrument.name",
    )
    source: str = Field(description="source of this list of visits")
    split_by: SplitBy = Field(
        default="sky",
        description="what training and test must not share: sky, or observations (for data of a single target)",
    )
    checked_against_archive: bool = Field(default=False, description="whether these visits have been found in the archive")
    files: Places = Field(default_factory=list, description="folders or wildcards; relative ones start at the recipe")
    visits: dict[str, VisitRule] = Field(
        default_factory=dict, description="rules by a name of your choice; the first match counts"
    )
    simulated: SimulatedData | None = optional(None, "visits to simulate in place of exposures")

    @model_validator(mode="after")
    def _has_visits(self) -> DataBlock:
        if bool(self.visits) == (self.simulated is not None):
            raise ValueError("either visits, one rule or more, or simulated")
        return self

    @field_validator("visits", mode="before")
    @classmethod
    def _null_removes_an_inherited_rule(cls, visits: Any) -> Any:
        return {name: rule for name, rule in visits.items() if rule is not None} if isinstance(visits, dict) else visits


class DrizzleBlock(Document):
    """Settings of the label method astrodrizzle."""

    driz_cr_snr: str = Field(default="5.0 1.5", pattern=r"^\d+(\.\d+)? \d+(\.\d+)?$", description="thresholds of the passes")
    driz_cr_grow: int = Field(default=1, ge=1, le=101, description="neighbourhood of the second pass, pixels; 1: no growth")
    resetbits: int = Field(default=4096, ge=0, description="DQ bits that are cleared first")
    combine_type: Literal["minmed", "median", "imedian"] = "minmed"
    max_fit_rms_pixels: Positive = Field(default=0.3, description="a worse TweakReg fit rejects the visit")


class CrSplitBlock(Document):
    """Settings of the label method cr_split: repeats of one pointing, with the two-pass test of AstroDrizzle's driz_cr."""

    snr: Thresholds = Field(
        default=[5.0, 3.0], description="thresholds in sigma of the difference: for a cosmic ray and its neighbours"
    )
    gradient: Thresholds = Field(
        default=[1.2, 0.7], description="the same two, as multiples of the steepest slope around (driz_cr_scale)"
    )
    grow: int = Field(default=1, ge=1, le=50, description="pixels around a cosmic ray where the second threshold counts")
    reference: Literal["minimum", "median"] = Field(
        default="median", description="how other exposures, scaled by exposure time, combine"
    )
    offset_box: int = Field(
        default=15, ge=3, le=501, description="side of the box of the median background difference, pixels"
    )
    hot_snr: Positive = Field(
        default=5.0, description="pixels this many sigma above their surroundings in most exposures are hot"
    )


class DarkPasteBlock(Document):
    """Settings of the label method dark_paste: cosmic rays of darks in science exposures (Chen et al. 2024, ApJ 962, 7)."""

    darks: Places = Field(default_factory=list, description="folders or wildcards; relative ones start at the recipe")
    product: Product = Field(
        default="flt", description=f"end of the file names of the dark exposures, calibrated or raw; {ANY_PRODUCT} for any"
    )
    test_fraction: Fraction = Field(default=0.2, description="share of the darks used only in test visits; at least three")
    per_exposure: CountRange = Field(default=[1, 3], description="fewest and most darks whose cosmic rays go into a chip")
    snr: Thresholds = Field(
        default=[5.0, 2.5],
        description="thresholds in sigma above the darks' median: for a cosmic ray, and for its neighbours",
    )
    grow: int = Field(default=1, ge=1, le=50, description="pixels around a cosmic ray where the second threshold counts")
    hot_snr: Positive = Field(default=5.0, description="pixels where the darks' median is this many sigma high are not used")
    own: Literal["dq", "lacosmic"] = Field(
        default="lacosmic",
        description="how an exposure's own cosmic rays are found: by DQ flags, which are required, or by L.A.Cosmic as well",
    )
    own_sigclip: Positive = Field(default=4.5, description="sigclip of that L.A.Cosmic")
    own_objlim: Positive = Field(
        default=1.0, description="objlim of that L.A.Cosmic; low, because its detections are only ignored"
    )
    own_grow: int = Field(default=1, ge=0, le=50, description="pixels also ignored around an exposure's own cosmic rays")


class DithersBlock(Document):
    """Settings of the label method dithers: exposures of one field of any camera, aligned by WCS and stars."""

    snr: Thresholds = Field(
        default=[5.0, 1.5], description="thresholds in sigma of the difference: for a cosmic ray and its neighbours"
    )
    gradient: Thresholds = Field(
        default=[1.2, 0.7], description="the same two, as multiples of the steepest slope around (driz_cr_scale)"
    )
    grow: int = Field(default=1, ge=1, le=50, description="pixels around a cosmic ray where the second threshold counts")
    min_others: int = Field(default=1, ge=1, le=100, description="other exposures that must have seen a pixel, else ignored")
    search_pixels: Positive = Field(default=100.0, description="largest offset from the WCS, or else largest dither")
    min_stars: int = Field(default=4, ge=3, description="matched stars of an alignment; with fewer the WCS counts")
    max_residual_pixels: Positive = Field(default=0.3, description="a worse RMS of the matched stars rejects an exposure")
    max_seeing_ratio: float = Field(default=1.6, gt=1, description="FWHM of the stars / the visit's median, or its inverse")
    min_transparency: Fraction = Field(default=0.4, description="flux of the stars per second / the visit's median")
    max_core_sigma: Positive = Field(
        default=5.0, description="cores where the difference of seeing may exceed this many sigma of noise are ignored"
    )


class GivenBlock(Document):
    """Settings of the label method given: masks of your own, one file for each exposure, or a part of its file."""

    mask: MaskPlace = Field(
        default="_mask.fits",
        description="CR mask, 1 = cosmic ray: what follows the exposure's name without .fits in the name of its mask, with "
        "an extension or array in brackets: _mask.fits, .npz[mask], .fits[CRMASK] (in the exposure's own file)",
    )
    ignore: MaskPlace | None = Field(
        default=None, description="the same of an ignore mask, 1 = excluded from loss and metrics; none: no such mask"
    )


class TruthBlock(Document):
    """Settings of the label method truth: simulated exposures, whose cosmic rays are known."""

    snr: Thresholds = Field(
        default=[3.0, 1.0],
        description="charge of cosmic rays, in sigma of the pixel's noise: above the first a pixel is labelled, above the "
        "second it is ignored",
    )


class IgnoreBlock(Document):
    """Pixels that are excluded from training and metrics."""

    keep_bits: list[DqBits] | None = Field(
        default=None,
        description="DQ bits that do not exclude a pixel; none: saturation and cosmic rays, by zoo/instruments.yaml",
    )
    saturation_electron: Positive = Field(default=70_000.0, description="brighter pixels and their neighbours are excluded")
    saturation_dilation: int = Field(
        default=BLEEDING, ge=1, le=101, description="side of the square by which saturated pixels are dilated"
    )


class StampBlock(Document):
    """Geometry of the stamps that exposures are cut into."""

    size: int = Field(default=256, ge=32, le=4096, multiple_of=8, description="side of a stamp, pixels")
    border: int = Field(default=128, ge=0, le=4096, description="pixels dropped at each edge of a chip")
    validation_fraction: Fraction = Field(default=0.2, description="share of each training visit, one strip of columns")

    def grid(self, shape: Sequence[int]) -> tuple[int, int]:
        """Return the rows and columns of stamps on a chip of this shape, in pixels."""
        rows, columns = ((length - 2 * self.border) // self.size for length in shape)
        return max(rows, 0), max(columns, 0)


class QualityBlock(Document):
    """Limits beyond which exposures are rejected."""

    max_background_ratio: float = Field(default=2.0, gt=1, description="counts per second / the visit's median")
    max_rate_ratio: float = Field(default=2.0, gt=1, description="cosmic rays per cm2 and s / the visit's median")
    max_star_excess: float = Field(default=4.0, gt=1, description="share of masked pixels on stars / elsewhere")
    min_exposures: int = Field(
        default=2, ge=1, description="sound exposures that a visit must have; 1 only with dark_paste, given and truth"
    )
    on_bad_file: Literal["skip", "refuse"] = Field(
        default="skip", description="whether an unusable file is skipped or stops the build"
    )


class BuildBlock(Document):
    """Settings that turn exposures into labelled stamps."""

    labels: Labels = Field(default="astrodrizzle", description="label method; each has a block of settings")
    drizzle: DrizzleBlock = DrizzleBlock()
    cr_split: CrSplitBlock = CrSplitBlock()
    dark_paste: DarkPasteBlock = DarkPasteBlock()
    dithers: DithersBlock = DithersBlock()
    given: GivenBlock = GivenBlock()
    truth: TruthBlock = TruthBlock()
    ignore: IgnoreBlock = IgnoreBlock()
    stamps: StampBlock = StampBlock()
    sky: Literal["mdrizsky", "measured"] = Field(default="mdrizsky", description="source of the sky level")
    quality: QualityBlock = QualityBlock()
    seed: Seed = Field(default=1, description="chooses validation blocks, unnamed test visits and each exposure's dark")

    @model_validator(mode="after")
    def _one_exposure_has_no_others(self) -> BuildBlock:
        if self.labels not in ONE_EXPOSURE and self.quality.min_exposures < 2:
            raise ValueError(
                f"quality.min_exposures of 2 or more with labels {self.labels}, which compare exposures, got "
                f"{self.quality.min_exposures}"
            )
        return self


Normalisation = Literal["scale", "noise"]


class InputBlock(Document):
    unit: Literal["electron", "adu", "any"] = Field(default="electron", description="any: with normalisation noise")
    scale: float = Field(default=100.0, gt=0, le=1e6, description="the image is divided by this; 1 with normalisation noise")
    normalisation: Normalisation = optional(
        "scale",
        "noise: the network sees asinh((pixel - sky) / noise), and needs no unit, gain or bias",
        validation_alias=EITHER_SPELLING,
    )

    @model_validator(mode="before")
    @classmethod
    def _noise_needs_no_unit_or_scale(cls, content: Any) -> Any:
        is_noise = isinstance(content, dict) and "noise" in map(content.get, EITHER_SPELLING.choices)
        return {"unit": "any", "scale": 1.0, **content} if is_noise else content

    @model_validator(mode="after")
    def _noise_has_no_unit(self) -> InputBlock:
        if (self.unit == "any") != self.by_noise or (self.by_noise and self.scale != 1):
            raise ValueError(
                "unit any and scale 1, or neither, with normalisation noise, and unit electron or adu with scale; "
                f"got unit {self.unit}, scale {self.scale:g} and normalisation {self.normalisation}"
            )
        return self

    @property
    def by_noise(self) -> bool:
        """True if the network sees pixels in units of the noise."""
        return self.normalisation == "noise"


class AugmentationBlock(Document):
    sky: AlphaRange | None = Field(
        default=[-0.9, 3.0], description="range of alpha: alpha x sky is added (Zhang & Bloom 2020, Eq. 3-4); none: never"
    )
    shot_noise: bool = Field(default=False, description="whether the shot noise of an added sky is added too")
    flips: bool = Field(default=False, description="whether stamps are flipped and turned by 90 degrees")
    noise_error: Fraction = optional(
        0.0,
        "sigma of an error of the measured noise, as a fraction, and of the sky, in units of the noise; only with "
        "normalisation noise",
    )
    inpainting_masks: CountRange = Field(default=[1, 9], description="fewest and most CR masks of other stamps in one mask")


class ScheduleBlock(Document):
    """Training schedule (Zhang & Bloom 2020, section 3)."""

    learning_rate: Positive = 0.005
    batch_size: int = Field(default=16, ge=1, le=4096, description="not given in the paper; upstream's code has 16")
    max_epochs: int = Field(default=60, ge=1, le=100_000)
    freeze_after_epochs: int = Field(default=20, ge=0, description="epochs after which BatchNorm is frozen")
    batchnorm_momentum: Annotated[float, Field(gt=0, le=1)] = 0.005
    restart_at_freeze: bool = Field(default=True, description="whether optimiser and scheduler restart at the freeze")
    restart_learning_rate_factor: Positive = Field(default=0.4, description="upstream divides by 2.5; not in the paper")
    decay: Literal["plateau", "cosine"] = optional(
        "plateau",
        "how the learning rate falls: at each plateau of the validation loss, by the fields below, or along a half cosine "
        "over all epochs",
    )
    decay_factor: Annotated[float, Field(gt=0, lt=1)] = 0.1
    decay_patience_epochs: int = Field(
        default=4, ge=1, description="the learning rate decays after more epochs than this without improvement"
    )
    decay_min_improvement: Fraction = Field(default=0.001, description="least relative improvement of the loss that counts")
    stop_after_decays: int = Field(
        default=2, ge=1, description="training ends when another decay is due after this many without improvement"
    )
    gradient_clip: Positive | None = None


class TrainBlock(Document):
    architecture: Architecture
    input: InputBlock = InputBlock()
    schedule: ScheduleBlock = ScheduleBlock()
    augmentation: AugmentationBlock = AugmentationBlock()
    init_from: PinnedName | None = Field(default=None, description="NAME@VERSION of the weights to start from")
    start_frozen: bool = Field(default=False, description="whether BatchNorm is frozen from the start; needs init_from")
    teacher: PinnedName | None = optional(
        None, "NAME@VERSION of a mask network whose probabilities are learned beside the labels"
    )
    teacher_share: Annotated[float, Field(gt=0, le=1)] = optional(
        0.5, "weight of the teacher's probabilities in what is learned; that of the labels is the rest"
    )
    source_weight: Annotated[float, Field(ge=1, le=1000)] = optional(
        1.0,
        "weight in the loss of the clean pixels of stars, galaxies and trails, so that a mask takes fewer of them for "
        "cosmic rays, or inpainting learns more from them",
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto",
        description="precision of convolutions; auto: bfloat16 on GPUs, and CPUs with AMX, while the validation loss agrees "
        "to 1 %",
    )
    seed: Seed = 1

    @model_validator(mode="after")
    def _frozen_start_needs_weights(self) -> TrainBlock:
        if self.start_frozen and self.init_from is None:
            raise ValueError("init_from with start_frozen: new weights have no running statistics to freeze")
        return self

    @property
    def inherited(self) -> list[str]:
        """Models that have a share in what this one learns, so that it has seen their training visits, too."""
        return [name for name in (self.init_from, self.teacher) if name is not None]


LACOSMIC_OBJLIM: dict[FieldType, float] = {
    "extragalactic": 2.0,
    "globular_cluster": 3.5,
    "resolved_galaxy": 5.0,
    "spectrum": 5.0,
}


class BenchmarkBlock(Document):
    fprs: list[Annotated[float, Field(gt=0, lt=1)]] = Field(default=[0.0005, 0.001, 0.005], min_length=1, max_length=20)
    lacosmic_objlim: dict[FieldType, float] = Field(
        default=LACOSMIC_OBJLIM,
        description="objlim of the L.A.Cosmic baseline (Zhang & Bloom 2020, section 4; of spectra: astroscrappy's default)",
    )
    lacosmic_objlims: list[Positive] = Field(
        default=[1.0, 2.0, 3.5, 5.0, 8.0],
        min_length=1,
        max_length=20,
        description="objlims of the grid search for the best L.A.Cosmic",
    )
    lacosmic_sigclips: list[Positive] = Field(
        default=[1.6, 2.5, 4.0, 6.3, 10.0, 16.0, 25.0],
        min_length=2,
        max_length=100,
        description="sigclips of that grid search",
    )
    inpainting_stamps: int = Field(
        default=9600,
        ge=1,
        le=1_000_000,
        description="drawn with replacement, one added mask each (Zhang & Bloom 2020, Table 3)",
    )
    bootstrap_blocks: int = Field(default=1000, ge=100, le=100_000, description="resamplings of blocks of sky")
    seed: Seed = 1
    truth: SimulatedData | None = optional(
        None, "simulated exposures of this camera, against whose truth networks are judged beside the labels"
    )

    @model_validator(mode="after")
    def _truth_has_test_visits(self) -> BenchmarkBlock:
        if self.truth is not None and (missing := [name for name, one in self.truth.visits.items() if not one.test]):
            raise ValueError(f"truth.visits with one for testing or more, got none of {', '.join(missing)}")
        return self

    @field_validator("lacosmic_objlim", mode="after")
    @classmethod
    def _field_types_without_one_have_the_default(cls, given: dict[FieldType, float]) -> dict[FieldType, float]:
        return {**LACOSMIC_OBJLIM, **given}


class EnoughTpr(Document):
    """A TPR that is high enough."""

    field_type: FieldType
    fpr: Annotated[float, Field(gt=0, lt=1)]
    tpr: Annotated[float, Field(gt=0, lt=1)]


class GatesBlock(Document):
    """Conditions for publication."""

    above_lacosmic_at_fpr: list[Annotated[float, Field(gt=0, lt=1)]] = Field(default=[0.0005, 0.005], min_length=1)
    enough: list[EnoughTpr] = Field(default=[], description="TPRs that are high enough, in place of those of L.A.Cosmic")
    max_star_core_rate: Fraction = Field(
        default=0.01, description="largest share of clean pixels in star cores that is masked at the default threshold"
    )
    max_structured_share: Fraction = optional(
        0.05,
        "largest share of masked pixels that lie in rows or columns, along trails or on the same pixels again",
    )
    no_regression: bool = Field(default=True, description="whether the model must not be worse than the previous version")


class PublishBlock(Document):
    """Contents of the card and place of publication."""

    summary: str = Field(description="one line for lists of models")
    authors: list[str] = Field(default_factory=list)
    licence: str = Field(default="BSD-3-Clause", description="SPDX identifier")
    citations: list[str] = Field(default_factory=list, description="DOIs of data and method")
    limits: list[str] = Field(default_factory=list, description="limits of use")
    repository: str | None = Field(default=None, pattern=REPOSITORY_PATTERN, description="Hub repository, ORG/NAME")


class RehearsalVisits(Document):
    """Number of simulated visits of each field type."""

    train: int = Field(default=2, ge=1)
    test: int = Field(default=1, ge=1)


class RehearsalSchedule(Document):
    """Replacements in train.schedule for a rehearsal: 32 channels within minutes on two processors."""

    learning_rate: Positive | None = Field(default=None, description="none: as in train.schedule, for all fields")
    batch_size: int | None = Field(default=None, ge=1, le=4096)
    max_epochs: int = Field(default=20, ge=1, le=100_000)
    freeze_after_epochs: int = Field(default=6, ge=0)
    decay_patience_epochs: int | None = Field(default=None, ge=1)


class RehearsalBenchmark(Document):
    """Replacements in benchmark for a rehearsal, which has small images and few minutes."""

    lacosmic_objlims: list[Positive] = Field(default=[2.0, 3.5, 5.0], min_length=1, max_length=20)
    lacosmic_sigclips: list[Positive] = Field(default=[2.5, 4.0, 6.3, 10.0, 16.0], min_length=2, max_length=100)
    inpainting_stamps: int = Field(default=960, ge=1, le=1_000_000)


class RehearsalGates(Document):
    """Replacements in gates for a rehearsal."""

    no_regression: bool | None = Field(default=None, description="none: as in gates")


class RehearsalStamps(StampBlock):
    """Stamps of a rehearsal, whose exposures are small."""

    size: int = Field(default=128, ge=32, le=4096, multiple_of=8, description="side of a stamp, pixels")
    border: int = Field(default=32, ge=0, le=4096, description="pixels dropped at each edge of a chip")


class RehearsalBlock(Document):
    """Rehearsal: the whole recipe in minutes, on simulated exposures."""

    side: int = Field(
        default=1024,
        ge=256,
        le=8192,
        description="side of the simulated exposures, pixels; they have one chip, and whole frames where that is smaller or "
        "the description fixes the place of the overscan",
    )
    exposures: int = Field(default=3, ge=2, le=6)
    exposure_time_s: dict[FieldType, Seconds] = Field(
        default={"extragalactic": 400.0, "globular_cluster": 350.0, "resolved_galaxy": 540.0},
        min_length=1,
        description="by field type, as in the test visits of Zhang & Bloom 2020, Table 1; ACS/WFC and WFC3/UVIS take images",
    )
    visits: RehearsalVisits = RehearsalVisits()
    stamps: RehearsalStamps = RehearsalStamps()
    schedule: RehearsalSchedule = Field(default=RehearsalSchedule(), description="replaces fields of train.schedule")
    benchmark: RehearsalBenchmark = Field(default=RehearsalBenchmark(), description="replaces fields of benchmark")
    gates: RehearsalGates = Field(default=RehearsalGates(), description="replaces fields of gates")
    seed: int = Field(default=1000, ge=0, lt=MOST_SEEDS, description="seed of the first simulated visit; the others follow")

    @model_validator(mode="after")
    def _seeds_are_in_range(self) -> RehearsalBlock:
        if self.last_seed >= MOST_SEEDS:
            raise ValueError(f"seeds below {MOST_SEEDS}, each of which has a patch of sky, got up to {self.last_seed}")
        return self

    @property
    def last_seed(self) -> int:
        """Seed of the last visit; seeds count up from `seed`."""
        return self.seed + len(self.exposure_time_s) * (self.visits.train + self.visits.test) - 1

    @property
    def is_reserved(self) -> bool:
        """True if visits are reserved for independent evaluation (`RESERVED_SEED`)."""
        return self.last_seed >= RESERVED_SEED


class Recipe(Document):
    """A recipe."""

    name: ModelName = Field(description="name of the trained model")
    task: Task
    instrument: InstrumentBlock
    data: DataBlock
    build: BuildBlock = BuildBlock()
    train: TrainBlock
    benchmark: BenchmarkBlock = BenchmarkBlock()
    gates: GatesBlock = GatesBlock()
    publish: PublishBlock
    rehearsal: RehearsalBlock = RehearsalBlock()

    @property
    def rehearsed(self) -> Recipe:
        """The recipe with the schedule, benchmark and gates of its rehearsal."""

        def over(block: Document, rehearsed: Document) -> Any:
            return block.model_copy(update=rehearsed.model_dump(exclude_none=True))

        schedule = over(self.train.schedule, self.rehearsal.schedule)
        return self.model_copy(
            update={
                "train": self.train.model_copy(update={"schedule": schedule}),
                "benchmark": over(self.benchmark.model_copy(update={"truth": None}), self.rehearsal.benchmark),
                "gates": over(self.gates, self.rehearsal.gates),
            }
        )

    @property
    def of_truth(self) -> Recipe | None:
        """The recipe of the simulated exposures of `benchmark.truth`, which are labelled by their truth."""
        if self.benchmark.truth is None:
            return None
        quality = self.build.quality.model_copy(update={"min_exposures": 1})
        return self.model_copy(
            update={
                "data": self.data.model_copy(update={"visits": {}, "files": [], "simulated": self.benchmark.truth}),
                "build": self.build.model_copy(update={"labels": "truth", "quality": quality}),
                "benchmark": self.benchmark.model_copy(update={"truth": None}),
            }
        )

    @model_validator(mode="after")
    def _a_teacher_is_for_masks(self) -> Recipe:
        if self.train.teacher is not None and self.task != "mask":
            raise ValueError("train.teacher with task mask: an inpainting network has no probabilities")
        return self

    @model_validator(mode="after")
    def _two_outputs_inpaint_by_noise(self) -> Recipe:
        if self.train.architecture.outputs == 2 and (self.task == "mask" or not self.train.input.by_noise):
            raise ValueError(
                "train.architecture.outputs 1, or 2 with task inpaint and train.input.normalisation noise: "
                "others predict no uncertainty"
            )
        return self

    @model_validator(mode="after")
    def _a_visit_has_one_rule(self) -> Recipe:
        seen: dict[tuple[int | None, str | None, str | None, str], str] = {}
        for name, rule in self.data.visits.items():
            for band in rule.filters or self.instrument.filters:
                other = (
                    seen.setdefault((rule.proposal, rule.visit, rule.observation, band), name) if rule.is_one_visit else name
                )
                if other != name:
                    raise ValueError(f"each visit in one rule, got {rule.proposal}-{rule.visit} in {other} and in {name}")
        return self

    @model_validator(mode="after")
    def _stamps_fit(self) -> Recipe:
        side = self.rehearsal.side
        for what, stamps, shape in (
            ("build", self.build.stamps, self.instrument.chip_shape),
            ("rehearsal", self.rehearsal.stamps, (side, side)),
        ):
            if not all(stamps.grid(shape)):
                size = f"{stamps.size} + 2 x {stamps.border}"
                raise ValueError(f"{what}.stamps that fit a chip of {shape[0]} x {shape[1]} pixels, got {size}")
        return self
