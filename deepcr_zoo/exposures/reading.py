"""Read exposures: a FITS file becomes chips, whose pixels convert to the unit that a network takes."""

from __future__ import annotations

import fnmatch
import hashlib
from collections import ChainMap
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from deepcr_zoo.errors import InvalidDocumentError, InvalidFileError, NotAnExposureError, printable
from deepcr_zoo.exposures.extensions import QualityLayers, is_plane, quality_layers, quality_of, science_images, versions
from deepcr_zoo.exposures.fitsfiles import (
    extension_name,
    image_values,
    opened,
    read_with_permissions,
    reason,
    root_name,
)
from deepcr_zoo.exposures.missing import Missing, MissingFactsError
from deepcr_zoo.exposures.packing import unpacked
from deepcr_zoo.exposures.rawframes import RawFrame, assumed_bias, is_unsigned, read_raw_frame, unmeasured
from deepcr_zoo.exposures.readingoptions import ALL, EXPOSURE_TIMES_S, GAINS, ReadingOptions, is_plausible
from deepcr_zoo.exposures.usablepixels import Quality, QualityBits, bad_pixels, combined, saturated_pixels
from deepcr_zoo.models.images import LIMIT, Mask, has_value, near
from deepcr_zoo.permissions import Permissions
from deepcr_zoo.zoo.instrumentfiles import default_instruments
from deepcr_zoo.zoo.instruments import (
    Gain,
    Instrument,
    Keywords,
    PixelUnit,
    UnitSpelling,
    matches,
    number,
    positive,
    read_gain,
    shipped_table,
    text,
)
from deepcr_zoo.zoo.sections import Section

AS_THE_FILE_SAYS = ReadingOptions()

_DECIDING = ("BUNIT", "EXPTIME", "GAIN", "EGAIN", "CCDGAIN", "ATODGAIN")
"""Keywords that decide about the unit."""


@dataclass(frozen=True)
class Chip:
    """One science image of an exposure."""

    where: str  # file, extension and number, for messages
    hdu: int  # index in the file
    name: str  # EXTNAME
    version: int  # EXTVER, else the position among the images
    header: fits.Header
    keywords: Keywords  # header of the chip, then that of the primary
    pixels: NDArray[np.float32]  # shape (H, W), in `unit`
    unit: UnitSpelling  # from BUNIT or the user
    per_count: float  # pixel value of one count or electron of `unit`: 1, or the factor of a calibrated image
    gain: Gain | None
    gain_ratio: NDArray[np.float32] | None  # gain of each pixel's amplifier / `gain`, shape (H, W); None if all are alike
    read_noise_electron: float | None  # of the description of the instrument, e-
    exposure_time_s: float | None  # if positive
    bias: NDArray[np.float32] | None  # bias level of a raw frame, of a shape that broadcasts to (H, W), file's unit
    overscan: tuple[NDArray[np.float32], ...]  # overscan of each amplifier, in the rows that see light, counts
    amplifiers: tuple[Section, ...]  # the parts of the light that they read; empty if not known
    image_area: Mask | None  # False in the overscan of a raw frame, shape (H, W)
    area_cm2: float | None  # area of the detector that sees light, if the pixel size is known
    quality: Quality

    @property
    def label(self) -> str:
        """The name and number of the chip, for messages about its file."""
        return f"{self.name or 'image'},{self.version}"

    @property
    def bad(self) -> Mask:
        """The pixels without a value, outside the image area, masked or flagged bad, shape (H, W)."""
        bad = bad_pixels(self.pixels, self.quality.flags, self.quality.bits)
        if self.quality.masked is not None:
            bad |= self.quality.masked
        return bad if self.image_area is None else bad | ~self.image_area

    @property
    def saturated(self) -> Mask:
        """The pixels that are saturated by flag or level, shape (H, W)."""
        known, level = self.quality, None
        if known.saturation_electron is not None and self.has_electrons:
            level = known.saturation_electron / self.factor("electron")
        light = self.pixels if self.bias is None else self.pixels - self.bias
        saturated = saturated_pixels(light, known.flags, known.bits, level)
        return saturated if known.saturation_stored is None else saturated | (self.pixels >= known.saturation_stored)

    @property
    def searched(self) -> Mask:
        """The pixels where a cosmic ray can be found: usable, and not beside a saturated one, shape (H, W)."""
        return ~(self.bad | near(self.saturated))

    def in_unit(self, wanted: PixelUnit | None) -> np.ma.MaskedArray[Any, np.dtype[np.float32]]:
        """Return the pixels in `wanted` as float32, bias subtracted; bad pixels are masked. None is the file's own unit.

        Saturated pixels keep their values: networks were trained on images that hold them.
        """
        factor = np.float32(self.factor(wanted))
        level = np.float32(0) if self.bias is None else self.bias
        with np.errstate(over="ignore", invalid="ignore"):
            image = (self.pixels - level) * factor
            if (ratio := self._ratio(wanted)) is not None:
                image *= ratio
        return np.ma.MaskedArray(image, mask=self.bad)

    def from_unit(self, image: NDArray[np.float32], unit: PixelUnit | None, mask: Mask) -> NDArray[np.float64]:
        """Return the masked pixels of an image in the file's own unit, shape (masked pixels,): the inverse of `in_unit`."""
        level = 0 if self.bias is None else np.broadcast_to(self.bias, mask.shape)[mask].astype(np.float64)
        return self.difference_from_unit(image, unit, mask) + level

    def difference_from_unit(self, image: NDArray[np.float32], unit: PixelUnit | None, mask: Mask) -> NDArray[np.float64]:
        """Do the same for differences of pixel values, to which a bias does not belong."""
        ratio = self._ratio(unit)
        return image[mask].astype(np.float64) / self.factor(unit) / (1 if ratio is None else ratio[mask])

    def part(self, places: Any) -> Chip:
        """Return the chip with the pixels at an index of two axes alone, which convert in less time."""

        def parts(record: Any) -> dict[str, Any]:
            values = {field.name: getattr(record, field.name) for field in fields(record)}
            arrays = {name: value for name, value in values.items() if isinstance(value, np.ndarray) and value.ndim == 2}
            return {name: np.broadcast_to(array, self.pixels.shape)[places] for name, array in arrays.items()}

        return replace(self, **parts(self), quality=replace(self.quality, **parts(self.quality)))

    def factor(self, wanted: PixelUnit | None) -> float:
        """Return the factor from the file's pixel values to `wanted`; an error if it needs a gain that is unknown."""
        if wanted is None:
            return 1.0
        factor = 1 / self.per_count
        if self.unit.per_second:
            assert self.exposure_time_s is not None  # read_exposure demands one of a rate
            factor *= self.exposure_time_s
        if self.unit.quantity != wanted:
            if self.gain is None:
                raise InvalidFileError(
                    f"{self.where}: is in {self.unit.spellings[0]} and the network takes {wanted}s, but the header has no "
                    "gain for this chip: give --gain E_PER_COUNT"
                )
            gain = self.gain.electron_per_count
            if not is_plausible(gain, GAINS):
                raise InvalidFileError(
                    f"{self.where}: {self.gain.keyword or 'gain'} is {gain:g} e- per count, which is implausible: expected "
                    f"{GAINS[0]:g} to {GAINS[1]:g}: give --gain E_PER_COUNT"
                )
            factor *= gain if wanted == "electron" else 1 / gain
        return factor

    def _ratio(self, wanted: PixelUnit | None) -> NDArray[np.float32] | None:
        """Return the factors by which the gains of amplifiers differ, where a conversion needs a gain."""
        return None if wanted in (None, self.unit.quantity) else self.gain_ratio

    @property
    def has_electrons(self) -> bool:
        """True if the pixels convert to electrons: they are, or their gain is known and plausible."""
        known = self.gain is not None and is_plausible(self.gain.electron_per_count, GAINS)
        return self.unit.quantity == "electron" or known

    @property
    def lit_pixels(self) -> int:
        """Return the number of pixels that see light."""
        return self.pixels.size if self.image_area is None else int(self.image_area.sum())


@dataclass(frozen=True)
class Exposure:
    """A FITS file with its science images."""

    path: Path
    data: bytes  # the FITS file, unpacked if it was packed as a whole
    permissions: Permissions  # of what is made from it
    sha256: str  # of the file on disk
    instrument: Instrument | None  # None if the table of instruments does not list it
    keywords: Keywords  # header of the first chip, then that of the primary
    chips: tuple[Chip, ...]
    cosmic_ray_bit: int | None  # DQ bit; None if the file's DQ is not known to hold bits
    cautions: tuple[str, ...]

    @property
    def filter_name(self) -> str:
        """Return the filter as cards spell it; empty if there is none or the instrument is unknown."""
        return self.instrument.filter_name(self.keywords) if self.instrument else ""

    @property
    def description(self) -> str:
        """Return instrument and filter as text."""
        if self.instrument is None:
            named = [text(self.keywords, name) for name in ("TELESCOP", "INSTRUME", "DETECTOR")]
            return " ".join(filter(None, named)) or "an instrument that its header does not name"
        return " ".join([self.instrument.name, *filter(None, [self.filter_name])])


def read_exposure(path: Path, options: ReadingOptions = AS_THE_FILE_SAYS) -> Exposure:
    """Read a FITS file (plain, or packed with gzip, bzip2, xz or fpack) and find its science images.

    Raises `InvalidFileError` for a file that is damaged, changes while it is read, is a combined product, or holds no
    image of known unit and bias level.
    """
    packed, permissions = read_with_permissions(path)
    with ThreadPoolExecutor(1) as beside, opened(unpacked(packed, path), path) as (hdus, data, cautions):
        hashed = beside.submit(hashlib.sha256, packed)
        recognise = partial(_recognise, options, path)
        indices, missing = science_images(hdus, options.extension, path, recognise)
        keywords = ChainMap(hdus[indices[0]].header, hdus[0].header)
        instrument = recognise(keywords)
        _refuse_products(keywords, instrument, path)
        chips = _read_chips(hdus, indices, missing, instrument, options, path)
        bit = _cosmic_ray_bit(hdus, instrument)
    if not options.as_stored and any(_is_unit_assumed(chip.keywords, instrument, options) for chip, _ in chips):
        cautions.append("it has no BUNIT: its unsigned 16-bit integers were taken for counts")
    cautions += _contradictions([hdus[0].header, *(chip.header for chip, _ in chips)])
    cautions += assumed_bias([raw for _, raw in chips])
    if options.as_stored:
        cautions.append("unit or bias level are not known: the pixels were taken as stored, which this network allows")
    if isinstance(options.bias, float) and all(raw.image_area is None for _, raw in chips):
        cautions.append("the header does not say where the overscan is: if the frame has one, its pixels are searched too")
    digest = hashed.result().hexdigest()
    return Exposure(
        path=path,
        data=data,
        permissions=permissions,
        sha256=digest,
        instrument=instrument,
        keywords=keywords,
        chips=tuple(chip for chip, _ in chips),
        cosmic_ray_bit=bit,
        cautions=tuple(cautions),
    )


def _recognise(options: ReadingOptions, path: Path, keywords: Keywords) -> Instrument | None:
    if options.instrument is not None and options.instrument.matches(keywords):
        return options.instrument
    try:
        return default_instruments().recognise(keywords)
    except InvalidDocumentError as error:
        raise InvalidFileError(f"{path}: {error}") from None


def _contradictions(headers: Iterable[fits.Header]) -> list[str]:
    """Caution about `_DECIDING` keywords that stand twice in a header, with different values."""
    found = []
    for header, keyword in product(headers, _DECIDING):
        is_repeated = keyword in header and header.count(keyword) > 1
        cards = [card for card in header.cards if card.keyword == keyword] if is_repeated else []
        stated = [printable(card.image[8:].partition("/")[0].strip(" ='")) for card in cards]  # any text, also a damaged one
        if len(set(stated)) > 1:
            found.append(f"{keyword} stands {len(stated)} times in a header ({', '.join(stated)}): the first was taken")
    return list(dict.fromkeys(found))


def _refuse_products(keywords: Keywords, instrument: Instrument | None, path: Path) -> None:
    if made_by := text(keywords, "CRMODEL"):
        raise NotAnExposureError(f"{path}: was made by deepcr-zoo ({made_by}) already: give the original exposure")
    if reason := next(_signs_of_a_product(keywords, instrument, path), None):
        raise NotAnExposureError(
            f"{path}: is no single exposure ({reason}), so its cosmic rays and noise are not those of one: "
            f"give the exposures themselves{' (flc, flt)' if text(keywords, 'TELESCOP') == 'HST' else ''}"
        )


def _signs_of_a_product(keywords: Keywords, instrument: Instrument | None, path: Path) -> Iterator[str]:
    table = shipped_table().combined
    yield from (f"drizzled: {name} stands in its header" for name in table.keywords if name in keywords)
    yield from (meaning for suffix, meaning in table.suffixes.items() if root_name(path).lower().endswith(f"_{suffix}"))
    combined = positive(keywords, "NCOMBINE")
    if combined is not None and combined > 1:
        yield f"combined: NCOMBINE is {combined:g}"
    for keyword, kinds in (instrument.refused_when if instrument else {}).items():
        kind = next((kind for found, kind in kinds.items() if matches(keywords, {keyword: found})), None)
        if kind:
            yield f"{kind}: {keyword} is {text(keywords, keyword)}"
    for pattern, kind in (instrument.refused_names if instrument else {}).items():
        if fnmatch.fnmatch(path.name, pattern):
            yield kind


def _read_chips(
    hdus: fits.HDUList,
    indices: list[int],
    missing: list[Missing],
    instrument: Instrument | None,
    options: ReadingOptions,
    path: Path,
) -> list[tuple[Chip, RawFrame]]:
    """Read all science images; what is missing in any of them is refused in one sentence."""
    if len(options.gain) > 1 and len(options.gain) != len(indices):
        raise InvalidFileError(f"{path}: holds {len(indices)} images: expected one gain or as many, got {len(options.gain)}")
    read, layers = [], {} if options.ignore_dq == ALL else quality_layers(hdus, indices, path)
    for place, (index, version) in enumerate(zip(indices, versions(hdus, indices), strict=True)):
        found = _read_chip(hdus, layers, index, version, place, instrument, options, path)
        if isinstance(found, list):
            missing += found
        else:
            read.append(found)
    if missing:
        raise MissingFactsError(str(path), missing, instrument)
    return read


def _read_chip(
    hdus: fits.HDUList,
    layers: QualityLayers,
    index: int,
    version: int,
    place: int,
    instrument: Instrument | None,
    options: ReadingOptions,
    path: Path,
) -> tuple[Chip, RawFrame] | list[Missing]:
    hdu = hdus[index]
    keywords = ChainMap(hdu.header, hdus[0].header)
    name = extension_name(hdu)
    where = f"{path}: {name or 'image'},{version}"
    pixels = _pixels(hdu, where)
    unit = options.pixel_unit or _unit(keywords, instrument)
    time = _exposure_time(keywords, instrument, options)
    gain = _gain(keywords, instrument, options, place)
    missing = [] if isinstance(unit, UnitSpelling) else [unit]
    if isinstance(unit, UnitSpelling) and unit.per_second and time is None:
        keyword = (instrument.exposure_time_keywords[:1] if instrument else None) or ["EXPTIME"]
        found = text(keywords, keyword[0]) or "absent"
        missing.append(Missing(f"it is in {unit.spellings[0]} and {keyword[0]} is {found}", "--exposure-time SECONDS"))
    quantity = unit.quantity if isinstance(unit, UnitSpelling) else "adu"  # what a file without BUNIT most likely holds
    raw = read_raw_frame(pixels, keywords, quantity, instrument, version, options)
    if isinstance(raw, Missing):
        missing.append(raw)
    if missing and options.as_stored:
        unit, gain, missing = shipped_table().unit("adu") or unit, None, []
        raw = unmeasured(keywords, instrument, pixels.shape, None) if isinstance(raw, Missing) else raw
    if missing and gain is None and quantity == "adu" and not text(keywords, "BUNIT"):
        missing.append(Missing("its header has no gain", "--gain E_PER_COUNT"))
    if missing or isinstance(unit, Missing) or isinstance(raw, Missing):
        return missing
    chip = Chip(
        where=where,
        hdu=index,
        name=name,
        version=version,
        header=hdu.header,
        keywords=keywords,
        pixels=pixels,
        unit=unit,
        per_count=1.0 if options.unit else _per_count(keywords),
        gain=gain,
        gain_ratio=None if options.gain else raw.gain_ratio,
        read_noise_electron=instrument.read_noise(keywords) if instrument else None,
        exposure_time_s=time,
        bias=raw.bias,
        overscan=raw.overscan,
        amplifiers=raw.amplifiers,
        image_area=raw.image_area,
        area_cm2=_area_cm2(keywords, instrument, pixels.size if raw.image_area is None else int(raw.image_area.sum())),
        quality=_quality(hdus, layers, index, version, keywords, pixels, raw, instrument, options, where),
    )
    return chip, raw


def _quality(
    hdus: fits.HDUList,
    layers: QualityLayers,
    index: int,
    version: int,
    keywords: Keywords,
    pixels: NDArray[np.float32],
    raw: RawFrame,
    instrument: Instrument | None,
    options: ReadingOptions,
    where: str,
) -> Quality:
    flags, masked = quality_of(layers.get(version, []), hdus[index].shape, where)
    saturation = instrument.saturation if instrument else None
    level = saturation.level_electron if saturation and matches(keywords, saturation.requires) else None
    stored = _stored_saturation(keywords, pixels, instrument, raw)
    return Quality(flags, masked, _quality_bits(instrument, options), level, stored)


def _quality_bits(instrument: Instrument | None, options: ReadingOptions) -> QualityBits:
    """Return the meaning of the DQ bits; of an unknown camera any bit is bad."""
    cosmic_rays = instrument.cosmic_ray_bits if instrument else 0
    ignored = options.ignore_dq
    if not isinstance(ignored, int):
        ignored = combined(instrument.usable_bits) if instrument else 0
    usable = 0 if options.ignore_dq == 0 else ignored | cosmic_rays
    saturated = combined(instrument.saturation.bits) if instrument and instrument.saturation else 0
    return QualityBits(usable, saturated & ~usable)


def _stored_saturation(
    keywords: Keywords, pixels: NDArray[np.float32], instrument: Instrument | None, raw: RawFrame
) -> float | None:
    """Return the lowest saturated value of a file: by its header, by the description of its camera, or by its converter."""
    levels = [float(2**16 - 1)] if is_unsigned(keywords) else []
    names = instrument.saturation_keywords if instrument else ["SATURATE"]
    stated = next((level for name in names if (level := positive(keywords, name)) is not None), None)
    if stated is None and instrument and raw.bias is not None:
        stated = instrument.saturation_count
    if stated is not None and np.median(pixels[has_value(pixels)]) < stated:  # else a leftover in another unit
        levels.append(stated)
    return min(levels, default=None)


def _pixels(hdu: Any, where: str) -> NDArray[np.float32]:
    """Return an image of two axes, or of more whose other lengths are 1 (NAXIS3 = 1), shape (H, W)."""
    shape = hdu.shape
    if not is_plane(shape):
        way_out = ": save the plane that is an exposure as a file of its own" if len(shape) > 2 else ""
        raise InvalidFileError(f"{where}: has the shape {tuple(shape)}: expected an image of two axes{way_out}")
    values = image_values(hdu, where)
    try:
        with np.errstate(over="ignore"):
            pixels = np.asarray(values).reshape(shape[-2:]).astype(np.float32)
    except (ValueError, TypeError) as error:  # other pixels than its header announces
        raise InvalidFileError(f"{where}: is truncated or damaged: {reason(error)}") from None
    blank = number(hdu.header, "BLANK")
    if blank is not None and values.dtype.kind == "u":  # astropy makes NaN of it in other integers alone
        pixels[np.equal(values, blank + (number(hdu.header, "BZERO") or 0)).reshape(pixels.shape)] = np.nan
    if not has_value(pixels).any():
        raise InvalidFileError(f"{where}: holds no valid pixel, all are NaN, infinite or beyond {LIMIT:g}")
    return pixels


def _unit(header: Keywords, instrument: Instrument | None) -> UnitSpelling | Missing:
    spelling = text(header, "BUNIT") or (instrument and instrument.unit_if_absent) or ("adu" if is_unsigned(header) else "")
    known = shipped_table().unit("adu" if _per_count(header) != 1 else spelling)
    if known is not None:
        return known
    if not spelling:
        return Missing("it has no BUNIT", "--unit counts (or electron)")
    what = f"its BUNIT is {spelling!r}, which is none of {', '.join(shipped_table().unit_names)}"
    return Missing(what, "--unit UNIT if the pixels hold one of these, else convert them")


def _per_count(header: Keywords) -> float:
    """Return the pixel value of one count in a calibrated image whose header has the factor; 1 for others."""
    keyword = shipped_table().generic.calibrated.get(text(header, "BUNIT").upper())
    return (keyword and positive(header, keyword)) or 1.0


def _is_unit_assumed(header: Keywords, instrument: Instrument | None, options: ReadingOptions) -> bool:
    """True where unsigned integers without BUNIT are taken for counts."""
    return not (options.unit or text(header, "BUNIT") or (instrument and instrument.unit_if_absent))


def _exposure_time(header: Keywords, instrument: Instrument | None, options: ReadingOptions) -> float | None:
    """Return the exposure time, s; None if it is not known or no camera can have it."""
    time = options.exposure_time or (instrument.exposure_time(header) if instrument else positive(header, "EXPTIME"))
    return time if time is not None and is_plausible(time, EXPOSURE_TIMES_S) else None


def _gain(header: Keywords, instrument: Instrument | None, options: ReadingOptions, place: int) -> Gain | None:
    if options.gain:
        return Gain(options.gain[place] if len(options.gain) > 1 else options.gain[0], "")
    return instrument.gain(header) if instrument else read_gain(header, shipped_table().generic.gain_keywords)


def _area_cm2(header: Keywords, instrument: Instrument | None, pixels: int) -> float | None:
    if instrument is None or instrument.pixel_size_um is None:
        return None
    side_cm = instrument.pixel_size_um * 1e-4
    return float(pixels * side_cm**2 * np.prod(instrument.binning(header)))


def _cosmic_ray_bit(hdus: fits.HDUList, instrument: Instrument | None) -> int | None:
    if instrument is not None:
        return instrument.cosmic_ray_bit
    foreign = any(extension_name(hdu) == "DQ" for hdu in hdus)
    return None if foreign else shipped_table().generic.cosmic_ray_bit
