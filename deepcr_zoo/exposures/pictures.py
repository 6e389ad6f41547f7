"""Pictures of a cleaned exposure (extra ``plot``)."""

from __future__ import annotations

import functools
import io
import math
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from deepcr_zoo.documents import brief
from deepcr_zoo.errors import MissingExtraError, UsageError, printable
from deepcr_zoo.files import read_file
from deepcr_zoo.machine import require

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 130
MOST_INCHES = 30.0
"""Longest side of a picture, 3900 pixels; panels shrink to fit."""

MOST_CHIPS = 64
"""Chips in a picture: all of DECam's, but not every part of a file with thousands."""

AT_A_LINE, TALL_AT_A_LINE = 4, 2
"""Fewest chips side by side, or above each other if they are tall, before a new line begins."""

IMAGE_SHARE = 0.75
"""Part of a panel's sides that its image fills at least, beside title and margins."""

LETTER_INCHES = 0.1
"""Width of a letter of a heading, about."""

MOST_CONSTRAINED = 12
"""Panels up to which matplotlib's constrained layout is quick."""

TALL, WIDE, STRIP = 1.5, 4.0, 20.0
"""Ratios of sides: layers of tall chips stand side by side, those of wide ones get wide panels, strips are stretched."""

LEAST_MATPLOTLIB = (3, 10, 9)
"""Earlier versions evaluate axes.prop_cycle of a file matplotlibrc in the present folder, where data of others may lie."""

_MADE_BY = "deepcr-zoo"
Given = ParamSpec("Given")
Drawn = TypeVar("Drawn")


@dataclass(frozen=True)
class Panels:
    """One chip before and after cleaning; all arrays have the shape (H, W)."""

    title: str
    image: NDArray[np.float32]
    mask: NDArray[np.bool_]
    cleaned: NDArray[np.float32] | None


def require_matplotlib() -> None:
    """Raise `MissingExtraError` if there is no safe matplotlib, `UsageError` if MPLBACKEND names none of its backends."""
    require("matplotlib", "pictures need matplotlib", "plot")
    found = metadata.version("matplotlib")
    if tuple(map(int, re.findall(r"\d+", found)[:3])) < LEAST_MATPLOTLIB:
        least = ".".join(map(str, LEAST_MATPLOTLIB))
        raise MissingExtraError(
            f"pictures need matplotlib {least} or newer, {found} would run code of a file in the present folder: "
            "run pip install -U matplotlib"
        )
    try:
        import matplotlib  # noqa: F401
    except ValueError as error:
        raise UsageError(f"matplotlib cannot be used: {brief(error)}: correct or remove MPLBACKEND") from None


def plainly_drawn(draw: Callable[Given, Drawn]) -> Callable[Given, Drawn]:
    """Let a function draw with matplotlib's own settings: a file in the present folder may name others, and TeX code."""

    @functools.wraps(draw)
    def plain(*args: Given.args, **kwargs: Given.kwargs) -> Drawn:
        require_matplotlib()
        from matplotlib import style

        with style.context("default"):
            return draw(*args, **kwargs)

    return plain


@plainly_drawn
def draw(chips: Sequence[Panels], heading: str, made_by: str) -> bytes:
    """Return a PNG of `figure_of`; `made_by` is stored in the file and read back by `description`."""
    return png(figure_of(chips, heading), DPI, {_MADE_BY: made_by})


@plainly_drawn
def figure_of(chips: Sequence[Panels], heading: str) -> Figure:
    """Draw input, mask and cleaned image of each chip, one zscale stretch per chip.

    The chips stand in columns, or in rows if they are tall or there is one; the figure has at most 3900 pixels a side, and
    the first 64 chips.
    """
    from deepcr_zoo.exposures.figures import NotebookFigure

    shown = chips[:MOST_CHIPS]
    if len(shown) < len(chips):
        heading = f"{heading} (the first {len(shown)} of {len(chips)} chips)"
    layers = 2 if any(chip.cleaned is None for chip in chips) else 3
    grid = _arrange(len(shown), layers, *np.max([chip.image.shape for chip in chips], axis=0).tolist())
    sides = grid.columns * grid.width, grid.rows * grid.height + 0.6
    figure = NotebookFigure(figsize=sides, layout="constrained" if grid.rows * grid.columns <= MOST_CONSTRAINED else None)
    if figure.get_layout_engine() is None:
        title = 1.8 * grid.font_points / 72 / grid.height  # in units of a panel
        figure.subplots_adjust(0.01, 0.01, 0.99, 1 - 0.6 / sides[1] - title / grid.rows, wspace=0.06, hspace=title)
    figure.suptitle(in_lines(heading, sides[0]), **({} if figure.get_layout_engine() else {"y": 1 - 0.15 / sides[1]}))
    axes = figure.subplots(grid.rows, grid.columns, squeeze=False)
    for unused in axes.flat:
        unused.set_axis_off()
    for number, chip in enumerate(shown):
        _draw_chip(chip, [axes[grid.place(number, layer)] for layer in range(layers)], grid)
    without_formulas(figure)
    return figure


def in_lines(heading: str, inches: float) -> str:
    """Return a heading in lines of about that width; matplotlib's own wrapping takes a $ for a formula."""
    return "\n".join(textwrap.wrap(printable(heading), int(inches / LETTER_INCHES)))


@dataclass(frozen=True)
class _Grid:
    """Places of all panels, and the sides of one in inches."""

    chips: int
    layers: int
    at_a_line: int
    is_row: bool  # layers stand side by side and chips above each other, else the other way around
    width: float
    height: float
    font_points: float

    @property
    def rows(self) -> int:
        return self.at_a_line if self.is_row else self._across

    @property
    def columns(self) -> int:
        return self._across if self.is_row else self.at_a_line

    @property
    def _across(self) -> int:
        return self.layers * -(-self.chips // self.at_a_line)

    def place(self, chip: int, layer: int) -> tuple[int, int]:
        """Return row and column of a panel."""
        line, position = divmod(chip, self.at_a_line)
        across = line * self.layers + layer
        return (position, across) if self.is_row else (across, position)


def _arrange(chips: int, layers: int, height: int, width: int) -> _Grid:
    """Arrange chips of H x W pixels so that the picture is neither long nor large."""
    is_tall = height > TALL * width
    is_row = is_tall or (chips == 1 and width < TALL * height)  # one chip that is about square
    longest = 9.2
    if is_tall:
        panel_width, panel_height = max(2.2, longest * width / height + 0.4), longest
    else:
        panel_width = longest if width > WIDE * height else 5.0
        panel_height = max(1.5, 0.92 * panel_width * height / width)
    at_a_line = min(chips, max(TALL_AT_A_LINE if is_tall else AT_A_LINE, math.ceil(math.sqrt(chips * layers))))
    grid = _Grid(chips, layers, at_a_line, is_row, panel_width, panel_height, 10.0)
    scale = min(1.0, MOST_INCHES / (grid.columns * panel_width), (MOST_INCHES - 0.6) / (grid.rows * panel_height))
    points = max(3.0, 10.0 * min(1.0, scale * panel_width / 2.5))
    return replace(grid, width=scale * panel_width, height=scale * panel_height, font_points=points)


def _draw_chip(chip: Panels, axes: Sequence[Any], grid: _Grid) -> None:
    low, high = zscale(chip.image if chip.cleaned is None else chip.cleaned)
    layers = {"input": chip.image, f"mask, {chip.mask.mean():.2%}": chip.mask, "cleaned": chip.cleaned}
    sides = chip.image.shape
    aspect = "auto" if max(sides) > STRIP * min(sides) else "equal"
    for one, (label, pixels) in zip(axes, layers.items(), strict=False):
        assert pixels is not None
        limits = (0, 1) if pixels.dtype == bool else (low, high)
        small = _reduced(pixels, grid, aspect == "auto")
        one.imshow(
            small, origin="lower", cmap="gray", vmin=limits[0], vmax=limits[1], interpolation="nearest", aspect=aspect
        )
        one.set_title(f"{chip.title}: {label}{', not to scale' if aspect == 'auto' else ''}", fontsize=grid.font_points)


def zscale_interval() -> Any:
    """Return astropy's zscale; its first import takes a third of a second, as matplotlib comes with it if installed."""
    if find_spec("matplotlib") is not None:
        require_matplotlib()
    from astropy.visualization import ZScaleInterval

    return ZScaleInterval()


def zscale(pixels: NDArray[Any]) -> tuple[float, float]:
    """Return the limits of a stretch by the finite pixels (IRAF's zscale); 0 and 1 if there are none."""
    finite = pixels[np.isfinite(pixels)]
    low, high = zscale_interval().get_limits(finite) if finite.size else (0.0, 1.0)
    return float(low), float(high)


def outline(axes: Any, mask: NDArray[Any], colour: Any, width: float = 0.4) -> None:
    """Draw the edges between masked and other pixels on axes that show the image; `width` is in points."""
    from matplotlib.collections import LineCollection

    padded = np.pad(mask.astype(np.int8), 1)
    below = np.argwhere(np.diff(padded, axis=0)) - [0.5, 1.5]
    beside = np.argwhere(np.diff(padded, axis=1)) - [1.5, 0.5]
    # (x, y) of both ends of each side
    flat = np.stack([below[:, ::-1], below[:, ::-1] + [1, 0]], axis=1)
    upright = np.stack([beside[:, ::-1], beside[:, ::-1] + [0, 1]], axis=1)
    axes.add_collection(LineCollection([*flat, *upright], colors=[colour], linewidths=width))


@plainly_drawn
def png(figure: Any, dpi: float, metadata: Mapping[str, str] | None = None) -> bytes:
    """Return a matplotlib figure as a PNG that holds neither the date nor matplotlib's version; no text is a formula."""
    without_formulas(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None, **(metadata or {})})
    return buffer.getvalue()


def without_formulas(figure: Any) -> None:
    """Show all texts of a figure as they are: names of files and extensions may hold $ and anything else."""
    for text in _own_texts(figure):
        text.set_parse_math(False)
        text.set_text("\n".join(map(printable, text.get_text().split("\n"))))


def _own_texts(figure: Any) -> Iterator[Any]:
    """Yield all texts of a figure but numbers beside ticks, which matplotlib writes as formulas."""
    yield from figure.texts
    legends = list(figure.legends)
    for axes in figure.axes:
        yield from (axes.title, axes.xaxis.label, axes.yaxis.label, *axes.texts)
        legends += [legend] if (legend := axes.get_legend()) is not None else []
    for legend in legends:
        yield from legend.get_texts()


def description(path: Path) -> str | None:
    """Return the `made_by` that `draw` stored in a picture; None if `draw` did not make it."""
    try:
        data = read_file(path)
    except OSError:
        return None
    key = b"tEXt" + _MADE_BY.encode() + b"\0"
    place = data.find(key)
    if not data.startswith(b"\x89PNG") or place < 0:
        return None
    # a chunk: four bytes of length, four of type, the content (PNG specification, section 5.3)
    length = int.from_bytes(data[place - 4 : place], "big")
    return data[place + len(key) : place + 4 + length].decode("latin-1")


def is_whole(path: Path) -> bool:
    """True if a picture ends with the chunk that ends a PNG file (PNG specification, section 11.2.5)."""
    return read_file(path).endswith(b"\0\0\0\0IEND\xaeB`\x82")


def _reduced(pixels: NDArray[np.float32] | NDArray[np.bool_], grid: _Grid, is_stretched: bool) -> NDArray[np.float32]:
    """Return pixels binned to what a panel can show: a mask keeps every track, an image the mean of its finite pixels."""
    sides = (IMAGE_SHARE * DPI * grid.height, IMAGE_SHARE * DPI * grid.width)
    steps = [math.ceil(side / shown) for side, shown in zip(pixels.shape, sides, strict=True)]
    if not is_stretched:
        steps = [max(steps)] * 2
    if max(steps) == 1:
        return pixels.astype(np.float32)
    if pixels.dtype == bool:
        return _in_blocks(np.maximum, pixels, steps).astype(np.float32)
    finite = np.isfinite(pixels)
    with np.errstate(invalid="ignore"):
        means = _in_blocks(np.add, np.where(finite, pixels, 0), steps) / _in_blocks(np.add, finite.astype(np.uint8), steps)
    return np.asarray(means, dtype=np.float32)


def _in_blocks(reduce: np.ufunc, pixels: NDArray[Any], steps: Sequence[int]) -> NDArray[Any]:
    kind = bool if pixels.dtype == bool else np.float64
    for axis, step in enumerate(steps):
        pixels = reduce.reduceat(pixels, np.arange(0, pixels.shape[axis], step), axis=axis, dtype=kind)
    return pixels
