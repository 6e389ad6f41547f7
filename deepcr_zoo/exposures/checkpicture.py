"""The picture of ``instrument check``: a frame as it is stored, with its sections, and what the product makes of it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepcr_zoo.exposures.pictures import DPI, in_lines, outline, plainly_drawn, png, zscale
from deepcr_zoo.exposures.reading import Chip, Exposure
from deepcr_zoo.models.images import has_value

ENDING = "_instrument.png"
MOST_CHIPS = 8
_SIDE = 900  # pixels of an image that are drawn along its longer side
_LIGHT, _UNUSED = "tab:cyan", "tab:red"


@plainly_drawn
def draw_check(exposure: Exposure, name: str) -> bytes:
    """Return a PNG with two panels for each of the first `MOST_CHIPS` chips: as stored, and in electrons without the rest.

    Left, a line surrounds what sees light; right, pixels that are not usable or saturated are red.
    """
    from matplotlib.figure import Figure

    chips = exposure.chips[:MOST_CHIPS]
    height, width = np.max([chip.pixels.shape for chip in chips], axis=0)
    tall = min(9.0, max(2.0, 5.0 * height / width))
    figure = Figure(figsize=(11.0, tall * len(chips) + 0.8), layout="constrained")
    axes = figure.subplots(len(chips), 2, squeeze=False)
    figure.suptitle(in_lines(f"{exposure.path.name} as {name}", 11.0))
    for row, chip in zip(axes, chips, strict=True):
        _draw_stored(chip, row[0])
        _draw_read(chip, row[1])
    return png(figure, DPI, {"deepcr-zoo": made_by(exposure.path)})


def made_by(exposure: Path) -> str:
    """Return what a picture says of itself: the command, and a hash of the place of the file, which it does not show."""
    return f"instrument check {hashlib.sha256(os.path.realpath(exposure).encode(errors='surrogateescape')).hexdigest()[:16]}"


def _draw_stored(chip: Chip, axes: Any) -> None:
    step = _step(chip)
    _show(axes, chip.pixels[::step, ::step], f"{chip.label}: as stored, {chip.unit.spellings[0].lower()}")
    if chip.image_area is not None:
        outline(axes, chip.image_area[::step, ::step], _LIGHT, 1.0)


def _draw_read(chip: Chip, axes: Any) -> None:
    step = _step(chip)
    unit = "electron" if chip.has_electrons else chip.unit.quantity
    part = chip.part(np.s_[::step, ::step])
    image = np.where(part.bad, np.nan, np.ma.getdata(part.in_unit(unit)))
    lit = np.ones(image.shape, dtype=bool) if part.image_area is None else part.image_area
    rows, columns = (np.flatnonzero(lit.any(axis=axis)) for axis in (1, 0))
    inside = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    _show(axes, image[inside], f"{chip.label}: as read, {unit}s")
    outline(axes, ((part.bad | part.saturated) & lit)[inside], _UNUSED)


def _step(chip: Chip) -> int:
    return max(1, *(int(side) // _SIDE + 1 for side in chip.pixels.shape))


def _show(axes: Any, image: NDArray[np.floating], title: str) -> None:
    low, high = zscale(image[has_value(image)])
    axes.imshow(image, origin="lower", cmap="gray", vmin=low, vmax=high, interpolation="nearest", aspect="auto")
    axes.set_title(f"{title}, {low:,.0f} to {high:,.0f}", fontsize=9)
    axes.set_xticks([])
    axes.set_yticks([])
