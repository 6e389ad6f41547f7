"""Bytes from outside: no more than were agreed, in no more than a fair time, and only as they are.

The registry's lock or a listing says how many bytes a file has. A host is not asked twice, and not believed.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping

from deepcr_zoo.errors import IntegrityError

SLOWEST_BYTES_PER_S = 10_000
"""A host that sends less, over the whole of a file, is given up."""

START_S = 60.0
"""Time that a file may take besides."""


def bounded(chunks: Iterable[bytes], most: int, what: str) -> Iterator[bytes]:
    """Yield chunks as they arrive; more than `most` bytes raise `IntegrityError`, too slow ones `TimeoutError`."""
    arrived, begun = 0, time.monotonic()
    for chunk in chunks:
        arrived += len(chunk)
        if arrived > most:
            raise IntegrityError(f"{what}: expected {most} bytes, and more arrive; nothing of it was kept")
        if (seconds := time.monotonic() - begun) > START_S + arrived / SLOWEST_BYTES_PER_S:
            raise TimeoutError(f"{what} arrives too slowly: {arrived} bytes in {seconds:.0f} s")
        yield chunk


def check_announced(headers: Mapping[str, str], most: int, what: str) -> int | None:
    """Return the size that an answer announces, if any; one that is too large, or packed, is refused before it is read."""
    encoding = headers.get("Content-Encoding", "identity")
    if encoding != "identity":
        raise OSError(f"{what} comes packed as {encoding!r}, which was not asked for")
    text = headers.get("Content-Length", "")
    if not (text.isascii() and text.isdigit()):
        return None
    size = int(text[:20])
    if size > most:
        raise IntegrityError(f"{what}: expected at most {most} bytes, {size} are announced; it was not downloaded")
    return size
