"""Time and peak memory of the zoo's networks beside deepCR 0.3.1 and the L.A.Cosmic implementations.

    make benchmark            # or: python benchmarks/inference.py --sizes 1024 2048 4096 --rounds 5 --without lacosmic

All methods take turns in one process on one image, so that a drift of the machine meets them alike; the table shows medians
and ratios. Peak memory is that of a process of its own per method, the interpreter and all imports included.
The peak of the processor is the best of several products of two large matrices in float32.
"""

from __future__ import annotations

import argparse
import datetime
import logging
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from deepcr_zoo.machine import multiplies_bfloat16, processor_name

if TYPE_CHECKING:
    from deepcr_zoo.models.nets import UNet  # torch would count as memory of the other methods

Method = Callable[[np.ndarray], object]
UPSTREAM_BEST = "deepCR 0.3.1, 2-32"
MATRIX_SIDE = 3000


def field(size: int, seed: int) -> np.ndarray:
    """Sky, read noise, stars of 2 px FWHM and straight tracks, in electrons (float32)."""
    rng = np.random.default_rng(seed)
    image = rng.poisson(60.0, (size, size)) + rng.normal(0, 4.0, (size, size))
    rows, columns = np.mgrid[-6:7, -6:7]
    star = np.exp(-(rows**2 + columns**2) / 1.45)
    for flux in 10 ** rng.uniform(1.5, 4, size * size // 4000):
        y, x = rng.integers(6, size - 6, 2)
        image[y - 6 : y + 7, x - 6 : x + 7] += flux * star
    for length in rng.integers(2, 15, size * size // 3000):
        y, x = rng.integers(15, size - 15, 2)
        angle = rng.uniform(0, 2 * np.pi)
        along = np.arange(length)
        image[(y + along * np.sin(angle)).astype(int), (x + along * np.cos(angle)).astype(int)] += 10 ** rng.uniform(2, 3.5)
    return image.astype(np.float32)


def operations(name: str) -> int:
    """Floating-point operations of a network of the zoo for each pixel of the image."""
    import deepcr_zoo
    from deepcr_zoo.models.torchengine import TorchEngine

    engine = deepcr_zoo.load(name, "cpu", engine="torch")._engine
    assert isinstance(engine, TorchEngine)
    return count_operations(engine.network)


def count_operations(network: UNet) -> int:
    """Floating-point operations for each pixel of the image: two for each product of the convolutions."""
    import torch

    side, counted = 64, []

    def count(layer: torch.nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        assert isinstance(layer.weight, torch.Tensor)
        pixels = output if isinstance(layer, torch.nn.Conv2d) else inputs[0]
        counted.append(2 * layer.weight.numel() * pixels.shape[-1] * pixels.shape[-2])

    for layer in network.modules():
        if isinstance(layer, torch.nn.Conv2d | torch.nn.ConvTranspose2d):
            layer.register_forward_hook(count)
    with torch.inference_mode():
        network(torch.zeros(1, network.channels, side, side))
    return sum(counted) // side**2


def peak(threads: int) -> float:
    """GFLOP/s of float32 matrix products, the best of ten."""
    import torch

    torch.set_num_threads(threads)
    one, other = torch.rand(2, MATRIX_SIDE, MATRIX_SIDE)
    times = []
    for _ in range(11):
        started = time.perf_counter()
        one @ other
        times.append(time.perf_counter() - started)
    return 2 * MATRIX_SIDE**3 / min(times) / 1e9


def machine(packages: Sequence[str], peaks: Mapping[int, float]) -> str:
    """Day, machine and versions in a line; `peaks` are in GFLOP/s by the number of threads."""
    found = ", ".join(f"{name} {version(name)}" for name in packages)
    reached = ", ".join(f"{value:.0f} GFLOP/s with {threads} threads" for threads, value in peaks.items())
    return f"{datetime.date.today()}, {processor_name()}, Python {platform.python_version()}, {found}; peak {reached}"


def zoo(name: str, engine: str) -> Method:
    """A mask model of this zoo."""
    from networks import mask_model

    return mask_model(name, engine).mask


def zoo_clean(engine: str) -> Method:
    """A mask model and an inpainting model of this zoo, one after the other."""
    from networks import inpainter, mask_model

    import deepcr_zoo

    painter, finder = inpainter("inpaint/ACS-WFC-F606W-2-32", engine), mask_model("mask/ACS-WFC-F606W-2-32", engine)
    return lambda image: deepcr_zoo.clean(image, finder, painter)


def upstream_2_32() -> Method:
    """DeepCR as shipped, with its own default network and settings."""
    from deepCR import deepCR

    method: Method = deepCR(mask="ACS-WFC", device="CPU").clean
    return method


def upstream_2_4() -> Method:
    """DeepCR's clean with its 2-4 network, which 0.3.1 ships but cannot load by name or by path."""
    import torch
    from deepCR import deepCR
    from deepCR.unet import WrappedModel
    from deepCR.unet_batchnorm import UNet2SigmoidBatchNorm
    from releases import fetch  # beside this script

    from deepcr_zoo.publishing.sdists import read_upstream
    from deepcr_zoo.zoo.cards import read_card
    from deepcr_zoo.zoo.registries import default_registry

    upstream = read_card(default_registry().resolve("ACS-WFC-F606W-2-4")).provenance.upstream
    assert upstream is not None
    cleaner = deepCR(mask="ACS-WFC", device="CPU")
    cleaner.maskNet = WrappedModel(UNet2SigmoidBatchNorm(1, 1, 4))
    cleaner.scale = 100
    with tempfile.TemporaryDirectory() as folder:
        fetch(upstream, Path(folder))
        weights = Path(folder, "net.pth")
        weights.write_bytes(read_upstream(upstream, Path(folder)))
        cleaner.maskNet.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    cleaner.maskNet.eval()
    method: Method = cleaner.clean
    return method


def astroscrappy_default() -> Method:
    """Astroscrappy with its defaults (separable median)."""
    import astroscrappy

    return lambda image: astroscrappy.detect_cosmics(image, gain=1.0, readnoise=4.0)


def astroscrappy_paper() -> Method:
    """Astroscrappy with the settings of Zhang & Bloom 2020."""
    import astroscrappy

    return lambda image: astroscrappy.detect_cosmics(
        image, gain=1.0, readnoise=4.0, sigfrac=0.3, objlim=2.0, niter=4, sepmed=False
    )


def lacosmic() -> Method:
    """The lacosmic package with the thresholds of its documentation."""
    from lacosmic import remove_cosmics

    logging.disable(logging.INFO)  # it reports each iteration
    return lambda image: remove_cosmics(image, 5.0, 5.0, 0.3, effective_gain=1.0, readnoise=4.0)


def dfcosmic() -> Method:
    """The dfcosmic package (L.A.Cosmic in torch) on the CPU, with its defaults but four iterations, as the others."""
    import dfcosmic as package

    return lambda image: package.lacosmic(image, gain=1.0, readnoise=4.0, niter=4, device="cpu")


CPU_ENGINES = ("torch", "openvino", *(["openvino-bf16"] if multiplies_bfloat16() else []))
METHODS: dict[str, Callable[[], Method]] = {
    UPSTREAM_BEST: upstream_2_32,
    **{f"zoo ({engine}), ACS-WFC-2-32": partial(zoo, "ACS-WFC-2-32", engine) for engine in CPU_ENGINES},
    "deepCR 0.3.1, 2-4": upstream_2_4,
    **{f"zoo ({engine}), ACS-WFC-F606W-2-4": partial(zoo, "ACS-WFC-F606W-2-4", engine) for engine in CPU_ENGINES},
    **{f"zoo ({engine}), clean: mask and inpaint ACS-WFC-F606W-2-32": partial(zoo_clean, engine) for engine in CPU_ENGINES},
    "astroscrappy, defaults": astroscrappy_default,
    "astroscrappy, sepmed=False, niter=4": astroscrappy_paper,
    "lacosmic": lacosmic,
    "dfcosmic, CPU": dfcosmic,
}


def seconds(methods: dict[str, Method], image: np.ndarray, rounds: int) -> dict[str, list[float]]:
    """Seconds of each method in each round; the first round, a warm-up, is dropped."""
    times: dict[str, list[float]] = {name: [] for name in methods}
    for round_ in range(rounds + 1):
        for name, method in methods.items():
            start = time.perf_counter()
            method(image)
            if round_:
                times[name].append(time.perf_counter() - start)
            print(f"round {round_}: {name}: {time.perf_counter() - start:.2f} s", file=sys.stderr)
    return times


def peak_memory(name: str, size: int, seed: int) -> str:
    """Peak memory in GB of a process that runs one method once."""
    command = [sys.executable, __file__, "--memory-of", name, "--sizes", str(size), "--seed", str(seed)]
    done = subprocess.run(command, capture_output=True, text=True)
    print(f"memory at {size}: {name}: {done.stdout[-20:].strip() or done.stderr[-300:]}", file=sys.stderr)
    return f"{float(done.stdout.split()[-1]):.2f}" if done.returncode == 0 else "failed"


def run_once_for_memory(name: str, size: int, seed: int) -> None:
    """Print the peak memory of this process in GB after one call."""
    method, image = METHODS[name](), field(size, seed)
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak of making the image
    method(image)
    # the kernel's figure for this program alone: getrusage counts the parent's memory before exec too
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")]
    print(int(line.split()[1]) * 1024 / 1e9)


def operations_of(method: str) -> int | None:
    """Operations for each pixel of a method that is one network of the zoo."""
    name = method.rpartition(" ")[2]
    return operations(name) if method.startswith("zoo") and "clean" not in method else None


def heading(options: argparse.Namespace, size: int, most: float) -> str:
    """What ran, where and when, and the head of the table."""
    packages = ("deepcr-zoo", "deepCR", "torch", "openvino", "numpy", "astroscrappy", "lacosmic", "dfcosmic")
    columns = [
        "method",
        "s, median (min - max)",
        "Mpix/s",
        "times as fast as deepCR 0.3.1, same width",
        "times as fast as astroscrappy, defaults",
        "operations a pixel, % of the peak",
        *(f"peak GB at {size}" for size in options.memory_at),
    ]
    command = " ".join(["python benchmarks/inference.py", *sys.argv[1:]])
    lines = [machine(packages, {options.threads: most}), "", f"`{command}`: {size} x {size}, seed {options.seed}", ""]
    return "\n".join([*lines, f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"])


def row(name: str, times: dict[str, list[float]], options: argparse.Namespace, size: int, most: float) -> str:
    """One line of the table."""

    def times_as_fast_as(other: str) -> str:
        return f"{statistics.median(b / a for a, b in zip(times[name], times[other], strict=True)):.2f}"

    values = times[name]
    median = statistics.median(values)
    work = operations_of(name)
    cells = [
        name,
        f"{median:.2f} ({min(values):.2f} - {max(values):.2f})",
        f"{size**2 / median / 1e6:.2f}",
        times_as_fast_as("deepCR 0.3.1, 2-4" if name.endswith("2-4") else UPSTREAM_BEST),
        times_as_fast_as("astroscrappy, defaults"),
        "-" if work is None else f"{work:,}, {100 * work * size**2 / median / 1e9 / most:.0f} %",
    ]
    for side in options.memory_at:
        # the others take minutes on large images, and only the zoo promises a bound
        cells.append(peak_memory(name, side, options.seed) if side <= size or name.startswith("zoo") else "-")
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Run the benchmark and print a Markdown table for each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1024, 2048, 4096], help="sides of the images in pixels")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--without", nargs="*", default=[], metavar="WORD", help="leave out methods whose names begin so")
    parser.add_argument("--memory-at", type=int, nargs="*", default=[], help="sides for columns of peak memory")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", str(options.threads))
    if options.memory_of:
        run_once_for_memory(options.memory_of, options.sizes[0], options.seed)
        return
    import torch

    torch.set_num_threads(options.threads)
    most = peak(options.threads)
    methods = {name: make() for name, make in METHODS.items() if not name.startswith(tuple(options.without))}
    for size in options.sizes:
        times = seconds(methods, field(size, options.seed), options.rounds)
        print(heading(options, size, most))
        for name in times:
            print(row(name, times, options, size, most), flush=True)
        print(flush=True)


if __name__ == "__main__":
    main()
