"""A version that the registry has already, ready to be published: the seed, for one."""

from __future__ import annotations

from deepcr_zoo import sources
from deepcr_zoo.bench import gates
from deepcr_zoo.bench.subjects import Subject
from deepcr_zoo.cards import read_card
from deepcr_zoo.errors import PublishError, UsageError
from deepcr_zoo.models import load_resolved
from deepcr_zoo.publishing.page import PageFacts, render
from deepcr_zoo.publishing.release import LICENCE_FILE, README_FILE, VERSION_RESULTS_FILE, Release, read_licence
from deepcr_zoo.registry import CARD_FILE, TEST_VECTOR_FILE, WEIGHTS_FILE, ResolvedModel
from deepcr_zoo.results import read_results, results_path


def release_of_model(model: ResolvedModel) -> Release:
    """Everything of a version, with the gates of an imported network.

    Raises
    ------
    UsageError
        If it is of another registry.
    PublishError
        If the network was trained here.
    DeepcrZooError
        If its files are not to be had, or are damaged.
    """
    card, locked = read_card(model), model.locked
    if model.origin.registry is not None:
        raise UsageError(f"{model.reference} is of another registry: publish it from a package that has it as its own")
    if card.provenance.kind != "imported":
        raise PublishError(f"{model.reference} was trained here: name the folder of its run, whose data its gates look at")
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
        LICENCE_FILE: read_licence(model.root, card),
        README_FILE: render(facts),
        TEST_VECTOR_FILE: sources.fetch(model, TEST_VECTOR_FILE).data,
        WEIGHTS_FILE: sources.fetch(model, WEIGHTS_FILE).data,
    }
    if results_path(model).is_file():
        files[VERSION_RESULTS_FILE] = results_path(model).read_bytes()
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
