"""What one file and one visit cost, and one task of a Dask scheduler; multiplied by 100,000 files and 10,000 visits.

Everything is measured here, in processes with one thread, as a worker has: `clean` on full ACS/WFC frames, `build` on one
full-size visit, tasks that do nothing through a scheduler and two workers, and what the one process that gives out
visits does for all of them. Seconds are those of a processor, so other work on the machine disturbs them little.

    python benchmarks/scale.py
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import resource
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from exposure import write_exposure
from numpy.typing import NDArray
from visit import resident, write_recipe

from deepcr_zoo import batch
from deepcr_zoo.cli import cluster
from deepcr_zoo.dataset import splits, visits
from deepcr_zoo.machine import processor_name
from deepcr_zoo.zoo.recipe import Split

FILES, VISITS = 100_000, 10_000
WORKERS = (16, 64, 256, 1024)
FILE_SYSTEMS_GB_S = (1.0, 10.0)
CHIP_DEG = (0.028, 0.056)
"""A chip of ACS/WFC on the sky."""


@dataclass(frozen=True)
class Cost:
    """Of one run of a command: processor and wall seconds, peak of memory, and what its calls read and wrote, in bytes."""

    processor_s: float
    wall_s: float
    memory: float
    read: float
    written: float

    def __sub__(self, other: Cost) -> Cost:
        return Cost(
            self.processor_s - other.processor_s,
            self.wall_s - other.wall_s,
            self.memory,
            self.read - other.read,
            self.written - other.written,
        )

    def __truediv__(self, count: int) -> Cost:
        return Cost(self.processor_s / count, self.wall_s / count, self.memory, self.read / count, self.written / count)


def measure(*arguments: str, home: Path) -> Cost:
    """One run of the command with all that it starts; reads are those of its calls, whether a disk or a cache answers."""
    environment = {**os.environ, "DEEPCR_ZOO_DATA": str(home), "OMP_NUM_THREADS": "1"}
    before, io_before, start, peak = resource.getrusage(resource.RUSAGE_CHILDREN), _io(), time.perf_counter(), 0
    process = subprocess.Popen(
        [sys.executable, "-m", "deepcr_zoo", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment
    )
    while process.poll() is None:
        peak = max(peak, resident(process.pid))
        time.sleep(0.05)
    wall = time.perf_counter() - start
    if process.returncode:
        raise SystemExit(f"{' '.join(arguments)} failed: {process.communicate()[1].decode()[-2000:]}")
    after, io_after = resource.getrusage(resource.RUSAGE_CHILDREN), _io()
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(seconds, wall, peak, *(io_after[name] - io_before[name] for name in ("rchar", "wchar")))


def _io() -> dict[str, int]:
    """What this process and its ended children have read and written."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return {name: int(count) for name, count in (line.split(": ") for line in lines)}


def size_of(folder: Path) -> int:
    """Bytes of all files in a folder; what goes away meanwhile counts for nothing."""
    total = 0
    for where, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(where, name)).st_size
            except FileNotFoundError:
                continue
    return total


@contextmanager
def largest(folder: Path) -> Iterator[list[int]]:
    """The largest size that a folder has meanwhile."""
    found, ended = [0], threading.Event()

    def look() -> None:
        while not ended.wait(0.2):
            found[0] = max(found[0], size_of(folder))

    watching = threading.Thread(target=look)
    watching.start()
    try:
        yield found
    finally:
        ended.set()
        watching.join()


def cost_of_a_file(folder: Path, seed: int) -> tuple[Cost, Cost, int, int]:
    """Of the first file of a process, of each further one; bytes of the file and of its products."""
    files = [folder / f"full{index}_flc.fits" for index in range(3)]
    for index, path in enumerate(files):
        write_exposure(path, seed + 10 * index)
    one, three = (
        measure("clean", *map(str, files[:count]), "--output-dir", str(folder / f"out{count}"), home=folder / "home")
        for count in (1, 3)
    )
    return one, (three - one) / 2, files[0].stat().st_size, size_of(folder / "out1")


def cost_of_a_visit(folder: Path, seed: int) -> tuple[Cost, int, int, int]:
    """Of labelling three full frames; bytes of the exposures, of what stays, and of the folder meanwhile at most."""
    recipe, home = folder / "recipe.yaml", folder / "home"
    write_recipe(recipe, "resolved_galaxy")
    chosen = ("--full-frame", "--field-type", "resolved_galaxy", "--seed", str(seed), "--exposures", "3")
    measure("simulate", str(recipe), *chosen, "--output-dir", str(folder / "simulated"), home=home)
    exposures = folder / "simulated" / f"resolved_galaxy-{seed}"
    given = sum(path.stat().st_size for path in exposures.glob("*_flc.fits"))
    with largest(home) as peak:
        cost = measure("build", str(recipe), "--data", str(exposures), "--jobs", "1", home=home)
    return cost, given, size_of(home), peak[0]


def _quietly(command: Sequence[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@contextmanager
def running(folder: Path, workers: int) -> Iterator[tuple[str, int]]:
    """Address and process of a scheduler that has workers."""
    found = folder / "scheduler.json"
    dask = [sys.executable, "-m"]
    local = ["--host", "127.0.0.1", "--no-dashboard"]
    scheduler = [*dask, "distributed.cli.dask_scheduler", "--port", "0", "--scheduler-file", str(found), *local]
    started = [_quietly(scheduler)]
    try:
        while not found.is_file() or not found.read_text().endswith("}"):
            time.sleep(0.05)
        address = json.loads(found.read_text())["address"]
        worker = [*dask, "distributed.cli.dask_worker", address, "--nthreads", "1", "--no-nanny", *local]
        started += [_quietly([*worker, "--local-directory", str(folder)]) for _ in range(workers)]
        yield address, started[0].pid
    finally:
        for process in reversed(started):
            process.terminate()
            process.wait()


def cost_of_a_task(folder: Path, count: int) -> tuple[float, float, float, float]:
    """Tasks a second; processor seconds of scheduler and of the command for each, and bytes that the command exchanges."""
    names = [str(index) for index in range(count)]
    with running(folder, 2) as (address, scheduler):
        runner = cluster.on_scheduler(address)
        list(batch.run(os.path.basename, names[:50], runner))
        busy, ours, start = _processor_s(scheduler), time.process_time(), time.perf_counter()
        exchanged = 0
        for done, _ in enumerate(batch.run(os.path.basename, names, runner), 1):
            if done == count - 1:
                exchanged = _exchanged()
        seconds = time.perf_counter() - start
        return (
            count / seconds,
            (_processor_s(scheduler) - busy) / count,
            (time.process_time() - ours) / count,
            exchanged / count,
        )


def _processor_s(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _exchanged() -> int:
    """Bytes that have gone through the open TCP connections of this process, both ways."""
    total = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            with socket.socket(fileno=os.dup(int(name))) as one:
                # tcpi_bytes_acked and tcpi_bytes_received of linux/tcp.h
                total += sum(struct.unpack_from("QQ", one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256), 120))
        except (OSError, struct.error):
            continue
    return total


def cost_of_the_plan(count: int, seed: int) -> float:
    """Processor seconds to see that no sky of so many visits is in both training and test, all over the sky."""
    random = np.random.default_rng(seed)
    pointings = np.stack([random.uniform(0, 360, count), np.degrees(np.arcsin(random.uniform(-1, 1, count)))], axis=-1)
    chip = np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) * CHIP_DEG
    outlines = [[pointing + chip + (0, index * CHIP_DEG[1]) for index in range(2)] for pointing in pointings]
    planned: list[tuple[str, str, Split, list[NDArray[np.float64]]]] = [
        (str(index), str(index), "test" if index % 10 == 0 else "train", outline) for index, outline in enumerate(outlines)
    ]
    start = time.process_time()
    visits.check_apart(planned)
    return time.process_time() - start


def cost_of_the_splits(count: int, seed: int) -> float:
    """Processor seconds to give stamps of so many visits of three exposures to training, validation and guard."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:14, 0:15]
    positions = np.stack([rows.ravel(), columns.ravel()], axis=-1).astype(np.int32) * 256
    square = np.array([[0, 0], [0, 1], [1, 1], [1, 0]])
    made = []
    for index in range(count):
        place = np.array([random.uniform(0, 360), random.uniform(-60, 60)])
        corners = place + (positions[:, None] / 256 + square) * 256 * 0.05 / 3600
        made.append(splits.VisitStamps(str(index), "train", 5.0, [positions] * 3, [corners] * 3))
    start = time.process_time()
    splits.assign_splits(made, 0.1, seed)
    return time.process_time() - start


def main() -> None:
    """Measure everything, and print Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=510)
    parser.add_argument("--tasks", type=int, default=4000)
    options = parser.parse_args()
    packages = ("deepcr-zoo", "torch", "openvino", "drizzlepac", "distributed", "numpy", "astropy")
    print(
        f"{datetime.date.today()}, {processor_name()}, one thread, Python {platform.python_version()}, "
        + ", ".join(f"{name} {version(name)}" for name in packages)
    )
    print(f"\n`{' '.join(['python benchmarks/scale.py', *sys.argv[1:]])}`: seed {options.seed}\n")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rate, of_scheduler, of_command, exchanged = cost_of_a_task(folder, options.tasks)
        print("scheduler measured", file=sys.stderr)
        first, file, file_bytes, products = cost_of_a_file(folder, options.seed)
        print("files measured", file=sys.stderr)
        (folder / "visit").mkdir()
        visit, exposures, kept, most = cost_of_a_visit(folder / "visit", options.seed)
        print("visit measured", file=sys.stderr)
    print("| one | processor s | wall s | peak GB | read MB | written MB | in MB | stays MB | scratch at most MB |")
    print("|---|---|---|---|---|---|---|---|---|")
    for label, cost, given, left, scratch in (
        ("file, the first of a process", first, file_bytes, products, 0),
        ("file, each further one", file, file_bytes, products, 0),
        ("visit of 3 exposures", visit, exposures, kept, most),
    ):
        shown = (cost.read, cost.written, given, left, scratch)
        print(
            f"| {label} | {cost.processor_s:.1f} | {cost.wall_s:.1f} | {cost.memory / 1e9:.2f} | "
            + " | ".join(f"{one / 1e6:.0f}" for one in shown)
            + " |"
        )
    print(
        f"\nA task that does nothing ({options.tasks} of them, 2 workers): {rate:.0f} a second; {1e3 * of_scheduler:.2f} ms "
        f"of the scheduler's processor and {1e3 * of_command:.2f} ms of the command's, which exchanges "
        f"{exchanged / 1e3:.1f} kB.\n"
    )
    print("| the command itself, s | 250 visits | 500 | 1000 |\n|---|---|---|---|")
    for label, function in (
        ("no sky in both training and test", cost_of_the_plan),
        ("stamps to training, validation, guard", cost_of_the_splits),
    ):
        print(f"| {label} | " + " | ".join(f"{function(count, options.seed):.2f}" for count in (250, 500, 1000)) + " |")
    print("\n| all | processor hours | read TB | written TB | stays TB |\n|---|---|---|---|---|")
    for label, count, cost, left in (
        (f"{FILES:,} files", FILES, file, products),
        (f"{VISITS:,} visits", VISITS, visit, kept),
    ):
        amounts = (count * one / 1e12 for one in (cost.read, cost.written, left))
        print(f"| {label} | {count * cost.processor_s / 3600:.0f} | " + " | ".join(f"{one:.1f}" for one in amounts) + " |")
    print("\n| workers | files: hours | GB/s | tasks/s | visits: hours | GB/s | tasks/s |\n|---|---|---|---|---|---|---|")
    for workers in WORKERS:
        cells = []
        for count, cost in ((FILES, file), (VISITS, visit)):
            traffic = workers * (cost.read + cost.written) / cost.processor_s / 1e9
            cells += [
                f"{count * cost.processor_s / 3600 / workers:.1f}",
                f"{traffic:.2f}",
                f"{workers / cost.processor_s:.1f}",
            ]
        print(f"| {workers} | " + " | ".join(cells) + " |")
    full = [cost.processor_s / of_scheduler for cost in (file, visit)]
    print("\n| what is full | with so many workers on files | on visits |\n|---|---|---|")
    print(f"| scheduler, {1 / of_scheduler:.0f} tasks/s | " + " | ".join(f"{one:,.0f}" for one in full) + " |")
    for speed in FILE_SYSTEMS_GB_S:
        full = [speed * 1e9 * cost.processor_s / (cost.read + cost.written) for cost in (file, visit)]
        print(f"| file system of {speed:g} GB/s | " + " | ".join(f"{one:,.0f}" for one in full) + " |")


if __name__ == "__main__":
    main()
