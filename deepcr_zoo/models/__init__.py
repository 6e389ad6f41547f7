"""Models: an array in, probabilities or repainted values out.

Networks and their weights, the engines that run them, tiling, image input, classical baselines, and the class that is
compatible with deepCR.

Imports: zoo and the flat files.
Promises: `MaskModel` and `InpaintModel`, which hold no state between calls. Only `engines` and `graphs` import openvino.
"""

from typing import TYPE_CHECKING

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs={"model": ["InpaintModel", "MaskModel"]})

if TYPE_CHECKING:
    from deepcr_zoo.models.model import InpaintModel as InpaintModel
    from deepcr_zoo.models.model import MaskModel as MaskModel
