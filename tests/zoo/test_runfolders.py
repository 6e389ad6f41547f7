"""The model of a finished run, used by the run's folder as models of the zoo are by their names."""

import hashlib
import json
import os
import re
import shlex
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest

import deepcr_zoo
from deepcr_zoo import deepCR, locations
from deepcr_zoo.bench.runs import Run
from deepcr_zoo.bench.subjects import find_subject
from deepcr_zoo.documents import as_yaml
from deepcr_zoo.errors import DeepcrZooError, ModelWarning, RunError, SourceError, UnknownModelError
from deepcr_zoo.models.verification import verify
from deepcr_zoo.zoo.recipefiles import find_recipe, read_recipe
from deepcr_zoo.zoo.registries import default_registry
from deepcr_zoo.zoo.registry import TEST_VECTOR_FILE, WEIGHTS_FILE
from deepcr_zoo.zoo.resolving import find_model
from tests.fitsfiles import acs_flc
from tests.registries import SMALL
from tests.scenes import star_field

IMAGE, _ = star_field((64, 60), seed=3)


def write_run(folder, rehearsal=False):
    """A finished run whose network is the small one of the zoo."""
    model = default_registry().resolve(SMALL)
    recipe = as_yaml(read_recipe(find_recipe("acs-wfc-f606w-2-4")))
    folder.mkdir(parents=True)
    for name in (WEIGHTS_FILE, TEST_VECTOR_FILE):
        shutil.copy(locations.data_root() / "zoo/weights" / model.folder / name, folder / name)
    shutil.copy(model.card_path, folder / "card.yaml")
    (folder / "recipe.yaml").write_bytes(recipe)
    facts = {"name": model.entry.name, "task": "mask", "started": "2026-11-28T10:00:00Z", "command": "train"}
    facts |= {"recipe_sha256": hashlib.sha256(recipe).hexdigest(), "dataset": "x", "manifest_sha256": "0" * 64}
    (folder / "run.json").write_text(json.dumps(facts | {"rehearsal": rehearsal}))
    return folder


@pytest.fixture
def folder(tmp_path):
    return write_run(tmp_path / "runs/ACS-WFC-F606W-2-4/20261128-abcdef")


def test_load_takes_the_folder_of_a_run_as_text_or_path(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = deepcr_zoo.load(folder)
    assert model.reference == "mask/ACS-WFC-F606W-2-4@run-20261128-abcdef" == Run.open(folder).reference
    np.testing.assert_array_equal(model.predict(IMAGE), deepcr_zoo.load(SMALL).predict(IMAGE))
    assert deepcr_zoo.load(str(folder)).sha256 == model.sha256
    assert verify(find_model(folder)).verdict == "reproduces"


def test_the_folder_may_be_the_present_one_and_a_relative_path(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert find_model(".").reference == find_subject(".").reference == "mask/ACS-WFC-F606W-2-4@run-20261128-abcdef"
    monkeypatch.chdir(folder.parent)
    assert find_model(folder.name).reference.endswith("@run-20261128-abcdef")


def test_arrays_files_and_the_compatible_class_take_it_too(folder, tmp_path):
    expected, _ = deepcr_zoo.clean(IMAGE, SMALL)
    for given in (folder, str(folder)):
        np.testing.assert_array_equal(deepcr_zoo.clean(IMAGE, given)[0], expected)
        np.testing.assert_array_equal(deepCR(given).clean(IMAGE), expected)
    path = acs_flc(tmp_path / "jtest_flc.fits")
    done = deepcr_zoo.clean_file(path, str(folder), "medmask", device="cpu")
    assert done.model == "mask/ACS-WFC-F606W-2-4@run-20261128-abcdef"
    assert deepcr_zoo.clean_file(path, os.path.relpath(folder), "medmask", device="cpu").status == "finished"
    (folder / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(DeepcrZooError, match="expected a safetensors file"):
        deepcr_zoo.clean_file(path, str(folder), "medmask", overwrite=True, device="cpu")


def test_a_network_of_a_rehearsal_carries_its_caution(tmp_path):
    with pytest.warns(ModelWarning, match="trained on simulated exposures: a rehearsal, not for science"):
        deepcr_zoo.load(write_run(tmp_path / "run", rehearsal=True))


def test_a_folder_that_is_no_finished_run_says_what_is_missing(folder, tmp_path, monkeypatch):
    (tmp_path / "no.run").mkdir()
    with pytest.raises(RunError, match=r"expected the folder of a run, which holds run\.json and recipe\.yaml"):
        deepcr_zoo.load(tmp_path / "no.run")
    (folder / "card.yaml").unlink()
    with pytest.raises(RunError, match="has no model yet: deepcr-zoo train --resume"):
        deepcr_zoo.load(folder)
    folder = folder.rename(tmp_path / "a b;touch ran")
    with pytest.raises(RunError) as unfinished:
        deepcr_zoo.load(folder)
    advised = re.search(r"deepcr-zoo train .*(?= finishes it)", str(unfinished.value))[0]  # one pastes it into a shell
    assert shlex.split(advised) == ["deepcr-zoo", "train", "--resume", str(folder)]
    (folder / "recipe.yaml").write_bytes(b"name: other")
    with pytest.raises(RunError, match="was changed after the run had started"):
        deepcr_zoo.load(folder)
    monkeypatch.chdir(tmp_path)
    Path("ACS-WFC-F606W-2-4").mkdir()  # a folder that happens to have the name of a model
    assert find_subject("ACS-WFC-F606W-2-4").reference == f"{SMALL}@1.0" == find_model("ACS-WFC-F606W-2-4").reference
    Path("empty").mkdir()
    with pytest.raises(UnknownModelError):
        find_model("empty")


def test_links_in_a_run_are_not_followed(folder, tmp_path):
    (folder / "model.safetensors").rename(tmp_path / "elsewhere")
    (folder / "model.safetensors").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DeepcrZooError, match="is a symbolic link"):
        deepcr_zoo.load(folder)


@pytest.mark.parametrize("name", ["\xfc \xe9", "a\x1b[31m\nb", "a\udcff"])
def test_a_folder_with_any_name_gives_products_that_name_it(name, tmp_path):
    run, path = write_run(tmp_path / name), acs_flc(tmp_path / "jtest_flc.fits")
    made = [deepcr_zoo.clean_file(path, run, "medmask", device="cpu").status for _ in range(2)]
    assert made == ["cleaned", "finished"]


def test_a_run_without_a_licence_makes_no_mirror_and_the_error_says_what_to_do(folder, tmp_path):
    with pytest.raises(SourceError, match=r"LICENSE.*: no such file, and a mirror needs the licence of .*: write it there"):
        deepcr_zoo.pull(folder, to=tmp_path / "mirror")
    assert not (tmp_path / "mirror").exists()
