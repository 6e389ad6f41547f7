"""A connection to the Hub: endpoint, patience, and the client's exceptions in our words.

The endpoint is ``HF_ENDPOINT`` and the token ``HF_TOKEN`` (or the one stored by the Hub's own login). Every request starts
at the endpoint; the client leaves the token behind where an answer sends it to another host.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from deepcr_zoo.errors import HubConflictError, HubError, HubUnreachableError, SourceError, UsageError

PATIENCE_S = 1.5
"""Patience with a silent Hub, unless DEEPCR_ZOO_HUB_TIMEOUT says otherwise: the client would retry for more than 20 s."""

WAY_OUT = "name another --source (or a mirror with --from), or update deepcr-zoo"
"""For what a download asks for and the Hub does not have."""

_TOKEN = re.compile(r"\bhf_\w+")
_TOKEN_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")

ResultT = TypeVar("ResultT")


@dataclass(frozen=True)
class Asked:
    """What a request is about, for the words of an error.

    Attributes
    ----------
    repo : str
    commit, filename : str or None
    way_out : str
        What to do where the Hub does not have it.
    """

    repo: str
    commit: str | None = None
    filename: str | None = None
    way_out: str = WAY_OUT


def client() -> Any:
    """The Hub's own client.

    Raises
    ------
    HubUnreachableError
        In offline mode.
    """
    import huggingface_hub

    if huggingface_hub.is_offline_mode():
        raise HubUnreachableError("the Hub is switched off (HF_HUB_OFFLINE)")
    endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/") or None  # the client would keep the slash, and get 404
    return huggingface_hub.HfApi(endpoint=endpoint, library_name="deepcr-zoo")


def without_bars() -> None:
    """Keep the client from drawing bars, where nobody would see them."""
    from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]

    disable_progress_bars()


def shown_endpoint(api: Any) -> str:
    """The endpoint's address without a password."""
    return without_secrets(api.endpoint)


def without_secrets(text: str) -> str:
    """A text without passwords in addresses, and without tokens."""
    for token in filter(None, (os.environ.get(name) for name in _TOKEN_VARIABLES)):
        text = text.replace(token, "...")
    return _TOKEN.sub("hf_...", re.sub(r"(?<=://)[^/@\s]*@", "", text))


def patience() -> float:
    """Seconds that a silent Hub is waited for.

    Raises
    ------
    UsageError
        If ``DEEPCR_ZOO_HUB_TIMEOUT`` is no number.
    """
    text = os.environ.get("DEEPCR_ZOO_HUB_TIMEOUT", str(PATIENCE_S))
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"DEEPCR_ZOO_HUB_TIMEOUT is {text!r}: expected a number of seconds") from None


def probe(call: Callable[[float], ResultT]) -> ResultT:
    """Make a first request, given the patience in seconds: it fails at once where others would be tried again and again."""
    seconds = patience()
    return _within(seconds, lambda: _first(call, seconds))


def _first(call: Callable[[float], ResultT], seconds: float) -> ResultT:
    from huggingface_hub import errors
    from huggingface_hub.utils import httpx  # type: ignore[attr-defined]

    try:
        return call(seconds)
    except errors.HfHubHTTPError:
        raise
    except httpx.TimeoutException:
        raise _silence(seconds) from None  # the client and the thread that waits for it may give up in either order
    except (KeyError, TypeError, ValueError) as error:
        # a captive portal's page, for one
        raise OSError(f"its answer is not that of a Hub ({type(error).__name__}: {error})") from None


def _within(seconds: float, call: Callable[[], ResultT]) -> ResultT:
    """Run `call` in a thread, because no client timeout covers a name lookup that hangs."""
    results: list[ResultT] = []
    failure: list[BaseException] = []

    def work() -> None:
        try:
            results.append(call())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise _silence(seconds)
    if failure:
        raise failure[0]
    return results[0]


def _silence(seconds: float) -> TimeoutError:
    return TimeoutError(f"no answer within {seconds:g} s (DEEPCR_ZOO_HUB_TIMEOUT changes that)")


def translated(call: Callable[[], ResultT], asked: Asked, api: Any) -> ResultT:
    """Run `call` and turn the client's exceptions into ours, which never show a password or a token.

    Raises
    ------
    HubUnreachableError
        If the Hub does not answer, or breaks off.
    HubConflictError
        If somebody else has changed the repository in between.
    HubError
        If the Hub refuses, or does not have the repository, commit or file.
    """
    from huggingface_hub import errors
    from huggingface_hub.utils import httpx  # type: ignore[attr-defined]

    try:
        return call()
    except errors.HfHubHTTPError as error:
        raise _refusal(error, asked, shown_endpoint(api)) from None
    # LocalEntryNotFoundError is among the OSErrors: the client got no usable answer, which says nothing about the file
    except (httpx.RequestError, httpx.InvalidURL, OSError) as error:
        raise HubUnreachableError(f"{shown_endpoint(api)} cannot be used: {_reason(error)}") from None
    except RuntimeError as error:  # around whatever stopped the upload of a large file, by LFS or by Xet
        if isinstance(error.__cause__, errors.HfHubHTTPError):
            raise _refusal(error.__cause__, asked, shown_endpoint(api)) from None
        reason = _reason(error.__cause__ or error)
        raise HubUnreachableError(f"{shown_endpoint(api)}: a large file could not be moved: {reason}") from None
    except ValueError as error:  # what the client makes of metadata that the Hub refuses, and of pages in place of answers
        raise HubError(f"{shown_endpoint(api)}/{asked.repo} refused the request: {_reason(error)}") from None


def _reason(error: BaseException) -> str:
    return without_secrets(" ".join(str(error).split()) or type(error).__name__)


def _refusal(error: Exception, asked: Asked, endpoint: str) -> SourceError:
    from huggingface_hub import errors

    where = f"{endpoint}/{asked.repo}"
    status = getattr(getattr(error, "response", None), "status_code", None)
    match error:
        case errors.GatedRepoError():
            return HubError(f"{where} is gated: accept its terms in a browser and set HF_TOKEN to a token of that account")
        case errors.RepositoryNotFoundError():
            return HubError(f"{where} does not exist, or is private: set HF_TOKEN to a token that may read it")
        case errors.RevisionNotFoundError():
            return HubError(f"{where} has no commit {asked.commit}, its history was rewritten: {asked.way_out}")
        case errors.EntryNotFoundError():
            return HubError(f"{where} has no file {asked.filename} at commit {asked.commit}: {asked.way_out}")
    if status in (401, 403):
        return HubError(f"{where} refused the request ({status}): check HF_TOKEN")
    if status in (409, 412):
        return HubConflictError(f"{where} has changed in between ({status}): run the command again")
    if status is not None and 400 <= status < 500:
        return HubError(f"{where} refused the request ({status}): {_reason(error)}")
    return HubUnreachableError(f"{endpoint} answered with status {status}")
