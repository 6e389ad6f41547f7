"""Networks of the deepCR package: the state dicts in their .pth files become networks of ours."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import safetensors
import safetensors.torch
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.nn import functional

from deepcr_zoo.errors import (
    ConversionError,
    DeepcrZooError,
    InvalidNameError,
    ModelWarning,
    UnknownModelError,
    UsageError,
    command,
    warn,
)
from deepcr_zoo.files import read_file
from deepcr_zoo.models import pthfiles, weights
from deepcr_zoo.models.architectures import CHANNELS, halo, multiple
from deepcr_zoo.models.model import InpaintModel, MaskModel, load_files
from deepcr_zoo.zoo import cards
from deepcr_zoo.zoo.names import Task, for_task
from deepcr_zoo.zoo.registries import default_registry
from deepcr_zoo.zoo.registry import Architecture

Stride = Literal[1, 2]

_FIRST_OF_OURS = "encoder.0.conv1.weight"
_PREFIX = "module."  # of torch's DataParallel, which upstream trains with
_WEIGHT_NORM = {".parametrizations.weight.original0": ".weight_g", ".parametrizations.weight.original1": ".weight_v"}
_LAYERS = {"batch": {"0": "conv1", "1": "norm1", "3": "conv2", "4": "norm2"}, "none": {"0": "conv1", "2": "conv2"}}


def load_network(path: Path, task: Task, device: str) -> MaskModel | InpaintModel:
    """Load the network in a .pth file that deepCR has trained, with a caution, because it has no card."""
    where = f"{task}={str(path)!r}"
    instead = _same_name(path, task)
    if not path.is_file():
        reason = "is a folder" if path.is_dir() else "No such file or directory"
        raise UsageError(f"{where}: {reason}; {instead or 'expected a .pth file or a model name'}")
    network = read_network(path, where)
    if network.task != task:
        raise UsageError(f"{where}: expected a network for the task {task}, this one is for {network.task}")
    data = weights.serialise(network.state)
    model = load_files(data, _card(path, network), network.architecture, str(path), device)
    caution = "a .pth file has no card: pixel values go in unscaled, as in deepCR, and error rates are unknown"
    if variance := weights.input_variance(network.state, 1):
        caution += f"; in training the output of the first layer had a standard deviation of about {math.sqrt(variance):.2g}"
    way_out = f"{command('import', path)} --name NAME makes it a model with unit and scale"
    warn(f"{where}: {caution}; {instead or way_out}", ModelWarning)
    return model


@dataclass(frozen=True, eq=False)
class NetworkFile:
    """A network in a file: tensors by our names, and by upstream's if the file has those."""

    architecture: Architecture
    task: Task
    state: dict[str, Tensor]
    upstream: dict[str, Tensor] | None
    sha256: str  # of the file


def read_network(path: Path, where: str | None = None) -> NetworkFile:
    """Read a .pth file of deepCR, or a safetensors file with upstream's names or ours; errors call it `where`."""
    try:
        data = read_file(path)
    except OSError as error:
        raise UsageError(f"{where or path}: {error.strerror}; expected a .pth or .safetensors file of a network") from None
    try:
        tensors = _safetensors(data) if path.suffix == ".safetensors" else _state(pthfiles.load(data))
        if _FIRST_OF_OURS in tensors:
            upstream, state = None, tensors
            architecture, task = _own(tensors)
            weights.check_state(tensors, architecture, task, "its tensors")
        else:
            upstream = _plain_names(tensors)
            architecture, state = _renamed(upstream)
            task, _ = _task_and_stride(state, [1])
    except DeepcrZooError as error:
        raise type(error)(f"{where or path}: {error}") from None
    return NetworkFile(architecture, task, state, upstream, hashlib.sha256(data).hexdigest())


def convert_state(data: bytes) -> tuple[Architecture, dict[str, Tensor]]:
    """Rename an upstream state dict, from the bytes of a .pth file, to our names; fold weight normalisation."""
    return _renamed(_plain_names(_state(pthfiles.load(data))))


def upstream_state(architecture: Architecture, state: dict[str, Tensor], scale: float) -> dict[str, Tensor]:
    """Return a network's tensors as upstream's .pth files have them, for pixel values that are not divided by the scale."""
    modules = {ours: theirs for theirs, ours in _module_names(architecture).items()}
    renamed = {}
    for name, tensor in _unscaled(state, scale).items():
        module, _, parameter = name.rpartition(".")
        renamed[f"{_PREFIX}{modules[module]}.{parameter}"] = tensor.detach().clone()
    return renamed


def _unscaled(state: dict[str, Tensor], scale: float) -> dict[str, Tensor]:
    """Return the tensors of a network of the same output for input that is not divided by the scale.

    It is exact: the padding of the first convolution is zero in both. BatchNorm, if it is there, keeps the scale, so that it
    can be read from the weights.
    """
    if weights.FIRST_VARIANCE not in state:
        return {**state, _FIRST_OF_OURS: state[_FIRST_OF_OURS] / scale}
    mean = weights.FIRST_VARIANCE.replace("running_var", "running_mean")
    bias = _FIRST_OF_OURS.replace("weight", "bias")
    wider = scale**2 * (state[weights.FIRST_VARIANCE] + weights.EPSILON) - weights.EPSILON
    return {**state, weights.FIRST_VARIANCE: wider, mean: state[mean] * scale, bias: state[bias] * scale}


def reference_output(network: NetworkFile, channels: Tensor) -> Tensor:
    """Return what the layers of an upstream file give, called by their own names, in the precision of the input.

    It shares no code with our networks, and so checks the renaming and the folding of weight normalisation.
    """
    state = {name: one.to(channels.dtype) for name, one in (network.upstream or {}).items()}
    depth, is_normed = network.architecture.depth, network.architecture.norm == "batch"

    def weight(name: str) -> Tensor:
        if f"{name}.weight_g" not in state:
            return state[f"{name}.weight"]
        return torch._weight_norm(state[f"{name}.weight_v"], state[f"{name}.weight_g"], 0)

    def double_conv(x: Tensor, name: str) -> Tensor:
        for conv, norm in (("0", "1"), ("3", "4")) if is_normed else (("0", ""), ("2", "")):
            x = functional.conv2d(x, weight(f"{name}.conv.{conv}"), state[f"{name}.conv.{conv}.bias"], padding=1)
            if norm:
                mean, variance, gain, shift = (
                    state[f"{name}.conv.{norm}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
                )
                x = functional.batch_norm(x, mean, variance, gain, shift)
            x = functional.relu(x)
        return x

    skips = [double_conv(channels, "inc.conv")]
    for level in range(1, depth):
        skips.append(double_conv(functional.max_pool2d(skips[-1], 2), f"down{level}.mpconv.1"))
    x = skips.pop()
    for number in range(10 - depth, 9):  # up7, up8
        x = functional.conv_transpose2d(x, state[f"up{number}.up.weight"], state[f"up{number}.up.bias"], stride=2)
        x = double_conv(torch.cat([skips.pop(), x], dim=1), f"up{number}.conv")
    return functional.conv2d(x, weight("outc.conv"), state["outc.conv.bias"])


def _renamed(upstream: dict[str, Tensor]) -> tuple[Architecture, dict[str, Tensor]]:
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


def _plain_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict without the prefix of DataParallel, and with the older names of weight normalisation."""
    if all(name.startswith(_PREFIX) for name in tensors):
        tensors = {name.removeprefix(_PREFIX): tensor for name, tensor in tensors.items()}
    for new, old in _WEIGHT_NORM.items():
        tensors = {name.replace(new, old): tensor for name, tensor in tensors.items()}
    return tensors


def _safetensors(data: bytes) -> dict[str, Tensor]:
    weights.read_header(data, "its header")
    try:
        return safetensors.torch.load(data)
    except (safetensors.SafetensorError, KeyError) as error:  # the latter for types that torch does not have
        raise ConversionError(f"expected a safetensors file: {error}") from None


def _own(tensors: dict[str, Tensor]) -> tuple[Architecture, Task]:
    """Return architecture and task of tensors with our names, which may be too few or of other shapes."""
    levels = {name.split(".")[1] for name in tensors if name.startswith("encoder.")}
    hidden = len(tensors[_FIRST_OF_OURS]) if tensors[_FIRST_OF_OURS].dim() else 0
    norm: Literal["batch", "none"] = "batch" if weights.FIRST_VARIANCE in tensors else "none"
    task, stride = _task_and_stride(tensors, [1, 2])
    head = tensors.get("head.weight")
    outputs = 1 if head is None or not head.dim() else len(head) // stride**2
    return _sized(len(levels), hidden, norm, stride, outputs), task


def _sized(depth: int, hidden: int, norm: Literal["batch", "none"], stride: Stride = 1, outputs: int = 1) -> Architecture:
    known = {"depth": depth, "hidden": hidden, "norm": norm, "stride": stride, "outputs": outputs}
    try:
        return Architecture.model_validate(known)
    except ValidationError:
        raise ConversionError(
            f"expected an upstream UNet of depth 2 or 3 with 1 to 1024 channels, got depth {depth} with {hidden}"
        ) from None


def _task_and_stride(state: dict[str, Tensor], strides: Sequence[Stride]) -> tuple[Task, Stride]:
    """Return what the input channels of the first convolution say, among networks of these strides."""
    first = state.get(_FIRST_OF_OURS)
    shape = [] if first is None else list(first.shape)
    known = {channels * stride**2: (task, stride) for task, channels in CHANNELS.items() for stride in strides}
    if len(shape) != 4 or shape[1] not in known:
        fast = ", or four times as many of a network of stride 2" if 2 in strides else ""
        raise ConversionError(
            f"first convolution: expected one input channel (mask) or two (inpaint){fast}, got shape {shape}"
        )
    return known[shape[1]]


def _state(content: Any) -> dict[str, Tensor]:
    """Return the content of a .pth file if it is a state dict: tensors by name."""
    if isinstance(content, dict) and all(isinstance(one, str) for one in content):
        for name, value in content.items():
            if not isinstance(value, Tensor):
                raise ConversionError(f"{name[:80]}: expected a parameter of an upstream UNet, got none")
        return content
    raise ConversionError(f"the file does not hold the weights of an upstream UNet; {pthfiles.EXPECTED}")


def _architecture(upstream: dict[str, Tensor]) -> Architecture:
    first = upstream.get("inc.conv.conv.0.bias")
    if first is None or first.dim() != 1:
        raise ConversionError(f"the file does not hold the weights of an upstream UNet; {pthfiles.EXPECTED}")
    depth = max(2, 1 + len({name.partition(".")[0] for name in upstream if name.startswith("down")}))
    return _sized(depth, len(first), "batch" if any(name.startswith("inc.conv.conv.1.") for name in upstream) else "none")


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
    modules = dict(blocks)
    for upstream, ours in blocks.items():
        modules |= {f"{upstream}.conv.{number}": f"{ours}.{layer}" for number, layer in _LAYERS[architecture.norm].items()}
    return modules


def _weight_norm(direction: Tensor, length: Tensor, name: str) -> Tensor:
    """Return the weight g * v / |v|, with |v| over all but the first axis (Salimans & Kingma 2016, Eq. 2), in float64."""
    if direction.dim() != 4 or length.shape != (len(direction), 1, 1, 1):
        raise ConversionError(f"{name}: expected four axes, and a length in weight_g for each filter")
    wide = direction.double()
    norm = wide.flatten(1).square().sum(dim=1).sqrt()[:, None, None, None]
    folded: Tensor = (length.double() * wide / norm).float()
    return folded


def _same_name(path: Path, task: Task) -> str:
    """Return a hint if the zoo has a model of the file's name, else nothing."""
    try:
        default_registry().resolve(for_task(path.stem, task))
    except (InvalidNameError, UnknownModelError):
        return ""
    return f"the zoo has a network of this name, with its unit and scale: {task}={path.stem!r}"


def _card(path: Path, network: NetworkFile) -> cards.Card:
    """Return what can be said of a network of which only the file is known; the other parts of the card are absent."""
    is_mask = network.task == "mask"
    return cards.Card.model_construct(
        identity=cards.CardIdentity(
            name="unnamed", task=network.task, version="0.0", title=str(path), authors=["not known"]
        ),
        input=cards.CardInput(
            unit="electron",  # the unit of deepCR
            normalisation="scale",
            scale=1,
            multiple=multiple(network.architecture),
            halo=halo(network.architecture),
        ),
        training=cards.CardTraining(data="not known", method="not known", unknown=["everything"], source="the file alone"),
        output=cards.CardOutput(
            quantity="cosmic-ray probability" if is_mask else "pixel value",
            threshold=0.5 if is_mask else None,
            threshold_choice="0.5, the default of the released code" if is_mask else None,
        ),
    )
