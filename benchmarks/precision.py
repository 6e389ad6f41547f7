"""What bfloat16 costs a network: TPR, masks and star cores with `openvino-bf16` beside `openvino`, against the truth.

    python benchmarks/precision.py --models CCD-ANY-3-16 ACS-WFC-2-32 ACS-WFC-F606W-2-32 ACS-WFC-F606W-2-4

Networks for any unit are judged on the cameras of `simulated_cameras.py`, those of ACS/WFC on simulated exposures of this
camera. No recipe trains on these seeds. It runs on processors with AMX.
"""

from __future__ import annotations

import argparse
import datetime
from collections.abc import Iterator

from simulated_cameras import CAMERAS, of_acs, recipe_of
from synthetic_visits import command

from deepcr_zoo.bench.judging import Extent, benchmark
from deepcr_zoo.bench.measures.judgedpixels import field_types_of, judged_stamps, noise_for
from deepcr_zoo.bench.results import FieldResult, MethodResult
from deepcr_zoo.bench.subjects import find_subject
from deepcr_zoo.cli.console import TerminalReporter
from deepcr_zoo.dataset.reading import Dataset
from deepcr_zoo.dataset.trainingsets import find_or_build
from deepcr_zoo.machine import processor_name
from deepcr_zoo.models.model import MaskModel
from deepcr_zoo.zoo.recipe import Recipe
from deepcr_zoo.zoo.records import POOLED

ENGINES = ("openvino", "openvino-bf16")


def judged(name: str, engine: str, dataset: Dataset, recipe: Recipe) -> MethodResult:
    """The figures of a network on one engine."""
    subject = find_subject(name).load("cpu", engine)
    extent = Extent(lacosmic=False, runtime=False, gates=False)
    return benchmark([subject], dataset, recipe, command(), extent=extent, engine=engine).methods[0]


def differing(name: str, dataset: Dataset) -> float:
    """Share of the pixels that count on which the masks of both engines differ, at the default threshold."""
    exact, quick = (find_subject(name).model("cpu", engine) for engine in ENGINES)
    assert isinstance(exact, MaskModel)
    assert isinstance(quick, MaskModel)
    threshold = exact.card.output.threshold
    differ = pixels = 0
    for kind in field_types_of(dataset):
        for stamps in judged_stamps(dataset, kind):
            noise, counts = noise_for(exact, stamps.group), ~stamps.ignore
            exactly, quickly = (one.predict(stamps.image, noise=noise) > threshold for one in (exact, quick))
            differ += int(((exactly != quickly) & counts).sum())
            pixels += int(counts.sum())
    return differ / pixels


def cores(field: FieldResult) -> float:
    """Share of the clean pixels of star cores that is masked at the default threshold."""
    groups = field.diagnostics.star_cores if field.diagnostics else []
    counted = [(one.pixels, one.rates[0]) for one in groups if one.rates[0] is not None]
    return sum(pixels * rate for pixels, rate in counted) / max(sum(pixels for pixels, _ in counted), 1)


def rows(name: str, camera: str, dataset: Dataset, recipe: Recipe) -> Iterator[str]:
    """Lines of the table, one for each field type."""
    exact, quick = (judged(name, engine, dataset, recipe) for engine in ENGINES)
    share = differing(name, dataset)
    for kind, field in exact.fields.items():
        other = quick.fields[kind]
        pairs = zip(field.at_fpr, other.at_fpr, strict=True)
        changes = ["-" if None in (a.tpr, b.tpr) else f"{100 * ((b.tpr or 0) - (a.tpr or 0)):+.2f}" for a, b in pairs]
        on_cores = f"{100 * cores(field):.2f} / {100 * cores(other):.2f}"
        agree = f"{100 * (1 - share):.3f} %" if kind == POOLED else ""
        yield f"| {name} | {camera} | {kind.replace('_', ' ')} | {' / '.join(changes)} | {on_cores} | {agree} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["CCD-ANY-3-16"])
    parser.add_argument("--visits", type=int, default=3, help="of each field type and camera")
    given = parser.parse_args()
    print(f"{datetime.date.today()}, {processor_name()}: {command()}\n")
    acs = of_acs(given.visits)
    fprs = " / ".join(f"{100 * fpr:g}" for fpr in acs.benchmark.fprs)
    print(f"| network | camera | field type | TPR at FPR {fprs} %: change, points | star cores masked, % | masks agree |")
    print("|---" * 6 + "|")
    for name in given.models:
        cameras = {"ACS/WFC F606W": acs}
        if find_subject(name).model("cpu", ENGINES[0]).card.input.normalisation == "noise":
            cameras |= {camera: recipe_of(camera, given.visits) for camera in CAMERAS}
        for camera, recipe in cameras.items():
            dataset = find_or_build(recipe, (), False, 1, None, TerminalReporter())
            for line in rows(name, camera, dataset, recipe):
                print(line, flush=True)


if __name__ == "__main__":
    main()
