"""Time of each engine at every size of image, its first call and later ones, beside the processor's measured peak.

    python benchmarks/engines.py --threads 1 2 --sizes 256 1024 4096

Networks and engines take turns. A first call is that of a new process that has loaded the model: OpenVINO compiles there
what depends on the shape. The peak is the best of several products of two large matrices in float32.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from importlib.metadata import version

from inference import field
from synthetic_visits import command

from deepcr_zoo.machine import processor_name

NETWORKS = ("ACS-WFC-F606W-2-4", "CCD-ANY-3-16", "ACS-WFC-2-32")
ENGINES = ("torch", "openvino")
MATRIX_SIDE = 3000


def operations(name: str) -> int:
    """Floating-point operations of a network for each pixel of the image: two for each product of its convolutions."""
    import torch

    import deepcr_zoo

    network = deepcr_zoo.load(name, "cpu", engine="torch")._engine.network
    side, counted = 64, []

    def count(layer: torch.nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
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


def measure(name: str, engine: str, size: int, threads: int, rounds: int) -> None:
    """Print seconds of loading, of the first call and of later ones as JSON; run in a process of its own."""
    import torch

    import deepcr_zoo

    torch.set_num_threads(threads)
    image = field(size, seed=1)
    deepcr_zoo.load(NETWORKS[0], "cpu", engine="torch")  # what all models need is loaded once
    times = []
    started = time.perf_counter()
    model = deepcr_zoo.load(name, "cpu", engine=engine)
    times.append(time.perf_counter() - started)
    for _ in range(rounds + 1):
        started = time.perf_counter()
        model.mask(image)
        times.append(time.perf_counter() - started)
    print(json.dumps(times))


def measured(options: argparse.Namespace, *what: object) -> list[float]:
    command = [sys.executable, __file__, "--measure", *map(str, what), "--rounds", str(options.rounds)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(what[-1])}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    times: list[float] = json.loads(done.stdout)
    print(*what, [round(one, 3) for one in times], file=sys.stderr)
    return times


def table(options: argparse.Namespace) -> None:
    """Print a Markdown table of all networks, sizes and numbers of threads."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("deepcr-zoo", "torch", "openvino", "numpy"))
    print(f"{datetime.date.today()}, {processor_name()}, Python {platform.python_version()}, {packages}; ", end="")
    peaks = {threads: peak(threads) for threads in options.threads}
    print("peak " + ", ".join(f"{value:.0f} GFLOP/s with {threads} threads" for threads, value in peaks.items()))
    print(f"\n`{command()}`\n")
    columns = ["network (operations a pixel)", "threads", "side"]
    for engine in ENGINES:
        columns += [f"{engine}: loading, first, later s", "% of the peak"]
    columns += ["torch / openvino: first with loading", "later"]
    print(f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|")
    for name in NETWORKS:
        work = operations(name)
        for threads in options.threads:
            for size in options.sizes:
                print(row(options, name, work, threads, size, peaks[threads]), flush=True)


def row(options: argparse.Namespace, name: str, work: int, threads: int, size: int, most: float) -> str:
    cells, first, later = [f"{name} ({work:,})", str(threads), str(size)], [], []
    for engine in ENGINES:
        loading, once, *others = measured(options, name, engine, size, threads)
        first.append(loading + once)
        later.append(statistics.median(others))
        share = work * size**2 / later[-1] / 1e9 / most
        cells += [f"{loading:.2f}, {once:.3f}, {later[-1]:.3f}", f"{100 * share:.0f}"]
    return f"| {' | '.join([*cells, f'{first[0] / first[1]:.2f}', f'{later[0] / later[1]:.2f}'])} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512, 1024, 2048, 4096, 8192], help="sides in pixels")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--measure", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        name, engine, size, threads = options.measure
        measure(name, engine, int(size), int(threads), options.rounds)
    else:
        table(options)


if __name__ == "__main__":
    main()
