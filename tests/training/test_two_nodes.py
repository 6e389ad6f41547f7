"""torchrun on two nodes: two launches that share a network address and a file system, and nothing else."""

import json
import os
import platform
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import CHECKOUT
from tests.training.stamps import recipe_of, same_bytes, write_dataset

pytestmark = pytest.mark.slow

SETTINGS = ("architecture.hidden=2", "schedule.batch_size=8", "schedule.max_epochs=4", "schedule.freeze_after_epochs=2")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("shared") / "home", test=6, recipe=recipe_of("mask"))


SRUN = """
import os, subprocess, sys
from pathlib import Path

started = []
for rank in range(2):
    machine = Path(os.environ["MACHINES"], f"node{rank}")
    own = {name: str(machine / "own" / name) for name in ("HOME", "DEEPCR_ZOO_CACHE", "DEEPCR_ZOO_DATA", "TMPDIR")}
    for folder in own.values():
        Path(folder).mkdir(parents=True)
    started.append(
        subprocess.Popen(
            [word for word in sys.argv[1:] if not word.startswith("--kill-on")],
            cwd=machine,
            env={**os.environ, **own, "SLURM_NODEID": str(rank)},
            stdout=open(machine / "stdout", "w"),
            stderr=open(machine / "stderr", "w"),
        )
    )
codes = [process.wait() for process in started]
print(*codes)
sys.exit(max(codes))
"""


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """A SLURM of two nodes, each with a home, a cache, a data folder, a working folder and a TMPDIR of its own."""
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "scontrol").write_text("#!/bin/sh\necho 127.0.0.1\nsleep 0.2\necho 127.0.0.2\n")
    (programs / "srun").write_text(f"#!{sys.executable}{SRUN}")
    for program in programs.iterdir():
        program.chmod(0o755)
    monkeypatch.setenv("PATH", os.pathsep.join([str(programs), str(Path(sys.executable).parent), os.environ["PATH"]]))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    job = {"SLURM_NNODES": "2", "SLURM_JOB_ID": "1", "SLURM_JOB_NODELIST": "node[0-1]", "MASTER_PORT": port}
    ours = {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(CHECKOUT), "MACHINES": str(tmp_path)}
    for name, value in (job | ours).items():
        monkeypatch.setenv(name, value)
    for rank in range(2):
        (tmp_path / f"node{rank}").mkdir()
    return tmp_path


def options(*words):
    settings = [word for one in SETTINGS for word in ("--set", f"train.{one}")]
    return ["acs-wfc-f606w-2-4", *words, "--device", "cpu", "--no-prove", *settings]


def sbatch(slurm, *words):
    """Run the script of docs/slurm; return the exit codes of both nodes, and their stdout and stderr."""
    script = ["bash", str(CHECKOUT / "docs" / "slurm" / "train.sbatch"), *options(*words)]
    done = subprocess.run(script, capture_output=True, text=True, timeout=240)
    assert done.stdout, done.stderr
    nodes = [slurm / f"node{rank}" for rank in range(2)]
    said = [((node / "stdout").read_text(), (node / "stderr").read_text()) for node in nodes]
    return [int(code) for code in done.stdout.split()], said


def the_run(folder):
    (run,) = folder.glob("*/*")
    return run


def test_two_nodes_end_with_the_bytes_of_two_processes_on_one_node(dataset, slurm, tmp_path):
    codes, said = sbatch(slurm, "--data", str(dataset.folder), "--runs", str(tmp_path / "two"))
    assert codes == [0, 0], said
    run = the_run(tmp_path / "two")
    (printed, _), (other_printed, _) = said
    assert printed.splitlines()[-1] == str(run)
    assert other_printed == ""
    torchrun = ["torch.distributed.run", "--standalone", "--local-addr=127.0.0.1", "--nproc-per-node=2", "-m", "deepcr_zoo"]
    words = options("--data", str(dataset.folder), "--runs", str(tmp_path / "one"))
    alone = subprocess.run([sys.executable, "-m", *torchrun, "train", *words], capture_output=True, text=True, timeout=240)
    assert alone.returncode == 0, alone.stderr[-4000:]
    expected = the_run(tmp_path / "one")
    assert {path.name for path in run.iterdir()} == {path.name for path in expected.iterdir()}
    weights = sorted(path.name for path in run.glob("*.safetensors"))
    assert len(weights) == 3
    for name in weights:
        assert same_bytes(run / name, expected / name), name
    epochs = [[json.loads(line) for line in (one / "metrics.jsonl").read_text().splitlines()] for one in (run, expected)]
    assert len(epochs[0]) == 4
    for key in ("train_loss", "validation_loss"):
        assert [line[key] for line in epochs[0]] == [line[key] for line in epochs[1]]


def test_a_node_that_does_not_see_the_training_set_fails_and_no_node_waits_for_it(dataset, slurm, tmp_path):
    """The training set is seen through the working folder of each process; that of the second node is empty."""
    (tmp_path / "node0" / "home").symlink_to(dataset.home.root)
    seen = f"/proc/self/cwd/home/{dataset.folder.relative_to(dataset.home.root)}"
    codes, ((_, said), (_, other_said)) = sbatch(slurm, "--data", seen, "--runs", str(tmp_path / "runs"))
    assert all(codes)
    problem = f"{seen}: is not there on {platform.node()}: expected the same files at the same place on every machine"
    assert problem in " ".join(other_said.split())
    for everything in (said, other_said):
        assert "pipeline.py" not in everything, everything
    assert not (tmp_path / "runs").exists()
