"""The classical methods that the networks are judged against."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepcr_zoo.errors import ImageWarning
from deepcr_zoo.machine import require
from deepcr_zoo.models.images import local_median, read_image, read_mask

Frame = NDArray[np.float32]
FrameMask = NDArray[np.bool_]


def medmask(image: Any, mask: Any, unit: str | None = None) -> NDArray[np.float32]:
    """Replace each masked pixel by the median of the unmasked pixels in 5x5 around it.

    The baseline of Zhang & Bloom 2020. True zeros count as pixels; where all 25 are masked or invalid
    the median of the whole image's good pixels stands in.

    Parameters
    ----------
    image : array_like, shape (H, W) or (N, H, W)
        In any unit.
    mask : array_like of bool, or of 0 and 1
        Of the image's shape.
    unit : str, optional
        Unit that a Quantity, NDData or CCDData is converted to; by default it stays in its own.

    Returns
    -------
    ndarray of float32
        The image with new values where `mask` is set; unchanged, with a warning, if no pixel is good.

    Raises
    ------
    InvalidImageError
        If the image or the mask cannot be used.
    """
    return _fill(image, mask, unit, _median_fill)


def biharmonic(image: Any, mask: Any, unit: str | None = None) -> NDArray[np.float32]:
    """Replace masked pixels by the biharmonic interpolation of scikit-image (extra ``baselines``).

    Parameters and result are those of `medmask`; the baseline of Zhang & Bloom 2020, Table 3.

    Raises
    ------
    MissingExtraError
        If scikit-image is not installed.
    """
    require_scikit_image()
    from skimage.restoration import inpaint_biharmonic

    def fill(pixels: Frame, masked: FrameMask, good: FrameMask) -> Frame:
        filled: Frame = inpaint_biharmonic(np.where(good, pixels, 0), ~good, split_into_regions=True)
        return filled[masked]

    return _fill(image, mask, unit, fill)


def require_scikit_image() -> None:
    """Make sure that `biharmonic` can run.

    Raises
    ------
    MissingExtraError
        If scikit-image is not installed.
    """
    require("skimage", "biharmonic inpainting needs scikit-image", "baselines")


CLASSICAL: dict[str, Callable[..., NDArray[np.float32]]] = {"medmask": medmask, "biharmonic": biharmonic}
"""Inpainting methods that need no network, by name."""


@dataclass(frozen=True)
class Lacosmic:
    """L.A.Cosmic (van Dokkum 2001) through astroscrappy (extra ``baselines``): its settings but for ``sigclip``.

    Attributes
    ----------
    objlim : float
        Least contrast between Laplacian and fine structure. Zhang & Bloom 2020, section 4, take 2, 3.5 and 5 for
        extragalactic fields, globular clusters and resolved galaxies (`BenchmarkBlock.lacosmic_objlim`).
    readnoise : float
        Read noise, e-.
    gain : float
        Electrons per unit of the image; 1 for an image in electrons.
    sigfrac : float
        Threshold for neighbours of a cosmic ray / ``sigclip``; 0.3 in the paper's code.
    niter : int
        Iterations; 4 in the paper's code.
    sepmed : bool
        Whether the medians are separable, which is faster and not the same; not so in the paper's code.
    satlevel : float or None
        Full well, e-: astroscrappy leaves saturated stars alone. None, as in the paper's code: there are none.
    cleantype, fsmode : str
        How cosmic rays are replaced between iterations (as in the paper's code), and how the fine structure is
        found (astroscrappy's default).
    """

    objlim: float
    readnoise: float
    gain: float = 1.0
    sigfrac: float = 0.3
    niter: int = 4
    sepmed: bool = False
    satlevel: float | None = None
    cleantype: str = "medmask"
    fsmode: str = "median"

    def mask(self, image: Any, sigclip: float) -> NDArray[np.bool_]:
        """Cosmic-ray mask.

        Parameters
        ----------
        image : array_like, shape (H, W) or (N, H, W)
            Pixel values with their sky, from which the noise is estimated. Pixels without a value take one from their
            neighbours, as for the networks, and are never masked.
        sigclip : float
            Laplacian-to-noise limit.

        Returns
        -------
        ndarray of bool
            Of the image's shape.

        Raises
        ------
        InvalidImageError
            If the image cannot be used.
        MissingExtraError
            If astroscrappy is not installed.
        """
        require_astroscrappy()
        from astroscrappy import detect_cosmics

        settings = {**asdict(self), "satlevel": np.inf if self.satlevel is None else self.satlevel}
        stack = read_image(image, None)
        masks = np.empty(stack.pixels.shape, dtype=bool)
        for (pixels, valid), out in zip(stack.frames(), masks, strict=True):
            out[:] = detect_cosmics(pixels, sigclip=sigclip, **settings)[0]
            if valid is not None:
                out &= valid
        return masks.reshape(stack.shape)


def require_astroscrappy() -> None:
    """Make sure that L.A.Cosmic can run.

    Raises
    ------
    MissingExtraError
        If astroscrappy is not installed.
    """
    require("astroscrappy", "L.A.Cosmic needs astroscrappy", "baselines")


def _median_fill(pixels: Frame, masked: FrameMask, good: FrameMask) -> Frame:
    values = local_median(pixels, masked, good)
    return np.where(np.isnan(values), np.median(pixels[good]), values)


def _fill(
    image: Any, mask: Any, unit: str | None, fill: Callable[[Frame, FrameMask, FrameMask], Frame]
) -> NDArray[np.float32]:
    """Apply `fill` to each image; it returns the values of the masked pixels from the good ones."""
    stack = read_image(image, unit)
    masks = read_mask(mask, stack.shape)
    filled = stack.pixels.copy()
    for index, (masked, out) in enumerate(zip(masks, filled, strict=True)):
        good = ~masked if stack.valid is None else stack.valid[index] & ~masked
        if not masked.any():
            continue
        if not good.any():
            warnings.warn("an image has no good pixel outside the mask: it is left as it is", ImageWarning, stacklevel=3)
            continue
        out[masked] = fill(out, masked, good)
    return filled.reshape(stack.shape)
