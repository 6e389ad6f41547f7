"""Raw frames: where the light is, where the overscan is, and the bias level that is subtracted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from deepcr_zoo.exposures.missing import Missing
from deepcr_zoo.exposures.readingoptions import GAINS, OVERSCAN, ReadingOptions, is_plausible
from deepcr_zoo.models.images import Mask, has_value
from deepcr_zoo.zoo.instruments import Amplifier, Instrument, Keywords, Overscan, PixelUnit, matches, text, value
from deepcr_zoo.zoo.sections import BIAS_SECTION, IMAGE_SECTIONS, Section, section_of, stated_section

_NO_LEVEL = Missing("its overscan holds no value", "--bias LEVEL")


@dataclass(frozen=True)
class RawFrame:
    """The geometry of a frame with overscan, or with a bias level that the user gave."""

    image_area: Mask | None  # True where a pixel sees light, shape (H, W); None if all do
    bias: NDArray[np.float32] | None  # bias level, file's unit, of a shape that broadcasts to (H, W)
    overscan: tuple[NDArray[np.float32], ...] = ()  # overscan of each amplifier, in the rows that see light, counts
    source: str = ""  # where a bias level was measured, if the header alone says so
    gain_ratio: NDArray[np.float32] | None = None  # gain of each pixel's amplifier / that of the frame, shape (H, W)
    amplifiers: tuple[Section, ...] = ()  # the parts of the light that they read; empty if not known


def read_raw_frame(
    pixels: NDArray[np.float32],
    header: Keywords,
    quantity: PixelUnit,
    instrument: Instrument | None,
    version: int,
    options: ReadingOptions,
) -> RawFrame | Missing:
    """Return the geometry of a frame and its bias level, or what is missing to find them."""
    if isinstance(options.bias, float):
        return unmeasured(header, instrument, pixels.shape, np.float32(options.bias).reshape(1, 1))
    is_raw = _is_raw(header, quantity, instrument)
    if is_raw and instrument and (known := _known(header, instrument, pixels.shape, version)):
        return _of_known_camera(pixels, known, version)
    if is_raw and instrument and instrument.amplifiers:
        found = _of_amplifiers(pixels, header, instrument, has_gain=bool(options.gain))
        if found is not None:
            return found
    wanted, lit = options.bias == OVERSCAN, _lit(header, pixels.shape)
    if not (is_raw or wanted):
        return unmeasured(header, instrument, pixels.shape, None)
    section = section_of(header, BIAS_SECTION, pixels.shape)
    is_part = section is not None and pixels[section].size < pixels.size  # else nothing would see light
    if section is not None and is_part and (lit is None or not lit[section].any()):
        return _of_bias_section(pixels, section, lit, f"{BIAS_SECTION}={text(header, BIAS_SECTION)}")
    if wanted and lit is not None:
        return _of_bias_section(pixels, _beside(lit), lit, f"outside {_first(header)}")
    if wanted:
        return Missing(f"its header has no {BIAS_SECTION}, DATASEC or TRIMSEC that shows an overscan", "--bias LEVEL")
    if instrument is not None and instrument.bias_count is not None:
        return unmeasured(header, instrument, pixels.shape, np.float32(instrument.bias_count).reshape(1, 1))
    source = "this instrument" if instrument is None else instrument.name
    readout = f"this readout of {source}" if instrument and instrument.overscan else source
    what = f"it holds raw counts, and where the bias level of {readout} stands is not known"
    return Missing(what, "--bias LEVEL" if lit is None else "--bias overscan")


def unmeasured(
    header: Keywords, instrument: Instrument | None, shape: tuple[int, ...], bias: NDArray[np.float32] | None
) -> RawFrame:
    """Return a frame whose bias level is given, or of no importance."""
    stated = [section_of(header, one.image, shape) for one in (instrument.amplifiers if instrument else [])]
    parts = [part for part in stated if part is not None]
    are_known = len(parts) == len(stated) > 1 and not _overlap(parts)
    return RawFrame(_lit(header, shape), bias, amplifiers=tuple(parts) if are_known else ())


def _overlap(sections: Sequence[Section]) -> tuple[int, int] | None:
    """Return the places of the first two sections that share pixels; None if no two do."""

    def share(one: Section, other: Section) -> bool:
        return all(max(a.start, b.start) < min(a.stop, b.stop) for a, b in zip(one, other, strict=True))

    pairs = combinations(range(len(sections)), 2)
    return next((pair for pair in pairs if share(*(sections[place] for place in pair))), None)


def _is_raw(header: Keywords, quantity: PixelUnit, instrument: Instrument | None) -> bool:
    """True for counts as read out: overscan not subtracted (BLEVCORR), or unsigned 16-bit numbers."""
    if quantity == "electron":
        return False
    if instrument is not None and instrument.raw_when and matches(header, instrument.raw_when):
        return True
    if text(header, "BLEVCORR"):
        return text(header, "BLEVCORR").upper() != "COMPLETE"
    return is_unsigned(header)


def is_unsigned(header: Keywords) -> bool:
    """True for unsigned 16-bit numbers, as converters give them."""
    return bool(value(header, "BITPIX") == 16 and value(header, "BZERO") == 2**15)


def _known(header: Keywords, instrument: Instrument, shape: tuple[int, ...], version: int) -> Overscan | None:
    def fits_frame(geometry: Overscan) -> bool:
        has_rows = str(version) in geometry.image_rows or "*" in geometry.image_rows
        return list(shape) == geometry.shape and has_rows and matches(header, geometry.requires)

    return next(filter(fits_frame, instrument.overscan), None)


def _of_known_camera(pixels: NDArray[np.float32], geometry: Overscan, version: int) -> RawFrame | Missing:
    """Return the bias level of each column: the median of its amplifier's overscan in the rows that see light."""
    area = np.zeros(pixels.shape, dtype=bool)
    rows = geometry.image_rows.get(str(version)) or geometry.image_rows["*"]
    area[slice(*rows), slice(*geometry.image_columns)] = True
    overscan = tuple(pixels[area.any(axis=1), slice(*bias.level)] for bias in geometry.bias)
    levels = np.zeros((1, pixels.shape[1]), dtype=np.float32)
    left, right = geometry.image_columns
    parts = [(slice(*rows), slice(max(left, start), min(right, stop))) for start, stop in _applied(geometry)]
    for bias, columns in zip(geometry.bias, overscan, strict=True):
        if (level := _level(columns)) is None:
            return _NO_LEVEL
        levels[:, slice(*bias.applies_to)] = level
    return RawFrame(area, levels, overscan, amplifiers=tuple(parts))


def _applied(geometry: Overscan) -> list[list[int]]:
    """Return first and last column (exclusive) of what each amplifier reads; several overscans may be of one."""
    return [list(one) for one in dict.fromkeys(tuple(bias.applies_to) for bias in geometry.bias)]


def _of_amplifiers(
    pixels: NDArray[np.float32], header: Keywords, instrument: Instrument, *, has_gain: bool
) -> RawFrame | Missing | None:
    """Return the bias level of each amplifier: the median of its overscan; None if the header has none of its keywords.

    `has_gain` is True if the user gives a gain, so that those of amplifiers do not count.
    """
    amplifiers = instrument.amplifiers
    if not any(stated_section(header, one.image) for one in amplifiers):
        return None
    area, covered = np.zeros(pixels.shape, dtype=bool), np.zeros(pixels.shape, dtype=bool)
    levels, ratios = np.zeros(pixels.shape, dtype=np.float32), np.ones(pixels.shape, dtype=np.float32)
    whole, overscan, parts = instrument.gain(header), [], []
    for amplifier in amplifiers:
        sections = _sections(header, amplifier, pixels.shape)
        if sections is None:
            named = " and ".join(filter(None, [amplifier.image, amplifier.bias]))
            return Missing(f"{named}, as {instrument.name} is described, is no section of this frame", "--bias LEVEL")
        light, dark = sections
        if (level := _level(pixels[dark])) is None:
            return _NO_LEVEL
        own = amplifier.own_gain(header)
        if own is not None and not has_gain and not is_plausible(own.electron_per_count, GAINS):
            stated = f"{own.keyword or f'the gain of {amplifier.image}'} is {own.electron_per_count:g} e- per count"
            return Missing(f"{stated}: expected {GAINS[0]:g} to {GAINS[1]:g}", "--gain E_PER_COUNT")
        area[light], levels[light] = True, level
        ratios[light] = own.electron_per_count / whole.electron_per_count if own and whole else 1
        overscan.append(pixels[dark])
        parts.append(light)
        covered[dark] = True
    if both := _overlap(parts):
        named = " and ".join(amplifiers[place].image for place in both)
        return Missing(f"{named} share pixels, as {instrument.name} is described", "--bias LEVEL")
    area &= ~covered
    if not area.any():
        return Missing(f"no pixel sees light outside of the overscan, as {instrument.name} is described", "--bias LEVEL")
    if len(amplifiers) == 1:
        return RawFrame(area, np.full((1, 1), level, dtype=np.float32), tuple(overscan))
    differ = None if (ratios == 1).all() else ratios
    return RawFrame(area, levels, tuple(overscan), gain_ratio=differ, amplifiers=tuple(parts))


def _sections(header: Keywords, amplifier: Amplifier, shape: tuple[int, ...]) -> tuple[Section, Section] | None:
    """Return the pixels of an amplifier that see light, and its overscan; None if they are not parts of the frame."""
    light = section_of(header, amplifier.image, shape)
    if light is None:
        return None
    if amplifier.bias is not None:
        dark = section_of(header, amplifier.bias, shape)
        return None if dark is None else (light, dark)
    lit = np.zeros(shape, dtype=bool)
    lit[light] = True
    return None if lit.all() else (light, _beside(lit))


def _level(overscan: NDArray[np.float32]) -> float | None:
    """Return the median of the overscan pixels that hold a value; None if none does."""
    found = overscan[has_value(overscan)]
    return float(np.median(found)) if found.size else None


def _of_bias_section(pixels: NDArray[np.float32], section: Section, lit: Mask | None, source: str) -> RawFrame | Missing:
    """Return a frame with one amplifier, whose bias level is the median of a section."""
    if lit is None:
        lit = np.ones(pixels.shape, dtype=bool)
        lit[section] = False
    if (level := _level(pixels[section])) is None:
        return _NO_LEVEL
    return RawFrame(lit, np.full((1, 1), level, dtype=np.float32), (pixels[section],), source)


def assumed_bias(frames: Sequence[RawFrame]) -> list[str]:
    """Return a caution about bias levels that were measured where the header says that the overscan is."""
    assumed = [frame for frame in frames if frame.source and frame.bias is not None]
    if not assumed:
        return []
    levels = ", ".join(f"{float(frame.bias.flat[0]):g}" for frame in assumed if frame.bias is not None)
    return [f"bias measured in the overscan ({assumed[0].source}) and subtracted: {levels} counts"]


def _lit(header: Keywords, shape: tuple[int, ...]) -> Mask | None:
    """Return the pixels that see light by the header; None if that is all of them or its sections do not fit the image."""
    sections = [found for name in IMAGE_SECTIONS if (found := section_of(header, name, shape)) is not None]
    if not sections:
        return None
    lit = np.zeros(shape, dtype=bool)
    lit[sections[0]] = True
    for other in sections[1:]:
        both = np.zeros(shape, dtype=bool)
        both[other] = True
        lit = lit & both if (lit & both).any() else lit
    overscan = section_of(header, BIAS_SECTION, shape)
    if overscan is not None:
        lit[overscan] = False
    return None if lit.all() or not lit.any() else lit


def _first(header: Keywords) -> str:
    return next(f"{name}={text(header, name)}" for name in IMAGE_SECTIONS if text(header, name))


def _beside(lit: Mask) -> Section:
    """Return the widest band of rows or columns beside the pixels that see light."""
    rows, columns = (np.flatnonzero(lit.any(axis=axis)) for axis in (1, 0))
    height, width = lit.shape
    inside = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    bands = {
        columns[0]: (inside[0], slice(0, columns[0])),
        width - 1 - columns[-1]: (inside[0], slice(columns[-1] + 1, width)),
        rows[0]: (slice(0, rows[0]), inside[1]),
        height - 1 - rows[-1]: (slice(rows[-1] + 1, height), inside[1]),
    }
    return bands[max(bands)]
