"""Archive: find exposures in the archive of the observatory and download them.

Imports zoo and flat files; the rooms above import it.
Promise: only `mast` imports astroquery; a file is kept only if it has the size that the archive lists.
"""

from typing import TYPE_CHECKING

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs={"manifest": ["ArchiveManifest"]})

if TYPE_CHECKING:
    from deepcr_zoo.archive.manifest import ArchiveManifest as ArchiveManifest
