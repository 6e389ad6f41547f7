"""What README.md shows is true: its examples run as printed, its tables are rendered."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from deepcr_zoo import files
from deepcr_zoo.zoo import rendering
from tests.conftest import CHECKOUT

README = (CHECKOUT / "README.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.fixture(scope="session")
def demo(tmp_path_factory):
    """What ``make demo`` leaves, with a cut-out in the place of a full frame."""
    folder = tmp_path_factory.mktemp("demo")
    subprocess.run(
        [sys.executable, "-m", "deepcr_zoo.cli.demo", str(folder), "--side", "512"], check=True, capture_output=True
    )
    return folder


@pytest.fixture(autouse=True)
def beside_the_demo(demo, tmp_path, monkeypatch):
    """The examples clean the demo's exposure."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(demo, tmp_path / "demo")


def test_the_python_examples_run_as_printed_one_after_the_other():
    names = {}
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), names)
    assert names["mask"].shape == names["cleaned"].shape == names["image"].shape
    assert 0 < np.asarray(names["mask"]).mean() < 0.1


def commands():
    return [line for block in blocks("console") for line in block.splitlines() if line.startswith("deepcr-zoo ")]


def test_the_readme_shows_the_command_line():
    assert len(commands()) >= 5


@pytest.mark.parametrize("command", commands())
def test_a_command_of_the_readme_runs_as_printed(command):
    scripts = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(command, shell=True, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_the_rendered_tables_are_up_to_date():
    for path, text in rendering.rendered_files(files.data_root()).items():
        assert path.read_text() == text, f"run 'make render' to bring {path.name} up to date"


def test_every_link_to_a_file_leads_to_one():
    for document in ("README.md", "CONTRIBUTING.md", "benchmarks/README.md", "docs/scale.md"):
        text = (CHECKOUT / document).read_text()
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
            assert (CHECKOUT / document).parent.joinpath(target).exists(), f"{document}: {target}"
