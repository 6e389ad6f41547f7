"""Requests at a pace that the archive agrees with: all of them pause when it asks one to."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from deepcr_zoo.errors import ArchiveBusyError, InterruptedWorkError

FIRST_WAIT_S, LONGEST_WAIT_S = 2.0, 600.0
"""Where the archive does not tell how long; each wait is twice the one before. Who is told a longer one gives up."""

BUSY_ATTEMPTS = 6
"""Times in a row that an archive may say that it is busy."""

Answer = TypeVar("Answer")


class Pace:
    """When the next request may be made, for all threads, and whether any may."""

    def __init__(self) -> None:
        self._not_before = 0.0
        self._stopped = threading.Event()

    def stop(self) -> None:
        """No request is made any more, and nobody waits."""
        self._stopped.set()

    def check(self) -> None:
        """Go on, unless it was stopped.

        Raises
        ------
        InterruptedWorkError
        """
        if self._stopped.is_set():
            raise InterruptedWorkError("stopped: run the same command again, it goes on where this one ended")

    def pause(self, seconds: float) -> None:
        """Nobody makes a request for so long."""
        self._not_before = max(self._not_before, time.monotonic() + seconds)

    def wait(self, seconds: float = 0.0) -> None:
        """Wait for so long, and until a request may be made.

        Raises
        ------
        InterruptedWorkError
            If it was stopped.
        """
        until = time.monotonic() + seconds
        while (left := max(until, self._not_before) - time.monotonic()) > 0 and not self._stopped.wait(left):
            pass
        self.check()

    def ask(self, request: Callable[[], Answer]) -> Answer:
        """Make a request, again and again while the archive is busy.

        Raises
        ------
        ArchiveBusyError
            If it still is after `BUSY_ATTEMPTS`, or asks for a longer wait than `LONGEST_WAIT_S`.
        InterruptedWorkError
            If it was stopped.
        """
        for attempt in range(BUSY_ATTEMPTS):
            self.wait()
            try:
                return request()
            except ArchiveBusyError as error:
                seconds = FIRST_WAIT_S * 2**attempt if error.wait_s is None else error.wait_s
                if attempt + 1 == BUSY_ATTEMPTS or seconds > LONGEST_WAIT_S:
                    raise
                self.pause(seconds)
        raise AssertionError
