"""How well a mask network finds the cosmic rays of the test stamps."""

from __future__ import annotations

from deepcr_zoo.bench.measures import roc
from deepcr_zoo.bench.measures.judged import Change, OnExposure, check_input, judged_stamps
from deepcr_zoo.bench.measures.roc import RocCounts
from deepcr_zoo.dataset.reading import Dataset
from deepcr_zoo.models.model import MaskModel
from deepcr_zoo.zoo.recipe import FieldType


def judge(
    model: MaskModel,
    dataset: Dataset,
    field_type: FieldType,
    *,
    change: Change | None = None,
    on_exposure: OnExposure | None = None,
) -> RocCounts:
    """Count the pixels of the test stamps of a field type by the logit of a network and by their label.

    Parameters
    ----------
    model : MaskModel
    dataset : Dataset
    field_type : FieldType
        One without test stamps gives counts of nothing.
    change : callable, optional
        Gives the image that the network sees in place of the exposure's own; labels and ignore masks stay.
    on_exposure : callable, optional
        Called after each exposure.

    Raises
    ------
    UsageError
        If the network cannot be judged on stamps in electrons.
    DatasetError
        If a file is missing or damaged.
    InvalidImageError
        If the network gives NaN or infinity for a pixel that counts.
    """
    check_input(model)
    stamps = judged_stamps(dataset, field_type, change, on_exposure)
    return roc.merge(roc.count(model.logits(one.image), one.cosmic_rays, one.ignore) for one in stamps)
