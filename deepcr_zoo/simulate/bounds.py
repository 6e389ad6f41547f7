"""Bounds of what a simulation draws: a recipe of a few lines must not take all memory."""

from __future__ import annotations

import numpy as np

from deepcr_zoo.errors import UsageError

MOST_DRAWN = 10_000_000
"""Particles of one kind, or sources: a resolved galaxy on both chips of ACS/WFC has 6 million stars."""

MOST_DEPOSITS = 30_000_000
"""Places where the particles of an exposure leave charge; each takes about 50 bytes."""

MOST_SECONDS = 1e6
"""Longest exposure."""

MOST_ELECTRONS = 1e12
"""Of light in a pixel, e-: far above what any detector holds, and far below what random numbers end at."""


def drawn(expected: float, what: str, rng: np.random.Generator) -> int:
    """Draw a number of particles or sources from its expectation."""
    return int(rng.poisson(within(expected, MOST_DRAWN, what)))


def within(expected: float, most: float, what: str) -> float:
    """Return a number, or raise `UsageError` if there would be too many of something."""
    if not 0 <= expected <= most:
        raise UsageError(
            f"an exposure would have {expected:.2g} {what}: expected at most {most:g}; lower the rate, the exposure time or "
            "the size of the pixels in the recipe"
        )
    return expected
