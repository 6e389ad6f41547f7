import gzip
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from astropy import units
from astropy.io import fits
from astropy.nddata import CCDData

from deepcr_zoo.errors import InvalidFileError, NotAnExposureError
from deepcr_zoo.exposures.fitsfiles import root_name
from deepcr_zoo.exposures.reading import read_exposure
from deepcr_zoo.exposures.readingoptions import ReadingOptions
from tests.fitsfiles import ACS, DECAM, SHAPE, STIS, WFPC2, acs_flc, scene, science, write

ELECTRONS, _ = scene()


def only_chip(path):
    (chip,) = read_exposure(path).chips
    return chip


def electrons_of(path):
    return np.asarray(only_chip(path).in_unit("electron"))


# What is read


def test_every_science_extension_is_read_in_the_order_of_extver(tmp_path):
    exposure = read_exposure(acs_flc(tmp_path / "x_flc.fits"))
    assert [(chip.hdu, chip.version) for chip in exposure.chips] == [(4, 1), (1, 2)]
    np.testing.assert_array_equal(exposure.chips[0].pixels, fits.getdata(exposure.path, ("SCI", 1)))
    assert exposure.instrument.name == "HST ACS/WFC"
    assert exposure.filter_name == "F606W"


def test_blanks_around_extname_do_not_matter(tmp_path):
    path = write(tmp_path / "x.fits", science(ELECTRONS), **ACS)
    data = path.read_bytes().replace(b"EXTNAME = 'SCI     '  ", b"EXTNAME = ' SCI      '")
    assert b"' SCI" in data
    path.write_bytes(data)
    assert only_chip(path).hdu == 1


@pytest.mark.parametrize(
    ("stored", "unit", "keywords"),
    [
        (ELECTRONS, "ELECTRONS", ACS),
        (ELECTRONS, "electron", {}),
        (ELECTRONS.astype(np.float64), "ELECTRONS", ACS),
        (ELECTRONS / 512, "ELECTRONS/S", ACS),
        (ELECTRONS / 2, "COUNTS", ACS),
        (ELECTRONS / 2 / 512, "COUNTS/S", ACS),
        (ELECTRONS / 4, "COUNTS", {**STIS, "ATODGAIN": 4.0}),
        (ELECTRONS / 4, "COUNTS", {**STIS, "ATODGAIN": 0.0, "CCDGAIN": 4}),
        (ELECTRONS / 4, "adu", {"GAIN": 4.0}),
        (ELECTRONS / 4, "adu", {"EGAIN": 4.0, "GAIN": 1.0}),
        (ELECTRONS / 4, None, {**DECAM, "ARAWGAIN": 4.0}),
    ],
    ids=str,
)
def test_every_unit_becomes_the_same_electrons_and_back(stored, unit, keywords, tmp_path):
    path = write(tmp_path / "x.fits", science(stored, unit), **keywords)
    np.testing.assert_allclose(electrons_of(path), ELECTRONS, rtol=1e-6)
    everywhere = np.ones(SHAPE, dtype=bool)
    back = only_chip(path).from_unit(ELECTRONS, "electron", everywhere)
    np.testing.assert_allclose(back, stored.ravel(), rtol=1e-6)


def test_a_network_for_adu_gets_adu(tmp_path):
    path = write(tmp_path / "x.fits", science(ELECTRONS, "ELECTRONS"), **ACS)
    np.testing.assert_allclose(only_chip(path).in_unit("adu"), ELECTRONS / 2, rtol=1e-6)


def test_chips_of_wfpc2_have_gains_of_their_own(tmp_path):
    chips = [science(ELECTRONS, "COUNTS", version, DETECTOR=version) for version in (1, 2, 3, 4)]
    exposure = read_exposure(write(tmp_path / "x_c0m.fits", *chips, **WFPC2, BLEVCORR="COMPLETE"))
    assert [chip.gain.electron_per_count for chip in exposure.chips] == [7.12, 7.12, 6.90, 7.10]


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.float32, np.float64])
def test_integers_and_floats_are_read(dtype, tmp_path):
    path = write(tmp_path / "x.fits", science(np.rint(ELECTRONS).astype(dtype)))
    np.testing.assert_allclose(electrons_of(path), np.rint(ELECTRONS))


def test_scaled_integers_are_read_as_what_they_stand_for(tmp_path):
    hdu = science(ELECTRONS.astype(np.float32))
    hdu.scale("int16", bscale=2.0, bzero=1000.0)
    np.testing.assert_allclose(electrons_of(write(tmp_path / "x.fits", hdu)), ELECTRONS, atol=1.01)


def test_one_image_in_the_primary_is_enough(tmp_path):
    header = fits.Header({"BUNIT": "ELECTRONS", "EXPTIME": 10.0})
    fits.PrimaryHDU(ELECTRONS, header).writeto(tmp_path / "x.fits")
    assert only_chip(tmp_path / "x.fits").hdu == 0


def test_what_ccddata_writes_is_read(tmp_path):
    CCDData(ELECTRONS, unit=units.electron, mask=ELECTRONS > 1e4).write(tmp_path / "x.fits")
    np.testing.assert_array_equal(electrons_of(tmp_path / "x.fits"), ELECTRONS)


def test_gzip_and_fpack_are_unpacked(tmp_path):
    plain = acs_flc(tmp_path / "x_flc.fits")
    (tmp_path / "y_flc.fits.gz").write_bytes(gzip.compress(plain.read_bytes()))
    with fits.open(plain) as hdus:
        packed = [fits.CompImageHDU(h.data, h.header, quantize_level=0, compression_type="GZIP_2") for h in hdus[1:7]]
        fits.HDUList([hdus[0].copy(), *packed]).writeto(tmp_path / "z_flc.fits.fz")
    for other in ("y_flc.fits.gz", "z_flc.fits.fz"):
        for expected, chip in zip(read_exposure(plain).chips, read_exposure(tmp_path / other).chips, strict=True):
            np.testing.assert_array_equal(chip.pixels, expected.pixels)
            assert chip.unit == expected.unit


def test_all_images_of_a_known_camera_are_chips_whatever_their_names(tmp_path):
    chips = [fits.ImageHDU(ELECTRONS, name=name) for name in ("S29", "N4")]
    assert len(read_exposure(write(tmp_path / "x_ooi.fits.fz", *chips, **DECAM, PROCTYPE="InstCal")).chips) == 2


def test_the_detector_area_takes_binning_into_account(tmp_path):
    one = only_chip(write(tmp_path / "x.fits", science(ELECTRONS, "COUNTS"), **STIS, BLEVCORR="COMPLETE"))
    binned = write(tmp_path / "y.fits", science(ELECTRONS, "COUNTS", BINAXIS1=2), **STIS, BLEVCORR="COMPLETE")
    assert one.area_cm2 == pytest.approx(ELECTRONS.size * 0.0021**2)
    assert only_chip(binned).area_cm2 == pytest.approx(2 * one.area_cm2)
    assert only_chip(write(tmp_path / "z.fits", science(ELECTRONS))).area_cm2 is None


@pytest.mark.parametrize(
    ("name", "root"),
    [
        ("x_flc.fits", "x_flc"),
        ("x.fits.gz", "x"),
        ("x.FITS.BZ2", "x"),
        ("x.fit.xz", "x"),
        ("x.FIT", "x"),
        ("x.fits.fz", "x"),
        ("a.b.fts", "a.b"),
        ("raw", "raw"),
    ],
)
def test_the_root_of_a_name_is_what_stands_before_the_fits_endings(name, root):
    assert root_name(Path("somewhere") / name) == root


# Raw frames


def test_the_overscan_of_a_known_raw_frame_is_subtracted_and_is_no_image(tmp_path):
    counts = np.full((1034, 532), 1400, dtype=np.uint16)
    counts[:, 1:8] = 1100
    keywords = {**STIS, "CCDAMP": "D", "BINAXIS1": 2, "BINAXIS2": 1, "BLEVCORR": "PERFORM", "CCDGAIN": 4}
    chip = only_chip(write(tmp_path / "x_raw.fits", science(counts, "COUNTS"), **keywords))
    image = chip.in_unit("electron")
    assert (image.data[:, 8:] == 4 * 300).all()
    assert not image.mask[10:, 11:522].any()
    assert image.mask[:10].all()
    assert image.mask[:, :11].all()
    assert image.mask[:, 522:].all()
    np.testing.assert_allclose(chip.from_unit(image.data, "electron", ~image.mask), 1400)


def test_each_half_of_a_raw_acs_chip_has_its_own_bias(tmp_path):
    counts = np.full((2068, 4144), 2000, dtype=np.uint16)
    counts[:, 18:24], counts[:, 4120:4126] = 1900, 1800
    chip = only_chip(write(tmp_path / "x_raw.fits", science(counts, "COUNTS", version=2), **{**ACS, "BLEVCORR": "PERFORM"}))
    image = chip.in_unit("electron")
    assert (image[20:, 24:2072] == 200).all()
    assert (image[20:, 2072:4120] == 400).all()
    assert image.mask[:20].all()


@pytest.mark.parametrize(
    ("image", "keywords"),
    [
        (ELECTRONS.astype(np.uint16), {**STIS, "BLEVCORR": "PERFORM", "CCDAMP": "D"}),
        (ELECTRONS, {**ACS, "BLEVCORR": "OMIT"}),
        (ELECTRONS.astype(np.uint16), {}),
        (ELECTRONS.astype(np.int32), {**DECAM, "PROCTYPE": "RAW"}),
    ],
)
def test_raw_counts_whose_bias_is_not_known_are_refused(image, keywords, tmp_path):
    path = write(tmp_path / "x_raw.fits", science(image, "COUNTS"), **keywords)
    with pytest.raises(InvalidFileError, match=r"holds raw counts, and where the bias level of .* stands is not known"):
        read_exposure(path)


def test_unsigned_integers_in_electrons_are_not_raw(tmp_path):
    path = write(tmp_path / "x.fits", science(ELECTRONS.astype(np.uint16)))
    np.testing.assert_array_equal(electrons_of(path), ELECTRONS.astype(np.uint16))


# What is refused


@pytest.mark.parametrize(
    ("name", "keywords", "reason"),
    [
        ("x_flt.fits", {"NDRIZIM": 4}, "NDRIZIM stands in its header"),
        ("x_flt.fits", {"D001DATA": "y_flt.fits[sci,1]"}, "D001DATA stands in its header"),
        ("x_drc.fits", {}, "drizzled image"),
        ("x_crj.fits.gz", {}, "combination of CR-SPLIT exposures"),
        ("x_sfl.fits", {}, "sum of repeated exposures"),
        ("x_flt.fits", {"NCOMBINE": 2}, "NCOMBINE is 2"),
        ("x_flt.fits", {"NCOMBINE": 4.0}, "NCOMBINE is 4"),
        ("x.fits", {**DECAM, "PROCTYPE": "Stacked"}, "combined product: PROCTYPE is Stacked"),
        ("x.fits", {**DECAM, "PRODTYPE": "dqmask"}, "data-quality mask: PRODTYPE is dqmask"),
        ("c4d_190402_050618_oow_VR_v1.fits.fz", DECAM, "weight map"),
    ],
)
def test_what_is_no_single_exposure_is_refused_with_the_reason(name, keywords, reason, tmp_path):
    path = write(tmp_path / name, science(ELECTRONS), **{**ACS, **keywords})
    with pytest.raises(NotAnExposureError, match="is no single exposure") as refused:
        read_exposure(path)
    assert reason in str(refused.value)


def test_drizcorr_does_not_make_an_exposure_a_product(tmp_path):
    assert read_exposure(acs_flc(tmp_path / "x_flc.fits", DRIZCORR="COMPLETE", NCOMBINE=1)).chips


def bad(image=ELECTRONS, unit="ELECTRONS", primary=None, **keywords):
    return lambda path: write(path, science(image, unit, **keywords), **(primary or ACS))


def card(name, text):
    return f"{name:8}= {text:>20}".ljust(80).encode()


def without_value(make, path, name):
    """The bytes of a file in which a keyword has no value."""
    data = make(path).read_bytes()
    place = data.index(name.ljust(8) + b"=")
    return data[: place + 9] + b" " * 71 + data[place + 80 :]


NOT_FITS, NOTHING = b"JFIF\0 and more", b""
BAD_FILES = {
    "missing": (lambda path: None, "cannot be read: No such file"),
    "folder": (lambda path: path.mkdir(), "is a folder: expected a FITS file"),
    "not FITS": (lambda path: path.write_bytes(NOT_FITS), "is not a FITS file"),
    "empty": (lambda path: path.write_bytes(NOTHING), "is empty: get it again"),
    "only a keyword": (lambda path: path.write_bytes(b"SIMPLE  =                    T"), "is truncated or damaged"),
    "damaged gzip": (lambda path: path.write_bytes(b"\x1f\x8b rubbish"), r"is truncated or damaged \(gzip\)"),
    "no image": (lambda path: write(path), "holds no image"),
    "only a table": (lambda path: write(path, fits.BinTableHDU.from_columns([])), "holds no image"),
    "one axis": (bad(ELECTRONS[0]), r"has the shape \(96,\): expected an image of two axes"),
    "three axes": (bad(np.stack([ELECTRONS, ELECTRONS])), r"has the shape \(2, 64, 96\): expected an image of two axes"),
    "unknown unit": (
        bad(unit="Jy"),
        "BUNIT is 'Jy', which is none of ELECTRONS, .*, else convert them",
    ),
    "no unit": (bad(unit=None), "has no BUNIT: give --unit"),
    "only NaN": (bad(np.full(SHAPE, np.nan, np.float32)), "holds no valid pixel"),
    "rate without time": (bad(unit="ELECTRONS/S", primary={**ACS, "EXPTIME": 0.0}), "EXPTIME is 0.0: give --exposure-time"),
    "two images": (lambda path: write(path, fits.ImageHDU(ELECTRONS), fits.ImageHDU(ELECTRONS)), "which are exposures"),
    "one EXTVER": (lambda path: write(path, science(ELECTRONS), science(ELECTRONS)), "have the same EXTVER"),
    "two images of an HST camera": (
        lambda path: write(path, fits.ImageHDU(ELECTRONS), fits.ImageHDU(ELECTRONS), **ACS),
        "which",
    ),
    "empty SCI beside ERR": (
        lambda path: write(path, fits.ImageHDU(name="SCI"), fits.ImageHDU(ELECTRONS, name="ERR")),
        "no pixels",
    ),
    "only ERR": (lambda path: write(path, fits.ImageHDU(ELECTRONS, name="ERR")), "holds no image"),
    "not standard": (lambda path: path.write_bytes(card("SIMPLE", "F") + b" " * 2800), "expected SIMPLE = T|truncated"),
    "undefined unit": (lambda path: path.write_bytes(without_value(bad(), path, b"BUNIT")), "has no BUNIT"),
    "text for a time": (
        bad(unit="ELECTRONS/S", primary={**ACS, "EXPTIME": "long"}),
        "EXPTIME is long: give --exposure-time",
    ),
    "ours": (bad(CRMODEL="ACS-WFC-2-32@1.0"), "was made by deepcr-zoo"),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_a_bad_file_is_one_sentence_that_names_it(kind, tmp_path):
    make, message = BAD_FILES[kind]
    path = tmp_path / "x.fits"
    make(path)
    with pytest.raises(InvalidFileError, match=message) as refused:
        read_exposure(path)
    assert str(refused.value).startswith(str(path))
    assert "\n" not in str(refused.value)


def test_a_name_that_no_file_can_have_is_one_sentence():
    with pytest.raises(InvalidFileError, match="cannot be read"):
        read_exposure(Path("a\0b.fits"))


@pytest.mark.parametrize("version", ["'2       '", "2.0"])
def test_extver_may_be_a_text_or_a_float(version, tmp_path):
    path = write(tmp_path / "x.fits", science(ELECTRONS, version=2), checksum=False)
    data = path.read_bytes()
    place = data.index(b"EXTVER  =")
    path.write_bytes(data[:place] + card("EXTVER", version) + data[place + 80 :])
    assert only_chip(path).version == 2


def test_a_broken_card_that_is_not_needed_does_not_matter(tmp_path):
    path = write(tmp_path / "x.fits", science(ELECTRONS), **ACS, checksum=False)
    data = path.read_bytes()
    place = data.index(b"ROOTNAME=")
    path.write_bytes(data[:place] + b"ROOTNAME= jtest0001".ljust(80) + data[place + 80 :])
    np.testing.assert_array_equal(electrons_of(path), ELECTRONS)


def test_chips_without_extver_are_numbered_by_their_place(tmp_path):
    chips = [fits.ImageHDU(ELECTRONS, name=name) for name in ("S29", "N4")]
    exposure = read_exposure(write(tmp_path / "x_ooi.fits", *chips, **DECAM))
    assert [(chip.name, chip.version) for chip in exposure.chips] == [("S29", 1), ("N4", 2)]


def test_a_failed_checksum_of_the_input_is_a_caution(tmp_path):
    path = acs_flc(tmp_path / "x_flc.fits")
    data = bytearray(path.read_bytes())
    with fits.open(path) as hdus:
        data[hdus["ERR", 1].fileinfo()["datLoc"] + 100] ^= 1
    path.write_bytes(data)
    assert any("verification failed for HDU ('ERR', 1): it was changed" in one for one in read_exposure(path).cautions)


def test_a_header_that_was_edited_is_no_damage_of_the_pixels(tmp_path):
    path = acs_flc(tmp_path / "x_flc.fits")
    data = path.read_bytes()
    assert data.count(b"ELECTRONS'") > 0
    path.write_bytes(data.replace(b"'ELECTRONS'", b"'ELECTRON' ", 1))
    (caution,) = read_exposure(path).cautions
    assert "Checksum verification failed for HDU ('SCI', 2): its header was changed" in caution
    assert caution.endswith("its pixels are as they were")


def test_without_a_sum_of_the_pixels_they_are_not_called_as_they_were(tmp_path):
    path = acs_flc(tmp_path / "x_flc.fits")
    data = path.read_bytes()
    start = data.index(b"DATASUM ", data.index(b"'SCI     '"))
    path.write_bytes(data[:start] + b"MYSUM   " + data[start + 8 :])
    (caution,) = read_exposure(path).cautions
    assert "it was changed after this sum was written, or damaged on the way" in caution


def test_an_unpadded_last_block_is_no_truncation(tmp_path):
    path = write(tmp_path / "x.fits", science(ELECTRONS))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) - (-ELECTRONS.nbytes % 2880)])
    assert read_exposure(path).data == whole
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InvalidFileError, match="is truncated"):
        read_exposure(path)


def test_running_out_of_memory_is_not_blamed_on_the_file(tmp_path):
    path = write(tmp_path / "x.fits", science(np.ones((3000, 3000), np.float64)))
    code = f"""
import resource
from pathlib import Path
from deepcr_zoo.exposures.reading import read_exposure
from deepcr_zoo.exposures.readingoptions import ReadingOptions
used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 100_000_000, -1))
try:
    read_exposure(Path({str(path)!r}))
except MemoryError:
    print('memory')
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "memory\n"


def test_a_gain_that_is_needed_and_missing_is_an_error_with_a_way_out(tmp_path):
    path = write(tmp_path / "x.fits", science(ELECTRONS, "COUNTS"))
    with pytest.raises(InvalidFileError, match=r"x\.fits: SCI,1: is in COUNTS .* the header has no gain"):
        electrons_of(path)


def test_a_file_cut_off_anywhere_is_refused(tmp_path):
    whole = acs_flc(tmp_path / "x_flc.fits").read_bytes()
    path = tmp_path / "cut.fits"
    for length in [*range(100, len(whole), len(whole) // 23), len(whole) - 2880]:
        path.write_bytes(whole[:length])
        # within the padding of an extension the cut is the same as one between two
        assert "truncated" in refusal_or_cautions(path) or "NEXTEND announces 7 extensions" in refusal_or_cautions(path)


def refusal_or_cautions(path):
    try:
        return " ".join(read_exposure(path).cautions)
    except InvalidFileError as error:
        return str(error)


def test_a_file_cut_off_between_two_extensions_is_cleaned_with_a_caution(tmp_path):
    path = acs_flc(tmp_path / "x_flc.fits")
    with fits.open(path) as hdus:
        end = hdus[4].fileinfo()["hdrLoc"]
    path.write_bytes(path.read_bytes()[:end])
    assert read_exposure(path).cautions == ("NEXTEND announces 7 extensions, the file has 3",)


def test_what_follows_the_last_extension_must_be_nothing(tmp_path):
    path = acs_flc(tmp_path / "x_flc.fits")
    whole = path.read_bytes()
    path.write_bytes(whole + b"\0" * 2880)
    read_exposure(path)
    path.write_bytes(whole + b"rubbish")
    with pytest.raises(InvalidFileError, match="truncated or damaged"):
        read_exposure(path)


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path):
    path = write(tmp_path / "x.fits", science(np.ones((4000, 4000), np.float64)))  # 128 MB: reading takes a while
    code = "import sys\nwith open(sys.argv[1], 'r+b') as f:\n while True: f.seek(9000); f.write(b'x'); f.flush()"
    writer = subprocess.Popen([sys.executable, "-c", code, str(path)])
    try:
        untouched = path.stat().st_mtime_ns
        while path.stat().st_mtime_ns == untouched:
            time.sleep(0.01)
        with pytest.raises(InvalidFileError, match="changed while it was read: wait until it is complete"):
            read_exposure(path)
    finally:
        writer.kill()
        writer.wait()


# Numbers as text, and gains as people write them


def test_numbers_held_as_text_are_numbers(tmp_path):
    path = write(tmp_path / "x.fits", science(ELECTRONS / 0.8, "adu"), EGAIN="0.8", GAIN=139.0)
    np.testing.assert_allclose(electrons_of(path), ELECTRONS, rtol=1e-6)
    path = write(tmp_path / "y.fits", science(ELECTRONS / 400, "ELECTRONS/S"), **{**ACS, "EXPTIME": "400.0"})
    np.testing.assert_allclose(electrons_of(path), ELECTRONS, rtol=1e-5)
    with pytest.raises(NotAnExposureError, match="NCOMBINE is 4"):
        read_exposure(write(tmp_path / "z.fits", science(ELECTRONS), NCOMBINE="4"))


@pytest.mark.parametrize("keyword", ["GAIN", "EGAIN", "CCDGAIN", "HIERARCH ESO DET OUT1 CONAD"])
def test_the_gain_stands_under_several_keywords(keyword, tmp_path):
    path = write(tmp_path / "x.fits", science(ELECTRONS / 4, "adu"), **{keyword: 4.0})
    np.testing.assert_allclose(electrons_of(path), ELECTRONS, rtol=1e-6)


def test_a_gain_with_its_unit_is_read_and_one_that_cannot_be_hides_settings(tmp_path):
    path = write(tmp_path / "x.fits", science(ELECTRONS / 0.8, "adu"), EGAIN="0.8 e-/ADU", GAIN=139.0)
    np.testing.assert_allclose(electrons_of(path), ELECTRONS, rtol=1e-6)
    assert only_chip(write(tmp_path / "y.fits", science(ELECTRONS, "adu"), EGAIN="0,8", GAIN=139.0)).gain is None
    assert only_chip(write(tmp_path / "z.fits", science(ELECTRONS, "adu"), CCDGAIN="low", GAIN=2.0)).gain.keyword == "GAIN"


def test_a_unit_that_is_not_known_is_not_blamed_on_the_gain(tmp_path):
    with pytest.raises(InvalidFileError) as refused:
        read_exposure(write(tmp_path / "x.fits", science(ELECTRONS, "1000 electron")))
    assert str(refused.value).endswith("give --unit UNIT if the pixels hold one of these, else convert them")


def test_nanomaggies_become_counts_by_the_factor_of_the_header(tmp_path):
    calibrated = science((ELECTRONS / 4 * 0.005).astype(np.float32), "nanomaggy")
    (chip,) = read_exposure(write(tmp_path / "frame.fits", calibrated, NMGY=0.005, GAIN=4.0)).chips
    np.testing.assert_allclose(chip.in_unit("electron").data, ELECTRONS, rtol=1e-5)
    np.testing.assert_allclose(chip.from_unit(ELECTRONS, "electron", ELECTRONS > 0), chip.pixels[ELECTRONS > 0], rtol=1e-5)
    with pytest.raises(InvalidFileError, match="its BUNIT is 'nanomaggy', which is none of"):
        read_exposure(write(tmp_path / "other.fits", calibrated, GAIN=4.0))


def test_a_unit_that_is_stated_twice_leaves_a_caution(tmp_path):
    path = tmp_path / "x.fits"
    hdu = science(scene()[0], "ELECTRONS")
    hdu.header.append(("BUNIT", "COUNTS"))
    write(path, hdu)
    assert "BUNIT stands 2 times in a header (ELECTRONS, COUNTS): the first was taken" in read_exposure(path).cautions


@pytest.mark.parametrize("zero", [0, 32768])
def test_the_number_that_stands_for_no_value_is_one_in_unsigned_integers_too(zero, tmp_path):
    pixels = scene()[0].round()
    raw = (pixels - zero).astype(np.int16)
    raw[10:14, 20] = 1500 - zero
    hdu = fits.PrimaryHDU(raw)
    hdu.header.update(BZERO=zero, BSCALE=1, BLANK=1500 - zero, BUNIT="electron", EXPTIME=100.0)
    hdu.writeto(tmp_path / "x.fits")
    (chip,) = read_exposure(tmp_path / "x.fits").chips
    assert np.isnan(chip.pixels[10:14, 20]).all()
    assert np.isnan(chip.pixels).sum() == np.count_nonzero(raw == 1500 - zero)


def test_two_dq_extensions_of_one_image_are_refused_with_the_way_out(tmp_path):
    pixels = scene()[0]
    flags = np.zeros(pixels.shape, np.int16)
    science = fits.ImageHDU(pixels, name="SCI", ver=1)
    science.header.update(BUNIT="electron", EXPTIME=100.0)
    layers = [fits.ImageHDU(flags, name="DQ", ver=1) for _ in range(2)]
    fits.HDUList([fits.PrimaryHDU(), science, *layers]).writeto(tmp_path / "x.fits")
    with pytest.raises(InvalidFileError, match="has two DQ extensions: clean does without it if you give --ignore-dq all"):
        read_exposure(tmp_path / "x.fits")


def test_flags_of_images_that_are_not_numbered_are_refused_with_the_way_out(tmp_path):
    pixels = scene()[0]
    images = [fits.ImageHDU(pixels, fits.Header({"BUNIT": "electron", "EXPTIME": 100.0}), name=f"IM{i}") for i in (1, 2)]
    flags = fits.ImageHDU(np.zeros(pixels.shape, np.int16), name="DQ")
    path = tmp_path / "x.fits"
    fits.HDUList([fits.PrimaryHDU(), images[0], flags, images[1]]).writeto(path)
    for extension in ("IM1", "IM2", "IM*"):
        with pytest.raises(InvalidFileError, match="which image its DQ extension belongs to is not known"):
            read_exposure(path, options(extension=extension))
        assert read_exposure(path, options(extension=extension, ignore_dq="all")).chips
    fits.HDUList([fits.PrimaryHDU(), images[0], flags]).writeto(path, overwrite=True)
    assert read_exposure(path).chips[0].quality.flags is not None


def options(extension=None, ignore_dq=None):
    return ReadingOptions.parse(extension, None, None, None, None, ignore_dq)
