"""The UNet family of deepCR (Zhang & Bloom 2020, Figure 1).

Shapes are (N, C, H, W). A network of depth D and stride S needs H and W that are multiples of ``S * 2**(D - 1)``.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from deepcr_zoo.models.architectures import CHANNELS, PlainNetwork, channels_of_blocks
from deepcr_zoo.zoo.names import Task
from deepcr_zoo.zoo.registry import Architecture

DTYPE = torch.float32  # whatever the caller's default is
BATCH_NORM_MOMENTUM = 0.005  # Zhang & Bloom 2020


class ConvBlock(nn.Module):
    """Two 3x3 convolutions, each followed by normalisation and ReLU."""

    def __init__(self, in_channels: int, out_channels: int, norm: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1, dtype=DTYPE)
        self.norm1 = _norm(norm, out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, dtype=DTYPE)
        self.norm2 = _norm(norm, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, H, W)."""
        x = torch.relu_(self.norm1(self.conv1(x)))
        return torch.relu_(self.norm2(self.conv2(x)))


class UNet(nn.Module):
    """Encoder of `depth` resolutions, a decoder with skip connections, a 1x1 head.

    With a stride of 2, each block of 2x2 pixels is one of four times as many channels, from the input to the output (Shi et
    al. 2016, arXiv:1609.05158, section 2.2).

    The output is a logit (mask) or a scaled pixel value, in units of the noise its difference to an estimate (inpaint); a
    second one is the logarithm of its uncertainty.
    """

    def __init__(self, architecture: Architecture, task: Task) -> None:
        super().__init__()
        self.channels, self.stride = CHANNELS[task], architecture.stride
        encoder, decoder = channels_of_blocks(architecture, task)
        self.encoder = nn.ModuleList(ConvBlock(i, o, architecture.norm) for i, o in encoder)
        self.upsample = nn.ModuleList(nn.ConvTranspose2d(i, o, 2, stride=2, dtype=DTYPE) for i, o in decoder)
        self.decoder = nn.ModuleList(ConvBlock(i, o, architecture.norm) for i, o in decoder)
        self.head = nn.Conv2d(architecture.hidden, architecture.outputs * self.stride**2, 1, dtype=DTYPE)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, outputs, H, W)."""
        if self.stride > 1:
            x = nn.functional.pixel_unshuffle(x, self.stride)
        skips = []
        for level, block in enumerate(self.encoder):
            x = block(torch.max_pool2d(x, 2) if level else x)
            skips.append(x)
        skips.pop()
        for upsample, block in zip(self.upsample, self.decoder, strict=True):
            x = block(torch.cat([skips.pop(), upsample(x)], dim=1))
        head: Tensor = self.head(x)
        return nn.functional.pixel_shuffle(head, self.stride) if self.stride > 1 else head


def network_of(plain: PlainNetwork) -> UNet:
    """Return a network for use, in channels-last layout, without gradients."""
    parameters = {name: torch.from_numpy(values.copy()) for name, values in plain.parameters.items()}
    network = with_state(plain.architecture, plain.task, parameters).eval().requires_grad_(False)
    nn.Module.to(network, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def with_state(architecture: Architecture, task: Task, state: Mapping[str, Tensor]) -> UNet:
    """Return a network on the CPU that holds copies of these tensors; no random numbers are drawn for it."""
    with torch.device("meta"):
        network = UNet(architecture, task)
    plain = torch.contiguous_format
    copies = {name: one.detach().to("cpu", copy=True, memory_format=plain) for name, one in state.items()}
    network.load_state_dict(copies, assign=True)  # to_empty would import packages for a second
    return network


def without_norm(architecture: Architecture, task: Task) -> UNet:
    """Return a network that takes folded parameters."""
    return UNet(_plain(architecture), task)


def folded_parameters(network: UNet, precision: torch.dtype) -> dict[str, Tensor]:
    """Return the parameters with which a network without BatchNorm computes what `network` does in evaluation mode.

    The products have this precision. Gradients with respect to the parameters of `network` flow through the result.
    """
    folded: dict[str, Tensor] = {name: tensor for name, tensor in network.named_parameters() if ".norm" not in name}
    for name, norm in network.named_modules():
        if isinstance(norm, nn.BatchNorm2d):
            conv = name.replace(".norm", ".conv")
            assert norm.running_mean is not None
            assert norm.running_var is not None
            factor = norm.weight.to(precision) / torch.sqrt(norm.running_var.to(precision) + norm.eps)
            shift = norm.bias.to(precision) - norm.running_mean.to(precision) * factor
            weight, bias = folded[f"{conv}.weight"], folded[f"{conv}.bias"]
            folded[f"{conv}.weight"] = (weight.to(precision) * factor[:, None, None, None]).to(weight.dtype)
            folded[f"{conv}.bias"] = (bias.to(precision) * factor + shift).to(bias.dtype)
    return folded


def _plain(architecture: Architecture) -> Architecture:
    return architecture.model_copy(update={"norm": "none"})


def _norm(kind: str, channels: int) -> nn.Module:
    return nn.BatchNorm2d(channels, momentum=BATCH_NORM_MOMENTUM, dtype=DTYPE) if kind == "batch" else nn.Identity()
