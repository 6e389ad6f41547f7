"""Images as cameras of any size see them: the field types of `scenes`, from bright stars down to what the sky hides."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from deepcr_zoo.simulate.scenes import CONTENTS, FieldContent, LuminosityFunction
from deepcr_zoo.zoo.recipe import SimulatedFieldType

_BRIGHTEST_STAR = {"extragalactic": 12.0, "globular_cluster": 12.0, "resolved_galaxy": 16.0}  # AB magnitude, assumed
_BRIGHTEST_GALAXY = 15.0  # assumed
_HIDDEN = 2.0  # sources with less light than the noise of this many pixels are not drawn


def field_content(
    field_type: SimulatedFieldType,
    zeropoint_ab: float,
    seconds: float,
    noise_electron: float,
    sources_per_arcmin2: float | None = None,
) -> FieldContent:
    """Return the content of a field, for exposures of this length and noise of a pixel (e-).

    If a number of sources is given, stars and galaxies together are as many.
    """
    content = CONTENTS[field_type]
    faintest = zeropoint_ab - 2.5 * np.log10(_HIDDEN * noise_electron / seconds)
    stars = between(content.stars, _BRIGHTEST_STAR[field_type], faintest)
    galaxies = between(content.galaxies, _BRIGHTEST_GALAXY, faintest)
    given = stars.per_arcmin2 + galaxies.per_arcmin2
    density = 1.0 if sources_per_arcmin2 is None else sources_per_arcmin2 / given
    return replace(content, stars=_denser(stars, density), galaxies=_denser(galaxies, density))


def _denser(function: LuminosityFunction, density: float) -> LuminosityFunction:
    return replace(function, per_arcmin2=function.per_arcmin2 * density)


def between(function: LuminosityFunction, brightest: float, faintest: float) -> LuminosityFunction:
    """Return the sources between two magnitudes; those beyond the faintest of the function are not added."""
    faintest = max(min(faintest, function.faintest), brightest + 0.1)

    def counted(bright: float, faint: float) -> float:
        return float(10 ** (function.slope * faint) - 10 ** (function.slope * bright))

    share = counted(brightest, faintest) / counted(function.brightest, function.faintest)
    return LuminosityFunction(function.per_arcmin2 * share, brightest, faintest, function.slope)
