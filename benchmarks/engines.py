"""Time of each engine at every size of image, its first call and later ones, beside the processor's measured peak.

    python benchmarks/engines.py --threads 1 2 --sizes 256 1024 4096

Networks and engines take turns. A first call is that of a new process that has loaded the model: OpenVINO compiles there
what depends on the shape. The peak is that of float32, also for bfloat16.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

from inference import CPU_ENGINES, field, machine, operations, peak
from synthetic_visits import command

NETWORKS = ("ACS-WFC-F606W-2-4", "CCD-ANY-3-16", "ACS-WFC-2-32")


def measure(name: str, engine: str, size: int, threads: int, rounds: int) -> None:
    """Print seconds of loading, of the first call and of later ones as JSON; run in a process of its own."""
    import torch
    from networks import mask_model

    torch.set_num_threads(threads)
    image = field(size, seed=1)
    mask_model(NETWORKS[0], "torch")  # what all models need is loaded once
    times = []
    started = time.perf_counter()
    model = mask_model(name, engine)
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
    peaks = {threads: peak(threads) for threads in options.threads}
    print(f"{machine(('deepcr-zoo', 'torch', 'openvino', 'numpy'), peaks)}\n\n`{command()}`\n")
    columns = ["network (operations a pixel)", "threads", "side"]
    for engine in CPU_ENGINES:
        columns += [f"{engine}: loading, first, later s", "% of the peak"]
    columns += [f"torch / {engine}: first with loading, later" for engine in CPU_ENGINES[1:]]
    print(f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|")
    for name in NETWORKS:
        work = operations(name)
        for threads in options.threads:
            for size in options.sizes:
                print(row(options, name, work, threads, size, peaks[threads]), flush=True)


def row(options: argparse.Namespace, name: str, work: int, threads: int, size: int, most: float) -> str:
    cells, first, later = [f"{name} ({work:,})", str(threads), str(size)], [], []
    for engine in CPU_ENGINES:
        loading, once, *others = measured(options, name, engine, size, threads)
        first.append(loading + once)
        later.append(statistics.median(others))
        share = work * size**2 / later[-1] / 1e9 / most
        cells += [f"{loading:.2f}, {once:.3f}, {later[-1]:.3f}", f"{100 * share:.0f}"]
    ratios = [f"{first[0] / first[n]:.2f}, {later[0] / later[n]:.2f}" for n in range(1, len(CPU_ENGINES))]
    return f"| {' | '.join([*cells, *ratios])} |"


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
