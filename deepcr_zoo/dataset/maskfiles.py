"""Masks that users give: in FITS extensions and npz files, which may be others' and are read within bounds."""

from __future__ import annotations

import hashlib
import io
import math
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepcr_zoo.errors import InvalidFileError
from deepcr_zoo.exposures.fitsfiles import (
    check_memory,
    extension_name,
    extension_version,
    image_values,
    is_image,
    opened,
    read_unchanged,
    root_name,
)
from deepcr_zoo.zoo.recipe import GivenBlock

_NUMBERS = "buif"  # kinds of arrays that are read: never objects, which numpy would unpickle
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


@dataclass(frozen=True)
class MaskFile:
    """A file with a mask, and the extension or array of it, empty for the only one."""

    path: Path
    part: str
    sha256: str

    @property
    def where(self) -> str:
        """Its place for errors."""
        return f"{self.path}[{self.part}]" if self.part else str(self.path)


@dataclass(frozen=True)
class MaskFiles:
    """The masks of an exposure."""

    cosmic_rays: MaskFile | None = None
    ignore: MaskFile | None = None

    @property
    def identity(self) -> list[Any]:
        """What labels depend on."""
        return [one and [one.sha256, one.part] for one in (self.cosmic_rays, self.ignore)]


NO_MASKS = MaskFiles()


def find_masks(exposure: Path, sha256: str, block: GivenBlock) -> MaskFiles:
    """Return the masks of an exposure, whose file has this hash; `InvalidFileError` if one cannot be read."""

    def find(ending: str) -> MaskFile:
        path, part = _place(exposure, ending)
        return MaskFile(path, part, sha256 if path == exposure else hashlib.sha256(read_unchanged(path)).hexdigest())

    return MaskFiles(find(block.mask), find(block.ignore) if block.ignore else None)


def files_beside(exposure: Path, block: GivenBlock) -> list[Path]:
    """Return where the masks of an exposure are, as far as they are not in its own file."""
    paths = [_place(exposure, ending)[0] for ending in (block.mask, block.ignore) if ending]
    return [path for path in paths if path != exposure]


def read_masks(file: MaskFile, versions: Sequence[int]) -> list[NDArray[np.bool_]]:
    """Return the mask of each chip, by its EXTVER; 1 and True are marked."""
    data = read_unchanged(file.path)
    if hashlib.sha256(data).hexdigest() != file.sha256:
        raise InvalidFileError(f"{file.path}: has changed since its visit was planned: run again when it is at rest")
    if file.path.suffix == ".npz":
        array = read_array(data, file.path, file.part)
        arrays = [array] if array.ndim == 2 else list(array) if array.ndim == 3 else []
    else:
        arrays = _from_fits(data, file, versions)
    if len(arrays) != len(versions):
        raise InvalidFileError(
            f"{file.where}: holds {len(arrays)} masks of two axes: expected {len(versions)}, one for each chip"
        )
    return [as_mask(array, file.where) for array in arrays]


def read_array(data: bytes, path: Path, name: str = "") -> NDArray[Any]:
    """Return an array of an npz file, the only one if none is named; numbers alone, and never more than it announces."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = [one.removesuffix(".npy") for one in archive.namelist()]
            if (not name and len(names) != 1) or (name and name not in names):
                raise InvalidFileError(f"{path}: holds the arrays {', '.join(names[:9])}: expected {name or 'one alone'}")
            with archive.open(f"{name or names[0]}.npy") as member:
                shape, by_column, dtype = _HEADERS[np.lib.format.read_magic(member)](member)
                if dtype.kind not in _NUMBERS:
                    raise InvalidFileError(f"{path}[{name or names[0]}]: holds {dtype}: expected numbers")
                size = math.prod(shape) * dtype.itemsize
                check_memory(2 * size, f"{path}[{name or names[0]}]: announces {' x '.join(map(str, shape))} numbers")
                content = member.read(size + 1)
        if len(content) != size:
            raise ValueError("another length than its header announces")
        return np.frombuffer(content, dtype).reshape(shape, order="F" if by_column else "C")
    except (InvalidFileError, MemoryError):
        raise
    except Exception as error:  # zipfile, its decompressors and numpy raise anything on damaged files
        raise InvalidFileError(f"{path}: cannot be read as an npz file of arrays: {error}") from None


def as_mask(values: Any, where: str) -> NDArray[np.bool_]:
    """Return a mask of booleans, or of 0 and 1, as booleans; no other value is taken for a mask."""
    array = np.asarray(values)
    if array.dtype.kind not in _NUMBERS or (array.dtype.kind != "b" and not np.isin(array, (0, 1)).all()):
        raise InvalidFileError(f"{where}: holds other values than 0 and 1: expected a mask, in which 1 is marked")
    return array.astype(bool)


def _place(exposure: Path, ending: str) -> tuple[Path, str]:
    end, _, part = ending.partition("[")
    return exposure.with_name(f"{root_name(exposure)}{end}"), part.removesuffix("]")


def _from_fits(data: bytes, file: MaskFile, versions: Sequence[int]) -> list[Any]:
    with opened(data, file.path) as (hdus, _, _):
        images = [hdu for hdu in hdus if is_image(hdu) and len(hdu.shape) == 2]
        if file.part.isdigit():
            images = [hdu for number, hdu in enumerate(hdus) if number == int(file.part) and hdu in images]
        elif file.part:
            named = [hdu for hdu in images if extension_name(hdu) == file.part.upper()]
            images = [hdu for version in versions for hdu in named if len(named) == 1 or extension_version(hdu) == version]
        return [np.array(image_values(hdu, file.where)) for hdu in images]
