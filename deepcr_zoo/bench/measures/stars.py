"""Pixels of star cores, where a mask must not take a star for a cosmic ray.

Stars are found by their shape in the image alone, without truth, catalogue or network. That needs a point spread that the
pixels sample: a full width at half maximum of about 1.5 to 3 pixels. A sharper maximum counts as a cosmic ray that the label
has missed or as a hot pixel, a wider one as a galaxy.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from deepcr_zoo.bench.measures.tally import NO_GROUP

PEAK_EDGES = (100.0, 300.0, 1000.0, 3000.0, 10_000.0, 30_000.0)
"""Brightest pixel of a star above its surroundings, e-; `star_cores` has one group more, with no bound at either end."""

LEAST_SIGNAL_TO_NOISE = 8.0
"""Least signal to noise of the brightest pixel."""

SIDES = (0.4, 0.75)
"""Mean of the four neighbours / brightest pixel: 0.54 to 0.68 for the simulated point spread of ACS/WFC, wherever in the
pixel the star is; the bounds leave room for noise and for other cameras."""

LEAST_SIDE = 0.15
"""Faintest of the four neighbours / brightest pixel (0.31 to 0.54): tracks are narrow in one direction."""

LEAST_CONCENTRATION = 0.6
"""Light in 3x3 / light in 5x5 pixels (0.71 to 0.77): galaxies are wide."""

MOST_ALONG_A_LINE = 0.4
"""Faintest pixel on a line from 2 to 5 pixels away / brightest pixel (0.3 at 2 pixels for a full width at half maximum of 3
pixels): trails of satellites, spectra, their lines and diffraction spikes go on, at one side at their ends."""

Images = NDArray[np.float32]
Masks = NDArray[np.bool_]
Groups = NDArray[np.int32]
Places = NDArray[np.intp]

BOX = np.indices((5, 5)).reshape(2, -1).T - 2
"""Steps (rows, columns) from the middle of 5x5 pixels to each of them."""

IN_CORE = np.abs(BOX).max(axis=1) <= 1
"""True for the 3x3 steps in the middle."""

_STEPS = np.indices((11, 11)).reshape(2, -1).T - 5
_DISTANCE = np.hypot(*_STEPS.T)
_RING = _STEPS[(_DISTANCE >= 3.5) & (_DISTANCE <= 5.2)]
_ANGLES = np.radians(np.arange(0, 360, 11.25))[:, None]
_LINES = np.rint(np.stack([np.sin(_ANGLES), np.cos(_ANGLES)], axis=-1) * np.arange(2, 6)[:, None]).astype(np.intp)
_MARGIN = 5  # the ring lies within the stamp
_IS_SIDE = np.abs(BOX).sum(axis=1) == 1


def star_cores(image: Images, cosmic_rays: Masks, ignore: Masks) -> Groups:
    """Group the 3x3 pixels around the brightest one of each star by how many of `PEAK_EDGES` the star reaches.

    The stars are those of `find_stars`; all arrays have the shape (N, S, S), and the image (e-) includes the sky.
    """
    places, peak = find_stars(image, cosmic_rays | ignore)
    stamp, row, column = places[:, :, None]
    core = BOX[IN_CORE]
    group = np.full(image.shape, NO_GROUP, dtype=np.int32)
    group[stamp, row + core[:, 0], column + core[:, 1]] = np.digitize(peak, PEAK_EDGES)[:, None]
    return group


def find_stars(image: Images, unusable: Masks) -> tuple[Places, Images]:
    """Return stamps, rows and columns of the brightest pixel of each star, shape (3, K), and their peaks (e-), shape (K,).

    A star is a local maximum that stands out of its surroundings (the median of a ring of 3.5 to 5.2 pixels) and has the
    profile of a point: `SIDES`, `LEAST_SIDE`, `LEAST_CONCENTRATION`; and it is on no line: `MOST_ALONG_A_LINE`. Noise is
    that of the stamp (median - 16th percentile) and of the electrons by which the surroundings exceed its median. Stars with
    an unusable pixel among their 3x3 pixels, and those within 5 pixels of the edge of the stamp, are left out. The peak is
    that above the surroundings.
    """
    low, middle = np.percentile(image, [16, 50], axis=(1, 2))
    noise = middle - low
    places = _maxima(image, unusable, (middle + LEAST_SIGNAL_TO_NOISE / 2 * noise).astype(np.float32))
    stamp = places[0]
    surroundings = _surroundings(image, unusable, places)
    peak = image[tuple(places)] - surroundings
    significant = peak >= LEAST_SIGNAL_TO_NOISE * np.sqrt(noise[stamp] ** 2 + np.maximum(surroundings - middle[stamp], 0))
    star = significant & _is_point(around(image, places, BOX) - surroundings[:, None], peak)
    star[star] = ~_is_on_line(image, places[:, star], surroundings[star], peak[star])
    return places[:, star], peak[star]


def _maxima(image: Images, unusable: Masks, floor: Images) -> Places:
    """Return local maxima above the floor of their stamp, with usable pixels all around."""
    inner = (slice(None), slice(_MARGIN, -_MARGIN), slice(_MARGIN, -_MARGIN))
    highest = ndimage.maximum_filter(image, (1, 3, 3))[inner]
    found = np.nonzero((image[inner] == highest) & (highest > floor[:, None, None]))
    places: Places = np.array(found) + np.array([[0], [_MARGIN], [_MARGIN]])
    return places[:, ~around(unusable, places, BOX[IN_CORE]).any(axis=1)]


def _surroundings(image: Images, unusable: Masks, places: Places) -> Images:
    """Return the median of the usable pixels of the ring around each place; infinite where there are none."""
    usable = ~around(unusable, places, _RING)
    ordered = np.sort(np.where(usable, around(image, places, _RING), np.float32(np.inf)), axis=1)
    middle = usable.sum(axis=1) // 2
    surroundings: Images = ordered[np.arange(len(ordered)), middle.clip(max=len(_RING) - 1)]
    return surroundings


def _is_point(box: Images, peak: Images) -> NDArray[np.bool_]:
    """True where 5x5 pixels above their surroundings, shape (K, 25), have the profile of a star."""
    sides = box[:, _IS_SIDE]
    mean = sides.mean(axis=1)
    return np.asarray(
        (mean >= SIDES[0] * peak)
        & (mean <= SIDES[1] * peak)
        & (sides.min(axis=1) >= LEAST_SIDE * peak)
        & (box[:, IN_CORE].sum(axis=1) >= LEAST_CONCENTRATION * box.sum(axis=1))
    )


def _is_on_line(image: Images, places: Places, surroundings: Images, peak: Images) -> NDArray[np.bool_]:
    """True where all pixels of a line from a place outwards are bright beside its peak."""
    lines = around(image, places, _LINES.reshape(-1, 2)).reshape(-1, *_LINES.shape[:2])
    faintest = lines.min(axis=2) - surroundings[:, None]
    return np.asarray((faintest > MOST_ALONG_A_LINE * peak[:, None]).any(axis=1))


def around(pixels: NDArray[Any], places: Places, steps: NDArray[np.intp]) -> NDArray[Any]:
    """Return the values at these steps (rows, columns) from each of K places, shape (K, number of steps)."""
    stamp, row, column = places[:, :, None]
    values: NDArray[Any] = pixels[stamp, row + steps[:, 0], column + steps[:, 1]]
    return values
