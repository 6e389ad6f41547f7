"""Conversion of upstream .pth files, of a verified hash, to safetensors."""

from __future__ import annotations

import datetime
import textwrap
from dataclasses import dataclass
from pathlib import Path

import yaml

from deepcr_zoo import documents
from deepcr_zoo.documents import parse_document
from deepcr_zoo.errors import ConversionError
from deepcr_zoo.files import read_file, real_path, refuse_links, write_atomically, write_failure
from deepcr_zoo.models import testvectors, weights
from deepcr_zoo.models.upstream import convert_state
from deepcr_zoo.publishing.sdists import read_upstream
from deepcr_zoo.zoo.cards import Card
from deepcr_zoo.zoo.registry import TEST_VECTOR_FILE, WEIGHTS_FILE, Architecture, LockedFile, LockedVersion, Sources


@dataclass(frozen=True)
class ConvertedModel:
    """The architecture found in an upstream file, and its weights as a safetensors file."""

    card: Card
    architecture: Architecture
    weights: bytes

    @property
    def folder(self) -> Path:
        """The model's place in a mirror, ``task/name/version``."""
        return Path(self.card.identity.task, self.card.identity.name, self.card.identity.version)

    def test_vector(self) -> bytes:
        """Return a new test vector file; its last bits may differ from machine to machine."""
        task = self.card.identity.task
        network = weights.trained_network(self.weights, self.architecture, task, str(self.folder))
        return testvectors.serialise(testvectors.make(network, self.card, testvectors.SEED))


def convert(card: Card, sdists: Path) -> ConvertedModel:
    """Convert the upstream file that a card names; the same input gives the same bytes on every machine.

    `sdists` is the folder of upstream's source distributions.
    """
    identity = card.identity
    if card.provenance.upstream is None:
        raise ConversionError(
            f"{identity.task}/{identity.name}: nothing to convert: its card names no release of another package "
            f"(provenance.kind is {card.provenance.kind})"
        )
    architecture, state = convert_state(read_upstream(card.provenance.upstream, sdists))
    return ConvertedModel(card, architecture, weights.serialise(state))


def convert_new(card_path: Path, sdists: Path, to: Path) -> str:
    """Write weights and test vector of a new model, converted from the file its card names; return its registry entry.

    The files go into ``task/name/version/`` under `to`. The entry is YAML to put under ``versions`` in
    ``zoo/<task>/<name>.yaml``. A network with BatchNorm needs a card that ties its weights to their input scale.
    """
    card_bytes = documents.document_bytes(card_path, card_path)
    card = parse_document(card_bytes, Card, card_path)
    place = Path(card.identity.task, card.identity.name, f"{card.identity.version}.yaml")
    if real_path(card_path).parts[-3:] != place.parts:
        raise ConversionError(f"{card_path}: identity: expected the card at .../{place}; move it or correct its identity")
    converted = convert(card, sdists)
    _check_input_scale(converted, card_path)
    vector = converted.test_vector()
    write_weights(converted, to)
    _write_new(vector, to / converted.folder / TEST_VECTOR_FILE, to)
    locked = LockedVersion(
        released=datetime.datetime.now(datetime.UTC).date(),
        architecture=converted.architecture,
        weights=LockedFile.of(converted.weights),
        test_vector=LockedFile.of(vector),
        card=LockedFile.of(card_bytes),
        sources=Sources(seed=True),
    )
    entry = {card.identity.version: locked.model_dump(exclude_none=True)}
    return textwrap.indent(yaml.safe_dump(entry, sort_keys=False), "  ")


def write_weights(converted: ConvertedModel, to: Path) -> None:
    """Write converted weights under a mirror's root; a ConversionError if the file exists with other bytes."""
    _write_new(converted.weights, to / converted.folder / WEIGHTS_FILE, to)


def _write_new(data: bytes, path: Path, root: Path) -> None:
    try:
        refuse_links(path, root)
        if path.exists() and read_file(path) != data:
            raise ConversionError(
                f"{path} holds other bytes: a version never changes meaning; delete the file if it has not been released"
            )
        write_atomically(data, path)
    except OSError as error:
        raise write_failure(path, error, "choose another folder with --to", ConversionError) from None


def _check_input_scale(converted: ConvertedModel, card_path: Path) -> None:
    card = converted.card
    state = weights.read_state(converted.weights, converted.architecture, card.identity.task, str(card_path))
    variance = weights.input_variance(state, card.input.scale)
    if variance is not None and card.input.fingerprint is None:
        raise ConversionError(
            f"{card_path}: input.fingerprint: expected one, since the network has BatchNorm; if input.scale is right, "
            f"add input_variance: {variance:.3g}"
        )
    weights.check_fingerprint(state, card, str(card_path))
