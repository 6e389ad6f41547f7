"""The functions of upstream's ``deepCR.evaluate``, on arrays: error rates of a model and of L.A.Cosmic.

Rates are in percent, as upstream gives them. Ignored pixels are in neither rate; upstream counts them as clean.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepcr_zoo.errors import InvalidImageError, UsageError
from deepcr_zoo.models.baselines import Lacosmic
from deepcr_zoo.models.images import read_labelled

Rates = tuple[NDArray[np.float64], NDArray[np.float64]]
"""TPR and FPR in percent, at each threshold."""

_READ_NOISE = 5.0  # e-, as in upstream's code


def roc(
    model: Any,
    image: Any,
    mask: Any = None,
    ignore: Any = None,
    mode: str = "pair",
    sky: Any = None,
    n_mask: int = 1,
    seed: int = 1,
    thresholds: Any = np.linspace(0.001, 0.999, 500),  # noqa: B008 - upstream's default
    dilate: bool = False,
    rad: int = 1,
) -> Rates | tuple[Rates, Rates]:
    """Return TPR and FPR (%) of a deepCR or a mask model at thresholds, and of dilated masks too with `dilate`.

    `image`, `mask` and `ignore` have shape (N, H, W). `sky`, `n_mask` and `seed` are not used.
    """
    if mode != "pair":
        raise UsageError(f"mode {mode!r}: expected 'pair', images with their masks")
    wanted = _numbers("thresholds", thresholds)
    predict = getattr(model, "mask_model", model).predict

    def above(pixels: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return how many pixels are above each threshold."""
        return np.asarray((len(pixels) - np.searchsorted(np.sort(pixels), wanted, side="right")), np.int64)

    def scores(one: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.asarray(predict(one), np.float64)

    return _rates(image, mask, ignore, scores, above, len(wanted), rad if dilate else None)


def roc_lacosmic(
    image: Any,
    mask: Any,
    sigclip: Any,
    ignore: Any = None,
    sky: Any = None,
    n_mask: int = 1,
    seed: int = 1,
    objlim: float = 2,
    gain: float = 1,
    dilate: bool = False,
    rad: int = 1,
) -> Rates | tuple[Rates, Rates]:
    """Return TPR and FPR (%) of L.A.Cosmic at each sigclip, and of dilated masks too with `dilate`.

    `image`, `mask` and `ignore` have shape (N, H, W). `sky`, `n_mask` and `seed` are not used.
    """
    clips = _numbers("sigclip", sigclip)
    method = Lacosmic(float(objlim), _READ_NOISE, gain=float(gain))

    def masks(one: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.stack([method.mask(one, clip) for clip in clips]).astype(np.float64)

    def above(pixels: NDArray[np.float64]) -> NDArray[np.int64]:
        return np.asarray((pixels > 0).sum(axis=-1), np.int64)

    return _rates(image, mask, ignore, masks, above, len(clips), rad if dilate else None)


def _numbers(name: str, given: Any) -> NDArray[np.float64]:
    """Return thresholds on one axis."""
    try:
        numbers = np.atleast_1d(np.asarray(given, np.float64))
    except (TypeError, ValueError):
        numbers = np.empty(0)
    if numbers.ndim != 1 or not numbers.size or np.isnan(numbers).any():
        raise UsageError(f"{name}: expected a number, or a list of some")
    return numbers


def _rates(
    image: Any,
    mask: Any,
    ignore: Any,
    score: Callable[[NDArray[np.float32]], NDArray[np.float64]],
    above: Callable[[NDArray[np.float64]], NDArray[np.int64]],
    count: int,
    radius: int | None,
) -> Rates | tuple[Rates, Rates]:
    """Count what `score` of each image, (..., H, W), marks; `above` counts pixels, (..., K), at each threshold."""
    if radius is not None and (radius < 0 or radius != int(radius)):
        raise UsageError(f"rad: expected a whole number of pixels, 0 or more, got {radius}")
    require_arrays(image, mask)
    stack, cosmic_rays, ignored = read_labelled(image, mask, ignore, None)
    found = np.zeros((2, 2, count), np.int64)  # plain and dilated, cosmic rays and clean pixels
    totals = np.zeros(2, np.int64)
    for one, struck, left_out in zip(stack.pixels, cosmic_rays, ignored, strict=True):
        scores = np.where(left_out, -np.inf, score(one))
        classes = (struck & ~left_out, ~struck & ~left_out)
        totals += [int(pixels.sum()) for pixels in classes]
        layers = [scores] if radius is None else [scores, _dilated(scores, radius)]
        for number, layer in enumerate(layers):
            found[number] += [above(layer[..., pixels]) for pixels in classes]
    with np.errstate(invalid="ignore", divide="ignore"):  # NaN where there are no pixels of a class, as upstream
        (tpr, fpr), (wider_tpr, wider_fpr) = 100 * found / totals[:, None]
    return (tpr, fpr) if radius is None else ((tpr, fpr), (wider_tpr, wider_fpr))


def _dilated(scores: NDArray[np.float64], radius: int) -> NDArray[np.float64]:
    """Return the largest score within a disk: its mask at any threshold is the dilated mask."""
    from scipy import ndimage

    across = np.arange(-radius, radius + 1)
    disk = across[:, None] ** 2 + across**2 <= radius**2
    footprint = disk.reshape((1,) * (scores.ndim - 2) + disk.shape)
    return np.asarray(ndimage.maximum_filter(scores, footprint=footprint, mode="constant", cval=-np.inf))


def require_arrays(image: Any, mask: Any) -> None:
    """Refuse names of files, and images without masks, which upstream takes too."""
    first = image[0] if isinstance(image, list | tuple) and image else image
    if mask is None or isinstance(first, str | os.PathLike):
        raise InvalidImageError("expected arrays: image and mask of shape (N, H, W); read files with numpy.load first")
