"""Downloads from the Hub at a full commit."""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from deepcr_zoo.zoo import incoming
from deepcr_zoo.zoo.hub.answers import read_file
from deepcr_zoo.zoo.hub.connection import HubRequest, client, translated
from deepcr_zoo.zoo.registry import HubPin

CONNECTIONS = 8
MARGIN_BYTES = 1_000_000  # of other answers on the way to a file
WAIT_S = 0.5
"""Before a file is asked for once more."""


def download(pin: HubPin, filename: str, size: int, longest_s: float | None = None) -> bytes:
    """Fetch one file (see `download_all`), in `longest_s` at most, where another source has it too."""
    if longest_s is None:
        return download_all(pin, {filename: size})[filename]
    api = client()
    fetch = partial(
        incoming.within, longest_s, partial(_fetch, api, pin, filename, size, first=True), 3 * size + MARGIN_BYTES
    )
    return translated(fetch, HubRequest(pin.repo, pin.commit, filename), api)


def download_all(pin: HubPin, sizes: Mapping[str, int]) -> dict[str, bytes]:
    """Return files of a repository at a full commit, by path; the caller must verify the bytes.

    `sizes` gives the bytes of each. Where the Hub sends or announces more, `IntegrityError` is raised and nothing is kept.
    """
    api = client()

    def fetch(filename: str, first: bool = False) -> bytes:
        request = HubRequest(pin.repo, pin.commit, filename)
        return translated(lambda: _fetch(api, pin, filename, sizes[filename], first), request, api)

    names = list(sizes)
    found = [fetch(name, first=True) for name in names[:1]]  # one that is not answered is not followed by others
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        return dict(zip(names, [*found, *pool.map(fetch, names[1:])], strict=True))


def _fetch(api: Any, pin: HubPin, filename: str, size: int, first: bool) -> bytes:
    """Return a file; one that breaks off is asked for once more."""
    from huggingface_hub.utils import httpx  # type: ignore[attr-defined]

    try:
        return read_file(api, pin.repo, pin.commit, filename, size, first=first)
    except (ConnectionError, httpx.ReadError, httpx.RemoteProtocolError):
        time.sleep(WAIT_S)
        return read_file(api, pin.repo, pin.commit, filename, size, first=False)
