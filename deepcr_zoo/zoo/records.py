"""Measured results of a model (``cards/<task>/<name>/<version>.results.yaml``): dated and append-only.

`append` and the entries of releases write these files, without comments.
"""

from __future__ import annotations

import datetime
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from deepcr_zoo import files, locations
from deepcr_zoo.documents import Document, as_yaml, read_document
from deepcr_zoo.errors import NoModelError, UsageError
from deepcr_zoo.files import write_atomically
from deepcr_zoo.zoo.cards import Card, Positive, Probability
from deepcr_zoo.zoo.instruments import PixelUnit
from deepcr_zoo.zoo.registry import Registry, ResolvedModel, Sha256

RESULTS_ENDING = ".results.yaml"
POOLED = "all"  # field type of the pooled data
Rate = Annotated[float, Field(gt=0, lt=1)]


class OperatingPoint(Document):
    field_type: str = Field(description="field type, or all for the pooled data")
    fpr: Rate = Field(description="false-positive rate: share of clean pixels that are masked")
    tpr: Probability = Field(description="true-positive rate: share of cosmic-ray pixels that are masked")
    threshold: Probability = Field(description="probability above which a pixel is masked")


class MeasuredOn(Document):
    kind: Literal["real", "synthetic"] = Field(description="exposures of a telescope, or simulated ones")
    description: str = Field(description="which data, in words")


class Measurement(Document):
    """Results of one benchmark run."""

    date: datetime.date = Field(description="day of the run")
    software: str = Field(description="name and version of the measuring software")
    command: str = Field(description="command that repeats it")
    data: MeasuredOn
    manifest_sha256: Sha256 | None = Field(default=None, description="hash of the dataset's manifest, if it is a dataset")
    simulator_version: int | None = Field(default=None, description="version of the simulator, for synthetic data")
    seeds: list[int] | None = Field(default=None, description="seeds of the visits, for synthetic data")
    operating_points: list[OperatingPoint] = Field(min_length=1)

    def repeats(self, other: Measurement) -> bool:
        """True if both have the same data, command, software and day."""
        fields = ("data", "manifest_sha256", "seeds", "command", "date", "software")
        return all(getattr(self, name) == getattr(other, name) for name in fields)


class ParityRecord(Document):
    """Difference between a model and upstream's own code with upstream's own file."""

    date: datetime.date = Field(description="day of the run")
    software: str = Field(description="names and versions of the software used")
    command: str = Field(description="command that repeats it")
    package: str = Field(description="upstream's package")
    release: str = Field(description="release of that package")
    file_sha256: Sha256 = Field(description="hash of upstream's weights file")
    weights_sha256: Sha256 = Field(description="hash of our weights file")
    cases: list[str] = Field(min_length=1, description="images used")
    max_difference: float = Field(
        ge=0, description="largest difference: of probability (mask), or relative to the largest filled value (inpaint)"
    )
    tolerance: Positive = Field(description="largest allowed difference")


class SkyRecord(Document):
    """Range of sky levels at which a model was measured to do well."""

    date: datetime.date = Field(description="day of the run")
    software: str = Field(description="names and versions of the software used")
    command: str = Field(description="command that repeats it")
    machine: str = Field(description="processor")
    data: MeasuredOn
    simulator_version: int | None = Field(default=None, description="version of the simulator, for synthetic data")
    seeds: list[int] = Field(description="seeds of the visits")
    rule: str = Field(description="what a level must meet")
    lowest: float | None = Field(
        default=None, description="lowest sky level, in the card's input unit; absent if the lowest measured did well"
    )
    highest: float | None = Field(default=None, description="highest sky level; absent if the highest measured did well")


class Results(Document):
    measurements: list[Measurement] = Field(default_factory=list)
    parity: list[ParityRecord] = Field(default_factory=list)
    sky: list[SkyRecord] = Field(default_factory=list, exclude_if=lambda records: not records)


@dataclass(frozen=True)
class SkyRange:
    """Sky levels at which a model is known to do well; None for no known limit."""

    lowest: float | None
    highest: float | None
    unit: PixelUnit
    source: str  # how it is known

    def holds(self, level: float) -> bool:
        """True if a sky level lies in the range."""
        return (self.lowest is None or level >= self.lowest) and (self.highest is None or level <= self.highest)

    def caution(self, reference: str, level: float) -> str:
        """Return the caution for an image of a sky level that is out of a model's range."""
        unit = "e-" if self.unit == "electron" else self.unit
        number = f"{level:,.0f}" if abs(level) >= 100 else f"{level:.3g}"
        return f"{reference} does well at sky levels of {self} ({self.source}), this image has {number} {unit}"

    def __str__(self) -> str:
        unit = "e-" if self.unit == "electron" else self.unit
        if self.lowest is None:
            return f"up to {self.highest:g} {unit}"
        return f"from {self.lowest:g} {unit} up" if self.highest is None else f"{self.lowest:g} to {self.highest:g} {unit}"


def sky_range(model: ResolvedModel, card: Card) -> SkyRange | None:
    """Return the range of sky levels of a version: the newest measured one, else that of its card; None if unknown."""
    measured = read_records(model).sky
    if not measured:
        return trained_sky_range(card)
    newest = max(reversed(measured), key=lambda record: record.date)
    unit = card.input.pixel_unit
    if unit is None or (newest.lowest is None and newest.highest is None):
        return None
    return SkyRange(newest.lowest, newest.highest, unit, f"measured on {newest.date}")


def trained_sky_range(card: Card) -> SkyRange | None:
    """Return the range of sky levels that a card states."""
    unit = card.input.pixel_unit
    if unit is None or card.training.sky_range is None:
        return None
    lowest, highest = card.training.sky_range
    return SkyRange(lowest, highest, unit, "as in its training images")


def read_records(model: ResolvedModel) -> Results:
    """Return the measured results of a version; empty if there is no file."""
    path = results_path(model)
    return read_document(path, Results, model.root) if path.is_file() else Results()


def altered_records(old: Registry, new: Registry) -> list[str]:
    """Return where results in `new` lack or alter records that `old` has, one sentence each: they only grow.

    Results of `new` that cannot be read raise `InvalidDocumentError`.
    """
    known, found = set(old.references()), []
    for reference in new.references():
        after = read_records(new.resolve(reference))
        before = read_records(old.resolve(reference)) if reference in known else Results()
        kinds = ((getattr(before, kind), getattr(after, kind)) for kind in Results.model_fields)
        if any(later[: len(earlier)] != earlier for earlier, later in kinds):
            found.append(f"{reference}: results: expected those that are there first, and new ones after them")
    return found


def results_path(model: ResolvedModel) -> Path:
    return model.card_path.with_suffix(RESULTS_ENDING)


def with_record(results: Results, record: Measurement | ParityRecord | SkyRecord) -> Results:
    """Return results with a record at their end; the same results if they have a measurement of the same run."""
    if isinstance(record, Measurement) and any(record.repeats(one) for one in results.measurements):
        return results
    kind = {Measurement: "measurements", ParityRecord: "parity", SkyRecord: "sky"}[type(record)]
    return results.model_copy(update={kind: [*getattr(results, kind), record]})


def append(model: ResolvedModel, record: Measurement | ParityRecord | SkyRecord) -> Path:
    """Append a record to the results of a version, unless they have it, and return the file's path."""
    if model.root.resolve() == locations.INSTALLED_DATA:
        raise UsageError(
            f"{model.reference}: results are kept in a checkout, and {model.root} belongs to an installed package: "
            "run the command from a checkout of the repository"
        )
    path = results_path(model)
    with files.reporting_failures(path, "nothing was recorded"), files.locked(model.root):
        results = read_records(model)
        if (longer := with_record(results, record)) is not results:
            write_atomically(as_yaml(longer), path)
    return path


def threshold_at(model: ResolvedModel, fpr: float, allow_synthetic: bool) -> tuple[float, str]:
    """Return the threshold measured at a false-positive rate, and a description of the measurement.

    The newest measurement on real data is preferred, then, if allowed, the newest on synthetic data.
    """
    latest_first = reversed(read_records(model).measurements)  # of several of one day the last counts
    measured = sorted(latest_first, key=lambda run: (run.data.kind == "real", run.date), reverse=True)
    known = [(run, point) for run in measured for point in run.operating_points if point.field_type == POOLED]
    for run, point in known:
        if math.isclose(point.fpr, fpr) and (run.data.kind == "real" or allow_synthetic):
            return point.threshold, f"FPR {fpr:g} on {run.data.kind} data, {run.date}: {run.data.description}"
    if not known:
        way_out = "it has none yet: give --threshold instead"
    else:
        way_out = "it has " + ", ".join(f"{point.fpr:g} ({run.data.kind} data)" for run, point in known)
        if any(math.isclose(point.fpr, fpr) for _, point in known):
            way_out += "; --allow-synthetic accepts those from synthetic data"
    raise NoModelError(f"{model.reference} has no operating point measured at FPR {fpr:g}; {way_out}")
