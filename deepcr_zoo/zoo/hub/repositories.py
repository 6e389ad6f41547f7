"""Repositories on the Hub: reading, commits, tags and pull requests."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from deepcr_zoo.errors import HubError
from deepcr_zoo.zoo import incoming
from deepcr_zoo.zoo.hub.answers import read_commit, read_tags
from deepcr_zoo.zoo.hub.connection import (
    QUESTION_S,
    HubRequest,
    ask,
    client,
    patience,
    probe,
    shown_endpoint,
    translated,
    without_secrets,
)

REPEATS = 2  # of the time that the bytes of a commit may take: the client sends again what has broken off

ResultT = TypeVar("ResultT")


@dataclass(frozen=True)
class RemoteFile:
    """Size and hashes of a file of a commit: that of git, and that of LFS for large files."""

    size: int | None
    blob: str | None
    sha256: str | None

    def holds(self, data: bytes) -> bool:
        """True if these are the bytes of the file."""
        if self.size != len(data):
            return False
        if self.sha256 is not None:
            return self.sha256 == hashlib.sha256(data).hexdigest()
        return self.blob == hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


@dataclass(frozen=True)
class Commit:
    """A commit of the main branch, or of a pull request, which has an address."""

    id: str
    title: str
    pull_request: str | None = None


@dataclass(frozen=True)
class PullRequest:
    """A pull request; `merged_as` is the commit of the main branch that merged it."""

    address: str
    is_open: bool
    merged_as: str | None


class HubRepository:
    """A repository of models or registry files; `name` is ORG/NAME, `address` is for people.

    Every method raises `HubUnreachableError` or `HubError`.
    """

    def __init__(self, name: str) -> None:
        self._api: Any = client()
        self.name = name
        self.address = f"{shown_endpoint(self._api)}/{name}"

    def exists(self) -> bool:
        """True if the repository exists and may be read; not retried if the Hub does not answer."""

        def found() -> bool:
            from huggingface_hub import errors

            try:
                probe(lambda: self._api.model_info(self.name, timeout=patience()))
            except errors.RepositoryNotFoundError:
                return False
            return True

        return self._translated(found)

    def is_private(self) -> bool:
        return bool(self._asked(lambda: self._api.model_info(self.name)).private)

    def create(self, private: bool) -> None:
        """Create the repository if it does not exist."""
        self._asked(lambda: self._api.create_repo(self.name, private=private, exist_ok=True))

    def head(self) -> str:
        """Return the newest commit of the main branch; not retried if the Hub does not answer."""
        return self._translated(lambda: read_commit(self._api, self.name)).sha

    def files(self, commit: str) -> dict[str, RemoteFile]:
        """Return every file of a commit, by path."""
        found = self._translated(lambda: read_commit(self._api, self.name, commit), commit)
        return {
            file.rfilename: RemoteFile(file.size, file.blob, None if file.lfs is None else file.lfs.sha256)
            for file in found.siblings
        }

    def holds(self, commit: str, files: Mapping[str, bytes]) -> bool:
        """True if a commit has all these files with these bytes."""
        found = self.files(commit)
        return all(path in found and found[path].holds(data) for path, data in files.items())

    def commits(self) -> list[Commit]:
        """Return the commits of the main branch, newest first."""

        def read() -> list[Commit]:
            found = self._api.list_repo_commits(self.name)
            return [Commit(incoming.commit_id(one.commit_id), str(one.title)) for one in found]

        return self._asked(read)

    def tags(self) -> dict[str, str]:
        """Return commits by tag."""
        return self._asked(lambda: read_tags(self._api, self.name))

    def pull_requests(self) -> dict[int, str]:
        """Return the newest commit of every pull request, open or closed, by number."""

        def read() -> dict[int, str]:
            found = self._api.list_repo_refs(self.name, include_pull_requests=True).pull_requests or ()
            return {int(one.ref.rpartition("/")[2]): incoming.commit_id(one.target_commit) for one in found}

        return self._asked(read)

    def pull_request(self, number: int) -> PullRequest:
        """Return the state of a pull request."""

        def read() -> PullRequest:
            found = self._api.get_discussion_details(self.name, number)
            merged_as = None if found.merge_commit_oid is None else incoming.commit_id(found.merge_commit_oid)
            return PullRequest(self._address_of(number), found.status in ("open", "draft"), merged_as)

        return self._asked(read)

    def commit(
        self,
        files: Mapping[str, bytes],
        title: str,
        *,
        parent: str,
        without: Collection[str] = (),
        pull_request: bool = False,
    ) -> Commit:
        """Add or replace files in one commit on `parent`, and remove those in `without`; large files resume their upload.

        Raises `HubConflictError` if the main branch is no longer at `parent`. With `pull_request`, the commit is proposed.
        """
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        from deepcr_zoo.zoo.hub.guard import uploading

        operations: list[Any] = [CommitOperationAdd(path, data) for path, data in files.items()]
        operations += [CommitOperationDelete(path) for path in without]
        options = {"commit_message": title, "parent_commit": parent, "create_pr": pull_request}

        def make() -> Commit:
            with uploading(without_secrets):
                made = self._api.create_commit(self.name, operations, **options)
            # the client takes the number from the end of the Hub's address, the rest of which may be anything
            proposed = None if made.pr_url is None else self._address_of(int(made.pr_num))
            return Commit(incoming.commit_id(made.oid), title, proposed)

        seconds = QUESTION_S + REPEATS * incoming.longest_s(sum(map(len, files.values())))
        return self._translated(lambda: incoming.within(seconds, make))

    def tag(self, name: str, commit: str) -> None:
        """Tag a commit; an existing tag raises `HubConflictError`."""
        self._asked(lambda: self._api.create_tag(self.name, tag=name, revision=commit, exist_ok=False), commit)

    def _address_of(self, pull_request: int) -> str:
        return f"{self.address}/discussions/{pull_request}"

    def _asked(self, call: Callable[[], ResultT], commit: str | None = None) -> ResultT:
        return self._translated(lambda: ask(call), commit)

    def _translated(self, call: Callable[[], ResultT], commit: str | None = None) -> ResultT:
        return translated(call, HubRequest(self.name, commit, way_out="look at its history in a browser"), self._api)


def whoami() -> str:
    """Return the account of the token; a missing or unknown token raises `HubError`."""
    api = client()
    from huggingface_hub import get_token

    account = HubRequest("api/whoami-v2")
    if translated(lambda: probe(get_token), account, api) is None:
        where = shown_endpoint(api)
        raise HubError(f"{where}: not logged in: set HF_TOKEN to a token that may write, or run 'hf auth login'")
    return str(translated(lambda: probe(lambda: api.whoami()["name"]), account, api))
