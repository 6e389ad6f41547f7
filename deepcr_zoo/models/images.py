"""Images as astronomers hold them, read into float32 stacks, and values from good neighbours for invalid pixels."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepcr_zoo.errors import ImageWarning, InvalidImageError, warn
from deepcr_zoo.files import SMALL_BYTES
from deepcr_zoo.machine import memory_shortage
from deepcr_zoo.models.containers import Contents, scaled, unwrap
from deepcr_zoo.models.units import conversion_factor
from deepcr_zoo.zoo.instruments import BLEEDING

LIMIT = 1e9  # values beyond this are sentinels, not light: no detector pixel holds 1e9 e-, and float32 sums would overflow
MOST_COLOURS = 4  # a last axis this short, after longer ones, holds colours and not columns
WINDOW = 5  # side of the neighbourhood in pixels: the 5x5 masked median of Zhang & Bloom 2020
_LEVEL_PIXELS = 20_000  # pixels whose median is the sky level: its error is then below 0.01 of the noise
_LEAST_PIXELS = 1000  # fewer show a part of a star, not the sky
SIGMA_OF_MAD = 1.4826  # sigma of a Gaussian / its median absolute deviation
_SOURCE_SIGMA, _LEAST_RISE, _MOST_RISE = 5.0, 0.3, 100.0
"""A masked pixel belongs to a source if those around it lie so many sigma of the noise above the sky, and if it lies at
least and at most so many times as far above the sky: benchmarks/masked.py."""
_LEAST_BESIDE, _BESIDE_EXCESS = 40, 8.0  # masked pixels beside hidden areas, and times their number elsewhere
_PIXEL_BYTES = 5  # of a pixel in float32, and of its mask
_BAND_PIXELS = 2**16  # image pixels processed at a time, which bounds the memory for their neighbourhoods

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]
Indices = NDArray[np.intp]

TOUCHING = np.ones((3, 3), bool)
"""A pixel and its eight neighbours."""


@dataclass(frozen=True)
class ImageStack:
    """One or more images: the input of networks and baselines."""

    pixels: Image  # shape (N, H, W), the values as given, in the requested unit
    valid: Mask | None
    """Shape (N, H, W), False where a pixel is NaN, infinite, beyond `LIMIT` or masked; None if all are valid."""
    shape: tuple[int, ...]  # the given shape, (H, W) or (N, H, W)

    def as_array(self) -> Image | np.ma.MaskedArray[Any, np.dtype[np.float32]]:
        """Return the images in the shape they were given, masked where a pixel is not valid."""
        pixels = self.pixels.reshape(self.shape)
        return pixels if self.valid is None else np.ma.MaskedArray(pixels, ~self.valid.reshape(self.shape))

    def frames(self, masks: Mask | None = None) -> Iterator[tuple[Image, Mask | None]]:
        """Yield each image with its invalid pixels replaced from their neighbours, and its validity (None: all valid).

        Pixels in `masks`, shape (N, H, W), supply no values: a cosmic ray beside an invalid pixel would spread into it.
        """
        for index, pixels in enumerate(self.pixels):
            valid = None if self.valid is None else self.valid[index]
            if valid is None or valid.all():
                yield pixels, None
                continue
            if not valid.any():
                label = f"image {index}" if len(self.shape) == 3 else "the image"
                warn(f"{label} has no valid pixel", ImageWarning)
            yield replace_from_neighbours(pixels, ~valid, valid if masks is None else valid & ~masks[index]), valid

    def frames_as_found(self) -> Iterator[tuple[Image, Mask | None]]:
        """Yield each image as a network searches it: `frames`, but with the masked cores of stars as they are.

        Without its core, a star is a ring, and networks take rings for cosmic rays.
        """
        for pixels, (replaced, valid) in zip(self.pixels, self.frames(), strict=True):
            yield (replaced if valid is None else _with_masked_stars(pixels, replaced, valid)), valid

    def sky_levels(self, masks: Mask | None = None) -> Iterator[float]:
        """Yield the sky level of each image that has enough valid pixels and, with `masks` (N, H, W), a masked one."""
        for index, pixels in enumerate(self.pixels):
            if masks is not None and not masks[index].any():
                continue
            level = sky_level(pixels, None if self.valid is None else self.valid[index])
            if level is not None:
                yield level


def sky_level(pixels: Image, valid: Mask | None = None) -> float | None:
    """Return the median of the valid pixels of an image (H, W), from a regular sample; None if there are too few."""
    places = sky_sample(pixels.shape)
    sample = pixels[places].ravel() if valid is None else pixels[places][valid[places]]
    return float(np.median(sample)) if sample.size >= _LEAST_PIXELS else None


def sky_sample(shape: tuple[int, ...]) -> tuple[slice, slice]:
    """Return the places in an image (H, W) whose median is its sky level."""
    step = max(1, int(np.sqrt(shape[0] * shape[1] / _LEVEL_PIXELS)))
    return np.s_[::step, ::step]


def _with_masked_stars(pixels: Image, replaced: Image, valid: Mask) -> Image:
    """Return the replaced image (H, W) with the values of masked pixels where these continue a source around them."""
    places = np.nonzero(~valid & has_value(pixels))
    level = sky_level(pixels, valid) if places[0].size else None
    if level is None:
        return replaced
    sample = sky_sample(pixels.shape)
    noise = SIGMA_OF_MAD * float(np.median(np.abs(pixels[sample][valid[sample]] - level)))
    around, inside = replaced[places] - level, pixels[places] - level
    goes_on = (around > _SOURCE_SIGMA * noise) & (inside > _LEAST_RISE * around) & (inside < _MOST_RISE * around)
    rows, columns = (one[goes_on] for one in places)
    seen = replaced.copy()
    seen[rows, columns] = pixels[rows, columns]
    return seen


def has_value(values: NDArray[Any]) -> Mask:
    """Return True where a pixel holds a value: neither NaN nor infinite nor beyond `LIMIT`."""
    return np.asarray((values < LIMIT) & (values > -LIMIT))  # comparisons with NaN are False


def read_image(image: Any, unit: str | None) -> ImageStack:
    """Read an image of shape (H, W) or (N, H, W) in any container that `unwrap` takes.

    Integers and floats of any size and byte order are accepted. Values with a unit are converted to `unit` unless it is
    None; plain arrays are taken to be in `unit`.
    """
    contents = read_contents(image)
    values, shape = contents.values, contents.values.shape
    if values.dtype.kind not in "uif":
        raise InvalidImageError(
            f"the image holds {values.dtype}: expected an array of integers or real floating-point numbers, "
            "for example astropy.io.fits.getdata(path, ext=1)"
        )
    _check_shape(shape)
    factor = conversion_factor(contents.unit, unit)
    with np.errstate(over="ignore"):
        in_unit = values if factor == 1 else scaled(values, factor)
        pixels = in_unit.astype(np.float32, copy=False).reshape(-1, *shape[-2:])
    valid = has_value(pixels)
    if contents.mask is not None:
        valid &= ~contents.mask.reshape(pixels.shape)
    return ImageStack(pixels, None if valid.all() else valid, shape)


def read_contents(image: Any, name: str = "image") -> Contents:
    """Return what `unwrap` does; whatever a library raises becomes an `InvalidImageError`."""
    _check_room(image, name)
    try:
        return unwrap(image)
    except (ValueError, TypeError, RuntimeError, OSError) as error:
        raise InvalidImageError(f"the {name} cannot be read as an array: {error}") from None


def _check_room(image: Any, name: str) -> None:
    """Refuse an array that does not fit into memory: repeated and lazy ones take none before they are computed."""
    shape = getattr(image, "shape", ())
    if not isinstance(shape, tuple) or not all(isinstance(side, int) for side in shape):
        return
    needed = _PIXEL_BYTES * math.prod(shape)
    if needed > SMALL_BYTES and (short := memory_shortage(needed)):
        sides = " x ".join(f"{side:,}" for side in shape)
        raise InvalidImageError(f"the {name} of {sides} pixels takes {needed / 1e9:.2g} GB, {short}: give parts of it")


def _check_shape(shape: tuple[int, ...]) -> None:
    expected = f"the image has shape {shape}: expected (H, W) or (N, H, W)"
    if len(shape) == 4 and (shape[1] == 1 or shape[-1] <= MOST_COLOURS):
        raise InvalidImageError(f"{expected}; give image{'[:, 0]' if shape[1] == 1 else '[..., 0]'}")
    if len(shape) not in (2, 3) or 0 in shape:
        raise InvalidImageError(f"{expected}, none of them zero")
    if len(shape) == 3 and shape[2] <= MOST_COLOURS < min(shape[:2]):
        planes = f", or numpy.moveaxis(image, -1, 0) for all {shape[2]} planes" if shape[2] > 1 else ""
        raise InvalidImageError(f"{expected}; give image[..., 0]{planes}")


def read_mask(mask: Any, shape: tuple[int, ...]) -> Mask:
    """Return an inpainting mask as booleans, shape (N, H, W): it has the image's shape and holds booleans or 0 and 1."""
    contents = read_contents(mask, "mask")
    values = contents.values
    if contents.unit is not None or (contents.mask is not None and contents.mask.any()):
        raise InvalidImageError("the mask has a unit or is itself masked: give a plain array of booleans")
    if values.shape != shape:
        raise InvalidImageError(f"the mask has shape {values.shape}: expected {shape}, the shape of the image")
    if values.dtype.kind != "b":
        if values.dtype.kind not in "uif" or not (are_marks := np.isin(values, (0, 1))).all():
            found = f", such as {values[~are_marks].flat[0]:g}" if values.dtype.kind in "uif" else ""
            raise InvalidImageError(
                f"the mask holds other values than 0 and 1{found}: compare it with a threshold first, as in values > 0.5"
            )
        values = values.astype(bool)
    return values.reshape(-1, *shape[-2:])


def read_labelled(image: Any, mask: Any, ignore: Any, unit: str | None) -> tuple[ImageStack, Mask, Mask]:
    """Return images with their CR masks and ignore masks, each (N, H, W); pixels that are not valid are ignored too."""
    stack = read_image(image, unit)
    cosmic_rays = read_mask(mask, stack.shape)
    ignored = np.zeros(cosmic_rays.shape, bool) if ignore is None else read_mask(ignore, stack.shape)
    return stack, cosmic_rays, ignored if stack.valid is None else ignored | ~stack.valid


def groups(mask: Mask) -> tuple[NDArray[np.int32], int]:
    """Return the group of touching pixels that each pixel of a mask (H, W) belongs to, from 1, and how many there are."""
    from scipy.ndimage import label  # its import takes a quarter of a second

    labels, count = label(mask, TOUCHING)
    return labels, count


def hidden_cores(mask: Mask, usable: Mask) -> str | None:
    """Return a sentence if pixels of a mask (H, W) crowd around areas that are not usable."""
    from scipy.ndimage import binary_opening

    hidden = binary_opening(~usable, np.ones((3, 3)))
    if not hidden.any():
        return None
    beside = near(hidden) & usable
    here, pixels = int(np.count_nonzero(mask & beside)), int(np.count_nonzero(beside))
    elsewhere = int(np.count_nonzero(mask)) - here, max(int(np.count_nonzero(usable)) - pixels, 1)
    expected = elsewhere[0] / elsewhere[1] * pixels
    if here < _LEAST_BESIDE or here < _BESIDE_EXCESS * expected:
        return None
    return (
        f"{here:,} of the masked pixels touch areas that are not usable, where {expected:,.0f} are expected: if these hide "
        "the cores of stars, their wings are taken for cosmic rays: keep the values of the cores under the mask, or flag "
        "them as saturated in DQ"
    )


def near(pixels: Mask, side: int = BLEEDING) -> Mask:
    """Return the pixels within a square of this side around those given."""
    if not pixels.any():
        return pixels
    before, after = side // 2, side - 1 - side // 2
    for axis in (0, 1):
        given = np.moveaxis(pixels, axis, 0)
        grown = given.copy()
        for step in range(1, before + 1):
            grown[step:] |= given[:-step]
        for step in range(1, after + 1):
            grown[:-step] |= given[step:]
        pixels = np.moveaxis(grown, 0, axis)
    return pixels


def local_median(image: Image, wanted: Mask, good: Mask) -> Image:
    """Return the median of the good pixels in 5x5 around each wanted pixel; NaN where no neighbour is good.

    `image`, `wanted` and `good` have shape (H, W). The result is 1-D, in the order of ``numpy.nonzero(wanted)``.
    """
    parts = [_local_median(image, good, *places) for places in _bands(wanted)]
    return np.concatenate(parts) if parts else np.empty(0, dtype=np.float32)


def replace_from_neighbours(image: Image, wanted: Mask, good: Mask) -> Image:
    """Return a copy with each wanted pixel replaced by the median of the good pixels in 5x5, or by the nearest good one.

    If no pixel is good, wanted pixels become zero.
    """
    replaced = np.where(wanted, np.float32(0), image)
    if not good.any():
        return replaced
    nearest = None
    for rows, columns in _bands(wanted):
        values = _local_median(image, good, rows, columns)
        alone = np.isnan(values)
        if alone.any():
            nearest = nearest or _nearest_good(image, good)
            values[alone] = nearest(rows[alone], columns[alone])
        replaced[rows, columns] = values
    return replaced


def _bands(wanted: Mask) -> Iterator[tuple[Indices, Indices]]:
    """Yield rows and columns of the wanted pixels, one band of the image at a time."""
    step = max(1, _BAND_PIXELS // wanted.shape[1])
    for top in range(0, wanted.shape[0], step):
        rows, columns = np.nonzero(wanted[top : top + step])
        if rows.size:
            yield rows + top, columns


def _local_median(image: Image, good: Mask, rows: Indices, columns: Indices) -> Image:
    steps = np.arange(WINDOW) - WINDOW // 2
    near_rows = rows[:, None, None] + steps[:, None]
    near_columns = columns[:, None, None] + steps
    inside = (near_rows >= 0) & (near_rows < image.shape[0]) & (near_columns >= 0) & (near_columns < image.shape[1])
    near = np.where(inside, near_rows, 0), np.where(inside, near_columns, 0)
    usable = (inside & good[near]).reshape(rows.size, -1)
    ordered = np.sort(np.where(usable, image[near].reshape(rows.size, -1), np.float32(np.inf)), axis=1)
    count = usable.sum(axis=1)
    lower, upper = np.maximum(count - 1, 0) // 2, np.minimum(count // 2, ordered.shape[1] - 1)
    index = np.arange(rows.size)
    middle = ordered[index, lower] / 2 + ordered[index, upper] / 2
    return np.where(count > 0, middle, np.float32(np.nan)).astype(np.float32)


def _nearest_good(image: Image, good: Mask) -> Callable[[Indices, Indices], Image]:
    """Return a function that looks up the value of the good pixel nearest to each place that is not good."""
    from scipy.ndimage import binary_dilation
    from scipy.spatial import KDTree

    # the nearest good pixel always touches one that is not good: the rims of the holes are enough
    rim = np.argwhere(good & binary_dilation(~good, np.ones((3, 3))))
    tree = KDTree(rim)

    def nearest(rows: Indices, columns: Indices) -> Image:
        _, index = tree.query(np.column_stack([rows, columns]))
        values: Image = image[tuple(rim[index].T)]
        return values

    return nearest
