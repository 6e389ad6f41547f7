"""Processors and memory that this process may use, and optional dependencies."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import platform
from pathlib import Path

from deepcr_zoo.errors import MissingExtraError

CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")
"""Memory limit of a container in bytes, or ``max``."""

_MALLOC_OPTIONS = ((-4, 0), (-1, 2**31 - 1))
"""M_MMAP_MAX and M_TRIM_THRESHOLD of mallopt(3): no separate mapping for large blocks, no memory returned."""

_CPUINFO, _MEMINFO = Path("/proc/cpuinfo"), Path("/proc/meminfo")


def processors() -> int:
    """Return the number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_bytes() -> int | None:
    """Return the memory that this process may use; None if the system does not report it."""
    if not hasattr(os, "sysconf"):
        return None
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if CONTAINER_LIMIT.is_file() and (limit := CONTAINER_LIMIT.read_text().strip()).isdecimal():
        memory = min(memory, int(limit))
    return memory


def free_memory_bytes() -> int | None:
    """Return the memory that is free or can be freed at once, at most `memory_bytes`; None if nothing is reported."""
    known = [memory_bytes(), _available_bytes()]
    return min((one for one in known if one is not None), default=None)


def _available_bytes() -> int | None:
    """Return what Linux reports as available, in bytes (proc_meminfo(5))."""
    lines = _MEMINFO.read_text().splitlines() if _MEMINFO.exists() else []
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")), None)


def keep_freed_memory() -> None:
    """Let the allocator of this process keep freed memory (glibc only).

    Each training step allocates tensors of the same sizes. By default they go back to the kernel and are mapped again
    page by page, which takes a third of a step on a CPU. The price is a higher peak of memory.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        for option, value in _MALLOC_OPTIONS:
            libc.mallopt(option, value)


def processor_name() -> str:
    """Return the operating system's name of the processor."""
    for line in _CPUINFO.read_text().splitlines() if _CPUINFO.exists() else []:
        if line.startswith("model name"):
            return line.partition(": ")[2]
    return platform.processor()


def require(module: str, need: str, extra: str) -> None:
    """Raise `MissingExtraError` if a module of an extra is not installed; `need` opens the error text."""
    if importlib.util.find_spec(module) is None:
        raise MissingExtraError(f"{need}: run pip install 'deepcr-zoo[{extra}]'")
