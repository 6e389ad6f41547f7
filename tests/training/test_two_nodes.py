"""torchrun on two nodes: two launches that share a network address and a file system, and nothing else."""

import json
import os
import platform
import socket
import subprocess
import sys

import pytest

from tests.conftest import CHECKOUT
from tests.training.stamps import recipe_of, same_bytes, write_dataset

SETTINGS = ("architecture.hidden=2", "schedule.batch_size=8", "schedule.max_epochs=4", "schedule.freeze_after_epochs=2")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("shared") / "home", test=6, recipe=recipe_of("mask"))


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def torchrun(machine, *options, train):
    """Start torchrun with a home, a cache, a data folder, a folder for temporary files and a working folder of its own."""
    own = {}
    for name in ("HOME", "DEEPCR_ZOO_CACHE", "DEEPCR_ZOO_DATA", "TMPDIR"):
        own[name] = str(machine / "own" / name)
        (machine / "own" / name).mkdir(parents=True)
    environment = {**os.environ, **own, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(CHECKOUT)}
    launch = [sys.executable, "-m", "torch.distributed.run", *options, "--local-addr", "127.0.0.1", "-m", "deepcr_zoo"]
    settings = [word for one in SETTINGS for word in ("--set", f"train.{one}")]
    return subprocess.Popen(
        [*launch, "train", *train, "--device", "cpu", "--no-prove", *settings],
        cwd=machine,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def two_nodes(folder, *, train):
    """What both launches have said: exit code, stdout, stderr of each."""
    together = ("--nnodes", "2", "--nproc-per-node", "1", "--master-addr", "127.0.0.1", "--master-port", str(free_port()))
    started = [
        torchrun(folder / f"node{rank}", *together, "--node-rank", str(rank), train=words)
        for rank, words in enumerate(train)
    ]
    try:
        said = [process.communicate(timeout=240) for process in started]
    finally:
        for process in started:
            process.kill()
    return [(process.returncode, *words) for process, words in zip(started, said, strict=True)]


def the_run(folder):
    (run,) = folder.glob("*/*")
    return run


def test_two_nodes_end_with_the_bytes_of_two_processes_on_one_node(dataset, tmp_path):
    recipe = "acs-wfc-f606w-2-4"
    words = [recipe, "--data", str(dataset.folder)]
    (code, printed, said), (other_code, other_printed, other_said) = two_nodes(
        tmp_path, train=[[*words, "--runs", str(tmp_path / "two")], [*words, "--runs", "its own working folder has none"]]
    )
    assert code == 0, said[-4000:]
    assert other_code == 0, other_said[-4000:]
    run = the_run(tmp_path / "two")
    assert printed.strip().endswith(str(run))
    assert other_printed == ""
    one = ("--nnodes", "1", "--nproc-per-node", "2", "--standalone")
    alone = torchrun(tmp_path / "alone", *one, train=[*words, "--runs", str(tmp_path / "one")])
    _, said = alone.communicate(timeout=240)
    assert alone.returncode == 0, said[-4000:]
    expected = the_run(tmp_path / "one")
    assert {path.name for path in run.iterdir()} == {path.name for path in expected.iterdir()}
    weights = sorted(path.name for path in run.glob("*.safetensors"))
    assert len(weights) == 3
    for name in weights:
        assert same_bytes(run / name, expected / name), name
    losses = [[json.loads(line) for line in (one / "metrics.jsonl").read_text().splitlines()] for one in (run, expected)]
    assert len(losses[0]) == 4
    assert [line["validation_loss"] for line in losses[0]] == [line["validation_loss"] for line in losses[1]]


def test_a_node_that_does_not_see_the_training_set_is_told_and_nobody_waits_for_it(dataset, tmp_path):
    """The training set is seen through the working folder of each process, that of the second node is empty."""
    (tmp_path / "node0").mkdir()
    (tmp_path / "node0" / "home").symlink_to(dataset.home.root)
    seen = f"/proc/self/cwd/home/{dataset.folder.relative_to(dataset.home.root)}"
    words = ["acs-wfc-f606w-2-4", "--data", seen, "--runs", str(tmp_path / "runs")]
    (code, _, said), (other_code, _, other_said) = two_nodes(tmp_path, train=[words, words])
    assert code != 0
    assert other_code != 0
    told = f"{seen}: is not there on {platform.node()}: expected the same files at the same place on every machine"
    assert told in " ".join(other_said.split())
    for everything in (said, other_said):
        assert "pipeline.py" not in everything, everything
    assert not (tmp_path / "runs").exists()
