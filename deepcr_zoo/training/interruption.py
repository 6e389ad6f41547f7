"""Ctrl-C and SIGTERM as a request to stop after the next step."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """True when called, once a signal has arrived."""

    def __init__(self) -> None:
        self.made = False

    def __call__(self) -> bool:
        return self.made


@contextmanager
def noting_signals() -> Iterator[StopRequest]:
    """Turn the first signal into a stop request; a second one acts as it did before.

    Signals arrive in the main thread alone: in any other the request is never made.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def note(number: int, frame: FrameType | None) -> None:
        request.made = True
        restore()

    for number in SIGNALS:
        signal.signal(number, note)
    try:
        yield request
    finally:
        restore()
