"""How labels and ignore masks were made, in words, for cards and results."""

from __future__ import annotations

from collections.abc import Sequence

from deepcr_zoo.dataset.exposures import detector_of
from deepcr_zoo.dataset.ignore import kept_bits
from deepcr_zoo.dataset.ways import WAYS
from deepcr_zoo.recipe import Recipe


def labels_of(recipe: Recipe, software: Sequence[str]) -> str:
    """Where labels come from, with every setting.

    Parameters
    ----------
    recipe : Recipe
    software : sequence of str
        That made them.
    """
    way = WAYS[recipe.build.labels]
    settings = getattr(recipe.build, way.settings).model_dump(exclude={"darks"})  # somebody's folders
    told = ", ".join(f"{name} {value}" for name, value in settings.items())
    return f"{way.described} {' and '.join(software)}, {told}"


def ignored_of(recipe: Recipe) -> str:
    """Which pixels are ignored."""
    block = recipe.build.ignore
    kept, side = kept_bits(block, detector_of(recipe.instrument)), block.saturation_dilation
    return (
        f"DQ flags but for those of {kept}; pixels above {block.saturation_electron:g} e- and those in {side} x {side} "
        f"around them; pixels without a value; {WAYS[recipe.build.labels].untold}"
    )
