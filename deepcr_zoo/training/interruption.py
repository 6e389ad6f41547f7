"""Ctrl-C and SIGTERM: the step in hand is finished, and everything is saved."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Request:
    """Whether somebody has asked to stop."""

    def __init__(self) -> None:
        self.made = False

    def __call__(self) -> bool:
        """Whether somebody has."""
        return self.made


@contextmanager
def stop_requested() -> Iterator[Request]:
    """Note the first signal instead of dying of it; a second one does what it always does.

    Yields
    ------
    Request
        Which tells when it is called. Outside of the main thread no signal arrives, and it is always False.
    """
    request = Request()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}

    def note(number: int, frame: FrameType | None) -> None:
        request.made = True
        for one, handler in before.items():
            signal.signal(one, handler)

    for number in SIGNALS:
        signal.signal(number, note)
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
