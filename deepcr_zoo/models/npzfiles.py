"""Arrays in npz files, which may be others': numbers alone, and never more of them than their header announces."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

_NUMBERS = "buif"  # kinds of arrays that are read: never objects, whose bytes may run code
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def read_array(file: IO[bytes], name: str, accept: Callable[[tuple[int, ...], np.dtype[Any]], None]) -> NDArray[Any]:
    """Return an array of an npz file, the only one if `name` is empty.

    `accept` raises if the announced shape or type is not what is expected, before anything is unpacked: the file could be
    a bomb. A damaged file raises any exception, as zipfile, its decompressors and numpy do.
    """
    with zipfile.ZipFile(file) as archive:
        names = [one.removesuffix(".npy") for one in archive.namelist()]
        if len(names) != 1 if not name else name not in names:
            raise ValueError(f"it holds the arrays {', '.join(names[:9])}: expected {name or 'one alone'}")
        with archive.open(f"{name or names[0]}.npy") as member:
            shape, by_column, dtype = _HEADERS[np.lib.format.read_magic(member)](member)
            if dtype.kind not in _NUMBERS or min(shape, default=0) < 0:
                raise ValueError(f"it announces {dtype} of shape {shape}: expected numbers")
            accept(shape, dtype)
            size = math.prod(shape) * dtype.itemsize
            content = member.read(size + 1)
    if len(content) != size:
        raise ValueError("it has another length than it announces")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if by_column else "C")
