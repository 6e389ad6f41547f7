"""A network for any unit comes from a file, and goes out with all that another program needs to run it."""

import json

import numpy as np
import pytest
import safetensors.torch
from typer.testing import CliRunner

import deepcr_zoo
from deepcr_zoo.cli.main import app
from deepcr_zoo.errors import InvalidWeightsError, UsageError
from deepcr_zoo.models.model import load_files
from deepcr_zoo.publishing.configuration import configuration
from deepcr_zoo.publishing.importing import StatedFacts, import_file
from deepcr_zoo.publishing.page import PageFacts, render
from deepcr_zoo.zoo.cards import CardInput, Fingerprint, read_card
from deepcr_zoo.zoo.hubmodels import HubConfig
from deepcr_zoo.zoo.registries import local_root
from deepcr_zoo.zoo.registry import TEST_VECTOR_FILE, WEIGHTS_FILE
from tests.noisenetworks import FAST, NAME, PAINTER, UNSURE, imported, sky_with_tracks
from tests.publishing.test_importing import a_network
from tests.publishing.test_page import lines_of_example_alone, release_of
from tests.registries import SMALL

pytestmark = pytest.mark.filterwarnings("ignore:.*imported from a file")


@pytest.fixture(autouse=True)
def own_data(tmp_path, monkeypatch):
    monkeypatch.setenv("DEEPCR_ZOO_DATA", str(tmp_path / "data"))


def published(model):
    """The files of a repository with this model."""
    card, shelf = read_card(model), local_root() / "zoo" / "weights" / model.folder
    files = {name: (shelf / name).read_bytes() for name in (WEIGHTS_FILE, TEST_VECTOR_FILE)}
    files["card.yaml"] = model.card_path.read_bytes()
    files["config.json"] = configuration(card, model.locked.architecture, files)
    verdict = release_of(SMALL).verdict
    facts = PageFacts(card, model.locked.architecture, model.locked.weights, verdict, [], [])
    return {**files, "README.md": render(facts)}


@pytest.mark.parametrize("name", [NAME, *(pytest.param(one, marks=pytest.mark.slow) for one in (PAINTER, FAST, UNSURE))])
def test_the_example_of_its_page_meets_the_test_vector_without_this_package(name, tmp_path):
    assert lines_of_example_alone(published(imported(tmp_path, name)), tmp_path) <= 50


def test_page_and_config_state_unit_normalisation_and_formula(tmp_path):
    model = imported(tmp_path)
    files = published(model)
    found = json.loads(files["config.json"])
    formula = "x = arcsinh((image - sky) / noise), sky and noise of the whole exposure or amplifier, as in README.md; [x]"
    stated = {"unit": "any", "scale": 1.0, "normalisation": "noise", "formula": formula}
    assert found["input"].items() >= stated.items()
    assert HubConfig.model_validate(found).architecture == model.locked.architecture
    page = files["README.md"].decode()
    assert "image: 2-D array in any unit" in page
    assert "| input | any unit, gain and bias level (asinh((pixel - sky) / noise) of the whole exposure inside) |" in page


@pytest.mark.parametrize(("name", "more"), [(PAINTER, ""), (UNSURE, "noise * sqrt((exp(s**2) - 1)")])
def test_config_states_where_inpainting_starts_and_what_its_uncertainty_is(name, more, tmp_path):
    found = json.loads(published(imported(tmp_path, name))["config.json"])
    assert found["input"]["formula"].endswith(
        "; [e, mask]; e is x, and where mask is 1 first the mean of the known neighbours (3x3), layer by layer from the "
        "edge inwards, 0 deeper than 16 layers, then 16 steps of heavy-ball descent towards least curvature, as in README.md"
    )
    start = "where mask is 1: e + network([e, mask]), back to the unit of the image; elsewhere image"
    assert found["output"]["formula"].startswith(start)
    assert more in found["output"]["formula"]
    assert bool(more) == ("uncertainty" in found["output"]["formula"])


def test_the_command_line_imports_lists_and_shows_it(tmp_path):
    imported(tmp_path)
    path = str(tmp_path / f"{NAME}.safetensors")
    made = CliRunner().invoke(app, ["import", path, "--name", "MINE-2-2", "--unit", "any"])
    assert made.exit_code == 0, made.output
    assert made.stdout.strip().endswith("local:mask/MINE-2-2@1.0")
    shown = CliRunner().invoke(app, ["info", "local:MINE-2-2"]).output
    assert "any unit, gain and bias level" in " ".join(shown.split())
    assert "local:mask/MINE-2-2" in CliRunner().invoke(app, ["list", "local:*"]).output
    assert CliRunner().invoke(app, ["verify", "local:MINE-2-2"]).exit_code == 0
    image, struck = sky_with_tracks((96, 128), seed=1)
    assert deepcr_zoo.load("local:MINE-2-2").mask(image)[struck].mean() > 0.9


@pytest.mark.parametrize("facts", [{"scale": 100.0}, {"standardises": True}])
def test_a_scale_or_a_norm_beside_any_unit_is_refused(facts, tmp_path):
    imported(tmp_path)
    with pytest.raises(UsageError, match=r"for any unit sees .*: expected neither a scale nor norm"):
        import_file(tmp_path / f"{NAME}.safetensors", StatedFacts("MINE-2-2", unit="any", **facts))
    given = {"multiple": 2, "halo": 16, "normalisation": "noise", "unit": "any", "scale": 1.0}
    assert CardInput(**given).pixel_unit is None
    for wrong in ({"unit": "electron"}, {"scale": 100.0}, {"normalisation": "scale"}):
        with pytest.raises(ValueError, match="unit any and scale 1 with normalisation noise"):
            CardInput(**given | wrong)


def test_weights_of_another_input_are_refused_by_the_fingerprint(tmp_path):
    safetensors.torch.save_file(a_network().state_dict(), tmp_path / "mine.safetensors")
    made = import_file(tmp_path / "mine.safetensors", StatedFacts("MINE-2-6", unit="any"))
    card = read_card(made.model)
    assert 0.1 < card.input.fingerprint.input_variance < 0.5  # of values of order one
    wrong = card.input.model_copy(update={"fingerprint": Fingerprint(input_variance=40.0)})
    with pytest.raises(InvalidWeightsError, match=r"implies an input variance of 0.2.*, expected about 40"):
        load_files(
            safetensors.torch.save(a_network().state_dict()),
            card.model_copy(update={"input": wrong}),
            made.architecture,
            "x",
            "cpu",
            engine="torch",
        )
    assert np.isfinite(deepcr_zoo.load("local:MINE-2-6", "cpu").predict(sky_with_tracks((64, 64), 1)[0])).all()
