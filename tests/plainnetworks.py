"""Networks of torch as they are used: with BatchNorm folded in, as arrays."""

from __future__ import annotations

from deepcr_zoo.models.architectures import PlainNetwork
from deepcr_zoo.models.nets import UNet
from deepcr_zoo.models.weights import fold_batch_norm
from deepcr_zoo.zoo.names import Task
from deepcr_zoo.zoo.registry import Architecture


def plain(network: UNet, architecture: Architecture, task: Task) -> PlainNetwork:
    """Return the network as the engines get it."""
    arrays = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    return PlainNetwork(architecture.model_copy(update={"norm": "none"}), task, fold_batch_norm(arrays))
