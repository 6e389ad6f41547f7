"""Simulated exposures of any camera, each with its truth: cosmic rays, scene and noise.

Imports: models and below. Promises: `SimulatedVisit` and `write_visit`.

What is modelled
----------------
- Scene (`scenes`): stars and galaxies of three field types.
- Optics (`optics`, `imaging`): the point spread of an obstructed, aberrated pupil with variable focus.
- Geometry (`cameras`, `pointing`): the distortion of real ACS/WFC chips and the skew of WFC3/UVIS.
- Cosmic rays (`cosmicrays`): protons, helium and heavier ions with single collisions, energetic electrons followed
  through multiple scattering, and secondary electrons. The charge spreads according to its depth (`charge`).
- Detector (`detector`): dark current, hot, warm and unflagged warm pixels, bad columns, blooming, residual charge-transfer
  trails, Poisson and read noise; the calibration's dark subtraction and DQ flags.
- Visits (`simulation`): dithers, pointing errors that are not in the header, focus and noise of each exposure.
- Files (`flc`, `truth`): exposures that AstroDrizzle reads, and a truth file beside each.

Any other camera (`plainvisits`; `visits` chooses): seeing (`seeing`), muons, Compton electrons and alpha particles
(`particles`), long-slit spectra (`spectra`), and frames as its description says (`readouts`, `plainfits`). The rest of this
page is about ACS/WFC and WFC3/UVIS.

What is not modelled
--------------------
Variation of the point spread over the field, scattered light, ghosts and satellites, flat-field errors, pixel areas,
correlated read noise, transfer losses before their correction, telegraph noise, moving objects, the quadratic distortion of
WFC3/UVIS, and the dependence of the cosmic-ray rate on the orbit.

How real it is
--------------
benchmarks/README.md measures the realism: it compares networks trained on real exposures, applied to simulated ones, with
their published figures (Zhang & Bloom 2020, Table 2).

Fitted to that table, on seeds 100 to 199 alone: the numbers and magnitudes of stars in globular_cluster and
resolved_galaxy, the pointing error, the mean defocus, the depth of absorption, and the charge spread of ACS/WFC, which is
set in its recipes. Fitted to cosmic rays in STIS CR-SPLIT pairs: collisions per length and the shape of the spread.

STIS recorded somewhat narrower tracks than the spread of ACS/WFC gives. With those, extragalactic fields are too easy by 7
to 9 points of TPR at an FPR of 0.05 %; charge-transfer trails, more warm pixels and larger pointing errors do not explain
the difference. Full frames hold as many stars at the centre of a cluster as cut-outs do, and therefore fewer per area.
"""

from typing import TYPE_CHECKING

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs={"simulation": ["SimulatedVisit", "write_visit"]})

if TYPE_CHECKING:
    from deepcr_zoo.simulate.simulation import SimulatedVisit as SimulatedVisit
    from deepcr_zoo.simulate.simulation import write_visit as write_visit

VERSION = 1  # raised whenever the pixels of a simulated exposure change: a network and its judge must see the same sky
