"""Which models are not judged on a training set: those that have been trained on sky that it tests on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field, model_validator

from deepcr_zoo.bench.runs import Run
from deepcr_zoo.dataset import footprints
from deepcr_zoo.dataset.reading import Dataset
from deepcr_zoo.dataset.store import Manifest, VisitRecord
from deepcr_zoo.dataset.visitnames import VisitName
from deepcr_zoo.documents import Document, read_document
from deepcr_zoo.errors import DatasetError, RunError
from deepcr_zoo.zoo.cards import read_card
from deepcr_zoo.zoo.names import for_task
from deepcr_zoo.zoo.recipe import Recipe, Split
from deepcr_zoo.zoo.registry import Registry, ResolvedModel

FILE = Path("zoo", "training_visits.yaml")

RealVisit = Annotated[str, Field(pattern=r"^\d{5}-[0-9A-Z]{2}$")]
"""PROPOSAL-VISIT; whatever filter it was seen through, its sky is the same."""


class VisitList(Document):
    """Visits that somebody has trained on."""

    source: str = Field(description="where the list stands")
    filter: str
    visits: list[RealVisit] = Field(min_length=1)


class TrainingVisits(Document):
    """``zoo/training_visits.yaml``."""

    lists: dict[str, VisitList]
    models: dict[str, list[str]] = Field(description="task/name@version: names of lists")
    unknown: dict[str, str] = Field(description="task/name@version: why nobody can say")

    @model_validator(mode="after")
    def _lists_exist(self) -> TrainingVisits:
        for reference, lists in self.models.items():
            if missing := [name for name in lists if name not in self.lists]:
                raise ValueError(f"names of lists for {reference}, not {', '.join(missing)}")
        if both := self.models.keys() & self.unknown.keys():
            raise ValueError(f"each model under models or under unknown, not {', '.join(sorted(both))} under both")
        return self


@dataclass(frozen=True)
class TrainedOn:
    """What is known of the sky that a model was trained on.

    Attributes
    ----------
    instrument : str
        As in `VisitRecord.instrument`: HST ACS/WFC.
    visits : dict of str to str
        Real visits, PROPOSAL-VISIT, and where that stands.
    manifests : tuple of Manifest
        Of the training sets that are known whole.
    unknown : str or None
        Why something of it is not known.
    """

    instrument: str
    visits: dict[str, str]
    manifests: tuple[Manifest, ...] = ()
    unknown: str | None = None


def of_model(model: ResolvedModel) -> TrainedOn:
    """What a model of a registry was trained on, by its card, else by ``zoo/training_visits.yaml``.

    Raises
    ------
    InvalidDocumentError
        If that file breaks its schema.
    """
    card = read_card(model)
    made_for = card.instrument
    instrument = f"{made_for.telescope} {made_for.instrument}/{made_for.detector}"
    if card.training.visits is not None:
        return TrainedOn(instrument, dict.fromkeys(card.training.visits, f"the card of {model.reference}"))
    if not (model.root / FILE).is_file():
        return TrainedOn(instrument, {}, unknown=f"neither its card nor a {FILE} of its registry tells")
    known = read_document(model.root / FILE, TrainingVisits, model.root)
    named = f"{model.entry.reference}@{model.version}"  # by what its own registry calls it
    if named not in known.models:
        return TrainedOn(instrument, {}, unknown=known.unknown.get(named, f"{FILE} does not name it"))
    lists = [known.lists[name] for name in known.models[named]]
    return TrainedOn(instrument, {visit: one.source for one in lists for visit in one.visits})


def of_run(run: Run, registry: Registry) -> TrainedOn:
    """What a run was trained on: its training set, and what the model that it started from had been trained on.

    Raises
    ------
    InvalidNameError, UnknownModelError, InvalidDocumentError
        If that model is not to be had.
    """
    block, unknown = run.recipe.instrument, None
    manifests: tuple[Manifest, ...] = ()
    try:
        manifests = (run.dataset().manifest,)
    except (DatasetError, RunError) as error:
        unknown = f"its training set is not to be had: {error}"
    instrument = f"{block.telescope} {block.instrument}/{block.detector}"
    if run.recipe.train.init_from is None:
        return TrainedOn(instrument, {}, manifests, unknown)
    start = of_model(registry.resolve(for_task(run.recipe.train.init_from, run.recipe.task)))
    return TrainedOn(instrument, start.visits, manifests, unknown or start.unknown)


def seen_in_training(recipe: Recipe, dataset: Dataset, registry: Registry) -> list[str] | None:
    """The visits of a training set, and those of the model that a recipe starts from, as a card lists them.

    Returns
    -------
    list of str or None
        Real visits as PROPOSAL-VISIT, simulated ones by their names; None if nobody knows what that model has seen.

    Raises
    ------
    InvalidNameError, UnknownModelError, InvalidDocumentError
        If that model is not to be had.
    """
    seen = {name for visit in visits_of(dataset.manifest, "train") for name in _sky_names(visit, dataset.manifest)}
    if recipe.train.init_from is not None:
        start = of_model(registry.resolve(for_task(recipe.train.init_from, recipe.task)))
        if start.unknown is not None:
            return None
        seen |= start.visits.keys()
    return sorted(seen)


def _sky_names(visit: VisitRecord, manifest: Manifest) -> list[str]:
    """PROPOSAL-VISIT of a real visit, with each of its observations where training and test share none of these."""
    real = VisitName.parse(visit.name)
    if real is None:
        return [visit.name]
    details: list[str | None] = [*sorted(visit.observations)] if manifest.split_by == "observation" else [None]
    return [str(real.with_detail(one)) for one in details]


def reason_to_exclude(trained_on: TrainedOn, dataset: Dataset) -> str | None:
    """Why a model must not be judged on the test visits of a training set; None if it may be.

    Visits are the same if they have the same key, overlap on the sky, or are the same proposal and visit of the archive;
    between training sets that are split by observation, if they are the same observation. What is not known of a model
    counts against it where it may matter: on real exposures of its own instrument.
    """
    tested, manifest = visits_of(dataset.manifest, "test"), dataset.manifest
    for visit in tested:
        names = _sky_names(visit, manifest)
        if listed := next((one for one in trained_on.visits if any(_is_same_name(one, name) for name in names)), None):
            return f"it was trained on {listed} ({trained_on.visits[listed]}), the test visit {visit.name}"
        for other in trained_on.manifests:
            if other.rehearsal == manifest.rehearsal and (shared := _shared(visit, manifest, other)):
                return f"it was trained on {shared}, which is, or overlaps, the test visit {visit.name}"
    if trained_on.unknown and not manifest.rehearsal and any(visit.instrument == trained_on.instrument for visit in tested):
        return f"nobody can say whether it was trained on one of these visits: {trained_on.unknown}"
    return None


def _is_same_name(one: str, other: str) -> bool:
    """Whether two names mean the same visit: one without its observation means all that the visit has."""
    first, second = VisitName.parse(one), VisitName.parse(other)
    return one == other or (first is not None and second is not None and first.shares_visit(second))


def visits_of(manifest: Manifest, split: Split) -> list[VisitRecord]:
    """The visits for training or testing of which stamps are in use."""
    return [
        visit.record
        for visit in manifest.visits
        if visit.split == split and any(kinds.keys() - {"guard"} for kinds in visit.stamps)
    ]


def _shared(visit: VisitRecord, manifest: Manifest, other: Manifest) -> str | None:
    """The name of the first training visit of another training set that this test visit must not be judged with."""
    by_observation = manifest.split_by == other.split_by == "observation"
    same = same_observation if by_observation else same_sky
    return next((one.name for one in visits_of(other, "train") if same(visit, one)), None)


def same_observation(one: VisitRecord, other: VisitRecord) -> bool:
    """Whether two visits have an observation in common."""
    return one.key == other.key or not one.observations.isdisjoint(other.observations)


def same_sky(one: VisitRecord, other: VisitRecord) -> bool:
    """Whether two visits are the same, or overlap on the sky."""
    if one.key == other.key or not one.outlines or not other.outlines:
        return one.key == other.key
    ones, others = ([np.array(outline) for outline in visit.outlines] for visit in (one, other))
    return footprints.overlap(ones, others)
