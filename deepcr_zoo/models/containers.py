"""Images as astronomers hold them: unwrapped into values, mask and unit, and wrapped again."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from deepcr_zoo.documents import brief
from deepcr_zoo.errors import ImageWarning, InvalidImageError, warn
from deepcr_zoo.models.units import conversion_factor, ratio


@dataclass(frozen=True)
class Contents:
    """What a container holds."""

    values: NDArray[Any]  # as given: any shape, type and byte order
    mask: NDArray[np.bool_] | None = None  # True where masked, same shape as the values
    unit: Any = None  # unit of astropy, or a text
    parts: tuple[Contents, ...] = ()  # of a sequence, what each of its images holds

    def masked(self, mask: Any) -> Contents:
        """Add a mask, which may be None, and which numpy may have to broadcast."""
        if mask is None or mask is np.ma.nomask:
            return self
        more = np.asarray(mask, dtype=bool)
        try:
            more = np.broadcast_to(more, self.values.shape)
        except ValueError:
            raise InvalidImageError(
                f"the mask of the image has shape {more.shape}: expected {self.values.shape}, the shape of its values"
            ) from None
        return replace(self, mask=more if self.mask is None else self.mask | more)

    def measured(self, unit: Any) -> Contents:
        """Add a unit, which may be None or blank as in a header, to values without one; dimensionless is a unit."""
        absent = unit is None or (isinstance(unit, str) and not unit.strip())
        return self if absent else replace(self, unit=unit)


def unwrap(image: Any) -> Contents:
    """Return the plain values of an image, with its mask and its unit; refuse a container whose mask or unit is not known.

    Containers of optional libraries are recognised without importing these: an object of a library comes with it.
    """
    found = _first_match(_READERS, image)
    return _unknown(image) if found is None else found(image)


def wrap_again(
    image: Any, contents: Contents, filled: NDArray[np.float32], replaced: NDArray[np.bool_], unit: str | None
) -> Any:
    """Return the repainted image, which is in `unit`, as a container like the given one.

    Quantity and masked arrays keep unit and mask, and a sequence of them becomes a list; anything else becomes the plain
    array `filled`.
    """
    if contents.parts:
        made = [wrap_again(*one, unit) for one in zip(image, contents.parts, filled, replaced, strict=True)]
        return made if any(type(one) is not np.ndarray for one in made) else filled
    wrap = _first_match(_WRITERS, image)
    return filled if wrap is None else wrap(image, contents, replaced_values(contents, filled, replaced, unit))


def replaced_values(
    contents: Contents, filled: NDArray[np.float32], replaced: NDArray[np.bool_], unit: str | None
) -> NDArray[np.floating[Any]]:
    """Return the values in the unit they came in, with those in `replaced` from `filled`, which is in `unit`."""
    values = contents.values.astype(np.result_type(contents.values.dtype, np.float32))
    values[replaced] = filled[replaced] / conversion_factor(contents.unit, unit)
    return values


def scaled(values: NDArray[Any], factor: float) -> NDArray[Any]:
    """Return the product, in float32 or better: 1000 electron overflow a float16."""
    product: NDArray[Any] = np.multiply(values, factor, dtype=np.result_type(values.dtype, np.float32))
    return product


def holds_nddata(image: Any, contents: Contents) -> bool:
    """True for NDData, CCDData and other classes made from them, and for sequences of these alone."""
    if not contents.parts:
        return _is_instance(image, "astropy.nddata.NDData")
    kinds = {holds_nddata(*one) for one in zip(image, contents.parts, strict=True)}
    if len(kinds) > 1:
        raise InvalidImageError("some of the images are NDData or CCDData, others are not: give all in one class")
    return kinds.pop()


class Repainted(NamedTuple):
    """An image after its masked pixels were replaced.

    Attributes
    ----------
    values : ndarray of float32
        As from `InpaintModel.fill`.
    uncertainty : ndarray of float32 or None
        The standard deviation of what a masked pixel would have shown without the cosmic ray, its own noise included, about
        the new value; same shape and unit, NaN outside the mask. None if the network predicts none (``output.uncertainty``
        of its card).
    """

    values: NDArray[np.float32]
    uncertainty: NDArray[np.float32] | None = None


def renewed(
    image: Any, contents: Contents, filled: Repainted | None, cosmic_rays: NDArray[np.bool_], unit: str | None
) -> Any:
    """Return an NDData or CCDData, or a list of them, with cosmic rays in its mask, repainted if `filled` is given.

    It holds copies of all else.
    """
    if contents.parts:
        new = [None] * len(cosmic_rays) if filled is None else _parts(filled)
        return [renewed(*one, unit) for one in zip(image, contents.parts, new, cosmic_rays, strict=True)]
    values = contents.values.copy() if filled is None else replaced_values(contents, filled.values, cosmic_rays, unit)
    mask = cosmic_rays if contents.mask is None else contents.mask | cosmic_rays
    kept = {name: deepcopy(getattr(image, name)) for name in ("uncertainty", "wcs", "meta", "psf")}
    if filled is not None and filled.uncertainty is not None and kept["uncertainty"] is not None:
        deviation = filled.uncertainty / conversion_factor(contents.unit, unit)
        _renew_uncertainty(kept["uncertainty"], deviation, image.unit, cosmic_rays)
    try:
        made = type(image)(values, mask=mask, unit=image.unit, **kept)
    except TypeError:
        raise InvalidImageError(
            f"a {type(image).__name__} cannot be made anew: pass astropy.nddata.CCDData or the values alone"
        ) from None
    if hasattr(image, "flags"):
        made.flags = deepcopy(image.flags)
    return made


def _parts(filled: Repainted) -> list[Repainted]:
    unsure = [None] * len(filled.values) if filled.uncertainty is None else filled.uncertainty
    return [Repainted(*one) for one in zip(filled.values, unsure, strict=True)]


_POWERS = {"std": 1, "var": 2, "ivar": -2}
"""Uncertainties of astropy as powers of a standard deviation, by `uncertainty_type`."""


def _renew_uncertainty(uncertainty: Any, deviation: NDArray[np.float32], unit: Any, replaced: NDArray[np.bool_]) -> None:
    """Put standard deviations, in the unit of the image, into an uncertainty of astropy; other kinds stay as they are."""
    power = _POWERS.get(uncertainty.uncertainty_type)
    if power is None or uncertainty.array is None:
        return
    own = uncertainty.unit
    try:
        factor = 1.0 if unit is None or own is None else float((unit**power).to(own))
        array = np.array(np.broadcast_to(uncertainty.array, replaced.shape), np.result_type(uncertainty.array, np.float32))
    except ValueError as error:  # units of another kind, or another shape
        warn(f"the uncertainty stays as it is where pixels are repainted: {brief(error)}", ImageWarning)
        return
    array[replaced] = deviation[replaced].astype(array.dtype) ** power * factor
    uncertainty.array = array


def _array(image: Any) -> Contents:
    # columns of tables and other arrays with a unit attribute
    unit = getattr(image, "unit", None) or getattr(image, "units", None)
    return Contents(np.asarray(image), unit=unit)


def _quantity(image: Any) -> Contents:
    return Contents(np.asarray(image.value), unit=image.unit)


def _masked_array(image: Any) -> Contents:
    inside = unwrap(image.data)  # may be a Quantity
    return inside.masked(np.ma.getmask(image)).measured(getattr(image, "unit", None))


def _masked(image: Any) -> Contents:
    return unwrap(image.unmasked).masked(image.mask)


def _nddata(image: Any) -> Contents:
    return unwrap(image.data).masked(image.mask).measured(image.unit)


def _hdu(image: Any) -> Contents:
    if image.data is None:
        raise InvalidImageError("the HDU holds no image: pass one that does, for example hdulist['SCI', 1]")
    return unwrap(image.data).measured(str(image.header.get("BUNIT", "")).strip())


def _tensor(image: Any) -> Contents:
    import torch

    if hasattr(image, "get_mask"):  # torch.masked: True where valid
        return unwrap(image.get_data()).masked(unwrap(~image.get_mask()).values)
    plain = image.detach().to_dense() if image.layout != torch.strided else image.detach()
    plain = plain.cpu().resolve_conj().resolve_neg()
    narrow = plain.is_floating_point() and plain.itemsize < 4  # bfloat16 and float8 do not exist in numpy
    return Contents((plain.float() if narrow else plain).numpy())


def _labelled_array(image: Any) -> Contents:
    return unwrap(image.data).measured(image.attrs.get("units", image.attrs.get("unit")))


def _sequence(images: Any) -> Contents:
    """Stack images, or the rows of one; masks count, and units are converted to that of the first."""
    if all(issubclass(kind, Real) for kind in set(map(type, images))):
        return Contents(np.asarray(images))
    parts = tuple(unwrap(one) for one in images)
    values = np.stack([_in_unit_of(parts[0], part, index) for index, part in enumerate(parts)])
    stack = Contents(values, unit=parts[0].unit, parts=parts)
    if all(part.mask is None for part in parts):
        return stack
    return stack.masked(np.stack([np.zeros(part.values.shape, bool) if part.mask is None else part.mask for part in parts]))


def _in_unit_of(first: Contents, other: Contents, index: int) -> NDArray[Any]:
    """Return the values of another image in the unit of the first."""
    units = (first.unit, other.unit)
    factor = 1 if units == (None, None) else None if None in units else ratio(other.unit, first.unit)
    if factor is None:
        shown = ["no unit" if unit is None else str(unit) for unit in units]
        raise InvalidImageError(f"image 0 is in {shown[0]}, image {index} in {shown[1]}: give all the same unit")
    return other.values if factor == 1 else scaled(other.values, factor)


def _unknown(image: Any) -> Contents:
    for name in ("unit", "units", "mask"):
        if (held := getattr(image, name, None)) is not None and not callable(held):
            kind = f"{type(image).__module__}.{type(image).__qualname__}"
            raise InvalidImageError(
                f"the image is a {kind} with a {name}, which cannot be read: pass a Quantity, CCDData or masked array"
            )
    return Contents(np.asarray(image))


def _refuse(instead: str) -> Callable[[Any], NoReturn]:
    def refuse(image: Any) -> NoReturn:
        raise InvalidImageError(f"the image is a {type(image).__name__}: pass {instead}")

    return refuse


_PATH = _refuse("its pixel values, for example astropy.io.fits.getdata(path, ext=1), or call deepcr_zoo.clean_file(path)")
_READERS: Mapping[str, Callable[[Any], Contents]] = {  # the first class that fits; subclasses stand before their bases
    f"{__name__}.Contents": lambda contents: contents,
    "builtins.str": _PATH,
    "builtins.bytes": _PATH,
    "os.PathLike": _PATH,
    "builtins.memoryview": lambda view: Contents(np.asarray(view)),
    "astropy.io.fits.HDUList": _refuse("one of its HDUs, for example hdulist['SCI', 1]"),
    "astropy.io.fits.PrimaryHDU": _hdu,
    "astropy.io.fits.ImageHDU": _hdu,
    "astropy.io.fits.CompImageHDU": _hdu,
    "astropy.nddata.NDData": _nddata,
    "astropy.nddata.Cutout2D": lambda cutout: unwrap(cutout.data),
    "astropy.utils.masked.Masked": _masked,
    "astropy.units.Quantity": _quantity,
    "numpy.ma.MaskedArray": _masked_array,
    "numpy.ndarray": _array,
    "torch.Tensor": _tensor,
    "xarray.Dataset": _refuse("one of its variables, for example dataset['flux']"),
    "xarray.DataArray": _labelled_array,
    "xarray.Variable": _labelled_array,
    "dask.array.Array": lambda array: unwrap(array.compute()),
    "pandas.DataFrame": lambda frame: Contents(frame.to_numpy()),
    "collections.abc.Sequence": _sequence,
}


def _same_masked(image: Any, contents: Contents, values: NDArray[Any]) -> Any:
    from astropy.utils.masked import Masked

    return Masked(_same_quantity(image, contents, values) if hasattr(image, "unit") else values, mask=image.mask.copy())


def _same_quantity(image: Any, contents: Contents, values: NDArray[Any]) -> Any:
    from astropy.units import Quantity

    return Quantity(values, contents.unit)


def _same_masked_array(image: Any, contents: Contents, values: NDArray[Any]) -> Any:
    return np.ma.MaskedArray(values, np.ma.getmaskarray(image).copy())


_WRITERS: Mapping[str, Callable[[Any, Contents, NDArray[Any]], Any]] = {
    "astropy.utils.masked.Masked": _same_masked,
    "astropy.units.Quantity": _same_quantity,
    "numpy.ma.MaskedArray": _same_masked_array,
}


def _first_match(functions: Mapping[str, Callable[..., Any]], image: Any) -> Callable[..., Any] | None:
    return next((function for path, function in functions.items() if _is_instance(image, path)), None)


def _is_instance(image: Any, path: str) -> bool:
    """True for an object of the class at this path, without importing its module."""
    module, _, name = path.rpartition(".")
    kind = getattr(sys.modules.get(module), name, None)
    return isinstance(kind, type) and isinstance(image, kind)
