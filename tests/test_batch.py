"""Many files: which ones, in which order, and what a failure or a killed process does to the rest."""

import os
import re
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from deepcr_zoo import batch
from deepcr_zoo.errors import InvalidFileError, SourceWarning, UsageError, warn
from tests.exposures.test_cleaning import names
from tests.fitsfiles import scene, science, write
from tests.registries import SMALL

# Which files


@pytest.fixture
def night(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "night").mkdir()
    for name in (
        "b.fits",
        "a.FITS.gz",
        "c.fits.fz",
        "a_crmask.fits",
        "b_crclean.fits",
        "notes.txt",
        ".b_crmask.fits.x.part",
    ):
        (tmp_path / "night" / name).touch()
    (tmp_path / "night" / "x[1].fits").touch()
    return tmp_path / "night"


def test_a_folder_gives_its_fits_files_and_none_of_our_products(night):
    request = batch.expand(["night"])
    assert request.paths == [f"night/{name}" for name in ("a.FITS.gz", "b.fits", "c.fits.fz", "x[1].fits")]
    assert request.named == set()
    assert batch.expand(["."]).empty["."].startswith("the folder holds no file, but products of deepcr-zoo, whose name")
    assert request.left_out == []


def test_packed_files_in_a_folder_are_found_by_any_fits_ending(night):
    for name in ("d.fits.bz2", "e.FIT.XZ", "f.fts"):
        (night / name).touch()
    assert batch.expand(["night"]).paths[-4:-1] == ["night/d.fits.bz2", "night/e.FIT.XZ", "night/f.fts"]
    assert batch.expand(["night/*.bz2"]).paths == ["night/d.fits.bz2"]


def test_files_in_a_folder_that_may_be_exposures_and_are_not_read_are_named_once(night):
    for name in (
        "g.fits.Z",
        "h.fits.html",
        "i.fits.crdownload",
        "night.tar.gz",
        "j.zip",
        "k.fits.1",
        "preview.png",
        "g.fits.md5",
    ):
        (night / name).touch()
    request = batch.expand(["night"])
    assert [Path(path).name for path in request.paths] == ["a.FITS.gz", "b.fits", "c.fits.fz", "x[1].fits"]
    assert request.left_out == [
        "night: 6 files left out, not FITS by their names: g.fits.Z, h.fits.html, i.fits.crdownload, j.zip, k.fits.1 and 1 "
        "more; unpack or rename them if they are exposures"
    ]


def test_hidden_files_in_a_folder_are_left_alone(night):
    (night / "._b.fits").touch()
    assert "night/._b.fits" not in batch.expand(["night"]).paths


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        ("night/b.fits[1]", "give the file and --extension 1"),
        ("night/b.fits[SCI,1]", "give the file and --extension SCI,1"),
        ("night/b.fits[SCI]", "give the file and --extension SCI"),
        ("night/b.fits+2", "give the file and --extension 2"),
        ("night/a.FITS.gz[0]", "give the file and --extension 0"),
        (
            "night/b.fits[1:100,*]",
            "a section of an image is not read: give the file, night/b.fits, or save the section as a file",
        ),
        ("night/gone.fits[1]", "nothing matches"),
        ("night/b*.fits[1]", "give the file and --extension 1"),
        ("night/gone*.fits[1]", "nothing matches"),
    ],
)
def test_an_extension_in_brackets_names_the_option_that_chooses_it(asked, answer, night):
    assert batch.expand([asked, "night/b.fits"]).empty == {asked: answer}


def test_wildcards_with_brackets_come_before_extensions(night):
    (night / "b.fits1").touch()
    assert batch.expand(["night/b.fits[1]", "night/[bc].fits*"]).paths == [
        "night/b.fits1",
        "night/b.fits",
        "night/c.fits.fz",
    ]


def test_wildcards_give_sorted_files_and_none_of_our_products(night):
    assert batch.expand(["night/*.fits"]).paths == ["night/b.fits", "night/x[1].fits"]
    assert batch.expand(["**/b*"]).paths == ["night/b.fits"]


def test_a_name_with_brackets_is_a_file_if_it_exists(night):
    assert batch.expand(["night/x[1].fits"]).paths == ["night/x[1].fits"]
    assert batch.expand(["night/x[1].fits"]).named == {"night/x[1].fits"}


def test_a_list_names_files_wildcards_and_folders(night, tmp_path):
    (tmp_path / "list.txt").write_text("# of tonight\n\nnight/b.fits\nnight/*.fz\n  night/b.fits  \n")
    request = batch.expand(["@list.txt", "night/b.fits"])
    assert request.paths == ["night/b.fits", "night/c.fits.fz"]
    assert request.named == {"night/b.fits"}


def test_each_file_comes_once_however_it_is_spelled(night):
    (night / "link.fits").symlink_to("b.fits")
    spellings = ["night/b.fits", "./night/b.fits", str(night / "b.fits"), "night/../night/b.fits", "night/link.fits"]
    assert batch.expand(spellings).paths == ["night/b.fits"]


def test_a_product_or_a_missing_file_that_is_named_is_left_to_the_reader(night):
    paths = ["night/b_crclean.fits", "gone.fits", "x" * 300]
    assert batch.expand(paths).paths == paths


def test_arguments_without_files_are_named_and_do_not_hide_the_others(night):
    request = batch.expand(["nothing/*.fits", "night/*_crclean.fits", "night/b.fits"])
    assert request.paths == ["night/b.fits"]
    assert request.empty == {
        "nothing/*.fits": "nothing matches",
        "night/*_crclean.fits": "matches products of deepcr-zoo alone: name the exposures",
    }


@pytest.mark.parametrize("content", [None, "@other.txt", b"\xff\xfe"])
def test_a_list_that_cannot_be_used_is_a_usage_error(content, night, tmp_path):
    if content is not None:
        (tmp_path / "list.txt").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UsageError, match=r"^@list.txt: "):
        batch.expand(["@list.txt"])


# How they are worked on


def work(path, folder=None):
    """Do what the path names."""
    if path.startswith("bad"):
        raise InvalidFileError(f"{path}: is bad")
    if path.startswith("bug"):
        return 1 // 0
    if path.startswith("usage"):
        raise UsageError("wrong for all")
    if path.startswith("warns"):
        warn("the disk is old", SourceWarning)
    if path.startswith("die"):
        os.kill(os.getpid(), signal.SIGKILL)
    if path.startswith("once"):  # kills its process the first time
        marker = Path(folder, path)
        if not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
    if path.startswith("slow"):
        time.sleep(0.5)
    if path == "threads":
        import torch

        return str(torch.get_num_threads())
    return path.upper()


@pytest.mark.parametrize("jobs", [1, 2])
def test_outcomes_come_in_order_and_failures_do_not_stop_the_rest(jobs):
    paths = ["slow", "b", "bad", "bug", "c"]
    outcomes = list(batch.run(work, paths, jobs))
    assert [outcome.path for outcome in outcomes] == paths
    assert [outcome.result for outcome in outcomes] == ["SLOW", "B", None, None, "C"]
    assert outcomes[2].error == "bad: is bad"
    report = r"bug: failed unexpectedly, please report this: ZeroDivisionError: .* \(test_batch.py, line \d+\)"
    assert re.fullmatch(report, outcomes[3].error)


@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_wrong_usage_ends_everything(jobs):
    with pytest.raises(UsageError, match="wrong for all"):
        list(batch.run(work, ["a", "usage", "b"], jobs))


@pytest.mark.slow
def test_a_killed_process_fails_its_own_file_alone(tmp_path):
    paths = [*(f"a{i}" for i in range(5)), "die", *(f"b{i}" for i in range(12))]
    outcomes = list(batch.run(work, paths, 2))
    assert [outcome.path for outcome in outcomes] == paths
    failed = [outcome for outcome in outcomes if outcome.error]
    assert [outcome.path for outcome in failed] == ["die"]
    assert "was killed, perhaps for want of memory" in failed[0].error


@pytest.mark.slow
def test_a_file_whose_process_was_killed_is_tried_once_more(tmp_path):
    paths = ["a", "once", "b", "c"]
    outcomes = list(batch.run(partial(work, folder=tmp_path), paths, 2))
    assert [outcome.result for outcome in outcomes] == ["A", "ONCE", "B", "C"]


@pytest.mark.slow
def test_jobs_share_the_processors():
    paths = ["threads"] * 4
    each = max(1, len(os.sched_getaffinity(0)) // 2)
    assert {outcome.result for outcome in batch.run(work, paths, 2)} == {str(each)}


def test_fewer_than_one_job_is_wrong_usage():
    with pytest.raises(UsageError, match="jobs is 0"):
        batch.run(work, ["a"], 0)


# A night of files, and a power cut


def write_night(folder, count, broken, shape=(24, 32)):
    folder.mkdir()
    for index in range(count):
        path = folder / f"{index:03}_flc.fits"
        image, _ = scene(index, shape)
        write(path, science(image), TELESCOP="HST", INSTRUME="ACS", DETECTOR="WFC", EXPTIME=100.0)
        if index in broken:
            path.write_bytes(path.read_bytes()[: 2000 * (1 + index % 3)])


def command(folder, out, jobs):
    files = [sys.executable, "-m", "deepcr_zoo", "clean", str(folder), "--output-dir", str(out), "--jobs", str(jobs)]
    return [*files, "--model", SMALL, "--inpaint", "medmask"]


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
def test_sixty_files_with_five_broken_ones_survive_a_kill_half_way(jobs, tmp_path):
    broken = {3, 20, 31, 44, 59}
    night, out = tmp_path / "night", tmp_path / "out"
    write_night(night, 60, broken)
    process = subprocess.Popen(command(night, out, jobs), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and (not out.is_dir() or len(os.listdir(out)) < 40):
        time.sleep(0.01)
    assert process.poll() is None
    process.kill()
    process.wait()
    finished = {name: (out / name).stat().st_mtime_ns for name in os.listdir(out) if name.endswith(".fits")}
    assert 20 < len(finished) < 110
    for name in finished:
        with fits.open(out / name, checksum=True, disable_image_compression=True) as hdus:
            assert all(hdu._checksum_valid and hdu._datasum_valid for hdu in hdus)

    done = subprocess.run(command(night, out, jobs), capture_output=True, text=True)

    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"error 5 of 60 failed: {night}/003_flc.fits, ")
    for index in range(60):
        named = done.stderr.count(f"{night}/{index:03}_flc.fits: is truncated")
        assert named == (1 if index in broken else 0)
    wanted = [f"{i:03}_flc_{kind}.fits" for i in range(60) if i not in broken for kind in ("crclean", "crmask")]
    assert names(out) == sorted(wanted)
    assert len(names(night)) == 60
    kept = [name for name, stamp in finished.items() if (out / name).stat().st_mtime_ns == stamp]
    assert len(kept) > len(finished) - 6  # finished ones were skipped, but for those that lacked their copy
    for index in (0, 30, 58):
        mask = fits.getdata(out / f"{index:03}_flc_crmask.fits", 1)
        cleaned = fits.getdata(out / f"{index:03}_flc_crclean.fits", 1)
        before = fits.getdata(night / f"{index:03}_flc.fits", 1)
        np.testing.assert_array_equal(cleaned[mask == 0], before[mask == 0])


@pytest.mark.slow
def test_workers_die_with_a_killed_parent(tmp_path):
    night, out = tmp_path / "night", tmp_path / "out"
    write_night(night, 60, set())
    process = subprocess.Popen(command(night, out, 2), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not out.is_dir() or len(os.listdir(out)) < 10:
        time.sleep(0.01)
    workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.kill()
    process.wait()
    deadline = time.monotonic() + 60
    while any(Path(f"/proc/{worker}").exists() for worker in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(Path(f"/proc/{worker}").exists() for worker in workers)
    assert workers


@pytest.mark.parametrize("jobs", [1, 2])
def test_warnings_of_other_processes_are_given_here_each_once(jobs):
    with pytest.warns(SourceWarning, match="the disk is old") as caught:
        outcomes = list(batch.run(work, ["warns", "a", "warns again"], jobs))
    assert [outcome.path for outcome in outcomes] == ["warns", "a", "warns again"]
    assert all(outcome.error is None and not outcome.warnings for outcome in outcomes)
    assert len({str(one.message) for one in caught}) == 1
    assert len(caught) == 1 or jobs == 1


def too_large(path):
    raise MemoryError


@pytest.mark.parametrize(
    ("jobs", "advice"),
    [(1, "close other programs, or use a machine with more"), pytest.param(2, "use fewer jobs", marks=pytest.mark.slow)],
)
def test_what_does_not_fit_into_memory_gets_advice_that_can_be_followed(jobs, advice):
    errors = {outcome.error for outcome in batch.run(too_large, ["a", "b"], jobs)}
    assert errors == {f"{name}: does not fit into memory: {advice}" for name in "ab"}
