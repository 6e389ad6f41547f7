"""How labels and ignore masks were made, in words, for cards and results."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from deepcr_zoo.dataset.exposures import detector_of
from deepcr_zoo.dataset.ignore import kept_bits
from deepcr_zoo.recipe import Labels, Recipe


def labels_of(recipe: Recipe, software: Sequence[str]) -> str:
    """Where labels come from, with every setting.

    Parameters
    ----------
    recipe : Recipe
    software : sequence of str
        That made them.
    """
    block = getattr(recipe.build, _SETTINGS[recipe.build.labels])
    settings = block.model_dump(exclude={"darks"})  # somebody's folders
    made_by = " and ".join(software)
    return f"{_METHODS[recipe.build.labels](made_by)}, {', '.join(f'{name} {value}' for name, value in settings.items())}"


def ignored_of(recipe: Recipe) -> str:
    """Which pixels are ignored."""
    block = recipe.build.ignore
    kept, side = kept_bits(block, detector_of(recipe.instrument)), block.saturation_dilation
    return (
        f"DQ flags but for those of {kept}; pixels above {block.saturation_electron:g} e- and those in {side} x {side} "
        f"around them; pixels without a value; {_UNTOLD[recipe.build.labels]}"
    )


_METHODS: dict[Labels, Callable[[str], str]] = {
    "astrodrizzle": lambda made_by: f"AstroDrizzle of {made_by}",
    "cr_split": lambda made_by: f"repeated exposures of one pointing, compared by {made_by}",
    "dark_paste": lambda made_by: f"cosmic rays of dark exposures (Chen et al. 2024), added by {made_by}",
}
_SETTINGS: dict[Labels, str] = {"astrodrizzle": "drizzle", "cr_split": "cr_split", "dark_paste": "dark_paste"}
_UNTOLD: dict[Labels, str] = {
    "astrodrizzle": "what no other exposure has seen",
    "cr_split": "hot pixels; what cosmic rays of the other exposures may hide",
    "dark_paste": "the exposures' own cosmic rays, as far as DQ flags and L.A.Cosmic tell them, and pixels around them",
}
