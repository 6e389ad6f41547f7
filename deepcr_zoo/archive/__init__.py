"""Archive: exposures from the archive of the observatory.

Queries, manifests and downloads.

Imports: zoo and flat files. Imported by the rooms above.
Promise: only `mast` imports astroquery; a file is kept only if it has the listed size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs={"manifest": ["ArchiveManifest"]})

if TYPE_CHECKING:
    from deepcr_zoo.archive.manifest import ArchiveManifest as ArchiveManifest
