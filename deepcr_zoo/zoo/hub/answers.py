"""Answers of the Hub, read without its client, which would take names of files, sizes and addresses from them."""

from __future__ import annotations

from functools import partial
from typing import Any
from urllib.parse import quote

from pydantic import ConfigDict, Field, ValidationError

from deepcr_zoo._version import __version__
from deepcr_zoo.documents import Bounded
from deepcr_zoo.zoo import incoming
from deepcr_zoo.zoo.hub.connection import patience, within
from deepcr_zoo.zoo.networksettings import hub_endpoint

MOST_REDIRECTS = 5
HOP_S = 15.0  # for the head of each answer, and between two pieces of a body
MOST_JSON_BYTES = 20_000_000  # a registry of 10,000 files has about 3 million


def read_file(api: Any, repository: str, commit: str, filename: str, size: int, *, first: bool) -> bytes:
    """Return a file of at most `size` bytes; `first`: the endpoint must answer within the user's patience."""
    path = f"{quote(repository)}/resolve/{quote(commit, safe='')}/{quote(filename)}"
    return _read(api, path, size, filename, patience() if first else HOP_S, commit)


class ListedLfs(Bounded):
    model_config = ConfigDict(strict=True)

    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class ListedFile(Bounded):
    """A file in the list of a commit; other keys are left alone."""

    model_config = ConfigDict(strict=True)

    rfilename: str
    size: int | None = Field(default=None, ge=0)
    blob: str | None = Field(default=None, alias="blobId", pattern="^[0-9a-f]{40}$")
    lfs: ListedLfs | None = None


class ListedCommit(Bounded):
    """What the Hub says of a commit of a repository."""

    model_config = ConfigDict(strict=True)

    sha: str = Field(pattern="^[0-9a-f]{40}$")
    siblings: list[ListedFile] = Field(default_factory=list)


def read_commit(api: Any, repository: str, commit: str | None = None) -> ListedCommit:
    """Return the files of a commit with their sizes and hashes; without one, the newest of the main branch."""
    path = f"api/models/{quote(repository)}" + ("" if commit is None else f"/revision/{quote(commit, safe='')}?blobs=true")
    data = _read(api, path, MOST_JSON_BYTES, f"the list of {repository}", patience())
    try:
        found = ListedCommit.model_validate_json(data)
    except ValidationError:
        raise OSError("its answer is not that of a Hub") from None
    if commit not in (None, found.sha):
        raise OSError(f"it was asked for commit {commit} and answers with {found.sha}")
    return found


class ListedTag(Bounded):
    model_config = ConfigDict(strict=True)

    name: str
    commit: Any = Field(alias="targetCommit")


class ListedRefs(Bounded):
    """The references of a repository; other kinds than tags are left alone."""

    model_config = ConfigDict(strict=True)

    tags: list[ListedTag] = Field(default_factory=list)


def read_tags(api: Any, repository: str) -> dict[str, str]:
    """Return the commits of a repository's tags."""
    data = _read(api, f"api/models/{quote(repository)}/refs", MOST_JSON_BYTES, f"the list of {repository}", patience())
    try:
        found = ListedRefs.model_validate_json(data)
    except ValidationError:
        raise OSError("its answer is not that of a Hub") from None
    return {tag.name: incoming.commit_id(tag.commit) for tag in found.tags}


def _read(api: Any, path: str, most: int, what: str, seconds: float, commit: str | None = None) -> bytes:
    """Return the body of an answer, not of another commit; statuses of errors raise the exceptions of the client."""
    response = _open(api, path, seconds, commit)
    try:
        # as they arrive: chunks of a size would be waited for
        return incoming.whole(response.headers, response.iter_raw(), most, what)
    finally:
        response.close()


def _open(api: Any, path: str, seconds: float, commit: str | None) -> Any:
    """Ask the endpoint, follow it elsewhere, and return an open answer; `guard` keeps the token at the endpoint."""
    from huggingface_hub import utils

    from deepcr_zoo.zoo.hub.guard import BOUNDED, guard_sessions, is_at

    guard_sessions()  # it may be another one since the client was made
    session: Any = utils.get_session()  # type: ignore[attr-defined]
    endpoint = hub_endpoint()
    address = utils.httpx.URL(f"{api.endpoint}/{path}")  # type: ignore[attr-defined]
    headers = within(seconds, _headers)  # the client may ask for a new token first
    is_of_another_commit = False
    for hop in range(MOST_REDIRECTS + 1):
        request = session.build_request(
            "GET", address, headers=headers, timeout=max(HOP_S, seconds), extensions={BOUNDED: True}
        )
        ask = partial(session.send, request, stream=True, follow_redirects=False)
        response = within(seconds if hop == 0 else HOP_S, ask)
        # a mirror may not say it; whoever asks hashes what it sends
        is_of_another_commit |= is_at(address, endpoint) and response.headers.get("X-Repo-Commit", commit) != commit
        if not response.has_redirect_location:
            break
        response.close()
        address = address.join(response.headers["Location"])
        if address.scheme != "https" and not endpoint.url.startswith(f"{address.scheme}://"):
            raise OSError("it leads to an address without https")
    is_page = response.headers.get("Content-Type", "").startswith("text/html")  # of a login, or of one in between
    if response.status_code == 200 and not (commit and (is_of_another_commit or is_page)):
        return response
    response.close()
    _raise_for_status(response)
    raise OSError("its answer is not that of a Hub")


def _headers() -> dict[str, str]:
    """Return the User-Agent and the token, if any; the client's own headers hold more, and cost a request."""
    from huggingface_hub import constants, get_token

    from deepcr_zoo.zoo.hub.guard import LIBRARY

    token = None if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN else get_token()
    return {"User-Agent": f"{LIBRARY}/{__version__}"} | ({} if token is None else {"Authorization": f"Bearer {token}"})


def _raise_for_status(response: Any) -> None:
    """Raise the client's exception for a status of an error; the body of the answer, which could be endless, is not read."""
    from huggingface_hub.utils import hf_raise_for_status, httpx  # type: ignore[attr-defined]

    kept = {name: response.headers[name] for name in ("X-Error-Code", "X-Error-Message") if name in response.headers}
    hf_raise_for_status(httpx.Response(response.status_code, headers=kept, request=response.request))
