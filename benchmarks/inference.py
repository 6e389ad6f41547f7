"""Time and peak memory of the zoo's networks beside deepCR 0.3.1 and the L.A.Cosmic implementations.

    make benchmark            # or: python benchmarks/inference.py --size 2048 --rounds 5

All methods take turns in one process on one image, so that a drift of the machine meets them alike; the table shows medians
and ratios. Peak memory is that of a process of its own per method, the interpreter and all imports included.
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
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np

from deepcr_zoo.machine import processor_name

Method = Callable[[np.ndarray], object]
UPSTREAM_BEST = "deepCR 0.3.1, 2-32"


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


def zoo(name: str, engine: str) -> Method:
    """A mask model of this zoo."""
    import deepcr_zoo

    return deepcr_zoo.load(name, device="cpu", engine=engine).mask


def zoo_clean(engine: str) -> Method:
    """A mask model and an inpainting model of this zoo, one after the other."""
    import deepcr_zoo

    painter = deepcr_zoo.load("inpaint/ACS-WFC-F606W-2-32", device="cpu", engine=engine)
    finder = deepcr_zoo.load("mask/ACS-WFC-F606W-2-32", device="cpu", engine=engine)
    return lambda image: deepcr_zoo.clean(image, finder, painter)


def upstream_2_32() -> Method:
    """DeepCR as shipped, with its own default network and settings."""
    from deepCR import deepCR

    return deepCR(mask="ACS-WFC", device="CPU").clean


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
    return cleaner.clean


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


METHODS: dict[str, Callable[[], Method]] = {
    UPSTREAM_BEST: upstream_2_32,
    "zoo (torch), ACS-WFC-2-32": lambda: zoo("ACS-WFC-2-32", "torch"),
    "zoo (openvino), ACS-WFC-2-32": lambda: zoo("ACS-WFC-2-32", "openvino"),
    "deepCR 0.3.1, 2-4": upstream_2_4,
    "zoo (torch), ACS-WFC-F606W-2-4": lambda: zoo("ACS-WFC-F606W-2-4", "torch"),
    "zoo (openvino), ACS-WFC-F606W-2-4": lambda: zoo("ACS-WFC-F606W-2-4", "openvino"),
    "zoo (torch), clean: mask and inpaint ACS-WFC-F606W-2-32": lambda: zoo_clean("torch"),
    "zoo (openvino), clean: mask and inpaint ACS-WFC-F606W-2-32": lambda: zoo_clean("openvino"),
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
    command = [sys.executable, __file__, "--memory-of", name, "--size", str(size), "--seed", str(seed)]
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


def heading(options: argparse.Namespace) -> str:
    """What ran, where and when, and the head of the table."""
    packages = ("deepcr-zoo", "deepCR", "torch", "openvino", "numpy", "astroscrappy", "lacosmic", "dfcosmic")
    columns = [
        "method",
        "s, median (min - max)",
        "Mpix/s",
        "times as fast as deepCR 0.3.1, same width",
        "times as fast as astroscrappy, defaults",
        *(f"peak GB at {size}" for size in options.memory_at),
    ]
    command = " ".join(["python benchmarks/inference.py", *sys.argv[1:]])
    return "\n".join(
        [
            f"{datetime.date.today()}, {processor_name()}, {options.threads} threads, Python {platform.python_version()}, "
            + ", ".join(f"{name} {version(name)}" for name in packages),
            "",
            f"`{command}`: {options.size} x {options.size}, seed {options.seed}",
            "",
            f"| {' | '.join(columns)} |",
            "|---" * len(columns) + "|",
        ]
    )


def row(name: str, times: dict[str, list[float]], options: argparse.Namespace) -> str:
    """One line of the table."""

    def times_as_fast_as(other: str) -> str:
        return f"{statistics.median(b / a for a, b in zip(times[name], times[other], strict=True)):.2f}"

    values = times[name]
    median = statistics.median(values)
    cells = [
        name,
        f"{median:.2f} ({min(values):.2f} - {max(values):.2f})",
        f"{options.size**2 / median / 1e6:.2f}",
        times_as_fast_as("deepCR 0.3.1, 2-4" if name.endswith("2-4") else UPSTREAM_BEST),
        times_as_fast_as("astroscrappy, defaults"),
    ]
    for size in options.memory_at:
        # the others take minutes on large images, and only the zoo promises a bound
        cells.append(peak_memory(name, size, options.seed) if size <= options.size or name.startswith("zoo") else "-")
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Run the benchmark and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=2048, help="side of the image in pixels")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--memory-at", type=int, nargs="*", default=[2048, 8192], help="sides for the columns of peak memory"
    )
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", str(options.threads))
    if options.memory_of:
        run_once_for_memory(options.memory_of, options.size, options.seed)
        return
    import torch

    torch.set_num_threads(options.threads)
    image = field(options.size, options.seed)
    times = seconds({name: make() for name, make in METHODS.items()}, image, options.rounds)
    print(heading(options))
    for name in times:
        print(row(name, times, options), flush=True)


if __name__ == "__main__":
    main()
