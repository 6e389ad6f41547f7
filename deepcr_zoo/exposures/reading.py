"""Read exposures: a FITS file becomes chips, whose pixels convert to the unit that a network takes."""

from __future__ import annotations

import fnmatch
import hashlib
from collections import ChainMap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from deepcr_zoo.errors import InvalidFileError, NotAnExposureError
from deepcr_zoo.exposures.fitsfiles import (
    extension_name,
    extension_version,
    opened,
    read_unchanged,
    reason,
    root_name,
)
from deepcr_zoo.exposures.packing import unpacked
from deepcr_zoo.models.images import LIMIT
from deepcr_zoo.zoo.instruments import (
    Gain,
    Instrument,
    Keywords,
    Overscan,
    PixelUnit,
    UnitSpelling,
    default_instruments,
    matches,
    positive,
    read_gain,
    text,
    value,
)

_NO_CHIPS = ("ERR", "DQ", "WHT", "CTX", "MASK", "UNCERT")


GAINS = (1e-3, 1e3)
"""e- per count that a camera can have: electron-multiplying and 16-bit CMOS cameras are at one end, old CCDs near 100."""

EXPOSURE_TIMES_S = (1e-6, 1e6)
"""From high-speed cameras to eleven days."""


def is_plausible(number: float, limits: tuple[float, float]) -> bool:
    """True if a number of a header lies in the range that any camera can have."""
    return limits[0] <= number <= limits[1]


def _correct(limits: tuple[float, float]) -> str:
    return f"expected {limits[0]:g} to {limits[1]:g}; correct the header of a copy"


@dataclass(frozen=True)
class Chip:
    """One science image of an exposure."""

    where: str  # file, extension and number, for messages
    hdu: int  # index in the file
    name: str  # EXTNAME
    version: int  # EXTVER of a SCI extension, else the position among the chips
    header: fits.Header
    keywords: Keywords  # header of the chip, then that of the primary
    pixels: NDArray[np.float32]  # shape (H, W), in `unit`
    unit: UnitSpelling  # from BUNIT
    gain: Gain | None
    exposure_time_s: float | None  # EXPTIME if positive
    bias: NDArray[np.float32] | None  # bias level of each column of a raw frame, shape (W,), counts
    overscan: tuple[NDArray[np.float32], ...]  # overscan columns of each amplifier, in the rows that see light, counts
    image_area: NDArray[np.bool_] | None  # False in the overscan of a raw frame, shape (H, W)
    area_cm2: float | None  # area of the detector that sees light, if the pixel size is known

    def in_unit(self, wanted: PixelUnit) -> Any:
        """Return the pixels in `wanted`, bias subtracted: a float32 array, masked outside the image area of a raw frame."""
        factor = np.float32(self.factor(wanted))
        level = np.float32(0) if self.bias is None else self.bias
        with np.errstate(over="ignore"):
            image = (self.pixels - level) * factor
        return image if self.image_area is None else np.ma.MaskedArray(image, mask=~self.image_area)

    def from_unit(self, image: NDArray[np.float32], unit: PixelUnit, mask: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Return the masked pixels of an image in the file's own unit, shape (masked pixels,): the inverse of `in_unit`."""
        level = 0 if self.bias is None else self.bias[np.nonzero(mask)[1]].astype(np.float64)
        return image[mask].astype(np.float64) / self.factor(unit) + level

    def factor(self, wanted: PixelUnit) -> float:
        """Return the factor from the file's pixel values to `wanted`; an error if it needs a gain that is unknown."""
        factor = 1.0
        if self.unit.per_second:
            assert self.exposure_time_s is not None  # read_exposure demands one of a rate
            factor *= self.exposure_time_s
        if self.unit.quantity != wanted:
            if self.gain is None:
                raise InvalidFileError(
                    f"{self.where}: is in {self.unit.spellings[0]} and the network takes {wanted}s, but the header has no "
                    "gain (e- per count) for this chip: set it"
                )
            gain = self.gain.electron_per_count
            if not is_plausible(gain, GAINS):
                given = f"{self.gain.keyword} is {gain:g} e- per count"
                raise InvalidFileError(f"{self.where}: {given}, which is implausible: {_correct(GAINS)}")
            factor *= gain if wanted == "electron" else 1 / gain
        return factor

    @property
    def lit_pixels(self) -> int:
        """Return the number of pixels that see light."""
        return self.pixels.size if self.image_area is None else int(self.image_area.sum())


@dataclass(frozen=True)
class Exposure:
    """A FITS file with its science images."""

    path: Path
    data: bytes  # the FITS file, unpacked if it was packed as a whole
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


def read_exposure(path: Path) -> Exposure:
    """Read a FITS file (plain, or packed with gzip, bzip2, xz or fpack) and find its science images.

    Raises `InvalidFileError` for a file that is damaged, changes while it is read, is a combined product, or holds no
    image of known unit and bias level.
    """
    packed = read_unchanged(path)
    with opened(unpacked(packed, path), path) as (hdus, data, cautions):
        indices = _science_indices(hdus, path)
        keywords = ChainMap(hdus[indices[0]].header, hdus[0].header)
        instrument = default_instruments().recognise(keywords)
        _refuse_products(keywords, instrument, path)
        numbered = enumerate(indices, 1)
        chips = tuple(_read_chip(hdus, index, place, instrument, path) for place, index in numbered)
        bit = _cosmic_ray_bit(hdus, instrument)
    digest = hashlib.sha256(packed).hexdigest()
    return Exposure(path, data, digest, instrument, keywords, chips, bit, tuple(cautions))


def _science_indices(hdus: fits.HDUList, path: Path) -> list[int]:
    """Return all SCI extensions by EXTVER; else the primary image; else the image extensions."""
    images = [i for i, hdu in enumerate(hdus) if hdu.is_image and value(hdu.header, "NAXIS")]
    science = [i for i, hdu in enumerate(hdus) if extension_name(hdu) == "SCI"]
    if science:
        empty = [extension_version(hdus[i]) for i in science if i not in images]
        if empty:
            raise InvalidFileError(f"{path}: SCI,{empty[0]}: holds no pixels")
        if len({extension_version(hdus[i]) for i in science}) < len(science):
            raise InvalidFileError(f"{path}: two SCI extensions have the same EXTVER: number them")
        return sorted(science, key=lambda i: extension_version(hdus[i]))
    images = [i for i in images if extension_name(hdus[i]) not in _NO_CHIPS]
    if not images:
        raise NotAnExposureError(f"{path}: holds no image: expected a SCI extension or an image in the primary")
    if images[0] == 0:
        return [0]
    known = default_instruments().recognise(ChainMap(hdus[images[0]].header, hdus[0].header))
    if len(images) > 1 and not (known and known.every_image_is_a_chip):
        raise InvalidFileError(
            f"{path}: holds {len(images)} images and it is not known which are exposures: name those SCI (EXTNAME)"
        )
    return images


def _refuse_products(keywords: Keywords, instrument: Instrument | None, path: Path) -> None:
    if made_by := text(keywords, "CRMODEL"):
        raise NotAnExposureError(f"{path}: was made by deepcr-zoo ({made_by}) already: give the original exposure")
    if reason := next(_signs_of_a_product(keywords, instrument, path), None):
        raise NotAnExposureError(
            f"{path}: is no single exposure ({reason}), so its cosmic rays and noise are not those of one: "
            "give the exposures themselves (flc, flt)"
        )


def _signs_of_a_product(keywords: Keywords, instrument: Instrument | None, path: Path) -> Iterator[str]:
    table = default_instruments().combined
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


def _read_chip(hdus: fits.HDUList, index: int, place: int, instrument: Instrument | None, path: Path) -> Chip:
    hdu = hdus[index]
    keywords = ChainMap(hdu.header, hdus[0].header)
    name = extension_name(hdu)
    version = extension_version(hdu) if name == "SCI" else place
    where = f"{path}: {name or 'image'},{version}"
    shape = hdu.shape
    if len(shape) != 2 or 0 in shape:
        raise InvalidFileError(f"{where}: has the shape {tuple(shape)}: expected an image of two axes")
    unit = _unit(keywords, instrument, where)
    time = positive(keywords, "EXPTIME")
    if unit.per_second and time is None:
        found = text(keywords, "EXPTIME") or "absent"
        raise InvalidFileError(f"{where}: is in {text(keywords, 'BUNIT')} and EXPTIME is {found}: set the exposure time")
    if time is not None and not is_plausible(time, EXPOSURE_TIMES_S):
        if unit.per_second:
            raise InvalidFileError(f"{where}: EXPTIME is {time:g} s, which is implausible: {_correct(EXPOSURE_TIMES_S)}")
        time = None  # only a rate of cosmic rays needs it
    geometry = _overscan(keywords, unit, instrument, shape, version, where)
    pixels = _pixels(hdu, where)
    area = None if geometry is None else _image_area(shape, geometry, version)
    overscan = () if geometry is None or area is None else _overscan_columns(pixels, geometry, area)
    return Chip(
        where=where,
        hdu=index,
        name=name,
        version=version,
        header=hdu.header,
        keywords=keywords,
        pixels=pixels,
        unit=unit,
        gain=instrument.gain(keywords) if instrument else read_gain(keywords, default_instruments().generic.gain_keywords),
        exposure_time_s=time,
        bias=None if geometry is None else _bias(pixels.shape[1], geometry, overscan),
        overscan=overscan,
        image_area=area,
        area_cm2=_area_cm2(keywords, instrument, pixels.size if area is None else int(area.sum())),
    )


def _pixels(hdu: Any, where: str) -> NDArray[np.float32]:
    try:
        with np.errstate(over="ignore"):
            pixels = np.asarray(hdu.data).astype(np.float32)
    except MemoryError:
        raise
    except Exception as error:  # astropy raises anything on damaged data
        raise InvalidFileError(f"{where}: is truncated or damaged: {reason(error)}") from None
    if not (np.abs(pixels) < LIMIT).any():
        raise InvalidFileError(f"{where}: holds no valid pixel, all are NaN, infinite or beyond {LIMIT:g}")
    return pixels


def _unit(header: Keywords, instrument: Instrument | None, where: str) -> UnitSpelling:
    spelling = text(header, "BUNIT") or (instrument and instrument.unit_if_absent) or ""
    unit = default_instruments().unit(spelling)
    if unit is None:
        spellings = [spelling for known in default_instruments().units for spelling in known.spellings[:1]]
        expected = f"expected one of {', '.join(spellings)}"
        if spelling:
            raise InvalidFileError(
                f"{where}: BUNIT is {spelling!r}: {expected}; convert the pixels, or correct BUNIT if it is wrong"
            )
        raise InvalidFileError(f"{where}: has no BUNIT: {expected}; set it to what the pixels hold")
    return unit


def _overscan(
    header: Keywords, unit: UnitSpelling, instrument: Instrument | None, shape: tuple[int, ...], version: int, where: str
) -> Overscan | None:
    """Return the overscan of a raw frame; None for a calibrated one."""
    if not _is_raw(header, unit, instrument):
        return None
    known = instrument.overscan if instrument else []
    for geometry in known:
        has_rows = str(version) in geometry.image_rows or "*" in geometry.image_rows
        if list(shape) == geometry.shape and has_rows and matches(header, geometry.requires):
            return geometry
    source = ("this readout of " if known else "") + (instrument.name if instrument else "this instrument")
    raise InvalidFileError(
        f"{where}: holds raw counts, and where the bias level of {source} stands is not known: "
        "give the calibrated exposure, or subtract the bias and save as floating point"
    )


def _is_raw(header: Keywords, unit: UnitSpelling, instrument: Instrument | None) -> bool:
    """True for counts as read out: overscan not subtracted (BLEVCORR), or unsigned 16-bit numbers."""
    if unit.quantity == "electron":
        return False
    if instrument is not None and instrument.raw_when and matches(header, instrument.raw_when):
        return True
    if text(header, "BLEVCORR"):
        return text(header, "BLEVCORR").upper() != "COMPLETE"
    return bool(value(header, "BITPIX") == 16 and value(header, "BZERO") == 2**15)


def _image_area(shape: tuple[int, ...], geometry: Overscan, version: int) -> NDArray[np.bool_]:
    area = np.zeros(shape, dtype=bool)
    rows = geometry.image_rows.get(str(version)) or geometry.image_rows["*"]
    area[slice(*rows), slice(*geometry.image_columns)] = True
    return area


def _overscan_columns(
    pixels: NDArray[np.float32], geometry: Overscan, area: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], ...]:
    rows = area.any(axis=1)
    return tuple(pixels[rows, slice(*bias.level)] for bias in geometry.bias)


def _bias(width: int, geometry: Overscan, overscan: tuple[NDArray[np.float32], ...]) -> NDArray[np.float32]:
    """Return the bias level of each column: the median of its amplifier's overscan in the rows that see light."""
    levels = np.zeros(width, dtype=np.float32)
    for bias, columns in zip(geometry.bias, overscan, strict=True):
        levels[slice(*bias.applies_to)] = np.median(columns)
    return levels


def _area_cm2(header: Keywords, instrument: Instrument | None, pixels: int) -> float | None:
    if instrument is None:
        return None
    binning = [positive(header, name) or 1 for name in instrument.binning_keywords]
    side_cm = instrument.pixel_size_um * 1e-4
    return float(pixels * side_cm**2 * np.prod(binning))


def _cosmic_ray_bit(hdus: fits.HDUList, instrument: Instrument | None) -> int | None:
    if instrument is not None:
        return instrument.cosmic_ray_bit
    foreign = any(extension_name(hdu) == "DQ" for hdu in hdus)
    return None if foreign else default_instruments().generic.cosmic_ray_bit
