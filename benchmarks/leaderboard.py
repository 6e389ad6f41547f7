"""All methods of a benchmark in tables for a README: Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from deepcr_zoo.bench.report.wording import (
    NONE,
    USUAL_FPR,
    field_name,
    fpr_name,
    percent,
    percent_with_interval,
    shared_working_point,
    significant,
    small_percent,
)
from deepcr_zoo.bench.results import BenchmarkResults, FieldResult, GroupRate, MethodResult, leads
from deepcr_zoo.zoo.records import POOLED

Row = Sequence[str]


def markdown(results: BenchmarkResults) -> str:
    """A table per field type, all of them together first: a row per method, the best at an FPR of 0.1 % first.

    Of inpainting, the lowest mean squared error is first. Methods that have no such figure are last.
    """
    pooled = POOLED if POOLED in results.data.pixels else next(iter(results.data.pixels))
    order = sorted(results.methods, key=lambda one: _rank(one.fields[pooled]))
    names = sorted(results.data.pixels, key=lambda name: name != pooled)
    marker = "**Synthetic data**: " if results.data.kind == "synthetic" else ""
    parts = [f"{marker}{_escaped(results.data.description)}. Measured on {results.date} with `{results.command}`."]
    if results.data.inpainting is None:
        parts.append(_reading(results, pooled))
    for name in names:
        parts += [f"#### {field_name(name).capitalize()}", _table(results, order, name, name == pooled)]
    if results.excluded:
        parts.append("Not ranked:")
        parts.append("\n".join(f"- `{one.reference}`: {_escaped(one.reason)}" for one in results.excluded))
    return "\n\n".join(parts) + "\n"


def _reading(results: BenchmarkResults, pooled: str) -> str:
    blocks = {rate.tpr_interval.blocks for one in results.methods for rate in one.fields[pooled].at_fpr if rate.tpr_interval}
    n = f" of n = {', '.join(map(str, sorted(blocks)))} blocks of sky (all field types)" if blocks else ""
    return (
        f"TPR at fixed FPR, in brackets the 95 % interval{n}; dilated: TPR at this FPR of the mask dilated by "
        f"3x3 pixels, at "
        f"{fpr_name(USUAL_FPR)}; star cores: share of their clean pixels that is masked, at "
        f"{shared_working_point(results)}."
    )


def _rank(field: FieldResult) -> float:
    if field.inpainting is not None:
        return float("inf") if field.inpainting.mse is None else field.inpainting.mse
    tprs = [rate.tpr for rate in field.at_fpr if rate.fpr == USUAL_FPR and rate.tpr is not None]
    return -tprs[0] if tprs else 1.0


def _table(results: BenchmarkResults, order: Sequence[MethodResult], field_type: str, with_speed: bool) -> str:
    speeds = {one.method: significant(one.megapixels_per_s) for one in results.runtime} if with_speed else {}
    if results.data.inpainting is not None:
        headings, rows = _filled(results, order, field_type)
    else:
        headings, rows = _found(results, order, field_type)
    if speeds:
        headings = [*headings, "Mpixel/s"]
        rows = [[*row, speeds.get(one.name, NONE)] for row, one in zip(rows, order, strict=True)]
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(map(_escaped, line))} |" for line in lines)


def _found(results: BenchmarkResults, order: Sequence[MethodResult], field_type: str) -> tuple[list[str], list[list[str]]]:
    at = shared_working_point(results)
    fprs = sorted({rate.fpr for one in order for rate in one.fields[field_type].at_fpr})
    rows = []
    for one in order:
        field = one.fields[field_type]
        known = {rate.fpr: percent_with_interval(rate.tpr, rate.tpr_interval) for rate in field.at_fpr}
        cells = [f"**{known[fpr]}**" if leads(results, one.name, field_type, fpr) else known.get(fpr, NONE) for fpr in fprs]
        honest = field.dilated.honest if field.dilated else []
        dilated = [percent(rate.tpr) for rate in honest if rate.fpr == USUAL_FPR]
        cores = field.diagnostics.star_cores if field.diagnostics and at in one.working_points else []
        false = small_percent(_together(cores, one.working_points.index(at))) if cores and at else NONE
        rows.append([one.name, *cells, dilated[0] if dilated else NONE, false])
    return ["method", *(f"TPR at {fpr_name(fpr)}" for fpr in fprs), "dilated", "star cores"], rows


def _filled(results: BenchmarkResults, order: Sequence[MethodResult], field_type: str) -> tuple[list[str], list[list[str]]]:
    rows = []
    for one in order:
        errors = one.fields[field_type].inpainting
        assert errors is not None  # the schema demands it
        mse = significant(errors.mse)
        best = leads(results, one.name, field_type, None)
        rows.append([one.name, f"**{mse}**" if best else mse, significant(errors.mae), significant(errors.bias)])
    return ["method", "MSE ((e-)²)", "MAE (e-)", "bias (e-)"], rows


def _together(groups: Sequence[GroupRate], place: int) -> float | None:
    """The rate of all groups together."""
    known = [(group.pixels, rate) for group in groups if (rate := group.rates[place]) is not None]
    pixels = sum(count for count, _ in known)
    return sum(count * rate for count, rate in known) / pixels if pixels else None


def _escaped(text: str) -> str:
    """What would end a cell or start markup of its own does not."""
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
