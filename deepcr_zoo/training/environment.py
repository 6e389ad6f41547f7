"""Where and with what a run was made (``environment.json``)."""

from __future__ import annotations

import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from deepcr_zoo import __version__, machine
from deepcr_zoo.documents import Document

PACKAGES = ("torch", "numpy", "scipy", "astropy", "drizzlepac", "safetensors", "pydantic")


class Environment(Document):
    """One of ``environment.json``, which has one for the start and one for each time that a run went on elsewhere."""

    deepcr_zoo: str
    git_commit: str | None
    """Of the checkout that the package runs from, with a + if files in it were changed; none if it is installed."""
    python: str
    system: str
    packages: dict[str, str]
    device: str
    device_name: str
    processes: int
    threads: int
    """Of each process; another number may round sums otherwise."""


def describe(device: torch.device, processes: int) -> Environment:
    """What this process runs on."""
    return Environment(
        deepcr_zoo=__version__,
        git_commit=_git_commit(),
        python=sys.version.split()[0],
        system=platform.platform(),
        packages={name: found for name in PACKAGES if (found := _version(name)) is not None},
        device=str(device),
        device_name=torch.cuda.get_device_name(device) if device.type == "cuda" else machine.processor_name(),
        processes=processes,
        threads=torch.get_num_threads(),
    )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    folder = Path(__file__).resolve().parents[2]
    if not (folder / ".git").exists():
        return None
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        return commit + ("+" if _git(folder, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True, timeout=10
    ).stdout.strip()
