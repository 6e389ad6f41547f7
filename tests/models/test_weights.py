import pytest
import torch

from deepcr_zoo.errors import InvalidWeightsError
from deepcr_zoo.models import weights
from deepcr_zoo.models.architectures import shapes_of
from deepcr_zoo.models.nets import UNet, folded_parameters, network_of
from deepcr_zoo.zoo import sources
from deepcr_zoo.zoo.registries import default_registry
from deepcr_zoo.zoo.registry import WEIGHTS_FILE, Architecture
from tests.conftest import ALL_MODELS
from tests.plainnetworks import plain
from tests.registries import SMALL

# of the published networks
PARAMETERS = {("mask", 2, 32): 101_473, ("mask", 2, 4): 1_709, ("inpaint", 2, 32): 101_761, ("inpaint", 3, 32): 467_521}


@pytest.mark.parametrize("key", PARAMETERS)
def test_a_network_has_the_published_number_of_parameters(key):
    task, depth, hidden = key
    network = UNet(Architecture(depth=depth, hidden=hidden, norm="batch"), task)
    assert sum(parameter.numel() for parameter in network.parameters()) == PARAMETERS[key]


@pytest.mark.parametrize(("depth", "stride"), [(2, 1), (3, 1), (2, 2)])
def test_folding_does_not_change_the_function(depth, stride):
    torch.manual_seed(0)
    architecture = Architecture(depth=depth, hidden=8, norm="batch", stride=stride)
    network = UNet(architecture, "inpaint")
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for tensor in (module.weight, module.bias, module.running_mean):
                torch.nn.init.normal_(tensor)
            torch.nn.init.uniform_(module.running_var, 0.1, 10)
    network.eval().double()
    folded = network_of(plain(network, architecture, "inpaint")).double()
    image = torch.randn(2, 2, 32, 48, dtype=torch.float64)
    # folding rounds each weight to float32 once
    torch.testing.assert_close(folded(image), network(image), rtol=1e-5, atol=1e-5)


def test_folding_is_the_same_with_and_without_gradients():
    model = default_registry().resolve("CCD-ANY-3-16")
    data, architecture = sources.fetch(model, WEIGHTS_FILE).data, model.locked.architecture
    network = weights.trained_network(data, architecture, "mask", "here")
    with_gradients = folded_parameters(network, torch.float64)
    without = plain(network, architecture, "mask").parameters
    assert with_gradients.keys() == without.keys()
    assert all(torch.equal(with_gradients[name], torch.from_numpy(without[name].copy())) for name in without)


@pytest.mark.parametrize("task", ["mask", "inpaint"])
@pytest.mark.parametrize("norm", ["batch", "none"])
@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize(("depth", "stride"), [(2, 1), (2, 2), (3, 1), (3, 2)])
def test_the_tensors_of_a_file_are_those_of_the_network(depth, stride, outputs, norm, task):
    architecture = Architecture(depth=depth, hidden=3, norm=norm, stride=stride, outputs=outputs)
    state = UNet(architecture, task).state_dict()
    assert shapes_of(architecture, task) == {name: tuple(tensor.shape) for name, tensor in state.items()}
    weights.check_state(state, architecture, task, "here")


@pytest.mark.parametrize("name", ALL_MODELS)
def test_writing_what_was_read_gives_the_same_bytes(name):
    model = default_registry().resolve(name)
    data = sources.fetch(model, WEIGHTS_FILE).data
    state = weights.read_state(data, model.locked.architecture, model.entry.task, name)
    shuffled = dict(reversed(state.items()))
    assert weights.serialise(shuffled) == data


def small_state():
    model = default_registry().resolve(SMALL)
    data = sources.fetch(model, WEIGHTS_FILE).data
    return model.locked.architecture, weights.read_state(data, model.locked.architecture, "mask", SMALL)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("head.bias"), "head.bias: expected a tensor, got none"),
        (lambda state: state.update(extra=torch.zeros(1)), "extra: expected no such tensor"),
        (lambda state: state.update({"head.bias": torch.zeros(2)}), r"head.bias: expected F32 of shape \(1,\)"),
        (lambda state: state.update({"head.bias": torch.zeros(1).double()}), "got F64"),
        (lambda state: state.update({"head.bias": torch.tensor([torch.nan])}), "head.bias: expected finite numbers"),
    ],
)
def test_weights_that_do_not_fit_are_refused_with_the_name_of_the_tensor(change, message):
    architecture, state = small_state()
    change(state)
    with pytest.raises(InvalidWeightsError, match=message):
        weights.read_state(weights.serialise(state), architecture, "mask", "here")


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 a zip file", b"\xff" * 64])
def test_bytes_that_are_not_safetensors_are_refused(data):
    with pytest.raises(InvalidWeightsError, match="here: expected a safetensors file"):
        weights.read_state(data, Architecture(depth=2, hidden=4, norm="batch"), "mask", "here")
