"""Time and peak memory of one full-size visit: three exposures of two chips of 2048 x 4096, simulated, labelled, 630 stamps.

Both commands run as a user would give them, each in processes of its own; memory is the sum over all of them.

    python benchmarks/visit.py
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import yaml

from deepcr_zoo import locations
from deepcr_zoo.machine import processor_name
from deepcr_zoo.zoo.recipe import RESERVED_SEED, SIMULATED_FIELD_TYPES

PAGE = os.sysconf("SC_PAGE_SIZE")


def resident(process: int) -> int:
    """Bytes in memory of a process and of all that it has started."""
    try:
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
        threads = os.listdir(f"/proc/{process}/task")
        children = [child for one in threads for child in Path(f"/proc/{process}/task/{one}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):  # it has just ended
        return 0
    return pages * PAGE + sum(resident(int(child)) for child in children)


def measure(*arguments: str, home: Path) -> tuple[float, float, str]:
    """Seconds, peak memory in GB, and stdout of one run of the command."""
    command = [sys.executable, "-m", "deepcr_zoo", *arguments]
    environment = {**os.environ, "DEEPCR_ZOO_DATA": str(home)}
    start, peak = time.perf_counter(), 0
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(command, stdout=said, env=environment)
        while process.poll() is None:
            peak = max(peak, resident(process.pid))
            time.sleep(0.05)
        seconds = time.perf_counter() - start
        if process.returncode:
            raise SystemExit(f"{' '.join(command)} failed")
        said.seek(0)
        return seconds, peak / 1e9, said.read()


def write_recipe(path: Path, field_type: str) -> None:
    """A recipe that takes in every visit, for training."""
    recipe = {
        "extends": str(locations.data_root() / "recipes" / "base" / "acs-wfc.yaml"),
        "name": "one-visit",
        "task": "mask",
        "data": {"source": "simulated", "visits": {"all": {"field_type": field_type, "test_fraction": 0.0}}},
        "train": {"architecture": {"depth": 2, "hidden": 32, "norm": "batch"}},
        "publish": {"summary": "never"},
    }
    path.write_text(yaml.safe_dump(recipe))


def main() -> None:
    """Run the benchmark and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--field-type", choices=SIMULATED_FIELD_TYPES, default="resolved_galaxy")
    parser.add_argument("--seed", type=int, choices=range(RESERVED_SEED), metavar=f"0..{RESERVED_SEED - 1}", default=510)
    options = parser.parse_args()
    packages = ", ".join(f"{name} {version(name)}" for name in ("deepcr-zoo", "drizzlepac", "numpy", "scipy", "astropy"))
    with tempfile.TemporaryDirectory() as folder:
        data, recipe = Path(folder, "simulated"), Path(folder, "recipe.yaml")
        write_recipe(recipe, options.field_type)
        chosen = ("--field-type", options.field_type, "--seed", str(options.seed), "--exposures", "3")
        simulated = measure(
            "simulate", str(recipe), "--full-frame", *chosen, "--output-dir", str(data), home=Path(folder, "home")
        )
        visit = data / f"{options.field_type}-{options.seed}"
        built = measure("build", str(recipe), "--data", str(visit), "--jobs", "1", "--json", home=Path(folder, "home"))
    counts = json.loads(built[2])["counts"][options.field_type]
    print(f"{datetime.date.today()}, {processor_name()}, Python {platform.python_version()}, {packages}\n")
    print(f"`{' '.join(['python benchmarks/visit.py', *sys.argv[1:]])}`: {options.field_type}, seed {options.seed}\n")
    print("| step | s | peak GB |\n|---|---|---|")
    print(f"| `simulate`, 3 full frames | {simulated[0]:.0f} | {simulated[1]:.2f} |")
    print(f"| `build`, {sum(counts.values())} stamps | {built[0]:.0f} | {built[1]:.2f} |")
    print(f"| both | {simulated[0] + built[0]:.0f} | {max(simulated[1], built[1]):.2f} |")


if __name__ == "__main__":
    main()
