"""Ctrl-C and SIGTERM as a request to stop after the next step."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def noting_signals() -> Iterator[Callable[[], bool]]:
    """Give a function that returns True once a signal has arrived; a second signal acts as it did before.

    Signals arrive in the main thread alone: in any other the function returns False.
    """
    request = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield request.is_set
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def note(number: int, frame: FrameType | None) -> None:
        request.set()
        restore()

    for number in SIGNALS:
        signal.signal(number, note)
    try:
        yield request.is_set
    finally:
        restore()
