"""Who may read a file that is written: nobody who may not read what it is made from, or what it replaces.

A file that has been opened once can be read for ever, so that what is written has no wider permissions at any moment.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple


class Permissions(NamedTuple):
    """The mode of a file, and the group of which it says what that may; None where that does not matter."""

    mode: int
    group: int | None = None

    @property
    def for_other_groups(self) -> int:
        """The mode where the file belongs to another group: that may what all may."""
        return self.mode & ~0o070 | (self.mode & 0o007) << 3

    def mode_for(self, group: int) -> int:
        """Return the mode of a file that belongs to a group."""
        return self.mode if self.group in (None, group) else self.for_other_groups


ANY = Permissions(0o666)
"""All that the umask leaves."""


def permissions_of(path: Path) -> Permissions:
    """Return the permissions of what is made from a file; for this user alone if it is gone."""
    try:
        found = path.stat()
    except OSError:
        return Permissions(0o600)
    return Permissions(0o600 | found.st_mode & 0o666, found.st_gid)


def own_permissions(path: Path, is_kind: Callable[[int], bool] = stat.S_ISREG) -> Permissions | None:
    """Return the permissions of a plain file or a folder of this user, without set-uid and the like; None for others'."""
    try:
        found = path.lstat()
    except OSError:
        return None
    is_own = not hasattr(os, "getuid") or found.st_uid == os.getuid()
    return Permissions(found.st_mode & 0o777, found.st_gid) if is_own and is_kind(found.st_mode) else None


def created(path: Path, permissions: Permissions) -> BinaryIO:
    """Open a new file to be written, with these permissions and less if the umask says so."""
    file = _created(path, permissions.mode)
    if (mode := permissions.mode_for(_group_of(file.fileno()))) == permissions.mode:
        return file
    file.close()  # its folder has chosen who may read it: it is made anew, as it may have been opened
    path.unlink()
    return _created(path, mode)


def replacement(path: Path, kept: Permissions) -> BinaryIO:
    """Open a new file to be written, with the permissions and, where that is allowed, the group of what it replaces."""
    file = _created(path, kept.mode & 0o700)
    restore(path, kept)
    return file


def restore(path: Path, kept: Permissions) -> None:
    """Give a file or a folder these permissions and, where that is allowed, their group."""
    if kept.group is not None and path.stat().st_gid != kept.group:
        with suppress(OSError):
            os.chown(path, -1, kept.group)
    os.chmod(path, kept.mode_for(path.stat().st_gid))


def _group_of(descriptor: int) -> int:
    """Return the group of an open file; -1 if its folder gives it to further users and groups, by a default ACL."""
    with suppress(OSError, AttributeError):  # disks and systems without them
        if "system.posix_acl_access" in os.listxattr(descriptor):
            return -1
    return os.fstat(descriptor).st_gid


def _created(path: Path, mode: int) -> BinaryIO:
    return open(path, "xb", opener=lambda name, flags: os.open(name, flags, mode))
