"""A repository on the Hub: what is in it, and how something new gets there."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from deepcr_zoo.errors import HubError
from deepcr_zoo.zoo.hub.connection import Asked, client, probe, shown_endpoint, translated

ResultT = TypeVar("ResultT")


@dataclass(frozen=True)
class RemoteFile:
    """A file of a commit.

    Attributes
    ----------
    size : int or None
        Bytes.
    blob : str or None
        Hash that git has for it.
    sha256 : str or None
        Of its bytes, where LFS holds them.
    """

    size: int | None
    blob: str | None
    sha256: str | None

    def holds(self, data: bytes) -> bool:
        """Whether these are its bytes."""
        if self.size != len(data):
            return False
        if self.sha256 is not None:
            return self.sha256 == hashlib.sha256(data).hexdigest()
        return self.blob == hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


@dataclass(frozen=True)
class Commit:
    """A commit of the main branch, or of a pull request.

    Attributes
    ----------
    id : str
        Full hash.
    title : str
    url : str or None
        Of the pull request that came with it.
    """

    id: str
    title: str
    url: str | None = None


@dataclass(frozen=True)
class PullRequest:
    """A pull request.

    Attributes
    ----------
    address : str
    is_open : bool
        Whether it waits to be merged.
    merged_as : str or None
        Commit of the main branch that brought it there.
    """

    address: str
    is_open: bool
    merged_as: str | None


class HubRepository:
    """A repository of models or of registry files; every method is one or two requests.

    All methods raise `HubUnreachableError` and `HubError`.

    Attributes
    ----------
    name : str
        ORG/NAME.
    address : str
        For people.
    """

    def __init__(self, name: str) -> None:
        self._api: Any = client()
        self.name = name
        self.address = f"{shown_endpoint(self._api)}/{name}"

    def exists(self) -> bool:
        """Whether it is there and may be read; asked first, because it fails at once where nobody answers."""

        def ask() -> bool:
            from huggingface_hub import errors

            try:
                probe(lambda seconds: self._api.model_info(self.name, timeout=seconds))
            except errors.RepositoryNotFoundError:
                return False
            return True

        return self._translated(ask)

    def is_private(self) -> bool:
        """Whether only its owners may see it."""
        return bool(self._translated(lambda: self._api.model_info(self.name)).private)

    def create(self, private: bool) -> None:
        """Make it, if it is not there."""
        self._translated(lambda: self._api.create_repo(self.name, private=private, exist_ok=True))

    def head(self) -> str:
        """The newest commit of the main branch; fails at once where nobody answers."""
        return str(self._translated(lambda: probe(lambda seconds: self._api.model_info(self.name, timeout=seconds))).sha)

    def files(self, commit: str) -> dict[str, RemoteFile]:
        """Every file of a commit."""
        found = self._translated(
            lambda: self._api.model_info(self.name, revision=commit, files_metadata=True), commit
        ).siblings
        return {
            file.rfilename: RemoteFile(file.size, file.blob_id, None if file.lfs is None else file.lfs.sha256)
            for file in found or ()
        }

    def holds(self, commit: str, files: Mapping[str, bytes]) -> bool:
        """Whether a commit has all these files with these bytes."""
        found = self.files(commit)
        return all(path in found and found[path].holds(data) for path, data in files.items())

    def commits(self) -> list[Commit]:
        """Those of the main branch, newest first."""
        return [Commit(one.commit_id, one.title) for one in self._translated(lambda: self._api.list_repo_commits(self.name))]

    def tags(self) -> dict[str, str]:
        """Commits by tag."""
        references = self._translated(lambda: self._api.list_repo_refs(self.name))
        return {tag.name: tag.target_commit for tag in references.tags}

    def pull_requests(self) -> dict[int, str]:
        """Newest commit of every pull request, open or not, by number."""
        references = self._translated(lambda: self._api.list_repo_refs(self.name, include_pull_requests=True))
        return {int(one.ref.rpartition("/")[2]): one.target_commit for one in references.pull_requests or ()}

    def pull_request(self, number: int) -> PullRequest:
        """What has become of a pull request."""
        found = self._translated(lambda: self._api.get_discussion_details(self.name, number))
        address = f"{self.address}/discussions/{number}"
        return PullRequest(address, found.status in ("open", "draft"), found.merge_commit_oid)

    def commit(
        self,
        files: Mapping[str, bytes],
        title: str,
        *,
        parent: str,
        without: Collection[str] = (),
        pull_request: bool = False,
    ) -> Commit:
        """Add or replace files in one commit; an interrupted upload goes on where it ended.

        Parameters
        ----------
        files : mapping of str to bytes
        title : str
        parent : str
            Commit that it follows.
        without : collection of str
            Files that it removes.
        pull_request : bool
            Whether it is proposed, in place of becoming part of the main branch.

        Raises
        ------
        HubConflictError
            If the main branch is no longer at `parent`.
        """
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        operations = [
            *(CommitOperationAdd(path, data) for path, data in files.items()),
            *(CommitOperationDelete(path) for path in without),
        ]
        made = self._translated(
            lambda: self._api.create_commit(
                self.name, operations, commit_message=title, parent_commit=parent, create_pr=pull_request
            )
        )
        return Commit(str(made.oid), title, made.pr_url)

    def tag(self, name: str, commit: str) -> None:
        """Name a commit, for good.

        Raises
        ------
        HubConflictError
            If there is such a tag.
        """
        self._translated(lambda: self._api.create_tag(self.name, tag=name, revision=commit, exist_ok=False), commit)

    def _translated(self, call: Callable[[], ResultT], commit: str | None = None) -> ResultT:
        return translated(call, Asked(self.name, commit, way_out="look at its history in a browser"), self._api)


def whoami() -> str:
    """The account that the token belongs to.

    Raises
    ------
    HubError
        If there is no token, or the Hub does not know it.
    """
    api = client()
    from huggingface_hub import get_token

    if get_token() is None:
        raise HubError(
            f"{shown_endpoint(api)}: nobody is logged in: set HF_TOKEN to a token that may write, or run 'hf auth login'"
        )
    return str(translated(lambda: probe(lambda _: api.whoami()["name"]), Asked("api/whoami-v2"), api))
