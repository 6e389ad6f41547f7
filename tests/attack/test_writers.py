"""Two processes that write to one place: what each leaves is whole, and nothing of the other's is lost."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from deepcr_zoo.errors import InUseError
from deepcr_zoo.files import locked
from tests import forks

pytest_plugins = ["tests.zoo.hub.fixtures"]
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

HOLDER = "import sys, pathlib; from deepcr_zoo.files import locked\nwith locked(pathlib.Path(sys.argv[1])): print(); input()"


@contextmanager
def held_by_another_process(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has the lock of a folder until it is killed."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(folder)], text=True, **pipes) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process
        finally:
            process.kill()


def test_the_lock_of_a_folder_ends_with_its_process(tmp_path):
    refused = pytest.raises(InUseError, match="another process is writing there")
    with held_by_another_process(tmp_path), refused, locked(tmp_path):
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
    while not (runs := list(train.folder.glob("*/*/run.json"))):
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
