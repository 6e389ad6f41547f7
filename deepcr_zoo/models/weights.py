"""Weights in and out of safetensors, checked against the architecture and the card's input scale.

Torch is loaded where tensors of torch are asked for: OpenVINO takes arrays.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray
from pydantic import Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from deepcr_zoo.documents import unique_keys
from deepcr_zoo.errors import InvalidWeightsError
from deepcr_zoo.models.architectures import BATCHES, PlainNetwork, halo, multiple, shapes_of
from deepcr_zoo.zoo.cards import Card
from deepcr_zoo.zoo.names import Task
from deepcr_zoo.zoo.registry import Architecture

if TYPE_CHECKING:
    from torch import Tensor

    from deepcr_zoo.models.nets import UNet

Arrays = Mapping[str, NDArray[Any]]
"""Values by the names of tensors."""

MOST_HEADER_BYTES = 1_000_000  # the largest header of the zoo's networks has 6 kB; safetensors would parse 100 MB
FINGERPRINT_TOLERANCE = 0.05
"""Cards state the variance to three digits; a wrong input scale, such as a gain of 1.5, changes it by the square."""

FIRST_VARIANCE = "encoder.0.norm1.running_var"

_VARIANCE = ".running_var"

_LENGTH_BYTES = 8  # a safetensors file begins with the length of its header
_DTYPES = {"torch.float32": "F32", "torch.int64": "I64"}  # safetensors' names for the types in a network
EPSILON = 1e-5  # of torch's BatchNorm2d, its default


@dataclass(frozen=True)
class TensorFacts:
    """Type and shape of a tensor in the header of a safetensors file; its place in the file is left to safetensors."""

    dtype: str
    shape: tuple[Annotated[int, Field(ge=0, lt=2**31)], ...]

    def __str__(self) -> str:
        return f"{self.dtype} of shape {self.shape}"


_HEADER = TypeAdapter(dict[str, TensorFacts])


def read_header(data: bytes, where: str) -> dict[str, TensorFacts]:
    """Return the tensors that a safetensors file declares, by name, without allocating them.

    Refuse what safetensors accepts: large headers and duplicate names. It checks all else when it loads the tensors.
    """
    try:
        length = int.from_bytes(data[:_LENGTH_BYTES], "little")
        if len(data) <= _LENGTH_BYTES or length > min(MOST_HEADER_BYTES, len(data) - _LENGTH_BYTES):
            # without the number: a text of the user to which a link leads begins with it
            raise ValueError(f"it has {len(data):,} bytes, and announces a header larger than that or {MOST_HEADER_BYTES:,}")
        content = json.loads(data[_LENGTH_BYTES : _LENGTH_BYTES + length], object_pairs_hook=unique_keys)
        if isinstance(content, dict):
            content.pop("__metadata__", None)
        return _HEADER.validate_python(content)
    except (ValueError, RecursionError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else " ".join(str(error).split())
        raise InvalidWeightsError(f"{where}: expected a safetensors file: {reason}") from None


def facts_of(state: Mapping[str, Tensor]) -> dict[str, TensorFacts]:
    """Return type and shape of each tensor of a network."""
    return {
        name: TensorFacts(_DTYPES.get(str(tensor.dtype), str(tensor.dtype)), tuple(tensor.shape))
        for name, tensor in state.items()
    }


def check_tensors(found: Mapping[str, TensorFacts], expected: Mapping[str, TensorFacts], where: str, kind: str) -> None:
    """Refuse a file unless it holds exactly the tensors of this kind of content, naming the first that differs."""
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            raise InvalidWeightsError(f"{where}: {name}: expected a tensor, got none")
        if name not in expected:
            raise InvalidWeightsError(f"{where}: {name}: expected no such tensor in {kind}")
        if found[name] != expected[name]:
            raise InvalidWeightsError(f"{where}: {name}: expected {expected[name]}, got {found[name]}")


def serialise(state: Mapping[str, Tensor]) -> bytes:
    """Return the safetensors file of a network; equal weights give equal bytes."""
    import safetensors.torch

    return safetensors.torch.save({name: tensor.contiguous() for name, tensor in state.items()})


def read_arrays(data: bytes, architecture: Architecture, task: Task, where: str) -> dict[str, NDArray[Any]]:
    """Parse a safetensors file that holds exactly the tensors of the architecture, which is checked before any is allocated.

    All values must be finite, and variances not negative.
    """
    _check_tensors_of_network(read_header(data, where), architecture, task, where)
    try:
        arrays = safetensors.numpy.load(data)
    except safetensors.SafetensorError as error:
        raise InvalidWeightsError(f"{where}: expected a safetensors file: {error}") from None
    _check_values(arrays, where)
    return arrays


def read_state(data: bytes, architecture: Architecture, task: Task, where: str) -> dict[str, Tensor]:
    """Do as `read_arrays`, and return tensors of torch."""
    import torch

    arrays = read_arrays(data, architecture, task, where)
    return {name: torch.from_numpy(values.copy()) for name, values in arrays.items()}


def check_state(state: Mapping[str, Tensor], architecture: Architecture, task: Task, where: str) -> None:
    """Refuse tensors that `read_state` would refuse in a file."""
    _check_tensors_of_network(facts_of(state), architecture, task, where)
    _check_values(_arrays_of(state), where)


def _check_tensors_of_network(found: Mapping[str, TensorFacts], architecture: Architecture, task: Task, where: str) -> None:
    wanted = {
        name: TensorFacts("I64" if name.endswith(BATCHES) else "F32", shape)
        for name, shape in shapes_of(architecture, task).items()
    }
    check_tensors(found, wanted, where, f"a network of {architecture}")


def _check_values(arrays: Arrays, where: str) -> None:
    for name in sorted(arrays):
        if not np.isfinite(arrays[name]).all():
            raise InvalidWeightsError(f"{where}: {name}: expected finite numbers")
        if is_variance(name) and bool((arrays[name] < 0).any()):
            raise InvalidWeightsError(f"{where}: {name}: expected variances of 0 or more, got {arrays[name].min():g}")


def _arrays_of(state: Mapping[str, Tensor]) -> dict[str, NDArray[Any]]:
    return {name: tensor.detach().cpu().numpy() for name, tensor in state.items()}


def is_variance(name: str) -> bool:
    """True for the name of a tensor with running variances."""
    return name.endswith(_VARIANCE)


def input_variance(state: Mapping[str, Tensor] | Arrays, scale: float) -> float | None:
    """Return the variance that fixes a network's input scale, in the card's input unit squared, or None without BatchNorm.

    It is the median of the first BatchNorm's running variances, of two in the middle the lower one, times the input scale
    squared. They are those of the first convolution's output in training, near to those of the images, but not the same.
    """
    if FIRST_VARIANCE not in state:
        return None
    variances = np.sort(np.asarray(state[FIRST_VARIANCE]), axis=None)
    return float(variances[(len(variances) - 1) // 2]) * scale**2


def check_fingerprint(state: Mapping[str, Tensor] | Arrays, card: Card, where: str) -> None:
    """Refuse weights whose first BatchNorm was trained at another input scale than the card states."""
    if card.input.fingerprint is None:
        return
    expected = card.input.fingerprint.input_variance
    found = input_variance(state, card.input.scale)
    if found is None or abs(found / expected - 1) > FINGERPRINT_TOLERANCE:
        unit = "" if card.input.pixel_unit is None else f" {card.input.unit}^2"
        raise InvalidWeightsError(
            f"{where}: input.scale: with a scale of {card.input.scale:g} the first BatchNorm implies an input variance of "
            f"{found and f'{found:.3g}'}{unit}, expected about {expected:.3g}: "
            "the weights were trained at another input scale"
        )


def check_geometry(card: Card, architecture: Architecture, where: str) -> None:
    """Refuse a card whose halo, multiple or uncertainty are not those of its network: tiles or values would differ."""
    needed, stated = halo(architecture), card.input.halo
    size = f"depth {architecture.depth}" + (f" and stride {architecture.stride}" if architecture.stride > 1 else "")
    if stated < needed:
        raise InvalidWeightsError(f"{where}: input.halo: expected {needed} or more, which {size} needs, got {stated}")
    if card.output.uncertainty != (architecture.outputs == 2):
        raise InvalidWeightsError(
            f"{where}: output.uncertainty: expected {str(architecture.outputs == 2).lower()} with {architecture.outputs} "
            f"outputs, got {str(card.output.uncertainty).lower()}"
        )
    if card.input.multiple % multiple(architecture):
        raise InvalidWeightsError(
            f"{where}: input.multiple: expected {multiple(architecture)}, as a network of {size} needs, "
            f"got {card.input.multiple}"
        )


def trained_network(data: bytes, architecture: Architecture, task: Task, where: str) -> UNet:
    """Return the network as it was trained, with its BatchNorm layers, in evaluation mode."""
    from deepcr_zoo.models.nets import with_state

    return with_state(architecture, task, read_state(data, architecture, task, where)).eval()


def plain_network(data: bytes, architecture: Architecture, card: Card, where: str) -> PlainNetwork:
    """Return the network for use: checked, with its BatchNorm folded in."""
    task = card.identity.task
    check_geometry(card, architecture, where)
    arrays = read_arrays(data, architecture, task, where)
    check_fingerprint(arrays, card, where)
    parameters = fold_batch_norm(arrays)
    for name in sorted(parameters):
        if not np.isfinite(parameters[name]).all():
            raise InvalidWeightsError(f"{where}: {name}: expected finite numbers with BatchNorm folded in")
    return PlainNetwork(architecture.model_copy(update={"norm": "none"}), task, parameters)


def fold_batch_norm(arrays: Arrays) -> dict[str, NDArray[np.float32]]:
    """Return the parameters of a network that computes the same in use, BatchNorm folded into the convolutions before it.

    Products in float64 limit the error to one rounding of each weight. `nets.folded_parameters` does it with gradients.
    """
    folded = {name: values for name, values in arrays.items() if ".norm" not in name}
    for name in arrays:
        norm, found, _ = name.partition(_VARIANCE)
        if found:
            conv = norm.replace(".norm", ".conv")
            exact = {part: arrays[f"{norm}.{part}"].astype(np.float64) for part in ("weight", "bias", "running_mean")}
            factor = exact["weight"] / np.sqrt(arrays[name].astype(np.float64) + EPSILON)
            weight, bias = (arrays[f"{conv}.{part}"].astype(np.float64) for part in ("weight", "bias"))
            shift = exact["bias"] - exact["running_mean"] * factor
            folded[f"{conv}.weight"] = (weight * factor[:, None, None, None]).astype(np.float32)
            folded[f"{conv}.bias"] = (bias * factor + shift).astype(np.float32)
    return folded
