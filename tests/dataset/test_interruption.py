"""Builds that are killed, interrupted or run out of space: the same command resumes them and ends with the same bytes."""

import os
import signal
import subprocess
import sys
import time

import pytest

from deepcr_zoo.dataset.build import build_dataset
from deepcr_zoo.dataset.store import Home
from tests.conftest import CHECKOUT
from tests.dataset.visits import content, three_visits, unfinished
from tests.processes import start as start_process

TWO = ("extragalactic", "resolved_galaxy")

BUILD = """
import sys
from pathlib import Path
from deepcr_zoo.dataset.build import build_dataset
from deepcr_zoo.dataset.store import Home
from deepcr_zoo.errors import DeepcrZooError
from tests.dataset.visits import three_visits

if __name__ == "__main__":
    exposures, home, jobs = Path(sys.argv[1]), Home(Path(sys.argv[2])), int(sys.argv[3])
    if len(sys.argv) > 4:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[4]), int(sys.argv[4])))
    try:
        recipe = three_visits(exposures, field_types=("extragalactic", "resolved_galaxy"))
        build_dataset(recipe, [exposures], jobs=jobs, home=home)
    except DeepcrZooError as error:
        sys.exit(str(error))
"""


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "build.py"
    path.write_text(BUILD)
    return path


@pytest.fixture(scope="session")
def uninterrupted(built, exposures):
    """Content of a build without interruption, which shares its labels with that of three visits."""
    return content(build_dataset(three_visits(exposures, field_types=TWO), [exposures], home=built.home))


def resumed(exposures, home):
    return content(build_dataset(three_visits(exposures, field_types=TWO), [exposures], home=Home(home)))


def start(script, exposures, home, *arguments):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(CHECKOUT), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, str(script), str(exposures), str(home), *map(str, arguments)]
    return start_process(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(condition, process):
    """Wait until a condition holds; the build must not have ended by then."""
    while not condition():
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)


def partial(home):
    return [path for path in (home / "visits").glob(".*") if path.name.endswith(".part")]


MOMENTS = {
    "drizzlepac starts": lambda home: unfinished(home, "job.json"),
    "stamps are written": lambda home: unfinished(home, "*.safetensors"),
    "a visit is finished": lambda home: list(home.glob("visits/[!.]*")),
}


@pytest.mark.slow
@pytest.mark.usefixtures("drizzlepac_starts_at_once")  # when it goes on, here
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_build_is_resumed_and_ends_with_the_same_bytes(uninterrupted, exposures, tmp_path, script, moment):
    home = tmp_path / "home"
    process = start(script, exposures, home, 1)
    wait_for(lambda: MOMENTS[moment](home), process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    finished = {path: path.stat().st_mtime_ns for path in home.glob("visits/[!.]*/*")}
    assert not list(home.glob("datasets/*"))
    assert resumed(exposures, home) == uninterrupted
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    assert not partial(home)


@pytest.mark.slow
def test_workers_and_drizzlepac_end_with_a_killed_build(exposures, tmp_path, script):
    home = tmp_path / "home"
    process = start(script, exposures, home, 2)
    wait_for(lambda: len(unfinished(home, "job.json")) == 2, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 60
    while running := _working_under(home):
        assert time.monotonic() < deadline, running
        time.sleep(0.1)


def _working_under(home):
    """Processes whose working folder is within `home`."""
    found = []
    for entry in os.listdir("/proc"):
        try:
            if entry.isdigit() and os.readlink(f"/proc/{entry}/cwd").startswith(str(home)):
                found.append(entry)
        except OSError:
            continue
    return found


def test_an_interrupted_build_leaves_nothing_half_done(exposures, tmp_path, script):
    home = tmp_path / "home"
    process = start(script, exposures, home, 1)
    wait_for(lambda: unfinished(home, "*_single_sci.fits"), process)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert process.returncode != 0
    assert "KeyboardInterrupt" in said
    assert not partial(home)
    assert not _working_under(home)


@pytest.mark.slow
def test_a_broken_drizzlepac_is_no_fault_of_the_visit(exposures, tmp_path, script, monkeypatch):
    (tmp_path / "drizzlepac").mkdir()
    (tmp_path / "drizzlepac" / "__init__.py").write_text("raise ImportError('numpy is too new')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    _, said = (process := start(script, exposures, tmp_path / "home", 1)).communicate()
    assert process.returncode == 1
    assert said.count("drizzlepac failed: ImportError: numpy is too new: run again") == 2
    assert not list((tmp_path / "home").glob("visits/*"))


QUESTION = """
def TweakReg(*_, **__):
    input("To stop astrodrizzle type 'q', to continue type 'c': ")


AstroDrizzle = TweakReg
"""


@pytest.mark.slow
def test_a_question_of_drizzlepac_ends_the_visit_and_waits_for_nobody(exposures, tmp_path, script, monkeypatch):
    (tmp_path / "drizzlepac").mkdir()
    (tmp_path / "drizzlepac" / "__init__.py").write_text("")
    for module in ("astrodrizzle", "tweakreg"):
        (tmp_path / "drizzlepac" / f"{module}.py").write_text(QUESTION)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    process = start(script, exposures, tmp_path / "home", 1)
    try:
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 1
    assert "drizzlepac failed: RuntimeError: it asked a question, which nobody can answer here; all that it said" in said


LIMIT = """
import resource, sys

if "deepcr_zoo.dataset.drizzle" in sys.orig_argv:
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))
"""


@pytest.mark.parametrize("whose", ["the build's", pytest.param("drizzlepac's", marks=pytest.mark.slow)])
def test_a_full_disk_is_one_sentence(exposures, tmp_path, script, monkeypatch, whose):
    """A limit to the size of files stands for the full disk, of all processes or of drizzlepac's alone."""
    home, limits = tmp_path / "home", [1_000_000]
    if whose == "drizzlepac's":
        (tmp_path / "sitecustomize.py").write_text(LIMIT)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        limits = []
    process = start(script, exposures, home, 1, *limits)
    _, said = process.communicate()
    assert process.returncode == 1
    lines = said.strip().splitlines()
    assert len(lines) == 3, said
    assert all(
        line.startswith(f"{home}/visits/") and "make room there, or name another folder with DEEPCR_ZOO_DATA" in line
        for line in lines[:-1]
    )
    assert lines[-1] == "2 of 2 visits are not labelled"
    assert not partial(home)
    assert not list(home.glob("datasets/*"))
