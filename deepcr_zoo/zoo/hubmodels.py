"""Models of repositories on the Hub that no registry lists: ``hf:ORG/mask-NAME@v1.0``, as `publish` makes them.

The first use asks the Hub for the commit of the tag, and keeps commit, card and hashes in the data folder. From then on the
same text means the same bytes, and the Hub is asked for these alone.
"""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field, ValidationError

from deepcr_zoo import documents, files, locations
from deepcr_zoo.documents import DocumentT, as_yaml, parse_document
from deepcr_zoo.errors import HubError, IntegrityError, InvalidDocumentError, InvalidNameError
from deepcr_zoo.zoo.cards import Card
from deepcr_zoo.zoo.hub import downloads
from deepcr_zoo.zoo.hub.repositories import HubRepository
from deepcr_zoo.zoo.names import NAME_PATTERN, VERSION_PATTERN
from deepcr_zoo.zoo.registry import (
    CARD_FILE,
    CONFIG_FILE,
    LICENCE_FILE,
    Architecture,
    FolderModel,
    HubPin,
    LockedFile,
    LockedVersion,
    Origin,
    Sources,
)

PREFIX = "hf:"
FOLDER = "hub"
"""Folder of the locks of such models, below the user's data."""

LOCK_FILE = "lock.yaml"
MOST_ADDRESS = 200  # letters; the Hub has at most 96 for each of both names
MOST_FILE_BYTES = 500_000_000
"""Of weights or test vector: a hundred times the largest of the zoo, and the lock of a stranger bounds nothing else."""

_ADDRESS = re.compile(
    rf"{PREFIX}(?P<repository>(?P<owner>[A-Za-z0-9_][A-Za-z0-9_.-]*)/(?P<task>mask|inpaint)-(?P<name>{NAME_PATTERN}))"
    rf"@v(?P<version>{VERSION_PATTERN})"
)


@dataclass(frozen=True)
class HubAddress:
    """A version of a model in a repository on the Hub."""

    text: str
    owner: str
    repository: str  # ORG/TASK-NAME
    model: str  # task/name@version, as in its card
    tag: str

    @classmethod
    def parse(cls, text: str) -> HubAddress:
        """Split ``hf:ORG/TASK-NAME@vVERSION``; a text without a version raises `InvalidNameError`."""
        match = _ADDRESS.fullmatch(text)
        if match is None or len(text) > MOST_ADDRESS:
            raise InvalidNameError(
                f"{text!r}: expected a repository on the Hub and the tag of a version, as in hf:ORG/mask-NAME@v1.0 or "
                "hf:ORG/inpaint-NAME@v1.0"
            )
        model = f"{match['task']}/{match['name']}@{match['version']}"
        return cls(text, match["owner"], match["repository"], model, f"v{match['version']}")

    @property
    def folder(self) -> Path:
        return locations.user_data_root() / FOLDER / self.repository / self.tag


def _part(schema: type[BaseModel]) -> BeforeValidator:
    """Return a validator that leaves out what a block has besides the keys of a schema, for people and other programs."""

    def reduced(content: Any) -> Any:
        return {key: content[key] for key in schema.model_fields if key in content} if isinstance(content, dict) else content

    return BeforeValidator(reduced)


ConfigFile = Annotated[LockedFile, _part(LockedFile)]


class ConfigFiles(BaseModel):
    weights: ConfigFile
    test_vector: ConfigFile
    card: ConfigFile


class HubConfig(BaseModel):
    """The parts of config.json that lock a model; names of files are ours, not those that it states."""

    architecture: Annotated[Architecture, _part(Architecture)]
    files: ConfigFiles = Field(description="hash and size of each file")


def hub_model(text: str) -> FolderModel:
    """Return the model at ``hf:ORG/TASK-NAME@vVERSION``; the first use asks the Hub, and keeps what it says."""
    address = HubAddress.parse(text)
    if not files.is_file(address.folder / LOCK_FILE):
        _ask(address)
    locked, card = _kept(address, LOCK_FILE, LockedVersion), _kept(address, CARD_FILE, Card)
    return FolderModel.of(card, locked, Origin(address.folder, "Hub", registry=f"hf/{address.owner}"), text)


def _kept(address: HubAddress, name: str, schema: type[DocumentT]) -> DocumentT:
    path = address.folder / name
    try:
        return parse_document(documents.document_bytes(path, path), schema, path)
    except InvalidDocumentError as error:
        raise InvalidDocumentError(f"{error}; remove {address.folder}: the next use asks the Hub again") from None


def _ask(address: HubAddress) -> None:
    """Get commit, card and hashes from the Hub, and keep them if they agree."""
    repository = HubRepository(address.repository)
    tags = repository.tags()
    if address.tag not in tags:
        has = documents.brief(", ".join(sorted(tags)) or "none")
        raise HubError(f"{address.text}: {repository.address} has no tag {address.tag}, it has {has}: name one of these")
    pin = HubPin(repo=address.repository, commit=tags[address.tag])
    names = (CONFIG_FILE, CARD_FILE, LICENCE_FILE)
    found = downloads.download_all(pin, dict.fromkeys(names, documents.MOST_BYTES))
    card = parse_document(found[CARD_FILE], Card, f"{address.text}: {CARD_FILE}")
    locked = _lock(address, pin, card, found)
    contents = {
        address.folder / card.licence.file: found[LICENCE_FILE],
        address.folder / CARD_FILE: found[CARD_FILE],
        address.folder / LOCK_FILE: as_yaml(locked),  # last: what it stands beside is complete
    }
    with files.reporting_failures(address.folder, "set DEEPCR_ZOO_DATA to a folder that can be"):
        address.folder.mkdir(parents=True, exist_ok=True)
        with files.locked(address.folder):
            # of two first uses at the same moment, between which the tag may move, the first holds
            if not files.is_file(address.folder / LOCK_FILE):
                files.write_together(contents)


def _lock(address: HubAddress, pin: HubPin, card: Card, found: dict[str, bytes]) -> LockedVersion:
    """Return the lock that config.json states, if the card is the one it states, and of this model."""
    identity = card.identity
    if (is_of := f"{identity.task}/{identity.name}@{identity.version}") != address.model:
        raise IntegrityError(f"{address.text}: {CARD_FILE}: identity: expected {address.model}, got {is_of}")
    try:
        config = HubConfig.model_validate_json(found[CONFIG_FILE])
    except ValidationError as error:
        raise IntegrityError(
            f"{address.text}: {CONFIG_FILE}: {documents.first_problem(error)}: 'deepcr-zoo publish' of this version "
            "did not make it: ask its owner to publish a new version"
        ) from None
    if problem := config.files.card.mismatch(found[CARD_FILE]):
        raise IntegrityError(f"{address.text}: {CARD_FILE} is not the one that {CONFIG_FILE} states: {problem}")
    for file in (config.files.weights, config.files.test_vector):
        if file.size > MOST_FILE_BYTES:
            raise IntegrityError(
                f"{address.text}: {CONFIG_FILE}: files: expected at most {MOST_FILE_BYTES:,} bytes, got {file.size:,}"
            )
    return LockedVersion(
        released=datetime.datetime.now(datetime.UTC).date(),
        architecture=config.architecture,
        weights=config.files.weights,
        test_vector=config.files.test_vector,
        card=config.files.card,
        sources=Sources(seed=False, hub=pin),
        warning=f"no registry vouches for it: {address.owner} alone says what it is (commit {pin.commit})",
    )
