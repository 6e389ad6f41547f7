"""Pictures of a cleaned exposure (extra ``plot``)."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepcr_zoo.machine import require

MAX_SIDE = 1024
"""Longest side of a panel in image pixels; larger chips are binned down."""

_MADE_BY = "deepcr-zoo"


@dataclass(frozen=True)
class Panels:
    """One chip before and after cleaning; all arrays have the shape (H, W)."""

    title: str
    image: NDArray[np.float32]
    mask: NDArray[np.bool_]
    cleaned: NDArray[np.float32] | None


def require_matplotlib() -> None:
    """Raise `MissingExtraError` if matplotlib is not installed."""
    require("matplotlib", "pictures need matplotlib", "plot")


def draw(chips: Sequence[Panels], heading: str, made_by: str) -> bytes:
    """Return a PNG with a column per chip: input, mask and cleaned image, one zscale stretch per chip.

    `made_by` is stored in the file and read back by `description`.
    """
    require_matplotlib()
    from astropy.visualization import ZScaleInterval
    from matplotlib.figure import Figure

    rows = 2 if any(chip.cleaned is None for chip in chips) else 3
    height, width = chips[0].image.shape
    figure = Figure(figsize=(5 * len(chips), rows * max(1.5, 4.6 * height / width) + 0.6), layout="constrained")
    figure.suptitle(heading)
    for chip, column in zip(chips, figure.subplots(rows, len(chips), squeeze=False).T, strict=True):
        shown = chip.image if chip.cleaned is None else chip.cleaned
        low, high = ZScaleInterval().get_limits(shown[np.isfinite(shown)])
        layers = {"input": chip.image, f"mask, {chip.mask.mean():.2%}": chip.mask, "cleaned": chip.cleaned}
        for axes, (label, pixels) in zip(column, layers.items(), strict=False):
            assert pixels is not None
            limits = (0, 1) if pixels.dtype == bool else (low, high)
            axes.imshow(
                _reduced(pixels), origin="lower", cmap="gray", vmin=limits[0], vmax=limits[1], interpolation="nearest"
            )
            axes.set_title(f"{chip.title}: {label}", fontsize="medium")
            axes.set_axis_off()
    return png(figure, 130, {_MADE_BY: made_by})


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


def png(figure: Any, dpi: float, metadata: Mapping[str, str] | None = None) -> bytes:
    """Return a matplotlib figure as a PNG that holds neither the date nor matplotlib's version."""
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=dpi, metadata={"Software": None, **(metadata or {})})
    return buffer.getvalue()


def description(path: Path) -> str | None:
    """Return the `made_by` that `draw` stored in a picture; None if `draw` did not make it."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    key = b"tEXt" + _MADE_BY.encode() + b"\0"
    place = data.find(key)
    if not data.startswith(b"\x89PNG") or place < 0:
        return None
    # a chunk: four bytes of length, four of type, the content (PNG specification, section 5.3)
    length = int.from_bytes(data[place - 4 : place], "big")
    return data[place + len(key) : place + 4 + length].decode("latin-1")


def _reduced(pixels: NDArray[np.float32] | NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return binned pixels: a mask keeps every track, an image its mean level."""
    step = -(-max(pixels.shape) // MAX_SIDE)
    if step == 1:
        return pixels.astype(np.float32)
    whole = pixels[: pixels.shape[0] // step * step, : pixels.shape[1] // step * step]
    if not whole.size:
        return pixels.astype(np.float32)
    blocks = whole.reshape(whole.shape[0] // step, step, whole.shape[1] // step, step)
    reduced = blocks.max(axis=(1, 3)) if pixels.dtype == bool else blocks.mean(axis=(1, 3))
    return np.asarray(reduced, dtype=np.float32)
