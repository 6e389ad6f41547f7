"""A description of a camera, proposed from the headers of its files: what they say, what is guessed, what is missing."""

from __future__ import annotations

import glob
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from statistics import median
from typing import Any

import numpy as np

from deepcr_zoo.documents import brief, validate
from deepcr_zoo.errors import UsageError
from deepcr_zoo.exposures import keywordnames as known
from deepcr_zoo.exposures.keywordnames import NO_VALUE, Names
from deepcr_zoo.exposures.rawframes import is_unsigned
from deepcr_zoo.exposures.readingoptions import GAINS, is_plausible
from deepcr_zoo.exposures.survey import Survey, has_text
from deepcr_zoo.zoo.instruments import Instrument, Keywords, number, positive, read_binning, read_gain, shipped_table, text
from deepcr_zoo.zoo.sections import BIAS_SECTION, IMAGE_SECTIONS, section_of

GUESSED = "guessed: "
"""Beginning of the source of a fact that no header states."""

UNKNOWN = "unknown"  # a telescope or detector that no header names
NO_FILTER_NAME = "clear"
COSMIC_RAY_BIT = 4096
LARGEST_UINT16 = 65535.0
_MOST_BINNED = 16
_MOST_WORDS = 3  # of a filter's name; NOIRLab writes "g DECam SDSS c0001 4720.0 1520.0"
_MOST_OTHER_NAMES = 2  # keywords that stand in for INSTRUME: versions of software may be among those that follow
_PIXEL_SIZES_UM = (1.0, 100.0)
_PIXEL_SCALES_ARCSEC = (1e-3, 100.0)
_READ_NOISES = (0.1, 100.0)
_FALLBACK = "; for exposures without the keyword"


@dataclass
class Draft:
    """Facts of a description with their sources, what no header says, and what a person should look at."""

    facts: dict[str, Any] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)  # by the field, or the fact, that lacks
    notes: list[str] = field(default_factory=list)

    def add(self, name: str, fact: Any, source: str) -> None:
        """Add a fact; what was missing of it no longer is."""
        self.facts[name], self.sources[name] = fact, source
        self.missing.pop(name, None)

    def guess(self, name: str, fact: Any, reason: str) -> None:
        """Add a fact that no header states."""
        self.add(name, fact, f"{GUESSED}{reason}")

    @property
    def guessed(self) -> list[str]:
        """The fields that no header states."""
        return [name for name, source in self.sources.items() if source.startswith(GUESSED)]

    def instrument(self) -> Instrument:
        """Return the description."""
        ordered = {name: self.facts[name] for name in Instrument.model_fields if name in self.facts}
        content = {**ordered, "sources": {name: self.sources[name] for name in ordered if name in self.sources}}
        return validate(content, Instrument, lambda _: "the proposed description")


def propose(survey: Survey, name: str | None) -> Draft:
    """Return what the headers of a camera's files say; `name` is for people (default: telescope and instrument)."""
    draft = Draft()
    for proposal in _PROPOSALS:
        proposal(survey, draft)
    telescope, instrument = draft.facts["telescope"], draft.facts["instrument"]
    draft.facts["name"] = name or " ".join(one for one in (telescope, instrument) if one != UNKNOWN)
    if not draft.facts["name"]:
        raise UsageError("no header names the camera: give it a name")
    return draft


def _identity(survey: Survey, draft: Draft) -> None:
    for name in ("INSTRUME", "TELESCOP"):
        values = [value for value in survey.values(name) if value.upper() not in NO_VALUE]
        if len(values) > 1:
            listed = ", ".join(map(brief, values))
            raise UsageError(f"the files are of several cameras ({name} is {listed}): give those of one")
    names = {name: value for name in known.IDENTITY.names if (value := survey.constant(name)) is not None}
    if "INSTRUME" not in names:
        others = {name: value for name in known.OTHER_IDENTITY if (value := survey.constant(name)) is not None}
        words = [(name, value) for name, value in others.items() if re.search(r"[A-Za-z]{3}", value)]  # no mere version
        names |= dict(words[:_MOST_OTHER_NAMES])
    draft.facts["telescope"] = names.get("TELESCOP", UNKNOWN)
    cameras = [value for name, value in names.items() if name not in ("TELESCOP", "DETECTOR")]
    draft.facts["instrument"] = cameras[0] if cameras else UNKNOWN
    draft.facts["detector"] = names.get("DETECTOR", "CCD")
    if names:
        draft.add("recognise", {name: glob.escape(value) for name, value in names.items()}, _header(survey))
        if not cameras:
            draft.notes.append(f"no keyword names the instrument: it is recognised by {' and '.join(names)} alone")
        return
    shape = dict(zip(("NAXIS2", "NAXIS1"), map(str, survey.shapes[0]), strict=True))
    draft.guess("recognise", shape, "no keyword names the camera: any frame of this size is taken for one of it")
    draft.notes.append("no keyword names the camera: it is recognised by the size of its frames alone; narrow 'recognise'")


def _filters(survey: Survey, draft: Draft) -> None:
    one = survey.first(known.FILTER.names, has_text)
    patterns = [pattern for pattern in known.FILTER_WHEELS.names if survey.first([pattern.format(1)], has_text)]
    if one is not None or not patterns:
        draft.facts["filter_keywords"] = [one] if one else []
        if one is not None:
            draft.add("filter_keywords", [one], _says(survey, one))
            _filter_names(survey, draft, [one])
            return
        draft.missing["filter_keywords"] = "no keyword names the filter"
        draft.guess("filter_if_absent", NO_FILTER_NAME, "no keyword names a filter")
        return
    numbered = (patterns[0].format(wheel) for wheel in range(1, 10))
    wheels = [name for name in numbered if survey.first([name], lambda image, name: bool(text(image, name)))]
    draft.add("filter_keywords", wheels, _says(survey, *wheels))
    _filter_names(survey, draft, wheels)
    draft.facts["no_filter"] = list(known.NO_FILTER)
    draft.add("filter_if_absent", NO_FILTER_NAME, "name for exposures whose filter wheels are all open")


def _filter_names(survey: Survey, draft: Draft, names: Sequence[str]) -> None:
    """Take whole values as names of filters, as ``Bessel R``, unless the first word is followed by a long description."""
    words = [value.split() for name in names for value in survey.values(name)]
    if any(1 < len(one) <= _MOST_WORDS for one in words):
        draft.add("whole_filter_names", True, _says(survey, *names))


def _gain(survey: Survey, draft: Draft) -> None:
    found = survey.first(known.GAIN.names, _has_gain)
    draft.facts["gain_keywords"] = []
    if found is None:
        stated = next((f"{name} is {survey.values(name)[0]}" for name in known.GAIN.names if any(survey.values(name))), "")
        draft.missing["gain_electron_per_count"] = f"no keyword holds a gain{f' ({stated})' if stated else ''}"
        return
    draft.add("gain_keywords", [found], _says(survey, found))
    gains = [gain.electron_per_count for image in survey.images if (gain := read_gain(image, [found])) is not None]
    if max(gains) < 2 * min(gains):
        draft.add("gain_electron_per_count", median(gains), _says(survey, found, purpose=_FALLBACK))


def _has_gain(image: Keywords, name: str) -> bool:
    gain = read_gain(image, [name])
    return gain is not None and is_plausible(gain.electron_per_count, GAINS)


def _is_within(limits: tuple[float, float], image: Keywords, name: str) -> bool:
    found = positive(image, name)
    return found is not None and is_plausible(found, limits)


def _number(
    keywords: str, fact: str | None, names: Names, limits: tuple[float, float], what: str
) -> Callable[[Survey, Draft], None]:
    """Return a proposal of the keywords that hold a number, and of a fact that is the number itself where it is one."""

    def propose_number(survey: Survey, draft: Draft) -> None:
        found = survey.first(names.names, partial(_is_within, limits))
        if found is None:
            draft.missing[fact or keywords] = f"no keyword holds {what}"
            return
        draft.add(keywords, [found], _says(survey, found))
        numbers = [stated for image in survey.images if (stated := positive(image, found)) is not None]
        if fact is not None and max(numbers) < 2 * min(numbers):
            draft.add(fact, median(numbers), _says(survey, found, purpose=_FALLBACK))

    return propose_number


def _texts(keywords: str, names: Names, accept: Callable[[Keywords, str], bool]) -> Callable[[Survey, Draft], None]:
    """Return a proposal of the keyword that holds a text."""

    def propose_text(survey: Survey, draft: Draft) -> None:
        found = survey.first(names.names, accept)
        if found is not None:
            draft.add(keywords, [found], _says(survey, found))

    return propose_text


def _time(survey: Survey, draft: Draft) -> None:
    found = [name for name in known.TIME.names if survey.first([name], has_text)]
    dates = [name for name in found if "DATE" in name or "MJD" in name or name == "JD"]
    if not dates:
        draft.missing["time_keywords"] = "no keyword holds the time, so that nights are not told apart"
        return
    first = dates[0]
    is_whole = any("T" in value or _is_fraction_of_day(value) for value in survey.values(first))
    draft.add("time_keywords", [first] if is_whole else found, _says(survey, first))


def _is_fraction_of_day(value: str) -> bool:
    """True for a time as a number of days with a fraction."""
    days = number({"value": value}, "value")
    return days is not None and not days.is_integer()


def _binning(survey: Survey, draft: Draft) -> None:
    for names in known.BINNING:
        if all(_binning_of(image, names.names) for image in survey.images):
            draft.add("binning_keywords", list(names.names), _says(survey, *names.names))
            return


def _binning_of(image: Keywords, names: Sequence[str]) -> tuple[float, float] | None:
    """Return the binning by these keywords; None if they hold none."""
    found = read_binning(image, names) if names and all(text(image, name) for name in names) else (0.0, 0.0)
    return found if all(1 <= one <= _MOST_BINNED for one in found) else None


def _unit(survey: Survey, draft: Draft) -> None:
    stated = [value for value in survey.values("BUNIT") if value]
    unread = [value for value in stated if shipped_table().unit(value) is None]
    if unread:
        draft.missing["unit"] = f"BUNIT is {brief(unread[0])!r}, which is none of {', '.join(shipped_table().unit_names)}"
    if len(stated) == len(survey.values("BUNIT")):
        return
    if all(_is_integer(image) for image in survey.images):
        kind = "unsigned 16-bit integers" if all(map(is_unsigned, survey.images)) else "integers"
        draft.guess("unit_if_absent", "adu", f"there is no BUNIT, and the pixels are {kind}, as converters give them")
    else:
        draft.missing["unit_if_absent"] = "there is no BUNIT, and the pixels are no integers: they may be adu or electron"


def _is_integer(image: Keywords) -> bool:
    bits = number(image, "ZBITPIX") or number(image, "BITPIX")
    return bits is not None and bits > 0 and (number(image, "BSCALE") or 1.0) == 1.0


def _amplifiers(survey: Survey, draft: Draft) -> None:
    several = next((found for found in map(dict, _several_amplifiers(survey)) if found), None)
    if several:
        amplifiers = list(several.values())
        draft.add("amplifiers", amplifiers, _says(survey, *(str(one["bias"]) for one in amplifiers)))
        return
    image = next((name for name in IMAGE_SECTIONS if _fits_everywhere(survey, name)), None)
    bias = BIAS_SECTION if _fits_everywhere(survey, BIAS_SECTION) else None
    if image and bias:
        draft.add("amplifiers", [{"image": image, "bias": bias}], _says(survey, image, bias))
    elif image and all(_leaves_room(shape, section_of(one, image, shape)) for one, shape in _frames(survey)):
        draft.guess("amplifiers", [{"image": image}], f"{image} leaves a band beside the light: its overscan")
    elif bias is None and all(map(is_unsigned, survey.images)):
        draft.missing["bias_count"] = "no keyword shows an overscan: give a bias frame too, or set bias_count=LEVEL"
    if "amplifiers" in draft.facts and not all(map(is_unsigned, survey.images)):
        pattern = {bias or image: "*:*"}
        draft.guess("raw_when", pattern, "its frames have sections of overscan that fit them, and are no unsigned integers")


def _several_amplifiers(survey: Survey) -> list[dict[str, dict[str, Any]]]:
    """Return the amplifiers by each way to number them, of a frame that holds several."""
    found = []
    for suffixes in known.AMPLIFIER_SUFFIXES:
        for image, bias, gain in known.AMPLIFIER_STEMS:
            of_way = {
                suffix: {"image": f"{image}{suffix}", "bias": f"{bias}{suffix}"}
                | ({"gain": f"{gain}{suffix}"} if survey.first([f"{gain}{suffix}"], _has_gain) else {})
                for suffix in suffixes
                if _fits_everywhere(survey, f"{image}{suffix}") and _fits_everywhere(survey, f"{bias}{suffix}")
            }
            if len(of_way) > 1:
                found.append(of_way)
    return found


def _frames(survey: Survey) -> list[tuple[Keywords, tuple[int, int]]]:
    return list(zip(survey.images, survey.shapes, strict=True))


def _fits_everywhere(survey: Survey, name: str) -> bool:
    return all(section_of(image, name, shape) is not None for image, shape in _frames(survey))


def _leaves_room(shape: tuple[int, int], section: tuple[slice, slice] | None) -> bool:
    return section is not None and any(one.stop - one.start < size for one, size in zip(section, shape, strict=True))


def _chips(survey: Survey, draft: Draft) -> None:
    count = max(len(one.images) for one in survey.lights)
    if any(one.is_ambiguous for one in survey.lights):
        if len(set(survey.shapes)) > 1:
            draft.missing["every_image_is_a_chip"] = "its images have different sizes: clean needs --extension"
        else:
            draft.guess("every_image_is_a_chip", True, f"its {count} images have one size")
    if count > 1:
        draft.add("chips", count, f"images in {survey.lights[0].path.name}")
    shapes: dict[tuple[int, int], None] = {}
    for image, shape in _frames(survey):
        binned = _binning_of(image, draft.facts.get("binning_keywords", [])) or (1.0, 1.0)
        lit = _light(draft, image, shape)
        shapes[round(lit[0] * binned[1]), round(lit[1] * binned[0])] = None
    largest = max(shapes, key=np.prod)
    draft.add("chip_shape", list(largest), f"size of the images of {survey.named}, without overscan and binning")
    if len(shapes) > 1:
        sizes = ", ".join(f"{rows} x {columns}" for rows, columns in shapes)
        draft.notes.append(f"the size of frames varies ({sizes}): the largest is taken for the full frame")


def _light(draft: Draft, image: Keywords, shape: tuple[int, int]) -> tuple[int, int]:
    """Return rows and columns of what sees light."""
    sections = [section_of(image, one["image"], shape) for one in draft.facts.get("amplifiers", [])]
    found = [one for one in sections if one is not None]
    if not found:
        return shape
    rows, columns = ((min(one[axis].start for one in found), max(one[axis].stop for one in found)) for axis in (0, 1))
    return rows[1] - rows[0], columns[1] - columns[0]


def _saturation(survey: Survey, draft: Draft) -> None:
    is_raw = all(map(is_unsigned, survey.images))
    limits = (1.0, LARGEST_UINT16 if is_raw else 1e9)
    found = survey.first(known.SATURATION.names, partial(_is_within, limits))
    if found is not None:
        draft.add("saturation_keywords", [found], _says(survey, found))
        levels = [level for image in survey.images if (level := positive(image, found)) is not None]
        if is_raw:
            draft.add("saturation_count", min(levels), _says(survey, found, purpose=_FALLBACK))
    elif is_raw:
        draft.guess("saturation_count", LARGEST_UINT16, "the largest number of 16 bits; the detector may saturate below")
    else:
        draft.missing["saturation_keywords"] = "no keyword holds the saturated level"


def _flags(survey: Survey, draft: Draft) -> None:
    if any(one.has_flags for one in survey.lights):
        draft.add("cosmic_ray_bit", None, "the DQ extension is not described")
        draft.missing["cosmic_ray_bit"] = "there is a DQ extension, and no header says what its numbers mean"
        return
    draft.add("has_flags", False, f"no DQ extension in {survey.named}")
    draft.add("cosmic_ray_bit", COSMIC_RAY_BIT, "bit that deepcr-zoo sets in a DQ extension which it adds")


def _pixel_size(survey: Survey, draft: Draft) -> None:
    for name in known.PIXEL_SIZE.names:
        image = survey.images[0]
        size = _micrometres(positive(image, name))
        if size is not None:
            binned = _binning_of(image, draft.facts.get("binning_keywords", [])) or (1.0, 1.0)
            size /= binned[0] if name in known.BINNED_PIXEL_SIZE else 1.0
            draft.add("pixel_size_um", round(size, 3), _says(survey, name))
            return
    draft.missing["pixel_size_um"] = "no keyword holds the side of a pixel: rates per cm2 and recipes need it"


def _micrometres(stated: float | None) -> float | None:
    """Return the side of a pixel that is stated in metres, millimetres or micrometres."""
    sizes = [stated * factor for factor in (1.0, 1e3, 1e6)] if stated else []
    return next((size for size in sizes if is_plausible(size, _PIXEL_SIZES_UM)), None)


def _pixel_scale(survey: Survey, draft: Draft) -> None:
    image = survey.images[0]
    binned = (_binning_of(image, draft.facts.get("binning_keywords", [])) or (1.0, 1.0))[0]
    by_wcs = _scale_of_wcs(image)
    if by_wcs is not None:
        draft.add("pixel_scale_arcsec", round(by_wcs / binned, 4), f"WCS of {survey.lights[0].path.name}")
        return
    found = survey.first(known.PIXEL_SCALE.names, partial(_is_within, _PIXEL_SCALES_ARCSEC))
    scale = None if found is None else positive(image, found)
    if found is None or scale is None:
        draft.missing["pixel_scale_arcsec"] = "neither a WCS nor a keyword gives the scale: recipes need it"
    elif binned == 1:
        draft.add("pixel_scale_arcsec", scale, _says(survey, found))
    else:
        draft.guess(
            "pixel_scale_arcsec", round(scale / binned, 4), f"{found} / binning, if it is not of unbinned pixels already"
        )


def _scale_of_wcs(image: Keywords) -> float | None:
    """Return the side of a pixel on the sky, arcsec; None without a WCS that can be read."""
    from astropy.io import fits
    from astropy.wcs import WCS
    from astropy.wcs.utils import proj_plane_pixel_scales

    from deepcr_zoo.exposures.fitsfiles import quiet_astropy

    try:
        with quiet_astropy():
            wcs = WCS(fits.Header(_wcs_cards(image)))
            if not wcs.has_celestial:
                return None
            scale = float(np.mean(proj_plane_pixel_scales(wcs.celestial))) * 3600
    except Exception:  # astropy and its libraries raise anything on odd headers
        return None
    return scale if is_plausible(scale, _PIXEL_SCALES_ARCSEC) else None


def _wcs_cards(image: Keywords) -> list[tuple[str, Any]]:
    names = [f"{stem}{axis}" for stem in ("CTYPE", "CRVAL", "CRPIX", "CDELT", "CUNIT", "CROTA") for axis in (1, 2)]
    names += [f"{stem}{row}_{column}" for stem in ("CD", "PC") for row in (1, 2) for column in (1, 2)]
    return [(name, image[name]) for name in names if text(image, name)]


_PROPOSALS: tuple[Callable[[Survey, Draft], None], ...] = (
    _identity,
    _filters,
    _gain,
    _number("read_noise_keywords", "read_noise_electron", known.READ_NOISE, _READ_NOISES, "the read noise"),
    _number("exposure_time_keywords", None, known.EXPOSURE_TIME, (1e-6, 1e6), "the exposure time"),
    _texts("target_keywords", known.TARGET, has_text),
    _texts("proposal_keywords", known.PROPOSAL, lambda image, name: (number(image, name) or 0.5).is_integer()),
    _time,
    _binning,
    _unit,
    _amplifiers,
    _chips,
    _saturation,
    _flags,
    _pixel_size,
    _pixel_scale,
)


def _header(survey: Survey) -> str:
    return f"header of {survey.named}"


def _says(survey: Survey, *names: str, purpose: str = "") -> str:
    """Return the values of keywords as a source."""
    stated = ", ".join(f"{name} {_listed(survey, name)}" for name in names)
    return f"{_header(survey)}: {stated}{purpose}"


def _listed(survey: Survey, name: str, most: int = 4) -> str:
    values = [brief(value) or "(none)" for value in survey.values(name)]
    return " or ".join(values[:most]) + (f" and {len(values) - most} others" if len(values) > most else "")
