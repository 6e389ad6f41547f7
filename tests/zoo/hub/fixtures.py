"""Fixtures: the real client, a contract server, and a model published there."""

from __future__ import annotations

import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
from filelock import FileLock
from huggingface_hub import constants

from deepcr_zoo.zoo.registry import CARD_FILE, TEST_VECTOR_FILE, WEIGHTS_FILE, read_registry
from tests.conftest import TEST_CACHE
from tests.registries import SMALL, copy_registry, edit_entry
from tests.zoo.hub.published import VERSION, PublishedModel, publish
from tests.zoo.hub.server import ContractServer, serve

OLAH = "olah==0.5.4"


def use_real_client(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set up the real client, here and in child processes, without what belongs to the person who runs the tests."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    # telemetry would ask the public Hub; the contract server has no Xet
    for setting in ("HF_HUB_DISABLE_TELEMETRY", "HF_HUB_DISABLE_XET"):
        monkeypatch.setenv(setting, "1")
        monkeypatch.setattr(constants, setting, True)
    monkeypatch.setenv("HF_HOME", str(home))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
    for other_token in ("HUGGING_FACE_HUB_TOKEN", "HF_OIDC_RESOURCE"):
        monkeypatch.delenv(other_token, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    huggingface_hub.close_session()


@pytest.fixture
def hub_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real client, with its files in the folder of the test."""
    use_real_client(tmp_path / "hf-home", monkeypatch)


@pytest.fixture
def contract_hub(tmp_path: Path, hub_client: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[ContractServer]:
    """An empty contract server, which is the endpoint of the test."""
    with serve(tmp_path / "hub") as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("DEEPCR_ZOO_HUB_TIMEOUT", "10")  # it answers in the test's own process, which may be busy
        yield server
        # a connection kept alive would hold up the server's end
        huggingface_hub.close_session()


@pytest.fixture
def keeper(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the test may write to the zoo's organisation."""
    monkeypatch.setenv("HF_TOKEN", "hf_write")


@pytest.fixture(scope="session")
def published_once(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes]]:
    """A small model of the zoo, published by the real client: folder with hub and registry, and the model's files."""
    folder = tmp_path_factory.mktemp("published")
    root = copy_registry(folder / "registry")
    shipped = read_registry(root).resolve(f"{SMALL}@{VERSION}")
    seed = root / "zoo" / "weights" / shipped.folder
    files = {name: (seed / name).read_bytes() for name in (WEIGHTS_FILE, TEST_VECTOR_FILE)}
    files[CARD_FILE] = shipped.card_path.read_bytes()
    repository = shipped.entry.hub_repository
    with pytest.MonkeyPatch.context() as monkeypatch, serve(folder / "hub") as server:
        use_real_client(folder / "hf-home", monkeypatch)
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # the client's own, on every upload
            commit = publish(server, repository, files, folder / "upload")
        huggingface_hub.close_session()
    pin = {"repo": repository, "commit": commit}
    edit_entry(root, lambda entry: entry["versions"][VERSION].update(sources={"seed": False, "hub": pin}))
    return folder, files


@pytest.fixture
def published(published_once: tuple[Path, dict[str, bytes]], contract_hub: ContractServer, tmp_path: Path) -> PublishedModel:
    """A copy of the published model for one test, on a contract server and in a registry of its own."""
    folder, files = published_once
    shutil.copytree(folder / "hub", contract_hub.root, dirs_exist_ok=True)
    shutil.copytree(folder / "registry", tmp_path / "registry")
    return PublishedModel(contract_hub, tmp_path / "registry", files)


@pytest.fixture(scope="session")
def olah_command() -> Path:
    """The mirror server olah, in a virtual environment of its own that later runs use again."""
    environment = TEST_CACHE / "olah"
    environment.mkdir(parents=True, exist_ok=True)
    complete = environment / f"{OLAH}.complete"
    with FileLock(environment / ".lock"):
        if not complete.exists():
            subprocess.run([sys.executable, "-m", "venv", environment], check=True)
            pip = [str(environment / "bin" / "pip"), "install", "--disable-pip-version-check", "--quiet", "--retries=1"]
            installed = subprocess.run([*pip, OLAH], capture_output=True, text=True)
            if installed.returncode != 0:
                pytest.skip(f"{OLAH} cannot be installed: {installed.stderr.strip().splitlines()[-1]}")
            complete.touch()
    return environment / "bin" / "olah-cli"
