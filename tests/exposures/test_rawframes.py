"""Raw frames of cameras that the table of instruments does not list."""

import numpy as np
import pytest
from astropy.io import fits

from deepcr_zoo import clean_file
from deepcr_zoo.errors import InvalidFileError, UsageError
from deepcr_zoo.exposures.reading import read_exposure
from deepcr_zoo.exposures.readingoptions import ReadingOptions
from tests.fitsfiles import ACS, scene, science, write
from tests.registries import SMALL

LIT, _ = scene(shape=(64, 96))
OVERSCAN = 12  # columns or rows


def frame(along="columns", bias=1000):
    """Counts of a frame whose overscan lies behind its last columns or rows."""
    wide = np.pad(LIT, ((0, 0), (0, OVERSCAN)) if along == "columns" else ((0, OVERSCAN), (0, 0)))
    return np.rint(np.random.default_rng(1).normal(0, 3, wide.shape) + np.clip(wide, 0, None) + bias).astype(np.uint16)


COLUMNS = {"DATASEC": "[1:96,1:64]", "BIASSEC": "[97:108,1:64]"}
ROWS = {"TRIMSEC": "[1:96,1:64]", "BIASSEC": "[ 1:96, 65:76 ]"}


def read(path, **options):
    return read_exposure(path, ReadingOptions(**options))


@pytest.mark.parametrize(("along", "sections"), [("columns", COLUMNS), ("rows", ROWS)])
def test_the_bias_section_of_the_header_is_subtracted_and_told(along, sections, tmp_path):
    exposure = read(write(tmp_path / "x.fits", science(frame(along), "adu"), GAIN=1.5, **sections))
    (chip,) = exposure.chips
    assert chip.image_area.sum() == LIT.size
    assert chip.searched[:64, :96].mean() > 0.9
    assert not (chip.searched & ~chip.image_area).any()
    assert np.ma.median(chip.in_unit("electron")[:64, :96]) == pytest.approx(1.5 * np.median(LIT), abs=2)
    assert chip.overscan[0].size == chip.pixels.size - LIT.size
    assert any("bias measured in the overscan (BIASSEC=" in caution for caution in exposure.cautions)


def test_nothing_in_the_overscan_is_masked_or_repainted(tmp_path):
    counts = frame()
    counts[30, 100] = 20_000
    path = write(tmp_path / "x.fits", science(counts, "adu"), GAIN=1.5, **COLUMNS)
    clean_file(path, SMALL)
    assert not fits.getdata(tmp_path / "x_crmask.fits", "CRMASK")[:, 96:].any()
    np.testing.assert_array_equal(fits.getdata(tmp_path / "x_crclean.fits", "SCI")[:, 96:], counts[:, 96:])


def test_each_amplifier_has_its_own_bias_and_gain(tmp_path):
    halves = [
        science(frame(bias=bias), "adu", version, GAIN=gain, **COLUMNS)
        for version, bias, gain in ((1, 1000, 1.0), (2, 2500, 2.0))
    ]
    levels = [
        float(np.ma.median(chip.in_unit("electron")[:, :96])) / gain
        for chip, gain in zip(read(write(tmp_path / "x.fits", *halves)).chips, (1, 2), strict=True)
    ]
    assert levels == pytest.approx([np.median(LIT)] * 2, abs=2)


def test_overscan_is_what_lies_outside_the_data_section_if_asked(tmp_path):
    path = write(tmp_path / "x.fits", science(frame(), None), GAIN=1.5, DATASEC="[1:96,1:64]")
    with pytest.raises(InvalidFileError, match="give --bias overscan"):
        read(path)
    (chip,) = read(path, bias="overscan").chips
    assert float(chip.bias.flat[0]) == pytest.approx(1000, abs=1)
    with pytest.raises(InvalidFileError, match=r"no BIASSEC, DATASEC or TRIMSEC that shows an overscan: give --bias LEVEL"):
        read(write(tmp_path / "y.fits", science(frame(), "adu"), GAIN=1.5), bias="overscan")


@pytest.mark.parametrize("stale", ["[2049:2148,1:64]", "[97:108,1:65]", "UNKNOWN", "[97:108]", "[0:5,1:64]"])
def test_sections_that_do_not_fit_the_image_do_not_count(stale, tmp_path):
    keywords = {"BIASSEC": stale, "TRIMSEC": "[11:1533,4:1023]", "DATASEC": "[1:1568,1:1056]"}
    (chip,) = read(write(tmp_path / "x.fits", science(LIT, "adu", **keywords), GAIN=1.5)).chips
    assert chip.image_area is None


def test_pixels_without_a_value_do_not_count_for_the_bias(tmp_path):
    counts = frame().astype(np.float32)
    counts[:5, 96:] = np.nan
    keywords = {**ACS, "BLEVCORR": "PERFORM", **COLUMNS}
    (chip,) = read(write(tmp_path / "x_raw.fits", science(counts, "COUNTS"), **keywords)).chips
    assert float(chip.bias.flat[0]) == pytest.approx(1000, abs=1)
    counts[:, 96:] = np.nan
    with pytest.raises(InvalidFileError, match="its overscan holds no value: give --bias LEVEL"):
        read(write(tmp_path / "y_raw.fits", science(counts, "COUNTS"), **keywords))


def test_a_level_given_by_the_user_is_subtracted_from_any_frame_and_added_back(tmp_path):
    path = write(tmp_path / "x_raw.fits", science(frame()[:, :96], "COUNTS"), **{**ACS, "BLEVCORR": "PERFORM"})
    with pytest.raises(InvalidFileError, match=r"this readout of HST ACS/WFC stands is not known: give --bias"):
        read(path)
    exposure = read(path, bias=1000.0)
    assert any("does not say where the overscan is" in caution for caution in exposure.cautions)
    (chip,) = exposure.chips
    image = chip.in_unit("electron")
    assert np.ma.median(image) == pytest.approx(2 * np.median(LIT), abs=4)
    np.testing.assert_allclose(chip.from_unit(image.data, "electron", chip.searched), chip.pixels[chip.searched], rtol=1e-6)


def test_an_honest_unit_leads_to_a_result_as_a_false_one_did(tmp_path):
    path = write(tmp_path / "x.fits", science(frame()[:, :96], None))
    done = clean_file(path, SMALL, unit="counts", gain=1.5, bias=1000)
    assert 0.001 < done.fraction < 0.1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"unit": "Jy"}, "unit is 'Jy': expected one of ELECTRONS"),
        ({"gain": 0}, "gain is 0: expected e- per count"),
        ({"gain": "1.1,x"}, "gain is 1.1,x: expected e- per count"),
        ({"bias": "dark"}, "bias is dark: expected a level in counts, or overscan"),
        ({"bias": float("nan")}, "bias is nan: expected a level"),
        ({"exposure_time": 2e6}, "exposure_time is 2000000.0: expected seconds"),
        ({"exposure_time": -1}, "exposure_time is -1: expected seconds, 1e-06 to 1e"),
    ],
)
def test_a_wrong_option_is_wrong_usage_before_anything_is_read(options, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        clean_file(tmp_path / "nothing.fits", SMALL, **options)


def test_as_many_gains_as_images_are_expected(tmp_path):
    path = write(tmp_path / "x.fits", science(LIT, "adu"), science(LIT, "adu", 2))
    with pytest.raises(InvalidFileError, match="holds 2 images: expected one gain or as many, got 3"):
        clean_file(path, SMALL, gain="1,2,3")


def test_an_overscan_that_would_be_the_whole_frame_is_none(tmp_path):
    counts = np.random.default_rng(1).poisson(1000, (64, 96)).astype(np.uint16)
    path = write(tmp_path / "x.fits", science(counts, None), BIASSEC="[1:96,1:64]")
    with pytest.raises(InvalidFileError, match="where the bias level of this instrument stands is not known"):
        read_exposure(path)
    done = clean_file(path)  # by a network that needs no bias level
    assert done.status == "cleaned"
