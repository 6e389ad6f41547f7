"""A network file of a user becomes a model of their own registry, with a card, a test vector and a check of both."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from deepcr_zoo import files
from deepcr_zoo.documents import as_yaml, brief, read_document
from deepcr_zoo.errors import ConversionError, InvalidDocumentError, InvalidWeightsError, UsageError, printable
from deepcr_zoo.models import testvectors, weights
from deepcr_zoo.models.architectures import halo, multiple
from deepcr_zoo.models.model import load_files
from deepcr_zoo.models.upstream import NetworkFile, read_network, reference_output
from deepcr_zoo.models.verification import compare
from deepcr_zoo.zoo import cards
from deepcr_zoo.zoo.names import NAME_PATTERN, VERSION_PATTERN, version_key
from deepcr_zoo.zoo.registries import LOCAL, default_registry, local_root
from deepcr_zoo.zoo.registry import (
    TEST_VECTOR_FILE,
    WEIGHTS_FILE,
    Architecture,
    LockedFile,
    LockedVersion,
    ModelEntry,
    Registry,
    ResolvedModel,
    Sources,
    read_registry,
)

MOST_LETTERS = 80  # of each text that a user states
TOLERANCE = 1e-4  # as in the cards of trained networks
UNKNOWN = "not stated"
METHOD = cards.Citation(
    doi="10.3847/1538-4357/ab3fa6",
    text="Zhang & Bloom 2020, ApJ 889, 24, for the network's architecture",
    bibtex="@article{2020ApJ...889...24Z,\n  author = {Zhang, Keming and Bloom, Joshua S.},\n  journal = {ApJ},\n"
    "  volume = {889},\n  pages = {24},\n  year = {2020},\n  doi = {10.3847/1538-4357/ab3fa6},\n}\n",
)


@dataclass(frozen=True)
class StatedFacts:
    """What a user states of a network, and its file does not hold."""

    name: str
    version: str = "1.0"
    unit: cards.InputUnit = "electron"  # any: the network sees asinh((pixel - sky) / noise)
    scale: float = 1.0
    standardises: bool = False
    """Whether pixel values are standardised over the whole frame, as with ``norm=True`` in deepCR."""

    threshold: float = 0.5
    licence: str = UNKNOWN
    author: str = UNKNOWN


@dataclass(frozen=True)
class ImportedModel:
    """A model that has just entered the local registry."""

    model: ResolvedModel
    architecture: Architecture
    difference: float  # largest, from the test vector
    deviation: float | None  # standard deviation of pixel values in training, in the input unit; None without BatchNorm


def import_file(path: Path, facts: StatedFacts) -> ImportedModel:
    """Make a model of a .pth or safetensors file, verify it, and put it into the local registry.

    The same file and facts again change nothing; other ones need another version.
    """
    _check(facts)
    network = read_network(path)
    if network.architecture.outputs == 2 and (network.task == "mask" or facts.unit != "any"):
        raise UsageError(
            f"{path}: a {network.task} network of two outputs, for {facts.unit}: expected one, or an inpaint network for "
            "any unit, of which the second is the uncertainty"
        )
    weights.check_state(network.state, network.architecture, network.task, str(path))
    if weights.input_variance(network.state, facts.scale) == 0:
        raise InvalidWeightsError(
            f"{path}: {weights.FIRST_VARIANCE}: expected a variance of its training, got 0: train it first"
        )
    data = weights.serialise(network.state)
    card = _card(path, network, facts)
    vector = _test_vector(network, data, card)
    difference = _verified(data, network.architecture, card, vector)
    name = f"{network.task}/{facts.name}"
    _write(name, facts, card, network.architecture, {WEIGHTS_FILE: data, TEST_VECTOR_FILE: testvectors.serialise(vector)})
    fingerprint = card.input.fingerprint
    deviation = None if fingerprint is None else float(fingerprint.input_variance**0.5)
    model = default_registry().resolve(f"{LOCAL}:{name}@{facts.version}")
    return ImportedModel(model, network.architecture, difference, deviation)


def _check(facts: StatedFacts) -> None:
    cards.check_threshold(facts.threshold)
    if max(len(facts.name), len(facts.version)) > MOST_LETTERS:
        raise UsageError(f"name and version: expected at most {MOST_LETTERS} letters each, of which names of files are made")
    if not (re.fullmatch(NAME_PATTERN, facts.name) and re.fullmatch(VERSION_PATTERN, facts.version)):
        raise UsageError(
            f"name {facts.name!r}, version {facts.version!r}: expected such as CSST-2-50 ({NAME_PATTERN}) and 1.0 "
            f"({VERSION_PATTERN})"
        )
    for what, text in (("licence", facts.licence), ("author", facts.author)):
        if printable(text) != text or len(text) > MOST_LETTERS:
            raise UsageError(f"{what} is {brief(text)}: expected one line of at most {MOST_LETTERS} letters")
    if facts.unit not in cards.INPUT_UNITS:
        raise UsageError(f"unit is {facts.unit!r}: expected one of {', '.join(cards.INPUT_UNITS)}")
    if not 1 / cards.MOST_SCALE <= facts.scale <= cards.MOST_SCALE:
        raise UsageError(
            f"scale is {facts.scale}: expected {1 / cards.MOST_SCALE:g} to {cards.MOST_SCALE:g}, a number which pixel "
            "values are divided by"
        )
    if facts.unit == "any" and (facts.standardises or facts.scale != 1):
        raise UsageError("a network for any unit sees asinh((pixel - sky) / noise): expected neither a scale nor norm")


def _card(path: Path, network: NetworkFile, facts: StatedFacts) -> cards.Card:
    name = printable(path.name)[: cards.MOST_FILE_NAME]
    is_mask = network.task == "mask"
    variance = weights.input_variance(network.state, facts.scale)
    return cards.Card(
        identity=cards.CardIdentity(
            name=facts.name,
            task=network.task,
            version=facts.version,
            title=f"A {'mask' if is_mask else 'inpainting'} network imported from {name}",
            authors=[facts.author],
        ),
        provenance=cards.CardProvenance(
            kind="file",
            statement=f"Imported from the file {name}; unit, scale, threshold and licence are as its user stated them.",
            file=cards.SourceFile(name=name, sha256=network.sha256),
        ),
        instrument=cards.CardInstrument(
            telescope=UNKNOWN, instrument=UNKNOWN, detector=UNKNOWN, filters=["*"], data_product=UNKNOWN
        ),
        input=cards.CardInput(
            unit=facts.unit,
            normalisation="noise" if facts.unit == "any" else "frame-standardise" if facts.standardises else "scale",
            scale=facts.scale,
            multiple=multiple(network.architecture),
            halo=halo(network.architecture),
            fingerprint=None if variance is None else cards.Fingerprint(input_variance=float(f"{variance:.3g}")),
        ),
        output=cards.CardOutput(
            quantity="cosmic-ray probability" if is_mask else "pixel value",
            uncertainty=network.architecture.outputs == 2,
            threshold=facts.threshold if is_mask else None,
            threshold_choice=f"{facts.threshold:g}, as its user stated" if is_mask else None,
        ),
        training=cards.CardTraining(data=UNKNOWN, method=UNKNOWN, unknown=["everything"], source="the file alone"),
        published_evaluation=[],
        limits=["No error rates are known: measure it on images of yours first."],
        licence=cards.Licence(spdx=facts.licence, copyright=facts.author, file=_licence_file(network, facts)),
        citation=[METHOD],
        test_vector=cards.CardTestVector(
            description="stars, galaxies and cosmic-ray tracks on a sky of 60, in the input unit "
            f"(deepcr_zoo.models.testvectors.example_image, seed {testvectors.SEED}); expected output in float64"
            + (", computed by the layers of the file as deepCR applies them" if network.upstream else ""),
            tolerance=TOLERANCE,
        ),
    )


def _licence_file(network: NetworkFile, facts: StatedFacts) -> str:
    return f"zoo/weights/LICENSE.{network.task}-{facts.name}-{facts.version.replace('.', '-')}"


def _test_vector(network: NetworkFile, data: bytes, card: cards.Card) -> testvectors.VectorArrays:
    """Return a test vector; that of deepCR's file comes from its own tensors, so that it checks their conversion too."""
    trained = weights.trained_network(data, network.architecture, network.task, card.identity.name)
    if network.upstream is None:
        return testvectors.make(trained, card, testvectors.SEED)
    return testvectors.make_with(lambda channels: reference_output(network, channels), card, testvectors.SEED)


def _verified(data: bytes, architecture: Architecture, card: cards.Card, vector: testvectors.VectorArrays) -> float:
    model = load_files(data, card, architecture, card.identity.name, "cpu", engine="torch")
    found = compare(model, vector)
    if found.verdict != "reproduces" or found.max_difference is None:
        raise ConversionError(
            f"{card.identity.name}: the converted network differs from the file's own layers by {found.max_difference:.2g}, "
            f"{found.tolerance:g} is allowed: it was not imported"
        )
    return found.max_difference


def _write(name: str, facts: StatedFacts, card: cards.Card, architecture: Architecture, contents: dict[str, bytes]) -> None:
    root, card_bytes = local_root(), as_yaml(card)
    licence = f"SPDX-License-Identifier: {facts.licence}\nCopyright: {facts.author}\n".encode()
    locked = LockedVersion(
        released=datetime.datetime.now(datetime.UTC).date(),
        architecture=architecture,
        weights=LockedFile.of(contents[WEIGHTS_FILE]),
        test_vector=LockedFile.of(contents[TEST_VECTOR_FILE]),
        card=LockedFile.of(card_bytes),
        sources=Sources(seed=True),
        warning="it is imported from a file: no error rates are known, and no registry vouches for it",
    )
    entry_path, shelf = root / "zoo" / f"{name}.yaml", root / "zoo" / "weights" / name / facts.version
    copies = {shelf / filename: data for filename, data in contents.items()}
    copies[root / "cards" / name / f"{facts.version}.yaml"] = card_bytes
    with files.reporting_failures(root, "set DEEPCR_ZOO_DATA to a folder that can be"):
        for folder in (entry_path.parent, root / "cards"):
            folder.mkdir(parents=True, exist_ok=True)
        with files.locked(root):
            _check_place(read_registry(root), name)
            known = read_document(entry_path, ModelEntry, root) if files.is_file(entry_path) else None
            versions = {} if known is None else dict(known.versions)
            if (before := versions.get(facts.version)) is not None:
                if (before.weights, before.card) != (locked.weights, locked.card):
                    raise ConversionError(
                        f"{LOCAL}:{name}@{facts.version} exists with another file or other facts, and a version never "
                        f"changes meaning: give --version {_next(list(versions))}"
                    )
                locked_copies = {path: data for path, data in copies.items() if LockedFile.of(data) in vars(before).values()}
                _restore(locked_copies, root / card.licence.file, licence)
                return
            reason = f"is another file of {name}@{facts.version}, which no entry names: move it away"
            files.refuse_others({**copies, root / card.licence.file: licence}, reason, ConversionError)
            versions[facts.version] = locked
            newest = max(versions, key=version_key)
            if known is None:
                entry = ModelEntry(
                    name=facts.name, task=card.identity.task, summary=card.identity.title, default=newest, versions=versions
                )
            else:  # a default that was chosen by hand stays
                follows = known.default == max(known.versions, key=version_key)
                entry = known.model_copy(update={"versions": versions, "default": newest if follows else known.default})
            # the entry is last: what it names is there
            files.write_together({**copies, root / card.licence.file: licence, entry_path: as_yaml(entry)})


def _restore(copies: Mapping[Path, bytes], licence_file: Path, licence: bytes) -> None:
    """Write the files of a version that were lost or damaged; a card that was edited is an error, a licence stays."""
    broken = {path: data for path, data in copies.items() if not files.is_file(path) or files.read_file(path) != data}
    for path in broken:
        if path.suffix == ".yaml" and _is_card(path):
            raise ConversionError(
                f"{path}: was edited, and a version never changes meaning: give --version for a new one, or remove the file"
            )
    files.write_together(broken if licence_file.exists() else {**broken, licence_file: licence})


def _is_card(path: Path) -> bool:
    try:
        read_document(path, cards.Card, path.parent)
    except InvalidDocumentError:
        return False
    return True


def _check_place(registry: Registry, name: str) -> None:
    """Refuse a name whose files would be those of another where a disk does not tell capitals from small letters."""
    other = next((one for one in registry.entries if one != name and one.casefold() == name.casefold()), None)
    if other is not None:
        raise UsageError(f"{LOCAL}:{name}: differs from {LOCAL}:{other} in capitals alone: choose another --name")


def _next(versions: list[str]) -> str:
    return f"{max(version_key(version)[0] for version in versions) + 1}.0"
