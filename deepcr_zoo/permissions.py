"""Permissions of written files: never wider than those of the file that they are made from.

What replaces a file has its permissions, which the user may have changed. A file that has been opened once can be read for
ever, so that what is written has no wider permissions at any moment.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

_LIST = "system.posix_acl_access"
_NO_GROUP, _OTHERS = -1, -2  # of a file that an access control list gives to several, and of what a folder's list makes


class Permissions(NamedTuple):
    """The mode of a file, and the group of which it says what that may; None where that does not matter."""

    mode: int
    group: int | None = None

    @property
    def for_other_groups(self) -> int:
        """The mode where the file belongs to another group: all others may what both this group and others may."""
        common = self.mode >> 3 & self.mode & 0o007
        return self.mode & 0o700 | common << 3 | common

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
    return Permissions(0o600 | found.st_mode & 0o666, _NO_GROUP if _has_list(path) else found.st_gid)


def own_permissions(path: Path, is_kind: Callable[[int], bool] = stat.S_ISREG) -> Permissions | None:
    """Return the permissions of a plain file or a folder of this user, without set-uid and the like; None for others'."""
    try:
        found = path.lstat()
    except OSError:
        return None
    is_own = not hasattr(os, "getuid") or found.st_uid == os.getuid()
    if not is_own or not is_kind(found.st_mode):
        return None
    return Permissions(found.st_mode & 0o777, _NO_GROUP if _has_list(path) else found.st_gid)


def created(path: Path, permissions: Permissions) -> BinaryIO:
    """Open a new file to be written, with these permissions and less if the umask says so."""
    file = _created(path, permissions.mode)
    group = _OTHERS if _has_list(file.fileno()) else os.fstat(file.fileno()).st_gid
    if (mode := permissions.mode_for(group)) == permissions.mode:
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
    with suppress(OSError, AttributeError):
        os.removexattr(path, _LIST)  # of its folder: the mode would be that of all whom it names
    if kept.group not in (None, _NO_GROUP) and path.stat().st_gid != kept.group:
        with suppress(OSError):
            os.chown(path, -1, kept.group)
    os.chmod(path, kept.mode_for(path.stat().st_gid))


def _has_list(file: int | Path) -> bool:
    """True if a file has an access control list, by which the mode of its group is that of further users and groups."""
    try:
        return _LIST in os.listxattr(file)
    except (OSError, AttributeError):  # disks and systems without them
        return False


def _created(path: Path, mode: int) -> BinaryIO:
    return open(path, "xb", opener=lambda name, flags: os.open(name, flags, mode))
