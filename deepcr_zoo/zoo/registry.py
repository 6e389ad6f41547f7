"""The registry (``zoo/``): a lock from name and version to bytes, architecture and card."""

from __future__ import annotations

import datetime
import difflib
import fnmatch
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from deepcr_zoo import files
from deepcr_zoo.documents import Document, optional, read_document
from deepcr_zoo.errors import InvalidDocumentError, UnknownModelError
from deepcr_zoo.zoo import names
from deepcr_zoo.zoo.names import NAME_PATTERN, TASKS, VERSION_PATTERN, ModelRequest, Task, version_key

if TYPE_CHECKING:
    from deepcr_zoo.zoo.cards import Card

MOST_TEXT = 500  # characters of a note or caution, which is one sentence or two
MOST_BYTES = 10_000_000_000  # largest accepted file of a model; the largest of the zoo has two million bytes
ORGANISATION = "deepcr-zoo"  # the Hub organisation that holds the zoo's repositories
WEIGHTS_FILE = "model.safetensors"
TEST_VECTOR_FILE = "test_vector.safetensors"
CARD_FILE = "card.yaml"
CONFIG_FILE = "config.json"  # of a repository on the Hub
LICENCE_FILE = "LICENSE"
REPOSITORY_PATTERN = r"^[A-Za-z0-9_][\w.-]*/[A-Za-z0-9_][\w.-]*$"  # ORG/NAME of a repository on the Hub
Name = Annotated[str, Field(pattern=f"^{NAME_PATTERN}$")]
Version = Annotated[str, Field(pattern=f"^{VERSION_PATTERN}$")]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class LockedFile(Document):
    """Hash and size of the only accepted bytes of a file."""

    sha256: Sha256 = Field(description="SHA-256 of the file")
    size: int = Field(gt=0, le=MOST_BYTES, description="size of the file in bytes")

    @classmethod
    def of(cls, data: bytes) -> LockedFile:
        """Return the lock for these bytes."""
        return cls(sha256=hashlib.sha256(data).hexdigest(), size=len(data))

    def mismatch(self, data: bytes) -> str | None:
        """Describe how `data` differs from the lock; None if it does not."""
        if len(data) != self.size:
            return f"expected {self.size} bytes, found {len(data)}"
        found = hashlib.sha256(data).hexdigest()
        return None if found == self.sha256 else f"expected sha256 {self.sha256}, found {found}"


class Architecture(Document):
    """One member of the UNet family; the task fixes its input channels (mask: 1, inpaint: 2)."""

    depth: Literal[2, 3] = Field(description="number of resolutions, 2 or 3")
    hidden: int = Field(gt=0, le=1024, description="channels at full resolution")
    norm: Literal["batch", "none"] = Field(description="normalisation after each convolution")
    outputs: Literal[1, 2] = optional(1, "2 for inpainting: the value, and the logarithm of its uncertainty")
    stride: Literal[1, 2] = optional(1, "2 for speed: each block of 2x2 pixels is one of four times as many channels")

    @property
    def description(self) -> str:
        """In words, for cards."""
        blocks = f" of blocks of {self.stride}x{self.stride} pixels" if self.stride > 1 else ""
        return f"UNet{blocks} of depth {self.depth}, {self.hidden} channels, normalisation {self.norm}"


class HubPin(Document):
    """Location of a version on the Hub: a full commit, because branches and tags can move."""

    repo: str = Field(pattern=REPOSITORY_PATTERN, description="Hub repository, ORG/NAME")
    commit: str = Field(pattern="^[0-9a-f]{40}$", description="full commit that holds the files")


class Sources(Document):
    """Sources of the bytes besides the cache and a mirror."""

    seed: bool = Field(description="whether zoo/weights/ holds a bundled copy")
    hub: HubPin | None = Field(default=None, description="the Hub's copy, once published")


class LockedVersion(Document):
    """Everything that one version of a model stands for; never altered after its release."""

    released: datetime.date = Field(description="day on which this version entered the zoo")
    architecture: Architecture
    weights: LockedFile
    test_vector: LockedFile
    card: LockedFile
    sources: Sources
    warning: str | None = Field(
        default=None, max_length=MOST_TEXT, description="caution shown whenever this version is used"
    )
    deprecated: str | None = Field(
        default=None, max_length=MOST_TEXT, description="why not to use it any more, and what to use instead"
    )

    @property
    def cautions(self) -> list[str]:
        """Warning and deprecation, if any."""
        texts = [self.warning, f"deprecated: {self.deprecated}" if self.deprecated else None]
        return [text for text in texts if text]


class Alias(Document):
    name: Name
    version: Version | None = Field(default=None, description="version the alias means; none = the default")
    note: str = Field(max_length=MOST_TEXT, description="why the alias exists; shown when it is used")


class ModelEntry(Document):
    """One file of the registry: ``zoo/<task>/<name>.yaml``."""

    name: Name
    task: Task
    summary: str = Field(description="one line for tables")
    default: Version = Field(description="version meant when none is given")
    aliases: list[Alias] = Field(default_factory=list, max_length=1000)  # every command looks at each
    versions: dict[Version, LockedVersion] = Field(min_length=1)

    @model_validator(mode="after")
    def _versions_exist(self) -> ModelEntry:
        for version in [self.default, *(alias.version for alias in self.aliases if alias.version)]:
            if version not in self.versions:
                raise ValueError(f"a version among {', '.join(self.versions)} wherever one is named, not {version}")
        return self

    @model_validator(mode="after")
    def _pins_its_own_repository(self) -> ModelEntry:
        for version, locked in self.versions.items():
            hub = locked.sources.hub
            if hub is not None and hub.repo.partition("/")[2] != f"{self.task}-{self.name}":
                raise ValueError(f"a Hub repository ORG/{self.task}-{self.name} at versions.{version}, not {hub.repo}")
        return self

    @property
    def reference(self) -> str:
        """``task/name``."""
        return f"{self.task}/{self.name}"

    @property
    def alias_texts(self) -> list[str]:
        """The aliases, each with its version where that is not the default."""
        usual = (None, self.default)
        return [one.name + ("" if one.version in usual else f" (= {one.version})") for one in self.aliases]

    @property
    def hub_repository(self) -> str:
        """Hub repository under which the zoo publishes this model."""
        return f"{ORGANISATION}/{self.task}-{self.name}"


class RankedModel(Document):
    model: str = Field(pattern="^(mask|inpaint)/", description="task/name")
    reason: str = Field(description="why it has this rank")


class Preference(Document):
    """Models for one task on one detector, best first; * stands for any detector or filter."""

    task: Task
    telescope: str
    instrument: str
    detector: str
    filters: list[str] = Field(min_length=1)
    models: list[RankedModel] = Field(min_length=1)

    def covers(self, task: Task, telescope: str, instrument: str, detector: str, filter_name: str) -> bool:
        """True if this block applies to such an exposure."""
        return (
            (self.task, self.telescope, self.instrument) == (task, telescope, instrument)
            and fnmatch.fnmatchcase(detector, self.detector)
            and any(fnmatch.fnmatchcase(filter_name, known) for known in self.filters)
        )


class Preferences(Document):
    """``zoo/preferences.yaml``."""

    preferences: list[Preference]
    foreign: list[RankedModel] = Field(
        default=[],
        description="models for any camera, best first for each task, after those for the camera itself",
    )


@dataclass(frozen=True)
class Origin:
    """Origin of registry entries: a folder with ``zoo/`` and ``cards/``, and a label such as ``package keckcr 1.0``.

    Registries other than the zoo's own have a prefix of their names, `registry`, and may have a mirror.
    """

    root: Path
    label: str
    registry: str | None = None
    mirror: Path | None = None


@dataclass(frozen=True)
class ResolvedModel:
    """One version of one registry entry.

    Attributes
    ----------
    entry : ModelEntry
    version : str
    notes : tuple of str
        How each omitted part of the name was chosen; shown to the user.
    origin : Origin
    """

    entry: ModelEntry
    version: str
    notes: tuple[str, ...]
    origin: Origin

    @property
    def root(self) -> Path:
        """Folder with the ``zoo/`` and ``cards/`` of the registry."""
        return self.origin.root

    @property
    def locked(self) -> LockedVersion:
        """The lock of this version."""
        return self.entry.versions[self.version]

    @property
    def reference(self) -> str:
        """Unambiguous name, ``task/name@version``, with the prefix of any other registry than the zoo's own."""
        prefix = f"{self.origin.registry}:" if self.origin.registry else ""
        return f"{prefix}{self.entry.reference}@{self.version}"

    def locked_file(self, filename: str) -> LockedFile:
        """Return the lock of the weights or of the test vector."""
        return {WEIGHTS_FILE: self.locked.weights, TEST_VECTOR_FILE: self.locked.test_vector}[filename]

    @property
    def folder(self) -> Path:
        """Relative folder of this version in the seed or mirror of its own registry: ``task/name/version``."""
        return Path(self.entry.task, self.entry.name, self.version)

    @property
    def shelf(self) -> Path:
        """Relative folder of this version in the cache and in mirrors that `pull` writes: with the registry's prefix."""
        return Path(self.origin.registry, self.folder) if self.origin.registry else self.folder

    @property
    def seed_folder(self) -> Path:
        """Folder of the files that its registry bundles."""
        return self.root / "zoo" / "weights" / self.folder

    @property
    def card_path(self) -> Path:
        """Path of the card's YAML file."""
        return self.root / "cards" / self.entry.task / self.entry.name / f"{self.version}.yaml"

    @property
    def cautions(self) -> list[str]:
        """Warning and deprecation of this version, if any, with its name."""
        return [f"{self.reference}: {text}" for text in self.locked.cautions]


@dataclass(frozen=True)
class FolderModel(ResolvedModel):
    """A model that no registry lists, with a folder of its own (`root`): that of a finished run, or one from the Hub.

    `called` is the text that products and messages call it by.
    """

    called: str

    @classmethod
    def of(cls, card: Card, locked: LockedVersion, origin: Origin, called: str) -> FolderModel:
        """Return the model of a card, as the only version of an entry of its own."""
        identity = card.identity
        entry = ModelEntry(
            name=identity.name,
            task=identity.task,
            summary=identity.title,
            default=identity.version,
            versions={identity.version: locked},
        )
        return cls(entry, identity.version, (), origin, called)

    @property
    def reference(self) -> str:
        return self.called

    @property
    def seed_folder(self) -> Path:
        return self.root

    @property
    def card_path(self) -> Path:
        return self.root / CARD_FILE


@dataclass(frozen=True)
class Registry:
    """A consistent set of entries.

    Attributes
    ----------
    home : Origin
        Origin of every version that is not in `elsewhere`.
    entries : dict of str to ModelEntry
        Entries by ``task/name``.
    preferences : list of Preference
        Ranked models for each detector and filter.
    elsewhere : mapping of str to Origin
        Origins of versions added by an update, by ``task/name@version``.
    foreign : list of RankedModel
        Models for any camera, best first for each task; those for the camera itself come before them.
    others : callable
        Return the registries of names with a prefix; called only for such names.
    """

    home: Origin
    entries: dict[str, ModelEntry]
    preferences: list[Preference]
    elsewhere: Mapping[str, Origin] = field(default_factory=dict)
    foreign: Sequence[RankedModel] = ()
    others: Callable[[], Mapping[str, Registry]] = dict

    @property
    def root(self) -> Path:
        """Folder with the ``zoo/`` and ``cards/`` of `home`."""
        return self.home.root

    def resolve(self, name: str | ModelRequest) -> ResolvedModel:
        """Return the version of a model that a name stands for.

        Raises
        ------
        InvalidNameError
            If a text does not follow the grammar.
        UnknownModelError
            If no entry, alias or version has this name.
        """
        request = name if isinstance(name, ModelRequest) else names.parse(name)
        if request.registry is not None:
            return self._other(request.registry, request).resolve(replace(request, registry=None))
        notes: list[str] = []
        entry, pinned = self._find(request, notes)
        version = self._choose_version(entry, request, pinned, notes)
        return ResolvedModel(entry, version, tuple(notes), self.origin(f"{entry.reference}@{version}"))

    def origin(self, reference: str) -> Origin:
        """Return the origin of a version, ``task/name@version``."""
        return self.elsewhere.get(reference, self.home)

    def _other(self, prefix: str, request: ModelRequest) -> Registry:
        others = self.others()
        if prefix not in others:
            known = f"there are {', '.join(others)}" if others else "there is none"
            raise UnknownModelError(
                f"{request.text}: no registry called {prefix!r} is installed or configured, {known}: "
                "leave the prefix out for the zoo's own"
            )
        return others[prefix]

    def find(self, pattern: str = "*") -> list[ModelEntry]:
        """Return the entries whose ``name``, ``task/name`` or alias matches a wildcard pattern; case is ignored."""

        def matches(entry: ModelEntry) -> bool:
            known = [entry.name, entry.reference, *(alias.name for alias in entry.aliases)]
            return any(fnmatch.fnmatchcase(name.lower(), pattern.lower()) for name in known)

        return [entry for entry in self.entries.values() if matches(entry)]

    def references(self) -> list[str]:
        """Return ``task/name@version`` of every version of every model, in stable order."""
        return [f"{entry.reference}@{version}" for entry in self.entries.values() for version in entry.versions]

    def ranking(self, task: Task, telescope: str, instrument: str, detector: str, filter_name: str) -> list[RankedModel]:
        """Return the models for an exposure, best first; empty if there are none.

        Parameters
        ----------
        task : {"mask", "inpaint"}
        telescope, instrument, detector, filter_name : str
            Values of the FITS keywords TELESCOP, INSTRUME, DETECTOR and FILTER*.
        """
        for preference in self.preferences:
            if preference.covers(task, telescope, instrument, detector, filter_name):
                return preference.models
        return []

    def for_any_camera(self, task: Task) -> list[RankedModel]:
        """Return the models for any camera, best first."""
        return [one for one in self.foreign if one.model.startswith(f"{task}/")]

    def _find(self, request: ModelRequest, notes: list[str]) -> tuple[ModelEntry, str | None]:
        tasks = (request.task,) if request.task else TASKS
        candidates = [entry for task in tasks if (entry := self.entries.get(f"{task}/{request.name}"))]
        if candidates:
            if len(candidates) > 1:
                notes.append(f"{request.name} names a mask and an inpainting network; the mask network is meant")
            return candidates[0], None
        for entry in (entry for task in tasks for entry in self.entries.values() if entry.task == task):
            for alias in entry.aliases:
                if alias.name == request.name:
                    notes.append(f"{alias.name} is an alias: {alias.note}")
                    return entry, alias.version
        near = self._near_names(request)
        raise UnknownModelError(f"{request.text}: no such model{near}; run 'deepcr-zoo list' to see them all")

    def _choose_version(self, entry: ModelEntry, request: ModelRequest, pinned: str | None, notes: list[str]) -> str:
        wanted = request.version
        if pinned and wanted and pinned != wanted and not pinned.startswith(f"{wanted}."):
            raise UnknownModelError(
                f"{request.name} is an alias of {entry.reference}@{pinned} alone; "
                f"write {entry.reference}@{wanted} to name another version of that model"
            )
        if pinned:
            return pinned
        if wanted is None:
            others = [version for version in entry.versions if version != entry.default]
            also = f" (there is also {', '.join(others)})" if others else ""
            notes.append(f"version {entry.default} is the default{also}")
            return entry.default
        if wanted in entry.versions:
            return wanted
        matching = [version for version in entry.versions if version.startswith(f"{wanted}.")]
        if "." in wanted or not matching:
            raise UnknownModelError(f"{entry.reference} has no version {wanted}; it has {', '.join(entry.versions)}")
        newest = max(matching, key=version_key)
        notes.append(f"version {newest} is the newest {wanted}.x")
        return newest

    def _near_names(self, request: ModelRequest) -> str:
        elsewhere = [f"{task}/{request.name}" for task in TASKS if f"{task}/{request.name}" in self.entries]
        for prefix, registry in self.others().items():
            elsewhere += [f"{prefix}:{entry.reference}" for entry in registry.entries.values() if entry.name == request.name]
        known: dict[str, str] = {}
        for entry in self.entries.values():
            if request.task in (None, entry.task):
                prefix = f"{entry.task}/" if request.task else ""
                known |= {name.lower(): prefix + name for name in [entry.name, *(a.name for a in entry.aliases)]}
        near = difflib.get_close_matches(request.name.lower(), known, n=3, cutoff=0.5)
        suggestions = elsewhere or [known[name] for name in near]
        return f"; did you mean {' or '.join(suggestions)}?" if suggestions else ""


def read_registry(root: Path, origin: Origin | None = None, *, may_have_links: bool = False) -> Registry:
    """Read every entry under ``root/zoo`` and check that they agree; the default origin is the folder.

    A registry that others offer may not have symbolic links: they could lead to any file of this machine.
    """
    if not may_have_links:
        refuse_links_in(root)
    entries: dict[str, ModelEntry] = {}
    for task in TASKS:
        for path in entry_files(root, task):
            entry = read_document(path, ModelEntry, root)
            if (entry.task, entry.name) != (task, path.stem):
                where, expected = path.relative_to(root), f"{task}/{path.stem}"
                raise InvalidDocumentError(f"{where}: task and name: expected {expected}, got {entry.reference}")
            entries[entry.reference] = entry
    ranked = root / "zoo" / "preferences.yaml"
    with reporting_unreadable(ranked):
        has_ranking = files.is_file(ranked) or os.path.lexists(ranked)  # what is no file is named
    ranking = read_document(ranked, Preferences, root) if has_ranking else Preferences(preferences=[])
    registry = Registry(origin or Origin(root, str(root)), entries, ranking.preferences, foreign=ranking.foreign)
    check_consistency(registry)
    return registry


def entry_files(root: Path, task: Task) -> list[Path]:
    """Return the files of a registry's entries, in order; a folder that cannot be read never looks empty."""
    folder = root / "zoo" / task
    with reporting_unreadable(folder):
        return (
            sorted(folder / name for name in os.listdir(folder) if name.endswith(".yaml")) if files.is_folder(folder) else []
        )


def refuse_links_in(root: Path) -> None:
    """Raise an error for a link in a registry, which could lead to any file of this machine."""
    for name in ("zoo", "cards", "LICENSE"):
        with reporting_unreadable(root / name):
            files.refuse_links_below(root / name)


@contextmanager
def reporting_unreadable(path: Path) -> Iterator[None]:
    """Turn an OSError into an error that names what cannot be read."""
    try:
        yield
    except OSError as error:
        raise InvalidDocumentError(f"{error.filename or path}: cannot be read: {error.strerror}") from None


def check_consistency(registry: Registry) -> None:
    """Raise `InvalidDocumentError` if two entries share a name or a preference names an unknown model.

    Names that differ in capitals alone count as shared: they would be one file on some machines, and pass for each other.
    """
    taken: set[str] = set()
    named = [(entry, "name", entry.name) for entry in registry.entries.values()]
    named += [(entry, "aliases", alias.name) for entry in registry.entries.values() for alias in entry.aliases]
    for entry, place, name in named:
        key = f"{entry.task}/{name}".casefold()
        if key in taken:
            raise InvalidDocumentError(f"zoo/{entry.reference}.yaml: {place}: expected an unused name, got {name!r}")
        taken.add(key)
    blocks: list[tuple[Task | None, list[RankedModel]]] = [(block.task, block.models) for block in registry.preferences]
    for task, models in [*blocks, (None, registry.foreign)]:
        for ranked in models:
            if ranked.model not in registry.entries or not ranked.model.startswith(f"{task}/" if task else ""):
                wanted = "a model of this registry" + (f" for the task {task}" if task else "")
                raise InvalidDocumentError(f"zoo/preferences.yaml: models: expected {wanted}, got {ranked.model!r}")
