"""The truth of a simulated exposure, in a file beside it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from deepcr_zoo.errors import InterruptedWorkError, InvalidFileError
from deepcr_zoo.files import CHANGED, read_file, sha256_of

_ENDING = re.compile(r"(_(flc|flt|raw))?\.fits$")


@dataclass(frozen=True)
class Truth:
    """The truth of one chip: e-, shape (H, W)."""

    cosmic_rays: NDArray[np.float32]
    scene: NDArray[np.float32]  # electrons, sky included, without cosmic rays, noise and saturation
    noise: NDArray[np.float32]  # sigma of the noise of scene, dark current and readout


def truth_path(exposure: Path) -> Path:
    """Return the path of the truth of ``ROOT_flc.fits`` or ``ROOT.fits``: ``ROOT_truth.safetensors``."""
    return exposure.with_name(_ENDING.sub("", exposure.name) + "_truth.safetensors")


def truth_bytes(chips: Sequence[Truth]) -> bytes:
    """Return the content of a truth file, with arrays called ``NAME_EXTVER``."""
    versions = enumerate(chips, 1)
    return save({f"{name}_{version}": layer for version, chip in versions for name, layer in vars(chip).items()})


def truth_sha256(path: Path) -> str:
    """Return the SHA-256 of a truth file; `InvalidFileError` if it cannot be read."""
    try:
        return sha256_of(path)
    except OSError as error:
        raise InvalidFileError(f"{path}: cannot be read: {error.strerror}") from None


def read_truth(path: Path, sha256: str | None = None) -> list[Truth]:
    """Read the truth of an exposure's chips, in the order of EXTVER.

    Raises `InvalidFileError` for what no simulation writes, `InterruptedWorkError` for a file that has not this SHA-256.
    """
    try:
        data = read_file(path)
        if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
            raise InterruptedWorkError(f"{path}: {CHANGED}")
        arrays = load(data)
        chips = len(arrays) // len(fields(Truth))
        found = [
            Truth(**{field.name: arrays.pop(f"{field.name}_{version}") for field in fields(Truth)})
            for version in range(1, chips + 1)
        ]
    except OSError as error:
        raise InvalidFileError(f"{path}: cannot be read: {error.strerror}") from None
    except (SafetensorError, KeyError):
        raise InvalidFileError(f"{path}: is not the truth of a simulated exposure: simulate the visit again") from None
    if arrays or not found or not all(map(_is_sound, found)):
        raise InvalidFileError(f"{path}: holds what no simulation writes: simulate the visit again")
    return found


def _is_sound(chip: Truth) -> bool:
    layers = list(vars(chip).values())
    shape = chip.scene.shape
    if len(shape) != 2 or any(layer.shape != shape or layer.dtype != np.float32 for layer in layers):
        return False
    if not all(np.isfinite(layer).all() for layer in layers):
        return False
    return bool((chip.noise > 0).all() and (chip.cosmic_rays >= 0).all())
