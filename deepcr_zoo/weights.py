"""Weights in and out of safetensors, checked against the architecture and the card's input scale."""

from __future__ import annotations

from collections.abc import Mapping

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from deepcr_zoo.cards import Card
from deepcr_zoo.errors import InvalidWeightsError
from deepcr_zoo.names import Task
from deepcr_zoo.nets import UNet, fold_batch_norm
from deepcr_zoo.registry import Architecture
from deepcr_zoo.tensorfiles import TensorFacts, check_tensors, read_header

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
