"""Operating points: thresholds at fixed FPRs for ``clean --fpr``, recorded beside a model's card."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from pathlib import Path

import numpy as np

from deepcr_zoo.bench.measures.roc import RocCurve
from deepcr_zoo.bench.results import BenchmarkResults, MethodResult, ModelMethod
from deepcr_zoo.errors import IntegrityError, NotMeasuredError
from deepcr_zoo.models.model import probabilities
from deepcr_zoo.zoo.records import MeasuredOn, Measurement, OperatingPoint, append
from deepcr_zoo.zoo.registry import read_registry

FPRS = (0.0001, 0.0005, 0.001, 0.005)

LEAST_FALSE_POSITIVES = 10
"""With fewer false positives an FPR is too uncertain (10 independent pixels give it to 30 %)."""


def operating_points(curves: Mapping[str, RocCurve]) -> tuple[list[OperatingPoint], list[str]]:
    """Return thresholds (probabilities) at `FPRS` from curves of logits by field type, and cautions about those left out.

    In float32, no pixel that the logit threshold leaves unmasked exceeds the probability threshold, so the FPR is never
    above its nominal value. The TPR is that of the probability threshold.
    """
    points: list[OperatingPoint] = []
    cautions: list[str] = []
    for (field_type, curve), fpr in product(curves.items(), FPRS):
        try:
            points.append(_operating_point(field_type, curve, fpr))
        except NotMeasuredError as error:
            cautions.append(f"no operating point at FPR {100 * fpr:g} % ({field_type}): {error}")
    return points, cautions


def _operating_point(field_type: str, curve: RocCurve, fpr: float) -> OperatingPoint:
    if fpr * curve.clean < LEAST_FALSE_POSITIVES:
        least = int(np.ceil(LEAST_FALSE_POSITIVES / fpr))
        raise NotMeasuredError(f"{curve.clean:,} clean pixels are too few, at least {least:,} are needed")
    found = curve.at_fpr(fpr)
    if found is None:
        raise NotMeasuredError("there is no cosmic-ray pixel")
    scores = probabilities(curve.thresholds.copy())  # as in MaskModel.mask: the same pixels are above the threshold
    threshold = scores[curve.thresholds <= np.float32(found.threshold)].max()
    if threshold >= 1:
        raise NotMeasuredError(f"at a logit of {found.threshold:.3g} the probability rounds to 1, and no pixel exceeds that")
    first = int(np.argmax(scores <= threshold))
    tpr = int(curve.true_positives[first]) / curve.cosmic_rays
    if tpr == 0:
        raise NotMeasuredError("no threshold finds a cosmic-ray pixel at so low a rate")
    return OperatingPoint(field_type=field_type, fpr=fpr, tpr=tpr, threshold=float(threshold))


def record(results: BenchmarkResults, reference: str, root: Path) -> Path:
    """Append the operating points of a zoo model to its results under `root`, unless they are there already.

    Raises `IntegrityError` if the judged weights differ from those of the registry.
    """
    model = read_registry(root).resolve(reference)
    judged = _method(results, reference)
    found = measurement(results, reference)
    if found is None:
        raise NotMeasuredError(f"{reference}: the benchmark has no operating points for it; nothing was recorded")
    assert isinstance(judged.method, ModelMethod)
    if judged.method.sha256 != model.locked.weights.sha256:
        raise IntegrityError(
            f"{reference}: weights with sha256 {judged.method.sha256} were judged, the registry has "
            f"{model.locked.weights.sha256}; nothing was recorded"
        )
    return append(model, found)


def measurement(results: BenchmarkResults, reference: str) -> Measurement | None:
    """Return the operating points of a model as its results file keeps them; None if the benchmark found none."""
    data, judged = results.data, _method(results, reference)
    if not judged.operating_points:
        return None
    return Measurement(
        date=results.date,
        software=f"deepcr-zoo {results.software.get('deepcr-zoo', 'of an unknown version')}",
        command=results.command,
        data=MeasuredOn(kind=data.kind, description=data.description),
        manifest_sha256=data.manifest_sha256,
        simulator_version=data.simulator_version,
        seeds=data.seeds or None,
        operating_points=judged.operating_points,
    )


def _method(results: BenchmarkResults, reference: str) -> MethodResult:
    for result in results.methods:
        if isinstance(result.method, ModelMethod) and result.method.reference == reference:
            return result
    raise NotMeasuredError(f"{reference}: is not among the methods of the benchmark")
