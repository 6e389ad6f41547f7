"""Recipes for images in arrays, which have no instrument and no files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from deepcr_zoo.documents import validate
from deepcr_zoo.errors import UsageError
from deepcr_zoo.models.images import LIMIT
from deepcr_zoo.zoo.recipe import Recipe

ARRAYS = "arrays"  # in the place of a telescope, instrument and detector
SCALE_ARCSEC = 0.05  # per pixel, in the substitute for coordinates


def arrays_recipe(
    name: str,
    shape: Sequence[int],
    *,
    train: Mapping[str, Any] | None = None,
    read_noise_electron: float = 5.0,
    stamp_size: int | None = None,
    validation_fraction: float = 0.2,
) -> Recipe:
    """Return a recipe for images in arrays, which have no instrument and no files.

    Parameters
    ----------
    name : str
        Name of the model.
    shape : sequence of int
        Rows and columns of each image, pixels.
    train : mapping, optional
        The recipe's ``train`` block; by default a network of depth 2 with 32 channels.
    read_noise_electron : float
        For L.A.Cosmic, e-.
    stamp_size : int, optional
        Side of a stamp, pixels; by default the largest multiple of 4 that an image holds, and 256 at most.
    validation_fraction : float
        Share of the images that are not for testing.

    Returns
    -------
    Recipe

    Raises
    ------
    UsageError
        If images are smaller than 32 pixels.
    InvalidDocumentError
        If the name or a setting is not what a recipe takes.
    """
    side = stamp_size or min(256, min(shape) // 4 * 4)
    if side < 32 or min(shape) < side:
        raise UsageError(f"images of {' x '.join(map(str, shape))} pixels: expected stamps of 32 pixels or more in them")
    visits = {"arrays": {"field_type": "extragalactic", "test_fraction": 0.2}}
    return validate(
        {
            "name": name,
            "task": "mask",
            "instrument": _instrument(shape, read_noise_electron),
            "data": {"product": "*", "source": "arrays", "split_by": "observation", "visits": visits},
            "build": {
                "labels": "given",
                "ignore": {"saturation_electron": LIMIT},
                "stamps": {"size": side, "border": 0, "validation_fraction": validation_fraction},
                "sky": "measured",
                "quality": {"min_exposures": 1},
            },
            "train": {"architecture": {"depth": 2, "hidden": 32, "norm": "batch"}, **(train or {})},
            "publish": {"summary": f"{name}: trained on images and masks in arrays"},
            "rehearsal": {"stamps": {"size": 32, "border": 32}},
        },
        Recipe,
        lambda _: "the recipe of arrays",
    )


def _instrument(shape: Sequence[int], read_noise_electron: float) -> dict[str, Any]:
    """Return the block of an instrument whose images have no headers."""
    facts = {"telescope": ARRAYS, "instrument": ARRAYS, "detector": ARRAYS}
    described = {
        "recognise": {"INSTRUME": ARRAYS},
        "filter_keywords": ["FILTER"],
        "gain_keywords": ["GAIN"],
        "chip_shape": list(shape),
        "has_flags": False,
        "cosmic_ray_bit": None,
    }
    sources = dict.fromkeys(described, "images in arrays have no headers")
    return {
        **facts,
        "filters": ["any"],
        "pixel_scale_arcsec": SCALE_ARCSEC,
        "pixel_size_um": 15.0,
        "gain_electron_per_count": 1.0,
        "read_noise_electron": read_noise_electron,
        "saturation_electron": LIMIT,
        "chips": 1,
        "chip_shape": list(shape),
        "description": {"name": "images in arrays", **facts, **described, "sources": sources},
    }
