"""Releases: one version of one model with all its files and the verdict of its gates, from a run or from the registry."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from deepcr_zoo.bench import exclusions, gates, operatingpoints, output
from deepcr_zoo.bench.freshtests import with_fresh_tests
from deepcr_zoo.bench.results import MOST_RESULTS_BYTES, RESULTS_FILE, BenchmarkResults, ModelVerdict, read_results
from deepcr_zoo.bench.runs import Run
from deepcr_zoo.bench.subjects import Subject
from deepcr_zoo.dataset.plans import plan_build
from deepcr_zoo.dataset.reading import Dataset
from deepcr_zoo.documents import as_json, document_bytes, parse_document
from deepcr_zoo.errors import DatasetError, GateError, NotMeasuredError, PublishError, UsageError, command
from deepcr_zoo.files import read_below, read_file, refuse_links_below
from deepcr_zoo.locations import data_root
from deepcr_zoo.models.model import load_resolved
from deepcr_zoo.publishing.configuration import configuration
from deepcr_zoo.publishing.example import EXAMPLE_FILE, example_picture
from deepcr_zoo.publishing.page import PageFacts, render
from deepcr_zoo.zoo import sources
from deepcr_zoo.zoo.cards import Card, read_card
from deepcr_zoo.zoo.names import for_task
from deepcr_zoo.zoo.recipe import BenchmarkBlock, GatesBlock, QualityBlock, Recipe
from deepcr_zoo.zoo.records import Measurement, read_records, results_path
from deepcr_zoo.zoo.registries import default_registry
from deepcr_zoo.zoo.registry import (
    CARD_FILE,
    CONFIG_FILE,
    LICENCE_FILE,
    ORGANISATION,
    REPOSITORY_PATTERN,
    TEST_VECTOR_FILE,
    WEIGHTS_FILE,
    Architecture,
    HubPin,
    LockedFile,
    LockedVersion,
    ResolvedModel,
    Sources,
)
from deepcr_zoo.zoo.runfolders import RECIPE_FILE, REHEARSED

README_FILE, REPORT_FILE, REPORT_PICTURES = "README.md", output.PAGE, output.PICTURES
_FILES_OF_RUN = (WEIGHTS_FILE, TEST_VECTOR_FILE, CARD_FILE, RECIPE_FILE, RESULTS_FILE, REPORT_FILE)
VERSION_RESULTS_FILE = "results.yaml"  # results on record of a version, beside those of one benchmark (`RESULTS_FILE`)
LOCKED_FILES = (WEIGHTS_FILE, TEST_VECTOR_FILE, CARD_FILE)  # two releases of the same version are the same if these are
RECIPE_BESIDE_CARD, RESULTS_BESIDE_CARD = ".recipe.yaml", ".benchmark.json"


@dataclass(frozen=True)
class Release:
    """A version that is ready to be published, or refused."""

    card: Card
    architecture: Architecture
    files: Mapping[str, bytes]  # content of its repository, by path
    verdict: ModelVerdict
    summary: str  # one line for tables
    released: datetime.date  # day on which the version enters the registry
    facts: PageFacts  # what its page is rendered from
    seed: bool = False  # true if this package bundles it
    warning: str | None = None
    deprecated: str | None = None
    beside_card: Mapping[str, bytes] = field(default_factory=dict)
    """Files beside the card in a checkout, by the suffix that follows the version, such as ``.recipe.yaml``. Its benchmark
    has the verdict of the day on which it was published, which `release_of_model` shows later without run and data."""
    measurement: Measurement | None = None  # operating points from the benchmark
    remarks: Sequence[str] = ()  # notes for a reviewer, such as bounds of gates that are not the defaults
    repository: str | None = None  # repository that its recipe names

    @property
    def entry(self) -> str:
        """``task/name``."""
        return f"{self.card.identity.task}/{self.card.identity.name}"

    @property
    def reference(self) -> str:
        """``task/name@version``."""
        return f"{self.entry}@{self.card.identity.version}"

    @property
    def tag(self) -> str:
        return f"v{self.card.identity.version}"

    @property
    def title(self) -> str:
        return f"Version {self.card.identity.version} of {self.entry}"

    @property
    def repository_name(self) -> str:
        """Name of its repository within any organisation."""
        return self.entry.replace("/", "-")

    @property
    def locked_files(self) -> dict[str, bytes]:
        """Files whose hashes the registry locks."""
        return {name: self.files[name] for name in LOCKED_FILES}

    def in_repository(self, repository: str) -> Release:
        """Return the release with the page for a repository, whose owner decides how the model is loaded."""
        organisation = repository.partition("/")[0]
        if organisation == self.facts.organisation:
            return self
        facts = dataclasses.replace(self.facts, organisation=organisation)
        return dataclasses.replace(self, facts=facts, files={**self.files, README_FILE: render(facts)})

    def locked(self, pin: HubPin | None) -> LockedVersion:
        """Return the registry's lock of this version, with its place on the Hub."""
        return LockedVersion(
            released=self.released,
            architecture=self.architecture,
            weights=LockedFile.of(self.files[WEIGHTS_FILE]),
            test_vector=LockedFile.of(self.files[TEST_VECTOR_FILE]),
            card=LockedFile.of(self.files[CARD_FILE]),
            sources=Sources(seed=self.seed, hub=pin),
            warning=self.warning,
            deprecated=self.deprecated,
        )

    def check_gates(self) -> None:
        """Raise a GateError that names each gate that fails; nothing skips a gate."""
        if failures := self.verdict.failures:
            count, reasons = f"{len(failures)} of {len(self.verdict.gates)}", "; ".join(failures)
            raise GateError(f"{self.verdict.reference}: {count} gates fail, so it is not published: {reasons}")


def repository_of(release: Release, given: str | None) -> str:
    """Return the repository of a release: the given one (ORG/NAME or ORG), else that of its recipe, else the zoo's."""
    chosen = given or release.repository or ORGANISATION
    organisation, slash, name = chosen.partition("/")
    repository = f"{organisation}/{release.repository_name}"
    if not re.fullmatch(REPOSITORY_PATTERN, repository) or (slash and name != release.repository_name):
        raise UsageError(
            f"repository {chosen}: expected {organisation or 'ORG'}/{release.repository_name}, the name of {release.entry} "
            "in every organisation"
        )
    return repository


def release_of_run(run: Run) -> Release:
    """Return the release of a run; its gates are applied anew, to its files as they are now.

    PublishError if it was not benchmarked, or not on test visits of its recipe, or a file is missing; IntegrityError for
    links, which would publish whatever file they lead to.
    """
    refuse_links_below(run.folder.resolve())
    run.card()  # says what to do where there is none
    if not run.is_evaluated:
        raise PublishError(f"{run.folder}: was not benchmarked: {_bench_advice(run)}")
    files = {name: _read(run, name) for name in _FILES_OF_RUN}
    card, results = run.card(), run.results()
    model = run.model("cpu", "torch")
    try:
        dataset = run.dataset()
        _check_card(run, card, exclusions.seen_in_training(run.recipe, dataset, default_registry()))
        recipe, judged_on = _test_data(run, model.sha256, dataset, results)
        verdict = gates.verdict(gates.Evidence(Subject(run), model, recipe, results, judged_on))
        measurement = operatingpoints.measurement(results, run.reference)
    except (DatasetError, NotMeasuredError) as error:
        raise PublishError(f"{run.folder}: its gates cannot be applied: {error}: {_bench_advice(run)}") from None
    if changed := [name for name, data in files.items() if _read(run, name) != data]:
        raise PublishError(
            f"{run.folder / changed[0]}: has changed since its gates were applied: run again when it is at rest"
        )
    drawn = sorted(f"{REPORT_PICTURES}/{path.name}" for path in (run.folder / REPORT_PICTURES).glob("*.png"))
    pictures = _drawn_by_bench(run, {name: _read(run, name) for name in drawn})
    facts = PageFacts(
        card=card,
        architecture=run.recipe.train.architecture,
        weights=LockedFile.of(files[WEIGHTS_FILE]),
        verdict=verdict,
        cautions=[REHEARSED] if dataset.manifest.rehearsal else [],
        measurements=[] if measurement is None else [measurement],
        results=results,
        method=run.reference,
        picture=next((name for name in pictures if name.endswith("/roc-all.png")), None),
        example=EXAMPLE_FILE,
    )
    facts = with_recipe(facts, run.recipe)
    return Release(
        card=card,
        architecture=run.recipe.train.architecture,
        files={
            **files,
            **pictures,
            EXAMPLE_FILE: example_picture(card, files[TEST_VECTOR_FILE]),
            README_FILE: render(facts),
            LICENCE_FILE: _licence(data_root(), card),
            CONFIG_FILE: configuration(card, run.recipe.train.architecture, files),
        },
        facts=facts,
        verdict=verdict,
        summary=run.recipe.publish.summary,
        released=datetime.datetime.now(datetime.UTC).date(),
        warning=REHEARSED if dataset.manifest.rehearsal else None,
        beside_card={
            RECIPE_BESIDE_CARD: files[RECIPE_FILE],
            RESULTS_BESIDE_CARD: as_json(results.model_copy(update={"verdicts": [verdict]})),
        },
        measurement=measurement,
        remarks=[*_on_fresh_tests(facts, results.data.seeds), *facts.remarks],
        repository=run.recipe.publish.repository,
    )


def _drawn_by_bench(run: Run, pictures: dict[str, bytes]) -> dict[str, bytes]:
    """Return pictures that a benchmark has drawn; one of others, which may be private, raises `PublishError`."""
    written = output.check(run.folder, ())
    for name, data in pictures.items():
        if written.get(name) != hashlib.sha256(data).hexdigest():
            raise PublishError(f"{run.folder / name}: is not of its benchmark: move it away, or {_bench_advice(run)}")
    return pictures


def _test_data(run: Run, sha256: str, own: Dataset, results: BenchmarkResults) -> tuple[Recipe, Dataset]:
    """Return what a run was judged on, with its recipe: the test visits of its own training set, or fresh ones."""
    if results.data.manifest_sha256 == own.manifest_sha256:
        return run.recipe, own
    if run.recipe.data.simulated is not None and not run.facts.rehearsal:
        recipe = with_fresh_tests(run.recipe, sha256)
        fresh = Dataset.open(plan_build(recipe, home=own.home).folder)
        if results.data.manifest_sha256 == fresh.manifest_sha256:
            fresh.check_recipe(recipe, rehearsal=False)
            return recipe, fresh
    raise PublishError(f"{run.folder}: was benchmarked on another training set than its own: {_bench_advice(run)}")


def _on_fresh_tests(facts: PageFacts, seeds: Sequence[int]) -> list[str]:
    if not facts.has_fresh_tests:
        return []
    return [f"judged on fresh test visits (seeds {min(seeds)} to {max(seeds)}), not on its own"]


def _check_card(run: Run, card: Card, visits: list[str] | None) -> None:
    """Refuse a card of another run; people edit the card, but not these fields."""
    identity, provenance = card.identity, card.provenance
    pairs = [
        ("identity.name", identity.name, run.facts.name),
        ("identity.task", identity.task, run.facts.task),
        ("provenance.kind", provenance.kind, "trained"),
        ("provenance.recipe_sha256", provenance.recipe_sha256, run.facts.recipe_sha256),
        ("provenance.manifest_sha256", provenance.manifest_sha256, run.facts.manifest_sha256),
        ("training.visits", card.training.visits, visits),
    ]
    for key, found, expected in pairs:
        if found != expected:
            raise PublishError(f"{run.folder / CARD_FILE}: {key}: expected {expected}, got {found}: restore it")


def _remarks(recipe: Recipe) -> list[str]:
    """List the bounds of gates, and the grid of L.A.Cosmic, that are not the defaults."""
    blocks = [
        ("gates", GatesBlock(), recipe.gates),
        ("build.quality", QualityBlock(), recipe.build.quality),
        ("benchmark", BenchmarkBlock(), recipe.benchmark),
    ]
    pairs = [(f"{block}.{name}", usual, getattr(found, name)) for block, default, found in blocks for name, usual in default]
    return [f"{field} is {found}, the default is {usual}" for field, usual, found in pairs if found != usual]


def _read(run: Run, name: str) -> bytes:
    try:
        return read_below(run.folder, name)
    except OSError as error:
        raise PublishError(f"{run.folder / name}: cannot be read: {error.strerror}: {_bench_advice(run)}") from None


def _bench_advice(run: Run) -> str:
    is_on_own = not run.is_evaluated or run.results().data.manifest_sha256 == run.facts.manifest_sha256
    return f"{command('bench', run.folder, *([] if is_on_own else ['--fresh']))} makes what is missing"


def release_of_model(model: ResolvedModel) -> Release:
    """Return the release of a version of the registry, imported or trained here.

    Gates of the data of a model trained here are those on record beside its card; all others are applied anew.
    """
    card, locked = read_card(model), model.locked
    if model.origin.registry is not None:
        raise UsageError(f"{model.reference} is of another registry: publish it from a package that has it as its own")
    candidate = gates.Candidate(Subject(model), load_resolved(model, "cpu", engine="torch"))
    is_trained_here = card.provenance.kind == "trained"
    beside_card = _beside_card(model) if is_trained_here else {}
    listed = listed_model(model, candidate) if is_trained_here else None
    facts = PageFacts(
        card=card,
        architecture=locked.architecture,
        weights=locked.weights,
        verdict=gates.imported_verdict(candidate) if listed is None else gates.listed_verdict(listed),
        cautions=locked.cautions,
        measurements=read_records(model).measurements,
        example=EXAMPLE_FILE,
    )
    files = {
        CARD_FILE: read_file(model.card_path),
        LICENCE_FILE: _licence(model.root, card),
        TEST_VECTOR_FILE: sources.fetch(model, TEST_VECTOR_FILE).data,
        WEIGHTS_FILE: sources.fetch(model, WEIGHTS_FILE).data,
    }
    if listed is not None:
        facts = _with_benchmark(facts, listed)
        files |= {RECIPE_FILE: beside_card[RECIPE_BESIDE_CARD], RESULTS_FILE: beside_card[RESULTS_BESIDE_CARD]}
    files[EXAMPLE_FILE] = example_picture(card, files[TEST_VECTOR_FILE])
    files[README_FILE] = render(facts)
    files[CONFIG_FILE] = configuration(card, locked.architecture, files)
    if results_path(model).is_file():
        files[VERSION_RESULTS_FILE] = read_file(results_path(model))
    return Release(
        card=card,
        architecture=locked.architecture,
        files=files,
        facts=facts,
        verdict=facts.verdict,
        summary=model.entry.summary,
        released=locked.released,
        seed=locked.sources.seed,
        warning=locked.warning,
        deprecated=locked.deprecated,
        beside_card=beside_card,
        remarks=facts.remarks,
    )


def _beside_card(model: ResolvedModel) -> dict[str, bytes]:
    """Return the recipe of a model trained here, and its benchmark, by the suffixes of their files beside the card."""
    return {suffix: _listed(model, suffix) for suffix in (RECIPE_BESIDE_CARD, RESULTS_BESIDE_CARD)}


def _listed(model: ResolvedModel, suffix: str) -> bytes:
    path = model.card_path.with_suffix(suffix)
    if not path.is_file():
        raise PublishError(
            f"{model.reference}: {path} is missing: it stands beside the card of a network that was trained here, and its "
            "run has it: publish that"
        )
    return document_bytes(path, path, MOST_RESULTS_BYTES)


def _with_benchmark(facts: PageFacts, listed: gates.Listed) -> PageFacts:
    """Add the benchmark on record of a model trained here, and what its recipe says."""
    try:
        method = listed.name
    except NotMeasuredError as error:
        raise PublishError(f"{listed.subject.reference}: its gates cannot be applied: {error}") from None
    return with_recipe(dataclasses.replace(facts, results=listed.results, method=method), listed.recipe)


def listed_model(model: ResolvedModel, candidate: gates.Candidate) -> gates.Listed:
    """Return a model of the registry that was trained here, with its recipe and the benchmark on record beside its card."""
    recipe = _listed_recipe(model, candidate.model.card)
    results = read_results(model.card_path.with_suffix(RESULTS_BESIDE_CARD))
    return gates.Listed(candidate.subject, candidate.model, recipe, results)


def _listed_recipe(model: ResolvedModel, card: Card) -> Recipe:
    """Return the recipe beside a card; `PublishError` unless it is that of the card."""
    path = model.card_path.with_suffix(RECIPE_BESIDE_CARD)
    data = _listed(model, RECIPE_BESIDE_CARD)
    if hashlib.sha256(data).hexdigest() != card.provenance.recipe_sha256:
        raise PublishError(f"{path}: is not the recipe of the card: expected sha256 {card.provenance.recipe_sha256}")
    recipe = parse_document(data, Recipe, path)
    if (recipe.task, recipe.name) != (card.identity.task, card.identity.name):
        raise PublishError(
            f"{path}: expected the recipe of {model.entry.reference}, got that of {recipe.task}/{recipe.name}"
        )
    return recipe


def with_recipe(facts: PageFacts, recipe: Recipe) -> PageFacts:
    """Add the network that training started from, if any, and the bounds that are not the defaults."""
    name = recipe.train.init_from
    base = None if name is None else default_registry().resolve(for_task(name, recipe.task))
    pin = None if base is None else base.locked.sources.hub
    return dataclasses.replace(
        facts,
        base_model=None if base is None else base.reference,
        base_repository=None if pin is None else pin.repo,
        remarks=_remarks(recipe),
    )


def _licence(root: Path, card: Card) -> bytes:
    """Return the text of a model's licence, whose path in the card starts from `root`."""
    try:
        return read_below(root, card.licence.file)
    except OSError as error:
        path = root / card.licence.file
        raise PublishError(f"licence.file: {path} cannot be read: {error.strerror}: put the licence's text there") from None
