"""What a finished training leaves in its run: weights, test vector, draft card, evaluation, pictures."""

from __future__ import annotations

import datetime

from deepcr_zoo.bench import exclusions
from deepcr_zoo.bench.judging import Extent, benchmark
from deepcr_zoo.bench.proof import prove
from deepcr_zoo.bench.results import RESULTS_FILE, BenchmarkResults, write_results
from deepcr_zoo.bench.runs import CARD_FILE, Run
from deepcr_zoo.bench.subjects import Subject
from deepcr_zoo.dataset.reading import Dataset
from deepcr_zoo.documents import as_yaml
from deepcr_zoo.errors import DataError, MissingExtraError
from deepcr_zoo.exposures.pictures import require_matplotlib
from deepcr_zoo.files import write_together
from deepcr_zoo.models.baselines import require_astroscrappy
from deepcr_zoo.models.model import InpaintModel, MaskModel
from deepcr_zoo.models.weights import serialise
from deepcr_zoo.progress import Reporter
from deepcr_zoo.training.checkpoints import failure_is_told
from deepcr_zoo.training.draftcard import DraftFacts, draft_card, draft_test_vector
from deepcr_zoo.training.plots import write_examples, write_loss_curve
from deepcr_zoo.training.runs import LOSS_PICTURE, STAMPS_PICTURE
from deepcr_zoo.training.state import Training
from deepcr_zoo.zoo.recipe import Recipe
from deepcr_zoo.zoo.registries import default_registry
from deepcr_zoo.zoo.registry import TEST_VECTOR_FILE, WEIGHTS_FILE


def write(run: Run, dataset: Dataset, training: Training, reporter: Reporter, *, whole: bool = True, jobs: int = 1) -> str:
    """Write all of it; what is there is written anew; gives the folder.

    Parameters
    ----------
    run : Run
    dataset : Dataset
    training : Training
        Whose best weights become the model.
    reporter : Reporter
    whole : bool
        Whether baselines, gates and the report are part of the evaluation.
    jobs : int
        Processes for L.A.Cosmic.

    Raises
    ------
    OutputError
        If something cannot be written.
    DatasetError
        If files of the training set are missing or damaged.
    """
    with failure_is_told(run.folder):
        _write_model(run, dataset, training)
        model = run.model(str(training.device))
        _draw(run, dataset, model, training, reporter)
        _evaluate(run, dataset, model, reporter, whole, jobs)
    return str(run.folder)


def _write_model(run: Run, dataset: Dataset, training: Training) -> None:
    """Weights, test vector and, last, the card."""
    state = {name: tensor.cpu() for name, tensor in training.best.items()}
    data, architecture = serialise(state), run.recipe.train.architecture
    facts = DraftFacts(
        recipe_sha256=run.facts.recipe_sha256,
        manifest=dataset.manifest,
        manifest_sha256=run.facts.manifest_sha256,
        history=training.progress.history,
        date=datetime.datetime.now(datetime.UTC).date(),
        visits=exclusions.seen_in_training(run.recipe, dataset, default_registry()),
    )
    card = draft_card(run.recipe, next_version(run.recipe), state, facts)
    contents = {
        run.folder / WEIGHTS_FILE: data,
        run.folder / TEST_VECTOR_FILE: draft_test_vector(data, card, architecture),
        run.folder / CARD_FILE: as_yaml(card),
    }
    write_together(contents)


def next_version(recipe: Recipe) -> str:
    """What a model of this name would be released as: one more than what the registry has."""
    found = [one for one in default_registry().find(f"{recipe.task}/{recipe.name}") if one.name == recipe.name]
    majors = [int(version.partition(".")[0]) for entry in found for version in entry.versions]
    return f"{max(majors, default=0) + 1}.0"


def _evaluate(
    run: Run, dataset: Dataset, model: MaskModel | InpaintModel, reporter: Reporter, whole: bool, jobs: int
) -> None:
    """The test visits; a training set without any leaves the run without results, and that is told."""
    device = str(model.device)
    try:
        results = _proved(run, dataset, device, reporter, jobs) if whole else _judged(run, dataset, device, reporter)
    except DataError as error:
        reporter.message("caution", f"not evaluated: {error}", "caution")
        return
    for caution in results.cautions:
        reporter.message("caution", caution, "caution")


def _proved(run: Run, dataset: Dataset, device: str, reporter: Reporter, jobs: int) -> BenchmarkResults:
    """All of it, or as much as is installed here."""
    extent, command = Extent(), f"deepcr-zoo bench {run.folder}"
    try:
        require_matplotlib()
        require_astroscrappy()
    except MissingExtraError as error:
        reporter.message("caution", f"no baselines, no gates, no report: {error}; then {command} makes them", "caution")
        return _judged(run, dataset, device, reporter)
    return prove(
        [Subject(run)], dataset, run.recipe, command, run.folder, extent=extent, device=device, jobs=jobs, reporter=reporter
    )[0]


def _judged(run: Run, dataset: Dataset, device: str, reporter: Reporter) -> BenchmarkResults:
    """The model alone."""
    extent = Extent(lacosmic=False, runtime=False, gates=False)
    results = benchmark(
        [Subject(run)], dataset, run.recipe, run.facts.command, extent=extent, device=device, reporter=reporter
    )
    write_results(results, run.folder / RESULTS_FILE)
    return results


def _draw(run: Run, dataset: Dataset, model: MaskModel | InpaintModel, training: Training, reporter: Reporter) -> None:
    try:
        require_matplotlib()
    except MissingExtraError as error:
        reporter.message("caution", f"no pictures: {error}", "caution")
        return
    write_loss_curve(training.progress.history, run.folder / LOSS_PICTURE)
    if any(dataset.exposures("test")):
        write_examples(model, dataset, run.folder / STAMPS_PICTURE)
