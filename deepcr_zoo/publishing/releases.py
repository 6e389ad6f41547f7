"""What is published: one version of one model, complete, with what its gates say."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from deepcr_zoo.bench import exclusions, gates, operating
from deepcr_zoo.bench.results import RESULTS_FILE, BenchmarkResults, ModelVerdict
from deepcr_zoo.bench.runs import Run
from deepcr_zoo.bench.subjects import Subject
from deepcr_zoo.errors import DatasetError, GateError, NotMeasuredError, PublishError, UsageError
from deepcr_zoo.files import data_root
from deepcr_zoo.models.model import load_resolved
from deepcr_zoo.publishing.page import PageFacts, render
from deepcr_zoo.zoo import sources
from deepcr_zoo.zoo.cards import Card, read_card
from deepcr_zoo.zoo.names import for_task
from deepcr_zoo.zoo.recipe import BenchmarkBlock, GatesBlock, QualityBlock, Recipe
from deepcr_zoo.zoo.records import Measurement, read_results, results_path
from deepcr_zoo.zoo.registries import default_registry
from deepcr_zoo.zoo.registry import (
    CARD_FILE,
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

README_FILE, LICENCE_FILE = "README.md", "LICENSE"
RECIPE_FILE, REPORT_FILE, REPORT_PICTURES = "recipe.yaml", "report.html", "report"
VERSION_RESULTS_FILE = "results.yaml"
"""What is on record of a version, beside the results of one benchmark."""

LOCKED_FILES = (WEIGHTS_FILE, TEST_VECTOR_FILE, CARD_FILE)
"""What makes a version: two releases of the same version are the same if these are."""


@dataclass(frozen=True)
class Release:
    """A version that is ready to be published, or refused.

    Attributes
    ----------
    card : Card
    architecture : Architecture
    files : mapping of str to bytes
        What goes into its repository, by path.
    verdict : ModelVerdict
        What each gate says.
    summary : str
        One line for tables.
    released : datetime.date
        Day on which the version enters the registry.
    seed : bool
        Whether this package bundles it.
    warning, deprecated : str or None
        Cautions to its users.
    beside_card : mapping of str to bytes
        What is kept beside the card in a checkout, by what is put after the version: ``.recipe.yaml``.
    measurement : Measurement or None
        Operating points that the benchmark has found.
    remarks : sequence of str
        What a reviewer should know, such as gates that are not the default ones.
    repository : str or None
        Where its recipe wants it.
    """

    card: Card
    architecture: Architecture
    files: Mapping[str, bytes]
    verdict: ModelVerdict
    summary: str
    released: datetime.date
    seed: bool = False
    warning: str | None = None
    deprecated: str | None = None
    beside_card: Mapping[str, bytes] = field(default_factory=dict)
    measurement: Measurement | None = None
    remarks: Sequence[str] = ()
    repository: str | None = None

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
        """Of its commit."""
        return f"v{self.card.identity.version}"

    @property
    def title(self) -> str:
        """Of its commit."""
        return f"Version {self.card.identity.version} of {self.entry}"

    @property
    def repository_name(self) -> str:
        """Of its repository, within any organisation."""
        return self.entry.replace("/", "-")

    @property
    def locked_files(self) -> dict[str, bytes]:
        """Those whose hashes the registry locks."""
        return {name: self.files[name] for name in LOCKED_FILES}

    def locked(self, pin: HubPin | None) -> LockedVersion:
        """What the registry locks of it.

        Parameters
        ----------
        pin : HubPin or None
            Where the Hub has it.
        """
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
        """Refuse a model whose gates have not all passed; nothing skips one.

        Raises
        ------
        GateError
            Naming each gate that fails, what it measured and its bound.
        """
        failing = [gate for gate in self.verdict.gates if gate.verdict == "fails"]
        if failing:
            told = "; ".join(
                f"{gate.gate}{f' ({gate.field_type})' if gate.field_type else ''}: {gate.measured}, expected {gate.bound}"
                for gate in failing
            )
            count = f"{len(failing)} of {len(self.verdict.gates)}"
            raise GateError(f"{self.verdict.reference}: {count} gates fail, so it is not published: {told}")


def read_licence(root: Path, card: Card) -> bytes:
    """The text of a model's licence.

    Parameters
    ----------
    root : Path
        Folder that the card's path starts from.
    card : Card

    Raises
    ------
    PublishError
        If there is no such file.
    """
    path = root / card.licence.file
    try:
        return path.read_bytes()
    except OSError as error:
        raise PublishError(f"licence.file: {path} cannot be read: {error.strerror}: put the licence's text there") from None


def repository_of(release: Release, given: str | None) -> str:
    """The repository that a release belongs into: the given one, else that of its recipe, else that of the zoo.

    Parameters
    ----------
    release : Release
    given : str or None
        ORG/NAME, or ORG alone.

    Raises
    ------
    UsageError
        If it is named otherwise.
    """
    wanted = given or release.repository or ORGANISATION
    organisation, slash, name = wanted.partition("/")
    repository = f"{organisation}/{release.repository_name}"
    if not re.fullmatch(REPOSITORY_PATTERN, repository) or (slash and name != release.repository_name):
        raise UsageError(
            f"repository {wanted}: expected {organisation or 'ORG'}/{release.repository_name}, the name of {release.entry} "
            "in every organisation"
        )
    return repository


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
        LICENCE_FILE: read_licence(data_root(), card),
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
    for key, found, expected in pairs:
        if found != expected:
            raise PublishError(f"{run.folder / CARD_FILE}: {key}: expected {expected}, got {found}: restore it")


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
    verdict = gates.imported_verdict(gates.Candidate(Subject(model), load_resolved(model, "cpu", engine="torch")))
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
