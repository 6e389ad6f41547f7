"""Many files: one after the other or in several processes, and no failure of one stops the others."""

from __future__ import annotations

import glob
import logging
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from deepcr_zoo.errors import DeepcrZooError, UsageError

FITS_ENDINGS = tuple(f"{end}{packed}" for end in (".fits", ".fit", ".fts") for packed in ("", ".gz", ".fz"))
PRODUCT_ENDINGS = ("_crmask.fits", "_crclean.fits")

QUEUE = 4
"""Files handed out per process: outcomes come in order, and a slow file shall not leave the other processes idle."""

Result = TypeVar("Result")
Work = Callable[[str], Result]


@dataclass(frozen=True)
class Outcome(Generic[Result]):
    """What became of one file: a result, or the reason why there is none."""

    path: str
    result: Result | None
    error: str | None


def expand(requests: Sequence[str]) -> list[str]:
    """Turn files, wildcards, folders and ``@list.txt`` into files, without duplicates and without our own products.

    Raises
    ------
    UsageError
        If a list cannot be read, or wildcards or a folder give nothing.
    """
    paths = [path for request in requests for path in _expand_one(request)]
    return list(dict.fromkeys(paths))


def run(work: Work[Result], paths: Sequence[str], jobs: int) -> Iterator[Outcome[Result]]:
    """Do `work` for every path, and give the outcomes in the order of the paths.

    Parameters
    ----------
    work : callable
        Takes a path; must be picklable if there are several jobs.
    paths : sequence of str
    jobs : int
        Processes; each gets its share of the processors for its threads.

    Raises
    ------
    UsageError
        What the user asked for is wrong for every file.
    """
    if jobs < 1:
        raise UsageError(f"jobs is {jobs}: expected 1 or more")
    if jobs == 1 or len(paths) == 1:
        return (_attempt(work, path) for path in paths)
    return _in_processes(work, paths, min(jobs, len(paths)))


def _expand_one(request: str) -> list[str]:
    if request.startswith("@"):
        try:
            lines = [line.strip() for line in Path(request[1:]).read_text(encoding="utf-8").splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{request}: the list cannot be read: {error}") from None
        return [path for line in lines if line and not line.startswith("#") for path in _expand_one(line)]
    path = Path(request)
    if path.is_dir():
        found = sorted(str(file) for file in path.iterdir() if file.name.lower().endswith(FITS_ENDINGS) and file.is_file())
    elif path.exists() or not glob.has_magic(request):
        return [request]  # a file that is not there fails by name, like any other that cannot be read
    else:
        found = sorted(file for file in glob.glob(request, recursive=True) if os.path.isfile(file))
    exposures = [file for file in found if not file.endswith(PRODUCT_ENDINGS)]
    if not exposures:
        raise UsageError(f"{request}: expected at least one FITS file that is no product of deepcr-zoo, found none")
    return exposures


def _attempt(work: Work[Result], path: str) -> Outcome[Result]:
    try:
        return Outcome(path, work(path), None)
    except UsageError:
        raise
    except DeepcrZooError as error:
        return Outcome(path, None, str(error))
    except MemoryError:
        return Outcome(path, None, f"{path}: does not fit into memory: use fewer --jobs")
    except Exception as error:
        logging.getLogger("deepcr_zoo").debug("%s", path, exc_info=True)
        reason = " ".join(str(error).split()) or "no reason given"
        return Outcome(path, None, f"{path}: failed unexpectedly, please report this: {type(error).__name__}: {reason}")


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
                        running.append((waiting[0], pool.submit(_attempt, work, waiting[0])))
                        waiting.popleft()
                    yield running[0][1].result()
                    running.popleft()
        finally:
            pool.shutdown(cancel_futures=True)  # after an interruption, files that have not begun never do
        yield from _one_by_one(work, running)


def _one_by_one(work: Work[Result], tasks: Iterable[tuple[str, Future[Outcome[Result]]]]) -> Iterator[Outcome[Result]]:
    """Outcomes of tasks among which one killed its process: each that was lost gets a process to itself."""
    pool = _pool(1)
    try:
        for path, future in tasks:
            lost = future.cancelled() or future.exception() is not None
            try:
                yield (pool.submit(_attempt, work, path) if lost else future).result()
            except BrokenProcessPool:
                yield Outcome(path, None, f"{path}: the process that worked on it was killed, perhaps for want of memory")
                pool.shutdown()
                pool = _pool(1)
    finally:
        pool.shutdown(cancel_futures=True)


def _pool(jobs: int) -> ProcessPoolExecutor:
    # spawned: threads of torch and locks of the parent do not survive a fork
    threads = max(1, _processors() // jobs)
    return ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), _start_worker, (threads,))


def _start_worker(threads: int) -> None:
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
