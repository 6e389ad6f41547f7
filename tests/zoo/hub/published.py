"""A model of the zoo that is published on a contract server and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi

from deepcr_zoo.zoo.registry import HubPin, ResolvedModel, read_registry
from tests.registries import SMALL
from tests.zoo.hub.server import ContractServer

VERSION = "1.0"


@dataclass(frozen=True)
class PublishedModel:
    """A model whose only source in the registry is a Hub repository at one commit.

    Attributes
    ----------
    hub : ContractServer
        Where it is published; its log starts after that.
    root : Path
        Root of the registry that holds the model alone.
    files : dict
        What was published: name -> content.
    """

    hub: ContractServer
    root: Path
    files: dict[str, bytes]

    @property
    def model(self) -> ResolvedModel:
        return read_registry(self.root).resolve(f"{SMALL}@{VERSION}")

    @property
    def pin(self) -> HubPin:
        pin = self.model.locked.sources.hub
        assert pin is not None
        return pin

    def api(self, token: str = "hf_write") -> HfApi:
        return HfApi(endpoint=self.hub.url, token=token)


def publish(hub: ContractServer, repository: str, files: dict[str, bytes], folder: Path) -> str:
    """Upload `files` as one commit, by way of `folder`, and tag it; returns the commit."""
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    api = HfApi(endpoint=hub.url, token="hf_write")
    api.create_repo(repository)
    commit = api.upload_folder(repo_id=repository, folder_path=folder).oid
    api.create_tag(repository, tag=VERSION, revision=commit)
    return commit
