"""Work on a Dask cluster: the results of a local run, whatever becomes of the workers."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from distributed import LocalCluster

from deepcr_zoo import batch
from deepcr_zoo.cli import cluster
from deepcr_zoo.errors import (
    ClusterError,
    InterruptedWorkError,
    InvalidFileError,
    MissingExtraError,
    OutputError,
    SourceWarning,
    UsageError,
    warn,
)
from deepcr_zoo.zoo.instrumentfiles import default_instruments
from deepcr_zoo.zoo.registries import other_registries
from tests.clusters import cluster as running
from tests.clusters import hashes, kill, wait_for
from tests.conftest import CHECKOUT
from tests.described import describe
from tests.processes import start
from tests.registries import SMALL
from tests.test_batch import write_night

COUNTED = """
import os
from deepcr_zoo.models import model

if model.load_resolved.__name__ != "counted":  # dask runs a preload more than once
    load_resolved = model.load_resolved

def counted(*arguments, **options):
    with open(os.environ["LOADS"], "a") as file:
        file.write(f"{os.getpid()}\\n")
    return load_resolved(*arguments, **options)

model.load_resolved = counted
"""


def work(path, folder=None):
    """Do what the path names."""
    if path.startswith("bad"):
        raise InvalidFileError(f"{path}: is bad")
    if path.startswith("usage"):
        raise UsageError("wrong for all")
    if path.startswith("warns"):
        warn("the disk is old", SourceWarning)
    if path.startswith("die"):
        os.kill(os.getpid(), signal.SIGKILL)
    if path.startswith("again"):  # the machine fails it the first time
        marker = Path(folder, path)
        if not marker.exists():
            marker.touch()
            raise InterruptedWorkError(f"{path}: interrupted")
    if path.startswith("never"):
        raise InterruptedWorkError(f"{path}: interrupted")
    if path.startswith("grown"):  # the cluster, which the test notes in this file
        wait_for(Path(folder, path).exists)
    if path.startswith("slow"):
        time.sleep(0.5)
    if path.startswith("where"):
        return [os.getcwd(), os.environ["DEEPCR_ZOO_DATA"], os.environ.get("SOURCE_DATE_EPOCH")]
    return path.upper()


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory):
    """A cluster whose nannies start killed workers again."""
    folder = tmp_path_factory.mktemp("cluster")
    with running(folder / "dask", DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES="1") as made:
        yield made.address


@pytest.fixture
def everything(two_workers):
    """Return the outcomes of work on the cluster."""
    return lambda paths, work=work: list(batch.run(work, paths, cluster.on_scheduler(two_workers)))


def test_outcomes_come_in_order_and_failures_do_not_stop_the_rest(everything):
    paths = ["slow", "b", "bad", *map(str, range(40)), "c"]
    outcomes = everything(paths)
    assert outcomes == list(batch.run(work, paths, 1))


def test_warnings_of_workers_are_given_here_once(everything):
    with pytest.warns(SourceWarning, match="the disk is old") as caught:
        everything(["warns", "a", "warns again"])
    assert len(caught) == 1


def test_wrong_usage_ends_everything(everything):
    with pytest.raises(UsageError, match="wrong for all"):
        everything(["a", "usage", "b"])


def test_what_the_machine_failed_is_tried_again_and_then_reported(everything, tmp_path):
    outcomes = everything(["a", "again", "never", "b"], partial(work, folder=tmp_path))
    assert [outcome.result for outcome in outcomes] == ["A", "AGAIN", None, "B"]
    assert outcomes[2].error == "never: interrupted"


@pytest.mark.slow
def test_a_file_that_kills_its_workers_fails_alone(everything):
    paths = [*(f"a{i}" for i in range(5)), "die", *(f"b{i}" for i in range(12))]
    outcomes = everything(paths)
    assert [outcome.path for outcome in outcomes] == paths
    (failed,) = (outcome for outcome in outcomes if outcome.error)
    assert failed.error == "die: the workers that worked on it were killed, perhaps for want of memory"


def test_work_is_done_in_the_folder_and_with_the_settings_of_the_command(everything, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEEPCR_ZOO_DATA", "my data")
    for date in ("1790000000", None):
        monkeypatch.setenv("SOURCE_DATE_EPOCH", date) if date else monkeypatch.delenv("SOURCE_DATE_EPOCH")
        assert everything(["where"])[0].result == [str(tmp_path), f"{tmp_path}/my data", date]


def test_settings_of_a_command_last_for_one_task(monkeypatch):
    monkeypatch.setenv("DEEPCR_ZOO_DATA", "the worker's")
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    with cluster._environment({"DEEPCR_ZOO_DATA": None, "SOURCE_DATE_EPOCH": "1"}):
        assert os.environ["SOURCE_DATE_EPOCH"] == "1"
        assert "DEEPCR_ZOO_DATA" not in os.environ
    assert os.environ["DEEPCR_ZOO_DATA"] == "the worker's"
    assert "SOURCE_DATE_EPOCH" not in os.environ


def test_workers_know_the_cameras_of_a_command_that_has_no_settings_file(tmp_path, monkeypatch):
    monkeypatch.delenv("DEEPCR_ZOO_CONFIG")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "mine"))
    describe(tmp_path / "mine" / "deepcr-zoo" / "instruments" / "my.yaml")
    settings = cluster._settings()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "the worker's"))
    assert default_instruments().called("My camera") is None
    with cluster._environment(settings):
        assert default_instruments().called("My camera") is not None
        assert other_registries() == {}


@pytest.mark.slow
def test_named_items_travel_alone(two_workers):
    things = {name: name * 1000 for name in "abc"}
    alone = batch.part_for(batch.ForEach(len, things), "b")
    assert alone == batch.ForEach(len, {"b": "b" * 1000})
    for jobs in (1, 2, cluster.on_scheduler(two_workers)):
        outcomes = batch.run(batch.ForEach(len, things), list(things), jobs)
        assert [outcome.result for outcome in outcomes] == [1000] * 3


def test_few_tasks_are_at_the_scheduler_at_a_time(two_workers, monkeypatch):
    most = []
    submit = cluster._Tasks._submit
    monkeypatch.setattr(
        cluster._Tasks, "_submit", lambda self, *a, **k: (submit(self, *a, **k), most.append(len(self.in_flight)))
    )
    assert len(list(batch.run(work, [str(i) for i in range(60)], cluster.on_scheduler(two_workers)))) == 60
    assert max(most) == 8


# What is wrong is one sentence


def test_a_scheduler_that_does_not_answer_is_an_error(monkeypatch):
    monkeypatch.setattr(cluster, "CONNECT_S", 0.5)
    for address in ("tcp://127.0.0.1:1", "127.0.0.1:1"):
        with pytest.raises(ClusterError, match=r"no Dask scheduler answers: expected the address that `dask scheduler`"):
            list(batch.run(work, ["a"], cluster.on_scheduler(address)))


@pytest.mark.parametrize("address", ["nonsense", "carrier-pigeon://roof:1", "http://127.0.0.1:8786", "tcp://127.0.0.1"])
def test_an_invalid_address_is_an_error_at_once(address):
    with pytest.raises(UsageError, match=r"expected the address that `dask scheduler` prints, as in tcp://host:8786"):
        list(batch.run(work, ["a"], cluster.on_scheduler(address)))


def test_workers_of_another_version_are_refused(everything, monkeypatch):
    monkeypatch.setattr(cluster, "__version__", "9.9")
    with pytest.raises(ClusterError, match=r"the worker w\d on .* has deepcr-zoo .*: expected 9.9, which gave out the work"):
        everything(["a"])


def test_a_folder_or_a_file_that_a_worker_does_not_see_is_named_with_its_machine(everything, monkeypatch, tmp_path):
    monkeypatch.setattr(cluster.os, "getcwd", lambda: "/not/on/workers")
    with pytest.raises(ClusterError, match=r"the worker w\d on \S+ does not see /not/on/workers: expected the same files"):
        everything(["a"])
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.fits").touch()
    monkeypatch.setattr(cluster.os, "getcwd", lambda: "/")
    with pytest.raises(ClusterError, match=r"does not see /a.fits: expected"):
        everything(["a.fits"])


def test_a_folder_for_results_is_made_and_left_empty_or_refused(two_workers, tmp_path):
    out = tmp_path / "new" / "out"
    outcomes = batch.run(lambda path: os.listdir(out), ["a"], cluster.on_scheduler(two_workers, [out]))
    ((sign,),) = (outcome.result for outcome in outcomes)
    assert sign.startswith(".cluster.")
    assert not list(out.iterdir())
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="file/out: cannot be written: "):
        list(batch.run(work, ["a"], cluster.on_scheduler(two_workers, [tmp_path / "file" / "out"])))


def test_a_worker_with_several_threads_is_refused(tmp_path):
    with running(tmp_path / "dask", workers=0) as made:
        made.add_worker("--no-nanny", threads=3)
        with pytest.raises(ClusterError, match="has 3 threads: expected one in each worker, start them with --nworkers 3"):
            list(batch.run(work, ["a"], cluster.on_scheduler(made.address)))


@pytest.mark.slow
def test_workers_may_come_late_and_be_lost_and_a_scheduler_that_is_gone_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "PATIENCE_S", 0.0)
    monkeypatch.setattr(cluster, "POLL_S", 0.2)
    monkeypatch.setattr(cluster, "CONNECT_S", 1.0)
    with running(tmp_path / "dask", workers=0) as made:
        outcomes = batch.run(work, ["a", *["slow"] * 50], cluster.on_scheduler(made.address))
        made.add_worker("--no-nanny")
        with pytest.warns(UserWarning, match="has no workers: waiting for one"):
            assert next(outcomes).result == "A"
        kill(made.workers[0])
        later = threading.Timer(3.0, made.add_worker, ["--no-nanny"])
        later.start()
        with pytest.warns(UserWarning, match="has no workers: waiting for one"):
            assert next(outcomes).result == "SLOW"
        later.join()
        kill(made.scheduler)
        with pytest.raises(ClusterError, match="the scheduler is gone: start a cluster again, the same command goes on"):
            list(outcomes)


@pytest.mark.slow
def test_an_adaptive_cluster_grows_from_nothing(tmp_path):
    made = LocalCluster(
        n_workers=0, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0", local_directory=tmp_path
    )
    with made:
        made.adapt(minimum=0, maximum=2, interval="100ms", target_duration="500ms")
        with ThreadPoolExecutor(1) as pool:
            jobs = cluster.on_scheduler(made.scheduler_address)
            outcomes = pool.submit(list, batch.run(partial(work, folder=tmp_path), ["grown"] * 8, jobs))
            wait_for(lambda: len(made.workers) == 2)
            (tmp_path / "grown").touch()
            assert [outcome.result for outcome in outcomes.result()] == ["GROWN"] * 8


def test_jobs_and_a_scheduler_exclude_each_other_and_dask_is_an_extra(monkeypatch):
    with pytest.raises(UsageError, match="--jobs and --scheduler: expected one of them"):
        cluster.jobs_or_scheduler(2, "tcp://127.0.0.1:1", 1)
    assert cluster.jobs_or_scheduler(None, None, 3) == 3
    assert cluster.jobs_or_scheduler(2, None, 3) == 2
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"needs dask: run pip install 'deepcr-zoo\[dask\]'"):
        cluster.on_scheduler("tcp://127.0.0.1:1")


# Cleaning files


def command(night, out, *options):
    files = [sys.executable, "-m", "deepcr_zoo", "clean", str(night), "--output-dir", str(out), *options]
    return [*files, "--model", SMALL, "--inpaint", "medmask"]


@pytest.mark.slow
def test_a_night_of_files_survives_a_worker_and_has_the_bytes_of_a_local_run(tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1790000000")  # products hold the time at which they were written
    night, here, there = tmp_path / "night", tmp_path / "here", tmp_path / "there"
    write_night(night, 30, {3}, (200, 300))
    local = subprocess.run([*command(night, here), "--json", "--jobs", "1"], cwd=CHECKOUT, capture_output=True, text=True)
    (tmp_path / "counted.py").write_text(COUNTED)
    loads = tmp_path / "loads"
    options = ["--no-nanny", "--preload", str(tmp_path / "counted.py")]
    with running(tmp_path / "dask", *options, LOADS=str(loads)) as made:
        process = subprocess.Popen(
            [*command(night, there), "--json", "--scheduler", made.address],
            cwd=CHECKOUT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        wait_for(lambda: there.is_dir() and loads.is_file() and len(loads.read_text().split()) == 2, process)
        wait_for(lambda: len(list(there.glob("*_crmask.fits"))) >= 10, process)
        kill(made.workers[0])
        assert process.poll() is None
        stdout, _ = process.communicate()
    assert process.returncode == local.returncode == 1
    records = [json.loads(line) for line in stdout.splitlines()]
    assert [one["path"] for one in records] == [json.loads(line)["path"] for line in local.stdout.splitlines()]
    assert [one["path"] for one in records if one["error"]] == [f"{night}/003_flc.fits"]
    assert len(records) == 30
    assert hashes(there) == hashes(here)
    assert len(hashes(there)) == 58
    pids = loads.read_text().split()
    assert len(pids) == len(set(pids)) == 2, "each worker loads the model once"


@pytest.mark.slow
def test_an_interrupted_command_begins_nothing_else_and_goes_on_when_given_again(tmp_path):
    night, out = tmp_path / "night", tmp_path / "out"
    write_night(night, 20, set(), (200, 300))
    with running(tmp_path / "dask", "--no-nanny", workers=1) as made:
        ours = [*command(night, out), "--scheduler", made.address]
        process = start(ours, cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        wait_for(lambda: out.is_dir() and len(list(out.glob("*_crmask.fits"))) >= 3, process)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
        assert process.returncode == batch.INTERRUPTED
        assert "workers finish what they are working on, and begin nothing else" in stderr
        assert stderr.strip().endswith("interrupted the same command goes on where this one ended")
        assert "Traceback" not in stderr
        finished = len(list(out.glob("*_crmask.fits")))
        time.sleep(2)
        assert len(list(out.glob("*_crmask.fits"))) <= finished + 1 < 20
        again = subprocess.run(ours, cwd=CHECKOUT, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert len(hashes(out)) == 40
