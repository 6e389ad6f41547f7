"""How far each seed model is from upstream's own code: writes a record into ``cards/*/*/VERSION.results.yaml``.

Fetches upstream's releases from the package registry, by hash. The test of parity compares the same images.

    python -m benchmarks.parity    (or make parity)
"""

from __future__ import annotations

import argparse
import datetime
import tempfile
from importlib.metadata import version
from pathlib import Path

import deepcr_zoo
from benchmarks import releases
from deepcr_zoo._version import __version__
from deepcr_zoo.zoo.cards import read_card
from deepcr_zoo.zoo.records import ParityRecord, append
from deepcr_zoo.zoo.registries import default_registry
from deepcr_zoo.zoo.registry import ResolvedModel
from tests.upstream import parity


def measure(model: ResolvedModel, sdists: Path) -> ParityRecord:
    """Run ours and upstream's network on the same images."""
    upstream = read_card(model).provenance.upstream
    assert upstream is not None
    releases.fetch(upstream, sdists)
    with tempfile.TemporaryDirectory() as folder:
        cases = parity.run_upstream(model, sdists, Path(folder))
    ours = deepcr_zoo.load(model.reference, "cpu", engine="torch")
    return ParityRecord(
        date=datetime.datetime.now(datetime.UTC).date(),
        software=f"deepcr-zoo {__version__}, torch {version('torch')}, numpy {version('numpy')}",
        command="python -m benchmarks.parity",
        package=upstream.package,
        release=upstream.release,
        file_sha256=upstream.file_sha256,
        weights_sha256=model.locked.weights.sha256,
        cases=[case.name for case in cases],
        max_difference=float(f"{max(case.difference(ours) for case in cases):.2g}"),
        tolerance=parity.tolerance(model),
    )


def main() -> None:
    """Measure all models that were imported."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sdists", type=Path, default=Path(".test-cache/upstream"), help="folder of upstream's releases")
    sdists = parser.parse_args().sdists
    sdists.mkdir(parents=True, exist_ok=True)
    registry = default_registry()
    for reference in registry.references():
        model = registry.resolve(reference)
        if read_card(model).provenance.kind == "imported":
            record = measure(model, sdists)
            print(f"{append(model, record)}: largest difference {record.max_difference:g}, allowed {record.tolerance:g}")


if __name__ == "__main__":
    main()
