"""Provenance of products: FITS keywords, and comparison with the header of an existing product."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from deepcr_zoo._version import __version__
from deepcr_zoo.documents import shown
from deepcr_zoo.zoo.instruments import value

Cards = dict[str, tuple[Any, str]]
"""FITS keywords with their values and comments."""

SOFTWARE = f"deepcr-zoo {__version__}"

FORMAT = 2
"""Increase it with every change of code or instrument table that changes results, so that older products are remade."""


def header_text(line: str) -> str:
    """Return a line that a FITS header can hold; other characters become percent-encoded bytes."""
    return "".join(c if " " <= c <= "~" else quote(os.fsencode(c)) for c in line)


@dataclass(frozen=True)
class Provenance:
    """Everything that the cosmic-ray mask of a product depends on; hashes are of weights (or mask) and the input file."""

    model: str  # task/name@version, or mask/FILE for a mask that was given
    model_sha256: str
    threshold: float
    grow: int  # pixels
    reading: str  # options that replace facts of the file's headers; empty if there are none
    input_sha256: str

    def cards(self) -> Cards:
        """Return FITS keywords with values and comments (a hash of 64 characters leaves no room for one)."""
        return {
            "CRMODEL": (header_text(self.model.partition("/")[2]), "network (or mask file) of the cosmic rays"),
            "CRSHA256": (self.model_sha256, "weights"),
            "CRTHRESH": (self.threshold, "pixels of a higher probability are masked"),
            "CRGROW": (self.grow, "[pixel] dilation of the mask"),
            "CROPTION": (self.reading, "given in place of the headers' facts"),
            "CRINPUT": (self.input_sha256, "input"),
            "CRFORMAT": (FORMAT, "changes when the same input would give another result"),
            "CRSOFT": (SOFTWARE, "software that made this file"),
        }


@dataclass(frozen=True)
class MaskProvenance(Provenance):
    """Provenance of a mask file; `probability` is True if it holds the probability too."""

    probability: bool

    def cards(self) -> Cards:
        """Return FITS keywords with values and comments."""
        # no card without it: a file that has more than is asked for is finished too
        more: Cards = {"CRPROBS": (True, "CRPROB extensions hold the probability")} if self.probability else {}
        return {**super().cards(), **more}


@dataclass(frozen=True)
class CleanedProvenance(Provenance):
    """Provenance of a cleaned exposure; `inpainter` is a model's reference, a classical method or ``none``."""

    inpainter: str
    inpainter_sha256: str  # empty if it has no weights

    def cards(self) -> Cards:
        """Return FITS keywords with values and comments."""
        network = {"CRINPSHA": (self.inpainter_sha256, "weights")} if self.inpainter_sha256 else {}
        return {
            **super().cards(),
            "CRINPNT": (header_text(self.inpainter.removeprefix("inpaint/")), "what repainted them"),
            **network,
        }


def difference(provenance: Provenance, header: Mapping[str, Any]) -> str | None:
    """Return the first keyword in which a product's header differs; None if it was made in the same way.

    The version of the software is not compared; `FORMAT` takes its place.
    """
    cards = provenance.cards()
    for keyword in ("CRFORMAT", *cards):  # first, because another format may have other keywords
        planned, _ = cards[keyword]
        found = value(header, keyword)
        # a FITS card holds fewer digits of a number than memory does, and no blanks at the end of a text
        if isinstance(found, float) and isinstance(planned, int | float):
            same = math.isclose(found, planned)
        else:
            same = found == (planned.rstrip() if isinstance(planned, str) else planned)
        if keyword != "CRSOFT" and not same:
            return f"{keyword} is {shown(found)} there and {shown(planned)} now"
    return None
