"""Processors and memory that this process may use, and optional dependencies."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import importlib.util
import os
import platform
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from itertools import pairwise
from pathlib import Path

from deepcr_zoo.errors import MissingExtraError

CGROUPS, OWN_CGROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
"""Groups of processes that share a memory limit, as of a container or a batch job, and those of this process."""

_CGROUP_FILES = (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes"))
"""Limit and use in bytes, in version 2 and in version 1 (Documentation/admin-guide/cgroup-v2.rst of Linux)."""

_MALLOC_OPTIONS = ((-4, 0), (-1, 2**31 - 1))
"""M_MMAP_MAX and M_TRIM_THRESHOLD of mallopt(3): no separate mapping for large blocks, no memory returned."""

_MACHINE_ID, _PROCESS_NUMBERS = Path("/etc/machine-id"), Path("/proc/self/ns/pid")
"""Of the operating system (machine-id(5)), and the namespace of the numbers of processes (pid_namespaces(7))."""

_GPU_DEVICES = ("nvidia*", "nvhost*", "nvmap", "nvgpu*", "dxg", "kfd")
"""In /dev: of NVIDIA's driver, also on Tegra; of Windows' subsystem for Linux; of AMD's ROCm."""

_CPUINFO, _MEMINFO = Path("/proc/cpuinfo"), Path("/proc/meminfo")


_SAFE_PATH = "PYTHONSAFEPATH"
_SAFE_PATH_LOCK = threading.Lock()
_before: list[str | None] = []  # values of the variable, as those who need it have found it


@contextmanager
def safe_children() -> Iterator[None]:
    """Let Python processes that start meanwhile import nothing from the present folder, which may hold files of others.

    They start as ``python -c``, which looks for modules there before it looks anywhere else.
    """
    with _SAFE_PATH_LOCK:
        _before.append(os.environ.get(_SAFE_PATH))  # of several threads the first one saw what the user had set
        os.environ[_SAFE_PATH] = "1"
    try:
        yield
    finally:
        with _SAFE_PATH_LOCK:
            users = _before[0]
            _before.pop()
            if not _before:
                os.environ.pop(_SAFE_PATH, None)
                if users is not None:
                    os.environ[_SAFE_PATH] = users


@cache
def process_space() -> str:
    """Return a name, without a dot, of the machine or container in which the number of a process means that process.

    Many have one host name: the rest is a hash of its domain, the machine's identity and the namespace of the numbers.
    """
    parts = [platform.node()]
    with suppress(OSError):
        parts.append(_MACHINE_ID.read_text())
    with suppress(OSError):
        parts.append(str(_PROCESS_NUMBERS.stat().st_ino))
    identity = hashlib.sha256("\n".join(parts).encode()).hexdigest()
    return f"{platform.node().partition('.')[0][:64]}-{identity[:8]}"


def processors() -> int:
    """Return the number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def may_have_gpu() -> bool:
    """Return False where no GPU can be: on Linux, where the driver of none has made a device."""
    return sys.platform != "linux" or any(any(Path("/dev").glob(pattern)) for pattern in _GPU_DEVICES)


def memory_bytes() -> int | None:
    """Return the memory that this process may use; None if the system does not report it."""
    return _least(_physical_bytes(), *(limit for limit, _ in _cgroup_limits()))


def free_memory_bytes() -> int | None:
    """Return the memory that is free or can be freed at once, at most `memory_bytes`; None if nothing is reported."""
    return _least(_physical_bytes(), _available_bytes(), *(max(0, limit - used) for limit, used in _cgroup_limits()))


def memory_shortage(needed_bytes: float) -> str | None:
    """Return what is free, for an error, if less is free than needed; None if there is enough, or nothing is reported."""
    free = free_memory_bytes()
    return None if free is None or needed_bytes <= free else f"{free / 1e9:.3g} GB of memory are free"


def _least(*known: int | None) -> int | None:
    return min((one for one in known if one is not None), default=None)


def _physical_bytes() -> int | None:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else None


def _available_bytes() -> int | None:
    """Return what Linux reports as available, in bytes (proc_meminfo(5))."""
    return next((1024 * size for name, size in _numbers(_MEMINFO) if name == "MemAvailable:"), None)


def _cgroup_limits() -> Iterator[tuple[int, int]]:
    """Yield limit and use, without what the page cache can give back, of each group with a limit, in bytes."""
    for folder in _cgroups():
        for limit_file, used_file in _CGROUP_FILES:
            limit = next(iter(_words(folder / limit_file)), "max")
            if limit.isdecimal():
                used = int(next(iter(_words(folder / used_file)), "0"))
                cached = next((size for name, size in _numbers(folder / "memory.stat") if name == "inactive_file"), 0)
                yield int(limit), max(0, used - cached)


def _cgroups() -> set[Path]:
    """Return the folders of the groups of this process and of those around them."""
    folders = {CGROUPS, CGROUPS / "memory"}
    for line in _words(OWN_CGROUPS):  # such as 0::/slurm/job_1 or 9:memory:/slurm/job_1
        _, controllers, group = [*line.split(":", 2), "", ""][:3]
        if controllers in ("", "memory"):
            own = CGROUPS / controllers / group.strip("/")
            folders |= {own, *(folder for folder in own.parents if folder.is_relative_to(CGROUPS))}
    return folders


def _words(path: Path) -> list[str]:
    """Return the words of a file of the kernel; none where it does not exist."""
    try:
        return path.read_text().split()
    except (OSError, ValueError):
        return []


def _numbers(path: Path) -> Iterator[tuple[str, int]]:
    """Yield names and numbers of a file of the kernel; its units are left out."""
    words = _words(path)
    return ((name, int(number)) for name, number in pairwise(words) if number.isdecimal())


_OUT_OF_MEMORY = ("can't allocate memory", "Failed to allocate", "std::bad_alloc")
"""Words of torch and of OpenVINO."""


def is_out_of_memory(error: BaseException) -> bool:
    """True if memory could not be had: torch and others raise errors of their own."""
    return (
        isinstance(error, MemoryError)
        or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError) and any(words in str(error) for words in _OUT_OF_MEMORY))
    )


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


def multiplies_bfloat16() -> bool:
    """True if the processor multiplies matrices of bfloat16 as a whole (AMX): convolutions take half of the time."""
    return _CPUINFO.exists() and re.search(r"^flags\s*:.*\bamx_bf16\b", _CPUINFO.read_text(), re.MULTILINE) is not None


def require(module: str, need: str, extra: str) -> None:
    """Raise `MissingExtraError` if a module of an extra is not installed; `need` opens the error text."""
    if importlib.util.find_spec(module) is None:
        raise MissingExtraError(f"{need}: run pip install 'deepcr-zoo[{extra}]'")
