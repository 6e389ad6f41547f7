"""Levels and scales that cannot be are named with their cause, and sound exposures are left alone."""

import numpy as np
import pytest
from astropy.io import fits

from deepcr_zoo import clean_file
from deepcr_zoo.errors import InvalidFileError
from deepcr_zoo.exposures.noisecheck import ReadNoise, level_cautions, level_problem, measure_background, read_noise_of
from deepcr_zoo.exposures.reading import read_exposure
from deepcr_zoo.exposures.readingoptions import ReadingOptions
from tests.fitsfiles import ACS, DECAM, science, write
from tests.registries import SMALL
from tests.scenes import star_field

SHAPE = (192, 192)


def frame(sky=39.8, read_noise=4.4, seed=1):
    """Electrons of an exposure of 400 s."""
    rng = np.random.default_rng(seed)
    return rng.poisson(sky, SHAPE) + rng.normal(0, read_noise, SHAPE)


SOUND = {
    "an exposure of 400 s": frame(),
    "a true short exposure": frame(sky=0.05),
    "a dark": frame(sky=2.0),
    "a faint frame in the ultraviolet": frame(sky=0.1, read_noise=3.0),
    "a bright sky": frame(sky=10_000),
    "sky subtracted": frame(sky=1000) - 1000,
    "sky subtracted, too much": frame(sky=200) - 300,
    "binned 4 x 4": frame(sky=640, read_noise=5),
    "integers of a gain of 7": np.round(frame() / 7) * 7,
    "sum of four": frame(1, 5, 1) + frame(1, 5, 2) + frame(1, 5, 3) + frame(1, 5, 4),
    "mean of two": (frame(seed=1) + frame(seed=2)) / 2,
    "stars": star_field(SHAPE, seed=3)[0],
}


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_frame_has_no_problem(name):
    assert level_problem(SOUND[name], None) is None


PEDESTAL = "seems to hold a pedestal"
RAW = [np.int16, np.uint16, np.int32, np.uint32, np.float32]
FAULTS = {
    "BZERO left over": (frame() + 32768, PEDESTAL),
    "bias of 300 counts, gain 2": (np.round(frame() / 2 + 300) * 2, PEDESTAL),
    "bias of 1000 counts": (frame() + 1000, PEDESTAL),
    "bias of 10,000 counts": (frame() + 10_000, PEDESTAL),
    "divided by the exposure time": (frame() / 400, "seems to be divided by its exposure time"),
    "multiplied by a setting": (frame() / 2 * 139, "gain or exposure time seem too large"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_level_or_scale_that_cannot_be_is_one_sentence_with_the_likely_cause(name):
    image, cause = FAULTS[name]
    problem = level_problem(image, None)
    assert cause in problem
    assert "check" in problem
    assert ". " not in problem


def test_pixels_that_are_not_usable_are_left_out():
    image, usable = frame(), np.ones(SHAPE, dtype=bool)
    image[:120] += 32768
    usable[:120] = False
    assert level_problem(image, usable) is None


def test_a_known_read_noise_finds_a_smaller_fault():
    assert level_problem(frame() / 5, None) is None
    assert "to be divided by its exposure time" in level_problem(frame() / 5, None, ReadNoise(3.0, 6.0))


def test_the_read_noise_of_hst_comes_from_its_header(tmp_path):
    noises = {f"READNSE{amplifier}": noise for amplifier, noise in zip("ABCD", (4.0, 4.2, 4.1, 4.5), strict=True)}
    path = write(tmp_path / "x_flc.fits", science(frame()), **ACS, **noises)
    found = read_noise_of(read_exposure(path).chips[0])
    assert 2 < found.least < 4.0
    assert 4.5 < found.most < 8


@pytest.mark.parametrize(
    ("pixels", "keywords", "unit", "cause"),
    [
        (frame() + 32768, {}, "ELECTRONS", PEDESTAL),
        (frame() / 400, {"EXPTIME": 1.0}, "ELECTRONS/S", "seems to be divided by its exposure time"),
        (np.round(frame() / 2 + 1000).astype(np.int32), {"ATODGAIN": 2.0}, "COUNTS", PEDESTAL),
        (np.round(frame() / 2 + 2500).astype(np.uint32), {"ATODGAIN": 2.0}, "COUNTS", PEDESTAL),
        (np.round(frame() / 2 + 300).astype(np.int16), {"ATODGAIN": 2.0}, "COUNTS", PEDESTAL),
        ((frame() / 2 + 10_000).astype(np.float32), {"ATODGAIN": 2.0}, "COUNTS", PEDESTAL),
        *((np.round(frame() + 300).astype(kind), {"ATODGAIN": 1.0}, "COUNTS", PEDESTAL) for kind in RAW),
        ((frame() + frame(seed=2) + frame(seed=3) + frame(seed=4) + frame(seed=5)) / 5, {}, "ELECTRONS", None),
        *((np.round(frame(sky)).astype(np.int16), {"ATODGAIN": 1.0}, "COUNTS", None) for sky in (0.5, 40, 4000)),
        (frame() / 2, {"ATODGAIN": 139.0}, "COUNTS", "gain or exposure time seem too large"),
        (frame(), {}, "ELECTRONS", None),
        (frame() / 400, {"EXPTIME": 400.0}, "ELECTRONS/S", None),
        (frame(sky=0.05) / 0.5, {"EXPTIME": 0.5}, "ELECTRONS/S", None),
    ],
)
def test_cleaning_a_file_says_so_in_result_and_history(pixels, keywords, unit, cause, tmp_path):
    image = pixels.astype(np.float32) if pixels.dtype == np.float64 else pixels
    path = write(tmp_path / "x_flc.fits", science(image, unit), **{**ACS, **keywords})
    done = clean_file(path, model=SMALL, inpaint="none")
    found = [caution for caution in done.cautions if "noise of the background" in caution]
    if cause is None:
        assert found == []
        return
    assert len(found) == 1
    assert cause in found[0]
    assert found[0].startswith("SCI,1: ")
    history = " ".join(str(line) for line in fits.getheader(done.outputs[0])["HISTORY"])
    assert cause in " ".join(history.split())
    assert cause in " ".join(clean_file(path, model=SMALL, inpaint="none", overwrite=True).cautions)
    assert clean_file(path, model=SMALL, inpaint="none").status == "finished"


def test_a_gain_that_no_camera_has_is_refused(tmp_path):
    for gain in (1e300, 1e-300, 1e5):
        path = write(tmp_path / "x_flc.fits", science(frame().astype(np.float32), "COUNTS"), **{**ACS, "ATODGAIN": gain})
        with pytest.raises(InvalidFileError, match=r"ATODGAIN is .* e- per count, which is implausible: expected 0.001"):
            clean_file(path, model=SMALL)


@pytest.mark.parametrize("chips", [1, 2])
def test_an_implausible_gain_that_nothing_needs_is_one_caution(chips, tmp_path):
    images = [science(np.round(frame(seed=one)).astype(np.float32), "COUNTS", version=one) for one in range(1, chips + 1)]
    path = write(tmp_path / "x.fits", *images, **{**DECAM, "ARAWGAIN": 2000.0})
    done = clean_file(path, inpaint="none")  # the network takes counts
    (caution,) = [one for one in done.cautions if "implausible" in one]
    assert caution.startswith("ARAWGAIN is 2000 e- per count, which is implausible")
    assert "implausible" in " ".join(map(str, fits.getheader(done.outputs[0])["HISTORY"]))


@pytest.mark.parametrize("gain", [None, 2000.0])
def test_a_gain_is_no_matter_where_the_file_holds_electrons(gain, tmp_path):
    path = write(tmp_path / "x_flc.fits", science(frame() + 32768), **{**ACS, "ATODGAIN": gain, "CCDGAIN": gain})
    (caution,) = level_cautions(read_exposure(path).chips)
    assert PEDESTAL in caution


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("place", [np.s_[:, ::2], np.s_[::2], np.s_[:80, :80]])
def test_lines_without_a_value_leave_no_warning_and_no_caution(place, tmp_path):
    image = frame().astype(np.float32)
    image[place] = np.nan
    path = write(tmp_path / "x_flc.fits", science(image), **{**ACS, "EXPTIME": 300.0})
    assert clean_file(path, model=SMALL, inpaint="none").cautions == []


def test_every_second_column_without_a_value_still_shows_the_noise():
    image = frame()
    image[:, ::2] = np.nan
    assert measure_background(image, np.isfinite(image)).noise == pytest.approx(np.hypot(np.sqrt(39.8), 4.4), rel=0.06)


def test_a_chip_is_judged_by_the_same_pixels_as_its_image(tmp_path):
    """A large chip in counts, with DQ flags and a bias level that is subtracted."""
    rng = np.random.default_rng(2)
    shape = (900, 1100)
    counts = (rng.poisson(40, shape) + rng.normal(0, 5, shape) + 5000) / 2 + 300
    flags = rng.choice([0, 256], size=shape, p=[0.9, 0.1]).astype(np.int16)
    counts[flags > 0] = 60_000
    hdus = science(counts.astype(np.float32), "COUNTS"), fits.ImageHDU(flags, name="DQ", ver=1)
    path = write(tmp_path / "x_flc.fits", *hdus, **{**ACS, "ATODGAIN": 2.0})
    (chip,) = read_exposure(path, ReadingOptions(bias=300.0)).chips
    (caution,) = level_cautions([chip])
    assert "bad" not in vars(chip)  # no work on the whole chip
    image = chip.in_unit("electron")
    assert caution == f"SCI,1: {level_problem(image.data, ~image.mask)}"
    assert "its level of 5,0" in caution


def test_an_exposure_time_that_cannot_be_is_refused_where_it_is_needed(tmp_path):
    image = frame().astype(np.float32)
    rate = write(tmp_path / "rate_flc.fits", science(image / 400, "ELECTRONS/S"), **{**ACS, "EXPTIME": 1e300})
    with pytest.raises(InvalidFileError, match=r"EXPTIME is 1e\+300: give exposure_time=SECONDS"):
        clean_file(rate, model=SMALL)
    total = write(tmp_path / "total_flc.fits", science(image), **{**ACS, "EXPTIME": 1e300})
    assert clean_file(total, model=SMALL, inpaint="none").rate is None


@pytest.mark.parametrize(("level", "is_wrong"), [(-32_768, True), (-2500, True), (-100, False), (0, False)])
def test_a_background_far_below_zero_is_noticed(level, is_wrong):
    image = np.random.default_rng(1).normal(level, 8, (256, 256))
    problem = level_problem(image, None)
    assert ("below zero: BZERO was lost" in (problem or "")) == is_wrong
