"""Where things are: the registry's own files, the user's cache, a mirror."""

from __future__ import annotations

import os
from pathlib import Path

from deepcr_zoo.errors import UsageError

PACKAGE = Path(__file__).resolve().parent


def data_root() -> Path:
    """Folder that holds ``zoo/`` and ``cards/``: the checkout if there is one, else the installed package's data."""
    installed = PACKAGE / "_data"
    return installed if installed.is_dir() else PACKAGE.parent


def cache_root() -> Path:
    """Folder of verified downloads (``DEEPCR_ZOO_CACHE``, else the platform's cache folder)."""
    if chosen := os.environ.get("DEEPCR_ZOO_CACHE"):
        return Path(chosen).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("deepcr-zoo", appauthor=False)) / "models"


def exposures_root() -> Path:
    """Folder of exposures from the archive: in ``DEEPCR_ZOO_CACHE``, else in the platform's cache folder."""
    return (cache_root() if os.environ.get("DEEPCR_ZOO_CACHE") else cache_root().parent) / "exposures"


def user_data_root() -> Path:
    """Folder of training sets and registry updates (``DEEPCR_ZOO_DATA``, else the platform's folder for a user's data)."""
    if chosen := os.environ.get("DEEPCR_ZOO_DATA"):
        return Path(chosen).expanduser()
    import platformdirs

    return Path(platformdirs.user_data_dir("deepcr-zoo", appauthor=False))


def configuration_file() -> Path:
    """The user's settings (``DEEPCR_ZOO_CONFIG``, else in the platform's folder for settings)."""
    if chosen := os.environ.get("DEEPCR_ZOO_CONFIG"):
        return Path(chosen).expanduser()
    import platformdirs

    return Path(platformdirs.user_config_dir("deepcr-zoo", appauthor=False)) / "config.yaml"


def mirror_root() -> Path | None:
    """Folder given by ``DEEPCR_ZOO_MIRROR`` (a path or a file:// address), if any."""
    chosen = os.environ.get("DEEPCR_ZOO_MIRROR")
    return directory(chosen) if chosen else None


def directory(address: str | os.PathLike[str]) -> Path:
    """Turn a path or a ``file://`` address into a path.

    Raises
    ------
    UsageError
        If it is an address of another kind.
    """
    text = os.fspath(address)
    if "://" in text:
        from urllib.parse import urlsplit
        from urllib.request import url2pathname

        if not text.startswith("file://"):
            raise UsageError(f"{text}: expected a folder or a file:// address; nothing else can be a mirror")
        text = url2pathname(urlsplit(text).path)
    return Path(text).expanduser()
