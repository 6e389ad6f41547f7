"""Dask clusters of real processes on this machine, for tests."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.conftest import CHECKOUT

LOCAL = ["--host", "127.0.0.1", "--no-dashboard"]


class Cluster:
    """A scheduler, and workers in separate sessions, as if on separate machines."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        places = os.pathsep.join(filter(None, [str(CHECKOUT), os.environ.get("PYTHONPATH")]))
        self.environment = os.environ | {"PYTHONPATH": places, **environment}
        found = folder / "scheduler.json"
        self.scheduler = self._start("scheduler", "--port", "0", "--scheduler-file", str(found), *LOCAL)
        wait_for(lambda: found.is_file() and found.read_text().endswith("}"))
        self.address: str = json.loads(found.read_text())["address"]
        self.workers: list[subprocess.Popen[bytes]] = []

    def add_worker(self, *options: str, threads: int = 1, **environment: str) -> subprocess.Popen[bytes]:
        """Start a worker, which need not be ready yet."""
        name = f"w{len(self.workers)}"
        place = ["--name", name, "--local-directory", str(self.folder), *LOCAL]
        self.workers.append(self._start("worker", self.address, "--nthreads", str(threads), *place, *options, **environment))
        return self.workers[-1]

    def output(self) -> str:
        """Return the output of scheduler and workers."""
        return "".join(path.read_text() for path in sorted(self.folder.glob("*.log")))

    def stop(self) -> None:
        """End every process."""
        for process in [*self.workers, self.scheduler]:
            kill(process)

    def _start(self, kind: str, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
        number = len(list(self.folder.glob("*.log")))
        with open(self.folder / f"{kind}-{number}.log", "w") as log:
            return subprocess.Popen(
                [sys.executable, "-m", f"distributed.cli.dask_{kind}", *arguments],
                env=self.environment | environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )


@contextmanager
def cluster(folder: Path, *options: str, workers: int = 2, **environment: str) -> Iterator[Cluster]:
    """Yield a cluster that ends with the block."""
    folder.mkdir(parents=True)
    made = Cluster(folder, **environment)
    try:
        for _ in range(workers):
            made.add_worker(*options)
        yield made
    finally:
        made.stop()


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and all its children, like a power cut."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def wait_for(what, process: subprocess.Popen | None = None, seconds: float = 120.0) -> None:
    """Wait until a condition holds; a process must not have ended by then."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "waited in vain"
        assert process is None or process.poll() is None, process.communicate()
        time.sleep(0.01)


def hashes(folder: Path) -> dict[str, str]:
    """Return the hashes of all files in a folder and below, by name."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
