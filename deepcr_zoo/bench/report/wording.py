"""Numbers and names as people read them, the same in tables, pictures and sentences."""

from __future__ import annotations

from collections import Counter

from deepcr_zoo.bench.results import BenchmarkResults, GroupRate, Interval
from deepcr_zoo.zoo.records import POOLED

NONE = "-"
"""Stands for a missing figure."""

USUAL_FPR = 0.001
"""The FPR of figures that are given at one FPR only."""


def percent(share: float | None) -> str:
    """Return a share such as a TPR: ``83.2 %``."""
    return NONE if share is None else f"{100 * share:.1f} %"


def small_percent(share: float | None) -> str:
    """Return a share that may be tiny, such as an FPR, with three significant digits: ``0.0512 %``."""
    return NONE if share is None else f"{100 * share:.3g} %"


def significant(value: float | None, digits: int = 3) -> str:
    """Return a number with this many significant digits: ``12,300``, ``0.00205``."""
    if value is None:
        return NONE
    rounded = float(f"{value:.{digits}g}")
    if 0 < abs(rounded) < 1e-4:
        return f"{rounded:g}"
    return f"{rounded:,.0f}" if abs(rounded) >= 10 ** (digits - 1) else f"{rounded:,.{digits + 3}f}".rstrip("0").rstrip(".")


def percent_with_interval(share: float | None, interval: Interval | None) -> str:
    """Return a share with its interval: ``83.2 % (80.1 to 85.9)``."""
    return percent(share) + ("" if interval is None else f" ({100 * interval.low:.1f} to {100 * interval.high:.1f})")


def number_with_interval(value: float | None, interval: Interval | None) -> str:
    """Return a number with its interval: ``0.32 (0.28 to 0.37)``."""
    bounds = "" if interval is None else f" ({significant(interval.low)} to {significant(interval.high)})"
    return significant(value) + bounds


def fpr_name(fpr: float) -> str:
    """Return the name of an FPR: ``FPR 0.05 %``."""
    return f"FPR {100 * fpr:g} %"


def field_name(field_type: str) -> str:
    """Return the name of a field type: ``globular cluster``, or ``all field types`` for the pooled one."""
    return "all field types" if field_type == POOLED else field_type.replace("_", " ")


def group_name(group: GroupRate) -> str:
    """Return the range of a group's values: ``100-1k``, ``≥ 10k``."""
    low, high = (None if bound is None else _short(bound) for bound in (group.low, group.high))
    if low is None or high is None:
        return "any" if low is high else f"< {high}" if low is None else f"≥ {low}"
    return f"{low}-{high}"


def _short(value: float) -> str:
    for size, suffix in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{suffix}"
    return f"{value:g}"


def shared_working_point(results: BenchmarkResults) -> str | None:
    """Return the working point that most methods have; of several, the one at the usual FPR, or else the last."""
    counts = Counter(point for one in results.methods for point in one.working_points)
    shared = [point for point, count in counts.items() if count == max(counts.values())]
    return next((point for point in shared if fpr_name(USUAL_FPR) in point), shared[-1] if shared else None)
