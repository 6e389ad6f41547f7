"""FITS files as bytes: read, unpack, open, and check for completeness."""

from __future__ import annotations

import io
import math
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.utils.exceptions import AstropyWarning

from deepcr_zoo.batch import COMPRESSED_SUFFIXES, FITS_SUFFIXES, extension_in
from deepcr_zoo.documents import brief
from deepcr_zoo.errors import DeepcrZooError, InvalidFileError, catching_warnings
from deepcr_zoo.exposures.filekinds import FIRST_KEYWORD, HEAD_BYTES, not_fits
from deepcr_zoo.exposures.packing import packing_of
from deepcr_zoo.exposures.tiles import check_tiles
from deepcr_zoo.files import NotAFileError, opened_file
from deepcr_zoo.machine import memory_shortage
from deepcr_zoo.permissions import Permissions, permissions_of_made_from
from deepcr_zoo.zoo.instruments import number, text, value

FITS_BLOCK = 2880
"""Bytes of a FITS block (FITS standard 4.0, section 3.1)."""

_CHECKSUM_FAILED = "verification failed for HDU"
CHANGED = ": it was changed after this sum was written, or damaged on the way: if nobody edited it, get it again"
_HEADER_CHANGED = ": its header was changed after this sum was written; its pixels are as they were"

_COUNTS, MOST_COUNTED = (b"NAXIS   =", b"ZNAXIS  =", b"TFIELDS ="), 999
"""Keywords that count other keywords, and their largest value (FITS standard 4.0, sections 4.4.1, 7.3.1 and 10.1.1)."""

_SIZES, _SIZE = (b"PCOUNT", b"GCOUNT", b"NAXIS"), re.compile(rb"(?:PCOUNT|GCOUNT|NAXIS[0-9]{1,3}) *=")
"""Keywords that the size of an HDU follows from, none of which is negative (FITS standard 4.0, section 4.4.1)."""

_CARD_BYTES = 80
_MOST_HEADER_BYTES = 20_000_000
_CONTINUE, _MOST_CONTINUED, _MOST_BLANK = b"CONTINUE", 1000, 50
"""Cards of one text, 67 characters each, and those of them without a character."""


def root_name(path: Path) -> str:
    """Return a file's name without its FITS suffixes: ``x_flc.fits.gz`` becomes ``x_flc``."""
    name = path.name
    for endings in (COMPRESSED_SUFFIXES, FITS_SUFFIXES):
        name = next((name[: -len(end)] for end in endings if name.lower().endswith(end)), name)
    return name


def check_kind(path: Path) -> None:
    """Raise `InvalidFileError` if a file is no FITS file by its first bytes, plain or packed; the rest is not read."""
    with _opened_to_read(path) as file:
        head = file.read(HEAD_BYTES)
    if not head.startswith(FIRST_KEYWORD) and packing_of(head) is None:
        raise InvalidFileError(f"{path}: {not_fits(head)}")


def read_unchanged(path: Path) -> bytes:
    """Return the bytes of a file; raise `InvalidFileError` if it changes while it is read."""
    return read_with_permissions(path)[0]


def read_with_permissions(path: Path) -> tuple[bytes, Permissions]:
    """Return the bytes of a file, as `read_unchanged`, and the permissions of what is made from them."""
    with _opened_to_read(path) as file:
        permissions = permissions_of_made_from(file.fileno())
        before = os.fstat(file.fileno())
        check_memory(before.st_size, f"{path}: has {before.st_size:,} bytes")
        data = file.read(before.st_size + 1)
        after = os.fstat(file.fileno())
    if (before.st_mtime_ns, before.st_size) != (after.st_mtime_ns, after.st_size) or len(data) != after.st_size:
        raise InvalidFileError(f"{path}: changed while it was read: wait until it is complete, then run again")
    return data, permissions


@contextmanager
def _opened_to_read(path: Path) -> Iterator[BufferedReader]:
    try:
        with opened_file(path) as file:
            yield file
    except IsADirectoryError:
        raise InvalidFileError(f"{path}: is a folder: expected a FITS file") from None
    except NotAFileError as error:
        raise InvalidFileError(f"{path}: {error.strerror}: save what it gives as a FITS file first") from None
    except FileNotFoundError as error:
        asked = extension_in(os.fspath(path))
        raise InvalidFileError(f"{path}: {asked}" if asked else f"{path}: cannot be read: {error.strerror}") from None
    except OSError as error:
        raise InvalidFileError(f"{path}: cannot be read: {error.strerror}") from None


def check_memory(needed_bytes: int, what: str) -> None:
    """Raise `InvalidFileError` if less memory is free; `what` says of which file it is, and why it needs so much."""
    if short := memory_shortage(needed_bytes):
        raise InvalidFileError(f"{what}, {short}: clean it where more is free")


def image_values(hdu: Any, where: str) -> Any:
    """Return the pixels of an image, None if it has none; `where` names it.

    Its header says how large it is before it is unpacked. Raises `InvalidFileError` if that does not fit into memory, or
    if the data are damaged.
    """
    shape = hdu.shape
    if not all(isinstance(length, int) for length in shape):
        raise InvalidFileError(f"{where}: is damaged: its header announces a shape of {brief(shape)}")
    stored = abs(int(number(hdu.header, "BITPIX") or 0)) // 8 or 8
    # scaled to floats of up to 8 bytes, then copied to float32
    declared = math.prod(shape) * (max(stored, 8 if _is_scaled(hdu.header) else 0) + 4) if shape else 0
    check_memory(declared, f"{where}: its header announces {brief(' x '.join(map(str, shape)))} pixels")
    try:
        if isinstance(hdu, fits.CompImageHDU):
            check_tiles(hdu, where)
        with np.errstate(over="ignore", invalid="ignore"):
            return hdu.data
    except (DeepcrZooError, MemoryError):
        raise
    except Exception as error:  # astropy raises anything on damaged data
        raise InvalidFileError(f"{where}: is truncated or damaged: {reason(error)}") from None


def _is_scaled(header: Any) -> bool:
    return (number(header, "BSCALE"), number(header, "BZERO")) not in {(None, None), (1.0, 0.0)}


@contextmanager
def opened(content: bytes, path: Path) -> Iterator[tuple[fits.HDUList, bytes, list[str]]]:
    """Yield the HDUs of a FITS file, its bytes with the last block padded, and cautions; astropy's warnings are hidden.

    Raises `InvalidFileError` for anything but a complete FITS file.
    """
    if not content.startswith(FIRST_KEYWORD):
        raise InvalidFileError(f"{path}: {not_fits(content[:HEAD_BYTES])}")
    # some writers leave out the end of the last block
    data = content + b"\0" * (-len(content) % FITS_BLOCK)
    with quiet_astropy() as ignored:
        hdus = _open(data, path)
        cautions = _check_complete(hdus, data, len(content), path)
        cautions += _checksum_cautions([reason(one).rstrip(".") for one in ignored if is_checksum_failure(str(one))], hdus)
        yield hdus, data, cautions


def _checksum_cautions(failures: list[str], hdus: fits.HDUList) -> list[str]:
    """Return cautions about sums that fail: of an HDU whose DATASUM holds, the header alone has changed."""
    damaged = {one.partition(_CHECKSUM_FAILED)[2] for one in failures if one.startswith("Datasum")}
    summed = {f" {(hdu.name, hdu.ver)}" for hdu in hdus if "DATASUM" in hdu.header} - damaged
    return [f"{one}{_HEADER_CHANGED if one.partition(_CHECKSUM_FAILED)[2] in summed else CHANGED}" for one in failures]


def first_header(path: Path) -> fits.Header | None:
    """Return the first header of a FITS file, the rest of which is not read and may be missing; None if there is none."""
    with opened_file(path) as file:
        head = file.read(_MOST_HEADER_BYTES)
    starts = range(0, len(head), _CARD_BYTES)
    end = next((start for start in starts if head[start : start + _CARD_BYTES].rstrip() == b"END"), None)
    if end is None or not head.startswith(FIRST_KEYWORD):
        return None
    _check_continued(_Cards(head[:end]), path)
    with quiet_astropy():
        return fits.Header.fromstring(head[:end])


def is_checksum_failure(caution: str) -> bool:
    """True for astropy's warning of a wrong CHECKSUM or DATASUM."""
    return _CHECKSUM_FAILED in caution


@contextmanager
def quiet_astropy() -> Iterator[list[Warning]]:
    """Collect astropy's warnings in the list that is yielded; oddities of a file are read and copied unchanged."""
    collected: list[Warning] = []
    with catching_warnings():
        shown = warnings.showwarning

        def collect(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
            if isinstance(message, AstropyWarning):
                collected.append(message)
            else:
                shown(message, category, *where, **more)

        warnings.simplefilter("always", AstropyWarning)
        warnings.showwarning = collect
        yield collected


def extension_name(hdu: Any) -> str:
    """Return EXTNAME without the blanks that some writers pad it with."""
    return text(hdu.header, "EXTNAME").upper()


def extension_version(hdu: Any) -> int:
    """Return EXTVER, which some writers store as text or float; 1 if it is absent."""
    stated = number(hdu.header, "EXTVER")
    return 1 if stated is None else int(stated)


def reason(error: Exception) -> str:
    """Return the text of an exception on one line."""
    return " ".join(str(error).split()) or type(error).__name__


def is_image(hdu: Any) -> bool:
    """True for images, compressed ones included; astropy's own property trusts the header."""
    return isinstance(hdu, fits.PrimaryHDU | fits.ImageHDU | fits.CompImageHDU)


class _Cards:
    """The cards of a file that are checked before astropy reads it, and whatever of the data looks like one."""

    def __init__(self, data: bytes) -> None:
        two_letters = np.ndarray((len(data) // _CARD_BYTES,), np.uint16, data, strides=(_CARD_BYTES,))
        sought = np.frombuffer(b"".join(start[:2] for start in (*_COUNTS, *_SIZES, _CONTINUE)), np.uint16)
        self._data, self._places = data, np.flatnonzero(np.isin(two_letters, sought)) * _CARD_BYTES  # in one pass

    def beginning_with(self, *starts: bytes) -> Iterator[tuple[int, bytes]]:
        """Yield each card that begins so, with its place in the file."""
        for place in map(int, self._places):
            card = self._data[place : place + _CARD_BYTES]
            if card.startswith(starts):
                yield place, card


def _stated(card: bytes) -> float | None:
    text = card.decode("latin-1").partition("=")[2].partition("/")[0]
    return number({"stated": text.strip()}, "stated")


def _check_counts(cards: _Cards, path: Path) -> None:
    """Refuse headers that announce more axes or columns than FITS has: astropy would look for each of them."""
    for _, card in cards.beginning_with(*_COUNTS):
        if (counted := _stated(card)) is not None and not 0 <= counted <= MOST_COUNTED:
            shown = brief(card.decode("latin-1"))
            raise InvalidFileError(f"{path}: is damaged: its header has {shown}: expected {MOST_COUNTED} at most")


def _check_sizes(cards: _Cards, path: Path) -> None:
    """Refuse negative sizes: with them astropy goes back in the file, for ever."""
    for _, card in cards.beginning_with(*_SIZES):
        if _SIZE.match(card) and (stated := _stated(card)) is not None and stated < 0:
            shown = brief(card.decode("latin-1").rstrip())
            raise InvalidFileError(f"{path}: is damaged: its header has {shown}: expected 0 or more")


def _check_continued(cards: _Cards, path: Path) -> None:
    """Refuse texts that go on over many cards: astropy takes the square of their number in time."""
    continued, blank, before = 0, 0, -1
    for place, card in cards.beginning_with(_CONTINUE):
        if place != before + _CARD_BYTES:
            continued = blank = 0
        continued += 1
        blank = 0 if card[len(_CONTINUE) :].strip(b" '&") else blank + 1
        for count, most, kind in ((continued, _MOST_CONTINUED, "cards"), (blank, _MOST_BLANK, "blank cards")):
            if count > most:
                raise InvalidFileError(f"{path}: is damaged: a text of its header goes on over more than {most} {kind}")
        before = place


def _open(data: bytes, path: Path) -> fits.HDUList:
    cards = _Cards(data)
    _check_counts(cards, path)
    _check_sizes(cards, path)
    _check_continued(cards, path)
    try:
        hdus = fits.open(io.BytesIO(data), lazy_load_hdus=False, checksum=True)
    except MemoryError:
        raise
    except Exception as error:  # astropy raises anything on damaged files
        raise _damaged(path, error) from None
    if not isinstance(hdus[0], fits.PrimaryHDU):
        raise InvalidFileError(f"{path}: is not a FITS file of the standard kind: expected SIMPLE = T")
    for index, hdu in enumerate(hdus):
        if not hasattr(hdu, "fileinfo"):  # what astropy makes of a header that it cannot use
            raise InvalidFileError(f"{path}: is damaged: the header of HDU {index} cannot be read; get it again")
    return hdus


def _check_complete(hdus: fits.HDUList, data: bytes, length: int, path: Path) -> list[str]:
    """Refuse a file that ends too early or has bytes after its last HDU; `length` is its size before padding."""
    last = hdus[-1].fileinfo()
    end = last["datLoc"] + last["datSpan"]
    if end > len(data) or (end > length and last["datLoc"] + _stored_size(data, path) > length):
        raise InvalidFileError(f"{path}: is truncated: its headers announce {end} bytes, it has {length}; get it again")
    if data[end:].strip(b"\0 "):
        rest = len(data) - end
        raise InvalidFileError(f"{path}: is truncated or damaged: {rest} bytes after HDU {len(hdus) - 1} are no HDU")
    announced = value(hdus[0].header, "NEXTEND")
    if isinstance(announced, int) and announced > len(hdus) - 1:
        return [f"NEXTEND announces {announced} extensions, the file has {len(hdus) - 1}"]
    return []


def _stored_size(data: bytes, path: Path) -> int:
    """Return the size of the last HDU's data without padding, which some writers leave out."""
    try:
        with fits.open(io.BytesIO(data), lazy_load_hdus=False, disable_image_compression=True) as stored:
            return int(stored[-1].size)
    except MemoryError:
        raise
    except Exception as error:  # astropy raises anything on damaged files
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> InvalidFileError:
    return InvalidFileError(f"{path}: is truncated or damaged: {reason(error)}")
