"""Dataset: turn exposures into labelled stamps, with label methods, quality checks, splits and the store of training sets.

Imports archive, simulate, exposures, models, zoo and flat files; the rooms above import it.
Promise: the same inputs give the same bytes; only `drizzle` imports drizzlepac, in a process of its own.
"""

from typing import TYPE_CHECKING

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "arrayrecipes": ["arrays_recipe"],
        "arrays": ["training_set"],
        "build": ["build_dataset"],
        "reading": ["Dataset"],
    },
)

if TYPE_CHECKING:
    from deepcr_zoo.dataset.arrayrecipes import arrays_recipe as arrays_recipe
    from deepcr_zoo.dataset.arrays import training_set as training_set
    from deepcr_zoo.dataset.build import build_dataset as build_dataset
    from deepcr_zoo.dataset.reading import Dataset as Dataset
