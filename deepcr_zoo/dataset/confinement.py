"""Confine a process to its folder: for libraries that take the names of files from the headers of files.

This is no sandbox for code, which could go around Python; it keeps Python code from writing where it was not meant to.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

# events of Python (docs.python.org/3/library/audit_events.html): which of their arguments are paths
_OF_FILES = ("os.chmod", "os.chown", "os.truncate", "os.utime", "os.setxattr", "os.removexattr")
"""That change what a path leads to, the first argument."""
_OF_NAMES = {
    **dict.fromkeys(("os.remove", "os.rmdir", "os.mkdir", "shutil.rmtree"), (0,)),
    **dict.fromkeys(("os.rename", "os.link"), (0, 1)),
    "os.symlink": (1,),
}
"""That change a name, which may be a link."""
_FORBIDDEN = (
    "os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "os.spawn", "os.startfile", "os.kill",
    "socket.connect", "socket.bind", "socket.sendto", "socket.getaddrinfo", "webbrowser.open",
)  # fmt: skip


def confine(folder: Path) -> Callable[[], list[str]]:
    """Let this process change files below a folder alone, and start no program and no connection, until it ends.

    All else raises PermissionError. The function returns what was refused. Files that are read are not confined.
    """
    root = os.path.realpath(folder)
    refused: list[str] = []

    def refuse(what: str) -> None:
        refused.append(what)
        raise PermissionError(f"{what}: is refused here: expected files below {root} alone")

    def check(path: Any, follows_links: bool) -> None:
        if isinstance(path, int):  # a file that is open already
            return
        parent, name = os.path.split(os.fsdecode(path))
        whole = os.path.realpath(os.fsdecode(path)) if follows_links else os.path.join(os.path.realpath(parent), name)
        if whole != os.devnull and os.path.commonpath([whole, root]) != root:
            refuse(f"a change of {whole}")

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if isinstance(flags, int) and flags & _WRITING:
                check(path, follows_links=True)
        elif event in _OF_FILES:
            check(arguments[0], follows_links=True)
        elif event in _OF_NAMES:
            for place in _OF_NAMES[event]:
                check(arguments[place], follows_links=False)
        elif event in _FORBIDDEN:
            refuse(event)

    sys.addaudithook(hook)
    return lambda: refused
