"""What a product says of how it was made, and whether a product that exists says the same."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deepcr_zoo._version import __version__

Cards = dict[str, tuple[Any, str]]
"""FITS keywords with their values and comments."""

SOFTWARE = f"deepcr-zoo {__version__}"

FORMAT = 1
"""Raised with every change of code or instrument table that changes what comes out: older products are not finished."""


@dataclass(frozen=True)
class Provenance:
    """Everything that the cosmic-ray mask of a product depends on.

    Attributes
    ----------
    model : str
        ``task/name@version``.
    model_sha256 : str
        Hash of its weights.
    threshold : float
        Probability above which a pixel is masked.
    grow : int
        Pixels that the mask was dilated by.
    input_sha256 : str
        Hash of the input file.
    """

    model: str
    model_sha256: str
    threshold: float
    grow: int
    input_sha256: str

    def cards(self) -> Cards:
        """FITS keywords with their values and comments (a hash of 64 characters leaves no room for one)."""
        return {
            "CRMODEL": (self.model.partition("/")[2], "network that found the cosmic rays"),
            "CRSHA256": (self.model_sha256, "weights"),
            "CRTHRESH": (self.threshold, "pixels of a higher probability are masked"),
            "CRGROW": (self.grow, "[pixel] dilation of the mask"),
            "CRINPUT": (self.input_sha256, "input"),
            "CRFORMAT": (FORMAT, "changes when the same input would give another result"),
            "CRSOFT": (SOFTWARE, "software that made this file"),
        }


@dataclass(frozen=True)
class MaskProvenance(Provenance):
    """Of a mask file.

    Attributes
    ----------
    probability : bool
        Whether the probability goes with the mask.
    """

    probability: bool

    def cards(self) -> Cards:
        """FITS keywords with their values and comments."""
        # a file that has more than is asked for will do
        return {
            **super().cards(),
            **({"CRPROBS": (True, "CRPROB extensions hold the probability")} if self.probability else {}),
        }


@dataclass(frozen=True)
class CleanedProvenance(Provenance):
    """Of a cleaned exposure.

    Attributes
    ----------
    inpainter : str
        ``task/name@version``, the name of a classical method, or ``none``.
    inpainter_sha256 : str
        Hash of its weights; empty if it has none.
    """

    inpainter: str
    inpainter_sha256: str

    def cards(self) -> Cards:
        """FITS keywords with their values and comments."""
        network = {"CRINPSHA": (self.inpainter_sha256, "weights")} if self.inpainter_sha256 else {}
        return {**super().cards(), "CRINPNT": (self.inpainter.removeprefix("inpaint/"), "what repainted them"), **network}


def difference(provenance: Provenance, header: Mapping[str, Any]) -> str | None:
    """The first keyword in which a product's header differs from `provenance`; None if it was made in the same way.

    The version of the software is not compared: `FORMAT` says whether it matters.
    """
    for keyword, (value, _) in provenance.cards().items():
        found = header.get(keyword)
        # a FITS card holds fewer digits of a number than memory does
        same = math.isclose(found, value) if isinstance(found, float) else found == value
        if keyword != "CRSOFT" and not same:
            return f"{keyword} is {found!r} there and {value!r} now"
    return None
