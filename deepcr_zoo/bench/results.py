"""The results of a benchmark (``results.json``): one or more methods, all judged on the same pixels of the same data.

A model's own results (``cards/<task>/<name>/<version>.results.yaml``, `deepcr_zoo.zoo.records`) keep only what ``clean``
needs: thresholds at fixed FPRs, as probabilities, and the data they were measured on.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field, ValidationError, model_validator

from deepcr_zoo.bench import output
from deepcr_zoo.documents import Document, as_json, brief, document_bytes, json_bytes, optional, problems, unique_keys
from deepcr_zoo.errors import DeepcrZooError, InvalidDocumentError, OutputError
from deepcr_zoo.zoo.cards import Probability
from deepcr_zoo.zoo.records import MeasuredOn, OperatingPoint, Rate
from deepcr_zoo.zoo.registry import Sha256

RESULTS_FILE = "results.json"

FORMAT: Literal[2] = 2
"""Raised when today's readers could misread a new file; new optional keys do not raise it."""

NOT_MEASURED = "not measured: "
"""How `GateResult.measured` begins where there is no value; the reason follows."""

Count = Annotated[int, Field(ge=0)]
Region = Literal["outer 8 pixels", "interior"]
Parameter = bool | int | float | str | list[float] | dict[str, float] | None

MOST_RESULTS_BYTES = 100_000_000
"""Largest accepted results, whose curves have a million bytes for each method."""


class PixelCounts(Document):
    """The pixels of one field type; those neither cosmic ray nor ignored are clean."""

    exposures: Count
    pixels: Count = Field(description="all pixels, including ignored ones")
    cosmic_rays: Count = Field(description="pixels labelled cosmic ray and not ignored")
    ignored: Count = Field(description="pixels that count neither as cosmic ray nor as clean")

    @model_validator(mode="after")
    def _parts_are_no_more_than_the_whole(self) -> PixelCounts:
        if self.cosmic_rays + self.ignored > self.pixels:
            raise ValueError("at least as many pixels as cosmic-ray and ignored ones together")
        return self


class AddedMasks(Document):
    """How inpainting masks are chosen: each stamp gets the CR masks of other stamps.

    Methods see neither these pixels nor the stamp's own cosmic rays. Errors are counted on added pixels that are neither
    own cosmic rays nor ignored.
    """

    per_stamp: int = Field(ge=1, description="number of other test stamps whose CR masks are combined")
    stamps: Count = Field(default=0, description="stamps drawn with replacement; 0: each test stamp once")
    seed: Count = Field(description="seed of the choice of stamps and masks")


class Data(MeasuredOn):
    """The pixels, the same for all methods."""

    labels: str = Field(description="label method, with version and settings")
    ignored: str = Field(description="which pixels are excluded")
    unseen: str | None = Field(default=None, description="what the labels cannot show")
    structures: dict[str, StructuredPixels] = Field(
        default_factory=dict, description="of labels, by field type; none of the truth"
    )
    manifest_sha256: Sha256 | None = Field(default=None, description="hash of the manifest, if the data is a training set")
    simulator_version: Count | None = Field(default=None, description="of synthetic data")
    seeds: list[Count] = Field(default_factory=list, description="of synthetic data")
    pixels: dict[str, PixelCounts] = Field(min_length=1, description="by field type; all: every field type together")
    inpainting: AddedMasks | None = Field(default=None, description="which pixels were filled, for inpainting methods")

    @model_validator(mode="after")
    def _synthetic_data_can_be_made_again(self) -> Data:
        if (self.kind == "synthetic") != (self.simulator_version is not None and bool(self.seeds)):
            raise ValueError("simulator_version and seeds exactly if kind is synthetic")
        return self


class ModelMethod(Document):
    kind: Literal["model"] = "model"
    reference: str = Field(description="task/name@version")
    sha256: Sha256 = Field(description="hash of the weights")
    contract_sha256: Sha256 | None = Field(default=None, description="hash of the card's input, output and tolerance")
    engine: str
    device: str


class BaselineMethod(Document):
    kind: Literal["baseline"] = "baseline"
    name: str
    parameters: dict[str, Parameter] = Field(description="all parameters; by field type where they differ")
    packages: dict[str, str] = Field(description="packages that compute it, with versions")


class Interval(Document):
    """A 95 % confidence interval from resampled blocks of sky within visits; it holds for these visits only."""

    low: float
    high: float
    blocks: int = Field(ge=8, description="number of resampled blocks; below 8 there is no interval")


class RateAtFpr(Document):
    """The true-positive rate at a fixed false-positive rate; null where this rate cannot be reached."""

    fpr: Rate = Field(description="requested FPR")
    reached_fpr: Probability | None = Field(description="FPR of the threshold on these pixels")
    tpr: Probability | None
    threshold: float | None = Field(description="pixels with a higher score are masked")
    tpr_interval: Interval | None = None
    tpr_spread: None = Field(default=None, description="always null: kept so that files keep their format")


class PrecisionAtTpr(Document):
    """The precision at a fixed true-positive rate, which the field calls recall; null where this rate cannot be reached."""

    tpr: Rate = Field(description="requested TPR")
    precision: Probability | None = Field(description="cosmic-ray pixels / masked pixels")
    fpr: Probability | None
    threshold: float | None


class CurvePoint(Document):
    threshold: float
    fpr: Probability
    tpr: Probability
    precision: Probability | None = Field(
        default=None, description="cosmic-ray pixels / masked pixels; null if nothing is masked"
    )


class DilatedRates(Document):
    """Rates of masks dilated by 3x3 pixels; labels are not dilated."""

    paper: list[RateAtFpr] = Field(
        description="convention of Zhang & Bloom 2020, Table 2: TPR of the dilated mask at the FPR of the undilated one, "
        "which flatters it"
    )
    honest: list[RateAtFpr] = Field(description="TPR and FPR are both those of the dilated mask")


class GroupRate(Document):
    """The share of a group of pixels that is masked."""

    low: float | None = Field(description="lower bound of the group, inclusive; null: unbounded")
    high: float | None = Field(description="upper bound of the group, exclusive; null: unbounded")
    pixels: Count
    rates: list[Probability | None] = Field(description="at each of the method's working points")


class RegionRates(Document):
    region: Region
    cosmic_rays: Count
    clean: Count
    tprs: list[Probability | None] = Field(description="at each of the method's working points")
    fprs: list[Probability | None]


class ReliabilityBin(Document):
    """Pixels whose predicted probability lies in a bin."""

    low: Probability
    high: Probability
    pixels: Count
    predicted: Probability | None = Field(description="mean probability")
    observed: Probability | None = Field(description="share of cosmic-ray pixels")


class Diagnostics(Document):
    star_cores: list[GroupRate] = Field(description="false-mask rate: clean pixels on star cores, by peak brightness, e-")
    cosmic_ray_brightness: list[GroupRate] = Field(description="TPR of pixels, by their excess over the surroundings, e-")
    cosmic_ray_size: list[GroupRate] = Field(description="TPR of pixels, by the size of their cosmic ray, pixels")
    whole_cosmic_rays: list[GroupRate] = Field(
        default_factory=list,
        description="share of cosmic rays of which half of the pixels or more are masked, by size, pixels; `pixels` of a "
        "group is the number of its cosmic rays",
    )
    regions: list[RegionRates]
    calibration: list[ReliabilityBin] = Field(default_factory=list, description="of methods that give probabilities")

    @property
    def at_working_points(self) -> Iterator[list[float | None]]:
        """All lists that have a rate at each of the method's working points."""
        groups = (self.star_cores, self.cosmic_ray_brightness, self.cosmic_ray_size, self.whole_cosmic_rays)
        yield from (group.rates for group in chain(*groups))
        yield from chain(*((region.tprs, region.fprs) for region in self.regions))


class InpaintingErrors(Document):
    """Filled minus true values; null where there are no pixels."""

    pixels: Count
    mse: float | None = Field(default=None, ge=0, description="mean squared error, e-^2")
    mae: float | None = Field(default=None, ge=0, description="mean absolute error, e-")
    bias: float | None = Field(default=None, description="mean error, e-")
    mse_in_noise: float | None = optional(None, "mean squared error in units of the noise (of the sky, if real)", ge=0)
    within_1_sigma: Probability | None = optional(None, "errors below the predicted uncertainty")
    within_2_sigma: Probability | None = optional(None, "errors below twice that")
    scene_mse: float | None = optional(None, "MSE of the noiseless scene on these pixels, the least possible, e-^2")

    @model_validator(mode="after")
    def _figures_are_of_pixels(self) -> InpaintingErrors:
        if any((figure is not None) != (self.pixels > 0) for figure in (self.mse, self.mae, self.bias)):
            raise ValueError("mse, mae and bias exactly if there are pixels")
        return self


class StructuredPixels(Document):
    """Masked pixels that lie as no cosmic rays do; labels may share such flaws with a network, so all masked ones count.

    Where the labels are the truth, pixels of cosmic rays do not count.
    """

    masked: Count = Field(description="pixels that are masked and not ignored, at the default threshold")
    in_lines: Count = Field(description="in rows or columns of a chip of which a fifth is masked")
    in_trails: Count = Field(description="in groups of pixels of 200 pixels length or more")
    persistent: Count = Field(description="masked in 3 exposures or more, and in 3 of 5 of those that see them")

    @property
    def share(self) -> float:
        """Share of the masked pixels; those that are of two kinds count twice."""
        return min((self.in_lines + self.in_trails + self.persistent) / self.masked, 1.0) if self.masked else 0.0


class FieldResult(Document):
    """One method on the pixels of one field type."""

    at_fpr: list[RateAtFpr] = Field(default_factory=list)
    at_tpr: list[PrecisionAtTpr] = Field(default_factory=list)
    area: Probability | None = Field(default=None, description="area under the ROC curve")
    average_precision: Probability | None = Field(default=None, description="area under the precision-recall curve")
    dilated: DilatedRates | None = None
    diagnostics: Diagnostics | None = None
    structures: StructuredPixels | None = Field(default=None, description="of a network")
    curve: list[CurvePoint] = Field(default_factory=list, description="see the method's curve_points")
    mask: None = Field(default=None, description="always null: kept so that files keep their format")
    inpainting: InpaintingErrors | None = Field(default=None, description="replaces the above for an inpainting method")


class MethodResult(Document):
    """One method on all field types."""

    name: str = Field(description="name in tables")
    method: Annotated[ModelMethod | BaselineMethod, Field(discriminator="kind")]
    score: str | None = Field(description="the score that thresholds apply to: logit, sigclip; null without a threshold")
    tpr_at_fpr: str | None = Field(default=None, description="definition of the TPR at a fixed FPR")
    curve_points: str | None = Field(default=None, description="which points of the curve are kept")
    working_points: list[str] = Field(
        default_factory=list, description="thresholds of the diagnostics: default threshold, FPR 0.1 % (of the field type)"
    )
    operating_points: list[OperatingPoint] = Field(default_factory=list, description="of a network, for clean --fpr")
    fields: dict[str, FieldResult] = Field(description="by field type; all: pooled")

    @model_validator(mode="after")
    def _rates_are_of_the_working_points(self) -> MethodResult:
        expected = len(self.working_points)
        for name, field in self.fields.items():
            if field.diagnostics and any(len(rates) != expected for rates in field.diagnostics.at_working_points):
                raise ValueError(f"fields.{name}.diagnostics: expected {expected} rates, one at each of working_points")
        return self


IN_NOISE: Final = "MSE ratio in units of the noise"

Quantity = Literal["TPR difference", "MSE ratio", "MSE ratio in units of the noise"]


class Comparison(Document):
    """Two methods on the same pixels, resampled together."""

    method: str = Field(description="name of the first method")
    against: str = Field(description="name of the second method")
    field_type: str
    quantity: Quantity = Field(description="method minus against, or method / against")
    fpr: Rate | None = Field(default=None, description="FPR of both TPRs")
    value: float | None
    interval: Interval | None = None


MEDIAN, BIHARMONIC = "masked median", "biharmonic"
"""Baselines of inpainting."""

BEFORE, UNTOUCHED = "before", "untouched"
"""Methods of photometry of simulated images with their cosmic rays, and without them, beside the noiseless scene."""


class PhotometryRow(Document):
    """Aperture fluxes of sources hit by cosmic rays, compared with their true fluxes."""

    method: str = Field(description="name of a method; before: unrepaired; untouched: without cosmic rays")
    field_type: str
    kind: Literal["star", "galaxy"]
    sources: Count
    bias: float | None = Field(description="median of measured / true - 1")
    error: float | None = Field(description="median of |measured / true - 1|")
    within_5_percent: Probability | None = Field(description="share of sources within 5 % of the truth")
    scatter: float | None = optional(None, "half of the 16 to 84 % range of measured / noiseless fluxes; simulated sources")


class Photometry(Document):
    """Aperture fluxes before and after repair."""

    description: str = Field(description="sources, apertures, masks and truth, in words")
    rows: list[PhotometryRow]


class Runtime(Document):
    """Speed and memory of a method on this machine, in its own process."""

    method: str
    megapixels: float = Field(gt=0, description="size of the image")
    seconds: list[float] = Field(min_length=1, description="one value per repeat")
    megapixels_per_s: float = Field(gt=0, description="from the median time")
    peak_bytes: Count | None = Field(
        description="peak memory of the process, including interpreter and image; null if the system does not report it"
    )


class GateResult(Document):
    gate: str = Field(description="requirement, in words")
    field_type: str | None = None
    measured: str = Field(description="value with its unit, or why there is none")
    bound: str
    verdict: Literal["passes", "fails", "not required"]

    @property
    def was_measured(self) -> bool:
        return not self.measured.startswith(NOT_MEASURED)


class ModelVerdict(Document):
    reference: str
    gate_set: Literal["trained", "imported"]
    gates: list[GateResult] = Field(min_length=1)

    @property
    def passes(self) -> bool:
        return not self.failures

    @property
    def failures(self) -> list[str]:
        """What fails, one text each."""
        return [
            f"{one.gate}{f' ({one.field_type})' if one.field_type else ''}: {one.measured}, expected {one.bound}"
            for one in self.gates
            if one.verdict == "fails"
        ]


class Excluded(Document):
    reference: str
    reason: str


class TruthResults(Document):
    """The same methods on simulated exposures of the camera, against their truth."""

    data: Data
    methods: list[MethodResult] = Field(min_length=1)
    comparisons: list[Comparison] = Field(default_factory=list)

    @model_validator(mode="after")
    def _all_methods_are_judged_on_the_same_fields(self) -> TruthResults:
        _check_fields(self)
        return self


class BenchmarkResults(Document):
    """The results of a benchmark, as in ``results.json``."""

    format: Literal[2] = FORMAT
    date: datetime.date = Field(description="day of the benchmark")
    command: str = Field(description="command that repeats it")
    machine: str = Field(description="processor, and accelerator if one was used")
    software: dict[str, str] = Field(description="packages and their versions")
    data: Data
    methods: list[MethodResult] = Field(min_length=1)
    comparisons: list[Comparison] = Field(default_factory=list)
    photometry: Photometry | None = None
    runtime: list[Runtime] = Field(default_factory=list)
    verdicts: list[ModelVerdict] = Field(default_factory=list, description="of the requested models")
    excluded: list[Excluded] = Field(default_factory=list)
    cautions: list[str] = Field(default_factory=list, description="limits of these results, such as a missing baseline")
    truth: TruthResults | None = optional(None, "masks against the truth of simulated exposures")

    def _repr_html_(self) -> str:
        """Return what notebooks show."""
        from deepcr_zoo.bench.report.notebook import results_html  # draws, and reads this module

        return results_html(self)

    @property
    def against_truth(self) -> BenchmarkResults | None:
        """The results on simulated exposures, as a benchmark of their own."""
        if self.truth is None:
            return None
        return self.model_copy(update={**dict(self.truth), "photometry": None, "truth": None})

    @model_validator(mode="after")
    def _all_methods_are_judged_on_the_same_fields(self) -> BenchmarkResults:
        _check_fields(self)
        return self

    @model_validator(mode="after")
    def _all_methods_fill_the_same_pixels(self) -> BenchmarkResults:
        for field_type in self.data.pixels:
            errors = [result.fields[field_type].inpainting for result in self.methods]
            if any((one is not None) != (self.data.inpainting is not None) for one in errors):
                raise ValueError("data.inpainting exactly if all methods inpaint")
            if len({one.pixels for one in errors if one is not None}) > 1:
                raise ValueError(f"the same number of filled pixels for every method, those of {field_type} differ")
        return self


def _check_fields(results: TruthResults | BenchmarkResults) -> None:
    for result in results.methods:
        if result.fields.keys() != results.data.pixels.keys():
            raise ValueError(f"the field types of data.pixels for every method, {result.name} has others")


def leads(results: BenchmarkResults, method: str, field_type: str, fpr: float | None) -> bool:
    """True if a method is significantly better than each of the others: every interval excludes a tie."""
    known = [one for one in results.comparisons if one.quantity != IN_NOISE]
    here = [one for one in known if (one.field_type, one.fpr) == (field_type, fpr)]
    beaten = {loser for winner, loser in map(_winner_and_loser, here) if winner == method}

    def has_rate(one: MethodResult) -> bool:
        return any(rate.fpr == fpr and rate.tpr is not None for rate in one.fields[field_type].at_fpr)

    others = {one.name for one in results.methods if fpr is None or has_rate(one)} - {method}
    return bool(others) and others <= beaten


def _winner_and_loser(one: Comparison) -> tuple[str | None, str | None]:
    """Return the names of the better and the worse method, or None if the difference is not significant."""
    even, higher_is_better = (0.0, True) if one.quantity == "TPR difference" else (1.0, False)
    if one.interval is None or one.interval.low <= even <= one.interval.high:
        return None, None
    is_better = (one.interval.low > even) == higher_is_better
    return (one.method, one.against) if is_better else (one.against, one.method)


def write_results(results: BenchmarkResults, path: Path) -> None:
    """Write a ``results.json``; the same results give the same bytes."""
    output.replace(path.parent, {path.name: as_json(results)})


def read_results(path: Path) -> BenchmarkResults:
    """Read a ``results.json``.

    Parameters
    ----------
    path : Path

    Returns
    -------
    BenchmarkResults

    Raises
    ------
    InvalidDocumentError
        If the file cannot be read, is not JSON, repeats a key, or breaks the schema; names the fields.
    """
    text = document_bytes(path, path, MOST_RESULTS_BYTES)
    try:
        json.loads(text, object_pairs_hook=unique_keys)
        return BenchmarkResults.model_validate_json(text)
    except ValidationError as error:
        raise InvalidDocumentError(*problems(error, lambda _: path)) from None
    except (ValueError, RecursionError) as error:
        raise InvalidDocumentError(f"{path}: expected a JSON document: {brief(error)}") from None


def _is_whole_json(path: Path) -> bool:
    try:
        return isinstance(json.loads(json_bytes(path)), dict)
    except (OSError, ValueError, RecursionError):
        return False


def keep_results(folder: Path, manifest_sha256: str) -> None:
    """Copy the results of a folder to a name of their own if they are on other data, before new ones replace them."""
    path = folder / RESULTS_FILE
    with suppress(DeepcrZooError):  # there are none, or they are cut off
        earlier = read_results(path)
        if earlier.data.manifest_sha256 not in (None, manifest_sha256):
            write_results(earlier, path.with_stem(f"{path.stem}-{earlier.data.manifest_sha256[:8]}"))


def check_replaced(
    folder: Path, references: Sequence[str], manifest_sha256: str, *, lacosmic: bool, runtime: bool, is_of_run: bool = False
) -> None:
    """Raise `OutputError` if a folder holds results of other models or data, or with more: they would be replaced.

    The folder of a run keeps those on other data (`keep_results`).
    """
    try:
        earlier = read_results(folder / RESULTS_FILE)
    except DeepcrZooError as error:
        if _is_whole_json(folder / RESULTS_FILE):  # of a newer version, or edited
            raise OutputError(f"{folder}: holds results that cannot be read ({error}): {output.ELSEWHERE}") from None
        return  # there are none, or they are cut off
    if is_of_run and earlier.data.manifest_sha256 != manifest_sha256:
        return
    more = ["run times"] if earlier.runtime and not runtime else []
    baselines = {one.method.name for one in earlier.methods if isinstance(one.method, BaselineMethod)}
    if not lacosmic and "lacosmic" in baselines:
        more.append("L.A.Cosmic")
    if more:
        raise OutputError(f"{folder}: holds a benchmark with {' and '.join(more)}, which would be lost: {output.ELSEWHERE}")
    before = [*(one.reference for one in earlier.verdicts), *(one.reference for one in earlier.excluded)]
    if not earlier.verdicts:  # gates were not asked, as by `train --no-prove`
        before += [one.method.reference for one in earlier.methods if isinstance(one.method, ModelMethod)]
    is_of_same = set(before) == set(references)
    if not is_of_same or earlier.data.manifest_sha256 != manifest_sha256:
        others = "on other data" if is_of_same else f"of {', '.join(before)}"
        raise OutputError(f"{folder}: holds a benchmark {others}, which would be replaced: {output.ELSEWHERE}")
