"""The first judgement of a network: on the test visits of its recipe, as a `results.BenchmarkResults`."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from importlib.metadata import version

import torch

from deepcr_zoo import __version__, baselines
from deepcr_zoo.bench import inpainting, masks, roc
from deepcr_zoo.bench.inpainting import Fill
from deepcr_zoo.bench.judged import OnExposure, check_input, field_types_of
from deepcr_zoo.bench.residuals import ErrorSums
from deepcr_zoo.bench.results import (
    AddedMasks,
    BaselineMethod,
    BenchmarkResults,
    FieldResult,
    MethodResult,
    ModelMethod,
)
from deepcr_zoo.bench.roc import RocCounts
from deepcr_zoo.bench.summary import CURVE_POINTS, TPR_AT_FPR, field_result, inpainting_errors
from deepcr_zoo.bench.testdata import check_data, describe
from deepcr_zoo.dataset.reading import Dataset
from deepcr_zoo.errors import MissingExtraError
from deepcr_zoo.machine import processor_name
from deepcr_zoo.models import InpaintModel, MaskModel
from deepcr_zoo.neighbours import WINDOW
from deepcr_zoo.recipe import Recipe
from deepcr_zoo.results import POOLED


def evaluate(
    model: MaskModel | InpaintModel,
    dataset: Dataset,
    recipe: Recipe,
    command: str,
    *,
    on_exposure: OnExposure | None = None,
) -> BenchmarkResults:
    """Judge a network on the test stamps of a training set, per field type and pooled.

    Parameters
    ----------
    model : MaskModel or InpaintModel
        A mask network gets the TPR at ``benchmark.fprs``, the area and the curve. An inpainting network gets MSE, MAE and
        bias on the pixels of an added inpainting mask, beside the 5x5 masked median and, where scikit-image is installed,
        biharmonic interpolation.
    dataset : Dataset
    recipe : Recipe
        That the training set is of.
    command : str
        Command that repeats this.
    on_exposure : callable, optional
        Called after each of the exposures of ``dataset.exposures("test")``.

    Returns
    -------
    BenchmarkResults
        The same for the same input, but for the date. What pixels do not tell, such as the TPR where there is no cosmic
        ray, is None.

    Raises
    ------
    DataError
        If there are no test stamps, or too few to take inpainting masks from.
    DatasetError
        If the training set is not of this recipe, or a file is missing or damaged.
    UsageError
        If the network cannot be judged on stamps in electrons.
    InvalidImageError
        If the network gives NaN or infinity for a pixel that counts.
    """
    check_input(model)
    check_data(dataset, recipe)
    added: AddedMasks | None = None
    cautions: list[str] = []
    if isinstance(model, MaskModel):
        methods = [_judged_masks(model, dataset, recipe, on_exposure)]
    else:
        added = AddedMasks(per_stamp=inpainting.MASKS_PER_STAMP, seed=recipe.benchmark.seed)
        methods, cautions = _judged_inpainting(model, dataset, added, on_exposure)
    return BenchmarkResults(
        date=datetime.date.today(),
        command=command,
        machine=_machine(model.device),
        software=_software(methods),
        data=describe(dataset, recipe, added),
        methods=methods,
        cautions=cautions,
    )


def _judged_masks(model: MaskModel, dataset: Dataset, recipe: Recipe, on_exposure: OnExposure | None) -> MethodResult:
    counts: dict[str, RocCounts] = {
        name: masks.judge(model, dataset, name, on_exposure=on_exposure) for name in field_types_of(dataset)
    }
    fprs = recipe.benchmark.fprs
    return MethodResult(
        name=model.reference,
        method=_network(model),
        score="logit",
        tpr_at_fpr=TPR_AT_FPR,
        curve_points=CURVE_POINTS,
        fields={name: field_result(one.curve(), fprs) for name, one in roc.with_pooled(counts).items()},
    )


def _judged_inpainting(
    model: InpaintModel, dataset: Dataset, added: AddedMasks, on_exposure: OnExposure | None
) -> tuple[list[MethodResult], list[str]]:
    """The network and the baselines that can run here, and what to tell of those that cannot."""
    methods, cautions = _baselines()
    methods = {model.reference: (_network(model), model.fill), **methods}
    fills = {name: fill for name, (_, fill) in methods.items()}
    sums = {
        field_type: inpainting.judge(fills, dataset, field_type, added.seed, added.per_stamp, on_exposure=on_exposure)
        for field_type in field_types_of(dataset)
    }
    results = [
        MethodResult(name=name, method=method, score=None, fields=_errors({key: one[name] for key, one in sums.items()}))
        for name, (method, _) in methods.items()
    ]
    return results, cautions


def _baselines() -> tuple[dict[str, tuple[ModelMethod | BaselineMethod, Fill]], list[str]]:
    median = BaselineMethod(name="medmask", parameters={"window": WINDOW}, packages={"deepcr-zoo": __version__})
    methods: dict[str, tuple[ModelMethod | BaselineMethod, Fill]] = {"masked median": (median, baselines.medmask)}
    try:
        baselines.require_scikit_image()
    except MissingExtraError as error:
        return methods, [f"not compared with biharmonic inpainting: {error}"]
    packages = {"scikit-image": version("scikit-image")}
    biharmonic = BaselineMethod(name="biharmonic", parameters={}, packages=packages)
    return {**methods, "biharmonic": (biharmonic, baselines.biharmonic)}, []


def _errors(by_field_type: Mapping[str, ErrorSums]) -> dict[str, FieldResult]:
    pooled = sum(by_field_type.values(), start=ErrorSums())
    return {
        name: FieldResult(inpainting=inpainting_errors(sums)) for name, sums in {**by_field_type, POOLED: pooled}.items()
    }


def _network(model: MaskModel | InpaintModel) -> ModelMethod:
    return ModelMethod(reference=model.reference, sha256=model.sha256, engine=model.engine, device=str(model.device))


def _machine(device: torch.device) -> str:
    """Such as: a processor, 2 threads; an accelerator."""
    processor = f"{processor_name()}, {torch.get_num_threads()} threads"
    if device.type == "cpu":
        return processor
    return f"{processor}; {torch.cuda.get_device_name(device) if device.type == 'cuda' else device.type}"


def _software(methods: list[MethodResult]) -> dict[str, str]:
    """Versions of what has computed."""
    packages = {"numpy", "torch"}
    for result in methods:
        if isinstance(result.method, ModelMethod):
            packages.add(result.method.engine)
        else:
            packages |= result.method.packages.keys() - {"deepcr-zoo"}
    return {"deepcr-zoo": __version__, **{name: version(name) for name in sorted(packages)}}
