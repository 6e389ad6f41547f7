"""From counts to figures: what `bench.results` says of a method on the pixels of one field type."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from deepcr_zoo.bench.measures.inpainting import ErrorSums
from deepcr_zoo.bench.measures.roc import RocPoint
from deepcr_zoo.bench.results import BenchmarkResults, CurvePoint, FieldResult, InpaintingErrors, RateAtFpr, Spread

TPR_AT_FPR = "largest TPR of the thresholds whose FPR is not above it"
CURVE_POINTS = "the thresholds of that rule at 50 FPRs per decade"
"""How `roc.RocCurve` comes by its figures, for `results.MethodResult`."""


class Roc(Protocol):
    """A curve of TPR over FPR, however it was come by: `roc.RocCurve`, `lacosmic.Sweep`."""

    @property
    def cosmic_rays(self) -> int:
        """Pixels of cosmic rays."""

    @property
    def clean(self) -> int:
        """Pixels of nothing else."""

    def at_fpr(self, fpr: float) -> RocPoint | None:
        """The point at a fixed FPR; None where there is none."""

    def points(self) -> list[RocPoint]:
        """Enough of the curve to draw it."""

    def area(self) -> float | None:
        """Area under the curve; None where it has none."""


def field_result(roc: Roc, fprs: Iterable[float], by_seed: Sequence[Roc] = ()) -> FieldResult:
    """The figures of one curve.

    Parameters
    ----------
    roc : Roc
        Of all pixels of the field type.
    fprs : iterable of float
        FPRs to give the TPR at.
    by_seed : sequence of Roc
        Of the pixels of each seed alone, for the spread.
    """
    return FieldResult(
        at_fpr=[_rate_at(fpr, roc, by_seed) for fpr in fprs],
        area=roc.area(),
        curve=[_curve_point(point, roc) for point in roc.points()],
    )


def _curve_point(point: RocPoint, roc: Roc) -> CurvePoint:
    true, false = point.tpr * roc.cosmic_rays, point.fpr * roc.clean
    precision = true / (true + false) if true + false > 0 else None
    return CurvePoint(threshold=point.threshold, fpr=point.fpr, tpr=point.tpr, precision=precision)


def inpainting_errors(sums: ErrorSums) -> InpaintingErrors:
    """The figures of one method on all blocks of sky of one field type."""
    pixels = int(sums.pixels.sum())
    if pixels == 0:
        return InpaintingErrors(pixels=0)
    mse, mae, bias = (float(one.sum()) / pixels for one in (sums.squared, sums.absolute, sums.signed))
    return InpaintingErrors(pixels=pixels, mse=mse, mae=mae, bias=bias)


def spread(values: Sequence[float | None]) -> Spread | None:
    """Mean and standard error; None of fewer than two values, or where one is missing."""
    known = [value for value in values if value is not None]
    if len(known) < max(2, len(values)):
        return None
    error = statistics.stdev(known) / len(known) ** 0.5
    return Spread(n=len(known), mean=statistics.fmean(known), standard_error=error, values=known)


@dataclass(frozen=True)
class Row:
    """One line of a table: a method on the pixels of a field type.

    Attributes
    ----------
    method : str
    field_type : str
    figures : dict of str to float or None
        By heading; the same headings in all rows of a file's results.
    """

    method: str
    field_type: str
    figures: dict[str, float | None]


def rows(results: BenchmarkResults) -> list[Row]:
    """The figures for people, field type by field type, all methods of one below each other."""
    return [
        Row(result.name, field_type, _figures(result.fields[field_type]))
        for field_type in results.data.pixels
        for result in results.methods
    ]


def figure_text(item: tuple[str, float | None]) -> str:
    """A figure of a row: a rate in per cent, anything else in four digits."""
    name, value = item
    if value is None:
        return "-"
    return f"{100 * value:.1f} %" if name.startswith(("TPR", "FPR")) else f"{value:.4g}"


def _figures(result: FieldResult) -> dict[str, float | None]:
    if (errors := result.inpainting) is not None:
        return {"MSE (e-^2)": errors.mse, "MAE (e-)": errors.mae, "bias (e-)": errors.bias, "pixels": errors.pixels}
    if (rates := result.mask) is not None:
        return {"TPR": rates.tpr, "FPR": rates.fpr}
    return {**{f"TPR at FPR {100 * rate.fpr:g} %": rate.tpr for rate in result.at_fpr}, "area": result.area}


def _rate_at(fpr: float, roc: Roc, by_seed: Sequence[Roc]) -> RateAtFpr:
    point = roc.at_fpr(fpr)
    alone = [found.tpr if (found := one.at_fpr(fpr)) else None for one in by_seed]
    return RateAtFpr(
        fpr=fpr,
        reached_fpr=point.fpr if point else None,
        tpr=point.tpr if point else None,
        threshold=point.threshold if point else None,
        tpr_spread=spread(alone),
    )
