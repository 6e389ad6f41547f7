"""Model cards (``cards/<task>/<name>/<version>.yaml``): what a model is, what goes in and what comes out.

A card is frozen with its version, and the registry locks its hash. Measured results are kept beside it (`records`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from numbers import Real
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, Field, model_validator

from deepcr_zoo.documents import EITHER_SPELLING, Document, ascending, document_bytes, optional, parse_document
from deepcr_zoo.errors import IntegrityError, InvalidDocumentError, UsageError
from deepcr_zoo.zoo.instruments import PixelUnit
from deepcr_zoo.zoo.names import Task
from deepcr_zoo.zoo.registry import Name, ResolvedModel, Sha256, Version

ANY_TELESCOPE = "any"
"""Telescope in the card of a network that was made for no camera in particular."""

MOST_SCALE = 1e6
MOST_FILE_NAME = 255
Positive = Annotated[float, Field(gt=0)]
InputUnit = Literal[PixelUnit, "any"]
INPUT_UNITS: tuple[InputUnit, ...] = get_args(InputUnit)
Tolerance = Annotated[float, Field(gt=0, le=1e-3)]
"""Ten times the largest in use: engines and processors differ by their rounding alone."""

Probability = Annotated[float, Field(ge=0, le=1)]


def _check_relative(name: str) -> str:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name:
        raise ValueError("a relative path that stays below its folder")
    return name


FileName = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_check_relative)]
"""Path of a file below the folder that a card or an archive belongs to."""

LICENCE_PATTERN = r"^(([A-Za-z0-9_][\w.-]*/)*LICENSE(\.[\w-]+)?|TODO)$"
"""No other file can land in a mirror or on the Hub as a licence, or be replaced by one; TODO stands in a draft."""

FigureUnit = Literal["percent", "fraction", "electron^2", "(100 electron)^2"]  # unit of a published figure
UNIT_TEXTS: dict[FigureUnit, str] = {"percent": "%", "fraction": "", "electron^2": "e-^2", "(100 electron)^2": "(100 e-)^2"}
"""Units as tables show them."""

FROZEN_METRICS: dict[str, tuple[str, FigureUnit]] = {
    "TPR at FPR 0.05 %, in %": ("TPR at FPR 0.05 %", "percent"),
    "TPR at FPR 0.5 %, in %": ("TPR at FPR 0.5 %", "percent"),
    "TPR at FPR 0.05 %, in %, mask dilated 3x3": ("TPR at FPR 0.05 %, mask dilated 3x3", "percent"),
    "TPR at FPR 0.5 %, in %, mask dilated 3x3": ("TPR at FPR 0.5 %, mask dilated 3x3", "percent"),
    "MSE on masked pixels, in (100 e-)^2": ("MSE on masked pixels", "(100 electron)^2"),
}
"""Quantity and unit of the metrics in the first ten cards, which are frozen and have no field for the unit."""

PLACEHOLDERS = frozenset({"", "todo", "tbd", "fixme", "xxx", "?", "??", "???", "...", "\N{HORIZONTAL ELLIPSIS}"})
"""Texts that stand for something still to be written, in lower case."""


class CardIdentity(Document):
    name: Name = Field(description="model name")
    task: Task = Field(description="mask (cosmic-ray probability) or inpaint (values for masked pixels)")
    version: Version = Field(description="version that this card is frozen with")
    title: str = Field(description="one sentence for people")
    authors: list[str] = Field(min_length=1, description="who made the network")


class UpstreamFile(Document):
    package: str = Field(pattern=r"^[A-Za-z0-9][\w.-]*$", description="Python package that released the file")
    release: str = Field(pattern=r"^[0-9][\w.+!]*$", description="release of that package")
    sdist_sha256: Sha256 = Field(description="SHA-256 of the release's source distribution")
    file: FileName = Field(description="path of the file inside the source distribution")
    file_sha256: Sha256 = Field(description="SHA-256 of the file")


class SourceFile(Document):
    name: str = Field(max_length=MOST_FILE_NAME, description="name of the file")
    sha256: Sha256 = Field(description="SHA-256 of the file")


class CardProvenance(Document):
    kind: Literal["imported", "trained", "file"] = Field(
        description="imported from a release, trained by this project, or imported from a file of its user"
    )
    statement: str = Field(description="where the network comes from, in words")
    upstream: UpstreamFile | None = Field(default=None, description="the imported file; required if imported")
    file: SourceFile | None = Field(default=None, description="the user's file; required if kind is file")
    recipe_sha256: Sha256 | None = Field(
        default=None, description="hash of the resolved recipe, VERSION.recipe.yaml; required if trained"
    )
    manifest_sha256: Sha256 | None = Field(
        default=None, description="hash of the training set's manifest; required if trained"
    )

    @model_validator(mode="after")
    def _has_the_hashes_of_its_kind(self) -> CardProvenance:
        if (self.kind == "imported") != (self.upstream is not None):
            raise ValueError("an upstream file exactly if kind is imported")
        if (self.kind == "file") != (self.file is not None):
            raise ValueError("a file exactly if kind is file")
        hashes = (self.recipe_sha256, self.manifest_sha256)
        if any((one is not None) != (self.kind == "trained") for one in hashes):
            raise ValueError("recipe_sha256 and manifest_sha256 exactly if kind is trained")
        return self


class CardInstrument(Document):
    telescope: str = Field(description="TELESCOP of the training data")
    instrument: str = Field(description="INSTRUME")
    detector: str = Field(description="DETECTOR")
    filters: list[str] = Field(min_length=1, description="filters of the training data; * if not restricted")
    exposure_time_s: Annotated[list[Positive] | None, AfterValidator(ascending)] = Field(
        default=None,
        min_length=2,
        max_length=2,
        description="shortest and longest of the training visits' mean exposure times, s",
    )
    data_product: str = Field(description="kind of file the images come from")


class Fingerprint(Document):
    input_variance: Positive = Field(
        description="median running variance of the first BatchNorm times scale squared, in the input unit squared; "
        "weights that disagree by more than 5 % were trained at another input scale and are refused"
    )


class CardInput(Document):
    unit: InputUnit = Field(description="unit of the pixel values that the user passes in; any: with normalisation noise")
    normalisation: Literal["scale", "frame-standardise", "noise"] = Field(
        validation_alias=EITHER_SPELLING,
        description="scale: value / scale; frame-standardise: (value / scale - mean) / std over the whole frame; noise: "
        "asinh((value - sky) / noise), robust sky and noise of the whole exposure",
    )
    scale: float = Field(gt=0, le=MOST_SCALE, description="number that pixel values are divided by")
    multiple: Literal[2, 4, 8] = Field(description="sides that the network takes are multiples of this; images are padded")
    halo: int = Field(ge=0, le=1024, description="pixels of context around a tile that make tiles equal the whole frame")
    fingerprint: Fingerprint | None = Field(
        default=None, description="ties the weights to the input scale; absent where the network has no BatchNorm"
    )

    @model_validator(mode="after")
    def _noise_has_no_unit(self) -> CardInput:
        if (self.unit == "any") != self.by_noise or (self.by_noise and self.scale != 1):
            raise ValueError(
                "unit any and scale 1 with normalisation noise, and unit electron or adu with others; "
                f"got unit {self.unit}, scale {self.scale:g} and normalisation {self.normalisation}"
            )
        return self

    @property
    def by_noise(self) -> bool:
        """True if the network sees pixels in units of the noise."""
        return self.normalisation == "noise"

    @property
    def pixel_unit(self) -> PixelUnit | None:
        """The unit that images are converted to; None if any will do."""
        return None if self.unit == "any" else self.unit


class CardOutput(Document):
    quantity: Literal["cosmic-ray probability", "pixel value"] = Field(description="what comes out per pixel")
    threshold: Probability | None = Field(default=None, description="probability above which a pixel is masked by default")
    threshold_choice: str | None = Field(default=None, description="how the threshold was chosen")
    uncertainty: bool = optional(False, "whether the uncertainty of each pixel value comes out, too")


class CardTraining(Document):
    data: str = Field(description="what the network was trained on")
    visits: list[str] | None = Field(
        default=None,
        description="every visit that the network, or the model it started from, saw in training, and is never judged on; "
        "absent where zoo/training_visits.yaml lists them, or where they are unknown",
    )
    sky_range: Annotated[list[float] | None, AfterValidator(ascending)] = Field(
        default=None,
        min_length=2,
        max_length=2,
        description="lowest and highest sky level of the training images, augmentation included, in the input unit",
    )
    method: str = Field(description="how it was trained")
    unknown: list[str] = Field(description="what no source states")
    source: str = Field(description="source of these facts")


class Figure(Document):
    field: str = Field(description="field type or test data")
    metric: str = Field(description="name of the metric")
    unit: FigureUnit = Field(description="unit of the value: percent, fraction, electron^2 or (100 electron)^2")
    value: float = Field(description="the figure as printed")

    @model_validator(mode="before")
    @classmethod
    def _frozen_metrics_imply_their_unit(cls, content: Any) -> Any:
        metric = content.get("metric") if isinstance(content, dict) else None
        if isinstance(metric, str) and metric in FROZEN_METRICS:
            return {"unit": FROZEN_METRICS[metric][1], **content}
        return content

    @property
    def quantity(self) -> str:
        """Name of the metric without its unit."""
        return FROZEN_METRICS[self.metric][0] if self.metric in FROZEN_METRICS else self.metric

    @property
    def label(self) -> str:
        """Name of the metric with its unit."""
        unit = UNIT_TEXTS[self.unit]
        return self.metric if self.metric in FROZEN_METRICS or not unit else f"{self.metric}, in {unit}"


class PublishedEvaluation(Document):
    source: str = Field(description="paper and table")
    test_set: str = Field(description="what it was measured on")
    note: str = Field(description="caveats; always says that the figures are published, not measured here")
    figures: list[Figure] = Field(min_length=1, description="the figures")


class Licence(Document):
    spdx: str = Field(description="SPDX identifier")
    copyright: str = Field(description="copyright line")
    file: str = Field(
        pattern=LICENCE_PATTERN,
        max_length=200,
        description="path of the licence text, LICENSE or LICENSE.NAME",
    )


class Citation(Document):
    doi: str = Field(pattern=r"^10\.[0-9]{4,9}/\S+$", description="DOI of the paper to cite")
    text: str = Field(description="short reference")
    bibtex: str = Field(description="BibTeX record")


class CardTestVector(Document):
    description: str = Field(description="what the image shows and how it was made")
    tolerance: Tolerance = Field(
        description="largest allowed difference: of probability (mask), or relative to the largest filled value (inpaint)"
    )


class Card(Document):
    """A model card."""

    identity: CardIdentity = Field(description="which model and version this is")
    provenance: CardProvenance = Field(description="where the weights come from")
    instrument: CardInstrument = Field(description="what the network was made for")
    input: CardInput = Field(description="what goes in")
    output: CardOutput = Field(description="what comes out")
    training: CardTraining = Field(description="what is known of the training")
    published_evaluation: list[PublishedEvaluation] = Field(description="figures from the literature")
    limits: list[str] = Field(min_length=1, description="what the model cannot do or was not tested for")
    licence: Licence = Field(description="terms of use")
    citation: list[Citation] = Field(min_length=1, description="what to cite, most important first")
    test_vector: CardTestVector = Field(description="the stored input and output that every installation must reproduce")
    open_points: list[str] | None = Field(
        default=None,
        description="fields of a draft that a person must still fill in, and what is missing; absent from a finished card",
    )

    @model_validator(mode="after")
    def _task_fits_output(self) -> Card:
        is_mask = self.identity.task == "mask"
        if is_mask != (self.output.threshold is not None and self.output.threshold_choice is not None):
            raise ValueError("output.threshold and output.threshold_choice exactly if identity.task is mask")
        if is_mask != (self.output.quantity == "cosmic-ray probability"):
            raise ValueError("output.quantity 'cosmic-ray probability' exactly if identity.task is mask")
        if self.output.uncertainty and (is_mask or not self.input.by_noise):
            raise ValueError("output.uncertainty only if identity.task is inpaint and input.normalisation is noise")
        return self


def contract_sha256(card: Card) -> str:
    """Return the hash of what figures and gates depend on: input, output and the tolerance of the test vector."""
    contract = card.model_dump(mode="json", include={"input": True, "output": True, "test_vector": {"tolerance"}})
    return hashlib.sha256(json.dumps(contract, sort_keys=True).encode()).hexdigest()


def check_threshold(threshold: float) -> float:
    """Return the threshold if it is a number between 0 and 1, else raise `UsageError`."""
    if not isinstance(threshold, Real) or not 0 <= threshold <= 1:
        raise UsageError(f"threshold is {threshold!r}: expected a probability between 0 and 1")
    return float(threshold)


def read_card(model: ResolvedModel) -> Card:
    """Read the card of a version and check it against the registry's lock.

    Parameters
    ----------
    model : ResolvedModel

    Returns
    -------
    Card

    Raises
    ------
    IntegrityError
        If the file's bytes differ from what the registry locked.
    InvalidDocumentError
        If the file is missing, breaks the schema or belongs to another model.
    """
    where = model.card_path.relative_to(model.root)
    data = document_bytes(model.card_path, where)
    card = parse_document(data, Card, where)
    identity = card.identity
    if (identity.task, identity.name, identity.version) != (model.entry.task, model.entry.name, model.version):
        raise InvalidDocumentError(
            f"{where}: identity: expected {model.reference}, got {identity.task}/{identity.name}@{identity.version}"
        )
    if problem := model.locked.card.mismatch(data):
        raise IntegrityError(f"{where}: {problem}; a card is frozen with its version: restore it, or release a new version")
    return card


def find_open_points(card: Card) -> list[str]:
    """Return what a person must still fill in: the card's `open_points`, then texts that are bare placeholders."""
    texts = _texts(card.model_dump(exclude={"open_points"}))
    return [
        *(card.open_points or ()),
        *(f"{place}: {text!r} is a placeholder" for place, text in texts if text.strip().casefold() in PLACEHOLDERS),
    ]


def _texts(value: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """Yield every text of a document with its place."""
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, dict | list):
        for key, child in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _texts(child, f"{place}.{key}" if place else str(key))
