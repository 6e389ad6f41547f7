"""The pace of requests: when the archive is busy, all threads pause."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from deepcr_zoo.errors import ArchiveBusyError, InterruptedWorkError
from deepcr_zoo.zoo.incoming import REPORT_EVERY_S

SHORT_S = 5.0  # waits that are not worth a message
FIRST_WAIT_S, LONGEST_WAIT_S = 2.0, 600.0  # without a Retry-After each wait doubles; a longer one is an error
BUSY_ATTEMPTS = 6  # times in a row that the archive may be busy

Answer = TypeVar("Answer")


class Pace:
    """The time of the next request, shared by all threads."""

    def __init__(self, report: Callable[[str], None] | None = None) -> None:
        self._not_before = 0.0
        self._stopped = threading.Event()
        self._report = report
        self._reporting = threading.Lock()
        self._last_report = -REPORT_EVERY_S

    def stop(self) -> None:
        """Allow no further request, and end all waits."""
        self._stopped.set()

    def check(self) -> None:
        """Raise InterruptedWorkError if requests were stopped."""
        if self._stopped.is_set():
            raise InterruptedWorkError("stopped: run the same command again, it goes on where this one ended")

    def pause(self, seconds: float) -> None:
        """Allow no request for some time."""
        self._not_before = max(self._not_before, time.monotonic() + seconds)

    def report(self, reason: str, left_s: float) -> None:
        """Report a wait and the time left, unless one of another thread has just been reported."""
        with self._reporting:
            now = time.monotonic()
            if self._report is None or now - self._last_report < REPORT_EVERY_S:
                return
            self._last_report = now
        self._report(f"{reason}, for at most {left_s:.0f} s more (Ctrl-C stops, and the same command goes on)")

    def wait(self, seconds: float = 0.0) -> None:
        """Wait for some time, and until a request is allowed; InterruptedWorkError if requests were stopped."""
        until = time.monotonic() + seconds
        while (left := max(until, self._not_before) - time.monotonic()) > 0:
            if left > SHORT_S:
                self.report("the archive asks to wait", left)
            if self._stopped.wait(min(left, REPORT_EVERY_S)):
                break
        self.check()

    def ask(self, request: Callable[[], Answer]) -> Answer:
        """Make a request, and repeat it while the archive is busy, at most `BUSY_ATTEMPTS` times."""
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
