"""Networks compute as in a fresh process: settings of the calling code change no result, and stay as they were.

A forked process has one thread and copies of the locks and pools of its parent. So a fork waits for the computation in
progress, and a forked process computes with one thread: OpenMP and OpenVINO would block for ever on the others.
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch

SMALLEST = np.float32(1e-45)
"""Denormal number: it is zero in a thread that flushes denormals."""


class _Computations:
    """Threads that compute, so that a fork finds none of them halfway, and the settings of torch for the process."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._depths: Counter[int] = Counter()  # nested computations of each thread
        self._forks = 0
        self._undo = ExitStack()

    @contextmanager
    def one_more(self) -> Iterator[None]:
        """Hold off forks; the first computation sets what holds for the process, and the last restores it."""
        thread = threading.get_ident()
        with self._changed:
            self._changed.wait_for(lambda: not self._forks or thread in self._depths)
            if not self._depths:
                self._undo = _set_for_process()
            self._depths[thread] += 1
        try:
            yield
        finally:
            with self._changed:
                self._depths[thread] -= 1
                if not self._depths[thread]:
                    del self._depths[thread]
                if not self._depths:
                    self._undo.close()
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
        torch.set_num_threads(1)


_COMPUTATIONS = _Computations()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_COMPUTATIONS.before_fork,
        after_in_parent=_COMPUTATIONS.after_fork,
        after_in_child=_COMPUTATIONS.in_child,
    )


@contextmanager
def isolated(device: torch.device) -> Iterator[None]:
    """Build or run a network on a device, whatever the caller has set; the caller's settings are restored."""
    with (
        _COMPUTATIONS.one_more(),
        torch.device("cpu"),  # where new tensors go
        torch.autocast(device.type, enabled=False),
        torch.inference_mode(False),  # parameters that are made in this mode could not be shared between processes
        torch.no_grad(),
        np.errstate(all="ignore"),
        _denormals(),
    ):
        yield


@contextmanager
def _denormals() -> Iterator[None]:
    """Compute with denormal numbers in this thread."""
    flushes = not SMALLEST * np.float32(1)
    if flushes:
        torch.set_flush_denormal(False)
    try:
        yield
    finally:
        if flushes:
            torch.set_flush_denormal(True)


def _set_for_process() -> ExitStack:
    """Set torch to full precision and its usual kernels in all threads; closing the result restores the settings."""
    undo = ExitStack()
    for place, name, wanted in _process_settings():
        found = getattr(place, name)
        if found not in wanted:
            setattr(place, name, wanted[0])
            undo.callback(setattr, place, name, found)
    return undo


def _process_settings() -> Iterator[tuple[Any, str, tuple[Any, ...]]]:
    """Yield where torch keeps a setting, its name, and the values that give the right results, best first.

    By default CUDA convolutions use TF32, whose errors of 1e-3 would break parity and tiling.
    """
    yield torch.backends.mkldnn, "enabled", (True,)
    for operation in ("conv", "matmul"):  # some 1x1 convolutions are matrix products; torch before 2.9 has neither
        if place := getattr(torch.backends.mkldnn, operation, None):
            yield place, "fp32_precision", ("ieee", "none")
    if torch.cuda.is_available():
        try:
            torch.backends.cudnn.allow_tf32  # noqa: B018 - an error where the caller has used the newer name
            yield torch.backends.cudnn, "allow_tf32", (False,)
        except RuntimeError:
            yield getattr(torch.backends.cudnn, "conv"), "fp32_precision", ("ieee",)  # noqa: B009 - torch's stubs lack it
