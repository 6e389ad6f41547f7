"""Guard of the session and the loggers that the Hub's client shares with other programs.

Only the requests of deepcr-zoo are concerned, and those that renew a login: their secrets go to the endpoint's host alone,
they accept no compressed answers, and answers are bounded (`incoming`). What the client logs while one is under way shows no
passwords, no queries of addresses, such as the signatures of uploads, and no control characters.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from huggingface_hub.utils import httpx  # type: ignore[attr-defined]  # its name differs with the client's version

from deepcr_zoo.zoo import incoming
from deepcr_zoo.zoo.networksettings import Address, hub_endpoint
from deepcr_zoo.zoo.safelogs import shown_safely

LIBRARY = "deepcr-zoo"
"""Start of the User-Agent that the client gives to these requests, in whatever thread."""

BOUNDED = "deepcr_zoo_bounded"
"""Extension of a request whose answer is bounded by whoever reads it."""

LONGEST_SILENCE_S = 60.0
LONGEST_WAIT_S = 60.0
"""Longest wait that the Hub may ask for; the client itself would sleep for any time."""

LOGIN = "/oauth/token"
"""End of the address where the client renews a login, in nobody's name and with the secrets in the body of the request."""

_RENEWS = "deepcr_zoo_renews"
"""Extension of such a request, which follows it where it is redirected."""

LOGGERS = ("huggingface_hub", "httpx", "httpcore")
"""The last two log each request at INFO and DEBUG."""

_NAMED = "hf_hub/"  # in the User-Agent of all that the client sends in the name of a program
_lock = threading.Lock()
_uploads: list[float] = []
"""When each upload that is under way is given up, in `time.monotonic`."""

SECRETS = ("Authorization", "Cookie", "Proxy-Authorization")


def guard_sessions() -> None:
    """Watch the session of the client, and each that it opens in its place: it does so after a refused connection."""
    from huggingface_hub.utils import _http

    # the client has no public way to ask for it, and closes the session where another one is set
    factory = _http._GLOBAL_CLIENT_FACTORY
    if not isinstance(factory, _Guarding):
        _http._GLOBAL_CLIENT_FACTORY = _Guarding(factory)
    guard(_http.get_session())


@dataclass(frozen=True)
class _Guarding:
    """What makes sessions that are watched from their first request on."""

    factory: Callable[[], Any]

    def __call__(self) -> Any:
        session = self.factory()
        guard(session)
        return session


def guard(session: Any) -> None:
    """Watch the requests of a session, once."""
    for kind, hook in (("request", _on_request), ("response", _on_response)):
        if hook not in session.event_hooks[kind]:
            session.event_hooks[kind].append(hook)


def _on_request(request: Any) -> None:
    if request.url.path.endswith(LOGIN) and not _is_named(request):
        request.extensions = {**request.extensions, _RENEWS: True}
    if not _is_ours(request):
        return
    incoming.check_time()
    if not _is_named(request) and time.monotonic() > max(_uploads, default=math.inf):  # in threads of the client's pool
        raise TimeoutError("the upload was given up")
    request.headers["Accept-Encoding"] = "identity"
    endpoint = hub_endpoint()
    if not endpoint.may_lead_to(request.url.scheme):
        raise OSError("it leads to an address without https")
    if not is_at(request.url, endpoint):
        if _RENEWS in request.extensions:
            raise OSError("it leads the login to another host")
        for header in SECRETS:
            request.headers.pop(header, None)
    elif endpoint.basic is not None:
        request.headers["Authorization"] = endpoint.basic
    timeouts = request.extensions.get("timeout") or {}
    limits = {kind: timeouts.get(kind) or LONGEST_SILENCE_S for kind in ("connect", "read", "write", "pool")}
    request.extensions = {**request.extensions, "timeout": limits}


def _on_response(response: Any) -> None:
    if not _is_ours(response.request):
        return
    incoming.check_announced(response.headers, incoming.LARGEST_SIZE, "its answer")
    response.headers.pop("RateLimit", None)  # the client would wait as long as it says
    response.headers.pop("X-HF-Warning", None)  # the client would log it as it is
    seconds = incoming.seconds_to_wait(response.headers.get("Retry-After")) if response.status_code in (429, 503) else None
    if seconds is not None and seconds > LONGEST_WAIT_S:
        raise OSError(f"it asks to come back in {seconds:.0f} s ({response.status_code})")
    if BOUNDED not in response.request.extensions:
        response.stream = _Bounded(response.stream)


def _is_ours(request: Any) -> bool:
    """True for our requests; the client uploads bytes and renews a login in nobody's name, perhaps in other threads."""
    agent = request.headers.get("User-Agent", "")
    is_in_nobodys_name = not _is_named(request) and (bool(_uploads) or _RENEWS in request.extensions)
    return bool(agent.startswith(LIBRARY)) or is_in_nobodys_name


def _is_named(request: Any) -> bool:
    return _NAMED in request.headers.get("User-Agent", "")


@contextmanager
def uploading(without_secrets: Callable[[str], str]) -> Iterator[None]:
    """Take requests in nobody's name for ours; it belongs into the thread that uploads, which may outlive its command."""
    given_up_at = incoming.deadline()
    with _lock:
        _uploads.append(given_up_at)
    try:
        with shown_safely(LOGGERS, without_secrets):
            yield
    finally:
        with _lock:
            _uploads.remove(given_up_at)


def is_at(url: Any, endpoint: Address) -> bool:
    """True for the endpoint's own host and port, also where it redirects from http to https."""
    here = httpx.URL(endpoint.url)
    if url.host != here.host:
        return False
    return (url.scheme, url.port) == (here.scheme, here.port) or (here.scheme == "http" and _is_default_https(url, here))


def _is_default_https(url: Any, here: Any) -> bool:
    return bool(url.scheme == "https" and url.port in (None, 443) and here.port in (None, 80))


class _Bounded(httpx.SyncByteStream):
    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        return incoming.bounded(self._stream, incoming.MOST_ANSWER_BYTES, "its answer")

    def close(self) -> None:
        self._stream.close()
