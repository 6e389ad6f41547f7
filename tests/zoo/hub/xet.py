"""Xet without a server of its own: the client writes its chunks to the disk, as hf_xet does for its own tests.

The contract server gives the client an address ``local://FOLDER``; the real client chunks, deduplicates and writes there,
and from there the server rebuilds each file for its LFS storage, with hf_xet as well.
"""

from __future__ import annotations

import hashlib
import shutil
import struct
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.zoo.hub.repository import Repository

HEADER, ENTRY = 48, 48
"""Bytes of a shard's header and of each of its entries."""

END = b"\xff" * 32
HAS_VERIFICATION, HAS_METADATA = 1 << 31, 1 << 30
TOKEN_EXPIRY = 4_000_000_000


@dataclass(frozen=True)
class StoredFile:
    """A file as Xet stores it."""

    xet_hash: str
    size: int


class XetStorage:
    """A folder of chunks and of the shards that say which file they belong to."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.address = f"local://{folder}"

    def hash_of(self, sha256: str) -> str | None:
        stored = self._files().get(sha256)
        return None if stored is None else stored.xet_hash

    def move_to_lfs(self, repository: Repository, hashes: Iterable[str]) -> None:
        """Rebuild files that came by Xet, so that git-lfs and others can judge them."""
        for sha256 in hashes:
            stored = self._files().get(sha256)
            if stored is not None and not repository.lfs_object(sha256).exists():
                data = self._rebuilt(stored)
                assert hashlib.sha256(data).hexdigest() == sha256
                repository.store(data)

    def _rebuilt(self, stored: StoredFile) -> bytes:
        import hf_xet

        with tempfile.TemporaryDirectory() as scratch:
            # the client's process may still hold the lock of the storage: a copy is free
            copy, target = Path(scratch, "copy"), Path(scratch, "file")
            shutil.copytree(self.folder, copy)
            session = hf_xet.XetSession()
            group = session.new_file_download_group(
                endpoint=f"local://{copy}", token="xet", token_expiry_unix_secs=TOKEN_EXPIRY
            )
            with group as downloads:
                downloads.start_download_file(hf_xet.XetFileInfo(stored.xet_hash, stored.size), str(target))
            return target.read_bytes()

    def _files(self) -> dict[str, StoredFile]:
        """Every file that some shard describes, by SHA-256."""
        return {sha256: stored for shard in self.folder.rglob("*.mdb") for sha256, stored in _described(shard.read_bytes())}


def _described(shard: bytes) -> Iterator[tuple[str, StoredFile]]:
    place = HEADER
    while shard[place : place + 32] != END:
        xet_hash, (flags, count) = shard[place : place + 32], struct.unpack_from("<II", shard, place + 32)
        place += ENTRY
        size = sum(struct.unpack_from("<I", shard, place + ENTRY * index + 36)[0] for index in range(count))
        place += ENTRY * count * (2 if flags & HAS_VERIFICATION else 1)
        if flags & HAS_METADATA:
            yield _hex(shard[place : place + 32]), StoredFile(_hex(xet_hash), size)
            place += ENTRY


def _hex(hash_bytes: bytes) -> str:
    """Xet writes a hash as four little-endian words."""
    return "".join(f"{word:016x}" for word in struct.unpack("<4Q", hash_bytes))
