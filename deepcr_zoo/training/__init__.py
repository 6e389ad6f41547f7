"""Training: a recipe and a training set become weights and a draft card.

`pipeline` runs a whole recipe; `loop` is the training loop itself.

May import bench and the rooms below it, never publishing. Promises `train` and `resume`: a run may be interrupted at
any moment and resumed, and ends with the same bytes.
"""

from typing import TYPE_CHECKING

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs={"pipeline": ["resume", "train"]})

if TYPE_CHECKING:
    from deepcr_zoo.training.pipeline import resume as resume
    from deepcr_zoo.training.pipeline import train as train
