"""Every command, killed again and again: what can be seen is whole, and the next run ends as if nothing had happened."""

from __future__ import annotations

import os
import random
import signal
import time

import pytest

from tests import forks
from tests.attack.targets import COMMANDS, Target, content, emptied

pytest_plugins = ["tests.zoo.hub.fixtures"]
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

KILLS = int(os.environ.get("DEEPCR_ZOO_KILLS", 20))
"""Of each command; a release is tested with more."""


@pytest.fixture(scope="module", autouse=True)
def warm(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The process that has imported everything, so that no command is killed before it does anything."""
    assert forks.start(["--version"], tmp_path_factory.mktemp("warm") / "log").wait() == 0


@pytest.fixture
def target(request: pytest.FixtureRequest) -> Target:
    """A command to attack."""
    found: Target = request.getfixturevalue(request.param)
    return found


@pytest.mark.parametrize(
    ("target", "kills"),
    [
        *(pytest.param(name, 3, marks=pytest.mark.short) for name in COMMANDS),
        *(pytest.param(name, KILLS, marks=pytest.mark.slow) for name in COMMANDS),
    ],
    indirect=["target"],
)
def test_a_command_that_is_killed_leaves_nothing_half_written_and_the_next_one_ends_as_if_nothing_had_happened(
    target, kills, tmp_path
):
    moments, log = random.Random(kills), tmp_path / "log"
    target.prepare()
    begun = time.monotonic()
    alone = forks.start(target.arguments(), log)
    assert alone.wait() == 0, alone.said()
    duration, expected = time.monotonic() - begun, target.content()
    assert alone.steps
    assert expected

    target.prepare()
    killed = 0
    while killed < kills:
        status = _killed_run(target, log, moments, alone.steps, duration, by_step=killed % 2 == 0)
        target.check()
        if status == -signal.SIGKILL:
            killed += 1
            continue
        assert status == 0, log.read_text()
        assert target.content() == expected
        target.prepare()
    last = forks.start(target.arguments(), log)
    assert last.wait() == 0, last.said()
    target.check()
    assert target.content() == expected


@pytest.mark.parametrize("target", [pytest.param("clean", marks=pytest.mark.slow), "pull"], indirect=True)
def test_a_kill_at_any_of_the_last_steps_leaves_nothing_after_the_next_run(target, tmp_path):
    log = tmp_path / "log"
    target.prepare()
    alone = forks.start(target.arguments(), log)
    assert alone.wait() == 0, alone.said()
    expected, killed = target.content(), 0
    for step in range(alone.steps, max(0, alone.steps - 4), -1):  # some runs need fewer
        target.prepare()
        killed += forks.start(target.arguments(), log, killed_at=step).wait() == -signal.SIGKILL
        assert forks.start(target.arguments(), log).wait() == 0
        assert target.content() == expected, step
    assert killed


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ["recipe", "new", "NIGHT-CAM-R-2-32", "--output", "a/mine.yaml"],
        ["simulate", "practice-ccd", "--field-type", "extragalactic", "--side", 128, "--exposures", 2, "--output-dir", "a"],
    ],
    ids=["recipe new", "simulate"],
)
def test_a_kill_at_any_step_of_what_replaces_nothing_leaves_nothing_unfinished_after_the_next_run(
    arguments, tmp_path, monkeypatch
):
    """Where the result is whole already, the next run says so."""
    folder, log = tmp_path / "a", tmp_path / "log"
    folder.mkdir()
    monkeypatch.chdir(tmp_path)
    alone = forks.start(arguments, log)
    assert alone.wait() == 0, alone.said()
    expected, refused = content(folder), 0
    for step in range(1, alone.steps + 1):
        emptied(folder)
        forks.start(arguments, log, killed_at=step).wait()
        again = forks.start(arguments, log)
        refused += again.wait() != 0
        assert content(folder) == expected, step
    assert refused


def _killed_run(target: Target, log, moments: random.Random, steps: int, duration: float, *, by_step: bool) -> int:
    """Run the command until it changes the file system for some time, or for some time; return its exit status."""
    if by_step:
        return forks.start(target.arguments(), log, killed_at=moments.randint(1, steps)).wait()
    run = forks.start(target.arguments(), log)
    run.process.join(moments.uniform(0, duration))
    return run.kill()


@pytest.mark.slow
@pytest.mark.parametrize("rounds", [KILLS // 2])
def test_two_trainers_that_are_killed_in_one_run_lose_nothing(train, rounds, tmp_path):
    moments, logs = random.Random(rounds), (tmp_path / "one", tmp_path / "two")
    train.prepare()
    begun = time.monotonic()
    assert forks.start(train.arguments(), logs[0]).wait() == 0
    duration, expected = time.monotonic() - begun, train.content()
    refused = 0
    for _ in range(rounds):
        train.prepare()
        first = forks.start(train.arguments(), logs[0])
        while not list(train.folder.glob("*/[!.]*/run.json")):
            assert first.process.is_alive(), first.said()
            time.sleep(0.001)
        for _ in range(2):  # each time, the two that come next find what the killed ones have left
            trainers = [forks.start(train.arguments(), log) for log in logs]
            trainers[0].process.join(moments.uniform(0, duration))
            for one in (first, *trainers):
                one.kill()
            refused += sum("another process" in one.said() for one in trainers)
            train.check()
        assert forks.start(train.arguments(), logs[0]).wait() == 0, logs[0].read_text()
        assert train.content() == expected
    assert refused
