"""Facts about instruments (``zoo/instruments.yaml``), each with its source."""

from __future__ import annotations

import fnmatch
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from numbers import Real
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from deepcr_zoo import locations
from deepcr_zoo.documents import Document, optional, read_document

BLEEDING = 7
"""Side in pixels of the square around a saturated pixel where its charge may have bled (Zhang & Bloom 2020)."""

MOST_AMPLIFIERS = 256
"""Amplifiers of one image; each takes time in every frame that is read."""

PixelUnit = Literal["electron", "adu"]  # unit of the pixel values of an image
Keywords = Mapping[str, Any]  # a FITS header or any other mapping of keywords
_PER_SECOND = re.compile(r"[\s.*]+(S|SEC|SECOND)(\*\*|\^)?-1$|\s*/\s*(S|SEC|SECOND)$")
"""Spellings of "per second" at the end of a unit, in capitals."""

_PER_PIXEL = re.compile(r"(?<=\w)\s*/\s*PIX(EL)?S?\b|[\s.*]+PIX(EL)?(\*\*|\^)?-1\b")
"""Spellings of "per pixel" in a unit, in capitals; every pixel value is one of a pixel."""

_WITH_UNIT = re.compile(r"(?P<number>\d+\.?\d*|\.\d+)\s*(e-?|electrons?)\s*/\s*(adu|dn|counts?)", re.IGNORECASE)
"""A gain with its unit, such as ``0.8 e-/ADU``."""

_PAIR = re.compile(r"\(?\s*([1-9]\d?)\s*[\s,xX*]\s*([1-9]\d?)\s*\)?")
"""Binning of both axes in one keyword: ``2 2``, ``2,2`` or ``2x2``."""

MOST_GAIN, MOST_LEVEL, MOST_SIZE = 1e6, 1e9, 1e4
"""Largest e- per count; counts or e- of a level; and um or arcsec of a part of a detector."""

MOST_NAMES = 100
"""Keywords or patterns in a list: each takes time in every header that is read."""

MOST_TEXT = 1000
"""Characters of a keyword's value that are looked at; a card has 68, and long ones cost patterns their square in time."""

Names = Annotated[list[str], Field(max_length=MOST_NAMES)]
Kinds = Annotated[dict[str, str], Field(max_length=MOST_NAMES)]
OwnPatterns = Annotated[dict[str, str | Names], Field(max_length=MOST_NAMES)]
Bit = Annotated[int, Field(gt=0, lt=2**31)]
Patterns = Mapping[str, str | list[str]]  # keywords and the patterns of their values; one of several patterns must match
Pair = Annotated[list[int], Field(min_length=2, max_length=2)]
Shape = Annotated[list[Annotated[int, Field(gt=0)]], Field(min_length=2, max_length=2)]


class UnitSpelling(Document):
    quantity: PixelUnit = Field(description="quantity that is counted")
    per_second: bool = Field(description="whether it is divided by the exposure time")
    spellings: list[str] = Field(min_length=1, description="values of BUNIT, upper case")


class Combined(Document):
    """Signs of a product made from several exposures, or of a file without an image of the sky."""

    keywords: list[str] = Field(description="keywords that only drizzled products carry")
    suffixes: dict[str, str] = Field(description="ends of file names, and what such a file is")
    source: str


class Saturation(Document):
    bits: list[int] = Field(min_length=1, description="DQ bits that mean saturated")
    level_electron: float = Field(gt=0, description="pixels above this are saturated, e-")
    requires: dict[str, str | list[str]] = Field(default={}, description="keywords and values for which this level holds")


class Bias(Document):
    """Overscan columns that give the bias level of some columns of the image."""

    level: Pair = Field(description="first and last + 1 of the columns whose median is the bias level")
    applies_to: Pair = Field(description="first and last + 1 of the columns that it is subtracted from")


class Overscan(Document):
    """Geometry of the overscan of a raw full frame; columns and rows count from 0, in unbinned pixels."""

    shape: Pair = Field(description="rows and columns of the raw frame")
    requires: dict[str, str | list[str]] = Field(default={}, description="keywords and values for which this geometry holds")
    bias: list[Bias] = Field(
        min_length=1, max_length=MOST_AMPLIFIERS, description="which overscan columns give the level of which columns"
    )
    image_columns: Pair = Field(description="first and last + 1 of the columns that see light")
    image_rows: dict[str, Pair] = Field(description="the same for rows, by EXTVER; * for any other")


@dataclass(frozen=True)
class Gain:
    electron_per_count: float
    keyword: str  # empty if the user gave the gain


class Amplifier(Document):
    """A part of a raw frame with a bias level of its own.

    A section is written as in IRAF: columns, then rows, from 1, the last included, as in ``[1:1024,1:2048]``.
    """

    image: str = Field(min_length=1, description="section that sees light, or the keyword that holds it")
    bias: str | None = Field(default=None, description="the same of its overscan; none: the widest band beside the light")
    gain: Annotated[float, Field(gt=0)] | str | None = Field(
        default=None, description="its gain, e- per count, or the keyword; none: the gain of the frame"
    )

    def own_gain(self, keywords: Keywords) -> Gain | None:
        """Return the gain of this amplifier, or None if it has none of its own."""
        if isinstance(self.gain, float):
            return Gain(self.gain, "")
        return None if self.gain is None else read_gain(keywords, [self.gain])


class GainByChip(Document):
    """Gains of an instrument whose gain keyword holds a setting."""

    keyword: str = Field(description="keyword that numbers the chip")
    settings: dict[str, dict[str, float]] = Field(description="setting -> chip -> e- per count")


class Instrument(Document):
    name: str = Field(description="for people")
    telescope: str = Field(description="as in cards and preferences")
    instrument: str
    detector: str
    recognise: OwnPatterns = Field(min_length=1, description="keywords and patterns that their values match")
    filter_keywords: Names = Field(description="keywords that name filters")
    no_filter: Names = Field(default=[], description="patterns of values that mean no filter")
    whole_filter_names: bool = optional(False, "whether a filter has all words of its value, joined by _, or the first")
    filter_if_absent: str | None = optional(None, "name for exposures without a filter")
    gain_keywords: Names = Field(description="keywords of the gain, e- per count; the first that is not zero is used")
    gain_electron_per_count: float | None = optional(None, "gain of exposures without such a keyword", gt=0, le=MOST_GAIN)
    gain_by_chip: GainByChip | None = Field(default=None, description="the true gains, if the keyword holds a setting")
    read_noise_keywords: Names = optional([], "keywords of the read noise, e-; the first that is not zero is used")
    read_noise_electron: float | None = optional(None, "read noise of exposures without such a keyword", gt=0, le=MOST_LEVEL)
    exposure_time_keywords: Names = optional([], "keywords of the exposure time, s; none: EXPTIME")
    target_keywords: Names = optional([], "keywords of the target's name; none: TARGNAME")
    proposal_keywords: Names = optional([], "keywords of the proposal's number; none: PROPOSID")
    visit_keywords: Names = optional([], "keywords of the visit in the proposal; none: LINENUM")
    time_keywords: Names = optional([], "keywords of the start of the exposure, as MJD or ISO 8601; none: EXPSTART")
    chip_shape: Shape = Field(description="rows and columns of a calibrated full frame, unbinned")
    chips: int | None = optional(None, "chips of a full frame, an image each", ge=1)
    pixel_size_um: float | None = Field(
        default=None, gt=0, le=MOST_SIZE, description="side of an unbinned pixel, micrometres"
    )
    pixel_scale_arcsec: float | None = optional(None, "side of an unbinned pixel on the sky", gt=0, le=MOST_SIZE)
    silicon_um: float | None = optional(None, "thickness of the light-sensitive silicon", gt=0, le=MOST_SIZE)
    binning_keywords: Names = Field(
        default=[], description="keywords of the unbinned pixels per pixel, for each axis, or one with both numbers"
    )
    unit_if_absent: PixelUnit | None = Field(default=None, description="unit of exposures without BUNIT")
    raw_when: OwnPatterns = Field(default={}, description="keywords and values of raw exposures")
    every_image_is_a_chip: bool = Field(default=False, description="whether extensions need not be called SCI")
    every_chip_is_an_exposure: bool = Field(
        default=False, description="whether the SCI extensions of a file are repeated exposures of the one chip"
    )
    refused_when: dict[str, Kinds] = Field(
        default={}, max_length=MOST_NAMES, description="keyword -> value -> kind of file, if no single exposure"
    )
    refused_names: Kinds = Field(default={}, description="pattern of file names -> kind of file, if no single exposure")
    has_flags: bool = optional(True, "whether exposures have DQ flags; without, what is saturated follows from levels")
    cosmic_ray_bit: Bit | None = Field(description="DQ bit that marks a cosmic ray; null where DQ holds codes, not bits")
    combination_bit: Bit | None = Field(
        default=None, description="DQ bit of pixels rejected when the pipeline combined repeated exposures"
    )
    usable_bits: list[Bit] = Field(
        default=[], description="DQ bits that leave a pixel usable, beside those of cosmic rays and saturation"
    )
    saturation: Saturation | None = None
    saturation_keywords: Names = optional([], "keywords of the lowest saturated value, in the unit of the file")
    saturation_count: float | None = optional(
        None, "lowest saturated value of a raw frame, counts, bias included", gt=0, le=MOST_LEVEL
    )
    overscan: list[Overscan] = Field(default=[], max_length=MOST_NAMES, description="geometry by the shape of the raw frame")
    amplifiers: list[Amplifier] = optional(
        [], "sections of raw frames; none and no overscan: TRIMSEC, DATASEC, BIASSEC", max_length=MOST_AMPLIFIERS
    )
    bias_count: float | None = optional(
        None, "bias level of raw frames without overscan, counts", ge=-MOST_LEVEL, le=MOST_LEVEL
    )
    sources: dict[str, str] = Field(description="where each fact stands, by field")

    @model_validator(mode="after")
    def _each_fact_has_its_source(self) -> Instrument:
        without = {"name", "telescope", "instrument", "detector", "no_filter", "sources"}
        facts = {name for name, field in type(self).model_fields.items() if getattr(self, name) not in (field.default, [])}
        if missing := sorted((self.model_fields_set & facts) - without - self.sources.keys()):
            raise ValueError(f"a source for each fact, none stands for {', '.join(missing)}")
        return self

    @model_validator(mode="after")
    def _amplifiers_have_their_own_overscan(self) -> Instrument:
        if len(self.amplifiers) > 1 and any(one.bias is None for one in self.amplifiers):
            raise ValueError("a bias section for each of several amplifiers")
        return self

    @property
    def facts(self) -> dict[str, Any]:
        """All that results depend on, for JSON: the fields without their sources."""
        return self.model_dump(mode="json", exclude={"sources"})

    @property
    def is_shipped(self) -> bool:
        """True if every installation knows this instrument."""
        return self in shipped_table().instruments

    @property
    def cosmic_ray_bits(self) -> int:
        """The DQ bits that mark cosmic rays, as one number; 0 if there are none."""
        return (self.cosmic_ray_bit or 0) | (self.combination_bit or 0)

    def matches(self, keywords: Keywords) -> bool:
        """True if these headers belong to this detector."""
        return matches(keywords, self.recognise)

    def gain(self, keywords: Keywords) -> Gain | None:
        """Return the gain, or None if neither the headers nor this description give it."""
        gain = read_gain(keywords, self.gain_keywords)
        if gain is None and self.gain_electron_per_count is not None:
            return Gain(self.gain_electron_per_count, "")
        if gain is None and self.amplifiers:
            return self.amplifiers[0].own_gain(keywords)
        if gain is None or self.gain_by_chip is None:
            return gain
        chips = self.gain_by_chip.settings.get(f"{gain.electron_per_count:g}", {})
        found = chips.get(text(keywords, self.gain_by_chip.keyword))
        return None if found is None else Gain(found, gain.keyword)

    def read_noise(self, keywords: Keywords) -> float | None:
        """Return the read noise, e-, or None if neither the headers nor this description give it."""
        found = (positive(keywords, name) for name in self.read_noise_keywords)
        return next((noise for noise in found if noise is not None), self.read_noise_electron)

    def exposure_time(self, keywords: Keywords) -> float | None:
        """Return the exposure time, s; None if no keyword holds a positive number."""
        found = (positive(keywords, name) for name in self.exposure_time_keywords or ["EXPTIME"])
        return next((time for time in found if time is not None), None)

    def binning(self, keywords: Keywords) -> tuple[float, float]:
        """Return the unbinned pixels per pixel along both axes; 1 where the headers do not give them."""
        return read_binning(keywords, self.binning_keywords)

    def filter_name(self, keywords: Keywords) -> str:
        """Return the filter in the beam as cards spell it, several joined by ``+``; empty if there is none."""
        values = [words for name in self.filter_keywords if (words := text(keywords, name).split())]
        names = ["_".join(words if self.whole_filter_names else words[:1]) for words in values]
        in_beam = [v for v in names if not any(fnmatch.fnmatchcase(v.upper(), none) for none in self.no_filter)]
        return "+".join(in_beam) or self.filter_if_absent or ""


class FrameKind(Document):
    """Frames that are no exposures of the sky with a CCD, by their headers."""

    is_of: Literal["calibration", "dark", "other_detector"] = "calibration"
    keywords: list[str] = Field(min_length=1, description="keywords that name the kind of a frame or its detector")
    values: list[str] = Field(min_length=1, description="patterns of values of this kind")
    meaning: str = Field(description="what such a frame is")
    consequence: str = Field(description="why its mask may be wrong")
    source: str


class GenericImages(Document):
    """Facts assumed for images of instruments that are not in the table."""

    gain_keywords: list[str] = Field(description="keywords of the gain, e- per count; the first that is not zero is used")
    cosmic_ray_bit: int = Field(description="bit that is set in a DQ extension that deepcr-zoo adds")
    calibrated: dict[str, str] = Field(
        default={}, description="units that are counts times a factor: value of BUNIT, upper case, and keyword of the factor"
    )
    source: str


class InstrumentTable(Document):
    """``zoo/instruments.yaml``."""

    units: list[UnitSpelling]
    combined: Combined
    generic: GenericImages
    frame_kinds: list[FrameKind] = Field(
        default=[],
        description="calibration frames and frames of other detectors, by any camera's keywords; the first counts",
    )
    instruments: list[Instrument]

    @property
    def unit_names(self) -> list[str]:
        """One spelling of each unit."""
        return [known.spellings[0] for known in self.units]

    def unit(self, spelling: str) -> UnitSpelling | None:
        """Return the unit that a value of BUNIT stands for, if it is in the table."""
        rate = _PER_SECOND.sub("/S", _PER_PIXEL.sub("", spelling.strip().upper()))
        wanted = "".join(rate.split())
        return next((unit for unit in self.units if wanted in unit.spellings), None)


def shipped_table() -> InstrumentTable:
    """Return the table that ships with this package, or of this checkout."""
    return _cached_instruments(locations.data_root())


def read_instruments(root: Path) -> InstrumentTable:
    """Read the table under ``root/zoo``."""
    return read_document(root / "zoo" / "instruments.yaml", InstrumentTable, root)


_cached_instruments = cache(read_instruments)


def matches(keywords: Keywords, patterns: Patterns) -> bool:
    """True if the value of every keyword matches its pattern; case and padding are ignored."""

    def has(name: str, wanted: str | list[str]) -> bool:
        found = text(keywords, name).upper()
        return any(fnmatch.fnmatchcase(found, one.upper()) for one in ([wanted] if isinstance(wanted, str) else wanted))

    return all(has(name, wanted) for name, wanted in patterns.items())


def read_gain(keywords: Keywords, names: Sequence[str]) -> Gain | None:
    """Return the first of these keywords that holds a positive number, perhaps with a unit, as a gain.

    A text with digits that is no such number hides the keywords behind it, which may be settings.
    """
    for name in names:
        stated = text(keywords, name)
        numbered = _WITH_UNIT.fullmatch(stated)
        found = positive({name: numbered["number"]} if numbered else keywords, name)
        if found is not None:
            return Gain(found, name)
        if re.search(r"\d", stated) and number(keywords, name) is None:
            return None
    return None


def read_binning(keywords: Keywords, names: Sequence[str]) -> tuple[float, float]:
    """Return the binning by a keyword for each axis, or by one with both numbers; 1 where there is none."""
    if len(names) == 1 and (both := _PAIR.fullmatch(text(keywords, names[0]))):
        return float(both[1]), float(both[2])
    first, second, *_ = [positive(keywords, name) or 1.0 for name in names] + [1.0, 1.0]
    return first, second


def value(keywords: Keywords, name: str) -> Any:
    """Return a keyword's value; None if it is absent, empty or cannot be read."""
    try:
        return keywords.get(name)
    except Exception:  # a broken header card may raise anything
        return None


def text(keywords: Keywords, name: str) -> str:
    """Return a keyword's value without padding; empty if there is none."""
    found = value(keywords, name)
    return "" if found is None else str(found).strip()[:MOST_TEXT]


def first_text(keywords: Keywords, names: Sequence[str]) -> str:
    """Return the value of the first of these keywords that has one, without padding; empty if none has."""
    return next((found for name in names if (found := text(keywords, name))), "")


def number(keywords: Keywords, name: str) -> float | None:
    """Return a keyword's value if it is a finite number, also one that is stored as text ('4', '400.0', '4.0D2')."""
    found = value(keywords, name)
    if isinstance(found, bool) or not isinstance(found, Real | str):
        return None
    try:
        read = float(found.upper().replace("D", "E")) if isinstance(found, str) else float(found)
    except (ValueError, OverflowError):
        return None
    return read if math.isfinite(read) else None


def positive(keywords: Keywords, name: str) -> float | None:
    """Return a keyword's value if it is a positive number, else None."""
    found = number(keywords, name)
    return found if found is not None and found > 0 else None
