"""``make demo``: pull two models, verify them, clean an image, say what was found and draw it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console

from deepcr_zoo import sources, testvectors
from deepcr_zoo.cleaning import clean, loaded
from deepcr_zoo.errors import DeepcrZooError, MissingExtraError, UsageError
from deepcr_zoo.models import InpaintModel, MaskModel
from deepcr_zoo.registry import TEST_VECTOR_FILE, default_registry
from deepcr_zoo.verification import verify

MASK, INPAINT = "mask/ACS-WFC-F606W-2-32", "inpaint/ACS-WFC-F606W-2-32"


def demo(picture: Annotated[Path, typer.Argument(help="PNG file to write")] = Path("demo.png")) -> None:
    """Mask and repaint the test image of ACS-WFC-F606W-2-32, and draw input, mask and result."""
    try:
        _demo(Console(markup=False, highlight=False, soft_wrap=True), picture)
    except DeepcrZooError as error:
        sys.exit(f"error {error}")


def _demo(console: Console, picture: Path) -> None:
    registry = default_registry()
    for name in (MASK, INPAINT):
        model = registry.resolve(name)
        pulled = sources.pull_resolved(model)
        outcome = verify(model)
        console.print(f"{model.reference} ({'; '.join(model.notes)}), from the {pulled.source}: {pulled.path}")
        console.print(f"  sha256 {model.locked.weights.sha256}")
        if outcome.max_difference is None:
            raise DeepcrZooError(f"{model.reference} fails: {outcome.reason}")
        console.print(f"  {outcome.verdict} its test vector, largest difference {outcome.max_difference:.1e}")
    mask_model = loaded(MASK, MaskModel, "auto")
    inpaint_model = loaded(INPAINT, InpaintModel, "auto")
    vector = testvectors.read(sources.fetch(registry.resolve(MASK), TEST_VECTOR_FILE).data, MASK)
    mask, cleaned = clean(vector.image, mask_model, inpaint_model)
    assert cleaned is not None
    found = int((mask & vector.mask).sum())
    console.print(
        f"{mask.sum()} of {mask.size} pixels ({mask.mean():.1%}) marked as cosmic ray at threshold "
        f"{mask_model.threshold:g}; {found} of the {vector.mask.sum()} that a simulated track hit with more than 20 e-",
    )
    draw(vector.image, mask, cleaned, picture)
    console.print(f"picture: {picture}")


def draw(image: NDArray[np.float32], mask: NDArray[np.bool_], cleaned: NDArray[np.float32], picture: Path) -> None:
    """Write a PNG of an image, its cosmic-ray mask and the cleaned image, side by side on one stretch."""
    from astropy.visualization import ZScaleInterval

    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError("pictures need matplotlib: run pip install 'deepcr-zoo[plot]'") from None

    low, high = ZScaleInterval().get_limits(cleaned)
    figure = Figure(figsize=(11, 5), layout="constrained")
    panels = {"input, e-": image, "cosmic-ray mask": mask, "cleaned, e-": cleaned}
    for axes, (title, pixels) in zip(figure.subplots(1, 3), panels.items(), strict=True):
        limits = (0, 1) if pixels is mask else (low, high)
        axes.imshow(pixels, origin="lower", cmap="gray", vmin=limits[0], vmax=limits[1], interpolation="nearest")
        axes.set_title(title)
    try:
        figure.savefig(picture, dpi=110)
    except OSError as error:
        raise UsageError(f"{picture} cannot be written: {error.strerror}; name another file") from None


if __name__ == "__main__":
    typer.run(demo)
