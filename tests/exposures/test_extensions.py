"""Which images of a file are exposures."""

import numpy as np
import pytest
from astropy.io import fits

from deepcr_zoo import clean_file
from deepcr_zoo.errors import InvalidFileError
from deepcr_zoo.exposures.reading import read_exposure
from deepcr_zoo.exposures.readingoptions import ReadingOptions
from tests.fitsfiles import ACS, SHAPE, scene, science, write
from tests.registries import SMALL

ELECTRONS, _ = scene()
OTHER, _ = scene(seed=2)


def image(name="", data=ELECTRONS, unit="ELECTRONS", **keywords):
    return fits.ImageHDU(data, fits.Header({"BUNIT": unit, **keywords}), name=name)


def chosen(path, *extension):
    return [chip.hdu for chip in read_exposure(path, ReadingOptions(extension=extension)).chips]


@pytest.mark.parametrize(
    ("wishes", "found"),
    [
        (["1"], [1]),
        (["3", "2"], [3, 2]),
        (["VIDINP1"], [1]),
        (["VidInp*"], [1, 2, 3]),
        (["VidInp1", "VidInp*"], [1, 2, 3]),
        (["SCI,2"], [5]),
        (["SCI"], [4, 5]),
    ],
)
def test_extensions_are_chosen_by_number_name_version_or_wildcard(wishes, found, tmp_path):
    hdus = [image(f"VidInp{number}") for number in (1, 2, 3)]
    path = write(tmp_path / "x.fits", *hdus, science(ELECTRONS, version=1), science(OTHER, version=2))
    assert chosen(path, *wishes) == found


@pytest.mark.parametrize(("wish", "row"), [("IMAGE,1", 10), ("IMAGE,2", 20), ("1", 10), ("3", 20)])
def test_a_chosen_image_has_its_own_quality_and_number(wish, row, tmp_path):
    hdus = []
    for version in (1, 2):
        flags = np.zeros(SHAPE, np.int16)
        flags[10 * version] = 4
        hdus += [fits.ImageHDU(ELECTRONS, fits.Header({"BUNIT": "ELECTRONS"}), "IMAGE", ver=version)]
        hdus += [fits.ImageHDU(flags, name="DQ", ver=version)]
    path = write(tmp_path / "x.fits", *hdus)
    (chip,) = read_exposure(path, ReadingOptions(extension=(wish,))).chips
    assert np.flatnonzero(chip.bad.all(axis=1)).tolist() == [row]
    assert chip.version == row // 10


def test_images_of_one_number_are_numbered_by_their_place(tmp_path):
    path = write(tmp_path / "x.fits", image("A", EXTVER=1), image("B", OTHER, EXTVER=1))
    assert [chip.version for chip in read_exposure(path, ReadingOptions(extension=("A", "B"))).chips] == [1, 2]
    assert [chip.hdu for chip in read_exposure(path, ReadingOptions(extension=("*",))).chips] == [1, 2]


def test_one_choice_is_one_product_of_that_extension(tmp_path):
    path = write(tmp_path / "x.fits", image("A"), image("B", OTHER))
    clean_file(path, SMALL, extension="B")
    with fits.open(tmp_path / "x_crclean.fits") as copy:
        np.testing.assert_array_equal(copy["A"].data, ELECTRONS)
        assert (copy["B"].data != OTHER).any()


@pytest.mark.parametrize("wish", ["7", "NO", "SCI,9"])
def test_an_extension_that_is_not_there_is_an_error_that_lists_those_there_are(wish, tmp_path):
    path = write(tmp_path / "x.fits", image("A"), image("B", OTHER))
    with pytest.raises(InvalidFileError, match=rf"has no extension {wish}: expected one of A \(64 x 96\), B \(64 x 96\)"):
        chosen(path, wish)


def test_a_preview_in_the_primary_is_not_taken_for_the_image(tmp_path):
    fits.HDUList([fits.PrimaryHDU(np.ones((20, 26), np.float32)), image()]).writeto(tmp_path / "x.fits")
    with pytest.raises(InvalidFileError, match=r"2 images, 0 \(20 x 26\), 1 \(64 x 96\).*give --extension 0 or 1"):
        read_exposure(tmp_path / "x.fits")
    assert chosen(tmp_path / "x.fits", "1") == [1]


def test_a_primary_beside_a_smaller_image_is_the_exposure(tmp_path):
    primary = fits.PrimaryHDU(ELECTRONS, fits.Header({"BUNIT": "ELECTRONS"}))
    fits.HDUList([primary, image(data=np.ones((5, 5), np.float32))]).writeto(tmp_path / "x.fits")
    assert chosen(tmp_path / "x.fits") == [0]


@pytest.mark.parametrize("name", ["STAT", "BPM", "IVAR", "VAR", "WEIGHT", "APERTURE", "CAT", "MASK", "UNCERT"])
def test_an_image_beside_its_error_or_mask_is_the_exposure(name, tmp_path):
    beside = fits.ImageHDU(np.zeros(SHAPE, np.uint8), name=name)
    assert chosen(write(tmp_path / "x.fits", image("DATA"), beside)) == [1]
    assert chosen(write(tmp_path / "y.fits", beside, image("DATA"))) == [2]


def test_images_without_a_common_name_are_asked_for_once_with_everything_else_that_is_missing(tmp_path):
    hdus = [fits.ImageHDU(np.full(SHAPE, 1000, np.uint16), name=f"VidInp{number}") for number in (1, 2)]
    with pytest.raises(InvalidFileError) as refused:
        clean_file(write(tmp_path / "x.fits", *hdus))
    advice = "'deepcr-zoo instrument new' describes the camera for all its files"
    assert str(refused.value).endswith(f'give extension="VIDINP*"; {advice}')
    with pytest.raises(InvalidFileError) as refused:
        clean_file(tmp_path / "x.fits", SMALL)
    assert str(refused.value).endswith(f'give extension="VIDINP*", bias=LEVEL, gain=E_PER_COUNT; {advice}')
    supplied = {"extension": "VidInp*", "bias": 900, "gain": [1.5, 1.6], "model": SMALL}
    assert clean_file(tmp_path / "x.fits", **supplied).status == "cleaned"


def test_axes_of_length_one_are_kept_in_the_copy(tmp_path):
    cube = science(ELECTRONS[None])
    flags = fits.ImageHDU(np.zeros((1, *SHAPE), np.int16), name="DQ", ver=1)
    clean_file(write(tmp_path / "x_flc.fits", cube, flags, **ACS), SMALL)
    clean_file(write(tmp_path / "y_flc.fits", science(ELECTRONS), **ACS), SMALL)
    with fits.open(tmp_path / "x_flc_crclean.fits") as copy, fits.open(tmp_path / "y_flc_crclean.fits") as plain:
        assert copy["SCI"].data.shape == copy["DQ"].data.shape == (1, *SHAPE)
        np.testing.assert_array_equal(copy["SCI"].data[0], plain["SCI"].data)
        np.testing.assert_array_equal(copy["DQ"].data[0], plain["DQ"].data)
    assert fits.getdata(tmp_path / "x_flc_crmask.fits", "CRMASK").shape == SHAPE


def test_a_preview_in_colours_does_not_count_as_an_image(tmp_path):
    preview = fits.PrimaryHDU(np.zeros((20, 26, 3), np.uint8))
    fits.HDUList([preview, image()]).writeto(tmp_path / "x.fits")
    assert chosen(tmp_path / "x.fits") == [1]


def test_a_cube_is_refused(tmp_path):
    path = write(tmp_path / "x.fits", science(np.stack([ELECTRONS, OTHER])))
    with pytest.raises(
        InvalidFileError, match=r"has the shape \(2, 64, 96\): expected an image of two axes: save the plane"
    ):
        read_exposure(path)
