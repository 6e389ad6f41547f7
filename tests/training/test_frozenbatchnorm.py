import copy

import pytest
import torch
from torch import nn

from deepcr_zoo.models.architectures import CHANNELS
from deepcr_zoo.models.nets import UNet
from deepcr_zoo.training.frozenbatchnorm import FrozenNorm
from deepcr_zoo.zoo.registry import Architecture
from tests.training.stamps import assert_same_weights, weights

CASES = [("mask", 2, "batch", 1), ("mask", 3, "batch", 1), ("inpaint", 2, "batch", 2), ("inpaint", 3, "none", 1)]
every_case = pytest.mark.parametrize(("task", "depth", "norm", "stride"), CASES)


def trained(task, depth, norm, stride=1, hidden=4):
    """A network whose BatchNorm layers have seen something."""
    torch.manual_seed(11)
    architecture = Architecture(depth=depth, hidden=hidden, norm=norm, stride=stride)
    network = UNet(architecture, task)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.3, 3)
            nn.init.uniform_(module.weight, 0.2, 2)
            nn.init.uniform_(module.bias, 0.1, 2)  # so that no channel is dead
    return network, architecture


def image(task, dtype=torch.float32):
    return torch.randn(3, CHANNELS[task], 32, 40, generator=torch.Generator().manual_seed(1), dtype=dtype)


def gradients(module, network, x):
    network.zero_grad()
    torch.autograd.backward((module(x) - 1).square().mean())
    return {name: parameter.grad.clone() for name, parameter in network.named_parameters()}


@every_case
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-6)])
def test_it_gives_what_the_network_gives_in_evaluation_mode(task, depth, norm, stride, dtype, tolerance):
    network, architecture = trained(task, depth, norm, stride)
    network.to(dtype).eval()
    x = image(task, dtype)
    expected = network(x)
    network.train()
    found = FrozenNorm(network, architecture, task)(x)
    assert found.dtype == dtype
    assert (found - expected).abs().max() < tolerance * expected.abs().max()


@every_case
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-6)])
def test_its_gradients_are_those_of_the_network_in_evaluation_mode(task, depth, norm, stride, dtype, tolerance):
    network, architecture = trained(task, depth, norm, stride)
    network.to(dtype).eval()
    expected = gradients(network, network, image(task, dtype))
    network.train()
    found = gradients(FrozenNorm(network, architecture, task), network, image(task, dtype))
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        assert gradient.any(), name
        assert (found[name] - gradient).abs().max() < tolerance * gradient.abs().max(), name


def test_running_statistics_never_change():
    network, architecture = trained("mask", 2, "batch")
    before = weights(network)
    frozen = FrozenNorm(network, architecture, "mask").train()
    for _ in range(3):
        gradients(frozen, network, image("mask") * 100 + 7)
    assert_same_weights(weights(network), before)


def test_its_parameters_are_those_of_the_network_and_no_others():
    network, architecture = trained("mask", 2, "batch")
    frozen = FrozenNorm(network, architecture, "mask")
    assert [id(parameter) for parameter in frozen.parameters()] == [id(parameter) for parameter in network.parameters()]
    assert [id(buffer) for buffer in frozen.buffers()] == [id(buffer) for buffer in network.buffers()]
    assert all(name.startswith("network.") for name in frozen.state_dict())


def test_it_follows_the_network():
    network, architecture = trained("mask", 2, "batch")
    frozen, other = FrozenNorm(network, architecture, "mask"), copy.deepcopy(network)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter += 0.05
        network.load_state_dict(other.state_dict())
        expected = other.eval()(image("mask"))
        assert (frozen(image("mask")) - expected).abs().max() < 1e-5 * expected.abs().max()
