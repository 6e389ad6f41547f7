"""What mask networks do on stamps that judge none of them: TPRs, and star cores that are masked at several thresholds.

Networks are compared, and the threshold of a card is chosen, here and not on the test stamps. A core is the 3x3 pixels
around a star's brightest one, without the pixels of cosmic rays (`deepcr_zoo.bench.measures.stars`). The bound holds in
95 % of resampled exposures, whose stars are masked together; kinds of exposures that are not among them are not covered.

    python benchmarks/thresholds.py runs/CCD-ANY-3-16/TIMESTAMP-HASH --against CCD-ANY-3-16@1.0

Stamps are those for validation of the run, or with --data all of another training set (its test stamps).
"""

from __future__ import annotations

import argparse
import datetime
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from networks import mask_model
from synthetic_visits import command

from deepcr_zoo.bench.measures import roc
from deepcr_zoo.bench.measures.judgedpixels import noise_for
from deepcr_zoo.bench.measures.stars import star_cores
from deepcr_zoo.bench.measures.tally import NO_GROUP
from deepcr_zoo.bench.runs import Run
from deepcr_zoo.dataset.reading import Dataset
from deepcr_zoo.dataset.store import StampSplit
from deepcr_zoo.machine import processor_name
from deepcr_zoo.models.model import MaskModel
from deepcr_zoo.zoo.records import POOLED

THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.93, 0.95, 0.97, 0.98)
RESAMPLINGS = 1000
SCORES = 2**16  # distinct ones that are kept: all would take minutes to join


@dataclass
class Pixels:
    """Of a field type: what the first network masks, and the scores of each.

    `masked` counts of each exposure, at each threshold, the masked pixels of cores, masked clean ones, all of cores and all
    clean ones.
    """

    masked: list[np.ndarray] = field(default_factory=list)
    scores: defaultdict[str, list[roc.RocCounts]] = field(default_factory=lambda: defaultdict(list))


def judge(models: Mapping[str, MaskModel], dataset: Dataset, use: StampSplit) -> Mapping[str, Pixels]:
    """Return the pixels of each field type, and of all, in stamps of a training set."""
    judged: defaultdict[str, Pixels] = defaultdict(Pixels)
    for group in dataset.exposures(use):
        layers = group.read("image", "cosmic_rays", "ignore")
        image, cosmic_rays, ignore = layers["image"], layers["cosmic_rays"] == 1, layers["ignore"] == 1
        logits = {name: model.logits(image, noise=noise_for(model, group)) for name, model in models.items()}
        counts = {name: roc.count(one, cosmic_rays, ignore, SCORES) for name, one in logits.items()}
        clean = ~cosmic_rays & ~ignore
        core = clean & (star_cores(image, cosmic_rays, ignore) != NO_GROUP)
        masks = [next(iter(logits.values())) > np.log(threshold / (1 - threshold)) for threshold in THRESHOLDS]
        masked = np.array([[(mask & core).sum(), (mask & clean).sum(), core.sum(), clean.sum()] for mask in masks])
        for field_type in (group.visit.field_type, POOLED):
            judged[field_type].masked.append(masked)
            for name, count in counts.items():
                judged[field_type].scores[name].append(count)
    return judged


def bound(masked: np.ndarray) -> np.ndarray:
    """Return at each threshold what the share of masked pixels of cores is at most in 95 % of the resampled exposures."""
    drawn = np.random.default_rng(1).integers(len(masked), size=(RESAMPLINGS, len(masked)))
    counts = masked[drawn].sum(axis=1)  # shape (resamplings, thresholds, 4)
    shares = counts[..., 0] / np.maximum(counts[..., 2], 1)  # some resamplings may have no core at all
    return np.asarray(np.quantile(shares, 0.95, axis=0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", type=Path, help="folder of another training set, whose test stamps are taken")
    parser.add_argument("--against", nargs="*", default=[], help="other networks, whose TPRs are printed beside")
    given = parser.parse_args()
    run = Run.open(given.run)
    fprs = run.recipe.benchmark.fprs
    models = {name: mask_model(name) for name in (str(given.run), *given.against)}
    use: StampSplit = "validation" if given.data is None else "test"
    dataset = run.dataset() if given.data is None else Dataset.open(given.data)
    if given.data is not None and dataset.manifest_sha256 == run.facts.manifest_sha256:
        raise SystemExit(f"{given.data}: is the training set of the run, whose test stamps judge it")
    judged = judge(models, dataset, use)
    print(f"{command()}, {processor_name()}, {datetime.date.today().isoformat()}\n")
    print("| field type | network | " + " | ".join(f"TPR at FPR {100 * fpr:g} %" for fpr in fprs) + " |")
    print("| --- | --- |" + " --- |" * len(fprs))
    for field_type, pixels in sorted(judged.items()):
        for name, scores in pixels.scores.items():
            curve = roc.merge(scores, SCORES).curve()
            cells = [f"{100 * point.tpr:.1f}" if (point := curve.at_fpr(fpr)) else "-" for fpr in fprs]
            print(f"| {field_type.replace('_', ' ')} | {Path(name).name} | " + " | ".join(cells) + " |")
    print("\nStar cores that are masked / FPR, %\n")
    print("| field type | " + " | ".join(f"{threshold:g}" for threshold in THRESHOLDS) + " |")
    print("| --- |" + " --- |" * len(THRESHOLDS))
    for field_type, pixels in sorted(judged.items()):
        counts = np.sum(pixels.masked, axis=0)
        highest = bound(np.array(pixels.masked))
        cells = [
            f"{100 * row[0] / row[2]:.2f} (at most {100 * most:.2f}) / {100 * row[1] / row[3]:.4f}"
            for row, most in zip(counts, highest, strict=True)
        ]
        name = f"{field_type.replace('_', ' ')} ({len(pixels.masked)} exposures, {counts[0, 2]} core pixels)"
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
