"""Pictures of the test stamps on which a network does worst (extra ``plot``)."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from deepcr_zoo.bench.measures.judgedpixels import JudgedStamps, field_types_of, judged_stamps, noise_for
from deepcr_zoo.bench.report.figures import DPI, WIDTH, Picture, Topic
from deepcr_zoo.bench.report.shading import BLUE, GREY, ORANGE, RED, Colour, Shades, filling_panels, stretched
from deepcr_zoo.bench.report.wording import USUAL_FPR, field_name, fpr_name
from deepcr_zoo.bench.results import BenchmarkResults
from deepcr_zoo.dataset.reading import Dataset
from deepcr_zoo.exposures.pictures import outline, plainly_drawn, png, require_matplotlib
from deepcr_zoo.models.model import InpaintModel, MaskModel
from deepcr_zoo.zoo.recipe import FieldType

KEPT = 2
"""Stamps shown for each field type and kind of error."""

SHOWN_SIDE = 96
"""Side of the shown part of a stamp, the one with the most errors, pixels."""

Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class JudgedMask:
    """A stamp (e-) with the pixels of a network's mask by kind; ignored pixels are of no other kind."""

    name: str
    image: NDArray[np.float32]
    found: Mask
    missed: Mask
    false: Mask
    ignored: Mask


@dataclass(frozen=True, eq=False)
class Worst:
    """The stamps with the most false positives and with the most misses, the worst first; sums merge two sets."""

    false: Sequence[JudgedMask] = ()
    missed: Sequence[JudgedMask] = ()

    def __add__(self, other: Worst) -> Worst:
        return Worst(
            heapq.nlargest(KEPT, [*self.false, *other.false], key=lambda one: int(one.false.sum())),
            heapq.nlargest(KEPT, [*self.missed, *other.missed], key=lambda one: int(one.missed.sum())),
        )


def worst_of(stamps: JudgedStamps, masks: Mask) -> Worst:
    """Return the worst stamps of an exposure for a network's masks, shape (N, S, S), without stamps free of errors."""
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
    """Draw the worst test stamps of a mask network for each field type, or examples of an inpainting network.

    Masks are those at the threshold that the results give for an FPR of 0.1 % on the field type, or else at the default
    threshold. The test stamps are read once, one exposure at a time.
    """
    require_matplotlib()
    synthetic = " (synthetic)" if results.data.kind == "synthetic" else ""
    if isinstance(model, InpaintModel):
        return list(_examples(model, dataset, synthetic))
    thresholds = {name: _threshold(model, results, name) for name in field_types_of(dataset)}
    return [one for name, at in thresholds.items() for one in _of_field(model, dataset, name, at, synthetic)]


def _threshold(model: MaskModel, results: BenchmarkResults, field_type: str) -> float | None:
    """Return the logit threshold of the usual FPR on a field type; None if it was not measured."""
    fields = [one.fields[field_type] for one in results.methods if one.name == model.reference and field_type in one.fields]
    return next((rate.threshold for field in fields for rate in field.at_fpr if rate.fpr == USUAL_FPR), None)


def _of_field(
    model: MaskModel, dataset: Dataset, field_type: FieldType, threshold: float | None, synthetic: str
) -> Iterator[Picture]:
    worst = Worst()
    for stamps in judged_stamps(dataset, field_type):
        noise = noise_for(model, stamps.group)
        image = stamps.image
        masks = model.mask(image, noise=noise) if threshold is None else model.logits(image, noise=noise) > threshold
        worst += worst_of(stamps, masks)
    at = f"the default threshold, {model.threshold:g}" if threshold is None else f"{fpr_name(USUAL_FPR)} of the field type"
    caption = (
        f"{model.reference} at {at}: stamps with the most false positives and with the most misses, cut to the "
        f"{SHOWN_SIDE} x {SHOWN_SIDE} pixels with the most errors. Left: the image; right: the same with outlines."
    )
    for kind, words, found in (("false", "falsely masked", worst.false), ("missed", "missed", worst.missed)):
        for number, stamp in enumerate(found, 1):
            errors = stamp.false if kind == "false" else stamp.missed
            title = f"{field_name(field_type)}: {int(errors.sum())} pixels {words}{synthetic}"
            alt = f"{title}, in {stamp.name}: the image and the outlines of what was found, missed and falsely masked."
            name = f"worst-{_slug(model.reference)}-{field_type}-{kind}-{number}"
            yield Picture(name, Topic.WORST, caption, alt, _outlined(title, stamp, errors))


LEGEND: Mapping[str, Colour] = {"found": BLUE, "missed": ORANGE, "false": RED, "ignored": (0.4, 0.4, 0.4)}
"""Outlines; this grey is dark enough to be seen on the sky."""


def _outlined(title: str, stamp: JudgedMask, errors: Mask) -> bytes:
    """Draw the image beside the image with outlines; bright pixels are dark, since colours show better on white."""
    rows, columns = _window(errors)
    brightness = 1 - stretched(stamp.image, stamp.image)[rows, columns]

    def draw(panels: Sequence[Any]) -> None:
        for axes in panels:
            axes.imshow(brightness, origin="lower", cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        for label in ("ignored", "found", "missed", "false"):
            outline(panels[1], getattr(stamp, label)[rows, columns], LEGEND[label], 1.0)

    return _drawn(title, stamp.name, (1, 2), LEGEND, draw)


def _window(errors: Mask) -> tuple[slice, slice]:
    """Return rows and columns of the part with the most errors."""
    side = min(SHOWN_SIDE, *errors.shape)
    sums = uniform_filter(errors.astype(np.float64), side, mode="constant")
    inside = sums[side // 2 : errors.shape[0] - (side - 1) // 2, side // 2 : errors.shape[1] - (side - 1) // 2]
    row, column = np.unravel_index(np.argmax(inside), inside.shape)
    return slice(int(row), int(row) + side), slice(int(column), int(column) + side)


def _examples(model: InpaintModel, dataset: Dataset, synthetic: str) -> Iterator[Picture]:
    """Yield, for each field type, the middle stamp filled under the cosmic rays of the first."""
    caption = (
        f"{model.reference}: one stamp of each field type, filled under the cosmic rays of another stamp, where the result "
        "can be judged, and under its own, where the true values are unknown."
    )
    legend = {"added mask": BLUE, "own cosmic ray": ORANGE, "ignored": GREY}
    for field_type in field_types_of(dataset):
        stamps = dataset.stamps("test", field_type)
        middle = len(stamps) // 2
        stamp, other = stamps[middle], stamps[0]
        noise = [stamps.noise(middle)] if model.card.input.by_noise else None
        added, own, ignored = other.cosmic_rays == 1, stamp.cosmic_rays == 1, stamp.ignore == 1
        panels, strongest = filling_panels(
            stamp.image, model.fill(stamp.image, added | own, noise=noise), added, own, ignored
        )

        def draw(places: Sequence[Any], panels: Mapping[str, Shades] = panels) -> None:
            for axes, (heading, picture) in zip(places, panels.items(), strict=True):
                axes.imshow(picture, origin="lower", interpolation="nearest")
                axes.set_title(heading, size=10)

        title = f"{field_name(field_type)}: filled pixels{synthetic}"
        subtitle = f"{stamp.exposure.name}, stamp {stamp.index}; red: +{strongest:.0f} e-, blue: -{strongest:.0f} e-"
        alt = f"{title}, in {stamp.exposure.name}: {', '.join(panels)}."
        name = f"filled-{_slug(model.reference)}-{field_type}"
        yield Picture(name, Topic.EXAMPLES, caption, alt, _drawn(title, subtitle, (2, 2), legend, draw))


@plainly_drawn
def _drawn(
    title: str, subtitle: str, grid: tuple[int, int], legend: Mapping[str, Colour], draw: Callable[[Sequence[Any]], None]
) -> bytes:
    """Draw square panels with a legend below, as wide as all other figures of the report."""
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
    return "".join(letter if letter.isalnum() or letter in ".-" else "-" for letter in reference)
