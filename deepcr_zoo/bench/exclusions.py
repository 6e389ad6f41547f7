"""Models that are not judged on a training set: those trained on the sky of its test visits."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby
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

_NUMBERED = re.compile(r"(?P<stem>simulated-.*-)(?P<number>\d{1,9})")
_ROW = re.compile(r"(?P<stem>simulated-.*-)(?P<first>\d{1,9})\.\.(?P<last>\d{1,9})")
_FEWEST_SHORTENED = 10

Comparison = Callable[[VisitRecord, VisitRecord], bool]


class VisitList(Document):
    source: str = Field(description="where the list was published")
    filter: str
    visits: list[Annotated[str, Field(pattern=r"^\d{5}-[0-9A-Z]{2}$")]] = Field(min_length=1, description="PROPOSAL-VISIT")


class TrainingVisits(Document):
    """``zoo/training_visits.yaml``."""

    lists: dict[str, VisitList]
    models: dict[str, list[str]] = Field(description="task/name@version: names of lists")
    unknown: dict[str, str] = Field(description="task/name@version: why its visits are unknown")

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
    """The sky a model was trained on, as far as it is known.

    `instrument` is as in `VisitRecord.instrument`, for example HST ACS/WFC. `visits` maps real visits (PROPOSAL-VISIT) to
    the source that lists them. `manifests` are training sets known completely. `unknown` says why something is missing.
    """

    instrument: str
    visits: dict[str, str]
    manifests: tuple[Manifest, ...] = ()
    unknown: str | None = None


def of_model(model: ResolvedModel) -> TrainedOn:
    """Return what a model was trained on, from its card or else from its registry's ``zoo/training_visits.yaml``."""
    card = read_card(model)
    made_for = card.instrument
    instrument = f"{made_for.telescope} {made_for.instrument}/{made_for.detector}"
    if card.training.visits is not None:
        return TrainedOn(instrument, dict.fromkeys(card.training.visits, f"the card of {model.reference}"))
    if not (model.root / FILE).is_file():
        return TrainedOn(instrument, {}, unknown=f"neither its card nor a {FILE} of its registry lists its visits")
    known = read_document(model.root / FILE, TrainingVisits, model.root)
    named = f"{model.entry.reference}@{model.version}"  # its name in its own registry, without a prefix
    if named not in known.models:
        return TrainedOn(instrument, {}, unknown=known.unknown.get(named, f"{FILE} does not name it"))
    lists = [known.lists[name] for name in known.models[named]]
    return TrainedOn(instrument, {visit: one.source for one in lists for visit in one.visits})


def of_run(run: Run, registry: Registry) -> TrainedOn:
    """Return what a run was trained on, including the training of the models it started or learned from."""
    block = run.recipe.instrument
    manifests: tuple[Manifest, ...] = ()
    unknown = None
    try:
        manifests = (run.dataset().manifest,)
    except (DatasetError, RunError) as error:
        unknown = f"its training set is not available: {error}"
    instrument = f"{block.telescope} {block.instrument}/{block.detector}"
    before = _inherited(run.recipe, registry)
    return TrainedOn(instrument, before.visits, manifests, unknown or before.unknown)


def _inherited(recipe: Recipe, registry: Registry) -> TrainedOn:
    """Return what the models that a recipe starts or learns from, if any, were trained on."""
    models = [of_model(registry.resolve(for_task(name, recipe.task))) for name in recipe.train.inherited]
    visits = {visit: source for model in models for visit, source in model.visits.items()}
    return TrainedOn("", visits, unknown=next((model.unknown for model in models if model.unknown is not None), None))


def seen_in_training(recipe: Recipe, dataset: Dataset, registry: Registry) -> list[str] | None:
    """Return the visits of a training set and of the models its recipe starts or learns from, as a card lists them.

    Real visits are PROPOSAL-VISIT, simulated ones have their names, many of which are shortened to ``NAME-1..40``. None if
    the visits of one of these models are unknown.
    """
    seen = {name for visit in visits_of(dataset.manifest, "train") for name in _sky_names(visit, dataset.manifest)}
    before = _inherited(recipe, registry)
    return None if before.unknown is not None else _shortened(sorted(seen | before.visits.keys()))


def _shortened(names: list[str]) -> list[str]:
    """Return names in which many numbers of simulated visits that follow each other are one name."""
    found: list[str] = []
    for stem, group in groupby(names, lambda name: match["stem"] if (match := _NUMBERED.fullmatch(name)) else ""):
        of_stem = list(group)
        numbers = sorted(int(name.removeprefix(stem)) for name in of_stem) if stem else []
        is_row = len(numbers) >= _FEWEST_SHORTENED and numbers[-1] - numbers[0] + 1 == len(numbers)
        found += [f"{stem}{numbers[0]}..{numbers[-1]}"] if is_row else of_stem
    return found


def _sky_names(visit: VisitRecord, manifest: Manifest) -> list[str]:
    """Return PROPOSAL-VISIT of a real visit, or with each of its observations in a split by observation."""
    real = VisitName.parse(visit.name)
    if real is None:
        return [visit.name]
    details: list[str | None] = [*sorted(visit.observations)] if manifest.split_by == "observation" else [None]
    return [str(real.with_detail(one)) for one in details]


def reason_to_exclude(trained_on: TrainedOn, dataset: Dataset) -> str | None:
    """Return why a model must not be judged on the test visits of a training set; None if it may be.

    Visits are the same if they have the same key, overlap on the sky, or are the same proposal and visit of the archive;
    simulated ones, if they have the same seed; between training sets split by observation, if they share an observation.
    Unknown training counts against a model only on real exposures of its own instrument.
    """
    tested, manifest = visits_of(dataset.manifest, "test"), dataset.manifest
    for visit in tested:
        names = _sky_names(visit, manifest)
        if listed := next((one for one in trained_on.visits if any(_is_same_name(one, name) for name in names)), None):
            return f"it was trained on {listed} ({trained_on.visits[listed]}), the test visit {visit.name}"
        for other in trained_on.manifests:
            if other.is_synthetic == manifest.is_synthetic and (shared := _shared(visit, manifest, other)):
                return f"it was trained on {shared}, which is, or overlaps, the test visit {visit.name}"
    if (
        trained_on.unknown
        and not manifest.is_synthetic
        and any(visit.instrument == trained_on.instrument for visit in tested)
    ):
        return f"it may have been trained on one of these visits: {trained_on.unknown}"
    return None


def _is_same_name(one: str, other: str) -> bool:
    """True if two names mean the same visit; a name without an observation, or `_shortened`, means all of its visits."""
    if row := _ROW.fullmatch(one):
        found = _NUMBERED.fullmatch(other)
        if found is None or found["stem"] != row["stem"]:
            return False
        return int(row["first"]) <= int(found["number"]) <= int(row["last"])
    first, second = VisitName.parse(one), VisitName.parse(other)
    return one == other or (first is not None and second is not None and first.shares_visit(second))


def visits_of(manifest: Manifest, split: Split) -> list[VisitRecord]:
    """Return the visits of a split that have stamps in use."""
    used = [visit for visit in manifest.visits if any(kinds.keys() - {"guard"} for kinds in visit.stamps)]
    return [visit.record for visit in used if visit.split == split]


def _shared(visit: VisitRecord, manifest: Manifest, other: Manifest) -> str | None:
    """Return the name of the first training visit of another training set that is the same as a test visit."""
    is_by_observation = manifest.split_by == other.split_by == "observation"
    same = same_observation if is_by_observation else sky_comparison(manifest)
    # simulated cameras have skies and observations of their own
    others = [one for one in visits_of(other, "train") if not manifest.is_synthetic or one.instrument == visit.instrument]
    return next((one.name for one in others if same(visit, one)), None)


def same_observation(one: VisitRecord, other: VisitRecord) -> bool:
    return one.key == other.key or not one.observations.isdisjoint(other.observations)


def sky_comparison(manifest: Manifest) -> Comparison:
    """Return what tells whether two visits show the same sky, of training sets that are simulated as this one, or not."""
    return _same_seed if manifest.is_synthetic else _overlap


def _same_seed(one: VisitRecord, other: VisitRecord) -> bool:
    """True if two simulated visits show the same sky, which is that of their seed: the cells where it lies come again."""
    return one.key == other.key or (one.name, one.instrument) == (other.name, other.instrument)


def _overlap(one: VisitRecord, other: VisitRecord) -> bool:
    """True if two visits are the same or overlap on the sky."""
    if one.key == other.key or not one.outlines or not other.outlines:
        return one.key == other.key
    ones, others = ([np.array(outline) for outline in visit.outlines] for visit in (one, other))
    return footprints.overlap(ones, others)
