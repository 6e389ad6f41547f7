"""Files packed as a whole (gzip, bzip2, xz), unpacked piece by piece within bounds."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from deepcr_zoo.errors import DeepcrZooError, InvalidFileError
from deepcr_zoo.exposures.filekinds import FIRST_KEYWORD, HEAD_BYTES, not_fits
from deepcr_zoo.machine import free_memory_bytes

PIECE_BYTES = 1 << 20
CHECKED_WITHIN_BYTES = 48 << 20
"""Most bytes that bzip2 unpacks before it checks their sum: a block of 900 kB, in which 5 bytes may stand for 259."""

MOST_RATIO = 200
"""Largest ratio of unpacked to packed size: the noise of a detector leaves no exposure more than about 20."""

ALWAYS_ALLOWED_BYTES = 128 << 20
"""Unpacked size up to which any ratio is accepted, as of noiseless simulations."""


def _gzip(file: BinaryIO) -> Any:
    import gzip

    return gzip.GzipFile(fileobj=file)


def _bzip2(file: BinaryIO) -> Any:
    import bz2

    return bz2.BZ2File(file)


def _xz(file: BinaryIO) -> Any:
    import lzma

    return lzma.LZMAFile(file)


@dataclass(frozen=True)
class _Packing:
    """A way of packing: its first bytes, its reader, and the command that unpacks it."""

    name: str
    magic: bytes
    reader: Callable[[BinaryIO], Any]
    command: str


_PACKINGS = (
    _Packing("gzip", b"\x1f\x8b", _gzip, "gzip -d"),
    _Packing("bzip2", b"BZh", _bzip2, "bzip2 -d"),
    _Packing("xz", b"\xfd7zXZ\0", _xz, "xz -d"),
)


def packing_of(head: bytes) -> str | None:
    """Return with what a file is packed, by its first bytes."""
    return next((one.name for one in _PACKINGS if head.startswith(one.magic)), None)


def unpacked(data: bytes, path: Path, most_bytes: int | None = None) -> bytes:
    """Return the content of a file packed with gzip, bzip2 or xz; other bytes unchanged.

    Content that is not FITS, or larger than `most_bytes` (by default half of the free memory), is refused before the rest
    is unpacked.
    """
    packing = next((one for one in _PACKINGS if data.startswith(one.magic)), None)
    if packing is None:
        return data
    if most_bytes is None and (free := free_memory_bytes()) is not None:
        most_bytes = free // 2
    try:
        with packing.reader(io.BytesIO(data)) as reader:
            return _read(reader, packing.name, len(data), most_bytes, path)
    except (DeepcrZooError, MemoryError):
        raise
    except ImportError:
        raise InvalidFileError(
            f"{path}: is packed with {packing.name}, which this Python was built without: unpack it with {packing.command}"
        ) from None
    except Exception:  # each library has its own
        raise InvalidFileError(f"{path}: is truncated or damaged ({packing.name}): get it again") from None


def _read(reader: Any, packing: str, packed_bytes: int, most_bytes: int | None, path: Path) -> bytes:
    content = io.BytesIO()
    content.write(head := reader.read(PIECE_BYTES))
    if not head.startswith(FIRST_KEYWORD):
        _read_on(reader)  # fails where the first bytes are those of a damaged file
        raise InvalidFileError(f"{path}: is packed with {packing}, and its content {not_fits(head[:HEAD_BYTES])}")
    while piece := reader.read(PIECE_BYTES):
        content.write(piece)
        _check_size(content.tell(), packed_bytes, most_bytes, path)
    return content.getvalue()


def _read_on(reader: Any) -> None:
    for _ in range(CHECKED_WITHIN_BYTES // PIECE_BYTES):
        if not reader.read(PIECE_BYTES):
            return


def _check_size(size: int, packed: int, most_bytes: int | None, path: Path) -> None:
    if most_bytes is not None and size > most_bytes:
        raise InvalidFileError(
            f"{path}: unpacks to more than {most_bytes / 1e9:.2g} GB, half of the free memory: clean it where more is free"
        )
    if size > ALWAYS_ALLOWED_BYTES and size > MOST_RATIO * packed:
        raise InvalidFileError(
            f"{path}: unpacks to more than {MOST_RATIO} times its size, as no exposure does: unpack it by hand if it is one"
        )
