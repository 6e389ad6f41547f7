"""Training sets on the disk: visits by the hash of what made them, manifests that say which stamps are for what."""

from __future__ import annotations

import errno
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from deepcr_zoo import files
from deepcr_zoo.dataset.labelmethods import settings_of_others
from deepcr_zoo.documents import Document, DocumentT, as_json, first_problem
from deepcr_zoo.errors import DatasetError, OutputError
from deepcr_zoo.files import scratch_folder, write_atomically
from deepcr_zoo.zoo.recipe import FieldType, Recipe, Split, SplitBy

TENSORS = {
    "image": "float32 (N, S, S), e-; pixels without a value hold the sky level, and are ignored",
    "cosmic_rays": "uint8 (N, S, S), CR mask, 1 = cosmic ray",
    "ignore": "uint8 (N, S, S), 1 = excluded from loss and metrics",
    "position": "int32 (N, 2), row and column of the first pixel on its chip",
    "chip": "int32 (N,), EXTVER",
    "corners": "float64 (N, 4, 2), right ascension and declination of the corners, degrees",
}
"""What the file of an exposure holds."""

FORMAT = 1
"""Raised when visits made before can no longer be used: part of the hash that they are found by."""

VISIT_FILE, MANIFEST_FILE = "visit.json", "manifest.json"

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

StampSplit = Literal["train", "validation", "test", "guard"]
"""What a stamp is for; those of the guard are for nothing, they lie too near to validation stamps."""

STAMP_SPLITS: tuple[StampSplit, ...] = ("train", "validation", "test", "guard")


class StoredFile(Document):
    """A file of stamps."""

    name: str
    sha256: str
    bytes: int


class Rejected(Document):
    """A file, an exposure or a visit that is not used."""

    what: str
    reason: str


class ExposureRecord(Document):
    """One labelled exposure."""

    name: str = Field(description="ROOTNAME")
    stamps: StoredFile
    truth: StoredFile | None = Field(default=None, description="of a simulated exposure")
    count: int = Field(description="stamps")
    exposure_time_s: float
    sky_electron: float
    sky_source: Literal["mdrizsky", "measured"]
    background_ratio: float | None = Field(description="electrons per second, to what is usual in the visit")
    cosmic_ray_fraction: float = Field(description="masked pixels / pixels that are not ignored")
    cosmic_rays_per_cm2_s: float = Field(description="groups of masked pixels")
    rate_ratio: float | None = Field(description="to what is usual in the visit; null if that is zero")
    star_excess: float | None = Field(description="share of masked pixels on stars / where the sky is dark")
    star_excess_chance: float | None = Field(
        default=None, description="how likely so many are if masks are as frequent on stars as the recipe allows"
    )
    ignored_fraction: float
    read_noise_electron: float | None = Field(default=None, description="mean of the amplifiers; null if no header tells")
    fit_rms_pixels: float | None = Field(default=None, description="of the alignment by TweakReg")
    cautions: list[str] = Field(default_factory=list)

    @property
    def observation(self) -> str:
        """ROOTNAME: the name without the EXTVER that follows it where a file holds repeats."""
        return re.sub(r"-\d+$", "", self.name)


class VisitRecord(Document):
    """``visits/<key>/visit.json``: a visit that is finished, labelled or rejected."""

    format: int = FORMAT
    key: str
    name: str
    field_type: FieldType
    instrument: str
    filter_name: str
    stamp_size: int
    software: str = Field(description="that made the labels")
    largest_dither_arcsec: float = 0.0
    outlines: list[list[list[float]]] = Field(
        default_factory=list, description="convex outlines of all chips of all exposures: right ascension, declination"
    )
    exposures: list[ExposureRecord] = Field(default_factory=list)
    darks: list[str] = Field(
        default_factory=list,
        description="whose cosmic rays its exposures may have got",
        exclude_if=lambda darks: not darks,  # records of other labels keep their bytes
    )
    rejected: list[Rejected] = Field(default_factory=list, description="exposures")
    rejection: str | None = Field(default=None, description="why the whole visit is not used")

    @property
    def observations(self) -> set[str]:
        """ROOTNAMEs of its exposures, each named once where a file holds repeats."""
        return {exposure.observation for exposure in self.exposures}


class DatasetVisit(Document):
    """A visit in a training set."""

    record: VisitRecord
    split: Split
    stamps: list[dict[StampSplit, list[int]]] = Field(description="of each exposure: which stamps are for what")


class Manifest(Document):
    """``datasets/NAME-<key>/manifest.json``: a training set."""

    format: int = FORMAT
    name: str = Field(description="of the recipe")
    key: str
    rehearsal: bool = Field(description="whether its exposures are simulated")
    recipe_key: str = Field(description="hash of what the recipe says of instrument, data, labels and rehearsal")
    stamp_size: int
    split_by: SplitBy = Field(
        default="sky",
        description="what training and test do not share",
        exclude_if=lambda split_by: split_by == "sky",  # manifests from before keep their bytes
    )
    counts: dict[FieldType, dict[StampSplit, int]]
    visits: list[DatasetVisit]
    rejected: list[Rejected] = Field(description="files and visits that are not used")
    missing: list[str] = Field(description="what the recipe asks for and is not there")
    cautions: list[str] = Field(default_factory=list)


@dataclass(frozen=True)
class Home:
    """Where training sets are kept.

    Attributes
    ----------
    root : Path
    """

    root: Path

    @classmethod
    def default(cls) -> Home:
        """``DEEPCR_ZOO_DATA``, else the platform's folder for a user's data."""
        return cls(files.user_data_root().absolute())

    @property
    def visits(self) -> Path:
        """Folder of all visits, whatever recipe they are of."""
        return self.root / "visits"

    def visit(self, key: str) -> Path:
        """Folder of a visit."""
        return self.visits / key

    @property
    def baselines(self) -> Path:
        """Folder of the masks of classical methods."""
        return self.root / "baselines"

    def log(self, key: str) -> Path:
        """What drizzlepac said of a visit."""
        return self.root / "logs" / f"{key}.log"

    def dataset(self, name: str, key: str) -> Path:
        """Folder of a training set."""
        return self.root / "datasets" / f"{name}-{key}"

    def make(self) -> None:
        """Make sure that visits can be written.

        Raises
        ------
        OutputError
        """
        try:
            self.visits.mkdir(parents=True, exist_ok=True)
            with scratch_folder(self.visits / "try"):
                pass
        except OSError as error:
            if error.errno in _DISK_FULL:
                raise disk_full(self, "training sets") from None
            reason = f"cannot be written: {error.strerror}"
            raise OutputError(f"{self.root}: {reason}; name another folder with DEEPCR_ZOO_DATA") from None

    def finished_visit(self, key: str) -> VisitRecord | None:
        """The record of a visit, if it is finished and all its files are there.

        Raises
        ------
        DatasetError
            If its record cannot be read.
        """
        folder = self.visit(key)
        if not (folder / VISIT_FILE).is_file():
            return None
        record = _read_document(folder / VISIT_FILE, VisitRecord)
        files = [file for one in record.exposures for file in (one.stamps, one.truth) if file is not None]
        return record if all(_has_size(folder / file.name, file.bytes) for file in files) else None


def key_of(content: Mapping[str, Any]) -> str:
    """The hash of a description: 32 hexadecimal digits."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, allow_nan=False).encode()).hexdigest()[:32]


def recipe_key(recipe: Recipe, rehearsal: bool) -> str:
    """The hash of what a recipe says of its training set: recipes that differ in training alone may share one."""
    content = recipe.model_dump(
        mode="json",
        include={
            "instrument": True,
            "build": True,
            **({"rehearsal": True} if rehearsal else {"data": {"product", "visits", "split_by"}}),
        },
        exclude={
            "rehearsal": {"schedule", "benchmark", "gates"},
            "data": {"visits": {"__all__": {"note"}}},
            "build": {
                **dict.fromkeys(settings_of_others(recipe.build.labels), True),
                **({"stamps": True} if rehearsal else {}),  # a rehearsal has its own
                **({"dark_paste": {"darks"}} if recipe.build.labels == "dark_paste" else {}),  # like data.files
            },
        },
    )
    return key_of(_as_before(content))


def _as_before(content: dict[str, Any]) -> dict[str, Any]:
    """Without what recipes did not have at first and what is as it was then: training sets from before stay theirs."""
    data, build = content.get("data", {}), content["build"]
    if build["labels"] == "astrodrizzle":
        del build["labels"]
    if data.get("split_by") == "sky":
        del data["split_by"]
    for rule in data.get("visits", {}).values():
        if rule.get("observation") is None:
            rule.pop("observation", None)
    return content


def write_tensors(path: Path, tensors: Mapping[str, NDArray[Any]], about: Mapping[str, Any]) -> StoredFile:
    """Write a safetensors file whose bytes depend on its content alone."""
    # one entry of metadata: safetensors writes several in an order of its own, another every time
    metadata = {"deepcr-zoo": json.dumps(about, sort_keys=True, allow_nan=False)}
    data = safetensors.numpy.save({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, metadata)
    write_atomically(data, path)
    return StoredFile(name=path.name, sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))


def write_document(path: Path, document: Document) -> None:
    """Write a record as JSON whose bytes depend on its content alone."""
    write_atomically(as_json(document), path)


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a training set.

    Raises
    ------
    DatasetError
        If it is missing, or not of this format.
    """
    return _read_document(folder / MANIFEST_FILE, Manifest)


@contextmanager
def disk_full_is_told(home: Home, what: str) -> Iterator[None]:
    """Turn the error of a full disk into one sentence.

    Raises
    ------
    OutputError
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK_FULL:
            raise
        raise disk_full(home, what) from None


def disk_full(home: Home, what: str) -> OutputError:
    """The error of a full disk."""
    return OutputError(
        f"{what}: no space left under {home.root}: free some, or name another folder with DEEPCR_ZOO_DATA; what is finished "
        "stays, the same command goes on from there"
    )


def _has_size(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _read_document(path: Path, schema: type[DocumentT]) -> DocumentT:
    try:
        return schema.model_validate_json(path.read_bytes())
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror}; build the dataset again") from None
    except ValidationError as error:
        raise DatasetError(f"{path}: {first_problem(error)}: remove its folder and build again") from None
