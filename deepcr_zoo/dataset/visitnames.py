"""Names of visits, and the fields that they are made of."""

from __future__ import annotations

import re
from dataclasses import dataclass

_NAME = re.compile(r"(?P<proposal>\d{5})-(?P<visit>[0-9A-Z]{2})(?:-(?P<detail>.+))?")


@dataclass(frozen=True)
class VisitName:
    """Proposal and visit of the archive, and a detail such as a filter or an observation: 10420-01-F606W.

    Without a proposal (0) the visit is one of the ground, by its target and night: M31-20260109-R.
    """

    proposal: int
    visit: str
    detail: str | None = None

    @classmethod
    def parse(cls, name: str) -> VisitName | None:
        """Return the fields of a real visit's name; None for a simulated visit."""
        found = _NAME.fullmatch(name)
        return None if found is None else cls(int(found["proposal"]), found["visit"], found["detail"])

    def __str__(self) -> str:
        """Return the name, which `parse` reads."""
        pointing = f"{self.proposal:05d}-{self.visit}" if self.proposal or len(self.visit) <= 2 else self.visit
        return pointing + ("" if self.detail is None else f"-{self.detail}")

    def with_detail(self, detail: str | None) -> VisitName:
        """Return the name of the same visit with another detail, or with none."""
        return VisitName(self.proposal, self.visit, detail)

    def shares_visit(self, other: VisitName) -> bool:
        """True if both name the same visit; a name without a detail stands for all that the visit has."""
        same_visit = (self.proposal, self.visit) == (other.proposal, other.visit)
        return same_visit and (self.detail == other.detail or None in (self.detail, other.detail))
