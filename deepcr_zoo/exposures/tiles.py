"""Tiles of a compressed image, checked before astropy unpacks them: its C code trusts what header and streams say."""

from __future__ import annotations

import gzip
import io
import math
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepcr_zoo.documents import brief
from deepcr_zoo.errors import InvalidFileError
from deepcr_zoo.exposures.packing import ALWAYS_ALLOWED_BYTES, PIECE_BYTES
from deepcr_zoo.zoo.instruments import value

_PIXEL_BYTES = 8
"""Bytes of the largest pixel (FITS standard 4.0, table 8)."""

_C_LIMIT = 2**31 // _PIXEL_BYTES
"""Pixels of a tile whose bytes a C int counts."""

_DEFLATE_RATIO = 1032
"""Largest ratio of deflate (zlib technical details)."""

_RICE_SETTINGS = {"bytepix": (1, 2, 4), "blocksize": (16, 32)}
"""Values of FITS standard 4.0, table 37; astropy reads no BYTEPIX of 8."""

_DITHER_SEEDS = range(1, 10_001)
"""Values of ZDITHER0 (FITS standard 4.0, section 10.2)."""

_HCOMPRESS_START, _HCOMPRESS_HEAD, _MOST_BITPLANES = b"\xdd\x99", 25, 64
"""First bytes, bytes before the coefficients, and bits of a coefficient (cfitsio, fits_hdecompress.c)."""

Sides = tuple[int, ...]


def check_tiles(hdu: Any, where: str) -> None:
    """Raise `InvalidFileError` for a compressed image with tiles that unpack to anything but their pixels."""
    table = hdu._bintable
    if table is None:  # made in memory
        return
    problem = next((found for found in _problems(hdu, table) if found), None)
    if problem is not None:
        raise InvalidFileError(f"{where}: is damaged: {problem}; get it again")


def _problems(hdu: Any, table: Any) -> Iterator[str | None]:
    """Yield what is wrong with a compressed image, None for what is right; each needs those before it."""
    yield _wrong_header(hdu, table)
    heap = table._get_raw_data(int(table.header["PCOUNT"]), np.uint8, table._data_offset + table._theap)
    streams = {
        name: _Streams.of(table, name, heap) for name in ("COMPRESSED_DATA", _FALLBACK) if name in table.columns.names
    }
    yield _wrong_places(streams, math.prod(hdu.shape), heap.size)
    settings = _settings(table.header)
    main = streams["COMPRESSED_DATA"]
    tiles = math.prod(_counts(hdu))
    if len(main.sizes) < tiles:
        yield f"it has {len(main.sizes)} tiles: expected {tiles}"
    yield from _wrong_streams(hdu, main, _CHECKS.get(hdu.compression_type), settings, np.full(tiles, True))
    if _FALLBACK in streams:
        yield from _wrong_streams(hdu, streams[_FALLBACK], _CHECKS["GZIP_1"], settings, main.sizes[:tiles] == 0)


def _wrong_header(hdu: Any, table: Any) -> str | None:
    shape, steps = hdu.shape, hdu.tile_shape
    if len(steps) != len(shape) or min(steps, default=1) < 1:
        return f"its header announces tiles of {_sides(steps)} pixels"
    if math.prod(map(min, shape, steps)) >= _C_LIMIT:
        return f"its header announces tiles of {_sides(steps)} pixels: expected less than {_C_LIMIT:,}"
    if hdu.compression_type == "RICE_1":
        for name, known in _RICE_SETTINGS.items():
            if (stated := _settings(table.header).get(name, known[-1])) not in known:
                return f"its header has {name.upper()} = {brief(stated)}: expected one of {', '.join(map(str, known))}"
    seed = value(table.header, "ZDITHER0")
    is_dithered = "ZSCALE" in table.columns.names and value(table.header, "ZQUANTIZ") not in {None, "NO_DITHER"}
    if is_dithered and not (isinstance(seed, int) and seed in _DITHER_SEEDS):
        return f"its header has ZDITHER0 = {brief(seed)}: expected {_DITHER_SEEDS[0]} to {_DITHER_SEEDS[-1]}"
    return None


def _sides(lengths: Iterable[int]) -> str:
    return brief(" x ".join(map(str, lengths)))


def _settings(header: Any) -> Mapping[str, Any]:
    """Return the parameters of the algorithm, the first of each name as astropy takes it."""
    found: dict[str, Any] = {}
    for index in range(1, 1000):
        if f"ZNAME{index}" not in header:
            break
        found.setdefault(str(header[f"ZNAME{index}"]).lower(), value(header, f"ZVAL{index}"))
    return found


def _counts(hdu: Any) -> Sides:
    """Return the number of tiles along each axis."""
    return tuple(math.ceil(length / step) for length, step in zip(hdu.shape, hdu.tile_shape, strict=True))


@dataclass(frozen=True)
class _Streams:
    """The streams of a column: sizes in bytes, places in the heap, and the type of their items."""

    sizes: NDArray[np.int64]
    places: NDArray[np.int64]
    kind: np.dtype[Any]
    heap: NDArray[np.uint8]

    @classmethod
    def of(cls, table: Any, name: str, heap: NDArray[np.uint8]) -> _Streams:
        letter = table.columns[name].format.removeprefix("1")[1]
        kind = np.dtype({"B": "u1", "I": ">i2", "J": ">i4"}[letter])
        # cut off, so that no product or sum overflows
        described = np.clip(np.array(table.data[name]).astype(np.int64), -1, heap.size + 1)
        return cls(described[:, 0] * kind.itemsize, described[:, 1], kind, heap)

    def __getitem__(self, row: int) -> bytes:
        """Return the stream of a tile as astropy hands it on, in the machine's byte order."""
        items = self.heap[self.places[row] : self.places[row] + self.sizes[row]].view(self.kind)
        return items.astype(self.kind.newbyteorder("=")).tobytes()


def _wrong_places(streams: Mapping[str, _Streams], pixels: int, heap_bytes: int) -> str | None:
    for name, column in streams.items():
        ends = column.places + column.sizes
        if ((column.sizes < 0) | ((column.sizes > 0) & ((column.places < 0) | (ends > heap_bytes)))).any():
            return f"a stream of its column {name} lies outside of its data"
        # streams that share bytes would take the square of the file's size in time
        if float(column.sizes.sum(dtype=np.float64)) > 2 * (heap_bytes + _PIXEL_BYTES * pixels):
            return f"the streams of its column {name} share bytes"
    return None


def _wrong_streams(
    hdu: Any, streams: _Streams, check: _Check | None, settings: Mapping[str, Any], used: NDArray[np.bool_]
) -> Iterator[str | None]:
    if check is None:
        return
    counts = _counts(hdu)
    rows = np.flatnonzero(used & (streams.sizes[: used.size] > check.above_bytes))
    for row, index in zip(rows.tolist(), np.transpose(np.unravel_index(rows, counts)), strict=True):
        places = zip(hdu.shape, hdu.tile_shape, index.tolist(), strict=True)
        sides = tuple(min(step, length - at * step) for length, step, at in places)  # smaller at the edges
        problem = check.problem(streams[row], sides, settings)
        yield problem and f"its tile {row + 1} {problem}"


def _gzip_problem(stream: bytes, sides: Sides, settings: Mapping[str, Any]) -> str | None:
    left = _PIXEL_BYTES * math.prod(sides)
    with gzip.GzipFile(fileobj=io.BytesIO(stream)) as reader:
        while piece := reader.read(PIECE_BYTES):
            left -= len(piece)
            if left < 0:
                return f"unpacks to more than its {math.prod(sides):,} pixels"
    return None


def _rice_problem(stream: bytes, sides: Sides, settings: Mapping[str, Any]) -> str | None:
    from astropy.io.fits.hdu.compressed._compression import CfitsioException, decompress_rice_1_c

    # a run of zeros is followed beyond the end of the stream: here it meets other bytes
    guarded = np.frombuffer(stream + b"\xff" * 1024, np.uint8)[: len(stream)]
    block, size = settings.get("blocksize", 32), settings.get("bytepix", 4)
    try:
        decompress_rice_1_c(guarded, block, size, math.prod(sides))
    except CfitsioException as error:
        return f"is no RICE_1 stream of its {math.prod(sides):,} pixels ({brief(error)})"
    return None


def _plio_problem(stream: bytes, sides: Sides, settings: Mapping[str, Any]) -> str | None:
    words = np.frombuffer(stream[: len(stream) // 2 * 2], np.int16).astype(int)
    if words.size < 3 or (words[2] <= 0 and words.size < 5):
        return "is no PLIO_1 list"
    # two kinds of heads (IRAF, plio)
    first, last = (3, words[2] if words.size > 3 else 0) if words[2] > 0 else (words[1], (words[4] << 15) + words[3])
    has_end = last < words.size or (last == words.size and words[-1] // 4096 != 1)
    return None if first >= 0 and has_end else f"announces {last:,} words and has {words.size:,}"


def _hcompress_problem(stream: bytes, sides: Sides, settings: Mapping[str, Any]) -> str | None:
    from astropy.io.fits.hdu.compressed._compression import CfitsioException, decompress_hcompress_1_c

    if not stream.startswith(_HCOMPRESS_START) or len(stream) < _HCOMPRESS_HEAD:
        return "is no HCOMPRESS_1 stream"
    expected = tuple(side for side in sides if side != 1)
    if (announced := struct.unpack(">2i", stream[2:10])) != expected:
        return f"announces {_sides(announced)} pixels: expected {_sides(expected)}"
    if max(stream[22:_HCOMPRESS_HEAD]) > _MOST_BITPLANES:
        return f"announces coefficients of more than {_MOST_BITPLANES} bits"
    # the length of a stream is not looked at: what follows a whole one changes nothing (nor are these codes of a next plane)
    room = 2 * math.prod(sides) + 64
    try:
        one, other = (decompress_hcompress_1_c(stream + after * room, *expected, 0, 0, 8) for after in (b"\x55", b"\xaa"))
    except (CfitsioException, ValueError):
        one, other = b"", b"-"
    return None if one == other else "ends too early"


@dataclass(frozen=True)
class _Check:
    """How a stream is looked at; shorter ones can do no harm."""

    problem: Callable[[bytes, Sides, Mapping[str, Any]], str | None]
    above_bytes: int


_FALLBACK = "GZIP_COMPRESSED_DATA"
"""Column of tiles that were not worth quantising."""

_CHECKS = {
    "GZIP_1": _Check(_gzip_problem, ALWAYS_ALLOWED_BYTES // _DEFLATE_RATIO),
    "GZIP_2": _Check(_gzip_problem, ALWAYS_ALLOWED_BYTES // _DEFLATE_RATIO),
    "RICE_1": _Check(_rice_problem, 1 << 16),
    "PLIO_1": _Check(_plio_problem, 0),
    "HCOMPRESS_1": _Check(_hcompress_problem, 0),
}
