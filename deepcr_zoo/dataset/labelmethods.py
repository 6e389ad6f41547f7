"""What is told of each way of labelling, in one place: `labels.METHODS` has the functions that do it."""

from __future__ import annotations

from dataclasses import dataclass

from deepcr_zoo.zoo.recipe import Labels


@dataclass(frozen=True)
class Way:
    """A way of labelling.

    Attributes
    ----------
    settings : str
        Its block in ``build`` of a recipe.
    described : str
        For cards and results; what made the labels follows.
    untold : str
        What it ignores besides bad and saturated pixels.
    is_calibrated : bool
        Whether it takes calibrated exposures alone, in electrons.
    same_pixels : bool
        Whether the exposures of a visit see the same on the same pixels.
    """

    settings: str
    described: str
    untold: str
    is_calibrated: bool = False
    same_pixels: bool = False


WAYS: dict[Labels, Way] = {
    "astrodrizzle": Way("drizzle", "AstroDrizzle of", "what no other exposure has seen", is_calibrated=True),
    "cr_split": Way(
        "cr_split",
        "repeated exposures of one pointing, compared by",
        "hot pixels; what cosmic rays of the other exposures may hide",
        same_pixels=True,
    ),
    "dark_paste": Way(
        "dark_paste",
        "cosmic rays of dark exposures (Chen et al. 2024), added by",
        "the exposures' own cosmic rays, as far as DQ flags and L.A.Cosmic tell them, and pixels around them",
    ),
}


def settings_of_others(labels: Labels) -> set[str]:
    """Blocks of settings that labels of this way do not depend on."""
    return {way.settings for name, way in WAYS.items() if name != labels}
