"""Dataset: exposures become labelled stamps.

Label methods, quality, splits and the store of training sets.

Imports: archive, simulate, exposures, models, zoo and flat files. Imported by the rooms above.
Promise: the same inputs give the same bytes; only `drizzle` imports drizzlepac, in a process of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__, submod_attrs={"build": ["build_dataset"], "reading": ["Dataset"]}
)

if TYPE_CHECKING:
    from deepcr_zoo.dataset.build import build_dataset as build_dataset
    from deepcr_zoo.dataset.reading import Dataset as Dataset
