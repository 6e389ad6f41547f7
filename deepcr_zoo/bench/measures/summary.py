"""Tables of a benchmark's main figures, for the terminal."""

from __future__ import annotations

from dataclasses import dataclass

from deepcr_zoo.bench.results import BenchmarkResults, FieldResult


@dataclass(frozen=True)
class Row:
    """The figures of a method on the pixels of a field type, by heading; all rows of a file have the same headings."""

    method: str
    field_type: str
    figures: dict[str, float | None]


def rows(results: BenchmarkResults) -> list[Row]:
    """Return the rows field type by field type, with all methods of each."""
    return [Row(one.name, name, _figures(one.fields[name])) for name in results.data.pixels for one in results.methods]


def figure_text(item: tuple[str, float | None]) -> str:
    """Format a heading's figure: a rate in per cent, anything else in four digits."""
    name, value = item
    if value is None:
        return "-"
    return f"{100 * value:.1f} %" if name.startswith(("TPR", "FPR")) else f"{value:.4g}"


def _figures(result: FieldResult) -> dict[str, float | None]:
    if (errors := result.inpainting) is not None:
        return {"MSE (e-^2)": errors.mse, "MAE (e-)": errors.mae, "bias (e-)": errors.bias, "pixels": errors.pixels}
    return {**{f"TPR at FPR {100 * rate.fpr:g} %": rate.tpr for rate in result.at_fpr}, "area": result.area}
