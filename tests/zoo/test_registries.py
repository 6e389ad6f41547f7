"""Registries of other packages and of institutes."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import EntryPoint

import numpy as np
import pytest
import yaml

import deepcr_zoo
from deepcr_zoo import locations
from deepcr_zoo.documents import parse_document
from deepcr_zoo.errors import IntegrityError, InvalidDocumentError, SourceError, SourceWarning, UnknownModelError
from deepcr_zoo.zoo import registries, sources
from deepcr_zoo.zoo.cards import read_card
from deepcr_zoo.zoo.instrumentfiles import default_instruments
from deepcr_zoo.zoo.registries import Configuration, default_registry
from deepcr_zoo.zoo.registry import WEIGHTS_FILE
from tests.conftest import CHECKOUT
from tests.described import CAMERA
from tests.registries import SMALL, copy_registry, edit_card, edit_entry

EXAMPLE = CHECKOUT / "tests" / "downstream" / "keckcr"
LRIS = "mask/LRIS-2-4"


def lris_registry(root):
    """A registry with one model, which is a small one of the zoo under another name."""
    copy_registry(root)
    for part in ("zoo/weights", "cards"):
        shutil.move(root / part / SMALL, root / part / LRIS)
    shutil.move(root / "zoo" / f"{SMALL}.yaml", root / "zoo" / f"{LRIS}.yaml")
    edit_entry(root, lambda entry: entry.update(name="LRIS-2-4", summary="an imaginary camera"), LRIS)
    edit_card(root, lambda card: card["identity"].update(name="LRIS-2-4"), LRIS)
    return root


@pytest.fixture
def configure(tmp_path, monkeypatch):
    """Name the institute's registry in the settings file, and other facts of it."""

    def write(**place):
        content = {"registries": {"inst": {"root": str(tmp_path / "inst"), **place}}}
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(content))

    monkeypatch.setenv("DEEPCR_ZOO_CONFIG", str(tmp_path / "config.yaml"))
    return write


@pytest.fixture
def institute(tmp_path, configure):
    """A registry that the settings file names."""
    configure()
    return lris_registry(tmp_path / "inst")


@pytest.fixture(scope="session")
def installed(tmp_path_factory):
    """The example package, built and installed into a folder of its own."""
    folder = tmp_path_factory.mktemp("downstream")
    shutil.copytree(EXAMPLE, folder / "keckcr")
    lris_registry(folder / "keckcr" / "src" / "keckcr" / "models")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-index"]
    command = [*pip, "--no-build-isolation", "--target", str(folder / "site"), str(folder / "keckcr")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / "site"


def run(installed, *command):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(installed), str(CHECKOUT)]), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_package_that_is_installed_brings_its_models(installed):
    code = "import numpy, keckcr; print(int(keckcr.mask_cosmic_rays(numpy.full((64, 64), 50.0)).sum()))"
    assert run(installed, "-c", code) == "0\n"
    code = "import deepcr_zoo; m = deepcr_zoo.load('keck:LRIS-2-4@1', device='cpu'); print(m.reference, m.sha256)"
    sha256 = default_registry().resolve(SMALL).locked.weights.sha256
    assert run(installed, "-c", code) == f"keck:mask/LRIS-2-4@1.0 {sha256}\n"


@pytest.mark.slow
def test_the_command_line_knows_them_and_says_where_they_come_from(installed):
    listed = run(installed, "-m", "deepcr_zoo", "list", "*LRIS*")
    assert "keck:mask/LRIS-2-4" in listed
    assert "package keckcr 1.2" in listed
    assert "keck:mask/LRIS-2-4" in run(installed, "-m", "deepcr_zoo", "list", "keck:*")
    assert "reproduces" in run(installed, "-m", "deepcr_zoo", "verify", "keck:LRIS-2-4")


def test_what_the_readme_shows_is_what_the_example_has(configure, institute, tmp_path):
    text = (CHECKOUT / "docs" / "guide" / "share.md").read_text()
    shown = tomllib.loads(re.search(r"```toml\n(.*?)```", text, re.DOTALL)[1])
    there = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())
    assert shown["project"]["entry-points"] == there["project"]["entry-points"]
    settings = re.search(r"```yaml\n(registries:.*?)```", text, re.DOTALL)[1]
    assert list(parse_document(settings, Configuration, "README.md").registries) == ["inst"]


def test_an_institutes_registry_is_named_in_the_settings(institute):
    model = deepcr_zoo.load("inst:LRIS-2-4", device="cpu")
    assert model.reference == "inst:mask/LRIS-2-4@1.0"
    assert model.mask(np.full((32, 32), 50.0)).sum() == 0
    assert deepcr_zoo.list_models("inst:*") == ["inst:mask/LRIS-2-4"]
    assert default_registry().resolve("inst:mask/LRIS-2-4").origin.label == "settings"


def test_names_without_a_prefix_mean_the_zoos_own(institute):
    copy_registry(institute)  # the same name as in the zoo
    edit_card(institute, lambda card: card["output"].update(threshold=0.9))
    assert read_card(default_registry().resolve(SMALL)).output.threshold == 0.5
    assert read_card(default_registry().resolve(f"inst:{SMALL}")).output.threshold == 0.9
    with pytest.raises(UnknownModelError, match="no such model"):
        default_registry().resolve("LRIS-2-4")


def test_its_bytes_may_come_from_a_plain_folder_of_its_own(institute, configure, tmp_path, clean_environment):
    shutil.move(institute / "zoo" / "weights", tmp_path / "bytes")
    edit_entry(institute, lambda entry: entry["versions"]["1.0"].update(sources={"seed": False}), LRIS)
    with pytest.raises(SourceError, match="no source could supply"):
        deepcr_zoo.load("inst:LRIS-2-4")
    configure(mirror=str(tmp_path / "bytes"))
    assert deepcr_zoo.load("inst:LRIS-2-4", device="cpu", source="mirror").reference == "inst:mask/LRIS-2-4@1.0"
    assert (clean_environment / "inst" / LRIS / "1.0" / WEIGHTS_FILE).is_file()  # apart from the zoo's


def test_its_mirror_is_checked_against_its_lock(institute, configure, tmp_path):
    shutil.copytree(institute / "zoo" / "weights", tmp_path / "bytes")
    path = tmp_path / "bytes" / LRIS / "1.0" / WEIGHTS_FILE
    path.write_bytes(path.read_bytes()[:-1] + b"\1")
    configure(mirror=str(tmp_path / "bytes"))
    with pytest.raises(IntegrityError, match="is not what the registry locked"):
        deepcr_zoo.load("inst:LRIS-2-4", source="mirror")


def test_a_mirror_of_several_registries_keeps_them_apart(institute, tmp_path):
    for name in ("inst:LRIS-2-4", SMALL):
        deepcr_zoo.pull(name, to=tmp_path / "mirror")
    for name, folder in (("inst:LRIS-2-4", f"inst/{LRIS}"), (SMALL, SMALL)):
        assert (tmp_path / "mirror" / folder / "1.0" / WEIGHTS_FILE).is_file()
        model = default_registry().resolve(name)
        assert sources.fetch(model, WEIGHTS_FILE, mirror=tmp_path / "mirror", source="mirror").source == "mirror"


def test_an_exposure_is_cleaned_with_a_model_of_another_registry(institute):
    image = np.full((48, 48), 50.0, dtype=np.float32)
    image[10, 10] = 5000
    mask, cleaned = deepcr_zoo.clean(image, mask="inst:LRIS-2-4", inpaint="medmask")
    assert mask[10, 10]
    assert cleaned[10, 10] < 100


def test_a_prefix_that_nobody_has_lists_those_that_there_are(institute):
    with pytest.raises(UnknownModelError, match=r"no registry called 'keck' is installed or configured, there are inst"):
        default_registry().resolve("keck:LRIS-2-4")


def test_of_two_packages_with_one_prefix_none_is_used_and_both_are_named(institute, monkeypatch):
    points = [EntryPoint("keck", f"{package}:registry", registries.ENTRY_POINTS) for package in ("one", "two")]
    monkeypatch.setattr(registries, "entry_points", lambda group: points)
    with pytest.warns(SourceWarning, match="is not used: another package has the same prefix") as caught:
        assert list(registries.other_registries()) == ["inst"]
    assert len(caught) == 2
    monkeypatch.setattr(registries, "entry_points", lambda group: [EntryPoint("inst", "one:registry", group)])
    with pytest.warns(SourceWarning, match="is not used: the settings name another one"):
        assert registries.other_registries()["inst"].home.label == "settings"


def test_what_pull_writes_into_a_folder_serves_as_the_mirror_of_a_registry(institute, configure, tmp_path):
    deepcr_zoo.pull("inst:LRIS-2-4", to=tmp_path / "bytes")
    shutil.rmtree(institute / "zoo" / "weights" / "mask")
    configure(mirror=str(tmp_path / "bytes"))
    model = default_registry().resolve("inst:LRIS-2-4")
    assert sources.fetch(model, WEIGHTS_FILE, source="mirror").path.is_file()


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ({"root": "/nowhere"}, "expected the folder of a registry, with zoo/ and cards/"),
        ({"mirror": "/nowhere"}, "expected the folder of a mirror"),
    ],
)
def test_a_registry_that_cannot_be_read_is_left_out_with_a_warning(place, message, institute, configure):
    configure(**place)
    with pytest.warns(SourceWarning, match=f"the registry 'inst' of the settings is not used: .*{message}"):
        assert registries.other_registries() == {}
    assert default_registry().resolve(SMALL).version == "1.0"


def test_files_of_a_registry_that_change_count_in_a_session(institute):
    def summary():
        return default_registry().resolve("inst:LRIS-2-4").entry.summary

    def gains():
        return [one.gain_electron_per_count for one in default_instruments() if one.name == "My camera"]

    def offer(gain):
        camera = {**CAMERA, "gain_electron_per_count": gain}
        (institute / "zoo" / "instruments.yaml").write_text(yaml.safe_dump({"instruments": [camera]}))

    assert (summary(), gains()) == ("an imaginary camera", [])
    edit_entry(institute, lambda entry: entry.update(summary="another camera"), LRIS)
    offer(1.8)
    assert (summary(), gains()) == ("another camera", [1.8])
    offer(9.25)
    assert gains() == [9.25]


def test_settings_that_break_their_schema_are_named(institute, tmp_path):
    (tmp_path / "config.yaml").write_text("registries: {inst: {rooot: /x}}\n")
    with pytest.raises(InvalidDocumentError, match=r"config\.yaml: registries\.inst\.rooot: expected no such key"):
        registries.other_registries()


def test_a_settings_file_that_is_named_and_not_there_is_told(monkeypatch):
    monkeypatch.setenv("DEEPCR_ZOO_CONFIG", "/nowhere/config.yaml")
    with pytest.raises(InvalidDocumentError, match=r"/nowhere/config\.yaml: no such file \(DEEPCR_ZOO_CONFIG\)"):
        registries.other_registries()


def test_the_settings_file_has_a_place_of_its_own(monkeypatch):
    monkeypatch.delenv("DEEPCR_ZOO_CONFIG")
    assert locations.configuration_file().name == "config.yaml"
    assert "deepcr-zoo" in str(locations.configuration_file())
