"""Numbers that are drawn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def log_uniform(limits: Sequence[float], rng: np.random.Generator) -> float:
    """Return a number between two limits, all of whose octaves are equally likely."""
    return float(np.exp(rng.uniform(*np.log(limits))))
