"""The STIS recipe on real exposures: each sound observation is held out in turn, from building to judging.

Labels are made by the pairs themselves (`deepcr_zoo.dataset.crsplit`). The network learns from the other observations and is
judged on the one that was held out, beside networks for ACS and L.A.Cosmic (the best of the recipe's grid of sigclip and
objlim, chosen on the test pixels themselves).

    python benchmarks/stis.py --data ../shared/data/stis_crsplit --picture stis.png
"""

from __future__ import annotations

import argparse
import datetime
import platform
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
from spreads import spread
from synthetic_visits import command

import deepcr_zoo
from deepcr_zoo.bench.judging import Extent, benchmark
from deepcr_zoo.bench.maskbenchmark import BEST
from deepcr_zoo.bench.results import BaselineMethod, BenchmarkResults, MethodResult
from deepcr_zoo.bench.runs import Run
from deepcr_zoo.bench.subjects import Subject, find_subject
from deepcr_zoo.dataset.exposures import read_chips, read_facts
from deepcr_zoo.dataset.reading import ExposureStamps
from deepcr_zoo.machine import processor_name
from deepcr_zoo.models.baselines import Lacosmic
from deepcr_zoo.models.model import MaskModel

RECIPE = Path(__file__).parents[1] / "recipes" / "stis-ccd.yaml"
OBSERVATIONS = ("o56502020", "o56502030", "o56502040", "o56502050")
AGAINST = ("ACS-WFC-F606W-2-32@1.0", "ACS-WFC-2-32@1.0", "ACS-WFC-F606W-2-4@1.0")
FIELD = "spectrum"
PACKAGES = ("deepcr-zoo", "numpy", "scipy", "astropy", "torch", "astroscrappy")
POINT = 0.005
"""FPR at which masks are drawn."""


def held_out(name: str, data: Path, runs: Path, jobs: int) -> tuple[Run, BenchmarkResults]:
    """Train without an observation, and judge on it."""
    settings = [f"data.visits.test.observation={name}"]
    run = deepcr_zoo.train(
        RECIPE, data=[data], settings=settings, runs=runs, device="cpu", jobs=jobs, prove=False, command=command()
    )
    extent = Extent(against=[find_subject(one) for one in AGAINST], runtime=False, gates=False)
    return run, benchmark([Subject(run)], run.dataset(), run.recipe, command(), extent=extent, device="cpu", jobs=jobs)


def tprs(results: BenchmarkResults, index: int) -> dict[float, float | None]:
    """Of a method, by FPR."""
    return {rate.fpr: rate.tpr for rate in results.methods[index].fields[FIELD].at_fpr}


def row(name: str, by_observation: Sequence[dict[float, float | None]]) -> str:
    """A line of the table: mean and standard error over the observations, and each of them."""
    cells = []
    for fpr in by_observation[0]:
        values = [one[fpr] for one in by_observation]
        found = spread(values)
        each = ", ".join("-" if value is None else f"{100 * value:.1f}" for value in values)
        mean = "-" if found is None else f"{100 * found.mean:.1f} ± {100 * found.standard_error:.1f}"
        cells.append(f"{mean} ({each})")
    return f"| {name} | {' | '.join(cells)} |"


def threshold_of(method: MethodResult) -> float:
    """Threshold of a method at `POINT`."""
    found = next(rate.threshold for rate in method.fields[FIELD].at_fpr if rate.fpr == POINT)
    if found is None:
        raise SystemExit(f"{method.name}: has no threshold at FPR {100 * POINT:g} %")
    return found


def draw(run: Run, results: BenchmarkResults, data: Path, path: Path, side: int = 160) -> None:
    """A cut-out at the spectrum: both exposures, the label, and what the network and L.A.Cosmic mask at `POINT`."""
    from astropy.visualization import AsinhStretch, ImageNormalize, PercentileInterval
    from matplotlib.figure import Figure

    group = next(run.dataset().exposures("test"))
    (file,) = data.glob(f"{group.exposure.name.partition('-')[0]}_raw.fits*")
    (image, partner) = (
        chip.image
        for one in read_facts(file, run.recipe.instrument, "cr_split")
        for chip in read_chips(one, run.recipe.instrument)
    )
    model = run.model()
    assert isinstance(model, MaskModel)
    threshold = threshold_of(results.methods[0])
    best = next(one for one in results.methods if one.name == BEST)
    sigclip = threshold_of(best)
    assert isinstance(best.method, BaselineMethod)
    objlims = best.method.parameters[f"objlim at FPR {100 * POINT:g} %"]
    assert isinstance(objlims, dict)
    objlim = objlims[FIELD]
    noise = group.exposure.read_noise_electron
    assert noise is not None
    classical = Lacosmic(objlim, noise).mask(image, sigclip)
    cosmic_rays, ignored = on_the_chip(group, image.shape)
    part = (slice(480, 480 + side), slice(300, 300 + side))
    norm = ImageNormalize(image[part], interval=PercentileInterval(99.0), stretch=AsinhStretch(0.05))
    panels = {
        f"{group.exposure.name}": image[part],
        "its partner": partner[part],
        "label (grey: ignored)": np.where(ignored, 0.6, ~cosmic_rays)[part],
        f"{run.recipe.name}\nat FPR {100 * POINT:g} %": ~(model.logits(image) > threshold)[part],
        f"L.A.Cosmic, best objlim\nat FPR {100 * POINT:g} % (sigclip {sigclip:.1f})": ~classical[part],
    }
    figure = Figure(figsize=(12.5, 3.0), layout="constrained")
    for axes, (heading, panel) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        shown = {"norm": norm} if panel.dtype == np.float32 else {"vmin": 0, "vmax": 1}
        axes.imshow(panel, origin="lower", cmap="gray", interpolation="nearest", **shown)
        axes.set_title(heading, fontsize="small")
        axes.set_axis_off()
    figure.savefig(path, dpi=100)


def on_the_chip(group: ExposureStamps, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """CR mask and ignore mask of the stamps of an exposure, where they lie; ignored where there are none."""
    cosmic_rays, ignored = np.zeros(shape, bool), np.ones(shape, bool)
    layers = group.read("cosmic_rays", "ignore", "position")
    for mask, ignore, (line, column) in zip(*layers.values(), strict=True):
        place = (slice(line, line + len(mask)), slice(column, column + len(mask)))
        cosmic_rays[place], ignored[place] = mask > 0, ignore > 0
    return cosmic_rays, ignored


def main() -> None:
    """Train and judge, and print Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data" / "stis_crsplit")
    parser.add_argument("--observations", nargs="+", default=OBSERVATIONS, help="held out, one at a time")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--results", type=Path, help="folder for the results of each, as JSON")
    parser.add_argument("--picture", type=Path, help="draw a cut-out of the last one there")
    parser.add_argument("--jobs", type=int, default=2, help="processes that label and run L.A.Cosmic")
    options = parser.parse_args()
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    print(f"{datetime.date.today()}, {processor_name()}, Python {platform.python_version()}, {versions}\n\n`{command()}`\n")
    found = []
    print(
        "| held out | stamps for training | epochs | CPU minutes of this process | cosmic rays, % of pixels | ignored, % |"
    )
    print("|---|---|---|---|---|---|")
    for name in options.observations:
        before = time.process_time()
        run, results = held_out(name, options.data, options.runs, options.jobs)
        minutes = (time.process_time() - before) / 60
        pixels = results.data.pixels[FIELD]
        stamps = sum(of_type["train"] for of_type in run.dataset().manifest.counts.values())
        shares = (100 * pixels.cosmic_rays / (pixels.pixels - pixels.ignored), 100 * pixels.ignored / pixels.pixels)
        cells = (name, stamps, len(run.history()), f"{minutes:.1f}", *(f"{share:.2f}" for share in shares))
        print(f"| {' | '.join(map(str, cells))} |", flush=True)
        found.append(results)
        if options.results:
            options.results.mkdir(parents=True, exist_ok=True)
            (options.results / f"{name}.json").write_text(results.model_dump_json(indent=1) + "\n")
    columns = [f"TPR in % at FPR {100 * fpr:g} %, mean ± standard error (each)" for fpr in tprs(found[0], 0)]
    print(f"\n| method | {' | '.join(columns)} |\n|{'---|' * (len(columns) + 1)}")
    names = [run.recipe.name, *(method.name for method in found[0].methods[1:])]
    for index, name in enumerate(names):
        print(row(name, [tprs(results, index) for results in found]))
    if options.picture:
        draw(run, found[-1], options.data, options.picture)


if __name__ == "__main__":
    main()
