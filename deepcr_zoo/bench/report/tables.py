"""The tables of a report: what was measured, in the words and order in which people read it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
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
    BenchmarkResults,
    Comparison,
    Diagnostics,
    FieldResult,
    GroupRate,
    MethodResult,
    ModelVerdict,
    RateAtFpr,
)
from deepcr_zoo.zoo.records import POOLED, OperatingPoint


@dataclass(frozen=True)
class Grouped:
    """A share of pixels that is told apart by something.

    Attributes
    ----------
    name, title, caption : str
    x_label, y_label : str
    of : callable
        Takes it from diagnostics.
    """

    name: str
    title: str
    caption: str
    x_label: str
    y_label: str
    of: Callable[[Diagnostics], Sequence[GroupRate]]

    def groups(self, field: FieldResult) -> Sequence[GroupRate]:
        """Of one method on one field type; none if nothing was diagnosed."""
        return self.of(field.diagnostics) if field.diagnostics is not None else ()


GROUPED = (
    Grouped(
        "star-cores",
        "False masks on star cores",
        "Of the clean pixels on star cores, the share that is masked, by the peak brightness of the star. Lower is better.",
        "peak brightness of the star (e-)",
        "clean pixels masked (%)",
        lambda found: found.star_cores,
    ),
    Grouped(
        "brightness",
        "TPR by brightness of the cosmic ray",
        "Of the cosmic-ray pixels, the share that is found, by their excess over the surroundings. Higher is better.",
        "excess over the surroundings (e-)",
        "TPR (%)",
        lambda found: found.cosmic_ray_brightness,
    ),
    Grouped(
        "size",
        "TPR by size of the cosmic ray",
        "Of the cosmic-ray pixels, the share that is found, by the size of the cosmic ray. Higher is better.",
        "pixels of the cosmic ray",
        "TPR (%)",
        lambda found: found.cosmic_ray_size,
    ),
)


@dataclass(frozen=True)
class Cell:
    """A cell of a table; `best` where it beats all others beyond doubt."""

    text: str
    best: bool = False


@dataclass(frozen=True)
class Block:
    """Rows that belong together, under a heading of their own; none if it is empty."""

    heading: str
    rows: Sequence[Sequence[Cell]]


@dataclass(frozen=True)
class Table:
    """A table for people.

    Attributes
    ----------
    title : str
    reading : str
        One sentence that says how to read it.
    columns : sequence of str
    blocks : sequence of Block
        Each row has a cell per column; the first names the row.
    """

    title: str
    reading: str
    columns: Sequence[str]
    blocks: Sequence[Block]


def headline(results: BenchmarkResults) -> Table:
    """What the report is about: TPR at the fixed FPRs, or the errors of filled pixels, of every method."""
    return _filled(results) if results.data.inpainting is not None else _found(results)


def dilated(results: BenchmarkResults) -> list[Table]:
    """Masks dilated by 3x3 pixels, in both conventions; none where nothing was dilated."""
    readings: tuple[tuple[str, str, Callable[[FieldResult], Sequence[RateAtFpr]]], ...] = (
        (
            "Masks dilated by 3x3 pixels, honest convention",
            "TPR and FPR are both those of the dilated mask: what you get if you dilate masks.",
            lambda one: one.dilated.honest if one.dilated else (),
        ),
        (
            "Masks dilated by 3x3 pixels, convention of the paper",
            "TPR of the dilated mask beside the FPR of the undilated one: this flatters the mask, and is here to be "
            "compared with Zhang & Bloom 2020, Table 2, alone.",
            lambda one: one.dilated.paper if one.dilated else (),
        ),
    )
    return [
        _rates_table(title, reading, results, rates)
        for title, reading, rates in readings
        if any(rates(one.fields[key]) for one in results.methods for key in one.fields)
    ]


def diagnostics(results: BenchmarkResults) -> list[Table]:
    """Star cores, brightness, size, and edges, at the working point that most methods share."""
    at = shared_working_point(results)
    tables = [_group_table(kind, f"{kind.caption} At {at}.", results) for kind in GROUPED]
    return [table for table in [*tables, _edges(results, at)] if table.blocks]


def operating_points(points: Sequence[OperatingPoint]) -> Table:
    """Which threshold gives which FPR, per field type."""
    names = sorted({point.field_type for point in points}, key=lambda name: (name != POOLED, name))
    known = {(point.field_type, point.fpr): point for point in points}
    rows = []
    for fpr in sorted({point.fpr for point in points}):
        found = [known.get((name, fpr)) for name in names]
        rates = [NONE if one is None else f"{one.threshold:.4g} → {percent(one.tpr)}" for one in found]
        rows.append([Cell(small_percent(fpr)), *map(Cell, rates)])
    reading = "For each FPR that you accept: the threshold (a probability) → the share of cosmic-ray pixels found."
    return Table("Thresholds", reading, ["FPR", *map(field_name, names)], [Block("", rows)])


def photometry(results: BenchmarkResults) -> Table | None:
    """Fluxes of sources that cosmic rays have hit."""
    if results.photometry is None:
        return None
    rows = results.photometry.rows
    blocks = [
        Block(
            f"{field_name(field_type)}, {kind}",
            [
                [
                    Cell(row.method), Cell(str(row.sources)), Cell(percent(row.bias)), Cell(percent(row.error)),
                    Cell(percent(row.within_5_percent)),
                ]
                for row in rows
                if (row.field_type, row.kind) == (field_type, kind)
            ],
        )
        for field_type, kind in dict.fromkeys((row.field_type, row.kind) for row in rows)
    ]  # fmt: skip
    columns = ["method", "sources", "bias (median)", "error (median)", "within 5 %"]
    reading = "Bias and error nearer to 0 are better; the row before shows what the cosmic rays had done."
    return Table("Aperture fluxes against the truth", reading, columns, blocks)


def runtime(results: BenchmarkResults) -> Table | None:
    """Speed and memory."""
    if not results.runtime:
        return None
    rows = [
        [
            Cell(one.method), Cell(significant(one.megapixels_per_s)), Cell(significant(one.megapixels)),
            Cell(str(len(one.seconds))), Cell(NONE if one.peak_bytes is None else f"{one.peak_bytes / 1e9:.2f} GB"),
        ]
        for one in results.runtime
    ]  # fmt: skip
    columns = ["method", "Mpixel/s", "image (Mpixel)", "repeats", "largest memory"]
    reading = f"The median of the repeats, each method in a process of its own, on {results.machine}."
    return Table("Speed", reading, columns, [Block("", rows)])


def gates(verdict: ModelVerdict) -> Table:
    """All gates of a model, those that fail first."""
    order = {"fails": 0, "passes": 1, "not required": 2}
    rows = [
        [Cell(one.gate), Cell(field_name(one.field_type) if one.field_type else NONE), Cell(one.measured), Cell(one.bound),
         Cell(one.verdict, best=one.verdict == "fails")]
        for one in sorted(verdict.gates, key=lambda gate: order[gate.verdict])
    ]  # fmt: skip
    reading = f"What a model that is {verdict.gate_set} must fulfil to be published; one that fails is enough to stop it."
    return Table(
        f"Gates of {verdict.reference}", reading, ["gate", "field type", "measured", "bound", "verdict"], [Block("", rows)]
    )


def _found(results: BenchmarkResults) -> Table:
    reading = (
        "Share of the cosmic-ray pixels that are found at a fixed share of clean pixels masked by mistake, in brackets "
        "the 95 % interval; bold where the lead over every other method is beyond doubt (its interval excludes 0)."
    )
    return _rates_table("TPR at fixed FPR", reading, results, lambda one: one.at_fpr, areas=True)


def _rates_table(
    title: str,
    reading: str,
    results: BenchmarkResults,
    rates: Callable[[FieldResult], Sequence[RateAtFpr]],
    areas: bool = False,
) -> Table:
    """A row per method, a column per FPR, a block per field type."""
    fprs = sorted({rate.fpr for one in results.methods for field in one.fields.values() for rate in rates(field)})
    blocks = []
    for field_type in results.data.pixels:
        rows = []
        for method in results.methods:
            field = method.fields[field_type]
            known = {rate.fpr: rate for rate in rates(field)}
            row = [Cell(method.name)]
            row += [_rate(known.get(fpr), areas and leads(results, method.name, field_type, fpr)) for fpr in fprs]
            row += [Cell(significant(field.area, 5)), Cell(significant(field.average_precision))] if areas else []
            rows.append([*row, Cell(_blocks(known.values()))])
        blocks.append(Block(field_name(field_type), rows))
    columns = ["method", *(f"TPR at {fpr_name(fpr)}" for fpr in fprs), *(["area", "average precision"] if areas else [])]
    return Table(title, reading, [*columns, "blocks of sky"], blocks)


def _rate(rate: RateAtFpr | None, best: bool) -> Cell:
    return Cell(NONE) if rate is None else Cell(percent_with_interval(rate.tpr, rate.tpr_interval), best)


def _blocks(rates: Iterable[RateAtFpr]) -> str:
    counts = {rate.tpr_interval.blocks for rate in rates if rate.tpr_interval is not None}
    return ", ".join(map(str, sorted(counts))) or NONE


def leads(results: BenchmarkResults, method: str, field_type: str, fpr: float | None) -> bool:
    """Whether a method was compared with all others and is better than each, the interval excluding that it is not."""
    better = {
        other
        for one in results.comparisons
        if (one.field_type, one.fpr) == (field_type, fpr) and one.interval is not None
        for winner, other in [_winner(one)]
        if winner == method
    }
    others = {one.name for one in results.methods if fpr is None or _tpr(one, field_type, fpr) is not None} - {method}
    return bool(others) and others <= better


def _winner(one: Comparison) -> tuple[str, str]:
    """The better of two methods and the other; empty names where that is in doubt."""
    assert one.interval is not None
    even = 0.0 if one.quantity == "TPR difference" else 1.0
    above, below = one.interval.low > even, one.interval.high < even
    if not above and not below:
        return "", ""
    is_better = above == (one.quantity == "TPR difference")
    return (one.method, one.against) if is_better else (one.against, one.method)


def _tpr(method: MethodResult, field_type: str, fpr: float) -> float | None:
    return next((rate.tpr for rate in method.fields[field_type].at_fpr if rate.fpr == fpr), None)


def _filled(results: BenchmarkResults) -> Table:
    """A row per method, a block per field type; the ratios are those of the network beside each."""
    networks = [one.name for one in results.methods if one.method.kind == "model"]
    blocks = []
    for field_type in results.data.pixels:
        rows = []
        for method in results.methods:
            errors = method.fields[field_type].inpainting
            assert errors is not None  # the schema demands it
            ratios = [_ratio(results, name, method.name, field_type) for name in networks]
            figures = [Cell(significant(errors.mae)), Cell(significant(errors.bias)), Cell(f"{errors.pixels:,}")]
            best = leads(results, method.name, field_type, None)
            rows.append([Cell(method.name), Cell(significant(errors.mse), best), *map(Cell, ratios), *figures])
        blocks.append(Block(field_name(field_type), rows))
    columns = ["method", "MSE ((e-)²)", *(f"MSE of {name} / this" for name in networks), "MAE (e-)", "bias (e-)", "pixels"]
    reading = (
        "Filled minus true values; lower is better, and a ratio below 1 means that the network is better than this method "
        "(in brackets the 95 % interval); bold where the lead over every other method is beyond doubt."
    )
    return Table("Errors of filled pixels", reading, columns, blocks)


def _ratio(results: BenchmarkResults, method: str, against: str, field_type: str) -> str:
    for one in results.comparisons:
        if (one.method, one.against, one.field_type, one.quantity) == (method, against, field_type, "MSE ratio"):
            return number_with_interval(one.value, one.interval)
    return NONE


def _group_table(kind: Grouped, reading: str, results: BenchmarkResults) -> Table:
    """A row per method, a column per group, a block per field type."""
    at = shared_working_point(results)
    columns: list[str] = []
    blocks = []
    for field_type in results.data.pixels:
        rows = []
        for method in results.methods:
            found = kind.groups(method.fields[field_type])
            if found and at in method.working_points:
                place = method.working_points.index(at)
                columns = [group_name(group) for group in found]
                rows.append([Cell(method.name), *(Cell(small_percent(group.rates[place])) for group in found)])
        blocks += [Block(field_name(field_type), rows)] if rows else []
    return Table(f"{kind.title}, {kind.x_label}", reading, ["method", *columns], blocks)


def _edges(results: BenchmarkResults, at: str | None) -> Table:
    blocks = []
    for field_type in results.data.pixels:
        rows = []
        for method in results.methods:
            found = method.fields[field_type].diagnostics
            if found is not None and at in method.working_points:
                place = method.working_points.index(at)
                known = {part.region: part for part in found.regions}
                parts = [known.get(region) for region in ("interior", "outer 8 pixels")]
                tprs = [Cell(percent(part.tprs[place] if part else None)) for part in parts]
                fprs = [Cell(small_percent(part.fprs[place] if part else None)) for part in parts]
                rows += [[Cell(method.name), *tprs, *fprs]]
        blocks += [Block(field_name(field_type), rows)] if rows else []
    columns = ["method", "TPR, interior", "TPR, outer 8 pixels", "FPR, interior", "FPR, outer 8 pixels"]
    return Table("Edges of the stamps", f"Alike in both parts is best. At {at}.", columns, blocks)
