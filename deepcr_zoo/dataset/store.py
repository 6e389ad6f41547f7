"""Training sets on the disk: visits, named by a hash of their inputs, and manifests that assign their stamps to splits."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from pydantic import AfterValidator, Field, ValidationError, model_validator

from deepcr_zoo import files, locations
from deepcr_zoo.dataset.labelmethods import settings_of_others
from deepcr_zoo.documents import Document, DocumentT, as_json, brief, first_problem, json_bytes, optional
from deepcr_zoo.errors import DatasetError, UsageError
from deepcr_zoo.models.images import LIMIT, has_value
from deepcr_zoo.zoo.recipe import FIELD_TYPES, FieldType, Recipe, Split, SplitBy
from deepcr_zoo.zoo.registry import Sha256

_CUT_OUTS = ("N", "S", "S")


class Values(NamedTuple):
    """What the values of a tensor are, and where they are so."""

    expected: str
    hold: Callable[[NDArray[Any]], NDArray[np.bool_]]


def _is_of_mask(values: NDArray[Any]) -> NDArray[np.bool_]:
    return values <= 1


_ELECTRONS, _NUMBERS = Values(f"values of at most {LIMIT:g} e-", has_value), Values("finite numbers", np.isfinite)
_MASK = Values("a mask of 0 and 1", _is_of_mask)


class Layer(NamedTuple):
    """A tensor in a file of stamps: N stamps of S x S pixels."""

    name: str
    dtype: str  # as safetensors names it
    axes: tuple[int | str, ...]
    values: Values
    meaning: str

    def shape(self, count: int, side: int) -> tuple[int, ...]:
        """Return its shape for so many stamps of this size."""
        sizes = {"N": count, "S": side}
        return tuple(axis if isinstance(axis, int) else sizes[axis] for axis in self.axes)


LAYERS = (
    Layer("image", "F32", _CUT_OUTS, _ELECTRONS, "e-; pixels without a value hold the sky level, and are ignored"),
    Layer("cosmic_rays", "U8", _CUT_OUTS, _MASK, "CR mask, 1 = cosmic ray"),
    Layer("ignore", "U8", _CUT_OUTS, _MASK, "1 = excluded from loss and metrics"),
    Layer("position", "I32", ("N", 2), _NUMBERS, "row and column of the first pixel on its chip"),
    Layer("chip", "I32", ("N",), _NUMBERS, "EXTVER"),
    Layer("corners", "F64", ("N", 4, 2), _NUMBERS, "right ascension and declination of the corners, degrees"),
)
"""Tensors in the file of an exposure."""

TRUTH_LAYERS = (
    Layer("cosmic_rays", "F32", _CUT_OUTS, _NUMBERS, "e-"),
    Layer("scene", "F32", _CUT_OUTS, _NUMBERS, "e-, sky included, without cosmic rays, noise and saturation"),
    Layer("noise", "F32", _CUT_OUTS, _NUMBERS, "sigma of the noise, e-"),
)
"""Tensors in the file of a simulated exposure's truth."""

MOST_STAMPS, LARGEST_SIDE = 2**31, 2**16
"""Of a file, and of a stamp in pixels; far beyond any, so that all numbers that follow from them are of usual size."""

FORMAT = 2  # part of the hash of a visit; a new number makes all earlier visits unusable
ELSEWHERE = "name another folder with DEEPCR_ZOO_DATA; what is finished stays, the same command goes on from there"
_BUILD_AGAIN = "move its folder away and build again"
VISIT_FILE, MANIFEST_FILE = "visit.json", "manifest.json"
REPORT, REPORT_FILES = "report", ("stamps.png", "histograms.png", "report.md")

StampSplit = Literal["train", "validation", "test", "guard"]  # guard stamps are unused: too near to validation stamps
STAMP_SPLITS: tuple[StampSplit, ...] = ("train", "validation", "test", "guard")
USES: dict[Split, set[StampSplit]] = {"train": {"train", "validation", "guard"}, "test": {"test", "guard"}}
"""Uses of the stamps of a visit, by its split."""


def _of_one_folder(name: str) -> str:
    """Refuse what leads out of a folder; on Windows a drive and a backslash do, too."""
    if name in ("", "..") or PurePath(name).name != name:
        raise ValueError("expected a name without a folder")
    return name


PlainName = Annotated[str, AfterValidator(_of_one_folder)]
Count = Annotated[int, Field(ge=0, le=MOST_STAMPS)]
StampSize = Annotated[int, Field(ge=1, le=LARGEST_SIDE)]
Position = Annotated[list[Annotated[float, Field(ge=-720, le=720)]], Field(min_length=2, max_length=2)]
Outline = Annotated[list[Position], Field(min_length=1, max_length=1000)]
Format = Annotated[int, Field(ge=FORMAT, le=FORMAT)]


class StoredFile(Document):
    """A file of stamps."""

    name: PlainName
    sha256: Sha256
    bytes: int = Field(ge=0)


class Rejected(Document):
    """A file, exposure or visit that is not used."""

    what: str
    reason: str


class DitherRecord(Document):
    """How an exposure was aligned and compared with others of its field; counts are of all its chips."""

    matched_stars: int = Field(ge=0, description="of the chip with fewest; 0 if a WCS is trusted")
    fwhm_pixels: float | None = Field(description="median of the stars")
    transparency: float | None = Field(description="flux of the stars per second, relative to the visit's median")
    unseen_pixels: Count = Field(description="ignored: too few other exposures have seen them")
    core_pixels: Count = Field(description="ignored: cores of stars where seeing differs too much")
    moving_pixels: Count = Field(description="ignored: trails of satellites, and objects that move")


class DefectRecord(Document):
    """Detector defects of a chip that exposures of a visit share; they are no cosmic rays."""

    chip: int = Field(description="EXTVER")
    pixels: Count = Field(description="all of them, those in columns too")
    columns: list[int] = Field(default_factory=list, description="that stand out in whole or in part, counted from 1")


class ExposureRecord(Document):
    """One labelled exposure."""

    name: str = Field(description="ROOTNAME, with EXTVER where a file holds repeats")
    rootname: str | None = Field(default=None, description="ROOTNAME, where it ends with a number itself")
    stamps: StoredFile
    truth: StoredFile | None = Field(default=None, description="of a simulated exposure")
    count: Count = Field(description="stamps")
    exposure_time_s: float = Field(ge=0)
    sky_electron: float = Field(ge=-LIMIT, le=LIMIT)
    sky_source: Literal["mdrizsky", "measured"]
    background_ratio: float | None = Field(description="electrons per second, relative to the visit's usual value")
    cosmic_ray_fraction: float = Field(ge=0, le=1, description="masked pixels / pixels that are not ignored")
    cosmic_rays_per_cm2_s: float = Field(description="groups of masked pixels")
    rate_ratio: float | None = Field(description="relative to the visit's usual value; null if that is zero")
    rate_chance: float | None = Field(default=None, description="probability of such a count at the usual rate")
    star_excess: float | None = Field(description="share of masked pixels on stars / where the sky is dark")
    star_excess_chance: float | None = Field(
        default=None, description="probability of so many if masks are as frequent on stars as the recipe allows"
    )
    ignored_fraction: float = Field(ge=0, le=1)
    read_noise_electron: float | None = Field(
        default=None, ge=0, le=LIMIT, description="mean of the amplifiers; null if no header gives it"
    )
    fit_rms_pixels: float | None = Field(default=None, description="of the alignment by TweakReg or by stars")
    dither: DitherRecord | None = optional(None, "of the label method dithers")
    cautions: list[str] = Field(default_factory=list)

    @property
    def observation(self) -> str:
        """ROOTNAME: the name without EXTVER."""
        return without_number(self.name) if self.rootname is None else self.rootname


def without_number(name: str) -> str:
    """Return a name without the number that a dash separates at its end."""
    return re.sub(r"-\d+$", "", name)


class VisitRecord(Document):
    """``visits/<key>/visit.json``: a finished visit, labelled or rejected."""

    format: Format = FORMAT
    key: PlainName
    name: str
    field_type: FieldType
    instrument: str
    filter_name: str
    stamp_size: StampSize
    software: str = Field(description="software that made the labels")
    largest_dither_arcsec: float = 0.0
    outlines: list[Outline] = Field(
        default_factory=list, description="convex outlines of all chips of all exposures: right ascension, declination"
    )
    exposures: list[ExposureRecord] = Field(default_factory=list)
    darks: list[str] = Field(
        default_factory=list,
        description="dark exposures from which cosmic rays may have been added",
        exclude_if=lambda darks: not darks,  # written for labels that use darks alone
    )
    defects: list[DefectRecord] = Field(
        default_factory=list,
        description="of the detector, one for each chip that has some",
        exclude_if=lambda defects: not defects,
    )
    rejected: list[Rejected] = Field(default_factory=list, description="exposures")
    rejection: str | None = Field(default=None, description="why the whole visit is not used")

    @property
    def observations(self) -> set[str]:
        """ROOTNAMEs of its exposures."""
        return {exposure.observation for exposure in self.exposures}


class DatasetVisit(Document):
    """A visit in a training set."""

    record: VisitRecord
    split: Split
    stamps: list[dict[StampSplit, list[int]]] = Field(description="stamps of each exposure, by use")

    @model_validator(mode="after")
    def _each_stamp_has_one_use(self) -> DatasetVisit:
        if len(self.stamps) != len(self.record.exposures):
            raise ValueError(f"{self.record.name}: expected stamps of {len(self.record.exposures)} exposures")
        for exposure, uses in zip(self.record.exposures, self.stamps, strict=True):
            indices = list(chain.from_iterable(uses.values()))
            if len(set(indices)) < len(indices) or not all(0 <= one < exposure.count for one in indices):
                raise ValueError(f"{exposure.name}: expected each of its {exposure.count} stamps once at most")
            if wrong := sorted(uses.keys() - USES[self.split]):
                raise ValueError(f"{exposure.name}: expected no {wrong[0]} stamp in a visit whose split is {self.split}")
        return self


class Manifest(Document):
    """``datasets/NAME-<key>/manifest.json``: a training set."""

    format: Format = FORMAT
    name: str = Field(description="of the recipe")
    key: PlainName
    rehearsal: bool = Field(description="true if it is of the recipe's rehearsal, whose exposures are simulated")
    simulated: bool = optional(False, "true if the recipe's data are simulated")
    recipe_key: str = Field(description="hash of the recipe's instrument, data, labels and rehearsal")
    stamp_size: StampSize
    split_by: SplitBy = optional("sky", "what training and test do not share")
    counts: dict[FieldType, dict[StampSplit, int]]
    visits: list[DatasetVisit]
    rejected: list[Rejected] = Field(description="files and visits that are not used")
    missing: list[str] = Field(description="visits and exposures of the recipe that are missing")
    cautions: list[str] = Field(default_factory=list)

    @property
    def is_synthetic(self) -> bool:
        """True if no telescope took its exposures."""
        return self.rehearsal or self.simulated

    @model_validator(mode="after")
    def _is_of_its_visits(self) -> Manifest:
        records = [visit.record for visit in self.visits]
        files = [exposure.stamps.sha256 for record in records for exposure in record.exposures]
        if len({record.key for record in records}) < len(records) or len(set(files)) < len(files):
            raise ValueError("expected each visit and each file of stamps once: two splits must not share stamps")
        if any(record.stamp_size != self.stamp_size for record in records):
            raise ValueError(f"expected stamps of {self.stamp_size} pixels in each visit")
        if self.counts != count_stamps(self.visits):
            raise ValueError("counts: expected those of the stamps of its visits")
        return self


def count_stamps(visits: Iterable[DatasetVisit]) -> dict[FieldType, dict[StampSplit, int]]:
    """Return the number of stamps of each field type that has any, by use."""
    total: Counter[tuple[FieldType, StampSplit]] = Counter()
    for visit in visits:
        for of_exposure in visit.stamps:
            for split, indices in of_exposure.items():
                total[visit.record.field_type, split] += len(indices)
    present = [field_type for field_type in FIELD_TYPES if any(one == field_type for one, _ in total)]
    return {field_type: {split: total[field_type, split] for split in STAMP_SPLITS} for field_type in present}


@dataclass(frozen=True)
class Home:
    """The folder of all training sets."""

    root: Path

    def __post_init__(self) -> None:
        if not files.is_text(str(self.root)):
            raise UsageError(f"{self.root}: its name is no text, by which runs could know it: name another DEEPCR_ZOO_DATA")

    @classmethod
    def default(cls) -> Home:
        """Return ``DEEPCR_ZOO_DATA``, else the platform's folder for user data."""
        return cls(locations.user_data_root().absolute())

    @property
    def visits(self) -> Path:
        """Folder of the visits of all recipes."""
        return self.root / "visits"

    def visit(self, key: str) -> Path:
        """Return the folder of a visit."""
        return self.visits / key

    @property
    def baselines(self) -> Path:
        """Folder of the masks of classical methods."""
        return self.root / "baselines"

    def log(self, key: str) -> Path:
        """Return the path of drizzlepac's log of a visit."""
        return self.root / "logs" / f"{key}.log"

    def dataset(self, name: str, key: str) -> Path:
        """Return the folder of a training set."""
        return self.root / "datasets" / f"{name}-{key}"

    def make(self) -> None:
        """Create the folder of visits and check that it can be written."""
        with files.reporting_failures(self.root, ELSEWHERE):
            self.visits.mkdir(parents=True, exist_ok=True)
            with files.scratch_folder(self.visits / "try"):
                pass

    def finished_visit(self, key: str) -> VisitRecord | None:
        """Return the record of a visit if it is finished and its files have the recorded sizes, else None."""
        folder = self.visit(key)
        if not (folder / VISIT_FILE).is_file():
            return None
        record = _read_document(folder / VISIT_FILE, VisitRecord)
        if record.key != key:
            raise DatasetError(f"{folder / VISIT_FILE}: key: expected {key}, got {brief(record.key)}: {_BUILD_AGAIN}")
        stored = [file for one in record.exposures for file in (one.stamps, one.truth) if file is not None]
        paths = {folder / file.name: file.bytes for file in stored}
        return record if all(path.is_file() and path.stat().st_size == size for path, size in paths.items()) else None


def is_of_visit(name: str) -> bool:
    """True for the name of a file that the folder of a visit holds."""
    return name == VISIT_FILE or ("/" not in name and name.endswith(".safetensors"))


def key_of(content: Mapping[str, Any]) -> str:
    """Return the hash of a description: 32 hexadecimal digits."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, allow_nan=False).encode()).hexdigest()[:32]


def recipe_key(recipe: Recipe, rehearsal: bool) -> str:
    """Return the hash of the settings that a training set depends on; recipes that differ in training alone share one.

    Optional settings that have their default are left out: they leave the hash as it is without them.
    """
    build, data = recipe.build, recipe.data
    unused = settings_of_others(build.labels)
    if build.labels == "astrodrizzle":
        unused.add("labels")
    if rehearsal:
        unused.add("stamps")  # a rehearsal has its own
    without: dict[str, Any] = dict.fromkeys(unused, True)
    if build.labels == "dark_paste":
        without["dark_paste"] = {"darks"}  # a place, as data.files
    rules = {
        name: {"note"} if rule.observation is not None else {"note", "observation"} for name, rule in data.visits.items()
    }
    used = {"product", "visits", "simulated"} | (set() if data.split_by == "sky" else {"split_by"})
    content = recipe.model_dump(
        mode="json",
        include={"instrument": True, "build": True, **({"rehearsal": True} if rehearsal else {"data": used})},
        exclude={
            "rehearsal": {"schedule", "benchmark", "gates"},
            "data": {"visits": rules},
            "build": without,
            "instrument": {"description": {"sources"}, **({} if rehearsal or data.simulated else {"simulation": True})},
        },
    )
    return key_of(content)


def write_tensors(path: Path, tensors: Mapping[str, NDArray[Any]], about: Mapping[str, Any]) -> StoredFile:
    """Write a safetensors file whose bytes depend on its content alone."""
    # a single entry of metadata, since safetensors writes several in random order
    metadata = {"deepcr-zoo": json.dumps(about, sort_keys=True, allow_nan=False)}
    data = safetensors.numpy.save({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, metadata)
    files.write_atomically(data, path)
    return StoredFile(name=path.name, sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))


def write_document(path: Path, document: Document) -> None:
    """Write a record as JSON whose bytes depend on its content alone."""
    files.write_atomically(as_json(document), path)


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a training set."""
    return _read_document(folder / MANIFEST_FILE, Manifest)


def _read_document(path: Path, schema: type[DocumentT]) -> DocumentT:
    try:
        return schema.model_validate_json(json_bytes(path))
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror}; build the dataset again") from None
    except ValidationError as error:
        raise DatasetError(f"{path}: {first_problem(error)}: {_BUILD_AGAIN}") from None
