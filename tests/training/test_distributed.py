import json
import os
import subprocess
import sys

import pytest
import torch
from filelock import FileLock
from safetensors.torch import load_file

from deepcr_zoo.errors import StoppedError, UsageError
from deepcr_zoo.training.distributed import ALONE, Ranks, joined
from deepcr_zoo.training.loop import batch_size, batches
from tests.conftest import CHECKOUT
from tests.training.stamps import CPU, assert_same_weights, new_training, recipe_of, weights
from tests.training.two_processes import second_phase

RANKS = (0, 1)
both_tasks = pytest.mark.parametrize("task", ["mask", "inpaint"])


@pytest.fixture(scope="session")
def shared(tmp_path_factory):
    """A folder that all processes of a test run share."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "two-processes"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def folder_of_two(shared, dataset):
    """Files that two processes have written, started once for all tests."""
    done = shared / "done"
    with FileLock(shared / ".lock"):
        if not done.exists():
            out = shared / "unfinished"
            out.mkdir()
            torchrun = ["torch.distributed.run", "--nproc-per-node=2", "--standalone", "--local-addr=127.0.0.1"]
            command = [sys.executable, "-m", *torchrun, "-m", "tests.training.two_processes", str(dataset.folder), str(out)]
            environment = os.environ | {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(CHECKOUT)}
            ended = subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, timeout=300)
            assert ended.returncode == 0, ended.stderr[-4000:]
            out.rename(done)
    return done


@pytest.fixture(scope="session")
def two(folder_of_two):
    """Findings of each of two processes."""
    return [json.loads((folder_of_two / f"{rank}.json").read_text()) for rank in RANKS]


@both_tasks
def test_two_processes_have_the_losses_of_one_in_the_second_phase(task, two, dataset):
    training, losses = second_phase(task, dataset, ALONE)
    validation = [record.validation_loss for record in training.progress.history]
    assert len(losses) == 12
    assert len(set(losses)) == 12
    for found in two:
        assert found["losses"][task] == pytest.approx(losses, rel=1e-5)
        assert found["validation"][task] == pytest.approx(validation, rel=1e-5)


@both_tasks
def test_two_processes_end_with_the_same_weights_and_nearly_those_of_one(task, folder_of_two, dataset):
    one, other = (load_file(folder_of_two / f"{task}-{rank}") for rank in RANKS)
    assert_same_weights(one, other)
    training, _ = second_phase(task, dataset, ALONE)
    for name, tensor in weights(training.network).items():
        torch.testing.assert_close(one[name], tensor, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("epoch", [1, 2])
def test_running_statistics_are_averaged_after_each_epoch_of_the_first_phase(epoch, folder_of_two):
    own, averaged = (
        [load_file(folder_of_two / f"{kind}-{rank}-{epoch}.safetensors") for rank in RANKS] for kind in ("own", "averaged")
    )
    assert_same_weights(*averaged)
    for name, tensor in averaged[0].items():
        if name.endswith("num_batches_tracked"):
            assert tensor == own[0][name] == own[1][name] == 3 * epoch
        else:
            assert not torch.equal(own[0][name], own[1][name])
            torch.testing.assert_close(tensor, (own[0][name] + own[1][name]) / 2)


def test_two_processes_have_the_same_weights_after_the_first_phase(folder_of_two):
    assert_same_weights(*(load_file(folder_of_two / f"first-{rank}") for rank in RANKS))


def test_one_process_that_is_asked_to_stop_stops_both_at_the_same_step(two):
    assert [found["stopped"] for found in two] == [[1, 2, False]] * 2


def test_a_loss_that_is_nan_in_one_process_stops_both(two):
    assert [found["spoilt"] for found in two] == ["the loss of epoch 1, batch 1 is nan"] * 2


def test_processes_agree_on_the_text_of_the_first_and_one_of_them_writes(two):
    assert [found["agreed"] for found in two] == ["runs/übung\udcff-0"] * 2
    assert [found["writer"] for found in two] == [True, False]
    assert [found["total"] for found in two] == [[3, 20]] * 2


def test_where_the_first_process_fails_the_other_exits_with_its_code(two):
    assert [found["by_writer"] for found in two] == ["StoppedError", 130]


def test_where_one_process_fails_the_other_exits_and_does_not_wait(two):
    assert [found["by_all"] for found in two] == [1, "TrainingError"]


def test_processes_get_the_path_that_the_first_has_made(two):
    assert [found["path"] for found in two] == ["/runs/übung-0"] * 2


@pytest.mark.parametrize("work", ["by_writer", "by_all", "path_by_writer"])
def test_in_a_single_process_errors_are_raised_as_they_are(work):
    def stop():
        raise StoppedError("stopped")

    with pytest.raises(StoppedError, match="stopped"):
        getattr(ALONE, work)(stop)


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_shares_are_all_of_a_batch_and_differ_by_one_stamp_at_most(count):
    batch = torch.randperm(8)
    shares = [Ranks(rank, count).share(batch) for rank in range(count)]
    assert sorted(torch.cat(shares).tolist()) == list(range(8))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_more_processes_than_stamps_in_a_batch_are_refused():
    training = new_training(recipe_of("mask", "train.schedule.batch_size=2"))
    assert batch_size(training, 24, Ranks(0, 2)) == 2
    assert batch_size(training, 1) == 1
    with pytest.raises(UsageError, match="3 processes share batches of 2 stamps: expected at most 2 processes"):
        batches(training, 24, Ranks(0, 3))


def test_a_single_process_shares_nothing(monkeypatch):
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    with joined(CPU) as ranks:
        assert ranks is ALONE
        assert ranks.total(1.5, 2) == [1.5, 2]
        assert ranks.agreed("x") == "x"
        assert ranks.path_by_writer(lambda: CHECKOUT) == CHECKOUT
        assert ranks.by_all(lambda: 7) == 7
        assert ranks.by_writer(lambda: None) is None
        module = torch.nn.Linear(1, 1)
        assert ranks.averaging_gradients(module) is module
        ranks.wait()


def test_several_processes_on_another_kind_of_device_are_refused(monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="expected one of them, got mps"), joined(torch.device("mps")):
        pass
