"""README.md and the guide are true: their examples run as printed, their tables are rendered, their links lead somewhere."""

import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from deepcr_zoo import locations
from deepcr_zoo.zoo import rendering
from tests import warm
from tests.conftest import CHECKOUT
from tests.groundframes import write_frame

DOCUMENTS = ["README.md", *sorted(str(path.relative_to(CHECKOUT)) for path in (CHECKOUT / "docs" / "guide").glob("*.md"))]
WALK = "docs/guide/new-model.md"  # tests/publishing/test_whole_path.py types its commands
TUTORIAL = "docs/guide/tutorial.md"  # tests/test_tutorial.py types its commands
VIEW = "deepcr-zoo view "
CAMERA = "docs/guide/new-instrument.md"  # its first command describes "My camera", which the others name
QUICK = ("deepcr-zoo list", "deepcr-zoo info", "deepcr-zoo clean demo/jxg61o01q_flc.fits --output-dir cleaned")


def blocks(document, language):
    return re.findall(rf"```{language}\n(.*?)```", (CHECKOUT / document).read_text(), re.DOTALL)


def commands(document):
    return [line for block in blocks(document, "console") for line in block.splitlines() if line.startswith("deepcr-zoo ")]


def typed_commands():
    """Every command, once."""
    pages = [document for document in DOCUMENTS if document not in (WALK, TUTORIAL)]
    return dict.fromkeys(command for document in pages for command in commands(document))


def examples():
    """Those that end by themselves; all but a few are slow."""
    typed = [one for one in typed_commands() if not one.startswith(VIEW)]
    return [pytest.param(one, marks=() if one.startswith(QUICK) else pytest.mark.slow) for one in typed]


@pytest.fixture(scope="session")
def demo(tmp_path_factory):
    """What ``make demo`` leaves, with a cut-out in the place of a full frame."""
    folder = tmp_path_factory.mktemp("demo")
    subprocess.run(
        [sys.executable, "-m", "deepcr_zoo.cli.demo", str(folder), "--side", "512"], check=True, capture_output=True
    )
    return folder


@pytest.fixture
def beside_the_demo(demo, tmp_path, monkeypatch):
    """The examples clean the demo's exposure."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(demo, tmp_path / "demo")


def run_python(document):
    names = {}
    for block in blocks(document, "python"):
        exec(compile(block, document, "exec"), names)
    return names


@pytest.mark.usefixtures("beside_the_demo")
def test_the_python_examples_of_the_readme_run_as_printed():
    names = run_python("README.md")
    assert names["mask"].shape == names["cleaned"].shape == names["image"].shape
    assert 0 < np.asarray(names["mask"]).mean() < 0.1
    assert (names["found"] == names["mask"]).all()


@pytest.mark.usefixtures("beside_the_demo")
@pytest.mark.parametrize(
    "document",
    [
        "docs/guide/clean.md",
        "docs/guide/python.md",
        "docs/guide/migration.md",
        "docs/guide/pipelines.md",
        pytest.param("docs/guide/training-sets.md", marks=pytest.mark.slow),
        pytest.param("docs/guide/training.md", marks=pytest.mark.slow),
    ],
)
def test_the_python_examples_of_the_guide_run_as_printed(document):
    assert run_python(document)


def test_every_document_with_python_is_run():
    with_python = {document for document in DOCUMENTS if blocks(document, "python")}
    guides = {f"docs/guide/{name}.md" for name in ("clean", "migration", "pipelines", "python", "training", "training-sets")}
    assert with_python == {"README.md", *guides}


@pytest.fixture
def beside_a_night(tmp_path, monkeypatch):
    """The guide describes a camera by its frames; nothing is described in the settings of the test."""
    for number in (1, 2, 3):
        write_frame(tmp_path / "night1" / f"img{number}.fits", target=number)
    write_frame(tmp_path / "bias.fits", EXPTIME=0.0, IMAGETYP="BIAS")
    settings = tmp_path / "settings" / "config.yaml"
    settings.parent.mkdir()
    settings.write_text("{}")
    monkeypatch.setenv("DEEPCR_ZOO_CONFIG", str(settings))


@pytest.mark.usefixtures("beside_the_demo", "beside_a_night")
@pytest.mark.parametrize("command", examples())
def test_a_command_runs_as_printed(command):
    describe = commands(CAMERA)[0]
    for typed in [describe, command] if "My camera" in command and command != describe else [command]:
        environment = {**os.environ, "PATH": warm.path(), "PYTHONPATH": str(CHECKOUT)}
        done = subprocess.run(typed, shell=True, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout


@pytest.mark.slow
@pytest.mark.usefixtures("beside_the_demo")
@pytest.mark.parametrize("command", [one for one in typed_commands() if one.startswith(VIEW)])
def test_a_viewer_runs_as_printed_until_it_is_interrupted(command):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # the command itself, which gets the signal
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(CHECKOUT), "BROWSER": "true"}
    with subprocess.Popen(f"exec {command}", shell=True, env=environment, stdout=subprocess.PIPE, text=True) as viewer:
        address = viewer.stdout.readline().strip()
        with urllib.request.urlopen(address) as page:
            assert b"<canvas" in page.read()
        viewer.send_signal(signal.SIGINT)
        assert viewer.wait(30) == 0


def test_the_rendered_tables_are_up_to_date():
    for path, text in rendering.rendered_files(locations.data_root()).items():
        assert path.read_text() == text, f"run 'make render' to bring {path.name} up to date"


def test_the_readme_is_one_screen_with_a_picture():
    text = (CHECKOUT / "README.md").read_text()
    assert len(text.split()) <= 900
    assert len(re.findall(r"!\[[^]]+\]\((?!http)", text)) == 1


GALLERY = CHECKOUT / "docs" / "gallery"
PAGES = sorted(str(path.relative_to(CHECKOUT)) for path in [*CHECKOUT.glob("*.md"), *CHECKOUT.glob("[a-z]*/**/*.md")])


@pytest.mark.parametrize("document", PAGES)
def test_every_link_leads_to_a_file_and_to_a_heading_in_it(document):
    text = (CHECKOUT / document).read_text()
    for target, _, anchor in (link.partition("#") for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", text)):
        path = (CHECKOUT / document).parent.joinpath(target) if target else CHECKOUT / document
        if path.is_relative_to(GALLERY):  # is made by the build of the guide, which checks its links
            continue
        assert path.exists(), f"{document}: {target}"
        assert not anchor or anchor in headings(path), f"{document}: {target}#{anchor}"


def headings(path):
    """Anchors of a page: headings in lower case, without punctuation, words joined by hyphens."""
    found = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}
