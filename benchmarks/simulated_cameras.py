"""Mask networks and L.A.Cosmic against the truth of simulated exposures of cameras: three on the ground, slits, and ACS/WFC.

The cameras are typical ones that do not exist; ACS/WFC is that of its recipe. No recipe trains on these seeds.
L.A.Cosmic has the best of a grid of sigclip and objlim in each field type, chosen on these very pixels.

    python benchmarks/simulated_cameras.py --models CCD-ANY-2-32 ACS-WFC-2-32 --jobs 2
"""

from __future__ import annotations

import argparse
import datetime
from collections.abc import Iterator

from synthetic_visits import command

from deepcr_zoo.bench.judging import Extent, benchmark
from deepcr_zoo.bench.maskbenchmark import BEST, PAPER
from deepcr_zoo.bench.report.wording import number_with_interval, percent_with_interval
from deepcr_zoo.bench.results import BenchmarkResults
from deepcr_zoo.bench.subjects import find_subject
from deepcr_zoo.cli.console import TerminalReporter
from deepcr_zoo.dataset.trainingsets import find_or_build
from deepcr_zoo.machine import processor_name
from deepcr_zoo.zoo.cameraspace import CameraSpace
from deepcr_zoo.zoo.recipe import FieldType, Recipe, SimulatedData, SimulatedVisitCount
from deepcr_zoo.zoo.recipefiles import find_recipe, read_recipe
from deepcr_zoo.zoo.records import POOLED

SEED = 700_000
"""Of the first visit of a camera."""

IMAGES: list[FieldType] = ["extragalactic", "globular_cluster", "resolved_galaxy"]
GROUND = {"in_orbit": 0.0, "overscanned": 0.0, "cosmic_rays_per_megapixel": [100.0, 1000.0]}
CAMERAS: dict[str, tuple[list[FieldType], dict[str, object]]] = {
    "1 m telescope, thin CCD": (
        IMAGES,
        {"pixel_scale_arcsec": [0.39, 0.39], "fwhm_pixels": [3.0, 6.0], "pixel_size_um": [15, 15], "silicon_um": [15, 20],
         "read_noise_electron": [8, 8], "gain_electron_per_count": [1.8, 1.8], "sky_electron": [50, 2000]},
    ),
    "4 m telescope, deep depletion": (
        IMAGES,
        {"pixel_scale_arcsec": [0.26, 0.26], "fwhm_pixels": [2.7, 5.0], "pixel_size_um": [15, 15], "silicon_um": [250, 250],
         "read_noise_electron": [7, 7], "gain_electron_per_count": [4, 4], "sky_electron": [500, 5000]},
    ),
    "wide field, undersampled": (
        IMAGES,
        {"pixel_scale_arcsec": [3, 3], "fwhm_pixels": [1.3, 2.0], "pixel_size_um": [9, 9], "silicon_um": [10, 15],
         "read_noise_electron": [3, 3], "gain_electron_per_count": [1, 1], "sky_electron": [50, 1000]},
    ),
    "spectrograph, long slit": (
        ["spectrum"],
        {"pixel_scale_arcsec": [0.3, 0.3], "fwhm_pixels": [2.5, 5.0], "pixel_size_um": [15, 15], "silicon_um": [20, 60],
         "read_noise_electron": [4, 4], "gain_electron_per_count": [1.2, 1.2], "sky_electron": [5, 300], "echelle": 0.0},
    ),
}  # fmt: skip


def recipe_of(camera: str, visits: int, seed: int = SEED) -> Recipe:
    """The recipe of exposures of a camera, all of them for judging."""
    recipe = read_recipe(find_recipe("ccd-any"))
    kinds, facts = CAMERAS[camera]
    each = SimulatedVisitCount(test=visits * len(IMAGES) // len(kinds))
    simulated = SimulatedData(
        visits=dict.fromkeys(kinds, each),
        side=544,
        seed=seed + 1000 * list(CAMERAS).index(camera),
        cameras=CameraSpace.model_validate(GROUND | facts),
    )
    return recipe.model_copy(update={"data": recipe.data.model_copy(update={"simulated": simulated})})


def of_acs(visits: int, seed: int = SEED) -> Recipe:
    """The recipe of ACS/WFC exposures, with the field types of its recipe's truth."""
    recipe = read_recipe(find_recipe("acs-wfc-f606w"), ["benchmark.fprs=[0.0001,0.0005,0.001,0.005]"])
    assert recipe.benchmark.truth is not None
    each = {kind: SimulatedVisitCount(test=visits) for kind in recipe.benchmark.truth.visits}
    truth = recipe.benchmark.truth.model_copy(update={"visits": each, "seed": seed + 100_000})
    of_truth = recipe.model_copy(update={"benchmark": recipe.benchmark.model_copy(update={"truth": truth})}).of_truth
    assert of_truth is not None
    return of_truth


def table(camera: str, results: BenchmarkResults) -> Iterator[str]:
    """The TPRs of all methods, and the differences to the first one, at each FPR."""
    pixels = results.data.pixels[POOLED]
    fprs = [rate.fpr for rate in results.methods[0].fields[POOLED].at_fpr]
    yield f"\n{camera}: {pixels.exposures} exposures, {pixels.cosmic_rays:,} pixels of cosmic rays\n"
    yield "| method | field type | " + " | ".join(f"TPR at FPR {100 * fpr:g} %" for fpr in fprs) + " |"
    yield "|---" * (len(fprs) + 2) + "|"
    for kind in results.data.pixels:
        for one in results.methods:
            if one.name != PAPER:
                cells = [percent_with_interval(rate.tpr, rate.tpr_interval) for rate in one.fields[kind].at_fpr]
                yield f"| {one.name} | {kind.replace('_', ' ')} | " + " | ".join(cells) + " |"
    first = results.methods[0].name
    yield f"\n{first} less another method, points:\n"
    for pair in results.comparisons:
        if (pair.method, pair.field_type) == (first, POOLED) and pair.against != PAPER and pair.value is not None:
            shown = number_with_interval(100 * pair.value, pair.interval and pair.interval.model_copy(
                update={"low": 100 * pair.interval.low, "high": 100 * pair.interval.high}))  # fmt: skip
            yield f"- {pair.against} at {100 * (pair.fpr or 0):g} %: {shown}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["ACS-WFC-2-32"], help="the first is compared with the others")
    parser.add_argument("--visits", type=int, default=6, help="of each field type and camera")
    parser.add_argument("--acs-visits", type=int, default=3, help="of each field type")
    parser.add_argument("--jobs", type=int, default=1)
    given = parser.parse_args()
    subjects, reporter = [find_subject(one) for one in given.models], TerminalReporter()
    print(f"{datetime.date.today()}, {processor_name()}: {command()}; L.A.Cosmic: {BEST}")
    recipes = {camera: recipe_of(camera, given.visits) for camera in CAMERAS}
    for camera, recipe in {**recipes, "ACS/WFC F606W": of_acs(given.acs_visits)}.items():
        dataset = find_or_build(recipe, (), False, given.jobs, None, reporter)
        extent = Extent(against=subjects[1:], runtime=False, gates=False)
        results = benchmark(subjects[:1], dataset, recipe, command(), extent=extent, jobs=given.jobs, reporter=reporter)
        for line in table(camera, results):
            print(line, flush=True)


if __name__ == "__main__":
    main()
