"""Labels of a visit by CR-SPLIT: its exposures are repeats on the same pixels, and tell each other's cosmic rays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deepcr_zoo._version import __version__
from deepcr_zoo.dataset import crsplit, ignore
from deepcr_zoo.dataset.crsplit import RepeatedExposure, RepeatLabel
from deepcr_zoo.dataset.exposures import ChipPixels, ExposureFacts, read_chips
from deepcr_zoo.dataset.labelling import LabelledExposure, VisitRejectedError, check_room
from deepcr_zoo.dataset.planned import PlannedVisit


def label(visit: PlannedVisit, exposures: Sequence[ExposureFacts], scratch: Path, log: Path) -> RepeatsLabelling:
    """Label repeats by each other.

    Parameters
    ----------
    visit : PlannedVisit
        Its siblings tell hot pixels.
    exposures : sequence of ExposureFacts
        Those of its exposures that are sound.
    scratch, log : Path
        Not needed.

    Raises
    ------
    VisitRejectedError
        If exposures differ in chips or shape, or are too small for stamps.
    InvalidFileError
        If a file has changed or gone since the visit was planned.
    """
    chips = [read_chips(one, visit.instrument) for one in exposures]
    shapes = {one.name: [chip.image.shape for chip in own] for one, own in zip(exposures, chips, strict=True)}
    if len({str(one) for one in shapes.values()}) > 1:
        told = ", ".join(f"{name} {' and '.join(map(str, own))}" for name, own in shapes.items())
        raise VisitRejectedError(f"its exposures are not on the same pixels: {told}")
    check_room(shapes[exposures[0].name], visit.build.stamps)
    siblings = [(one, read_chips(one, visit.instrument)) for one in visit.siblings]
    alike = [(one, own) for one, own in siblings if [chip.image.shape for chip in own] == shapes[exposures[0].name]]
    by_chip = []
    for number in range(len(chips[0])):
        own, others = (
            [_repeated(visit, facts, pixels[number]) for facts, pixels in some]
            for some in (zip(exposures, chips, strict=True), alike)
        )
        hot = crsplit.hot_pixels([*own, *others], visit.build.cr_split.hot_snr)
        by_chip.append(crsplit.label_repeats(own, hot, visit.build.cr_split))
    return RepeatsLabelling(chips, [list(of_exposure) for of_exposure in zip(*by_chip, strict=True)])


class RepeatsLabelling:
    """The labels of repeats (see `labelling.Labelling`).

    Parameters
    ----------
    chips : sequence of list of ChipPixels
        Of each exposure.
    labels : sequence of list of RepeatLabel
        Of each chip of each exposure.
    """

    by_others = True
    software = f"deepcr-zoo {__version__}"
    largest_dither_arcsec = 0.0

    def __init__(self, chips: Sequence[list[ChipPixels]], labels: Sequence[list[RepeatLabel]]) -> None:
        self._chips, self._labels = chips, labels

    def labelled(self, index: int) -> LabelledExposure:
        """An exposure with its labels."""
        labels = self._labels[index]
        return LabelledExposure(
            self._chips[index],
            [one.cosmic_rays for one in labels],
            [one.ignore for one in labels],
            [one.expected for one in labels],
        )

    def aligned(self, index: int) -> NDArray[np.float32]:
        """The first chip: repeats are on the same pixels."""
        return self._chips[index][0].image

    def fit_rms_pixels(self, index: int) -> None:
        """None: nobody has aligned them."""


def _repeated(visit: PlannedVisit, facts: ExposureFacts, chip: ChipPixels) -> RepeatedExposure:
    ignored = ignore.ignore_mask(chip.image, chip.quality, visit.kept_bits, visit.build.ignore)
    image = np.where(np.isfinite(chip.image), chip.image, np.float32(0))
    noise = facts.read_noise_or(visit.instrument.read_noise_electron)
    return RepeatedExposure(image, ~ignored, facts.exposure_time_s, noise)
