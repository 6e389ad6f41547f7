"""What a user says of a file where its headers do not, or say it wrongly."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from deepcr_zoo.errors import UsageError
from deepcr_zoo.models.images import LIMIT
from deepcr_zoo.zoo.instruments import Instrument, UnitSpelling, shipped_table

OVERSCAN = "overscan"
ALL, NONE = "all", "none"  # of --ignore-dq


GAINS = (1e-3, 1e3)
"""e- per count that a camera can have: electron-multiplying and 16-bit CMOS cameras are at one end, old CCDs near 100."""

EXPOSURE_TIMES_S = (1e-6, 1e6)
"""From high-speed cameras to eleven days."""


def is_plausible(number: float, limits: tuple[float, float]) -> bool:
    """True if a number of a header lies in the range that any camera can have."""
    return limits[0] <= number <= limits[1]


@dataclass(frozen=True)
class ReadingOptions:
    """Facts that replace those of the headers; the defaults take what the file says."""

    extension: tuple[str, ...] = ()  # numbers, names, NAME,VERSION or wildcards
    unit: str | None = None  # a spelling of BUNIT
    gain: tuple[float, ...] = ()  # e- per count, one for all images or one for each
    bias: float | str | None = None  # level in counts, or `OVERSCAN`
    exposure_time: float | None = None  # s
    ignore_dq: str | int | None = None  # DQ bits that leave a pixel usable, `ALL` for no use of DQ and MASK
    as_stored: bool = False  # a network that needs no unit: what is missing of unit, gain and bias is not asked for
    instrument: Instrument | None = None  # description that comes before those of the settings, as a recipe may have one

    @classmethod
    def parse(
        cls,
        extension: str | int | Sequence[str | int] | None,
        unit: str | None,
        gain: float | str | Sequence[float] | None,
        bias: float | str | None,
        exposure_time: float | None,
        ignore_dq: str | int | Iterable[int] | None,
    ) -> ReadingOptions:
        """Read options as a user gives them; a wrong one raises `UsageError`."""
        chosen = [] if extension is None else [extension] if isinstance(extension, str | int) else list(extension)
        if unit is not None and shipped_table().unit(unit) is None:
            raise UsageError(f"unit is {unit!r}: expected one of {', '.join(shipped_table().unit_names)}")
        if exposure_time is not None and not is_plausible(exposure_time, EXPOSURE_TIMES_S):
            least, most = EXPOSURE_TIMES_S
            raise UsageError(f"exposure_time is {exposure_time}: expected seconds, {least:g} to {most:g}")
        return cls(tuple(map(str, chosen)), unit, _gains(gain), _bias(bias), exposure_time, _bits(ignore_dq))

    @property
    def pixel_unit(self) -> UnitSpelling | None:
        """The unit that replaces BUNIT."""
        return None if self.unit is None else shipped_table().unit(self.unit)

    def __str__(self) -> str:
        """Return what is set, as kept with products; empty if nothing is."""
        given = {
            "extension": ", ".join(self.extension) or None,
            "unit": self.unit,
            "gain": ", ".join(f"{gain:.15g}" for gain in self.gain) or None,
            "bias": f"{self.bias:.15g}" if isinstance(self.bias, float) else self.bias,
            "exposure_time": None if self.exposure_time is None else f"{self.exposure_time:.15g}",
            "ignore_dq": None if self.ignore_dq is None else str(self.ignore_dq),
        }
        return "; ".join(f"{name} {value}" for name, value in given.items() if value is not None)


def _gains(given: float | str | Sequence[float] | None) -> tuple[float, ...]:
    if given is None:
        return ()
    parts = given.split(",") if isinstance(given, str) else [given] if isinstance(given, int | float) else given
    try:
        gains = tuple(map(float, parts))
    except (ValueError, TypeError):
        gains = (math.nan,)
    if not all(is_plausible(gain, GAINS) for gain in gains):
        least, most = GAINS
        raise UsageError(
            f"gain is {given}: expected e- per count, {least:g} to {most:g}, one number or one for each image (1.1,1.2)"
        )
    return gains


def _bias(given: float | str | None) -> float | str | None:
    if given is None or given == OVERSCAN:
        return given
    try:
        level = float(given)
    except ValueError:
        level = math.nan
    if not abs(level) < LIMIT:
        raise UsageError(f"bias is {given}: expected a level in counts, or {OVERSCAN}")
    return level


def _bits(given: str | int | Iterable[int] | None) -> str | int | None:
    """Return DQ bits as one number, `ALL`, or None for the instrument's own; commas or plus signs separate bits."""
    if given is None or given == ALL:
        return given
    if given == NONE:
        return 0
    parts = given.replace("+", ",").split(",") if isinstance(given, str) else [given] if isinstance(given, int) else given
    bits = 0
    for part in parts:
        try:
            number = int(part)
        except ValueError:
            number = -1
        if not 0 <= number < 2**31:
            raise UsageError(f"ignore_dq is {given!r}: expected DQ bits such as 64,16, or {ALL} or {NONE}")
        bits |= number
    return bits
