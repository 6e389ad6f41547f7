"""Cosmic-ray rejection networks for telescope images: a model zoo and a training toolkit.

Importing this package loads nothing else; each public name is imported on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

import deepcr_zoo.models.forks  # noqa: F401 - a fork must wait for imports, so before any of them
from deepcr_zoo._version import __version__

__getattr__, _, _names = lazy_loader.attach(
    __name__,
    submod_attrs={
        "exposures": ["plot"],
        "exposures.cleaning": ["clean_file"],
        "models.imagecleaning": ["clean"],
        "models.compat": ["deepCR"],
        "models.model": ["load"],
        "training.pipeline": ["resume", "train"],
        "zoo.registries": ["list_models"],
        "zoo.sources": ["pull"],
    },
)
__all__ = ["__version__", *_names]


def __dir__() -> list[str]:
    return __all__


if TYPE_CHECKING:
    from deepcr_zoo.exposures import plot as plot
    from deepcr_zoo.exposures.cleaning import clean_file as clean_file
    from deepcr_zoo.models.compat import deepCR as deepCR
    from deepcr_zoo.models.imagecleaning import clean as clean
    from deepcr_zoo.models.model import load as load
    from deepcr_zoo.training.pipeline import resume as resume
    from deepcr_zoo.training.pipeline import train as train
    from deepcr_zoo.zoo.registries import list_models as list_models
    from deepcr_zoo.zoo.sources import pull as pull
