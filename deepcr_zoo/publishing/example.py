"""Example picture of a model's page: its test vector before and after."""

from __future__ import annotations

from deepcr_zoo.exposures import plot
from deepcr_zoo.exposures.pictures import png
from deepcr_zoo.models import testvectors
from deepcr_zoo.zoo.cards import Card

EXAMPLE_FILE, DPI = "example.png", 90.0


def example_picture(card: Card, test_vector: bytes) -> bytes:
    """Return a PNG of the image of a test vector and of what the network makes of it.

    `InvalidWeightsError` for another file, `MissingExtraError` without matplotlib.
    """
    vector = testvectors.read(test_vector, f"{card.identity.name}: test vector")
    if card.identity.task == "inpaint":
        return png(plot.masks(vector.image, {"to repaint": vector.mask}, vector.expected), DPI)
    assert card.output.threshold is not None
    masks = {f"probability > {card.output.threshold:g}": vector.expected > card.output.threshold, "the truth": vector.mask}
    return png(plot.masks(vector.image, masks), DPI)
