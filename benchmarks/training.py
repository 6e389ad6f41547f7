"""Throughput of training: the trainer of this project beside a plain loop over deepCR 0.3.1's network and dataset classes.

    make benchmark            # or: python benchmarks/training.py --steps 4 --repeats 3

Both learn the same stamps, each in a process of its own, and take turns step by step, so that a drift of the machine meets
them alike; the table shows medians and ratios. A step is all that a batch needs, from stamps to new weights; the first of
each phase, a warm-up, is dropped.

A second table says what a step of ours is made of, and how near it comes to the peak of the processor in matrix products of
float32: the gradients of a convolution, by its input and by its weights, take as many operations as the convolution itself.
"""

from __future__ import annotations

import argparse
import datetime
import multiprocessing
import platform
import statistics
import sys
import time
import types
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec, module_from_spec
from multiprocessing.connection import Connection
from types import SimpleNamespace
from typing import cast

import numpy as np
import torch
from inference import count_operations, peak
from numpy.typing import NDArray

from deepcr_zoo.bench.runs import EpochRecord
from deepcr_zoo.dataset.reading import ExposureStamps
from deepcr_zoo.machine import keep_freed_memory, multiplies_bfloat16, processor_name
from deepcr_zoo.training.loop import batch_loss, fit
from deepcr_zoo.training.objectives import Feed
from deepcr_zoo.training.stamps import ResidentStamps
from deepcr_zoo.training.state import initial_state
from deepcr_zoo.zoo.recipe import Recipe
from deepcr_zoo.zoo.recipefiles import find_recipe, read_recipe

RECIPE = "acs-wfc-f606w"
PAPER_STAMPS = 6552
"""Stamps of 256 x 256 in an epoch of Zhang & Bloom 2020."""

UPSTREAM = "deepCR 0.3.1"
Pair = tuple[float, float]
Times = dict[bool, list[Pair]]
OnStep = Callable[[float], None]

PHASES = {False: "phase 1: BatchNorm trains", True: "phase 2: BatchNorm is frozen"}


@dataclass(frozen=True)
class Case:
    """What is timed.

    Attributes
    ----------
    hidden : int
        Channels of the network at full resolution; it has two resolutions.
    side : int
        Of a stamp, pixels.
    """

    hidden: int
    side: int

    @classmethod
    def parse(cls, text: str) -> Case:
        """From HIDDEN:SIDE."""
        hidden, side = text.split(":")
        return cls(int(hidden), int(side))

    def __str__(self) -> str:
        return f"2-{self.hidden}, {self.side} x {self.side}"


@dataclass(frozen=True)
class Exposure:
    """Stamps of one sky level; what `ResidentStamps` asks of the exposures of a training set.

    Attributes
    ----------
    image : ndarray of float32, shape (N, S, S)
        e-.
    cosmic_rays, ignore : ndarray of uint8, shape (N, S, S)
    sky : float
        e-.
    """

    image: NDArray[np.float32]
    cosmic_rays: NDArray[np.uint8]
    ignore: NDArray[np.uint8]
    sky: float

    @property
    def indices(self) -> range:
        """Numbers of the stamps."""
        return range(len(self.image))

    @property
    def exposure(self) -> SimpleNamespace:
        """What is known of it."""
        return SimpleNamespace(sky_electron=self.sky)

    def read(self, *names: str) -> dict[str, NDArray[np.generic]]:
        """Layers by name."""
        return {name: getattr(self, name) for name in names}


def noise(stamps: int, side: int, seed: int) -> Exposure:
    """Sky, read noise, and single pixels that are cosmic rays (3 %) or ignored (1 %): what they show costs no time."""
    rng, sky, shape = np.random.default_rng(seed), 60.0, (stamps, side, side)
    cosmic_rays, ignore = rng.random(shape) < 0.03, rng.random(shape) < 0.01
    image = rng.poisson(sky, shape) + rng.normal(0, 4, shape) + cosmic_rays * rng.uniform(100, 3000, shape)
    return Exposure(image.astype(np.float32), cosmic_rays.astype(np.uint8), ignore.astype(np.uint8), sky)


def resident(exposures: Sequence[Exposure], device: torch.device) -> ResidentStamps:
    """Their stamps on the device."""
    return ResidentStamps(cast("Sequence[ExposureStamps]", exposures), device)


def recipe_of(case: Case, batch: int, epochs: int, frozen_after: int, seed: int) -> Recipe:
    """The shipped recipe, with its learning rate and sky augmentation, for so few epochs."""
    schedule = {"batch_size": batch, "max_epochs": epochs, "freeze_after_epochs": frozen_after}
    settings = [f"train.schedule.{field}={value}" for field, value in schedule.items()]
    return read_recipe(find_recipe(RECIPE), [*settings, f"train.architecture.hidden={case.hidden}", f"train.seed={seed}"])


def upstream_module(name: str) -> types.ModuleType:
    """A module of deepCR without the package's own imports: its trainer needs tensorboard, the loop does not."""
    if "deepCR" not in sys.modules:
        found = find_spec("deepCR")
        assert found is not None, "pip install -r benchmarks/requirements.txt"
        sys.modules["deepCR"] = module_from_spec(found)
    return import_module(f"deepCR.{name}")


def train_upstream(recipe: Recipe, stamps: Exposure, on_step: OnStep) -> None:
    """A plain loop over deepCR 0.3.1's network and dataset classes, with the steps of its own trainer.

    The loader has no processes of its own, which would work while the other method is timed.
    """
    dataset, unet = upstream_module("dataset"), upstream_module("unet")
    train, size = recipe.train, stamps.image.shape[-1]
    sky = np.full(len(stamps.image), stamps.sky, np.float32)
    torch.manual_seed(train.seed)
    source = dataset.dataset(
        stamps.image, stamps.cosmic_rays, stamps.ignore, sky, aug_sky=train.augmentation.sky, seed=train.seed
    )
    loader = torch.utils.data.DataLoader(source, batch_size=train.schedule.batch_size, shuffle=True)
    network = unet.WrappedModel(unet.UNet2Sigmoid(1, 1, train.architecture.hidden)).train()
    optimiser = torch.optim.Adam(network.parameters(), lr=train.schedule.learning_rate)
    entropy = torch.nn.BCELoss()
    for _ in range(train.schedule.max_epochs):
        for image, *masks in loader:
            normalised = ((image - image.mean()) / image.std()).float().view(-1, 1, size, size)
            mask, ignore = (layer.float().view(-1, 1, size, size) for layer in masks)
            output = network(normalised)
            optimiser.zero_grad()
            loss = entropy(output * (1 - ignore), mask * (1 - ignore))
            loss.backward()
            optimiser.step()
            on_step(loss.item())


def train_ours(recipe: Recipe, stamps: Exposure, on_step: OnStep) -> None:
    """The trainer of this project; validation, of one stamp, falls into the warm-up."""
    device = torch.device("cpu")
    train, validation = (resident([group], device) for group in (stamps, noise(1, stamps.image.shape[-1], seed=0)))
    keep_freed_memory()  # as the pipeline does
    fit(
        initial_state(recipe, device), Feed(recipe, train), Feed(recipe, validation), on_step=lambda step: on_step(step.loss)
    )


METHODS: dict[str, Callable[[Recipe, Exposure, OnStep], None]] = {UPSTREAM: train_upstream, "ours": train_ours}


def work(turns: Connection, method: str, case: Case, options: argparse.Namespace, seed: int) -> None:
    """Do the next step whenever a message asks for it, and answer with its seconds."""
    torch.set_num_threads(options.threads)
    recipe = recipe_of(case, options.batch, epochs=2, frozen_after=1, seed=seed)
    stamps = noise((options.steps + 1) * options.batch, case.side, seed)
    turns.recv()
    started = time.perf_counter()

    def on_step(loss: float) -> None:
        nonlocal started
        seconds = time.perf_counter() - started
        print(f"{case}, {method}: {seconds:.2f} s, loss {loss:.3f}", file=sys.stderr)
        turns.send(seconds)
        turns.recv()
        started = time.perf_counter()

    METHODS[method](recipe, stamps, on_step)


def step_of_each(turns: list[Connection]) -> Pair:
    """Seconds of the next steps, one after the other."""
    seconds = []
    for turn in turns:
        turn.send(None)
        seconds.append(turn.recv())
    theirs, ours = seconds
    return theirs, ours


def compare(case: Case, options: argparse.Namespace, seed: int) -> Times:
    """Seconds of steps that followed each other, of deepCR 0.3.1 and of ours, by whether BatchNorm was frozen."""
    context = multiprocessing.get_context("spawn")
    turns, processes = [], []
    for method in METHODS:
        here, there = context.Pipe()
        processes.append(context.Process(target=work, args=(there, method, case, options, seed), daemon=True))
        processes[-1].start()
        there.close()  # so that the end of the process ends the wait for its answer
        turns.append(here)
    times = {frozen: [step_of_each(turns) for _ in range(options.steps + 1)][1:] for frozen in PHASES}
    for turn, process in zip(turns, processes, strict=True):
        turn.send(None)
        process.join()
    return times


def parts_of_a_step(case: Case, options: argparse.Namespace, mixed: bool) -> NDArray[np.float64]:
    """Seconds of the parts of steps while BatchNorm trains: examples, forward, backward, new weights; shape (steps, 4)."""
    recipe, device = recipe_of(case, options.batch, epochs=2, frozen_after=1, seed=options.seed), torch.device("cpu")
    feed = Feed(recipe, resident([noise(options.batch, case.side, options.seed)], device))
    state, seconds = initial_state(recipe, device), []
    for _ in range(options.repeats * options.steps + 1):
        ends = [time.perf_counter()]
        examples = feed.examples(torch.arange(options.batch), epoch=1)
        ends.append(time.perf_counter())
        loss = batch_loss(state, state.network, examples, mixed)
        ends.append(time.perf_counter())
        state.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        ends.append(time.perf_counter())
        state.optimiser.step()
        ends.append(time.perf_counter())
        seconds.append(np.diff(ends))
    return np.array(seconds[1:])


def print_parts(options: argparse.Namespace) -> None:
    """The table of the parts of our steps."""
    most = peak(options.threads)
    keep_freed_memory()
    print(f"\nThe peak is {most:.0f} GFLOP/s.")
    columns = ["precision", "examples", "forward", "backward", "new weights", "ms a stamp", "GFLOP/s, % of the peak"]
    print(heading(["network, stamps", *(f"{one}, ms" if one in columns[1:5] else one for one in columns)]))
    for case in options.cases:
        network = initial_state(recipe_of(case, options.batch, 2, 1, options.seed), torch.device("cpu")).network
        operations = 3 * count_operations(network)
        for mixed in (False, True) if multiplies_bfloat16() else (False,):
            seconds = parts_of_a_step(case, options, mixed)
            done = operations * case.side**2 * options.batch / np.median(seconds.sum(axis=1)) / 1e9
            medians = " | ".join(f"{1000 * value:.1f}" for value in np.median(seconds, axis=0))
            each = 1000 * np.median(seconds.sum(axis=1)) / options.batch
            precision = "bfloat16" if mixed else "float32"
            print(f"| {case} | {precision} | {medians} | {each:.1f} | {done:.0f}, {100 * done / most:.0f} |", flush=True)


def epochs_of_the_paper(case: Case, device: torch.device, stamps: int, batch: int, seed: int) -> list[EpochRecord]:
    """Our epochs of so many stamps, without the first of each phase; the same thirteenth of them is repeated."""
    recipe = recipe_of(case, batch, epochs=8, frozen_after=4, seed=seed)
    train = resident([noise(stamps // 13, case.side, seed)] * 13, device)
    training = initial_state(recipe, device)
    fit(training, Feed(recipe, train), Feed(recipe, resident([noise(batch, case.side, seed)], device)))
    return [record for record in training.progress.history if record.epoch not in (1, 5)]


def spread(values: list[float]) -> str:
    """Median and range."""
    return f"{statistics.median(values):.2f} ({min(values):.2f} - {max(values):.2f})"


def rows(case: Case, times: Times, batch: int) -> Iterator[str]:
    """Lines of the table: both phases, and the recipe's schedule of both."""
    ratios = {}
    for frozen, pairs in times.items():
        theirs, ours = (list(values) for values in zip(*pairs, strict=True))
        faster = [a / b for a, b in pairs]
        ratios[frozen] = statistics.median(faster)
        rate = batch / statistics.median(ours)
        yield f"| {case} | {PHASES[frozen]} | {spread(theirs)} | {spread(ours)} | {rate:.1f} | {spread(faster)} |"
    schedule = read_recipe(find_recipe(RECIPE)).train.schedule
    first, epochs = schedule.freeze_after_epochs, schedule.max_epochs
    mean = statistics.harmonic_mean([ratios[False], ratios[True]], weights=[first, epochs - first])
    yield f"| {case} | the recipe: {first} of {epochs} epochs in phase 1 | - | - | - | **{mean:.2f}** |"


def heading(columns: list[str]) -> str:
    """The head of a table."""
    return f"\n| {' | '.join(columns)} |\n" + "|---" * len(columns) + "|"


def print_gpu(options: argparse.Namespace) -> None:
    """The table of ours on a GPU, at the size of the paper's training set. Not yet tried on one."""
    case, device = options.cases[0], torch.device("cuda")
    print(f"\n{torch.cuda.get_device_name(device)}: {PAPER_STAMPS} stamps an epoch, without validation")
    print(heading(["network, stamps", "phase", "precision", "stamps/s, median (min - max)", "s an epoch"]))
    records = epochs_of_the_paper(case, device, PAPER_STAMPS, options.batch, options.seed)
    for frozen, name in PHASES.items():
        phase = [record for record in records if record.frozen == frozen]
        rate, seconds = spread([one.stamps_per_second for one in phase]), spread([one.seconds for one in phase])
        print(f"| {case} | {name} | {phase[-1].precision} | {rate} | {seconds} |")


def main() -> None:
    """Run the benchmark and print Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cases = [Case(32, 256), Case(4, 128)]
    parser.add_argument(
        "--cases", type=Case.parse, nargs="+", default=cases, help="HIDDEN:SIDE, channels and side of stamps"
    )
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=4, help="steps of each phase, besides the warm-up")
    parser.add_argument("--repeats", type=int, default=3, help="times that both start anew")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    packages = ", ".join(f"{name} {version(name)}" for name in ("deepcr-zoo", "deepCR", "torch", "numpy"))
    where = f"{processor_name()}, {options.threads} threads, Python {platform.python_version()}"
    print(f"{datetime.date.today()}, {where}, {packages}\n")
    print(f"`{' '.join(['python benchmarks/training.py', *sys.argv[1:]])}`: batches of {options.batch}, seed {options.seed}")
    seconds = [f"{method}, s a batch, median (min - max)" for method in METHODS]
    print(heading(["network, stamps", "phase", *seconds, "ours, stamps/s", "times as fast"]), flush=True)
    for case in options.cases:
        times: Times = {False: [], True: []}
        for repeat in range(options.repeats):
            for frozen, pairs in compare(case, options, options.seed + repeat).items():
                times[frozen] += pairs
        for row in rows(case, times, options.batch):
            print(row, flush=True)
    print_parts(options)
    if torch.cuda.is_available():
        print_gpu(options)


if __name__ == "__main__":
    main()
