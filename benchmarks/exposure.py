"""Time and peak memory of cleaning whole ACS/WFC exposures: two chips of 2048 x 4096, read, mask, inpaint, write.

Each row is a run of a command in a process of its own, and its time beside that of the networks alone: those of the first
row, loaded, on the same chips. The exposures are synthetic: sky, stars, cosmic-ray tracks. ccdproc runs astroscrappy with
its defaults and writes the same two files.

    python benchmarks/exposure.py
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
from astropy.io import fits
from inference import field

from deepcr_zoo.machine import processor_name

CHIP = (2048, 4096)
NETWORKS = "the networks alone"
CLEAN = ("-m", "deepcr_zoo", "clean", "--overwrite")
BY_CCDPROC = (__file__, "--by-ccdproc")
RUNS: dict[str, tuple[tuple[str, ...], int]] = {
    "first choice of the zoo, mask and inpaint": (CLEAN, 1),
    "the same, torch named": ((*CLEAN, "--engine", "torch"), 1),
    "medmask in place of the inpainting network": ((*CLEAN, "--inpaint", "medmask"), 1),
    "mask alone": ((*CLEAN, "--inpaint", "none"), 1),
    "mask and inpaint, with the probability and a preview": ((*CLEAN, "--prob", "--preview"), 1),
    "mask and inpaint, several files": ((*CLEAN, "--jobs", "1"), 0),
    "the same, two at a time": ((*CLEAN, "--jobs", "2"), 0),
    "astroscrappy by ccdproc, several files": (BY_CCDPROC, 0),
}
"""By name: a command of Python's, and to how many files it is given; 0: to all."""


def write_exposure(path: Path, seed: int) -> None:
    """A file of 168 MB with SCI, ERR and DQ for two chips."""
    primary = fits.PrimaryHDU()
    primary.header.update({"TELESCOP": "HST", "INSTRUME": "ACS", "DETECTOR": "WFC", "EXPTIME": 500.0})
    primary.header.update({"FILTER1": "F606W", "FILTER2": "CLEAR2L"})
    hdus = [primary]
    for chip in (1, 2):
        image = field(CHIP[1], seed + chip)[: CHIP[0]]
        for name, pixels in {"SCI": image, "ERR": np.sqrt(np.abs(image)), "DQ": np.zeros(CHIP, np.int16)}.items():
            hdus.append(fits.ImageHDU(pixels, name=name, ver=chip))
        hdus[-3].header["BUNIT"] = "ELECTRONS"
    fits.HDUList(hdus).writeto(path, checksum=True)


def clean_by_ccdproc(path: Path) -> None:
    """Write the mask and the cleaned copy of an exposure as `deepcr-zoo clean` does, without its provenance."""
    from astropy.nddata import CCDData
    from ccdproc import cosmicray_lacosmic

    with fits.open(path) as hdus:
        masks = [fits.PrimaryHDU()]
        for chip in (1, 2):
            found = cosmicray_lacosmic(CCDData(hdus["SCI", chip].data, unit="electron"), readnoise=4.0, verbose=False)
            hdus["SCI", chip].data = found.data.astype(np.float32)
            hdus["DQ", chip].data[found.mask] |= 4096
            masks.append(fits.CompImageHDU(found.mask.astype(np.uint8), compression_type="RICE_1", name="CRMASK"))
            masks[-1].ver = chip
        hdus.writeto(path.with_name(f"{path.stem}_lacosmic.fits"), checksum=True, overwrite=True)
        fits.HDUList(masks).writeto(path.with_name(f"{path.stem}_lamask.fits"), checksum=True, overwrite=True)


def time_networks(path: Path) -> None:
    """Print the seconds of the first choice's networks on both chips, loaded and used before."""
    from networks import inpainter, mask_model  # slow, and only some of the timed runs need it

    finder, painter = mask_model("mask/ACS-WFC-2-32"), inpainter("inpaint/ACS-WFC-F606W-2-32")
    chips = [fits.getdata(path, ("SCI", chip)).astype(np.float32) for chip in (1, 2)]
    painter.fill(chips[0], finder.mask(chips[0]))
    started = time.perf_counter()
    for chip in chips:
        painter.fill(chip, finder.mask(chip))
    print(time.perf_counter() - started)


def run(command: Sequence[str], threads: int) -> tuple[float, float]:
    """Seconds and peak memory in GB of one run of a command; of several processes, the memory of the largest."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment
    )
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    if status:
        raise SystemExit(f"{' '.join(command)} failed")
    return seconds, usage.ru_maxrss * 1024 / 1e9


def networks_alone(path: Path, threads: int) -> float:
    """Seconds of `time_networks` in a process of its own."""
    command = [sys.executable, __file__, "--networks-of", str(path)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    return float(subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout)


def measure(paths: Sequence[Path], rounds: int, threads: int) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Seconds a file of each row in each round, and peak memory in GB; in turns, so that a slow minute falls on all."""
    seconds: dict[str, list[float]] = {name: [] for name in (NETWORKS, *RUNS)}
    memory: dict[str, float] = {}
    for _ in range(rounds):
        seconds[NETWORKS].append(networks_alone(paths[0], threads))
        for name, (command, count) in RUNS.items():
            files = paths[:count] if count else paths
            whole, peak = run([*command, *map(str, files)], threads)
            seconds[name].append(whole / len(files))
            memory[name] = max(peak, memory.get(name, 0.0))
            print(f"{name}: {seconds[name][-1]:.1f} s", file=sys.stderr)
    return seconds, memory


def row(name: str, seconds: list[float], networks: list[float], memory: float | None) -> str:
    """One line of the table."""
    ratio = np.median([one / alone for one, alone in zip(seconds, networks, strict=True)])
    cells = [name, f"{np.median(seconds):.1f} ({min(seconds):.1f} - {max(seconds):.1f})", f"{ratio:.2f}"]
    return f"| {' | '.join([*cells, '-' if memory is None else f'{memory:.2f}'])} |"


def main() -> None:
    """Run the benchmark and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--files", type=int, default=4, help="in the rows of several files")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--networks-of", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--by-ccdproc", type=Path, nargs="+", default=[], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.networks_of:
        time_networks(options.networks_of)
        return
    for path in options.by_ccdproc:
        clean_by_ccdproc(path)
    if options.by_ccdproc:
        return
    known = ("deepcr-zoo", "torch", "openvino", "astropy", "astroscrappy", "ccdproc")
    packages = ", ".join(f"{name} {version(name)}" for name in known)
    print(
        f"{datetime.date.today()}, {processor_name()}, {options.threads} threads, "
        f"Python {platform.python_version()}, {packages}"
    )
    command = " ".join(["python benchmarks/exposure.py", *sys.argv[1:]])
    print(f"\n`{command}`: 2 x {CHIP[0]} x {CHIP[1]}, seed {options.seed}, several: {options.files}\n")
    print("| run | s a file, median (min - max) | times the networks alone | peak GB |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, f"bench{number}_flc.fits") for number in range(options.files)]
        for number, path in enumerate(paths):
            write_exposure(path, options.seed + 2 * number)
        seconds, memory = measure(paths, options.rounds, options.threads)
    for name, found in seconds.items():
        print(row(name, found, seconds[NETWORKS], memory.get(name)))


if __name__ == "__main__":
    main()
