"""Graphs of OpenVINO beside the networks of torch that they are built from."""

import numpy as np
import pytest
import torch

from deepcr_zoo.models.architectures import multiple
from deepcr_zoo.models.engines import OpenVinoEngine
from deepcr_zoo.models.nets import UNet, network_of
from deepcr_zoo.models.torchengine import TorchEngine
from deepcr_zoo.zoo.registry import Architecture
from tests.plainnetworks import plain

CPU = torch.device("cpu")


@pytest.mark.parametrize("task", ["mask", "inpaint"])
@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize(("depth", "stride"), [(2, 1), (2, 2), (3, 1), (3, 2)])
def test_a_graph_computes_what_its_network_does_at_any_size(depth, stride, outputs, task):
    architecture = Architecture(depth=depth, hidden=3, norm="batch", stride=stride, outputs=outputs)
    torch.manual_seed(1)
    network = UNet(architecture, task)
    with torch.no_grad():
        for _ in range(3):
            network(torch.randn(2, network.channels, 32, 48) + 1)  # running statistics that matter
    folded = plain(network.eval(), architecture, task)
    graph, by_torch = OpenVinoEngine(folded), TorchEngine(network_of(folded), CPU)
    for height, width in ((64, 64), (8 * multiple(architecture), 40)):
        blocks = np.random.default_rng(height).normal(size=(2, network.channels, height, width)).astype(np.float32)
        for found, expected in zip(graph.run(blocks), by_torch.run(blocks), strict=True):
            assert found.shape == (outputs, height, width)
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
