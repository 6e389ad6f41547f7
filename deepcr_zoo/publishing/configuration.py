"""The config.json of a model on the Hub: what a program needs to run the weights without this package."""

from __future__ import annotations

import json

from deepcr_zoo.models.nets import CHANNELS
from deepcr_zoo.zoo.cards import Card
from deepcr_zoo.zoo.registry import CARD_FILE, TEST_VECTOR_FILE, WEIGHTS_FILE, Architecture

CONFIG_FILE = "config.json"


def configuration(card: Card, architecture: Architecture) -> bytes:
    """Return the file, rendered from a card and the architecture in its registry entry; equal facts give equal bytes."""
    identity, given, output = card.identity, card.input, card.output
    content = {
        "library_name": "deepcr-zoo",
        "model": f"{identity.task}/{identity.name}@{identity.version}",
        "task": identity.task,
        "architecture": {"family": "UNet", "in_channels": CHANNELS[identity.task], **architecture.model_dump(mode="json")},
        "input": {
            "unit": given.unit,
            "scale": given.scale,
            "normalisation": given.normalisation,
            "multiple": given.multiple,
            "halo": given.halo,
        },
        "output": {"quantity": output.quantity, "threshold": output.threshold},
        "files": {"weights": WEIGHTS_FILE, "test_vector": TEST_VECTOR_FILE, "card": CARD_FILE},
        "test_vector": {"tolerance": card.test_vector.tolerance},
    }
    return (json.dumps(content, indent=2) + "\n").encode()
