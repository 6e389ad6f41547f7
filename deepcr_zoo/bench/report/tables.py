"""The tables of a report, in the words and the order in which people read them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from deepcr_zoo.bench.report.wording import (
    NONE,
    field_name,
    fpr_name,
    group_name,
    number_with_interval,
    percent,
    percent_with_interval,
    shared_working_point,
    significant,
    small_percent,
)
from deepcr_zoo.bench.results import (
    BIHARMONIC,
    IN_NOISE,
    BenchmarkResults,
    Diagnostics,
    FieldResult,
    GroupRate,
    InpaintingErrors,
    MethodResult,
    ModelVerdict,
    Quantity,
    RateAtFpr,
    StructuredPixels,
    leads,
)
from deepcr_zoo.zoo.records import POOLED, OperatingPoint


@dataclass(frozen=True)
class Grouping:
    """A share of pixels in groups, for a table and a figure; `select` takes the groups from diagnostics."""

    name: str
    title: str
    caption: str
    x_label: str
    select: Callable[[Diagnostics], Sequence[GroupRate]]
    y_label: str = "TPR (%)"
    highest_percent: float | None = 100

    def groups(self, field: FieldResult) -> Sequence[GroupRate]:
        """Return the groups of one method on one field type; none without diagnostics."""
        return self.select(field.diagnostics) if field.diagnostics is not None else ()


GROUPINGS = (
    Grouping(
        "star-cores",
        "False masks on star cores",
        "Share of clean pixels on star cores that are masked, by the peak brightness of the star. Lower is better.",
        "peak brightness of the star (e-)",
        lambda found: found.star_cores,
        "clean pixels masked (%)",
        None,
    ),
    Grouping(
        "brightness",
        "TPR by brightness of the cosmic ray",
        "Share of cosmic-ray pixels that are found, by their excess over the surroundings. Higher is better.",
        "excess over the surroundings (e-)",
        lambda found: found.cosmic_ray_brightness,
    ),
    Grouping(
        "size",
        "TPR by size of the cosmic ray",
        "Share of cosmic-ray pixels that are found, by the size of the cosmic ray. Higher is better.",
        "pixels of the cosmic ray",
        lambda found: found.cosmic_ray_size,
    ),
    Grouping(
        "whole",
        "Cosmic rays found, by size",
        "Share of cosmic rays of which half of the pixels or more are masked, by size. Higher is better.",
        "pixels of the cosmic ray",
        lambda found: found.whole_cosmic_rays,
        "cosmic rays found (%)",
    ),
)


@dataclass(frozen=True)
class Cell:
    text: str
    is_bold: bool = False


Row = Sequence[Cell]
Rates = Callable[[FieldResult], Sequence[RateAtFpr]]


@dataclass(frozen=True)
class Block:
    """Rows under a common heading, which may be empty."""

    heading: str
    rows: Sequence[Row]


@dataclass(frozen=True)
class Table:
    """A table; `reading` is one sentence on how to read it, and the first cell of a row names the row."""

    title: str
    reading: str
    columns: Sequence[str]
    blocks: Sequence[Block]


def headline(results: BenchmarkResults) -> Table:
    """Return the main table: TPR at the fixed FPRs, or the errors of filled pixels, for every method."""
    if results.data.inpainting is not None:
        return _inpainting_errors(results)
    reading = (
        "Share of cosmic-ray pixels found (TPR) at a fixed share of clean pixels masked by mistake (FPR), with 95 % "
        "intervals in brackets; bold if the lead over every other method is significant (its interval excludes 0). A cosmic "
        "ray is found if half of its pixels or more are masked, here at "
        f"{shared_working_point(results) or 'no common threshold'}."
    )
    return _rates_table("TPR at fixed FPR", reading, results, lambda one: one.at_fpr, is_main=True)


def dilated(results: BenchmarkResults) -> list[Table]:
    """Return the tables of masks dilated by 3x3 pixels, in both conventions; none if nothing was dilated."""
    honest = "TPR and FPR are both those of the dilated mask; these are the rates you get if you dilate masks."
    paper = (
        "TPR of the dilated mask at the FPR of the undilated one. This flatters the mask; it is given only for "
        "comparison with Zhang & Bloom 2020, Table 2."
    )
    title = "Masks dilated by 3x3 pixels"
    tables = [
        _rates_table(f"{title}, honest convention", honest, results, lambda one: one.dilated.honest if one.dilated else ()),
        _rates_table(
            f"{title}, convention of the paper", paper, results, lambda one: one.dilated.paper if one.dilated else ()
        ),
    ]
    return [table for table in tables if len(table.columns) > 2]  # a column per FPR


def diagnostics(results: BenchmarkResults) -> list[Table]:
    """Return the tables of star cores, brightness, size and edges, at the working point that most methods share."""
    at = shared_working_point(results)
    tables = [_group_table(grouping, results, at) for grouping in GROUPINGS]
    return [table for table in [*tables, _edges(results, at)] if table.blocks]


def structures(results: BenchmarkResults) -> Table | None:
    """Return the table of masked pixels that lie as no cosmic rays do; None if no network was judged for them."""
    columns = ["method", "masked pixels", "in rows and columns", "along trails", "on the same pixels"]

    def row(name: str, found: StructuredPixels | None) -> Row:
        if found is None:
            return []
        parts = (found.in_lines, found.in_trails, found.persistent)
        shares = [small_percent(part / found.masked if found.masked else None) for part in parts]
        return [*map(Cell, (name, f"{found.masked:,}", *shares))]

    def rows(field_type: str) -> list[Row]:
        networks = [row(one.name, one.fields[field_type].structures) for one in results.methods]
        found = [*networks, row("labels", results.data.structures.get(field_type))]
        return [one for one in found if one]

    blocks = [Block(field_name(name), of_field) for name in results.data.pixels if (of_field := rows(name))]
    reading = (
        "Shares of the masked pixels, at the default threshold, that lie as cosmic rays do not. Labels may have the same "
        "flaws, which no TPR or FPR then shows; where labels are the truth, pixels of cosmic rays do not count. Lower is "
        "better."
    )
    unseen = f" These labels cannot show {results.data.unseen}." if results.data.unseen else ""
    return Table("Structured masks", reading + unseen, columns, blocks) if blocks else None


def operating_points(points: Sequence[OperatingPoint]) -> Table:
    names = sorted({point.field_type for point in points}, key=lambda name: (name != POOLED, name))
    texts = {(one.field_type, one.fpr): Cell(f"{one.threshold:.4g} → {percent(one.tpr)}") for one in points}
    fprs = sorted({point.fpr for point in points})
    rows = [[Cell(small_percent(fpr)), *(texts.get((name, fpr), Cell(NONE)) for name in names)] for fpr in fprs]
    reading = "For each acceptable FPR: the threshold (a probability) → the share of cosmic-ray pixels found."
    return Table("Thresholds", reading, ["FPR", *map(field_name, names)], [Block("", rows)])


def photometry(results: BenchmarkResults) -> Table | None:
    if results.photometry is None:
        return None
    groups: dict[str, list[Row]] = {}
    has_scatter = any(one.scatter is not None for one in results.photometry.rows)
    for one in results.photometry.rows:
        figures = [one.bias, one.error, one.within_5_percent, *([one.scatter] if has_scatter else [])]
        row = map(Cell, (one.method, str(one.sources), *map(percent, figures)))
        groups.setdefault(f"{field_name(one.field_type)}, {one.kind}", []).append([*row])
    columns = ["method", "sources", "bias (median)", "error (median)", "within 5 %", *(["scatter"] if has_scatter else [])]
    reading = "Bias and error closer to 0 are better; the row named before shows the fluxes without repair."
    if has_scatter:
        reading += (
            " Scatter cannot be below that of the row named untouched, which has no cosmic rays: photon and read noise."
        )
    blocks = [Block(heading, rows) for heading, rows in groups.items()]
    return Table("Aperture fluxes against the truth", reading, columns, blocks)


def runtime(results: BenchmarkResults) -> Table | None:
    if not results.runtime:
        return None
    rows = []
    for one in results.runtime:
        speed, size = significant(one.megapixels_per_s), significant(one.megapixels)
        memory = NONE if one.peak_bytes is None else f"{one.peak_bytes / 1e9:.2f} GB"
        rows.append([Cell(text) for text in (one.method, speed, size, str(len(one.seconds)), memory)])
    columns = ["method", "Mpixel/s", "image (Mpixel)", "repeats", "peak memory"]
    reading = f"Median of the repeats, each method in its own process, on {results.machine}."
    return Table("Speed", reading, columns, [Block("", rows)])


def gates(verdict: ModelVerdict) -> Table:
    """Return the table of all gates of a model, failed ones first."""
    order = {"fails": 0, "passes": 1, "not required": 2}
    rows = []
    for one in sorted(verdict.gates, key=lambda gate: order[gate.verdict]):
        where = field_name(one.field_type) if one.field_type else NONE
        texts = map(Cell, (one.gate, where, one.measured, one.bound))
        rows.append([*texts, Cell(one.verdict, is_bold=one.verdict == "fails")])
    origin = "an imported model" if verdict.gate_set == "imported" else "a model trained here"
    reading = f"The requirements for publishing {origin}; a single failed gate prevents it."
    columns = ["gate", "field type", "measured", "bound", "verdict"]
    return Table(f"Gates of {verdict.reference}", reading, columns, [Block("", rows)])


def _per_field(results: BenchmarkResults, row_of: Callable[[MethodResult, str], Row]) -> list[Block]:
    """Return a block per field type with a row per method, without empty rows and blocks."""
    rows = {name: [row for one in results.methods if (row := row_of(one, name))] for name in results.data.pixels}
    return [Block(field_name(name), of_field) for name, of_field in rows.items() if of_field]


def _rates_table(title: str, reading: str, results: BenchmarkResults, rates: Rates, *, is_main: bool = False) -> Table:
    """Return a table with a column per FPR; the main table also has areas, and the leading methods in bold."""
    fprs = sorted({rate.fpr for one in results.methods for field in one.fields.values() for rate in rates(field)})
    at = shared_working_point(results)

    def row_of(method: MethodResult, field_type: str) -> Row:
        field = method.fields[field_type]
        known = {rate.fpr: rate for rate in rates(field)}
        bold = {fpr for fpr in known if is_main and leads(results, method.name, field_type, fpr)}
        found = {fpr: Cell(percent_with_interval(one.tpr, one.tpr_interval), fpr in bold) for fpr, one in known.items()}
        cells = [found.get(fpr, Cell(NONE)) for fpr in fprs]
        areas = [*map(Cell, _main_figures(method, field, at))] if is_main else []
        blocks = sorted({rate.tpr_interval.blocks for rate in known.values() if rate.tpr_interval is not None})
        return [Cell(method.name), *cells, *areas, Cell(", ".join(map(str, blocks)) or NONE)]

    areas = ["cosmic rays found", "precision at TPR 95 %", "area", "average precision"] if is_main else []
    columns = ["method", *(f"TPR at {fpr_name(fpr)}" for fpr in fprs), *areas, "blocks of sky"]
    return Table(title, reading, columns, _per_field(results, row_of))


def _main_figures(method: MethodResult, field: FieldResult, at: str | None) -> list[str]:
    """Return the figures of the main table that are no TPR, in the order of its columns."""
    groups = field.diagnostics.whole_cosmic_rays if field.diagnostics and at in method.working_points else []
    place = method.working_points.index(at) if groups and at else 0
    rates = [(group.pixels, group.rates[place]) for group in groups if group.pixels]
    known = [(count, rate) for count, rate in rates if rate is not None]
    found = sum(count * rate for count, rate in known) / sum(count for count, _ in known) if known else None
    precision = field.at_tpr[0].precision if field.at_tpr else None
    return [percent(found), percent(precision), significant(field.area, 5), significant(field.average_precision)]


def _avoided(results: BenchmarkResults, errors: InpaintingErrors, field_type: str) -> str:
    """Return how much of the avoidable squared error of biharmonic interpolation a method avoids."""
    start = next((one.fields[field_type].inpainting for one in results.methods if one.name == BIHARMONIC), None)
    if start is None or start.mse is None or errors.mse is None or errors.scene_mse is None or start.mse <= errors.scene_mse:
        return NONE
    return percent((start.mse - errors.mse) / (start.mse - errors.scene_mse))


def _inpainting_errors(results: BenchmarkResults) -> Table:
    networks = [one.name for one in results.methods if one.method.kind == "model"]
    known = {
        (one.quantity, one.method, one.against, one.field_type): number_with_interval(one.value, one.interval)
        for one in results.comparisons
    }

    def ratios(quantity: Quantity, method: MethodResult, field_type: str) -> list[str]:
        return [known.get((quantity, name, method.name, field_type), NONE) for name in networks]

    def row_of(method: MethodResult, field_type: str) -> Row:
        errors = method.fields[field_type].inpainting
        assert errors is not None  # the schema requires it
        mse = Cell(significant(errors.mse), leads(results, method.name, field_type, None))
        within = [percent(errors.within_1_sigma), percent(errors.within_2_sigma)] if predicted else []
        limit = [significant(errors.scene_mse), _avoided(results, errors, field_type)] if simulated else []
        noise = [significant(errors.mse_in_noise), *ratios(IN_NOISE, method, field_type)] if in_noise else []
        figures = [significant(errors.mae), significant(errors.bias), *noise, *within, *limit, f"{errors.pixels:,}"]
        return [Cell(method.name), mse, *map(Cell, [*ratios("MSE ratio", method, field_type), *figures])]

    found = [field.inpainting for method in results.methods for field in method.fields.values() if field.inpainting]
    in_noise = any(errors.mse_in_noise is not None for errors in found)
    predicted = any(errors.within_1_sigma is not None for errors in found)
    simulated = any(errors.scene_mse is not None for errors in found)
    columns = ["method", "MSE ((e-)²)", *(f"MSE of {name} / this" for name in networks), "MAE (e-)", "bias (e-)"]
    columns += [
        *(["MSE in units of the noise", *(f"that of {name} / this" for name in networks)] if in_noise else []),
        *(["within 1 sigma", "within 2 sigma"] if predicted else []),
        *(["MSE of the scene", "avoided"] if simulated else []),
    ]
    columns.append("pixels")
    reading = (
        "Errors are filled minus true values; lower is better. A ratio below 1 means that the network is better than the "
        "method (95 % intervals in brackets); bold if the lead over every other method is significant."
    )
    if in_noise:
        reading += " In units of the noise of each pixel, bright and faint pixels count alike (real exposures: of the sky)."
    if predicted:
        reading += (
            " Sigma is the uncertainty that a network predicts: 68.3 and 95.4 % of Gaussian errors are within 1 and 2."
        )
    if simulated:
        reading += (
            " The noiseless scene has the least MSE that is possible, that of the noise of the hidden pixels. Of the MSE "
            "between biharmonic interpolation (0 %) and the scene (100 %), a method avoids the share that is shown. "
            "Saturated pixels and single hot ones, whose neighbours do not show their values, are left out."
        )
    return Table("Errors of filled pixels", reading, columns, _per_field(results, row_of))


def _group_table(grouping: Grouping, results: BenchmarkResults, at: str | None) -> Table:
    """Return a table with a column per group."""
    columns: list[str] = []

    def row_of(method: MethodResult, field_type: str) -> Row:
        found = grouping.groups(method.fields[field_type])
        if not found or at not in method.working_points:
            return []
        columns[:] = [group_name(group) for group in found]
        place = method.working_points.index(at)
        return [Cell(method.name), *(Cell(small_percent(group.rates[place])) for group in found)]

    blocks = _per_field(results, row_of)
    title = f"{grouping.title}, {grouping.x_label}"
    return Table(title, f"{grouping.caption} At {at}.", ["method", *columns], blocks)


def _edges(results: BenchmarkResults, at: str | None) -> Table:
    def row_of(method: MethodResult, field_type: str) -> Row:
        found = method.fields[field_type].diagnostics
        if found is None or at not in method.working_points:
            return []
        place = method.working_points.index(at)
        known = {part.region: part for part in found.regions}
        parts = [known.get("interior"), known.get("outer 8 pixels")]
        tprs = [percent(part.tprs[place] if part else None) for part in parts]
        fprs = [small_percent(part.fprs[place] if part else None) for part in parts]
        return list(map(Cell, (method.name, *tprs, *fprs)))

    columns = ["method", "TPR, interior", "TPR, outer 8 pixels", "FPR, interior", "FPR, outer 8 pixels"]
    reading = f"Equal rates in both parts are best. At {at}."
    return Table("Edges of the stamps", reading, columns, _per_field(results, row_of))
