"""The only module that talks to the Hugging Face Hub (huggingface_hub is imported on the first call)."""

from __future__ import annotations

import os
import re
import tempfile
import threading
from collections.abc import Callable
from typing import Any

from deepcr_zoo.errors import HubError, HubUnreachableError, SourceError, UsageError
from deepcr_zoo.registry import HubPin

PATIENCE_S = 1.5
"""Patience with a silent Hub, unless DEEPCR_ZOO_HUB_TIMEOUT says otherwise: the client would retry for more than 20 s."""

_WAY_OUT = "name another --source (or a mirror with --from), or update deepcr-zoo"


def download(pin: HubPin, filename: str) -> bytes:
    """Fetch one file of a repository at a full commit; the caller must check the bytes.

    The endpoint is ``HF_ENDPOINT`` and the token ``HF_TOKEN`` (or the one stored by the Hub's own login).

    Raises
    ------
    HubUnreachableError
        If the Hub does not answer within `PATIENCE_S`, breaks off, or offline mode is on.
    HubError
        If the Hub refuses, or does not have the repository, commit or file.
    """
    import huggingface_hub

    if huggingface_hub.is_offline_mode():
        raise HubUnreachableError("the Hub is switched off (HF_HUB_OFFLINE)")
    endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/") or None  # the client would keep the slash, and get 404
    api = huggingface_hub.HfApi(endpoint=endpoint, library_name="deepcr-zoo")
    patience = _patience()
    with tempfile.TemporaryDirectory(prefix="deepcr-zoo-") as scratch:

        def probe_and_read() -> bytes:
            _within(patience, lambda: _probe(api, pin, patience))
            return _read(api, pin, filename, scratch)

        return _translated(probe_and_read, pin, filename, api.endpoint)


def _patience() -> float:
    text = os.environ.get("DEEPCR_ZOO_HUB_TIMEOUT", str(PATIENCE_S))
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"DEEPCR_ZOO_HUB_TIMEOUT is {text!r}: expected a number of seconds") from None


def _probe(api: Any, pin: HubPin, patience: float) -> None:
    """Ask for the commit, which fails at once where a download would be tried again and again."""
    from huggingface_hub import errors
    from huggingface_hub.utils import httpx  # type: ignore[attr-defined]

    try:
        api.model_info(pin.repo, revision=pin.commit, timeout=patience)
    except errors.HfHubHTTPError:
        raise
    except httpx.TimeoutException:
        raise _silence(patience) from None  # the client and the thread that waits for it may give up in either order
    except (KeyError, TypeError, ValueError) as error:
        # a captive portal's page, for one
        raise OSError(f"its answer is not that of a Hub ({type(error).__name__}: {error})") from None


def _read(api: Any, pin: HubPin, filename: str, scratch: str) -> bytes:
    def read() -> bytes:
        # a scratch cache, so that bytes that turn out to be wrong are kept nowhere
        path = api.hf_hub_download(pin.repo, filename, revision=pin.commit, cache_dir=scratch)
        with open(path, "rb") as file:
            return file.read()

    try:
        return read()
    except OSError as error:
        if type(error) is not OSError or error.errno is not None:
            raise
        return read()  # the client's bare OSError: fewer bytes than announced, which may be an accident on the way


def _within(seconds: float, call: Callable[[], None]) -> None:
    """Run `call` in a thread, because no client timeout covers a name lookup that hangs."""
    failure: list[BaseException] = []

    def work() -> None:
        try:
            call()
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise _silence(seconds)
    if failure:
        raise failure[0]


def _silence(patience: float) -> TimeoutError:
    return TimeoutError(f"no answer within {patience:g} s (DEEPCR_ZOO_HUB_TIMEOUT changes that)")


def _translated(call: Callable[[], bytes], pin: HubPin, filename: str, endpoint: str) -> bytes:
    """Run `call` and turn the client's exceptions into ours, which never show a password in the endpoint."""
    from huggingface_hub import errors
    from huggingface_hub.utils import httpx  # type: ignore[attr-defined]

    shown = _without_password(endpoint)
    try:
        return call()
    except errors.HfHubHTTPError as error:
        raise _refusal(error, pin, filename, shown) from None
    # LocalEntryNotFoundError is among the OSErrors: the client got no usable answer, which says nothing about the file
    except (httpx.RequestError, httpx.InvalidURL, OSError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise HubUnreachableError(f"{shown} cannot be used: {reason.replace(endpoint, shown)}") from None


def _refusal(error: Exception, pin: HubPin, filename: str, endpoint: str) -> SourceError:
    from huggingface_hub import errors

    where = f"{endpoint}/{pin.repo}"
    status = getattr(getattr(error, "response", None), "status_code", None)
    match error:
        case errors.GatedRepoError():
            return HubError(f"{where} is gated: accept its terms in a browser and set HF_TOKEN to a token of that account")
        case errors.RepositoryNotFoundError():
            return HubError(f"{where} does not exist, or is private: set HF_TOKEN to a token that may read it")
        case errors.RevisionNotFoundError():
            return HubError(f"{where} has no commit {pin.commit}, its history was rewritten: {_WAY_OUT}")
        case errors.EntryNotFoundError():
            return HubError(f"{where} has no file {filename} at commit {pin.commit}: {_WAY_OUT}")
    if status in (401, 403):
        return HubError(f"{where} refused the request ({status}): check HF_TOKEN")
    return HubUnreachableError(f"{endpoint} answered with status {status}")


def _without_password(endpoint: str) -> str:
    return re.sub(r"(?<=://)[^/@]*@", "", endpoint)
