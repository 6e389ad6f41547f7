"""The scripts in benchmarks/ that judge on simulated visits."""

import subprocess
import sys

import pytest

from deepcr_zoo.cards import read_card
from deepcr_zoo.registry import default_registry
from tests.conftest import CHECKOUT

SCRIPTS = CHECKOUT / "benchmarks"


@pytest.mark.parametrize("script", ["labels.py", "realism.py"])
def test_reserved_seeds_are_refused_before_anything_is_made(script, tmp_path):
    command = [sys.executable, SCRIPTS / script, "--seeds", "500", "900000", "--cache", tmp_path / "cache"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr == "--seeds 900000: seeds from 900000 up are reserved for --independent evaluation\n"
    assert list(tmp_path.iterdir()) == []


def test_published_figures_are_those_of_the_card_in_the_band_if_it_tells_bands_apart(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    from realism import published

    first, later = (read_card(default_registry().resolve(f"ACS-WFC-F606W-2-32@{version}")) for version in ("1.0", "2.0"))
    assert published(first, "globular_cluster", 0.0005, "F606W") == 93.3
    assert published(first, "resolved_galaxy", 0.005, "F606W") == 91.2
    assert published(later, "extragalactic", 0.0005, "F606W") == 88.6
    assert published(first, "extragalactic", 0.001, "F606W") is None
