"""What is asked of an archive, and what it answers: visits, and one calibrated exposure of them."""

from __future__ import annotations

import fnmatch
import hashlib

from pydantic import Field

from deepcr_zoo.documents import Document
from deepcr_zoo.errors import UsageError
from deepcr_zoo.zoo.recipe import Recipe, VisitRule, visit_code


class Asked(Document):
    """Visits that are looked for: one, or all that match what is given."""

    proposal: int | None
    visit: str | None = Field(description="two characters, upper case, as in the names of files")
    observation: str | None = Field(default=None, description="pattern of ROOTNAME, with * and ?")
    target: str | None = Field(description="pattern of the target's name, with * and ?")
    filters: list[str]

    def takes(self, proposal: int, visit: str, target: str, filters: set[str], root: str | None = None) -> bool:
        """Whether an exposure (of this ROOTNAME), or an observation of several, is one of these."""
        named = self.observation is None or root is None or fnmatch.fnmatchcase(root, self.observation.lower())
        return (
            named
            and self.proposal in (None, proposal)
            and self.visit in (None, visit)
            and (self.target is None or fnmatch.fnmatchcase(target.upper(), self.target.upper()))
            and not filters.isdisjoint(self.filters)
        )


class Query(Document):
    """All that a recipe asks of an archive; recipes with the same visits ask the same."""

    telescope: str
    instrument: str
    detector: str
    product: str = Field(description="end of the names of the files, flc say")
    kinds: list[str] = Field(default=["image"], description="image or spectrum, or both (dataproduct_type of the archive)")
    visits: list[Asked]

    @property
    def name(self) -> str:
        """The camera, and a hash of everything."""
        key = hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]
        return f"{self.instrument}-{self.detector}-{key}"


class Product(Document):
    """A calibrated exposure, as the archive lists it."""

    name: str = Field(pattern=r"^\w[\w.-]*\.fits$", description="of the file, ROOTNAME_flc.fits")
    uri: str = Field(description="by which the archive gives it out")
    size: int | None = Field(description="bytes; null if the archive does not tell")
    version: str = Field(description="of the calibration that made it (prvversion of the archive)")
    project: str = Field(description="who made it (project of the archive)")
    observation: str = Field(description="identifier of the observation that it is listed under (obs_id)")
    proposal: int
    visit: str
    target: str
    filter_name: str
    exposure_time_s: float | None = Field(description="mean of the exposures of its observation")
    is_public: bool

    def is_same_file(self, other: Product) -> bool:
        """Whether the archive has not changed it in between, as far as its list tells."""
        return (self.name, self.uri, self.size, self.version) == (other.name, other.uri, other.size, other.version)

    def is_of(self, asked: Asked) -> bool:
        """Whether it is an exposure of these visits."""
        return asked.takes(self.proposal, self.visit, self.target, {self.filter_name}, self.name.partition("_")[0])


def asked_by(recipe: Recipe, rule: VisitRule) -> Asked:
    """What a rule of a recipe asks for."""
    return Asked(
        proposal=rule.proposal,
        visit=None if rule.visit is None else visit_code(rule.visit),
        observation=rule.observation,
        target=rule.target,
        filters=rule.filters or recipe.instrument.filters,
    )


def query_of(recipe: Recipe) -> Query:
    """What a recipe asks of an archive.

    Raises
    ------
    UsageError
        If a rule names neither a proposal nor a target: all exposures of a filter are too many to mean it.
    """
    for name, rule in recipe.data.visits.items():
        if rule.proposal is None and (rule.target or "*").strip("*?") == "":
            raise UsageError(
                f"data.visits.{name}: names neither a proposal nor a target: add one to search the archive, or supply the "
                "exposures with --data DIR"
            )
    asked = {one.model_dump_json(): one for one in (asked_by(recipe, rule) for rule in recipe.data.visits.values())}
    block = recipe.instrument
    return Query(
        telescope=block.telescope,
        instrument=block.instrument,
        detector=block.detector,
        product=recipe.data.product,
        kinds=sorted({"spectrum" if one.field_type == "spectrum" else "image" for one in recipe.data.visits.values()}),
        visits=[asked[key] for key in sorted(asked)],
    )
