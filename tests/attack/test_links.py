"""Symbolic links and foreign files: none is followed where others may have put it, and none is replaced."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

import deepcr_zoo
from deepcr_zoo import batch, files
from deepcr_zoo.archive import manifest
from deepcr_zoo.archive.listing import Product
from deepcr_zoo.archive.pace import Pace
from deepcr_zoo.archive.transfers import Downloader, DownloadFolder
from deepcr_zoo.bench import output
from deepcr_zoo.bench.runs import Run
from deepcr_zoo.cli.main import app
from deepcr_zoo.dataset import drizzle, store
from deepcr_zoo.dataset.labels import finished_or_made
from deepcr_zoo.errors import DeepcrZooError, IntegrityError, InterruptedWorkError, OutputError, RunError, SourceWarning
from deepcr_zoo.publishing.registryfiles import registry_files
from deepcr_zoo.publishing.releases import release_of_run
from deepcr_zoo.training import checkpoints
from deepcr_zoo.training.runs import new_run
from deepcr_zoo.zoo import registries, sources, updates
from deepcr_zoo.zoo.cards import Licence
from deepcr_zoo.zoo.runfolders import FACTS_FILE, RunFacts
from tests import forks
from tests.registries import SMALL, copy_registry
from tests.training.stamps import recipe_of, write_dataset
from tests.zoo.test_runfolders import write_run

FILES = ("model.safetensors", "test_vector.safetensors", "card.yaml")


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file of this machine that nobody else may see."""
    path = tmp_path / "secret"
    path.write_text("secret\n")
    return path


@pytest.fixture
def keck(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The root of a registry that the settings name."""
    root, file = copy_registry(tmp_path / "keck"), tmp_path / "settings.yaml"
    file.write_text(f"registries: {{keck: {{root: {root}}}}}\n")
    monkeypatch.setenv("DEEPCR_ZOO_CONFIG", str(file))
    monkeypatch.setenv("DEEPCR_ZOO_CACHE", str(tmp_path / "cache"))
    return root


def linked(path: Path, elsewhere: Path) -> None:
    """Move a file or folder away and put a link to it in its place."""
    shutil.move(path, elsewhere)
    path.symlink_to(elsewhere)


@pytest.mark.parametrize("target", ["secret", "nothing"])
def test_a_link_in_place_of_a_lock_is_refused_and_not_followed(secret, tmp_path, target):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / files.LOCK_FILE).symlink_to(tmp_path / target)
    with pytest.raises(IntegrityError, match=r"run/\.lock is a symbolic link"), files.locked(folder):
        pass
    assert secret.read_text() == "secret\n"
    assert not (tmp_path / "nothing").exists()


def test_a_folder_in_place_of_a_lock_is_named(tmp_path):
    (tmp_path / files.LOCK_FILE).mkdir()
    with pytest.raises(IntegrityError, match=r"\.lock is a folder: expected a file or nothing"), files.locked(tmp_path):
        pass


@pytest.mark.parametrize(
    "place",
    [
        *("zoo", "zoo/mask", f"zoo/{SMALL}.yaml", "cards", f"cards/{SMALL}/1.0.yaml"),
        *("zoo/weights/LICENSE.deepCR", f"zoo/weights/{SMALL}/1.0", f"zoo/weights/{SMALL}/1.0/model.safetensors"),
    ],
)
def test_a_registry_with_a_link_is_refused(place, keck, tmp_path):
    linked(keck / place, tmp_path / "moved")
    with pytest.warns(SourceWarning, match=f"keck.*not used: {keck / place} is a symbolic link"):
        assert registries.other_registries() == {}
    with pytest.raises(IntegrityError, match="is a symbolic link"):
        registry_files(keck)


def test_a_link_at_the_licence_reaches_no_mirror_and_not_the_hub(keck, secret, tmp_path):
    model = registries.default_registry().resolve(f"keck:{SMALL}")
    licence = keck / "zoo" / "weights" / "LICENSE.deepCR"
    licence.unlink()
    licence.symlink_to(secret)  # after the registry was read
    with pytest.raises(IntegrityError, match=r"LICENSE.deepCR is a symbolic link"):
        sources.pull_resolved(model, to=tmp_path / "mirror")
    assert not (tmp_path / "mirror").exists()


@pytest.mark.parametrize("name", ["report/a\0b", "report/" + "n" * 5000])
def test_names_that_no_file_can_have_are_not_among_those_of_earlier_benchmarks(name, tmp_path):
    (tmp_path / output.LIST_FILE).write_text(json.dumps({"files": {name: [sha256(b"mine")]}}))
    output.replace(tmp_path, {"report.html": b""}, stale="report")
    assert json.loads((tmp_path / output.LIST_FILE).read_text()) == {"files": {"report.html": [sha256(b"")]}}


def sha256(data):
    return hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("listed", [{}, {"report/thesis.tex": [sha256(b"mine\n")]}], ids=["unlisted", "listed"])
def test_a_link_in_place_of_the_pictures_of_a_run_leads_nowhere(listed, secret, tmp_path):
    thesis, run = tmp_path / "thesis", tmp_path / "run"
    for folder in (thesis, run):
        folder.mkdir()
    (thesis / "thesis.tex").write_text("mine\n")
    facts = dict.fromkeys(RunFacts.model_fields, "x") | {"started": "2026-01-01", "rehearsal": False}
    (run / FACTS_FILE).write_text(json.dumps(facts))
    (run / output.LIST_FILE).write_text(json.dumps({"files": listed}))
    (run / "report").symlink_to(thesis)
    with pytest.raises(IntegrityError, match="run/report is a symbolic link"):
        output.replace(run, {"report/roc.png": b"", "report.html": b""}, stale="report")
    assert [path.read_text() for path in thesis.iterdir()] == ["mine\n"]
    if listed:  # known before the long work
        with pytest.raises(IntegrityError, match="run/report is a symbolic link"):
            output.check(run, ("results.json",))


@pytest.mark.parametrize(
    "name", [".bashrc", "zoo/.bashrc", "/etc/passwd", "/LICENSE", "../LICENSE", "a/../LICENSE", "LICENSE.a/b", "card.yaml"]
)
def test_a_licence_is_called_license(name):
    with pytest.raises(ValueError, match="pattern"):
        Licence(spdx="MIT", copyright="-", file=name)
    for good in ("LICENSE", "LICENSE.deepCR", "zoo/weights/LICENSE.deepCR"):
        assert Licence(spdx="MIT", copyright="-", file=good).file == good


def test_the_licence_of_another_registry_lies_in_its_own_folder_of_the_mirror(keck, tmp_path):
    mirror = tmp_path / "mirror"
    sources.pull(SMALL, to=mirror)
    (keck / "zoo" / "weights" / "LICENSE.deepCR").write_text("others' terms\n")
    sources.pull(f"keck:{SMALL}", to=mirror)
    assert (mirror / "keck" / "LICENSE.deepCR").read_text() == "others' terms\n"
    assert (mirror / "LICENSE.deepCR").read_text() != "others' terms\n"
    sources.pull(f"keck:{SMALL}", to=mirror)  # once more: nothing is in the way


@pytest.mark.parametrize("name", ["LICENSE.deepCR", *(f"{SMALL}/1.0/{one}" for one in FILES)])
def test_a_foreign_file_in_the_folder_of_a_mirror_is_kept(name, tmp_path):
    foreign = tmp_path / "mirror" / name
    foreign.parent.mkdir(parents=True)
    foreign.write_text("mine\n")
    with pytest.raises(OutputError, match=f"{foreign}: exists with other content"):
        sources.pull(SMALL, to=tmp_path / "mirror")
    assert [path for path in (tmp_path / "mirror").rglob("*") if path.is_file()] == [foreign]
    assert foreign.read_text() == "mine\n"


@pytest.mark.parametrize("place", ["mask", SMALL, f"{SMALL}/1.0", f"{SMALL}/1.0/model.safetensors", "LICENSE.deepCR"])
def test_a_mirror_is_not_written_through_a_link(place, tmp_path):
    mirror, elsewhere = tmp_path / "mirror", tmp_path / "elsewhere"
    sources.pull(SMALL, to=mirror)
    linked(mirror / place, elsewhere)
    with pytest.raises(IntegrityError, match=f"{mirror / place} is a symbolic link"):
        sources.pull(SMALL, to=mirror)


def test_a_mirror_is_not_read_through_a_link_at_the_prefix_of_a_registry(keck, tmp_path):
    mirror = tmp_path / "mirror"
    sources.pull(f"keck:{SMALL}", to=mirror)
    linked(mirror / "keck", tmp_path / "elsewhere")
    with pytest.raises(IntegrityError, match=f"{mirror / 'keck'} is a symbolic link"):
        sources.pull(f"keck:{SMALL}", mirror=mirror, source="mirror")


NAMES = ("results.json", "report.html", "report/roc-all.png")


@pytest.mark.parametrize("name", NAMES)
def test_a_benchmark_replaces_no_file_of_the_user(name, tmp_path):
    foreign = tmp_path / name
    foreign.parent.mkdir(exist_ok=True)
    foreign.write_text("mine\n")
    with pytest.raises(
        OutputError, match=f"{foreign}: exists and is not of deepcr-zoo bench: move it away, or name another"
    ):
        output.replace(tmp_path, dict.fromkeys(NAMES, b"ours"))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [foreign]
    assert foreign.read_text() == "mine\n"


def test_a_benchmark_replaces_its_own_files_and_removes_none_of_the_user(tmp_path):
    output.replace(tmp_path, {"report/old.png": b"ours", **dict.fromkeys(NAMES, b"ours")})
    (tmp_path / "report" / "holiday.png").write_text("mine")
    output.replace(tmp_path, dict.fromkeys(NAMES, b"new"), stale="report")
    found = {path.relative_to(tmp_path).as_posix(): path.read_text() for path in tmp_path.rglob("[!.]*") if path.is_file()}
    assert found == {**dict.fromkeys(NAMES, "new"), "report/holiday.png": "mine"}


def test_the_report_of_earlier_results_goes_before_new_ones_come(tmp_path):
    output.replace(tmp_path, {"report/old.png": b"ours", **dict.fromkeys(NAMES, b"ours")})
    (tmp_path / "report" / "holiday.png").write_text("mine")
    output.remove_report(tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("[!.]*") if path.is_file()) == ["holiday.png", "results.json"]


def test_a_list_that_names_files_elsewhere_is_not_believed(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "mine.png").write_text("mine")
    for name in ("../mine.png", "report/../../mine.png", str(tmp_path / "mine.png"), "report/.hidden"):
        (tmp_path / "out" / output.LIST_FILE).write_text(json.dumps({"files": {name: [sha256(b"mine")]}}))
        output.replace(tmp_path / "out", {"new.json": b""}, stale="report")
        (tmp_path / "out" / "new.json").unlink()
    assert (tmp_path / "mine.png").read_text() == "mine"


@pytest.mark.parametrize("hashes", [None, [], ["0" * 64], [sha256(b"ours")]], ids=["by name", "no hash", "foreign", "ours"])
def test_a_list_of_others_that_names_files_of_the_user_is_not_believed(hashes, tmp_path):
    names = ("results.json", "report/mine.png")
    listed = list(names) if hashes is None else dict.fromkeys(names, hashes)
    (tmp_path / output.LIST_FILE).write_text(json.dumps({"files": listed}))
    (tmp_path / "report").mkdir()
    for name in names:
        (tmp_path / name).write_text("mine")
    with pytest.raises(OutputError, match=r"results\.json: exists and is not of deepcr-zoo bench: move it away"):
        output.check(tmp_path, ("results.json", "report.html"))
    output.replace(tmp_path, {"report.html": b"ours"}, stale="report")
    assert [(tmp_path / name).read_text() for name in names] == ["mine", "mine"]


@pytest.mark.parametrize("last", ["list", "half of the files"])
def test_files_of_a_benchmark_that_was_killed_as_it_replaced_them_are_known(last, tmp_path, monkeypatch):
    output.replace(tmp_path, dict.fromkeys(NAMES, b"old"))

    def killed(contents, new=()):
        if output.LIST_FILE not in [path.name for path in contents]:
            if last != "list":
                (tmp_path / NAMES[0]).write_bytes(contents[tmp_path / NAMES[0]])
            raise SystemExit
        real(contents, new)

    real = output.files.write_together
    monkeypatch.setattr(output.files, "write_together", killed)
    with pytest.raises(SystemExit):
        output.replace(tmp_path, dict.fromkeys(NAMES, b"new"))
    monkeypatch.undo()
    output.replace(tmp_path, dict.fromkeys(NAMES, b"newest"))
    assert {(tmp_path / name).read_bytes() for name in NAMES} == {b"newest"}


@pytest.mark.slow
def test_the_command_says_at_once_that_a_file_of_the_user_is_in_the_way(bench, tmp_path):
    bench.prepare()
    place = bench.folder / "out" / "results.json"
    place.parent.mkdir()
    place.write_text("mine")
    refused = forks.start(bench.arguments(), tmp_path / "log")
    assert refused.wait() == 1
    assert f"{place}: exists and is not of deepcr-zoo bench" in refused.said()
    assert place.read_text() == "mine"
    place.unlink()
    assert forks.start(bench.arguments(), tmp_path / "log").wait() == 0
    assert forks.start(bench.arguments(), tmp_path / "log").wait() == 0  # ours are replaced


def test_a_copy_of_a_manifest_replaces_only_a_manifest(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(OutputError, match="exists and is not a manifest"):
        manifest.check_copy(tmp_path / "thesis.tex")
    manifest.check_copy(tmp_path / "new.json")


@pytest.mark.parametrize("place", ["report/roc-all.png", "report.html", "results.json", "report"])
def test_a_link_in_a_run_is_not_published(place, secret, tmp_path):
    recipe = recipe_of("mask")
    run = new_run(recipe, write_dataset(tmp_path / "home", recipe=recipe), tmp_path / "runs", "train")
    link = run.folder / place
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(secret.parent if place == "report" else secret)
    with pytest.raises(IntegrityError, match=f"{link} is a symbolic link"):
        release_of_run(run)


def test_a_run_in_a_linked_folder_is_read(tmp_path):
    recipe = recipe_of("mask")
    run = new_run(recipe, write_dataset(tmp_path / "home", recipe=recipe), tmp_path / "runs", "train")
    (tmp_path / "best").symlink_to(run.folder)
    with pytest.raises(RunError, match="has no model yet"):
        release_of_run(Run.open(tmp_path / "best"))


@pytest.mark.parametrize("name", ["run.json", "recipe.yaml", "card.yaml", "model.safetensors"])
def test_a_run_with_a_link_is_not_used(name, tmp_path):
    run = write_run(tmp_path / "run")
    linked(run / name, tmp_path / "elsewhere")
    with pytest.raises(IntegrityError, match=f"{run / name} is a symbolic link"):
        deepcr_zoo.load(run)


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("card.yaml", Run.card),
        ("results.json", Run.results),
        ("metrics.jsonl", Run.history),
        ("model.safetensors", lambda run: run.model("cpu")),
    ],
)
def test_a_link_in_a_run_of_others_shows_no_file_of_the_user(name, read, tmp_path):
    run = write_run(tmp_path / "run")
    (tmp_path / "mine.yaml").write_text("secret: hunter2\n")
    (run / name).unlink(missing_ok=True)
    (run / name).symlink_to(tmp_path / "mine.yaml")
    with pytest.raises(IntegrityError, match=f"{run / name} is a symbolic link") as raised:
        read(Run.open(run))
    assert "hunter2" not in str(raised.value)


@pytest.fixture
def deep(tmp_path, monkeypatch):
    """A folder with 300 others inside each other."""
    monkeypatch.chdir(tmp_path)
    for number in range(300):
        os.mkdir("a" if number else "deep")
        os.chdir("a" if number else "deep")
    return tmp_path / "deep"


@pytest.mark.parametrize("look", [files.refuse_links_below, files.files_below])
def test_folders_inside_each_other_without_end_are_not_followed(look, deep):
    with pytest.raises(OSError, match="folders lie more than 100 deep inside each other"):
        look(deep)


def test_a_pattern_for_folders_without_end_is_one_sentence(deep):
    pattern = f"{deep}/**/*.fits"
    assert "folders lie more than 100 deep inside each other" in batch.expand([pattern]).empty[pattern]


def keep_update(folder: Path) -> Path:
    """Keep an update as `update` does; return the folder of its commit."""
    commit = folder / ("a" * 40)
    (commit / "zoo").mkdir(parents=True)
    (commit / "zoo" / "training_visits.yaml").write_text("{}\n")
    (folder / updates.CURRENT).write_text(json.dumps({"repo": "o/r", "commit": commit.name, "fetched": "-"}))
    return commit


@pytest.fixture
def users_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of updates in a folder with work of the user's own."""
    monkeypatch.setenv("DEEPCR_ZOO_DATA", str(tmp_path / "project"))
    (tmp_path / "project" / "registry" / "thesis").mkdir(parents=True)
    (tmp_path / "project" / "registry" / "thesis" / "data.txt").write_text("mine\n")
    return tmp_path / "project" / "registry"


@pytest.mark.parametrize("is_kept", [True, False], ids=["an update", "no update"])
def test_forgetting_updates_keeps_what_the_user_has_in_their_folder(is_kept, users_registry):
    if is_kept:
        keep_update(users_registry)
    updates.forget()
    assert {path.name for path in users_registry.iterdir()} == {"thesis", *([files.LOCK_FILE] if is_kept else [])}
    assert (users_registry / "thesis" / "data.txt").read_text() == "mine\n"


def test_an_update_is_forgotten_where_the_folder_of_updates_is_a_link(users_registry, tmp_path):
    keep_update(users_registry)
    linked(users_registry, tmp_path / "elsewhere")
    updates.forget()
    assert updates.current() is None
    assert (tmp_path / "elsewhere" / "thesis" / "data.txt").read_text() == "mine\n"


def test_an_update_with_a_file_of_others_stays_and_is_named(users_registry):
    notes = keep_update(users_registry) / "zoo" / "notes.txt"
    notes.write_text("mine\n")
    with pytest.raises(OutputError, match=f"{notes}: is not a file of deepcr-zoo"):
        updates.forget()
    assert notes.read_text() == "mine\n"
    assert (notes.parent / "training_visits.yaml").exists()


def test_a_link_in_place_of_an_update_is_not_followed_and_is_named(users_registry, tmp_path):
    linked(keep_update(users_registry), tmp_path / "elsewhere")
    with pytest.raises(IntegrityError, match=r"a{40} is a symbolic link"):
        updates.forget()
    assert (tmp_path / "elsewhere" / "zoo" / "training_visits.yaml").exists()


def test_a_file_of_others_with_the_name_of_that_of_updates_is_not_replaced(users_registry):
    path = users_registry / updates.CURRENT
    path.write_text('{"target": "M 51"}')
    for change in (updates.update, updates.forget):
        with pytest.raises(OutputError, match=f"{path}: is not a file of deepcr-zoo"):
            change()
    assert path.read_text() == '{"target": "M 51"}'


@pytest.mark.parametrize("name", ["notes.txt", "plots/a.png"])
def test_a_visit_that_is_labelled_again_keeps_files_of_the_user(name, tmp_path):
    home = store.Home(tmp_path)
    mine = home.visit("k") / name
    mine.parent.mkdir(parents=True)
    mine.write_text("mine\n")
    with pytest.raises(OutputError, match=f"{mine}: is not a file of deepcr-zoo"):
        finished_or_made(home, "k", lambda scratch, folder: pytest.fail("labelled"))
    assert mine.read_text() == "mine\n"


def test_a_link_in_place_of_a_visit_is_not_followed_and_is_named(tmp_path):
    home = store.Home(tmp_path)
    home.visits.mkdir()
    (tmp_path / "elsewhere").mkdir()
    home.visit("k").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(IntegrityError, match="visits/k is a symbolic link"):
        finished_or_made(home, "k", lambda scratch, folder: pytest.fail("labelled"))


@pytest.mark.parametrize("place", ["x_flc.fits", ".x_flc.fits.part", "x_flc.fits.json", ".x_flc.fits.part.json"])
def test_a_download_replaces_no_file_of_others(place, tmp_path):
    product = Product(
        name="x_flc.fits", uri="mast:x", size=1, version="1", project="CALACS", observation="x", proposal=1, visit="01",
        target="M51", filter_name="F606W", exposure_time_s=None, is_public=True,
    )  # fmt: skip
    (tmp_path / place).write_text('"mine"')
    downloader = Downloader(DownloadFolder(tmp_path), lambda *_: pytest.fail("asked for"), Pace(None), lambda _: None)
    with pytest.raises(OutputError, match=f"{tmp_path / place}: is not a download of deepcr-zoo"):
        downloader.download(product)
    assert [path.read_text() for path in tmp_path.iterdir()] == ['"mine"']


def test_only_checkpoints_of_a_training_are_removed_from_its_run(tmp_path):
    names = ("checkpoint-0001-000010.safetensors", "checkpoint-0002-000020.safetensors", "checkpoint-best.safetensors")
    for name in names:
        (tmp_path / name).touch()
    checkpoints._remove_others(tmp_path, names[1])
    assert sorted(path.name for path in tmp_path.iterdir()) == [*names[1:]]


def test_the_log_of_drizzlepac_is_written_through_no_link(tmp_path):
    (mine := tmp_path / "profile").write_text("mine")
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "key.log").symlink_to(mine)
    (tmp_path / "work").mkdir()
    with pytest.raises(InterruptedWorkError):  # there is no job
        drizzle._run_process(tmp_path / "work", logs / "key.log", "a_flc.fits: x")
    assert mine.read_text() == "mine"
    assert (logs / "key.log").read_text().startswith("a_flc.fits: x\n")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "linked").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(IntegrityError, match="symbolic link"):
        drizzle._run_process(tmp_path / "work", tmp_path / "linked" / "key.log", "a_flc.fits: x")


@pytest.mark.parametrize("arguments", [["clean", "@loop"], ["recipe", "check", "mine.yaml"]], ids=" ".join)
def test_a_link_that_leads_to_itself_is_one_sentence(arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    (tmp_path / "mine.yaml").write_text("extends: acs-wfc-f606w\nname: MINE\ninstrument: {name: nowhere}\n")
    error = CliRunner().invoke(app, arguments).exception
    assert isinstance(error, DeepcrZooError)
    assert re.search(r"loop.* cannot be read: Too many levels of symbolic links", str(error))
