"""The networks as graphs of OpenVINO, built operation by operation from their parameters.

OpenVINO could convert them from torch, which takes half a second and calls Python from C++, and seconds to load torch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from openvino import Model
from openvino import opset13 as op

from deepcr_zoo.models.architectures import CHANNELS, PlainNetwork


def graph(network: PlainNetwork) -> Model:
    """Return the graph that computes what `nets.UNet` does, for inputs of shape (1, C, H, W) of any H and W."""
    depth, stride = network.architecture.depth, network.architecture.stride
    image = op.parameter([1, CHANNELS[network.task], -1, -1], np.float32)
    x: Any = image
    if stride > 1:
        x = op.space_to_depth(x, "depth_first", stride)
    skips = []
    for level in range(depth):
        smaller = op.max_pool(x, [2, 2], [1, 1], [0, 0], [0, 0], [2, 2]).output(0) if level else x
        x = _block(smaller, network, f"encoder.{level}")
        skips.append(x)
    skips.pop()
    for step in range(depth - 1):
        name = f"upsample.{step}"
        twice_as_wide = op.convolution_backprop_data(x, op.constant(network.parameters[f"{name}.weight"]), [2, 2])
        x = _block(op.concat([skips.pop(), _with_bias(twice_as_wide, network, name)], 1), network, f"decoder.{step}")
    x = _convolution(x, network, "head", padding=0)
    if stride > 1:
        x = op.depth_to_space(x, "depth_first", stride)
    return Model([x], [image], "unet")


def _block(x: Any, network: PlainNetwork, name: str) -> Any:
    """Add what `nets.ConvBlock` does without normalisation."""
    for convolution in ("conv1", "conv2"):
        x = op.relu(_convolution(x, network, f"{name}.{convolution}", padding=1))
    return x


def _convolution(x: Any, network: PlainNetwork, name: str, padding: int) -> Any:
    around = [padding, padding]
    weight = op.constant(network.parameters[f"{name}.weight"])
    return _with_bias(op.convolution(x, weight, [1, 1], around, around, [1, 1]), network, name)


def _with_bias(x: Any, network: PlainNetwork, name: str) -> Any:
    return op.add(x, op.constant(network.parameters[f"{name}.bias"].reshape(1, -1, 1, 1)))
