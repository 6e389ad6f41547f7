"""Unusable files and outlying exposures are named, and skipped or refused as the recipe says."""

import bz2
import dataclasses
import gzip
import lzma
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from scipy import ndimage

from deepcr_zoo.dataset.backgrounds import without_odd_backgrounds
from deepcr_zoo.dataset.build import assemble, build_dataset, label_visits
from deepcr_zoo.dataset.drizzle import drizzle_visit, environment
from deepcr_zoo.dataset.exposures import read_chips, read_facts
from deepcr_zoo.dataset.labels import label_visit
from deepcr_zoo.dataset.plans import plan_build
from deepcr_zoo.dataset.store import Home
from deepcr_zoo.errors import (
    DataError,
    DrizzleError,
    InterruptedWorkError,
    InvalidDocumentError,
    InvalidFileError,
    OutputError,
)
from deepcr_zoo.files import sha256_of
from deepcr_zoo.simulate.truth import read_truth, truth_path
from tests.dataset.visits import copy_changed, recipe_of, rule

pytestmark = pytest.mark.usefixtures("drizzlepac_starts_at_once")

# Files


def header(**keywords):
    def change(hdus):
        for hdu in hdus:
            hdu.header.update({name: value for name, value in keywords.items() if name in hdu.header})

    return change


def cards(*added):
    def change(hdus):
        for one in added:
            hdus["SCI", 1].header.append(one)

    return change


def without_flags(hdus):
    del hdus["DQ", 1]


def flags_of_another_shape(hdus):
    hdus["DQ", 1].data = hdus["DQ", 1].data[:10]


def without_sky(hdus):
    for name in ("CTYPE1", "CTYPE2"):
        hdus["SCI", 1].header[name] = "LINEAR"


def truncated(path):
    path.write_bytes(path.read_bytes()[:-100_000])


def no_fits(path):
    path.write_bytes(b"not found")


PACK = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}
BAD = {
    "truncated": (truncated, "is truncated"),
    "no FITS file": (no_fits, "is a text, not a FITS file"),
    "counts": (header(BUNIT="COUNTS"), "is in COUNTS: expected ELECTRONS"),
    "a rate": (header(BUNIT="ELECTRONS/S"), "is in ELECTRONS/S: expected ELECTRONS"),
    "no flags": (without_flags, "has no DQ: expected an extension DQ,1"),
    "odd flags": (
        flags_of_another_shape,
        "its DQ extension holds >i2 of shape (10, 384): expected integers of shape (384, 384)",
    ),
    "no time": (header(EXPTIME=0.0), "has no positive EXPTIME"),
    "no sky": (without_sky, "its place on the sky (WCS) cannot be read"),
    "cards of other distortions": (cards(("DQ2", "NAXES: 2"), ("DQ2", "NAXES: 2")), "its header has DQ2"),
    "a record among polynomials": (cards(("A_1_1", "NTERMS: 3")), "its header has A_1_1"),
    "a text among polynomials": (cards(("B_2_0", "NTERMS:3")), "its header has B_2_0"),
    "axes of other coordinates": (cards(("WCSAXESA", 100_000)), "its header has WCSAXESA"),
    "another scale": (header(IDCSCALE=0.0005), "the sides of its pixels are 0.0005, 0.0"),
    "another camera": (header(INSTRUME="WFC3", DETECTOR="UVIS"), "is of HST WFC3/UVIS"),
}


@pytest.fixture
def folder(exposures, tmp_path):
    """A copy of a visit of three exposures."""
    for file in (exposures / "extragalactic").glob("*_flc.fits"):
        copy_changed(file, tmp_path / "visit")
    return tmp_path / "visit"


def rules(folder, **more):
    return {"a": rule(min(folder.glob("*_flc.fits")), "extragalactic", **more)}


@pytest.mark.parametrize("what", BAD)
def test_a_file_that_cannot_be_used_is_named_and_skipped_or_refused(folder, tmp_path, what):
    recipe, refusing = recipe_of(rules(folder)), recipe_of(rules(folder), "build.quality.on_bad_file=refuse")
    change, reason = BAD[what]
    bad = max(folder.glob("*_flc.fits"))
    if change in (truncated, no_fits):
        change(bad)
    else:
        with fits.open(bad, mode="update") as hdus:
            change(hdus)
    plan = plan_build(recipe, [folder], home=Home(tmp_path))
    (rejected,) = plan.rejected
    assert rejected.what == str(bad)
    assert reason in rejected.reason
    assert "report this" not in rejected.reason
    assert len(plan.visits[0].exposures) == 2
    with pytest.raises(InvalidFileError) as raised:
        plan_build(refusing, [folder], home=Home(tmp_path))
    assert str(raised.value).startswith(str(bad))
    assert reason in str(raised.value)
    assert "build.quality.on_bad_file" in str(raised.value)


def test_packed_exposures_are_planned_like_plain_ones(folder, tmp_path):
    plain = plan_build(recipe_of(rules(folder)), [folder], home=Home(tmp_path)).visits[0].exposures
    recipe = recipe_of(rules(folder))
    for file, (ending, pack) in zip(sorted(folder.iterdir()), PACK.items(), strict=True):
        (folder / f"{file.name}{ending}").write_bytes(pack(file.read_bytes()))
        file.unlink()
    found = plan_build(recipe, [folder], home=Home(tmp_path)).visits[0].exposures
    assert [one.path.suffix for one in found] == [".gz", ".bz2", ".xz"]
    assert [one.name for one in found] == [one.name for one in plain]
    for one, other in zip(plain, found, strict=True):
        np.testing.assert_array_equal(one.outlines[0], other.outlines[0])


@pytest.mark.parametrize("ending", [".Z", ".zip", ".fz", ".part"])
def test_files_that_are_packed_otherwise_are_named_and_skipped_or_refused(ending, folder, tmp_path):
    recipe, refusing = recipe_of(rules(folder)), recipe_of(rules(folder), "build.quality.on_bad_file=refuse")
    last = max(folder.iterdir())
    last.rename(folder / f"{last.name}{ending}")
    (folder / f"{last.name}.md5").touch()
    (rejected,) = plan_build(recipe, [folder], home=Home(tmp_path)).rejected
    assert rejected.what == f"{last}{ending}"
    assert rejected.reason == "is not read as it is packed: unpack it (what ends in .gz, .bz2, .xz is read)"
    with pytest.raises(InvalidFileError, match=r"is not read as it is packed: .* \(build.quality.on_bad_file\)"):
        plan_build(refusing, [folder], home=Home(tmp_path))


def test_a_visit_with_one_exposure_is_named(folder, exposures, tmp_path):
    first, *others = sorted(folder.glob("*_flc.fits"))
    for file in others:
        file.unlink()
    galaxy = exposures / "resolved_galaxy"
    both = {**rules(folder), "b": rule(min(galaxy.glob("*_flc.fits")), "resolved_galaxy")}
    plan = plan_build(recipe_of(both), [folder, galaxy], home=Home(tmp_path))
    assert [visit.field_type for visit in plan.visits] == ["resolved_galaxy"]
    (rejected,) = plan.rejected
    name = first.name.removesuffix("_flc.fits")
    assert rejected.reason.startswith(f"{name}: no other exposure of this visit, target and filter overlaps; labels need 2")
    with pytest.raises(DataError, match=f"no visit can be labelled:\n.*{name}"):
        plan_build(recipe_of(rules(folder)), [folder], home=Home(tmp_path))


def test_exposures_that_do_not_overlap_are_visits_of_their_own(folder, tmp_path):
    last = max(folder.glob("*_flc.fits"))
    with fits.open(last, mode="update") as hdus:
        hdus["SCI", 1].header["CRVAL2"] += 0.05
    plan = plan_build(recipe_of(rules(folder)), [folder], home=Home(tmp_path))
    (visit,) = plan.visits
    assert len(visit.exposures) == 2
    (rejected,) = plan.rejected
    assert last.name.removesuffix("_flc.fits") in rejected.reason
    assert "overlaps" in rejected.reason


def test_a_visit_that_would_need_a_grid_of_any_size_is_rejected(folder, tmp_path):
    for file in folder.glob("*_flc.fits"):
        with fits.open(file, mode="update") as hdus:
            for name in ("CD1_1", "CD1_2", "CD2_1", "CD2_2"):
                hdus["SCI", 1].header[name] *= 100
    with pytest.raises(DataError, match=r"its exposures cover .* pixels: expected 30,000 at most, for AstroDrizzle"):
        build_dataset(recipe_of(rules(folder)), [folder], home=Home(tmp_path))


def test_exposures_through_another_filter_are_not_part_of_the_visit(folder, tmp_path):
    bad = max(folder.glob("*_flc.fits"))
    with fits.open(bad, mode="update") as hdus:
        name = "FILTER1" if hdus[0].header["FILTER1"] == "F606W" else "FILTER2"
        hdus[0].header[name] = "F814W"
    plan = plan_build(recipe_of(rules(folder)), [folder], home=Home(tmp_path))
    assert [(one.what, one.reason) for one in plan.rejected] == [
        (str(bad), "no rule under data.visits takes in filter F814W")
    ]
    assert len(plan.visits[0].exposures) == 2
    mixed = plan_build(recipe_of(rules(folder, filters=["F606W", "F814W"])), [folder], home=Home(tmp_path))
    assert [len(visit.exposures) for visit in mixed.visits] == [2]
    assert "no other exposure of this visit, target and filter overlaps" in mixed.rejected[0].reason


def test_different_files_of_one_exposure_are_an_error_but_copies_are_not(folder, tmp_path):
    file = min(folder.glob("*_flc.fits"))
    copy_changed(file, tmp_path / "copy")
    plan = plan_build(recipe_of(rules(folder)), [folder, tmp_path / "copy"], home=Home(tmp_path))
    assert len(plan.visits[0].exposures) == 3
    copy_changed(file, tmp_path / "copy", header(EXPTIME=77.0))
    with pytest.raises(DataError, match="different files of the same exposure"):
        plan_build(recipe_of(rules(folder)), [folder, tmp_path / "copy"], home=Home(tmp_path))


def test_a_file_that_changes_after_planning_fails_its_visit_for_now(folder, tmp_path):
    plan = plan_build(recipe_of(rules(folder)), [folder], home=Home(tmp_path / "home"))
    with fits.open(min(folder.glob("*_flc.fits")), mode="update") as hdus:
        hdus["SCI", 1].data += 1
    (outcome,) = label_visits(plan)
    assert "has changed since its visit was planned" in outcome.error
    with pytest.raises(InterruptedWorkError, match="1 of 1 visits are not labelled: run the same command again"):
        assemble(plan)


def test_a_rootname_with_path_separators_is_not_used_as_a_file_name(folder, tmp_path):
    for number, file in enumerate(sorted(folder.glob("*_flc.fits"))):
        with fits.open(file, mode="update") as hdus:
            hdus[0].header["ROOTNAME"] = f"../../../evil{number}"
    (visit,) = plan_build(recipe_of(rules(folder)), [folder], home=Home(tmp_path)).visits
    assert [one.name for one in visit.exposures] == [path.name.removesuffix(".fits") for path in sorted(folder.iterdir())]


def test_an_unwritable_home_is_one_error(folder, tmp_path):
    (tmp_path / "file").write_text("no folder")
    plan = plan_build(recipe_of(rules(folder)), [folder], home=Home(tmp_path / "file"))
    with pytest.raises(OutputError, match=r"file: cannot be written: Not a directory; .* DEEPCR_ZOO_DATA"):
        label_visits(plan)


@pytest.mark.parametrize(("size", "held"), [(512, "0 x 0"), (192, "1 x 1"), (160, "2 x 2")])
def test_chips_that_leave_no_stamp_for_training_are_an_error_before_labelling(size, held, folder, tmp_path):
    recipe = recipe_of(rules(folder), f"build.stamps.size={size}")
    with pytest.raises(DataError) as raised:
        plan_build(recipe, [folder], home=Home(tmp_path / "home"))
    assert str(raised.value) == (
        f"{recipe.name}: no stamp would be left for training: the chips of training visits hold at most {held} stamps of "
        f"{size} pixels within borders of 32 (build.stamps): expected 3 columns or more, some for validation and one as "
        "guard; give larger exposures or smaller stamps"
    )
    assert not (tmp_path / "home").exists()


def test_chips_that_are_too_small_for_a_stamp_reject_their_visit_before_it_is_drizzled(folder, tmp_path, monkeypatch):
    (visit,) = plan_build(recipe_of(rules(folder)), [folder], home=Home(tmp_path)).visits
    build = visit.build.model_copy(update={"stamps": visit.build.stamps.model_copy(update={"size": 512})})
    monkeypatch.setattr("deepcr_zoo.dataset.drizzle.drizzle_visit", None)
    record = label_visit(dataclasses.replace(visit, build=build), Home(tmp_path))
    assert record.rejection == "its chips are too small for stamps of 512 pixels within borders of 32"


@pytest.mark.slow
def test_an_old_distortion_table_without_a_new_one_asks_nothing_and_rejects_nothing(folder, tmp_path):
    """drizzlepac asks whether to go on without it, and nobody is there to answer."""
    for file in folder.glob("*_flc.fits"):
        with fits.open(file, mode="update") as hdus:
            hdus[0].header["DGEOFILE"] = "jref$qbu16424j_dxy.fits"
            hdus[0].header.remove("NPOLFILE", ignore_missing=True)
    before = {file: file.read_bytes() for file in folder.iterdir()}
    (visit,) = plan_build(recipe_of(rules(folder)), [folder], home=Home(tmp_path)).visits
    record = label_visit(visit, Home(tmp_path))
    assert (record.rejection, len(record.exposures)) == (None, 3)
    assert {file: file.read_bytes() for file in folder.iterdir()} == before


def with_hashes(paths):
    return [(path, sha256_of(path)) for path in paths]


def test_the_format_of_a_column_is_not_run_as_code(folder, tmp_path):
    """drizzlepac's libraries evaluate it where pixels of the primary HDU are followed by one table: a waivered file."""
    hostile, *others = sorted(folder.glob("*_flc.fits"))
    harmless = "E15.7"
    code = f"{harmless}G+0*__import__('os').mkdir('marker') #".replace("'", "''")
    with fits.open(hostile) as hdus:
        header = hdus[0].header.copy()
        header.extend(hdus["SCI", 1].header.copy(strip=True), update=True)
        header.remove("NEXTEND", ignore_missing=True)
        column = fits.Column(name="A", format=harmless, array=np.ones(1), ascii=True)
        written = fits.HDUList([fits.PrimaryHDU(hdus["SCI", 1].data, header), fits.TableHDU.from_columns([column])])
    written.writeto(hostile, overwrite=True, output_verify="ignore")
    before, card, after = hostile.read_bytes().partition(f"TFORM1  = '{harmless}".encode())
    hostile.write_bytes(before + f"TFORM1  = '{code}'".encode().ljust(80) + after[80 - len(card) :])
    recipe = recipe_of(rules(folder))
    with pytest.raises(InvalidFileError, match=r"is in the primary HDU: expected extensions SCI"):
        read_facts(hostile, recipe.instrument)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with pytest.raises(DrizzleError):
        drizzle_visit(
            with_hashes([hostile, *others]), scratch, recipe.build.drizzle, 0, None, tmp_path / "logs" / "visit.log"
        )
    assert not (scratch / "marker").exists()


def test_names_of_files_in_a_header_replace_no_file(folder, tmp_path):
    """drizzlepac splits exposures of STIS into files that are named by their headers, and removes those that are there."""
    mine = tmp_path / "mine_flt.fits"
    mine.write_text("mine")
    hostile = min(folder.glob("*_flc.fits"))
    with fits.open(hostile, mode="update") as hdus:
        hdus[0].header.update({"INSTRUME": "STIS", "OBSTYPE": "IMAGING"})
        times = {"EXPTIME": 500.0, "DATE-OBS": "2020-01-01", "TIME-OBS": "00:00:00", "EXPSTART": 55000.0, "EXPEND": 55001.0}
        hdus["SCI", 1].header.update({"EXPNAME": str(tmp_path / "mine"), **times})
        for name in ("SCI", "ERR", "DQ"):
            hdus.append(hdus[name, 1].copy())
            hdus[-1].ver = 2
    scratch, log = tmp_path / "scratch", tmp_path / "logs" / "visit.log"
    scratch.mkdir()
    with pytest.raises(DrizzleError, match=r"its headers ask for what no exposure needs: a change of .*mine_flt\.fits"):
        drizzle_visit(with_hashes([hostile]), scratch, recipe_of(rules(folder)).build.drizzle, 0, None, log)
    assert mine.read_text() == "mine"


def test_drizzlepac_sees_the_instrument_that_this_package_has_read(folder, tmp_path):
    paths = sorted(folder.glob("*_flc.fits"))
    for path in paths:
        with fits.open(path, mode="update") as hdus:
            hdus["SCI", 1].header.update({"INSTRUME": "ACS", "DETECTOR": "WFC"})
            hdus[0].header.update({"INSTRUME": "STIS", "DETECTOR": "CCD"})
    scratch, log = tmp_path / "scratch", tmp_path / "logs" / "visit.log"
    scratch.mkdir()
    drizzled = drizzle_visit(with_hashes(paths), scratch, recipe_of(rules(folder)).build.drizzle, 0, None, log)
    assert fits.getval(drizzled.exposure(0), "INSTRUME", 0) == "ACS"


@pytest.mark.parametrize("step", [1.5e-6, 0.001])
def test_pixels_that_are_no_squares_of_the_cameras_side_are_refused(step, folder):
    """Without IDCSCALE, AstroDrizzle's grid has pixels of their area."""
    file = min(folder.glob("*_flc.fits"))
    with fits.open(file, mode="update") as hdus:
        header = hdus["SCI", 1].header
        for name in [*header["IDC*"], *header["A_*"], *header["B_*"]]:
            header.remove(name)
        header.update({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CD1_2": 0.0, "CD2_2": step / 3600})
    with pytest.raises(InvalidFileError, match=r"SCI,1: the sides of its pixels are .* arcsec \(IDCSCALE and WCS\)"):
        read_facts(file, recipe_of(rules(folder)).instrument)


def test_a_calibrated_exposure_with_a_part_without_light_is_refused_by_astrodrizzle_and_keeps_its_flags(folder):
    file, instrument = min(folder.glob("*_flc.fits")), recipe_of(rules(folder)).instrument
    with fits.open(file, mode="update") as hdus:
        width, height = hdus["SCI", 1].shape[::-1]
        hdus["SCI", 1].header["DATASEC"] = f"[2:{width},1:{height}]"
        hdus["DQ", 1].data[50, 50] = 4
    with pytest.raises(InvalidFileError, match=r"SCI,1: .* a part of the frame sees no light \(DATASEC, TRIMSEC\)"):
        read_facts(file, instrument)
    (facts,) = read_facts(file, instrument, "dithers")
    (chip,) = read_chips(facts, instrument)
    assert chip.quality.shape == (height, width - 1)
    assert chip.quality[50, 49] == 4


def test_a_file_that_changes_after_its_visit_was_planned_is_not_drizzled(folder, tmp_path):
    (visit,) = plan_build(recipe_of(rules(folder)), [folder], home=Home(tmp_path)).visits
    with fits.open(min(folder.glob("*_flc.fits")), mode="update") as hdus:
        hdus["SCI", 1].data[:20] += 5000
    with pytest.raises(InvalidFileError, match=r"has changed since its visit was planned: run again when it is at rest"):
        label_visit(visit, Home(tmp_path))


def test_exposures_of_two_shapes_in_one_visit_are_labelled_by_dithers(folder, tmp_path):
    file = sorted(folder.glob("*_flc.fits"))[1]
    with fits.open(file, mode="update") as hdus:
        for name in ("SCI", "ERR", "DQ"):
            hdus[name, 1].data = hdus[name, 1].data[:, :-10].copy()
    loose = ("build.labels=dithers", "build.dithers.max_residual_pixels=3", "build.dithers.max_seeing_ratio=20")
    (visit,) = plan_build(recipe_of(rules(folder), *loose), [folder], home=Home(tmp_path)).visits
    record = label_visit(visit, Home(tmp_path))
    assert (record.rejection, len(record.exposures)) == (None, 3)


def test_a_table_of_an_exposure_does_not_reach_drizzlepac(folder, tmp_path):
    table = fits.BinTableHDU.from_columns([fits.Column(name="A", format="E", array=np.ones(1))], name="HDRLET")
    paths = [copy_changed(path, tmp_path / "with", lambda hdus: hdus.append(table)) for path in sorted(folder.iterdir())]
    recipe, scratch = recipe_of(rules(folder)), tmp_path / "scratch"
    scratch.mkdir()
    drizzled = drizzle_visit(with_hashes(paths), scratch, recipe.build.drizzle, 0, None, tmp_path / "logs" / "visit.log")
    with fits.open(drizzled.exposure(0)) as seen, fits.open(paths[0]) as given:
        assert [hdu.name for hdu in seen if hdu.name] == [
            hdu.name for hdu in given if hdu.name in ("SCI", "ERR", "DQ", "PRIMARY")
        ]
        assert "HDRLET" in given


def test_an_unknown_instrument_is_an_error(tmp_path):
    recipe = recipe_of({"a": {"proposal": 1, "visit": "01", "field_type": "extragalactic", "split": "train"}})
    unknown = recipe.model_copy(update={"instrument": recipe.instrument.model_copy(update={"detector": "HRC"})})
    with pytest.raises(InvalidDocumentError, match=r"HST ACS HRC is not described"):
        plan_build(unknown, home=Home(tmp_path))


# Outlying exposures


def labelled(folder, tmp_path, field_type="extragalactic", *settings, **more):
    recipe = recipe_of({"a": rule(min(folder.glob("*_flc.fits")), field_type, **more)}, *settings)
    return build_dataset(recipe, [folder], home=Home(tmp_path / "home")).manifest.visits[0].record


def judged(folder, tmp_path):
    """Exposures with a usual background, and the rejected ones."""
    (visit,) = plan_build(recipe_of(rules(folder)), [folder], home=Home(tmp_path / "home")).visits
    return without_odd_backgrounds(visit, visit.exposures)


def root(path):
    return path.name.removesuffix("_flc.fits")


def test_an_exposure_with_an_odd_background_is_rejected_before_the_others_are_labelled(folder, tmp_path):
    bright = sorted(folder.glob("*_flc.fits"))[1]
    with fits.open(bright, mode="update") as hdus:
        hdus["SCI", 1].data += 2 * np.median(hdus["SCI", 1].data)
    sound, rejected = judged(folder, tmp_path)
    ((what, reason),) = [(one.what, one.reason) for one in rejected]
    assert what == root(bright)
    assert "is 3 times what is usual in its visit (build.quality.max_background_ratio is 2)" in reason
    assert len(sound) == 2
    assert all(0.9 < one.background_ratio < 1.1 for one in sound)


def test_backgrounds_near_zero_are_not_compared(folder, tmp_path):
    for number, file in enumerate(sorted(folder.glob("*_flc.fits"))):
        with fits.open(file, mode="update") as hdus:
            hdus["SCI", 1].data += number - 1 - np.median(hdus["SCI", 1].data)
    sound, rejected = judged(folder, tmp_path)
    assert rejected == []
    assert len(sound) == 3


def test_only_the_exposure_without_a_usable_pixel_is_rejected(folder, tmp_path):
    blind = sorted(folder.glob("*_flc.fits"))[1]
    with fits.open(blind, mode="update") as hdus:
        hdus["DQ", 1].data[:] = 4
    sound, rejected = judged(folder, tmp_path)
    assert [(one.what, one.reason) for one in rejected] == [(root(blind), "all of its pixels are to be ignored")]
    assert len(sound) == 2


@pytest.mark.slow
def test_an_exposure_with_too_many_cosmic_rays_is_rejected_and_the_others_are_drizzled_again(folder, exposures, tmp_path):
    hit = max(folder.glob("*_flc.fits"))
    with fits.open(hit, mode="update") as hdus:
        for other in (exposures / "resolved_galaxy").glob("*_flc.fits"):
            hdus["SCI", 1].data += read_truth(truth_path(other))[0].cosmic_rays
    record = labelled(folder, tmp_path)
    ((what, reason),) = [(one.what, one.reason) for one in record.rejected]
    assert what == root(hit)
    assert "cosmic rays per cm2 and s is" in reason
    assert "build.quality.max_rate_ratio is 2" in reason
    assert [one.name for one in record.exposures] == sorted(root(path) for path in folder.glob("*_flc.fits"))[:2]


def test_a_visit_with_too_few_sound_exposures_is_rejected(folder, built, exposures, tmp_path):
    shutil.copytree(built.home.root, tmp_path / "home", copy_function=os.link)
    _, second, third = sorted(folder.glob("*_flc.fits"))
    third.unlink()
    with fits.open(second, mode="update") as hdus:
        hdus["SCI", 1].data *= 4
    galaxy = exposures / "resolved_galaxy"
    both = {**rules(folder), "b": rule(min(galaxy.glob("*_flc.fits")), "resolved_galaxy")}
    manifest = build_dataset(recipe_of(both), [folder, galaxy], home=Home(tmp_path / "home")).manifest
    assert [visit.record.field_type for visit in manifest.visits] == ["resolved_galaxy"]
    visit, exposure = manifest.rejected
    assert visit.reason == "1 of 2 exposures is sound, labels need 2 (build.quality.min_exposures)"
    assert exposure.what.startswith(f"{visit.what}, ")
    assert "its background of" in exposure.reason
    with pytest.raises(DataError, match=r"no stamp is left for training:\n.*1 of 2 exposures is sound"):
        build_dataset(recipe_of(rules(folder)), [folder], home=Home(tmp_path / "home"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("field_type", "pixels"),
    [("globular_cluster", 1.0), ("resolved_galaxy", 1.5)],
)
def test_a_misaligned_exposure_is_found_by_its_masks_on_stars(exposures, tmp_path, field_type, pixels):
    folder = tmp_path / "visit"
    files = [copy_changed(file, folder) for file in sorted((exposures / field_type).glob("*_flc.fits"))]
    with fits.open(files[1], mode="update") as hdus:
        for hdu in hdus[1:]:
            hdu.header["CRPIX1"] += 0.8 * pixels
            hdu.header["CRPIX2"] += 0.6 * pixels
    record = labelled(folder, tmp_path, field_type)
    ((what, reason),) = [(one.what, one.reason) for one in record.rejected]
    assert what == root(files[1])
    assert "cluster on stars" in reason
    assert all(one.star_excess < 4 for one in record.exposures)


def test_aligned_visits_have_no_more_masked_pixels_on_stars_than_elsewhere(built):
    for visit in built.manifest.visits:
        if visit.record.field_type != "extragalactic":  # a small one has hardly any star
            assert all(one.star_excess < 2 for one in visit.record.exposures)


# Alignment and labels


@pytest.mark.slow
def test_what_the_user_has_saved_for_drizzlepac_is_not_read(tmp_path, monkeypatch):
    pytest.importorskip("drizzlepac")
    saved = tmp_path / "user" / ".teal" / "tweakreg.cfg"
    saved.parent.mkdir(parents=True)
    shipped = Path(find_spec("drizzlepac").origin).parent / "pars" / "tweakreg.cfg"
    saved.write_text(shipped.read_text().replace("minobj = 15", "minobj = 99999"))
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    code = "from stsci.tools import teal; print(teal.load('drizzlepac.tweakreg')['OBJECT MATCHING PARAMETERS']['minobj'])"
    read = {
        home: subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True).stdout.split()[-1]
        for home, env in (("user", None), ("own", environment(tmp_path)))
    }
    assert read == {"user": "99999", "own": "15"}


@pytest.mark.slow
def test_tweakreg_aligns_a_shifted_exposure_and_its_rms_is_recorded(exposures, tmp_path):
    folder = tmp_path / "visit"
    files = [copy_changed(file, folder) for file in sorted((exposures / "globular_cluster").glob("*_flc.fits"))]
    with fits.open(files[1], mode="update") as hdus:
        for hdu in hdus[1:]:
            hdu.header["CRPIX1"] += 1.5
    record = labelled(folder, tmp_path, "globular_cluster", tweakreg={"conv_width": 3.5, "threshold": 50.0})
    assert record.rejected == []
    assert [one.fit_rms_pixels < 0.3 for one in record.exposures] == [True] * 3
    assert record.exposures[1].fit_rms_pixels > 0
    assert all(one.star_excess < 4 for one in record.exposures)


def test_a_visit_that_tweakreg_cannot_align_is_rejected_with_the_log_of_drizzlepac(exposures, tmp_path):
    folder = exposures / "globular_cluster"
    badly = {"tweakreg": {"conv_width": 3.5, "threshold": 1e6}}
    files = rule(min(folder.glob("*_flc.fits")), "globular_cluster", **badly)
    with pytest.raises(DataError, match="TweakReg could not align the exposures, check its threshold") as raised:
        build_dataset(recipe_of({"a": files}), [folder], home=Home(tmp_path))
    (log,) = (tmp_path / "logs").iterdir()
    assert f"logs/{log.name}" in str(raised.value)
    assert "Traceback" in log.read_text()


@pytest.mark.slow
def test_an_alignment_worse_than_the_recipe_allows_rejects_the_visit(exposures, tmp_path):
    folder = exposures / "globular_cluster"
    strict = rule(min(folder.glob("*_flc.fits")), "globular_cluster", tweakreg={"conv_width": 3.5, "threshold": 50.0})
    recipe = recipe_of({"a": strict}, "build.drizzle.max_fit_rms_pixels=0.0001")
    with pytest.raises(DataError, match=r"with an RMS of 0\.\d\d pixels: expected 0.0001 or better"):
        build_dataset(recipe, [folder], home=Home(tmp_path))


@pytest.mark.slow
def test_pixels_that_only_one_exposure_has_seen_are_ignored(exposures, tmp_path):
    """AstroDrizzle cannot find cosmic rays there."""
    folder = tmp_path / "visit"
    files = [copy_changed(file, folder) for file in sorted((exposures / "extragalactic").glob("*_flc.fits"))]
    with fits.open(files[0], mode="update") as hdus:
        shown = hdus["DQ", 1].data
        unseen = np.zeros(shown.shape, dtype=bool)
        unseen[150:190, 100:160] = True
    for path in files[1:]:
        with fits.open(path, mode="update") as hdus:
            hdus["DQ", 1].data[140:200, 90:170] |= 4
    recipe = recipe_of(rules(folder), "build.stamps.border=0", "build.stamps.size=384", "build.stamps.validation_fraction=0")
    dataset = build_dataset(recipe, [folder], home=Home(tmp_path / "home"))
    first = next(iter(dataset.exposures("train"))).read("ignore")["ignore"][0]
    assert first[unseen].all()
    far = ~ndimage.binary_dilation(unseen, iterations=40)
    far[:40], far[-40:], far[:, :40], far[:, -40:] = False, False, False, False
    assert first[far].mean() < 0.05
