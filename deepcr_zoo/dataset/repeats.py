"""Label method CR-SPLIT: the exposures of a visit are repeats on the same pixels and label each other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from deepcr_zoo._version import __version__
from deepcr_zoo.dataset import crsplit, ignore
from deepcr_zoo.dataset.exposures import ChipPixels, ExposureFacts, read_chips
from deepcr_zoo.dataset.labelling import LabelledExposure, LabellingInMemory, VisitRejectedError, check_room
from deepcr_zoo.dataset.planned import PlannedVisit
from deepcr_zoo.models.images import has_value


def label(visit: PlannedVisit, exposures: Sequence[ExposureFacts], scratch: Path, log: Path) -> LabellingInMemory:
    """Label repeats by each other; siblings of the visit help to find hot pixels. No scratch folder or log is used."""
    chips = [read_chips(one, visit.instrument) for one in exposures]
    shapes = {one.name: [chip.image.shape for chip in own] for one, own in zip(exposures, chips, strict=True)}
    if len({str(one) for one in shapes.values()}) > 1:
        listed = ", ".join(f"{name} {' and '.join(map(str, own))}" for name, own in shapes.items())
        raise VisitRejectedError(f"its exposures are not on the same pixels: {listed}")
    check_room(shapes[exposures[0].name], visit.build.stamps)
    siblings = [(one, read_chips(one, visit.instrument)) for one in visit.siblings]
    alike = [(one, own) for one, own in siblings if [chip.image.shape for chip in own] == shapes[exposures[0].name]]
    by_chip, hot_by_chip = [], []
    for number in range(len(chips[0])):
        own, others = (
            [_repeated(visit, facts, pixels[number]) for facts, pixels in some]
            for some in (zip(exposures, chips, strict=True), alike)
        )
        hot = crsplit.find_hot_pixels([*own, *others], visit.build.cr_split.hot_snr)
        hot_by_chip.append(hot)
        by_chip.append(crsplit.label_repeats(own, hot, visit.build.cr_split))
    labelled = [
        LabelledExposure(
            own,
            [one.cosmic_rays for one in labels],
            [one.ignore for one in labels],
            [one.expected for one in labels],
            hot_by_chip,
        )
        for own, labels in zip(chips, zip(*by_chip, strict=True), strict=True)
    ]
    return LabellingInMemory(labelled, True, f"deepcr-zoo {__version__}", 0.0)


def _repeated(visit: PlannedVisit, facts: ExposureFacts, chip: ChipPixels) -> crsplit.RepeatedExposure:
    ignored = ignore.ignore_mask(chip, visit.quality_bits, visit.build.ignore)
    image = np.where(has_value(chip.image), chip.image, np.float32(0))
    noise = facts.read_noise_or(visit.instrument.read_noise_electron)
    return crsplit.RepeatedExposure(image, ~ignored, facts.exposure_time_s, noise)
