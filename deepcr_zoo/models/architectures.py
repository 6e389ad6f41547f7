"""What follows from the architecture of a network, without the network: sizes, and the tensors of its weights file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from deepcr_zoo.zoo.names import Task
from deepcr_zoo.zoo.registry import Architecture

CHANNELS: dict[Task, int] = {"mask": 1, "inpaint": 2}
"""Input channels: the image, or the image without its masked pixels, and the mask."""

LOG_SPREAD = (-5.0, 0.0)
"""Bounds of the logarithm of an uncertainty, in training and in use: of asinh of the pixel value / noise."""

BATCHES = ".num_batches_tracked"
"""End of the names of counts, which BatchNorm keeps beside its averages."""


@dataclass(frozen=True, eq=False)
class PlainNetwork:
    """A network for use, with its BatchNorm folded in: architecture, task, and parameters by their name in `nets.UNet`."""

    architecture: Architecture
    task: Task
    parameters: Mapping[str, NDArray[np.float32]]


def multiple(architecture: Architecture) -> Literal[2, 4, 8]:
    """Return the number of pixels that the sides of an image must be a multiple of."""
    of_sizes: dict[tuple[int, int], Literal[2, 4, 8]] = {(2, 1): 2, (2, 2): 4, (3, 1): 4, (3, 2): 8}
    return of_sizes[architecture.depth, architecture.stride]


def halo(architecture: Architecture) -> int:
    """Return a multiple of 8 pixels that is no less than what a pixel of the output depends on."""
    reach = {2: 16, 3: 24}  # 9 and 22 at a stride of 1
    return reach[architecture.depth] * architecture.stride


def channels_of_blocks(architecture: Architecture, task: Task) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Return input and output channels of each block of the encoder, and of each step of the decoder."""
    widths = [architecture.hidden * 2**level for level in range(architecture.depth)]
    inputs = [CHANNELS[task] * architecture.stride**2, *widths[:-1]]
    return list(zip(inputs, widths, strict=True)), list(zip(widths[:0:-1], widths[-2::-1], strict=True))


def shapes_of(architecture: Architecture, task: Task) -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor of `nets.UNet`, by name."""
    encoder, decoder = channels_of_blocks(architecture, task)
    shapes: dict[str, tuple[int, ...]] = {}
    for part, steps in (("encoder", encoder), ("decoder", decoder)):
        for number, (inputs, outputs) in enumerate(steps):
            shapes |= dict(_of_block(f"{part}.{number}", inputs, outputs, architecture.norm == "batch"))
    for number, (inputs, outputs) in enumerate(decoder):
        shapes |= _of_convolution(f"upsample.{number}", (inputs, outputs, 2, 2), outputs)
    outputs = architecture.outputs * architecture.stride**2
    return shapes | _of_convolution("head", (outputs, architecture.hidden, 1, 1), outputs)


def _of_block(name: str, inputs: int, outputs: int, has_norm: bool) -> Iterator[tuple[str, tuple[int, ...]]]:
    for number, channels in ((1, inputs), (2, outputs)):
        yield from _of_convolution(f"{name}.conv{number}", (outputs, channels, 3, 3), outputs).items()
        if has_norm:
            for part in ("weight", "bias", "running_mean", "running_var"):
                yield f"{name}.norm{number}.{part}", (outputs,)
            yield f"{name}.norm{number}{BATCHES}", ()


def _of_convolution(name: str, weight: tuple[int, ...], outputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": weight, f"{name}.bias": (outputs,)}
