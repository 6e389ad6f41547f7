"""Mask networks and L.A.Cosmic on the test stamps of a training set: figures, intervals, comparisons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from deepcr_zoo.bench.measures.blocks import sky_blocks
from deepcr_zoo.bench.measures.bootstrap import Values, interval, resample
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
from deepcr_zoo.bench.measures.judged import JudgedStamps, OnExposure, as_method, field_types_of
from deepcr_zoo.bench.measures.lacosmicmasks import described, lacosmic_masks, lacosmic_of, objlims_of
from deepcr_zoo.bench.operating import operating_points
from deepcr_zoo.bench.results import BaselineMethod, Comparison, FieldResult, MethodResult, Parameter
from deepcr_zoo.dataset.reading import Dataset
from deepcr_zoo.models.model import MaskModel
from deepcr_zoo.zoo.recipe import Recipe
from deepcr_zoo.zoo.records import POOLED

PAPER, BEST = "L.A.Cosmic", "L.A.Cosmic, best objlim"
"""Names of the baselines: settings of Zhang & Bloom 2020, and the best of a grid."""


@dataclass(frozen=True)
class MaskBenchmark:
    """What was found.

    Attributes
    ----------
    methods : list of MethodResult
        Networks in the order in which they were given, then the baselines.
    comparisons : list of Comparison
        Of the first networks with everything else.
    cautions : list of str
    """

    methods: list[MethodResult]
    comparisons: list[Comparison]
    cautions: list[str]


@dataclass(frozen=True)
class _Judged:
    """A method's figures, and its resampled TPRs, shape (F, R), by field type."""

    result: MethodResult
    resampled: dict[str, Values]


def judge_masks(
    models: Sequence[MaskModel],
    compared: int,
    dataset: Dataset,
    recipe: Recipe,
    lacosmic: bool,
    on_exposure: OnExposure | None = None,
) -> MaskBenchmark:
    """Judge networks, and L.A.Cosmic over a grid, on the same pixels.

    Parameters
    ----------
    models : sequence of MaskModel
    compared : int
        So many of them, the first ones, are compared with all others.
    dataset : Dataset
    recipe : Recipe
    lacosmic : bool
        Whether L.A.Cosmic takes part; what `lacosmicmasks.prepare` has not computed is computed now.
    on_exposure : callable, optional
        Called after each exposure.

    Raises
    ------
    DatasetError
        If a file is missing or damaged.
    InvalidImageError
        If a network gives NaN or infinity for a pixel that counts.
    MissingExtraError
        If L.A.Cosmic takes part and astroscrappy is not installed.
    """
    settings = recipe.benchmark
    blocks = {name: sky_blocks(dataset, name) for name in field_types_of(dataset)}
    weights: dict[str, Values] = {
        name: resample(one, settings.bootstrap_blocks, settings.seed) for name, one in blocks.items()
    }
    counts: dict[str, int] = {name: one.count for name, one in blocks.items()}
    weights[POOLED], counts[POOLED] = np.concatenate([*weights.values()], axis=1), sum(counts.values())
    networks: dict[str, dict[str, Detections]] = {model.reference: {} for model in models}
    sweeps: dict[str, dict[float, Detections]] = {}
    for name, of_field in blocks.items():
        objlims = objlims_of(recipe, name) if lacosmic else []
        methods: dict[str | float, Method] = {model.reference: network(model) for model in models}
        methods |= {objlim: _lacosmic(dataset, recipe, objlim) for objlim in objlims}
        found = detect(methods, dataset, name, of_field, on_exposure)
        for reference, by_field in networks.items():
            by_field[name] = found[reference]
        sweeps[name] = {objlim: found[objlim] for objlim in objlims}
    judged = [_network(model, _with_pooled(networks[model.reference]), weights, settings.fprs) for model in models]
    cautions = [caution for _, said in judged for caution in said]
    contestants = [one for one, _ in judged]
    if lacosmic:
        contestants += [_paper(sweeps, weights, dataset, recipe), _best(sweeps, weights, dataset, recipe)]
    results = [_with_intervals(one, counts) for one in contestants]
    return MaskBenchmark(results, _comparisons(contestants, compared, counts), cautions)


def _lacosmic(dataset: Dataset, recipe: Recipe, objlim: float) -> Method:
    sigclips = tuple(sorted(recipe.benchmark.lacosmic_sigclips))

    def masks(stamps: JudgedStamps) -> NDArray[np.bool_]:
        return lacosmic_masks(dataset, stamps.group, lacosmic_of(stamps.group.exposure, recipe, objlim), sigclips)

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


def _paper(
    sweeps: Mapping[str, Mapping[float, Detections]], weights: Mapping[str, Values], dataset: Dataset, recipe: Recipe
) -> _Judged:
    """L.A.Cosmic with the paper's objlim of each field type; pooled, each field type with its own."""
    objlims, fprs = recipe.benchmark.lacosmic_objlim, recipe.benchmark.fprs
    found = _with_pooled({name: sweeps[name][objlim] for name, objlim in objlims.items() if name in sweeps})
    fields = {name: sweep_field(one, fprs) for name, one in found.items()}
    resampled = {name: resampled_sweep([one], weights[name], fprs) for name, one in found.items()}
    return _Judged(_sweep_result(PAPER, described(dataset, recipe, objlims), fields, fprs), resampled)


def _best(
    sweeps: Mapping[str, Mapping[float, Detections]], weights: Mapping[str, Values], dataset: Dataset, recipe: Recipe
) -> _Judged:
    """L.A.Cosmic with the objlim that is best on these very pixels at each FPR; pooled, one for all field types."""
    fprs = recipe.benchmark.fprs
    common = sorted(set.intersection(*(set(by_objlim) for by_objlim in sweeps.values())))
    pooled = {
        objlim: _with_pooled({name: by_objlim[objlim] for name, by_objlim in sweeps.items()})[POOLED] for objlim in common
    }
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


def _comparisons(judged: Sequence[_Judged], compared: int, blocks: Mapping[str, int]) -> list[Comparison]:
    """Each of the first methods against every other one."""
    return [
        _comparison(one, other, name, index, blocks[name])
        for one in judged[:compared]
        for other in judged
        if other is not one
        for name in blocks
        for index in range(len(one.result.fields[name].at_fpr))
    ]


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
