"""Products onto the disk: several at a time, each resumed where it broke off, checked, and renamed when it is whole."""

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
from deepcr_zoo.archive.mast import Part
from deepcr_zoo.archive.pace import Pace
from deepcr_zoo.documents import Document, as_json
from deepcr_zoo.errors import ArchiveBusyError, ArchiveError, ArchiveUnreachableError, DeepcrZooError, OutputError
from deepcr_zoo.files import sha256_of, sweep_leftovers, write_atomically

ATTEMPTS = 3
"""Connections in a row that may break off without a byte."""

WAIT_S = 1.0
"""Before the second attempt; each wait is twice the one before."""

END_S = 5.0
"""How long downloads that are stopped are waited for, all together."""

OpenPart = Callable[[Product, int, str | None], AbstractContextManager[Part]]
Told = Callable[[int], None]


class Record(Document):
    """What is known of a file, beside it: of which product it is, and its hash once it is whole."""

    product: Product
    size: int | None
    validator: str | None
    sha256: str | None = None


@dataclass(frozen=True)
class Shelf:
    """A folder of downloads.

    Attributes
    ----------
    folder : Path
    """

    folder: Path

    def file(self, product: Product) -> Path:
        """Where a product is, once it is whole."""
        return self.folder / product.name

    def partial(self, product: Product) -> Path:
        """Where it is until then."""
        return self.folder / f".{product.name}.part"

    def record(self, product: Product) -> Record | None:
        """What is known of it, if that can be read and it is of this very product."""
        try:
            record = Record.model_validate_json(self._record_path(product).read_bytes())
        except (OSError, ValidationError):
            return None
        return record if record.product.is_same_file(product) else None

    def write_record(self, record: Record) -> None:
        """Keep what is known of a product."""
        write_atomically(as_json(record), self._record_path(record.product))

    def finished(self, product: Product) -> str | None:
        """The SHA-256 of a product that is there, whole and as it was downloaded."""
        record, path = self.record(product), self.file(product)
        if record is None or record.sha256 is None or not path.is_file() or path.stat().st_size != record.size:
            return None
        return record.sha256 if sha256_of(path) == record.sha256 else None

    def forget(self, product: Product) -> None:
        """Remove what there is of an unfinished product."""
        self.partial(product).unlink(missing_ok=True)
        if not self.file(product).is_file():
            self._record_path(product).unlink(missing_ok=True)

    @contextmanager
    def reserved(self, told: Callable[[], None]) -> Iterator[None]:
        """Nobody else downloads to this folder meanwhile: who has to wait for that, which is polite besides, is told."""
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            import fcntl
        except ImportError:  # Windows
            yield
            return
        with open(self.folder / ".lock", "w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                told()
                fcntl.flock(file, fcntl.LOCK_EX)
            sweep_leftovers(self.folder)
            yield

    def _record_path(self, product: Product) -> Path:
        return self.folder / f"{product.name}.json"


def download(
    product: Product, shelf: Shelf, open_part: OpenPart, pace: Pace, told: Told, expected_sha256: str | None = None
) -> str:
    """Make sure that a product is there; gives its SHA-256.

    Parameters
    ----------
    product : Product
    shelf : Shelf
        That is reserved.
    open_part : callable
        `Archive.open`.
    pace : Pace
    told : callable
        Gets the number of bytes that have arrived; a negative one if they have to come again.
    expected_sha256 : str, optional
        Of a download that is repeated.

    Raises
    ------
    ArchiveUnreachableError
        If it breaks off `ATTEMPTS` times without a byte: what is there is kept, and resumed by the next call.
    ArchiveError
        If the archive sends another size than it lists, or other bytes than are expected: nothing is kept.
    InterruptedWorkError
        If it was stopped.
    """
    finished = shelf.finished(product)
    if finished is not None and expected_sha256 in (None, finished):
        told(product.size or 0)
        return finished
    failures = 0
    while True:
        before = _size(shelf.partial(product))
        try:
            size = _fetch_rest(product, shelf, open_part, pace, told)
            return _finish(product, shelf, size, expected_sha256)
        except ArchiveBusyError:
            raise
        except ArchiveUnreachableError:
            failures = 0 if _size(shelf.partial(product)) > before else failures + 1
            if failures == ATTEMPTS:
                raise
        pace.wait(WAIT_S * 2**failures / 2)


def download_all(
    products: Sequence[Product],
    shelf: Shelf,
    open_part: OpenPart,
    pace: Pace,
    jobs: int,
    told: Told,
    expected: Mapping[str, str],
) -> Generator[tuple[Product, str | DeepcrZooError], None, None]:
    """Several downloads at a time; gives the SHA-256 of each, or why there is none, as they end.

    Parameters
    ----------
    products : sequence of Product
    shelf, open_part, pace, told
        As for `download`.
    jobs : int
    expected : mapping of str to str
        SHA-256 by name, of those that are repeated.
    """
    waiting = deque(products)
    ended: queue.SimpleQueue[tuple[Product, str | BaseException]] = queue.SimpleQueue()

    def work() -> None:
        while True:
            try:
                product = waiting.popleft()
            except IndexError:
                return
            try:
                ended.put((product, download(product, shelf, open_part, pace, told, expected.get(product.name))))
            except BaseException as error:
                ended.put((product, error))

    # daemons: whoever is interrupted shall not wait for a host that is silent, and nothing is lost
    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(jobs, len(products)))]
    for thread in threads:
        thread.start()
    try:
        for _ in products:
            product, outcome = ended.get()
            if isinstance(outcome, OSError):
                reason = outcome.strerror or outcome
                raise OutputError(f"{shelf.folder}: cannot be written: {reason}; name another folder with DEEPCR_ZOO_CACHE")
            if isinstance(outcome, BaseException) and not isinstance(outcome, DeepcrZooError):
                raise outcome
            yield product, outcome
    finally:
        waiting.clear()
        if any(thread.is_alive() for thread in threads):
            pace.stop()
        until = time.monotonic() + END_S
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))


def _fetch_rest(product: Product, shelf: Shelf, open_part: OpenPart, pace: Pace, told: Told) -> int:
    """Fetch what is missing of a product; gives the size that it should have now."""
    partial, record = shelf.partial(product), shelf.record(product)
    there = _size(partial) if record is not None else 0
    if record is not None and record.size is not None and there == record.size:
        told(there)
        return there
    start, validator = (there, record.validator) if record is not None else (0, None)
    with open_part(product, start, validator) as part:
        size = _announced(product, shelf, part)
        if part.start == 0:
            partial.unlink(missing_ok=True)  # before the record that would vouch for it
            shelf.write_record(Record(product=product, size=size, validator=part.validator))
        arrived = part.start
        told(arrived)
        try:
            with open(partial, "ab", buffering=0) as file:
                for chunk in part.chunks:
                    pace.check()
                    file.write(chunk)
                    arrived += len(chunk)
                    told(len(chunk))
                os.fsync(file.fileno())
        except BaseException:
            told(-arrived)
            raise
    if size is not None and arrived < size:
        told(-arrived)
        raise ArchiveUnreachableError(f"{product.name}: broke off after {arrived} of {size} bytes")
    return arrived if size is None else size


def _announced(product: Product, shelf: Shelf, part: Part) -> int | None:
    """The size of a product, by the list and by what is sent.

    Raises
    ------
    ArchiveError
        If they differ.
    """
    if None not in (product.size, part.total) and product.size != part.total:
        shelf.forget(product)
        raise _other_size(product, f"sends {part.total}")
    return part.total if product.size is None else product.size


def _finish(product: Product, shelf: Shelf, size: int, expected_sha256: str | None) -> str:
    partial = shelf.partial(product)
    if _size(partial) != size:
        found = _size(partial)
        shelf.forget(product)
        raise _other_size(product, f"has sent {found}")
    sha256 = sha256_of(partial)
    if expected_sha256 not in (None, sha256):
        shelf.forget(product)
        raise ArchiveError(
            f"{product.name}: has changed in the archive since the manifest: its SHA-256 was {expected_sha256}, now it is "
            f"{sha256}; supply the file of then with --data DIR, or make a new manifest"
        )
    record = shelf.record(product)
    shelf.write_record(
        Record(product=product, size=size, validator=None if record is None else record.validator, sha256=sha256)
    )
    os.replace(partial, shelf.file(product))
    return sha256


def _other_size(product: Product, what: str) -> ArchiveError:
    return ArchiveError(
        f"{product.name}: the archive lists {product.size} bytes and {what}: nothing was kept; try again later, or supply "
        "the file with --data DIR"
    )


def _size(path: Path) -> int:
    with suppress(FileNotFoundError):
        return path.stat().st_size
    return 0
