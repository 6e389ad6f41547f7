"""Measured results of a model (``cards/<task>/<name>/<version>.results.yaml``): dated, and only ever appended to."""

from __future__ import annotations

import datetime
import math
from typing import Annotated, Literal

from pydantic import Field

from deepcr_zoo.cards import Probability
from deepcr_zoo.documents import Document, read_document
from deepcr_zoo.errors import NoModelError
from deepcr_zoo.registry import ResolvedModel

POOLED = "all"
"""The field type that stands for all of them together."""

Rate = Annotated[float, Field(gt=0, lt=1)]


class OperatingPoint(Document):
    """A threshold, and what it does."""

    field_type: str = Field(description="field type, or all for the pooled data")
    fpr: Rate = Field(description="false-positive rate: share of clean pixels that are masked")
    tpr: Probability = Field(description="true-positive rate: share of cosmic-ray pixels that are masked")
    threshold: Probability = Field(description="probability above which a pixel is masked")


class MeasuredOn(Document):
    """The data that results were measured on."""

    kind: Literal["real", "synthetic"] = Field(description="exposures of a telescope, or simulated ones")
    description: str = Field(description="which data, in words")


class Measurement(Document):
    """What one run of the benchmark found."""

    date: datetime.date = Field(description="day of the run")
    software: str = Field(description="name and version of what measured it")
    command: str = Field(description="command that repeats it")
    data: MeasuredOn
    operating_points: list[OperatingPoint] = Field(min_length=1)


class Results(Document):
    """A results file."""

    measurements: list[Measurement]


def read_results(model: ResolvedModel) -> Results:
    """The measured results of a version; none if nothing was measured yet.

    Raises
    ------
    InvalidDocumentError
        If the file breaks its schema.
    """
    path = model.card_path.with_suffix(".results.yaml")
    return read_document(path, Results, model.root) if path.is_file() else Results(measurements=[])


def threshold_at(model: ResolvedModel, fpr: float, allow_synthetic: bool) -> tuple[float, str]:
    """The threshold that was measured to give a false-positive rate, and where that was measured.

    Of several measurements the newest on real data counts, then, if allowed, the newest on synthetic data.

    Raises
    ------
    NoModelError
        If there is no such operating point; names those that there are.
    """
    measured = sorted(read_results(model).measurements, key=lambda run: (run.data.kind == "real", run.date), reverse=True)
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
