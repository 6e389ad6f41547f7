"""Stamps, masks and differences as colours, the same in all pictures of stamps."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

GREY = (0.8, 0.8, 0.8)
BLUE, ORANGE, RED = (0.0, 0.45, 0.7), (0.9, 0.6, 0.0), (0.8, 0.0, 0.2)
"""Told apart by colour-blind people too (after Okabe & Ito 2008)."""

Shades = NDArray[np.floating[Any]]
"""Red, green and blue, shape (S, S, 3); brightness or pixel values, shape (S, S)."""

Colour = tuple[float, float, float]


def stretched(image: Shades, clean: Shades) -> Shades:
    """Brightness from 0 to 1: nearly linear about the sky of `clean`, logarithmic above (asinh, Lupton et al. 1999)."""
    sky = float(np.median(clean))
    noise = max(float(np.median(np.abs(clean - sky))) * 1.4826, 1e-3)
    low, high = np.arcsinh(-1.0), np.arcsinh(50.0)
    brightness: Shades = np.clip((np.arcsinh((image - sky) / (3 * noise)) - low) / (high - low), 0, 1)
    return brightness


def reach(difference: Shades) -> float:
    """What nearly all differences are within, e-."""
    known = np.abs(difference[np.isfinite(difference)])
    return max(float(np.percentile(known, 98)), 1.0) if known.size else 1.0


def grey(brightness: Shades) -> Shades:
    """Brightness as red, green and blue."""
    return np.repeat(brightness[..., None], 3, axis=2)


def painted(*layers: tuple[NDArray[np.bool_], Colour]) -> Shades:
    """White, with masks in their colours; the last is on top."""
    picture = np.ones((*layers[0][0].shape, 3))
    for mask, colour in layers:
        picture[mask] = colour
    return picture


def diverging(value: Shades) -> Shades:
    """Blue at -1, white at 0, red at 1; grey where there is no value."""
    share = np.clip(np.nan_to_num(value), -1, 1)[..., None]
    colours = np.where(share > 0, RED, BLUE)
    return np.where(np.isfinite(value)[..., None], 1 + np.abs(share) * (colours - 1), GREY)


def filling_panels(
    image: Shades, filled: Shades, added: NDArray[np.bool_], own: NDArray[np.bool_], ignored: NDArray[np.bool_]
) -> tuple[dict[str, Shades], float]:
    """What shows how a stamp was filled: image, inpainting mask, filled image, and the difference where it can be judged.

    Parameters
    ----------
    image, filled : ndarray of float32, shape (S, S)
        e-.
    added, own, ignored : ndarray of bool, shape (S, S)
        Pixels of the added inpainting mask, of the stamp's own cosmic rays, and of the ignore mask.

    Returns
    -------
    dict of str to ndarray, shape (S, S, 3)
        By heading.
    float
        Difference that the strongest colours stand for, e-.
    """
    difference = np.where(added & ~own & ~ignored, filled - image, np.nan)
    strongest = reach(difference)
    panels = {
        "image": grey(stretched(image, filled)),
        "inpainting mask": painted((added, BLUE), (own, ORANGE), (ignored, GREY)),
        "filled": grey(stretched(filled, filled)),
        "filled - image": diverging(difference / strongest),
    }
    return panels, strongest
