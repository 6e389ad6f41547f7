"""Work on many files on a Dask cluster: one task for each file, in worker processes that may run on other machines.

The only module that imports dask (extra ``dask``), and only when it is used. The outcomes are those of `batch.run`.
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
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import AbstractContextManager, ExitStack, chdir, contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from deepcr_zoo import batch
from deepcr_zoo._version import __version__
from deepcr_zoo.batch import Jobs, Outcome, Result, Runner, Work
from deepcr_zoo.errors import ClusterError, UsageError
from deepcr_zoo.files import scratch_folder, sweep_partial, write_failure
from deepcr_zoo.locations import NO_SETTINGS, configuration_file, user_data_root
from deepcr_zoo.machine import require

QUEUE = 4
"""Tasks in flight per worker: enough to keep each busy and to let an adaptive cluster grow, but far from all tasks."""

LEAST = 8
"""Minimum of tasks in flight, so that an adaptive cluster without workers starts some."""

RETRIES = 2
"""Further attempts if the machine fails; after a worker's death, dask decides (allowed-failures)."""

CONNECT_S = 10.0
POLL_S = 2.0
PATIENCE_S = 15.0
"""Time without a worker after which the user gets a warning."""


def jobs_or_scheduler(jobs: int | None, scheduler: str | None, default: int, shared: Sequence[Path] = ()) -> Jobs:
    """Return where work runs, from ``--jobs`` and ``--scheduler``; `default` jobs if neither is given."""
    if scheduler is None:
        return default if jobs is None else jobs
    if jobs is not None:
        raise UsageError("--jobs and --scheduler: expected one of them, a cluster has as many processes as it has workers")
    return on_scheduler(scheduler, shared)


def on_scheduler(address: str, shared: Sequence[Path] = ()) -> Runner:
    """Return a runner for the Dask cluster at ``tcp://host:port``.

    A lost worker costs only its current task, which runs again on another worker. Workers need one thread, the same
    version of this package and the same files at the same paths. Every worker must see the `shared` folders, which are
    made if absent. The runner raises `ClusterError` if the scheduler cannot be reached or is lost, or if workers cannot
    do the work.
    """
    if not re.fullmatch(r"((tcp|tls|ucx|ws|wss)://)?(\[[0-9A-Fa-f:.]+\]|[^/\s\[\]@]+):\d{1,5}", address):
        shown = re.split("[?#]", address.rpartition("@")[2])[0]  # a login or a token, of which Dask has none
        raise UsageError(f"--scheduler {shown}: expected the address that `dask scheduler` prints, as in tcp://host:8786")
    require("distributed", f"--scheduler {address} needs dask", "dask")

    def run(work: Work[Result], paths: Sequence[str]) -> Generator[Outcome[Result], None, None]:
        with ExitStack() as stack:
            markers = tuple(str(stack.enter_context(_marker(folder.absolute()))) for folder in shared)
            tasks = _Tasks(stack.enter_context(_connect(address)), address, work, paths, markers)
            yield from tasks.outcomes()

    return run


def _marker(folder: Path) -> AbstractContextManager[Path]:
    """Return a context with a temporary folder in `folder`, which proves to workers that they see the same place."""
    place = folder / "cluster"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        sweep_partial(place)
        return scratch_folder(place)
    except OSError as error:
        raise write_failure(folder, error, "choose another folder") from None


def _connect(address: str) -> Any:
    """Return a client of the scheduler."""
    from distributed import Client

    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)  # failures become a ClusterError
    try:
        return Client(address, timeout=CONNECT_S, set_as_default=False, name="deepcr-zoo")  # type: ignore[no-untyped-call]
    except (OSError, ValueError, MemoryError) as error:  # the beginning of another service's answer is taken for a length
        reason = " ".join(str(error).split())
        raise ClusterError(
            f"{address}: no Dask scheduler answers: expected the address that `dask scheduler` prints, as in "
            f"tcp://host:8786 ({type(error).__name__}: {reason})"
        ) from None


@dataclass(frozen=True)
class _Terms:
    """Conditions that make a worker's results those of a run on this machine."""

    version: str
    folder: str  # working folder of the command; relative names start there
    markers: tuple[str, ...]  # folders that must be visible
    settings: Mapping[str, str | None]  # environment variables that results depend on


class _RetryError(Exception):
    """Another attempt may succeed; the argument is the outcome of this one."""


class _Tasks:
    """The tasks of one command; the scheduler holds few of them at a time."""

    def __init__(self, client: Any, address: str, work: Work[Any], paths: Sequence[str], markers: tuple[str, ...]) -> None:
        self.client, self.address, self.work, self.paths = client, address, work, paths
        self.terms = _Terms(__version__, os.getcwd(), markers, _settings())
        self.name = f"deepcr-zoo-{secrets.token_hex(4)}"
        self.finished: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.in_flight: dict[str, tuple[int, Any]] = {}  # by key: index of the path, future
        self.suspects: deque[int] = deque()  # tasks whose workers were killed
        self.on_trial: int | None = None  # the suspect that runs again
        self.room, self.asked = LEAST, 0.0
        self.idle_since = time.monotonic()  # since when there is no worker
        self.warned = False

    def outcomes(self) -> Iterator[Outcome[Any]]:
        """Yield the outcomes in the order of the paths."""
        try:
            yield from self._outcomes()
        except (CancelledError, AsyncCancelledError):
            raise self._lost() from None
        except (KeyboardInterrupt, GeneratorExit):  # raised here, or by the consumer
            warnings.warn("workers finish what they are working on, and begin nothing else", stacklevel=2)
            raise

    def _outcomes(self) -> Iterator[Outcome[Any]]:
        waiting = deque(range(len(self.paths)))
        done: dict[int, Outcome[Any]] = {}
        for wanted in range(len(self.paths)):
            while wanted not in done:
                self._count_workers()
                while waiting and len(self.in_flight) < self.room:
                    self._submit(waiting.popleft())
                if self.suspects and self.on_trial is None:
                    self.on_trial = self.suspects.popleft()
                    self._submit(self.on_trial, trial=True)
                try:
                    future = self.finished.get(timeout=POLL_S)
                except queue.Empty:
                    continue
                index, _ = self.in_flight.pop(future.key)
                outcome = self._outcome(index, future)
                if outcome is not None:
                    done[index] = outcome
            yield done.pop(wanted)

    def _submit(self, index: int, trial: bool = False) -> None:
        """Submit a task; one on trial comes before all others."""
        from distributed.protocol.serialize import serialize_bytes

        path = self.paths[index]
        # bytes, because the scheduler looks into tasks and need not have their modules
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
        self.in_flight[future.key] = (index, future)
        future.add_done_callback(self.finished.put)

    def _outcome(self, index: int, future: Any) -> Outcome[Any] | None:
        """Return the outcome of a task; None if its workers were killed and it runs once more."""
        from distributed import KilledWorker

        path, was_on_trial = self.paths[index], index == self.on_trial
        if was_on_trial:
            self.on_trial = None
        try:
            return future.result()  # type: ignore[no-any-return]
        except _RetryError as error:
            return error.args[0]  # type: ignore[no-any-return]
        except KilledWorker:
            # another task may have killed these workers, so suspects run again one at a time
            if not was_on_trial:
                self.suspects.append(index)
                return None
            reason = f"{path}: the workers that worked on it were killed, perhaps for want of memory"
            return Outcome(path, None, reason, again=True)
        except (UsageError, ClusterError, CancelledError):
            raise
        except Exception as error:
            raise ClusterError(
                f"{path}: {self.address} cannot take up the work: {type(error).__name__}: {_first_line(error)}; expected "
                f"deepcr-zoo {__version__} with the same extras where the scheduler and each worker runs"
            ) from None

    def _count_workers(self) -> None:
        """Adapt to the number of workers, every few seconds; warn if there are none for long."""
        now = time.monotonic()
        if now - self.asked < POLL_S:
            return
        self.asked = now
        for marker in self.terms.markers:
            with suppress(OSError):
                os.utime(marker)  # an old one would be swept as left over
        try:
            workers = self.client.scheduler_info(n_workers=0)["n_workers"]
        except Exception:
            raise self._lost() from None
        self.room = max(LEAST, QUEUE * workers)
        if workers:
            self.idle_since, self.warned = now, False
        elif not self.warned and now - self.idle_since > PATIENCE_S:
            warnings.warn(f"{self.address} has no workers: waiting for one (dask worker {self.address})", stacklevel=2)
            self.warned = True

    def _lost(self) -> ClusterError:
        return ClusterError(
            f"{self.address}: the scheduler is gone: start a cluster again, the same command goes on where this one ended"
        )


def _settings() -> dict[str, str | None]:
    """Return the environment variables that fix models, instruments and the date of files; each worker has its own cache."""
    settings = configuration_file().absolute()
    if "DEEPCR_ZOO_CONFIG" not in os.environ and not settings.is_file():
        settings = settings.with_name(NO_SETTINGS)  # descriptions of instruments may lie beside it
    return {
        "DEEPCR_ZOO_CONFIG": str(settings),
        "DEEPCR_ZOO_DATA": str(user_data_root().absolute()),
        "SOURCE_DATE_EPOCH": os.environ.get("SOURCE_DATE_EPOCH"),
    }


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["no reason given"])[0]


# the functions below run in a worker


def _work(packed: bytes, path: str, is_file: bool, terms: _Terms) -> Outcome[Any]:
    """Do the work for one path, or raise `ClusterError` if this worker cannot; `_RetryError` if the machine fails."""
    _check_worker(terms)
    work = _unpacked(packed)
    with _environment(terms.settings), chdir(terms.folder):
        if is_file and not os.path.exists(path):
            raise _not_shared(Path(path).absolute())
        outcome = batch.attempt_elsewhere(work, path, "start fewer workers on each machine")
    if outcome.again:
        raise _RetryError(outcome)
    return outcome


def _check_worker(terms: _Terms) -> None:
    from distributed import get_worker

    if __version__ != terms.version:
        raise ClusterError(f"{_here()} has deepcr-zoo {__version__}: expected {terms.version}, which gave out the work")
    if (threads := get_worker().state.nthreads) != 1:  # warnings are caught for a whole process
        advice = f"start them with --nworkers {threads} --nthreads 1"
        raise ClusterError(f"{_here()} has {threads} threads: expected one in each worker, {advice}")
    for place in (terms.folder, *terms.markers):
        if not os.path.isdir(place):
            raise _not_shared(Path(place) if place == terms.folder else Path(place).parent)


@contextmanager
def _environment(settings: Mapping[str, str | None]) -> Iterator[None]:
    """Set environment variables (None removes one) and restore them at the end."""
    before = {name: os.environ.get(name) for name in settings}
    _set_environment(settings)
    try:
        yield
    finally:
        _set_environment(before)


def _set_environment(settings: Mapping[str, str | None]) -> None:
    for name, value in settings.items():
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
