"""What a header says of the origin of an exposure: observation, proposal, visit, target and time."""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass

from deepcr_zoo.errors import InvalidFileError
from deepcr_zoo.exposures.fitsfiles import root_name
from deepcr_zoo.exposures.reading import Exposure
from deepcr_zoo.files import is_text
from deepcr_zoo.zoo.instruments import Keywords, first_text, number, text
from deepcr_zoo.zoo.recipe import visit_code

MJD_0 = datetime.datetime(1858, 11, 17)
_MJD_OF_JD_0 = 2_400_000.5
_MJDS = (10_000.0, 200_000.0)  # from 1886 to 2406: what lies outside is no MJD
_MOST_PROPOSALS = 10**9
_SPACE_TELESCOPE = "HST"


@dataclass(frozen=True)
class Identity:
    """Origin of an exposure."""

    observation: str  # ROOTNAME, else the name of the file, lower case
    proposal: int  # 0 if the header has none
    visit: str  # upper case; empty if the header has none
    target: str
    start_mjd: float  # 0 if the header has none


def identify(exposure: Exposure, chip_keywords: Keywords) -> Identity:
    """Return the origin of an exposure by the keywords of its instrument; the time is in the header of a chip."""
    keywords, known = exposure.keywords, exposure.instrument
    observation = text(keywords, "ROOTNAME")
    if not re.fullmatch(r"\w[\w.+-]*", observation):
        observation = root_name(exposure.path)
    if not is_text(observation):
        raise InvalidFileError(f"{exposure.path}: its name is no text, by which training sets could know it: rename it")
    proposals = (known.proposal_keywords if known else []) or ["PROPOSID"]
    proposal = next((found for name in proposals if (found := number(keywords, name)) is not None), 0.0)
    visit = first_text(keywords, (known.visit_keywords if known else []) or ["LINENUM"]).partition(".")[0]
    if not visit and known is not None and known.telescope == _SPACE_TELESCOPE:
        visit = observation[4:6]
    times = known.time_keywords if known else []
    return Identity(
        observation=observation.lower(),
        proposal=int(proposal) if proposal.is_integer() and 0 <= proposal < _MOST_PROPOSALS else 0,
        visit=visit_code(visit) if visit else "",
        target=first_text(keywords, (known.target_keywords if known else []) or ["TARGNAME"]),
        start_mjd=_start_mjd(chip_keywords, times or ["EXPSTART"]),
    )


def _start_mjd(keywords: Keywords, names: list[str]) -> float:
    """Return the first time that can be read: MJD, JD or ISO 8601, whose date and time may be two keywords; else 0."""
    for place, name in enumerate(names):
        found = number(keywords, name)
        if found is not None:
            mjd = found - _MJD_OF_JD_0 if found > _MJD_OF_JD_0 else found
            if _MJDS[0] < mjd < _MJDS[1]:
                return mjd
            continue
        date = text(keywords, name)
        clock = next((text(keywords, other) for other in names[place + 1 :] if ":" in text(keywords, other)), "")
        try:
            moment = datetime.datetime.fromisoformat(f"{date}T{clock}" if clock and ":" not in date else date)
            return (moment.replace(tzinfo=None) - MJD_0) / datetime.timedelta(days=1)
        except ValueError:
            continue
    return 0.0
