"""The test stamps that a network does worst on, drawn (extra ``plot``)."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from deepcr_zoo.bench.measures.judged import JudgedStamps, field_types_of, judged_stamps
from deepcr_zoo.bench.report.figures import DPI, WIDTH, Picture
from deepcr_zoo.bench.report.shading import BLUE, GREY, ORANGE, RED, Colour, Shades, filling_panels, stretched
from deepcr_zoo.bench.report.wording import USUAL_FPR, field_name, fpr_name
from deepcr_zoo.bench.results import BenchmarkResults
from deepcr_zoo.dataset.reading import Dataset
from deepcr_zoo.exposures.pictures import outline, png, require_matplotlib
from deepcr_zoo.models.model import InpaintModel, MaskModel
from deepcr_zoo.zoo.recipe import FieldType

WORST, EXAMPLES = "Worst stamps", "Examples of filled pixels"
KEPT = 2
"""Stamps of each field type and kind of error."""

SHOWN_SIDE = 96
"""Of the part of a stamp that is shown, in pixels: the one with the most errors."""

Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class JudgedMask:
    """A stamp with the mask that a network gave it.

    Attributes
    ----------
    name : str
        Exposure and number of the stamp in it.
    image : ndarray of float32, shape (S, S)
        e-.
    found, missed, false, ignored : ndarray of bool, shape (S, S)
        Pixels of each kind; ignored ones are of no other.
    """

    name: str
    image: NDArray[np.float32]
    found: Mask
    missed: Mask
    false: Mask
    ignored: Mask


@dataclass(frozen=True, eq=False)
class Worst:
    """The worst stamps, the worst first; those of two sets of stamps add up to those of both together."""

    false: Sequence[JudgedMask] = ()
    missed: Sequence[JudgedMask] = ()

    def __add__(self, other: Worst) -> Worst:
        return Worst(
            heapq.nlargest(KEPT, [*self.false, *other.false], key=lambda one: int(one.false.sum())),
            heapq.nlargest(KEPT, [*self.missed, *other.missed], key=lambda one: int(one.missed.sum())),
        )


def worst_of(stamps: JudgedStamps, masks: Mask) -> Worst:
    """The stamps of an exposure with the most false positives and with the most misses; none without any.

    Parameters
    ----------
    stamps : JudgedStamps
    masks : ndarray of bool, shape (N, S, S)
        Of a network.
    """
    false, missed = masks & ~stamps.cosmic_rays & ~stamps.ignore, stamps.cosmic_rays & ~masks & ~stamps.ignore

    def most(errors: Mask) -> list[JudgedMask]:
        counts = errors.sum(axis=(1, 2))
        numbers = [int(number) for number in np.argsort(-counts, kind="stable")[:KEPT] if counts[number]]
        return [judged(number) for number in numbers]

    def judged(number: int) -> JudgedMask:
        found = masks[number] & stamps.cosmic_rays[number] & ~stamps.ignore[number]
        name = f"{stamps.group.exposure.name}, stamp {stamps.group.indices[number]}"
        copied = [layer[number].copy() for layer in (missed, false, stamps.ignore)]  # a view would hold the whole exposure
        return JudgedMask(name, stamps.image[number].copy(), found, *copied)

    return Worst(most(false), most(missed))


def worst_stamps(model: MaskModel | InpaintModel, dataset: Dataset, results: BenchmarkResults) -> list[Picture]:
    """Pictures of the test stamps of each field type that a mask network does worst on; of an inpainting network, examples.

    Reads the test stamps once, one exposure in memory at a time.

    Parameters
    ----------
    model : MaskModel or InpaintModel
    dataset : Dataset
    results : BenchmarkResults
        Say at which threshold a network has an FPR of 0.1 % on a field type; else its default threshold is taken.

    Raises
    ------
    DatasetError
        If a file is missing or damaged.
    MissingExtraError
        If matplotlib is not installed.
    """
    require_matplotlib()
    synthetic = " (synthetic)" if results.data.kind == "synthetic" else ""
    if isinstance(model, InpaintModel):
        return list(_examples(model, dataset, synthetic))
    return [
        picture
        for field_type in field_types_of(dataset)
        for picture in _of_field(model, dataset, field_type, _threshold(model, results, field_type), synthetic)
    ]


def _threshold(model: MaskModel, results: BenchmarkResults, field_type: str) -> float | None:
    """The logit of the usual FPR on a field type; None if it was not measured."""
    fields = [one.fields[field_type] for one in results.methods if one.name == model.reference and field_type in one.fields]
    known = [rate.threshold for field in fields for rate in field.at_fpr if rate.fpr == USUAL_FPR]
    return known[0] if known else None


def _of_field(
    model: MaskModel, dataset: Dataset, field_type: FieldType, threshold: float | None, synthetic: str
) -> Iterator[Picture]:
    worst = Worst()
    for stamps in judged_stamps(dataset, field_type):
        masks = model.mask(stamps.image) if threshold is None else model.logits(stamps.image) > threshold
        worst += worst_of(stamps, masks)
    at = f"the default threshold, {model.threshold:g}" if threshold is None else f"{fpr_name(USUAL_FPR)} of the field type"
    for kind, found in (("false", worst.false), ("missed", worst.missed)):
        for number, stamp in enumerate(found, 1):
            count = int((stamp.false if kind == "false" else stamp.missed).sum())
            what = "falsely masked" if kind == "false" else "missed"
            title = f"{field_name(field_type)}: {count} pixels {what}{synthetic}"
            caption = (
                f"{model.reference} at {at}: the stamps with the most false positives and with the most misses, of "
                f"each the {SHOWN_SIDE} x {SHOWN_SIDE} pixels with the most. Left the image, right the same with outlines."
            )
            alt = f"{title}, in {stamp.name}: the image and the outlines of what was found, missed and falsely masked."
            name = f"worst-{_slug(model.reference)}-{field_type}-{kind}-{number}"
            yield Picture(name, WORST, title, caption, alt, _outlined(title, stamp, kind))


LEGEND: Mapping[str, Colour] = {"found": BLUE, "missed": ORANGE, "false": RED, "ignored": (0.4, 0.4, 0.4)}
"""Outlines; grey is darker here, to be seen on the sky."""


def _outlined(title: str, stamp: JudgedMask, kind: str) -> bytes:
    """The image beside the image with the outlines of its masks; dark is bright, as colours are seen better on white."""
    rows, columns = _window(stamp.false if kind == "false" else stamp.missed)
    brightness = 1 - stretched(stamp.image, stamp.image)[rows, columns]

    def draw(panels: Sequence[Any]) -> None:
        for axes in panels:
            axes.imshow(brightness, origin="lower", cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        layers = {"ignored": stamp.ignored, "found": stamp.found, "missed": stamp.missed, "false": stamp.false}
        for label, mask in layers.items():
            outline(panels[1], mask[rows, columns], LEGEND[label], 1.0)

    return _drawn(title, stamp.name, (1, 2), LEGEND, draw)


def _window(errors: Mask) -> tuple[slice, slice]:
    """Rows and columns of the part with the most errors."""
    side = min(SHOWN_SIDE, *errors.shape)
    sums = uniform_filter(errors.astype(np.float64), side, mode="constant")
    inside = sums[side // 2 : errors.shape[0] - (side - 1) // 2, side // 2 : errors.shape[1] - (side - 1) // 2]
    row, column = np.unravel_index(np.argmax(inside), inside.shape)
    return slice(int(row), int(row) + side), slice(int(column), int(column) + side)


def _examples(model: InpaintModel, dataset: Dataset, synthetic: str) -> Iterator[Picture]:
    """The middle one of the stamps of each field type, under the cosmic rays of the first."""
    for field_type in field_types_of(dataset):
        stamps = dataset.stamps("test", field_type)
        stamp, other = stamps[len(stamps) // 2], stamps[0]
        added, own, ignored = other.cosmic_rays == 1, stamp.cosmic_rays == 1, stamp.ignore == 1
        filled = model.fill(stamp.image, added | own)
        panels, strongest = filling_panels(stamp.image, filled, added, own, ignored)
        title = f"{field_name(field_type)}: filled pixels{synthetic}"
        name = f"{stamp.exposure.name}, stamp {stamp.index}; red: +{strongest:.0f} e-, blue: -{strongest:.0f} e-"
        caption = (
            f"{model.reference}: a stamp of each field type under the cosmic rays of another stamp, which can be judged, "
            "and its own, which cannot: nobody knows what is below them."
        )
        alt = f"{title}, in {stamp.exposure.name}: {', '.join(panels)}."
        yield Picture(
            f"filled-{_slug(model.reference)}-{field_type}", EXAMPLES, title, caption, alt, _panels(title, name, panels)
        )


def _panels(title: str, name: str, panels: Mapping[str, Shades]) -> bytes:
    def draw(places: Sequence[Any]) -> None:
        for axes, (heading, picture) in zip(places, panels.items(), strict=True):
            axes.imshow(picture, origin="lower", interpolation="nearest")
            axes.set_title(heading, size=10)

    legend = {"added mask": BLUE, "own cosmic ray": ORANGE, "ignored": GREY}
    return _drawn(title, name, (2, 2), legend, draw)


def _drawn(
    title: str, subtitle: str, grid: tuple[int, int], legend: Mapping[str, Colour], draw: Callable[[Sequence[Any]], None]
) -> bytes:
    """A figure of square panels with its legend below, as wide as all others of the report."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    figure = Figure(figsize=(WIDTH, grid[0] * WIDTH / 2 + 0.8), layout="constrained")
    places = list(figure.subplots(*grid).flat)
    for axes in places:
        axes.set(xticks=[], yticks=[])
    draw(places)
    figure.suptitle(f"{title}\n{subtitle}", size=10)
    handles = [Patch(facecolor=colour, label=label) for label, colour in legend.items()]
    figure.legend(
        handles=handles, loc="outside lower center", ncols=len(legend), frameon=False, fontsize=10, columnspacing=1
    )
    return png(figure, DPI)


def _slug(reference: str) -> str:
    """A reference as a part of a file's name."""
    return "".join(letter if letter.isalnum() or letter in ".-" else "-" for letter in reference)
