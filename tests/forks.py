"""Commands in processes of their own, forked from one that has imported everything: a start takes no seconds."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

_CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate", "shutil.rmtree"}
"""Audit events of the file system; a file that is opened for writing is one too."""

_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(
    [
        "deepcr_zoo.cli.main",
        "deepcr_zoo.publishing.workflow",
        "deepcr_zoo.training.pipeline",
        "deepcr_zoo.dataset.trainingsets",
        "deepcr_zoo.exposures.cleaning",
        "deepcr_zoo.bench.proof",
        "deepcr_zoo.bench.report.figures",
        "astropy.io.fits",
        "scipy.ndimage",
        "torch._dynamo",  # Adam imports it
    ]
)


@dataclass(frozen=True)
class Forked:
    """A command that runs, or has ended; its steps are the changes of the file system that it has made or begun."""

    process: ForkServerProcess
    log: Path
    counter: Any

    @property
    def steps(self) -> int:
        """Changes so far."""
        return int(self.counter.value)

    def wait(self) -> int:
        """Return the exit status; that of a killed process is the signal, negative."""
        self.process.join()
        assert self.process.exitcode is not None
        return self.process.exitcode

    def kill(self) -> int:
        """Kill it, and return the exit status: of the kill, unless it was quicker."""
        self.process.kill()
        return self.wait()

    def said(self) -> str:
        """Return what it printed, on stdout and stderr."""
        return self.log.read_text(errors="replace")


@dataclass(frozen=True)
class Limits:
    """What a command may not do: reach what its modes forbid, as the administrator may, or write larger files."""

    obeys_modes: bool = False
    largest_file: int | None = None

    def impose(self) -> None:
        """Give these limits to this process."""
        if self.obeys_modes and os.geteuid() == 0:
            _drop_capabilities()
        if self.largest_file is not None:
            import resource

            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.largest_file, self.largest_file))


def start(arguments: Sequence[object], log: Path, killed_at: int | None = None, limits: Limits = Limits()) -> Forked:
    """Run a command of deepcr-zoo in the environment of the caller; `killed_at` is the step that it does not survive."""
    counter = _forks.RawValue(ctypes.c_long, 0)
    facts = ([str(one) for one in arguments], dict(os.environ), os.getcwd(), str(log), counter, killed_at, limits)
    process = _forks.Process(target=_run, args=facts)
    process.start()
    return Forked(process, log, counter)


def _run(
    arguments: list[str],
    environment: dict[str, str],
    folder: str,
    log: str,
    counter: Any,
    killed_at: int | None,
    limits: Limits,
) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    _count_steps(counter, killed_at)
    limits.impose()
    sys.argv = ["deepcr-zoo", *arguments]
    from deepcr_zoo.cli.main import main

    main()


def _drop_capabilities() -> None:
    """Make the modes of files count for the administrator too, who stays the owner of them (Linux)."""
    header, none = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    if ctypes.CDLL(None, use_errno=True).capset(header, none):
        raise OSError(ctypes.get_errno(), "capset")


def _count_steps(counter: Any, killed_at: int | None) -> None:
    """Count the changes of the file system, and let no more than a number of them happen."""

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event in _CHANGES or (event == "open" and _is_for_writing(*arguments)):
            counter.value += 1
            if counter.value == killed_at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)


def _is_for_writing(path: Any, mode: Any, flags: Any) -> bool:
    return (
        bool(flags & (os.O_WRONLY | os.O_RDWR))
        and isinstance(path, str | bytes)
        and not os.fsencode(path).startswith(b"/dev/")
    )
