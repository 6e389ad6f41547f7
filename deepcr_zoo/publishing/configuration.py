"""The config.json of a model on the Hub: all that a program needs to run the weights, with or without this package."""

from __future__ import annotations

import json
from collections.abc import Mapping

from deepcr_zoo.models.architectures import CHANNELS, LOG_SPREAD
from deepcr_zoo.models.interpolation import LAYERS, STEPS
from deepcr_zoo.zoo.cards import Card
from deepcr_zoo.zoo.registry import CARD_FILE, TEST_VECTOR_FILE, WEIGHTS_FILE, Architecture, LockedFile

BLOCKS = {"batch": "2 x (3x3 convolution, batch norm with eps 1e-5, ReLU)", "none": "2 x (3x3 convolution, ReLU)"}
STRIDED = "pixel_unshuffle by the stride before the first block, pixel_shuffle after the head, as torch orders channels"
SCALED = {
    "scale": "x = image / scale",
    "frame-standardise": "y = image / scale; x = (y - mean(y)) / std(y) over the whole frame",
    "noise": "x = arcsinh((image - sky) / noise), sky and noise of the whole exposure or amplifier, as in README.md",
}
ESTIMATED = (
    "; e is x, and where mask is 1 first the mean of the known neighbours (3x3), layer by layer from the edge inwards, "
    "0 deeper than {} layers, then {} steps of heavy-ball descent towards least curvature, as in README.md"
)
INPAINTED = "where mask is 1: {}, back to the unit of the image; elsewhere image"
UNCERTAIN = (
    "; of the two channels [d, log(s)] d is added to e, log(s) is cut at {} and {}, and with v = e + d the uncertainty is "
    "noise * sqrt((exp(s**2) - 1) * (exp(s**2) * cosh(2 * v) + 1) / 2)"
)


def configuration(card: Card, architecture: Architecture, files: Mapping[str, bytes]) -> bytes:
    """Return the file, from a card, its architecture and the files that it names; equal facts give equal bytes."""
    identity, given, output = card.identity, card.input, card.output
    names = {"weights": WEIGHTS_FILE, "test_vector": TEST_VECTOR_FILE, "card": CARD_FILE}
    content = {
        "library_name": "deepcr-zoo",
        "model": f"{identity.task}/{identity.name}@{identity.version}",
        "task": identity.task,
        "architecture": {
            "family": "UNet",
            "in_channels": CHANNELS[identity.task],
            **architecture.model_dump(mode="json"),
            **({"blocks_of_pixels": STRIDED} if architecture.stride > 1 else {}),
            "block": BLOCKS[architecture.norm],
            "down": "2x2 max pooling, then a block of twice the channels",
            "up": "2x2 transposed convolution of stride 2 to half the channels, [skip, upsampled], then a block",
            "head": "1x1 convolution to "
            + ("one channel" if architecture.outputs == 1 else "two channels, [d, log(s)]")
            + (" for each pixel of a block" if architecture.stride > 1 else ""),
        },
        "input": {
            "unit": given.unit,
            "scale": given.scale,
            "normalisation": given.normalisation,
            "formula": f"{SCALED[given.normalisation]}; {_input(card)}",
            "multiple": given.multiple,
            "halo": given.halo,
        },
        "output": {
            "quantity": output.quantity,
            "formula": _output(card),
            "threshold": output.threshold,
        },
        "files": {kind: {"name": name, **LockedFile.of(files[name]).model_dump()} for kind, name in names.items()},
        "test_vector": {"tolerance": card.test_vector.tolerance},
    }
    return (json.dumps(content, indent=2) + "\n").encode()


def _input(card: Card) -> str:
    if card.identity.task == "mask":
        return "[x]"
    return f"[e, mask]{ESTIMATED.format(LAYERS, STEPS)}" if card.input.by_noise else "[x * (1 - mask), mask]"


def _output(card: Card) -> str:
    if card.identity.task == "mask":
        return "sigmoid(network([x]))"
    if not card.input.by_noise:
        return INPAINTED.format("network([x * (1 - mask), mask])")
    return INPAINTED.format("e + network([e, mask])") + (UNCERTAIN.format(*LOG_SPREAD) if card.output.uncertainty else "")
