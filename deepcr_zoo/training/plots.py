"""Pictures of a run: its loss curve, and predictions for some test stamps (extra ``plot``)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deepcr_zoo.bench.report.shading import BLUE, GREY, ORANGE, RED, Colour, Shades, filling_panels, grey, painted, stretched
from deepcr_zoo.bench.runs import EpochRecord
from deepcr_zoo.dataset.reading import Dataset, Stamp
from deepcr_zoo.errors import TrainingError
from deepcr_zoo.exposures.pictures import plainly_drawn, png, require_matplotlib
from deepcr_zoo.files import write_atomically
from deepcr_zoo.models.model import InpaintModel, MaskModel
from deepcr_zoo.training.augmentation import inpainting_masks
from deepcr_zoo.training.objectives import NATIVE
from deepcr_zoo.training.stamps import MappedStamps
from deepcr_zoo.training.state import decays

DPI = 100
STAMPS_PER_FIELD_TYPE = 2

# side of a panel; stamps are enlarged by a whole number, so that each of their pixels is a square
PANEL_PIXELS = 256
# space between and around panels, in pixels
GAP, TOP, LEFT, BOTTOM = 8, 64, 72, 40
FOUND = {"found": BLUE, "missed": ORANGE, "false": RED, "ignored": GREY}
HIDDEN = {"added mask": BLUE, "own cosmic ray": ORANGE, "ignored": GREY}

# fewest and most CR masks of other stamps in an inpainting mask, and the seed that draws them
INPAINTING_MASKS = [4, 4]
SEED = 1
_MOST_DECAYS = 4


@plainly_drawn
def plot_loss(history: Sequence[EpochRecord], path: Path) -> None:
    """Plot training and validation loss by epoch, with the freeze, decays of the learning rate and the best epoch."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(8, 4.8), layout="constrained")
    axes = figure.subplots()
    epochs = [record.epoch for record in history]
    axes.plot(epochs, [record.train_loss for record in history], ".-", color="tab:blue", lw=1.2, label="training")
    axes.plot(epochs, [record.validation_loss for record in history], ".-", color="tab:orange", lw=1.2, label="validation")
    _mark_freeze(axes, history)
    _mark_decays(axes, history)
    for best in [record for record in history if record.is_best][-1:]:
        label = f"best: {best.validation_loss:.4g}, epoch {best.epoch}"
        axes.plot(best.epoch, best.validation_loss, "*", color="tab:red", ms=13, zorder=5, label=label)
    axes.set(yscale="log", xlabel="epoch", ylabel="loss")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(which="both", alpha=0.25)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)  # it covers no data
    write_atomically(png(figure, DPI), path)


def _mark_freeze(axes: Any, history: Sequence[EpochRecord]) -> None:
    for before, after in pairwise(history):
        if after.frozen and not before.frozen:
            axes.axvspan(after.epoch - 0.5, history[-1].epoch + 0.5, color="tab:cyan", alpha=0.1, lw=0)
            label = f"BatchNorm frozen, learning rate {after.learning_rate:g}"
            axes.axvline(after.epoch - 0.5, color="tab:cyan", lw=1.5, label=label)


def _mark_decays(axes: Any, history: Sequence[EpochRecord]) -> None:
    fallen = decays(history)
    if len(fallen) > _MOST_DECAYS:  # it falls along a curve
        axes.plot(
            [], [], " ", label=f"learning rate falls from {history[0].learning_rate:.2g} to {history[-1].learning_rate:.2g}"
        )
        return
    for record in fallen:
        rates = ", ".join(f"{one.learning_rate:g}" for one in fallen)
        label = f"learning rate falls to {rates}" if record is fallen[0] else None
        axes.axvline(record.epoch - 0.5, color="tab:purple", lw=1.5, ls=":", label=label)


def plot_test_stamps(model: MaskModel | InpaintModel, dataset: Dataset, path: Path) -> None:
    """Draw what a network predicts for some test stamps of each field type; TrainingError if there is none."""
    require_matplotlib()
    rows = list(_mask_rows(model, dataset) if isinstance(model, MaskModel) else _inpainting_rows(model, dataset))
    if not rows:
        raise TrainingError(f"{dataset.folder}: has no test stamp to show: give the recipe a visit whose split is test")
    legend = FOUND if isinstance(model, MaskModel) else HIDDEN
    write_atomically(_sheet(f"{model.reference}: test stamps", rows, legend), path)


@dataclass(frozen=True)
class SheetRow:
    """A test stamp with its notes and its panels, (S, S, 3) from 0 to 1, by heading."""

    stamp: Stamp
    notes: Sequence[str]
    panels: Mapping[str, Shades]


def _mask_rows(model: MaskModel, dataset: Dataset) -> Iterator[SheetRow]:
    stamps = dataset.stamps("test")
    for number in _shown_numbers(dataset):
        stamp = stamps[number]
        probability = model.predict(stamp.image, noise=[stamps.noise(number)] if model.card.input.by_noise else None)
        mask, label, ignored = probability > model.threshold, stamp.cosmic_rays == 1, stamp.ignore == 1
        panels = {
            "image": grey(stretched(stamp.image, stamp.image)),
            "label": grey(1.0 - label),
            "probability": grey(1 - probability),
            f"mask, probability > {model.threshold:g}": painted(
                (mask & label, BLUE), (label & ~mask, ORANGE), (mask & ~label, RED), (ignored, GREY)
            ),
        }
        counted = ~ignored
        found, missed, false = (int((one & counted).sum()) for one in (mask & label, label & ~mask, mask & ~label))
        yield SheetRow(stamp, [f"{found} found, {missed} missed, {false} false"], panels)


def _inpainting_rows(model: InpaintModel, dataset: Dataset) -> Iterator[SheetRow]:
    stamps, numbers = dataset.stamps("test"), _shown_numbers(dataset)
    source = MappedStamps(list(dataset.exposures("test")), torch.device("cpu"))
    masks = (
        inpainting_masks(source, torch.tensor(numbers, dtype=torch.int64), SEED, NATIVE, INPAINTING_MASKS) if numbers else ()
    )
    for number, mask in zip(numbers, masks, strict=True):
        stamp = stamps[number]
        added, own, ignored = mask.numpy(), stamp.cosmic_rays == 1, stamp.ignore == 1
        known = [stamps.noise(number)] if model.card.input.by_noise else None
        filled = model.fill(stamp.image, added | own, noise=known)
        panels, strongest = filling_panels(stamp.image, filled, added, own, ignored)
        yield SheetRow(stamp, [f"red: +{strongest:.0f} e-, blue: -{strongest:.0f} e-"], panels)


def _shown_numbers(dataset: Dataset) -> list[int]:
    """Return the numbers of the test stamps that are shown, spread evenly over each field type."""
    groups = list(dataset.exposures("test"))
    kinds = np.array([group.visit.field_type for group in groups for _ in group.indices])
    shown: list[int] = []
    for field_type in dataset.manifest.counts:
        numbers = np.flatnonzero(kinds == field_type)
        places = (np.arange(STAMPS_PER_FIELD_TYPE) + 0.5) / STAMPS_PER_FIELD_TYPE * len(numbers)
        shown += np.unique(numbers[places.astype(int)]).tolist() if len(numbers) else []
    return shown


@plainly_drawn
def _sheet(title: str, rows: Sequence[SheetRow], legend: Mapping[str, Colour]) -> bytes:
    """Draw a row per stamp and a column per panel, each placed to the pixel."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    columns = len(rows[0].panels)
    zoom = max(1, round(PANEL_PIXELS / len(rows[0].stamp.image)))
    side = zoom * len(rows[0].stamp.image)
    width = LEFT + columns * (side + GAP)
    height = TOP + len(rows) * (side + GAP) + BOTTOM
    figure = Figure(figsize=(width / DPI, height / DPI))
    figure.text(GAP / width, 1 - GAP / height, title, va="top", size=12)
    for number, row in enumerate(rows):
        top = TOP + number * (side + GAP)
        for column, (heading, picture) in enumerate(row.panels.items()):
            left = LEFT + column * (side + GAP)
            if number == 0:
                figure.text((left + side / 2) / width, 1 - (TOP - 4) / height, heading, ha="center", va="bottom", size=11)
            axes = figure.add_axes((left / width, 1 - (top + side) / height, side / width, side / height))
            axes.imshow(picture, origin="lower", interpolation="nearest")
            axes.set(xticks=[], yticks=[])
        figure.text(LEFT / 2 / width, 1 - (top + side / 2) / height, _label(row), rotation=90, ha="center", va="center")
    handles = [Patch(facecolor=colour, label=label) for label, colour in legend.items()]
    figure.legend(handles=handles, loc="lower center", ncols=len(legend), frameon=False)
    return png(figure, DPI)


def _label(row: SheetRow) -> str:
    stamp = row.stamp
    return "\n".join([stamp.visit.field_type.replace("_", " "), f"{stamp.exposure.name}, stamp {stamp.index}", *row.notes])
