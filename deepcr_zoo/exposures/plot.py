"""Pictures of exposures, masks and cleaned files for notebooks and papers (extra ``plot``)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepcr_zoo.batch import COPY_ENDING, MASK_ENDING
from deepcr_zoo.errors import ImageWarning, InvalidFileError, InvalidImageError, UsageError, warn
from deepcr_zoo.exposures.cleaning import CleanedFile
from deepcr_zoo.exposures.fitsfiles import extension_name, extension_version, image_values, is_image, opened, read_unchanged
from deepcr_zoo.exposures.maskfiles import ProductMask, product_masks
from deepcr_zoo.exposures.packing import unpacked
from deepcr_zoo.exposures.pictures import (
    Panels,
    figure_of,
    outline,
    plainly_drawn,
    require_matplotlib,
    without_formulas,
    zscale,
)
from deepcr_zoo.models.images import read_mask

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["cleaned", "masks"]

PANEL_INCHES, TITLE_INCHES = 3.2, 0.35

Region = tuple[slice, slice]


def cleaned(done: CleanedFile, *, chip: int | None = None, region: Region | None = None) -> Figure:
    """Draw exposure, mask and cleaned image of a file that `clean_file` has cleaned.

    Parameters
    ----------
    done : CleanedFile
    chip : int, optional
        Number of the only chip to draw, as in EXTVER; all if None.
    region : tuple of slice, optional
        Rows and columns to draw; whole chips, reduced to fit, if None. Reduced masks look fuller than they are.

    Returns
    -------
    matplotlib.figure.Figure
        Notebooks show it; ``savefig`` writes it.

    Raises
    ------
    InvalidFileError
        If the exposure or its products are gone or damaged.
    MissingExtraError
        If matplotlib is not installed.
    UsageError
        If the file has no such chip, or the region no pixels.
    """
    require_matplotlib()
    chips = [one for number, one in _chips(done) if chip in (None, number)]
    if not chips:
        raise UsageError(f"{done.path}: has no chip {chip}: leave out chip to see all")
    if region is None:
        return figure_of(chips, f"{Path(done.path).name}: {done.model}, threshold {done.threshold:g}")
    name = done.model.partition("/")[2].partition("@")[0] or done.model
    return masks(chips[0].image, {name: chips[0].mask}, chips[0].cleaned, region=region)


@plainly_drawn
def masks(
    image: ArrayLike, masks: Mapping[str, ArrayLike], cleaned: ArrayLike | None = None, *, region: Region | None = None
) -> Figure:
    """Draw an image beside the same with the outlines of one or more masks, in one zscale stretch.

    Parameters
    ----------
    image : array, shape (H, W)
        In any unit.
    masks : mapping of str to array, shape (H, W)
        A mask for each name; 1 or True is a cosmic ray.
    cleaned : array, shape (H, W), optional
        The repainted image, drawn last.
    region : tuple of slice, optional
        Rows and columns to draw; the stretch is that of the whole image.

    Returns
    -------
    matplotlib.figure.Figure
        Notebooks show it; ``savefig`` writes it.

    Raises
    ------
    InvalidImageError
        If an image or a mask has another shape, or a mask other values than 0 and 1.
    MissingExtraError
        If matplotlib is not installed.
    UsageError
        If the region has no pixels.
    """
    from deepcr_zoo.exposures.figures import NotebookFigure

    pixels = _image(image)
    part = _region(region, pixels.shape)
    if not isinstance(masks, Mapping):
        raise UsageError(f"masks: expected a mask for each name, as in {{'mine': mask}}, got {type(masks).__name__}")
    found = {name: read_mask(np.asarray(mask), pixels.shape)[0][part] for name, mask in masks.items()}
    panels = [("exposure", pixels[part], None), *((f"mask: {name}", pixels[part], mask) for name, mask in found.items())]
    if cleaned is not None:
        panels.append(("cleaned", _image(cleaned, pixels.shape)[part], None))
    height, width = pixels[part].shape
    sides = PANEL_INCHES * len(panels), PANEL_INCHES * min(3.0, height / width) + TITLE_INCHES
    figure = NotebookFigure(figsize=sides, layout="constrained")
    low, high = zscale(pixels)
    for axes, (title, shown, mask) in zip(figure.subplots(1, len(panels), squeeze=False).flat, panels, strict=True):
        axes.imshow(shown, origin="lower", cmap="gray", vmin=low, vmax=high, interpolation="nearest")
        axes.set_title(title)
        axes.set_axis_off()
        if mask is not None:
            outline(axes, mask, "red", 0.9)
    without_formulas(figure)
    return figure


def _region(region: Region | None, shape: tuple[int, ...]) -> Region:
    if region is None:
        return slice(None), slice(None)
    with suppress(TypeError, ValueError):  # no slices, or others than two
        if all(len(range(side)[part]) for side, part in zip(shape, region, strict=True)):
            return region
    raise UsageError(
        f"region: expected rows and columns of an image of {shape[0]} x {shape[1]} pixels, as in np.s_[100:200, 300:400]"
    )


def _image(image: ArrayLike, shape: tuple[int, ...] | None = None) -> NDArray[Any]:
    pixels: NDArray[Any] = np.ma.getdata(np.ma.asanyarray(image))
    if pixels.dtype.kind not in "biuf":
        raise InvalidImageError(f"the image has the type {pixels.dtype}: expected numbers")
    if pixels.ndim != 2 or (shape is not None and pixels.shape != shape):
        expected = "two axes" if shape is None else f"the shape {shape} of the image"
        raise InvalidImageError(f"the image has the shape {pixels.shape}: expected {expected}")
    return pixels


def _chips(done: CleanedFile) -> list[tuple[int, Panels]]:
    """Return the chips of a cleaned file with their numbers: pixels in the unit of the file."""
    exposure = read_unchanged(Path(done.path))
    product = {ending: Path(path) for path in done.outputs for ending in (MASK_ENDING, COPY_ENDING) if path.endswith(ending)}
    masks, cautions, _ = product_masks(product[MASK_ENDING], hashlib.sha256(exposure).hexdigest())
    for caution in cautions:
        warn(caution, ImageWarning)
    images = _images(exposure, Path(done.path), masks)
    copy = product.get(COPY_ENDING)
    copies = {} if copy is None else _images(read_unchanged(copy), copy, masks)
    return [
        (number, Panels(f"{one.extension} {number}", images[number], one.mask, copies.get(number)))
        for number, one in masks.items()
    ]


def _images(data: bytes, path: Path, masks: Mapping[int, ProductMask]) -> dict[int, NDArray[np.float32]]:
    """Return the images of a file that masks belong to (CREXT and EXTVER)."""
    with opened(unpacked(data, path), path) as (hdus, _, _):
        images = [hdu for hdu in hdus if is_image(hdu) and len(hdu.shape) == 2]
        found = {}
        for number, (name, mask) in masks.items():
            named = [hdu for hdu in images if (extension_name(hdu) or "PRIMARY") == name] or images
            exact = [hdu for hdu in named if extension_version(hdu) == number]
            in_order = named[number - 1 :] or named[-1:] if number > 0 else []  # images without EXTVER
            place = exact or in_order
            if not place or place[0].shape != mask.shape:
                raise InvalidFileError(f"{path}: has no image of the mask {name},{number}: it was changed, or the mask was")
            found[number] = np.array(image_values(place[0], str(path)), np.float32)
        return found
