"""Corrections of a mask by hand, and the mask file that has them."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from deepcr_zoo.batch import CORRECTED_ENDING
from deepcr_zoo.documents import Document
from deepcr_zoo.errors import InvalidDocumentError
from deepcr_zoo.exposures import products
from deepcr_zoo.exposures.plan import target
from deepcr_zoo.exposures.products import ChipMask
from deepcr_zoo.exposures.provenance import Cards, MaskProvenance
from deepcr_zoo.exposures.viewer.seen import Mask, Seen, SeenChip
from deepcr_zoo.files import reporting_failures, sha256_of, sweep_partial, write_atomically, write_new
from deepcr_zoo.models.images import groups
from deepcr_zoo.zoo.cards import Probability

MOST_DETECTIONS = 20_000
"""Cosmic rays that are listed, the largest first."""

WAY_OUT = "make it writable, and save again"

Place = Annotated[int, Field(ge=0)]


class ChipCorrections(Document):
    """Pixels of a chip that were painted and erased, by row * width + column."""

    added: list[Place]
    removed: list[Place]


class Corrections(Document):
    """What makes the masks of all chips: a threshold, and what was changed by hand."""

    threshold: Probability
    chips: list[ChipCorrections]
    saved: Annotated[int, Field(ge=0)] = 0  # number of the save that they go on from


@dataclass(frozen=True)
class SavedMask:
    """A corrected mask on disk."""

    path: Path
    sha256: str
    pixels: int  # masked

    @property
    def is_untouched(self) -> bool:
        """True if its file is still as it was written."""
        try:
            return not self.path.is_symlink() and sha256_of(self.path) == self.sha256
        except OSError:
            return False


@dataclass(frozen=True)
class CorrectedProvenance(MaskProvenance):
    """Provenance of a mask that was corrected by hand."""

    added: int
    removed: int

    def cards(self) -> Cards:
        """Return FITS keywords with values and comments."""
        return {
            **super().cards(),
            "CRADDED": (self.added, "[pixel] masked by hand"),
            "CRREMOVD": (self.removed, "[pixel] taken out of the mask by hand"),
        }


def read_corrections(text: bytes, seen: Seen) -> Corrections:
    """Read corrections as the page sends them; `InvalidDocumentError` if they are not of these chips."""
    try:
        found = Corrections.model_validate_json(text)
    except ValueError as error:
        raise InvalidDocumentError(f"corrections: {error}") from None
    if len(found.chips) != len(seen.chips):
        raise InvalidDocumentError(f"corrections: of {len(found.chips)} chips: expected {len(seen.chips)}")
    for one, chip in zip(found.chips, seen.chips, strict=True):
        if max([*one.added, *one.removed], default=0) >= chip.chip.pixels.size:
            raise InvalidDocumentError(f"corrections: expected pixels of {chip.chip.label}, below {chip.chip.pixels.size}")
    return found


def corrected(chip: SeenChip, threshold: float, corrections: ChipCorrections) -> Mask:
    """Return the mask of a chip, shape (H, W)."""
    mask = chip.scores > threshold
    mask.flat[corrections.added] = True
    mask.flat[corrections.removed] = False
    return mask


def detections(chip: SeenChip, mask: Mask) -> tuple[int, NDArray[np.int64]]:
    """Return the number of cosmic rays, and x, y and pixels of each, the largest first, shape (n, 3); x and y begin with 0.

    The place is that of the pixel of a cosmic ray with the highest score, which always lies on it.
    """
    labels, count = groups(mask)
    masked = np.flatnonzero(mask)
    label = labels.ravel()[masked]
    order = np.lexsort((masked, -chip.scores.ravel()[masked], label))
    first, sizes = np.unique(label[order], return_index=True, return_counts=True)[1:]
    largest = np.argsort(-sizes, kind="stable")[:MOST_DETECTIONS]
    rows, columns = np.divmod(masked[order[first[largest]]], mask.shape[1])
    return count, np.column_stack([columns, rows, sizes[largest]])


def new_file(seen: Seen, folder: str | os.PathLike[str] | None) -> Path:
    """Return a path for the corrected mask that no file has; remove what killed viewers left unfinished on the way."""
    root = target(seen.exposure.path, folder, "")
    number = 1
    while os.path.lexists(path := root.with_name(f"{root.name}{f'_{number}' if number > 1 else ''}{CORRECTED_ENDING}")):
        sweep_partial(path)
        number += 1
    sweep_partial(path)
    return path


def cautions_of_folder(seen: Seen, folder: Path | None) -> list[str]:
    """Return a caution if masks cannot be saved, before anything is corrected; nothing is written."""
    place = target(seen.exposure.path, folder, "").parent
    there = next(path for path in (place, *place.parents) if path.exists())
    if os.access(there, os.W_OK | os.X_OK):
        return []
    return [f"{there}: cannot be written, so corrections cannot be saved: start again with another --output-dir"]


def save(seen: Seen, corrections: Corrections, before: SavedMask | None, folder: Path | None) -> SavedMask:
    """Write the corrected mask, which ``clean --mask`` takes.

    It replaces the mask `before` if that is still as it was written, and else no file.
    """
    masks = [_chip_mask(chip, corrections, one) for chip, one in zip(seen.chips, corrections.chips, strict=True)]
    made = seen.plan.mask_provenance
    common = {field.name: getattr(made, field.name) for field in fields(made)} | {"threshold": corrections.threshold}
    added, removed = (sum(len(getattr(one, kind)) for one in corrections.chips) for kind in ("added", "removed"))
    provenance = CorrectedProvenance(**{**common, "probability": False}, added=added, removed=removed)
    content = products.mask_file(seen.exposure, masks, provenance, seen.selection.cautions)
    path = _write(content, seen, before, folder)
    return SavedMask(path, hashlib.sha256(content).hexdigest(), sum(int(one.mask.sum()) for one in masks))


def _write(content: bytes, seen: Seen, before: SavedMask | None, folder: Path | None) -> Path:
    if before is not None and before.is_untouched:
        with reporting_failures(before.path, WAY_OUT):
            write_atomically(content, before.path)
        return before.path
    while True:
        path = new_file(seen, folder)
        with reporting_failures(path, WAY_OUT):
            try:
                write_new(content, path, seen.exposure.permissions)
            except FileExistsError:
                if not os.path.lexists(path):  # its folder is a file
                    raise
            else:
                return path


def _chip_mask(chip: SeenChip, corrections: Corrections, changed: ChipCorrections) -> ChipMask:
    mask = corrected(chip, corrections.threshold, changed)
    return ChipMask(chip.chip, mask, groups(mask)[1], None)
