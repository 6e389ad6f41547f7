"""Networks of all sizes: what a pixel of the output depends on, and blocks of pixels as channels."""

import pytest
import torch

from deepcr_zoo.models.architectures import halo, multiple
from deepcr_zoo.models.nets import UNet
from deepcr_zoo.zoo.registry import Architecture

SIZES = [(2, 1), (3, 1), (2, 2), (3, 2)]
every_size = pytest.mark.parametrize(("depth", "stride"), SIZES)


def network(depth, stride, **more):
    torch.manual_seed(2)
    architecture = Architecture(depth=depth, hidden=4, norm="none", stride=stride)
    return UNet(architecture.model_copy(update=more), "mask").eval(), architecture


@every_size
def test_a_pixel_depends_on_none_beyond_the_halo_and_on_some_close_to_it(depth, stride):
    net, architecture = network(depth, stride)
    reach = 0
    for place in (64, 65, 67):  # within blocks and poolings
        image = torch.randn(1, 1, 160, 160, requires_grad=True)
        net(image)[0, 0, place, place + 8].backward()
        rows, columns = torch.nonzero(image.grad[0, 0], as_tuple=True)
        reach = max(reach, int((rows - place).abs().max()), int((columns - place - 8).abs().max()))
    assert halo(architecture) - 8 * stride < reach <= halo(architecture)


@every_size
def test_sides_that_are_a_multiple_are_kept_and_shifts_by_it_shift_the_output(depth, stride):
    net, architecture = network(depth, stride)
    step = multiple(architecture)
    image = torch.randn(1, 1, 64 + step, 96)
    with torch.inference_mode():
        whole, part = net(image), net(image[:, :, step:])
    assert whole.shape == image.shape
    edge = halo(architecture)
    torch.testing.assert_close(whole[:, :, step + edge :], part[:, :, edge:], rtol=1e-5, atol=1e-5)


def test_each_pixel_of_a_block_has_an_output_of_its_own():
    net, _ = network(2, 2)
    with torch.no_grad():
        net.head.weight.zero_()
        net.head.bias.copy_(torch.arange(4.0))
        found = net(torch.zeros(1, 1, 8, 8))[0, 0]
    assert found[:2, :2].tolist() == [[0, 1], [2, 3]]
    torch.testing.assert_close(found, found[:2, :2].repeat(4, 4))
