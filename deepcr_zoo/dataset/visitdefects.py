"""Detector defects that the exposures of a visit share: found by every label method, and never taught as cosmic rays."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

import numpy as np

from deepcr_zoo.dataset import persistent
from deepcr_zoo.dataset.labelling import LabelledExposure
from deepcr_zoo.dataset.labelmethods import LABEL_METHODS
from deepcr_zoo.dataset.planned import PlannedVisit
from deepcr_zoo.dataset.store import DefectRecord
from deepcr_zoo.models.images import Mask

Place = tuple[int, tuple[int, ...]]  # EXTVER and shape of a chip

ChipDefects = Mapping[Place, persistent.Defects]


def find_shared(
    visit: PlannedVisit, exposures: Iterable[LabelledExposure], read_noise_electron: Iterable[float]
) -> ChipDefects:
    """Return the defects of each chip, from the exposures of a visit and what the label method found itself."""
    is_dithered = LABEL_METHODS[visit.build.labels].is_dithered
    tallies: dict[Place, persistent.Tally] = {}
    known: dict[Place, Mask] = {}
    for labelled, noise in zip(exposures, read_noise_electron, strict=True):
        for number, chip in enumerate(labelled.chips):
            place = chip.version, chip.image.shape
            image = np.where(np.isfinite(chip.image), chip.image, np.float32(0))
            expected = labelled.expected[number] if is_dithered else None
            found = persistent.tally(persistent.Observed(image, expected, ~labelled.ignored[number], noise))
            tallies[place] = tallies[place] + found if place in tallies else found
            if labelled.defects:
                known[place] = labelled.defects[number]
    defects = {place: found.defects for place, found in tallies.items()}
    return {
        place: dataclasses.replace(one, mask=one.mask | known[place]) if place in known else one
        for place, one in defects.items()
    }


def with_defects(visit: PlannedVisit, labelled: LabelledExposure, defects: ChipDefects) -> LabelledExposure:
    """Return an exposure whose labels call no defect a cosmic ray.

    Dithers prove that a column does not belong to the sky: it is taught as clean, else networks take it for cosmic rays. A
    hot pixel looks like a cosmic ray in a single exposure, and is ignored.
    """
    found = [defects[chip.version, chip.image.shape] for chip in labelled.chips]
    is_dithered = LABEL_METHODS[visit.build.labels].is_dithered
    ignored = [one.mask & ~one.in_columns if is_dithered else one.mask for one in found]
    return dataclasses.replace(
        labelled,
        cosmic_rays=[hit & ~one.mask for hit, one in zip(labelled.cosmic_rays, found, strict=True)],
        ignored=[before | more for before, more in zip(labelled.ignored, ignored, strict=True)],
    )


def records(defects: ChipDefects) -> list[DefectRecord]:
    """Return the chips that have defects, in order."""
    return [
        DefectRecord(chip=version, pixels=int(one.mask.sum()), columns=[column + 1 for column in one.columns])
        for (version, _), one in sorted(defects.items())
        if one.mask.any()
    ]
