"""Runs that end early: killed, stopped, without space; resumed, they end with the weights of one that never stopped."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest

from deepcr_zoo.bench.runs import Run
from deepcr_zoo.errors import OutputError, RunError
from deepcr_zoo.training import checkpoints
from deepcr_zoo.training.pipeline import resume, train
from deepcr_zoo.training.state import initial_state
from tests import forks, processes
from tests.conftest import CHECKOUT
from tests.training.stamps import CPU, read_progress, recipe_of, same_bytes, write_dataset

KILLS = 5
"""As many as there are kinds of moments, and a few; tests/attack kills again and again."""
EPOCHS = 3 * KILLS + 5
LONG = (f"train.schedule.max_epochs={EPOCHS}", f"train.schedule.freeze_after_epochs={KILLS}")
STEPS = 3
"""In an epoch: 24 stamps in batches of 8."""


@pytest.fixture(scope="module")
def recipe():
    return recipe_of("mask", *LONG)


@pytest.fixture(scope="module")
def dataset(recipe, tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("home") / "home", recipe=recipe)


@pytest.fixture(scope="module")
def uninterrupted(recipe, dataset, tmp_path_factory):
    return train(recipe, dataset=dataset, runs=tmp_path_factory.mktemp("runs"), prove=False)


def resumed(run, log):
    """A process of its own that goes on with a run, forked from one that has imported everything."""
    return forks.start(["train", "--resume", run.folder, "--no-prove"], log)


def start_python(*arguments):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(CHECKOUT), os.environ.get("PYTHONPATH", "")])}
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    return processes.start([sys.executable, *map(str, arguments)], env=environment, text=True, **pipes)


def begun(recipe, dataset, folder):
    """A run that was stopped after its first step."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("deepcr_zoo.training.pipeline.fit", lambda *_, **__: False)
        with pytest.raises(Exception, match="stopped, and saved"):
            train(recipe, dataset=dataset, runs=folder, prove=False)
    (run,) = folder.glob("*/*")
    return Run.open(run)


@pytest.mark.parametrize("kills", [1, pytest.param(KILLS, marks=pytest.mark.slow)])
def test_a_run_that_is_killed_and_resumed_ends_with_the_same_weights(kills, uninterrupted, recipe, dataset, tmp_path):
    run = begun(recipe, dataset, tmp_path)
    moments = random.Random(5)
    for _ in range(kills):
        before, process = read_progress(run.folder).epoch, resumed(run, tmp_path / "log")
        while read_progress(run.folder).epoch == before:
            assert process.process.is_alive(), process.said()
            time.sleep(0.001)
        time.sleep(moments.uniform(0, 0.05))  # in an epoch, in a checkpoint, or between the two
        assert process.kill() == -signal.SIGKILL
    assert read_progress(run.folder).epoch < EPOCHS
    resume(run.folder, prove=False)
    assert same_bytes(run.folder / "model.safetensors", uninterrupted.folder / "model.safetensors")
    assert [one.validation_loss for one in run.history()] == [one.validation_loss for one in uninterrupted.history()]
    assert not [path.name for path in run.folder.iterdir() if path.suffix == ".part"]


@pytest.mark.parametrize("number", [pytest.param(signal.SIGTERM, marks=pytest.mark.slow), signal.SIGINT])
def test_a_run_that_is_stopped_by_a_signal_saves_and_resumes_in_mid_epoch(number, uninterrupted, recipe, dataset, tmp_path):
    run = begun(recipe, dataset, tmp_path)
    process = resumed(run, tmp_path / "log")
    while not checkpoints.has_checkpoint(run.folder):
        assert process.process.is_alive(), process.said()
        time.sleep(0.001)
    os.kill(process.process.pid, number)
    status, said = process.wait(), process.said()
    assert status == 130, said
    assert f"stopped, and saved: deepcr-zoo train --resume {run.folder} goes on" in said
    assert "Traceback" not in said
    progress = read_progress(run.folder)
    assert 0 < progress.epoch < EPOCHS
    resume(run.folder, prove=False)
    assert same_bytes(run.folder / "model.safetensors", uninterrupted.folder / "model.safetensors")


@pytest.mark.slow
def test_without_space_for_a_checkpoint_the_one_before_stays(uninterrupted, recipe, dataset, tmp_path, monkeypatch):
    run = begun(recipe, dataset, tmp_path)
    limited = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)); sys.argv[0] = 'deepcr-zoo';"
    )
    command = f"{limited} from deepcr_zoo.cli.main import main; main()"
    process = start_python("-c", command, "train", "--resume", run.folder, "--no-prove")
    said = process.communicate()[1]
    assert process.returncode == 1, said
    problem = f"{run.folder}: cannot be written: File too large; there is no checkpoint yet: make room"
    assert problem in " ".join(said.split())
    assert not [path for path in run.folder.iterdir() if path.name.endswith(".part")]
    resume(run.folder, prove=False)
    assert same_bytes(run.folder / "model.safetensors", uninterrupted.folder / "model.safetensors")


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(recipe, dataset, tmp_path, monkeypatch):
    training = initial_state(recipe, CPU)
    checkpoints.save(training, tmp_path, "recipe")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    training.progress.step = 7

    def full(data, path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints, "write_atomically", full)
    with pytest.raises(OutputError, match="No space left on device"):
        checkpoints.save(training, tmp_path, "recipe")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_checkpoint_of_another_architecture_is_refused(recipe, tmp_path):
    checkpoints.save(initial_state(recipe, CPU), tmp_path, "recipe")
    wider = recipe_of("mask", "train.architecture.hidden=3")
    with pytest.raises(RunError, match=r"conv1.bias: expected F32 of shape \(3,\), got F32 of shape \(2,\)"):
        checkpoints.restore(initial_state(wider, CPU), tmp_path, "recipe")


def test_a_checkpoint_of_another_recipe_is_refused(recipe, tmp_path):
    checkpoints.save(initial_state(recipe, CPU), tmp_path, "recipe")
    with pytest.raises(RunError, match="is of another recipe"):
        checkpoints.restore(initial_state(recipe, CPU), tmp_path, "another")


def test_a_damaged_checkpoint_is_refused(recipe, tmp_path):
    checkpoints.save(initial_state(recipe, CPU), tmp_path, "recipe")
    (tensors,) = tmp_path.glob("checkpoint-*.safetensors")
    tensors.write_bytes(tensors.read_bytes()[:-1] + b"\1")
    with pytest.raises(RunError, match=r"differs from its hash in checkpoint\.json"):
        checkpoints.restore(initial_state(recipe, CPU), tmp_path, "recipe")
    tensors.unlink()
    with pytest.raises(RunError, match="cannot be read"):
        checkpoints.restore(initial_state(recipe, CPU), tmp_path, "recipe")
    (tmp_path / "checkpoint.json").write_text("{}")
    with pytest.raises(RunError, match="Field required"):
        checkpoints.restore(initial_state(recipe, CPU), tmp_path, "recipe")


@pytest.mark.slow
def test_two_processes_started_by_torchrun_make_one_run(recipe, dataset, tmp_path):
    schedule = ("batch_size=8", "max_epochs=2", "freeze_after_epochs=0")
    changes = ["train.architecture.hidden=2", *(f"train.schedule.{one}" for one in schedule)]
    settings = [f"--set={one}" for one in changes]
    runs = tmp_path / "runs"
    command = ["-m", "torch.distributed.run", "--nnodes=1", "--nproc-per-node=2", "--rdzv-backend=c10d"]
    command += ["--rdzv-endpoint=127.0.0.1:0", "--local-addr=127.0.0.1", "-m", "deepcr_zoo"]
    command += ["train", "--no-prove", "acs-wfc-f606w-2-4"]
    out, said = (process := start_python(*command, "--data", dataset.folder, "--runs", runs, *settings)).communicate()
    assert process.returncode == 0, said
    (folder,) = runs.glob("*/*")
    assert out.splitlines()[-1] == str(folder)
    alone = train("acs-wfc-f606w-2-4", dataset=dataset, settings=changes, runs=tmp_path / "alone", prove=False)
    losses = [[(one.train_loss, one.validation_loss) for one in run.history()] for run in (alone, Run.open(folder))]
    assert len(losses[0]) == 2
    for one, two in zip(*losses, strict=True):
        assert two == pytest.approx(one, rel=1e-5)
