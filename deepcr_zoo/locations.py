"""Locations: the folders of the package, of the cache and of the user's data and settings, and paths as users write them."""

from __future__ import annotations

import os
import re
from pathlib import Path

from deepcr_zoo.errors import UsageError

PACKAGE = Path(__file__).resolve().parent
INSTALLED_DATA = PACKAGE / "_data"
"""Folder of an installed package that a checkout has as ``zoo/``, ``cards/`` and ``recipes/`` beside the package."""

NO_SETTINGS = "no-settings"
"""Name of a settings file that need not exist: workers of a cluster get it where their user has none."""


def data_root() -> Path:
    """Return the folder with ``zoo/`` and ``cards/``: the checkout if there is one, else the installed package's data."""
    return INSTALLED_DATA if INSTALLED_DATA.is_dir() else PACKAGE.parent


def cache_root() -> Path:
    """Return the folder of verified downloads (``DEEPCR_ZOO_CACHE``, else the platform's cache folder)."""
    if chosen := _chosen("DEEPCR_ZOO_CACHE"):
        return chosen
    import platformdirs

    return Path(platformdirs.user_cache_dir("deepcr-zoo", appauthor=False)) / "models"


def exposures_root() -> Path:
    """Return the folder of archived exposures: in ``DEEPCR_ZOO_CACHE``, else in the platform's cache folder."""
    return (cache_root() if os.environ.get("DEEPCR_ZOO_CACHE") else cache_root().parent) / "exposures"


def user_data_root() -> Path:
    """Return the folder of training sets and registry updates (``DEEPCR_ZOO_DATA``, else the platform's data folder)."""
    if chosen := _chosen("DEEPCR_ZOO_DATA"):
        return chosen
    import platformdirs

    return Path(platformdirs.user_data_dir("deepcr-zoo", appauthor=False))


def configuration_file() -> Path:
    """Return the user's settings file (``DEEPCR_ZOO_CONFIG``, else in the platform's settings folder)."""
    if chosen := _chosen("DEEPCR_ZOO_CONFIG"):
        return chosen
    import platformdirs

    return Path(platformdirs.user_config_dir("deepcr-zoo", appauthor=False)) / "config.yaml"


def mirror_root() -> Path | None:
    """Return the folder given by ``DEEPCR_ZOO_MIRROR`` (a path or a file:// address), if any."""
    return _chosen("DEEPCR_ZOO_MIRROR")


def _chosen(variable: str) -> Path | None:
    """Return the place that a variable of the environment names, if it names one."""
    text = os.environ.get(variable)
    return directory(text) if text else None


def directory(address: str | os.PathLike[str]) -> Path:
    """Turn a path or a ``file://`` address that a user set into a path; any other address raises `UsageError`."""
    text = os.fspath(address)
    if "://" in text:
        from urllib.parse import urlsplit
        from urllib.request import url2pathname

        scheme = text.partition("://")[0]
        if scheme != "file":  # the rest may hold a password
            raise UsageError(f"{scheme}://...: expected a path or a file:// address; no other address is read")
        try:
            parts = urlsplit(text)
            if parts.query or parts.fragment:
                raise ValueError
            text = url2pathname(parts.path)
        except ValueError:
            raise UsageError("file://...: expected a file:// address of this machine, as in file:///data/mirror") from None
    return expanded(text)


def without_address(text: str) -> str:
    """Return a text for an error; of an address the scheme alone, because the rest may hold a password.

    An address that has become a path has lost one of its two slashes.
    """
    for word in re.finditer(r"[\w+.-]+(?P<colon>:(?=/))?", text):
        if word["colon"] and re.search("[A-Za-z]", word[0][:-2]):
            return f"{text[: word.end()]}//..."
    return text


def expanded(path: str | os.PathLike[str]) -> Path:
    """Return a path with ``~`` and ``~user`` replaced; a user without a home folder raises `UsageError`."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise UsageError(f"{path}: no such user's home folder: write the path out, or ./{path} for a name with ~") from None
