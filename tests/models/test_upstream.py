"""Networks in .pth files of the deepCR package."""

import io
import re
from pathlib import Path

import numpy as np
import pytest
import torch

import deepcr_zoo
from deepcr_zoo.errors import ConversionError, DeepcrZooError, ModelWarning, UsageError
from deepcr_zoo.models import weights
from deepcr_zoo.models.upstream import convert_state, load_network
from deepcr_zoo.zoo import sources
from deepcr_zoo.zoo.registries import default_registry
from deepcr_zoo.zoo.registry import WEIGHTS_FILE
from tests.registries import SMALL
from tests.scenes import star_field

IMAGE, _ = star_field((60, 50), seed=1)
BLOCKS = {"encoder.0": "inc.conv", "encoder.1": "down1.mpconv.1", "decoder.0": "up8.conv"}
LAYERS = {"conv1": "conv.0", "norm1": "conv.1", "conv2": "conv.3", "norm2": "conv.4"}


def upstream_name(ours):
    """The name of a tensor in a network of deepCR with two resolutions."""
    module, _, parameter = ours.rpartition(".")
    if module in ("head", "upsample.0"):
        return f"module.{ {'head': 'outc.conv', 'upsample.0': 'up8.up'}[module] }.{parameter}"
    block, _, layer = module.rpartition(".")
    return f"module.{BLOCKS[block]}.{LAYERS[layer]}.{parameter}"


def small_state():
    model = default_registry().resolve(SMALL)
    data = sources.fetch(model, WEIGHTS_FILE).data
    state = weights.read_state(data, model.locked.architecture, "mask", SMALL)
    return {upstream_name(name): tensor for name, tensor in state.items()}


def write_pth(path, state=None):
    torch.save(small_state() if state is None else state, path)
    return path


def test_a_file_of_deepcr_is_a_mask_model_for_unscaled_values(tmp_path):
    with pytest.warns(ModelWarning, match=r"pixel values go in unscaled, .* deviation of about") as caught:
        model = load_network(write_pth(tmp_path / "mine.pth"), "mask", "cpu")
    assert model.card.input.scale == 1
    assert "the zoo has" not in str(caught[0].message)
    # this network was trained on electrons divided by 100
    np.testing.assert_allclose(model.predict(IMAGE / 100), deepcr_zoo.load(SMALL).predict(IMAGE), atol=1e-5)
    np.testing.assert_array_equal(model.predict(IMAGE, tile=32), model.predict(IMAGE))


def test_a_file_named_like_a_network_of_the_zoo_names_it(tmp_path):
    hint = "the zoo has a network of this name, with its unit and scale: mask='ACS-WFC'"
    with pytest.warns(ModelWarning, match=hint):
        load_network(write_pth(tmp_path / "ACS-WFC.pth"), "mask", "cpu")
    with pytest.raises(UsageError, match=re.escape("nowhere/ACS-WFC.pth': No such file or directory; ") + hint):
        load_network(Path("nowhere/ACS-WFC.pth"), "mask", "cpu")
    with pytest.raises(UsageError, match=r"No such file or directory; expected a .pth file or a model name"):
        load_network(Path("nowhere/mine.pth"), "mask", "cpu")
    with pytest.raises(UsageError, match=r"is a folder; expected a .pth file"):
        load_network(tmp_path, "mask", "cpu")


@pytest.mark.parametrize("version", ["2.5.1", "2.9.1"])
def test_a_file_is_not_read_by_a_torch_that_could_run_its_code(version, tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "__version__", torch.torch_version.TorchVersion(version))
    with pytest.raises(UsageError, match=rf"need torch 2\.10 or newer to be safe, and this is {version}"):
        load_network(write_pth(tmp_path / "mine.pth"), "mask", "cpu")


@pytest.mark.parametrize(
    "change",
    [
        lambda state: {**state, "module.inc.conv.conv.0.weight": torch.zeros(4, 2, 3, 3)},  # takes an image and a mask
        lambda state: {**state, "module.outc.conv.bias": torch.tensor([np.nan])},
        lambda state: {**state, "module.outc.conv.bias": torch.zeros(1, dtype=torch.float64)},
        lambda state: {name: tensor for name, tensor in state.items() if "outc" not in name},
        lambda state: {**state, "module.outc.conv.weight_v": torch.zeros(1)},
        lambda state: {**state, "module.outc.conv.bias": "text"},
        lambda state: {"epoch": 3, "state_dict": state},
        lambda state: [1, 2],
    ],
)
def test_a_file_with_other_content_is_refused_in_a_sentence(tmp_path, change):
    path = write_pth(tmp_path / "mine.pth", change(small_state()))
    with pytest.raises(DeepcrZooError, match=r"mine.pth"):
        load_network(path, "mask", "cpu")


def test_a_file_that_would_run_code_is_never_unpickled(tmp_path):
    class Malicious:
        def __reduce__(self):
            return open, (str(tmp_path / "owned"), "w")

    buffer = io.BytesIO()
    torch.save({"module.inc.conv.conv.0.bias": Malicious()}, buffer)
    with pytest.raises(ConversionError, match="does not hold tensors alone"):
        convert_state(buffer.getvalue())
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"no pickle"])
def test_a_damaged_file_is_refused(data):
    with pytest.raises(ConversionError, match="or is damaged"):
        convert_state(data)


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"x": torch.zeros(1)},
        [1, 2],
        {"module.inc.conv.conv.0.bias": 4},
        {"module.inc.conv.conv.0.bias": torch.zeros(2000)},
        {"module.inc.conv.conv.0.bias": torch.zeros(4), "odd": torch.zeros(1)},
    ],
)
def test_what_is_not_an_upstream_unet_is_refused(state):
    buffer = io.BytesIO()
    torch.save(state, buffer)
    with pytest.raises(ConversionError, match="upstream UNet"):
        convert_state(buffer.getvalue())
