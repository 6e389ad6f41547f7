"""How real simulated visits are: networks trained on real exposures, judged on them beside their published figures.

Labels are AstroDrizzle's, as in the papers. TPR at a fixed FPR on logits, per field type; each seed is judged alone, with a
threshold of its own. The networks that Zhang & Bloom 2020, Table 2, measured shall be within 5 points of it; others are for
information.

    python benchmarks/realism.py --picture realism.png
"""

from __future__ import annotations

import argparse
import datetime
import multiprocessing
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import partial, reduce
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from networks import mask_model
from spreads import Spread, spread
from synthetic_visits import (
    PACKAGES,
    LabelledVisit,
    add_options,
    astrodrizzle,
    command,
    description,
    exposures_of,
    heading,
    labelled_visits,
    words,
)

from deepcr_zoo.bench.measures import roc
from deepcr_zoo.bench.measures.detectionresults import CURVE_POINTS, SWEEP_TPR, TPR_AT_FPR, field_result
from deepcr_zoo.bench.measures.judgedpixels import as_method
from deepcr_zoo.bench.measures.lacosmic import Sweep
from deepcr_zoo.bench.measures.roc import RocCounts, RocCurve
from deepcr_zoo.bench.measures.tally import Tally, tally_masks
from deepcr_zoo.bench.measures.tracks import class_group
from deepcr_zoo.bench.results import BaselineMethod, BenchmarkResults, MethodResult, PixelCounts, write_results
from deepcr_zoo.machine import processor_name
from deepcr_zoo.models.baselines import Lacosmic
from deepcr_zoo.models.model import MaskModel
from deepcr_zoo.zoo.cards import Card
from deepcr_zoo.zoo.recipe import SIMULATED_FIELD_TYPES
from deepcr_zoo.zoo.records import POOLED

TABLE_2 = ("ACS-WFC-F606W-2-32@1.0", "ACS-WFC-F606W-2-4@1.0")
"""The networks that Zhang & Bloom 2020, Table 2, measured."""

OTHERS = ("ACS-WFC-F606W-2-32@2.0", "ACS-WFC-2-32@1.0")
FPRS = (0.0005, 0.005)
POINTS = 5.0
SIGCLIPS = (2.5, 3.2, 4.0, 5.0, 6.3, 8.0, 10.0, 12.5, 16.0, 20.0, 25.0, 32.0)
"""Ten per decade; on ACS/WFC they give FPRs from a few per cent down to 1e-4."""

Judged = TypeVar("Judged", RocCounts, Tally)
Spreads = dict[str, list[Spread | None]]
"""By field type, of the TPR over seeds at each FPR, each with a threshold of its own."""


def by_field_type(
    visits: list[LabelledVisit], each: Mapping[Path, Judged], merge: Callable[[list[Judged]], Judged]
) -> dict[str, tuple[Judged, list[Judged]]]:
    """For each field type, and all together: what all visits give, and what each seed gives."""
    seeds = sorted({visit.seed for visit in visits})
    grouped = {}
    for name in [*SIMULATED_FIELD_TYPES, POOLED]:
        alone = [
            merge([each[one.folder] for one in visits if one.seed == seed and name in (one.field_type, POOLED)])
            for seed in seeds
        ]
        grouped[name] = merge(alone), alone
    return grouped


def counts_of(model: MaskModel, visit: LabelledVisit) -> RocCounts:
    """Judge a network on a visit."""
    return roc.merge(roc.count(model.logits(chip.image), chip.label, chip.ignore) for chip in visit.chips())


def spreads_of(curves: Iterable[RocCurve | Sweep]) -> list[Spread | None]:
    """Return the spread over seeds of the TPR at each FPR."""
    each = [[None if (point := one.at_fpr(fpr)) is None else point.tpr for fpr in FPRS] for one in curves]
    return [spread(tprs) for tprs in zip(*each, strict=True)]


def judge_network(
    name: str, model: MaskModel, visits: list[LabelledVisit]
) -> tuple[MethodResult, Spreads, dict[str, RocCounts], dict[str, RocCurve]]:
    """Return a network's figures and their spreads, the counts behind them, and the curves."""
    each = {visit.folder: counts_of(model, visit) for visit in visits}
    grouped = by_field_type(visits, each, roc.merge)
    curves = {field: pooled.curve() for field, (pooled, _) in grouped.items()}
    result = MethodResult(
        name=name,
        method=as_method(model),
        score="logit",
        tpr_at_fpr=TPR_AT_FPR,
        curve_points=CURVE_POINTS,
        fields={field: field_result(curve, FPRS) for field, curve in curves.items()},
    )
    spreads = {field: spreads_of(one.curve() for one in alone) for field, (_, alone) in grouped.items()}
    return result, spreads, {field: pooled for field, (pooled, _) in grouped.items()}, curves


def sweep(
    method: Lacosmic, image: np.ndarray, cosmic_rays: np.ndarray, ignore: np.ndarray, sigclips: Sequence[float]
) -> Tally:
    """Count what L.A.Cosmic masks on a chip at each sigclip, by class."""
    ascending = sorted(sigclips)
    classes = class_group(cosmic_rays[None], ignore[None], np.zeros(1, int))[0]
    return tally_masks([method.mask(image, sigclip) for sigclip in ascending], ascending, classes, 2)


def together(tallies: Iterable[Tally]) -> Tally:
    """Add the counts of several images."""
    return reduce(Tally.__add__, tallies)


def swept(visit: LabelledVisit, sigclips: tuple[float, ...]) -> Tally:
    """Judge L.A.Cosmic on a visit."""
    recipe = visit.recipe
    method = Lacosmic(recipe.benchmark.lacosmic_objlim[visit.field_type], recipe.instrument.read_noise_electron)
    return together(sweep(method, chip.image, chip.label, chip.ignore, sigclips) for chip in visit.chips())


def judge_lacosmic(visits: list[LabelledVisit], sigclips: tuple[float, ...], jobs: int) -> tuple[MethodResult, Spreads]:
    """Return the figures of L.A.Cosmic, with the objlim that the paper found best for each field type, and their spreads."""
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        sweeps = pool.map(partial(swept, sigclips=sigclips), visits)
        each = {visit.folder: sweep for visit, sweep in zip(visits, sweeps, strict=True)}
    grouped = by_field_type(visits, each, together)
    recipe = visits[0].recipe
    objlims = recipe.benchmark.lacosmic_objlim
    parameters = asdict(Lacosmic(0.0, recipe.instrument.read_noise_electron))
    result = MethodResult(
        name="L.A.Cosmic",
        method=BaselineMethod(
            name="lacosmic",
            parameters={
                **parameters,
                "objlim": {str(kind): objlim for kind, objlim in objlims.items()},
                "sigclip": list(sigclips),
            },
            packages={"astroscrappy": version("astroscrappy")},
        ),
        score="sigclip",
        tpr_at_fpr=SWEEP_TPR,
        curve_points="every value of sigclip",
        fields={field: field_result(Sweep(pooled), FPRS) for field, (pooled, _) in grouped.items()},
    )
    return result, {field: spreads_of(map(Sweep, alone)) for field, (_, alone) in grouped.items()}


def published(card: Card, field_type: str, fpr: float, band: str) -> float | None:
    """Return the card's published TPR in per cent for this field type, in this band if the card has it."""
    metric = f"TPR at FPR {100 * fpr:g} %, in %"
    for field in (f"{words(field_type)}, {band}", words(field_type)):
        for figure in [one for evaluation in card.published_evaluation for one in evaluation.figures]:
            if (figure.field, figure.metric) == (field, metric):
                return figure.value
    return None


def rows(result: MethodResult, spreads: Spreads, card: Card | None, band: str) -> list[str]:
    """A line of the table for each field type."""
    lines = []
    for field_type in SIMULATED_FIELD_TYPES:
        cells, differences = [result.name, words(field_type)], []
        for rate, several in zip(result.fields[field_type].at_fpr, spreads[field_type], strict=True):
            there = published(card, field_type, rate.fpr, band) if card else None
            tpr = 100 * several.mean if several else rate.tpr and 100 * rate.tpr
            error = f" ± {100 * several.standard_error:.1f}" if several else ""
            cells += ["-" if tpr is None else f"{tpr:.1f}{error}", "-" if there is None else f"{there:.1f}"]
            differences.append(None if tpr is None or there is None else tpr - there)
            cells.append("-" if differences[-1] is None else f"{round(differences[-1], 1) + 0.0:+.1f}")
        verdict = "-"
        if result.name in TABLE_2:
            near = [difference is not None and abs(difference) <= POINTS for difference in differences]
            verdict = ", ".join("yes" if one else "**no**" for one in near)
        lines.append(f"| {' | '.join([*cells, verdict])} |")
    return lines


def table_head() -> str:
    """The first two lines of the table."""
    columns = ["method", "field type"]
    for fpr in FPRS:
        columns += [f"TPR in % at FPR {100 * fpr:g} %, mean ± standard error", "published", "difference"]
    columns.append(f"within {POINTS:g} points")
    return f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}"


def draw(model: MaskModel, visits: list[LabelledVisit], curves: dict[str, RocCurve], path: Path, side: int = 200) -> None:
    """A stamp of each field type: image, AstroDrizzle's mask, and where a network's, at the larger FPR, differs from it."""
    from astropy.visualization import AsinhStretch, ImageNormalize, PercentileInterval
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.7 * len(SIMULATED_FIELD_TYPES)), layout="constrained")
    figure.suptitle(f"Simulated visits, AstroDrizzle, and {TABLE_2[0]} at FPR {100 * FPRS[-1]:g} %")
    for field_type, line in zip(SIMULATED_FIELD_TYPES, figure.subplots(len(SIMULATED_FIELD_TYPES), 3), strict=True):
        visit = next(one for one in visits if one.field_type == field_type)
        chip = next(visit.chips())
        point = curves[field_type].at_fpr(FPRS[-1])
        assert point is not None
        part = tuple(slice((length - side) // 2, (length + side) // 2) for length in chip.image.shape)
        image, label, counted = chip.image[part], chip.label[part], ~chip.ignore[part]
        masked = (model.logits(chip.image) > point.threshold)[part]
        colours = np.ones((*image.shape, 3))
        colours[~counted] = 0.85
        colours[counted & masked & label] = 0.0
        colours[counted & masked & ~label] = (0.85, 0.2, 0.0)
        colours[counted & ~masked & label] = (0.0, 0.4, 0.9)
        norm = ImageNormalize(image, interval=PercentileInterval(99.0), stretch=AsinhStretch(0.05))
        line[0].imshow(image, origin="lower", cmap="gray", norm=norm, interpolation="nearest")
        line[1].imshow(~label, origin="lower", cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        line[2].imshow(colours, origin="lower", interpolation="nearest")
        line[0].set_title(f"{words(field_type)}, seed {visit.seed}, e-, asinh", fontsize="medium")
        line[1].set_title("AstroDrizzle's mask", fontsize="medium")
        line[2].set_title("orange false, blue missed, grey ignored", fontsize="medium")
        for axes in line:
            axes.set_axis_off()
    figure.savefig(path, dpi=110)


def main() -> None:
    """Run the benchmark and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    parser.add_argument("--threads", type=int, default=1, help="of the networks")
    parser.add_argument("--models", nargs="+", default=[*TABLE_2, *OTHERS])
    parser.add_argument("--sigclips", type=float, nargs="*", default=list(SIGCLIPS), help="none: leave L.A.Cosmic out")
    parser.add_argument("--picture", type=Path, help="draw a stamp of each field type there")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    visits = labelled_visits(options)
    band = visits[0].recipe.instrument.filters[0]

    packages = (*PACKAGES, "torch", "openvino", "astroscrappy")
    print(heading(packages, options))
    print(table_head(), flush=True)
    methods: list[MethodResult] = []
    counts: dict[str, RocCounts] = {}
    for name in options.models:
        model = mask_model(name)
        result, spreads, counts, curves = judge_network(name, model, visits)
        print("\n".join(rows(result, spreads, model.card, band)), flush=True)
        methods.append(result)
        if options.picture and name == TABLE_2[0]:
            draw(model, visits, curves, options.picture)
    if options.sigclips:
        result, spreads = judge_lacosmic(visits, tuple(options.sigclips), options.jobs)
        methods.append(result)
        print("\n".join(rows(result, spreads, None, band)))
    if options.results:
        pixels = {name: pixels_of(tally, exposures_of(visits, name)) for name, tally in counts.items()}
        written = BenchmarkResults(
            date=datetime.date.today(),
            command=command(),
            machine=f"{processor_name()}, {options.threads} threads",
            software={name: version(name) for name in packages},
            data=description(options, astrodrizzle(visits[0].recipe), pixels),
            methods=methods,
        )
        write_results(written, options.results)


def pixels_of(counts: RocCounts, exposures: int) -> PixelCounts:
    """What a field type has, the same for all methods."""
    cosmic_rays, clean = int(counts.cosmic_rays.sum()), int(counts.clean.sum())
    pixels = cosmic_rays + clean + counts.ignored
    return PixelCounts(exposures=exposures, pixels=pixels, cosmic_rays=cosmic_rays, ignored=counts.ignored)


if __name__ == "__main__":
    main()
