"""What bfloat16 and int8 cost a network: TPR, masks and star cores beside float32, against the truth.

    python benchmarks/precision.py --models CCD-ANY-3-16 ACS-WFC-2-32 ACS-WFC-F606W-2-32 ACS-WFC-F606W-2-4
    python benchmarks/precision.py --precision int8 --models CCD-ANY-3-16 ACS-WFC-2-32

Networks for any unit are judged on the cameras of `simulated_cameras.py`, those of ACS/WFC on simulated exposures of this
camera. No recipe trains on these seeds. Bfloat16 needs a processor with AMX. For int8, which no engine of the package has,
OpenVINO's NNCF chooses the scales on an exposure of each field type of the camera, of further seeds.
"""

from __future__ import annotations

import argparse
import datetime
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
import openvino
from networks import mask_model
from simulated_cameras import CAMERAS, SEED, of_acs, recipe_of
from synthetic_visits import command

from deepcr_zoo.bench.judging import Extent, benchmark
from deepcr_zoo.bench.measures.judgedpixels import field_types_of, judged_stamps, noise_for
from deepcr_zoo.bench.results import FieldResult, MethodResult
from deepcr_zoo.bench.subjects import find_subject
from deepcr_zoo.cli.console import TerminalReporter
from deepcr_zoo.dataset.reading import Dataset
from deepcr_zoo.dataset.trainingsets import find_or_build
from deepcr_zoo.machine import processor_name
from deepcr_zoo.models.engines import Block, OpenVinoEngine
from deepcr_zoo.models.graphs import graph
from deepcr_zoo.models.model import MaskModel
from deepcr_zoo.zoo.recipe import Recipe
from deepcr_zoo.zoo.records import POOLED

PRECISIONS = ("bfloat16", "int8")
TO_CALIBRATE = 50_000
"""Added to the seeds of the exposures that int8 is calibrated on."""


class Recorder(OpenVinoEngine):
    """Keeps what the network is given."""

    def run(self, blocks: Iterable[Block]) -> Iterator[Block]:
        self.seen: list[Block] = []
        for block in blocks:
            self.seen.append(np.ascontiguousarray(block[None]))
            yield from super().run([block])


class Int8Engine(OpenVinoEngine):
    """The network with weights and activations of 8 bits."""

    name = "openvino-int8"

    def __init__(self, exact: OpenVinoEngine, examples: list[Block]) -> None:
        import nncf

        super().__init__(exact.network, exact.device)
        mixed = nncf.QuantizationPreset.MIXED  # activations after ReLU, and those with a sign
        quantised = nncf.quantize(graph(exact.network), nncf.Dataset(examples), subset_size=len(examples), preset=mixed)
        self._compiled = openvino.Core().compile_model(quantised, "CPU", {"NUM_STREAMS": 1})


def dataset_of(recipe: Recipe) -> Dataset:
    return find_or_build(recipe, (), False, 1, None, TerminalReporter())


def with_engine(model: MaskModel, engine: OpenVinoEngine) -> MaskModel:
    return MaskModel(model.reference, model.sha256, model.card, engine, model.sky_range)


def quantised(exact: MaskModel, recipe: Recipe) -> MaskModel:
    """The network in int8, calibrated on the test stamps of a recipe."""
    dataset, examples = dataset_of(recipe), []
    network = exact._engine.network  # type: ignore[attr-defined]
    for kind in field_types_of(dataset):
        for stamps in judged_stamps(dataset, kind):
            recorder = Recorder(network)
            with_engine(exact, recorder).predict(stamps.image, noise=noise_for(exact, stamps.group))
            examples += recorder.seen
    return with_engine(exact, Int8Engine(exact._engine, examples))  # type: ignore[arg-type]


def judged(model: MaskModel, dataset: Dataset, recipe: Recipe) -> MethodResult:
    """The figures of a network on its engine."""
    subject = replace(find_subject(model.reference), loaded=model)
    extent = Extent(lacosmic=False, runtime=False, gates=False)
    return benchmark([subject], dataset, recipe, command(), extent=extent, device="cpu", engine=model.engine).methods[0]


def differing(exact: MaskModel, quick: MaskModel, dataset: Dataset) -> tuple[float, float]:
    """Share of the pixels that count on which two masks differ, at the default threshold; how many times as fast it is."""
    differ = pixels = 0
    seconds = [0.0, 0.0]
    for kind in field_types_of(dataset):
        for stamps in judged_stamps(dataset, kind):
            noise, counts = noise_for(exact, stamps.group), ~stamps.ignore
            masks = []
            for number, model in enumerate((exact, quick)):
                started = time.perf_counter()
                masks.append(model.predict(stamps.image, noise=noise) > model.threshold)
                seconds[number] += time.perf_counter() - started
            differ += int(((masks[0] != masks[1]) & counts).sum())
            pixels += int(counts.sum())
    return differ / pixels, seconds[0] / seconds[1]


def cores(field: FieldResult) -> float:
    """Share of the clean pixels of star cores that is masked at the default threshold."""
    groups = field.diagnostics.star_cores if field.diagnostics else []
    counted = [(one.pixels, one.rates[0]) for one in groups if one.rates[0] is not None]
    return sum(pixels * rate for pixels, rate in counted) / max(sum(pixels for pixels, _ in counted), 1)


def rows(exact: MaskModel, quick: MaskModel, camera: str, recipe: Recipe) -> Iterator[str]:
    """Lines of the table, one for each field type."""
    dataset = dataset_of(recipe)
    one, other = (judged(model, dataset, recipe) for model in (exact, quick))
    share, times = differing(exact, quick, dataset)
    for kind, field in one.fields.items():
        pairs = zip(field.at_fpr, other.fields[kind].at_fpr, strict=True)
        changes = ["-" if None in (a.tpr, b.tpr) else f"{100 * ((b.tpr or 0) - (a.tpr or 0)):+.2f}" for a, b in pairs]
        on_cores = f"{100 * cores(field):.2f} / {100 * cores(other.fields[kind]):.2f}"
        agree = f"{100 * (1 - share):.3f} % | {times:.2f}" if kind == POOLED else " | "
        name = exact.reference.partition("/")[2]
        yield f"| {name} | {camera} | {kind.replace('_', ' ')} | {' / '.join(changes)} | {on_cores} | {agree} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["CCD-ANY-3-16"])
    parser.add_argument("--visits", type=int, default=3, help="of each field type and camera")
    parser.add_argument("--precision", choices=PRECISIONS, default=PRECISIONS[0])
    given = parser.parse_args()
    print(f"{datetime.date.today()}, {processor_name()}: {command()}\n")
    fprs = " / ".join(f"{100 * fpr:g}" for fpr in of_acs(1).benchmark.fprs)
    columns = ["network", "camera", "field type", f"TPR at FPR {fprs} %: change, points", "star cores masked, %"]
    print(f"| {' | '.join([*columns, 'masks agree', 'times as fast'])} |")
    print("|---" * 7 + "|")
    for name in given.models:
        exact = mask_model(name, "openvino")
        for camera in ["ACS/WFC F606W", *(CAMERAS if exact.card.input.by_noise else ())]:
            judging, calibrating = (
                recipe_of(camera, visits, seed) if camera in CAMERAS else of_acs(visits, seed)
                for visits, seed in ((given.visits, SEED), (1, SEED + TO_CALIBRATE))
            )
            quick = mask_model(name, "openvino-bf16") if given.precision == "bfloat16" else quantised(exact, calibrating)
            for line in rows(exact, quick, camera, judging):
                print(line, flush=True)


if __name__ == "__main__":
    main()
