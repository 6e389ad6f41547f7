"""Visits of exposures whose headers name none: exposures of one target, filter and night."""

from __future__ import annotations

import datetime
import math
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from deepcr_zoo.dataset.exposures import ExposureFacts
from deepcr_zoo.dataset.identities import MJD_0

NIGHT_ENDS_DAYS = 0.25
"""A night ends where no exposure begins for so long, at any longitude; clouds rarely stop a run of one target longer."""


def with_visits(exposures: Sequence[ExposureFacts]) -> list[ExposureFacts]:
    """Return the exposures, in order, each with a visit: its own, or target and date (UTC) of the night's first exposure.

    Where the header names no target, the folder takes its place.
    """
    fields = defaultdict(list)
    for one in exposures:
        if not one.visit:
            fields[one.proposal, one.target or one.path.parent.name, one.filter_name].append(one)
    found = {}
    for (_, field, _), members in fields.items():
        for night in _nights(members):
            date = [f"{MJD_0 + datetime.timedelta(days=night[0].start_mjd):%Y%m%d}"] if night[0].start_mjd else []
            named = slug(field) if len(slug(field)) > 2 else f"FIELD_{slug(field)}"  # visits of archives have two characters
            found.update(dict.fromkeys((one.name for one in night), "-".join([named, *date])))
    return [replace(one, visit=one.visit or found[one.name]) for one in exposures]


def slug(name: str) -> str:
    """Return a name in capitals without anything that other parts of a visit's name could be taken for."""
    return re.sub(r"[^A-Z0-9+]+", "_", name.upper()).strip("_")


def _nights(exposures: Sequence[ExposureFacts]) -> list[list[ExposureFacts]]:
    nights: list[list[ExposureFacts]] = []
    before = -math.inf
    for one in sorted(exposures, key=lambda one: (one.start_mjd, one.name)):
        if one.start_mjd - before > NIGHT_ENDS_DAYS:
            nights.append([])
        nights[-1].append(one)
        before = one.start_mjd
    return nights
