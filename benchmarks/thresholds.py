"""What a mask network does to stars at several thresholds, on the validation stamps of its run.

The threshold of a card is chosen here and not on the test stamps, which judge it. A core is the 3x3 pixels around a star's
brightest one, without the pixels of cosmic rays (`deepcr_zoo.bench.measures.stars`).

    python benchmarks/thresholds.py runs/CCD-ANY-3-16/TIMESTAMP-HASH
"""

from __future__ import annotations

import argparse
import datetime
from collections import defaultdict
from pathlib import Path

import numpy as np
from synthetic_visits import command

from deepcr_zoo.bench.measures.judgedpixels import noise_for
from deepcr_zoo.bench.measures.stars import star_cores
from deepcr_zoo.bench.measures.tally import NO_GROUP
from deepcr_zoo.bench.runs import Run
from deepcr_zoo.machine import processor_name
from deepcr_zoo.models.model import MaskModel

THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.93, 0.95)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("run", type=Path)
    run = Run.open(parser.parse_args().run)
    counts: defaultdict[str, np.ndarray] = defaultdict(lambda: np.zeros((len(THRESHOLDS), 4), int))
    model = run.model("cpu")
    assert isinstance(model, MaskModel)
    for group in run.dataset().exposures("validation"):
        layers = group.read("image", "cosmic_rays", "ignore")
        image, cosmic_rays, ignore = layers["image"], layers["cosmic_rays"], layers["ignore"]
        hit, clean = cosmic_rays == 1, (cosmic_rays == 0) & (ignore == 0)
        core = clean & (star_cores(image, hit, ignore == 1) != NO_GROUP)
        probability = model.predict(image, noise=noise_for(model, group))
        found = [
            [(mask & core).sum(), (mask & clean).sum(), core.sum(), clean.sum()]
            for mask in (probability > threshold for threshold in THRESHOLDS)
        ]
        for name in (group.visit.field_type, "all"):
            counts[name] += np.array(found)
    print(f"{command()}, {processor_name()}, {datetime.date.today().isoformat()}; star cores / FPR, %\n")
    print("| field type | " + " | ".join(f"{threshold:g}" for threshold in THRESHOLDS) + " |")
    print("| --- |" + " --- |" * len(THRESHOLDS))
    for name, rows in sorted(counts.items()):
        cells = [f"{100 * row[0] / row[2]:.2f} / {100 * row[1] / row[3]:.4f}" for row in rows]
        print(f"| {name.replace('_', ' ')} ({rows[0, 2]} core pixels) | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
