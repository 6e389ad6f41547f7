"""A model that a stranger has published, in a repository that no registry lists."""

from __future__ import annotations

import dataclasses
import json
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import huggingface_hub
import pytest

from deepcr_zoo.publishing.releases import Release, release_of_model
from deepcr_zoo.zoo.hub.repositories import HubRepository
from deepcr_zoo.zoo.registry import read_registry
from tests.registries import SMALL, copy_registry
from tests.zoo.hub.fixtures import use_real_client
from tests.zoo.hub.server import ContractServer, serve

REPOSITORY = "stranger/mask-ACS-WFC-F606W-2-4"
ADDRESS = f"hf:{REPOSITORY}@v1.0"


@dataclasses.dataclass(frozen=True)
class Stranger:
    """A Hub with that repository, which has no tag yet."""

    hub: ContractServer
    release: Release

    def publish(self, *without: str, **changes: bytes) -> str:
        """Set the tag v1.0, with some files left out or changed (config for config.json, card for card.yaml); the commit."""
        named = {{"config": "config.json", "card": "card.yaml"}[name]: data for name, data in changes.items()}
        with _as_stranger():
            repository = HubRepository(REPOSITORY)
            commit = repository.head()
            if named or without:
                commit = repository.commit(named, "changed", parent=commit, without=without).id
            repository.tag("v1.0", commit)
        self.hub.log.clear()
        return commit

    def config(self, **blocks: object) -> bytes:
        """Return config.json with other blocks."""
        return json.dumps(json.loads(self.release.files["config.json"]) | blocks).encode()


@contextmanager
def _as_stranger() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        patch.setenv("HF_TOKEN", "hf_other")
        yield


@pytest.fixture(scope="session")
def stranger_once(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Release]:
    """The folder of a Hub with the repository, and what is in it."""
    folder = tmp_path_factory.mktemp("stranger")
    release = release_of_model(read_registry(copy_registry(folder / "registry")).resolve(SMALL)).in_repository(REPOSITORY)
    with pytest.MonkeyPatch.context() as patch, serve(folder / "hub") as server, _as_stranger():
        use_real_client(folder / "hf-home", patch)
        patch.setenv("HF_ENDPOINT", server.url)
        repository = HubRepository(REPOSITORY)
        repository.create(private=False)
        repository.commit(release.files, "a version", parent=repository.head())
        huggingface_hub.close_session()
    return folder / "hub", release


@pytest.fixture
def stranger(
    stranger_once: tuple[Path, Release], contract_hub: ContractServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Stranger:
    """A copy for one test, whose user has a data folder of their own, and patience."""
    monkeypatch.setenv("DEEPCR_ZOO_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("DEEPCR_ZOO_HUB_TIMEOUT", "20")
    folder, release = stranger_once
    shutil.copytree(folder, contract_hub.root, dirs_exist_ok=True)
    return Stranger(contract_hub, release)
