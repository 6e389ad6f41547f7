"""What a run of the benchmark found (``results.json``): one or more methods, all on the same pixels of the same data.

A model's own results (``cards/<task>/<name>/<version>.results.yaml``, `deepcr_zoo.zoo.records`) keep only what ``clean``
needs: the thresholds at fixed FPRs, turned from logits into probabilities, and what they were measured on.
"""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from deepcr_zoo.documents import Document, as_json, explain
from deepcr_zoo.errors import InvalidDocumentError
from deepcr_zoo.files import write_atomically
from deepcr_zoo.zoo.cards import Probability
from deepcr_zoo.zoo.records import MeasuredOn, OperatingPoint, Rate
from deepcr_zoo.zoo.registry import Sha256

FORMAT: Literal[2] = 2
"""Raised when a reader of today could misread what is written then; new optional keys do not raise it."""

Count = Annotated[int, Field(ge=0)]
Region = Literal["outer 8 pixels", "interior"]
Parameter = bool | int | float | str | list[float] | dict[str, float] | None


class PixelCounts(Document):
    """What there was to judge on; clean pixels are the rest."""

    exposures: Count
    pixels: Count = Field(description="all of them, the ignored ones too")
    cosmic_rays: Count = Field(description="pixels that the labels call cosmic ray and that count")
    ignored: Count = Field(description="pixels that count neither as cosmic ray nor as clean")

    @model_validator(mode="after")
    def _parts_are_no_more_than_the_whole(self) -> PixelCounts:
        if self.cosmic_rays + self.ignored > self.pixels:
            raise ValueError("at least as many pixels as cosmic-ray and ignored ones together")
        return self


class AddedMasks(Document):
    """What inpainting is judged on: in each stamp, pixels that look as if other stamps' cosmic rays had hit them.

    Methods see neither them nor the stamp's own cosmic rays. Judged are those that are no own cosmic ray and not ignored.
    """

    per_stamp: int = Field(ge=1, description="other test stamps whose CR masks, together, are the added mask of a stamp")
    stamps: Count = Field(default=0, description="drawn with replacement; 0: each test stamp once")
    seed: Count = Field(description="chooses stamps and others")


class Data(MeasuredOn):
    """The pixels, the same for all methods."""

    labels: str = Field(description="what says which pixels are cosmic rays, with version and settings")
    ignored: str = Field(description="which pixels are excluded")
    manifest_sha256: Sha256 | None = Field(default=None, description="hash of the dataset's manifest, if it is a dataset")
    simulator_version: Count | None = Field(default=None, description="of synthetic data")
    seeds: list[Count] = Field(default_factory=list, description="of synthetic data")
    pixels: dict[str, PixelCounts] = Field(min_length=1, description="by field type; under all, of all of them together")
    inpainting: AddedMasks | None = Field(default=None, description="which pixels were filled, where methods inpaint")

    @model_validator(mode="after")
    def _synthetic_data_can_be_made_again(self) -> Data:
        if (self.kind == "synthetic") != (self.simulator_version is not None and bool(self.seeds)):
            raise ValueError("simulator_version and seeds exactly if kind is synthetic")
        return self


class ModelMethod(Document):
    """A network."""

    kind: Literal["model"] = "model"
    reference: str = Field(description="task/name@version")
    sha256: Sha256 = Field(description="hash of the weights")
    contract_sha256: Sha256 | None = Field(default=None, description="hash of the card's input, output and tolerance")
    engine: str
    device: str


class BaselineMethod(Document):
    """Anything else."""

    kind: Literal["baseline"] = "baseline"
    name: str
    parameters: dict[str, Parameter] = Field(description="every one of them; where it differs, by field type")
    packages: dict[str, str] = Field(description="versions of what computes it")


class Interval(Document):
    """Where a figure lies with a confidence of 95 %, from resampled blocks of sky within visits: of these visits alone."""

    low: float
    high: float
    blocks: int = Field(ge=8, description="blocks of sky that were resampled; of fewer than 8 there is no interval")


class RateAtFpr(Document):
    """The true-positive rate at a fixed false-positive rate; none where the pixels or the method give no such point."""

    fpr: Rate = Field(description="that was asked for")
    reached_fpr: Probability | None = Field(description="of this threshold on these pixels")
    tpr: Probability | None
    threshold: float | None = Field(description="pixels of a higher score are masked")
    tpr_interval: Interval | None = None
    tpr_spread: None = Field(default=None, description="always none: kept so that files keep their format")


class CurvePoint(Document):
    """One threshold."""

    threshold: float
    fpr: Probability
    tpr: Probability
    precision: Probability | None = Field(
        default=None, description="cosmic-ray pixels / masked pixels; none if none is masked"
    )


class DilatedRates(Document):
    """Of masks that were dilated by 3x3 pixels; labels are not."""

    paper: list[RateAtFpr] = Field(
        description="convention of Zhang & Bloom 2020, Table 2: TPR of the dilated mask at the FPR of the undilated one, "
        "which flatters it"
    )
    honest: list[RateAtFpr] = Field(description="TPR and FPR are both those of the dilated mask")


class GroupRate(Document):
    """Share of some pixels that is masked."""

    low: float | None = Field(description="what the group is told apart by is at least this; none: no bound")
    high: float | None = Field(description="and below this")
    pixels: Count
    rates: list[Probability | None] = Field(description="at each of the method's working points")


class RegionRates(Document):
    """TPR and FPR of a part of the stamps."""

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
    """Where a mask is good and where not."""

    star_cores: list[GroupRate] = Field(description="false-mask rate: clean pixels on star cores, by peak brightness, e-")
    cosmic_ray_brightness: list[GroupRate] = Field(description="TPR of pixels, by their excess over the surroundings, e-")
    cosmic_ray_size: list[GroupRate] = Field(
        description="TPR of pixels, by the pixels of the cosmic ray that they belong to"
    )
    regions: list[RegionRates]
    calibration: list[ReliabilityBin] = Field(default_factory=list, description="of methods that give probabilities")


class InpaintingErrors(Document):
    """Filled minus true value of the pixels that are judged; no figures where there are no pixels."""

    pixels: Count
    mse: float | None = Field(default=None, ge=0, description="mean squared error, e-^2")
    mae: float | None = Field(default=None, ge=0, description="mean absolute error, e-")
    bias: float | None = Field(default=None, description="mean error, e-")

    @model_validator(mode="after")
    def _figures_are_of_pixels(self) -> InpaintingErrors:
        if any((figure is not None) != (self.pixels > 0) for figure in (self.mse, self.mae, self.bias)):
            raise ValueError("mse, mae and bias exactly if there are pixels")
        return self


class FieldResult(Document):
    """One method on the pixels of one field type."""

    at_fpr: list[RateAtFpr] = Field(default_factory=list)
    area: Probability | None = Field(default=None, description="under the curve")
    average_precision: Probability | None = Field(default=None, description="area under the precision-recall curve")
    dilated: DilatedRates | None = None
    diagnostics: Diagnostics | None = None
    curve: list[CurvePoint] = Field(default_factory=list, description="see the method's curve_points")
    mask: None = Field(default=None, description="always none: kept so that files keep their format")
    inpainting: InpaintingErrors | None = Field(default=None, description="in place of the above, of an inpainting method")


class MethodResult(Document):
    """One method on all field types."""

    name: str = Field(description="for tables")
    method: Annotated[ModelMethod | BaselineMethod, Field(discriminator="kind")]
    score: str | None = Field(description="what thresholds are in: logit, sigclip; none where there is no threshold")
    tpr_at_fpr: str | None = Field(default=None, description="how the TPR at a fixed FPR is defined")
    curve_points: str | None = Field(default=None, description="which points of the curve are kept")
    working_points: list[str] = Field(
        default_factory=list,
        description="what diagnostics are given at: default threshold, FPR 0.1 % (of the field type)",
    )
    operating_points: list[OperatingPoint] = Field(default_factory=list, description="of a network: what clean --fpr takes")
    fields: dict[str, FieldResult] = Field(description="by field type; under all, pooled")


class Comparison(Document):
    """A method beside another on the same pixels, resampled together."""

    method: str = Field(description="name of a method")
    against: str = Field(description="name of another")
    field_type: str
    quantity: Literal["TPR difference", "MSE ratio"] = Field(description="method minus against, or method / against")
    fpr: Rate | None = Field(default=None, description="that both TPRs are at")
    value: float | None
    interval: Interval | None = None


class PhotometryRow(Document):
    """Aperture fluxes of sources that cosmic rays have hit, against what they were without."""

    method: str = Field(description="name of a method; or before: the cosmic ray is still there")
    field_type: str
    kind: Literal["star", "galaxy"]
    sources: Count
    bias: float | None = Field(description="median of measured / true - 1")
    error: float | None = Field(description="median of the absolute value of the same")
    within_5_percent: Probability | None = Field(description="share of sources within 5 % of the truth")


class Photometry(Document):
    """How well fluxes survive cosmic rays and their repair."""

    description: str = Field(description="sources, apertures, masks and truth, in words")
    rows: list[PhotometryRow]


class Runtime(Document):
    """How fast a method is on this machine, in a process of its own."""

    method: str
    megapixels: float = Field(gt=0, description="of the image")
    seconds: list[float] = Field(min_length=1, description="of each repeat")
    megapixels_per_s: float = Field(gt=0, description="by the median of them")
    peak_bytes: Count | None = Field(
        description="largest memory of the process, interpreter and image included; none if the system does not report it"
    )


class GateResult(Document):
    """What one gate says."""

    gate: str = Field(description="what is asked for, in words")
    field_type: str | None = None
    measured: str = Field(description="value with its unit; or why there is none")
    bound: str
    verdict: Literal["passes", "fails", "not required"]


class ModelVerdict(Document):
    """May a model be published?"""

    reference: str
    gate_set: Literal["trained", "imported"]
    gates: list[GateResult] = Field(min_length=1)

    @property
    def passes(self) -> bool:
        """Whether no gate fails."""
        return all(gate.verdict != "fails" for gate in self.gates)


class Excluded(Document):
    """A model that is not judged on this data."""

    reference: str
    reason: str


class BenchmarkResults(Document):
    """A ``results.json``."""

    format: Literal[2] = FORMAT
    date: datetime.date = Field(description="day of the run")
    command: str = Field(description="command that repeats it")
    machine: str = Field(description="processor, and accelerator if one was used")
    software: dict[str, str] = Field(description="packages and their versions")
    data: Data
    methods: list[MethodResult] = Field(min_length=1)
    comparisons: list[Comparison] = Field(default_factory=list)
    photometry: Photometry | None = None
    runtime: list[Runtime] = Field(default_factory=list)
    verdicts: list[ModelVerdict] = Field(default_factory=list, description="of the models that were asked for")
    excluded: list[Excluded] = Field(default_factory=list)
    cautions: list[str] = Field(default_factory=list, description="what a reader has to know, such as a missing baseline")

    @model_validator(mode="after")
    def _all_methods_are_judged_on_the_same_fields(self) -> BenchmarkResults:
        for result in self.methods:
            if result.fields.keys() != self.data.pixels.keys():
                raise ValueError(f"the field types of data.pixels for every method, {result.name} has others")
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


def write_results(results: BenchmarkResults, path: Path) -> None:
    """Write a ``results.json``: the same results give the same bytes."""
    write_atomically(as_json(results), path)


def read_results(path: Path) -> BenchmarkResults:
    """Read a ``results.json``.

    Raises
    ------
    InvalidDocumentError
        If it cannot be read, is no JSON, has a key twice, or breaks the schema; names the fields.
    """
    try:
        text = path.read_bytes()
        json.loads(text, object_pairs_hook=_without_duplicates)
        return BenchmarkResults.model_validate_json(text)
    except OSError as error:
        raise InvalidDocumentError(f"{path}: cannot be read: {error.strerror}") from None
    except ValidationError as error:
        raise InvalidDocumentError("\n".join(explain(path, line) for line in error.errors())) from None
    except ValueError as error:
        raise InvalidDocumentError(f"{path}: expected a JSON document: {error}") from None


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(unique := dict(pairs)) < len(pairs):
        twice = next(key for key, _ in pairs if [name for name, _ in pairs].count(key) > 1)
        raise ValueError(f"the key {twice!r} stands twice")
    return unique
