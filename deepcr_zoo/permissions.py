"""Permissions of written files: never wider than those of the file that they are made from.

What replaces a file has no wider ones either, which may be narrower: the user may have changed them. Others may have put a
file with wider ones in its place. A file that has been opened once can be read for ever, so that what is written has no
wider permissions at any moment.
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

    def within(self, limit: Permissions) -> Permissions:
        """Return what these permissions and a limit both allow; those to run a file or enter a folder stay."""
        return Permissions(self.mode & (limit.mode_for(_NO_GROUP if self.group is None else self.group) | 0o111), self.group)


ANY = Permissions(0o666)
"""All that the umask leaves."""


def permissions_of_made_from(descriptor: int) -> Permissions:
    """Return the permissions of what is made from an open file.

    Never of a file by its name: that may be a link, which others have led elsewhere since the file was read.
    """
    found = permissions_of_open(descriptor)
    return Permissions(0o600 | found.mode & 0o666, found.group)


def own_permissions(path: Path, is_kind: Callable[[int], bool] = stat.S_ISREG) -> Permissions | None:
    """Return the permissions of a plain file or a folder of this user, without set-uid and the like; None for others'."""
    try:
        found = path.lstat()
    except OSError:
        return None
    is_own = not hasattr(os, "getuid") or found.st_uid == os.getuid()
    return _without_set_uid(found, path) if is_own and is_kind(found.st_mode) else None


def permissions_of_open(descriptor: int) -> Permissions:
    """Return the permissions of an open file, without set-uid and the like."""
    return _without_set_uid(os.fstat(descriptor), descriptor)


def _without_set_uid(found: os.stat_result, file: int | Path) -> Permissions:
    return Permissions(found.st_mode & 0o777, _NO_GROUP if _has_list(file) else found.st_gid)


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
    restore(file.fileno(), kept)
    return file


def restore(descriptor: int, kept: Permissions) -> None:
    """Give an open file or folder these permissions and, where that is allowed, their group.

    Never by its name: others who may write to its folder can put a link to any file of this user in its place.
    """
    if not hasattr(os, "fchmod"):  # Windows, where modes say next to nothing
        return
    with suppress(OSError, AttributeError):
        os.removexattr(descriptor, _LIST)  # of its folder: the mode would be that of all whom it names
    if kept.group not in (None, _NO_GROUP) and os.fstat(descriptor).st_gid != kept.group:
        with suppress(OSError):
            os.fchown(descriptor, -1, kept.group)
    with suppress(PermissionError):  # of a disk without modes (FAT): elsewhere it was created for the user alone
        os.fchmod(descriptor, kept.mode_for(os.fstat(descriptor).st_gid))


def _has_list(file: int | Path) -> bool:
    """True if a file has an access control list, by which the mode of its group is that of further users and groups."""
    try:
        return _LIST in os.listxattr(file)
    except (OSError, AttributeError):  # disks and systems without them
        return False


def _created(path: Path, mode: int) -> BinaryIO:
    return open(path, "xb", opener=lambda name, flags: os.open(name, flags, mode))
