"""The schema of a recipe (``recipes/*.yaml``): the whole life of a model, from exposures to publication."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, StringConstraints, field_validator, model_validator

from deepcr_zoo.documents import Document
from deepcr_zoo.zoo.names import NAME_PATTERN, Task
from deepcr_zoo.zoo.registry import REPOSITORY_PATTERN, Architecture

SimulatedFieldType = Literal["extragalactic", "globular_cluster", "resolved_galaxy"]
SIMULATED_FIELD_TYPES: tuple[SimulatedFieldType, ...] = ("extragalactic", "globular_cluster", "resolved_galaxy")
"""What the simulator knows: images of the sky."""

FieldType = Literal["extragalactic", "globular_cluster", "resolved_galaxy", "spectrum"]
FIELD_TYPES: tuple[FieldType, ...] = (*SIMULATED_FIELD_TYPES, "spectrum")

Split = Literal["train", "test"]
"""What a visit is for; validation stamps are blocks of sky of the training visits."""

SplitBy = Literal["sky", "observation"]
"""What training and test must not share."""

Labels = Literal["astrodrizzle", "cr_split", "dark_paste"]
"""Where labels come from: the other exposures of a dithered visit, repeats on the same pixels, or dark exposures."""

RESERVED_SEED = 900_000
"""Simulated visits with seeds from here up are for independent evaluation: nothing is tuned, trained or tested on them."""

MOST_SEEDS = 1_000_000
"""Simulated visits have seeds below this."""

Number = TypeVar("Number", int, float)
Fraction = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
WavelengthUm = Annotated[float, Field(gt=0, le=5)]
Magnitude = Annotated[float, Field(ge=10, le=40)]
Seed = Annotated[int, Field(ge=0, lt=RESERVED_SEED)]
ModelName = Annotated[str, StringConstraints(pattern=f"^{NAME_PATTERN}$")]
DqBits = Annotated[int, Field(gt=0, lt=2**31)]
Thresholds = Annotated[list[Positive], Field(min_length=2, max_length=2)]
Span = Annotated[list[Annotated[int, Field(gt=0)]], Field(min_length=2, max_length=2)]
Shape = Annotated[list[Annotated[int, Field(gt=0, le=65_536)]], Field(min_length=2, max_length=2)]


def ascending(limits: list[Number]) -> list[Number]:
    """Two limits, if the smaller comes first.

    Raises
    ------
    ValueError
    """
    if limits[0] > limits[1]:
        raise ValueError("the smaller number first")
    return limits


class DetectorBlock(Document):
    """The detector: what recognises its files, and what a build must know of it."""

    telescope: str = Field(description="as in zoo/instruments.yaml")
    instrument: str
    detector: str
    filters: list[str] = Field(min_length=1, description="filters of the training data")
    pixel_scale_arcsec: Positive
    pixel_size_um: Positive
    gain_electron_per_count: Positive
    read_noise_electron: NotNegative
    saturation_electron: Positive = Field(description="full well, where charge begins to bloom")
    chips: Literal[1, 2] = Field(description="chips of a full frame, one SCI extension each")
    chip_shape: Shape = Field(description="rows and columns of a chip")


class InstrumentBlock(DetectorBlock):
    """The detector, and of the optics what the simulator needs: cameras that it knows may leave nothing of that out."""

    simulated_filter: str | None = Field(
        default=None, description="the filter that wavelength, zero point and sky belong to"
    )
    aperture_m: Positive | None = Field(default=None, description="diameter of the primary mirror")
    obstruction: Fraction | None = Field(
        default=None, description="diameter of the central obstruction / that of the mirror"
    )
    wavelength_um: WavelengthUm | None = Field(default=None, description="pivot wavelength of the filter that is simulated")
    bandwidth_um: WavelengthUm | None = Field(default=None, description="width of that filter")
    zeropoint_ab: Magnitude | None = Field(
        default=None, description="AB magnitude of one electron per second in that filter"
    )
    silicon_um: Positive | None = Field(default=None, description="thickness of the light-sensitive silicon")
    charge_spread_um: NotNegative | None = Field(
        default=None, description="sigma by which charge freed at the back of the silicon spreads"
    )
    dark_electron_s: NotNegative | None = None
    sky_electron_s: NotNegative | None = Field(default=None, description="sky background per pixel")
    cosmic_rays_per_cm2_s: Positive | None = Field(default=None, description="rate of cosmic rays through the detector")
    chip_gap_pixels: NotNegative | None = Field(default=None, description="distance between the two chips")


class SimulatedInstrument(DetectorBlock):
    """An instrument block of which nothing is left out that the simulator needs."""

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
    """How DrizzlePac's TweakReg aligns the exposures of a visit."""

    conv_width: Positive = Field(description="width of the detection kernel, 2 x FWHM, in pixels")
    threshold: Positive = Field(description="detection threshold, in sigma of the background")


def visit_code(visit: str) -> str:
    """A visit as file names have it: two characters, upper case."""
    return visit.strip().upper().zfill(2)


class VisitRule(Document):
    """Visits to use: one (proposal and visit given) or all that match what is given."""

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
        """Whether proposal and visit are given."""
        return self.proposal is not None and self.visit is not None


class DataBlock(Document):
    """Which exposures the model is trained and tested on."""

    product: str = Field(default="flc", description="end of the file names of the exposures: flc, flt, raw")
    source: str = Field(description="where this list of visits comes from")
    split_by: SplitBy = Field(
        default="sky",
        description="sky: no sky is in both training and test; observation: no observation is, for data of one target alone",
    )
    checked_against_archive: bool = Field(default=False, description="whether somebody has seen these visits in the archive")
    files: list[str] = Field(default_factory=list, description="folders or wildcards; relative ones start at the recipe")
    visits: dict[str, VisitRule] = Field(min_length=1, description="by a name of your choice; the first that matches counts")

    @field_validator("visits", mode="before")
    @classmethod
    def _null_removes_an_inherited_rule(cls, visits: Any) -> Any:
        return {name: rule for name, rule in visits.items() if rule is not None} if isinstance(visits, dict) else visits


class DrizzleBlock(Document):
    """How AstroDrizzle labels cosmic rays."""

    driz_cr_snr: str = Field(
        default="5.0 1.5", pattern=r"^\d+(\.\d+)? \d+(\.\d+)?$", description="thresholds of both passes"
    )
    driz_cr_grow: int = Field(
        default=1, ge=1, le=101, description="size of the neighbourhood of the second pass; 1: no growth"
    )
    resetbits: int = Field(default=4096, ge=0, description="DQ bits that are cleared first")
    combine_type: Literal["minmed", "median", "imedian"] = "minmed"
    max_fit_rms_pixels: Positive = Field(default=0.3, description="a worse TweakReg fit rejects the visit")


class CrSplitBlock(Document):
    """How repeated exposures of one pointing label each other's cosmic rays (two-pass test of AstroDrizzle's driz_cr)."""

    snr: Thresholds = Field(
        default=[5.0, 3.0], description="sigma of the difference: to find a cosmic ray, and next to one that was found"
    )
    gradient: Thresholds = Field(
        default=[1.2, 0.7], description="the same two, as multiples of the steepest slope around (driz_cr_scale)"
    )
    grow: int = Field(default=1, ge=1, le=50, description="pixels around a found one where the second threshold counts")
    reference: Literal["minimum", "median"] = Field(
        default="median", description="of the other exposures, scaled by exposure time, where there are several"
    )
    offset_box: int = Field(
        default=15, ge=3, le=501, description="side of the box whose median difference is that of the backgrounds, pixels"
    )
    hot_snr: Positive = Field(
        default=5.0, description="what most exposures have so many sigma above its surroundings is hot"
    )


class DarkPasteBlock(Document):
    """How cosmic rays of dark exposures get into science exposures, whose own are ignored (Chen et al. 2024, ApJ 962, 7)."""

    darks: list[str] = Field(
        default_factory=list, description="folders or wildcards with dark exposures; relative ones start at the recipe"
    )
    product: str = Field(default="flt", description="end of the file names of the dark exposures, calibrated or raw")
    test_fraction: Fraction = Field(default=0.2, description="share of the darks for test visits alone; three at least")
    per_exposure: Span = Field(default=[1, 3], description="fewest and most darks whose cosmic rays a chip gets")
    snr: Thresholds = Field(
        default=[5.0, 2.5], description="sigma above the darks' median: to find a cosmic ray, and next to one that was found"
    )
    grow: int = Field(default=1, ge=1, le=50, description="pixels around a found one where the second threshold counts")
    hot_snr: Positive = Field(default=5.0, description="where their median stands so many sigma out, darks give nothing")
    own: Literal["dq", "lacosmic"] = Field(
        default="lacosmic",
        description="what tells an exposure's own cosmic rays: DQ flags alone, which must be there, or L.A.Cosmic as well",
    )
    own_sigclip: Positive = Field(default=4.5, description="sigclip of that L.A.Cosmic")
    own_objlim: Positive = Field(
        default=1.0, description="its objlim: low, because what it takes for a cosmic ray is only ignored"
    )
    own_grow: int = Field(default=1, ge=0, le=50, description="pixels around its own cosmic rays that are ignored too")

    @field_validator("per_exposure")
    @classmethod
    def _the_smaller_comes_first(cls, limits: list[int]) -> list[int]:
        return ascending(limits)


class IgnoreBlock(Document):
    """Which pixels count neither in training nor in metrics."""

    keep_bits: list[DqBits] | None = Field(
        default=None,
        description="DQ bits that do not exclude a pixel; none: saturation and cosmic rays, by zoo/instruments.yaml",
    )
    saturation_electron: Positive = Field(default=70_000.0, description="brighter pixels are excluded, and those near them")
    saturation_dilation: int = Field(
        default=7, ge=1, le=101, description="side of the square that saturated pixels are dilated by"
    )


class StampBlock(Document):
    """How exposures are cut up."""

    size: int = Field(default=256, ge=32, le=4096, multiple_of=4, description="side of a stamp, pixels")
    border: int = Field(default=128, ge=0, le=4096, description="pixels dropped at each edge of a chip")
    validation_fraction: Fraction = Field(default=0.2, description="share of each training visit, one strip of columns")

    def grid(self, shape: Sequence[int]) -> tuple[int, int]:
        """Rows and columns of stamps on a chip of this shape, in pixels."""
        rows, columns = ((length - 2 * self.border) // self.size for length in shape)
        return max(rows, 0), max(columns, 0)


class QualityBlock(Document):
    """Which exposures are rejected."""

    max_background_ratio: float = Field(default=2.0, gt=1, description="of counts per second, to the visit's median")
    max_rate_ratio: float = Field(default=2.0, gt=1, description="of cosmic rays per cm2 and s, to the visit's median")
    max_star_excess: float = Field(default=4.0, gt=1, description="share of masked pixels on stars / elsewhere")
    min_exposures: int = Field(default=2, ge=1, description="sound exposures that a visit must have; 1 for dark_paste alone")
    on_bad_file: Literal["skip", "refuse"] = Field(default="skip", description="a file that cannot be used: go on, or stop")


class BuildBlock(Document):
    """How exposures become labelled stamps."""

    labels: Labels = Field(default="astrodrizzle", description="where labels come from; each has a block of settings")
    drizzle: DrizzleBlock = DrizzleBlock()
    cr_split: CrSplitBlock = CrSplitBlock()
    dark_paste: DarkPasteBlock = DarkPasteBlock()
    ignore: IgnoreBlock = IgnoreBlock()
    stamps: StampBlock = StampBlock()
    sky: Literal["mdrizsky", "measured"] = Field(default="mdrizsky", description="source of the sky level")
    quality: QualityBlock = QualityBlock()
    seed: Seed = Field(
        default=1,
        description="chooses blocks for validation, test visits where none are named, and which dark is pasted where",
    )

    @model_validator(mode="after")
    def _one_exposure_has_no_others(self) -> BuildBlock:
        if self.labels != "dark_paste" and self.quality.min_exposures < 2:
            raise ValueError(
                f"quality.min_exposures of 2 or more with labels {self.labels}, which compare exposures, got "
                f"{self.quality.min_exposures}"
            )
        return self


class InputBlock(Document):
    """What the network is given."""

    unit: Literal["electron", "adu"] = "electron"
    scale: float = Field(default=100.0, gt=0, le=1e6, description="the image is divided by this")


class AugmentationBlock(Document):
    """How training stamps are varied."""

    sky: Annotated[list[float], Field(min_length=2, max_length=2)] | None = Field(
        default=[-0.9, 3.0], description="range of alpha: alpha x sky is added (Zhang & Bloom 2020, Eq. 3-4); none: never"
    )
    shot_noise: bool = Field(default=False, description="whether the noise that matches an added sky is added too")
    flips: bool = Field(default=False, description="whether stamps are flipped and turned by 90 degrees")
    inpainting_masks: Span = Field(
        default=[1, 9], description="fewest and most CR masks of other stamps that make an inpainting mask"
    )

    @field_validator("sky", "inpainting_masks")
    @classmethod
    def _the_smaller_comes_first(cls, limits: list[float] | None) -> list[float] | None:
        return limits and ascending(limits)


class ScheduleBlock(Document):
    """How long, and how fast, the network learns (Zhang & Bloom 2020, section 3)."""

    learning_rate: Positive = 0.005
    batch_size: int = Field(default=16, ge=1, le=4096, description="not given in the paper; upstream's code has 16")
    max_epochs: int = Field(default=60, ge=1, le=100_000)
    freeze_after_epochs: int = Field(default=20, ge=0, description="BatchNorm trains for so many epochs, then is frozen")
    batchnorm_momentum: Annotated[float, Field(gt=0, le=1)] = 0.005
    restart_at_freeze: bool = Field(default=True, description="whether optimiser and scheduler start anew at the freeze")
    restart_learning_rate_factor: Positive = Field(default=0.4, description="upstream divides by 2.5; not in the paper")
    decay_factor: Annotated[float, Field(gt=0, lt=1)] = 0.1
    decay_patience_epochs: int = Field(
        default=4,
        ge=1,
        description="the learning rate decays after more epochs than this without improvement",
    )
    decay_min_improvement: Fraction = Field(default=0.001, description="relative, of the validation loss")
    stop_after_decays: int = Field(
        default=2, ge=1, description="decays that may bring no improvement; where the next one falls due, the training ends"
    )
    gradient_clip: Positive | None = None


class TrainBlock(Document):
    """How the network is trained."""

    architecture: Architecture
    input: InputBlock = InputBlock()
    schedule: ScheduleBlock = ScheduleBlock()
    augmentation: AugmentationBlock = AugmentationBlock()
    init_from: str | None = Field(default=None, description="NAME@VERSION whose weights it starts from")
    start_frozen: bool = Field(default=False, description="with init_from: whether BatchNorm is frozen from the start")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto",
        description="of convolutions; auto: bfloat16 on GPUs, while the validation loss agrees to 1 %",
    )
    seed: Seed = 1

    @model_validator(mode="after")
    def _what_starts_frozen_has_statistics(self) -> TrainBlock:
        if self.start_frozen and self.init_from is None:
            raise ValueError("init_from with start_frozen: new weights have no running statistics to freeze")
        return self


LACOSMIC_OBJLIM: dict[FieldType, float] = {
    "extragalactic": 2.0,
    "globular_cluster": 3.5,
    "resolved_galaxy": 5.0,
    "spectrum": 5.0,
}


class BenchmarkBlock(Document):
    """How the model is judged."""

    fprs: list[Annotated[float, Field(gt=0, lt=1)]] = Field(default=[0.0005, 0.001, 0.005], min_length=1)
    lacosmic_objlim: dict[FieldType, float] = Field(
        default=LACOSMIC_OBJLIM,
        description="objlim of the L.A.Cosmic baseline (Zhang & Bloom 2020, section 4; of spectra: astroscrappy's default)",
    )
    lacosmic_objlims: list[Positive] = Field(
        default=[1.0, 2.0, 3.5, 5.0, 8.0], min_length=1, description="grid that the best L.A.Cosmic is looked for in"
    )
    lacosmic_sigclips: list[Positive] = Field(
        default=[1.6, 2.5, 4.0, 6.3, 10.0, 16.0, 25.0], min_length=2, description="values of sigclip, which is swept"
    )
    inpainting_stamps: int = Field(
        default=9600,
        ge=1,
        le=1_000_000,
        description="drawn with replacement, one added mask each (Zhang & Bloom 2020, Table 3)",
    )
    bootstrap_blocks: int = Field(default=1000, ge=100, le=100_000, description="resamplings of blocks of sky")
    seed: Seed = 1

    @field_validator("lacosmic_objlim", mode="after")
    @classmethod
    def _field_types_without_one_have_the_default(cls, given: dict[FieldType, float]) -> dict[FieldType, float]:
        return {**LACOSMIC_OBJLIM, **given}


class EnoughTpr(Document):
    """A TPR to be above."""

    field_type: FieldType
    fpr: Annotated[float, Field(gt=0, lt=1)]
    tpr: Annotated[float, Field(gt=0, lt=1)]


class GatesBlock(Document):
    """What must hold before the model may be published."""

    above_lacosmic_at_fpr: list[Annotated[float, Field(gt=0, lt=1)]] = Field(default=[0.0005, 0.005], min_length=1)
    enough: list[EnoughTpr] = Field(default=[], description="TPRs that are enough, in place of that of L.A.Cosmic")
    max_star_core_rate: Fraction = Field(
        default=0.01, description="share of the clean pixels of star cores that are masked, at the default threshold"
    )
    no_regression: bool = Field(default=True, description="not worse than the previous version")


class PublishBlock(Document):
    """What its card says, and where it goes."""

    summary: str = Field(description="one line for lists of models")
    authors: list[str] = Field(default_factory=list)
    licence: str = Field(default="BSD-3-Clause", description="SPDX identifier")
    citations: list[str] = Field(default_factory=list, description="DOIs of data and method")
    limits: list[str] = Field(default_factory=list, description="what it is not for")
    repository: str | None = Field(default=None, pattern=REPOSITORY_PATTERN, description="Hub repository, ORG/NAME")


class VisitCount(Document):
    """Simulated visits of each field type."""

    train: int = Field(default=2, ge=1)
    test: int = Field(default=1, ge=1)


class RehearsalSchedule(Document):
    """What of train.schedule is otherwise in a rehearsal: a network of 32 channels within minutes on two processors."""

    learning_rate: Positive | None = Field(default=None, description="none: as in train.schedule, as for the others")
    batch_size: int | None = Field(default=None, ge=1, le=4096)
    max_epochs: int = Field(default=20, ge=1, le=100_000)
    freeze_after_epochs: int = Field(default=6, ge=0)
    decay_patience_epochs: int | None = Field(default=None, ge=1)


class RehearsalBenchmark(Document):
    """What of the benchmark is otherwise in a rehearsal, which has small images and few minutes."""

    lacosmic_objlims: list[Positive] = Field(default=[2.0, 3.5, 5.0], min_length=1)
    lacosmic_sigclips: list[Positive] = Field(default=[2.5, 4.0, 6.3, 10.0, 16.0], min_length=2)
    inpainting_stamps: int = Field(default=960, ge=1, le=1_000_000)


class RehearsalGates(Document):
    """What of the gates is otherwise in a rehearsal."""

    no_regression: bool | None = Field(default=None, description="none: as in gates")


class RehearsalStamps(StampBlock):
    """Small exposures are cut into small stamps."""

    size: int = Field(default=128, ge=32, le=4096, multiple_of=4, description="side of a stamp, pixels")
    border: int = Field(default=32, ge=0, le=4096, description="pixels dropped at each edge of a chip")


class RehearsalBlock(Document):
    """Simulated data in the place of the archive's: the whole path in minutes."""

    side: int = Field(default=1024, ge=256, le=8192, description="exposures are cut-outs of so many pixels a side, one chip")
    exposures: int = Field(default=3, ge=2, le=6)
    exposure_time_s: dict[SimulatedFieldType, Positive] = Field(
        default={"extragalactic": 400.0, "globular_cluster": 350.0, "resolved_galaxy": 540.0},
        min_length=1,
        description="as in the test visits of Zhang & Bloom 2020, Table 1",
    )
    visits: VisitCount = VisitCount()
    stamps: RehearsalStamps = RehearsalStamps()
    schedule: RehearsalSchedule = Field(default=RehearsalSchedule(), description="put over train.schedule")
    benchmark: RehearsalBenchmark = Field(default=RehearsalBenchmark(), description="put over benchmark")
    gates: RehearsalGates = Field(default=RehearsalGates(), description="put over gates")
    seed: int = Field(default=1000, ge=0, lt=MOST_SEEDS, description="of the first simulated visit; the others follow")

    @model_validator(mode="after")
    def _there_are_so_many_seeds(self) -> RehearsalBlock:
        if self.last_seed >= MOST_SEEDS:
            raise ValueError(f"seeds below {MOST_SEEDS}, each of which has a patch of sky, got up to {self.last_seed}")
        return self

    @property
    def last_seed(self) -> int:
        """Seed of the last visit; each has its own, from `seed` up."""
        return self.seed + len(self.exposure_time_s) * (self.visits.train + self.visits.test) - 1

    @property
    def is_reserved(self) -> bool:
        """Whether visits are for independent evaluation alone (`RESERVED_SEED`)."""
        return self.last_seed >= RESERVED_SEED


class Recipe(Document):
    """A recipe."""

    name: ModelName = Field(description="name of the model that comes out")
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
        """The same with the schedule, the benchmark and the gates of its rehearsal."""

        def over(block: Document, rehearsed: Document) -> Any:
            return block.model_copy(update=rehearsed.model_dump(exclude_none=True))

        schedule = over(self.train.schedule, self.rehearsal.schedule)
        return self.model_copy(
            update={
                "train": self.train.model_copy(update={"schedule": schedule}),
                "benchmark": over(self.benchmark, self.rehearsal.benchmark),
                "gates": over(self.gates, self.rehearsal.gates),
            }
        )

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
