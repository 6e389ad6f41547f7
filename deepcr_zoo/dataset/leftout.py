"""Lines about files and visits that a training set leaves out; many with the same reason share a line."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from deepcr_zoo.dataset.store import Rejected
from deepcr_zoo.exposures.fitsfiles import root_name
from deepcr_zoo.locations import expanded

MOST_ALIKE = 3
"""More files or visits with the same reason than these share a line."""


def lines(rejected: Iterable[Rejected]) -> list[str]:
    """Return what is left out with its reason, in the order of first reasons."""
    alike: defaultdict[str, list[Rejected]] = defaultdict(list)
    for one in rejected:
        alike[_without_name(one)].append(one)
    found = []
    for members in alike.values():
        if len(members) > MOST_ALIKE:
            found.append(f"{members[0].what} and {len(members) - 1} others: {members[0].reason}")
        else:
            found += [f"{one.what}: {one.reason}" for one in members]
    return found


def _without_name(one: Rejected) -> str:
    """Return the reason without the name of the file, which masks beside it share."""
    return one.reason.replace(root_name(expanded(one.what)), "")
