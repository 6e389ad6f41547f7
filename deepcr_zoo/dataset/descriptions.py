"""Labels and ignored pixels in words, for cards and results."""

from __future__ import annotations

from collections.abc import Sequence

from deepcr_zoo.dataset.ignore import quality_bits
from deepcr_zoo.dataset.labelmethods import LABEL_METHODS
from deepcr_zoo.zoo.recipe import Recipe
from deepcr_zoo.zoo.recipeinstruments import detector_of


def describe_labels(recipe: Recipe, software: Sequence[str]) -> str:
    """Return the label method of a recipe, the software that ran it and every setting."""
    method = LABEL_METHODS[recipe.build.labels]
    settings = getattr(recipe.build, method.settings).model_dump(exclude={"darks"})  # folders of one user's machine
    listed = ", ".join(f"{name} {value}" for name, value in settings.items())
    return f"{method.description} {' and '.join(software)}, {listed}"


def describe_ignored_pixels(recipe: Recipe) -> str:
    """Return the kinds of pixels that a recipe ignores."""
    block = recipe.build.ignore
    bits, side = quality_bits(block, detector_of(recipe.instrument)), block.saturation_dilation
    return (
        f"DQ flags but for those of {bits.kept}; pixels above {block.saturation_electron:g} e- and those in {side} x {side} "
        f"around them; pixels without a value; {LABEL_METHODS[recipe.build.labels].ignored_pixels}; "
        "pixels and columns that stand out in most exposures of a visit, on which these labels say nothing"
    )
