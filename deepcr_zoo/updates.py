"""Registry updates without a release: lock and cards from the Hub, kept in the user's data beside those that ship.

An update is kept under its commit, and ``current.json`` names the one that counts. It may add names and versions, and alters
none.
"""

from __future__ import annotations

import datetime
import shutil
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field, ValidationError

from deepcr_zoo import lockfiles, paths
from deepcr_zoo.cards import read_card
from deepcr_zoo.documents import Document, as_json
from deepcr_zoo.errors import DeepcrZooError, OutputError, SourceWarning, UpdateError
from deepcr_zoo.files import new_folder, sweep_leftovers, write_atomically
from deepcr_zoo.merging import alterations, changed_defaults, merged
from deepcr_zoo.registry import ORGANISATION, HubPin, Origin, Registry, read_registry

if TYPE_CHECKING:
    from deepcr_zoo.hub.repositories import HubRepository

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
    return paths.user_data_root() / "registry"


def shipped_registry() -> Registry:
    """The registry that ships with this package (or stands in this checkout)."""
    root = paths.data_root()
    return read_registry(root, Origin(root, "shipped"))


def current() -> KeptUpdate | None:
    """The update that counts, if there is one.

    Raises
    ------
    UpdateError
        If its record is damaged.
    """
    path = folder() / CURRENT
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
    from deepcr_zoo.hub.repositories import HubRepository

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
    from deepcr_zoo.hub import downloads

    files = {name: file for name, file in remote.files(commit).items() if lockfiles.is_lock_file(name)}
    if not files or len(files) > lockfiles.MOST_FILES:
        raise UpdateError(f"{remote.address} at commit {commit}: expected the files of a registry, got {len(files)}")
    for name, file in files.items():
        lockfiles.check_size(name, file.size)
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
