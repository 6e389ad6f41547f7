"""Label method truth: simulated exposures, whose cosmic rays are known."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from deepcr_zoo.dataset import ignore, quality
from deepcr_zoo.dataset.exposures import ChipPixels, ExposureFacts
from deepcr_zoo.dataset.labelling import LabelledExposure, LabellingInMemory, check_room, label_each
from deepcr_zoo.dataset.planned import PlannedVisit
from deepcr_zoo.errors import InvalidFileError
from deepcr_zoo.simulate.truth import Truth, read_truth, truth_path

_BRIGHT = 20.0  # sigma
_FEWEST, _LEAST_SHARE = 10, 0.5  # bright pixels that show whether a truth is of an image, and their share that must be there


def label(
    visit: PlannedVisit, exposures: Sequence[ExposureFacts], scratch: Path, log: Path
) -> LabellingInMemory | quality.Outlier:
    """Label simulated exposures, or return one that has no truth. No scratch folder or log is used."""
    check_room((shape for one in exposures for shape in one.shapes), visit.build.stamps)
    return label_each(exposures, visit.instrument, partial(_labelled, visit))


def _labelled(visit: PlannedVisit, facts: ExposureFacts, chips: list[ChipPixels]) -> LabelledExposure:
    certain, doubtful = visit.build.truth.snr
    truths = read_truth(truth_path(facts.path), facts.truth_sha256)
    own = [truths[version - 1] for version in facts.versions if 1 <= version <= len(truths)]
    shapes = [chip.image.shape for chip in chips]
    if [one.scene.shape for one in own] != shapes or any(map(_is_of_another, chips, own)):
        raise InvalidFileError(f"{truth_path(facts.path)}: is not the truth of {facts.path.name}: simulate it again")
    cosmic_rays = [one.cosmic_rays > certain * one.noise for one in own]
    ignored = [
        ignore.ignore_mask(chip, visit.quality_bits, visit.build.ignore)
        | ((one.cosmic_rays > doubtful * one.noise) & ~struck)
        for chip, one, struck in zip(chips, own, cosmic_rays, strict=True)
    ]
    return LabelledExposure(chips, cosmic_rays, ignored, [one.scene for one in own])


def _is_of_another(chip: ChipPixels, truth: Truth) -> bool:
    """True if bright cosmic rays of a truth are not in the image."""
    above_sky = truth.scene - np.median(truth.scene)
    bright = (truth.cosmic_rays > _BRIGHT * truth.noise) & (above_sky < _BRIGHT * truth.noise)
    is_there = chip.image[bright] - truth.scene[bright] > _BRIGHT / 2 * truth.noise[bright]
    return is_there.size >= _FEWEST and is_there.mean() < _LEAST_SHARE
