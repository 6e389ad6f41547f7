"""Find the cosmic rays of an image and repaint them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from deepcr_zoo.errors import UsageError
from deepcr_zoo.models.baselines import CLASSICAL
from deepcr_zoo.models.containers import Repainted, holds_nddata, renewed, wrap_again
from deepcr_zoo.models.images import read_contents, read_image
from deepcr_zoo.models.model import InpaintModel, MaskModel, load_resolved
from deepcr_zoo.zoo.names import Task
from deepcr_zoo.zoo.resolving import find_model

Filler = Callable[[Any, Any], Repainted]

ModelT = TypeVar("ModelT", MaskModel, InpaintModel)


class _NDData(Protocol):
    """What NDData and CCDData have, and arrays have not."""

    @property
    def uncertainty(self) -> Any: ...
    @property
    def wcs(self) -> Any: ...
    @property
    def meta(self) -> Any: ...


NDDataT = TypeVar("NDDataT", bound=_NDData)


@overload
def clean(
    image: NDDataT,
    mask: str | os.PathLike[str] | MaskModel,
    inpaint: str | os.PathLike[str] | InpaintModel | None = ...,
    threshold: float | None = ...,
    *,
    device: str = ...,
) -> NDDataT: ...
@overload
def clean(
    image: Sequence[NDDataT],
    mask: str | os.PathLike[str] | MaskModel,
    inpaint: str | os.PathLike[str] | InpaintModel | None = ...,
    threshold: float | None = ...,
    *,
    device: str = ...,
) -> list[NDDataT]: ...
@overload
def clean(
    image: Any,
    mask: str | os.PathLike[str] | MaskModel,
    inpaint: str | os.PathLike[str] | InpaintModel | None = ...,
    threshold: float | None = ...,
    *,
    device: str = ...,
) -> tuple[NDArray[np.bool_], NDArray[Any] | None]: ...
def clean(
    image: Any,
    mask: str | os.PathLike[str] | MaskModel,
    inpaint: str | os.PathLike[str] | InpaintModel | None = "medmask",
    threshold: float | None = None,
    *,
    device: str = "auto",
) -> Any:
    """Find and repaint the cosmic rays of an image.

    Parameters
    ----------
    image : array_like, shape (H, W) or (N, H, W)
        Pixel values: an array, a masked array, a Quantity, NDData, CCDData, Cutout2D, an HDU, a tensor, a Dask or xarray
        array, or a sequence of these. Values with a unit are converted to that of the models' cards; values without one
        are taken to be in it. Masked pixels are never marked.
    mask : str or MaskModel
        Name of a mask model or the folder of a run, as for `load`, or a loaded one, which saves time in repeated calls.
    inpaint : str, InpaintModel or None
        Name of an inpainting model, a loaded one, ``"medmask"`` (5x5 masked median), ``"biharmonic"``, or None for the
        mask alone.
    threshold : float, optional
        Probability above which a pixel is masked (default: the card's).
    device : str
        Device for models given by name; see `load`.

    Returns
    -------
    NDData or CCDData
        For these alone, one new object of the class that was given: repainted in its own unit, with its mask or cosmic
        ray as mask, and with its uncertainty, WCS, meta, flags and PSF. The uncertainty of repainted pixels is that of
        the new values if the network predicts it. With ``inpaint=None`` the data stay. For a
        sequence of them, a list.
    mask : ndarray of bool
        For any other image: True for a cosmic ray; same shape as the image.
    cleaned : ndarray of float32, Quantity, masked array, list of these, or None
        For any other image: new values where the mask is set. A Quantity keeps its unit and a masked array keeps its mask
        and unit; a sequence of these becomes a list. Anything else becomes an array in the unit of the mask model's card.
        Zhang & Bloom 2020 do not show that photometry on repainted pixels can be trusted.

    Raises
    ------
    UsageError
        If a model has the wrong task, or the two models take different units.
    InvalidImageError
        If the image, its mask or its unit cannot be used.
    DeepcrZooError
        As for `load` and `MaskModel.mask`.
    """
    mask_model = loaded(mask, MaskModel, device)
    unit = mask_model.card.input.pixel_unit
    fill = None if inpaint is None else filler(inpaint, unit, device)
    contents = read_contents(image)  # once: it may have to be computed, or copied from another device
    is_nddata = holds_nddata(image, contents)
    cosmic_rays = mask_model.mask(contents, threshold)
    filled = None if fill is None else fill(contents, cosmic_rays)
    if is_nddata:
        return renewed(image, contents, filled, cosmic_rays, unit)
    return cosmic_rays, None if filled is None else wrap_again(image, contents, filled.values, cosmic_rays, unit)


def filler(inpaint: str | os.PathLike[str] | InpaintModel, unit: str | None, device: str) -> Filler:
    """Return the function that repaints images in `unit` (None: their own); the model must take the same unit, or any."""
    if isinstance(inpaint, str) and inpaint in CLASSICAL:
        classical = partial(CLASSICAL[inpaint], unit=unit)
        return lambda image, mask: Repainted(classical(image, mask))
    model = loaded(inpaint, InpaintModel, device)
    if model.card.input.pixel_unit is None:
        return lambda image, mask: model.repaint(read_image(image, unit).as_array(), mask)
    if model.card.input.unit != unit:
        raise UsageError(
            f"{model.reference} takes {model.card.input.unit}, the mask model {unit or 'any unit'}: "
            f"name an inpainter for the same unit, or one of {', '.join(CLASSICAL)}"
        )
    return model.repaint


def loaded(model: str | os.PathLike[str] | ModelT, kind: type[ModelT], device: str) -> ModelT:
    """Return the model, loading it if it is given by name; a name without a task means a model of this kind."""
    task: Task = "mask" if issubclass(kind, MaskModel) else "inpaint"
    found = load_resolved(find_model(model, task), device) if isinstance(model, str | os.PathLike) else model
    if not isinstance(found, kind):
        raise UsageError(f"{task}={model!r}: expected the name of a model for the task {task}, or a loaded one")
    return found
