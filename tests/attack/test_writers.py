"""Two processes that write to one place: what each leaves is whole, and nothing of the other's is lost."""

from __future__ import annotations

import errno
import os
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from astropy.io import fits

from deepcr_zoo import files
from deepcr_zoo.dataset.labels import finished_or_made
from deepcr_zoo.dataset.store import VISIT_FILE, Home, VisitRecord
from deepcr_zoo.errors import InUseError, OutputError, PublishError
from deepcr_zoo.exposures import making
from deepcr_zoo.exposures.cleaning import clean_with
from deepcr_zoo.exposures.options import CleanOptions
from deepcr_zoo.files import (
    OLD_S,
    locked,
    new_folder,
    sweep_leftovers,
    temporary_folder,
    whole_folder,
    write_atomically,
    write_new,
    write_together,
)
from deepcr_zoo.machine import process_space
from deepcr_zoo.permissions import Permissions, permissions_of_made_from
from deepcr_zoo.publishing.entries import check_entry, write_entry
from deepcr_zoo.publishing.releases import release_of_model
from deepcr_zoo.publishing.workflow import bundle
from deepcr_zoo.zoo import records
from deepcr_zoo.zoo.registry import CARD_FILE, HubPin, read_registry
from tests import forks
from tests.fitsfiles import acs_flc
from tests.registries import SMALL, copy_registry

pytest_plugins = ["tests.zoo.hub.fixtures"]
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

HOLDER = "import sys, pathlib; from deepcr_zoo.files import locked\nwith locked(pathlib.Path(sys.argv[1])): print(); input()"


@contextmanager
def held_by_another_process(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has the lock of a folder until it is killed."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(folder)], text=True, **pipes) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "\n"
        try:
            yield process
        finally:
            process.kill()


def test_the_lock_of_a_folder_ends_with_its_process(tmp_path):
    refused = pytest.raises(InUseError, match="another process is writing there")
    with held_by_another_process(tmp_path), refused, locked(tmp_path, wait=False):
        pass
    waited = []
    with locked(tmp_path, lambda: waited.append("")):
        assert not waited


def test_a_process_that_may_wait_for_the_lock_does(tmp_path):
    with held_by_another_process(tmp_path) as other, locked(tmp_path, other.kill):
        assert other.wait() != 0


def test_a_second_trainer_of_a_run_is_refused_and_writes_nothing(train, tmp_path):
    train.prepare()
    first = forks.start(train.arguments(), tmp_path / "first")
    while not (runs := list(train.folder.glob("*/[!.]*/run.json"))):
        assert first.process.is_alive(), first.said()
    first.kill()
    run = runs[0].parent
    with held_by_another_process(run):
        before = {path: path.stat().st_mtime_ns for path in run.iterdir()}
        second = forks.start(train.arguments(), tmp_path / "second")
        assert second.wait() == 1
        assert second.said().count("\n") == 1
        assert f"{run}: another process is writing there" in second.said()
        assert {path: path.stat().st_mtime_ns for path in run.iterdir()} == before
    assert forks.start(train.arguments(), tmp_path / "third").wait() == 0


def test_a_trainer_that_is_killed_while_it_makes_its_run_leaves_nothing_visible(train, tmp_path):
    for step in range(1, 8):
        train.prepare()
        forks.start(train.arguments(), tmp_path / "log", killed_at=step).wait()
        for run in train.folder.glob("*/[!.]*"):
            assert {"recipe.yaml", "run.json"} <= {path.name for path in run.iterdir()}


def run_together(commands, tmp_path: Path) -> list[str]:
    """Run commands at the same time; return what each printed, once all have succeeded."""
    started = [forks.start(command, tmp_path / f"log{number}") for number, command in enumerate(commands)]
    for one in started:
        assert one.wait() == 0, one.said()
    return [one.said() for one in started]


@pytest.mark.parametrize(
    "name",
    [
        "pull",
        pytest.param("clean", marks=pytest.mark.slow),
        pytest.param("build", marks=pytest.mark.slow),
        "fetch",
        "update",
    ],
)
def test_two_commands_that_write_to_one_place_end_as_one_does(name, request, tmp_path):
    target = request.getfixturevalue(name)
    target.prepare()
    run_together([target.arguments()], tmp_path)
    expected = target.content()
    target.prepare()
    run_together([target.arguments(), target.arguments()], tmp_path)
    target.check()
    assert target.content() == expected


def test_two_benchmarks_do_not_mix_in_one_folder(bench, tmp_path):
    bench.prepare()
    (bench.folder / "out").mkdir()
    with held_by_another_process(bench.folder / "out"):
        second = forks.start(bench.arguments(), tmp_path / "log")
        assert second.wait() == 1
        assert f"{bench.folder / 'out'}: another process is writing there" in second.said()


def test_records_that_two_processes_append_are_all_kept(tmp_path):
    root = copy_registry(tmp_path / "checkout")
    code = (
        "import sys, datetime, pathlib\n"
        "from deepcr_zoo.zoo import records\n"
        "from deepcr_zoo.zoo.registry import read_registry\n"
        "model = read_registry(pathlib.Path(sys.argv[1])).resolve(sys.argv[2])\n"
        "for day in range(1, 11):\n"
        "    data = records.MeasuredOn(kind='synthetic', description='-')\n"
        "    records.append(model, records.SkyRecord(date=datetime.date(2026, int(sys.argv[3]), day), software='-',\n"
        "        command='-', machine='-', data=data, simulator_version=1, seeds=[1], rule='-', lowest=1.0))\n"
    )
    model = read_registry(root).resolve(SMALL)
    before = len(records.read_records(model).sky)
    processes = [subprocess.Popen([sys.executable, "-c", code, str(root), SMALL, month]) for month in ("1", "2")]
    assert [one.wait() for one in processes] == [0, 0]
    assert len(records.read_records(model).sky) == before + 20


@pytest.mark.parametrize("is_folder", [True, False])
@pytest.mark.parametrize("owner", ["elsewhere-1", "{host}-{process}"])
def test_what_is_left_over_is_swept_when_it_is_old_although_its_owner_seems_to_live(owner, is_folder, tmp_path):
    owner = owner.format(host=process_space(), process=os.getpid())
    leftover, young = (tmp_path / f".x.yaml.{owner}-{number}.part" for number in ("0000000a", "0000000b"))
    for path in (leftover, young):
        path.mkdir() if is_folder else path.write_text("half")
    os.utime(leftover, (time.time() - 2 * OLD_S,) * 2)
    write_atomically(b"whole", tmp_path / "x.yaml")
    assert {path.name for path in tmp_path.iterdir()} == {"x.yaml", young.name}


def test_a_name_with_a_number_that_no_process_can_have_stops_no_writing(tmp_path):
    host = process_space()
    (tmp_path / f".x.yaml.{host}-99999999999-0000000a.part").write_text("made up")
    write_atomically(b"whole", tmp_path / "x.yaml")
    assert [path.name for path in tmp_path.iterdir()] == ["x.yaml"]


def test_a_visit_that_another_process_makes_again_meanwhile_is_not_removed(tmp_path, monkeypatch):
    home = Home(tmp_path)
    home.visit("k").mkdir(parents=True)
    (home.visit("k") / VISIT_FILE).write_text("{}")

    def damaged_but_made_again(_, key):
        shutil.rmtree(home.visit(key))
        home.visit(key).mkdir()
        (home.visit(key) / "stamps").write_text("theirs")

    monkeypatch.setattr(Home, "finished_visit", damaged_but_made_again)
    record = VisitRecord.model_construct(key="k")
    with suppress(Exception):
        finished_or_made(home, "k", lambda scratch, folder: record)
    assert (home.visit("k") / "stamps").read_text() == "theirs"


def test_a_file_of_the_user_whose_name_is_almost_that_of_a_leftover_is_not_swept(tmp_path):
    (mine := tmp_path / ".survey.2024-11-05.part").write_text("mine")
    os.utime(mine, (1, 1))
    sweep_leftovers(tmp_path)
    assert mine.read_text() == "mine"


WRITER = """import os, sys, pathlib
from deepcr_zoo.files import whole_folder
with whole_folder(pathlib.Path(sys.argv[1])) as folder:
    (folder / "first").write_text("1")
    print(folder, flush=True)
    input()
    (folder / "second").write_text("2")
"""


def test_a_folder_in_use_is_swept_by_no_process_that_takes_it_for_old(tmp_path):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path / "visit")], text=True, **pipes) as process:
        unfinished = Path(process.stdout.readline().strip())
        os.utime(unfinished.parent, (1, 1))
        sweep_leftovers(tmp_path)
        assert unfinished.is_dir()
        process.communicate("\n")
    assert sorted(path.name for path in (tmp_path / "visit").iterdir()) == ["first", "second"]


def test_a_foreign_folder_that_looks_like_a_leftover_and_is_too_deep_to_remove_is_in_nobodys_way(tmp_path):
    deep = tmp_path / ".visit.x-1-00000000.part"
    deep.mkdir()
    inner = os.open(deep, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d", dir_fd=inner)
        outer, inner = inner, os.open("d", os.O_RDONLY, dir_fd=inner)
        os.close(outer)
    os.close(inner)
    os.utime(deep, (1, 1))
    try:
        sweep_leftovers(tmp_path)
        write_atomically(b"new", tmp_path / "visit")
    finally:
        subprocess.run(["rm", "-rf", deep], check=True)  # pytest's own way does not end there either
    assert (tmp_path / "visit").read_bytes() == b"new"


def test_new_files_that_another_process_has_replaced_stay_where_a_further_one_exists(tmp_path, monkeypatch):
    rename, first, second = files._rename_new, tmp_path / "first", tmp_path / "second"

    def another_is_between(temporary, path):
        if path == second:
            write_together({first: b"theirs", second: b"theirs"})
        rename(temporary, path)

    monkeypatch.setattr(files, "_rename_new", another_is_between)
    with pytest.raises(FileExistsError):
        write_together({first: b"mine", second: b"mine"}, new=[first, second])
    assert [path.read_bytes() for path in (first, second)] == [b"theirs", b"theirs"]


def test_a_folder_of_a_killed_process_is_swept(tmp_path):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path / "visit")], text=True, **pipes) as process:
        unfinished = Path(process.stdout.readline().strip())
        process.kill()
    sweep_leftovers(tmp_path)
    assert not unfinished.parent.exists()


@pytest.mark.parametrize("makes", [new_folder, whole_folder])
def test_a_folder_that_was_removed_meanwhile_is_an_error_and_not_half_of_one(makes, tmp_path):
    def write_where_another_removes():
        with makes(tmp_path / "visit") as folder:
            write_atomically(b"1", folder / "first")
            shutil.rmtree(folder)
            write_atomically(b"2", folder / "second")

    with pytest.raises(OutputError, match="was removed by another process while this one wrote there"):
        write_where_another_removes()
    assert not (tmp_path / "visit").exists()


def test_temporary_folders_of_killed_processes_are_removed(tmp_path, monkeypatch):
    code = (
        "import os; from deepcr_zoo.files import temporary_folder\nwith temporary_folder() as one: print(one); os._exit(9)"
    )
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    left = subprocess.run([sys.executable, "-u", "-c", code], text=True, capture_output=True).stdout.strip()
    assert Path(left).is_dir()
    with temporary_folder() as mine:
        assert list(tmp_path.iterdir()) == [mine.parent]
        assert mine.stat().st_mode & 0o777 == 0o700
    assert not list(tmp_path.iterdir())


def test_an_empty_folder_that_is_replaced_keeps_its_permissions_and_the_present_one_stays(tmp_path, monkeypatch):
    (place := tmp_path / "private").mkdir(mode=0o700)
    with whole_folder(place) as folder:
        (folder / "a.fits").write_text("")
    assert (place / "a.fits").exists()
    assert place.stat().st_mode & 0o777 == 0o700
    (here := tmp_path / "here").mkdir()
    monkeypatch.chdir(here)
    with pytest.raises(OutputError, match="here: is the present folder"), whole_folder(here):
        pass


def test_a_folder_of_a_simulated_visit_is_that_of_one_process(tmp_path):
    place = tmp_path / "visit"

    def write(text: str, meanwhile: Callable[[], None]) -> None:
        with whole_folder(place) as folder:
            (folder / "a.fits").write_text(text)
            assert not place.exists()  # nothing is seen before all is there
            meanwhile()

    with pytest.raises(OutputError, match="visit: another process wrote there meanwhile"):
        write("slow", lambda: write("quick", lambda: None))
    assert (place / "a.fits").read_text() == "quick"
    assert list(tmp_path.iterdir()) == [place]


@pytest.mark.slow
def test_two_simulations_into_one_folder_do_not_mix(tmp_path):
    script = "from deepcr_zoo.cli.main import main; main()"
    arguments = ["simulate", "practice-ccd", "--side", "128", "--exposures", "2", "--output-dir", str(tmp_path / "out")]
    started = [
        subprocess.Popen(
            [sys.executable, "-c", script, *arguments, "--exposure-time", seconds],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for seconds in ("30", "900")
    ]
    ended = [process.communicate() for process in started]
    assert sorted(process.returncode for process in started) != [0, 0], ended
    assert len({fits.getval(path, "EXPTIME") for path in (tmp_path / "out").rglob("*.fits")}) == 1


def test_a_new_file_does_not_replace_that_of_another_process(tmp_path):
    write_new(b"first", tmp_path / "camera.yaml")
    with pytest.raises(FileExistsError):
        write_new(b"second", tmp_path / "camera.yaml")
    assert (tmp_path / "camera.yaml").read_bytes() == b"first"
    assert [path.name for path in tmp_path.iterdir()] == ["camera.yaml"]


@pytest.mark.parametrize(
    ("ending", "problem"),
    [("_crclean.fits", "is no product of deepcr-zoo"), ("_crmask.fits", "is no product of deepcr-zoo")],
)
def test_a_file_that_appears_at_the_place_of_a_product_meanwhile_is_kept(ending, problem, tmp_path):
    exposure, thesis = acs_flc(tmp_path / "x_flc.fits"), tmp_path / f"x_flc{ending}"
    with pytest.raises(OutputError, match=problem):
        clean_with(exposure, CleanOptions(model=SMALL), on_choice=lambda reason: thesis.write_bytes(b"thesis"))
    assert thesis.read_bytes() == b"thesis"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["x_flc.fits", thesis.name])


def test_of_two_that_clean_one_file_otherwise_the_second_is_refused(tmp_path):
    exposure = acs_flc(tmp_path / "x_flc.fits")
    quicker = []

    def clean_meanwhile(reason):
        if not quicker:
            quicker.append(clean_with(exposure, CleanOptions(model=SMALL, threshold=0.1)))

    with pytest.raises(OutputError, match=r"was made otherwise \(CRTHRESH"):
        clean_with(exposure, CleanOptions(model=SMALL, threshold=0.9), on_choice=clean_meanwhile)
    found = {fits.getval(tmp_path / f"x_flc{ending}", "CRTHRESH") for ending in ("_crclean.fits", "_crmask.fits")}
    assert found == {0.1}


@pytest.mark.parametrize("overwrite", [False, True])
def test_the_same_products_that_another_process_wrote_at_the_same_moment_are_no_error(overwrite, tmp_path, monkeypatch):
    exposure, calls = acs_flc(tmp_path / "x_flc.fits"), []

    def another_is_quicker(contents, new, permissions):
        calls.append(set(contents))
        if len(calls) == 1:
            write_together(contents, new, permissions)
        write_together(contents, new, permissions)

    monkeypatch.setattr(making, "write_together", another_is_quicker)
    clean_with(exposure, CleanOptions(model=SMALL, overwrite=overwrite))
    assert len(calls) == (2 if overwrite else 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x_flc.fits", "x_flc_crclean.fits", "x_flc_crmask.fits"]


def test_of_two_that_replace_the_products_of_one_file_the_last_one_sees_the_mixture(tmp_path, monkeypatch):
    exposure, replace_file, others = acs_flc(tmp_path / "x_flc.fits"), os.replace, []
    clean_with(exposure, CleanOptions(model=SMALL))

    def replace_and_clean_meanwhile(source, target):
        replace_file(source, target)
        if not others and str(target).endswith("_crclean.fits"):
            others.append(target)
            clean_with(exposure, CleanOptions(model=SMALL, threshold=0.1, overwrite=True))

    monkeypatch.setattr(os, "replace", replace_and_clean_meanwhile)
    with pytest.raises(OutputError, match="another process wrote other products there meanwhile: run again"):
        clean_with(exposure, CleanOptions(model=SMALL, threshold=0.9, overwrite=True))
    assert others


def test_an_entry_that_another_one_wrote_between_check_and_upload_is_not_replaced(tmp_path):
    ours = release_of_model(read_registry(copy_registry(tmp_path / "source")).resolve(SMALL))
    theirs = replace(ours, files={**ours.files, CARD_FILE: ours.files[CARD_FILE] + b"# theirs\n"})
    checkout = copy_registry(tmp_path / "checkout")
    entry, card = checkout / "zoo" / f"{ours.entry}.yaml", checkout / "cards" / ours.entry / "1.0.yaml"
    for path in (entry, card, *(checkout / "zoo" / "weights").rglob("*.safetensors")):
        path.unlink()
    check_entry(ours, "someone/mask", checkout)
    bundle(theirs, checkout)
    written = entry.read_bytes(), card.read_bytes()
    with pytest.raises(PublishError, match="already, with other card"):
        write_entry(ours, HubPin(repo="someone/mask", commit="a" * 40), checkout)
    assert (entry.read_bytes(), card.read_bytes()) == written


def test_several_new_files_appear_together_or_not_at_all(tmp_path):
    (tmp_path / "b").write_bytes(b"mine")
    with pytest.raises(FileExistsError):
        write_together({tmp_path / name: b"new" for name in "abc"}, new=[tmp_path / name for name in "abc"])
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"b": b"mine"}


def test_files_that_belong_together_are_all_old_if_one_cannot_be_replaced(tmp_path, monkeypatch):
    first, second = tmp_path / "first", tmp_path / "second"
    for path in (first, second):
        path.write_text("old")
    rename = os.replace
    refusals = [second]

    def refused(source, target):
        if target in refusals:
            refusals.remove(target)
            raise PermissionError(errno.EPERM, "Operation not permitted")
        rename(source, target)

    monkeypatch.setattr(os, "replace", refused)
    with pytest.raises(PermissionError):
        write_together({first: b"new", second: b"new"})
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"first": "old", "second": "old"}
    monkeypatch.undo()
    write_together({first: b"new", second: b"new"})
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"first": "new", "second": "new"}


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
def test_what_replaces_a_private_file_is_private_from_the_first_moment(tmp_path, monkeypatch):
    path = tmp_path / "mask.fits"
    path.write_bytes(b"private")
    path.chmod(0o600)
    seen, chmod = [], os.fchmod

    def noting(descriptor, mode):
        seen.append(os.fstat(descriptor).st_mode & 0o777)
        chmod(descriptor, mode)

    monkeypatch.setattr(os, "fchmod", noting)
    before = os.umask(0o022)
    try:
        write_atomically(b"still private", path)
    finally:
        os.umask(before)
    assert seen == [0o600]
    assert path.stat().st_mode & 0o777 == 0o600


def permissions_of(path):
    with open(path, "rb") as file:
        return permissions_of_made_from(file.fileno())


def test_permissions_of_what_is_replaced_are_kept_without_set_uid_and_of_own_plain_files_alone(tmp_path, monkeypatch):
    path = tmp_path / "x.fits"
    path.write_text("old")
    path.chmod(0o6640)
    write_together({path: b"new"})
    assert path.stat().st_mode & 0o7777 == 0o640
    write_together({path: b"new"}, permissions=Permissions(0o604))
    assert path.stat().st_mode & 0o7777 == 0o600
    (tmp_path / "other").write_text("")
    (tmp_path / "other").chmod(0o777)
    path.unlink()
    path.symlink_to(tmp_path / "other")
    write_together({path: b"new"}, permissions=Permissions(0o600))
    assert path.lstat().st_mode & 0o7777 == 0o600
    path.chmod(0o4777)
    monkeypatch.setattr(os, "getuid", lambda: os.geteuid() + 1)  # it is another user's
    write_together({path: b"new"}, permissions=Permissions(0o600))
    assert path.stat().st_mode & 0o7777 == 0o600


OTHER_GROUP = 65534
of_root = pytest.mark.skipif(os.name == "nt" or os.getuid() != 0, reason="root alone may give files to other groups")


def mode_and_group(path):
    return path.stat().st_mode & 0o777, path.stat().st_gid


@of_root
@pytest.mark.parametrize(("mode", "made"), [(0o640, 0o600), (0o644, 0o644), (0o664, 0o644), (0o400, 0o600), (0o604, 0o600)])
def test_what_is_made_in_the_folder_of_another_group_is_not_for_that_group(mode, made, tmp_path):
    exposure, folder = tmp_path / "x.fits", tmp_path / "shared"
    exposure.write_text("mine")
    exposure.chmod(mode)
    folder.mkdir()
    os.chown(folder, -1, OTHER_GROUP)
    folder.chmod(0o2775)
    write_new(b"mine too", folder / "mask.fits", permissions_of(exposure))
    assert mode_and_group(folder / "mask.fits") == (made, OTHER_GROUP)
    write_new(b"mine too", tmp_path / "mask.fits", permissions_of(exposure))
    assert (tmp_path / "mask.fits").stat().st_mode & 0o777 & ~(mode | 0o200) == 0


def give(path, kind, of_group):
    """Give a file, or what is made in a folder, to another group, by an access control list."""
    entries = ((1, 7, 2**32 - 1), (4, of_group, 2**32 - 1), (8, 5, OTHER_GROUP), (16, 5, 2**32 - 1), (32, 0, 2**32 - 1))
    try:  # user, group, named group, mask, others, as acl(5) and the kernel's posix_acl_xattr.h have them
        acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
        os.setxattr(path, f"system.posix_acl_{kind}", acl)
    except (OSError, AttributeError):
        pytest.skip("this disk has no access control lists")


def test_what_replaces_a_file_is_not_for_those_whom_its_folder_names_by_now(tmp_path):
    path = tmp_path / "mask.fits"
    path.write_text("mine")
    path.chmod(0o640)
    give(tmp_path, "default", of_group=7)
    write_atomically(b"new", path)
    assert path.stat().st_mode & 0o777 == 0o640
    assert "system.posix_acl_access" not in os.listxattr(path)


def test_the_group_of_an_exposure_with_an_access_control_list_gets_no_product(tmp_path):
    exposure = tmp_path / "x.fits"
    exposure.write_text("mine")
    give(exposure, "access", of_group=0)
    assert exposure.stat().st_mode & 0o070 == 0o050  # which is not of the file's group
    write_new(b"mine too", tmp_path / "mask.fits", permissions_of(exposure))
    assert (tmp_path / "mask.fits").stat().st_mode & 0o777 == 0o600
    write_atomically(b"new", exposure)
    assert exposure.stat().st_mode & 0o777 == 0o700


def test_what_is_made_in_a_folder_that_gives_its_files_to_others_is_not_for_them(tmp_path):
    exposure, folder = tmp_path / "x.fits", tmp_path / "shared"
    exposure.write_text("mine")
    exposure.chmod(0o640)
    folder.mkdir()
    give(folder, "default", of_group=7)
    write_new(b"mine too", folder / "mask.fits", permissions_of(exposure))
    assert (folder / "mask.fits").stat().st_mode & 0o777 == 0o600


@of_root
def test_what_replaces_a_file_of_another_group_stays_with_that_group_or_is_for_the_user_alone(tmp_path, monkeypatch):
    path = tmp_path / "mask.fits"
    path.write_text("theirs and mine")
    os.chown(path, -1, OTHER_GROUP)
    path.chmod(0o640)
    write_atomically(b"new", path)
    assert mode_and_group(path) == (0o640, OTHER_GROUP)

    def refused(*_):
        raise PermissionError

    monkeypatch.setattr(os, "fchown", refused)
    write_atomically(b"newer", path)
    assert mode_and_group(path) == (0o600, os.getegid())


def test_no_link_to_a_file_of_another_user_is_made_where_it_could_never_be_removed(tmp_path, monkeypatch):
    linked = []
    monkeypatch.setattr(os, "link", lambda one, to, **_: linked.append(one))
    for name in "ab":
        (tmp_path / name).write_text("theirs")
    monkeypatch.setattr(os, "getuid", lambda: os.geteuid() + 1)
    write_together({tmp_path / name: b"new" for name in "ab"})
    assert not linked
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "new", "b": "new"}


def test_files_that_belong_together_are_all_old_also_where_a_disk_has_no_hard_links(tmp_path, monkeypatch):
    def refused(*_, **__):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    for name in "ab":
        (tmp_path / name).write_text("old")
    rename, refusals = os.replace, ["b"]
    monkeypatch.setattr(os, "link", refused)
    monkeypatch.setattr(os, "replace", lambda one, to: refused(refusals.pop()) if to.name in refusals else rename(one, to))
    with pytest.raises(PermissionError):
        write_together({tmp_path / name: b"new" for name in "ab"})
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "old", "b": "old"}
