"""Files of the package that a piece of work enters: a measure of how far a reader must follow it."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import deepcr_zoo

PACKAGE = Path(deepcr_zoo.__file__).parent


def files_entered(work: Callable[[], Any]) -> list[str]:
    """Return the modules of which a function is called, by path within the package; imports do not count."""
    entered = set()

    def note(frame: FrameType, event: str, argument: Any) -> None:
        path = Path(frame.f_code.co_filename)
        if event == "call" and frame.f_code.co_name != "<module>" and path.is_relative_to(PACKAGE):
            entered.add(str(path.relative_to(PACKAGE)))

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return sorted(entered)
