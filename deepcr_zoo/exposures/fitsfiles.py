"""FITS files as bytes: read whole, unpacked, opened, and found to be complete."""

from __future__ import annotations

import gzip
import io
import os
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from astropy.io import fits
from astropy.utils.exceptions import AstropyWarning

from deepcr_zoo.errors import InvalidFileError
from deepcr_zoo.zoo.instruments import text, value

FITS_BLOCK = 2880
"""Bytes of a FITS block (FITS standard 4.0, section 3.1)."""

SUFFIXES = (".fits", ".fit", ".fts")
COMPRESSED_SUFFIXES = (".gz", ".fz")

_GZIP_MAGIC = b"\x1f\x8b"
_CHECKSUM_FAILED = "verification failed for HDU"


def root_name(path: Path) -> str:
    """The name of a file without the endings of FITS files: ``x_flc.fits.gz`` becomes ``x_flc``."""
    name = path.name
    for endings in (COMPRESSED_SUFFIXES, SUFFIXES):
        name = next((name[: -len(end)] for end in endings if name.lower().endswith(end)), name)
    return name


def read_unchanged(path: Path) -> bytes:
    """The bytes of a file.

    Raises
    ------
    InvalidFileError
        If it cannot be read, or changes while it is.
    """
    try:
        with open(path, "rb") as file:
            before = os.fstat(file.fileno())
            data = file.read()
            after = os.fstat(file.fileno())
    except OSError as error:
        raise InvalidFileError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:  # a name that no file can have
        raise InvalidFileError(f"{str(path)!r}: cannot be read: {error}") from None
    if (before.st_mtime_ns, before.st_size) != (after.st_mtime_ns, after.st_size) or len(data) != after.st_size:
        raise InvalidFileError(f"{path}: changed while it was read: wait until it is complete, then run again")
    return data


def unpacked(data: bytes, path: Path) -> bytes:
    """The content of a gzipped file; other bytes as they are.

    Raises
    ------
    InvalidFileError
        If it cannot be unpacked.
    """
    if not data.startswith(_GZIP_MAGIC):
        return data
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error):
        raise InvalidFileError(f"{path}: is truncated or damaged (gzip): get it again") from None


@contextmanager
def opened(found: bytes, path: Path) -> Iterator[tuple[fits.HDUList, bytes, list[str]]]:
    """Open the bytes of a FITS file, without a word from astropy.

    Yields
    ------
    hdus : HDUList
    data : bytes
        The file, its last block filled up (some writers leave out its end).
    cautions : list of str
        What is odd about the file, and does not keep it from being used.

    Raises
    ------
    InvalidFileError
        If it is no FITS file, is truncated, or goes on with what is no HDU.
    """
    data = found + b"\0" * (-len(found) % FITS_BLOCK)
    with quiet_astropy() as astropy_says:
        hdus = _open(data, path)
        cautions = _check_complete(hdus, data, len(found), path)
        cautions += [str(told) for told in astropy_says if _CHECKSUM_FAILED in str(told)]
        yield hdus, data, cautions


@contextmanager
def quiet_astropy() -> Iterator[list[Warning]]:
    """Collect what astropy warns of, instead of showing it: oddities of a file are read and copied as they are."""
    told: list[Warning] = []
    with warnings.catch_warnings():
        shown = warnings.showwarning

        def collect(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
            if isinstance(message, AstropyWarning):
                told.append(message)
            else:
                shown(message, category, *where, **more)

        warnings.simplefilter("always", AstropyWarning)
        warnings.showwarning = collect
        yield told


def extension_name(hdu: Any) -> str:
    """EXTNAME without the blanks that some writers pad it with."""
    return text(hdu.header, "EXTNAME").upper()


def extension_version(hdu: Any) -> int:
    """EXTVER, which some writers give as a text or a float; 1 if there is none."""
    try:
        return int(float(text(hdu.header, "EXTVER") or 1))
    except ValueError:
        return 1


def reason(error: Exception) -> str:
    """What an exception says, in one line."""
    return " ".join(str(error).split()) or type(error).__name__


def _open(data: bytes, path: Path) -> fits.HDUList:
    if not data.startswith(b"SIMPLE  ="):
        raise InvalidFileError(f"{path}: is not a FITS file: expected SIMPLE as its first keyword")
    try:
        hdus = fits.open(io.BytesIO(data), lazy_load_hdus=False, checksum=True)
    except MemoryError:
        raise
    except Exception as error:  # astropy raises anything on damaged files
        raise InvalidFileError(f"{path}: is truncated or damaged: {reason(error)}") from None
    if not isinstance(hdus[0], fits.PrimaryHDU):
        raise InvalidFileError(f"{path}: is not a FITS file of the standard kind: expected SIMPLE = T")
    return hdus


def _check_complete(hdus: fits.HDUList, data: bytes, length: int, path: Path) -> list[str]:
    """Refuse a file (of a length, then padded) that ends too early, or goes on with what is no HDU."""
    last = hdus[-1].fileinfo()
    end = last["datLoc"] + last["datSpan"]
    if end > len(data) or (end > length and last["datLoc"] + _stored_size(data) > length):
        raise InvalidFileError(f"{path}: is truncated: its headers announce {end} bytes, it has {length}; get it again")
    if data[end:].strip(b"\0 "):
        rest = len(data) - end
        raise InvalidFileError(f"{path}: is truncated or damaged: {rest} bytes after HDU {len(hdus) - 1} are no HDU")
    announced = value(hdus[0].header, "NEXTEND")
    if isinstance(announced, int) and announced > len(hdus) - 1:
        return [f"NEXTEND announces {announced} extensions, the file has {len(hdus) - 1}"]
    return []


def _stored_size(data: bytes) -> int:
    """Bytes of the last HDU's data without the padding, which some writers leave out."""
    with fits.open(io.BytesIO(data), lazy_load_hdus=False, disable_image_compression=True) as stored:
        return int(stored[-1].size)
