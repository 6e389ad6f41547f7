"""The networks of Cosmic-CoNN (Xu et al. 2023, ApJ 942, 73), run by their own package in an environment of their own:

    python -m venv conn
    conn/bin/pip install cosmic-conn==0.6.1

Benchmarks that compare with them take `--cosmic-conn conn/bin/python`.
"""

from __future__ import annotations

import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

NETWORKS = ("ground_imaging", "NRES", "HST_ACS_WFC")
_PROGRAM = """
import sys
import numpy as np
from cosmic_conn.inference_cr import init_model
np.save(sys.argv[3], init_model(sys.argv[1]).detect_cr(np.load(sys.argv[2])))
"""
_NEAREST = 1e-38  # to 0 and 1: probabilities in float32 that are rounded to these have a finite logit


@dataclass(frozen=True)
class CosmicConn:
    """One of `NETWORKS`."""

    network: str
    python: Path  # of the environment that has the package

    def logits(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the logits of the probabilities that the package gives with its defaults, shape (H, W)."""
        with tempfile.TemporaryDirectory() as folder:
            given, found = Path(folder, "image.npy"), Path(folder, "probability.npy")
            np.save(given, image)
            subprocess.run([self.python, "-W", "ignore", "-c", _PROGRAM, self.network, given, found], check=True)
            probability = np.load(found).astype(np.float64)
        return np.asarray(
            np.log(np.maximum(probability, _NEAREST)) - np.log(np.maximum(1 - probability, _NEAREST)), np.float32
        )


def cosmic_conns(python: Path | None) -> dict[str, CosmicConn]:
    """Return its networks by the names of tables; none without its environment."""
    return {} if python is None else {f"Cosmic-CoNN {one}": CosmicConn(one, python) for one in NETWORKS}
