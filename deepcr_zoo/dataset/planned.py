"""Visits to be labelled, from files or simulated, and the hash of everything their stamps depend on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from deepcr_zoo.dataset import ignore, persistent
from deepcr_zoo.dataset.exposures import ExposureFacts
from deepcr_zoo.dataset.labelmethods import LABEL_METHODS
from deepcr_zoo.dataset.store import FORMAT, key_of
from deepcr_zoo.exposures.usablepixels import QualityBits
from deepcr_zoo.simulate import VERSION as SIMULATOR
from deepcr_zoo.simulate.plainvisits import VERSION as PLAIN_SIMULATOR
from deepcr_zoo.simulate.plainvisits import PlainVisit
from deepcr_zoo.simulate.visits import Visit, visit_of
from deepcr_zoo.zoo.recipe import FIELD_TYPES, BuildBlock, FieldType, InstrumentBlock, Recipe, Split, TweakReg
from deepcr_zoo.zoo.recipeinstruments import detector_of

_OF_A_REAL_CAMERA = (
    "telescope", "instrument", "detector", "read_noise_electron", "pixel_scale_arcsec", "pixel_size_um",
)  # fmt: skip
"""Fields of a recipe's instrument on which stamps and records of real exposures depend."""


@dataclass(frozen=True)
class PlannedVisit:
    """A visit to be labelled: either its exposures are files, or it is simulated."""

    name: str
    field_type: FieldType
    split: Split
    exposures: tuple[ExposureFacts, ...]
    simulated: Visit | None
    tweakreg: TweakReg | None
    instrument: InstrumentBlock
    build: BuildBlock
    # exposures of other pointings of the same visit of the archive, which show hot pixels and the background of the target
    siblings: tuple[ExposureFacts, ...] = ()
    darks: tuple[ExposureFacts, ...] = ()  # dark exposures whose cosmic rays are added
    is_validation: bool = False  # True if all stamps of this training visit are for validation

    @property
    def quality_bits(self) -> QualityBits:
        """Meaning of the DQ bits."""
        return ignore.quality_bits(self.build.ignore, detector_of(self.instrument))

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """Rows and columns of the chips of all exposures."""
        if isinstance(self.simulated, PlainVisit):
            return [self.simulated.shape]
        if self.simulated is not None:
            side, (rows, columns) = self.simulated.side, self.instrument.chip_shape
            return [(side or rows, side or columns)]
        return [shape for exposure in self.exposures for shape in exposure.shapes]

    @property
    def key(self) -> str:
        """The hash of all that the stamps depend on."""
        build = self.build
        whole = self.instrument.model_dump(mode="json")
        if self.simulated is None:
            origin: Any = [exposure.sha256 for exposure in self.exposures]
            instrument = {name: whole[name] for name in _OF_A_REAL_CAMERA}
        else:
            version = PLAIN_SIMULATOR if isinstance(self.simulated, PlainVisit) else SIMULATOR
            origin = {"simulator": version, **{k: v for k, v in vars(self.simulated).items() if k != "instrument"}}
            instrument = whole
        return key_of(
            {
                "format": FORMAT,
                "origin": origin,
                "name": self.name,
                "field_type": self.field_type,
                "instrument": instrument,
                "detector": detector_of(self.instrument).model_dump(
                    mode="json", exclude={"sources", "every_chip_is_an_exposure", "usable_bits"}
                ),
                "tweakreg": self.tweakreg and self.tweakreg.model_dump(mode="json"),
                **self._label_content(),
                "defects": persistent.VERSION,
                "ignore": build.ignore.model_dump(mode="json"),
                "stamps": build.stamps.model_dump(mode="json", exclude={"validation_fraction"}),
                "sky": build.sky,
                "quality": build.quality.model_dump(mode="json", exclude={"on_bad_file"}),
            }
        )

    def _label_content(self) -> dict[str, Any]:
        """Return what the labels depend on: the settings of their method and, where files are shared, more files."""
        labels, block = self.build.labels, LABEL_METHODS[self.build.labels].settings
        # the hashes of the darks stand for the settings that choose them
        excluded = {"darks", "product", "test_fraction"} if labels == "dark_paste" else set()
        content: dict[str, Any] = {block: getattr(self.build, block).model_dump(mode="json", exclude=excluded)}
        if labels == "astrodrizzle":
            return content  # its block identifies the method, its files are part of the origin
        content |= {"labels": labels, "chips": _identities((*self.exposures, *self.siblings))}
        if labels == "given":
            content |= {"masks": [one.masks.identity for one in self.exposures]}
        if labels == "truth" and self.exposures:
            content |= {"truth": [one.truth_sha256 for one in self.exposures]}
        if labels == "dark_paste":
            content |= {"darks": _identities(self.darks), "seed": self.build.seed}
        return content


def rehearsed_visits(recipe: Recipe) -> list[PlannedVisit]:
    """Return the simulated visits of a recipe's rehearsal, each with a seed of its own."""
    rehearsal = recipe.rehearsal
    same_pixels = LABEL_METHODS[recipe.build.labels].same_pixels
    build = recipe.build.model_copy(update={"stamps": rehearsal.stamps})
    field_types = [field_type for field_type in FIELD_TYPES if field_type in rehearsal.exposure_time_s]
    train: list[Split] = ["train"] * rehearsal.visits.train
    test: list[Split] = ["test"] * rehearsal.visits.test
    visits = []
    for seed, (field_type, split) in enumerate(((one, two) for one in field_types for two in train + test), rehearsal.seed):
        seconds = rehearsal.exposure_time_s[field_type]
        to_simulate = visit_of(recipe, field_type, seed, rehearsal.exposures, seconds, rehearsal.side, same_pixels)
        visits.append(_to_simulate(recipe, to_simulate, split, build))
    return visits


def simulated_visits(recipe: Recipe) -> list[PlannedVisit]:
    """Return the visits that a recipe simulates in place of exposures, each with a seed of its own."""
    data, same_pixels = recipe.data.simulated, LABEL_METHODS[recipe.build.labels].same_pixels
    if data is None:
        return []
    purposes: tuple[tuple[Split, bool], ...] = (("train", False), ("train", True), ("test", False))
    wanted = [
        (field_type, *purpose)
        for field_type in FIELD_TYPES
        if field_type in data.visits
        for purpose, count in zip(purposes, vars(data.visits[field_type]).values(), strict=True)
        for _ in range(count)
    ]
    visits = []
    for seed, (field_type, split, is_validation) in enumerate(wanted, data.seed):
        seconds = data.exposure_time_s.get(field_type, 0.0)
        visit = visit_of(recipe, field_type, seed, data.exposures, seconds, data.side, same_pixels)
        visits.append(replace(_to_simulate(recipe, visit, split, recipe.build), is_validation=is_validation))
    return visits


def _to_simulate(recipe: Recipe, visit: Visit, split: Split, build: BuildBlock) -> PlannedVisit:
    instrument = visit.instrument if isinstance(visit, PlainVisit) else recipe.instrument
    name = f"simulated-{visit.field_type}-{visit.seed}"
    return PlannedVisit(name, visit.field_type, split, (), visit, None, instrument, build)


def _identities(exposures: Sequence[ExposureFacts]) -> list[Any]:
    return [[one.name, one.sha256, one.versions] for one in exposures]
