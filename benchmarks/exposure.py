"""Time and peak memory of cleaning a whole ACS/WFC exposure: two chips of 2048 x 4096, read, mask, inpaint, write.

Each row is a run of the command in a process of its own. The exposure is synthetic: sky, stars, cosmic-ray tracks.

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
from importlib.metadata import version
from pathlib import Path

import numpy as np
from astropy.io import fits
from inference import field

from deepcr_zoo.machine import processor_name

CHIP = (2048, 4096)
RUNS = {
    "first choice of the zoo, mask and inpaint": [],
    "the same, openvino named": ["--engine", "openvino"],
    "the same, torch named": ["--engine", "torch"],
    "medmask in place of the inpainting network": ["--inpaint", "medmask"],
    "mask alone": ["--inpaint", "none"],
    "mask and inpaint, with the probability and a preview": ["--prob", "--preview"],
}


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


def clean(path: Path, options: list[str], threads: int) -> tuple[float, float]:
    """Seconds and peak memory in GB of one run of the command."""
    command = [sys.executable, "-m", "deepcr_zoo", "clean", str(path), "--overwrite", *options]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    if status:
        raise SystemExit(f"{' '.join(command)} failed")
    return seconds, usage.ru_maxrss * 1024 / 1e9


def main() -> None:
    """Run the benchmark and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    packages = ", ".join(f"{name} {version(name)}" for name in ("deepcr-zoo", "torch", "openvino", "astropy"))
    print(
        f"{datetime.date.today()}, {processor_name()}, {options.threads} threads, "
        f"Python {platform.python_version()}, {packages}"
    )
    print(
        f"\n`{' '.join(['python benchmarks/exposure.py', *sys.argv[1:]])}`: 2 x {CHIP[0]} x {CHIP[1]}, seed {options.seed}\n"
    )
    print("| run | s, median (min - max) | peak GB |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "bench_flc.fits")
        write_exposure(path, options.seed)
        # in turns, so that a slow minute of the machine does not fall on one row
        measured = {name: [] for name in RUNS}
        for _ in range(options.rounds):
            for name, extra in RUNS.items():
                measured[name].append(clean(path, extra, options.threads))
                print(f"{name}: {measured[name][-1][0]:.1f} s", file=sys.stderr)
    for name, runs in measured.items():
        seconds = sorted(second for second, _ in runs)
        peak = max(memory for _, memory in runs)
        print(f"| {name} | {np.median(seconds):.1f} ({seconds[0]:.1f} - {seconds[-1]:.1f}) | {peak:.2f} |")


if __name__ == "__main__":
    main()
