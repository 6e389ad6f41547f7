"""Connection to the Hub: endpoint, timeout, and translation of the client's exceptions.

The endpoint is ``HF_ENDPOINT`` and the token ``HF_TOKEN`` (or the one stored by the Hub's own login). `guard` keeps the
token from other hosts.
"""

from __future__ import annotations

import errno
import math
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from configparser import ConfigParser
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote_plus

from deepcr_zoo.errors import HubConflictError, HubError, HubUnreachableError, OutputError, SourceError, UsageError
from deepcr_zoo.zoo import incoming
from deepcr_zoo.zoo.networksettings import (
    PROXY_REFUSAL,
    check_proxies,
    hub_endpoint,
    socks_advice,
    with_settings,
    without_passwords,
)
from deepcr_zoo.zoo.safelogs import shown_safely

PATIENCE_S = 1.5  # default of DEEPCR_ZOO_HUB_TIMEOUT; the client itself would retry a silent Hub for more than 20 s
LONGEST_PATIENCE_S = 3600.0
QUESTION_S = 60.0  # for all pages of an answer; the client itself would follow them without end
WAY_OUT = "name another source (or a mirror), or update deepcr-zoo"
"""Advice where a download asks for something that the Hub does not have."""

CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR")
"""Variables from which the Hub's client takes certificates."""

MOST_SHOWN = 500
"""Characters of a reason that the Hub gives."""

# from the client where an answer lacks what it expects
_LACKING = (LookupError, TypeError, AttributeError, NameError, OverflowError, RecursionError)
_DISK_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
_TOKEN = re.compile(r"\bhf_\w+")
_TOKEN_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_OIDC_ID_TOKEN")
_TOKEN_FIELDS = ("hf_token", "refresh_token")  # of the login's list of tokens
_SWITCHED_OFF = ("HF_HUB_DISABLE_TELEMETRY", "HF_HUB_DISABLE_XET")
_SETTINGS_LOCK = threading.Lock()
_settings: list[dict[str, bool]] = []
"""What they were before each call that is under way."""

ResultT = TypeVar("ResultT")


@dataclass(frozen=True)
class HubRequest:
    """Subject of a request, for error messages; `way_out` is the advice where the Hub does not have it."""

    repo: str
    commit: str | None = None
    filename: str | None = None
    way_out: str = WAY_OUT


def client() -> Any:
    """Return the Hub's own client; offline mode raises `HubUnreachableError`."""
    endpoint = hub_endpoint().url  # the client cannot be imported where it is malformed
    check_proxies(HubUnreachableError)
    import huggingface_hub

    if huggingface_hub.is_offline_mode():
        raise HubUnreachableError("the Hub is switched off (HF_HUB_OFFLINE)")
    # without a slash at the end, with which the client would get 404, and without a password, which it would log
    api = huggingface_hub.HfApi(endpoint=endpoint, library_name="deepcr-zoo")
    _check_settings(api)
    return api


def _check_settings(api: Any) -> None:
    """Raise `HubUnreachableError` if the client cannot use the proxies and certificates of the environment."""
    from huggingface_hub import utils

    try:
        utils.get_session()  # type: ignore[attr-defined]  # the one that all requests share
    except ImportError:
        raise HubUnreachableError(f"{shown_endpoint(api)} cannot be used: {socks_advice('socksio')}") from None
    except Exception as error:  # a malformed address, or certificates that cannot be read
        reason = with_settings(_reason(error), CERTIFICATES)
        raise HubUnreachableError(f"{shown_endpoint(api)} cannot be used: {reason}") from None
    from deepcr_zoo.zoo.hub.guard import guard_sessions

    guard_sessions()


def disable_progress_bars() -> None:
    hub_endpoint()
    from huggingface_hub import utils

    utils.disable_progress_bars()  # type: ignore[attr-defined]


def shown_endpoint(api: Any) -> str:
    """Return the endpoint's address without a password."""
    return without_secrets(api.endpoint)


def without_secrets(text: str) -> str:
    """Return a text without passwords in addresses and without tokens."""
    for token in filter(None, _tokens()):
        for written in (token, quote_plus(token)):  # the second as in the body of a request, which an answer may repeat
            text = text.replace(written, "...")
    return _TOKEN.sub("hf_...", without_passwords(text))


def _tokens() -> list[str | None]:
    """Return the tokens of the environment and, once the client is there, those stored by the Hub's own login.

    The client itself is not asked: it would renew a token over the network, and wait for itself where it logs that.
    """
    found: list[str | None] = [_as_sent(os.environ.get(name, "")) for name in _TOKEN_VARIABLES]
    if "huggingface_hub" in sys.modules:
        with suppress(Exception):  # a file that cannot be read gives none
            constants = sys.modules["huggingface_hub"].constants
            found.append(_as_sent(Path(constants.HF_TOKEN_PATH).read_text()))
        with suppress(Exception):
            stored = ConfigParser(interpolation=None)
            stored.read(constants.HF_STORED_TOKENS_PATH, encoding="utf-8")
            found += [stored.get(name, field, fallback=None) for name in stored.sections() for field in _TOKEN_FIELDS]
    return found


def _as_sent(token: str) -> str:
    """Return a token as the client sends it, and an answer may repeat it."""
    return token.replace("\r", "").replace("\n", "").strip()


def patience() -> float:
    """Return the seconds to wait for a silent Hub, from ``DEEPCR_ZOO_HUB_TIMEOUT``."""
    text = os.environ.get("DEEPCR_ZOO_HUB_TIMEOUT", str(PATIENCE_S))
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= LONGEST_PATIENCE_S:
        shown = f"expected a number of seconds, at most {LONGEST_PATIENCE_S:g}"
        raise UsageError(f"DEEPCR_ZOO_HUB_TIMEOUT is {text[:40]!r}: {shown}")
    return seconds


def probe(call: Callable[[], ResultT]) -> ResultT:
    """Make a first request, which must be answered within the user's patience."""
    return within(patience(), call)


def within(seconds: float, call: Callable[[], ResultT]) -> ResultT:
    """Make a request that must be answered in some seconds; `TimeoutError` if it is not."""
    try:
        return incoming.within(seconds, lambda: _translating_silence(call, seconds))
    except TimeoutError:
        raise _silence(seconds) from None


def ask(call: Callable[[], ResultT]) -> ResultT:
    """Make all requests of a question, however many pages the Hub announces, in bounded time and size."""
    return incoming.within(QUESTION_S, call)


def _translating_silence(call: Callable[[], ResultT], seconds: float) -> ResultT:
    from huggingface_hub import errors
    from huggingface_hub.utils import httpx  # type: ignore[attr-defined]

    try:
        return call()
    except errors.HfHubHTTPError:
        raise
    except httpx.TimeoutException:
        raise _silence(seconds) from None  # either the client or the waiting thread may give up first
    except (ValueError, *_LACKING) as error:  # such as the page of a captive portal
        raise OSError(f"its answer is not that of a Hub ({type(error).__name__}: {error})") from None


def _silence(seconds: float) -> TimeoutError:
    return TimeoutError(f"no answer within {seconds:g} s (DEEPCR_ZOO_HUB_TIMEOUT changes that)")


def translated(call: Callable[[], ResultT], request: HubRequest, api: Any) -> ResultT:
    """Run `call` and translate the client's exceptions into ours, which never show a password or a token.

    They are `HubUnreachableError`, `HubConflictError` (the repository has changed in between), `HubError`, and `OutputError`
    where this machine's disk is at fault.
    """
    from huggingface_hub import errors
    from huggingface_hub.utils import httpx  # type: ignore[attr-defined]

    from deepcr_zoo.zoo.hub.guard import LOGGERS

    try:
        with _own_settings(), shown_safely(LOGGERS, without_secrets):
            return call()
    except errors.HfHubHTTPError as error:
        raise _refusal(error, request, shown_endpoint(api)) from None
    # LocalEntryNotFoundError, an OSError, means that the client got no usable answer
    except (httpx.RequestError, httpx.InvalidURL, OSError, getattr(errors, "OIDCError", OSError)) as error:  # of 2.4
        if isinstance(error, OSError) and error.errno in _DISK_FAULTS:
            raise OutputError(f"{error.filename or 'the disk'}: cannot be written: {error.strerror}: make room") from None
        reason = with_settings(_reason(error), CERTIFICATES)
        raise HubUnreachableError(f"{shown_endpoint(api)} cannot be used: {reason}") from None
    except RuntimeError as error:  # wraps the cause of a failed upload by LFS or Xet
        if isinstance(error.__cause__, errors.HfHubHTTPError):
            raise _refusal(error.__cause__, request, shown_endpoint(api)) from None
        reason = _reason(error.__cause__ or error)
        raise HubUnreachableError(f"{shown_endpoint(api)}: a large file could not be moved: {reason}") from None
    except UnicodeEncodeError:  # of the header, which says all of it
        raise HubError("the token of the Hub has letters that no token has: correct HF_TOKEN, or log in anew") from None
    except ValueError as error:  # refused metadata, or a page in place of an answer
        raise HubError(f"{shown_endpoint(api)}/{request.repo} refused the request: {_reason(error)}") from None
    except _LACKING as error:
        reason = f"its answer is not that of a Hub ({type(error).__name__}: {_reason(error)})"
        raise HubUnreachableError(f"{shown_endpoint(api)} cannot be used: {reason}") from None


@contextmanager
def _own_settings() -> Iterator[None]:
    """Switch off what the client would do beside its requests.

    Its telemetry asks the public Hub. Xet sends files by a library that nothing here can bound, to an address of the
    server's choice, which may be a folder of this machine.
    """
    from huggingface_hub import constants

    with _SETTINGS_LOCK:
        _settings.append({name: getattr(constants, name) for name in _SWITCHED_OFF})
        for name in _SWITCHED_OFF:
            setattr(constants, name, True)
    try:
        yield
    finally:
        with _SETTINGS_LOCK:  # the first of several calls at once has noted the settings, and the last one restores them
            for name, value in _settings.pop().items():
                setattr(constants, name, value)


def _reason(error: BaseException) -> str:
    reason = without_secrets(" ".join(str(error)[: 4 * MOST_SHOWN].split()) or type(error).__name__)
    return reason if len(reason) <= MOST_SHOWN else f"{reason[:MOST_SHOWN]}..."


def _refusal(error: Exception, request: HubRequest, endpoint: str) -> SourceError:
    from huggingface_hub import errors

    where = f"{endpoint}/{request.repo}"
    status = getattr(getattr(error, "response", None), "status_code", None)
    match error:
        case errors.GatedRepoError():
            return HubError(f"{where} is gated: accept its terms in a browser and set HF_TOKEN to a token of that account")
        case errors.RepositoryNotFoundError():
            return HubError(f"{where} does not exist, or is private: set HF_TOKEN to a token that may read it")
        case errors.RevisionNotFoundError():
            return HubError(f"{where} has no commit {request.commit}, its history was rewritten: {request.way_out}")
        case errors.EntryNotFoundError():
            return HubError(f"{where} has no file {request.filename} at commit {request.commit}: {request.way_out}")
    if status == PROXY_REFUSAL:
        reason = with_settings(f"the proxy requires a name and a password ({status})", CERTIFICATES)
        return HubUnreachableError(f"{endpoint} cannot be used: {reason}")
    if status in (401, 403):
        return HubError(f"{where} refused the request ({status}): check HF_TOKEN")
    if status in (409, 412):
        return HubConflictError(f"{where} has changed in between ({status}): run the command again")
    if status is not None and 400 <= status < 500:
        return HubError(f"{where} refused the request ({status}): {_reason(error)}")
    return HubUnreachableError(f"{endpoint} answered with status {status}")
