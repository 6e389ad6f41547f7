"""Many files: one after the other, in several processes or elsewhere, and no failure of one stops the others."""

from __future__ import annotations

import glob
import logging
import multiprocessing
import os
import signal
import threading
import traceback
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from deepcr_zoo.errors import DeepcrZooError, InterruptedWorkError, NotAnExposureError, UsageError

FITS_ENDINGS = tuple(f"{end}{packed}" for end in (".fits", ".fit", ".fts") for packed in ("", ".gz", ".fz"))
PRODUCT_ENDINGS = ("_crmask.fits", "_crclean.fits")

INTERRUPTED = 130
"""Exit code after an interruption, as shells have it: 128 + SIGINT."""

QUEUE = 4
"""Files handed out per process: outcomes come in order, and a slow file shall not leave the other processes idle."""

Item = TypeVar("Item")
Result = TypeVar("Result")
Work = Callable[[str], Result]


@dataclass(frozen=True)
class Outcome(Generic[Result]):
    """What became of one file.

    Attributes
    ----------
    path : str
    result : object or None
    error : str or None
        Why there is no result.
    no_exposure : bool
        Whether that is because the file is sound and no exposure.
    again : bool
        Whether the machine is to blame, so that another attempt may succeed.
    """

    path: str
    result: Result | None
    error: str | None
    no_exposure: bool = False
    again: bool = False


class Runner(Protocol):
    """Where work runs if not on this machine: does it for every path, and gives the outcomes in the order of the paths."""

    def __call__(self, work: Work[Result], paths: Sequence[str]) -> Iterator[Outcome[Result]]:
        """As `run` does it."""


Jobs = int | Runner
"""How many processes of this machine do the work, or who else."""


@dataclass(frozen=True)
class ForEach(Generic[Item, Result]):
    """Work on things that have names; another process gets the thing that it works on, not all of them.

    Attributes
    ----------
    work : callable
        Takes a thing.
    things : mapping of str to object
    """

    work: Callable[[Item], Result]
    things: Mapping[str, Item]

    def __call__(self, name: str) -> Result:
        """Do the work on one of the things."""
        return self.work(self.things[name])


@dataclass(frozen=True)
class Request:
    """What the user's arguments stand for.

    Attributes
    ----------
    paths : list of str
        Files, each once, in order.
    named : set of str
        Those that the user named one by one; the others came from a folder or from wildcards.
    empty : dict
        Arguments that stand for nothing, and why.
    """

    paths: list[str]
    named: set[str]
    empty: dict[str, str]


def expand(arguments: Sequence[str]) -> Request:
    """Turn files, wildcards, folders and ``@list.txt`` into files: each once, and no products of our own.

    Raises
    ------
    UsageError
        If a list cannot be read, or holds another list.
    """
    request = Request([], set(), {})
    seen: set[str] = set()
    for argument in chain.from_iterable(map(_list_items, arguments)):
        found = _find(argument)
        if isinstance(found, str):
            request.empty[argument] = found
            continue
        if found == [argument]:
            request.named.add(argument)
        for path in found:
            if (real := os.path.realpath(path)) not in seen:
                seen.add(real)
                request.paths.append(path)
    return request


def run(work: Work[Result], paths: Sequence[str], jobs: Jobs) -> Iterator[Outcome[Result]]:
    """Do `work` for every path, and give the outcomes in the order of the paths.

    Parameters
    ----------
    work : callable
        Takes a path; must be picklable unless there is one job.
    paths : sequence of str
    jobs : int or Runner
        Processes; each gets its share of the processors for its threads. Or who does the work in their place.

    Raises
    ------
    UsageError
        What the user asked for is wrong for every file.
    """
    if not isinstance(jobs, int):
        return jobs(work, paths)
    if jobs < 1:
        raise UsageError(f"jobs is {jobs}: expected 1 or more")
    if jobs == 1 or len(paths) <= 1:
        return (attempt(work, path) for path in paths)
    return _in_processes(work, paths, min(jobs, len(paths)))


def attempt(work: Work[Result], path: str) -> Outcome[Result]:
    """Do `work` for one path, here and now, whatever becomes of it.

    Raises
    ------
    UsageError
        What the user asked for is wrong for every file.
    """
    try:
        return Outcome(path, work(path), None)
    except UsageError:
        raise
    except DeepcrZooError as error:
        again = isinstance(error, InterruptedWorkError)
        return Outcome(path, None, str(error), isinstance(error, NotAnExposureError), again)
    except MemoryError:
        reason = "does not fit into memory: use fewer --jobs, or fewer workers on each machine"
        return Outcome(path, None, f"{path}: {reason}", again=True)
    except Exception as error:
        reason = " ".join(str(error).split()) or "no reason given"
        place = traceback.extract_tb(error.__traceback__)[-1]
        what = f"{type(error).__name__}: {reason} ({Path(place.filename).name}, line {place.lineno})"
        return Outcome(path, None, f"{path}: failed unexpectedly, please report this: {what}")


def part_for(work: Work[Result], path: str) -> Work[Result]:
    """What another process needs of the work to do it for this path alone."""
    return ForEach(work.work, {path: work.things[path]}) if isinstance(work, ForEach) else work


def _list_items(argument: str) -> list[str]:
    """The lines of a list (names are relative to the current folder), or the argument itself."""
    if not argument.startswith("@") or os.path.lexists(argument):
        return [argument]
    try:
        lines = Path(argument[1:]).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise UsageError(f"{argument}: the list cannot be read: {error}") from None
    items = [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]
    if nested := [item for item in items if item.startswith("@")]:
        raise UsageError(f"{argument}: expected names of files, found another list, {nested[0]}")
    return items


def _find(argument: str) -> list[str] | str:
    """The files that an argument stands for, or why there are none."""
    try:
        if os.path.isdir(argument):
            inside = (str(Path(argument, name)) for name in sorted(os.listdir(argument)))
            found = [path for path in inside if path.lower().endswith(FITS_ENDINGS) and os.path.isfile(path)]
            nothing = "the folder holds no FITS file but products of deepcr-zoo, or none at all"
        elif os.path.lexists(argument) or not glob.has_magic(argument):
            return [argument]  # a file that is not there fails by name, like any other that cannot be read
        else:
            found = sorted(path for path in glob.glob(argument, recursive=True) if os.path.isfile(path))
            nothing = "nothing matches" if not found else "matches products of deepcr-zoo alone: name the exposures"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return [path for path in found if not path.endswith(PRODUCT_ENDINGS)] or nothing


def _in_processes(work: Work[Result], paths: Sequence[str], jobs: int) -> Iterator[Outcome[Result]]:
    """Keep `jobs` processes busy; where one of them dies, the unfinished files are tried again, each on its own."""
    waiting = deque(paths)
    while waiting:
        running: deque[tuple[str, Future[Outcome[Result]]]] = deque()
        pool = _pool(jobs)
        try:
            with suppress(BrokenProcessPool):
                while waiting or running:
                    while waiting and len(running) < QUEUE * jobs:
                        running.append((waiting[0], _submit(pool, work, waiting[0])))
                        waiting.popleft()
                    yield running[0][1].result()
                    running.popleft()
        except (KeyboardInterrupt, GeneratorExit):  # here, or where the outcomes are used
            warnings.warn("waiting for the files that are being worked on; interrupt again to stop at once", stacklevel=2)
            raise
        finally:
            _end(pool)
        yield from _one_by_one(work, running)


def _one_by_one(work: Work[Result], tasks: Iterable[tuple[str, Future[Outcome[Result]]]]) -> Iterator[Outcome[Result]]:
    """Outcomes of tasks among which one killed its process: each that was lost gets a process to itself."""
    pool = _pool(1)
    try:
        for path, future in tasks:
            lost = future.cancelled() or future.exception() is not None
            try:
                yield (_submit(pool, work, path) if lost else future).result()
            except BrokenProcessPool:
                told = f"{path}: the process that worked on it was killed, perhaps for want of memory"
                yield Outcome(path, None, told, again=True)
                pool.shutdown()
                pool = _pool(1)
    finally:
        _end(pool)


def _submit(pool: ProcessPoolExecutor, work: Work[Result], path: str) -> Future[Outcome[Result]]:
    """Hand out a file; a process that this starts inherits that interruptions wait, and so never sees one."""
    if not hasattr(signal, "pthread_sigmask"):
        return pool.submit(attempt, part_for(work, path), path)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return pool.submit(attempt, part_for(work, path), path)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end(pool: ProcessPoolExecutor) -> None:
    """Let the running files end; those that have not begun never do. A second interruption ends everything at once."""
    try:
        pool.shutdown(cancel_futures=True)
    except KeyboardInterrupt:
        os._exit(INTERRUPTED)  # the workers follow, see _die_with_parent


def _pool(jobs: int) -> ProcessPoolExecutor:
    # spawned: threads of torch and locks of the parent do not survive a fork
    threads = max(1, _processors() // jobs)
    return ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), _start_worker, (threads,))


def _start_worker(threads: int) -> None:
    os.environ["OMP_NUM_THREADS"] = str(threads)  # before the first library that asks is loaded: not all ask torch
    import torch

    torch.set_num_threads(threads)
    logging.getLogger("deepcr_zoo").addHandler(logging.NullHandler())  # what matters goes back with the outcome
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is interrupted, and lets the running files end
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    """End at once when the parent was killed: nobody else would tell an idle worker."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
