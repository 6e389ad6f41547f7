"""Inpainting networks, the masked median and biharmonic interpolation on the same hidden pixels: errors and photometry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np

from deepcr_zoo._version import __version__
from deepcr_zoo.bench.measures import photometry
from deepcr_zoo.bench.measures.blocks import sky_blocks
from deepcr_zoo.bench.measures.bootstrap import Values, resample
from deepcr_zoo.bench.measures.inpainting import MASKS_PER_STAMP, ErrorSums, Fill, draw, judge, mse_ratio
from deepcr_zoo.bench.measures.judged import OnExposure, as_method, field_types_of
from deepcr_zoo.bench.results import (
    AddedMasks,
    BaselineMethod,
    Comparison,
    FieldResult,
    MethodResult,
    ModelMethod,
    Photometry,
)
from deepcr_zoo.dataset.reading import Dataset
from deepcr_zoo.errors import MissingExtraError
from deepcr_zoo.models import baselines
from deepcr_zoo.models.images import WINDOW
from deepcr_zoo.models.model import InpaintModel
from deepcr_zoo.zoo.recipe import Recipe
from deepcr_zoo.zoo.records import POOLED

MEDIAN, BIHARMONIC = "masked median", "biharmonic"
"""Names of the baselines."""

Named = Mapping[str, tuple[ModelMethod | BaselineMethod, Fill]]


@dataclass(frozen=True)
class InpaintBenchmark:
    """What was found.

    Attributes
    ----------
    methods : list of MethodResult
        Networks in the order in which they were given, then the baselines.
    comparisons : list of Comparison
        Of the first networks with everything else.
    photometry : Photometry or None
    added : AddedMasks
    cautions : list of str
    """

    methods: list[MethodResult]
    comparisons: list[Comparison]
    photometry: Photometry | None
    added: AddedMasks
    cautions: list[str]


def judge_inpainting(
    models: Sequence[InpaintModel],
    compared: int,
    dataset: Dataset,
    recipe: Recipe,
    on_exposure: OnExposure | None = None,
) -> InpaintBenchmark:
    """Let networks and baselines fill the same pixels.

    Parameters
    ----------
    models : sequence of InpaintModel
    compared : int
        So many of them, the first ones, are compared with all others.
    dataset : Dataset
    recipe : Recipe
    on_exposure : callable, optional
        Called twice for each exposure: after its errors, and after its photometry.

    Raises
    ------
    DataError
        If there are too few test stamps to take inpainting masks from.
    DatasetError
        If a file is missing or damaged.
    InvalidImageError
        If a method fills a pixel with NaN or infinity.
    """
    settings = recipe.benchmark
    added = AddedMasks(per_stamp=MASKS_PER_STAMP, stamps=settings.inpainting_stamps, seed=settings.seed)
    draws = draw(len(dataset.stamps("test")), added.stamps, added.seed)
    classical, cautions = _baselines()
    methods: Named = {model.reference: (as_method(model), model.fill) for model in models} | classical
    fills = {name: fill for name, (_, fill) in methods.items()}
    weights: dict[str, Values] = {}
    sums: dict[str, dict[str, ErrorSums]] = {}
    for name in field_types_of(dataset):
        blocks = sky_blocks(dataset, name)
        weights[name] = resample(blocks, settings.bootstrap_blocks, settings.seed)
        sums[name] = judge(fills, dataset, name, blocks, draws, on_exposure)
    weights[POOLED] = np.concatenate([*weights.values()], axis=1)
    sums[POOLED] = {name: ErrorSums.joined([one[name] for one in sums.values()]) for name in fills}
    results = [
        MethodResult(
            name=name,
            method=method,
            score=None,
            fields={key: FieldResult(inpainting=one[name].errors()) for key, one in sums.items()},
        )
        for name, (method, _) in methods.items()
    ]
    measured, missing = _photometry(fills, dataset, settings.seed, on_exposure)
    return InpaintBenchmark(results, _comparisons(list(fills), compared, sums, weights), measured, added, cautions + missing)


def _comparisons(
    names: Sequence[str], compared: int, sums: Mapping[str, Mapping[str, ErrorSums]], weights: Mapping[str, Values]
) -> list[Comparison]:
    """Each of the first methods against every other one."""
    found = []
    for one in names[:compared]:
        for other in names:
            for field_type, of_field in sums.items() if other != one else ():
                ratio, interval = mse_ratio(of_field[one], of_field[other], weights[field_type])
                found.append(
                    Comparison(
                        method=one,
                        against=other,
                        field_type=field_type,
                        quantity="MSE ratio",
                        value=ratio,
                        interval=interval,
                    )
                )
    return found


def _photometry(
    fills: Mapping[str, Fill], dataset: Dataset, seed: int, on_exposure: OnExposure | None
) -> tuple[Photometry | None, list[str]]:
    try:
        rows = [row for name in field_types_of(dataset) for row in photometry.judge(fills, dataset, name, seed, on_exposure)]
    except MissingExtraError as error:
        return None, [f"no photometry: {error}"]
    return Photometry(description=photometry.describe(), rows=rows), []


def _baselines() -> tuple[dict[str, tuple[ModelMethod | BaselineMethod, Fill]], list[str]]:
    """Those that can run here, and what to tell of those that cannot."""
    median = BaselineMethod(name="medmask", parameters={"window": WINDOW}, packages={"deepcr-zoo": __version__})
    methods: dict[str, tuple[ModelMethod | BaselineMethod, Fill]] = {MEDIAN: (median, baselines.medmask)}
    try:
        baselines.require_scikit_image()
    except MissingExtraError as error:
        return methods, [f"not compared with biharmonic inpainting: {error}"]
    parameters = {"split_into_regions": True}
    method = BaselineMethod(name=BIHARMONIC, parameters={**parameters}, packages={"scikit-image": version("scikit-image")})
    return {**methods, BIHARMONIC: (method, baselines.biharmonic)}, []
