"""Networks compute as in a fresh process, whatever engine they have: settings of the calling thread change no result."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import numpy as np

from deepcr_zoo.models.forks import COMPUTATIONS

SMALLEST = np.float32(1e-45)
"""Denormal number: it is zero in a thread that flushes denormals."""


@contextmanager
def computing(set_for_process: Callable[[], ExitStack] | None = None) -> Iterator[None]:
    """Build or run a network: forks wait, numpy warns of nothing, and denormals count; all is restored at the end.

    `set_for_process` sets what holds for all threads meanwhile; closing its result restores that.
    """
    with COMPUTATIONS.one_more(set_for_process), np.errstate(all="ignore"), denormals():
        yield


@contextmanager
def denormals() -> Iterator[None]:
    """Compute with denormal numbers in this thread."""
    if SMALLEST * np.float32(1):
        yield
        return
    import torch  # only where something flushes them: the library is large

    torch.set_flush_denormal(False)
    try:
        yield
    finally:
        torch.set_flush_denormal(True)
