"""Training: a recipe and a training set become weights and a draft card.

The loop, its schedule, checkpoints, augmentation and work shared by several processes.

Imports: bench and the rooms below it, never publishing. Imported by the rooms above.
Promise: a run can be interrupted at any time and ends with the same bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs={"pipeline": ["resume", "train"]})

if TYPE_CHECKING:
    from deepcr_zoo.training.pipeline import resume as resume
    from deepcr_zoo.training.pipeline import train as train
