"""Where bytes come from: cache, mirror, bundled seed, Hub, in this order; the registry's lock decides if they are right.

`pull`, which is asked to go and get something, asks the Hub before the seed. The cache, a mirror and the seed are the same
tree, ``<task>/<name>/<version>/<file>``, so each can serve as another.
"""

from __future__ import annotations

import os
import stat
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from deepcr_zoo import files
from deepcr_zoo.errors import IntegrityError, SourceError, SourceWarning, UsageError
from deepcr_zoo.files import write_atomically
from deepcr_zoo.zoo.cards import read_card
from deepcr_zoo.zoo.registries import default_registry
from deepcr_zoo.zoo.registry import CARD_FILE, TEST_VECTOR_FILE, WEIGHTS_FILE, LockedFile, ResolvedModel

Source = Literal["cache", "mirror", "seed", "hub"]
SOURCES: tuple[Source, ...] = get_args(Source)

LOCAL_FIRST: tuple[Source, ...] = SOURCES
HUB_BEFORE_SEED: tuple[Source, ...] = ("cache", "mirror", "hub", "seed")


@dataclass(frozen=True)
class VerifiedFile:
    """Bytes that match the lock.

    Attributes
    ----------
    data : bytes
    source : {"cache", "mirror", "seed", "hub"}
        Who supplied them.
    path : Path or None
        Where they stand now; None if the cache cannot be written to.
    """

    data: bytes
    source: Source
    path: Path | None


def fetch(
    model: ResolvedModel,
    filename: str,
    *,
    source: Source | None = None,
    mirror: str | os.PathLike[str] | None = None,
    keep: bool = True,
    order: Sequence[Source] = LOCAL_FIRST,
) -> VerifiedFile:
    """Get one file of a model from the first source that has it.

    Parameters
    ----------
    model : ResolvedModel
    filename : str
        ``model.safetensors`` or ``test_vector.safetensors``.
    source : {"cache", "mirror", "seed", "hub"}, optional
        Use this source alone.
    mirror : path or file:// address, optional
        Mirror directory; the default is ``DEEPCR_ZOO_MIRROR``.
    keep : bool
        Keep in the cache what comes from a mirror or the Hub.
    order : sequence of {"cache", "mirror", "seed", "hub"}
        Who is asked first.

    Raises
    ------
    IntegrityError
        If a source supplies wrong bytes twice.
    SourceError
        If no source has the file; says why for each.
    """
    reasons = []
    for supplier, read in _suppliers(model, filename, source, mirror, order):
        try:
            data, path, problem = read()
            if problem and supplier == "cache":
                reasons.append(f"cache: a damaged copy {_discard(path, problem)}")
                continue
            if problem:
                data, path, problem = read()
        except SourceError as error:
            reasons.append(f"{supplier}: {error}")
            continue
        if problem:
            raise IntegrityError(
                f"{model.reference}: {filename} from the {supplier} ({path or _hub_address(model)}) is not what the "
                f"registry locked: {problem}; it was refused: replace that copy, or name another --source"
            )
        if keep and supplier in ("mirror", "hub"):
            path = _keep(data, files.cache_root() / model.shelf / filename) or path
        return VerifiedFile(data, supplier, path)
    raise SourceError(f"{model.reference}: no source could supply {filename} ({'; '.join(reasons)})")


def pull(
    name: str,
    *,
    to: str | os.PathLike[str] | None = None,
    mirror: str | os.PathLike[str] | None = None,
    source: Source | None = None,
) -> Path:
    """Get a model's files, verified, onto this machine.

    Parameters
    ----------
    name : str
        Model name.
    to : path, optional
        Write them into this folder instead, as a mirror that `mirror` (or ``DEEPCR_ZOO_MIRROR``) can name.
    mirror : path or file:// address, optional
        Take them from this mirror.
    source : {"cache", "mirror", "seed", "hub"}, optional
        Use this source alone.

    Returns
    -------
    Path
        The verified weights.

    Raises
    ------
    UnknownModelError, IntegrityError, SourceError
        As in `fetch`; also if the target folder cannot be written to.
    """
    model = default_registry().resolve(name)
    return pull_resolved(model, to=to, mirror=mirror, source=source).path


@dataclass(frozen=True)
class PulledModel:
    """Where the verified weights of a model stand on this machine, and who supplied them."""

    path: Path
    source: Source


def pull_resolved(
    model: ResolvedModel,
    *,
    to: str | os.PathLike[str] | None = None,
    mirror: str | os.PathLike[str] | None = None,
    source: Source | None = None,
) -> PulledModel:
    """Do the work of `pull` for a name that is resolved already, and say which source supplied the weights."""
    wanted = (WEIGHTS_FILE, TEST_VECTOR_FILE)
    fetched = {
        name: fetch(model, name, source=source, mirror=mirror, keep=to is None, order=HUB_BEFORE_SEED) for name in wanted
    }
    weights = fetched[WEIGHTS_FILE]
    if to is not None:
        path = _write_mirror(model, {name: file.data for name, file in fetched.items()}, files.directory(to))
        return PulledModel(path, weights.source)
    if weights.path is None:
        raise SourceError(
            f"{files.cache_root()}: the cache cannot be written to; set DEEPCR_ZOO_CACHE to a folder that can, or use --to"
        )
    return PulledModel(weights.path, weights.source)


def _write_mirror(model: ResolvedModel, files: dict[str, bytes], root: Path) -> Path:
    """Write a model's files, its card and the licence under a mirror's root; returns the path of the weights."""
    licence = model.root / read_card(model).licence.file  # reading the card checks it against the lock
    contents = {root / model.shelf / name: data for name, data in files.items()}
    contents[root / model.shelf / CARD_FILE] = model.card_path.read_bytes()
    try:
        contents[root / licence.name] = licence.read_bytes()
    except OSError as error:
        raise SourceError(f"{licence}: the licence of {model.reference} cannot be read: {error.strerror}") from None
    try:
        for path, data in contents.items():
            write_atomically(data, path)
    except OSError as error:
        raise SourceError(f"{root}: cannot be written: {error.strerror}; choose another folder with --to") from None
    return root / model.shelf / WEIGHTS_FILE


_Found = tuple[bytes, Path | None, str | None]
"""Bytes, where they stand, and how they differ from what is locked."""


def _suppliers(
    model: ResolvedModel,
    filename: str,
    source: Source | None,
    mirror: str | os.PathLike[str] | None,
    order: Sequence[Source],
) -> list[tuple[Source, Callable[[], _Found]]]:
    """The sources to try, in order, each with a function that reads the file from it."""
    mirror_root = _mirror_root(mirror)
    if source not in (None, *SOURCES):
        raise UsageError(f"{source!r} is not a source: expected one of {', '.join(SOURCES)}")
    if source == "mirror" and mirror_root is None and model.origin.mirror is None:
        raise UsageError("the source mirror needs a folder: give one (--from DIR, mirror=DIR) or set DEEPCR_ZOO_MIRROR")
    seed = model.root / "zoo" / "weights" / model.folder if model.locked.sources.seed else None
    mirrors = [*([mirror_root / model.shelf] if mirror_root else []), *_own_mirror(model)]
    folders: dict[Source, list[Path | None]] = {
        "cache": [files.cache_root() / model.shelf],
        "mirror": [*mirrors],
        "seed": [seed] if seed or source == "seed" else [],
    }
    locked = model.locked_file(filename)
    found: list[tuple[Source, Callable[[], _Found]]] = []
    for name in order:
        if name == "hub":
            found.append((name, lambda: _read_from_hub(model, filename)))
        for folder in folders.get(name, ()):
            plain = name == "mirror"
            found.append((name, lambda folder=folder, plain=plain: _read_from(folder, filename, locked, plain)))  # type: ignore[misc]
    return [(name, read) for name, read in found if source in (None, name)]


def _own_mirror(model: ResolvedModel) -> list[Path]:
    """That of its registry, with or without the registry's prefix, which `pull` writes."""
    mirror = model.origin.mirror
    return [mirror / model.folder, mirror / model.shelf] if mirror else []


def _mirror_root(mirror: str | os.PathLike[str] | None) -> Path | None:
    """The mirror's folder; one that is named in the call must exist, one that the environment names is missed aloud."""
    root = files.mirror_root() if mirror is None else files.directory(mirror)
    if root is not None and not root.is_dir():
        if mirror is not None:
            raise SourceError(f"{root}: the mirror is not a folder; name one that 'deepcr-zoo pull --to DIR' wrote")
        warnings.warn(f"DEEPCR_ZOO_MIRROR: {root} is not a folder", SourceWarning, stacklevel=4)
    return root


def _read_from(folder: Path | None, filename: str, locked: LockedFile, plain: bool) -> _Found:
    """Read a file, and no more of it than is locked; with `plain`, from a tree of plain files and folders alone."""
    if folder is None:
        raise SourceError("the registry names no bundled copy of this version")
    path = folder / filename
    if plain:
        _refuse_links(path)
    try:
        facts = path.stat()
        if not stat.S_ISREG(facts.st_mode):
            raise SourceError(f"{path} is no regular file")
        if facts.st_size > locked.size:
            return b"", path, f"expected {locked.size} bytes, found {facts.st_size}"
        data = path.read_bytes()
    except FileNotFoundError:
        raise SourceError(f"{path} does not exist") from None
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}") from None
    return data, path, locked.mismatch(data)


def _refuse_links(path: Path) -> None:
    """A mirror is somebody else's: a link in it could lead to any file of this machine."""
    task, name, version = path.parents[2], path.parents[1], path.parents[0]
    for part in (task, name, version, path):
        if part.is_symlink():
            raise IntegrityError(
                f"{part} is a symbolic link, and a mirror holds plain files alone: put the file itself there"
            )


def _read_from_hub(model: ResolvedModel, filename: str) -> _Found:
    pin = model.locked.sources.hub
    if pin is None:
        raise SourceError("this version is not published on the Hub: leave out --source")
    from deepcr_zoo.zoo.hub import downloads

    locked = model.locked_file(filename)
    data = downloads.download(pin, filename, locked.size)
    return data, None, locked.mismatch(data)


def _hub_address(model: ResolvedModel) -> str:
    pin = model.locked.sources.hub
    return f"{pin.repo} at commit {pin.commit}" if pin else ""


def _keep(data: bytes, path: Path) -> Path | None:
    try:
        write_atomically(data, path)
    except OSError as error:
        warnings.warn(f"{path.parent}: the cache cannot be written to ({error.strerror})", SourceWarning, stacklevel=4)
        return None
    return path


def _discard(path: Path | None, problem: str) -> str:
    """Remove a damaged copy from the cache if that can be done, and say what became of it."""
    try:
        Path(path or "").unlink()
        fate = "was removed"
    except OSError as error:
        fate = f"is ignored, since it cannot be removed ({error.strerror})"
    warnings.warn(f"{path}: a damaged copy in the cache {fate}: {problem}", SourceWarning, stacklevel=4)
    return fate
