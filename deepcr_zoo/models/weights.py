"""Weights in and out of safetensors, checked against the architecture and the card's input scale."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import safetensors
import safetensors.torch
import torch
from pydantic import Field, TypeAdapter, ValidationError
from torch import Tensor, nn

from deepcr_zoo.documents import Document
from deepcr_zoo.errors import InvalidWeightsError
from deepcr_zoo.models.nets import UNet, fold_batch_norm
from deepcr_zoo.zoo.cards import Card
from deepcr_zoo.zoo.names import Task
from deepcr_zoo.zoo.registry import Architecture

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


FINGERPRINT_TOLERANCE = 0.05
"""Cards give the variance to three digits; a wrong input scale, a gain of 1.5 say, changes it by the square."""

_DTYPES = {torch.float32: "F32", torch.int64: "I64"}
"""Types that a network's tensors have, in the words of the format."""

FIRST_VARIANCE = "encoder.0.norm1.running_var"


def serialise(state: Mapping[str, Tensor]) -> bytes:
    """The safetensors file of a network; equal weights give equal bytes."""
    return safetensors.torch.save({name: tensor.contiguous() for name, tensor in state.items()})


def read_state(data: bytes, architecture: Architecture, task: Task, where: str) -> dict[str, Tensor]:
    """Parse a safetensors file that holds exactly the tensors of the architecture, which is checked before any is allocated.

    Raises
    ------
    InvalidWeightsError
        Naming the tensor that is missing, unexpected, of another shape or not finite.
    """
    with torch.device("meta"):
        wanted = UNet(architecture, task).state_dict()
    expected = {name: TensorFacts(_DTYPES[tensor.dtype], tuple(tensor.shape)) for name, tensor in wanted.items()}
    check_tensors(read_header(data, where), expected, where, f"a network of {architecture}")
    try:
        state = safetensors.torch.load(data)
    except safetensors.SafetensorError as error:
        raise InvalidWeightsError(f"{where}: expected a safetensors file: {error}") from None
    for name in sorted(state):
        if not torch.isfinite(state[name]).all():
            raise InvalidWeightsError(f"{where}: {name}: expected finite numbers")
    return state


def input_variance(state: Mapping[str, Tensor], scale: float) -> float | None:
    """Variance of the training images as the first BatchNorm saw it, in the card's input unit squared.

    The median of the layer's running variances times scale squared; None if the network has no BatchNorm.
    """
    variance = state.get(FIRST_VARIANCE)
    return None if variance is None else float(variance.median()) * scale**2


def check_fingerprint(state: Mapping[str, Tensor], card: Card, where: str) -> None:
    """Refuse weights whose first BatchNorm was trained at another input scale than the card states.

    Raises
    ------
    InvalidWeightsError
        If the two variances differ by more than `FINGERPRINT_TOLERANCE`.
    """
    if card.input.fingerprint is None:
        return
    expected = card.input.fingerprint.input_variance
    found = input_variance(state, card.input.scale)
    if found is None or abs(found / expected - 1) > FINGERPRINT_TOLERANCE:
        raise InvalidWeightsError(
            f"{where}: input.scale: with a scale of {card.input.scale:g} the first BatchNorm implies an input variance of "
            f"{found and f'{found:.3g}'} {card.input.unit}^2, expected about {expected:.3g}: "
            "the weights were trained at another input scale"
        )


def trained_network(data: bytes, architecture: Architecture, task: Task, where: str) -> UNet:
    """The network as it was trained, with its BatchNorm layers, in evaluation mode."""
    network = UNet(architecture, task)
    network.load_state_dict(read_state(data, architecture, task, where))
    return network.eval()


def inference_network(data: bytes, architecture: Architecture, card: Card, where: str) -> UNet:
    """The network for use: checked, folded, in channels-last layout, without gradients."""
    task = card.identity.task
    network = trained_network(data, architecture, task, where)
    check_fingerprint(network.state_dict(), card, where)
    folded = fold_batch_norm(network, architecture, task)
    folded.requires_grad_(False)
    nn.Module.to(folded, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return folded
