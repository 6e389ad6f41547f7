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
Seeds 140 to 142, ACS/WFC, 1024 x 1024 pixels less a border of 64, 3, 4 and 3 exposures of 500, 250 and 600 s: TPR in % at
FPR 0.05 / 0.5 %, against the masks of AstroDrizzle ("5.0 1.5", minmed); in parentheses, real exposures (Zhang & Bloom
2020, Table 2); last, those masks against the truth (cosmic rays above 3 sigma):

================== ========================= ========================= ======================
field type         ACS-WFC-F606W-2-32@1.0    ACS-WFC-F606W-2-4@1.0     AstroDrizzle
================== ========================= ========================= ======================
extragalactic      95.9/99.7 (88.5/98.7)     91.1/98.5 (82.0/94.0)     TPR .977, FPR .00132
globular_cluster   93.6/98.8 (93.3/99.5)     79.8/94.1 (83.9/96.2)     TPR .961, FPR .00070
resolved_galaxy    80.7/93.3 (75.2/91.2)     61.0/83.6 (56.2/80.6)     TPR .813, FPR .00051
================== ========================= ========================= ======================

Extragalactic fields are too easy. Cosmic rays that spread more come close to the table (12 um at the back, growing with
the root of the depth: 88.3/97.5 and 81.0/94.6), but then .0020 of the pixels below 3 sigma are labelled, and the tracks are
wider than those that STIS has recorded. Charge-transfer trails, more warm pixels and larger pointing errors do not explain
it. Resolved galaxies are a little too easy for 2-32; more stars would help, but AstroDrizzle then misses more cosmic rays.
Full frames hold as many stars at the centre of a cluster as cut-outs do, and therefore fewer per area.

Fitted to Table 2, not predicted: numbers and magnitudes of stars in globular_cluster and resolved_galaxy, the pointing
error, the spread of charge at the back. Fitted to the cosmic rays of STIS CR-SPLIT pairs: collisions per length, shape of
the spread. Nothing was fitted on seeds outside of 100 to 199.
"""

VERSION = 1
"""Raised whenever the pixels of a simulated exposure change: a network and its judge must have seen the same sky."""
