"""Sources of model files: cache, mirror, bundled seed and Hub, in this order; the registry's lock verifies the bytes.

`pull` asks the Hub before the seed. Cache, mirror and seed share one layout, ``<task>/<name>/<version>/<file>``, so each can
serve as another.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, get_args

from deepcr_zoo import files, locations
from deepcr_zoo.errors import DeepcrZooError, IntegrityError, OutputError, SourceError, SourceWarning, UsageError, warn
from deepcr_zoo.files import read_file, write_atomically
from deepcr_zoo.zoo.cards import read_card
from deepcr_zoo.zoo.hub import downloads
from deepcr_zoo.zoo.registry import CARD_FILE, TEST_VECTOR_FILE, WEIGHTS_FILE, LockedFile, ResolvedModel
from deepcr_zoo.zoo.resolving import find_model

Source = Literal["cache", "mirror", "seed", "hub"]
SOURCES: tuple[Source, ...] = get_args(Source)
HUB_BEFORE_SEED: tuple[Source, ...] = ("cache", "mirror", "hub", "seed")
HUB_BEFORE_SEED_S = 15.0  # seconds that a download may take where the bundled copy comes next
Address = str | os.PathLike[str]  # a path, or for a mirror also a file:// address
_Read = tuple[bytes, Path | None, str | None]  # bytes, the path they were read from, and how they differ from the lock


@dataclass(frozen=True)
class VerifiedFile:
    """Bytes that match the lock, their source, and their path (None if the cache cannot be written to)."""

    data: bytes
    source: Source
    path: Path | None


@dataclass(frozen=True)
class PulledModel:
    """Path of the verified weights of a model on this machine, and the source that supplied them."""

    path: Path
    source: Source


def fetch(
    model: ResolvedModel,
    filename: str,
    *,
    source: Source | None = None,
    mirror: Address | None = None,
    keep: bool = True,
    order: Sequence[Source] = SOURCES,
) -> VerifiedFile:
    """Return the weights or the test vector of a model from the first source that has it, or from `source` alone.

    The default of `mirror`, a path or file:// address, is ``DEEPCR_ZOO_MIRROR``. If `keep`, files from a mirror or the Hub
    are kept in the cache. A source that supplies wrong bytes twice raises `IntegrityError`.
    """
    reasons = []
    for supplier, read in _suppliers(model, filename, source, mirror, order):
        try:
            data, path, problem = read()
            if problem and supplier == "cache" and path is not None and _is_of_registry_in_use(model, filename, path):
                reasons.append(f"cache: {path} is of the registry in use, which locks other bytes under this name")
                keep = False
                continue
            if problem and supplier == "cache":
                reasons.append(f"cache: a damaged copy {_discard(path, problem)}")
                continue
            if problem:
                data, path, problem = read()
        except SourceError as error:
            if isinstance(error, _UnreadableError):
                if mirror is not None and supplier == "mirror":
                    raise
                warn(f"{supplier}: {error}", SourceWarning)
            reasons.append(f"{supplier}: {error}")
            continue
        if problem:
            hub = f"{pin.repo} at commit {pin.commit}" if (pin := model.locked.sources.hub) else ""
            raise IntegrityError(
                f"{model.reference}: {filename} from the {supplier} ({path or hub}) is not what the "
                f"registry locked: {problem}; it was refused: replace that copy, or name another source"
            )
        if keep and supplier in ("mirror", "hub"):
            path = _keep(data, locations.cache_root() / model.shelf / filename) or path
        return VerifiedFile(data, supplier, path)
    way_out = "" if source is None else ": name no source to try them all"
    raise SourceError(f"{model.reference}: no source could supply {filename} ({'; '.join(reasons)}){way_out}")


def pull(name: str, *, to: Address | None = None, mirror: Address | None = None, source: Source | None = None) -> Path:
    """Download and verify a model's files.

    Parameters
    ----------
    name : str
        Model name, or ``hf:ORG/TASK-NAME@vVERSION`` for a repository on the Hub that no registry lists.
    to : path, optional
        Write the files into this folder in place of the cache, as a mirror for `mirror` or ``DEEPCR_ZOO_MIRROR``.
    mirror : path or file:// address, optional
        Folder of a mirror to read from.
    source : {"cache", "mirror", "seed", "hub"}, optional
        Use only this source.

    Returns
    -------
    Path
        The verified weights.

    Raises
    ------
    UnknownModelError
        If the registry has no such model.
    IntegrityError
        If a source supplies wrong bytes twice.
    SourceError
        If no source has the files, or the target folder cannot be written to.
    """
    return pull_resolved(find_model(name), to=to, mirror=mirror, source=source).path


def pull_resolved(
    model: ResolvedModel, *, to: Address | None = None, mirror: Address | None = None, source: Source | None = None
) -> PulledModel:
    """Download and verify the files of a resolved model; see `pull`."""
    weights, vector = (
        fetch(model, name, source=source, mirror=mirror, keep=to is None, order=HUB_BEFORE_SEED)
        for name in (WEIGHTS_FILE, TEST_VECTOR_FILE)
    )
    if to is not None:
        if "\0" in os.fspath(to):
            raise UsageError(f"to is {to!r}: expected a folder, whose path holds no NUL")
        contents = {WEIGHTS_FILE: weights.data, TEST_VECTOR_FILE: vector.data}
        return PulledModel(_write_mirror(model, contents, locations.directory(to)), weights.source)
    if weights.path is None:
        raise SourceError(
            f"{locations.cache_root()}: the cache cannot be written to; set DEEPCR_ZOO_CACHE to a folder that can, "
            "or use --to"
        )
    return PulledModel(weights.path, weights.source)


def _write_mirror(model: ResolvedModel, supplied: dict[str, bytes], root: Path) -> Path:
    """Write a model's files, its card and the licence under a mirror's root, and return the path of the weights."""
    licence = model.root / read_card(model).licence.file  # reading the card checks it against the lock
    contents = {root / model.shelf / name: data for name, data in supplied.items()}
    contents[root / model.shelf / CARD_FILE] = read_file(model.card_path)
    try:
        if not _is_shipped(model):
            files.refuse_links(licence, model.root)
        contents[root / (model.origin.registry or "") / licence.name] = read_file(licence)
    except FileNotFoundError:
        raise SourceError(
            f"{licence}: no such file, and a mirror needs the licence of {model.reference}: write it there, or use the "
            "model where it is"
        ) from None
    except OSError as error:
        raise SourceError(f"{licence}: the licence of {model.reference} cannot be read: {error.strerror}") from None
    elsewhere = "choose another folder with --to"
    with files.reporting_failures(root, elsewhere, SourceError):
        for path, data in contents.items():
            files.refuse_links(path, root)
            if os.path.lexists(path) and not (files.is_file(path) and read_file(path) == data):
                raise OutputError(f"{path}: exists with other content, which is not replaced: move it away, or {elsewhere}")
        for path, data in contents.items():
            write_atomically(data, path)
    return root / model.shelf / WEIGHTS_FILE


def _is_shipped(model: ResolvedModel) -> bool:
    """True for a model of this package's own registry, all files of which an installer may have linked."""
    return model.root == locations.data_root()


def _suppliers(
    model: ResolvedModel, filename: str, source: Source | None, mirror: Address | None, order: Sequence[Source]
) -> Iterator[tuple[Source, Callable[[], _Read]]]:
    """Yield the sources to try, in order, each with a function that reads the file from it."""
    mirror_root = _mirror_root(mirror)
    if source not in (None, *SOURCES):
        raise UsageError(f"{source!r} is not a source: expected one of {', '.join(SOURCES)}")
    own_mirror = model.origin.mirror
    if source == "mirror" and mirror_root is None and own_mirror is None:
        raise UsageError("the source mirror needs a folder: give one (--from DIR, mirror=DIR) or set DEEPCR_ZOO_MIRROR")
    cache = locations.cache_root()
    # a registry's own mirror may have been written by `pull`, with the registry's prefix
    mirrors = [(mirror_root, model.shelf), (own_mirror, model.folder), (own_mirror, model.shelf)]
    folders: dict[Source, list[partial[_Read]]] = {
        "cache": [partial(_read_from, cache / model.shelf)],
        "mirror": [partial(_read_from, root / shelf, plain_below=root) for root, shelf in mirrors if root],
        "seed": [partial(_read_from, model.seed_folder, plain_below=None if _is_shipped(model) else model.root)],
    }
    if not model.locked.sources.seed:
        folders["seed"] = [partial(_read_from, None)] if source == "seed" else []
    locked = model.locked_file(filename)
    for name in order if source is None else (source,):
        if name == "hub":
            # a bundled copy that comes next is not kept waiting by a slow Hub
            has_other = source is None and model.locked.sources.seed and "seed" in order[order.index(name) :]
            yield name, partial(_read_from_hub, model, filename, HUB_BEFORE_SEED_S if has_other else None)
        for read in folders.get(name, ()):
            yield name, partial(read, filename, locked)


def _mirror_root(mirror: Address | None) -> Path | None:
    """Return the mirror's folder; a missing one is an error if the call names it and a warning if the environment does."""
    root = locations.mirror_root() if mirror is None else locations.directory(mirror)
    if root is None or os.path.isdir(root):
        return root
    if mirror is not None:
        raise SourceError(
            f"{root}: the mirror is not a folder, or cannot be read; name one that 'deepcr-zoo pull --to DIR' wrote"
        )
    warn(f"DEEPCR_ZOO_MIRROR: {root} is not a folder, or cannot be read", SourceWarning)
    return root


class _UnreadableError(SourceError):
    """A file that may be there, and cannot be read."""


def _read_from(folder: Path | None, filename: str, locked: LockedFile, *, plain_below: Path | None = None) -> _Read:
    """Read a file from a folder, unless it is larger than the lock allows; `plain_below` a folder links are refused."""
    if folder is None:
        raise SourceError("the registry names no bundled copy of this version")
    path = folder / filename
    if plain_below is not None:
        files.refuse_links(path, plain_below)
    try:
        facts = path.stat()
        if not stat.S_ISREG(facts.st_mode):
            raise SourceError(f"{path} is no regular file")
        if facts.st_size > locked.size:
            return b"", path, f"expected {locked.size} bytes, found {facts.st_size}"
        data = read_file(path, locked.size)  # it can be exchanged in between
    except (FileNotFoundError, NotADirectoryError):
        raise SourceError(f"{path} does not exist") from None
    except OSError as error:
        raise _UnreadableError(f"{path} cannot be read: {error.strerror}") from None
    return data, path, locked.mismatch(data)


def _read_from_hub(model: ResolvedModel, filename: str, longest_s: float | None) -> _Read:
    pin = model.locked.sources.hub
    if pin is None:
        raise SourceError("this version is not published on the Hub")
    locked = model.locked_file(filename)
    data = downloads.download(pin, filename, locked.size, longest_s)
    return data, None, locked.mismatch(data)


def _is_of_registry_in_use(model: ResolvedModel, filename: str, path: Path) -> bool:
    """True for a copy that the registry in use locks under the name of a model of another one, such as a checkout's."""
    try:
        known = find_model(model.reference).locked_file(filename)
        return known != model.locked_file(filename) and known.mismatch(read_file(path, known.size)) is None
    except (DeepcrZooError, OSError):
        return False


def _keep(data: bytes, path: Path) -> Path | None:
    try:
        write_atomically(data, path)
    except OSError as error:
        warn(f"{path.parent}: the cache cannot be written to ({error.strerror})", SourceWarning)
        return None
    return path


def _discard(path: Path | None, problem: str) -> str:
    """Remove a damaged copy from the cache if possible, and return the outcome in words."""
    try:
        Path(path or "").unlink()
        fate = "was removed"
    except OSError as error:
        fate = f"is ignored, since it cannot be removed ({error.strerror})"
    warn(f"{path}: a damaged copy in the cache {fate}: {problem}", SourceWarning)
    return fate
