"""Tiles with a halo, so that a tiled result equals the whole-frame result."""

from __future__ import annotations

from dataclasses import dataclass

MIN_WINDOW_PIXELS = 192 * 192
"""Below about 20,000 pixels torch picks convolution kernels that round differently; larger windows agree exactly."""


@dataclass(frozen=True)
class Span:
    """One axis of a window, in pixels of the frame: the part that the network takes and the part that is kept."""

    start: int  # multiple of the network's `multiple`, like `stop`, which may lie beyond the frame
    stop: int
    keep_start: int
    keep_stop: int

    @property
    def keep(self) -> slice:
        """The kept pixels of the frame."""
        return slice(self.keep_start, self.keep_stop)

    @property
    def keep_inside(self) -> slice:
        """The kept pixels of the window."""
        return slice(self.keep_start - self.start, self.keep_stop - self.start)


def plan_windows(height: int, width: int, tile: int, halo: int, multiple: int) -> list[tuple[Span, Span]]:
    """Return rows and columns of windows of one size whose kept parts cover a frame once.

    A window keeps about `tile` pixels a side, more where it would be too small to be exact. The `halo` around it is at
    least the network's reach. Window sides and positions are multiples of `multiple`.
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
