"""Levels and scales that cannot be: the noise of an exposure's background against what its level would give.

A single exposure in electrons has the noise ``sqrt(level + read noise^2)``. A pedestal raises the level and leaves the
noise as it is; a wrong gain or exposure time multiplies both.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deepcr_zoo.exposures.reading import Chip
from deepcr_zoo.models.background import measure_background
from deepcr_zoo.models.images import Mask
from deepcr_zoo.zoo.instruments import Keywords, positive

# benchmarks/levels.py measures sound and faulty frames against these bounds
TOO_QUIET = 0.4  # of the expected noise: averages of 6 exposures and resampled images are at this bound, faults far below
TOO_NOISY = 3.0  # times the expected noise
UNEVENNESS = 0.05  # sensitivity varies by a few percent from pixel to pixel where no flat field is divided out
IS_A_LEVEL = 4.0  # times the noise: what is lower may be the rest of a subtracted sky, and its noise says nothing


@dataclass(frozen=True)
class ReadNoise:
    """Least and greatest read noise that a detector can have, e-."""

    least: float
    most: float


UNKNOWN = ReadNoise(0.5, 15.0)
"""From scientific CMOS detectors to old CCDs."""

_AMPLIFIERS_DIFFER = 1.5
"""READNSE of HST is the mean of an amplifier over years."""


def level_problem(image: NDArray[np.floating], usable: Mask | None, read_noise: ReadNoise = UNKNOWN) -> str | None:
    """Return what is wrong with level or scale of an image (H, W) in electrons, and the likely cause; None if nothing is."""
    background = measure_background(image, usable)
    if background is None or background.noise is None:
        return None
    level, noise = background.level, background.noise
    least = np.sqrt(max(level, 0) + read_noise.least**2)
    most = np.hypot(TOO_NOISY * np.sqrt(max(level, 0) + read_noise.most**2), UNEVENNESS * level)
    if noise < TOO_QUIET * read_noise.least:
        return (
            f"the noise of the background is {noise:.2g} e-, below the read noise of any detector of its kind: the image "
            "seems to be divided by its exposure time or by a gain; check unit, exposure time and gain"
        )
    if noise < TOO_QUIET * least:
        return (
            f"the noise of the background, {noise:.2g} e-, is {noise / least:.2g} of what its level of {level:,.0f} e- "
            "would give: the image seems to hold a pedestal (bias or BZERO not subtracted), or to be divided by its "
            "exposure time; check bias, unit and exposure time"
        )
    if noise > most and level > IS_A_LEVEL * noise:
        return (
            f"the noise of the background, {noise:,.0f} e-, is {noise / least:.2g} times what its level of {level:,.0f} e- "
            "would give: gain or exposure time seem too large; check unit, gain and exposure time"
        )
    return None


def level_cautions(chips: Iterable[Chip]) -> Iterator[str]:
    """Yield a caution for each chip whose level or scale cannot be; chips of unknown gain are passed over."""
    for chip in chips:
        if chip.unit.quantity != "electron" and chip.gain is None:
            continue
        image = chip.in_unit("electron")
        usable = None if np.ma.getmask(image) is np.ma.nomask else ~np.ma.getmaskarray(image)
        if problem := level_problem(np.ma.getdata(image), usable, read_noise_of(chip)):
            yield f"{chip.name or 'image'},{chip.version}: {problem}"


def read_noise_of(chip: Chip) -> ReadNoise:
    """Return the range of a chip's read noise, from READNSEA to READNSED (HST) where calibration has filled them in."""
    given = _hst_read_noise(chip.keywords)
    if not given:
        return UNKNOWN
    return ReadNoise(min(given) / _AMPLIFIERS_DIFFER, max(given) * _AMPLIFIERS_DIFFER)


def _hst_read_noise(keywords: Keywords) -> list[float]:
    return [noise for amplifier in "ABCD" if (noise := positive(keywords, f"READNSE{amplifier}")) is not None]
