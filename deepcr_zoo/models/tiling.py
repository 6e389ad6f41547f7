"""Tiles with a halo, so that a tiled result equals the whole-frame result."""

from __future__ import annotations

from dataclasses import dataclass

MIN_WINDOW_PIXELS = 192 * 192
"""Below about 20,000 pixels torch picks other convolution kernels, which round otherwise; larger windows agree exactly."""


@dataclass(frozen=True)
class Span:
    """One axis of a window: what is read, and which part of it is kept.

    Attributes
    ----------
    start, stop : int
        Pixels that the network sees, multiples of the network's `multiple` (stop may lie beyond the frame).
    keep_start, keep_stop : int
        Pixels of the frame that are taken from this window.
    """

    start: int
    stop: int
    keep_start: int
    keep_stop: int

    @property
    def keep(self) -> slice:
        """The kept pixels, counted in the frame."""
        return slice(self.keep_start, self.keep_stop)

    @property
    def keep_inside(self) -> slice:
        """The kept pixels, counted in the window."""
        return slice(self.keep_start - self.start, self.keep_stop - self.start)


def plan_windows(height: int, width: int, tile: int, halo: int, multiple: int) -> list[tuple[Span, Span]]:
    """Windows of one common size whose kept parts cover a frame once.

    Parameters
    ----------
    height, width : int
        The frame, in pixels.
    tile : int
        Side of the part that a window contributes; made larger where the window would be too small to be exact.
    halo : int
        Context on each side inside the frame, at least the network's reach.
    multiple : int
        Window sides and positions are multiples of this.

    Returns
    -------
    list of (Span, Span)
        Rows and columns of each window.
    """
    rows = min(_round_up(height, multiple), _round_up(tile + 2 * halo, multiple))
    columns = min(_round_up(width, multiple), _round_up(tile + 2 * halo, multiple))
    columns = min(_round_up(width, multiple), max(columns, _round_up(-(-MIN_WINDOW_PIXELS // rows), multiple)))
    rows = min(_round_up(height, multiple), max(rows, _round_up(-(-MIN_WINDOW_PIXELS // columns), multiple)))
    return [
        (row_span, column_span)
        for row_span in _spans(height, rows, halo, multiple)
        for column_span in _spans(width, columns, halo, multiple)
    ]


def _spans(size: int, window: int, halo: int, multiple: int) -> list[Span]:
    padded = _round_up(size, multiple)
    spans: list[Span] = []
    kept = 0
    while kept < size:
        start = max(0, (kept - halo) // multiple * multiple)
        if start + window >= padded:
            spans.append(Span(padded - window, padded, kept, size))
            break
        spans.append(Span(start, start + window, kept, start + window - halo))
        kept = spans[-1].keep_stop
    return spans


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
