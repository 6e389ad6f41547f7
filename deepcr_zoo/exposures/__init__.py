"""Exposures: a FITS file in, its products out.

Reading, selection of models, plan, products, provenance and pictures; the viewer.

Imports: models, zoo and flat files. Imported by the rooms above.
Promise: `CleanOptions`, `CleanedFile` and `plot`; the input is never written, and a product is whole or absent.
"""

from typing import TYPE_CHECKING

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__, submodules={"plot"}, submod_attrs={"cleaning": ["CleanedFile"], "options": ["CleanOptions"]}
)

if TYPE_CHECKING:
    from deepcr_zoo.exposures import plot as plot
    from deepcr_zoo.exposures.cleaning import CleanedFile as CleanedFile
    from deepcr_zoo.exposures.options import CleanOptions as CleanOptions
