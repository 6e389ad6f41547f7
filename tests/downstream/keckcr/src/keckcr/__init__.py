"""Cosmic rays of an imaginary camera, masked with a model that this package brings."""

from pathlib import Path

MODEL = "keck:mask/LRIS-2-4"


def registry():
    """Folder of this package's registry, for deepcr_zoo."""
    return Path(__file__).parent / "models"


def mask_cosmic_rays(image):
    """CR mask of an image in electrons."""
    import deepcr_zoo

    return deepcr_zoo.load(MODEL, device="cpu").mask(image)
