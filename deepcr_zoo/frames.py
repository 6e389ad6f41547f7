"""Exposures in: a FITS file becomes chips, whose pixels can be had in the unit that a network takes."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import warnings
import zlib
from collections import ChainMap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.utils.exceptions import AstropyWarning
from numpy.typing import NDArray

from deepcr_zoo.errors import InvalidFileError
from deepcr_zoo.images import LIMIT
from deepcr_zoo.instruments import (
    Instrument,
    Keywords,
    Overscan,
    PixelUnit,
    UnitSpelling,
    default_instruments,
    first_positive,
    matches,
    positive,
)

SUFFIXES = (".fits", ".fit", ".fts")
COMPRESSED_SUFFIXES = (".gz", ".fz")

_GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True)
class Chip:
    """One science image of an exposure.

    Attributes
    ----------
    hdu : int
        Index in the file.
    version : int
        EXTVER.
    pixels : ndarray of float32, shape (H, W)
        As the file has them, in `unit`.
    unit : UnitSpelling
        What BUNIT stands for.
    gain : float or None
        e- per count, if the headers tell.
    exposure_time_s : float or None
        EXPTIME, if it is positive.
    bias : ndarray of float32, shape (W,), or None
        Bias level of each column of a raw frame, in counts.
    image_area : ndarray of bool, shape (H, W), or None
        False in the overscan of a raw frame.
    area_cm2 : float or None
        Area of the detector that sees light, if the pixel size is known.
    """

    hdu: int
    version: int
    pixels: NDArray[np.float32]
    unit: UnitSpelling
    gain: float | None
    exposure_time_s: float | None
    bias: NDArray[np.float32] | None
    image_area: NDArray[np.bool_] | None
    area_cm2: float | None

    def in_unit(self, wanted: PixelUnit) -> Any:
        """The pixels in `wanted`, bias subtracted; masked outside the image area.

        Returns
        -------
        ndarray or MaskedArray of float32, shape (H, W)

        Raises
        ------
        InvalidFileError
            If the gain is needed and the headers do not tell it.
        """
        factor = self._factor(wanted)
        level = np.float32(0) if self.bias is None else self.bias
        with np.errstate(over="ignore"):
            values = (self.pixels - level) * np.float32(factor)
        return values if self.image_area is None else np.ma.MaskedArray(values, mask=~self.image_area)

    def from_unit(self, image: NDArray[np.float32], unit: PixelUnit, mask: NDArray[np.bool_]) -> NDArray[np.float64]:
        """What `in_unit` did, undone for the masked pixels alone.

        Returns
        -------
        ndarray of float64, shape (number of masked pixels,)
            In the file's own unit.
        """
        level = 0 if self.bias is None else self.bias[np.nonzero(mask)[1]].astype(np.float64)
        return image[mask].astype(np.float64) / self._factor(unit) + level

    def _factor(self, wanted: PixelUnit) -> float:
        factor = 1.0
        if self.unit.per_second:
            assert self.exposure_time_s is not None  # read_exposure demands one of a rate
            factor *= self.exposure_time_s
        if self.unit.quantity != wanted:
            if self.gain is None:
                raise InvalidFileError(
                    f"chip {self.version} is in {self.unit.quantity}s and the network takes {wanted}s, but no gain keyword "
                    "holds a number: set one (e- per count) in the header"
                )
            factor *= self.gain if wanted == "electron" else 1 / self.gain
        return factor


@dataclass(frozen=True)
class Exposure:
    """A file that was read.

    Attributes
    ----------
    path : Path
    data : bytes
        The FITS file, unpacked if it was gzipped.
    sha256 : str
        Hash of the file on disk.
    instrument : Instrument or None
        None if the table of instruments does not know it.
    keywords : mapping
        The headers of the first chip and of the primary.
    chips : tuple of Chip
        In the order of EXTVER.
    cautions : tuple of str
        What the user should know about the file.
    """

    path: Path
    data: bytes
    sha256: str
    instrument: Instrument | None
    keywords: Keywords
    chips: tuple[Chip, ...]
    cautions: tuple[str, ...]

    @property
    def filter_name(self) -> str:
        """The filter, as cards spell it; empty if there is none or the instrument is not known."""
        return self.instrument.filter_name(self.keywords) if self.instrument else ""

    @property
    def description(self) -> str:
        """Instrument and filter, for people."""
        if self.instrument is None:
            named = [str(self.keywords.get(name, "")).strip() for name in ("TELESCOP", "INSTRUME", "DETECTOR")]
            return " ".join(filter(None, named)) or "an instrument that its header does not name"
        return " ".join([self.instrument.name, *filter(None, [self.filter_name])])


def root_name(path: Path) -> str:
    """The name of a file without the endings of FITS files: ``x_flc.fits.gz`` becomes ``x_flc``."""
    name = path.name
    for endings in (COMPRESSED_SUFFIXES, SUFFIXES):
        name = next((name[: -len(end)] for end in endings if name.lower().endswith(end)), name)
    return name


def read_exposure(path: Path) -> Exposure:
    """Read a FITS file (plain, gzipped or fpacked) whole, and find its science images.

    Raises
    ------
    InvalidFileError
        If it cannot be read, is truncated, changes while it is read, is a combined product, or holds no image whose
        unit and level are known.
    """
    packed = _read_unchanged(path)
    data = _unpacked(packed, path)
    with _opened(data, path) as hdus:
        cautions = _check_complete(hdus, data, path)
        primary = hdus[0].header
        indices = _science_indices(hdus, path)
        keywords = ChainMap(hdus[indices[0]].header, primary)
        instrument = default_instruments().recognise(keywords)
        _refuse_combined(keywords, instrument, path)
        chips = tuple(_read_chip(hdus[index], index, primary, instrument, path) for index in indices)
        return Exposure(path, data, hashlib.sha256(packed).hexdigest(), instrument, keywords, chips, tuple(cautions))


def extension_name(hdu: Any) -> str:
    """EXTNAME without the blanks that some writers pad it with."""
    return str(hdu.header.get("EXTNAME", "")).strip().upper()


def _read_unchanged(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            before = os.fstat(file.fileno())
            data = file.read()
            after = os.fstat(file.fileno())
    except OSError as error:
        raise InvalidFileError(f"{path}: cannot be read: {error.strerror}") from None
    if (before.st_mtime_ns, before.st_size) != (after.st_mtime_ns, after.st_size) or len(data) != after.st_size:
        raise InvalidFileError(f"{path}: changed while it was read: wait until it is complete, then run again")
    return data


def _unpacked(data: bytes, path: Path) -> bytes:
    if not data.startswith(_GZIP_MAGIC):
        return data
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error):
        raise InvalidFileError(f"{path}: is truncated or damaged (gzip): get it again") from None


@contextmanager
def _opened(data: bytes, path: Path) -> Iterator[fits.HDUList]:
    """The HDUs of a file's bytes; whatever astropy cannot make sense of is one error."""
    if not data.startswith(b"SIMPLE  ="):
        raise InvalidFileError(f"{path}: is not a FITS file: expected SIMPLE as its first keyword")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AstropyWarning)  # what matters is checked below
        try:
            with fits.open(io.BytesIO(data), lazy_load_hdus=False) as hdus:
                yield hdus
        except InvalidFileError:
            raise
        except Exception as error:  # astropy raises anything on damaged files
            reason = " ".join(str(error).split())
            raise InvalidFileError(f"{path}: is truncated or damaged: {reason or type(error).__name__}") from None


def _check_complete(hdus: fits.HDUList, data: bytes, path: Path) -> list[str]:
    """Refuse a file that ends too early, or goes on with what is no HDU."""
    last = hdus[-1].fileinfo()
    end = last["datLoc"] + last["datSpan"]
    if end > len(data):
        raise InvalidFileError(f"{path}: is truncated: its headers announce {end} bytes, it has {len(data)}; get it again")
    if data[end:].strip(b"\0 "):
        raise InvalidFileError(
            f"{path}: is truncated or damaged: {len(data) - end} bytes after HDU {len(hdus) - 1} are no HDU"
        )
    announced = hdus[0].header.get("NEXTEND")
    if isinstance(announced, int) and announced > len(hdus) - 1:
        return [f"NEXTEND announces {announced} extensions, the file has {len(hdus) - 1}"]
    return []


def _science_indices(hdus: fits.HDUList, path: Path) -> list[int]:
    """Every SCI extension in the order of EXTVER; else the primary image; else the extensions that are images."""
    images = [i for i, hdu in enumerate(hdus) if hdu.is_image and hdu.header.get("NAXIS")]
    science = [i for i in images if extension_name(hdus[i]) == "SCI"]
    if science:
        versions = [hdus[i].ver for i in science]
        if len(set(versions)) < len(versions):
            raise InvalidFileError(f"{path}: two SCI extensions have the same EXTVER: number them")
        return sorted(science, key=lambda i: hdus[i].ver)
    if not images:
        raise InvalidFileError(f"{path}: holds no image: expected a SCI extension or an image in the primary")
    if images[0] == 0:
        return [0]
    known = default_instruments().recognise(ChainMap(hdus[images[0]].header, hdus[0].header))
    if len(images) > 1 and known is None:
        raise InvalidFileError(
            f"{path}: holds {len(images)} images and it is not known which are exposures: name those SCI (EXTNAME)"
        )
    return images


def _refuse_combined(keywords: Keywords, instrument: Instrument | None, path: Path) -> None:
    table = default_instruments().combined
    reason = next((f"{name} stands in its header" for name in table.keywords if name in keywords), None)
    for suffix, meaning in table.suffixes.items():
        if root_name(path).lower().endswith(f"_{suffix}"):
            reason = reason or meaning
    if instrument is not None and instrument.combined_when and matches(keywords, instrument.combined_when):
        reason = reason or ", ".join(f"{name} is {keywords[name]!r}" for name in instrument.combined_when)
    combined = keywords.get("NCOMBINE")
    if isinstance(combined, int) and combined > 1:
        reason = reason or f"NCOMBINE is {combined}"
    if "CRMODEL" in keywords:
        raise InvalidFileError(f"{path}: was made by deepcr-zoo ({keywords['CRMODEL']}) already: give the original exposure")
    if reason:
        raise InvalidFileError(
            f"{path}: is a combined product ({reason}): its cosmic rays and noise are no longer those of one exposure; "
            "give the single exposures (flc, flt)"
        )


def _read_chip(hdu: Any, index: int, primary: Any, instrument: Instrument | None, path: Path) -> Chip:
    header = ChainMap(hdu.header, primary)
    where = f"{path}: {extension_name(hdu) or 'image'},{hdu.ver}"
    shape = hdu.shape
    if len(shape) != 2 or 0 in shape:
        raise InvalidFileError(f"{where}: has the shape {tuple(shape)}: expected an image of two axes")
    unit = _unit(header, instrument, where)
    time = positive(header.get("EXPTIME"))
    if unit.per_second and time is None:
        raise InvalidFileError(
            f"{where}: is in {header['BUNIT']} and EXPTIME is {header.get('EXPTIME')!r}: set the exposure time"
        )
    geometry = _overscan(header, unit, instrument, shape, where)
    with np.errstate(over="ignore"):
        pixels = np.asarray(hdu.data).astype(np.float32)
    if not (np.abs(pixels) < LIMIT).any():
        raise InvalidFileError(f"{where}: holds no valid pixel, all are NaN, infinite or beyond {LIMIT:g}")
    area = None if geometry is None else _image_area(shape, geometry, hdu.ver)
    return Chip(
        hdu=index,
        version=hdu.ver,
        pixels=pixels,
        unit=unit,
        gain=_gain(header, instrument),
        exposure_time_s=time,
        bias=None if geometry is None else _bias(pixels, geometry, area),
        image_area=area,
        area_cm2=_area_cm2(header, instrument, pixels.size if area is None else int(area.sum())),
    )


def _unit(header: Keywords, instrument: Instrument | None, where: str) -> UnitSpelling:
    text = str(header.get("BUNIT", "")).strip() or (instrument and instrument.unit_if_absent) or ""
    unit = default_instruments().unit(text)
    if unit is None:
        spellings = [spelling for known in default_instruments().units for spelling in known.spellings[:1]]
        found = f"BUNIT is {text!r}" if text else "has no BUNIT"
        raise InvalidFileError(f"{where}: {found}: expected one of {', '.join(spellings)}; set it in the header")
    return unit


def _gain(header: Keywords, instrument: Instrument | None) -> float | None:
    if instrument is not None:
        return instrument.gain(header)
    return first_positive(header, default_instruments().generic.gain_keywords)


def _overscan(
    header: Keywords, unit: UnitSpelling, instrument: Instrument | None, shape: tuple[int, ...], where: str
) -> Overscan | None:
    """The overscan of a raw frame; None for a calibrated one."""
    if not _is_raw(header, unit, instrument):
        return None
    known = instrument.overscan if instrument else []
    for geometry in known:
        if list(shape) == geometry.shape and matches(header, geometry.requires):
            return geometry
    whom = (
        f"this readout of {instrument.name}"
        if known and instrument
        else instrument.name
        if instrument
        else "this instrument"
    )
    raise InvalidFileError(
        f"{where}: holds raw counts, and where the bias level of {whom} stands is not known: "
        "give the calibrated exposure, or subtract the bias and save as floating point"
    )


def _is_raw(header: Keywords, unit: UnitSpelling, instrument: Instrument | None) -> bool:
    """Counts as they were read out: the overscan is not subtracted (BLEVCORR), or they are unsigned 16-bit numbers."""
    if unit.quantity == "electron":
        return False
    if instrument is not None and instrument.raw_when and matches(header, instrument.raw_when):
        return True
    if "BLEVCORR" in header:
        return str(header["BLEVCORR"]).strip() != "COMPLETE"
    return header.get("BITPIX") == 16 and header.get("BZERO") == 2**15


def _image_area(shape: tuple[int, ...], geometry: Overscan, version: int) -> NDArray[np.bool_]:
    area = np.zeros(shape, dtype=bool)
    rows = geometry.image_rows.get(str(version), geometry.image_rows.get("*", [0, shape[0]]))
    area[slice(*rows), slice(*geometry.image_columns)] = True
    return area


def _bias(pixels: NDArray[np.float32], geometry: Overscan, area: NDArray[np.bool_] | None) -> NDArray[np.float32]:
    """Bias level per column: the median of the overscan that belongs to it, over the rows that see light."""
    assert area is not None
    rows = area.any(axis=1)
    levels = np.zeros(pixels.shape[1], dtype=np.float32)
    for bias in geometry.bias:
        levels[slice(*bias.applies_to)] = np.median(pixels[rows, slice(*bias.level)])
    return levels


def _area_cm2(header: Keywords, instrument: Instrument | None, pixels: int) -> float | None:
    if instrument is None:
        return None
    binning = [positive(header.get(name)) or 1 for name in instrument.binning_keywords]
    side_cm = instrument.pixel_size_um * 1e-4
    return float(pixels * side_cm**2 * np.prod(binning))
