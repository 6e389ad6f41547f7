"""Every container of an image gives the mask of the plain array, or is refused: its unit and its mask always count."""

import subprocess
import sys
from collections import deque
from functools import cache

import astropy.units as u
import dask.array as da
import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from astropy.io import fits
from astropy.nddata import CCDData, Cutout2D, NDData, NDDataRef
from astropy.table import Column, MaskedColumn
from astropy.utils.masked import Masked
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import deepcr_zoo
from deepcr_zoo.errors import InvalidImageError
from deepcr_zoo.models.containers import unwrap
from deepcr_zoo.models.images import read_image, read_mask
from tests.registries import SMALL
from tests.scenes import star_field

SHAPE = (24, 20)
FITS_ELECTRON = u.Unit("ELECTRONS", parse_strict="silent")  # as NDData and headers hold it
FACTORS = {None: 1, u.electron: 1, u.Unit(1024 * u.electron): 1024, FITS_ELECTRON: 1}
OTHER_UNITS = [u.adu, u.electron / u.s, u.ct, u.mag(u.electron), u.Unit("COUNTS/S", parse_strict="silent")]
NO_DIMENSION = u.dimensionless_unscaled
UNITS = st.sampled_from([*FACTORS, *OTHER_UNITS])
TYPES = st.sampled_from(["<f4", ">f4", "<f8", ">f8", "<i2", ">i2", "<u2", ">i4", "<i8"])


@cache
def model():
    return deepcr_zoo.load(SMALL)


def scene(dtype):
    return star_field(SHAPE, seed=3)[0].clip(0, 3e4).astype(dtype)


def holes(seed):
    """A mask over some pixels, cosmic rays among them."""
    return None if seed is None else np.random.default_rng(seed).random(SHAPE) < 0.2


def table_column(values, mask, unit):
    return Column(values, unit=unit) if mask is None else MaskedColumn(values, mask=mask, unit=unit)


def hdu(kind):
    def build(values, mask, unit):
        made = kind(values)
        if unit is not None:
            made.header["BUNIT"] = str(unit)
        return made

    return build


def tensor(values, mask, unit):
    return torch.from_numpy(values.astype(values.dtype.newbyteorder("=")))


def masked_dask_array(values, mask, unit):
    return da.ma.masked_array(da.from_array(values), np.zeros(SHAPE, bool) if mask is None else mask)


def memmap(values, mask, unit):
    return values.view(np.memmap)


def data_array(wrap):
    def build(values, mask, unit):
        return xr.DataArray(wrap(values), dims=("y", "x"), attrs={} if unit is None else {"units": str(unit)})

    return build


def quantity(values, unit):
    return values if unit is None else u.Quantity(values, unit)


# name -> what makes it from values, mask and unit, and which of the two it can hold
CONTAINERS = {
    "ndarray": (lambda values, mask, unit: values, ""),
    "memmap": (memmap, ""),
    "nested lists": (lambda values, mask, unit: values.tolist(), ""),
    "tuple of rows": (lambda values, mask, unit: tuple(values), ""),
    "memoryview": (lambda values, mask, unit: memoryview(values.astype(values.dtype.newbyteorder("="))), ""),
    "masked array": (lambda values, mask, unit: np.ma.MaskedArray(values, np.ma.nomask if mask is None else mask), "mask"),
    "masked rows": (lambda values, mask, unit: list(np.ma.MaskedArray(values, mask=mask)), "mask"),
    "table column": (table_column, "mask unit"),
    "Quantity": (lambda values, mask, unit: quantity(values, unit), "unit"),
    "rows of Quantity": (lambda values, mask, unit: [quantity(row, unit) for row in values], "unit"),
    "masked array of Quantity": (
        lambda values, mask, unit: np.ma.MaskedArray(quantity(values, unit), np.ma.nomask if mask is None else mask),
        "mask unit",
    ),
    "Masked": (lambda values, mask, unit: Masked(quantity(values, unit), mask), "mask unit"),
    "NDData": (lambda values, mask, unit: NDData(values, mask=mask, unit=unit), "mask unit"),
    "NDDataRef": (lambda values, mask, unit: NDDataRef(values, mask=mask, unit=unit), "mask unit"),
    "CCDData": (lambda values, mask, unit: CCDData(values, mask=mask, unit=unit or u.electron), "mask unit"),
    "NDData of a Dask array": (lambda values, mask, unit: NDData(da.from_array(values), mask=mask, unit=unit), "mask unit"),
    "Cutout2D": (lambda values, mask, unit: Cutout2D(quantity(values, unit), (9.5, 11.5), SHAPE), "unit"),
    "PrimaryHDU": (hdu(fits.PrimaryHDU), "unit"),
    "ImageHDU": (hdu(fits.ImageHDU), "unit"),
    "Dask array": (lambda values, mask, unit: da.from_array(values, chunks=10), ""),
    "masked Dask array": (masked_dask_array, "mask"),
    "DataArray": (data_array(np.asarray), "unit"),
    "DataArray of Dask": (data_array(da.from_array), "unit"),
    "tensor": (tensor, ""),
    "DataFrame": (lambda values, mask, unit: pd.DataFrame(values), ""),
}


@pytest.mark.parametrize("stacked", [False, True], ids=["alone", "list of two"])
@pytest.mark.parametrize("name", CONTAINERS)
@settings(max_examples=10)
@given(dtype=TYPES, unit=UNITS, seed=st.none() | st.integers(0, 9))
def test_a_container_gives_the_mask_of_the_plain_array_or_is_refused(name, stacked, dtype, unit, seed):
    build, kept = CONTAINERS[name]
    unit = unit if "unit" in kept else None
    masked = holes(seed) if "mask" in kept else None
    values = scene(dtype)
    try:
        image = build(values, masked, unit)
    except TypeError:  # a Quantity holds no unit that astropy does not read
        assume(False)
    if stacked:
        image = [image, build(values, None, unit)]
    if unit in OTHER_UNITS:
        with pytest.raises(InvalidImageError, match=r"the image is in .*: the model expects electron; convert it"):
            model().mask(image)
        return
    whole = values * float(FACTORS[unit])
    plain = whole if masked is None else np.where(masked, np.nan, whole)
    np.testing.assert_array_equal(model().mask(image), model().mask(np.stack([plain, whole]) if stacked else plain))


@pytest.mark.parametrize("name", [name for name, (_, kept) in CONTAINERS.items() if "unit" in kept])
def test_a_dimensionless_image_is_refused_unless_its_unit_is_a_blank_text(name):
    image = CONTAINERS[name][0](scene("<f4"), None, NO_DIMENSION)
    if "HDU" in name or "DataArray" in name:  # as files without a unit write it
        np.testing.assert_array_equal(model().mask(image), model().mask(scene("<f4")))
        return
    with pytest.raises(InvalidImageError, match=r"the image is in no unit \(dimensionless\): the model expects electron"):
        model().mask(image)


COUNTS = np.arange(30).reshape(5, 6) + 100.0


def ccd(unit="electron", **more):
    return CCDData(COUNTS, unit=unit, **more)


def test_a_stack_converts_units_and_joins_masks():
    masked = COUNTS == 107
    stack = unwrap(deque([ccd(), ccd(u.Unit(1000 * u.electron), mask=masked), Masked(COUNTS * u.electron, masked)]))
    assert stack.unit == u.electron
    np.testing.assert_allclose(stack.values, COUNTS * np.array([1, 1000, 1])[:, None, None])
    np.testing.assert_array_equal(stack.mask, [np.zeros_like(masked), masked, masked])


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([ccd(), ccd("adu")], "image 0 is in electron, image 1 in adu: give all the same unit"),
        ([ccd(), ccd(), COUNTS], "image 0 is in electron, image 2 in no unit"),
        ([COUNTS, COUNTS * u.electron], "image 0 is in no unit, image 1 in electron"),
        ([COUNTS, COUNTS[1:]], "cannot be read as an array: all input arrays must have the same shape"),
    ],
    ids=["two units", "last without a unit", "first without a unit", "two shapes"],
)
def test_a_stack_of_images_that_do_not_agree_is_refused(images, message):
    with pytest.raises(InvalidImageError, match=message):
        read_image(images, "electron")


@pytest.mark.parametrize(
    ("found", "wanted"), [("ELECTRONS", "electron"), ("e-", "electron"), ("COUNTS", "adu"), (u.ct, "adu"), (u.DN, "adu")]
)
def test_a_unit_has_the_spellings_that_files_use(found, wanted):
    found = u.Unit(found, parse_strict="silent")
    assert read_image(NDData(COUNTS, unit=found), wanted).pixels[0, 0, 0] == 100
    header = fits.Header({"BUNIT": str(found)})
    assert read_image(fits.ImageHDU(COUNTS, header), wanted).pixels[0, 0, 0] == 100


def test_a_scaled_count_is_a_scaled_adu():
    assert read_image(COUNTS * u.Unit(1000 * u.ct), "adu").pixels[0, 0, 0] == 100_000


def test_a_scaled_unit_does_not_overflow_a_narrow_type():
    assert read_image(u.Quantity(COUNTS.astype("f2"), u.Unit(1000 * u.electron)), "electron").valid is None


def test_recognising_containers_imports_none_of_their_libraries():
    code = "import sys, numpy; from deepcr_zoo.models.images import read_image; read_image(numpy.zeros((4, 4)), 'electron');"
    code += "read_image([[1, 2], [3, 4]], 'electron'); print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "numpy" in loaded
    assert not {"astropy", "torch", "dask", "xarray", "pandas"} & set(loaded)


class Detector:
    """An image of a library that is not supported."""

    units, array = "electron", COUNTS

    def __array__(self, dtype=None, copy=None):
        return self.array


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("x_flc.fits", r"the image is a str: pass its pixel values, for example .*clean_file\(path\)"),
        (fits.HDUList([fits.PrimaryHDU(COUNTS)]), r"the image is a HDUList: pass one of its HDUs"),
        (fits.PrimaryHDU(), "the HDU holds no image: pass one that does"),
        (fits.BinTableHDU.from_columns([fits.Column("a", "E", array=[1.0])]), "holds"),
        (xr.Dataset({"flux": (("y", "x"), COUNTS)}), r"pass one of its variables, for example dataset\['flux'\]"),
        (Detector(), "is a .*Detector with a units, which cannot be read: pass a Quantity, CCDData or masked array"),
        (np.zeros((4, 4), [("a", "f4")]), "the image holds .*: expected an array of integers or real"),
        (np.ma.zeros((4, 4), [("a", "f4")]), "the image"),
        (np.zeros((4, 4), object), "the image holds object"),
        ([[1, None]], "the image holds object"),
        (torch.ones(4, 4, device="meta"), "cannot be read as an array"),
        (torch.ones(4, 4, dtype=torch.complex64), "holds complex64"),
        (NDData(COUNTS, mask=np.zeros((2, 2), bool)), r"the mask of the image has shape \(2, 2\): expected \(5, 6\)"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_cannot_be_read_is_refused_in_a_sentence(image, message):
    with pytest.raises(InvalidImageError, match=message):
        read_image(image, "electron")


@pytest.mark.parametrize(
    "image",
    [
        torch.from_numpy(COUNTS).requires_grad_(),
        torch.from_numpy(COUNTS).to_sparse(),
        torch.from_numpy(COUNTS).to(torch.bfloat16),
        torch.nn.Parameter(torch.from_numpy(COUNTS)).T.T,
    ],
    ids=["with gradient", "sparse", "bfloat16", "parameter"],
)
def test_every_tensor_that_has_values_is_an_image(image):
    np.testing.assert_array_equal(read_image(image, "electron").pixels[0], COUNTS)


@pytest.mark.filterwarnings("ignore:The PyTorch API of MaskedTensors is in prototype")
def test_a_masked_tensor_counts_its_mask():
    masked = COUNTS == 105
    image = torch.masked.masked_tensor(torch.from_numpy(COUNTS), torch.from_numpy(~masked))
    np.testing.assert_array_equal(~read_image(image, "electron").valid[0], masked)


@pytest.mark.parametrize(
    ("shape", "way_out"),
    [
        ((512, 500, 3), r"expected \(H, W\) or \(N, H, W\); give image\[..., 0\], or numpy.moveaxis\(image, -1, 0\)"),
        ((60, 50, 1), r"expected \(H, W\) or \(N, H, W\); give image\[..., 0\]$"),
        ((6, 5, 4), r"give image\[..., 0\]"),
        ((8, 1, 20, 20), r"give image\[:, 0\]$"),
        ((2, 20, 20, 3), r"give image\[..., 0\]$"),
        ((8, 20, 20, 1), r"give image\[..., 0\]$"),
    ],
)
def test_colours_in_the_last_axis_are_not_columns(shape, way_out):
    with pytest.raises(InvalidImageError, match=r"shape \(\d+, .*\): .*" + way_out):
        read_image(np.zeros(shape), "electron")


@pytest.mark.parametrize("shape", [(1, 60, 50), (3, 60, 50), (60, 50), (60, 3), (60, 1), (2, 3, 1), (1, 60, 2), (60, 50, 5)])
def test_narrow_images_and_stacks_are_taken(shape):
    assert read_image(np.zeros(shape), "electron").shape == shape


@pytest.mark.parametrize(
    "mask", [COUNTS > 110, torch.from_numpy(COUNTS > 110), da.from_array(COUNTS > 110), (COUNTS > 110).tolist()]
)
def test_an_inpainting_mask_comes_in_a_container_too(mask):
    np.testing.assert_array_equal(read_mask(mask, COUNTS.shape)[0], COUNTS > 110)


@pytest.mark.parametrize(
    "mask", [np.ma.MaskedArray(COUNTS > 110, COUNTS > 120), u.Quantity((COUNTS > 110).astype(float), "electron")]
)
def test_an_inpainting_mask_with_a_unit_or_a_mask_is_refused(mask):
    with pytest.raises(InvalidImageError, match="the mask has a unit or is itself masked"):
        read_mask(mask, COUNTS.shape)
