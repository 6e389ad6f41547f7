"""The networks as graphs of OpenVINO, built operation by operation from `nets.UNet` without normalisation.

OpenVINO could convert them from torch itself, which takes half a second and calls Python from C++.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from openvino import Model
from openvino import opset13 as op
from torch import Tensor, nn

from deepcr_zoo.models.nets import ConvBlock, UNet


def graph(network: UNet) -> Model:
    """Return the graph of a network whose BatchNorm is folded, for inputs of shape (1, C, H, W) of any H and W."""
    image = op.parameter([1, network.channels, -1, -1], np.float32)
    x: Any = image
    if network.stride > 1:
        x = op.space_to_depth(x, "depth_first", network.stride)
    encoder, decoder = (cast("Iterable[ConvBlock]", blocks) for blocks in (network.encoder, network.decoder))
    skips = []
    for level, block in enumerate(encoder):
        x = _block(op.max_pool(x, [2, 2], [1, 1], [0, 0], [0, 0], [2, 2]).output(0) if level else x, block)
        skips.append(x)
    skips.pop()
    for upsample, block in zip(cast("Iterable[nn.ConvTranspose2d]", network.upsample), decoder, strict=True):
        twice_as_wide = op.convolution_backprop_data(x, op.constant(_array(upsample.weight)), [2, 2])
        x = _block(op.concat([skips.pop(), _with_bias(twice_as_wide, upsample)], 1), block)
    x = _convolution(x, network.head, padding=0)
    if network.stride > 1:
        x = op.depth_to_space(x, "depth_first", network.stride)
    return Model([x], [image], "unet")


def _block(x: Any, block: ConvBlock) -> Any:
    """Add what `ConvBlock.forward` does without normalisation."""
    for convolution in (block.conv1, block.conv2):
        x = op.relu(_convolution(x, convolution, padding=1))
    return x


def _convolution(x: Any, layer: nn.Conv2d, padding: int) -> Any:
    around = [padding, padding]
    return _with_bias(op.convolution(x, op.constant(_array(layer.weight)), [1, 1], around, around, [1, 1]), layer)


def _with_bias(x: Any, layer: nn.Conv2d | nn.ConvTranspose2d) -> Any:
    assert layer.bias is not None
    return op.add(x, op.constant(_array(layer.bias).reshape(1, -1, 1, 1)))


def _array(tensor: Tensor) -> NDArray[np.float32]:
    values: NDArray[np.float32] = tensor.detach().cpu().numpy()
    return values
