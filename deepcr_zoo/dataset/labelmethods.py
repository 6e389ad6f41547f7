"""Label methods: names, settings and descriptions used in recipes, cards and reports.

This module imports no code that labels (`labels.LABELLERS` has that), so modules below the label methods can use it.
"""

from __future__ import annotations

from dataclasses import dataclass

from deepcr_zoo.zoo.recipe import Labels


@dataclass(frozen=True)
class LabelMethod:
    """Facts about a label method."""

    settings: str  # name of its block in ``build`` of a recipe
    description: str  # for cards and results; the software follows
    ignored_pixels: str  # in addition to bad and saturated pixels
    unseen: str  # what no figure that rests on these labels can show
    is_calibrated: bool = False  # True if it takes only calibrated exposures, in electrons
    same_pixels: bool = False  # True if all exposures of a visit share one pixel grid
    is_dithered: bool = False  # True if exposures see the sky on different pixels, and predict each other


# descriptions are part of cards and results: a change makes published ones differ from new ones
LABEL_METHODS: dict[Labels, LabelMethod] = {
    "astrodrizzle": LabelMethod(
        "drizzle",
        "AstroDrizzle of",
        "what no other exposure has seen",
        "what is on the same place of the sky in all exposures; what moves passes for cosmic rays",
        is_calibrated=True,
        is_dithered=True,
    ),
    "cr_split": LabelMethod(
        "cr_split",
        "repeated exposures of one pointing, compared by",
        "hot pixels; what cosmic rays of the other exposures may hide",
        "false masks on hot pixels, which are ignored; what moves passes for cosmic rays",
        same_pixels=True,
    ),
    "dark_paste": LabelMethod(
        "dark_paste",
        "cosmic rays of dark exposures (Chen et al. 2024), added by",
        "the exposures' own cosmic rays, as far as DQ flags and L.A.Cosmic show them, and pixels around them",
        "bad columns and hot pixels that are not flagged: in darks they pass for cosmic rays, and networks learn them",
    ),
    "dithers": LabelMethod(
        "dithers",
        "dithered exposures, aligned by WCS and stars, compared by",
        "what too few other exposures have seen; cores of stars where seeing differs too much; trails and moving objects",
        "false masks on cores of stars and on trails, which are ignored",
        is_dithered=True,
    ),
    "given": LabelMethod(
        "given",
        "masks of the recipe's author, taken as they are by",
        "what their ignore masks exclude",
        "mistakes of these masks that their author makes again",
    ),
    "truth": LabelMethod(
        "truth",
        "the truth of simulated exposures, written by",
        "charge of cosmic rays too weak to be labelled",
        "what real cameras have and the simulation lacks",
    ),
}


def why_not_of(labels: Labels, telescope: str, camera: str) -> str | None:
    """Return why a label method cannot serve the exposures of a camera; None if it can."""
    if not LABEL_METHODS[labels].is_calibrated or telescope == "HST":
        return None
    return (
        f"labels {labels} need calibrated exposures of HST, which AstroDrizzle reads, and {camera} is none of its cameras: "
        "choose build.labels dithers for dithered exposures, or cr_split for repeats on the same pixels"
    )


def settings_of_others(labels: Labels) -> set[str]:
    """Return the names of the settings blocks that these labels do not depend on."""
    return {method.settings for name, method in LABEL_METHODS.items() if name != labels}
