"""Classical baselines: masked median, biharmonic inpainting and L.A.Cosmic."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepcr_zoo.errors import ImageWarning, InvalidImageError, warn
from deepcr_zoo.machine import require
from deepcr_zoo.models.images import Image, Mask, groups, local_median, read_image, read_mask

MOST_TOUCHING = 200_000
"""Pixels that biharmonic inpainting fills at once, in about ten seconds and a gigabyte."""


def medmask(image: Any, mask: Any, unit: str | None = None) -> Image:
    """Replace each masked pixel by the median of the unmasked pixels in 5x5 around it (Zhang & Bloom 2020).

    True zeros count as pixels. Where all 25 pixels are masked or invalid, the median of the image's good pixels is used.
    A Quantity, NDData or CCDData is converted to `unit`.
    """

    def fill(pixels: Image, masked: Mask, good: Mask) -> Image:
        values = local_median(pixels, masked, good)
        return np.where(np.isnan(values), np.median(pixels[good]), values)

    return _fill(image, mask, unit, fill)


def biharmonic(image: Any, mask: Any, unit: str | None = None) -> Image:
    """Replace masked pixels by biharmonic interpolation with scikit-image (Zhang & Bloom 2020, Table 3); see `medmask`.

    `InvalidImageError` for touching pixels that are more than `MOST_TOUCHING`.
    """
    require_scikit_image()
    from skimage.restoration import inpaint_biharmonic

    def fill(pixels: Image, masked: Mask, good: Mask) -> Image:
        largest = int(np.bincount(groups(~good)[0].ravel())[1:].max(initial=0))
        if largest > MOST_TOUCHING:
            raise InvalidImageError(
                f"{largest:,} touching pixels are masked or hold no value: biharmonic inpainting takes memory without bound "
                f"above {MOST_TOUCHING:,}: choose medmask or a network"
            )
        filled: Image = inpaint_biharmonic(np.where(good, pixels, 0), ~good, split_into_regions=True)
        return filled[masked]

    return _fill(image, mask, unit, fill)


CLASSICAL: dict[str, Callable[..., Image]] = {"medmask": medmask, "biharmonic": biharmonic}
"""Inpainting methods without a network, by name."""


@dataclass(frozen=True)
class Lacosmic:
    """L.A.Cosmic (van Dokkum 2001) by astroscrappy: all settings except ``sigclip``.

    Where a comment says "paper", the value is that of the code of Zhang & Bloom 2020.
    """

    objlim: float
    """Least contrast between Laplacian and fine structure: 2, 3.5 and 5 for extragalactic fields, globular clusters and
    resolved galaxies (Zhang & Bloom 2020, section 4)."""
    readnoise: float  # read noise, e-
    gain: float = 1.0  # electrons per unit of the image
    sigfrac: float = 0.3  # paper
    """Threshold for neighbours of a cosmic ray, as a fraction of ``sigclip``."""
    niter: int = 4  # paper
    sepmed: bool = False  # paper; separable medians are faster and give other values
    satlevel: float | None = None  # paper
    """Full well, e-: astroscrappy does not mask saturated stars. None: no pixel counts as saturated."""
    cleantype: str = "medmask"  # paper: how cosmic rays are replaced between iterations
    fsmode: str = "median"  # astroscrappy's default: how the fine structure is estimated

    def mask(self, image: Any, sigclip: float) -> NDArray[np.bool_]:
        """Return the cosmic-ray mask for a Laplacian-to-noise limit.

        The image includes its sky, from which the noise is estimated. Invalid pixels are never masked.
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


def require_scikit_image() -> None:
    """Raise `MissingExtraError` if scikit-image is not installed."""
    require("skimage", "biharmonic inpainting needs scikit-image", "baselines")


def require_astroscrappy() -> None:
    """Raise `MissingExtraError` if astroscrappy is not installed."""
    require("astroscrappy", "L.A.Cosmic needs astroscrappy", "baselines")


def _fill(image: Any, mask: Any, unit: str | None, fill: Callable[[Image, Mask, Mask], Image]) -> Image:
    """Replace the masked pixels of each image by the values that `fill` computes from (pixels, masked, good)."""
    stack = read_image(image, unit)
    masks = read_mask(mask, stack.shape)
    filled = stack.pixels.copy()
    for index, (masked, out) in enumerate(zip(masks, filled, strict=True)):
        good = ~masked if stack.valid is None else stack.valid[index] & ~masked
        if not masked.any():
            continue
        if not good.any():
            warn("an image has no good pixel outside the mask: it is left as it is", ImageWarning)
            continue
        out[masked] = fill(out, masked, good)
    return filled.reshape(stack.shape)
