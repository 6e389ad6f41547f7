"""Files from the Hub, at a commit."""

from __future__ import annotations

import tempfile
from typing import Any

from deepcr_zoo.errors import IntegrityError
from deepcr_zoo.hub.connection import Asked, client, probe, translated
from deepcr_zoo.registry import HubPin


def download(pin: HubPin, filename: str, size: int | None = None) -> bytes:
    """Fetch one file of a repository at a full commit; the caller must check the bytes.

    Parameters
    ----------
    pin : HubPin
    filename : str
    size : int, optional
        Bytes that are expected: a file that the Hub announces with another size is not fetched at all.

    Raises
    ------
    HubUnreachableError
        If the Hub does not answer within `connection.PATIENCE_S`, breaks off, or offline mode is on.
    HubError
        If the Hub refuses, or does not have the repository, commit or file.
    IntegrityError
        If the Hub announces another size.
    """
    api = client()
    with tempfile.TemporaryDirectory(prefix="deepcr-zoo-") as scratch:

        def probe_and_read() -> bytes:
            # asking for the commit fails at once where a download would be tried again and again
            facts = probe(
                lambda seconds: api.model_info(pin.repo, revision=pin.commit, files_metadata=True, timeout=seconds)
            )
            announced = {file.rfilename: file.size for file in facts.siblings or ()}.get(filename)
            if None not in (size, announced) and announced != size:
                raise IntegrityError(
                    f"{pin.repo} at commit {pin.commit}: {filename}: expected {size} bytes, the Hub announces {announced}; "
                    "it was not downloaded: name another --source"
                )
            return _read(api, pin, filename, scratch)

        return translated(probe_and_read, Asked(pin.repo, pin.commit, filename), api)


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
