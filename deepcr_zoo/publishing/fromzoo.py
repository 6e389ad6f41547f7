"""A version that the registry has already, ready to be published: the seed, for one."""

from __future__ import annotations

from deepcr_zoo import sources
from deepcr_zoo.bench import gates
from deepcr_zoo.bench.subjects import Subject
from deepcr_zoo.cards import read_card
from deepcr_zoo.errors import InvalidDocumentError, UsageError
from deepcr_zoo.models import load_resolved
from deepcr_zoo.publishing.page import PageFacts, render
from deepcr_zoo.publishing.release import LICENCE_FILE, README_FILE, Release
from deepcr_zoo.registry import CARD_FILE, TEST_VECTOR_FILE, WEIGHTS_FILE, ResolvedModel
from deepcr_zoo.results import read_results, results_path

RESULTS_FILE = "results.yaml"


def release_of_model(model: ResolvedModel) -> Release:
    """Everything of a version, with the gates of an imported network.

    Raises
    ------
    UsageError
        If the network was trained here.
    DeepcrZooError
        If its files are not to be had, or are damaged.
    """
    card, locked = read_card(model), model.locked
    if card.provenance.kind != "imported":
        raise UsageError(f"{model.reference} was trained here: name the folder of its run, whose data its gates look at")
    verdict = gates.imported_verdict(gates.Network(Subject(model), load_resolved(model, "cpu", engine="torch")))
    facts = PageFacts(
        card=card,
        architecture=locked.architecture,
        weights=locked.weights,
        verdict=verdict,
        cautions=[caution.partition(": ")[2] for caution in model.cautions],
        measurements=read_results(model).measurements,
    )
    files = {
        CARD_FILE: model.card_path.read_bytes(),
        LICENCE_FILE: read_licence(model),
        README_FILE: render(facts),
        TEST_VECTOR_FILE: sources.fetch(model, TEST_VECTOR_FILE).data,
        WEIGHTS_FILE: sources.fetch(model, WEIGHTS_FILE).data,
    }
    if results_path(model).is_file():
        files[RESULTS_FILE] = results_path(model).read_bytes()
    return Release(
        card=card,
        architecture=locked.architecture,
        files=files,
        verdict=verdict,
        summary=model.entry.summary,
        released=locked.released,
        seed=locked.sources.seed,
        warning=locked.warning,
        deprecated=locked.deprecated,
    )


def read_licence(model: ResolvedModel) -> bytes:
    """The text of a model's licence.

    Raises
    ------
    InvalidDocumentError
        If its registry has no such file.
    """
    path = model.root / read_card(model).licence.file
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidDocumentError(
            f"{model.card_path}: licence.file: {path} cannot be read: {error.strerror}; put the text of the licence there"
        ) from None
