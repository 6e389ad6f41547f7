"""Descriptions of cameras, proposed from headers and pixels of their files."""

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from deepcr_zoo.documents import as_short_yaml, parse_document
from deepcr_zoo.errors import InvalidFileError, UsageError
from deepcr_zoo.exposures.describing import check_new, describe_camera
from deepcr_zoo.exposures.inspection import gain_from_noise, gain_of_pair, inspect
from deepcr_zoo.exposures.missing import MissingFactsError
from deepcr_zoo.exposures.reading import read_exposure
from deepcr_zoo.exposures.readingoptions import ReadingOptions
from deepcr_zoo.zoo.instruments import Instrument
from tests.conftest import CHECKOUT
from tests.described import describe, settings_of
from tests.fitsfiles import acs_flc
from tests.groundframes import BIAS, GAIN, OVERSCAN, SHAPE, SKY, counts, field, write_frame

LIGHT = f"[1:{SHAPE[1]},1:{SHAPE[0]}]"
FRAMES = CHECKOUT.parent / "shared" / "data" / "frames"


def described(tmp_path, settings=(), **changes):
    paths = [tmp_path / f"{number}.fits" for number in (1, 2)]
    for number, path in enumerate(paths):
        write_frame(path, 1, number, **changes)
    return describe_camera(paths, None, settings)


def test_a_header_with_the_usual_keywords_gives_a_description_that_reads_its_files(tmp_path):
    found = described(tmp_path)
    camera = found.instrument
    assert camera.name == "Test 1.0m TestCam"
    assert camera.recognise == {"TELESCOP": "Test 1.0m", "INSTRUME": "TestCam"}
    assert (camera.gain_keywords, camera.gain_electron_per_count) == (["GAIN"], GAIN)
    assert (camera.read_noise_keywords, camera.read_noise_electron) == (["RDNOISE"], 6.0)
    assert (camera.filter_keywords, camera.target_keywords, camera.time_keywords) == (["FILTER"], ["TARGET"], ["DATE-OBS"])
    assert [one.model_dump() for one in camera.amplifiers] == [{"image": "TRIMSEC", "bias": "BIASSEC", "gain": None}]
    assert camera.chip_shape == list(SHAPE)
    assert sorted(found.guessed) == ["saturation_count", "unit_if_absent"]
    assert sorted(found.missing) == ["pixel_scale_arcsec", "pixel_size_um"]
    assert found.source("gain_keywords") == "header of 1.fits and 1 more: GAIN 1.8"
    (chip,) = inspect(read_exposure(tmp_path / "1.fits", ReadingOptions(instrument=camera)))
    assert chip.background.level * GAIN == pytest.approx(SKY, rel=0.02)
    assert chip.bias_count == (pytest.approx(BIAS, abs=1),)
    assert parse_document(as_short_yaml(camera), Instrument, "it") == camera


@pytest.mark.parametrize(
    ("given", "field", "value"),
    [
        ({"GAIN": None, "EGAIN": 1.8}, "gain_keywords", ["EGAIN"]),
        ({"GAIN": 100, "EGAIN": 1.8}, "gain_keywords", ["EGAIN"]),
        ({"GAIN": 0.55, "HIERARCH ESO DET OUT1 CONAD": 1.8}, "gain_keywords", ["ESO DET OUT1 CONAD"]),
        ({"RDNOISE": None, "READNOIS": 6.0}, "read_noise_keywords", ["READNOIS"]),
        ({"RDNOISE": None, "ENOISE": 6.0}, "read_noise_keywords", ["ENOISE"]),
        ({"EXPTIME": None, "ITIME": 300.0}, "exposure_time_keywords", ["ITIME"]),
        ({"EXPTIME": None, "EXPOSURE": 300.0}, "exposure_time_keywords", ["EXPOSURE"]),
        ({"FILTER": None, "FILTNAM": "R"}, "filter_keywords", ["FILTNAM"]),
        ({"FILTER": None, "FILTER1": "Clear", "FILTER2": "R"}, "filter_keywords", ["FILTER1", "FILTER2"]),
        ({"TARGET": None, "OBJECT": "M 31"}, "target_keywords", ["OBJECT"]),
        ({"SATURATE": 50_000}, "saturation_count", 50_000.0),
        ({"SATURATE": 153_440.0}, "saturation_count", 65_535.0),
        ({"CCDSUM": "2 2"}, "chip_shape", [2 * SHAPE[0], 2 * SHAPE[1]]),
        ({"CCDXPIXE": 1.5e-5}, "pixel_size_um", 15.0),
        ({"XPIXSZ": 18.0, "XBINNING": 2, "YBINNING": 2}, "pixel_size_um", 9.0),
        ({"PIXSCALE": 0.4}, "pixel_scale_arcsec", 0.4),
        ({"DATE-OBS": "2026-01-01", "UT": "03:04:05"}, "time_keywords", ["DATE-OBS", "UT"]),
        (
            {"TRIMSEC": None, "DATASEC": f"[1:{SHAPE[1]},1:{SHAPE[0]}]", "BIASSEC": None},
            "amplifiers",
            [{"image": "DATASEC"}],
        ),
        ({"INSTRUME": "Cam [1]"}, "recognise", {"TELESCOP": "Test 1.0m", "INSTRUME": "Cam [[]1]"}),
    ],
)
def test_keywords_of_many_observatories_are_found(given, field, value, tmp_path):
    found = described(tmp_path, **given)
    shown = found.instrument.model_dump(exclude_none=True)[field]
    assert shown == value
    assert read_exposure(tmp_path / "1.fits", ReadingOptions(instrument=found.instrument)).instrument == found.instrument


@pytest.mark.parametrize(
    ("value", "name"), [("Bessel R", "Bessel_R"), ("R", "R"), ("g DECam SDSS c0001 4720.0 1520.0", "g"), ("g#782", "g#782")]
)
def test_filters_that_share_their_first_word_have_names_of_their_own(value, name, tmp_path):
    found = described(tmp_path, FILTER=value)
    assert read_exposure(tmp_path / "1.fits", ReadingOptions(instrument=found.instrument)).filter_name == name


def test_what_no_header_says_is_listed_and_the_rest_is_measured(tmp_path):
    found = described(tmp_path, GAIN=None, RDNOISE=None, FILTER=None)
    assert found.instrument.gain_electron_per_count == pytest.approx(GAIN, rel=0.15)
    assert found.instrument.read_noise_electron == pytest.approx(6.0, rel=0.2)
    assert {"gain_electron_per_count", "read_noise_electron", "filter_if_absent"} <= set(found.guessed)
    assert found.source("gain_electron_per_count").startswith("guessed: from level and noise of the background")
    assert "filter_keywords" in found.missing


def test_a_gain_that_is_a_setting_is_noticed_by_the_noise(tmp_path):
    (note,) = described(tmp_path, GAIN=5.0).notes[:1]
    assert "implies a gain of about 1.9" in note or "implies a gain of about 1.8" in note
    assert "the header has 5: it may be a setting" in note
    assert "may be a setting" not in "".join(described(tmp_path).notes)


def test_the_bias_level_comes_from_a_bias_frame_where_headers_show_no_overscan(tmp_path):
    no_overscan = {"TRIMSEC": None, "BIASSEC": None}
    found = described(tmp_path, **no_overscan)
    assert "give a bias frame too, or set bias_count=LEVEL" in found.missing["bias_count"]
    random = np.random.default_rng(3)
    header = fits.Header({"TELESCOP": "Test 1.0m", "INSTRUME": "TestCam", "EXPTIME": 0.0, "GAIN": 1.8})
    fits.PrimaryHDU(counts(np.zeros(SHAPE), random), header).writeto(tmp_path / "b.fits")
    found = describe_camera([tmp_path / "1.fits", tmp_path / "2.fits", tmp_path / "b.fits"])
    assert found.instrument.bias_count == pytest.approx(BIAS, abs=1)
    assert found.source("bias_count") == "median of the bias frame b.fits"
    assert "bias_count" not in found.missing
    (chip,) = inspect(read_exposure(tmp_path / "1.fits", ReadingOptions(instrument=found.instrument)))
    assert chip.bias_count == (pytest.approx(BIAS, abs=1),)


def test_two_levels_in_one_overscan_become_two_amplifiers(tmp_path):
    given = {"TRIMSEC": None, "DATASEC": LIGHT, "BIASSEC": None}
    write_frame(tmp_path / "1.fits", **given)
    middle = SHAPE[1] // 2
    with fits.open(tmp_path / "1.fits", mode="update") as hdus:
        hdus[0].data[:, middle : SHAPE[1]] += 200
        hdus[0].data[:, SHAPE[1] + OVERSCAN // 2 :] += 200
    found = describe_camera([tmp_path / "1.fits"])
    sections = [(one.image, one.bias) for one in found.instrument.amplifiers]
    assert sections == [("[1:144,1:256]", "[289:296,1:256]"), ("[145:288,1:256]", "[297:304,1:256]")]
    assert "two levels, 1000 and 1200" in found.source("amplifiers")
    (chip,) = read_exposure(tmp_path / "1.fits", ReadingOptions(instrument=found.instrument)).chips
    image = chip.in_unit("electron")[:, : SHAPE[1]]
    assert np.ma.median(image[:, :middle]) == pytest.approx(np.ma.median(image[:, middle:]), abs=4)


def test_amplifiers_with_keywords_of_their_own_are_found_and_read_each_with_its_bias_and_gain(tmp_path):
    half = SHAPE[1] // 2
    given = {"TRIMSEC": None, "BIASSEC": None, "GAIN": None, "GAINA": 1.8, "GAINB": 3.6}
    given |= {"DATASECA": f"[1:{half},1:{SHAPE[0]}]", "DATASECB": f"[{half + 1}:{SHAPE[1]},1:{SHAPE[0]}]"}
    given |= {"BIASSECA": f"[289:296,1:{SHAPE[0]}]", "BIASSECB": f"[297:304,1:{SHAPE[0]}]"}
    write_frame(tmp_path / "1.fits", **given)
    with fits.open(tmp_path / "1.fits", mode="update") as hdus:
        other = counts(field(1), np.random.default_rng(5), bias=1500, gain=3.6)
        hdus[0].data[:, half : SHAPE[1]] = other[:, half : SHAPE[1]]
        hdus[0].data[:, 296:] = other[:, 296:]
    found = describe_camera([tmp_path / "1.fits"])
    assert [one.gain for one in found.instrument.amplifiers] == ["GAINA", "GAINB"]
    (chip,) = read_exposure(tmp_path / "1.fits", ReadingOptions(instrument=found.instrument)).chips
    image = chip.in_unit("electron")
    assert not chip.image_area[:, SHAPE[1] :].any()
    for part in (image[:, :half], image[:, half : SHAPE[1]]):
        assert np.ma.median(part) == pytest.approx(np.median(field(1)), rel=0.02)
    mask = np.zeros(chip.pixels.shape, dtype=bool)
    mask[5, 5] = mask[5, 200] = True
    np.testing.assert_allclose(chip.from_unit(np.ma.getdata(image), "electron", mask), chip.pixels[mask], rtol=1e-5)
    (one,) = inspect(read_exposure(tmp_path / "1.fits", ReadingOptions(instrument=found.instrument)))
    assert one.bias_count == (pytest.approx(1000, abs=1), pytest.approx(1500, abs=1))


@pytest.mark.parametrize("kind", [np.float32, np.int32, np.int16])
def test_raw_frames_that_are_no_unsigned_integers_are_raw_by_their_sections(kind, tmp_path):
    write_frame(tmp_path / "1.fits", BUNIT="adu")
    with fits.open(tmp_path / "1.fits") as hdus:
        header, stored = hdus[0].header.copy(), hdus[0].data.astype(kind)
    fits.PrimaryHDU(stored, header).writeto(tmp_path / "1.fits", overwrite=True)
    found = describe_camera([tmp_path / "1.fits"])
    assert found.instrument.raw_when == {"BIASSEC": "*:*"}
    (chip,) = inspect(read_exposure(tmp_path / "1.fits", ReadingOptions(instrument=found.instrument)))
    assert chip.bias_count == (pytest.approx(BIAS, abs=1),)


def test_windowed_frames_belong_to_the_camera_and_the_largest_frame_is_the_full_one(tmp_path):
    write_frame(tmp_path / "1.fits")
    write_frame(tmp_path / "2.fits", TRIMSEC="[1:288,1:100]", BIASSEC="[289:304,1:100]")
    with fits.open(tmp_path / "2.fits") as hdus:
        fits.PrimaryHDU(hdus[0].data[:100], hdus[0].header).writeto(tmp_path / "3.fits")
    found = describe_camera([tmp_path / "1.fits", tmp_path / "3.fits"])
    assert found.instrument.chip_shape == list(SHAPE)
    assert any("the size of frames varies (256 x 288, 100 x 288)" in note for note in found.notes)
    (chip,) = inspect(read_exposure(tmp_path / "3.fits", ReadingOptions(instrument=found.instrument)))
    assert (chip.lit, len(chip.bias_count)) == (100 * 288, 1)


def test_sections_that_are_no_part_of_a_frame_are_named_with_the_way_out(tmp_path, monkeypatch):
    describe(settings_of(tmp_path / "settings", monkeypatch) / "my.yaml")
    write_frame(tmp_path / "1.fits", BIASSEC="[3086:3100,1:2048]")
    with pytest.raises(MissingFactsError, match="TRIMSEC and BIASSEC, as My camera is described, is no section of"):
        read_exposure(tmp_path / "1.fits")


def test_facts_that_a_person_gives_replace_those_of_headers(tmp_path):
    settings = ["pixel_scale_arcsec=0.4", "gain_electron_per_count=2.0", "gain_keywords=[]"]
    found = described(tmp_path, settings)
    assert (found.instrument.pixel_scale_arcsec, found.instrument.gain_electron_per_count) == (0.4, 2.0)
    assert found.source("pixel_scale_arcsec") == "given by a person"
    assert list(found.missing) == ["pixel_size_um"]


@pytest.mark.parametrize(
    "setting", ["pixel_scale=0.4", "pixel_scale_arcsec", "pixel_scale_arcsec=wide", "chip_shape=[", "=1"]
)
def test_a_wrong_setting_is_named_in_one_sentence(setting, tmp_path):
    with pytest.raises((UsageError, Exception)) as raised:
        described(tmp_path, [setting])
    assert setting.partition("=")[0] in str(raised.value)
    assert type(raised.value).__module__ == "deepcr_zoo.errors"


def test_files_of_several_cameras_are_refused(tmp_path):
    write_frame(tmp_path / "1.fits")
    write_frame(tmp_path / "2.fits", INSTRUME="Other")
    with pytest.raises(UsageError, match="INSTRUME is TestCam, Other"):
        describe_camera([tmp_path / "1.fits", tmp_path / "2.fits"])


def test_a_camera_that_no_header_names_needs_a_name_and_is_recognised_by_its_size(tmp_path):
    nameless = {"TELESCOP": None, "INSTRUME": None}
    with pytest.raises(UsageError, match="no header names the camera"):
        described(tmp_path, **nameless)
    found = describe_camera([tmp_path / "1.fits"], "My camera")
    assert found.instrument.recognise == {"NAXIS1": "304", "NAXIS2": "256"}
    assert "recognised by the size of its frames alone" in found.notes[0]


def test_a_camera_that_is_described_already_is_not_described_again(tmp_path, monkeypatch):
    where = describe(settings_of(tmp_path / "settings", monkeypatch) / "my.yaml")
    found = described(tmp_path)
    with pytest.raises(UsageError, match=r"1\.fits: is of My camera, which .*my\.yaml describes"):
        check_new(found.instrument, tmp_path / "new.yaml", [tmp_path / "1.fits"], None)
    check_new(found.instrument, where, [tmp_path / "1.fits"], where)
    flc = acs_flc(tmp_path / "x_flc.fits")
    with pytest.raises(UsageError, match=r"is of HST ACS/WFC, which zoo/instruments\.yaml describes"):
        check_new(describe_camera([flc]).instrument, tmp_path / "new.yaml", [flc], None)


def test_a_file_that_is_no_exposure_is_named(tmp_path):
    (tmp_path / "a.fits").write_text("hello")
    with pytest.raises(InvalidFileError, match=r"a\.fits: is a text"):
        describe_camera([tmp_path / "a.fits"])


def test_the_gain_follows_from_photon_noise_and_from_two_flats(tmp_path):
    assert gain_from_noise(20_000, np.hypot(np.sqrt(20_000 / 1.8), 3), 3) == pytest.approx(1.8)
    assert gain_from_noise(10, 3.2, 3) is None  # read noise dominates
    random = np.random.default_rng(7)
    uneven = 30_000 * random.normal(1, 0.02, SHAPE)
    for name in ("a", "b"):
        write_frame(tmp_path / f"{name}.fits", IMAGETYP="flat")
        with fits.open(tmp_path / f"{name}.fits", mode="update") as hdus:
            hdus[0].data = counts(uneven, random)
    camera = described(tmp_path).instrument
    flats = [read_exposure(tmp_path / f"{name}.fits", ReadingOptions(instrument=camera)).chips[0] for name in ("a", "b")]
    assert gain_of_pair(*flats) == pytest.approx(1.8, rel=0.1)  # the noise of the darkest pixels is a little low
    assert inspect(read_exposure(tmp_path / "a.fits", ReadingOptions(instrument=camera)))[0].gain_by_noise < 1.0


def asked_for(path, camera):
    """The options that reading a file needs beside a description; none if it can be read."""
    try:
        exposure = read_exposure(path, ReadingOptions(instrument=camera))
    except MissingFactsError as error:
        return {one.option.split()[0] for one in error.missing}
    return set() if all(chip.background is not None for chip in inspect(exposure)) else {"background"}


REAL = {
    "EFOSC*": (1.1, {"pixel_size_um": 15.0, "bias_count": 219.0}),
    "LB.*": (None, {"every_image_is_a_chip": True, "chips": 4}),
    "StarGate*": (None, {"pixel_size_um": 8.6}),
    "a8280271*": (1.9, {"chip_shape": [520, 512]}),
    "b2*": (1.0, {"chip_shape": [350, 2048]}),
    "r53*": (1.0, {"chip_shape": [250, 1200]}),
    "mef*": (6.265, {"chips": 4, "saturation_count": 40_000.0}),
    "r2324*": (1.2, {"detector": "EEV12"}),
    "v_s*": (2.45, {"pixel_scale_arcsec": 0.442}),
    "banzai*": (1.0, {"pixel_size_um": 9.0}),
    "frame-r*": (None, {"filter_keywords": ["FILTER"]}),
    "j6g*": (4.0, {"detector": "HRC"}),
}


@pytest.mark.slow
@pytest.mark.parametrize("pattern", REAL)
def test_real_frames_give_a_description_that_can_be_read_and_say_what_is_missing(pattern):
    paths = sorted(Path(FRAMES).glob(pattern))
    if not paths:
        pytest.skip("shared/data/frames is absent: real exposures of other cameras are not part of the project")
    gain, facts = REAL[pattern]
    found = describe_camera(paths)
    assert found.instrument.gain_electron_per_count == gain
    assert {name: getattr(found.instrument, name) for name in facts} == facts
    assert parse_document(as_short_yaml(found.instrument), Instrument, pattern) == found.instrument
    if gain is None:
        assert "gain_electron_per_count" in found.missing
    options = {"bias_count": "--bias", "unit_if_absent": "--unit", "gain_electron_per_count": "--gain"}
    assert asked_for(paths[-1], found.instrument) <= {options[name] for name in found.missing if name in options}
