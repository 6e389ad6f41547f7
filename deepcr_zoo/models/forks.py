"""Forks of the calling process, which would copy the locks that other threads hold: a fork waits for these.

A forked process has one thread and copies of the locks and pools of its parent. So a fork waits for imports and
computations in progress, and a forked process computes with one thread: OpenMP and OpenVINO would block for ever on the
others.

Python itself takes locks before a fork, in the reverse order of their registration. Computations need these locks, so the
modules that register them are imported here: a fork then waits for computations before it takes them.
"""

from __future__ import annotations

import concurrent.futures.thread  # noqa: F401 - registers a lock
import importlib
import logging  # noqa: F401 - registers a lock
import os
import re
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from importlib import _bootstrap

from deepcr_zoo.machine import processors

_IMPORTED = sys.stdlib_module_names | {
    "astropy",
    "charset_normalizer",
    "deepcr_zoo",
    "lazy_loader",
    "matplotlib",
    "numpy",
    "openvino",
    "packaging",
    "PIL",
    "platformdirs",
    "pydantic",
    "pydantic_core",
    "safetensors",
    "scipy",
    "torch",
    "tqdm",
    "typing_extensions",
    "yaml",
}
"""Packages whose import is waited for: those that models and exposures need, whose locks a forked process needs.

Not all: the import of a program may go on for as long as the program runs.
"""


class _Computations:
    """Threads that compute, so that a fork finds none of them halfway, and what is set for the process meanwhile."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._depths: Counter[int] = Counter()  # nested computations of each thread
        self._forks = 0
        self._undo: ExitStack | None = None  # while something is set for the process

    @contextmanager
    def one_more(self, set_for_process: Callable[[], ExitStack] | None) -> Iterator[None]:
        """Hold off forks; the first computation that asks sets what holds for the process, and the last restores it."""
        thread = threading.get_ident()
        with self._changed:
            self._changed.wait_for(lambda: not self._forks or thread in self._depths)
            if self._undo is None and set_for_process is not None:
                self._undo = set_for_process()
            self._depths[thread] += 1
        try:
            yield
        finally:
            with self._changed:
                self._depths[thread] -= 1
                if not self._depths[thread]:
                    del self._depths[thread]
                if not self._depths and self._undo is not None:
                    self._undo.close()
                    self._undo = None
                self._changed.notify_all()

    def before_fork(self) -> None:
        """Wait for the computations of other threads, and let no new one start."""
        self._changed.acquire()
        self._forks += 1
        self._changed.wait_for(lambda: self._depths.keys() <= {threading.get_ident()})

    def after_fork(self) -> None:
        """Let computations go on."""
        self._forks -= 1
        self._changed.notify_all()
        self._changed.release()

    def in_child(self) -> None:
        """Go on with the only thread of the child."""
        self._forks = 1  # other threads that were about to fork are not here
        self.after_fork()


COMPUTATIONS = _Computations()

_is_forked = False


def threads() -> int:
    """Return how many threads a computation gets: torch's number if it is loaded, else ``OMP_NUM_THREADS``, else all."""
    if "torch" in sys.modules:
        import torch

        return torch.get_num_threads()
    if _is_forked:
        return 1
    stated = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    wanted = int(stated) if re.fullmatch(r"[0-9]{1,4}", stated) else 0
    return wanted or processors()


def _finish_imports() -> None:
    """Wait for the imports of other threads, and for those that follow at once."""
    waited: set[str] = set()
    while names := _imported_elsewhere() - waited:
        waited |= names
        for name in names:
            with suppress(Exception):  # where it fails, the other thread gets the error
                importlib.import_module(name)


def _imported_elsewhere() -> set[str]:
    """Return the modules that other threads import right now, also those that are still looked for."""
    here = threading.get_ident()
    # Python has no public name for it; a module's lock is held from the search for its file to the end of its import
    locks = [(name, reference()) for name, reference in list(_bootstrap._module_locks.items())]  # type: ignore[attr-defined]
    held = {name for name, lock in locks if lock is not None and lock.owner != here}
    return {name for name in held if name.partition(".")[0] in _IMPORTED}


def _before_fork() -> None:
    _finish_imports()
    COMPUTATIONS.before_fork()
    _finish_imports()


def _in_child() -> None:
    global _is_forked
    COMPUTATIONS.in_child()
    _is_forked = True
    if "deepcr_zoo.models.isolation" in sys.modules:
        import torch

        torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=COMPUTATIONS.after_fork, after_in_child=_in_child)
