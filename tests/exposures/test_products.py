"""What the written files hold, judged by astropy and by the bytes of the input."""

import gzip
import os
import re
import warnings

import numpy as np
import pytest
from astropy.io import fits
from astropy.io.fits.scripts import fitscheck
from astropy.nddata import CCDData
from astropy.utils.exceptions import AstropyWarning

from deepcr_zoo import clean_file
from deepcr_zoo.errors import InvalidFileError
from deepcr_zoo.models.images import near
from deepcr_zoo.zoo.registries import default_registry
from tests.fitsfiles import ACS, DECAM, SHAPE, STIS, acs_flc, scene, science, write
from tests.registries import SMALL

ELECTRONS, COSMIC_RAYS = scene()


def clean(path, **options):
    """Products of a file: open mask file, open cleaned copy."""
    done = clean_file(path, **{"model": SMALL, "inpaint": "medmask", "overwrite": True, **options})
    return [fits.open(output) for output in done.outputs if output.endswith(".fits")]


def pieces(path):
    """The raw header and data bytes of each HDU."""
    data = path.read_bytes()
    with fits.open(path, disable_image_compression=True) as hdus:
        places = [hdu.fileinfo() for hdu in hdus]
    return [(data[p["hdrLoc"] : p["datLoc"]], data[p["datLoc"] : p["datLoc"] + p["datSpan"]]) for p in places]


def is_valid(path, ignore_missing=False):
    """True if astropy's own fitscheck and strict verification accept a file, compressed extensions included."""
    problems = fitscheck.main(["--compliance", *(["--ignore-missing"] if ignore_missing else []), str(path)])
    with fits.open(path, checksum=True, disable_image_compression=True) as hdus:
        hdus.verify("exception")
        return not problems and all(hdu._checksum_valid and hdu._datasum_valid for hdu in hdus)


@pytest.fixture
def flc(tmp_path):
    return acs_flc(tmp_path / "x_flc.fits")


def test_the_mask_file_has_a_compressed_uint8_extension_per_chip(flc, tmp_path):
    mask, _ = clean(flc)
    assert [(hdu.name, hdu.ver) for hdu in mask] == [("PRIMARY", 1), ("CRMASK", 1), ("CRMASK", 2)]
    for hdu in mask[1:]:
        assert isinstance(hdu, fits.CompImageHDU)
        assert (hdu.data.dtype, hdu.data.shape) == (np.uint8, SHAPE)
        assert hdu.header["CTYPE1"] == "RA---TAN-SIP"
        assert hdu.header["A_0_2"] == 2.1e-6
        assert hdu.header["CRNPIX"] == hdu.data.sum() > 10
    # astropy's fitscheck does not look for the checksum of a compressed extension where the standard puts it
    assert is_valid(tmp_path / "x_flc_crmask.fits", ignore_missing=True)


def test_the_mask_is_what_the_model_says_of_electrons(flc):
    import deepcr_zoo

    mask, _ = clean(flc)
    model = deepcr_zoo.load(SMALL)
    for version in (1, 2):
        np.testing.assert_array_equal(mask["CRMASK", version].data, model.mask(fits.getdata(flc, ("SCI", version))))


def test_prob_adds_the_probability_without_loss(flc):
    import deepcr_zoo

    mask, _ = clean(flc, prob=True)
    probability = mask["CRPROB", 2].data
    expected = deepcr_zoo.load(SMALL).predict(fits.getdata(flc, ("SCI", 2)))
    searched = ~near((fits.getdata(flc, ("DQ", 2)) & (256 | 2048)) != 0)
    np.testing.assert_array_equal(probability, np.where(searched, expected, 0))
    assert probability.dtype.newbyteorder("=") == np.float32


def test_the_copy_differs_in_masked_pixels_dq_and_header_alone(flc, tmp_path):
    mask, cleaned = clean(flc)
    with fits.open(flc) as original:
        for version in (1, 2):
            hit = mask["CRMASK", version].data.astype(bool)
            before, after = original["SCI", version].data, cleaned["SCI", version].data
            assert (after[~hit].tobytes(), after.dtype) == (before[~hit].tobytes(), before.dtype)
            assert (after[hit] != before[hit]).mean() > 0.95
            flags = np.where(hit, original["DQ", version].data | 4096, original["DQ", version].data)
            np.testing.assert_array_equal(cleaned["DQ", version].data, flags)
            assert cleaned["SCI", version].header["BUNIT"] == "ELECTRONS"
            kept = [card.image for card in original["SCI", version].header.cards if "SUM" not in card.keyword]
            assert [card.image for card in cleaned["SCI", version].header.cards][: len(kept)] == kept
    assert is_valid(tmp_path / "x_flc_crclean.fits")


def test_every_other_extension_is_the_same_to_the_byte(flc, tmp_path):
    clean(flc)
    before, after = pieces(flc), pieces(tmp_path / "x_flc_crclean.fits")
    others = [2, 5, 7]  # ERR, ERR, WCSCORR with a heap
    assert [after[index] for index in others] == [before[index] for index in others]


def test_extensions_without_checksums_get_them_and_keep_their_data_and_cards(tmp_path):
    path = acs_flc(tmp_path / "x_flc.fits")
    with fits.open(path) as hdus:
        for hdu in hdus:
            del hdu.header["CHECKSUM"], hdu.header["DATASUM"]
        hdus.writeto(tmp_path / "y_flc.fits")
    clean(tmp_path / "y_flc.fits")
    for index in (2, 7):
        (header, data), (new_header, new_data) = (
            pieces(file)[index] for file in (tmp_path / "y_flc.fits", tmp_path / "y_flc_crclean.fits")
        )
        assert new_data == data
        assert new_header.startswith(header[: header.index(b"END" + b" " * 77)])
    assert is_valid(tmp_path / "y_flc_crclean.fits")


def test_the_headers_hold_the_provenance(flc):
    model = default_registry().resolve(SMALL)
    for product in clean(flc, threshold=0.3, grow=1):
        header = product[0].header
        assert header["CRMODEL"] == "ACS-WFC-F606W-2-4@1.0"
        assert header["CRSHA256"] == model.locked.weights.sha256
        assert (header["CRTHRESH"], header["CRGROW"]) == (0.3, 1)
        assert header["CRSOFT"].startswith("deepcr-zoo ")
        assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d", header["DATE"])
        total = sum(hdu.header["CRNPIX"] for hdu in product[1:] if "CRNPIX" in hdu.header)
        assert header["CRNPIX"] == total
        assert header["CRFRAC"] == pytest.approx(total / (2 * ELECTRONS.size))
        assert "mask/ACS-WFC-F606W-2-4@1.0, threshold 0.3" in " ".join(header["HISTORY"])


def test_the_rate_counts_groups_of_pixels_per_area_and_time_and_does_not_grow_with_the_mask(flc):
    from scipy.ndimage import label

    mask, _ = clean(flc)
    grown, _ = clean(flc, grow=2)
    groups = sum(label(mask["CRMASK", version].data, np.ones((3, 3)))[1] for version in (1, 2))
    expected = groups / (2 * ELECTRONS.size * 0.0015**2) / 512
    assert mask[0].header["CRRATE"] == pytest.approx(expected)
    assert grown[0].header["CRRATE"] == pytest.approx(expected)
    assert grown[0].header["CRNPIX"] > 2 * mask[0].header["CRNPIX"]


def test_grow_dilates_by_pixels_in_all_directions(flc):
    from scipy.ndimage import maximum_filter

    (mask, _), (grown, _) = clean(flc), clean(flc, grow=2)
    np.testing.assert_array_equal(grown["CRMASK", 1].data, maximum_filter(mask["CRMASK", 1].data, 5))


def test_the_history_warns_of_astrodrizzles_default(flc):
    _, cleaned = clean(flc)
    assert "run AstroDrizzle with resetbits=0" in " ".join(cleaned[0].header["HISTORY"])
    assert cleaned[0].header["CRBIT"] == 4096


def test_the_pipelines_own_crthresh_is_not_lost(flc):
    _, cleaned = clean(flc)
    assert "CRTHRESH was 0.75 before" in " ".join(cleaned[0].header["HISTORY"])


def test_a_missing_dq_extension_is_added(tmp_path):
    path = write(tmp_path / "x_flt.fits", science(ELECTRONS), **ACS, NEXTEND=1)
    mask, cleaned = clean(path)
    np.testing.assert_array_equal(cleaned["DQ", 1].data, 4096 * mask["CRMASK", 1].data.astype(int))
    assert cleaned[0].header["NEXTEND"] == len(cleaned) - 1 == 2


def test_a_dq_extension_without_pixels_becomes_one_with_them(tmp_path):
    constant = fits.ImageHDU(name="DQ")
    constant.header.update({"NPIX1": SHAPE[1], "NPIX2": SHAPE[0], "PIXVALUE": 4})
    path = write(tmp_path / "x_flt.fits", science(ELECTRONS, "COUNTS"), constant, **STIS, BLEVCORR="COMPLETE")
    mask, cleaned = clean(path)
    np.testing.assert_array_equal(cleaned["DQ"].data, np.where(mask["CRMASK"].data, 4 | 8192, 4))
    assert "PIXVALUE" not in cleaned["DQ"].header


def extension(quality):
    return fits.BinTableHDU(quality, name="DQ") if quality.dtype.names else fits.ImageHDU(quality, name="DQ")


@pytest.mark.parametrize(
    ("quality", "message"),
    [
        (np.zeros(SHAPE, np.uint8), "holds uint8, which has no room for the bit 4096"),
        (np.zeros((5, 5), np.int16), r"holds .* of shape \(5, 5\)"),
        (np.zeros(3, [("flag", "i4")]), "is no image"),
    ],
)
def test_a_dq_extension_that_does_not_fit_is_an_error_and_nothing_is_written(quality, message, tmp_path):
    path = write(tmp_path / "x_flt.fits", science(ELECTRONS), extension(quality), **ACS)
    with pytest.raises(InvalidFileError, match=message):
        clean(path)
    assert [file.name for file in tmp_path.iterdir()] == ["x_flt.fits"]


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32, np.int16])
def test_the_bit_fits_into_any_integers_that_are_wide_enough(dtype, tmp_path):
    quality = np.full(SHAPE, 3, dtype)
    path = write(tmp_path / "x_flt.fits", science(ELECTRONS), fits.ImageHDU(quality, name="DQ"), **ACS)
    mask, cleaned = clean(path)
    np.testing.assert_array_equal(cleaned["DQ"].data, np.where(mask["CRMASK"].data, 3 | 4096, 3))
    assert cleaned["DQ"].data.dtype.newbyteorder("=") == dtype
    assert is_valid(tmp_path / "x_flt_crclean.fits")


def test_dq_only_leaves_the_pixels_as_they_are(flc):
    mask, cleaned = clean(flc, inpaint="auto", dq_only=True)
    with fits.open(flc) as original:
        for version in (1, 2):
            assert cleaned["SCI", version].data.tobytes() == original["SCI", version].data.tobytes()
            assert ((cleaned["DQ", version].data & 4096 > 0) == mask["CRMASK", version].data).all()
    assert cleaned[0].header["CRINPNT"] == "none"


def test_no_repainted_pixel_gets_the_integer_that_means_no_value(tmp_path):
    image = np.clip(np.rint(ELECTRONS), 0, 30000).astype(np.int16)
    sky = int(np.median(image))
    image[image == sky] += 1
    hdu = science(image)
    hdu.header["BLANK"] = sky
    mask, cleaned = clean(write(tmp_path / "x.fits", hdu, **ACS))
    assert mask["CRMASK"].data.any()
    assert np.isfinite(cleaned["SCI"].data).all()


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.int32, np.uint64, np.int64, np.float64])
def test_pixel_values_keep_their_type_and_unit(dtype, tmp_path):
    image = np.clip(np.rint(ELECTRONS), 0, 30000).astype(dtype)
    path = write(tmp_path / "x.fits", science(image), **ACS)
    mask, cleaned = clean(path)
    hit = mask["CRMASK"].data.astype(bool)
    assert cleaned["SCI"].data.dtype.newbyteorder("=") == dtype
    np.testing.assert_array_equal(cleaned["SCI"].data[~hit], image[~hit])
    # repainted with something like the sky of 50 e-, not with a network value or a scaled one
    assert abs(np.median(cleaned["SCI"].data[hit].astype(float)) - 50) < 15


@pytest.mark.parametrize("scaling", [(2.0, 0.0), (1.0, 10.0), (2.0, 10.0), (0.5, 10.0)], ids=str)
@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "f4", "f8"])
def test_scaled_pixels_are_repainted_with_what_they_stand_for(dtype, scaling, tmp_path):
    step, zero = scaling
    stored = (np.clip(ELECTRONS, 20, 250) - zero) / step
    if dtype[0] in "ui":
        stored = np.clip(np.rint(stored), 0, 255)
    path = write(tmp_path / "x.fits", science(stored.astype(dtype), XSCALE=step, XZERO=zero), checksum=False)
    path.write_bytes(path.read_bytes().replace(b"XSCALE  =", b"BSCALE  =").replace(b"XZERO   =", b"BZERO   ="))
    before = fits.getdata(path, 1)
    assert abs(np.median(before) - 50) < 3
    mask, cleaned = clean(path, threshold=0.2, grow=1)
    hit = mask["CRMASK"].data.astype(bool)
    assert hit.sum() > 10
    assert abs(np.median(cleaned["SCI"].data[hit].astype(float)) - 50) < 15
    np.testing.assert_array_equal(cleaned["SCI"].data[~hit], before[~hit])


@pytest.mark.parametrize("name", ["é_flc.fits", "名.fits", "a\nb.fits", "a b [1].fits", b"\xff_flc.fits"], ids=ascii)
def test_any_name_of_a_file_will_do(name, tmp_path):
    path = tmp_path / os.fsdecode(name)
    write(path, science(ELECTRONS), **ACS)
    mask, cleaned = clean(path)
    assert mask[0].header["CRFILE"].isprintable()
    assert cleaned[0].header["CRNPIX"] == mask[0].header["CRNPIX"]


def test_headers_with_characters_that_fits_does_not_know_are_copied(tmp_path):
    path = write(tmp_path / "x.fits", science(ELECTRONS, OBSERVER="Mueller"), **ACS, OBSERVAT="Koenigstuhl")
    path.write_bytes(path.read_bytes().replace(b"Mueller", b"M\xfcller ").replace(b"Koenigstuhl", b"K\xf6nigstuhl "))
    with warnings.catch_warnings():
        warnings.simplefilter("error", AstropyWarning)
        mask, _ = clean(path)
    assert mask["CRMASK"].data.any()


def test_masks_of_a_mosaic_name_their_chips(tmp_path):
    chips = [fits.ImageHDU(scene(seed)[0], fits.Header({"CCDNUM": 20 + seed}), name=f"S{seed}") for seed in (1, 2, 3)]
    path = write(tmp_path / "x_ooi.fits", *chips, **DECAM, GAINA=4.0)
    mask, cleaned = clean(path, model="decam", threshold=0.1)
    named = [(hdu.name, hdu.ver, hdu.header["CREXT"], hdu.header["CCDNUM"]) for hdu in mask[1:]]
    assert named == [("CRMASK", 1, "S1", 21), ("CRMASK", 2, "S2", 22), ("CRMASK", 3, "S3", 23)]
    for number in (1, 2, 3):
        hit = mask["CRMASK", number].data.astype(bool)
        assert (cleaned[f"S{number}"].data[~hit] == scene(number)[0][~hit]).all()


def test_every_extension_holds_the_provenance(flc):
    mask, cleaned = clean(flc)
    for hdu in (mask[1], mask[2], cleaned["SCI", 1], cleaned["SCI", 2]):
        found = {name: hdu.header[name] for name in ("CRMODEL", "CRTHRESH", "CRINPUT", "CRSOFT")}
        assert found == {name: mask[0].header[name] for name in found}


def test_a_rate_image_is_cleaned_like_its_counts_and_stays_a_rate(tmp_path):
    counts = write(tmp_path / "c.fits", science(ELECTRONS), **ACS)
    rates = write(tmp_path / "r.fits", science(ELECTRONS / 512, "ELECTRONS/S"), **ACS)
    (mask, cleaned), (mask_of_rates, cleaned_rates) = clean(counts), clean(rates)
    np.testing.assert_array_equal(mask_of_rates["CRMASK"].data, mask["CRMASK"].data)
    np.testing.assert_allclose(cleaned_rates["SCI"].data * 512, cleaned["SCI"].data, rtol=1e-6)


def test_pixels_that_are_not_numbers_stay_and_are_not_masked(tmp_path):
    image = ELECTRONS.copy()
    image[10:14, 20:60] = np.nan
    image[30, 30], image[31, 31] = np.inf, 3e9
    path = write(tmp_path / "x.fits", science(image), **ACS)
    mask, cleaned = clean(path, grow=3)
    odd = ~(np.abs(image) < 1e9)
    assert not mask["CRMASK"].data[odd].any()
    np.testing.assert_array_equal(cleaned["SCI"].data[odd], image[odd])


def test_a_fully_masked_image_keeps_its_values(tmp_path):
    path = write(tmp_path / "x.fits", science(ELECTRONS.astype(np.int32)), **ACS)
    mask, cleaned = clean(path, threshold=0.0, grow=50)
    assert "no good pixel outside the mask" in " ".join(cleaned[0].header["HISTORY"])
    assert mask["CRMASK"].data.all()
    np.testing.assert_array_equal(cleaned["SCI"].data, ELECTRONS.astype(np.int32))


def test_an_image_in_the_primary_is_cleaned_there_and_gets_a_dq_extension(tmp_path):
    path = tmp_path / "x.fits"
    fits.PrimaryHDU(ELECTRONS, fits.Header({"BUNIT": "ELECTRONS", "OBSERVER": "A. Student"})).writeto(path)
    mask, cleaned = clean(path)
    assert (cleaned[0].data != ELECTRONS).sum() == pytest.approx(mask["CRMASK"].data.sum(), rel=0.1)
    assert cleaned[0].header["OBSERVER"] == "A. Student"
    assert cleaned[0].header["CRBIT"] == 4096
    assert "AstroDrizzle" not in " ".join(cleaned[0].header["HISTORY"])
    assert "CRRATE" not in cleaned[0].header
    assert is_valid(tmp_path / "x_crclean.fits")


def test_ccddata_reads_its_cleaned_copy(tmp_path):
    from astropy import units

    bad = np.zeros(SHAPE, bool)
    bad[3, 4] = True
    CCDData(ELECTRONS, unit=units.electron, mask=bad).write(tmp_path / "x.fits")
    clean(tmp_path / "x.fits")
    back = CCDData.read(tmp_path / "x_crclean.fits")
    assert back.unit == units.electron
    np.testing.assert_array_equal(back.mask, bad)
    assert back.data[~COSMIC_RAYS].mean() == pytest.approx(ELECTRONS[~COSMIC_RAYS].mean(), rel=0.05)


def test_an_unknown_dq_is_left_alone(tmp_path):
    codes = fits.ImageHDU(np.full(SHAPE, 7, np.int16), name="DQ")
    path = write(tmp_path / "x.fits", science(ELECTRONS), codes)
    _, cleaned = clean(path)
    assert (cleaned["DQ"].data == 7).all()
    assert "CRBIT" not in cleaned[0].header


def test_decam_gets_a_separate_mask_only(tmp_path):
    path = write(tmp_path / "x_ooi.fits", fits.ImageHDU(ELECTRONS, name="S29"), **DECAM, GAINA=4.0, PROCTYPE="InstCal")
    mask, cleaned = clean(path, model="decam")
    assert "CRMASK" in mask
    assert [hdu.name for hdu in cleaned] == ["PRIMARY", "S29"]


def test_a_packed_exposure_gives_the_products_of_the_plain_one(flc, tmp_path):
    (tmp_path / "z.fits.gz").write_bytes(gzip.compress(flc.read_bytes()))
    with fits.open(flc) as hdus:
        packed = [fits.CompImageHDU(h.data, h.header, quantize_level=0, compression_type="GZIP_2") for h in hdus[1:7]]
        fits.HDUList([hdus[0].copy(), *packed]).writeto(tmp_path / "p.fits.fz", checksum=True)
    _, plain = clean(flc)
    for name in ("z.fits.gz", "p.fits.fz"):
        _, cleaned = clean(tmp_path / name)
        for extension in ("SCI", "ERR", "DQ"):
            for version in (1, 2):
                np.testing.assert_array_equal(cleaned[extension, version].data, plain[extension, version].data)
    assert is_valid(tmp_path / "z_crclean.fits")
    assert is_valid(tmp_path / "p_crclean.fits", ignore_missing=True)  # its ERR extensions are still compressed


def test_the_same_input_gives_the_same_bytes(flc, tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1790000000")
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        clean(flc, output_dir=folder, prob=True, preview=True)
    names = sorted(file.name for file in folders[0].iterdir())
    assert names == ["x_flc_crclean.fits", "x_flc_crmask.fits", "x_flc_crpreview.png"]
    for name in names:
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()


def test_the_input_is_never_written(flc):
    before = flc.read_bytes(), flc.stat().st_mtime_ns
    clean(flc)
    assert (flc.read_bytes(), flc.stat().st_mtime_ns) == before
