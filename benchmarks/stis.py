"""Networks for ACS, and L.A.Cosmic, on real exposures of another camera: five CR-SPLIT pairs of HST STIS.

Labels come from the pairs themselves (`deepcr_zoo.dataset.crsplit`): what one exposure has and its partner has not. The pair
o56502010 is left out, because one of its exposures has four times the background of the other. The thresholds of the labels
were chosen on the next pair by eye, which is left out too. Each pair that is left is judged by itself.

    python benchmarks/stis.py --data ../shared/data/stis_crsplit --picture stis.png
"""

from __future__ import annotations

import argparse
import datetime
import multiprocessing
import platform
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
from synthetic_visits import command

import deepcr_zoo
from deepcr_zoo.baselines import Lacosmic
from deepcr_zoo.bench import lacosmic, roc
from deepcr_zoo.bench.lacosmic import Sweep
from deepcr_zoo.bench.summary import spread
from deepcr_zoo.dataset.crsplit import PairLabel, PairTest, RepeatedExposure, hot_pixels, label_pair, read_pair
from deepcr_zoo.machine import processor_name
from deepcr_zoo.models import MaskModel

LEFT_OUT = ("o56502010", "o56502020")
MODELS = (
    "mask/ACS-WFC-F606W-2-32@1.0",
    "mask/ACS-WFC-F606W-2-4@1.0",
    "mask/ACS-WFC-F606W-2-32@2.0",
    "mask/ACS-WFC-2-32@1.0",
)
FPRS = (0.0005, 0.001, 0.005)
OBJLIMS = (1.0, 2.0, 5.0)
SIGCLIPS = (2.5, 4.0, 6.3, 10.0, 16.0, 25.0, 40.0)
PACKAGES = ("deepcr-zoo", "numpy", "scipy", "astropy", "torch", "astroscrappy")

Judged = list[tuple[RepeatedExposure, PairLabel]]


def labelled_pairs(folder: Path) -> dict[str, Judged]:
    """The exposures of each pair with their labels; hot pixels are those of all pairs."""
    paths = sorted(folder.glob("*.fits*"))
    if not paths:
        raise SystemExit(f"{folder}: no exposures: name the folder of the five raw STIS files with --data")
    pairs = {path.name[:9]: read_pair(path) for path in paths}
    test = PairTest()
    hot = hot_pixels([exposure for pair in pairs.values() for exposure in pair], test)
    judged = {name: pair for name, pair in pairs.items() if name not in LEFT_OUT}
    return {name: list(zip(pair, label_pair(*pair, hot, test), strict=True)) for name, pair in judged.items()}


def of_network(name: str, pairs: dict[str, Judged]) -> list[roc.RocCurve]:
    """The curve of each pair."""
    model = deepcr_zoo.load(name, "cpu")
    assert isinstance(model, MaskModel)

    def count(exposure: RepeatedExposure, label: PairLabel) -> roc.RocCounts:
        return roc.count(model.logits(exposure.image), label.cosmic_rays, label.ignore)

    return [roc.merge(count(*one) for one in pair).curve() for pair in pairs.values()]


def of_lacosmic(objlim: float, pair: Judged) -> Sweep:
    """The sweep of a pair; read noise of its overscan, gain 1 because the images are in electrons."""
    return lacosmic.merge(
        lacosmic.sweep(
            Lacosmic(objlim, exposure.read_noise_electron), exposure.image, label.cosmic_rays, label.ignore, SIGCLIPS
        )
        for exposure, label in pair
    )


def row(name: str, tprs: Sequence[Sequence[float | None]], areas: Sequence[float | None]) -> str:
    """A line of the table: mean and standard error over the pairs, and each pair."""
    cells = []
    for values in tprs:
        found = spread(values)
        each = ", ".join("-" if value is None else f"{100 * value:.1f}" for value in values)
        mean = "-" if found is None else f"{100 * found.mean:.1f} ± {100 * found.standard_error:.1f}"
        cells.append(f"{mean} ({each})")
    area = spread(areas)
    return f"| {name} | {' | '.join(cells)} | {'-' if area is None else f'{area.mean:.4f}'} |"


def draw(name: str, pair: Judged, path: Path, side: int = 180) -> None:
    """A cut-out: the exposure, its partner, the label, and what a network and L.A.Cosmic mask at FPR 0.5 % and 0.1 %."""
    from astropy.visualization import AsinhStretch, ImageNormalize, PercentileInterval
    from matplotlib.figure import Figure

    model = deepcr_zoo.load(MODELS[0], "cpu")
    assert isinstance(model, MaskModel)
    (exposure, label), (partner, _) = pair
    logits = model.logits(exposure.image)
    point = roc.count(logits, label.cosmic_rays, label.ignore).curve().at_fpr(FPRS[-1])
    assert point is not None
    rows, columns = (slice((length - side) // 2, (length + side) // 2) for length in exposure.image.shape)
    part = (rows, columns)
    image = exposure.image[part]
    norm = ImageNormalize(image, interval=PercentileInterval(99.0), stretch=AsinhStretch(0.05))
    classical = Lacosmic(2.0, exposure.read_noise_electron).mask(exposure.image, 10.0)
    panels = {
        f"{name}, exposure 1": image,
        "exposure 2": partner.image[part],
        "label (grey: ignored)": np.where(label.ignore, 0.6, ~label.cosmic_rays)[part],
        f"{MODELS[0]}\nat FPR {100 * FPRS[-1]:g} %": ~(logits > point.threshold)[part],
        "L.A.Cosmic, objlim 2, sigclip 10": ~classical[part],
    }
    figure = Figure(figsize=(12.5, 3.0), layout="constrained")
    for axes, (heading, panel) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        shown = {"norm": norm} if panel.dtype == np.float32 else {"vmin": 0, "vmax": 1}
        axes.imshow(panel, origin="lower", cmap="gray", interpolation="nearest", **shown)
        axes.set_title(heading, fontsize="small")
        axes.set_axis_off()
    figure.savefig(path, dpi=100)


def main() -> None:
    """Judge, and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data" / "stis_crsplit")
    parser.add_argument("--picture", type=Path, help="draw a cut-out there")
    parser.add_argument("--jobs", type=int, default=2, help="pairs at a time for L.A.Cosmic")
    options = parser.parse_args()
    pairs = labelled_pairs(options.data)
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    print(f"{datetime.date.today()}, {processor_name()}, Python {platform.python_version()}, {versions}\n\n`{command()}`\n")
    print("| pair | cosmic rays, % of pixels | ignored, % of pixels | cosmic rays per cm2 and s |\n|---|---|---|---|")
    for name, pair in pairs.items():
        shares = [100 * label.cosmic_rays[~label.ignore].mean() for _, label in pair]
        ignored = [100 * label.ignore[exposure.usable].mean() for exposure, label in pair]
        rates = [label.rate(exposure) or float("nan") for exposure, label in pair]
        cells = ("; ".join(f"{value:.2f}" for value in values) for values in (shares, ignored, rates))
        print(f"| {name} | {' | '.join(cells)} |")
    columns = [f"TPR in % at FPR {100 * fpr:g} %, mean ± standard error (each pair)" for fpr in FPRS]
    print(f"\n| method | {' | '.join(columns)} | area |\n|{'---|' * (len(FPRS) + 2)}")
    for name in MODELS:
        curves = of_network(name, pairs)
        points = [[curve.at_fpr(fpr) for curve in curves] for fpr in FPRS]
        print(row(name, [[one and one.tpr for one in each] for each in points], [curve.area() for curve in curves]))
    # spawned: threads of OpenMP do not survive a fork
    with ProcessPoolExecutor(options.jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        for objlim in OBJLIMS:
            sweeps = list(pool.map(partial(of_lacosmic, objlim), pairs.values()))
            points = [[sweep.at_fpr(fpr) for sweep in sweeps] for fpr in FPRS]
            tprs = [[one and one.tpr for one in each] for each in points]
            print(row(f"L.A.Cosmic, objlim {objlim:g}", tprs, [None] * len(sweeps)), flush=True)
    if options.picture:
        draw(*next(iter(pairs.items())), options.picture)


if __name__ == "__main__":
    main()
