"""One file as the user sees it: what is written, skipped, refused; and what is left when things go wrong."""

import dataclasses
import json
import multiprocessing
import os
import resource
import stat
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from deepcr_zoo import clean_file
from deepcr_zoo.errors import DeepcrZooError, ImageWarning, InvalidFileError, NoModelError, OutputError, UsageError
from deepcr_zoo.exposures import CleanOptions, cleaning, making, products
from deepcr_zoo.exposures.cleaning import clean_with
from deepcr_zoo.exposures.plan import clashes
from deepcr_zoo.machine import multiplies_bfloat16, process_space
from deepcr_zoo.models import model
from deepcr_zoo.models.model import load_resolved
from deepcr_zoo.zoo.registry import read_registry
from tests.conftest import STIS_EXPOSURES
from tests.exposures.test_products import is_valid
from tests.fitsfiles import ACS, DECAM, STIS, acs_flc, scene, science, write
from tests.registries import SMALL, copy_registry

ELECTRONS, _ = scene()
NEEDS_BFLOAT16 = pytest.mark.skipif(not multiplies_bfloat16(), reason="this processor does not multiply bfloat16")


def clean(path, **options):
    return clean_file(path, **{"model": SMALL, "inpaint": "medmask", **options})


def names(folder):
    return sorted(file.name for file in folder.iterdir())


@pytest.fixture
def flc(tmp_path):
    return acs_flc(tmp_path / "in" / "x_flc.fits") if (tmp_path / "in").mkdir() is None else None


# What is done


def test_the_record_says_what_was_found_and_can_be_json(flc, tmp_path):
    done = clean(flc, output_dir=tmp_path / "out", threshold=0.4)
    header = fits.getheader(done.outputs[0])
    assert (done.status, done.model, done.inpaint) == ("cleaned", "mask/ACS-WFC-F606W-2-4@1.0", "medmask")
    assert done.pixels == header["CRNPIX"]
    assert (done.fraction, done.rate) == pytest.approx((header["CRFRAC"], header["CRRATE"]))
    assert done.outputs == [str(tmp_path / "out" / name) for name in ("x_flc_crmask.fits", "x_flc_crclean.fits")]
    assert "resetbits=0" in done.advice
    assert json.loads(json.dumps(dataclasses.asdict(done)))["threshold"] == 0.4


def test_products_stand_beside_the_input_unless_a_folder_is_named(flc, tmp_path):
    clean(flc)
    clean(flc, output_dir=tmp_path / "a" / "b")
    assert names(flc.parent) == ["x_flc.fits", "x_flc_crclean.fits", "x_flc_crmask.fits"]
    assert names(tmp_path / "a" / "b") == ["x_flc_crclean.fits", "x_flc_crmask.fits"]


def test_inpaint_none_writes_the_mask_alone(flc):
    assert clean(flc, inpaint="none").advice == ""
    assert names(flc.parent) == ["x_flc.fits", "x_flc_crmask.fits"]


@pytest.mark.parametrize("chips", [1, 2])
def test_preview_draws_every_chip_before_and_after(chips, tmp_path):
    from matplotlib.image import imread

    hdus = [science(scene(version)[0], version=version) for version in range(1, chips + 1)]
    path = write(tmp_path / "x_flc.fits", *hdus, **ACS)
    with_copy, mask_alone = (
        imread(clean(path, preview=True, output_dir=tmp_path / inpaint, inpaint=inpaint).outputs[-1])
        for inpaint in ("medmask", "none")
    )
    assert with_copy.shape[1] == pytest.approx(650 * chips, rel=0.02)
    assert with_copy.shape[0] > 1.3 * mask_alone.shape[0]
    for picture in (with_copy, mask_alone):
        # stars and tracks, not an empty frame
        assert picture[..., :3].std() > 0.1


def test_an_inpainting_network_repaints_in_the_units_of_the_file(tmp_path):
    path = write(tmp_path / "x.fits", science(ELECTRONS / 2, "COUNTS"), **ACS)
    done = clean(path, inpaint="ACS-WFC-F606W-2-32")
    mask, cleaned = fits.getdata(done.outputs[0], 1).astype(bool), fits.getdata(done.outputs[1], 1)
    assert abs(np.median(cleaned[mask]) - 25) < 10


def test_more_masked_pixels_than_cosmic_rays_can_hit_is_a_caution(tmp_path, caplog):
    path = write(tmp_path / "x.fits", science(ELECTRONS), **ACS)
    done = clean(path, threshold=0.0001, grow=2)
    assert done.cautions[-1].startswith("SCI,1: ")
    assert "check unit, gain, bias and model" in done.cautions[-1]
    assert "check unit, gain, bias and model" in caplog.text
    assert "check unit, gain, bias and model" in " ".join(fits.getheader(done.outputs[0])["HISTORY"])


def test_a_warning_of_a_library_is_shown_and_is_no_caution(flc, monkeypatch):
    def warn(*_):
        warnings.warn("of a library", RuntimeWarning, stacklevel=1)
        warnings.warn("of the image", ImageWarning, stacklevel=1)
        return []

    monkeypatch.setattr(making, "suspicions", warn)
    with pytest.warns(RuntimeWarning, match="of a library"):
        done = clean(flc)
    assert done.cautions == ["of the image"]
    history = " ".join(map(str, fits.getheader(done.outputs[0])["HISTORY"]))
    assert "of the image" in history
    assert "of a library" not in history


def test_a_model_for_another_instrument_warns_in_the_log_and_the_header(tmp_path, caplog):
    path = write(tmp_path / "x_flt.fits", science(ELECTRONS, "COUNTS"), **STIS, BLEVCORR="COMPLETE")
    done = clean(path)
    for text in (*done.cautions[:1], caplog.text, *(" ".join(fits.getheader(out)["HISTORY"]) for out in done.outputs)):
        assert "was made for HST ACS/WFC, this is HST STIS/CCD G430M" in text


@pytest.mark.skipif(not STIS_EXPOSURES, reason="the STIS exposures are not here (../shared/data/stis_crsplit)")
@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, marks=[pytest.mark.slow] if index else [], id=path.stem)
        for index, path in enumerate(STIS_EXPOSURES)
    ],
)
def test_real_exposures_of_another_instrument_are_cleaned_with_a_warning(path, tmp_path):
    done = clean_file(path, "ACS-WFC-2-32", output_dir=tmp_path)
    assert any("was made for HST ACS/WFC, this is HST STIS/CCD" in caution for caution in done.cautions)
    mask, cleaned = done.outputs
    assert is_valid(mask, ignore_missing=True)  # compressed extensions
    assert is_valid(cleaned)
    with fits.open(path) as before, fits.open(cleaned) as after, fits.open(mask) as masks:
        for version in (1, 2):
            hit = masks["CRMASK", version].data.astype(bool)
            assert hit.sum() > 10_000
            assert not hit[:10].any()  # virtual overscan
            np.testing.assert_array_equal(after["SCI", version].data[~hit], before["SCI", version].data[~hit])
            assert after["SCI", version].data.dtype == np.uint16
            np.testing.assert_array_equal(after["DQ", version].data, np.where(hit, 8192, 0))
            # repainted pixels look like their surroundings: overscan of about 1122 counts and a little sky
            assert np.percentile(after["SCI", version].data[hit], 90) < 2000
            assert masks["CRMASK", version].header["CRRATE"] > 0.5  # cm-2 s-1


# A second run


def test_a_rerun_skips_what_is_finished(flc):
    first = clean(flc)
    stamps = [os.stat(output).st_mtime_ns for output in first.outputs]
    again = clean(flc)
    assert again.status == "finished"
    assert [os.stat(output).st_mtime_ns for output in again.outputs] == stamps
    assert again.pixels == first.pixels
    assert (again.fraction, again.rate) == pytest.approx((first.fraction, first.rate))


def test_a_missing_product_is_made_again(flc):
    done = clean(flc)
    os.unlink(done.outputs[1])
    assert clean(flc).status == "cleaned"
    assert clean(flc).status == "finished"
    assert clean(flc, preview=True).status == "cleaned"
    assert clean(flc, preview=True).status == "finished"


@pytest.mark.parametrize(
    ("options", "keyword"),
    [
        ({"threshold": 0.7}, "CRTHRESH is 0.5 there and 0.7 now"),
        ({"model": "ACS-WFC-2-32"}, "CRMODEL is 'ACS-WFC-F606W-2-4@1.0' there"),
        ({"grow": 1}, "CRGROW is 0 there and 1 now"),
        pytest.param({"engine": "openvino-bf16"}, "CROPTION is", marks=NEEDS_BFLOAT16),
        ({"inpaint": "biharmonic"}, "CRINPNT is 'medmask' there"),
        ({"prob": True}, "CRPROBS is None there"),
        ({"inpaint": "auto", "dq_only": True}, "CRINPNT is 'medmask' there and 'none' now"),
    ],
)
def test_products_made_otherwise_are_not_replaced_without_being_asked(options, keyword, flc):
    before = {output: Path(output).read_bytes() for output in clean(flc).outputs}
    with pytest.raises(OutputError, match=r"exists and was made otherwise") as refused:
        clean(flc, **options)
    assert keyword in str(refused.value)
    assert "overwrite=True" in str(refused.value)
    assert {output: Path(output).read_bytes() for output in before} == before
    assert clean(flc, **options, overwrite=True).status == "cleaned"


def test_an_input_that_changed_is_not_finished(flc):
    clean(flc)
    flc.unlink()
    acs_flc(flc, seed=2)
    with pytest.raises(OutputError, match="CRINPUT is"):
        clean(flc)


def test_a_file_of_the_users_is_not_replaced(flc):
    (flc.parent / "x_flc_crclean.fits").write_text("my notes")
    with pytest.raises(OutputError, match="is no product of deepcr-zoo"):
        clean(flc)
    assert names(flc.parent) == ["x_flc.fits", "x_flc_crclean.fits"]


@pytest.mark.parametrize("product", ["x_flc_crclean.fits", "x_flc_crmask.fits", "x_flc_crpreview.png"])
def test_even_overwrite_replaces_no_file_of_the_user(product, flc):
    acs_flc(flc.parent / product) if product.endswith(".fits") else (flc.parent / product).write_bytes(b"\x89PNG of mine")
    before = (flc.parent / product).read_bytes()
    with pytest.raises(OutputError, match="is no product of deepcr-zoo: move it away"):
        clean(flc, overwrite=True, preview=True)
    assert names(flc.parent) == sorted(["x_flc.fits", product])
    assert (flc.parent / product).read_bytes() == before


def test_a_folder_in_the_place_of_a_product_is_one_sentence(flc):
    (flc.parent / "x_flc_crclean.fits").mkdir()
    with pytest.raises(OutputError, match="is no product of deepcr-zoo"):
        clean(flc, overwrite=True)
    assert names(flc.parent) == ["x_flc.fits", "x_flc_crclean.fits"]


def test_a_picture_of_another_result_is_not_finished(flc):
    clean(flc, preview=True)
    clean(flc, threshold=0.9, overwrite=True)
    with pytest.raises(OutputError, match=r"crpreview.png: exists and was made otherwise \(it shows another result\)"):
        clean(flc, threshold=0.9, preview=True)


def test_a_copy_from_another_run_that_stays_is_a_caution(flc):
    clean(flc, threshold=0.9)
    (caution,) = clean(flc, threshold=0.2, inpaint="none", overwrite=True).cautions
    assert caution == "x_flc_crclean.fits stays as it is and was made otherwise (CRTHRESH is 0.9 there and 0.2 now)"


def test_products_that_have_more_than_is_asked_for_are_finished(flc):
    clean(flc, prob=True, preview=True)
    assert clean(flc).status == "finished"
    assert clean(flc, inpaint="none").status == "finished"


def test_inputs_that_would_become_the_same_products_clash():
    assert clashes(["a/x.fits", "b/x.fits"], None) == {}
    (clash,) = clashes(["a/x.fits", "b/x.fits", "a/y.fits"], "out").items()
    assert clash == ("b/x.fits", "would become the same products as a/x.fits: clean it into another --output-dir")
    assert list(clashes(["x.fits", "x.fits.gz"], None)) == ["x.fits.gz"]


# Models that stay loaded


def test_a_loaded_model_serves_the_next_file_and_other_weights_are_loaded_anew(flc, tmp_path, monkeypatch):
    loads = []
    monkeypatch.setattr(model, "load_resolved", lambda *a, **k: (loads.append(a[0].root), load_resolved(*a, **k))[1])
    making._loaded.cache_clear()
    for name in "abb":
        root = tmp_path / name
        registry = read_registry(root if root.is_dir() else copy_registry(root, SMALL))
        monkeypatch.setattr(cleaning, "default_registry", lambda registry=registry: registry)
        clean(flc, output_dir=tmp_path / "out", overwrite=True)
    assert loads == [tmp_path / "a", tmp_path / "b"]


# What cannot be done


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"grow": -1}, "grow is -1: expected"),
        ({"dq_only": True, "inpaint": "medmask"}, "expected one of the two"),
        ({"threshold": 7}, "expected a probability"),
        ({"device": "tpu"}, "does not exist here"),
        ({"engine": "abacus"}, "expected one of auto, torch, openvino"),
    ],
)
def test_wrong_arguments_are_usage_errors_and_write_nothing(options, message, flc):
    with pytest.raises(UsageError, match=message):
        clean(flc, **options)
    assert names(flc.parent) == ["x_flc.fits"]


def test_dq_only_needs_a_dq_of_bits(tmp_path):
    path = write(tmp_path / "x_ooi.fits", science(ELECTRONS, None), **DECAM)
    with pytest.raises(InvalidFileError, match=r"x_ooi.fits: the DQ of DECam g is not known to hold bits"):
        clean(path, model="decam", inpaint="auto", dq_only=True)


def test_an_inpainter_for_another_unit_is_refused(tmp_path):
    path = write(tmp_path / "x_ooi.fits", science(ELECTRONS, None), **DECAM)
    with pytest.raises(NoModelError, match=r"x_ooi.fits: .* takes electron, the mask model adu"):
        clean(path, model="decam", inpaint="ACS-WFC-F606W-2-32")


@pytest.mark.parametrize("folder", ["/proc/nowhere", "{file}"])
def test_a_folder_that_cannot_be_written_to_is_one_sentence(folder, flc):
    with pytest.raises(OutputError, match=r"cannot be written: .*; choose another output_dir"):
        clean(flc, output_dir=folder.format(file=flc))
    assert names(flc.parent) == ["x_flc.fits"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_one_sentence(flc):
    flc.parent.chmod(0o555)
    with pytest.raises(OutputError, match="Permission denied"):
        clean(flc)


def test_a_file_of_the_user_that_comes_while_an_exposure_is_cleaned_is_not_replaced(flc, monkeypatch):
    wanted = flc.with_name("x_flc_crmask.fits")
    write_mask = products.mask_file

    def meanwhile(*arguments):
        wanted.write_text("mine")
        return write_mask(*arguments)

    monkeypatch.setattr(products, "mask_file", meanwhile)
    with pytest.raises(OutputError, match=r"x_flc_crmask\.fits: exists and is no product of deepcr-zoo"):
        clean_file(flc, SMALL, "medmask", overwrite=True)
    assert wanted.read_text() == "mine"
    assert not flc.with_name("x_flc_crclean.fits").exists()


@pytest.mark.slow
def test_a_file_size_limit_leaves_nothing_half_written(flc, tmp_path):
    code = f"import deepcr_zoo; deepcr_zoo.clean_file({str(flc)!r}, {SMALL!r}, 'medmask')"
    limit = 60_000  # the mask fits, the copy does not
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert "OutputError" in done.stderr
    assert "File too large; make room there, or choose another output_dir" in done.stderr
    assert names(flc.parent) == ["x_flc.fits"]


def test_a_full_disk_leaves_nothing_half_written(flc, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    code = f"import deepcr_zoo; deepcr_zoo.clean_file({str(flc)!r}, {SMALL!r}, 'medmask', output_dir={str(disk)!r})"
    script = f'mount -t tmpfs -o size=100k none {disk} && {{ {sys.executable} -c "$0"; ls -A {disk}; }}'
    done = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "sh", "-c", script, code], capture_output=True, text=True
    )
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"no disk of our own can be made here: {done.stderr.strip()}")
    assert "No space left on device; make room there, or choose another output_dir" in done.stderr
    assert done.stdout == ""


def test_leftovers_of_killed_processes_are_swept_and_those_of_others_are_not(flc):
    gone = subprocess.Popen(["true"])
    gone.wait()
    host = process_space()
    running, elsewhere = f"{host}-{os.getpid()}", f"not{host}-{gone.pid}"
    parts = [f".x_flc_crmask.fits.{owner}-0a1b2c3d.part" for owner in (f"{host}-{gone.pid}", running, elsewhere)]
    parts.append(f".y_flc_crmask.fits.{host}-{gone.pid}-0a1b2c3d.part")
    for part in parts:
        (flc.parent / part).write_text("half")
    clean(flc)
    assert [name for name in names(flc.parent) if name.startswith(".")] == sorted(parts[1:])


@pytest.mark.slow
def test_two_runs_at_once_do_not_harm_each_other(tmp_path):
    (tmp_path / "night").mkdir()
    for seed in range(8):
        acs_flc(tmp_path / "night" / f"{seed}_flc.fits", seed=seed)
    command = [sys.executable, "-m", "deepcr_zoo", "clean", str(tmp_path / "night"), "--model", SMALL, "--overwrite"]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) for _ in range(2)]
    for process in both:
        _, errors = process.communicate()
        assert process.returncode == 0, errors
    assert len(names(tmp_path / "night")) == 24


# Any file at all

HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "EXPTIME": st.one_of(st.floats(-1, 1e6, allow_nan=False), st.just("long"), st.booleans()),
        "GAIN": st.floats(0, 20),
        "ATODGAIN": st.floats(0, 20),
        "TELESCOP": st.sampled_from(["HST", "hst  ", "CTIO 4.0-m telescope", ""]),
        "INSTRUME": st.sampled_from(["ACS", "STIS", "WFPC2", "DECam", "X"]),
        "DETECTOR": st.sampled_from(["WFC", "CCD", "UVIS"]),
        "FILTER": st.sampled_from(["F606W", "g DECam", "", "Clear"]),
        "NCOMBINE": st.sampled_from([0, 1, 3, "two"]),
        "BLEVCORR": st.sampled_from(["COMPLETE", "PERFORM", ""]),
        "NEXTEND": st.integers(0, 3),
        "XSCALE": st.sampled_from([0.5, 2.0]),
        "XZERO": st.sampled_from([-100.0, 32768.0]),
        "BINAXIS1": st.integers(0, 4),
        "CRTHRESH": st.one_of(st.floats(0, 1), st.just("INDEF")),
        "OBSERVER": st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=90),
        "HISTORY": st.just("an old line"),
    },
)
SHAPES = st.one_of(
    st.tuples(st.integers(1, 40), st.integers(1, 40)), st.tuples(st.integers(1, 5)), st.tuples(*[st.integers(1, 3)] * 3)
)
DTYPES = st.sampled_from(["u1", "i2", "u2", "i4", "u4", "i8", "f4", "f8"])
UNITS = st.sampled_from(["ELECTRONS", "electrons/s", "COUNTS", "DN/S", "adu", "Jy", None, ""])


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data(), unit=UNITS, keywords=HEADERS, primary=st.booleans())
def test_any_image_is_cleaned_as_promised_or_refused_in_one_sentence(data, unit, keywords, primary, tmp_path_factory):
    folder = tmp_path_factory.mktemp("any")
    dtype, shape = np.dtype(data.draw(DTYPES)), data.draw(SHAPES)
    image = data.draw(arrays.arrays(dtype, shape, elements=arrays.from_dtype(dtype)))
    header = fits.Header({"BUNIT": unit} if unit is not None else {})
    header.update(keywords)
    hdus = [fits.PrimaryHDU(image, header)] if primary else [fits.PrimaryHDU(), fits.ImageHDU(image, header, name="SCI")]
    path = folder / "x.fits"
    fits.HDUList(hdus).writeto(path)
    path.write_bytes(path.read_bytes().replace(b"XSCALE  =", b"BSCALE  =").replace(b"XZERO   =", b"BZERO   ="))
    before = path.read_bytes()
    done, refusal = attempt(path)
    assert path.read_bytes() == before
    if done is None:
        assert "\n" not in refusal
        assert names(folder) == ["x.fits"]
        return
    assert image.ndim >= 2
    assert image.size == np.prod(image.shape[-2:])
    mask = fits.getdata(done.outputs[0], 1).astype(bool)
    index = 0 if primary else 1
    stored, kept = (fits.getdata(file, index, do_not_scale_image_data=True) for file in (path, done.outputs[1]))
    assert (kept.dtype, kept.shape) == (stored.dtype, stored.shape)
    assert stored.shape[-2:] == mask.shape
    everywhere = mask.reshape(stored.shape)
    assert kept[~everywhere].tobytes() == stored[~everywhere].tobytes()
    assert not everywhere[~np.isfinite(fits.getdata(path, index))].any()
    for output in done.outputs:
        with fits.open(output, checksum=True, disable_image_compression=True) as hdus:
            assert all(hdu._checksum_valid and hdu._datasum_valid for hdu in hdus)


def attempt(path):
    """Return the record, or the error text."""
    try:
        return clean_file(path, SMALL, "medmask", grow=1), ""
    except DeepcrZooError as error:
        return None, str(error)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
def test_products_can_be_read_by_those_who_can_read_the_exposure_and_keep_narrower_permissions(flc):
    flc.chmod(0o640)
    done = clean(flc)
    assert {stat.S_IMODE(Path(path).stat().st_mode) for path in done.outputs} == {0o640}
    for mode, kept in ((0o600, 0o600), (0o644, 0o640)):
        for path in done.outputs:
            Path(path).chmod(mode)
        done = clean(flc, overwrite=True)
        assert {stat.S_IMODE(Path(path).stat().st_mode) for path in done.outputs} == {kept}


def test_options_that_differ_in_the_seventh_digit_are_others(tmp_path):
    path = tmp_path / "x.fits"
    pixels = scene()[0]
    fits.PrimaryHDU((pixels + 1e6).astype("f8"), fits.Header({"BUNIT": "counts", "EXPTIME": 100.0})).writeto(path)
    clean(path, bias=1000000, gain=1.0)
    with pytest.raises(OutputError, match="bias 1000003"):
        clean(path, bias=1000003, gain=1.0)


def test_products_clash_through_a_link_to_their_folder_too(tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "d")
    paths = [str(tmp_path / "d" / "x.fits"), str(tmp_path / "link" / "x.fits.gz")]
    assert list(clashes(paths, None)) == paths[1:]


def test_a_picture_of_another_run_that_stays_is_a_caution(flc):
    clean(flc, preview=True)
    (caution,) = clean(flc, threshold=0.9, overwrite=True).cautions
    assert caution == "x_flc_crpreview.png stays as it is and shows another result"


def test_files_that_are_cleaned_in_several_threads_have_their_own_cautions_alone(tmp_path):
    rng, paths = np.random.default_rng(1), []
    for number in range(12):
        pixels, mask = rng.normal(1000, 10, (64, 64)).astype(np.float32), np.zeros((64, 64), bool)
        mask[10, 10:40] = True
        pixels[10, 10 : 10 + number] = np.nan  # of the mask, which is a caution of this file alone
        paths.append(tmp_path / f"{number}.fits")
        fits.PrimaryHDU(pixels, fits.Header({"INSTRUME": "Foo", "BUNIT": "electron"})).writeto(paths[-1])
        np.savez(paths[-1].with_suffix(".npz"), mask)
    before = warnings.showwarning
    with ThreadPoolExecutor(4) as threads:
        done = list(threads.map(lambda path: clean_file(path, mask=path.with_suffix(".npz"), inpaint="medmask"), paths))
    for number, one in enumerate(done):
        found = [caution for caution in one.cautions if "pixels of the mask" in caution or "pixel of the mask" in caution]
        assert [f": {number} pixel" in caution for caution in found] == [True] * bool(number), one.cautions
    assert warnings.showwarning is before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_process_that_is_forked_while_a_thread_cleans_can_clean(flc, tmp_path):
    clean(flc, output_dir=tmp_path / "first")  # loads what it needs
    begun, may_end = threading.Event(), threading.Event()

    def wait(reason):
        begun.set()
        may_end.wait(120)

    options = CleanOptions(model=SMALL, inpaint="medmask", output_dir=tmp_path / "thread")
    with ThreadPoolExecutor(1) as threads:
        thread = threads.submit(clean_with, flc, options, wait)
        assert begun.wait(60)
        forked = multiprocessing.get_context("fork").Process(
            target=clean, args=[flc], kwargs={"output_dir": tmp_path / "fork"}
        )
        forked.start()
        forked.join(60)
        is_done = forked.exitcode == 0
        forked.kill()
        may_end.set()
        assert thread.result().status == "cleaned"
    assert is_done
    assert names(tmp_path / "fork") == names(tmp_path / "first")
