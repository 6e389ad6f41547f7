"""A recipe's visits beside what the archive has of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from deepcr_zoo.archive.listing import Product, asked_by
from deepcr_zoo.zoo.instruments import default_instruments
from deepcr_zoo.zoo.recipe import Recipe, VisitRule

TIME_TOLERANCE = 0.05
"""Published exposure times are rounded."""


@dataclass(frozen=True)
class Compared:
    """A rule of a recipe and what the archive has of it.

    Attributes
    ----------
    rule : str
    split : str
    expected_exposures : int or None
        None if the recipe does not tell, or if a file may hold several and the archive does not say how many.
    found_exposures : int
        That everybody gets.
    expected_time_s, found_time_s : float or None
        Mean exposure time.
    differs : tuple of str
        What is not as the recipe says.
    """

    rule: str
    split: str
    expected_exposures: int | None
    found_exposures: int
    expected_time_s: float | None
    found_time_s: float | None
    differs: tuple[str, ...]


def compare(recipe: Recipe, products: Sequence[Product]) -> list[Compared]:
    """Compare a recipe's rules with what the archive has, each product being of the first rule that takes it in.

    Parameters
    ----------
    recipe : Recipe
    products : sequence of Product
        All that `Archive.search` finds.
    """
    left, several = list(products), _holds_several(recipe)
    rows = []
    for name, rule in recipe.data.visits.items():
        asked = asked_by(recipe, rule)
        members = [product for product in left if product.is_of(asked)]
        left = [product for product in left if product not in members]
        rows.append(_compared(name, rule, None if several else rule.exposures, members))
    return rows


def _holds_several(recipe: Recipe) -> bool:
    """Whether a file of the recipe's camera may hold several exposures."""
    block = recipe.instrument
    known = default_instruments().named(block.telescope, block.instrument, block.detector)
    return known is not None and known.every_chip_is_an_exposure


def _compared(name: str, rule: VisitRule, expected: int | None, members: Sequence[Product]) -> Compared:
    public = [product for product in members if product.is_public]
    times = [product.exposure_time_s for product in public if product.exposure_time_s is not None]
    mean = round(sum(times) / len(times), 1) if times else None
    hidden = len(members) - len(public)
    reasons = [
        "nothing found" if not members else "",
        f"{expected} exposures expected, {len(members)} found" if members and expected not in (None, len(members)) else "",
        f"{hidden} not public" if hidden else "",
        f"{rule.exposure_time_s:g} s expected, {mean:g} s found"
        if mean is not None and rule.exposure_time_s is not None and abs(mean / rule.exposure_time_s - 1) > TIME_TOLERANCE
        else "",
    ]
    return Compared(
        rule=name,
        split=rule.split or "train and test",
        expected_exposures=expected,
        found_exposures=len(public),
        expected_time_s=rule.exposure_time_s,
        found_time_s=mean,
        differs=tuple(reason for reason in reasons if reason),
    )
