"""Frames that are no exposures of the sky with a CCD, by their headers."""

from __future__ import annotations

from deepcr_zoo.zoo.instruments import FrameKind, Keywords, matches, shipped_table


def frame_kind(keywords: Keywords) -> tuple[FrameKind, str] | None:
    """Return the kind of a frame that is no exposure of the sky, and the keyword that says so; else None."""
    for kind in shipped_table().frame_kinds:
        keyword = next((name for name in kind.keywords if matches(keywords, {name: kind.values})), None)
        if keyword is not None:
            return kind, keyword
    return None
