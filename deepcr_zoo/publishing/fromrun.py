"""A run, ready to be published, or refused."""

from __future__ import annotations

import datetime

from deepcr_zoo import paths
from deepcr_zoo.bench import exclusions, gates, operating
from deepcr_zoo.bench.results import BenchmarkResults
from deepcr_zoo.bench.subjects import Subject
from deepcr_zoo.cards import Card
from deepcr_zoo.errors import DatasetError, NotMeasuredError, PublishError
from deepcr_zoo.names import for_task
from deepcr_zoo.publishing.page import PageFacts, render
from deepcr_zoo.publishing.release import (
    LICENCE_FILE,
    README_FILE,
    RECIPE_FILE,
    REPORT_FILE,
    REPORT_PICTURES,
    RESULTS_FILE,
    Release,
    read_licence,
)
from deepcr_zoo.recipe import BenchmarkBlock, GatesBlock, QualityBlock, Recipe
from deepcr_zoo.registries import default_registry
from deepcr_zoo.registry import CARD_FILE, TEST_VECTOR_FILE, WEIGHTS_FILE, LockedFile
from deepcr_zoo.training.runs import Run

RECIPE_BESIDE_CARD = ".recipe.yaml"

REHEARSED = "trained on simulated exposures: a rehearsal, not for science"


def release_of_run(run: Run) -> Release:
    """Everything of a run that is published; its gates are asked anew, of its files as they are now.

    Raises
    ------
    RunError
        If it is not trained yet, or damaged.
    PublishError
        If it was not benchmarked, or not on its own training set, or something of it is missing.
    """
    card, results = run.card(), _results(run)
    model = run.model("cpu", "torch")
    try:
        dataset = run.dataset()
        _check_card(run, card, exclusions.seen_in_training(run.recipe, dataset, default_registry()))
        evidence = gates.Evidence(Subject(run), model, dataset, run.recipe, results)
        verdict = gates.verdict(evidence)
        measurement = operating.measurement(results, run.reference)
    except (DatasetError, NotMeasuredError) as error:
        raise PublishError(f"{run.folder}: its gates cannot be asked: {error}: {_bench_again(run)}") from None
    files = {name: _read(run, name) for name in (WEIGHTS_FILE, TEST_VECTOR_FILE, CARD_FILE)}
    drawn = sorted((run.folder / REPORT_PICTURES).glob("*.png"))
    pictures = {f"{REPORT_PICTURES}/{path.name}": path.read_bytes() for path in drawn}
    start, remarks = run.recipe.train.init_from, _remarks(run.recipe)
    base = None if start is None else default_registry().resolve(for_task(start, run.recipe.task))
    facts = PageFacts(
        card=card,
        architecture=run.recipe.train.architecture,
        weights=LockedFile.of(files[WEIGHTS_FILE]),
        verdict=verdict,
        cautions=[REHEARSED] if dataset.manifest.rehearsal else [],
        measurements=[] if measurement is None else [measurement],
        results=results,
        method=run.reference,
        base_model=None if base is None else base.reference,
        base_repository=None if base is None or base.locked.sources.hub is None else base.locked.sources.hub.repo,
        remarks=remarks,
        picture=next((name for name in pictures if name.endswith("/roc-all.png")), None),
    )
    recipe = _read(run, RECIPE_FILE)
    files |= {
        README_FILE: render(facts),
        LICENCE_FILE: read_licence(paths.data_root(), card),
        RECIPE_FILE: recipe,
        RESULTS_FILE: _read(run, RESULTS_FILE),
        REPORT_FILE: _read(run, REPORT_FILE),
        **pictures,
    }
    return Release(
        card=card,
        architecture=run.recipe.train.architecture,
        files=files,
        verdict=verdict,
        summary=run.recipe.publish.summary,
        released=datetime.datetime.now(datetime.UTC).date(),
        warning=REHEARSED if dataset.manifest.rehearsal else None,
        beside_card={RECIPE_BESIDE_CARD: recipe},
        measurement=measurement,
        remarks=remarks,
        repository=run.recipe.publish.repository,
    )


def _results(run: Run) -> BenchmarkResults:
    if not run.is_evaluated:
        raise PublishError(f"{run.folder}: was not benchmarked: {_bench_again(run)}")
    results = run.results()
    if results.data.manifest_sha256 != run.facts.manifest_sha256:
        raise PublishError(f"{run.folder}: was benchmarked on another training set than its own: {_bench_again(run)}")
    return results


def _check_card(run: Run, card: Card, visits: list[str] | None) -> None:
    """The card is of this run, whatever people have filled in."""
    identity, provenance = card.identity, card.provenance
    pairs = [
        ("identity.name", identity.name, run.facts.name),
        ("identity.task", identity.task, run.facts.task),
        ("provenance.kind", provenance.kind, "trained"),
        ("provenance.recipe_sha256", provenance.recipe_sha256, run.facts.recipe_sha256),
        ("provenance.manifest_sha256", provenance.manifest_sha256, run.facts.manifest_sha256),
        ("training.visits", card.training.visits, visits),
    ]
    for field, found, expected in pairs:
        if found != expected:
            raise PublishError(f"{run.folder / CARD_FILE}: {field}: expected {expected}, got {found}: restore it")


def _remarks(recipe: Recipe) -> list[str]:
    """Bounds of gates, and what the best L.A.Cosmic is looked for in, where they are not the default ones."""
    blocks = [
        ("gates", GatesBlock(), recipe.gates),
        ("build.quality", QualityBlock(), recipe.build.quality),
        ("benchmark", BenchmarkBlock(), recipe.benchmark),
    ]
    pairs = [(f"{block}.{name}", usual, getattr(found, name)) for block, default, found in blocks for name, usual in default]
    return [f"{field} is {found}, the default is {usual}" for field, usual, found in pairs if found != usual]


def _read(run: Run, name: str) -> bytes:
    try:
        return (run.folder / name).read_bytes()
    except OSError as error:
        raise PublishError(f"{run.folder / name}: cannot be read: {error.strerror}: {_bench_again(run)}") from None


def _bench_again(run: Run) -> str:
    return f"deepcr-zoo bench {run.folder} makes what is missing"
