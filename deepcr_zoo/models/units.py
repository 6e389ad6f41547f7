"""Units of pixel values: those of astropy, and the spellings that FITS files use."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from deepcr_zoo.errors import InvalidImageError
from deepcr_zoo.zoo.instruments import shipped_table

LONGEST = 100  # characters of a text that astropy reads
_LARGE = re.compile(r"(\*\*|\^|\d\s*\(?\s*[+-])[\s(+-]*\d{3}|\)\s*(\*\*|\^)|(\*\*|\^)[\s(+-]*\d+[\s)]*(\*\*|\^)")
"""Powers that astropy would compute for hours: those of three digits, and powers of powers."""


@dataclass(frozen=True)
class _Measure:
    scale: float
    quantity: str  # electron, adu, one of them per second, or the text of any other unit


def ratio(found: Any, wanted: Any) -> float | None:
    """Return the number that turns values in one unit into the other, or None if there is none.

    A unit is one of astropy, or a text such as ``ELECTRONS``.
    """
    have, want = _measure(found), _measure(wanted)
    return have.scale / want.scale if have.quantity == want.quantity else None


def conversion_factor(found: Any, wanted: str | None) -> float:
    """Return the number that turns the values of an image into `wanted`; 1 if either unit is None."""
    if found is None or wanted is None:
        return 1
    factor = ratio(found, wanted)
    if factor is None:
        shown = str(found) or "no unit (dimensionless)"
        raise InvalidImageError(
            f"the image is in {shown}: the model expects {wanted}; convert it (gain, exposure time) first"
        )
    return factor


def _measure(unit: Any) -> _Measure:
    from astropy import units

    if isinstance(unit, str):
        # files write ELECTRONS, e- or counts, which astropy does not read
        if shipped_table().unit(unit):
            return _Measure(1, _quantity(unit))
        if len(unit) > LONGEST or _LARGE.search(unit):
            return _Measure(1, unit)
        unit = units.Unit(unit, parse_strict="silent")
    if not isinstance(unit, units.UnitBase):  # magnitudes and structured units are no multiples of another unit
        return _Measure(1, str(unit))
    plain = unit.decompose()
    return _Measure(float(plain.scale), _quantity(units.CompositeUnit(1, plain.bases, plain.powers).to_string()))


def _quantity(spelling: str) -> str:
    """Return electron, adu or one of them per second if the spelling is known, else the spelling."""
    known = shipped_table().unit(spelling)
    return spelling if known is None else f"{known.quantity} / s" if known.per_second else known.quantity
