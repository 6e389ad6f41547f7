"""Masks that no cosmic rays make: lines, trails, groups that are alike, lost light, and too many or too few pixels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepcr_zoo.exposures.noisecheck import measure_background, medians
from deepcr_zoo.exposures.products import ChipMask
from deepcr_zoo.models.images import Mask, groups, hidden_cores
from deepcr_zoo.zoo.instruments import Instrument

# the bounds give no false alarm on simulated cosmic rays: benchmarks/suspicions.py
SUSPICIOUS_FRACTION = 0.2
"""A larger share of masked pixels is a sign of a wrong unit or model: cosmic rays hit 1.5 to 3 % of the pixels of HST's
CCDs in 1000 s (ACS Instrument Handbook 2005, on cosmic rays)."""

LEAST_RATE_IN_SPACE = 0.7
"""Cosmic rays per cm2 and second in the orbit of HST: 0.95 to 1.36 were counted on its CCD frames."""

LEAST_RATE_ON_GROUND = 1 / 60
"""One muon per cm2 and minute reaches a horizontal detector at sea level (Particle Data Group, review of cosmic rays)."""

_IN_SPACE = "HST"
_FOUND_AT_LEAST = 0.1  # of the cosmic rays; networks of the zoo find more than half of them
_LEAST_EXPECTED = 50.0  # cosmic rays, below which their number proves nothing
_LEAST_FOR_NONE = 20.0  # but where not one was found: half of so many are 0 with a probability of 5e-5

_LINE_FRACTION, _LEAST_LINE = 0.25, 40  # share and number of the pixels of a row or column that are masked
_LINE_EXCESS = 8.0  # times the mean of all rows or columns
_GAPS = 5  # between masked pixels of a line that is not dense, such as parts of a faint spectrum
_LINE_SHARE = 0.2  # of the mask, in all such lines together

_SPREAD = 0.68  # of the length of a line, between the 10th and 90th percentile of its masked pixels; 0.8 if it is full

_TRAIL_FRACTION = 0.6  # of the cells along a straight line across the frame
_TRAIL_REACH, _LEAST_TRAIL = 0.75, 300  # its length: of the shorter side, and in pixels; tracks of particles are shorter
_CELLS = 256  # a frame is divided into cells, at most this many along its longer side
_MOST_CELLS = 0.25  # of all cells: where more hold masked pixels, lines come by chance

_LONG, _THIN = 6.0, 2.5  # length in pixels, and length / width: smaller groups have few possible directions
_LEAST_GROUPS = 12
_ALIKE_DEGREES = 12
_ALIKE_SHARE = 0.6  # of the long groups; directions that are drawn at random have 0.13
_LENGTH_SPREAD = 0.6  # interquartile range / median

_REACH = 15  # pixels to either side: the median of so many along a row or column shows extended sources, no cosmic ray
_LEAST_NEIGHBOURS = 8  # good pixels among these
_SOURCE_SIGMA = 3.0  # of the noise of a pixel, above the background
_LEAST_SOURCES = 0.005  # of the pixels
_SAMPLE = 8_000  # pixels
_TAKEN, _TAKEN_EXCESS = 0.1, 4.0  # share of the light under the mask, at least, and in units of the share of other pixels


def suspicions(found: ChipMask, image: Any, instrument: Instrument | None) -> Iterator[str]:
    """Yield a caution for everything in the mask of a chip that cosmic rays do not explain.

    The image (H, W) is as the network saw it, with a mask where pixels are not usable.
    """
    chip = found.chip
    unusable = np.ma.getmask(image)
    usable = None if unusable is np.ma.nomask else ~unusable
    sentences = [
        _too_many(int(np.count_nonzero(found.mask)), chip.lit_pixels),
        *find_structures(found.mask, np.ma.getdata(image), usable),
    ]
    if instrument is not None and chip.area_cm2 and chip.exposure_time_s:
        sentences.append(too_few(found.events, chip.area_cm2, chip.exposure_time_s, instrument.telescope == _IN_SPACE))
    yield from (f"{chip.label}: {sentence}" for sentence in sentences if sentence)


def find_structures(mask: Mask, image: NDArray[np.floating], usable: Mask | None = None) -> Iterator[str]:
    """Yield a sentence for each structure in a mask (H, W) that cosmic rays do not make.

    The image (H, W) is as it was before repainting, in any unit.
    """
    usable = np.ones(mask.shape, dtype=bool) if usable is None else usable
    masked = _places(mask)
    in_lines = np.zeros(masked.shape[1], dtype=bool)
    found = []
    for axis, name in enumerate(("columns", "rows")):
        lines = _lines(mask, masked, usable, axis)
        here = np.isin(masked[1 - axis], lines)
        share = here.sum() / max(here.size, 1)
        if share > _LINE_SHARE:
            found.append(
                f"{share:.0%} of the masked pixels lie in {lines.size} of {mask.shape[1 - axis]} {name}, as in bad columns, "
                f"sky lines, spectra or the edge of a frame: check them, the first is number {lines[0] + 1}"
            )
        in_lines |= here
    rest = mask.copy()
    rest[tuple(masked[:, in_lines])] = False
    kept = masked[:, ~in_lines]
    if _has_trail(kept, mask.shape):
        found.append(
            "the mask follows a straight line across the frame, as the trail of a satellite or of a spectrum does: check "
            "it, its pixels are repainted like a cosmic ray"
        )
    if sentence := hidden_cores(mask, usable):
        found.append(sentence)
    yield from found or filter(None, (_alike_groups(rest, kept), _light_taken(rest, kept, image, usable)))


def _places(mask: Mask) -> NDArray[np.intp]:
    """Return rows and columns of the masked pixels, shape (2, masked pixels): faster than `numpy.nonzero`."""
    return np.stack(np.divmod(np.flatnonzero(mask), mask.shape[1]))


def _too_many(masked: int, pixels: int) -> str | None:
    """Return a sentence if too many pixels are masked."""
    share = masked / pixels
    if share <= SUSPICIOUS_FRACTION:
        return None
    return f"{share:.0%} of the pixels are masked, which no cosmic rays do: check unit, gain, bias and model"


def too_few(found: int, area_cm2: float, seconds: float, in_space: bool) -> str | None:
    """Return a sentence if far fewer cosmic rays were found than must have hit the detector."""
    expected = (LEAST_RATE_IN_SPACE if in_space else LEAST_RATE_ON_GROUND) * area_cm2 * seconds
    least = _LEAST_EXPECTED if found else _LEAST_FOR_NONE
    if expected < least or found >= _FOUND_AT_LEAST * expected:
        return None
    return (
        f"{found} cosmic rays were found, and {expected:,.0f} or more hit such a detector in {seconds:g} s: check unit, "
        "gain, exposure time and model, or whether an earlier step has removed them"
    )


def _lines(mask: Mask, masked: NDArray[np.intp], usable: Mask, axis: int) -> NDArray[np.intp]:
    """Return the columns (axis 0) or rows (axis 1) of which a large part is masked."""
    number = np.bincount(masked[1 - axis], minlength=mask.shape[1 - axis])
    many = np.flatnonzero((number >= _LEAST_LINE) & (number >= _LINE_EXCESS * number.mean()))
    lengths = {line: int(np.count_nonzero(usable.take(line, axis=1 - axis))) for line in many}
    places = {line: np.flatnonzero(mask.take(line, axis=1 - axis)) for line in many}
    return np.array([line for line in many if _is_line(places[line], lengths[line])], np.intp)


def _is_line(places: NDArray[np.intp], length: int) -> bool:
    """True if masked pixels of a line are many and no single track, or lie in several pieces."""
    if places.size >= _LINE_FRACTION * length:
        return _spans(places, length) or _is_in_pieces(places)
    return int(np.count_nonzero(np.diff(places) > 1)) >= _GAPS


def _is_in_pieces(places: NDArray[np.intp]) -> bool:
    """True if no run of neighbouring places holds half of them: a track along the line is one run."""
    runs = np.split(places, np.flatnonzero(np.diff(places) > 1) + 1)
    return 2 * max(run.size for run in runs) < places.size


def _spans(places: NDArray[Any], length: float) -> bool:
    """True if places along a line are spread over most of its length, as those of a long track are not."""
    low, high = np.quantile(places, [0.1, 0.9])
    return bool(high - low >= _SPREAD * length)


def _has_trail(places: NDArray[np.intp], shape: tuple[int, ...]) -> bool:
    """True if masked pixels line up across the frame, in any direction (Hough transform)."""
    side = max(1, -(-max(shape) // _CELLS))
    height, width = (-(-size // side) for size in shape)
    rows, columns = places
    masked = np.bincount(rows // side * width + columns // side, minlength=height * width)
    cells = np.flatnonzero(masked >= max(1, side / 2))  # a trail crosses a cell, most cosmic rays end in it
    shortest = max(_TRAIL_REACH * min(height, width), _LEAST_TRAIL / side)
    least = _TRAIL_FRACTION * shortest
    if not least <= cells.size <= _MOST_CELLS * masked.size:
        return False
    y, x = cells // width - height / 2 + 0.5, cells % width - width / 2 + 0.5
    reach = int(np.hypot(height, width) / 2) + 1
    for angle in np.arange(0, np.pi, 1 / max(height, width)):
        normal = np.cos(angle), np.sin(angle)
        votes = np.bincount(np.rint(x * normal[0] + y * normal[1]).astype(int) + reach)
        for offset in np.flatnonzero(votes >= least) - reach:
            length = _chord(float(offset), normal, height, width)
            if length < shortest or votes[offset + reach] < _TRAIL_FRACTION * length:
                continue
            on_line = np.rint(x * normal[0] + y * normal[1]) == offset
            if _spans((y * normal[0] - x * normal[1])[on_line], length):
                return True
    return False


def _chord(offset: float, normal: tuple[float, float], height: int, width: int) -> float:
    """Return the length of a line within a frame centred on zero; `normal` is (x, y) and `offset` its distance."""
    spans = []
    for size, along, across in ((width, -normal[1], normal[0]), (height, normal[0], normal[1])):
        if abs(along) < 1e-9:
            continue
        ends = sorted((edge - offset * across) / along for edge in (-size / 2, size / 2))
        spans.append(ends)
    return float(max(0.0, min(end for _, end in spans) - max(start for start, _ in spans)))


@dataclass(frozen=True)
class _Groups:
    """Long groups of touching pixels."""

    angle: NDArray[np.float64]  # degrees from the rows, 0 to 180
    length: NDArray[np.float64]  # pixels


def _long_groups(mask: Mask, places: NDArray[np.intp]) -> _Groups:
    labels, number = groups(mask)
    rows, columns = places
    group = labels[rows, columns] - 1
    pixels = np.maximum(np.bincount(group, minlength=number), 1)

    def mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.bincount(group, values, minlength=number) / pixels)

    y, x = rows - mean(rows.astype(float))[group], columns - mean(columns.astype(float))[group]
    xx, yy, xy = mean(x * x), mean(y * y), mean(x * y)
    half, root = (xx + yy) / 2, np.hypot((xx - yy) / 2, xy)
    # a bar of length L has the variance (L^2 - 1) / 12 along it
    length, width = (np.sqrt(12 * np.maximum(variance, 0) + 1) for variance in (half + root, half - root))
    long = (length >= _LONG) & (length >= _THIN * width)
    return _Groups(np.degrees(np.arctan2(2 * xy, xx - yy)[long] / 2) % 180, length[long])


def _alike_groups(mask: Mask, places: NDArray[np.intp]) -> str | None:
    """Return a sentence if most long groups share direction and length."""
    groups = _long_groups(mask, places)
    if groups.angle.size < _LEAST_GROUPS:
        return None
    apart = np.abs((groups.angle[:, None] - np.arange(0, 180, 3) + 90) % 180 - 90) <= _ALIKE_DEGREES
    best = int(apart.sum(axis=0).argmax())
    alike = apart[:, best]
    low, middle, high = np.quantile(groups.length[alike], [0.25, 0.5, 0.75])
    if alike.sum() < max(_LEAST_GROUPS, _ALIKE_SHARE * alike.size) or high - low > _LENGTH_SPREAD * middle:
        return None
    return (
        f"{alike.sum()} of {alike.size} long groups of masked pixels share direction ({3 * best} degrees from the rows) and "
        f"length (about {middle:.0f} pixels), as trailed stars do: check them before the pixels are repainted"
    )


def _light_taken(mask: Mask, places: NDArray[np.intp], image: NDArray[np.floating], usable: Mask) -> str | None:
    """Return a sentence if a large share of the light of extended sources is under the mask."""
    background = measure_background(image, usable)
    if background is None or not background.noise:
        return None
    limit = background.level + _SOURCE_SIGMA * background.noise

    def light_at(sample: NDArray[np.intp], pixels: int) -> tuple[float, float, float]:
        """Return the light of sources above the background, and the number of bright and of other pixels."""
        number = pixels / max(sample.shape[1], 1)  # pixels for each of the sample
        smooth = _smooth(image, usable, mask, *sample[:, usable[tuple(sample)]])
        bright = smooth > limit
        light = float((smooth[bright] - background.level).sum())
        return light * number, float(bright.sum()) * number, float((~bright).sum()) * number

    step = max(1, mask.size // _SAMPLE)
    light, sources, others = light_at(np.stack(np.divmod(np.arange(0, mask.size, step), mask.shape[1])), mask.size)
    if sources < _LEAST_SOURCES * mask.size:
        return None
    under = places[:, usable[tuple(places)]]
    light_under, _, others_under = light_at(under[:, :: max(1, under.shape[1] // _SAMPLE)], under.shape[1])
    taken, elsewhere = light_under / light, others_under / max(others, 1.0)
    if taken <= max(_TAKEN, _TAKEN_EXCESS * elsewhere):
        return None
    return (
        f"the mask covers {taken:.0%} of the light of extended sources, far more than of the other pixels, as where a "
        "network takes a spectrum or sky lines for cosmic rays: check the mask before the pixels are repainted"
    )


def _smooth(
    image: NDArray[np.floating], usable: Mask, mask: Mask, rows: NDArray[np.intp], columns: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Return the larger of the medians of usable pixels without mask along row and column, -inf where there are too few."""
    steps = np.arange(-_REACH, _REACH + 1)
    found = []
    for down, right in ((0, 1), (1, 0)):
        near = (
            np.clip(rows[:, None] + down * steps, 0, image.shape[0] - 1),
            np.clip(columns[:, None] + right * steps, 0, image.shape[1] - 1),
        )
        is_good = usable[near] & ~mask[near]
        values = np.where(is_good, image[near], np.nan)
        values[is_good.sum(axis=1) < _LEAST_NEIGHBOURS] = -np.inf
        found.append(medians(values))
    return np.asarray(np.maximum(*found))
