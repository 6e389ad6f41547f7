"""Downloads from the Hub at a full commit."""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from deepcr_zoo.errors import HubUnreachableError
from deepcr_zoo.zoo import incoming
from deepcr_zoo.zoo.hub.answers import read_file
from deepcr_zoo.zoo.hub.connection import HubRequest, client, shown_endpoint, translated
from deepcr_zoo.zoo.registry import HubPin

CONNECTIONS = 8
MARGIN_BYTES = 500_000  # of other answers on the way to a file
LONGEST_S = 600.0  # for all files together; a registry takes seconds
WAIT_S = 0.5
"""Before a file is asked for once more."""


def download(pin: HubPin, filename: str, size: int, longest_s: float | None = None) -> bytes:
    """Fetch one file (see `download_all`), in `longest_s` at most, where another source has it too."""
    return _fetch(client(), pin, filename, size, first=True, longest_s=longest_s)


def download_all(pin: HubPin, sizes: Mapping[str, int]) -> dict[str, bytes]:
    """Return files of a repository at a full commit, by path; the caller must verify the bytes.

    `sizes` gives the bytes of each. Where the Hub sends or announces more, `IntegrityError` is raised and nothing is kept.
    `HubUnreachableError` is raised if all together take longer than `LONGEST_S`.
    """
    api, names, until = client(), list(sizes), time.monotonic() + LONGEST_S
    found = [
        _fetch(api, pin, name, sizes[name], first=True) for name in names[:1]
    ]  # without an answer, no other is asked for
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        others = pool.map(lambda name: _fetch_before(until, api, pin, name, sizes[name]), names[1:])
        return dict(zip(names, [*found, *others], strict=True))


def _fetch_before(until: float, api: Any, pin: HubPin, filename: str, size: int) -> bytes:
    if time.monotonic() > until:
        raise HubUnreachableError(f"{shown_endpoint(api)}: sends files too slowly, {LONGEST_S:g} s for all: try again later")
    return _fetch(api, pin, filename, size)


def _fetch(api: Any, pin: HubPin, filename: str, size: int, *, first: bool = False, longest_s: float | None = None) -> bytes:
    read = partial(_read, api, pin, filename, size, first)
    if longest_s is not None:  # half of the file may be lost before it breaks off and is asked for once more
        read = partial(incoming.within, longest_s, read, size + size // 2 + MARGIN_BYTES)
    return translated(read, HubRequest(pin.repo, pin.commit, filename), api)


def _read(api: Any, pin: HubPin, filename: str, size: int, first: bool) -> bytes:
    """Return a file; one that breaks off is asked for once more."""
    from huggingface_hub.utils import httpx  # type: ignore[attr-defined]

    try:
        return read_file(api, pin.repo, pin.commit, filename, size, first=first)
    except (ConnectionError, httpx.ReadError, httpx.RemoteProtocolError):
        time.sleep(WAIT_S)
        return read_file(api, pin.repo, pin.commit, filename, size, first=False)
