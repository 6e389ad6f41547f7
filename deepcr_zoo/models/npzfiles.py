"""Arrays in npz files, which may be others': numbers alone, and never more of them than their header announces."""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Callable
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

_NUMBERS = "buif"  # kinds of arrays that are read: never objects, whose bytes may run code
_MOST_HEADER_BYTES = 10_000  # what numpy reads; it looks at this after it has unpacked them
_HEADERS = {(1, 0): (2, np.lib.format.read_array_header_1_0), (2, 0): (4, np.lib.format.read_array_header_2_0)}
"""Bytes of the header's length, and what reads both, by the version of the format (numpy.lib.format)."""


def read_array(file: IO[bytes], name: str, accept: Callable[[tuple[int, ...], np.dtype[Any]], None]) -> NDArray[Any]:
    """Return an array of an npz file, the only one if `name` is empty.

    `accept` raises if the announced shape or type is not what is expected, before anything is unpacked: the file could be
    a bomb. A damaged file raises any exception, as zipfile, its decompressors and numpy do.
    """
    with zipfile.ZipFile(file) as archive:
        names = [one.removesuffix(".npy") for one in archive.namelist()]
        if len(names) != 1 if not name else name not in names:
            # their names may be words of a private file that a link leads to
            raise ValueError(f"it holds {len(names)} arrays: expected {f'{name} among them' if name else 'one alone'}")
        with archive.open(f"{name or names[0]}.npy") as member:
            shape, by_column, dtype = _header(member)
            if dtype.kind not in _NUMBERS or min(shape, default=0) < 0:
                raise ValueError(f"it announces {dtype} of shape {shape}: expected numbers")
            accept(shape, dtype)
            size = math.prod(shape) * dtype.itemsize
            content = member.read(size + 1)
    if len(content) != size:
        raise ValueError("it has another length than it announces")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if by_column else "C")


def _header(member: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Return shape, order and type that the array of a member announces; no more is unpacked than a header has."""
    bytes_of_length, read_header = _HEADERS[np.lib.format.read_magic(member)]
    length = member.read(bytes_of_length)
    if (announced := int.from_bytes(length, "little")) > _MOST_HEADER_BYTES:
        raise ValueError(f"it announces a header of {announced:,} bytes: expected {_MOST_HEADER_BYTES:,} at most")
    return read_header(io.BytesIO(length + member.read(announced)))
