"""Work on many files, in this process, in several or elsewhere; a failure of one file does not stop the others."""

from __future__ import annotations

import errno
import fnmatch
import glob
import logging
import multiprocessing
import os
import re
import signal
import stat
import threading
import traceback
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from deepcr_zoo.errors import (
    WARNINGS,
    DeepcrZooError,
    InterruptedWorkError,
    NotAnExposureError,
    UsageError,
    collecting_warnings,
    warn,
)
from deepcr_zoo.files import lies_within, raise_error, read_file, walk
from deepcr_zoo.locations import without_address
from deepcr_zoo.machine import is_out_of_memory, processors, safe_children

_NOWHERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)
UNWRITABLE_NAME = "a name has letters that the locale cannot write: set PYTHONUTF8=1, or a locale with UTF-8"
FITS_SUFFIXES = (".fits", ".fit", ".fts")
PACKED_SUFFIXES = (".gz", ".bz2", ".xz")
"""Endings of files that are packed as a whole; they are read by content, whatever their names."""

COMPRESSED_SUFFIXES = (*PACKED_SUFFIXES, ".fz")
MASK_ENDING, COPY_ENDING, CORRECTED_ENDING = "_crmask.fits", "_crclean.fits", "_crcorrected.fits"
FITS_ENDINGS = tuple(f"{end}{packed}" for end in FITS_SUFFIXES for packed in ("", *COMPRESSED_SUFFIXES))

_LEFT_OUT = re.compile(
    r".*(\.(fits|fit|fts)\.(z|zst|lz4|lz|lzma|zip|rar|7z|part|partial|crdownload|download|tmp|html?|\d+)"
    r"|\.(zip|tar|tar\.\w+|tgz|tbz2?|txz|rar|7z|asdf|h5|hdf5|xisf))"
)
"""Names that may stand for exposures and are not read: other packings and formats, unfinished downloads, saved pages."""

_EXTENSION = re.compile(r"(?P<file>.+?)(\[(?P<brackets>[^\[\]]+)\](\[[^\[\]]*\])*|\+(?P<number>\d+))", re.DOTALL)
"""A file with an extension as in IRAF and CFITSIO: ``x.fits[1]``, ``x.fits[SCI,1]``, ``x.fits+1``."""

MOST_CHARACTERS = 10_000
"""Longest name of a file with its folders, which no system has."""

MOST_SEARCHES = 100
"""Names with wildcards in a list: each may search a whole disk."""

MOST_LIST_BYTES = 100_000_000
"""Largest list of files, about a million names."""

MOST_NAMES = 5
"""Names of left-out files in a message."""

INTERRUPTED = 130
"""Exit code after an interruption, as in shells: 128 + SIGINT."""

QUEUE = 4
"""Files submitted per process: outcomes come in order, and a slow file must not leave the other processes idle."""

ALONE = "close other programs, or use a machine with more"
_SEVERAL = "use fewer jobs"
"""What to do where memory could not be had, for one process and for several."""

Item = TypeVar("Item")
Result = TypeVar("Result")
Work = Callable[[str], Result]


@dataclass(frozen=True)
class Outcome(Generic[Result]):
    """Result of the work on one file, or the reason why there is none."""

    path: str
    result: Result | None
    error: str | None
    no_exposure: bool = False  # the file is sound but not an exposure
    again: bool = False  # the machine failed, so that another attempt may succeed
    warnings: tuple[tuple[type[Warning], str], ...] = ()  # of this package, in another process


class Runner(Protocol):
    """Another place for work to run, such as a cluster."""

    def __call__(self, work: Work[Result], paths: Sequence[str]) -> Generator[Outcome[Result], None, None]:
        """Do the work for every path and yield the outcomes in the order of the paths."""


Jobs = int | Runner
"""Number of processes on this machine, or another place for the work."""


@dataclass(frozen=True)
class ForEach(Generic[Item, Result]):
    """Work on named items; another process gets the item that it works on, not all of them."""

    work: Callable[[Item], Result]
    items: Mapping[str, Item]

    def __call__(self, name: str) -> Result:
        """Do the work on one of the items."""
        return self.work(self.items[name])


@dataclass(frozen=True)
class Request:
    """Files that the user's arguments stand for."""

    paths: list[str]  # each file once, in order
    named: set[str]  # named one by one; the others come from folders or wildcards
    empty: dict[str, str]  # arguments without files, and why
    left_out: list[str]  # a line for each folder with files that may hold exposures and are not read


def expand(arguments: Sequence[str]) -> Request:
    """Turn files, wildcards, folders and ``@list.txt`` into files, each once and without products of this package."""
    request = Request([], set(), {}, [])
    seen: set[str] = set()
    for argument in chain.from_iterable(map(_list_items, arguments)):
        found = _find(argument)
        if isinstance(found, str):
            request.empty[without_address(argument)] = found
            continue
        if left_out := _left_out(argument):
            request.left_out.append(left_out)
        if found == [argument]:
            request.named.add(argument)
        for path in found:
            if (real := os.path.realpath(path)) not in seen:
                seen.add(real)
                request.paths.append(path)
    return request


def run(work: Work[Result], paths: Sequence[str], jobs: Jobs) -> Iterator[Outcome[Result]]:
    """Do `work` for every path and yield the outcomes in the order of the paths.

    With several jobs `work` must be picklable, and each process gets its share of the processors. A `UsageError` is
    wrong for every file and ends the run.
    """
    if callable(jobs):
        return _warning_here(jobs(work, paths))
    if not isinstance(jobs, int) or jobs < 1:
        raise UsageError(f"jobs is {jobs!r}: expected a whole number, 1 or more")
    if jobs == 1 or len(paths) <= 1:
        return (attempt(work, path, ALONE) for path in paths)
    return _warning_here(_in_processes(work, paths, min(jobs, len(paths))))


def attempt(work: Work[Result], path: str, if_too_large: str) -> Outcome[Result]:
    """Do `work` for one path in this process; every error but a `UsageError` becomes part of the outcome.

    `if_too_large` is what to do where memory could not be had.
    """
    try:
        return Outcome(path, work(path), None)
    except UsageError:
        raise
    except DeepcrZooError as error:
        again = isinstance(error, InterruptedWorkError)
        return Outcome(path, None, "; ".join(map(str, error.args)), isinstance(error, NotAnExposureError), again)
    except UnicodeEncodeError:
        return Outcome(path, None, f"{path}: {UNWRITABLE_NAME}")
    except Exception as error:
        if is_out_of_memory(error):
            return Outcome(path, None, f"{path}: does not fit into memory: {if_too_large}", again=True)
        reason = " ".join(str(error).split()) or "no reason given"
        place = traceback.extract_tb(error.__traceback__)[-1]
        what = f"{type(error).__name__}: {reason} ({Path(place.filename).name}, line {place.lineno})"
        return Outcome(path, None, f"{path}: failed unexpectedly, please report this: {what}")


def attempt_elsewhere(work: Work[Result], path: str, if_too_large: str) -> Outcome[Result]:
    """Do as `attempt`, in a process whose warnings the user would not see: the outcome has those of this package."""
    with collecting_warnings(*WARNINGS) as ours:
        outcome = attempt(work, path, if_too_large)
    return replace(outcome, warnings=tuple(ours))


def _warning_here(outcomes: Generator[Outcome[Result], None, None]) -> Iterator[Outcome[Result]]:
    """Warn in this process of what other processes have warned of, once."""
    seen: set[tuple[type[Warning], str]] = set()
    with closing(outcomes):
        for outcome in outcomes:
            for category, text in outcome.warnings:
                if (category, text) not in seen:
                    seen.add((category, text))
                    warn(text, category)
            yield replace(outcome, warnings=())


def part_for(work: Work[Result], path: str) -> Work[Result]:
    """Return the part of the work that another process needs for this path."""
    return ForEach(work.work, {path: work.items[path]}) if isinstance(work, ForEach) else work


def _list_items(argument: str) -> list[str]:
    """Return the lines of a list (names are relative to the current folder), or the argument itself."""
    if not argument.startswith("@") or os.path.lexists(argument):
        return [argument]
    path = Path(argument[1:])
    if not lies_within(path, path.parent):  # its lines, which may be of any text, would stand in errors
        raise UsageError(f"{argument}: is a link that leads out of its folder: give the list that it leads to")
    try:
        lines = read_file(path, MOST_LIST_BYTES).decode("utf-8-sig").splitlines()
    except OSError as error:
        raise UsageError(f"{argument}: the list cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise UsageError(f"{argument}: the list cannot be read: {error}") from None
    items = [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]
    if nested := [item for item in items if item.startswith("@")]:
        raise UsageError(f"{argument}: expected names of files, found another list, {without_address(nested[0])}")
    searches = sum(glob.has_magic(item) and not os.path.lexists(item[:MOST_CHARACTERS]) for item in items)
    if searches > MOST_SEARCHES:
        raise UsageError(
            f"{argument}: expected at most {MOST_SEARCHES} names with wildcards, got {searches:,}: name the files"
        )
    return items


def extension_in(argument: str) -> str | None:
    """Return what to give in place of ``FILE[EXTENSION]`` or ``FILE+NUMBER``; None if it is none, or no such file exists.

    FILE may hold wildcards.
    """
    found = _EXTENSION.fullmatch(argument)
    if found is None or os.path.lexists(argument):
        return None
    if not os.path.isfile(found["file"]) and not wildcard_files(found["file"]):
        return None
    extension = found["number"] or found["brackets"]
    if re.search("[:*]", extension):
        return f"a section of an image is not read: give the file, {found['file']}, or save the section as a file"
    return f"give the file and --extension {extension}"


def wildcard_files(pattern: str) -> list[str]:
    """Return the files that wildcards stand for, in order; a `UsageError` for those that visit a folder many times.

    OSError if a folder cannot be read, which `glob` passes over: a night would be missing in silence.
    As in shells, ``**`` stands for any folders, but follows no links to folders, which may lead back. A folder that several
    links of a level lead to is searched once.
    """
    parts = pattern.split("/")
    parts = [part for part, before in zip(parts, ["", *parts], strict=False) if not part == before == "**"]
    after = parts[next((place for place, part in enumerate(parts) if glob.has_magic(part)), len(parts)) :]
    if after.count("**") > 1 or ".." in after:
        raise UsageError("expected one ** at most, and no .. after a wildcard: name the folders")
    folders = [""]
    for part in parts if parts[-1] == "**" else parts[:-1]:
        folders = _distinct(inside for folder in folders for inside in _folders_in(folder, part))
    name = "*" if parts[-1] == "**" else parts[-1]
    found = (path for folder in folders for path in _matching(folder, name))
    return sorted(path for path in found if (status := _status(path)) and stat.S_ISREG(status.st_mode))


def _folders_in(folder: str, part: str) -> Iterator[str]:
    """Yield the folders that a part of a pattern stands for in a folder; all end in a slash, the present one is empty."""
    if part == "**":
        for path, inside, _ in walk(folder or ".", onerror=raise_error):
            inside[:] = [name for name in inside if not name.startswith(".")]
            yield os.path.join(path, "") if folder else os.path.join(path, "")[2:]  # without the ./ that walk begins with
    elif glob.has_magic(part):
        yield from (f"{path}/" for path in _matching(folder, part))
    else:
        yield f"{folder}{part}/"


def _matching(folder: str, name: str) -> list[str]:
    """Return the paths in a folder that a name may stand for, in order; hidden ones where it begins with a dot."""
    if not glob.has_magic(name):
        return [folder + name]
    inside = (one for one in os.listdir(folder or ".") if name.startswith(".") or not one.startswith("."))
    return [folder + one for one in sorted(fnmatch.filter(inside, name))]


def _status(path: str) -> os.stat_result | None:
    """Return the status of what a path leads to; None if it leads nowhere. OSError if that cannot be known."""
    try:
        return os.stat(path)
    except OSError as error:
        if error.errno not in _NOWHERE:
            raise
        return None


def _distinct(folders: Iterable[str]) -> list[str]:
    """Return the folders that exist, without those that another name stands for already."""
    found: dict[tuple[int, int], str] = {}
    for folder in folders:
        if (status := _status(folder or ".")) and stat.S_ISDIR(status.st_mode):
            found.setdefault((status.st_dev, status.st_ino), folder)
    return list(found.values())


def _find(argument: str) -> list[str] | str:
    """Return the files that an argument stands for, or the reason why there are none."""
    if "\0" in argument or len(argument) > MOST_CHARACTERS:
        return "no file can have this name"
    if without_address(argument) != argument and not os.path.lexists(argument):
        return "an address is not read: download the file, and give its path"
    try:
        if os.path.isdir(argument):
            found = [path for path in _files_in(argument) if path.lower().endswith(FITS_ENDINGS)]
            nothing = (
                f"the folder holds no file, but products of deepcr-zoo, whose name ends in {', '.join(FITS_SUFFIXES)} "
                f"(or in one of these and {', '.join(COMPRESSED_SUFFIXES)}): name the files"
            )
        elif os.path.lexists(argument) or not glob.has_magic(argument):
            return extension_in(argument) or [argument]  # a missing file fails by name, like any that cannot be read
        else:
            found = wildcard_files(argument)
            nothing = "matches products of deepcr-zoo alone: name the exposures"
            if not found:
                nothing = extension_in(argument) or "nothing matches"
    except UsageError as error:
        return str(error)
    except OSError as error:
        inside = f"{error.filename} " if error.filename not in (None, argument) else ""
        return f"{inside}cannot be read: {error.strerror}"
    return [path for path in found if not is_product(path)] or nothing


def is_product(path: str) -> bool:
    """True if a file is a product of `clean`, by its name."""
    return path.endswith((MASK_ENDING, COPY_ENDING, CORRECTED_ENDING))


def _files_in(folder: str) -> Iterator[str]:
    """Yield the files in a folder, in order; hidden ones are left out, as wildcards leave them out."""
    inside = (str(Path(folder, name)) for name in sorted(os.listdir(folder)) if not name.startswith("."))
    return (path for path in inside if os.path.isfile(path))


def left_out(paths: Iterable[str | Path]) -> list[str]:
    """Return the paths that may hold exposures and are not read, by their names."""
    return [path for path in map(str, paths) if _LEFT_OUT.fullmatch(path.lower())]


def _left_out(argument: str) -> str:
    """Return a line about the files in a folder that may hold exposures and are not read; empty if there are none."""
    names = [Path(path).name for path in left_out(_files_in(argument))] if os.path.isdir(argument) else []
    if not names:
        return ""
    shown = ", ".join(names[:MOST_NAMES]) + (f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else "")
    files = "1 file" if len(names) == 1 else f"{len(names)} files"
    return f"{argument}: {files} left out, not FITS by their names: {shown}; unpack or rename them if they are exposures"


def _in_processes(work: Work[Result], paths: Sequence[str], jobs: int) -> Generator[Outcome[Result], None, None]:
    """Keep `jobs` processes busy; if one of them dies, try the unfinished files again, one at a time."""
    waiting = deque(paths)
    while waiting:
        running: deque[tuple[str, Future[Outcome[Result]]]] = deque()
        pool = _pool(jobs)
        try:
            with suppress(BrokenProcessPool):
                while waiting or running:
                    while waiting and len(running) < QUEUE * jobs:
                        running.append((waiting[0], _submit(pool, work, waiting[0], _SEVERAL)))
                        waiting.popleft()
                    yield running[0][1].result()
                    running.popleft()
        except (KeyboardInterrupt, GeneratorExit):  # raised here, or by the consumer of the outcomes
            warnings.warn("waiting for the files that are being worked on; interrupt again to stop at once", stacklevel=2)
            raise
        finally:
            _end(pool)
        yield from _one_by_one(work, running)


def _one_by_one(work: Work[Result], tasks: Iterable[tuple[str, Future[Outcome[Result]]]]) -> Iterator[Outcome[Result]]:
    """Yield the outcomes of tasks, one of which killed its process; each lost task gets a process to itself."""
    pool = _pool(1)
    try:
        for path, future in tasks:
            lost = future.cancelled() or future.exception() is not None
            try:
                yield (_submit(pool, work, path, ALONE) if lost else future).result()
            except BrokenProcessPool:
                error = f"{path}: the process that worked on it was killed, perhaps for want of memory"
                yield Outcome(path, None, error, again=True)
                pool.shutdown()
                pool = _pool(1)
    finally:
        _end(pool)


def _submit(pool: ProcessPoolExecutor, work: Work[Result], path: str, if_too_large: str) -> Future[Outcome[Result]]:
    """Submit a file; SIGINT is blocked meanwhile, so that a process started here inherits the block."""
    with safe_children():
        if not hasattr(signal, "pthread_sigmask"):
            return pool.submit(attempt_elsewhere, part_for(work, path), path, if_too_large)
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            return pool.submit(attempt_elsewhere, part_for(work, path), path, if_too_large)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end(pool: ProcessPoolExecutor) -> None:
    """Finish the running files and cancel the others; a second interruption ends everything at once."""
    try:
        pool.shutdown(cancel_futures=True)
    except KeyboardInterrupt:
        os._exit(INTERRUPTED)  # the workers follow, see _die_with_parent


def _pool(jobs: int) -> ProcessPoolExecutor:
    # spawned: threads of torch and locks of the parent do not survive a fork
    threads = max(1, processors() // jobs)
    with safe_children():  # locks have a process of their own
        return ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), _start_worker, (threads,))


def _start_worker(threads: int) -> None:
    os.environ["OMP_NUM_THREADS"] = str(threads)  # before the first import: libraries of numbers, torch too, follow it
    logging.getLogger("deepcr_zoo").addHandler(logging.NullHandler())  # the outcome carries the messages
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles the interruption and waits for running files
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    """End this worker when its parent is killed; an idle worker would not notice."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
