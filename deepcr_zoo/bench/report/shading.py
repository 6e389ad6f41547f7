"""Colours of stamps, masks and differences, the same in all pictures of stamps."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepcr_zoo.models.images import SIGMA_OF_MAD

GREY = (0.8, 0.8, 0.8)
BLUE, ORANGE, RED = (0.0, 0.45, 0.7), (0.9, 0.6, 0.0), (0.8, 0.0, 0.2)
"""Distinguishable to colour-blind people too (after Okabe & Ito 2008)."""

Shades = NDArray[np.floating[Any]]
"""Red, green and blue, shape (S, S, 3); or brightness or pixel values, shape (S, S)."""

Colour = tuple[float, float, float]


def stretched(image: Shades, clean: Shades) -> Shades:
    """Return brightness from 0 to 1: linear near the sky of `clean`, logarithmic above (asinh, Lupton et al. 1999)."""
    sky = float(np.median(clean))
    noise = max(float(np.median(np.abs(clean - sky))) * SIGMA_OF_MAD, 1e-3)
    low, high = np.arcsinh(-1.0), np.arcsinh(50.0)
    brightness: Shades = np.clip((np.arcsinh((image - sky) / (3 * noise)) - low) / (high - low), 0, 1)
    return brightness


def grey(brightness: Shades) -> Shades:
    return np.repeat(brightness[..., None], 3, axis=2)


def painted(*layers: tuple[NDArray[np.bool_], Colour]) -> Shades:
    """Return a white picture with masks in their colours, the last on top."""
    picture = np.ones((*layers[0][0].shape, 3))
    for mask, colour in layers:
        picture[mask] = colour
    return picture


def _reach(difference: Shades) -> float:
    """Return the 98th percentile of the absolute differences, at least 1 e-."""
    known = np.abs(difference[np.isfinite(difference)])
    return max(float(np.percentile(known, 98)), 1.0) if known.size else 1.0


def _diverging(value: Shades) -> Shades:
    """Return blue at -1, white at 0, red at 1, and grey where there is no value."""
    share = np.clip(np.nan_to_num(value), -1, 1)[..., None]
    colours = np.where(share > 0, RED, BLUE)
    return np.where(np.isfinite(value)[..., None], 1 + np.abs(share) * (colours - 1), GREY)


def filling_panels(
    image: Shades, filled: Shades, added: NDArray[np.bool_], own: NDArray[np.bool_], ignored: NDArray[np.bool_]
) -> tuple[dict[str, Shades], float]:
    """Return the panels of a filled stamp by heading, and the difference (e-) of the strongest colours.

    The panels are the image, the inpainting mask (added and own cosmic rays), the filled image, and the difference on added
    pixels that are neither own cosmic rays nor ignored. Images are in e-.
    """
    difference = np.where(added & ~own & ~ignored, filled - image, np.nan)
    strongest = _reach(difference)
    panels = {
        "image": grey(stretched(image, filled)),
        "inpainting mask": painted((added, BLUE), (own, ORANGE), (ignored, GREY)),
        "filled": grey(stretched(filled, filled)),
        "filled - image": _diverging(difference / strongest),
    }
    return panels, strongest
