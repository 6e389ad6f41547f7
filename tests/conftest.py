"""Shared fixtures: a clean environment for every test, and upstream's own releases for comparison."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import settings

from deepcr_zoo import paths
from deepcr_zoo.cards import read_card
from deepcr_zoo.convert import read_upstream
from deepcr_zoo.errors import ConversionError
from deepcr_zoo.registry import default_registry

CHECKOUT = Path(__file__).resolve().parents[1]
TEST_CACHE = Path(os.environ.get("DEEPCR_ZOO_TEST_CACHE", CHECKOUT / ".test-cache"))
# a slow machine is no failure
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")
ALL_MODELS = [f"{entry.reference}@{version}" for entry in default_registry().find() for version in entry.versions]


@pytest.fixture(autouse=True)
def clean_environment(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, no mirror and no Hub settings of the person who runs the tests."""
    for name in ("DEEPCR_ZOO_MIRROR", "HF_ENDPOINT", "HF_TOKEN", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    cache = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("DEEPCR_ZOO_CACHE", str(cache))
    return paths.cache_root()


@pytest.fixture(scope="session")
def upstream_sdists() -> Path:
    """Folder with the two deepCR releases that the seed came from, fetched by pinned hash on first use."""
    folder = TEST_CACHE / "upstream"
    folder.mkdir(parents=True, exist_ok=True)
    releases = {}
    for name in ALL_MODELS:
        upstream = read_card(default_registry().resolve(name)).provenance.upstream
        assert upstream is not None
        releases[upstream.release] = upstream
    with FileLock(folder / ".lock"):
        for upstream in releases.values():
            try:
                read_upstream(upstream, folder)
            except ConversionError as error:
                pytest.skip(f"upstream's releases are needed: {error}")
    return folder
