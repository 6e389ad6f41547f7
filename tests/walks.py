"""Files of the package that a thing passes through: a measure of how far a reader must follow it."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import deepcr_zoo

PACKAGE = Path(deepcr_zoo.__file__).parent


def files_passed(work: Callable[[], Any], kinds: tuple[type, ...]) -> list[str]:
    """Return the modules with a function that receives an object of one of these kinds, alone or in a container."""
    passed = set()

    def note(frame: FrameType, event: str, argument: Any) -> None:
        path = Path(frame.f_code.co_filename)
        if event == "call" and path.is_relative_to(PACKAGE) and any(map(carries, frame.f_locals.values())):
            passed.add(str(path.relative_to(PACKAGE)))

    def carries(value: Any) -> bool:
        inside = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
        return isinstance(value, kinds) or any(isinstance(one, kinds) for one in inside)

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return sorted(passed)
