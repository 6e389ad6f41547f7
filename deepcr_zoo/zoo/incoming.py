"""Bytes from outside: no more than were agreed, in no more than a fair time, and only as they are.

The registry's lock or a listing says how many bytes a file has, and every answer is compared with it. The clients of
Hub and archive keep their own connections, proxies and certificates, and all that these receive passes here.
"""

from __future__ import annotations

import math
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, wait
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TypeVar

from deepcr_zoo.errors import IntegrityError, OutputError

SLOWEST_BYTES_PER_S = 10_000
"""A host that sends less, over the whole of a file, is given up."""

START_S = 60.0
"""Time that a file may take besides."""

MOST_ANSWER_BYTES = 50_000_000
"""Of an answer other than a file, and of all pages of one question together."""

REPORT_EVERY_S = 15.0  # between two messages about a wait
DISK_RESERVE_BYTES = 10_000_000  # left for records, and for others
LARGEST_SIZE = 2**53

ResultT = TypeVar("ResultT")


@dataclass
class _Allowance:
    """Time and bytes that are left to all answers to one question."""

    until: float  # of time.monotonic()
    bytes_left: int


_allowance: ContextVar[_Allowance | None] = ContextVar("_allowance", default=None)


def within(
    seconds: float, call: Callable[[], ResultT], most: int = MOST_ANSWER_BYTES, report: Callable[[float], None] | None = None
) -> ResultT:
    """Return the result of a call that makes requests; after some seconds `TimeoutError`, whatever it hangs on.

    All its answers together have at most so many bytes. `report` gets the seconds left, now and then.
    """
    answer: Future[ResultT] = Future()
    until = time.monotonic() + seconds

    def work() -> None:
        _allowance.set(_Allowance(until, most))
        try:
            answer.set_result(call())
        except BaseException as error:
            answer.set_exception(error)

    # in a thread, because no client timeout covers a hanging name lookup or a head that arrives byte by byte
    threading.Thread(target=work, daemon=True).start()
    left = seconds
    while not wait([answer], min(left, REPORT_EVERY_S)).done:
        left = until - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"no answer within {seconds:g} s")
        if report is not None:
            report(left)
    return answer.result()


def longest_s(size: int) -> float:
    """Return the seconds that so many bytes may take."""
    return START_S + size / SLOWEST_BYTES_PER_S


def deadline() -> float:
    """Return the `time.monotonic` at which the call around (`within`) is given up; infinite without one."""
    allowance = _allowance.get()
    return math.inf if allowance is None else allowance.until


def check_time() -> None:
    """Raise `TimeoutError` where the call around (`within`) was given up, so that it makes no further request."""
    allowance = _allowance.get()
    if allowance is not None and time.monotonic() > allowance.until:
        raise TimeoutError("its answers take too long")


def bounded(chunks: Iterable[bytes], most: int, what: str) -> Iterator[bytes]:
    """Yield chunks as they arrive; more than `most` bytes raise `IntegrityError`, too slow ones `TimeoutError`."""
    allowance, arrived, begun = _allowance.get(), 0, time.monotonic()
    for chunk in chunks:
        arrived += len(chunk)
        if arrived > most:
            raise IntegrityError(f"{what}: expected {most} bytes, and more arrive; nothing of it was kept")
        if (seconds := time.monotonic() - begun) > longest_s(arrived):
            raise TimeoutError(f"{what} arrives too slowly: {arrived} bytes in {seconds:.0f} s")
        if allowance is not None:
            check_time()
            allowance.bytes_left -= len(chunk)
            if allowance.bytes_left < 0:
                raise IntegrityError(f"{what}: its pages have more bytes together than can be meant; they were not read")
        yield chunk


def check_announced(headers: Mapping[str, str], most: int, what: str) -> int | None:
    """Return the size that an answer announces, if any; one that is too large, or packed, is refused before it is read."""
    encoding = headers.get("Content-Encoding", "identity")
    if encoding != "identity":
        raise OSError(f"{what} comes packed as {encoding[:20]!r}, which was not asked for")
    size = whole_number(headers.get("Content-Length", ""))
    if size is not None and size > most:
        raise IntegrityError(f"{what}: expected at most {most} bytes, {size} are announced; it was not downloaded")
    return size


def whole(headers: Mapping[str, str], chunks: Iterable[bytes], most: int, what: str) -> bytes:
    """Return the body of an answer, checked and `bounded`; one that breaks off raises `ConnectionError`."""
    announced = check_announced(headers, most, what)
    body = b"".join(bounded(chunks, most, what))
    if announced is not None and len(body) < announced:
        raise ConnectionError(f"{what} broke off after {len(body)} of {announced} bytes")
    return body


def check_disk(folder: Path, size: int) -> None:
    """Raise `OutputError` if the disk of a folder has no room for so many more bytes."""
    free = shutil.disk_usage(folder).free
    if size > free - DISK_RESERVE_BYTES:
        raise OutputError(f"{folder}: {size:,} bytes are to come, and its disk has {free:,} bytes left: make room there")


def commit_id(text: object) -> str:
    """Return what a host calls a commit, if it is one."""
    if not isinstance(text, str) or not re.fullmatch("[0-9a-f]{40}", text):
        raise OSError(f"it names {str(text)[:80]!r} where a commit is expected")
    return text


def whole_number(text: str) -> int | None:
    """Return the number in a header; other digits than 0 to 9 make none."""
    digits = text.strip()
    return min(int(digits[:20]), LARGEST_SIZE) if re.fullmatch("[0-9]+", digits) else None


def seconds_to_wait(retry_after: str | None) -> float | None:
    """Return the time to wait, from a Retry-After in seconds or as a date (RFC 9110, section 10.2.3)."""
    if retry_after is None:
        return None
    if (seconds := whole_number(retry_after)) is not None:
        return float(seconds)
    try:
        return max(0.0, (parsedate_to_datetime(retry_after) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError, OverflowError):
        return None
