"""What a benchmark found, drawn: a figure per question and field type, for screens of any width (extra ``plot``).

A method has the same colour in all of them, after Okabe & Ito 2008, and networks are lines, baselines points.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from deepcr_zoo.bench.report.tables import GROUPED, Grouped
from deepcr_zoo.bench.report.wording import field_name, group_name, shared_working_point
from deepcr_zoo.bench.results import BenchmarkResults, Diagnostics, MethodResult, ModelMethod
from deepcr_zoo.exposures.pictures import png, require_matplotlib

NETWORK_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Blue, vermilion, bluish green, reddish purple, orange, sky blue."""

BASELINE_COLOURS = ("#000000", "#7F7F7F")
MARKERS = ("o", "s", "^", "D", "v", "P")
DASHES = ("-", "--", ":")

WIDTH, HEIGHT, LEGEND_ROW = 4.8, 3.2, 0.2
"""Inches: letters of 10 points are 10 pixels tall where a figure is 350 pixels wide."""

DPI = 160
LOWEST_FPR, HIGHEST_FPR = 1e-5, 0.1
BEFORE = "before"


@dataclass(frozen=True)
class Picture:
    """A picture of the report.

    Attributes
    ----------
    name : str
        Of its file, without ``.png``.
    section : str
        Heading that it stands under.
    title : str
    caption : str
        What there is to see, and how to read it.
    alt : str
        For those who do not see it.
    png : bytes
    """

    name: str
    section: str
    title: str
    caption: str
    alt: str
    png: bytes


@dataclass(frozen=True)
class Style:
    """How a method is drawn."""

    colour: str
    marker: str
    dash: str


def figures(results: BenchmarkResults) -> list[Picture]:
    """All figures that the results have something for.

    Raises
    ------
    MissingExtraError
        If matplotlib is not installed.
    """
    require_matplotlib()
    return [*_filled(results), *_curves(results), *_diagnosed(results), *_measured(results)]


def styles(results: BenchmarkResults) -> dict[str, Style]:
    """How each method is drawn, by its name."""
    found: dict[str, Style] = {BEFORE: Style("#7F7F7F", "x", ":")}
    networks = [one.name for one in results.methods if isinstance(one.method, ModelMethod)]
    baselines = [one.name for one in results.methods if not isinstance(one.method, ModelMethod)]
    for names, colours in ((networks, NETWORK_COLOURS), (baselines, BASELINE_COLOURS)):
        for number, name in enumerate(names):
            again, place = divmod(number, len(colours))
            found[name] = Style(colours[place], MARKERS[number % len(MARKERS)], DASHES[again % len(DASHES)])
    return found


ROC = "Curves: true and false positives"
PRECISION = "Curves: precision and recall"
DIAGNOSTICS = "Where masks are good and where not"
INPAINTING = "Filled pixels"
PHOTOMETRY = "Fluxes of stars and galaxies"


def _curves(results: BenchmarkResults) -> Iterator[Picture]:
    if not any(field.curve for one in results.methods for field in one.fields.values()):
        return
    for field_type in results.data.pixels:
        name = field_name(field_type)
        yield _picture(
            f"roc-{field_type}", ROC, f"ROC: {name}", partial(_roc, results, field_type), results,
            "Share of the cosmic-ray pixels that are found (TPR) over the share of the clean pixels that are masked (FPR). "
            "Higher is better; bars are 95 % intervals at the FPRs of the tables.",
        )  # fmt: skip
    for field_type in results.data.pixels:
        name = field_name(field_type)
        yield _picture(
            f"precision-{field_type}", PRECISION, f"Precision and recall: {name}",
            partial(_precision, results, field_type), results,
            "Of the masked pixels, the share that are cosmic rays, over the share of the cosmic-ray pixels that are found. "
            "Up and to the right is better.",
        )  # fmt: skip


def _diagnosed(results: BenchmarkResults) -> Iterator[Picture]:
    point = shared_working_point(results)
    at = f" At {point}." if point else ""
    for kind in GROUPED:
        for field_type in results.data.pixels:
            if any(kind.groups(one.fields[field_type]) for one in results.methods):
                yield _picture(
                    f"{kind.name}-{field_type}", DIAGNOSTICS, f"{kind.title}: {field_name(field_type)}",
                    partial(_by_group, results, field_type, kind), results, kind.caption + at,
                )  # fmt: skip
    for field_type, found in _diagnostics(results):
        if any(one.regions for one in found):
            yield _picture(
                f"edges-{field_type}", DIAGNOSTICS, f"Edges of the stamps: {field_name(field_type)}",
                partial(_regions, results, field_type), results,
                "The outer 8 pixels of the stamps beside their interior: a level line is as good at the edge." + at,
            )  # fmt: skip
    for field_type, found in _diagnostics(results):
        if any(one.calibration for one in found):
            yield _picture(
                f"calibration-{field_type}", DIAGNOSTICS, f"Calibration: {field_name(field_type)}",
                partial(_calibration, results, field_type), results,
                "Of the pixels that get a probability, the share that are cosmic rays. On the diagonal the probability says "
                "what it means; below it the network is too sure.",
            )  # fmt: skip


def _diagnostics(results: BenchmarkResults) -> Iterator[tuple[str, list[Diagnostics]]]:
    for field_type in results.data.pixels:
        yield field_type, [found for one in results.methods if (found := one.fields[field_type].diagnostics) is not None]


def _filled(results: BenchmarkResults) -> Iterator[Picture]:
    if results.data.inpainting is not None:
        values = {
            one.name: [error.mse if (error := one.fields[key].inpainting) else None for key in results.data.pixels]
            for one in results.methods
        }
        names = [field_name(key) for key in results.data.pixels]
        yield _picture(
            "inpainting-mse", INPAINTING, "Mean squared error of filled pixels",
            partial(_dots, results, names, values, "MSE ((e-)²)"), results, "Lower is better; the scale is logarithmic.",
        )  # fmt: skip


def _measured(results: BenchmarkResults) -> Iterator[Picture]:
    if results.photometry is None:
        return
    rows = results.photometry.rows
    for field_type in dict.fromkeys(row.field_type for row in rows):
        here = [row for row in rows if row.field_type == field_type]
        kinds = list(dict.fromkeys(row.kind for row in here))
        values = {
            method: [next((r.error for r in here if (r.method, r.kind) == (method, kind)), None) for kind in kinds]
            for method in dict.fromkeys(row.method for row in here)
        }
        names = ["stars" if kind == "star" else "galaxies" for kind in kinds]
        shares = {method: [None if one is None else 100 * one for one in row] for method, row in values.items()}
        yield _picture(
            f"photometry-{field_type}", PHOTOMETRY, f"Error of fluxes: {field_name(field_type)}",
            partial(_dots, results, names, shares, "median error of the flux (%)"),
            results,
            "Aperture fluxes of sources that cosmic rays hit, against the truth. Lower is better; the scale is logarithmic.",
        )  # fmt: skip


def _picture(
    name: str, section: str, title: str, draw: Callable[[Any], None], results: BenchmarkResults, caption: str
) -> Picture:
    """A figure with its title above and its legend below the axes, where it covers no data."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
    draw(figure)
    synthetic = " (synthetic)" if results.data.kind == "synthetic" else ""
    figure.suptitle(title + synthetic, size=11)
    handles: dict[str, Any] = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    figure.set_figheight(HEIGHT + LEGEND_ROW * len(handles))
    if handles:
        figure.legend(handles.values(), handles.keys(), loc="outside lower left", frameon=False, fontsize=10, ncols=1)
    alt = f"{title}{synthetic}, for {', '.join(handles)}. The figures stand in the tables and in results.json."
    return Picture(name, section, title, caption, alt, png(figure, DPI))


def _roc(results: BenchmarkResults, field_type: str, figure: Any) -> None:
    axes = figure.subplots()
    fprs = sorted({rate.fpr for one in results.methods for rate in one.fields[field_type].at_fpr})
    for fpr in fprs:
        axes.axvline(100 * fpr, color="#BBBBBB", lw=0.8, ls=":", zorder=0)
    for one, style in _styled(results):
        field = one.fields[field_type]
        _curve(axes, one, style, [(point.fpr, point.tpr) for point in field.curve if point.fpr > 0])
        for rate in field.at_fpr:
            if rate.tpr is not None and rate.tpr_interval is not None:
                ends = ([100 * max(rate.tpr - rate.tpr_interval.low, 0)], [100 * max(rate.tpr_interval.high - rate.tpr, 0)])
                axes.errorbar(100 * rate.fpr, 100 * rate.tpr, ends, color=style.colour, capsize=3, lw=1.4)
        if field.mask is not None:
            axes.plot(
                100 * field.mask.fpr, 100 * field.mask.tpr, style.marker, color=style.colour, ls="none", label=one.name
            )
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
    """A line for a network; for a baseline, whose thresholds are few, its points too."""
    if points:
        marker = None if isinstance(method.method, ModelMethod) else style.marker
        x, y = ([100 * one for one in values] for values in zip(*points, strict=True))
        axes.plot(x, y, style.dash, color=style.colour, marker=marker, ms=4, lw=1.5, label=method.name)


def _by_group(results: BenchmarkResults, field_type: str, kind: Grouped, figure: Any) -> None:
    axes = figure.subplots()
    names: list[str] = []
    for one, style, place in _at_shared_point(results):
        found = kind.groups(one.fields[field_type])
        if found:
            names = [group_name(group) for group in found]
            values = [_percent(group.rates[place]) for group in found]
            axes.plot(values, style.dash, color=style.colour, marker=style.marker, ms=5, lw=1.3, label=one.name)
    axes.set_xticks(range(len(names)), names)
    axes.set(xlabel=kind.x_label, ylabel=kind.y_label)
    axes.set_ylim(bottom=0, top=100 if kind.y_label == "TPR (%)" else None)
    axes.grid(alpha=0.25)


def _regions(results: BenchmarkResults, field_type: str, figure: Any) -> None:
    both = figure.subplots(1, 2)
    for one, style, place in _at_shared_point(results):
        diagnostics = one.fields[field_type].diagnostics
        if diagnostics is None or not diagnostics.regions:
            continue
        order = sorted(diagnostics.regions, key=lambda region: region.region)  # the interior first
        for axes, rates in zip(both, ([one.tprs for one in order], [one.fprs for one in order]), strict=True):
            axes.plot(
                [_percent(rate[place]) for rate in rates],
                style.dash,
                color=style.colour,
                marker=style.marker,
                label=one.name,
            )
    for axes, label in zip(both, ("TPR (%)", "FPR (%)"), strict=True):
        axes.set_xticks([0, 1], ["interior", "outer 8"])
        axes.set(xlim=(-0.4, 1.4), title=label)
        axes.set_ylim(bottom=0, top=100 if label == "TPR (%)" else None)
        axes.title.set_size(10)
        axes.grid(alpha=0.25)


def _calibration(results: BenchmarkResults, field_type: str, figure: Any) -> None:
    axes = figure.subplots()
    axes.plot([0, 100], [0, 100], color="#BBBBBB", lw=1, zorder=0)
    for one, style in _styled(results):
        diagnostics = one.fields[field_type].diagnostics
        bins = [] if diagnostics is None else diagnostics.calibration
        points = [(100 * part.predicted, 100 * part.observed) for part in bins if part.predicted is not None
                  and part.observed is not None]  # fmt: skip
        if points:
            axes.plot(*zip(*points, strict=True), style.dash, color=style.colour, marker=style.marker, ms=5, label=one.name)
    axes.set(xlim=(0, 100), ylim=(0, 100), xlabel="predicted probability (%)", ylabel="cosmic rays (%)")
    axes.grid(alpha=0.25)


def _dots(
    results: BenchmarkResults, groups: Sequence[str], values: Mapping[str, Sequence[float | None]], label: str, figure: Any
) -> None:
    """The methods side by side in each group, on a logarithmic scale (on which the length of a bar would mean nothing)."""
    from matplotlib.ticker import LogFormatter

    axes = figure.subplots()
    known = styles(results)
    step, nothing = 0.7 / max(len(values), 1), float("nan")
    for number, (method, heights) in enumerate(values.items()):
        style = known.get(method, known[BEFORE])
        shown = [
            (group + (number - (len(values) - 1) / 2) * step, height)
            for group, height in enumerate(heights)
            if height is not None and height > 0
        ]
        axes.plot(
            *zip(*(shown or [(nothing, nothing)]), strict=True),
            style.marker,
            color=style.colour,
            ms=9,
            mew=2,
            ls="none",
            label=method,
        )
    for group in range(1, len(groups)):
        axes.axvline(group - 0.5, color="#BBBBBB", lw=0.8)
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
    """The methods that have the working point that diagnostics are drawn at, and which of theirs it is."""
    point = shared_working_point(results)
    for one, style in _styled(results):
        if point in one.working_points:
            yield one, style, one.working_points.index(point)


def _percent(share: float | None) -> float:
    return float("nan") if share is None else 100 * share


def _plain(value: float, _: int) -> str:
    return f"{value:g}"
