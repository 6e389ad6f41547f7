"""Descriptions of instruments from the settings folder, other registries and beside recipes."""

import errno
import os
import warnings

import pytest
import yaml

from deepcr_zoo import locations
from deepcr_zoo.documents import as_short_yaml
from deepcr_zoo.errors import InvalidDocumentError, SourceWarning
from deepcr_zoo.zoo.instrumentfiles import KnownInstruments, default_instruments, instruments_beside, read_instrument
from deepcr_zoo.zoo.instruments import Instrument, shipped_table
from deepcr_zoo.zoo.recipefiles import find_recipe, read_recipe
from tests.described import CAMERA, RECIPE, describe, settings_of, write_recipe
from tests.registries import copy_registry


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder of descriptions in the settings."""
    return settings_of(tmp_path / "settings", monkeypatch)


def test_a_description_in_the_settings_folder_is_known_at_once(folder):
    assert default_instruments().called("my camera") is None
    describe(folder / "my.yaml")
    found = default_instruments().recognise({"INSTRUME": "TestCam", "TELESCOP": "Test 1.0m"})
    assert found is not None
    assert found.name == "My camera"
    describe(folder / "my.yaml", name="Our camera")
    assert [one.name for one in default_instruments()][-1] == "Our camera"


@pytest.mark.parametrize(
    ("changes", "shared"),
    [
        ({"recognise": {"INSTRUME": "Other"}, "detector": "B"}, "name, My camera"),
        ({"name": "Other", "recognise": {"INSTRUME": "Other"}}, "telescope, instrument and detector, Test 1.0m TestCam CCD"),
        ({"name": "Other", "detector": "B"}, "keywords under recognise"),
        ({"name": "hst  acs/wfc", "recognise": {"INSTRUME": "Other"}, "detector": "B"}, "name, HST ACS/WFC"),
    ],
)
def test_two_descriptions_that_clash_are_an_error_that_names_both_files(folder, changes, shared):
    describe(folder / "a.yaml")
    describe(folder / "b.yaml", **changes)
    with pytest.raises(InvalidDocumentError) as raised:
        default_instruments()
    assert str(folder / "b.yaml") in str(raised.value)
    other = "zoo/instruments.yaml" if "ACS" in shared else str(folder / "a.yaml")
    assert f"of {other} have the same {shared}: change or remove one" in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1


def test_a_header_of_two_instruments_is_an_error_that_names_both_files(folder):
    describe(folder / "a.yaml")
    describe(folder / "b.yaml", name="Other", detector="B", recognise={"INSTRUME": "Test*"})
    with pytest.raises(InvalidDocumentError, match=r"My camera \(.*a\.yaml\) and Other \(.*b\.yaml\): make recognise"):
        default_instruments().recognise({"INSTRUME": "TestCam", "TELESCOP": "Test 1.0m"})


def test_a_copy_of_a_description_is_no_clash(folder):
    describe(folder / "a.yaml")
    describe(folder / "b.yaml")
    assert [one.name for one in default_instruments()].count("My camera") == 1


@pytest.mark.parametrize("content", ["name: [", "name: My camera\n", "a: 1\n" * 3, "x" * 1_100_000, "[" * 10_000])
def test_a_description_that_cannot_be_read_is_left_out_with_a_warning(folder, content):
    folder.mkdir(parents=True)
    (folder / "bad.yaml").write_text(content)
    with pytest.warns(SourceWarning, match=r"a description of an instrument is not used: .*bad\.yaml"):
        assert len(list(default_instruments())) == len(shipped_table().instruments)


def test_a_folder_of_descriptions_that_cannot_be_read_is_named_and_never_looks_empty(folder, monkeypatch):
    folder.mkdir(parents=True)
    listdir = os.listdir

    def refused(path="."):
        if path == folder:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return listdir(path)

    monkeypatch.setattr(os, "listdir", refused)
    with pytest.warns(SourceWarning, match=rf"no description .* is used: {folder}: cannot be read: Permission denied"):
        assert len(list(default_instruments())) == len(shipped_table().instruments)
    with pytest.raises(InvalidDocumentError, match="cannot be read"):
        instruments_beside([folder])


def test_hidden_files_and_recipes_beside_descriptions_are_left_alone(folder, tmp_path):
    describe(tmp_path / "my.yaml")
    (tmp_path / "._my.yaml").write_bytes(b"\0\5\26\7")
    (tmp_path / "other-recipe.yaml").write_text("name: [")
    (tmp_path / "large.yaml").write_bytes(b"a: 1\n" * 300_000)
    assert instruments_beside([tmp_path]).called("My camera") is not None


def test_another_registry_may_describe_instruments_and_its_copy_of_the_zoos_own_is_no_clash(folder, tmp_path):
    root = tmp_path / "inst"
    copy_registry(root)
    table = yaml.safe_load((locations.data_root() / "zoo" / "instruments.yaml").read_text())
    table["instruments"].append(yaml.safe_load(as_short_yaml(Instrument.model_validate(CAMERA))))
    (root / "zoo" / "instruments.yaml").write_text(yaml.safe_dump(table))
    settings = folder.parent / "config.yaml"
    settings.write_text(yaml.safe_dump({"registries": {"inst": {"root": str(root)}}}))
    with warnings.catch_warnings():
        warnings.simplefilter("error", SourceWarning)
        found = default_instruments().called("My camera")
    assert found is not None
    assert found.where == str(root / "zoo" / "instruments.yaml")


def test_a_written_description_is_read_back(tmp_path):
    path = describe(tmp_path / "my.yaml")
    assert read_instrument(path) == Instrument.model_validate(CAMERA)


def test_a_recipe_repeats_nothing_of_the_instrument_that_it_names(folder, tmp_path):
    describe(folder / "my.yaml")
    recipe = read_recipe(write_recipe(tmp_path / "r.yaml"))
    block = recipe.instrument
    assert (block.telescope, block.instrument, block.detector) == ("Test 1.0m", "TestCam", "CCD")
    assert (block.pixel_scale_arcsec, block.pixel_size_um, block.gain_electron_per_count) == (0.4, 13.5, 1.8)
    assert (block.read_noise_electron, block.chips, block.chip_shape) == (6.0, 1, [256, 288])
    assert block.saturation_electron == recipe.build.ignore.saturation_electron == pytest.approx(60_000 * 1.8)
    assert (recipe.data.product, recipe.build.sky) == ("*", "measured")


def test_what_a_recipe_says_itself_is_kept(folder, tmp_path):
    describe(folder / "my.yaml")
    settings = ["instrument.read_noise_electron=7.5", "data.product=raw", "build.ignore.saturation_electron=5.0e+4"]
    recipe = read_recipe(write_recipe(tmp_path / "r.yaml"), settings)
    assert recipe.instrument.read_noise_electron == 7.5
    assert recipe.data.product == "raw"
    assert recipe.build.ignore.saturation_electron == 5.0e4


@pytest.mark.parametrize("place", ["my.yaml", "instruments/my.yaml"])
def test_a_description_beside_a_recipe_is_found_by_it(place, folder, tmp_path):
    describe(tmp_path / place)
    assert read_recipe(write_recipe(tmp_path / "r.yaml")).instrument.description is not None
    assert default_instruments().called("My camera") is None
    assert instruments_beside([tmp_path]).called("My camera") is not None


def test_a_recorded_recipe_holds_the_description_and_needs_no_settings(folder, tmp_path):
    describe(folder / "my.yaml")
    recipe = read_recipe(write_recipe(tmp_path / "r.yaml"))
    (folder / "my.yaml").unlink()
    (tmp_path / "elsewhere").mkdir()
    recorded = tmp_path / "elsewhere" / "recipe.yaml"
    recorded.write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    assert read_recipe(recorded) == recipe
    assert recipe.instrument.description == Instrument.model_validate(CAMERA)


def test_a_recipe_may_name_a_shipped_instrument_and_records_no_description(folder, tmp_path):
    shipped = read_recipe(find_recipe("acs-wfc-f606w"))
    path = tmp_path / "r.yaml"
    path.write_text("extends: acs-wfc-f606w\ninstrument: {name: HST ACS/WFC}\n")
    assert read_recipe(path) == shipped
    assert "description" not in shipped.model_dump()["instrument"]


def test_an_instrument_that_nothing_describes_is_named_with_the_way_out(folder, tmp_path):
    with pytest.raises(InvalidDocumentError) as raised:
        read_recipe(write_recipe(tmp_path / "r.yaml"))
    assert f"{tmp_path / 'r.yaml'}:4: instrument.name: expected one of HST ACS/WFC" in str(raised.value)
    assert "got 'My camera'; 'deepcr-zoo instrument new FILE.fits' describes another" in str(raised.value)


def test_a_fact_that_a_recipe_needs_and_a_description_lacks_is_named(folder, tmp_path):
    path = describe(folder / "my.yaml", pixel_scale_arcsec=None, pixel_size_um=None)
    with pytest.raises(InvalidDocumentError) as raised:
        read_recipe(write_recipe(tmp_path / "r.yaml"))
    expected = f"My camera is described without pixel_scale_arcsec, pixel_size_um: add this to {path}, or under instrument"
    assert expected in str(raised.value)
    given = ["instrument.pixel_scale_arcsec=0.4", "instrument.pixel_size_um=15.0"]
    assert read_recipe(tmp_path / "r.yaml", given).instrument.pixel_size_um == 15


def test_the_instruments_are_merged_in_the_order_of_their_files(folder):
    describe(folder / "a.yaml")
    known = default_instruments().known
    assert KnownInstruments.merged(known).known == known
    assert RECIPE["instrument"] == {"name": "My camera", "filters": ["R"]}
