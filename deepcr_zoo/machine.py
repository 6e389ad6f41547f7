"""What this machine has: processors and memory, as far as this process may use them."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import platform
from pathlib import Path

from deepcr_zoo.errors import MissingExtraError

CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")
"""Bytes that a container may use, or ``max``."""

_MALLOC_OPTIONS = ((-4, 0), (-1, 2**31 - 1))
"""M_MMAP_MAX and M_TRIM_THRESHOLD of mallopt(3): no allocation of its own for large blocks, nothing given back."""

CPU_FACTS = Path("/proc/cpuinfo")
"""Where Linux tells of its processors."""


def processors() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_bytes() -> int | None:
    """Memory that this process may use; None where the system does not tell."""
    if not hasattr(os, "sysconf"):
        return None
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if CONTAINER_LIMIT.is_file() and (limit := CONTAINER_LIMIT.read_text().strip()).isdecimal():
        memory = min(memory, int(limit))
    return memory


def keep_freed_memory() -> None:
    """Let the allocator of this process keep what is freed (glibc alone; elsewhere nothing happens).

    Tensors of a training step are as large as those of the last one. By default each goes back to the kernel and comes
    again, page by page: a third of a step's time on a CPU. The price is a higher peak of memory.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        for option, value in _MALLOC_OPTIONS:
            libc.mallopt(option, value)


def processor_name() -> str:
    """What the operating system calls the processor."""
    for line in CPU_FACTS.read_text().splitlines() if CPU_FACTS.exists() else []:
        if line.startswith("model name"):
            return line.partition(": ")[2]
    return platform.processor()


def require(module: str, need: str, extra: str) -> None:
    """Make sure that a module of an extra can be imported, without importing it.

    Parameters
    ----------
    module : str
    need : str
        Who needs what, as the error says it.
    extra : str
        Extra of this package that has it.

    Raises
    ------
    MissingExtraError
        If it is not installed.
    """
    if importlib.util.find_spec(module) is None:
        raise MissingExtraError(f"{need}: run pip install 'deepcr-zoo[{extra}]'")
