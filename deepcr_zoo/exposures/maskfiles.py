"""Masks that users give: in FITS extensions and npz files, which may be others' and are read within bounds."""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepcr_zoo.errors import InvalidFileError, InvalidImageError
from deepcr_zoo.exposures.fitsfiles import (
    check_memory,
    extension_name,
    extension_version,
    image_values,
    is_image,
    opened,
    read_unchanged,
    read_with_permissions,
    reason,
)
from deepcr_zoo.exposures.packing import unpacked
from deepcr_zoo.exposures.products import MASK_EXTENSION
from deepcr_zoo.models.images import read_mask
from deepcr_zoo.models.npzfiles import read_array
from deepcr_zoo.permissions import Permissions
from deepcr_zoo.zoo.instruments import text


@dataclass(frozen=True)
class MaskFile:
    """A file with a mask, and the extension or array of it, empty for the only one."""

    path: Path
    part: str
    sha256: str
    cautions: tuple[str, ...] = ()

    @property
    def where(self) -> str:
        """Its place for errors."""
        return f"{self.path}[{self.part}]" if self.part else str(self.path)


def find_mask(path: Path, exposure_sha256: str, part: str | None = None) -> MaskFile:
    """Return a mask file: a part of it, by default its extensions of masks if it has any, else its only image or array.

    Its cautions are damage, and that the mask was made for an exposure with another hash. `InvalidFileError` if it cannot
    be read.
    """
    data = read_unchanged(path)
    sha256 = hashlib.sha256(data).hexdigest()
    if path.suffix == ".npz":
        return MaskFile(path, part or "", sha256)
    with opened(unpacked(data, path), path) as (hdus, _, damage):
        if part is None:
            part = MASK_EXTENSION if any(extension_name(hdu) == MASK_EXTENSION for hdu in hdus) else ""
        return MaskFile(path, part, sha256, tuple(_cautions(path, hdus, damage, exposure_sha256)))


def _cautions(path: Path, hdus: Any, damage: Sequence[str], exposure_sha256: str) -> list[str]:
    """Return damage, and that a mask was made for an exposure with another hash; an empty hash is not compared."""
    cautions = [f"{path.name}: {one}" for one in damage]
    made_for = text(hdus[0].header, "CRINPUT")
    if made_for and exposure_sha256 and made_for != exposure_sha256:
        name = text(hdus[0].header, "CRFILE") or "another exposure"
        cautions.append(f"{path.name} was made for {name}, with other bytes: check that it fits this exposure")
    return cautions


class ProductMask(NamedTuple):
    """The mask of a chip in a product, shape (H, W), and the extension of the exposure that it belongs to."""

    extension: str
    mask: NDArray[np.bool_]


class ProductMasks(NamedTuple):
    """The masks in a product by EXTVER, and cautions as of `find_mask`."""

    chips: dict[int, ProductMask]
    cautions: list[str]
    permissions: Permissions  # of what is made from the file


def product_masks(path: Path, exposure_sha256: str = "") -> ProductMasks:
    """Return the masks in a mask file of `clean` or the viewer; an exposure without a hash is not compared.

    `InvalidFileError` if there are none, or two for a chip, or if one is no mask.
    """
    packed, permissions = read_with_permissions(path)
    with opened(unpacked(packed, path), path) as (hdus, _, damage):
        chips: dict[int, ProductMask] = {}
        for hdu in (one for one in hdus if extension_name(one) == MASK_EXTENSION):
            number = extension_version(hdu)
            where = f"{path}[{MASK_EXTENSION},{number}]"
            if number in chips:
                raise InvalidFileError(f"{where}: stands there twice: expected one mask for each chip")
            if not is_image(hdu) or len(hdu.shape) != 2:
                raise InvalidFileError(f"{where}: expected an image of two axes")
            chips[number] = ProductMask(text(hdu.header, "CREXT"), _marked(np.array(image_values(hdu, where)), where))
        cautions = _cautions(path, hdus, damage, exposure_sha256)
    if not chips:
        raise InvalidFileError(f"{path}: has no {MASK_EXTENSION} extension: expected a mask file of 'deepcr-zoo clean'")
    return ProductMasks(chips, cautions, permissions)


def read_masks(file: MaskFile, versions: Sequence[int]) -> list[NDArray[np.bool_]]:
    """Return the mask of each chip, by its EXTVER; 1 and True are marked."""
    data = read_unchanged(file.path)
    if hashlib.sha256(data).hexdigest() != file.sha256:
        raise InvalidFileError(f"{file.path}: has changed since it was looked at first: run again when it is at rest")
    arrays = _from_npz(data, file, len(versions)) if file.path.suffix == ".npz" else _from_fits(data, file, versions)
    if len(arrays) != len(versions):
        raise _of_another_number(file, len(arrays), len(versions))
    return [_marked(array, file.where) for array in arrays]


def _marked(values: NDArray[Any], where: str) -> NDArray[np.bool_]:
    try:
        mask: NDArray[np.bool_] = read_mask(values, values.shape)[0]
    except InvalidImageError as error:
        raise InvalidFileError(f"{where}: {error}") from None
    return mask


def _of_another_number(file: MaskFile, found: int, expected: int) -> InvalidFileError:
    return InvalidFileError(f"{file.where}: holds {found} masks of two axes: expected {expected}, one for each chip")


def _from_npz(data: bytes, file: MaskFile, count: int) -> list[NDArray[Any]]:
    def accept(shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        masks = {2: 1, 3: shape[0]}.get(len(shape), 0) if shape else 0
        if masks != count:  # before anything is made of each: masks without pixels take no bytes
            raise _of_another_number(file, masks, count)
        check_memory(2 * math.prod(shape) * dtype.itemsize, f"{file.where}: announces {' x '.join(map(str, shape))} numbers")

    try:
        array = read_array(io.BytesIO(data), file.part, accept)
    except (InvalidFileError, MemoryError):
        raise
    except Exception as error:  # see read_array
        raise InvalidFileError(f"{file.where}: cannot be read as an npz file of masks: {reason(error)}") from None
    return [array] if array.ndim == 2 else list(array) if array.ndim == 3 else []


def _from_fits(data: bytes, file: MaskFile, versions: Sequence[int]) -> list[Any]:
    with opened(unpacked(data, file.path), file.path) as (hdus, _, _):
        images = [hdu for hdu in hdus if is_image(hdu) and len(hdu.shape) == 2]
        if file.part.isdigit():
            images = [hdu for number, hdu in enumerate(hdus) if number == int(file.part) and hdu in images]
        elif file.part:
            images = [hdu for hdu in images if extension_name(hdu) == file.part.upper()]
        elif "CRMODEL" in hdus[0].header:
            raise InvalidFileError(f"{file.where}: is a cleaned exposure: give the mask beside it, ROOT_crmask.fits")
        images = _of_chips(images, versions, file)
        return [np.array(image_values(hdu, file.where)) for hdu in images]


def _of_chips(images: list[Any], versions: Sequence[int], file: MaskFile) -> list[Any]:
    """Return the image of each chip, by EXTVER where the images have it, else in the order of the chips' EXTVER."""
    if not any("EXTVER" in hdu.header for hdu in images):
        return images
    stated = [extension_version(hdu) for hdu in images]
    if any(stated.count(version) != 1 for version in versions):
        raise InvalidFileError(
            f"{file.where}: holds masks with EXTVER {', '.join(map(str, stated))}: expected one for each chip, "
            f"{', '.join(map(str, versions))}"
        )
    return [images[stated.index(version)] for version in versions]
