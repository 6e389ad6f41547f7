"""Files: bounded reads, atomic writes, hashes, locks and leftovers."""

from __future__ import annotations

import datetime
import errno
import hashlib
import math
import os
import re
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path

from deepcr_zoo.errors import DeepcrZooError, IntegrityError, InUseError, OutputError, UsageError
from deepcr_zoo.machine import free_memory_bytes, process_space
from deepcr_zoo.permissions import (
    ANY,
    Permissions,
    created,
    own_permissions,
    permissions_of_open,
    replacement,
    restore,
)

LOCK_FILE = ".lock"
"""In each folder that one process at a time may write to; it stays there, and the kernel ends the lock with its process."""

OLD_S = 86400.0
"""Age at which anything unfinished is left over: names of machines and numbers of processes are used again."""

NAME_BYTES = 100
"""Of the name in that of an unfinished file, so that this is never the longer one."""

SMALL_BYTES = 10_000_000
"""A file of at most this size fits into any memory, which takes longer to ask for than to read."""

_BLOCK_BYTES = 512  # of st_blocks (stat(2))

MOST_DEPTH = 100
"""Folders inside each other that are looked into: nobody makes more, and Python's own walk ends at about a thousand."""

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Errors of a disk, a quota or a largest file size that leaves no room."""

_UNFINISHED = re.compile("unfinished-[0-9a-f]{32}")
_PARTIAL = re.compile(r"\.(?P<name>.+)\.(?P<host>[^.]*)-(?P<process>\d+)-[0-9a-f]{8}\.part", re.DOTALL)


def is_text(name: str) -> bool:
    """Return False for the name of a file whose bytes are no UTF-8: neither JSON nor YAML has room for it."""
    return not any("\ud800" <= letter <= "\udfff" for letter in name)


def moment_of_writing() -> datetime.datetime:
    """Return the present time, UTC; ``SOURCE_DATE_EPOCH`` fixes it, for reproducible files."""
    fixed = os.environ.get("SOURCE_DATE_EPOCH")
    try:
        return datetime.datetime.fromtimestamp(int(fixed), datetime.UTC) if fixed else datetime.datetime.now(datetime.UTC)
    except (ValueError, OverflowError, OSError):
        raise UsageError(f"SOURCE_DATE_EPOCH is {fixed!r}: expected seconds since 1970, as in 1700000000") from None


class NotAFileError(OSError):
    """A pipe, a socket or a device where a file is expected."""


@contextmanager
def opened_file(path: Path) -> Iterator[BufferedReader]:
    """Open a regular file to read; anything else raises `OSError`: a pipe would block, and a device never ends."""
    try:
        _check_regular(os.stat(path).st_mode, path)
        # without waiting for the other end of a pipe; checked again, since it can be exchanged in between
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except ValueError:
        raise OSError(errno.EINVAL, "no file can have this name", str(path)) from None
    with open(descriptor, "rb") as file:
        _check_regular(os.fstat(descriptor).st_mode, path)
        yield file


def _check_regular(mode: int, path: Path) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "is a folder", str(path))
    if not stat.S_ISREG(mode):
        kind = "pipe" if stat.S_ISFIFO(mode) else "socket" if stat.S_ISSOCK(mode) else "device"
        raise NotAFileError(errno.EINVAL, f"is a {kind}, not a file", str(path))


def read_file(path: Path, most_bytes: int | None = None, memory_of_a_byte: int = 1) -> bytes:
    """Return the bytes of a regular file; one of more than `most_bytes` raises `OSError`.

    The default is what the free memory holds if each byte takes `memory_of_a_byte` in the end.
    """
    with opened_file(path) as file:
        return _content(file, path, most_bytes, memory_of_a_byte)


def read_below(folder: Path, name: str) -> bytes:
    """Return the bytes of a regular file below a folder; no link is followed, whenever others have put it there."""
    if os.open not in os.supports_dir_fd:  # Windows
        refuse_links(folder / name, folder)
        return read_file(folder / name)
    *inside, last = Path(name).parts
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for part in inside:
            above, descriptor = descriptor, os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=descriptor)
            os.close(above)
        found = os.open(last, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=descriptor)
    finally:
        os.close(descriptor)
    with open(found, "rb") as file:
        _check_regular(os.fstat(found).st_mode, folder / name)
        return _content(file, folder / name)


def _content(file: BufferedReader, path: Path, most_bytes: int | None = None, memory_of_a_byte: int = 1) -> bytes:
    """Return the bytes of an open file, as `read_file` does."""
    size = os.fstat(file.fileno()).st_size
    if most_bytes is None and size * memory_of_a_byte > SMALL_BYTES and (free := free_memory_bytes()) is not None:
        most_bytes = free // memory_of_a_byte
    if most_bytes is not None and size > most_bytes:
        raise OSError(errno.EFBIG, f"has {size:,} bytes, at most {most_bytes:,} can be read", str(path))
    data = file.read(size + 1)
    if len(data) > size:
        raise OSError(errno.EBUSY, "grows while it is read", str(path))
    return data


def write_atomically(data: bytes, path: Path) -> None:
    """Write `data` so that `path` always holds either the old content or all of the new."""
    write_together({path: data})


def write_new(data: bytes, path: Path, permissions: Permissions = ANY) -> None:
    """Write a file that must not exist; a `FileExistsError` if another process was quicker, whose file stays as it is."""
    write_together({path: data}, [path], permissions)


def write_together(contents: Mapping[Path, bytes], new: Collection[Path] = (), permissions: Permissions = ANY) -> None:
    """Write several files atomically, and rename none of them before all are on the disk.

    Only a kill during the renames leaves some of them old; the last one is renamed last. Those that are `new` replace
    nothing: where another process was quicker, its file stays, this is a `FileExistsError`, and no new one is left. What
    earlier processes left of these files, unfinished, is removed. New files get these permissions, less those that the user
    withholds (umask); files of this user keep theirs, as far as these allow.
    """
    partial: dict[Path, Path] = {}
    made: dict[Path, os.stat_result] = {}
    replaced: dict[Path, Path] = {}  # by where the earlier ones are kept meanwhile
    try:
        for folder in dict.fromkeys(path.parent for path in contents):
            folder.mkdir(parents=True, exist_ok=True)
        sweep_partial(*contents)
        for path, data in contents.items():
            partial[path] = _partial_path(path)
            kept = None if path in new else own_permissions(path)
            _write(data, partial[path], kept and kept.within(permissions), permissions)
        for path, temporary in partial.items():
            if path in new:
                written = temporary.stat()
                _rename_new(temporary, path)
                made[path] = written
            else:
                if len(contents) > 1:
                    _keep(path, replaced)
                os.replace(temporary, path)
    except BaseException:
        for path, earlier in replaced.items():
            with suppress(OSError):
                if os.path.lexists(partial[path]):  # it was not replaced yet
                    earlier.unlink()
                else:
                    os.replace(earlier, path)
        for left in partial.values():
            with suppress(OSError):
                left.unlink(missing_ok=True)
        for path, written in made.items():
            with suppress(OSError):
                if os.path.samestat(path.lstat(), written):  # else another process has replaced it
                    path.unlink()
        raise
    for earlier in replaced.values():
        earlier.unlink(missing_ok=True)


def _write(data: bytes, path: Path, kept: Permissions | None, permissions: Permissions) -> None:
    """Write a new file onto the disk, with the permissions `kept`, or else these."""
    with created(path, permissions) if kept is None else replacement(path, kept) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _keep(path: Path, kept: dict[Path, Path]) -> None:
    """Keep a file that is going to be replaced, under another name."""
    if not os.path.lexists(path):
        return
    earlier = _partial_path(path)
    try:
        if hasattr(os, "getuid") and path.lstat().st_uid != os.getuid():
            raise PermissionError  # in a folder such as /tmp a link to another user's file can never be removed
        os.link(path, earlier, follow_symlinks=False)
    except OSError:  # also of a disk without hard links
        if path.is_symlink() or not path.is_file():
            return
        _copy(path, earlier)
    kept[path] = earlier


def _copy(path: Path, copy: Path) -> None:
    with opened_file(path) as original, created(copy, Permissions(0o600)) as file:
        try:
            if _is_made_of_holes(original.fileno()):
                raise OSError(errno.EFBIG, "is a file of holes", str(path))
            shutil.copyfileobj(original, file)
            restore(file.fileno(), permissions_of_open(original.fileno()))
        except BaseException:
            copy.unlink(missing_ok=True)
            raise


def _rename_new(temporary: Path, path: Path) -> None:
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:  # of a disk without hard links
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), os.fspath(path)) from None
        os.rename(temporary, path)
        return
    temporary.unlink()


def write_failure(
    where: str | Path, error: OSError, elsewhere: str, kind: type[DeepcrZooError] = OutputError
) -> DeepcrZooError:
    """Return the error for something that cannot be written; `elsewhere` is the way out, as in "choose another --to"."""
    reason, way_out = error.strerror or str(error), elsewhere
    if error.errno in FULL:
        way_out = f"make room there, or {elsewhere}"
    elif error.errno == errno.ENAMETOOLONG:
        parts = Path(os.fsdecode(error.filename2 or error.filename or str(where))).parts
        longest = max(parts, key=lambda part: len(os.fsencode(part)), default=str(where))
        way_out = f"the name {longest} has {len(os.fsencode(longest))} bytes: shorten it"
    return kind(f"{where}: cannot be written: {reason}; {way_out}")


@contextmanager
def reporting_failures(where: str | Path, elsewhere: str, kind: type[DeepcrZooError] = OutputError) -> Iterator[None]:
    """Turn an OSError of what is written into one sentence; see `write_failure`."""
    try:
        yield
    except OSError as error:
        raise write_failure(where, error, elsewhere, kind) from None


def is_folder(path: Path) -> bool:
    """True for a folder, False for anything else or nothing; OSError if that cannot be known, on every Python."""
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def is_free(path: Path) -> bool:
    """True if a new folder can have this place: nothing is there, or an empty folder, which no link stands for."""
    return not os.path.lexists(path) or (is_folder(path) and not path.is_symlink() and not any(path.iterdir()))


def is_file(path: Path) -> bool:
    """True for a regular file, False for anything else or nothing; OSError if that cannot be known, on every Python."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def files_below(folder: Path) -> list[Path]:
    """Return all files and links to files below a folder, in order; OSError if a part cannot be read, which globs hide."""
    found: list[Path] = []
    if is_folder(folder):
        for top, _, names in walk(folder, onerror=raise_error):
            found += (Path(top, name) for name in names)
    return sorted(found)


def raise_error(error: OSError) -> None:
    """Let a walk end where a folder cannot be read."""
    raise error


def walk(
    folder: str | os.PathLike[str], onerror: Callable[[OSError], object] | None = None
) -> Iterator[tuple[str, list[str], list[str]]]:
    """Do as `os.walk`, which has no bound on depth; OSError where folders lie deeper inside each other than `MOST_DEPTH`."""
    start = os.fspath(folder)
    for top, folders, names in os.walk(folder, onerror=onerror):
        if top[len(start) :].count(os.sep) > MOST_DEPTH:
            raise OSError(errno.ENAMETOOLONG, f"folders lie more than {MOST_DEPTH} deep inside each other", start)
        yield top, folders, names


def lies_within(path: Path, folder: Path) -> bool:
    """True unless links lead out of a folder."""
    return real_path(path).is_relative_to(real_path(folder))


def real_path(path: Path) -> Path:
    """Return where a path leads, through all links; that of a link which leads to itself is its own."""
    return Path(os.path.realpath(path))  # Path.resolve raises RuntimeError there, up to Python 3.12


def refuse_links(path: Path, root: Path) -> None:
    """Raise `IntegrityError` if a part of a path below `root` is a symbolic link, which could lead to any file."""
    for part in (*reversed([one for one in path.parents if one != root and one.is_relative_to(root)]), path):
        if os.path.islink(part):
            raise IntegrityError(
                f"{part} is a symbolic link: expected plain files and folders alone, put the file itself there"
            )


def refuse_exchanged(folder: Path, known: os.stat_result) -> None:
    """Raise `OutputError` if a folder is another one than when its `lstat` was taken: others may have put a link there."""
    try:
        is_same = os.path.samestat(folder.lstat(), known)
    except OSError:
        is_same = False
    if not is_same:
        raise OutputError(f"{folder}: is not the folder any more that this process began to write to: put that one back")


def refuse_others(contents: Mapping[Path, bytes], reason: str, kind: type[DeepcrZooError]) -> None:
    """Raise an error with a reason if one of the files to write is there, with other bytes: it is somebody's work."""
    for path, data in contents.items():
        if is_file(path) and read_file(path) != data:
            raise kind(f"{path}: {reason}")


def refuse_links_below(folder: Path) -> None:
    """Raise `IntegrityError` if there is a symbolic link in a folder or below it, OSError if a part cannot be read."""
    refuse_links(folder, folder.parent)
    if is_folder(folder):
        for top, folders, names in walk(folder, onerror=raise_error):
            for name in sorted((*folders, *names)):
                refuse_links(Path(top, name), Path(top))


CHANGED = "has changed since its visit was planned: run again when it is at rest"
"""What is said of a file whose hash is no longer that of a plan."""


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file of any size; `OSError` if it is made of holes, which would be read for hours."""
    with opened_file(path) as file:
        if _is_made_of_holes(file.fileno()):
            raise OSError(errno.EFBIG, "is made of holes", str(path))
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_made_of_holes(descriptor: int) -> bool:
    """True for a large file of which the disk has less than a thousandth; numbers of pixels cannot be packed like that."""
    status = os.fstat(descriptor)
    if status.st_size <= SMALL_BYTES or getattr(status, "st_blocks", math.inf) * _BLOCK_BYTES > status.st_size / 1000:
        return False
    with suppress(OSError):  # of a disk that does not report holes, and perhaps not how much it has of a file
        has_hole = os.lseek(descriptor, 0, os.SEEK_HOLE) < status.st_size
        os.lseek(descriptor, 0, os.SEEK_SET)
        return has_hole
    return False


def sweep_partial(*paths: Path) -> None:
    """Remove unfinished versions of files and folders, left by killed processes of this machine, and all old ones."""
    for folder in dict.fromkeys(path.parent for path in paths):
        _sweep(folder, {_name_part(path) for path in paths if path.parent == folder})


def sweep_leftovers(folder: Path) -> None:
    """Remove everything unfinished in a folder that killed processes of this machine left, and all that is old."""
    _sweep(folder, None)


def _sweep(folder: Path, names: Collection[str] | None) -> None:
    names_inside: list[str] = []
    with suppress(OSError):  # not there, or it may be entered but not listed
        names_inside = os.listdir(folder)  # not globbed: names may hold wildcards
    for leftover in names_inside:
        found = _PARTIAL.fullmatch(leftover)
        if (
            found
            and (names is None or found["name"] in names)
            and (_has_lost_its_process(found) or _is_old(folder / leftover))
            and not _is_held(folder / leftover)
        ):
            # in a folder that others share it may be theirs, and built to be in the way
            with suppress(OSError, RecursionError):
                _remove_leftover(folder / leftover)


def _remove_leftover(path: Path) -> None:
    """Remove an unfinished file or folder; of a folder no more than what `scratch_folder` has made in it."""
    if not path.is_dir() or path.is_symlink():
        path.unlink(missing_ok=True)
        return
    for name in filter(_UNFINISHED.fullmatch, os.listdir(path)):
        shutil.rmtree(path / name, ignore_errors=True)
    path.rmdir()  # fails if more is there: others may have given its name to a folder of the user


def _has_lost_its_process(found: re.Match[str]) -> bool:
    return found["host"] == process_space() and not _is_running(int(found["process"]))


def _is_old(path: Path) -> bool:
    try:
        return time.time() - path.lstat().st_mtime > OLD_S
    except OSError:  # its process has renamed or removed it
        return False


@contextmanager
def locked(folder: Path, report_wait: Callable[[], None] = lambda: None, *, wait: bool = True) -> Iterator[None]:
    """Hold the lock of an existing folder, so that no other process writes to it.

    If another process has it, this one calls `report_wait` and waits; it raises `InUseError` if it shall not `wait`.
    """
    from filelock import FileLock, Timeout

    path = folder / LOCK_FILE
    refuse_links(path, folder)
    if path.is_dir():
        raise IntegrityError(f"{path} is a folder: expected a file or nothing, move it away")
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if not wait:
            raise InUseError(f"{folder}: another process is writing there: wait until it has ended, or stop it") from None
        report_wait()
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder that becomes `path` at the end, unless another process was quicker or something failed."""
    with scratch_folder(path) as folder:
        with _undisturbed(folder):
            yield folder
        if not path.exists():
            try:
                os.rename(folder, path)
            except OSError:
                if not path.is_dir():
                    raise


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder that becomes `path` at the end; an `OutputError` if `path` is not empty by then.

    An empty folder of this user is replaced, and keeps its permissions; the present folder is an `OutputError`.
    """
    if path.is_dir() and path.samefile(Path.cwd()):
        raise OutputError(f"{path}: is the present folder, which cannot be replaced as a whole: name another one")
    sweep_partial(path)
    with scratch_folder(path) as folder:
        with _undisturbed(folder):
            yield folder
        if os.name != "nt" and (kept := own_permissions(path, stat.S_ISDIR)) is not None:
            with _opened_folder(folder) as descriptor:
                restore(descriptor, kept)
        try:
            os.rename(folder, path)  # replaces an empty folder alone
        except OSError as error:
            if not os.path.lexists(path):
                raise
            raise OutputError(
                f"{path}: another process wrote there meanwhile: it was left as it is ({error.strerror})"
            ) from None


@contextmanager
def scratch_folder(path: Path) -> Iterator[Path]:
    """Yield a folder that is removed at the end; `sweep_partial` removes what a killed process leaves.

    It lies beside `path` in a folder of this user alone, and nobody can guess its name: others who may rename that folder,
    and put a link in its place, lead this process into no folder that exists.
    """
    around = _partial_path(path)
    around.mkdir(mode=0o700, parents=True)
    folder = around / f"unfinished-{secrets.token_hex(16)}"
    try:
        with _held(around):
            folder.mkdir()
            with _held(folder):  # which also keeps its number (inode) from another one that takes its place
                yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):  # another one has taken its place
            around.rmdir()


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Hold a lock on a folder itself: it shows processes that cannot see this one that the folder is in use."""
    if os.name == "nt":  # Windows opens no folders
        yield
        return
    with _opened_folder(folder) as descriptor:
        _try_lock(descriptor)
        yield


@contextmanager
def _opened_folder(path: Path) -> Iterator[int]:
    """Open a folder, and no link to one."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0))
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _is_held(path: Path) -> bool:
    """True if a process holds the lock of a folder, which ends with that process."""
    try:
        with _opened_folder(path) as descriptor:
            return not _try_lock(descriptor)
    except OSError:  # a file or a link, which nobody holds
        return False


def _try_lock(descriptor: int) -> bool:
    """Lock an open folder; False if another process has the lock. True also where there are no such locks."""
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a shared disk without locks
        return True
    return True


@contextmanager
def _undisturbed(folder: Path) -> Iterator[None]:
    """Raise `OutputError` if a folder is another one at the end: what it held would be missing in silence."""
    made = folder.stat()
    yield
    if not folder.is_dir() or not os.path.samestat(folder.stat(), made):
        raise OutputError(f"{folder}: was removed by another process while this one wrote there: run the command again")


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Yield a folder of this process alone, on the system's place for such; those of killed processes are removed."""
    place = Path(tempfile.gettempdir(), "deepcr-zoo")
    sweep_partial(place)
    with scratch_folder(place) as folder:
        folder.chmod(0o700)
        yield folder


def remove_own_folder(folder: Path, is_own: Callable[[str], bool]) -> None:
    """Remove a folder unless a link leads to it or it holds files of others, by their names relative to it.

    An `OutputError` names what is not of this package; then nothing is removed. OSError if something stays.
    """
    refuse_links(folder, folder.parent)
    found, folders = [], [folder]
    for top, inside, names in walk(folder, onerror=raise_error):
        links = [name for name in inside if os.path.islink(Path(top, name))]
        folders += [Path(top, name) for name in inside if name not in links]
        for path in (Path(top, name) for name in (*names, *links)):
            if not is_own(path.relative_to(folder).as_posix()) and not _PARTIAL.fullmatch(path.name):
                raise OutputError(f"{path}: is not a file of deepcr-zoo, so that {folder} stays: move it away")
            found.append(path)
    for path in found:  # these alone, whatever others may have put there since
        path.unlink()
    for path in sorted(folders, reverse=True):
        path.rmdir()


def _partial_path(path: Path) -> Path:
    return path.with_name(f".{_name_part(path)}.{process_space()}-{os.getpid()}-{secrets.token_hex(4)}.part")


def _name_part(path: Path) -> str:
    return os.fsencode(path.name)[:NAME_BYTES].decode(errors="ignore")


def _is_running(process: int) -> bool:
    if os.name == "nt":
        return True  # on Windows signal 0 would end the process
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):  # others may have made up a number that no process has
        return False
    except PermissionError:
        return True
    return True
