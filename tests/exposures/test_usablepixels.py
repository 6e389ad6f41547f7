"""Pixels that are searched for cosmic rays, and those that are left alone, in whole files."""

import itertools
import warnings
from functools import cache

import numpy as np
import pytest
from astropy import units
from astropy.io import fits
from astropy.nddata import CCDData
from scipy import ndimage

import deepcr_zoo
from deepcr_zoo.errors import ImageWarning, InvalidFileError, UsageError
from deepcr_zoo.exposures.reading import read_exposure
from deepcr_zoo.exposures.readingoptions import ReadingOptions
from deepcr_zoo.exposures.usablepixels import QualityBits, bad_pixels, combined, saturated_pixels
from deepcr_zoo.models.images import near
from tests.fitsfiles import ACS, SHAPE, STIS, scene, science, write
from tests.registries import SMALL
from tests.scenes import star_field

ELECTRONS, COSMIC_RAYS = scene()
STAR = np.s_[20:26, 30:36]


def flagged(bit, places=STAR):
    flags = np.zeros(SHAPE, dtype=np.int16)
    flags[places] = bit
    return fits.ImageHDU(flags, name="DQ", ver=1)


def saturated_star():
    """A star whose core is flat at the full well and bleeds along its columns, and its saturated pixels."""
    image, core = ELECTRONS.copy(), np.zeros(SHAPE, dtype=bool)
    core[24:30, 40:45] = core[10:45, 42] = True
    image[core] = 70_000
    return image, core


def chip_of(path, **options):
    given = {"extension": None, "unit": None, "gain": None, "bias": None, "exposure_time": None, "ignore_dq": None}
    (chip,) = read_exposure(path, ReadingOptions.parse(**{**given, **options})).chips
    return chip


def mask_of(path, **options):
    deepcr_zoo.clean_file(path, SMALL, **options)
    return fits.getdata(path.with_name(path.name.replace(".fits", "_crmask.fits")), "CRMASK").astype(bool)


def test_a_pixel_is_bad_without_a_value_or_with_a_bad_flag():
    pixels = np.array([1.0, np.nan, np.inf, -1e30, 3e38, -1e10, 5.0, 5.0, 5.0], dtype=np.float32)
    flags = np.array([0, 0, 0, 0, 0, 0, 4, 16, 256])
    bad = bad_pixels(pixels, flags, QualityBits(usable=16, saturated=256))
    assert bad.tolist() == [False, True, True, True, True, True, True, False, False]
    assert saturated_pixels(pixels, flags, QualityBits(16, 256), level=4.0)[[0, 6, 8]].tolist() == [False, True, True]


def test_saturation_reaches_three_pixels_in_all_directions():
    saturated = np.zeros((11, 11), dtype=bool)
    saturated[5, 5] = True
    assert near(saturated).sum() == 49
    assert not near(np.zeros((3, 3), dtype=bool)).any()


@pytest.mark.parametrize(("bit", "value"), [(256, np.nan), (256 | 4, 70_000), (256 | 4, -1e30)])
def test_a_saturated_core_that_is_bad_too_protects_its_neighbours(bit, value, tmp_path):
    image, core = saturated_star()
    image[core] = value
    chip = chip_of(write(tmp_path / "x_flc.fits", science(image), flagged(bit, core), **ACS))
    assert not chip.searched[near(core)].any()


def test_each_amplifier_saturates_above_its_own_bias(tmp_path):
    counts = np.full((2068, 4144), 2000, dtype=np.uint16)
    counts[:, 18:24], counts[:, 4120:4126] = 1900, 5900
    counts[:, 2072:4120] = 6000
    counts[500, 100], counts[500, 3000] = 1900 + 43_000, 5900 + 43_000  # 86,000 e- at a gain of 2
    keywords = {**ACS, "BLEVCORR": "PERFORM"}
    chip = chip_of(write(tmp_path / "x_raw.fits", science(counts, "COUNTS", version=2), **keywords))
    assert np.argwhere(chip.saturated).tolist() == [[500, 100], [500, 3000]]


@pytest.mark.parametrize("side", [1, 2, 3, 4, 7])
def test_nearness_is_that_of_a_square_of_any_side(side):
    pixels = np.random.default_rng(1).random((30, 40)) < 0.02
    np.testing.assert_array_equal(near(pixels, side), ndimage.maximum_filter(pixels, size=side))


@pytest.mark.parametrize("bit", [256, 2048])
def test_a_saturated_star_and_its_neighbourhood_are_neither_flagged_nor_repainted(bit, tmp_path):
    image, core = saturated_star()
    path = write(tmp_path / "x_flc.fits", science(image), flagged(bit, core), **ACS)
    unaware = write(tmp_path / "y_flc.fits", science(image), flagged(0, core), **ACS)
    assert mask_of(unaware)[core].any()  # without the flags the network takes part of it for cosmic rays
    mask = mask_of(path)
    assert not mask[near(core)].any()
    assert mask[COSMIC_RAYS & ~near(core)].mean() > 0.5
    with fits.open(tmp_path / "x_flc_crclean.fits") as copy:
        np.testing.assert_array_equal(copy["SCI"].data[near(core)], image[near(core)])
        assert not (copy["DQ"].data[near(core)] & 4096).any()
        assert copy["SCI"].header["CRNPIX"] == mask.sum()


def test_pixels_above_the_detectors_level_are_saturated_without_a_flag(tmp_path):
    image = ELECTRONS.copy()
    image[STAR] = 84_800
    assert chip_of(write(tmp_path / "x_flc.fits", science(image), **ACS)).saturated.sum() == 36
    stis = {**STIS, "BLEVCORR": "COMPLETE", "CCDGAIN": 4}
    # the level of this detector holds at a gain of 1: at 4 its converter goes further
    assert not chip_of(write(tmp_path / "y.fits", science(image / 4, "COUNTS"), **stis)).saturated.any()
    assert chip_of(write(tmp_path / "z.fits", science(image, "COUNTS"), **{**stis, "CCDGAIN": 1})).saturated.any()


def test_the_header_of_another_camera_gives_its_level_in_its_own_unit(tmp_path):
    image = ELECTRONS.copy()
    image[STAR] = 30_000
    for level, saturated in ((30_000.0, 36), (30_001.0, 0), (1e-3, 0), ("30000", 36)):
        path = write(tmp_path / "x.fits", science(image, "adu"), GAIN=2.0, SATURATE=level)
        assert chip_of(path).saturated.sum() == saturated


def test_the_end_of_a_16_bit_converter_is_saturation(tmp_path):
    counts = np.full(SHAPE, 1000, dtype=np.uint16)
    counts[STAR] = 65_535
    chip = chip_of(write(tmp_path / "x.fits", science(counts, "adu"), GAIN=1.0), bias=900)
    assert (chip.saturated.sum(), chip.searched[0, 0], chip.searched[22, 32]) == (36, True, False)


@pytest.mark.parametrize("name", ["MASK", "BPM"])
def test_masked_pixels_are_left_alone(name, tmp_path):
    bad = np.zeros(SHAPE, dtype=np.uint8)
    bad[COSMIC_RAYS] = 1
    path = write(tmp_path / "x.fits", science(ELECTRONS), fits.ImageHDU(bad, name=name, ver=1))
    assert not mask_of(path).any()
    assert mask_of(path, ignore_dq="all", overwrite=True)[COSMIC_RAYS].any()


def test_the_mask_of_ccddata_counts_as_much_in_a_file_as_in_python(tmp_path):
    hidden = CCDData(ELECTRONS, unit=units.electron, mask=COSMIC_RAYS)
    hidden.write(tmp_path / "x.fits")
    mask = mask_of(tmp_path / "x.fits")
    np.testing.assert_array_equal(mask, deepcr_zoo.load(SMALL).mask(hidden))
    assert not mask[COSMIC_RAYS].any()


def test_which_flags_count_depends_on_the_camera_and_on_the_user(tmp_path):
    def share(path, **options):
        return chip_of(path, **options).searched[STAR].mean()

    hot = write(tmp_path / "hot_flc.fits", science(ELECTRONS), flagged(16), **ACS)
    bad = write(tmp_path / "bad_flc.fits", science(ELECTRONS), flagged(4), **ACS)
    found_before = write(tmp_path / "cr_flc.fits", science(ELECTRONS), flagged(4096 | 8192), **ACS)
    foreign = write(tmp_path / "x.fits", science(ELECTRONS), flagged(1))
    assert [share(path) for path in (hot, bad, found_before, foreign)] == [1, 0, 1, 0]
    assert [share(path, ignore_dq="none") for path in (hot, bad, found_before)] == [0, 0, 0]
    assert [share(path, ignore_dq="all") for path in (hot, bad, foreign)] == [1, 1, 1]
    assert [share(found_before, ignore_dq=bits) for bits in ("16", "16,64", "none")] == [1, 1, 0]
    assert [share(bad, ignore_dq=bits) for bits in ("4", "16+4", "16,4", 4, [16, 4], 20, 16)] == [1, 1, 1, 1, 1, 1, 0]


def test_a_constant_dq_of_the_hst_pipelines_holds_for_every_pixel(tmp_path):
    constant = fits.ImageHDU(name="DQ", ver=1)
    constant.header["PIXVALUE"] = 4
    assert chip_of(write(tmp_path / "x_flc.fits", science(ELECTRONS), constant, **ACS)).bad.all()
    constant.header["PIXVALUE"] = 0
    assert not chip_of(write(tmp_path / "y_flc.fits", science(ELECTRONS), constant, **ACS)).bad.any()


@pytest.mark.parametrize("data", [np.zeros((5, 5), dtype=np.int16), np.zeros(SHAPE, dtype=np.float32)])
def test_a_dq_that_does_not_fit_is_an_error_with_a_way_out(data, tmp_path):
    path = write(tmp_path / "x_flc.fits", science(ELECTRONS), fits.ImageHDU(data, name="DQ", ver=1), **ACS)
    with pytest.raises(InvalidFileError, match=r"DQ extension holds .*: expected integers .*--ignore-dq all"):
        chip_of(path)
    assert chip_of(path, ignore_dq="all").searched.all()


def test_growing_the_mask_does_not_reach_pixels_that_are_left_alone(tmp_path):
    image, core = saturated_star()
    path = write(tmp_path / "x_flc.fits", science(image), flagged(256, core), **ACS)
    grown = mask_of(path, grow=3)
    assert not grown[near(core)].any()
    assert grown.sum() > 2 * COSMIC_RAYS.sum()


def test_products_of_an_earlier_format_are_told_by_it(tmp_path):
    path = write(tmp_path / "x_flc.fits", science(ELECTRONS), **ACS)
    for product in deepcr_zoo.clean_file(path, SMALL).outputs:
        with fits.open(product, mode="update") as hdus:
            hdus[0].header["CRFORMAT"] = 1
            del hdus[0].header["CROPTION"]
    with pytest.raises(deepcr_zoo.errors.OutputError, match=r"made otherwise .CRFORMAT is 1 there"):
        deepcr_zoo.clean_file(path, SMALL)


def test_options_that_change_the_result_remake_the_products(tmp_path):
    path = write(tmp_path / "x_flc.fits", science(ELECTRONS), flagged(4), **ACS)
    deepcr_zoo.clean_file(path, SMALL)
    assert deepcr_zoo.clean_file(path, SMALL).status == "finished"
    with pytest.raises(deepcr_zoo.errors.OutputError, match=r"made otherwise .CROPTION is '' there and 'ignore_dq all' now"):
        deepcr_zoo.clean_file(path, SMALL, ignore_dq="all")


@pytest.mark.parametrize("bits", ["hot", "-4", "16,", -1, [1.5, "x"]])
def test_bits_that_are_none_are_wrong_usage(bits, tmp_path):
    with pytest.raises(UsageError, match=r"ignore_dq is .*: expected DQ bits such as 64,16, or all or none"):
        deepcr_zoo.clean_file(tmp_path / "x.fits", SMALL, ignore_dq=bits)


def test_bits_are_combined_into_one_number():
    assert (combined([]), combined([16, 64, 16])) == (0, 80)


def test_flags_of_cosmic_rays_that_hide_pixels_are_a_caution(tmp_path):
    path = write(tmp_path / "x_flc.fits", science(ELECTRONS), flagged(4096, COSMIC_RAYS), **ACS)
    expected = f"{COSMIC_RAYS.sum():,} pixels carry cosmic-ray flags and were not searched"
    assert any(expected in caution for caution in deepcr_zoo.clean_file(path, SMALL, ignore_dq="none").cautions)
    assert not any("not searched" in one for one in deepcr_zoo.clean_file(path, SMALL, overwrite=True).cautions)


@cache
def bright_stars():
    """An image of bright stars, and where their cores are."""
    rows, columns = np.mgrid[:256, :256]
    image = np.random.default_rng(1).normal(50, 8, (256, 256))
    for row, column in itertools.product(range(20, 256, 50), repeat=2):
        image += 3e5 * np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / 8)
    return image.astype(np.float32), image > 40_000


def test_masked_cores_of_stars_change_no_mask_around_them(tmp_path):
    image, cores = bright_stars()
    model = deepcr_zoo.load("ACS-WFC-2-32")
    ccd = CCDData(image, unit="electron", mask=cores)
    ccd.write(tmp_path / "x.fits")
    done = deepcr_zoo.clean_file(tmp_path / "x.fits", "ACS-WFC-2-32")
    with warnings.catch_warnings():
        warnings.simplefilter("error", ImageWarning)
        mask = model.mask(ccd)
    assert (mask != model.mask(image) & ~cores).mean() < 2e-5
    np.testing.assert_array_equal(fits.getdata(done.outputs[0], "CRMASK"), mask)
    assert not any("touch areas" in caution for caution in done.cautions)


@pytest.mark.parametrize("lost", [0, np.nan])
def test_masks_around_hidden_cores_of_stars_without_their_values_are_a_caution(lost, tmp_path):
    image, cores = bright_stars()
    ccd = CCDData(np.where(cores, np.float32(lost), image), unit="electron", mask=cores)
    ccd.write(tmp_path / "x.fits")
    done = deepcr_zoo.clean_file(tmp_path / "x.fits", SMALL)
    assert any("touch areas that are not usable" in caution for caution in done.cautions)
    with pytest.warns(ImageWarning, match="touch areas that are not usable"):
        deepcr_zoo.clean(ccd, SMALL)


@pytest.mark.parametrize("excess", [300, 5000, 1e5])
def test_masked_hot_columns_and_pixels_are_replaced_from_their_neighbours(excess):
    sky, _ = star_field((128, 128), seed=1)
    masked = np.zeros(sky.shape, bool)
    masked[:, 50] = masked[::9, ::7] = True
    is_sky = ndimage.maximum_filter(sky, 9) < 100  # no star is near
    hot = np.ma.MaskedArray(sky + excess * (masked & is_sky), masked)
    np.testing.assert_array_equal(
        deepcr_zoo.load(SMALL).mask(hot), deepcr_zoo.load(SMALL).mask(np.ma.MaskedArray(sky, masked))
    )
