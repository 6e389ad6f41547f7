"""Registry updates without a release: lock and cards from the Hub, kept in the user's data beside those that ship.

An update is kept under its commit, and ``current.json`` names the one that counts. It may add names and versions, and alters
none.
"""

from __future__ import annotations

import datetime
import re
import shutil
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field, ValidationError

from deepcr_zoo import files
from deepcr_zoo.documents import Document, as_json
from deepcr_zoo.errors import DeepcrZooError, OutputError, SourceWarning, UpdateError
from deepcr_zoo.files import new_folder, sweep_leftovers, write_atomically
from deepcr_zoo.zoo.cards import read_card
from deepcr_zoo.zoo.names import NAME_PATTERN, TASKS, VERSION_PATTERN, version_key
from deepcr_zoo.zoo.registry import (
    ORGANISATION,
    HubPin,
    LockedVersion,
    ModelEntry,
    Origin,
    Registry,
    check_consistency,
    read_registry,
)

MEANING = ("released", "architecture", "weights", "test_vector", "card")
"""Fields of a version that never change."""


def alterations(old: Registry, new: Registry, *, complete: bool) -> list[str]:
    """Where a registry alters what another has already said, one sentence each; none if it only adds.

    Parameters
    ----------
    old, new : Registry
    complete : bool
        Whether all that `old` has must be in `new`, too.
    """
    found = [text for entry in old.entries.values() for text in _of_entry(entry, new.entries.get(entry.reference), complete)]
    return found or (_other_meanings(old, new) if complete else [])


def _other_meanings(old: Registry, new: Registry) -> list[str]:
    """Names without a task that would mean another model, because a name was added for another task."""
    names = {name for entry in old.entries.values() for name in (entry.name, *(alias.name for alias in entry.aliases))}

    def meaning(registry: Registry, name: str) -> str:
        return registry.resolve(name).entry.reference

    changed = [name for name in sorted(names) if meaning(old, name) != meaning(new, name)]
    return [f"{name}: expected {meaning(old, name)}, got {meaning(new, name)}" for name in changed]


def changed_defaults(old: Registry, new: Registry) -> list[str]:
    """Which models would have another default version, one sentence each."""
    pairs = [(entry, new.entries.get(entry.reference)) for entry in old.entries.values()]
    return [
        f"{before.reference}: default: expected {before.default}, got {after.default}"
        for before, after in pairs
        if after is not None and after.default != before.default
    ]


def _of_entry(old: ModelEntry, new: ModelEntry | None, complete: bool) -> Iterator[str]:
    if new is None:
        if complete:
            yield f"{old.reference}: is missing"
        return
    aliases = {alias.name: alias for alias in new.aliases}
    for alias in old.aliases:
        if alias.name in aliases and aliases[alias.name].version != alias.version:
            yield f"{old.reference}: alias {alias.name}: expected what it has always meant"
        elif alias.name not in aliases and complete:
            yield f"{old.reference}: alias {alias.name}: is missing"
    for version, locked in old.versions.items():
        if version in new.versions:
            yield from _of_version(f"{old.reference}@{version}", locked, new.versions[version], complete)
        elif complete:
            yield f"{old.reference}@{version}: is missing"


def _of_version(reference: str, old: LockedVersion, new: LockedVersion, complete: bool) -> Iterator[str]:
    for field in MEANING:
        if getattr(new, field) != getattr(old, field):
            yield f"{reference}: {field}: expected {getattr(old, field)}, got {getattr(new, field)}"
    if old.sources.hub is not None and new.sources.hub not in (None, old.sources.hub):
        yield f"{reference}: sources.hub: expected {old.sources.hub}, got {new.sources.hub}"
    for field, before, after in (
        ("sources.hub", old.sources.hub, new.sources.hub),
        ("warning", old.warning, new.warning),
        ("deprecated", old.deprecated, new.deprecated),
    ):
        if complete and before is not None and after is None:
            yield f"{reference}: {field}: is missing"


def merged(base: Registry, addition: Registry) -> Registry:
    """Both registries as one: where they overlap `base` counts, but for sources and cautions that it lacks.

    Parameters
    ----------
    base, addition : Registry
        Without `alterations`.

    Raises
    ------
    InvalidDocumentError
        If a name that was added is taken.
    UpdateError
        If a name would mean another model than in `base`.
    """
    keys = sorted(base.entries.keys() | addition.entries.keys(), key=lambda key: (TASKS.index(_task(key)), key))
    entries, elsewhere = {}, dict(base.elsewhere)
    for key in keys:
        old, new = base.entries.get(key), addition.entries.get(key)
        entries[key] = _merged(old, _without_bytes(new)) if old and new else old or _without_bytes(addition.entries[key])
        known = old.versions if old else {}
        elsewhere |= {f"{key}@{version}": addition.home for version in entries[key].versions if version not in known}
    grown = replace(base, entries=entries, elsewhere=elsewhere)
    check_consistency(grown)
    if others := _other_meanings(base, grown):
        raise UpdateError(f"{addition.home.label} alters what names mean, and may only add: {'; '.join(others)}")
    return grown


def _task(key: str) -> str:
    return key.partition("/")[0]


def _without_bytes(entry: ModelEntry) -> ModelEntry:
    """What is added brings no bundled weights, whatever it says of the package that it comes from."""
    versions = {
        name: locked.model_copy(update={"sources": locked.sources.model_copy(update={"seed": False})})
        for name, locked in entry.versions.items()
    }
    return entry.model_copy(update={"versions": versions})


def _merged(old: ModelEntry, new: ModelEntry) -> ModelEntry:
    versions = {name: _with_additions(locked, new.versions.get(name)) for name, locked in old.versions.items()}
    versions |= {name: new.versions[name] for name in sorted(new.versions.keys() - old.versions.keys(), key=version_key)}
    known = {alias.name for alias in old.aliases}
    aliases = [*old.aliases, *(alias for alias in new.aliases if alias.name not in known)]
    return old.model_copy(update={"versions": versions, "aliases": aliases})


def _with_additions(old: LockedVersion, new: LockedVersion | None) -> LockedVersion:
    if new is None:
        return old
    sources = old.sources.model_copy(update={"hub": old.sources.hub or new.sources.hub})
    return old.model_copy(
        update={
            "sources": sources,
            "warning": new.warning or old.warning,
            "deprecated": new.deprecated or old.deprecated,
        }
    )


MOST_FILES = 10_000
MOST_BYTES = 1_000_000
"""Of a file; the largest card has a few thousand."""

_ALLOWED = re.compile(
    rf"zoo/(mask|inpaint)/{NAME_PATTERN}\.yaml"
    rf"|cards/(mask|inpaint)/{NAME_PATTERN}/{VERSION_PATTERN}(\.results|\.recipe)?\.yaml"
    r"|zoo/training_visits\.yaml|zoo/weights/LICENSE\.[A-Za-z0-9]+|LICENSE"
)


def is_lock_file(name: str) -> bool:
    """Whether a file of this name, relative to the registry's root, is part of a registry; nothing else is ever written."""
    return _ALLOWED.fullmatch(name) is not None


def lock_files(root: Path) -> dict[str, bytes]:
    """Every such file below a registry's root, by name, in stable order.

    Raises
    ------
    UpdateError
        If one is too large.
    """
    names = [path.relative_to(root).as_posix() for part in ("zoo", "cards", "LICENSE") for path in _files(root / part)]
    found = {name: (root / name).read_bytes() for name in sorted(names) if is_lock_file(name)}
    for name, data in found.items():
        check_size(name, len(data))
    return found


def check_size(name: str, size: int | None) -> None:
    """Refuse a file that no registry could have.

    Raises
    ------
    UpdateError
    """
    if size is None or size > MOST_BYTES:
        raise UpdateError(f"{name}: expected at most {MOST_BYTES:,} bytes, got {size}: nothing was changed")


def _files(path: Path) -> list[Path]:
    return [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]


if TYPE_CHECKING:
    from deepcr_zoo.zoo.hub.repositories import HubRepository

REPOSITORY = f"{ORGANISATION}/registry"
"""Where the zoo's keepers publish lock and cards."""

CURRENT = "current.json"


class KeptUpdate(Document):
    """``current.json``: which update counts."""

    repo: str
    commit: str = Field(pattern="^[0-9a-f]{40}$")
    fetched: str = Field(description="UTC")


@dataclass(frozen=True)
class Update:
    """What an update brought.

    Attributes
    ----------
    kept : KeptUpdate
    added : list of str
        ``task/name@version`` of what the registry did not have before.
    is_new : bool
        Whether it is another commit than before.
    """

    kept: KeptUpdate
    added: list[str]
    is_new: bool


def folder() -> Path:
    """Where updates are kept."""
    return files.user_data_root() / "registry"


def current_file() -> Path:
    """Return the path of the file that names the kept update."""
    return folder() / CURRENT


def shipped_registry() -> Registry:
    """The registry that ships with this package (or stands in this checkout)."""
    root = files.data_root()
    return read_registry(root, Origin(root, "shipped"))


def current() -> KeptUpdate | None:
    """The update that counts, if there is one.

    Raises
    ------
    UpdateError
        If its record is damaged.
    """
    path = current_file()
    try:
        return KeptUpdate.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError):
        raise UpdateError(f"{path} is damaged: run 'deepcr-zoo update' or remove it") from None


def with_update(shipped: Registry) -> Registry:
    """The registry with the update that was kept; one that is damaged, or alters something, is left out with a warning."""
    try:
        if (kept := current()) is None:
            return shipped
        registry = _read_kept(kept)
        _refuse_alterations(registry, alterations(shipped, registry, complete=False))
        return merged(shipped, registry)  # cards are checked when they are read
    except DeepcrZooError as error:
        warnings.warn(f"the registry update in {folder()} is not used: {error}", SourceWarning, stacklevel=2)
        return shipped


def update(repository: str = REPOSITORY) -> Update:
    """Fetch the newest lock and cards from the Hub, check them, and keep them.

    Parameters
    ----------
    repository : str
        ORG/NAME.

    Raises
    ------
    HubUnreachableError, HubError
        If the Hub does not answer, or refuses.
    InvalidDocumentError, IntegrityError
        If an entry or a card breaks its schema or its hash.
    UpdateError
        If the update alters something, or is incomplete.
    OutputError
        If it cannot be kept.
    """
    from deepcr_zoo.zoo.hub.repositories import HubRepository

    shipped, before = shipped_registry(), _readable_current()
    remote = HubRepository(repository)
    commit = remote.head()
    kept = KeptUpdate(repo=repository, commit=commit, fetched=f"{datetime.datetime.now(datetime.UTC):%Y-%m-%dT%H:%M:%SZ}")
    try:
        sweep_leftovers(folder())
        if not _is_whole(kept):
            shutil.rmtree(folder() / commit, ignore_errors=True)
            with new_folder(folder() / commit) as scratch:
                fetch_lock(remote, commit, scratch)
                _checked(_read(scratch, kept), shipped, before)
        fetched = _checked(_read_kept(kept), shipped, before)
        write_atomically(as_json(kept), folder() / CURRENT)
    except OSError as error:
        raise OutputError(f"{folder()}: cannot be written: {error.strerror}; DEEPCR_ZOO_DATA names another folder") from None
    _forget_others({commit, *([] if before is None else [before.root.name])})
    known = set((shipped if before is None else merged(shipped, before)).references())
    added = [reference for reference in merged(shipped, fetched).references() if reference not in known]
    return Update(kept, added, is_new=before is None or before.root.name != commit)


def forget() -> None:
    """Go back to the registry as it ships."""
    shutil.rmtree(folder(), ignore_errors=True)


def _readable_current() -> Registry | None:
    """The update before; a damaged one is no reason not to fetch another."""
    try:
        kept = current()
        return None if kept is None else _read_kept(kept)
    except DeepcrZooError:
        return None


def _read_kept(kept: KeptUpdate) -> Registry:
    root = folder() / kept.commit
    if not root.is_dir():
        raise UpdateError(f"{root} is missing: run 'deepcr-zoo update'")
    return _read(root, kept)


def _read(root: Path, kept: KeptUpdate) -> Registry:
    return read_registry(root, Origin(root, f"update {kept.commit[:8]}"))


def _is_whole(kept: KeptUpdate) -> bool:
    """Whether an update is here already, undamaged."""
    try:
        registry = _read_kept(kept)
        for reference in registry.references():
            read_card(registry.resolve(reference))
    except DeepcrZooError:
        return False
    return True


def _checked(fetched: Registry, shipped: Registry, before: Registry | None) -> Registry:
    """The fetched registry, if it is valid, only adds, and changes no default.

    What has been fetched before may have had another default than a package that was installed since.
    """
    problems = [*alterations(shipped, fetched, complete=False), *changed_defaults(shipped, fetched)]
    if before is not None:
        since = {key: entry for key, entry in before.entries.items() if key not in shipped.entries}
        problems += alterations(before, fetched, complete=True)
        problems += changed_defaults(replace(before, entries=since), fetched)
    _refuse_alterations(fetched, problems)
    for reference in fetched.references():
        read_card(fetched.resolve(reference))
    merged(shipped, fetched)
    return fetched


def _refuse_alterations(fetched: Registry, problems: Sequence[str]) -> None:
    if problems:
        raise UpdateError(
            f"{fetched.home.label} alters what is there, and an update may only add: "
            f"{'; '.join(dict.fromkeys(problems))}; nothing was changed (a newer release of deepcr-zoo may know more)"
        )


def fetch_lock(remote: HubRepository, commit: str, root: Path) -> None:
    """Write every registry file of a commit below a folder, each as git has it.

    Raises
    ------
    UpdateError
        If the commit has no registry, or the Hub gives other bytes.
    HubUnreachableError, HubError
        If the Hub does not answer, or refuses.
    """
    from deepcr_zoo.zoo.hub import downloads

    files = {name: file for name, file in remote.files(commit).items() if is_lock_file(name)}
    if not files or len(files) > MOST_FILES:
        raise UpdateError(f"{remote.address} at commit {commit}: expected the files of a registry, got {len(files)}")
    for name, file in files.items():
        check_size(name, file.size)
    contents = downloads.download_all(HubPin(repo=remote.name, commit=commit), {name: files[name].size for name in files})
    for name, data in contents.items():
        if not files[name].holds(data):
            raise UpdateError(f"{remote.address} at commit {commit}: {name}: got other bytes than the commit has")
        write_atomically(data, root / name)


def _forget_others(kept: set[str]) -> None:
    """Remove what no process uses any more; one that has begun before may still use the update before."""
    for other in folder().iterdir():
        if other.is_dir() and other.name not in kept and not other.name.startswith("."):
            shutil.rmtree(other, ignore_errors=True)
