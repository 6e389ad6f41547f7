"""Requests to an archive, and the calibrated exposures that it lists."""

from __future__ import annotations

import fnmatch
import hashlib
import re

from pydantic import Field

from deepcr_zoo.documents import Document
from deepcr_zoo.errors import UsageError
from deepcr_zoo.zoo.recipe import Recipe, VisitRule, visit_code

_MOST_CHARACTERS = 60  # of a camera in the name of a file


class VisitRequest(Document):
    """One visit, or all that match the given fields."""

    proposal: int | None
    visit: str | None = Field(description="two characters, upper case, as in file names")
    observation: str | None = Field(default=None, description="pattern of ROOTNAME, with * and ?")
    target: str | None = Field(description="pattern of the target's name, with * and ?")
    filters: list[str]

    def matches(self, proposal: int, visit: str, target: str, filters: set[str], root: str | None = None) -> bool:
        """True if the request is for such an exposure; without `root` (of an observation) no ROOTNAME is compared."""
        has_name = self.observation is None or root is None or fnmatch.fnmatchcase(root, self.observation.lower())
        return (
            has_name
            and self.proposal in (None, proposal)
            and self.visit in (None, visit)
            and (self.target is None or fnmatch.fnmatchcase(target.upper(), self.target.upper()))
            and not filters.isdisjoint(self.filters)
        )


class Query(Document):
    """All requests of a recipe; recipes with the same visits have equal queries."""

    telescope: str
    instrument: str
    detector: str
    product: str = Field(description="ending of the file names, such as flc")
    kinds: list[str] = Field(default=["image"], description="image, spectrum or both (dataproduct_type of the archive)")
    visits: list[VisitRequest]

    @property
    def name(self) -> str:
        """The camera and a hash of the content: the name of a file, whatever a recipe calls its camera."""
        key = hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]
        camera = re.sub(r"[^A-Za-z0-9-]+", "-", f"{self.instrument}-{self.detector}")[:_MOST_CHARACTERS]
        return f"{camera}-{key}"


class Product(Document):
    """A calibrated exposure, as the archive lists it."""

    name: str = Field(pattern=r"^\w[\w.-]*\.fits$", description="file name, ROOTNAME_flc.fits")
    uri: str = Field(description="identifier to download it by")
    size: int | None = Field(description="bytes; null if the archive does not list it")
    version: str = Field(description="version of the calibration software (prvversion of the archive)")
    project: str = Field(description="pipeline that made it (project of the archive)")
    observation: str = Field(description="identifier of its observation (obs_id)")
    proposal: int
    visit: str
    target: str
    filter_name: str
    exposure_time_s: float | None = Field(description="mean of the exposures of its observation")
    is_public: bool

    def is_same_file(self, other: Product) -> bool:
        """True if the archive lists both as the same file."""
        return (self.name, self.uri, self.size, self.version) == (other.name, other.uri, other.size, other.version)

    def matches(self, request: VisitRequest) -> bool:
        """True if it belongs to the requested visits."""
        return request.matches(self.proposal, self.visit, self.target, {self.filter_name}, self.name.partition("_")[0])


def request_of(recipe: Recipe, rule: VisitRule) -> VisitRequest:
    """Return the request for the visits of a rule."""
    return VisitRequest(
        proposal=rule.proposal,
        visit=None if rule.visit is None else visit_code(rule.visit),
        observation=rule.observation,
        target=rule.target,
        filters=rule.filters or recipe.instrument.filters,
    )


def query_of(recipe: Recipe) -> Query:
    """Return the query for all visits of a recipe; a rule must name a proposal or a target, else it would match too much."""
    for name, rule in recipe.data.visits.items():
        if rule.proposal is None and (rule.target or "*").strip("*?") == "":
            raise UsageError(
                f"data.visits.{name}: names neither a proposal nor a target: add one to search the archive, or supply the "
                "exposures with --data DIR"
            )
    rules = recipe.data.visits.values()
    requests = {request.model_dump_json(): request for request in (request_of(recipe, rule) for rule in rules)}
    return Query(
        **recipe.instrument.model_dump(include={"telescope", "instrument", "detector"}),
        product=recipe.data.product,
        kinds=sorted({"spectrum" if rule.field_type == "spectrum" else "image" for rule in rules}),
        visits=[requests[key] for key in sorted(requests)],
    )
