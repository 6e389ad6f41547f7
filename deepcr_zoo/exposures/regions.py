"""Region files for DS9, ginga and CARTA: a box around each cosmic ray of a mask file."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from deepcr_zoo.errors import InvalidFileError, OutputError, printable
from deepcr_zoo.exposures.fitsfiles import root_name
from deepcr_zoo.exposures.maskfiles import product_masks
from deepcr_zoo.exposures.products import MASK_EXTENSION
from deepcr_zoo.files import opened_file, reporting_failures, write_together
from deepcr_zoo.locations import expanded
from deepcr_zoo.models.images import groups

MARGIN_PIXELS = 1

FIRST_LINE, HEAD_BYTES = "# Region file format: DS9 version 4.1", 10_000

MOST_REGIONS = 200_000
"""For a chip: no exposure has as many cosmic rays, and DS9 takes minutes to draw them."""


@dataclass(frozen=True)
class RegionFiles:
    """The region files of a mask file, and cautions about it."""

    paths: list[Path]
    cautions: list[str]


def write_regions(path: Path, folder: Path | None = None, *, overwrite: bool = False) -> RegionFiles:
    """Write a region file for each chip of a mask file, ``ROOT_EXTVER.reg``.

    `InvalidFileError` if the file has no mask, or more than `MOST_REGIONS` groups of pixels in one; `OutputError` if a
    region file exists already and may not be replaced.
    """
    where = path.parent if folder is None else expanded(folder)
    found = product_masks(path)
    contents = {
        where / f"{root_name(path)}_{number}.reg": _text(path, number, one.mask) for number, one in found.chips.items()
    }
    for taken in filter(os.path.lexists, contents):
        if not overwrite:
            raise OutputError(f"{taken}: exists already: --overwrite replaces it, --output-dir writes elsewhere")
        if not _is_ours(taken, path):
            raise OutputError(f"{taken}: is no region file of {path.name}: move it away, or give another --output-dir")
    written = {one: _in_ascii(text) for one, text in contents.items()}
    with reporting_failures(where, "choose another --output-dir"):
        write_together(written, () if overwrite else list(written), found.permissions)
    return RegionFiles(list(contents), found.cautions)


def _is_ours(region_file: Path, mask_file: Path) -> bool:
    """True for a region file that was made from a mask file of this name."""
    try:
        with opened_file(region_file) as file:
            head = file.read(HEAD_BYTES)
    except OSError:
        return False
    return head.startswith(_in_ascii(f"{FIRST_LINE}\n# {printable(mask_file.name)}[{MASK_EXTENSION},"))


def _in_ascii(words: str) -> bytes:
    return words.encode("ascii", "backslashreplace")


def _text(path: Path, number: int, mask: NDArray[np.bool_]) -> str:
    """Return a region file; image coordinates count from 1 at the centre of a pixel (DS9 reference, region file format)."""
    labels, count = groups(mask)
    if count > MOST_REGIONS:
        raise InvalidFileError(
            f"{path}[{MASK_EXTENSION},{number}]: has {count:,} groups of pixels: expected at most {MOST_REGIONS:,}"
        )
    boxes = [
        f"box({_middle(columns):g},{_middle(rows):g},{_side(columns)},{_side(rows)},0)"
        for rows, columns in ndimage.find_objects(labels)
    ]
    head = [
        FIRST_LINE,
        f"# {printable(path.name)}[{MASK_EXTENSION},{number}]",
        "global color=red",
        "image",
    ]
    return "\n".join([*head, *boxes]) + "\n"


def _middle(span: slice) -> float:
    return float((span.start + span.stop + 1) / 2)


def _side(span: slice) -> int:
    return int(span.stop - span.start + 2 * MARGIN_PIXELS)
