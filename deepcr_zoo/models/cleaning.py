"""One image, cleaned: find the cosmic rays, repaint them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from deepcr_zoo.errors import UsageError
from deepcr_zoo.models.baselines import CLASSICAL
from deepcr_zoo.models.model import InpaintModel, MaskModel, load
from deepcr_zoo.zoo.names import Task, for_task

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
        Pixel values in the unit that the models' cards state; anything that `deepcr_zoo.models.images.read_image` takes.
    mask : str or MaskModel
        Name of a mask model, or a model that is loaded already (saves time when called often).
    inpaint : str, InpaintModel or None
        Name of an inpainting model, ``"medmask"`` (5x5 masked median), ``"biharmonic"``, or None for the mask alone.
    threshold : float, optional
        Probability above which a pixel is masked; the default is the card's.
    device : str
        For models given by name; see `load`.

    Returns
    -------
    mask : ndarray of bool
        True = cosmic ray, of the image's shape.
    cleaned : ndarray of float32, or None
        The image, in the unit of the mask model's card, with new values where the mask is set. The network was made for
        looks and for detection: Zhang & Bloom 2020 do not show that photometry on repainted pixels can be trusted.

    Raises
    ------
    UsageError
        If a model of the wrong task is given, or two models that take different units.
    DeepcrZooError
        As `load` and `MaskModel.mask`.
    """
    mask_model = loaded(mask, MaskModel, device)
    fill = None if inpaint is None else filler(inpaint, mask_model.card.input.unit, device)
    cosmic_rays = mask_model.mask(image, threshold)
    return cosmic_rays, None if fill is None else fill(image, cosmic_rays)


def filler(inpaint: str | InpaintModel, unit: str, device: str) -> Filler:
    """The function that repaints images of a unit: a model, given as such or by name, or a classical method.

    Raises
    ------
    UsageError
        If the model takes images of another unit.
    """
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
    """The model itself, loaded if it was given by name; a bare name means a model of this kind."""
    task: Task = "mask" if issubclass(kind, MaskModel) else "inpaint"
    found = load(for_task(model, task), device) if isinstance(model, str) else model
    if not isinstance(found, kind):
        raise UsageError(f"{task}={model!r}: expected the name of a model for the task {task}, or a loaded one")
    return found
