"""One repository of the contract server: an ordinary git repository with LFS, which any git tool can read and judge."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

GITATTRIBUTES = b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"
POINTER = re.compile(
    rb"version https://git-lfs\.github\.com/spec/v1\noid sha256:(?P<sha256>[0-9a-f]{64})\nsize (?P<size>\d+)\n"
)
POINTER_MAX_SIZE = 200
COMMIT = re.compile("[0-9a-f]{7,40}")


@dataclass(frozen=True)
class Pointer:
    """What git holds in place of a file that LFS holds."""

    sha256: str
    size: int

    @property
    def text(self) -> bytes:
        return f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {self.size}\n".encode()


@dataclass(frozen=True)
class Entry:
    """A file or folder of a commit."""

    path: str
    oid: str
    size: int
    is_folder: bool = False
    pointer: Pointer | None = None


@dataclass(frozen=True)
class LoggedCommit:
    """A commit, as a history lists it."""

    id: str
    date: str
    title: str
    message: str


class Repository:
    """A repository with a work tree that is never checked out; every write is git plumbing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def exists(self) -> bool:
        return (self.folder / ".git").is_dir()

    def create(self) -> None:
        self.folder.mkdir(parents=True)
        self._git("init", "--quiet", "--initial-branch=main")
        self.commit("refs/heads/main", {".gitattributes": GITATTRIBUTES}, [], "initial commit", parent=None)

    def resolve(self, revision: str) -> str | None:
        """The commit that a branch, tag, full reference or (shortened) commit stands for."""
        names = [f"refs/heads/{revision}", f"refs/tags/{revision}"]
        if revision.startswith("refs/") or COMMIT.fullmatch(revision):
            names.append(revision)
        for name in names:
            if found := self._ask("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}"):
                return found.decode().strip()
        return None

    def entries(self, commit: str, folder: str = "", *, recursive: bool = True) -> list[Entry]:
        """Files and folders in `folder` (with `recursive`, in its folders too); none if there is no such folder."""
        options = ["-r", "-t"] if recursive else []
        listing = self._ask("ls-tree", "-l", "-z", *options, f"{commit}:{folder}") or b""
        prefix = f"{folder}/" if folder else ""
        return [self._entry(prefix, line) for line in listing.decode().split("\0") if line]

    def file(self, commit: str, path: str) -> Entry | None:
        return next((entry for entry in self.entries(commit) if entry.path == path and not entry.is_folder), None)

    def content(self, file: Entry) -> bytes:
        """What a user means by the file: its LFS object, if it has one."""
        return self.lfs_object(file.pointer.sha256).read_bytes() if file.pointer else self._blob(file.oid)

    def commit(
        self, reference: str, changes: Mapping[str, bytes], deletions: Iterable[str], message: str, *, parent: str | None
    ) -> str:
        """Commit on top of `parent`: files by path with what git is to hold for them, and paths to remove."""
        lines = [f"0 {'0' * 40}\t{path}" for path in deletions]
        lines += [f"100644 {self._write_blob(data)}\t{path}" for path, data in changes.items()]
        with tempfile.TemporaryDirectory() as scratch:
            index = {"GIT_INDEX_FILE": f"{scratch}/index"}
            self._git("read-tree", parent or "--empty", env=index)
            self._git("update-index", "-z", "--index-info", stdin="".join(f"{line}\0" for line in lines).encode(), env=index)
            tree = self._git("write-tree", env=index).decode().strip()
        return self._commit_tree(reference, tree, [parent] if parent else [], message)

    def merge(self, reference: str, message: str) -> str:
        """Merge a pull request, whose tree becomes that of the main branch."""
        proposed = self._git("rev-parse", reference).decode().strip()
        head = self._git("rev-parse", "refs/heads/main").decode().strip()
        tree = self._git("rev-parse", f"{proposed}^{{tree}}").decode().strip()
        return self._commit_tree("refs/heads/main", tree, [head, proposed], message)

    def _commit_tree(self, reference: str, tree: str, parents: Iterable[str], message: str) -> str:
        ancestry = [option for parent in parents for option in ("-p", parent)]
        commit = self._git("commit-tree", tree, *ancestry, stdin=message.encode()).decode().strip()
        self._git("update-ref", reference, commit)
        return commit

    def history(self, commit: str) -> list[LoggedCommit]:
        """A commit and its ancestors, newest first."""
        fields = "%H%x1f%cd%x1f%s%x1f%b%x1e"
        date = ["--date=format-local:%Y-%m-%dT%H:%M:%S.000Z"]
        listing = self._git("log", "--topo-order", *date, f"--format={fields}", commit, env={"TZ": "UTC"}).decode()
        parts = [line.strip("\n").split("\x1f") for line in listing.split("\x1e") if line.strip()]
        return [LoggedCommit(name, date, title, message.strip()) for name, date, title, message in parts]

    def open_discussion(self, title: str) -> dict[str, Any]:
        """A new pull request."""
        number = 1 + len(list(self._discussions.glob("*.json")))
        date = "2026-01-01T00:00:00.000Z"
        opened = {"num": number, "title": title, "status": "open", "isPullRequest": True, "createdAt": date}
        opened |= {"author": {"name": "contributor"}, "repo": {"name": self.folder.name, "type": "model"}, "events": []}
        opened |= {"changes": {"base": "refs/heads/main"}, "filesWithConflicts": []}
        self.write_discussion(opened)
        return opened

    def discussion(self, number: int) -> dict[str, Any] | None:
        path = self._discussions / f"{number}.json"
        return json.loads(path.read_text()) if path.is_file() else None

    def write_discussion(self, discussion: Mapping[str, Any]) -> None:
        self._discussions.mkdir(exist_ok=True)
        (self._discussions / f"{discussion['num']}.json").write_text(json.dumps(discussion))

    @property
    def _discussions(self) -> Path:
        return self.folder / ".git" / "discussions"

    def references(self, kind: str) -> dict[str, str]:
        """Names below ``refs/<kind>`` with their commits (an annotated tag counts as the commit that it names)."""
        found = self._git("for-each-ref", "--format=%(refname) %(objectname) %(*objectname)", f"refs/{kind}/").decode()
        lines = [line.split() for line in found.splitlines()]
        return {name.removeprefix(f"refs/{kind}/"): commits[-1] for name, *commits in lines}

    def tag(self, name: str, commit: str, message: str | None) -> None:
        annotation = ["--annotate", "--message", message] if message else []
        self._git("tag", *annotation, "--end-of-options", name, commit)

    def delete_tag(self, name: str) -> None:
        self._git("update-ref", "-d", f"refs/tags/{name}")

    def lfs_object(self, sha256: str) -> Path:
        return self.folder / ".git" / "lfs" / "objects" / sha256[:2] / sha256[2:4] / sha256

    def store(self, data: bytes) -> None:
        """Add an LFS object."""
        path = self.lfs_object(hashlib.sha256(data).hexdigest())
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def _entry(self, prefix: str, line: str) -> Entry:
        """Read one line of ``git ls-tree -l``."""
        attributes, name = line.split("\t")
        _, kind, oid, size = attributes.split()
        path = prefix + name
        if kind == "tree":
            return Entry(path, oid, 0, is_folder=True)
        found = POINTER.fullmatch(self._blob(oid)) if int(size) < POINTER_MAX_SIZE else None
        if found is None:
            return Entry(path, oid, int(size))
        pointer = Pointer(found["sha256"].decode(), int(found["size"]))
        return Entry(path, oid, pointer.size, pointer=pointer)

    def _blob(self, oid: str) -> bytes:
        return self._git("cat-file", "blob", oid)

    def _write_blob(self, data: bytes) -> str:
        return self._git("hash-object", "-w", "--stdin", stdin=data).decode().strip()

    def _ask(self, *arguments: str) -> bytes | None:
        """Run git; None where its answer is no."""
        finished = self._run(arguments, b"", {})
        return finished.stdout if finished.returncode == 0 else None

    def _git(self, *arguments: str, stdin: bytes = b"", env: Mapping[str, str] | None = None) -> bytes:
        finished = self._run(arguments, stdin, env or {})
        finished.check_returncode()
        return finished.stdout

    def _run(self, arguments: Iterable[str], stdin: bytes, env: Mapping[str, str]) -> subprocess.CompletedProcess[bytes]:
        # nothing of the git settings of the person who runs the tests
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        settings = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
        for role in ("AUTHOR", "COMMITTER"):
            settings |= {f"GIT_{role}_NAME": "contract server", f"GIT_{role}_EMAIL": "contract@localhost"}
        return subprocess.run(
            ["git", "-C", str(self.folder), *arguments],
            input=stdin,
            capture_output=True,
            env=inherited | settings | dict(env),
        )
