"""Shared fixtures: a clean environment for every test, and upstream's own releases for comparison."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock
from hypothesis import settings

from benchmarks import releases
from deepcr_zoo import locations
from deepcr_zoo.zoo.cards import read_card
from deepcr_zoo.zoo.registries import default_registry

CHECKOUT = Path(__file__).resolve().parents[1]
TEST_CACHE = Path(os.environ.get("DEEPCR_ZOO_TEST_CACHE", CHECKOUT / ".test-cache"))
STIS_EXPOSURES = sorted((CHECKOUT.parent / "shared" / "data" / "stis_crsplit").glob("*_raw.fits"))
"""Real exposures, which are not part of this repository."""
# tables are tested at the width of a pipe; parallel workers of pytest set 80 columns
os.environ.pop("COLUMNS", None)
# the tests judge the CPU; a GPU would be picked by device="auto"
os.environ["CUDA_VISIBLE_DEVICES"] = ""
# tests run in as many processes as there are processors: more threads would only wait for each other
os.environ["OMP_NUM_THREADS"] = "1"
torch.set_num_threads(1)
# hundreds of processes start: each would compile all modules again where this is set
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
# a slow machine is no failure, and CI draws the same examples each time
settings.register_profile("patient", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("patient")
# before the registry is read: without the updates and settings of the person who runs the tests
os.environ["DEEPCR_ZOO_DATA"] = str(CHECKOUT / "nowhere")
os.environ["DEEPCR_ZOO_CONFIG"] = str(CHECKOUT / "tests" / "no_settings.yaml")
ALL_MODELS = default_registry().references()
SETTINGS = (
    "DEEPCR_ZOO_MIRROR",
    "DEEPCR_ZOO_CONFIG",
    "DEEPCR_ZOO_HUB_TIMEOUT",
    "DEEPCR_ZOO_MAST",
    "HF_ENDPOINT",
    "HF_TOKEN",
    "HF_HUB_OFFLINE",
)


@pytest.fixture(scope="session", autouse=True)
def clean_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No cache, mirror or Hub settings of the person who runs the tests, for fixtures of any scope."""
    with pytest.MonkeyPatch.context() as patch:
        for name in SETTINGS:
            patch.delenv(name, raising=False)
        patch.setenv("DEEPCR_ZOO_CONFIG", str(CHECKOUT / "tests" / "no_settings.yaml"))
        patch.setenv("DEEPCR_ZOO_CACHE", str(tmp_path_factory.mktemp("session-cache")))
        patch.setenv("DEEPCR_ZOO_DATA", str(tmp_path_factory.mktemp("session-data")))
        yield


@pytest.fixture(autouse=True)
def clean_environment(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache for every test."""
    cache = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("DEEPCR_ZOO_CACHE", str(cache))
    return locations.cache_root()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless browser (Debian's Chromium), which draws WebGL without a graphics card."""
    if (chromium := shutil.which("chromium")) is None:
        pytest.skip("no chromium here: apt-get install chromium")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
    settings = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=chromium, args=settings)
        yield started
        started.close()


@pytest.fixture(scope="session")
def upstream_sdists() -> Path:
    """Folder with the two deepCR releases that the seed came from, fetched by pinned hash on first use."""
    folder = TEST_CACHE / "upstream"
    folder.mkdir(parents=True, exist_ok=True)
    pinned = {}
    for name in ALL_MODELS:
        if upstream := read_card(default_registry().resolve(name)).provenance.upstream:
            pinned[upstream.package, upstream.release] = upstream
    with FileLock(folder / ".lock"):
        for upstream in pinned.values():
            try:
                releases.fetch(upstream, folder)
            except subprocess.CalledProcessError:
                pytest.skip(f"upstream's release could not be fetched: {upstream.package} {upstream.release}")
    return folder


LONG_FILES = (
    "test_kill_storm.py",
    "test_tutorial.py",
    "test_whole_path.py",
    "test_readme.py",
    "test_cluster.py",
    "test_real_exposures.py",
    "test_labelwalks.py",
    "test_two_nodes.py",
    "test_interruption.py",
    "test_cluster_build.py",
    "test_build.py",
    "test_distributed.py",
    "test_repeats.py",
    "test_engines.py",
    "test_isolation.py",
    "test_hub_judges.py",
    "test_main.py",
    "test_updates.py",
    "test_batch.py",
)
"""Files that start first, the longest before the others, so that none of them is left to one worker at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    rank = {name: place for place, name in enumerate(LONG_FILES)}
    items.sort(key=lambda item: rank.get(item.path.name, len(rank)))
