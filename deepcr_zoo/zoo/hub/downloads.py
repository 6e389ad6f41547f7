"""Downloads from the Hub at a full commit."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from deepcr_zoo.errors import IntegrityError
from deepcr_zoo.zoo.hub.connection import HubRequest, client, probe, translated
from deepcr_zoo.zoo.registry import HubPin

CONNECTIONS = 8


def download(pin: HubPin, filename: str, size: int | None = None) -> bytes:
    """Fetch one file; see `download_all`."""
    return download_all(pin, {filename: size})[filename]


def download_all(pin: HubPin, sizes: Mapping[str, int | None]) -> dict[str, bytes]:
    """Return files of a repository at a full commit, by path; the caller must verify the bytes.

    `sizes` gives the expected bytes; if the Hub announces another size, nothing is fetched and `IntegrityError` is raised.
    """
    api = client()
    _check_sizes(pin, sizes, translated(lambda: _announced(api, pin), HubRequest(pin.repo, pin.commit), api))
    with tempfile.TemporaryDirectory(prefix="deepcr-zoo-") as scratch:

        def fetch(filename: str) -> bytes:
            return translated(lambda: _read(api, pin, filename, scratch), HubRequest(pin.repo, pin.commit, filename), api)

        if len(sizes) == 1:
            return {filename: fetch(filename) for filename in sizes}
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            return dict(zip(sizes, pool.map(fetch, sizes), strict=True))


def _announced(api: Any, pin: HubPin) -> dict[str, int | None]:
    """Return the sizes of all files of the commit; unlike a download, this request is not retried."""
    facts = probe(lambda seconds: api.model_info(pin.repo, revision=pin.commit, files_metadata=True, timeout=seconds))
    return {file.rfilename: file.size for file in facts.siblings or ()}


def _check_sizes(pin: HubPin, sizes: Mapping[str, int | None], announced: Mapping[str, int | None]) -> None:
    for filename, size in sizes.items():
        found = announced.get(filename)
        if size is not None and found is not None and found != size:
            raise IntegrityError(
                f"{pin.repo} at commit {pin.commit}: {filename}: expected {size} bytes, the Hub announces {found}; "
                "it was not downloaded: name another --source"
            )


def _read(api: Any, pin: HubPin, filename: str, scratch: str) -> bytes:
    def read() -> bytes:
        # a scratch cache, so that wrong bytes are not kept
        path = api.hf_hub_download(pin.repo, filename, revision=pin.commit, cache_dir=scratch)
        with open(path, "rb") as file:
            return file.read()

    try:
        return read()
    except OSError as error:
        if type(error) is not OSError or error.errno is not None:
            raise
        return read()  # a bare OSError of the client means fewer bytes than announced: try once more
