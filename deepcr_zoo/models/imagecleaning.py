"""Find the cosmic rays of an image and repaint them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from deepcr_zoo.errors import UsageError
from deepcr_zoo.models.baselines import CLASSICAL
from deepcr_zoo.models.model import InpaintModel, MaskModel, load_resolved
from deepcr_zoo.zoo.names import Task, for_task
from deepcr_zoo.zoo.registries import default_registry

Filler = Callable[[Any, Any], NDArray[np.float32]]

ModelT = TypeVar("ModelT", MaskModel, InpaintModel)


def clean(
    image: Any,
    mask: str | MaskModel,
    inpaint: str | InpaintModel | None = "medmask",
    threshold: float | None = None,
    *,
    device: str = "auto",
) -> tuple[NDArray[np.bool_], NDArray[np.float32] | None]:
    """Find and repaint the cosmic rays of an image.

    Parameters
    ----------
    image : array_like, shape (H, W) or (N, H, W)
        Pixel values in the unit of the models' cards: an array, MaskedArray, Quantity, NDData or CCDData.
    mask : str or MaskModel
        Name of a mask model, or a loaded one, which saves time in repeated calls.
    inpaint : str, InpaintModel or None
        Name of an inpainting model, a loaded one, ``"medmask"`` (5x5 masked median), ``"biharmonic"``, or None for the
        mask alone.
    threshold : float, optional
        Probability above which a pixel is masked (default: the card's).
    device : str
        Device for models given by name; see `load`.

    Returns
    -------
    mask : ndarray of bool
        True for a cosmic ray; same shape as the image.
    cleaned : ndarray of float32, or None
        The image with new values where the mask is set, in the unit of the mask model's card. Zhang & Bloom 2020 do not
        show that photometry on repainted pixels can be trusted.

    Raises
    ------
    UsageError
        If a model has the wrong task, or the two models take different units.
    DeepcrZooError
        As for `load` and `MaskModel.mask`.
    """
    mask_model = loaded(mask, MaskModel, device)
    fill = None if inpaint is None else filler(inpaint, mask_model.card.input.unit, device)
    cosmic_rays = mask_model.mask(image, threshold)
    return cosmic_rays, None if fill is None else fill(image, cosmic_rays)


def filler(inpaint: str | InpaintModel, unit: str, device: str) -> Filler:
    """Return the function that repaints images in `unit`; the model must take the same unit."""
    if isinstance(inpaint, str) and inpaint in CLASSICAL:
        return partial(CLASSICAL[inpaint], unit=unit)
    model = loaded(inpaint, InpaintModel, device)
    if model.card.input.unit != unit:
        raise UsageError(
            f"{model.reference} takes {model.card.input.unit}, the mask model {unit}: name an inpainter for the same unit, "
            f"or one of {', '.join(CLASSICAL)}"
        )
    return model.fill


def loaded(model: str | ModelT, kind: type[ModelT], device: str) -> ModelT:
    """Return the model, loading it if it is given by name; a name without a task means a model of this kind."""
    task: Task = "mask" if issubclass(kind, MaskModel) else "inpaint"
    found = load_resolved(default_registry().resolve(for_task(model, task)), device) if isinstance(model, str) else model
    if not isinstance(found, kind):
        raise UsageError(f"{task}={model!r}: expected the name of a model for the task {task}, or a loaded one")
    return found
