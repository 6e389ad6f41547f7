"""Processes that tests start and interrupt."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Sequence
from typing import Any


def start(command: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
    """Start a process that SIGINT interrupts, even where the suite itself runs in the background of a shell.

    A shell ignores SIGINT for its background jobs, and children inherit that.
    """
    return subprocess.Popen(command, preexec_fn=_handle_interruptions, **options)


def _handle_interruptions() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
