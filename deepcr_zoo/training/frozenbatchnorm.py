"""Frozen BatchNorm: the second phase of training, and validation."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call

from deepcr_zoo.models.nets import UNet, folded_parameters, without_norm
from deepcr_zoo.zoo.names import Task
from deepcr_zoo.zoo.registry import Architecture


class FrozenNorm(nn.Module):
    """A network whose BatchNorm uses its running statistics and never changes them; affine parameters still learn.

    Frozen normalisation is linear, so each is folded into the convolution before it, anew for every batch: the same
    function and the same gradients, in 0.4 to 0.7 of the time on a CPU.
    """

    def __init__(self, network: UNet, architecture: Architecture, task: Task) -> None:
        super().__init__()
        self.network = network
        with torch.device("meta"):
            # in a tuple, so that torch does not count its parameters among those of this module
            self._plain = (without_norm(architecture, task),)

    def forward(self, x: Tensor) -> Tensor:
        """Return the output, (N, 1, H, W), for an input of shape (N, C, H, W)."""
        output: Tensor = functional_call(self._plain[0], folded_parameters(self.network, torch.float32), (x,))
        return output
