"""Networks of the deepCR package: the state dicts in their .pth files become networks of ours."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deepcr_zoo.errors import ConversionError, InvalidNameError, ModelWarning, UnknownModelError, UsageError, warn
from deepcr_zoo.files import read_file
from deepcr_zoo.models import pthfiles, weights
from deepcr_zoo.models.model import MaskModel, load_files
from deepcr_zoo.models.nets import HALO, MULTIPLE
from deepcr_zoo.zoo import cards
from deepcr_zoo.zoo.names import for_task
from deepcr_zoo.zoo.registries import default_registry
from deepcr_zoo.zoo.registry import Architecture

_LAYERS = {"batch": {"0": "conv1", "1": "norm1", "3": "conv2", "4": "norm2"}, "none": {"0": "conv1", "2": "conv2"}}


def load_mask_file(path: Path, device: str) -> MaskModel:
    """Load the mask network in a .pth file that deepCR has trained, with a caution, because it has no card."""
    where = f"mask={str(path)!r}"
    instead = _same_name(path)
    try:
        architecture, state = convert_state(read_file(path))
    except OSError as error:
        raise UsageError(f"{where}: {error.strerror}; {instead or 'expected a .pth file or a model name'}") from None
    except ConversionError as error:
        raise ConversionError(f"{where}: {error}") from None
    model = load_files(weights.serialise(state), _card(path, architecture), architecture, str(path), device)
    assert isinstance(model, MaskModel)  # the task of its card
    caution = "a .pth file has no card: pixel values go in unscaled, as in deepCR, and error rates are unknown"
    if variance := weights.input_variance(state, 1):
        caution += f"; in training they had a standard deviation of about {math.sqrt(variance):.2g}"
    warn(f"{where}: {caution}{instead and '; '}{instead}", ModelWarning)
    return model


def convert_state(data: bytes) -> tuple[Architecture, dict[str, Tensor]]:
    """Rename an upstream state dict, from the bytes of a .pth file, to our names; fold weight normalisation."""
    upstream = _state(pthfiles.load(data))
    architecture = _architecture(upstream)
    modules = _module_names(architecture)
    state: dict[str, Tensor] = {}
    for name, tensor in upstream.items():
        module, _, parameter = name.rpartition(".")
        if module not in modules:
            raise ConversionError(f"{name[:80]}: expected a parameter of an upstream UNet of {architecture}")
        if parameter == "weight_g":
            continue
        if parameter == "weight_v" and f"{module}.weight_g" in upstream:
            parameter, tensor = "weight", _weight_norm(tensor, upstream[f"{module}.weight_g"], name)
        elif parameter == "num_batches_tracked":
            tensor = tensor.to(torch.int64)
        state[f"{modules[module]}.{parameter}"] = tensor.detach().clone(memory_format=torch.contiguous_format)  # none shared
    return architecture, state


def _state(content: Any) -> dict[str, Tensor]:
    """Return the content of a .pth file if it is a state dict: tensors by name."""
    if isinstance(content, dict) and all(isinstance(one, str) for one in content):
        for name, value in content.items():
            if not isinstance(value, Tensor):
                raise ConversionError(f"{name[:80]}: expected a parameter of an upstream UNet, got none")
        return content
    raise ConversionError(f"the file does not hold the weights of an upstream UNet; {pthfiles.EXPECTED}")


def _architecture(upstream: dict[str, Tensor]) -> Architecture:
    try:
        (hidden,) = upstream["module.inc.conv.conv.0.bias"].shape
        has_third_level = any(name.startswith("module.down2.") for name in upstream)
        has_weight_norm = any(name.endswith(".weight_g") for name in upstream)
        return Architecture(depth=3 if has_third_level else 2, hidden=hidden, norm="none" if has_weight_norm else "batch")
    except (KeyError, ValueError):
        raise ConversionError(f"the file does not hold the weights of an upstream UNet; {pthfiles.EXPECTED}") from None


def _module_names(architecture: Architecture) -> dict[str, str]:
    """Return our module names by upstream's."""
    blocks = {"inc.conv": "encoder.0", "outc.conv": "head"}
    for level in range(1, architecture.depth):
        # upstream counts its decoder down from up8, which works at full resolution; ours counts up to it
        step = architecture.depth - 1 - level
        blocks |= {
            f"down{level}.mpconv.1": f"encoder.{level}",
            f"up{9 - level}.up": f"upsample.{step}",
            f"up{9 - level}.conv": f"decoder.{step}",
        }
    modules = {f"module.{upstream}": ours for upstream, ours in blocks.items()}
    for upstream, ours in blocks.items():
        modules |= {
            f"module.{upstream}.conv.{number}": f"{ours}.{layer}" for number, layer in _LAYERS[architecture.norm].items()
        }
    return modules


def _weight_norm(direction: Tensor, length: Tensor, name: str) -> Tensor:
    """Return the weight g * v / |v|, with |v| over all but the first axis (Salimans & Kingma 2016, Eq. 2), in float64."""
    if direction.dim() != 4 or length.shape != (len(direction), 1, 1, 1):
        raise ConversionError(f"{name}: expected four axes, and a length in weight_g for each filter")
    wide = direction.double()
    norm = wide.flatten(1).square().sum(dim=1).sqrt()[:, None, None, None]
    folded: Tensor = (length.double() * wide / norm).float()
    return folded


def _same_name(path: Path) -> str:
    """Return a hint if the zoo has a mask model of the file's name, else nothing."""
    try:
        default_registry().resolve(for_task(path.stem, "mask"))
    except (InvalidNameError, UnknownModelError):
        return ""
    return f"the zoo has a network of this name, with its unit and scale: mask={path.stem!r}"


def _card(path: Path, architecture: Architecture) -> cards.Card:
    """Return what can be said of a network of which only the file is known; the other parts of the card are absent."""
    return cards.Card.model_construct(
        identity=cards.CardIdentity(name="unnamed", task="mask", version="0.0", title=str(path), authors=["not known"]),
        input=cards.CardInput(
            unit="electron",  # the unit of deepCR
            normalisation="scale",
            scale=1,
            multiple=MULTIPLE[architecture.depth],
            halo=HALO[architecture.depth],
        ),
        training=cards.CardTraining(data="not known", method="not known", unknown=["everything"], source="the file alone"),
        output=cards.CardOutput(
            quantity="cosmic-ray probability", threshold=0.5, threshold_choice="0.5, the default of the released code"
        ),
    )
