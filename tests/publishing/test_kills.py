"""Publishing and pulling, killed at random moments: nothing wrong is ever published or kept, and each retry ends well."""

import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest

from deepcr_zoo import files
from deepcr_zoo.publishing import workflow
from deepcr_zoo.zoo.registry import TEST_VECTOR_FILE, WEIGHTS_FILE, read_registry
from deepcr_zoo.zoo.sources import pull_resolved
from tests.conftest import CHECKOUT
from tests.publishing.releases import REPOSITORY, contents
from tests.registries import SMALL
from tests.zoo.test_hub_judges import git

pytest_plugins = ["tests.zoo.hub.fixtures"]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning"),
    pytest.mark.usefixtures("keeper"),
]

KILLS = 25
"""Of publishing, and as many of pulling."""

# a server that has imported everything forks children that work, so that a kill costs no seconds of imports
WORKERS = """
import os, sys
from pathlib import Path

import huggingface_hub.hf_api, huggingface_hub.file_download, huggingface_hub._commit_api  # as any call would
from deepcr_zoo.publishing import workflow
from deepcr_zoo.publishing.releases import release_of_model
from deepcr_zoo.zoo.registry import read_registry
from deepcr_zoo.zoo.sources import pull_resolved

def publish(root, reference, repository):
    release = release_of_model(read_registry(root).resolve(reference))
    print("begun", flush=True)
    workflow.publish(release, repository, root)

def pull(root, reference, repository):
    model = read_registry(root).resolve(reference)
    print("begun", flush=True)
    pull_resolved(model)

for line in sys.stdin:
    verb, root, reference, repository = line.split()
    child = os.fork()
    if child == 0:
        {"publish": publish, "pull": pull}[verb](Path(root), reference, repository)
        os._exit(0)
    print(child, flush=True)
    print("ended", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Workers:
    """Starts work in processes of its own, and ends it early."""

    def __init__(self, server):
        self._server = server

    def run(self, verb, root, kill_after=None):
        """How the work ended, and how long it took from its first request on."""
        print(verb, root, SMALL, REPOSITORY, file=self._server.stdin, flush=True)
        child = int(self._server.stdout.readline())
        assert self._server.stdout.readline() == "begun\n"
        begun = time.monotonic()
        if kill_after is not None:
            time.sleep(kill_after)
            with suppress(ProcessLookupError):  # it was quicker than the one that was timed
                os.kill(child, signal.SIGKILL)
        word, status = self._server.stdout.readline().split()
        assert word == "ended"
        return int(status), time.monotonic() - begun


@pytest.fixture
def workers(contract_hub):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(CHECKOUT), os.environ.get("PYTHONPATH", "")])}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([sys.executable, "-c", WORKERS], env=environment, text=True, **pipes) as server:
        yield Workers(server)
        server.stdin.close()


def test_publishing_killed_at_random_moments_never_leaves_a_tag_without_its_files_and_ends_well_when_tried_again(
    workers, contract_hub, checkout, release
):
    moments, entry = random.Random(7), checkout / "zoo" / f"{SMALL}.yaml"
    unpublished, folder = entry.read_bytes(), contract_hub.repository(REPOSITORY).folder
    status, duration = workers.run("publish", checkout)
    assert status == 0
    killed = tagged = 0
    for _ in range(KILLS):
        shutil.rmtree(folder)
        entry.write_bytes(unpublished)
        status, _ = workers.run("publish", checkout, kill_after=moments.uniform(0, duration))
        killed += status == -signal.SIGKILL
        contract_hub.wait_until_idle()
        if folder.exists() and (commit := contract_hub.repository(REPOSITORY).references("tags").get("v1.0")):
            tagged += 1
            assert contents(contract_hub, commit) == dict(release.files)
        pin = read_registry(checkout).resolve(SMALL).locked.sources.hub  # the entry is whole, whatever happened
        assert pin is None or contents(contract_hub, pin.commit) == dict(release.files)
        assert workers.run("publish", checkout)[0] == 0
        pin = read_registry(checkout).resolve(SMALL).locked.sources.hub
        assert contract_hub.repository(REPOSITORY).references("tags") == {"v1.0": pin.commit}
        assert contents(contract_hub, pin.commit) == dict(release.files)
        assert git("-C", folder, "fsck", "--strict").returncode == 0
        if shutil.which("git-lfs"):
            assert git("-C", folder, "lfs", "fsck", "v1.0").stdout == "Git LFS fsck OK\n"
    assert killed > KILLS / 2
    assert tagged < KILLS


def test_pulling_killed_at_random_moments_never_keeps_a_wrong_file_and_ends_well_when_tried_again(
    workers, contract_hub, checkout, release
):
    workflow.publish(release, REPOSITORY, checkout)
    model, moments = read_registry(checkout).resolve(SMALL), random.Random(8)
    wanted = {name: hashlib.sha256(release.files[name]).hexdigest() for name in (WEIGHTS_FILE, TEST_VECTOR_FILE)}
    folder = files.cache_root() / model.shelf

    def kept():
        found = folder.iterdir() if folder.is_dir() else ()
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in found if path.name[0] != "."}

    status, duration = workers.run("pull", checkout)
    assert (status, kept()) == (0, wanted)
    killed = 0
    for _ in range(KILLS):
        shutil.rmtree(files.cache_root())
        status, _ = workers.run("pull", checkout, kill_after=moments.uniform(0, duration))
        killed += status == -signal.SIGKILL
        assert kept().items() <= wanted.items()
        assert pull_resolved(model).path.read_bytes() == release.files[WEIGHTS_FILE]
        assert kept() == wanted
    assert killed > KILLS / 2
