"""Model cards (``cards/<task>/<name>/<version>.yaml``): what a model is, what goes in, what comes out.

A card is frozen with its version; the registry locks its hash. Measured results never stand in it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from numbers import Real
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from deepcr_zoo.documents import Document, parse_document
from deepcr_zoo.errors import IntegrityError, InvalidDocumentError, UsageError
from deepcr_zoo.zoo.instruments import PixelUnit
from deepcr_zoo.zoo.names import Task
from deepcr_zoo.zoo.registry import Name, ResolvedModel, Sha256, Version

Positive = Annotated[float, Field(gt=0)]
BelowOne = Annotated[float, Field(gt=0, lt=1)]


def _leads_down(name: str) -> str:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name:
        raise ValueError("a relative path that leads nowhere but down")
    return name


FileName = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_leads_down)]
"""Of a file below the folder that a card or an archive belongs to."""
Probability = Annotated[float, Field(ge=0, le=1)]


class Identity(Document):
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


class Provenance(Document):
    kind: Literal["imported", "trained"] = Field(description="imported from elsewhere, or trained by this project")
    statement: str = Field(description="where the network comes from, in words")
    upstream: UpstreamFile | None = Field(default=None, description="the imported file; required if imported")
    recipe_sha256: Sha256 | None = Field(
        default=None, description="hash of the resolved recipe, VERSION.recipe.yaml; required if trained"
    )
    manifest_sha256: Sha256 | None = Field(
        default=None, description="hash of the training set's manifest; required if trained"
    )

    @model_validator(mode="after")
    def _names_what_it_was_made_of(self) -> Provenance:
        if (self.kind == "imported") != (self.upstream is not None):
            raise ValueError("an upstream file exactly if kind is imported")
        hashes = (self.recipe_sha256, self.manifest_sha256)
        if any((one is None) != (self.kind == "imported") for one in hashes):
            raise ValueError("recipe_sha256 and manifest_sha256 exactly if kind is trained")
        return self


class Instrument(Document):
    telescope: str = Field(description="TELESCOP of the training data")
    instrument: str = Field(description="INSTRUME")
    detector: str = Field(description="DETECTOR")
    filters: list[str] = Field(min_length=1, description="filters of the training data; * if not restricted")
    exposure_time_s: list[Positive] | None = Field(
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


class Input(Document):
    unit: PixelUnit = Field(description="unit of the pixel values that the user passes in")
    normalisation: Literal["scale", "frame-standardise"] = Field(
        description="scale: value / scale; frame-standardise: (value / scale - mean) / std over the whole frame"
    )
    scale: float = Field(gt=0, le=1e6, description="number that pixel values are divided by")
    multiple: Literal[2, 4] = Field(description="sides that the network takes are multiples of this; images are padded")
    halo: int = Field(ge=0, le=1024, description="pixels of context around a tile that make tiles equal the whole frame")
    fingerprint: Fingerprint | None = Field(
        default=None, description="ties the weights to the input scale; absent where the network has no BatchNorm"
    )


class Output(Document):
    quantity: Literal["cosmic-ray probability", "pixel value"] = Field(description="what comes out per pixel")
    threshold: Probability | None = Field(
        default=None, description="probability above which a pixel is masked unless the user says otherwise"
    )
    threshold_choice: str | None = Field(default=None, description="how the threshold was chosen")


class Training(Document):
    data: str = Field(description="what the network was trained on")
    visits: list[str] | None = Field(
        default=None,
        description="every visit that it, or the model that it started from, has seen in training, and is never judged on; "
        "absent where that stands in zoo/training_visits.yaml, or is not known",
    )
    method: str = Field(description="how it was trained")
    unknown: list[str] = Field(description="what no source states")
    source: str = Field(description="where these facts stand")


class Figure(Document):
    field: str = Field(description="field type or test data")
    metric: str = Field(description="name of the metric, with its unit")
    value: float = Field(description="the figure as printed")


class PublishedEvaluation(Document):
    source: str = Field(description="paper and table")
    test_set: str = Field(description="what it was measured on")
    note: str = Field(description="caveats; always says that the figures are published, not measured here")
    figures: list[Figure] = Field(min_length=1, description="the figures")


class Licence(Document):
    spdx: str = Field(description="SPDX identifier")
    copyright: str = Field(description="copyright line")
    file: FileName = Field(description="path of the licence text in this repository")


class Citation(Document):
    doi: str = Field(pattern=r"^10\.[0-9]{4,9}/\S+$", description="DOI of the paper to cite")
    text: str = Field(description="short reference")
    bibtex: str = Field(description="BibTeX record")


class TestVector(Document):
    __test__ = False  # not a test class, whatever its name says

    description: str = Field(description="what the image shows and how it was made")
    tolerance: BelowOne = Field(
        description="largest allowed difference: of probability (mask), or relative to the largest value (inpaint)"
    )


class Card(Document):
    """A model card."""

    identity: Identity = Field(description="which model and version this is")
    provenance: Provenance = Field(description="where the weights come from")
    instrument: Instrument = Field(description="what the network was made for")
    input: Input = Field(description="what goes in")
    output: Output = Field(description="what comes out")
    training: Training = Field(description="what is known of the training")
    published_evaluation: list[PublishedEvaluation] = Field(description="figures from the literature")
    limits: list[str] = Field(min_length=1, description="what the model cannot do or was not tested for")
    licence: Licence = Field(description="terms of use")
    citation: list[Citation] = Field(min_length=1, description="what to cite, most important first")
    test_vector: TestVector = Field(description="the stored input and output that every installation must reproduce")

    @model_validator(mode="after")
    def _task_fits_output(self) -> Card:
        is_mask = self.identity.task == "mask"
        if is_mask != (self.output.threshold is not None and self.output.threshold_choice is not None):
            raise ValueError("output.threshold and output.threshold_choice exactly if identity.task is mask")
        if is_mask != (self.output.quantity == "cosmic-ray probability"):
            raise ValueError("output.quantity 'cosmic-ray probability' exactly if identity.task is mask")
        return self


def contract_sha256(card: Card) -> str:
    """Hash of what figures and gates depend on: of the card's input and output, and of what its test vector allows."""
    contract = card.model_dump(mode="json", include={"input": True, "output": True, "test_vector": {"tolerance"}})
    return hashlib.sha256(json.dumps(contract, sort_keys=True).encode()).hexdigest()


def check_threshold(threshold: float) -> float:
    """The threshold, if it is a probability.

    Raises
    ------
    UsageError
        If it is not a number between 0 and 1.
    """
    if not isinstance(threshold, Real) or not 0 <= threshold <= 1:
        raise UsageError(f"threshold is {threshold!r}: expected a probability between 0 and 1")
    return float(threshold)


def read_card(model: ResolvedModel) -> Card:
    """Read the card of a version and check it against the registry's lock.

    Raises
    ------
    IntegrityError
        If the file's bytes differ from what the registry locked.
    InvalidDocumentError
        If the file is missing, breaks the schema or belongs to another model.
    """
    where = model.card_path.relative_to(model.root)
    try:
        data = model.card_path.read_bytes()
    except OSError as error:
        raise InvalidDocumentError(f"{where}: cannot be read: {error.strerror}; restore the file") from None
    card = parse_document(data, Card, where)
    identity = card.identity
    if (identity.task, identity.name, identity.version) != (model.entry.task, model.entry.name, model.version):
        raise InvalidDocumentError(
            f"{where}: identity: expected {model.reference}, got {identity.task}/{identity.name}@{identity.version}"
        )
    if problem := model.locked.card.mismatch(data):
        raise IntegrityError(f"{where}: {problem}; a card is frozen with its version: restore it, or release a new version")
    return card


NOT_GIVEN = "not given in the recipe"
"""A text of a card that starts so is still to be written by a person."""


def open_points(card: Card) -> list[str]:
    """What a person must still fill in: the field, and what it lacks."""
    return [f"{place}: {text}" for place, text in _texts(card.model_dump()) if text.startswith(NOT_GIVEN)]


def _texts(value: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """Every text of a document, with its place."""
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, dict | list):
        for key, child in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _texts(child, f"{place}.{key}" if place else str(key))
