"""The benchmark: judge models on the test stamps of a training set, beside baselines, and check their gates."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version

from deepcr_zoo._version import __version__
from deepcr_zoo.bench import exclusions, gates, runtime
from deepcr_zoo.bench.benchdata import check_data, describe
from deepcr_zoo.bench.inpaintbenchmark import judge_inpainting
from deepcr_zoo.bench.maskbenchmark import PAPER, prepare_and_judge
from deepcr_zoo.bench.measures.judgedpixels import check_input
from deepcr_zoo.bench.results import (
    BIHARMONIC,
    MEDIAN,
    BenchmarkResults,
    Excluded,
    MethodResult,
    ModelMethod,
    Runtime,
    TruthResults,
)
from deepcr_zoo.bench.runs import Run
from deepcr_zoo.bench.subjects import Subject
from deepcr_zoo.bench.truth import judge_against_truth
from deepcr_zoo.dataset.reading import Dataset
from deepcr_zoo.errors import COUNT, SEVERAL, TEXT, Kind, UsageError, with_kinds
from deepcr_zoo.models import baselines
from deepcr_zoo.models.baselines import Lacosmic
from deepcr_zoo.models.model import InpaintModel, MaskModel
from deepcr_zoo.progress import NullReporter, Reporter
from deepcr_zoo.zoo.names import Task
from deepcr_zoo.zoo.recipe import Recipe
from deepcr_zoo.zoo.registries import default_registry

Entrants = list[tuple[Subject, MaskModel | InpaintModel]]
"""Subjects with their networks."""

RUNTIME_SIGCLIP = 5.0
"""About the middle of the sweep of L.A.Cosmic."""


@dataclass(frozen=True)
class Extent:
    """The parts of a benchmark.

    Attributes
    ----------
    against : sequence of Subject
        Models to compare the judged ones with.
    lacosmic : bool
        Include L.A.Cosmic in a benchmark of masks.
    runtime : bool
        Measure speed and memory.
    gates : bool
        Check the gates of the judged models.
    """

    against: Sequence[Subject] = ()
    lacosmic: bool = True
    runtime: bool = True
    gates: bool = True


_KINDS: dict[str, Kind] = {
    "subjects": SEVERAL,
    "dataset": ((Dataset,), "a training set, as `dataset.build_dataset` returns it"),
    "recipe": ((Recipe,), "a recipe, as `zoo.recipefiles.read_recipe` returns it"),
    "extent": ((Extent, type(None)), "an `Extent`"),
    **dict.fromkeys(("command", "device", "engine"), TEXT),
    "jobs": COUNT,
}


@with_kinds(_KINDS)
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
    """Judge models on the test stamps of a training set, per field type and pooled, and against `benchmark.truth`.

    Models that were trained on a test visit or its sky, or that do not take stamps in electrons, are excluded and listed
    with the reason. If gates are checked, the version that a run would follow takes part too.

    Parameters
    ----------
    subjects : sequence of Subject
        All of one task.
    dataset : Dataset
    recipe : Recipe
        Recipe of the training set; for a rehearsal, `Recipe.rehearsed`.
    command : str
        Command that repeats this.
    extent : Extent, optional
        By default everything.
    device, engine : str
        As for `deepcr_zoo.load`.
    jobs : int
        Processes for L.A.Cosmic.
    reporter : Reporter, optional
        Receives the progress.

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
        If the training set was not built from this recipe, or a file is missing or damaged.
    InvalidWeightsError
        If a network gives values that are not finite.
    MissingExtraError
        If L.A.Cosmic takes part and astroscrappy is not installed.
    """
    extent, reporter = extent or Extent(), reporter or NullReporter()
    check_data(dataset, recipe)
    tasks = {subject.task for subject in [*subjects, *extent.against]}
    if len(tasks) != 1:
        raise UsageError("expected one model or more, all of one task: masks and inpainting are judged by themselves")
    (task,) = tasks
    before = [previous for one in subjects if (previous := one.previous()) is not None] if extent.gates else []
    judged, others, excluded = _entrants(subjects, [*extent.against, *before], dataset, device, engine)
    entrants = [*judged, *others]
    truth: TruthResults | None = None
    unsure: list[str] = []
    if task == "mask":
        masks = [model for _, model in entrants if isinstance(model, MaskModel)]
        found = prepare_and_judge(masks, len(judged), dataset, recipe, extent.lacosmic, jobs, reporter)
        truth, unsure = judge_against_truth(masks, len(judged), recipe, extent.lacosmic, jobs, reporter)
    else:
        fills = [model for _, model in entrants if isinstance(model, InpaintModel)]
        exposures = sum(1 for _ in dataset.exposures("test"))
        with reporter.pieces("judging inpainting", 2 * exposures) as on_exposure:
            found = judge_inpainting(fills, len(judged), dataset, recipe, on_exposure)
    speed, slow = _runtime(entrants, task, recipe, extent, reporter) if extent.runtime else ([], [])
    results = BenchmarkResults(
        date=datetime.datetime.now(datetime.UTC).date(),
        command=command,
        machine=runtime.machine_name(judged[0][1].device),
        software=_software(found.methods),
        data=describe(dataset, recipe, found.added),
        methods=found.methods,
        comparisons=found.comparisons,
        photometry=found.photometry,
        runtime=speed,
        excluded=excluded,
        cautions=[*found.cautions, *unsure, *slow, *_on_other_data([one for one, _ in judged], dataset)],
        truth=truth,
    )
    if not extent.gates:
        return results
    verdicts = [gates.verdict(gates.Evidence(one, model, recipe, results, dataset)) for one, model in judged]
    return results.model_copy(update={"verdicts": verdicts})


def _on_other_data(subjects: Sequence[Subject], dataset: Dataset) -> list[str]:
    on_others = [one for one in subjects if one.run and one.run.facts.manifest_sha256 != dataset.manifest_sha256]
    return [f"{one.reference}: judged on other data than the test visits of its run" for one in on_others]


def _entrants(
    subjects: Sequence[Subject], against: Sequence[Subject], dataset: Dataset, device: str, engine: str
) -> tuple[Entrants, Entrants, list[Excluded]]:
    """Return the networks to judge, those to compare them with, and the models that are excluded."""
    judged: Entrants = []
    others: Entrants = []
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
                place.append((subject, model))
    if not judged:
        raise UsageError("; ".join(f"{one.reference} is not judged: {one.reason}" for one in excluded))
    return judged, others, excluded


def _reason_to_exclude(subject: Subject, model: MaskModel | InpaintModel, dataset: Dataset) -> str | None:
    try:
        check_input(model)
    except UsageError as error:
        return str(error)
    origin = subject.origin
    known = exclusions.of_run(origin, default_registry()) if isinstance(origin, Run) else exclusions.of_model(origin)
    return exclusions.reason_to_exclude(known, dataset)


def _runtime(
    entrants: Entrants, task: Task, recipe: Recipe, extent: Extent, reporter: Reporter
) -> tuple[list[Runtime], list[str]]:
    """Time the networks on the device and engine with which they were judged, and the baselines."""
    methods: dict[str, runtime.Method] = {
        # each process loads the network itself: a loaded one is not sent there
        one.reference: partial(runtime.network, partial(Subject(one.origin).model, engine=model.engine), str(model.device))
        for one, model in entrants
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
    packages = {"numpy", "scipy", "torch"}
    for result in methods:
        if isinstance(result.method, ModelMethod):
            packages.add(result.method.engine.partition("-")[0])  # the rest names a precision
        else:
            packages |= result.method.packages.keys() - {"deepcr-zoo"}
    return {"deepcr-zoo": __version__, **{name: version(name) for name in sorted(packages)}}
