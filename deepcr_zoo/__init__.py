"""The open home of cosmic-ray rejection networks: a model zoo and a training toolkit.

Importing this package loads nothing else; each public name is imported on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deepcr_zoo.cleaning import clean
    from deepcr_zoo.compat import deepCR
    from deepcr_zoo.filecleaning import clean_file
    from deepcr_zoo.models import load
    from deepcr_zoo.registries import list_models
    from deepcr_zoo.sources import pull
    from deepcr_zoo.training.pipeline import train

__version__ = "0.1.0"
__all__ = ["__version__", "clean", "clean_file", "deepCR", "list_models", "load", "pull", "train"]

_HOMES = {
    "clean": "deepcr_zoo.cleaning",
    "clean_file": "deepcr_zoo.filecleaning",
    "deepCR": "deepcr_zoo.compat",
    "list_models": "deepcr_zoo.registries",
    "load": "deepcr_zoo.models",
    "pull": "deepcr_zoo.sources",
    "train": "deepcr_zoo.training.pipeline",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'deepcr_zoo' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
