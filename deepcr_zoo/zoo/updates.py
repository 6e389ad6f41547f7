"""Registry updates without a release: lock and cards from the Hub, kept in the user's data.

Each update is kept under its commit, and ``current.json`` names the one in use. It may add names and versions but alter
none.
"""

from __future__ import annotations

import datetime
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import Field, ValidationError

from deepcr_zoo import files, locations
from deepcr_zoo.documents import Document, as_json, is_of_others
from deepcr_zoo.errors import DeepcrZooError, OutputError, SourceWarning, UpdateError, warn
from deepcr_zoo.files import new_folder, read_file, sweep_leftovers, write_atomically, write_together
from deepcr_zoo.zoo.cards import read_card
from deepcr_zoo.zoo.hub import downloads
from deepcr_zoo.zoo.hub.repositories import HubRepository
from deepcr_zoo.zoo.merging import alterations, changed_defaults, merged
from deepcr_zoo.zoo.names import NAME_PATTERN, VERSION_PATTERN
from deepcr_zoo.zoo.records import altered_records, read_records
from deepcr_zoo.zoo.registry import ORGANISATION, HubPin, Origin, Registry, read_registry

REPOSITORY = f"{ORGANISATION}/registry"  # Hub repository of the zoo's lock and cards
CURRENT = "current.json"
ELSEWHERE = "name another folder with DEEPCR_ZOO_DATA"
MOST_FILES = 10_000
MOST_BYTES = 1_000_000  # largest accepted registry file; the largest card has a few thousand bytes
MOST_BYTES_IN_ALL = 100_000_000  # of an update, which is held in memory until it is checked

_COMMIT = re.compile("[0-9a-f]{40}")
_LOCK_FILE = re.compile(
    rf"zoo/(mask|inpaint)/{NAME_PATTERN}\.yaml"
    rf"|cards/(mask|inpaint)/{NAME_PATTERN}/{VERSION_PATTERN}(\.results|\.recipe)?\.yaml"
    r"|zoo/training_visits\.yaml|zoo/weights/LICENSE\.[A-Za-z0-9_-]+|LICENSE"
)


class KeptUpdate(Document):
    """``current.json``: the update in use."""

    repo: str
    commit: str = Field(pattern=f"^{_COMMIT.pattern}$")
    fetched: str = Field(description="UTC")


@dataclass(frozen=True)
class Update:
    """A fetched update, the ``task/name@version`` that it adds, and whether its commit differs from the last one's."""

    kept: KeptUpdate
    added: list[str]
    is_new: bool


def is_lock_file(name: str) -> bool:
    """True if a path relative to a registry's root belongs to a registry; no other file is ever written."""
    return _LOCK_FILE.fullmatch(name) is not None


def has_entries(names: Iterable[str]) -> bool:
    """True if one of these paths is an entry of a registry; other repositories have a LICENSE, too."""
    return any(name.startswith("zoo/") and is_lock_file(name) for name in names)


def lock_files(root: Path) -> dict[str, bytes]:
    """Return every registry file below a root, by relative path, in stable order."""
    paths = [path for part in ("zoo", "cards") for path in files.files_below(root / part)] + [root / "LICENSE"]
    names = sorted(path.relative_to(root).as_posix() for path in paths if files.is_file(path))
    found = {name: files.read_below(root, name) for name in names if is_lock_file(name)}
    for name, data in found.items():
        _check_size(name, len(data))
    return found


def _check_size(name: str, size: int | None) -> int:
    if size is None or size > MOST_BYTES:
        raise UpdateError(f"{name}: expected at most {MOST_BYTES:,} bytes, got {size}: nothing was changed")
    return size


def folder() -> Path:
    return locations.user_data_root() / "registry"


def current_file() -> Path:
    return folder() / CURRENT


def shipped_registry() -> Registry:
    """Return the registry that ships with this package, or of this checkout."""
    root = locations.data_root()
    return read_registry(root, Origin(root, "shipped"), may_have_links=True)  # installers may link all files


def current() -> KeptUpdate | None:
    """Return the update in use, if there is one."""
    path = current_file()
    try:
        return KeptUpdate.model_validate_json(read_file(path))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UpdateError(f"{path} cannot be read: {error.strerror}: make it readable") from None
    except ValidationError:
        raise UpdateError(f"{path} is damaged: run 'deepcr-zoo update' or remove it") from None


def with_update(shipped: Registry) -> Registry:
    """Return the registry with the update in use; one that is damaged or alters something is left out with a warning."""
    try:
        if (kept := current()) is None:
            return shipped
        registry = _read_kept(kept)
        _refuse_alterations(registry, alterations(shipped, registry, complete=False))
        return merged(shipped, registry)  # cards are checked when they are read
    except DeepcrZooError as error:
        warn(f"the registry update in {folder()} is not used: {error}", SourceWarning)
        return shipped


def update(repository: str = REPOSITORY) -> Update:
    """Fetch the newest lock and cards from a Hub repository, check them, and keep them."""
    with files.reporting_failures(folder(), ELSEWHERE):
        folder().mkdir(parents=True, exist_ok=True)
        with files.locked(folder()):
            return _update(repository)


def _update(repository: str) -> Update:
    _check_replaceable()
    shipped, before = shipped_registry(), _readable_current()
    remote = HubRepository(repository)
    commit = remote.head()
    kept = KeptUpdate(repo=repository, commit=commit, fetched=f"{datetime.datetime.now(datetime.UTC):%Y-%m-%dT%H:%M:%SZ}")
    sweep_leftovers(folder())
    if not _is_whole(kept):
        if os.path.lexists(folder() / commit):
            files.remove_own_folder(folder() / commit, is_lock_file)
        with new_folder(folder() / commit) as scratch:
            fetch_lock(remote, commit, scratch)
            _check(_read(scratch, kept), shipped, before)
    fetched = _read_kept(kept)
    _check(fetched, shipped, before)
    write_atomically(as_json(kept), current_file())
    _remove_others({commit, *([] if before is None else [before.root.name])})
    known = set((shipped if before is None else merged(shipped, before)).references())
    added = [reference for reference in merged(shipped, fetched).references() if reference not in known]
    return Update(kept, added, is_new=before is None or before.root.name != commit)


def forget() -> None:
    """Remove all updates, so that the shipped registry is in use; files of others stay."""
    with files.reporting_failures(folder(), "make it writable, the update stays in use"):
        if not os.path.lexists(current_file()) and not _kept_commits():
            return
        with files.locked(folder()):
            _check_replaceable()
            current_file().unlink(missing_ok=True)
            for commit in _kept_commits():
                files.remove_own_folder(folder() / commit, is_lock_file)
            sweep_leftovers(folder())


def fetch_lock(remote: HubRepository, commit: str, root: Path) -> None:
    """Write every registry file of a commit below a folder; files that differ from git's hashes raise `UpdateError`."""
    listed = {name: file for name, file in remote.files(commit).items() if is_lock_file(name)}
    if not has_entries(listed) or len(listed) > MOST_FILES:
        raise UpdateError(
            f"{remote.address} at commit {commit}: expected the files of a registry, got {len(listed)} of them"
        )
    sizes = {name: _check_size(name, file.size) for name, file in listed.items()}
    if (total := sum(sizes.values())) > MOST_BYTES_IN_ALL:
        raise UpdateError(
            f"{remote.address} at commit {commit}: expected at most {MOST_BYTES_IN_ALL:,} bytes, got {total:,}"
        )
    contents = downloads.download_all(HubPin(repo=remote.name, commit=commit), sizes)
    for name, data in contents.items():
        if not listed[name].holds(data):
            raise UpdateError(f"{remote.address} at commit {commit}: {name}: got other bytes than the commit has")
    write_together({root / name: data for name, data in contents.items()})


def _readable_current() -> Registry | None:
    """Return the last update; a damaged one is replaced by the next."""
    try:
        kept = current()
        return None if kept is None else _read_kept(kept)
    except DeepcrZooError:
        return None


def _read_kept(kept: KeptUpdate) -> Registry:
    root = folder() / kept.commit
    if not os.path.isdir(root):
        raise UpdateError(f"{root} is missing: run 'deepcr-zoo update'")
    files.refuse_links(root, folder())
    return _read(root, kept)


def _read(root: Path, kept: KeptUpdate) -> Registry:
    return read_registry(root, Origin(root, f"update {kept.commit[:8]}"))


def _is_whole(kept: KeptUpdate) -> bool:
    """True if an update is already kept, undamaged."""
    try:
        _read_cards(_read_kept(kept))
    except DeepcrZooError:
        return False
    return True


def _read_cards(registry: Registry) -> None:
    for reference in registry.references():
        read_card(registry.resolve(reference))
        read_records(registry.resolve(reference))


def _check(fetched: Registry, shipped: Registry, before: Registry | None) -> None:
    """Raise an error if the fetched registry is invalid, alters something or changes a default version.

    An update that was fetched before may have had another default than a package that was installed since.
    """
    problems = [*alterations(shipped, fetched, complete=False), *changed_defaults(shipped, fetched)]
    if before is not None:
        since = {key: entry for key, entry in before.entries.items() if key not in shipped.entries}
        problems += alterations(before, fetched, complete=True)
        problems += changed_defaults(replace(before, entries=since), fetched)
        problems += altered_records(before, fetched)
    _refuse_alterations(fetched, problems)
    _read_cards(fetched)
    merged(shipped, fetched)


def _refuse_alterations(fetched: Registry, problems: Sequence[str]) -> None:
    if problems:
        raise UpdateError(
            f"{fetched.home.label} alters what is there, and an update may only add: "
            f"{'; '.join(dict.fromkeys(problems))}; nothing was changed (a newer release of deepcr-zoo may accept it)"
        )


def _remove_others(kept: set[str]) -> None:
    """Remove old updates, except the last one, which a running process may still use."""
    for commit in _kept_commits():
        if commit not in kept:
            try:
                files.remove_own_folder(folder() / commit, is_lock_file)
            except (OSError, DeepcrZooError) as error:
                warn(f"{folder() / commit}: an old update cannot be removed: {error}", SourceWarning)


def _kept_commits() -> list[str]:
    """Return the names of the folders of updates; others in the user's folder are not of this package."""
    home = folder()
    return sorted(filter(_COMMIT.fullmatch, os.listdir(home))) if files.is_folder(home) else []


def _check_replaceable() -> None:
    """Raise `OutputError` if ``current.json`` is of others."""
    path = current_file()
    if path.is_symlink() or (files.is_file(path) and is_of_others(read_file(path), KeptUpdate)):
        raise OutputError(f"{path}: is not a file of deepcr-zoo: move it away, or {ELSEWHERE}")
