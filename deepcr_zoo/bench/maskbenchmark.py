"""Mask networks and L.A.Cosmic on the test stamps of a training set: figures, intervals, comparisons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import product

import numpy as np
from numpy.typing import NDArray

from deepcr_zoo.bench.findings import Findings, pairs, resampled_sky
from deepcr_zoo.bench.measures import lacosmicmasks
from deepcr_zoo.bench.measures.bootstrap import Values, interval
from deepcr_zoo.bench.measures.detectionresults import (
    CURVE_POINTS,
    SWEEP_TPR,
    TPR_AT_FPR,
    best_sweep_field,
    network_field,
    resampled_network,
    resampled_sweep,
    sweep_field,
)
from deepcr_zoo.bench.measures.detections import Detections, Method, detect, masks_of, network
from deepcr_zoo.bench.measures.judgedpixels import JudgedStamps, OnExposure, as_method
from deepcr_zoo.bench.measures.lacosmicmasks import described, lacosmic_masks, lacosmic_of, objlims_of
from deepcr_zoo.bench.operatingpoints import operating_points
from deepcr_zoo.bench.results import BaselineMethod, Comparison, FieldResult, MethodResult, Parameter
from deepcr_zoo.dataset.reading import Dataset
from deepcr_zoo.models.model import MaskModel
from deepcr_zoo.progress import Reporter
from deepcr_zoo.zoo.recipe import Recipe
from deepcr_zoo.zoo.records import POOLED

PAPER, BEST = "L.A.Cosmic", "L.A.Cosmic, best objlim"
"""Names of the baselines: settings of Zhang & Bloom 2020, and the best of a grid."""

Sweeps = Mapping[str, Mapping[float, Detections]]
"""Counts of L.A.Cosmic, by field type and objlim."""


@dataclass(frozen=True)
class _Judged:
    """A method's figures, and its resampled TPRs, shape (F, R), by field type."""

    result: MethodResult
    resampled: dict[str, Values]


def prepare_and_judge(
    models: Sequence[MaskModel],
    compared: int,
    dataset: Dataset,
    recipe: Recipe,
    lacosmic: bool,
    jobs: int,
    reporter: Reporter,
    against: str = "",
) -> Findings:
    """Do as `judge_masks`, with the masks of L.A.Cosmic from `jobs` processes, and report the progress.

    `against` says beside each activity what is judged against, if these are not the labels.
    """
    if lacosmic:
        with reporter.amount(f"L.A.Cosmic{against}") as done:
            lacosmicmasks.prepare(dataset, recipe, jobs, done)
    with reporter.pieces(f"judging masks{against}", sum(1 for _ in dataset.exposures("test"))) as on_exposure:
        return judge_masks(models, compared, dataset, recipe, lacosmic, on_exposure)


def judge_masks(
    models: Sequence[MaskModel],
    compared: int,
    dataset: Dataset,
    recipe: Recipe,
    lacosmic: bool,
    on_exposure: OnExposure = None,
) -> Findings:
    """Judge networks, and L.A.Cosmic over a grid, on the same pixels; compare the first `compared` networks with the rest.

    Masks of L.A.Cosmic that `lacosmicmasks.prepare` has not computed are computed here.
    """
    fprs, (sky, weights) = recipe.benchmark.fprs, resampled_sky(dataset, recipe.benchmark)
    labels_are_truth = recipe.build.labels == "truth"
    found: dict[str, dict[str | float, Detections]] = {}
    sweeps: dict[str, dict[float, Detections]] = {}
    for name, blocks in sky.items():
        objlims = objlims_of(recipe, name) if lacosmic else []
        methods: dict[str | float, Method] = {model.reference: network(model, labels_are_truth) for model in models}
        methods |= {objlim: _lacosmic(recipe, objlim) for objlim in objlims}
        found[name] = detect(methods, dataset, name, blocks, on_exposure)
        sweeps[name] = {objlim: found[name][objlim] for objlim in objlims}
    judged, cautions = [], []
    for model in models:
        of_model = _with_pooled({name: by_method[model.reference] for name, by_method in found.items()})
        one, messages = _network(model, of_model, weights, fprs)
        judged.append(one)
        cautions += messages
    if lacosmic:
        judged += [_paper(sweeps, weights, dataset, recipe), _best(sweeps, weights, dataset, recipe)]
    counts = {name: one.shape[1] for name, one in weights.items()}
    every = product(pairs(judged, compared), counts.items(), range(len(fprs)))
    comparisons = [_comparison(one, other, name, index, count) for (one, other), (name, count), index in every]
    return Findings([_with_intervals(one, counts) for one in judged], comparisons, cautions)


def _lacosmic(recipe: Recipe, objlim: float) -> Method:
    sigclips = tuple(sorted(recipe.benchmark.lacosmic_sigclips))

    def masks(stamps: JudgedStamps) -> NDArray[np.bool_]:
        return lacosmic_masks(stamps.group, lacosmic_of(stamps.group.exposure, recipe, objlim), sigclips)

    return masks_of(masks, sigclips)


def _with_pooled(by_field_type: Mapping[str, Detections]) -> dict[str, Detections]:
    return {**by_field_type, POOLED: reduce(Detections.beside, by_field_type.values())}


def _network(
    model: MaskModel, found: Mapping[str, Detections], weights: Mapping[str, Values], fprs: Sequence[float]
) -> tuple[_Judged, list[str]]:
    curves = {name: one.exact.curve() for name, one in found.items() if one.exact is not None}
    points, cautions = operating_points(curves)
    result = MethodResult(
        name=model.reference,
        method=as_method(model),
        score="logit",
        tpr_at_fpr=TPR_AT_FPR,
        curve_points=CURVE_POINTS,
        working_points=_working_points(f"default threshold {model.threshold:g}", fprs),
        operating_points=points,
        fields={name: network_field(one, fprs, model.threshold) for name, one in found.items()},
    )
    resampled = {name: resampled_network(one, weights[name], fprs) for name, one in found.items()}
    return _Judged(result, resampled), [f"{model.reference}: {caution}" for caution in cautions]


def _paper(sweeps: Sweeps, weights: Mapping[str, Values], dataset: Dataset, recipe: Recipe) -> _Judged:
    """Return L.A.Cosmic with the paper's objlim of each field type; pooled, each field type has its own."""
    objlims, fprs = recipe.benchmark.lacosmic_objlim, recipe.benchmark.fprs
    found = _with_pooled({name: sweeps[name][objlim] for name, objlim in objlims.items() if name in sweeps})
    fields = {name: sweep_field(one, fprs) for name, one in found.items()}
    resampled = {name: resampled_sweep([one], weights[name], fprs) for name, one in found.items()}
    return _Judged(_sweep_result(PAPER, described(dataset, recipe, objlims), fields, fprs), resampled)


def _best(sweeps: Sweeps, weights: Mapping[str, Values], dataset: Dataset, recipe: Recipe) -> _Judged:
    """Return L.A.Cosmic with the objlim that is best on these very pixels at each FPR; pooled, one for all field types."""
    fprs = recipe.benchmark.fprs
    common = sorted(set.intersection(*(set(by_objlim) for by_objlim in sweeps.values())))
    pooled = {objlim: _with_pooled({name: one[objlim] for name, one in sweeps.items()})[POOLED] for objlim in common}
    fields: dict[str, FieldResult] = {}
    resampled: dict[str, Values] = {}
    chosen: dict[str, dict[str, float]] = {f"objlim at FPR {100 * fpr:g} %": {} for fpr in fprs}
    for name, by_objlim in {**sweeps, POOLED: pooled}.items():
        fields[name], best = best_sweep_field(by_objlim, fprs)
        resampled[name] = resampled_sweep([*by_objlim.values()], weights[name], fprs)
        for values, objlim in zip(chosen.values(), best, strict=True):
            if objlim is not None:
                values[name] = objlim
    method = described(dataset, recipe, {})
    parameters: dict[str, Parameter] = {**method.parameters, "objlim": common, **chosen}
    return _Judged(_sweep_result(BEST, method.model_copy(update={"parameters": parameters}), fields, fprs), resampled)


def _sweep_result(name: str, method: BaselineMethod, fields: dict[str, FieldResult], fprs: Sequence[float]) -> MethodResult:
    return MethodResult(
        name=name,
        method=method,
        score="sigclip",
        tpr_at_fpr=SWEEP_TPR,
        curve_points="a value of sigclip each",
        working_points=_working_points("no default threshold", fprs),
        fields=fields,
    )


def _working_points(default: str, fprs: Sequence[float]) -> list[str]:
    return [default, *(f"FPR {100 * fpr:g} %" for fpr in fprs)]


def _with_intervals(judged: _Judged, blocks: Mapping[str, int]) -> MethodResult:
    fields = {}
    for name, field in judged.result.fields.items():
        rates = [
            rate.model_copy(update={"tpr_interval": None if rate.tpr is None else interval(values, blocks[name])})
            for rate, values in zip(field.at_fpr, judged.resampled[name], strict=True)
        ]
        fields[name] = field.model_copy(update={"at_fpr": rates})
    return judged.result.model_copy(update={"fields": fields})


def _comparison(one: _Judged, other: _Judged, name: str, index: int, blocks: int) -> Comparison:
    rates = [judged.result.fields[name].at_fpr[index] for judged in (one, other)]
    tprs = [rate.tpr for rate in rates]
    difference = None if tprs[0] is None or tprs[1] is None else tprs[0] - tprs[1]
    resampled = one.resampled[name][index] - other.resampled[name][index]
    return Comparison(
        method=one.result.name,
        against=other.result.name,
        field_type=name,
        quantity="TPR difference",
        fpr=rates[0].fpr,
        value=difference,
        interval=None if difference is None else interval(resampled, blocks),
    )
