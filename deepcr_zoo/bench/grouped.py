"""What masks are told apart by: brightness of stars, brightness and size of cosmic rays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from deepcr_zoo.bench.results import Diagnostics, FieldResult, GroupRate


@dataclass(frozen=True)
class Grouped:
    """A share of pixels that is told apart by something.

    Attributes
    ----------
    name, title, caption : str
    x_label, y_label : str
    of : callable
        Takes it from diagnostics.
    """

    name: str
    title: str
    caption: str
    x_label: str
    y_label: str
    of: Callable[[Diagnostics], Sequence[GroupRate]]

    def groups(self, field: FieldResult) -> Sequence[GroupRate]:
        """Of one method on one field type; none if nothing was diagnosed."""
        return self.of(field.diagnostics) if field.diagnostics is not None else ()


GROUPED = (
    Grouped(
        "star-cores",
        "False masks on star cores",
        "Of the clean pixels on star cores, the share that is masked, by the peak brightness of the star. Lower is better.",
        "peak brightness of the star (e-)",
        "clean pixels masked (%)",
        lambda found: found.star_cores,
    ),
    Grouped(
        "brightness",
        "TPR by brightness of the cosmic ray",
        "Of the cosmic-ray pixels, the share that is found, by their excess over the surroundings. Higher is better.",
        "excess over the surroundings (e-)",
        "TPR (%)",
        lambda found: found.cosmic_ray_brightness,
    ),
    Grouped(
        "size",
        "TPR by size of the cosmic ray",
        "Of the cosmic-ray pixels, the share that is found, by the size of the cosmic ray. Higher is better.",
        "pixels of the cosmic ray",
        "TPR (%)",
        lambda found: found.cosmic_ray_size,
    ),
)
