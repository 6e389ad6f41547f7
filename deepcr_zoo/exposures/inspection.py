"""What the product reads of an exposure, in numbers: unit, bias, background, noise, and the gain that the noise implies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deepcr_zoo.exposures.noisecheck import Background, measure_background, overscan_noise
from deepcr_zoo.exposures.reading import Chip, Exposure

_PHOTONS = 0.5  # least share of the variance that must come from light, for the gain to follow from it


@dataclass(frozen=True)
class InspectedChip:
    """Numbers of one image of an exposure."""

    name: str
    unit: str  # of the file
    gain: float | None  # e- per count
    gain_keyword: str  # empty if the description or the user gives the gain
    exposure_time_s: float | None
    bias_count: tuple[float, ...]  # of each amplifier, in the unit of the file; empty if none is subtracted
    overscan_noise_count: tuple[float, ...]  # of each amplifier, in the unit of the file
    read_noise_electron: float | None  # by header or description
    pixels: int
    lit: int  # pixels that see light
    bad: int  # among these
    saturated: int  # among these
    searched: int  # where a cosmic ray can be found
    background: Background | None  # in the unit of the file, bias subtracted
    gain_by_noise: float | None  # e- per count that the noise of the background implies

    @property
    def gain_ratio(self) -> float | None:
        """The gain of the header or description / the gain that the noise implies."""
        return None if self.gain is None or self.gain_by_noise is None else self.gain / self.gain_by_noise


def inspect(exposure: Exposure) -> list[InspectedChip]:
    """Return the numbers of all images of an exposure."""
    return [_inspect(chip) for chip in exposure.chips]


def gain_from_noise(level: float, noise: float, read_noise: float) -> float | None:
    """Return e- per count from the level and noise of a background and the read noise, all in counts (bias subtracted).

    Photon noise has the variance level / gain (Janesick 2001, Scientific Charge-Coupled Devices, section 2.2). None if read
    noise dominates.
    """
    variance = noise**2 - read_noise**2
    return level / variance if level > 0 and variance > _PHOTONS * noise**2 else None


def gain_of_pair(one: Chip, other: Chip) -> float | None:
    """Return e- per count from two exposures of the same light, such as flats: their difference has no structure."""
    first, second = (chip.in_unit(chip.unit.quantity) for chip in (one, other))
    if first.shape != second.shape:
        return None
    usable = ~(np.ma.getmaskarray(first) | np.ma.getmaskarray(second))
    levels = [float(np.median(np.ma.getdata(image)[usable])) for image in (first, second)] if usable.any() else [0.0, 0.0]
    if min(levels) <= 0 or max(levels) > 1.2 * min(levels):
        return None
    difference = measure_background(np.ma.getdata(first) - np.ma.getdata(second), usable)
    if difference is None or difference.noise is None:
        return None
    read_noise = overscan_noise(one)
    return gain_from_noise(float(np.mean(levels)), difference.noise / np.sqrt(2), max(read_noise, default=0.0))


def _inspect(chip: Chip) -> InspectedChip:
    image = chip.in_unit(chip.unit.quantity)
    lit = np.ones(chip.pixels.shape, dtype=bool) if chip.image_area is None else chip.image_area
    background = measure_background(np.ma.getdata(image), ~np.ma.getmaskarray(image))
    noises, gain = overscan_noise(chip), None if chip.gain is None else chip.gain.electron_per_count
    return InspectedChip(
        name=chip.label,
        unit=chip.unit.spellings[0],
        gain=gain,
        gain_keyword=chip.gain.keyword if chip.gain else "",
        exposure_time_s=chip.exposure_time_s,
        bias_count=_biases(chip),
        overscan_noise_count=noises,
        read_noise_electron=chip.read_noise_electron,
        pixels=chip.pixels.size,
        lit=int(lit.sum()),
        bad=int((chip.bad & lit).sum()),
        saturated=int((chip.saturated & lit).sum()),
        searched=int(chip.searched.sum()),
        background=background,
        gain_by_noise=_gain_by_noise(chip, background, noises, gain),
    )


def _gain_by_noise(chip: Chip, background: Background | None, noises: Sequence[float], gain: float | None) -> float | None:
    if background is None or background.noise is None or chip.unit.quantity != "adu" or chip.unit.per_second:
        return None
    read_noise = float(np.mean(noises)) if noises else 0.0
    if not noises and chip.read_noise_electron is not None and gain:
        read_noise = chip.read_noise_electron / gain
    return gain_from_noise(background.level, background.noise, read_noise)


def _biases(chip: Chip) -> tuple[float, ...]:
    if chip.bias is None:
        return ()
    return tuple(float(np.median(part)) for part in chip.overscan if part.size) or (float(chip.bias.flat[0]),)
