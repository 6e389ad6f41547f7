"""Builds on a Dask cluster end with the bytes of a local build, even if a worker is lost."""

import os
import subprocess
import sys

import pytest

from deepcr_zoo.cli import cluster
from deepcr_zoo.dataset.build import build_dataset
from deepcr_zoo.dataset.store import Home
from tests.clusters import cluster as running
from tests.clusters import hashes, kill, wait_for
from tests.conftest import CHECKOUT
from tests.dataset.visits import content, three_visits, unfinished

SMALL = (
    "rehearsal.side=256",
    "rehearsal.exposures=2",
    "rehearsal.stamps={size: 64, border: 0}",
    "rehearsal.exposure_time_s={extragalactic: 500}",
    "rehearsal.visits={train: 2, test: 1}",
)


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory):
    """A cluster as ``dask worker`` starts it: workers are children of nannies, and may have no children of their own."""
    with running(tmp_path_factory.mktemp("cluster") / "dask") as made:
        yield made


def build(home, *options):
    settings = [word for setting in SMALL for word in ("--set", setting)]
    command = [sys.executable, "-m", "deepcr_zoo", "build", "acs-wfc-f606w", "--rehearse", *settings, *options]
    environment = os.environ | {"DEEPCR_ZOO_DATA": str(home), "PYTHONPATH": str(CHECKOUT)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_files_are_read_and_visits_labelled_on_the_cluster(built, exposures, two_workers, tmp_path):
    home = Home(tmp_path / "home")
    jobs = cluster.on_scheduler(two_workers.address, [home.visits])
    recipe, folder = three_visits(exposures, field_types=("extragalactic",)), exposures / "extragalactic"
    local = build_dataset(recipe, [folder], home=built.home)
    assert content(build_dataset(recipe, [folder], jobs=jobs, home=home)) == content(local)


def at_work(workers, home):
    """Return the workers that run drizzlepac."""
    jobs = unfinished(home, "job.json")
    groups = {os.getpgid(int(job.parents[1].name.rsplit("-", 2)[1])) for job in jobs}
    return [worker for worker in workers if worker.pid in groups]


@pytest.mark.slow
def test_a_build_survives_a_lost_worker_and_ends_with_the_hashes_of_a_local_build(two_workers, tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    local = build(here, "--jobs", "1")
    assert local.wait() == 0, local.stderr.read()
    process = build(there, "--scheduler", two_workers.address)
    victims = []
    wait_for(
        lambda: list(there.glob("visits/[!.]*")) and (victims.extend(at_work(two_workers.workers, there)) or victims),
        process,
    )
    kill(victims[0])
    assert process.poll() is None
    stdout, stderr = process.communicate()
    assert process.returncode == 0, stderr
    assert stdout.replace(str(there), str(here)) == local.stdout.read()
    assert stderr.count("labelled ") == 3
    for folder in ("datasets", "visits"):
        found = {name: one for name, one in hashes(there / folder).items() if not name.startswith(".")}
        assert found == hashes(here / folder)
        assert found
    assert build(there).wait() == 0
    assert not list(there.glob("visits/.*")), "the next build on its machine sweeps the lost worker's leftovers"
