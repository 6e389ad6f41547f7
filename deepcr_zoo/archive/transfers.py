"""Downloads: several at a time, each resumed where it broke off, checked, and renamed once it is whole."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from deepcr_zoo.archive.listing import Product
from deepcr_zoo.archive.manifest import ELSEWHERE
from deepcr_zoo.archive.mast import Part
from deepcr_zoo.archive.pace import Pace
from deepcr_zoo.documents import Document, as_json, is_of_others
from deepcr_zoo.errors import (
    ArchiveBusyError,
    ArchiveError,
    ArchiveUnreachableError,
    DeepcrZooError,
    IntegrityError,
    OutputError,
)
from deepcr_zoo.files import locked, read_file, sha256_of, sweep_leftovers, write_atomically, write_failure
from deepcr_zoo.zoo import incoming

ATTEMPTS = 3  # connections in a row that may bring next to nothing
PARTS_OF_PROGRESS = 1000  # an attempt brings at least the size divided by this
MOST_UNLISTED_BYTES = 4_000_000_000  # of a product whose size neither listing nor answer gives
WAIT_S = 1.0  # wait before the second attempt; each wait is twice the one before
END_S = 5.0  # time that downloads have to end after a stop, all together

OpenPart = Callable[[Product, int, str | None], AbstractContextManager[Part]]
Advance = Callable[[int], None]  # gets the number of bytes that have arrived; a negative number if they must come again


class DownloadRecord(Document):
    """A file's product, and its hash once it is whole; kept beside the file, whole or not, in a record of its own each."""

    product: Product
    size: int | None
    validator: str | None
    sha256: str | None = None


@dataclass(frozen=True)
class DownloadFolder:
    """A folder of downloads."""

    folder: Path

    def file(self, product: Product) -> Path:
        """Return the path of a whole product."""
        return self.folder / product.name

    def partial(self, product: Product) -> Path:
        """Return the path of an unfinished product."""
        return self.folder / f".{product.name}.part"

    def _record_path(self, product: Product) -> Path:
        return self.folder / f"{product.name}.json"

    def _partial_record_path(self, product: Product) -> Path:
        return self.folder / f".{product.name}.part.json"

    def partial_record(self, product: Product) -> DownloadRecord | None:
        """Return the record of this very product, unfinished; None if there is none that can be read."""
        return _read_record(self._partial_record_path(product), product)

    def write_partial_record(self, record: DownloadRecord) -> None:
        """Write the record of an unfinished product."""
        write_atomically(as_json(record), self._partial_record_path(record.product))

    def finish(self, record: DownloadRecord) -> None:
        """Put an unfinished product, now whole, and its record in the place of an earlier file and its record."""
        self.write_partial_record(record)
        os.replace(self.partial(record.product), self.file(record.product))
        os.replace(self._partial_record_path(record.product), self._record_path(record.product))

    def finished(self, product: Product) -> str | None:
        """Return the SHA-256 of a product that is whole and unchanged since its download, else None."""
        record, path = _read_record(self._record_path(product), product), self.file(product)
        if record is None or record.sha256 is None or not path.is_file() or path.stat().st_size != record.size:
            return None
        return record.sha256 if sha256_of(path) == record.sha256 else None

    def check_replaceable(self, product: Product) -> None:
        """Raise `OutputError` if a file of others lies where a product goes; ours have had a record from the start."""
        both = (self._record_path(product), self._partial_record_path(product))
        if records := [path for path in both if os.path.lexists(path)]:
            others = [path for path in records if not path.is_file() or is_of_others(read_file(path), DownloadRecord)]
        else:
            others = [path for path in (self.file(product), self.partial(product)) if os.path.lexists(path)]
        if others:
            raise OutputError(f"{others[0]}: is not a download of deepcr-zoo, and stays: move it away, or {ELSEWHERE}")

    def forget(self, product: Product) -> None:
        """Remove an unfinished product; an earlier file and its record stay."""
        self.partial(product).unlink(missing_ok=True)
        self._partial_record_path(product).unlink(missing_ok=True)

    @contextmanager
    def reserved(self, report_wait: Callable[[], None]) -> Iterator[None]:
        """Let no other process download to this folder; one that must wait for it calls `report_wait` first."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with locked(self.folder, report_wait):
            sweep_leftovers(self.folder)
            yield


@dataclass(frozen=True)
class Downloader:
    """Downloads to a folder, which must be reserved; `open_part` is `Archive.open`, `advance` gets bytes as they arrive."""

    folder: DownloadFolder
    open_part: OpenPart
    pace: Pace
    advance: Advance

    def download(self, product: Product, expected_sha256: str | None = None) -> str:
        """Download a product unless it is there; return its SHA-256.

        A download that breaks off or drips `ATTEMPTS` times with next to nothing is kept, and the next call resumes it.
        One of another size or hash than expected is removed, and what was there before stays.
        """
        finished = self.folder.finished(product)
        if finished is not None and expected_sha256 in (None, finished):
            self.advance(product.size or 0)
            return finished
        self.folder.check_replaceable(product)
        failures, partial = 0, self.folder.partial(product)
        furthest = _size(partial)  # what comes again, because it cannot be resumed, brings nothing
        while True:
            try:
                size = self._fetch_rest(product)
                return _finish(product, self.folder, size, expected_sha256)
            except ArchiveBusyError:
                raise
            except ArchiveUnreachableError as error:
                gained = _size(partial) - furthest
                furthest += max(0, gained)
                failures = 0 if gained >= self._least_gain(product) and not isinstance(error, _SlowError) else failures + 1
                if failures == ATTEMPTS:
                    raise
            self.pace.wait(WAIT_S * 2**failures / 2)

    def download_all(
        self, products: Sequence[Product], jobs: int, expected: Mapping[str, str]
    ) -> Generator[tuple[Product, str | DeepcrZooError], None, None]:
        """Download several products at a time; yield the SHA-256 (see `expected`, by name) or error of each."""
        waiting = deque(products)
        ended: queue.SimpleQueue[tuple[Product, str | BaseException]] = queue.SimpleQueue()

        def work() -> None:
            with suppress(IndexError):  # none is waiting
                while True:
                    product = waiting.popleft()
                    try:
                        ended.put((product, self.download(product, expected.get(product.name))))
                    except BaseException as error:
                        ended.put((product, error))

        # daemons, so that an interrupted process does not wait for a silent host; nothing is lost
        threads = [threading.Thread(target=work, daemon=True) for _ in range(min(jobs, len(products)))]
        for thread in threads:
            thread.start()
        try:
            for _ in products:
                product, outcome = ended.get()
                if isinstance(outcome, OSError):
                    raise write_failure(self.folder.folder, outcome, ELSEWHERE)
                if isinstance(outcome, OutputError):  # the others would meet the same full disk
                    raise outcome
                if isinstance(outcome, BaseException) and not isinstance(outcome, DeepcrZooError):
                    raise outcome
                yield product, outcome
        finally:
            waiting.clear()
            if any(thread.is_alive() for thread in threads):
                self.pace.stop()
            until = time.monotonic() + END_S
            for thread in threads:
                thread.join(max(0.0, until - time.monotonic()))

    def _least_gain(self, product: Product) -> int:
        record = self.folder.partial_record(product)
        size = product.size or (record and record.size) or MOST_UNLISTED_BYTES
        return max(1, size // PARTS_OF_PROGRESS)

    def _fetch_rest(self, product: Product) -> int:
        """Fetch the missing bytes of a product; return the size that the file should have now."""
        partial, record = self.folder.partial(product), self.folder.partial_record(product)
        start = _size(partial) if record is not None else 0
        if record is not None and record.size is not None and start == record.size:
            self.advance(start)
            return start
        with self.open_part(product, start, None if record is None else record.validator) as part:
            size = _announced_size(product, self.folder, part)
            most = (MOST_UNLISTED_BYTES if size is None else size) - part.start
            incoming.check_disk(self.folder.folder, 0 if size is None else most)
            if part.start == 0:
                partial.unlink(missing_ok=True)  # before the record that would vouch for it
                self.folder.write_partial_record(DownloadRecord(product=product, size=size, validator=part.validator))
            arrived = part.start
            self.advance(arrived)
            try:
                with open(partial, "ab", buffering=0) as file:
                    for chunk in incoming.bounded(part.chunks, most, product.name):
                        self.pace.check()
                        file.write(chunk)
                        arrived += len(chunk)
                        self.advance(len(chunk))
                    os.fsync(file.fileno())
            except BaseException as error:
                self.advance(-arrived)
                if isinstance(error, IntegrityError):
                    self.folder.forget(product)
                    raise _size_error(product, "sends more") from None
                if isinstance(error, TimeoutError):
                    raise _SlowError(str(error)) from None
                raise
        if size is not None and arrived < size:
            self.advance(-arrived)
            raise ArchiveUnreachableError(f"{product.name}: broke off after {arrived} of {size} bytes")
        return arrived if size is None else size


class _SlowError(ArchiveUnreachableError):
    """A download that drips."""


def _read_record(path: Path, product: Product) -> DownloadRecord | None:
    """Return the record of this very product; None if there is none that can be read."""
    try:
        record = DownloadRecord.model_validate_json(read_file(path))
    except (OSError, ValidationError):
        return None
    return record if record.product.is_same_file(product) else None


def _announced_size(product: Product, folder: DownloadFolder, part: Part) -> int | None:
    if None not in (product.size, part.total) and product.size != part.total:
        folder.forget(product)
        raise _size_error(product, f"sends {part.total}")
    record = folder.partial_record(product)
    if part.start and record is not None and None not in (record.size, part.total) and record.size != part.total:
        folder.forget(product)
        raise ArchiveUnreachableError(f"{product.name}: had {record.size} bytes, and now the archive sends {part.total}")
    return part.total if product.size is None else product.size


def _finish(product: Product, folder: DownloadFolder, size: int, expected_sha256: str | None) -> str:
    """Check a downloaded file and rename it; return its SHA-256."""
    partial = folder.partial(product)
    if (found := _size(partial)) != size:
        folder.forget(product)
        raise _size_error(product, f"has sent {found}")
    sha256 = sha256_of(partial)
    if expected_sha256 not in (None, sha256):
        folder.forget(product)
        raise ArchiveError(
            f"{product.name}: has changed in the archive since the manifest: its SHA-256 was {expected_sha256}, now it is "
            f"{sha256}; supply the earlier file with --data DIR, or make a new manifest"
        )
    record = folder.partial_record(product)
    validator = None if record is None else record.validator
    folder.finish(DownloadRecord(product=product, size=size, validator=validator, sha256=sha256))
    return sha256


def _size_error(product: Product, sent: str) -> ArchiveError:
    return ArchiveError(
        f"{product.name}: the archive lists {product.size} bytes and {sent}: nothing was kept; try again later, or supply "
        "the file with --data DIR"
    )


def _size(path: Path) -> int:
    with suppress(FileNotFoundError):
        return path.stat().st_size
    return 0
