"""Many files on a Dask cluster: a task for each, in processes that somebody else has started, perhaps on other machines.

The only module that imports dask (extra ``dask``), when it is used. What comes back is what `batch.run` gives.
"""

from __future__ import annotations

import logging
import os
import platform
import queue
import re
import secrets
import time
import warnings
from asyncio import CancelledError as AsyncCancelledError
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import ExitStack, chdir
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from deepcr_zoo import batch
from deepcr_zoo._version import __version__
from deepcr_zoo.batch import Jobs, Outcome, Result, Runner, Work
from deepcr_zoo.errors import ClusterError, OutputError, UsageError
from deepcr_zoo.files import configuration_file, scratch_folder, sweep_partial, user_data_root
from deepcr_zoo.machine import require

QUEUE = 4
"""Tasks in flight per worker: enough to keep each busy and to let an adaptive cluster grow, far from all there are."""

LEAST = 8
"""Tasks in flight at least, so that a cluster without workers is asked for some."""

RETRIES = 2
"""Further attempts where the machine is to blame; after a worker's death it is dask that decides (allowed-failures)."""

CONNECT_S = 10.0
POLL_S = 2.0
PATIENCE_S = 15.0
"""Without a worker for so long, the user is told."""

GO_ON = "the same command goes on where this one ended"


def jobs_or_scheduler(jobs: int | None, scheduler: str | None, default: int, shared: Sequence[Path] = ()) -> Jobs:
    """Where work runs, of the options ``--jobs`` and ``--scheduler``.

    Parameters
    ----------
    jobs : int or None
    scheduler : str or None
        Address.
    default : int
        Jobs if neither is given.
    shared : sequence of Path
        See `on_scheduler`.

    Raises
    ------
    UsageError
        If both are given.
    MissingExtraError
        If dask is not installed.
    """
    if scheduler is None:
        return default if jobs is None else jobs
    if jobs is not None:
        raise UsageError("--jobs and --scheduler: expected one of them, a cluster has as many processes as it has workers")
    return on_scheduler(scheduler, shared)


def on_scheduler(address: str, shared: Sequence[Path] = ()) -> Runner:
    """Work on a Dask cluster, for `batch.run` and all that takes its `Jobs`.

    A worker that is lost costs what it was working on, which runs again on another. Workers need one thread, the same
    version of this package and the same files at the same places.

    Parameters
    ----------
    address : str
        Of the scheduler: ``tcp://host:port``.
    shared : sequence of Path
        Folders that results go to, which every worker must have; they are made if they are not there.

    Returns
    -------
    Runner
        It raises `ClusterError` if the scheduler cannot be reached or is lost, or if workers cannot do the work.

    Raises
    ------
    UsageError
        If the address is none.
    MissingExtraError
        If dask is not installed.
    """
    if not re.fullmatch(r"((tcp|tls|ucx|ws|wss)://)?[^/\s]+:\d+", address):
        raise UsageError(f"--scheduler {address}: expected the address that `dask scheduler` prints, as in tcp://host:8786")
    require("distributed", f"--scheduler {address} needs dask", "dask")

    def run(work: Work[Result], paths: Sequence[str]) -> Iterator[Outcome[Result]]:
        with ExitStack() as stack:
            signs = tuple(str(stack.enter_context(_sign(folder.absolute()))) for folder in shared)
            flight = _Flight(stack.enter_context(_connect(address)), address, work, paths, signs)
            yield from flight.outcomes()

    return run


def _sign(folder: Path) -> Any:
    """Something for workers to find in a folder, while it is entered."""
    place = folder / "cluster"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        sweep_partial(place)
        return scratch_folder(place)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written: {error.strerror}; choose another folder") from None


def _connect(address: str) -> Any:
    """A client of the scheduler.

    Raises
    ------
    ClusterError
        If nobody answers there.
    """
    from distributed import Client

    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)  # what goes wrong is told as an error
    try:
        return Client(address, timeout=CONNECT_S, set_as_default=False, name="deepcr-zoo")  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ClusterError(
            f"{address}: no Dask scheduler answers: expected the address that `dask scheduler` prints, as in "
            f"tcp://host:8786 ({type(error).__name__}: {reason})"
        ) from None


@dataclass(frozen=True)
class _Terms:
    """What every worker must meet, or results would not be those of a run on this machine.

    Attributes
    ----------
    version : str
    folder : str
        Where the command was given: relative names start there.
    signs : tuple of str
        What must be there.
    settings : tuple of (str, str or None)
        Environment variables that results depend on.
    """

    version: str
    folder: str
    signs: tuple[str, ...]
    settings: tuple[tuple[str, str | None], ...]


class _AgainError(Exception):
    """Another attempt may succeed; its argument is the outcome of this one."""


class _Flight:
    """The tasks of one command; few of them are at the scheduler at a time."""

    def __init__(self, client: Any, address: str, work: Work[Any], paths: Sequence[str], signs: tuple[str, ...]) -> None:
        self.client, self.address, self.work, self.paths = client, address, work, paths
        self.terms = _Terms(__version__, os.getcwd(), signs, _settings())
        self.name = f"deepcr-zoo-{secrets.token_hex(4)}"
        self.landed: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.flying: dict[str, tuple[int, Any]] = {}  # by key: index of the path, future
        self.suspects: deque[int] = deque()
        self.on_trial: int | None = None
        self.room, self.asked = LEAST, 0.0
        self.idle_since: float | None = time.monotonic()  # None once there were workers, or the user was told

    def outcomes(self) -> Iterator[Outcome[Any]]:
        """In the order of the paths."""
        try:
            yield from self._outcomes()
        except (CancelledError, AsyncCancelledError):
            raise self._lost() from None
        except (KeyboardInterrupt, GeneratorExit):  # here, or where the outcomes are used
            warnings.warn("workers finish what they are working on, and begin nothing else", stacklevel=2)
            raise

    def _outcomes(self) -> Iterator[Outcome[Any]]:
        waiting = deque(range(len(self.paths)))
        done: dict[int, Outcome[Any]] = {}
        for wanted in range(len(self.paths)):
            while wanted not in done:
                self._look_around()
                while waiting and len(self.flying) < self.room:
                    self._submit(waiting.popleft())
                if self.suspects and self.on_trial is None:
                    self.on_trial = self.suspects.popleft()
                    self._submit(self.on_trial, trial=True)
                try:
                    future = self.landed.get(timeout=POLL_S)
                except queue.Empty:
                    continue
                index, _ = self.flying.pop(future.key)
                outcome = self._outcome(index, future)
                if outcome is not None:
                    done[index] = outcome
            yield done.pop(wanted)

    def _submit(self, index: int, trial: bool = False) -> None:
        """Hand out a task; one on trial comes before all others."""
        from distributed.protocol.serialize import serialize_bytes

        path = self.paths[index]
        # as bytes: the scheduler, which looks into tasks, need not import what they need
        packed = serialize_bytes(batch.part_for(self.work, path))
        future = self.client.submit(
            _work,
            packed,
            path,
            os.path.exists(path),
            self.terms,
            key=f"{self.name}-{'again-' if trial else ''}{index}",
            pure=False,
            retries=RETRIES,
            priority=int(trial),
        )
        self.flying[future.key] = (index, future)
        future.add_done_callback(self.landed.put)

    def _outcome(self, index: int, future: Any) -> Outcome[Any] | None:
        """What became of a task; None if it is to be tried once more, because its workers were killed."""
        from distributed import KilledWorker

        path, was_on_trial = self.paths[index], index == self.on_trial
        if was_on_trial:
            self.on_trial = None
        try:
            return future.result()  # type: ignore[no-any-return]
        except _AgainError as error:
            return error.args[0]  # type: ignore[no-any-return]
        except KilledWorker:
            # it may have been another task of these workers: only one suspect is tried at a time
            if not was_on_trial:
                self.suspects.append(index)
                return None
            told = f"{path}: the workers that worked on it were killed, perhaps for want of memory"
            return Outcome(path, None, told, again=True)
        except (UsageError, ClusterError, CancelledError):
            raise
        except Exception as error:
            raise ClusterError(
                f"{path}: {self.address} cannot take up the work: {type(error).__name__}: {_first_line(error)}; expected "
                f"deepcr-zoo {__version__} with the same extras where the scheduler and each worker runs"
            ) from None

    def _look_around(self) -> None:
        """Ask now and then how many workers there are."""
        now = time.monotonic()
        if now - self.asked < POLL_S:
            return
        self.asked = now
        try:
            workers = self.client.scheduler_info(n_workers=0)["n_workers"]
        except Exception:
            raise self._lost() from None
        self.room = max(LEAST, QUEUE * workers)
        if workers:
            self.idle_since = None
        elif self.idle_since is not None and now - self.idle_since > PATIENCE_S:
            warnings.warn(f"{self.address} has no workers: waiting for one (dask worker {self.address})", stacklevel=2)
            self.idle_since = None

    def _lost(self) -> ClusterError:
        return ClusterError(f"{self.address}: the scheduler is gone: start a cluster again, {GO_ON}")


def _settings() -> tuple[tuple[str, str | None], ...]:
    """Which models there are, and the time that files are dated with; where models are cached is a worker's own matter."""
    places = {"DEEPCR_ZOO_CONFIG": configuration_file(), "DEEPCR_ZOO_DATA": user_data_root()}
    date = "SOURCE_DATE_EPOCH"
    return (*((name, str(path.absolute())) for name, path in places.items()), (date, os.environ.get(date)))


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["no reason given"])[0]


# from here on in a worker


def _work(packed: bytes, path: str, is_file: bool, terms: _Terms) -> Outcome[Any]:
    """Do the work for one path, if this worker can.

    Raises
    ------
    ClusterError
        If it cannot.
    _AgainError
        If the machine failed it.
    """
    _check_worker(terms)
    work = _unpacked(packed)
    _adopt(terms.settings)
    with chdir(terms.folder):
        if is_file and not os.path.exists(path):
            raise _not_shared(Path(path).absolute())
        outcome = batch.attempt(work, path)
    if outcome.again:
        raise _AgainError(outcome)
    return outcome


def _check_worker(terms: _Terms) -> None:
    from distributed import get_worker

    if __version__ != terms.version:
        raise ClusterError(f"{_here()} has deepcr-zoo {__version__}: expected {terms.version}, which gave out the work")
    if (threads := get_worker().state.nthreads) != 1:  # warnings are caught for a whole process
        way_out = f"start them with --nworkers {threads} --nthreads 1"
        raise ClusterError(f"{_here()} has {threads} threads: expected one in each worker, {way_out}")
    for place in (terms.folder, *terms.signs):
        if not os.path.isdir(place):
            raise _not_shared(Path(place) if place == terms.folder else Path(place).parent)


def _adopt(settings: Iterable[tuple[str, str | None]]) -> None:
    """Take over the settings of the command, for this task and until another command has others."""
    for name, value in settings:
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _not_shared(place: Path) -> ClusterError:
    return ClusterError(
        f"{_here()} does not see {place}: expected the same files at the same place on every machine (a shared file system)"
    )


def _here() -> str:
    from distributed import get_worker

    return f"the worker {get_worker().name} on {platform.node()}"


@lru_cache(maxsize=1)
def _unpacked(packed: bytes) -> Work[Any]:
    from distributed.protocol.serialize import deserialize_bytes

    work: Work[Any] = deserialize_bytes(packed)
    return work
