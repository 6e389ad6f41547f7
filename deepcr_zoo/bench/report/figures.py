"""Figures of a benchmark: one per question and field type, for screens of any width (extra ``plot``).

A method has the same colour in all of them, after Okabe & Ito 2008; networks are lines, baselines points.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any

from deepcr_zoo.bench.report.tables import GROUPINGS, Grouping
from deepcr_zoo.bench.report.wording import field_name, group_name, shared_working_point
from deepcr_zoo.bench.results import BEFORE, UNTOUCHED, BenchmarkResults, FieldResult, MethodResult, ModelMethod
from deepcr_zoo.exposures.pictures import plainly_drawn, png, require_matplotlib

NETWORK_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Blue, vermilion, bluish green, reddish purple, orange, sky blue."""

BASELINE_COLOURS = ("#000000", "#7F7F7F")
LINE_COLOUR = "#BBBBBB"
MARKERS = ("o", "s", "^", "D", "v", "P")
DASHES = ("-", "--", ":")

WIDTH, HEIGHT, LEGEND_ROW = 4.8, 3.2, 0.2
"""Inches; 10-point letters are 10 pixels tall where a figure is 350 pixels wide."""

DPI = 160
LOWEST_FPR, HIGHEST_FPR = 1e-5, 0.1


class Topic(StrEnum):
    """Sections of the report that have pictures, by their headings."""

    INPAINTING = "Filled pixels"
    ROC = "Curves: true and false positives"
    PRECISION = "Curves: precision and recall"
    DIAGNOSTICS = "Where masks succeed and where they fail"
    WORST = "Worst stamps"
    EXAMPLES = "Examples of filled pixels"
    PHOTOMETRY = "Fluxes of stars and galaxies"


@dataclass(frozen=True)
class Picture:
    """A picture of the report; `name` is that of its file, without ``.png``."""

    name: str
    topic: Topic
    caption: str
    alt: str
    png: bytes


@dataclass(frozen=True)
class Plot:
    name: str
    topic: Topic
    title: str
    caption: str
    draw: Callable[[Any], None]


@dataclass(frozen=True)
class Style:
    colour: str
    marker: str
    dash: str


def figures(results: BenchmarkResults) -> list[Picture]:
    """Draw all figures that the results have data for."""
    return drawn(results, plots(results))


def drawn(results: BenchmarkResults, chosen: Iterable[Plot]) -> list[Picture]:
    """Draw some of the `plots` of results."""
    require_matplotlib()
    return [_drawn(plot, is_synthetic=results.data.kind == "synthetic") for plot in chosen]


def plots(results: BenchmarkResults) -> list[Plot]:
    """Return what `figures` draws."""
    return [*_inpainting(results), *_curves(results), *_diagnostics(results), *_photometry(results)]


def styles(results: BenchmarkResults) -> dict[str, Style]:
    found: dict[str, Style] = {BEFORE: Style("#7F7F7F", "x", ":"), UNTOUCHED: Style("#7F7F7F", "+", ":")}
    networks = [one.name for one in results.methods if isinstance(one.method, ModelMethod)]
    baselines = [one.name for one in results.methods if not isinstance(one.method, ModelMethod)]
    for names, colours in ((networks, NETWORK_COLOURS), (baselines, BASELINE_COLOURS)):
        for number, name in enumerate(names):
            again, place = divmod(number, len(colours))
            found[name] = Style(colours[place], MARKERS[number % len(MARKERS)], DASHES[again % len(DASHES)])
    return found


Draw = Callable[[BenchmarkResults, str, Any], None]
HasData = Callable[[FieldResult], object]


def _per_field(
    results: BenchmarkResults, name: str, topic: Topic, title: str, caption: str, draw: Draw, has_data: HasData
) -> Iterator[Plot]:
    """Yield a plot for each field type on which any method has data."""
    for field_type in results.data.pixels:
        if any(has_data(one.fields[field_type]) for one in results.methods):
            heading = f"{title}: {field_name(field_type)}"
            yield Plot(f"{name}-{field_type}", topic, heading, caption, partial(draw, results, field_type))


def _curves(results: BenchmarkResults) -> Iterator[Plot]:
    has_curves = any(field.curve for one in results.methods for field in one.fields.values())
    yield from _per_field(
        results, "roc", Topic.ROC, "ROC",
        "Share of cosmic-ray pixels that are found (TPR) against the share of clean pixels that are masked (FPR). "
        "Higher is better; bars are 95 % intervals at the FPRs of the tables.",
        _roc, lambda field: has_curves,
    )  # fmt: skip
    yield from _per_field(
        results, "precision", Topic.PRECISION, "Precision and recall",
        "Share of masked pixels that are cosmic rays against the share of cosmic-ray pixels that are found. "
        "Up and to the right is better.",
        _precision, lambda field: has_curves,
    )  # fmt: skip


def _diagnostics(results: BenchmarkResults) -> Iterator[Plot]:
    point = shared_working_point(results)
    at = f" At {point}." if point else ""
    for grouping in GROUPINGS:
        yield from _per_field(
            results, grouping.name, Topic.DIAGNOSTICS, grouping.title, grouping.caption + at,
            partial(_groups, grouping), grouping.groups,
        )  # fmt: skip
    yield from _per_field(
        results, "edges", Topic.DIAGNOSTICS, "Edges of the stamps",
        "The interior of the stamps and their outer 8 pixels; a level line means no loss at the edge." + at,
        _edges, lambda field: field.diagnostics and field.diagnostics.regions,
    )  # fmt: skip
    yield from _per_field(
        results, "calibration", Topic.DIAGNOSTICS, "Calibration",
        "Share of cosmic rays among pixels with a given probability. Points on the diagonal are well calibrated; "
        "below it, the network is overconfident.",
        _calibration, lambda field: field.diagnostics and field.diagnostics.calibration,
    )  # fmt: skip


def _inpainting(results: BenchmarkResults) -> Iterator[Plot]:
    if results.data.inpainting is not None:
        keys = results.data.pixels.keys()
        errors = {one.name: [one.fields[key].inpainting for key in keys] for one in results.methods}
        values = {name: [one.mse if one else None for one in of_method] for name, of_method in errors.items()}
        names = [field_name(key) for key in keys]
        yield Plot(
            "inpainting-mse", Topic.INPAINTING, "Mean squared error of filled pixels",
            "Lower is better; the scale is logarithmic.", partial(_dots, results, names, values, "MSE ((e-)²)"),
        )  # fmt: skip


def _photometry(results: BenchmarkResults) -> Iterator[Plot]:
    rows = results.photometry.rows if results.photometry is not None else []
    for field_type in dict.fromkeys(row.field_type for row in rows):
        errors = {(row.method, row.kind): row.error for row in rows if row.field_type == field_type}
        methods, kinds = (list(dict.fromkeys(keys)) for keys in zip(*errors, strict=True))
        percents = {key: None if error is None else 100 * error for key, error in errors.items()}
        values = {method: [percents.get((method, kind)) for kind in kinds] for method in methods}
        names = ["stars" if kind == "star" else "galaxies" for kind in kinds]
        yield Plot(
            f"photometry-{field_type}", Topic.PHOTOMETRY, f"Error of fluxes: {field_name(field_type)}",
            "Errors of aperture fluxes of sources hit by cosmic rays. Lower is better; the scale is logarithmic.",
            partial(_dots, results, names, values, "median error of the flux (%)"),
        )  # fmt: skip


@plainly_drawn
def _drawn(plot: Plot, *, is_synthetic: bool) -> Picture:
    """Draw a figure with its title above and its legend below the axes, where it covers no data."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
    plot.draw(figure)
    title = plot.title + (" (synthetic)" if is_synthetic else "")
    figure.suptitle(title, size=11)
    handles: dict[str, Any] = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    figure.set_figheight(HEIGHT + LEGEND_ROW * len(handles))
    if handles:
        figure.legend(handles.values(), handles.keys(), loc="outside lower left", frameon=False, fontsize=10, ncols=1)
    alt = f"{title}, for {', '.join(handles)}. The numbers are in the tables and in results.json."
    return Picture(plot.name, plot.topic, plot.caption, alt, png(figure, DPI))


def _roc(results: BenchmarkResults, field_type: str, figure: Any) -> None:
    axes = figure.subplots()
    for fpr in sorted({rate.fpr for one in results.methods for rate in one.fields[field_type].at_fpr}):
        axes.axvline(100 * fpr, color=LINE_COLOUR, lw=0.8, ls=":", zorder=0)
    for one, style in _styled(results):
        field = one.fields[field_type]
        _curve(axes, one, style, [(point.fpr, point.tpr) for point in field.curve if point.fpr > 0])
        for rate in field.at_fpr:
            if rate.tpr is not None and rate.tpr_interval is not None:
                ends = ([100 * max(rate.tpr - rate.tpr_interval.low, 0)], [100 * max(rate.tpr_interval.high - rate.tpr, 0)])
                axes.errorbar(100 * rate.fpr, 100 * rate.tpr, ends, color=style.colour, capsize=3, lw=1.4)
    axes.set(xscale="log", xlim=(100 * LOWEST_FPR, 100 * HIGHEST_FPR), ylim=(0, 100), xlabel="FPR (%)", ylabel="TPR (%)")
    axes.xaxis.set_major_formatter(_plain)
    axes.grid(alpha=0.25)


def _precision(results: BenchmarkResults, field_type: str, figure: Any) -> None:
    axes = figure.subplots()
    for one, style in _styled(results):
        points = [(point.tpr, point.precision) for point in one.fields[field_type].curve]
        _curve(axes, one, style, [(recall, precision) for recall, precision in points if precision is not None])
    axes.set(xlim=(0, 100), ylim=(0, 102), xlabel="recall = TPR (%)", ylabel="precision (%)")
    axes.grid(alpha=0.25)


def _curve(axes: Any, method: MethodResult, style: Style, points: Sequence[tuple[float, float]]) -> None:
    """Draw a line, with points for a baseline, which has few thresholds."""
    if points:
        marker = None if isinstance(method.method, ModelMethod) else style.marker
        x, y = ([100 * one for one in values] for values in zip(*points, strict=True))
        axes.plot(x, y, style.dash, color=style.colour, marker=marker, ms=4, lw=1.5, label=method.name)


def _groups(grouping: Grouping, results: BenchmarkResults, field_type: str, figure: Any) -> None:
    axes = figure.subplots()
    names: list[str] = []
    for one, style, place in _at_shared_point(results):
        if found := grouping.groups(one.fields[field_type]):
            names = [group_name(group) for group in found]
            values = [_percent(group.rates[place]) for group in found]
            axes.plot(values, style.dash, color=style.colour, marker=style.marker, ms=5, lw=1.3, label=one.name)
    axes.set_xticks(range(len(names)), names)
    axes.set(xlabel=grouping.x_label, ylabel=grouping.y_label)
    axes.set_ylim(bottom=0, top=grouping.highest_percent)
    axes.grid(alpha=0.25)


def _edges(results: BenchmarkResults, field_type: str, figure: Any) -> None:
    both = figure.subplots(1, 2)
    for one, style, place in _at_shared_point(results):
        diagnostics = one.fields[field_type].diagnostics
        if diagnostics is None or not diagnostics.regions:
            continue
        regions = sorted(diagnostics.regions, key=lambda region: region.region)  # the interior first
        for axes, rates in zip(both, ([one.tprs for one in regions], [one.fprs for one in regions]), strict=True):
            values = [_percent(rate[place]) for rate in rates]
            axes.plot(values, style.dash, color=style.colour, marker=style.marker, label=one.name)
    for axes, label, top in zip(both, ("TPR (%)", "FPR (%)"), (100, None), strict=True):
        axes.set_xticks([0, 1], ["interior", "outer 8"])
        axes.set(xlim=(-0.4, 1.4), title=label)
        axes.set_ylim(bottom=0, top=top)
        axes.title.set_size(10)
        axes.grid(alpha=0.25)


def _calibration(results: BenchmarkResults, field_type: str, figure: Any) -> None:
    axes = figure.subplots()
    axes.plot([0, 100], [0, 100], color=LINE_COLOUR, lw=1, zorder=0)
    for one, style in _styled(results):
        diagnostics = one.fields[field_type].diagnostics
        pairs = [(part.predicted, part.observed) for part in diagnostics.calibration] if diagnostics else []
        points = [(100 * x, 100 * y) for x, y in pairs if x is not None and y is not None]
        if points:
            axes.plot(*zip(*points, strict=True), style.dash, color=style.colour, marker=style.marker, ms=5, label=one.name)
    axes.set(xlim=(0, 100), ylim=(0, 100), xlabel="predicted probability (%)", ylabel="cosmic rays (%)")
    axes.grid(alpha=0.25)


def _dots(
    results: BenchmarkResults, groups: Sequence[str], values: Mapping[str, Sequence[float | None]], label: str, figure: Any
) -> None:
    """Draw the methods side by side in each group on a logarithmic scale, where the length of a bar would mean nothing."""
    from matplotlib.ticker import LogFormatter

    axes = figure.subplots()
    known = styles(results)
    step, nothing = 0.7 / max(len(values), 1), float("nan")
    for number, (method, heights) in enumerate(values.items()):
        style, offset = known.get(method, known[BEFORE]), (number - (len(values) - 1) / 2) * step
        points = [(group + offset, height) for group, height in enumerate(heights) if height is not None and height > 0]
        x, y = zip(*(points or [(nothing, nothing)]), strict=True)
        axes.plot(x, y, style.marker, color=style.colour, ms=9, mew=2, ls="none", label=method)
    for group in range(1, len(groups)):
        axes.axvline(group - 0.5, color=LINE_COLOUR, lw=0.8)
    axes.set_xticks(range(len(groups)), [name.replace(" ", "\n", 1) for name in groups])
    axes.set(yscale="log", ylabel=label, xlim=(-0.5, len(groups) - 0.5))
    axes.margins(y=0.1)
    axes.yaxis.set_major_formatter(_plain)
    axes.yaxis.set_minor_formatter(LogFormatter(labelOnlyBase=False, minor_thresholds=(2, 0.5)))
    axes.grid(axis="y", which="both", alpha=0.25)


def _styled(results: BenchmarkResults) -> Iterator[tuple[MethodResult, Style]]:
    known = styles(results)
    return ((one, known[one.name]) for one in results.methods)


def _at_shared_point(results: BenchmarkResults) -> Iterator[tuple[MethodResult, Style, int]]:
    """Yield the methods that have the shared working point, and its place among their own."""
    point = shared_working_point(results)
    for one, style in _styled(results):
        if point in one.working_points:
            yield one, style, one.working_points.index(point)


def _percent(share: float | None) -> float:
    return float("nan") if share is None else 100 * share


def _plain(value: float, _: int) -> str:
    return f"{value:g}"
