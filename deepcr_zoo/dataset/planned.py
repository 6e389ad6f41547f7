"""A visit that is to be labelled, and the hash of all that its labels depend on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from deepcr_zoo.dataset import ignore
from deepcr_zoo.dataset.exposures import ExposureFacts, detector_of
from deepcr_zoo.dataset.store import FORMAT, key_of
from deepcr_zoo.simulate import VERSION as SIMULATOR
from deepcr_zoo.simulate.cameras import simulated
from deepcr_zoo.simulate.simulation import SimulatedVisit
from deepcr_zoo.zoo.recipe import (
    SIMULATED_FIELD_TYPES,
    BuildBlock,
    FieldType,
    InstrumentBlock,
    Recipe,
    SimulatedFieldType,
    Split,
    TweakReg,
)


@dataclass(frozen=True)
class PlannedVisit:
    """A visit that is to be labelled.

    Attributes
    ----------
    name : str
    field_type : FieldType
    split : Split
    exposures : tuple of ExposureFacts
        Its files; none if it is to be simulated.
    simulated : SimulatedVisit or None
    tweakreg : TweakReg or None
    instrument : InstrumentBlock
    build : BuildBlock
    siblings : tuple of ExposureFacts
        Exposures of other pointings of the same visit of the archive, which tell hot pixels and a usual background; none
        where labels need none.
    darks : tuple of ExposureFacts
        Dark exposures that its cosmic rays are taken from; none where labels need none.
    """

    name: str
    field_type: FieldType
    split: Split
    exposures: tuple[ExposureFacts, ...]
    simulated: SimulatedVisit | None
    tweakreg: TweakReg | None
    instrument: InstrumentBlock
    build: BuildBlock
    siblings: tuple[ExposureFacts, ...] = ()
    darks: tuple[ExposureFacts, ...] = ()

    @property
    def kept_bits(self) -> int:
        """DQ bits that do not exclude a pixel."""
        return ignore.kept_bits(self.build.ignore, detector_of(self.instrument))

    @property
    def key(self) -> str:
        """The hash of all that the stamps depend on."""
        build = self.build
        whole = self.instrument.model_dump(mode="json")
        if self.simulated is None:
            origin: Any = [exposure.sha256 for exposure in self.exposures]
            instrument = {name: whole[name] for name in ("telescope", "instrument", "detector", "read_noise_electron")}
        else:
            origin = {"simulator": SIMULATOR, **{k: v for k, v in vars(self.simulated).items() if k != "instrument"}}
            instrument = whole
        return key_of(
            {
                "format": FORMAT,
                "origin": origin,
                "name": self.name,
                "field_type": self.field_type,
                "instrument": instrument,
                "detector": detector_of(self.instrument).model_dump(
                    mode="json", exclude={"sources", "every_chip_is_an_exposure"}
                ),
                "tweakreg": self.tweakreg and self.tweakreg.model_dump(mode="json"),
                **self._label_settings,
                "ignore": build.ignore.model_dump(mode="json"),
                "stamps": build.stamps.model_dump(mode="json", exclude={"validation_fraction"}),
                "sky": build.sky,
                "quality": build.quality.model_dump(mode="json", exclude={"on_bad_file"}),
            }
        )

    @property
    def _label_settings(self) -> dict[str, Any]:
        """Of the labels that are made, and of no others."""
        build = self.build
        if build.labels == "astrodrizzle":
            return {"drizzle": build.drizzle.model_dump(mode="json")}
        chips = _identities((*self.exposures, *self.siblings))
        if build.labels == "dark_paste":
            # which darks these are stands for the settings that chose them
            settings = build.dark_paste.model_dump(mode="json", exclude={"darks", "product", "test_fraction"})
            pasted = {"darks": _identities(self.darks), "seed": build.seed}
            return {"labels": build.labels, "dark_paste": settings, "chips": chips, **pasted}
        return {"labels": build.labels, build.labels: getattr(build, build.labels).model_dump(mode="json"), "chips": chips}


def _identities(exposures: Sequence[ExposureFacts]) -> list[Any]:
    return [[one.name, one.sha256, one.versions] for one in exposures]


@dataclass(frozen=True)
class RehearsedVisit:
    """A visit that is to be simulated.

    Attributes
    ----------
    name : str
    split : Split
    simulated : SimulatedVisit
    """

    name: str
    split: Split
    simulated: SimulatedVisit

    @property
    def field_type(self) -> SimulatedFieldType:
        """What it shows."""
        return self.simulated.field_type


def rehearsed_visits(recipe: Recipe) -> list[RehearsedVisit]:
    """The simulated visits of a recipe's rehearsal, each with a seed of its own.

    Raises
    ------
    UsageError
        If the recipe's instrument cannot be simulated.
    """
    rehearsal, instrument = recipe.rehearsal, simulated(recipe.instrument)
    field_types = [field_type for field_type in SIMULATED_FIELD_TYPES if field_type in rehearsal.exposure_time_s]
    train: list[Split] = ["train"] * rehearsal.visits.train
    test: list[Split] = ["test"] * rehearsal.visits.test
    visits = []
    for seed, (field_type, split) in enumerate(((one, two) for one in field_types for two in train + test), rehearsal.seed):
        to_simulate = SimulatedVisit(
            instrument=instrument,
            field_type=field_type,
            seed=seed,
            exposures=rehearsal.exposures,
            exposure_time_s=rehearsal.exposure_time_s[field_type],
            side=rehearsal.side,
        )
        visits.append(RehearsedVisit(f"simulated-{field_type}-{seed}", split, to_simulate))
    return visits


def rehearsal_build(recipe: Recipe) -> BuildBlock:
    """The recipe's build, with the stamps of its rehearsal."""
    return recipe.build.model_copy(update={"stamps": recipe.rehearsal.stamps})
