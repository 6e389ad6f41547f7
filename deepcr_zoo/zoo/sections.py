"""Sections of an image, as FITS headers and descriptions of cameras give them."""

from __future__ import annotations

import re

from deepcr_zoo.zoo.instruments import Keywords, text

IMAGE_SECTIONS = ("TRIMSEC", "DATASEC")
"""Keywords of the pixels that see light, and of what to keep of them (NOAO's conventions for CCD headers, IRAF ccdproc)."""

BIAS_SECTION = "BIASSEC"

_SECTION = re.compile(r"\[\s*(\d+)\s*:\s*(\d+)\s*,\s*(\d+)\s*:\s*(\d+)\s*\]")
"""A section as in IRAF: columns, then rows, counted from 1, the last included."""

Section = tuple[slice, slice]  # rows, columns


def stated_section(header: Keywords, place: str) -> str:
    """Return a section that a description gives, or that of the keyword which it names."""
    return place if place.startswith("[") else text(header, place)


def section_of(header: Keywords, place: str, shape: tuple[int, ...]) -> Section | None:
    """Return a section, or that of a keyword; None if it is absent, cannot be read or does not lie inside the image.

    A section that a pipeline has left behind after trimming the image does not fit it any more.
    """
    found = _SECTION.fullmatch(stated_section(header, place))
    if found is None:
        return None
    x1, x2, y1, y2 = map(int, found.groups())
    columns, rows = sorted((x1, x2)), sorted((y1, y2))
    if columns[0] < 1 or rows[0] < 1 or columns[1] > shape[1] or rows[1] > shape[0]:
        return None
    return slice(rows[0] - 1, rows[1]), slice(columns[0] - 1, columns[1])
