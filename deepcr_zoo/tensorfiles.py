"""Safetensors files: what their header says, read and checked before anything is allocated."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from deepcr_zoo.documents import Document
from deepcr_zoo.errors import InvalidWeightsError

MOST_HEADER_BYTES = 1_000_000
"""The largest header of the zoo's networks has 6 kB; the format itself allows 100 MB."""

_LENGTH = struct.Struct("<Q")
_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
Size = Annotated[int, Field(ge=0, lt=2**31)]


class _Entry(Document):
    dtype: str
    shape: list[Size]
    data_offsets: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=2, max_length=2)]


_ENTRIES = TypeAdapter(dict[str, _Entry])


@dataclass(frozen=True)
class TensorFacts:
    """A tensor, by its header.

    Attributes
    ----------
    dtype : str
        In the words of the format: F32, U8.
    shape : tuple of int
    """

    dtype: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.dtype} of shape {self.shape}"


def read_header(data: bytes, where: str) -> dict[str, TensorFacts]:
    """The tensors that a safetensors file holds, by name.

    Parameters
    ----------
    data : bytes
    where : str
        Names the file in errors.

    Raises
    ------
    InvalidWeightsError
        If the header is no header, too large, or its tensors are not exactly the rest of the file.
    """
    try:
        (length,) = _LENGTH.unpack_from(data)
        if length > min(MOST_HEADER_BYTES, len(data) - _LENGTH.size):
            raise ValueError(f"a header of {length:,} bytes in a file of {len(data):,}")
        content = json.loads(data[_LENGTH.size : _LENGTH.size + length], object_pairs_hook=_without_duplicates)
        if not isinstance(content, dict):
            raise ValueError("its header is no mapping")
        content.pop("__metadata__", None)
        entries = _ENTRIES.validate_python(content)
        _check_places(entries, len(data) - _LENGTH.size - length)
    except (struct.error, ValueError, RecursionError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else " ".join(str(error).split())
        raise InvalidWeightsError(f"{where}: expected a safetensors file: {reason}") from None
    return {name: TensorFacts(entry.dtype, tuple(entry.shape)) for name, entry in entries.items()}


def check_tensors(found: Mapping[str, TensorFacts], expected: Mapping[str, TensorFacts], where: str, kind: str) -> None:
    """Refuse a file that does not hold exactly these tensors.

    Parameters
    ----------
    found, expected : mapping of str to TensorFacts
    where : str
        Names the file in errors.
    kind : str
        What would have these tensors.

    Raises
    ------
    InvalidWeightsError
        Naming the first tensor that is missing, unexpected, or of another type or shape.
    """
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            raise InvalidWeightsError(f"{where}: {name}: expected a tensor, got none")
        if name not in expected:
            raise InvalidWeightsError(f"{where}: {name}: expected no such tensor in {kind}")
        if found[name] != expected[name]:
            raise InvalidWeightsError(f"{where}: {name}: expected {expected[name]}, got {found[name]}")


def _check_places(entries: Mapping[str, _Entry], size: int) -> None:
    """The tensors follow each other without gaps, and end with the file."""
    end = 0
    for name, entry in sorted(entries.items(), key=lambda item: item[1].data_offsets):
        if entry.dtype not in _BYTES:
            raise ValueError(f"{name}: of type {entry.dtype}, expected one of {', '.join(_BYTES)}")
        if entry.data_offsets != [end, end + math.prod(entry.shape) * _BYTES[entry.dtype]]:
            raise ValueError(f"{name}: its place in the file does not fit its shape")
        end = entry.data_offsets[1]
    if end != size:
        raise ValueError(f"its tensors take {end:,} bytes, after its header it has {size:,}")


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(unique := dict(pairs)) < len(pairs):
        raise ValueError("a name stands twice in its header")
    return unique
