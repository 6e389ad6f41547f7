"""The benchmark: models on the test stamps of a training set, beside baselines, held against their gates."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version

from deepcr_zoo._version import __version__
from deepcr_zoo.bench import exclusions, gates, runtime
from deepcr_zoo.bench.benchdata import check_data, describe
from deepcr_zoo.bench.inpaintbenchmark import BIHARMONIC, MEDIAN, judge_inpainting
from deepcr_zoo.bench.maskbenchmark import PAPER, judge_masks
from deepcr_zoo.bench.measures import lacosmicmasks
from deepcr_zoo.bench.measures.judged import check_input
from deepcr_zoo.bench.results import (
    AddedMasks,
    BenchmarkResults,
    Comparison,
    Excluded,
    MethodResult,
    ModelMethod,
    Photometry,
    Runtime,
)
from deepcr_zoo.bench.runs import Run
from deepcr_zoo.bench.subjects import Subject
from deepcr_zoo.dataset.reading import Dataset
from deepcr_zoo.errors import UsageError
from deepcr_zoo.models import baselines
from deepcr_zoo.models.baselines import Lacosmic
from deepcr_zoo.models.model import InpaintModel, MaskModel
from deepcr_zoo.progress import NullReporter, Reporter
from deepcr_zoo.zoo.names import Task
from deepcr_zoo.zoo.recipe import Recipe
from deepcr_zoo.zoo.registries import default_registry

RUNTIME_SIGCLIP = 5.0
"""L.A.Cosmic is timed at about the middle of its sweep."""


@dataclass(frozen=True)
class Extent:
    """How much is done.

    Attributes
    ----------
    against : sequence of Subject
        Models beside which the judged ones are shown.
    lacosmic : bool
        Whether L.A.Cosmic takes part in a benchmark of masks.
    runtime : bool
        Whether speed and memory are measured.
    gates : bool
        Whether the judged models are held against their gates.
    """

    against: Sequence[Subject] = ()
    lacosmic: bool = True
    runtime: bool = True
    gates: bool = True


@dataclass(frozen=True)
class Found:
    """What was found of the methods, whatever their task."""

    methods: list[MethodResult]
    comparisons: list[Comparison]
    cautions: list[str]
    added: AddedMasks | None = None
    photometry: Photometry | None = None


@dataclass(frozen=True)
class _Entrants:
    """Who takes part: the judged first, then the others."""

    judged: list[Subject]
    others: list[Subject]
    models: list[MaskModel | InpaintModel]
    excluded: list[Excluded] = field(default_factory=list)


def benchmark(
    subjects: Sequence[Subject],
    dataset: Dataset,
    recipe: Recipe,
    command: str,
    *,
    extent: Extent | None = None,
    device: str = "auto",
    engine: str = "auto",
    jobs: int = 1,
    reporter: Reporter | None = None,
) -> BenchmarkResults:
    """Judge models on the test stamps of a training set, per field type and pooled.

    A model that was trained on a test visit, or on its sky, or that stamps in electrons cannot be given to, is left out and
    named. Where gates are asked, the version that a run would follow takes part too.

    Parameters
    ----------
    subjects : sequence of Subject
        All of one task.
    dataset : Dataset
    recipe : Recipe
        That the training set is of, with what a rehearsal puts over.
    command : str
        Command that repeats this.
    extent : Extent, optional
    device, engine : str
        As for `deepcr_zoo.load`.
    jobs : int
        Processes for L.A.Cosmic.
    reporter : Reporter, optional
        What is told meanwhile.

    Returns
    -------
    BenchmarkResults

    Raises
    ------
    UsageError
        If the models are not of one task, or none of them can be judged on this data.
    DataError
        If there are no test stamps, or too few to take inpainting masks from.
    DatasetError
        If the training set is not of this recipe, or a file is missing or damaged.
    MissingExtraError
        If L.A.Cosmic takes part and astroscrappy is not installed.
    """
    extent, reporter = extent or Extent(), reporter or NullReporter()
    check_data(dataset, recipe)
    task = _one_task([*subjects, *extent.against])
    before = [previous for one in subjects if (previous := one.previous()) is not None] if extent.gates else []
    entrants = _entrants(subjects, [*extent.against, *before], dataset, device, engine)
    found = (_masks if task == "mask" else _fills)(entrants, dataset, recipe, extent, jobs, reporter)
    speed, slow = _runtime(entrants, task, recipe, extent, reporter) if extent.runtime else ([], [])
    results = BenchmarkResults(
        date=datetime.date.today(),
        command=command,
        machine=runtime.machine_name(entrants.models[0].device),
        software=_software(found.methods),
        data=describe(dataset, recipe, found.added),
        methods=found.methods,
        comparisons=found.comparisons,
        photometry=found.photometry,
        runtime=speed,
        excluded=entrants.excluded,
        cautions=[*found.cautions, *slow],
    )
    if not extent.gates:
        return results
    verdicts = [
        gates.verdict(gates.Evidence(subject, model, dataset, recipe, results))
        for subject, model in zip(entrants.judged, entrants.models, strict=False)  # the others come after these
    ]
    return results.model_copy(update={"verdicts": verdicts})


def _one_task(subjects: Sequence[Subject]) -> Task:
    tasks = {subject.task for subject in subjects}
    if len(tasks) != 1:
        raise UsageError("expected one model or more, all of one task: masks and inpainting are judged by themselves")
    return tasks.pop()


def _entrants(
    subjects: Sequence[Subject], against: Sequence[Subject], dataset: Dataset, device: str, engine: str
) -> _Entrants:
    judged: list[Subject] = []
    others: list[Subject] = []
    models: list[MaskModel | InpaintModel] = []
    excluded: list[Excluded] = []
    seen: set[str] = set()
    for place, group in ((judged, subjects), (others, against)):
        for subject in group:
            if subject.reference in seen:
                continue
            seen.add(subject.reference)
            model = subject.model(device, engine)
            if reason := _reason_to_exclude(subject, model, dataset):
                excluded.append(Excluded(reference=subject.reference, reason=reason))
            else:
                place.append(subject)
                models.append(model)
    if not judged:
        raise UsageError("; ".join(f"{one.reference} is not judged: {one.reason}" for one in excluded))
    return _Entrants(judged, others, models, excluded)


def _reason_to_exclude(subject: Subject, model: MaskModel | InpaintModel, dataset: Dataset) -> str | None:
    try:
        check_input(model)
    except UsageError as error:
        return str(error)
    origin = subject.origin
    known = exclusions.of_run(origin, default_registry()) if isinstance(origin, Run) else exclusions.of_model(origin)
    return exclusions.reason_to_exclude(known, dataset)


def _masks(entrants: _Entrants, dataset: Dataset, recipe: Recipe, extent: Extent, jobs: int, reporter: Reporter) -> Found:
    if extent.lacosmic:
        with reporter.amount("L.A.Cosmic") as done:
            lacosmicmasks.prepare(dataset, recipe, jobs, done)
    models = [model for model in entrants.models if isinstance(model, MaskModel)]
    with reporter.pieces("judging masks", sum(1 for _ in dataset.exposures("test"))) as judged:
        found = judge_masks(models, len(entrants.judged), dataset, recipe, extent.lacosmic, judged)
    return Found(found.methods, found.comparisons, found.cautions)


def _fills(entrants: _Entrants, dataset: Dataset, recipe: Recipe, extent: Extent, jobs: int, reporter: Reporter) -> Found:
    models = [model for model in entrants.models if isinstance(model, InpaintModel)]
    with reporter.pieces("judging inpainting", 2 * sum(1 for _ in dataset.exposures("test"))) as judged:
        found = judge_inpainting(models, len(entrants.judged), dataset, recipe, judged)
    return Found(found.methods, found.comparisons, found.cautions, found.added, found.photometry)


def _runtime(
    entrants: _Entrants, task: Task, recipe: Recipe, extent: Extent, reporter: Reporter
) -> tuple[list[Runtime], list[str]]:
    """Of the networks where they were judged, and of the baselines."""
    methods: dict[str, runtime.Method] = {
        one.reference: partial(runtime.network, one.model, str(model.device))
        for one, model in zip([*entrants.judged, *entrants.others], entrants.models, strict=True)
    }
    if task == "inpaint":
        methods |= {MEDIAN: partial(runtime.classical, baselines.medmask)}
        methods |= {BIHARMONIC: partial(runtime.classical, baselines.biharmonic)}
    elif extent.lacosmic:
        settings = Lacosmic(recipe.benchmark.lacosmic_objlim["extragalactic"], recipe.instrument.read_noise_electron)
        methods |= {PAPER: partial(runtime.lacosmic, settings, RUNTIME_SIGCLIP)}
    with reporter.pieces("timing", len(methods)) as timed:
        return runtime.measure(methods, on_method=timed)


def _software(methods: Sequence[MethodResult]) -> dict[str, str]:
    """Versions of what has computed."""
    packages = {"numpy", "scipy", "torch"}
    for result in methods:
        if isinstance(result.method, ModelMethod):
            packages.add(result.method.engine)
        else:
            packages |= result.method.packages.keys() - {"deepcr-zoo"}
    return {"deepcr-zoo": __version__, **{name: version(name) for name in sorted(packages)}}
