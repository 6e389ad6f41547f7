"""Comparison of a recipe's visits with what the archive lists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from deepcr_zoo.archive.listing import Product, request_of
from deepcr_zoo.zoo.instrumentfiles import default_instruments
from deepcr_zoo.zoo.recipe import Recipe, VisitRule

TIME_TOLERANCE = 0.05  # published exposure times are rounded


@dataclass(frozen=True)
class RuleComparison:
    """Expectations of a recipe's rule and findings of the archive; times are means of the exposures."""

    rule: str
    split: str
    expected_exposures: int | None
    found_exposures: int
    expected_time_s: float | None
    found_time_s: float | None
    differs: tuple[str, ...]


def compare(recipe: Recipe, products: Sequence[Product]) -> list[RuleComparison]:
    """Compare each rule with all products that `Archive.search` finds; a product belongs to the first rule that matches."""
    left = list(products)
    block = recipe.instrument
    known = default_instruments().named(block.telescope, block.instrument, block.detector)
    # the archive does not list how many exposures such a file holds
    is_countable = known is None or not known.every_chip_is_an_exposure
    rows = []
    for name, rule in recipe.data.visits.items():
        request = request_of(recipe, rule)
        members = [product for product in left if product.matches(request)]
        left = [product for product in left if product not in members]
        rows.append(_compare_rule(name, rule, rule.exposures if is_countable else None, members))
    return rows


def _compare_rule(name: str, rule: VisitRule, expected: int | None, members: Sequence[Product]) -> RuleComparison:
    public = [product for product in members if product.is_public]
    times = [product.exposure_time_s for product in public if product.exposure_time_s is not None]
    mean = round(sum(times) / len(times), 1) if times else None
    differs = []
    if not members:
        differs.append("nothing found")
    elif expected not in (None, len(members)):
        differs.append(f"{expected} exposures expected, {len(members)} found")
    if hidden := len(members) - len(public):
        differs.append(f"{hidden} not public")
    if mean is not None and rule.exposure_time_s is not None and abs(mean / rule.exposure_time_s - 1) > TIME_TOLERANCE:
        differs.append(f"{rule.exposure_time_s:g} s expected, {mean:g} s found")
    split = rule.split or "train and test"
    return RuleComparison(name, split, expected, len(public), rule.exposure_time_s, mean, tuple(differs))
