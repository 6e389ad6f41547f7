"""Files of others in the present folder, where data lie: nothing there is run or obeyed because of its name."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import matplotlib
import numpy as np
import pytest

from deepcr_zoo import clean_file
from deepcr_zoo.bench.subjects import find_subject
from deepcr_zoo.errors import DeepcrZooError, MissingExtraError
from deepcr_zoo.exposures import pictures
from deepcr_zoo.exposures.pictures import LEAST_MATPLOTLIB, require_matplotlib, zscale_interval
from deepcr_zoo.publishing.example import example_picture
from deepcr_zoo.zoo import sources
from deepcr_zoo.zoo.cards import read_card
from deepcr_zoo.zoo.recipefiles import find_recipe, shipped_recipes
from deepcr_zoo.zoo.registry import TEST_VECTOR_FILE
from deepcr_zoo.zoo.resolving import find_model
from tests.conftest import CHECKOUT
from tests.fitsfiles import acs_flc
from tests.registries import SMALL
from tests.zoo.test_runfolders import write_run

COMMAND = "from deepcr_zoo.cli.main import main\nif __name__ == '__main__':\n    main()\n"
"""As the script that an installer makes: it lies in another folder, so that Python does not look in the present one."""


def run_in(folder: Path, elsewhere: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    elsewhere.mkdir()
    script = elsewhere / "command.py"
    script.write_text(COMMAND)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    environment["PYTHONPATH"] = str(CHECKOUT)
    return subprocess.run(
        [sys.executable, str(script), *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=120
    )


def test_processes_that_share_the_work_run_no_module_of_the_data_folder(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    names = [acs_flc(data / f"j{number}_flc.fits").name for number in range(2)]
    for module in ("multiprocessing", "runpy", "numpy"):
        (data / f"{module}.py").write_text(f"open({str(tmp_path / module)!r}, 'w').close()\n")
    options = ["--jobs", "2", "--inpaint", "none", "--output-dir", str(tmp_path / "out")]
    found = run_in(data, tmp_path / "bin", "clean", *names, *options)
    assert found.returncode == 0, found.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bin", "data", "out"]


def test_pictures_obey_no_settings_of_the_data_folder():
    image = np.random.default_rng(1).normal(100, 5, (32, 32)).astype(np.float32)
    shown = pictures.Panels("chip", image, image > 110, None)
    expected = pictures.draw([shown], "heading", "test")
    model = find_model(SMALL)
    vector = sources.fetch(model, TEST_VECTOR_FILE).data
    example = example_picture(read_card(model), vector)
    theirs = {"text.usetex": True, "text.latex.preamble": r"\input{/etc/passwd}", "figure.dpi": 7, "savefig.pad_inches": 3}
    with matplotlib.rc_context(
        {**theirs, "savefig.format": "svg", "savefig.bbox": "tight"}
    ):  # as matplotlibrc in the present folder
        assert pictures.draw([shown], "heading", "test") == expected
        assert example_picture(read_card(model), vector) == example


@pytest.mark.parametrize("before", [None, ""])
def test_the_setting_for_processes_ends_with_their_start(before, monkeypatch):
    from deepcr_zoo.machine import safe_children

    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    if before is not None:
        monkeypatch.setenv("PYTHONSAFEPATH", before)
    with safe_children():
        assert os.environ["PYTHONSAFEPATH"] == "1"
    assert os.environ.get("PYTHONSAFEPATH") == before


def test_a_folder_with_the_name_of_a_model_does_not_replace_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("ACS-WFC-F606W-2-32", SMALL, f"{SMALL}@1.0", "unknown"):
        write_run(Path(name))
    for name in ("ACS-WFC-F606W-2-32", SMALL, f"{SMALL}@1.0"):
        assert find_model(name).origin.registry is find_subject(name).run is None
        assert find_model(Path(name)).reference == find_model(f"./{name}").reference == f"{SMALL}@run-{Path(name).name}"
    assert find_model("unknown").reference == find_subject("unknown").reference == f"{SMALL}@run-unknown"


def test_a_file_with_the_name_of_a_recipe_does_not_replace_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("practice-ccd").write_text("name: OTHER-2-4")
    assert find_recipe("practice-ccd") == shipped_recipes()["practice-ccd"]
    assert (
        find_recipe("./practice-ccd").resolve() == find_recipe(Path("practice-ccd")).resolve() == tmp_path / "practice-ccd"
    )


def test_a_folder_with_an_address_on_the_hub_is_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    address = f"hf:org/{SMALL.replace('/', '-')}@v1.0"
    write_run(Path(address))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    for find in (find_model, find_subject):
        with pytest.raises(DeepcrZooError, match=r"http://127\.0\.0\.1:9"):
            find(address)


@pytest.mark.parametrize("version", ["3.8.0", "3.10.8", "3.10"])
def test_a_matplotlib_that_runs_code_of_the_present_folder_is_not_imported(version, monkeypatch):
    monkeypatch.setattr(metadata, "version", lambda name: version)
    for needed in (require_matplotlib, zscale_interval):  # astropy imports it for its stretches
        with pytest.raises(MissingExtraError, match=rf"3\.10\.9 or newer, {version} would run code"):
            needed()


def test_the_extra_for_pictures_asks_for_a_safe_matplotlib():
    extras = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    least = ".".join(map(str, LEAST_MATPLOTLIB))
    assert [one for extra in extras.values() for one in extra if one.startswith("matplotlib")] == [
        f"matplotlib>={least}"
    ] * 2


@pytest.mark.parametrize(
    "name", ["a';touch ran;'.fits", "a$(shell touch ran).fits", "a`touch ran`.fits", 'a"$(touch ran)".fits', "a b.fits"]
)
@pytest.mark.parametrize(("target", "variable"), [("demo", "FITS"), ("check", "AGAINST")])
def test_the_name_of_a_file_is_one_word_of_a_command_of_make(name, target, variable, tmp_path):
    shutil.copy(CHECKOUT / "Makefile", tmp_path)
    stub = tmp_path / ".venv" / "bin" / "python"
    stub.parent.mkdir(parents=True)
    stub.write_text('#!/bin/sh\nfor word in "$@"; do last="$word"; done\nprintf %s "$last" > given\n')
    stub.chmod(0o755)
    shutil.copy(stub, stub.with_name("deepcr-zoo"))
    for mark in (".torch", ".demo", ".dev"):
        (tmp_path / ".venv" / mark).touch()
    for name_of_requirement in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name_of_requirement).touch()
        os.utime(tmp_path / name_of_requirement, (1, 1))
    done = subprocess.run(["make", target, f"{variable}={name}"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "given").read_text() == name
    assert not (tmp_path / "ran").exists()


def test_a_file_with_the_name_of_a_class_of_python_stops_no_cleaning(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("<class '_io.BytesIO'>").write_text("mine")
    done = clean_file(acs_flc(tmp_path / "x_flc.fits"), SMALL, "none")
    assert Path(done.outputs[0]).exists()
    assert Path("<class '_io.BytesIO'>").read_text() == "mine"


def test_make_clean_removes_no_folder_that_the_environment_or_a_slip_names(tmp_path):
    shutil.copy(CHECKOUT / "Makefile", tmp_path)
    mine = tmp_path / "thesis" / "notes.txt"
    own = tmp_path / ".venv" / "pyvenv.cfg"
    for path in (mine, own):
        path.parent.mkdir()
        path.write_text("")
    exported = {**os.environ, "VENV": "thesis"}
    assert subprocess.run(["make", "clean"], cwd=tmp_path, env=exported, capture_output=True).returncode == 0
    assert not own.parent.exists()
    slip = subprocess.run(["make", "clean", "VENV=thesis"], cwd=tmp_path, capture_output=True, text=True)
    assert slip.returncode != 0
    assert "thesis: is no virtual environment" in slip.stderr
    assert mine.exists()
