"""Inpainting networks, the masked median and biharmonic interpolation on the same hidden pixels: errors and photometry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from itertools import product

from deepcr_zoo._version import __version__
from deepcr_zoo.bench.findings import Findings, pairs, resampled_sky
from deepcr_zoo.bench.measures import photometry
from deepcr_zoo.bench.measures.inpainting import (
    MASKS_PER_STAMP,
    ErrorSums,
    Fill,
    by_network,
    by_values,
    draw,
    judge,
    mse_ratio,
)
from deepcr_zoo.bench.measures.judgedpixels import OnExposure, as_method, field_types_of
from deepcr_zoo.bench.results import (
    BIHARMONIC,
    IN_NOISE,
    MEDIAN,
    AddedMasks,
    BaselineMethod,
    Comparison,
    FieldResult,
    MethodResult,
    ModelMethod,
    Photometry,
    Quantity,
)
from deepcr_zoo.dataset.reading import Dataset
from deepcr_zoo.errors import MissingExtraError
from deepcr_zoo.models import baselines
from deepcr_zoo.models.images import WINDOW
from deepcr_zoo.models.model import InpaintModel
from deepcr_zoo.zoo.recipe import Recipe
from deepcr_zoo.zoo.records import POOLED

QUANTITIES: tuple[Quantity, ...] = ("MSE ratio", IN_NOISE)
Methods = dict[str, tuple[ModelMethod | BaselineMethod, Fill]]


def judge_inpainting(
    models: Sequence[InpaintModel], compared: int, dataset: Dataset, recipe: Recipe, on_exposure: OnExposure = None
) -> Findings:
    """Fill the same pixels by networks and baselines; compare the first `compared` networks with the rest.

    `on_exposure` is called twice for each exposure: after its errors, and after its photometry.
    """
    settings = recipe.benchmark
    added = AddedMasks(per_stamp=MASKS_PER_STAMP, stamps=settings.inpainting_stamps, seed=settings.seed)
    draws = draw(len(dataset.stamps("test")), added.stamps, added.seed)
    sky, weights = resampled_sky(dataset, settings)
    classical, cautions = _baselines()
    methods: Methods = {model.reference: (as_method(model), by_network(model)) for model in models} | classical
    fills = {name: fill for name, (_, fill) in methods.items()}
    sums = {str(name): judge(fills, dataset, name, blocks, draws, on_exposure) for name, blocks in sky.items()}
    sums[POOLED] = {name: ErrorSums.joined([one[name] for one in sums.values()]) for name in fills}
    results = []
    for name, (method, _) in methods.items():
        fields = {key: FieldResult(inpainting=one[name].errors()) for key, one in sums.items()}
        results.append(MethodResult(name=name, method=method, score=None, fields=fields))
    comparisons = []
    for one, other in pairs(list(fills), compared):
        for (name, of_field), quantity in product(sums.items(), QUANTITIES):
            in_noise = quantity == IN_NOISE
            ratio, between = mse_ratio(of_field[one], of_field[other], weights[name], in_noise=in_noise)
            comparisons.append(
                Comparison(method=one, against=other, field_type=name, quantity=quantity, value=ratio, interval=between)
            )
    measured, missing = _photometry(fills, dataset, settings.seed, on_exposure)
    return Findings(results, comparisons, cautions + missing, added, measured)


def _photometry(
    fills: Mapping[str, Fill], dataset: Dataset, seed: int, on_exposure: OnExposure
) -> tuple[Photometry | None, list[str]]:
    try:
        ratios = {name: photometry.flux_ratios(fills, dataset, name, seed, on_exposure) for name in field_types_of(dataset)}
    except MissingExtraError as error:
        return None, [f"no photometry: {error}"]
    rows = [row for name, of_field in ratios.items() for row in photometry.rows(of_field, name)]
    return Photometry(description=photometry.describe(), rows=rows), []


def _baselines() -> tuple[Methods, list[str]]:
    """Return the baselines that can run here, and cautions about the others."""
    median = BaselineMethod(name="medmask", parameters={"window": WINDOW}, packages={"deepcr-zoo": __version__})
    methods: Methods = {MEDIAN: (median, by_values(baselines.medmask))}
    try:
        baselines.require_scikit_image()
    except MissingExtraError as error:
        return methods, [f"not compared with biharmonic inpainting: {error}"]
    packages = {"scikit-image": version("scikit-image")}
    biharmonic = BaselineMethod(name=BIHARMONIC, parameters={"split_into_regions": True}, packages=packages)
    return {**methods, BIHARMONIC: (biharmonic, by_values(baselines.biharmonic))}, []
