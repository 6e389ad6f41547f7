"""What only a simulation knows of an exposure, in a file beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from deepcr_zoo.errors import InvalidFileError


@dataclass(frozen=True)
class Truth:
    """The truth of one chip, all in e-, float32, shape (H, W).

    Attributes
    ----------
    cosmic_rays : ndarray
        Electrons that cosmic rays left.
    scene : ndarray
        What the pixels would hold without cosmic rays, noise and a bound to the charge of a pixel; sky included.
    noise : ndarray
        Sigma of the noise of scene, dark current and reading.
    """

    cosmic_rays: NDArray[np.float32]
    scene: NDArray[np.float32]
    noise: NDArray[np.float32]


def truth_path(exposure: Path) -> Path:
    """The truth of ``ROOT_flc.fits`` stands in ``ROOT_truth.safetensors``."""
    return exposure.with_name(exposure.name.removesuffix("_flc.fits") + "_truth.safetensors")


def truth_bytes(chips: Sequence[Truth]) -> bytes:
    """The content of a truth file: ``NAME_EXTVER`` for each array."""
    return save(
        {
            f"{field.name}_{version}": getattr(chip, field.name)
            for version, chip in enumerate(chips, 1)
            for field in fields(chip)
        }
    )


def read_truth(path: Path) -> list[Truth]:
    """The truth of an exposure's chips.

    Returns
    -------
    list of Truth
        In the order of EXTVER.

    Raises
    ------
    InvalidFileError
        If the file cannot be read, or is no truth.
    """
    try:
        arrays = load(path.read_bytes())
        chips = len(arrays) // len(fields(Truth))
        return [
            Truth(**{field.name: arrays[f"{field.name}_{version}"] for field in fields(Truth)})
            for version in range(1, chips + 1)
        ]
    except OSError as error:
        raise InvalidFileError(f"{path}: cannot be read: {error.strerror}") from None
    except (SafetensorError, KeyError):
        raise InvalidFileError(f"{path}: is no truth of a simulated exposure: simulate the visit again") from None
