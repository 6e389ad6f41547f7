"""End of a training: weights, test vector and draft card, pictures, and the evaluation on the test visits."""

from __future__ import annotations

import datetime

from deepcr_zoo.bench import exclusions
from deepcr_zoo.bench.judging import Extent, benchmark
from deepcr_zoo.bench.proof import prove
from deepcr_zoo.bench.results import RESULTS_FILE, BenchmarkResults, write_results
from deepcr_zoo.bench.runs import Run
from deepcr_zoo.bench.subjects import Subject
from deepcr_zoo.dataset.reading import Dataset
from deepcr_zoo.documents import as_yaml
from deepcr_zoo.errors import DataError, MissingExtraError, command
from deepcr_zoo.exposures.pictures import require_matplotlib
from deepcr_zoo.files import write_together
from deepcr_zoo.models.baselines import require_astroscrappy
from deepcr_zoo.models.model import InpaintModel, MaskModel
from deepcr_zoo.models.weights import serialise
from deepcr_zoo.progress import Reporter
from deepcr_zoo.training.calibration import calibrated
from deepcr_zoo.training.checkpoints import reporting_run_failures
from deepcr_zoo.training.draftcard import DraftFacts, draft_card, draft_test_vector
from deepcr_zoo.training.plots import plot_loss, plot_test_stamps
from deepcr_zoo.training.runs import LOSS_PICTURE, STAMPS_PICTURE
from deepcr_zoo.training.state import TrainingState
from deepcr_zoo.zoo.recipe import Recipe
from deepcr_zoo.zoo.registries import default_registry
from deepcr_zoo.zoo.registry import CARD_FILE, TEST_VECTOR_FILE, WEIGHTS_FILE


def finalize(run: Run, dataset: Dataset, state: TrainingState, reporter: Reporter, *, proves: bool, jobs: int) -> None:
    """Write the model of a finished training into its run, draw it and evaluate it; existing files are replaced.

    The card is not, if it is of this model: somebody may have edited it.
    With `proves`, baselines, gates and the report are part of the evaluation; `jobs` processes run L.A.Cosmic.
    """
    with reporting_run_failures(run.folder):
        _write_model(run, dataset, state)
        model = run.model(str(state.device))
        _draw(run, dataset, model, state, reporter)
        _evaluate(run, dataset, str(model.device), reporter, proves, jobs)


def _write_model(run: Run, dataset: Dataset, state: TrainingState) -> None:
    """Write weights, test vector and, last, the card, unless it is there."""
    best = {name: tensor.cpu() for name, tensor in state.best.items()}
    if run.recipe.train.architecture.outputs == 2:
        best = calibrated(best, run.recipe, dataset, state.device)
    data, architecture = serialise(best), run.recipe.train.architecture
    facts = DraftFacts(
        recipe_sha256=run.facts.recipe_sha256,
        manifest=dataset.manifest,
        manifest_sha256=run.facts.manifest_sha256,
        history=state.progress.history,
        date=datetime.datetime.now(datetime.UTC).date(),
        visits=exclusions.seen_in_training(run.recipe, dataset, default_registry()),
    )
    card = draft_card(run.recipe, _next_version(run.recipe), best, facts)
    contents = {
        run.folder / WEIGHTS_FILE: data,
        run.folder / TEST_VECTOR_FILE: draft_test_vector(data, card, architecture),
    }
    if not _has_card(run):
        contents[run.folder / CARD_FILE] = as_yaml(card)
    write_together(contents)


def _has_card(run: Run) -> bool:
    """True if a run has a card of its own, also if its weights were lost; InvalidDocumentError if it cannot be read."""
    if not run.is_trained:
        return False
    card, facts = run.card(), run.facts
    found = (card.provenance.recipe_sha256, card.provenance.manifest_sha256)
    return found == (facts.recipe_sha256, facts.manifest_sha256)


def _next_version(recipe: Recipe) -> str:
    """Return the version after the newest of this name in the registry."""
    found = [entry for entry in default_registry().find(f"{recipe.task}/{recipe.name}") if entry.name == recipe.name]
    majors = [int(version.partition(".")[0]) for entry in found for version in entry.versions]
    return f"{max(majors, default=0) + 1}.0"


def _draw(run: Run, dataset: Dataset, model: MaskModel | InpaintModel, state: TrainingState, reporter: Reporter) -> None:
    try:
        require_matplotlib()
    except MissingExtraError as error:
        reporter.message("caution", f"no pictures: {error}", "caution")
        return
    plot_loss(state.progress.history, run.folder / LOSS_PICTURE)
    if any(dataset.exposures("test")):
        plot_test_stamps(model, dataset, run.folder / STAMPS_PICTURE)


def _evaluate(run: Run, dataset: Dataset, device: str, reporter: Reporter, proves: bool, jobs: int) -> None:
    """Evaluate the model on the test visits; a training set without any leaves the run without results."""
    try:
        results = _prove(run, dataset, device, reporter, jobs) if proves else _benchmark(run, dataset, device, reporter)
    except DataError as error:
        reporter.message("caution", f"not evaluated: {error}", "caution")
        return
    for caution in results.cautions:
        reporter.message("caution", caution, "caution")


def _prove(run: Run, dataset: Dataset, device: str, reporter: Reporter, jobs: int) -> BenchmarkResults:
    """Benchmark with baselines, gates and report, or the model alone if the packages for these are missing."""
    subjects, again = [Subject(run)], command("bench", run.folder)
    try:
        require_matplotlib()
        require_astroscrappy()
    except MissingExtraError as error:
        reporter.message("caution", f"no baselines, no gates, no report: {error}; then {again} makes them", "caution")
        return _benchmark(run, dataset, device, reporter)
    proven = prove(
        subjects, dataset, run.recipe, again, run.folder, extent=Extent(), device=device, jobs=jobs, reporter=reporter
    )
    return proven[0]


def _benchmark(run: Run, dataset: Dataset, device: str, reporter: Reporter) -> BenchmarkResults:
    extent = Extent(lacosmic=False, runtime=False, gates=False)
    results = benchmark(
        [Subject(run)], dataset, run.recipe, run.facts.command, extent=extent, device=device, reporter=reporter
    )
    write_results(results, run.folder / RESULTS_FILE)
    return results
