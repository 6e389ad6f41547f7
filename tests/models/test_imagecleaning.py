import astropy.units as u
import dask.array as da
import numpy as np
import pytest
import torch
from astropy.io import fits
from astropy.nddata import CCDData, NDData, NDDataArray, NDDataRef, StdDevUncertainty
from astropy.utils.masked import Masked
from astropy.wcs import WCS

import deepcr_zoo
from deepcr_zoo.errors import InvalidImageError, ModelWarning, UnknownModelError, UsageError
from deepcr_zoo.models.baselines import biharmonic, medmask
from tests.registries import SMALL
from tests.scenes import star_field

IMAGE, COSMIC_RAYS = star_field((150, 140), seed=1)
HOLES = np.random.default_rng(1).random(IMAGE.shape) < 0.05


def test_clean_masks_with_one_model_and_repaints_with_another():
    mask, cleaned = deepcr_zoo.clean(IMAGE, "ACS-WFC-F606W-2-32", "ACS-WFC-F606W-2-32")
    expected_mask = deepcr_zoo.load("mask/ACS-WFC-F606W-2-32").mask(IMAGE)
    np.testing.assert_array_equal(mask, expected_mask)
    np.testing.assert_array_equal(cleaned, deepcr_zoo.load("inpaint/ACS-WFC-F606W-2-32").fill(IMAGE, expected_mask))
    # the cosmic rays stood out by hundreds of electrons
    assert np.abs(cleaned - 50)[COSMIC_RAYS & mask].mean() < 0.2 * np.abs(IMAGE - 50)[COSMIC_RAYS & mask].mean()


@pytest.mark.parametrize(("inpaint", "method"), [("medmask", medmask), ("biharmonic", biharmonic)])
def test_clean_repaints_with_a_classical_method(inpaint, method):
    mask, cleaned = deepcr_zoo.clean(IMAGE, SMALL, inpaint)
    np.testing.assert_array_equal(cleaned, method(IMAGE, mask))


def test_clean_can_leave_the_image_alone():
    mask, cleaned = deepcr_zoo.clean(IMAGE, SMALL, inpaint=None, threshold=0.9)
    assert cleaned is None
    np.testing.assert_array_equal(mask, deepcr_zoo.load(SMALL).mask(IMAGE, 0.9))


def test_clean_takes_models_that_are_loaded_already():
    model = deepcr_zoo.load(SMALL)
    mask, _ = deepcr_zoo.clean(IMAGE, model)
    np.testing.assert_array_equal(mask, model.mask(IMAGE))


@pytest.mark.parametrize("inpaint", ["medmask", "biharmonic", "ACS-WFC-F606W-2-32"])
def test_a_quantity_is_cleaned_in_its_own_unit_whatever_repaints_it(inpaint):
    image = u.Quantity(IMAGE / 1000, 1000 * u.electron)
    mask, cleaned = deepcr_zoo.clean(image, SMALL, inpaint)
    expected_mask, expected = deepcr_zoo.clean(IMAGE, SMALL, inpaint)
    np.testing.assert_array_equal(mask, expected_mask)
    assert cleaned.unit == image.unit
    np.testing.assert_array_equal(cleaned[~mask], image[~mask])
    np.testing.assert_allclose(cleaned.to_value(u.electron), expected, rtol=1e-4)


@pytest.mark.parametrize("wrap", [np.ma.MaskedArray, Masked, lambda values, mask: Masked(values * u.electron, mask)])
def test_a_masked_array_keeps_its_mask(wrap):
    image = wrap(IMAGE.astype(float), HOLES)
    mask, cleaned = deepcr_zoo.clean(image, SMALL)
    assert type(cleaned) is type(image)
    assert mask.any()
    assert not (mask & HOLES).any()
    np.testing.assert_array_equal(cleaned.mask, HOLES)
    assert cleaned.mask is not image.mask
    np.testing.assert_array_equal(plain(cleaned)[~mask], plain(image)[~mask])
    np.testing.assert_allclose(plain(cleaned)[mask], medmask(np.where(HOLES, np.nan, IMAGE), mask)[mask])


@pytest.mark.parametrize(
    "wrap",
    [
        np.ma.MaskedArray,
        Masked,
        lambda values, mask: Masked(values * u.electron, mask),
        lambda values, mask: u.Quantity(values / 1000, 1000 * u.electron),
        lambda values, mask: CCDData(values, mask=mask, unit="electron"),
        lambda values, mask: NDData(values, mask=mask),
    ],
)
@pytest.mark.parametrize("inpaint", ["medmask", None])
def test_a_sequence_becomes_a_list_of_what_each_image_alone_becomes(wrap, inpaint):
    images = tuple(wrap(values, HOLES) for values in (IMAGE.astype(float), IMAGE[::-1].astype(float)))
    alone = [deepcr_zoo.clean(image, SMALL, inpaint) for image in images]
    found = deepcr_zoo.clean(images, SMALL, inpaint)
    if isinstance(alone[0], NDData):
        cleaned, expected = found, alone
        np.testing.assert_array_equal([one.mask for one in cleaned], [one.mask for one in expected])
    else:
        expected = [one[1] for one in alone]
        mask, cleaned = found
        np.testing.assert_array_equal(mask, [one[0] for one in alone])
    if cleaned is None:
        assert inpaint is None
        assert expected == [None, None]
        return
    assert type(cleaned) is list
    for one, other in zip(cleaned, expected, strict=True):
        assert type(one) is type(other)
        np.testing.assert_array_equal(plain(one), plain(other))
        assert getattr(one, "unit", None) == getattr(other, "unit", None)
        np.testing.assert_array_equal(getattr(one, "mask", False), getattr(other, "mask", False))


def test_rows_of_a_quantity_come_back_as_rows():
    _, cleaned = deepcr_zoo.clean(list(IMAGE * u.electron), SMALL)
    assert {row.unit for row in cleaned} == {u.electron}
    np.testing.assert_array_equal(u.Quantity(cleaned).value, deepcr_zoo.clean(IMAGE, SMALL)[1])


def test_images_in_other_units_of_one_kind_keep_their_own():
    thousands = u.Unit(1000 * u.electron)
    _, (one, other) = deepcr_zoo.clean([IMAGE * u.electron, u.Quantity(IMAGE / 1000, thousands)], SMALL)
    assert (one.unit, other.unit) == (u.electron, thousands)
    np.testing.assert_allclose(one.value, other.value * 1000, rtol=1e-5)


def test_ccddata_among_other_images_is_refused():
    with pytest.raises(InvalidImageError, match="some of the images are NDData or CCDData, others are not"):
        deepcr_zoo.clean([CCDData(IMAGE, unit="electron"), IMAGE * u.electron], SMALL)


def plain(image):
    return np.asarray(getattr(image, "unmasked", image.data))


@pytest.mark.parametrize(
    "wrap", [lambda data: fits.ImageHDU(data), torch.from_numpy, lambda data: [data, data], da.from_array]
)
def test_any_other_image_becomes_a_plain_array(wrap):
    mask, cleaned = deepcr_zoo.clean(wrap(IMAGE), SMALL)
    assert type(mask) is type(cleaned) is np.ndarray
    expected_mask, expected = deepcr_zoo.clean(IMAGE, SMALL)
    np.testing.assert_array_equal(mask, np.broadcast_to(expected_mask, mask.shape))
    np.testing.assert_array_equal(cleaned, np.broadcast_to(expected, mask.shape))


def ccd(**changed):
    """An image as ccdproc holds it."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.crpix, wcs.wcs.cdelt = ["RA---TAN", "DEC--TAN"], [40, 2], [70, 75], [1e-5, 1e-5]
    wcs.wcs.set()
    settings = {"unit": "electron", "mask": HOLES.copy(), "wcs": wcs, "meta": {"EXPTIME": 400.0, "OBJECT": "M 31"}}
    settings["uncertainty"] = StdDevUncertainty(np.sqrt(IMAGE.clip(1)))
    return CCDData(IMAGE.astype(float), **{**settings, **changed})


def test_ccddata_comes_back_with_all_that_it_holds():
    image = ccd(flags=np.arange(IMAGE.size).reshape(IMAGE.shape), psf=np.ones((3, 3)))
    before = image.copy()
    cleaned = deepcr_zoo.clean(image, SMALL)
    mask, repainted = deepcr_zoo.clean(np.ma.MaskedArray(IMAGE, HOLES), SMALL)
    assert type(cleaned) is CCDData
    assert mask.any()
    np.testing.assert_array_equal(cleaned.mask, HOLES | mask)
    np.testing.assert_array_equal(cleaned.data, np.where(mask, repainted, IMAGE))
    assert cleaned.unit == image.unit
    np.testing.assert_array_equal(cleaned.uncertainty.array, image.uncertainty.array)
    assert type(cleaned.uncertainty) is StdDevUncertainty
    assert cleaned.uncertainty.parent_nddata is cleaned
    np.testing.assert_array_equal(cleaned.flags, image.flags)
    np.testing.assert_array_equal(cleaned.psf, image.psf)
    assert cleaned.wcs.wcs.compare(image.wcs.wcs)
    assert cleaned.meta == image.meta
    cleaned.meta["OBJECT"] = "M 33"
    cleaned.mask[:] = cleaned.uncertainty.array[:] = cleaned.data[:] = 0
    np.testing.assert_array_equal(image.data, before.data)
    np.testing.assert_array_equal(image.mask, before.mask)
    np.testing.assert_array_equal(image.uncertainty.array, before.uncertainty.array)
    assert image.meta == before.meta


def test_ccddata_in_1000_electron_comes_back_in_1000_electron():
    cleaned = deepcr_zoo.clean(CCDData(IMAGE / 1000.0, unit=1000 * u.electron), SMALL)
    expected = deepcr_zoo.clean(CCDData(IMAGE, unit="electron"), SMALL)
    assert cleaned.unit == 1000 * u.electron
    np.testing.assert_array_equal(cleaned.mask, expected.mask)
    np.testing.assert_allclose(cleaned.data * 1000, expected.data, rtol=1e-5)


@pytest.mark.parametrize("dtype", ["<u2", ">i2", ">f4", "<f8"])
@pytest.mark.parametrize("kind", [NDData, NDDataRef, NDDataArray, CCDData])
def test_every_class_of_nddata_keeps_pixels_that_are_not_masked(kind, dtype):
    image = kind(IMAGE.clip(0).astype(dtype), unit="electron")
    cleaned = deepcr_zoo.clean(image, SMALL)
    assert type(cleaned) is kind
    assert cleaned.data.dtype.kind == "f"
    np.testing.assert_array_equal(cleaned.data[~cleaned.mask], image.data[~cleaned.mask])
    assert (cleaned.data != image.data)[cleaned.mask].any()
    assert image.mask is None


def test_without_inpainting_the_data_of_a_ccddata_stay():
    image = ccd(mask=None)
    cleaned = deepcr_zoo.clean(image, SMALL, inpaint=None)
    np.testing.assert_array_equal(cleaned.data, image.data)
    assert cleaned.data is not image.data
    np.testing.assert_array_equal(cleaned.mask, deepcr_zoo.load(SMALL).mask(IMAGE))


def test_a_cleaned_ccddata_survives_a_fits_file(tmp_path):
    ccd().write(tmp_path / "image.fits")
    image = CCDData.read(tmp_path / "image.fits")
    cleaned = deepcr_zoo.clean(image, SMALL)
    cleaned.write(tmp_path / "cleaned.fits")
    again = CCDData.read(tmp_path / "cleaned.fits")
    np.testing.assert_array_equal(again.mask, deepcr_zoo.clean(ccd(), SMALL).mask)
    np.testing.assert_array_equal(again.data, cleaned.data)
    assert again.unit == u.electron
    assert again.header["OBJECT"] == "M 31"
    assert again.wcs.wcs.compare(cleaned.wcs.wcs)


def test_saturated_cores_under_a_mask_are_neither_marked_nor_repainted():
    image = IMAGE.copy()
    core = np.zeros(IMAGE.shape, bool)
    core[60:90, 64:70] = True
    image[core] = 84_700
    cleaned = deepcr_zoo.clean(CCDData(image, unit="electron", mask=core), SMALL)
    np.testing.assert_array_equal(cleaned.data[core], image[core])
    assert not deepcr_zoo.load(SMALL).mask(CCDData(image, unit="electron", mask=core))[core].any()


class Telescope(NDData):
    def __init__(self, data):
        super().__init__(data)


def test_a_class_that_cannot_be_made_anew_is_refused():
    with pytest.raises(InvalidImageError, match="a Telescope cannot be made anew: pass astropy"):
        deepcr_zoo.clean(Telescope(IMAGE), SMALL)


def test_models_for_different_units_do_not_mix():
    with pytest.warns(ModelWarning), pytest.raises(UsageError, match="takes electron, the mask model adu"):
        deepcr_zoo.clean(IMAGE, "decam", "ACS-WFC-F606W-2-32")


def test_a_model_of_the_wrong_task_is_refused():
    with pytest.raises(
        UsageError, match="mask='inpaint/ACS-WFC-F606W-3-32': expected the name of a model for the task mask"
    ):
        deepcr_zoo.clean(IMAGE, "inpaint/ACS-WFC-F606W-3-32")
    with pytest.raises(UsageError, match="expected the name of a model for the task inpaint"):
        deepcr_zoo.clean(IMAGE, SMALL, inpaint=deepcr_zoo.load(SMALL))
    with pytest.raises(UnknownModelError, match="inpaint/ACS-WFC: no such model"):
        deepcr_zoo.clean(IMAGE, SMALL, inpaint="ACS-WFC")
