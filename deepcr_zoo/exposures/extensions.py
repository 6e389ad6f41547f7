"""Which images of a FITS file are science images, and which hold the quality of their pixels."""

from __future__ import annotations

import fnmatch
import glob
import math
from collections import ChainMap
from collections.abc import Callable, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from deepcr_zoo.errors import InvalidFileError, NotAnExposureError
from deepcr_zoo.exposures.fitsfiles import extension_name, extension_version, image_values, is_image
from deepcr_zoo.exposures.missing import Missing
from deepcr_zoo.models.images import Mask
from deepcr_zoo.zoo.instruments import Instrument, Keywords, number, text

FLAGS = ("DQ",)  # extensions of DQ flags
MASKS = ("MASK", "BPM")  # extensions where any number but 0 marks a bad pixel (astropy's CCDData; LCO's BANZAI)
WITHOUT_DQ = "clean does without it if you give --ignore-dq all"
_OTHER = ("ERR", "UNCERT", "WHT", "CTX", "IVAR", "VAR", "VARIANCE", "WEIGHT", "SIGMA", "STAT", "QUAL", "APERTURE", "CAT")
NO_SCIENCE = (*FLAGS, *MASKS, *_OTHER)
"""Names of extensions that describe a science image."""

_INT16 = np.iinfo(np.int16)


def science_images(
    hdus: fits.HDUList, chosen: Sequence[str], path: Path, recognise: Callable[[Keywords], Instrument | None]
) -> tuple[list[int], list[Missing]]:
    """Return the chosen images; else all SCI extensions by EXTVER, the primary image, or the only image extension.

    Where none of this decides, all images come with the choice that is missing.
    """
    images = [index for index, hdu in enumerate(hdus) if is_image(hdu) and hdu.shape]
    if chosen:
        return _chosen(hdus, images, chosen, path), []
    science = [index for index, hdu in enumerate(hdus) if extension_name(hdu) == "SCI"]
    if science:
        return _numbered(hdus, images, science, path), []
    images = [index for index in images if extension_name(hdus[index]) not in NO_SCIENCE and len(hdus[index].shape) > 1]
    images = [index for index in images if is_plane(hdus[index].shape)] or images
    if not images:
        raise NotAnExposureError(f"{path}: holds no image: expected a SCI extension or an image in the primary")
    known = recognise(ChainMap(hdus[images[0]].header, hdus[0].header))
    if known and known.every_image_is_a_chip and images[0] != 0:
        return images, []
    if images[0] == 0 and not any(_pixels(hdus[other]) > _pixels(hdus[0]) for other in images):
        return [0], []
    if len(images) > 1:
        what = f"it holds {len(images)} images, {_listed(hdus, images)}, and it is not known which are exposures"
        return images, [Missing(what, f"--extension {_pattern([_label(hdus, index) for index in images])}")]
    return images, []


def is_plane(shape: tuple[int, ...]) -> bool:
    """True for two axes, or more whose other lengths are 1 (NAXIS3 = 1)."""
    return len(shape) >= 2 and 0 not in shape and all(length == 1 for length in shape[:-2])


def versions(hdus: fits.HDUList, indices: Sequence[int]) -> list[int]:
    """Return the number of each image, which its quality layers and products share: EXTVER, else its place in the file."""
    if stated := _stated_versions(hdus, indices):
        return stated
    images = _images(hdus)
    places = {index: place for place, index in enumerate(images, 1)}
    return [places.get(index, 1 + len(images) + index) for index in indices]


def _stated_versions(hdus: fits.HDUList, indices: Sequence[int]) -> list[int]:
    """Return EXTVER of each image; nothing if one has none, or two have the same."""
    stated = [extension_version(hdus[i]) for i in indices if extension_name(hdus[i]) == "SCI" or "EXTVER" in hdus[i].header]
    return stated if len(set(stated)) == len(indices) else []


def _images(hdus: fits.HDUList) -> list[int]:
    return [i for i, hdu in enumerate(hdus) if is_image(hdu) and hdu.shape and extension_name(hdu) not in NO_SCIENCE]


QualityLayers = Mapping[int, Sequence[Any]]
"""Extensions of flags and masks by the number of their science image."""


def quality_layers(hdus: fits.HDUList, indices: Sequence[int], path: Path) -> QualityLayers:
    """Return the extensions of DQ flags and masks, by EXTVER; `InvalidFileError` if several images have no EXTVER."""
    layers: dict[int, list[Any]] = {}
    for hdu in hdus:
        if extension_name(hdu) in (*FLAGS, *MASKS):
            layers.setdefault(extension_version(hdu), []).append(hdu)
    if layers and len(_images(hdus)) > 1 and not _stated_versions(hdus, indices):
        name = extension_name(next(iter(layers.values()))[0])
        raise InvalidFileError(
            f"{path}: which image its {name} extension belongs to is not known, since no EXTVER numbers its images: "
            f"{WITHOUT_DQ}"
        )
    return layers


def quality_of(layers: Sequence[Any], shape: tuple[int, ...], where: str) -> tuple[NDArray[np.integer] | None, Mask | None]:
    """Return the DQ flags and the mask of a science image, shape (H, W), from its layers; None if the file has none.

    A constant array of the HST pipelines, without pixels, gives no flags.
    """
    flags = masks = None
    for hdu in layers:
        name = extension_name(hdu)
        values = _quality_values(hdu, (shape[-2], shape[-1]), f"{where}: its {name} extension")
        if values is None:
            continue
        if name in FLAGS and flags is not None:
            raise InvalidFileError(f"{where}: has two {name} extensions: {WITHOUT_DQ}, or number them by EXTVER")
        if name in FLAGS:
            flags = values
        else:
            masks = values != 0 if masks is None else masks | (values != 0)
    return flags, masks


def constant_flags(header: Keywords) -> int:
    """Return the flags of every pixel in a constant array of the HST pipelines, which has no pixels (PIXVALUE)."""
    stated = number(header, "PIXVALUE") or 0
    return int(stated) if _INT16.min <= stated <= _INT16.max else 0


def _quality_values(hdu: Any, shape: tuple[int, int], where: str) -> NDArray[np.integer] | None:
    try:
        values = image_values(hdu, where) if is_image(hdu) else None
    except InvalidFileError as error:
        raise InvalidFileError(f"{error}; {WITHOUT_DQ}") from None
    if values is None:
        constant = constant_flags(hdu.header) if is_image(hdu) else 0
        return np.full(shape, constant, dtype=np.int16) if constant else None
    if values.ndim > 2 and values.size == shape[0] * shape[1]:
        values = values.reshape(values.shape[-2:])
    if values.shape != shape or values.dtype.kind not in "iub":
        raise InvalidFileError(
            f"{where} holds {values.dtype} of shape {values.shape}: expected integers of shape {shape}; {WITHOUT_DQ}"
        )
    return np.asarray(values)


def _pixels(hdu: Any) -> int:
    return math.prod(hdu.shape)


def _numbered(hdus: fits.HDUList, images: list[int], science: list[int], path: Path) -> list[int]:
    empty = [extension_version(hdus[index]) for index in sorted(set(science) - set(images))]
    if empty:
        raise InvalidFileError(f"{path}: SCI,{empty[0]}: holds no pixels")
    if len({extension_version(hdus[index]) for index in science}) < len(science):
        raise InvalidFileError(f"{path}: two SCI extensions have the same EXTVER: choose with --extension NUMBER")
    return sorted(science, key=lambda index: extension_version(hdus[index]))


def _chosen(hdus: fits.HDUList, images: list[int], chosen: Sequence[str], path: Path) -> list[int]:
    """Return the images that match the wishes: a number, a NAME, NAME,VERSION or a wildcard; each image once."""
    found: dict[int, None] = {}
    for wish in chosen:
        matching = [index for index in range(len(hdus)) if _is_meant(hdus, index, wish)]
        if glob.has_magic(wish):
            matching = [index for index in matching if index in set(images)]
        if not matching:
            raise InvalidFileError(f"{path}: has no extension {wish}: expected one of {_listed(hdus, images)}")
        if no_image := [index for index in matching if index not in images]:
            raise InvalidFileError(f"{path}: extension {wish}: {_label(hdus, no_image[0])} holds no pixels")
        found.update(dict.fromkeys(matching))
    return list(found)


def _is_meant(hdus: fits.HDUList, index: int, wish: str) -> bool:
    if wish.strip().isdecimal():
        return _is_number(wish, index)
    name, comma, version = wish.upper().rpartition(",")
    if not (comma and version.strip().isdecimal()):
        name, version = wish.upper(), str(extension_version(hdus[index]))
    found = extension_name(hdus[index]) or ("PRIMARY" if index == 0 else "")
    return fnmatch.fnmatchcase(found, name.strip()) and _is_number(version, extension_version(hdus[index]))


def _is_number(text: str, number: int) -> bool:
    """Compare as text, which may have more digits than Python reads."""
    return text.strip().lstrip("0") == str(number).lstrip("0")


def _label(hdus: fits.HDUList, index: int) -> str:
    return text(hdus[index].header, "EXTNAME") or str(index)


def _listed(hdus: fits.HDUList, images: Sequence[int]) -> str:
    shown = [f"{_label(hdus, index)} ({' x '.join(map(str, hdus[index].shape))})" for index in images[:8]]
    return ", ".join(shown) + (f" and {len(images) - 8} more" if len(images) > 8 else "")


def _pattern(labels: list[str]) -> str:
    """Return what to give to choose: a wildcard where the names begin alike, else the names or numbers."""
    alike = takewhile(lambda letters: len(set(letters)) == 1, zip(*labels, strict=False))
    common = "".join(letters[0] for letters in alike)
    return f"'{common}*'" if len(common) > 1 and not common.isdecimal() else " or ".join(labels[:4])
