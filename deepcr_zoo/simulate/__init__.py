"""Visits of space cameras that never took place, with everything known about them: cosmic rays, scene and noise.

What is modelled
----------------
- Scene: stars and galaxies of three field types (`scenes`) through the point spread of an obstructed, aberrated pupil with
  focus that varies (`optics`), with the distortion of real ACS/WFC chips and the skew of WFC3/UVIS (`cameras`, `pointing`).
- Cosmic rays (`tracks`): protons, helium and heavier ions with single collisions, energetic electrons that are followed
  through multiple scattering, secondary electrons; the charge spreads with the depth where it is freed (`charge`).
- Detector (`detector`): dark current, hot, warm and unflagged warm pixels, bad columns, blooming, residual charge-transfer
  trails, Poisson and read noise; the calibration's dark subtraction and DQ flags.
- Visits (`visits`): dithers, pointing errors that the header does not know of, focus and noise of each exposure.
- Files (`flc`, `truth`): AstroDrizzle takes them, and what only a simulation knows stands beside them.

What is not modelled
--------------------
Variation of the point spread over the field, scattered light, ghosts and satellites, flat-field errors, pixel areas,
correlated read noise, transfer losses before their correction, telegraph noise, moving objects, the quadratic distortion of
WFC3/UVIS, and dependence of the cosmic-ray rate on the orbit.

How real it is
--------------
benchmarks/README.md measures it: networks that were trained on real exposures, judged on simulated ones, beside their
published figures (Zhang & Bloom 2020, Table 2).

Fitted to Table 2, not predicted, on seeds 100 to 199 alone: numbers and magnitudes of stars in globular_cluster and
resolved_galaxy, the pointing error, the mean defocus, the depth of absorption, and the charge spread of ACS/WFC, a number of
its recipes. Fitted to the cosmic rays of STIS CR-SPLIT pairs: collisions per length, shape of the spread. STIS has recorded
somewhat narrower tracks than the spread of ACS/WFC gives; with those, extragalactic fields are too easy by 7 to 9 points of
TPR at an FPR of 0.05 %, and charge-transfer trails, more warm pixels and larger pointing errors do not explain it. Full
frames hold as many stars at the centre of a cluster as cut-outs do, and therefore fewer per area.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs={"simulation": ["SimulatedVisit", "write_visit"]})

if TYPE_CHECKING:
    from deepcr_zoo.simulate.simulation import SimulatedVisit as SimulatedVisit
    from deepcr_zoo.simulate.simulation import write_visit as write_visit

VERSION = 1
"""Raised whenever the pixels of a simulated exposure change: a network and its judge must have seen the same sky."""
