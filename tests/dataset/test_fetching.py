"""``deepcr-zoo fetch``, ``--data mast`` and archive manifests: downloads can be repeated."""

import bz2
import copy
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest
from astroquery.mast import conf
from typer.testing import CliRunner

from deepcr_zoo import files, locations
from deepcr_zoo.archive.listing import query_of
from deepcr_zoo.archive.manifest import read
from deepcr_zoo.archive.mast import Archive
from deepcr_zoo.cli.main import app
from deepcr_zoo.dataset.fetching import exposures_of
from deepcr_zoo.dataset.fetching import fetch as fetch_recipe
from deepcr_zoo.dataset.plans import plan_build
from deepcr_zoo.dataset.store import Home
from deepcr_zoo.dataset.trainingsets import find_or_build
from deepcr_zoo.errors import ArchiveError, ArchiveUnreachableError, OutputError, UsageError
from deepcr_zoo.progress import NullReporter
from tests.conftest import CHECKOUT
from tests.processes import start
from tests.threads import at_once

KILLS = 20

NOWHERE = "http://127.0.0.1:9"


def fetch(*arguments):
    return CliRunner().invoke(app, ["fetch", *map(str, arguments)])


def fetched(*arguments):
    """The manifest of a fetch that ends well."""
    done = fetch(*arguments)
    assert done.exit_code == 0, (done.output, done.exception)
    return files.Path(done.stdout.split()[-1])


def content(root):
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_fetch_prints_the_path_of_a_manifest_with_names_sizes_hashes_and_versions(archive, recipe_file, exposures):
    manifest = read(fetched(recipe_file))
    assert [one.name for one in manifest.products] == sorted(path.name for path in exposures.glob("*/*_flc.fits"))
    assert all(one.size and one.sha256 and one.version == "10.3.5" for one in manifest.products)


def test_the_bytes_of_a_manifest_depend_on_the_archive_alone(archive, recipe_file, monkeypatch, tmp_path):
    one = fetched(recipe_file).read_bytes()
    monkeypatch.setenv("DEEPCR_ZOO_CACHE", str(tmp_path / "another"))
    archive.observations.reverse()
    archive.products = type(archive.products)(list, {key: rows[::-1] for key, rows in archive.products.items()})
    assert fetched(recipe_file, "--jobs", 1).read_bytes() == one


def test_a_dry_run_lists_products_and_the_total_and_downloads_nothing(archive, recipe_file):
    done = fetch(recipe_file, "--dry-run")
    assert done.stdout.count("_flc.fits") == 9
    assert "13.5" in done.stdout
    assert not archive.downloads
    listed = json.loads(fetch(recipe_file, "--dry-run", "--json").stdout)
    assert listed["bytes"] == 9 * 1_503_360
    assert {one["sha256"] for one in listed["products"]} == {None}


def test_a_dry_run_leaves_the_list_of_what_was_downloaded(archive, recipe_file, exposures):
    assert fetch(recipe_file).exit_code == 0
    (kept,) = (locations.exposures_root() / "manifests").glob("*.json")
    before = kept.read_bytes()
    changed = next(exposures.glob("*/*_flc.fits"))
    archive.replace(changed.name, changed.read_bytes() + bytes(2880))
    assert fetch(recipe_file, "--dry-run").exit_code == 0
    assert kept.read_bytes() == before


def test_products_that_are_not_public_are_named_and_left_out(archive, recipe_file, exposures):
    name = min(exposures.glob("extragalactic/*_flc.fits")).name
    for row in archive.listed(name):
        row["dataRights"] = "EXCLUSIVE_ACCESS"
    done = fetch(recipe_file)
    assert f"left out: {name}" in done.output
    assert "extragalactic: 3 exposures expected, 2 found" in done.output
    assert archive.sent(name) == 0


def test_a_manifest_repeats_its_products_and_nothing_else(archive, recipe_file, exposures, monkeypatch, tmp_path):
    kept = tmp_path / "manifest.json"
    assert fetched(recipe_file, "--output", kept) == kept
    before = kept.read_bytes()
    late = archive.add_observation("JXG16E0LQ", **{key: archive.observations[0][key] for key in ("proposal_id", "filters")})
    archive.observations[-1] |= {"target_name": "SIMULATED", "t_exptime": 1.0}
    archive.add_product(late, "jxg16e0lq_flc.fits", b"taken later")
    monkeypatch.setenv("DEEPCR_ZOO_CACHE", str(tmp_path / "another"))
    assert fetched("--manifest", kept) == kept
    assert kept.read_bytes() == before
    there = {path.name: path.read_bytes() for path in (tmp_path / "another/exposures/mast").glob("*_flc.fits")}
    assert there == {path.name: path.read_bytes() for path in exposures.glob("*/*_flc.fits")}
    assert "jxg16e0lq_flc.fits" in fetched(recipe_file).read_text()


def test_a_product_that_a_manifest_lists_twice_is_said_to_be_listed_twice(archive, recipe_file, tmp_path):
    kept = tmp_path / "manifest.json"
    fetched(recipe_file, "--output", kept)
    content = json.loads(kept.read_text())
    content["products"].append(content["products"][0] | {"sha256": "0" * 64})
    kept.write_text(json.dumps(content))
    error = fetch("--manifest", kept).exception
    assert str(error).startswith(
        f"{kept}: lists {content['products'][0]['name']} more than once: remove all entries but one"
    )


def test_a_file_of_the_user_that_differs_from_the_manifest_is_refused(archive, recipe, recipe_file, exposures, tmp_path):
    kept = fetched(recipe_file)
    own = tmp_path / "own"
    own.mkdir()
    file = min(exposures.glob("extragalactic/*_flc.fits"))
    shutil.copy(file, own)
    assert len(exposures_of(recipe, [own, kept], None, NullReporter())) == 9  # the folder, and what it has not
    (own / file.name).write_bytes(file.read_bytes()[::-1])
    with pytest.raises(ArchiveError, match=f"{file.name}: has the SHA-256 .*, the manifest says"):
        exposures_of(recipe, [own, kept], None, NullReporter())
    (own / file.name).unlink()
    packed = own / f"{file.name}.bz2"
    packed.write_bytes(bz2.compress(file.read_bytes()))
    assert len(exposures_of(recipe, [own, kept], None, NullReporter())) == 9
    packed.write_bytes(bz2.compress(file.read_bytes()[:-1] + b"x"))
    with pytest.raises(ArchiveError, match=f"{packed.name}: has the SHA-256 .*, the manifest says"):
        exposures_of(recipe, [own, kept], None, NullReporter())


@pytest.mark.parametrize("how", ["version", "size", "bytes", "gone"])
def test_a_product_that_has_changed_since_the_manifest_is_an_error(
    archive, one_visit, exposures, monkeypatch, tmp_path, how
):
    kept, _ = fetch_recipe(one_visit, NullReporter())
    name = min(exposures.glob("extragalactic/*_flc.fits")).name
    served = archive.files[name]
    if how == "gone":
        archive.products = type(archive.products)(
            list, {key: [row for row in rows if row["productFilename"] != name] for key, rows in archive.products.items()}
        )
    elif how == "bytes":
        served.data = served.data[::-1]
    else:
        archive.replace(name, served.data[:-2880] if how == "size" else served.data, "10.3.5" if how == "size" else "10.4.0")
    monkeypatch.setenv("DEEPCR_ZOO_CACHE", str(tmp_path / "another"))
    error = fetch("--manifest", kept).exception
    assert isinstance(error, ArchiveError)
    assert name in str(error)
    assert "since the manifest" in str(error) or "not there any more" in str(error)
    assert not (tmp_path / "another/exposures/mast" / name).exists()


def test_downloaded_products_need_no_archive(archive, recipe, recipe_file, monkeypatch):
    kept = fetched(recipe_file)
    monkeypatch.setenv("DEEPCR_ZOO_MAST", NOWHERE)
    assert fetched("--manifest", kept) == kept
    assert len(exposures_of(recipe, ["mast"], None, NullReporter())) == 9
    assert len(exposures_of(recipe, [kept], None, NullReporter())) == 9


def with_other_hashes(manifest, path):
    """A copy of a manifest whose hashes are of no file."""
    content = json.loads(manifest.read_text())
    for product in content["products"]:
        product["sha256"] = "0" * 64
    path.write_text(json.dumps(content))
    return path


def test_a_manifest_with_other_hashes_takes_nothing_from_the_downloads_that_are_there(
    archive, recipe_file, monkeypatch, tmp_path
):
    mine = fetched(recipe_file, "--output", tmp_path / "mine.json")
    before = content(locations.exposures_root() / "mast")
    refused = fetch("--manifest", with_other_hashes(mine, tmp_path / "theirs.json"))
    assert "has changed in the archive since the manifest" in str(refused.exception)
    assert content(locations.exposures_root() / "mast") == before
    monkeypatch.setenv("DEEPCR_ZOO_MAST", NOWHERE)
    assert fetched("--manifest", mine) == mine


def test_a_download_stays_until_another_one_is_whole_and_accepted(archive, one_visit, exposures, tmp_path):
    kept, _ = fetch_recipe(one_visit, NullReporter())
    theirs, folder = with_other_hashes(kept, tmp_path / "theirs.json"), locations.exposures_root() / "mast"
    name = min(exposures.glob("extragalactic/*_flc.fits")).name
    before, served = content(folder), archive.files[name]
    served.data = served.data[::-1]
    for breaks in ([800_000, 0, 0, 0, 0, 0], []):
        served.breaks_after.clear()
        served.breaks_after.extend(breaks)
        assert isinstance(fetch("--manifest", theirs).exception, ArchiveError)
        assert {path: data for path, data in content(folder).items() if ".part" not in path} == before
    assert content(folder) == before
    fetch_recipe(one_visit, NullReporter())
    assert content(folder) == before
    wanted = json.loads(theirs.read_text())
    for product in wanted["products"]:
        product["sha256"] = hashlib.sha256(archive.files[product["name"]].data).hexdigest()
    theirs.write_text(json.dumps(wanted))
    fetched("--manifest", theirs)
    assert (folder / name).read_bytes() == served.data
    assert content(folder).keys() == before.keys()


def test_a_list_takes_no_hashes_from_a_manifest_that_has_them(archive, recipe_file, monkeypatch, tmp_path):
    mine = fetched(recipe_file, "--output", tmp_path / "mine.json")
    before = mine.read_bytes()
    assert fetched(recipe_file, "--dry-run", "--output", mine) == mine
    assert mine.read_bytes() == before  # the cache knows the hashes, too
    monkeypatch.setenv("DEEPCR_ZOO_CACHE", str(tmp_path / "another"))
    error = fetch(recipe_file, "--dry-run", "--output", mine).exception
    assert isinstance(error, OutputError)
    assert str(error).startswith(f"{mine}: has hashes that this list of products does not have")
    assert mine.read_bytes() == before
    listed = fetched(recipe_file, "--dry-run", "--output", tmp_path / "listed.json")
    assert fetched(recipe_file, "--dry-run", "--output", listed) == listed
    assert fetched(recipe_file, "--output", mine) == mine
    assert mine.read_bytes() == before


def test_a_copy_replaces_no_manifest_of_another_search_and_no_other_hashes(archive, recipe_file, tmp_path):
    mine = fetched(recipe_file, "--output", tmp_path / "mine.json")
    whole = json.loads(mine.read_text())
    for change, reason in (
        (lambda content: content["query"].update(telescope="JWST"), "is the manifest of another search"),
        (lambda content: content["products"][0].update(sha256="0" * 64), "has another hash of"),
    ):
        content = copy.deepcopy(whole)
        change(content)
        mine.write_text(json.dumps(content))
        before = mine.read_bytes()
        error = fetch(recipe_file, "--output", mine).exception
        assert isinstance(error, OutputError)
        assert reason in str(error)
        assert mine.read_bytes() == before


def test_two_fetches_at_once_do_not_disturb_each_other(archive, recipe):
    paths_of_manifests = at_once(lambda jobs: fetch_recipe(recipe, NullReporter(), jobs)[0], [2, 3])
    assert len(set(paths_of_manifests)) == 1
    assert len(archive.downloads) == 9
    assert archive.most_at_once <= 3


def test_the_address_can_be_set_in_astroquery(archive, recipe, monkeypatch):
    monkeypatch.delenv("DEEPCR_ZOO_MAST")
    with conf.set_temp("server", archive.url):
        assert len(Archive().search(query_of(recipe))) == 9


@pytest.mark.parametrize("name", ["../escaped_flc.fits", "/tmp/escaped_flc.fits", ".hidden_flc.fits"])
def test_a_manifest_that_names_a_path_elsewhere_is_refused(archive, recipe_file, tmp_path, name):
    content = json.loads(fetched(recipe_file, "--dry-run").read_text())
    content["products"][0]["name"] = name
    path = tmp_path / "m.json"
    path.write_text(json.dumps(content))
    assert "products.0.name" in str(fetch("--manifest", path).exception)


def test_an_archive_out_of_reach_is_an_error_with_all_visits(recipe_file, monkeypatch):
    monkeypatch.setenv("DEEPCR_ZOO_MAST", NOWHERE)
    error = fetch(recipe_file).exception
    assert isinstance(error, ArchiveUnreachableError)
    assert str(error).startswith(f"search for exposures: the archive at {NOWHERE} cannot be reached: ")
    for line in ("proposal 90001, visit 6E, F606W: 3 exposures", "visit 6I", "visit 6M", "--data DIR"):
        assert line in str(error)
    assert not locations.exposures_root().exists()


def test_an_archive_out_of_reach_is_an_error_with_an_earlier_list(archive, recipe_file, exposures, monkeypatch):
    fetch(recipe_file, "--dry-run")
    monkeypatch.setenv("DEEPCR_ZOO_MAST", NOWHERE)
    error = fetch(recipe_file).exception
    assert isinstance(error, ArchiveUnreachableError)
    assert all(f"{path.name} (1503360 bytes" in str(error) for path in exposures.glob("*/*_flc.fits"))


@pytest.mark.parametrize(
    "arguments", [(), ("acs-wfc-f606w", "--manifest", "x.json"), ("--manifest", "x.json", "--set", "build.seed=1")]
)
def test_wrong_usage_is_named(arguments):
    assert isinstance(fetch(*arguments).exception, UsageError)


@pytest.mark.parametrize("text", ["{}", "no JSON", '{"format": 2}'])
def test_a_file_that_is_no_manifest_is_one_sentence(tmp_path, text):
    path = tmp_path / "m.json"
    path.write_text(text)
    error = fetch("--manifest", path).exception
    assert str(error).startswith(f"{path}: expected a manifest of deepcr-zoo fetch: ")
    assert str(fetch("--manifest", tmp_path / "nothing.json").exception).endswith(
        "cannot be read: No such file or directory"
    )


def test_a_build_takes_its_exposures_from_the_archive(archive, recipe, tmp_path):
    files = exposures_of(recipe, ["mast"], None, NullReporter())
    plan = plan_build(recipe, files, home=Home(tmp_path / "home"))
    assert len(plan.visits) == 3
    assert not plan.missing
    assert not plan.rejected


def test_exposures_that_the_user_has_are_not_downloaded(archive, recipe, exposures):
    files = exposures_of(recipe, [exposures / "extragalactic", "mast"], None, NullReporter())
    own = {path.name for path in exposures.glob("extragalactic/*_flc.fits")}
    assert len(files) == 1 + 6
    assert len(archive.downloads) == 6
    assert not {asked.name for asked in archive.downloads} & own
    archive.searches.clear()
    assert exposures_of(recipe, [exposures / "extragalactic", "mast"], None, NullReporter()) == files
    assert not archive.searches


def test_a_folder_called_mast_is_one_beside_the_archive(recipe, exposures, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    os.symlink(exposures, "mast")
    assert exposures_of(recipe, ["./mast"], None, NullReporter()) == ["./mast"]


@pytest.mark.slow
def test_build_and_train_end_with_the_training_set_of_the_same_files(
    archive,
    recipe,
    recipe_file,
    built,
    monkeypatch,
):
    monkeypatch.setenv("DEEPCR_ZOO_DATA", str(built.home.root))
    done = CliRunner().invoke(app, ["build", str(recipe_file), "--data", "mast", "--jobs", "1"])
    assert done.exit_code == 0, (done.output, done.exception)
    assert done.stdout.split()[-1] == str(built.folder / "manifest.json")
    assert find_or_build(recipe, ["mast"], False, 1, None, NullReporter()).folder == built.folder


# a process that has imported everything forks those that work, so that a kill costs no seconds of imports
WORKERS = """
import os, sys

import astroquery.mast
from deepcr_zoo.archive import comparison
from deepcr_zoo.cli import main
from deepcr_zoo.dataset import fetching

for line in sys.stdin:
    child = os.fork()
    if child == 0:
        sys.argv = ["deepcr-zoo", "fetch", *line.split()]
        main.main()
    print(child, flush=True)
    print("ended", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def environment(**more):
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(CHECKOUT), os.environ.get("PYTHONPATH", "")])} | more


@pytest.mark.slow
def test_a_fetch_that_is_killed_at_twenty_moments_ends_with_the_bytes_of_one_that_is_not(archive, recipe_file, tmp_path):
    random_moments = random.Random(20)
    for served in archive.files.values():
        served.chunk_delay_s = 0.04
    killed = tmp_path / "killed"
    with subprocess.Popen(
        [sys.executable, "-c", WORKERS],
        env=environment(DEEPCR_ZOO_CACHE=str(killed)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as workers:
        hits = 0
        for _ in range(KILLS):
            archive.begun.clear()
            print(recipe_file, "--jobs", 2, file=workers.stdin, flush=True)
            child = int(workers.stdout.readline())
            assert archive.begun.wait(120)
            time.sleep(random_moments.uniform(0.0, 0.4))
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
            hits += "-9" in workers.stdout.readline()
        workers.stdin.close()
    assert hits == KILLS
    for served in archive.files.values():
        served.chunk_delay_s = 0.0
    command = [sys.executable, "-m", "deepcr_zoo", "fetch", str(recipe_file)]
    done = subprocess.run(command, env=environment(DEEPCR_ZOO_CACHE=str(killed)), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    resumed = [asked for asked in archive.downloads if asked.status == 206]
    assert len(resumed) > 5
    sent = sum(asked.sent for asked in archive.downloads)
    other = tmp_path / "other"
    subprocess.run(command, env=environment(DEEPCR_ZOO_CACHE=str(other)), check=True, capture_output=True)
    assert content(killed) == content(other)
    # what had arrived was not fetched again, but for what was on the way at each kill
    assert sent < 9 * 1_503_360 + KILLS * 2 * 200_000


def test_an_interrupted_fetch_is_reported_and_resumed(archive, recipe_file):
    for served in archive.files.values():
        served.chunk_delay_s = 0.05
    command = [sys.executable, "-m", "deepcr_zoo", "fetch", str(recipe_file)]
    process = start(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert archive.begun.wait(120), process.communicate()
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    out, said = process.communicate(timeout=120)
    assert process.returncode == 130, said
    assert "interrupted" in said
    assert "Traceback" not in said
    assert out == ""
    for served in archive.files.values():
        served.chunk_delay_s = 0.0
    fetched(recipe_file)
    assert any(asked.status == 206 for asked in archive.downloads)
