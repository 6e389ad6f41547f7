"""Recipes from files: what ships is valid, what is wrong is named with file, line and field."""

import json

import jsonschema
import pytest
import yaml

from deepcr_zoo import locations
from deepcr_zoo.errors import InvalidDocumentError, UsageError
from deepcr_zoo.zoo.recipefiles import find_recipe, read_recipe, recipe_json_schema, shipped_recipes
from tests.conftest import CHECKOUT

SHIPPED = {
    "acs-wfc": ("mask", "ACS-WFC-2-32"),
    "acs-wfc-f606w": ("mask", "ACS-WFC-F606W-2-32"),
    "acs-wfc-f606w-2-4": ("mask", "ACS-WFC-F606W-2-4"),
    "acs-wfc-f606w-inpaint-2-32": ("inpaint", "ACS-WFC-F606W-2-32"),
    "acs-wfc-f606w-inpaint-3-32": ("inpaint", "ACS-WFC-F606W-3-32"),
    "acs-wfc-f606w-3-16": ("mask", "ACS-WFC-F606W-3-16"),
    "ccd-any": ("mask", "CCD-ANY-2-32"),
    "ccd-any-2-16": ("mask", "CCD-ANY-2-16"),
    "ccd-any-3-16": ("mask", "CCD-ANY-3-16"),
    "ccd-any-3-8": ("mask", "CCD-ANY-3-8"),
    "ccd-any-inpaint-3-16": ("inpaint", "CCD-ANY-3-16"),
    "practice-ccd": ("mask", "PRACTICE-CCD-R-2-8"),
    "stis-ccd": ("mask", "STIS-CCD-G430M-2-32"),
    "wfc3-uvis": ("mask", "WFC3-UVIS-2-32"),
}
MINE = CHECKOUT / "recipes" / "acs-wfc-f606w.yaml"


def child(tmp_path, text, base=MINE):
    path = tmp_path / "mine.yaml"
    path.write_text(f"extends: {base}\n{text}")
    return path


def refused(path, *settings):
    with pytest.raises(InvalidDocumentError) as error:
        read_recipe(path, settings)
    return str(error.value)


def test_the_shipped_recipes_are_valid_and_make_the_models_that_they_should():
    found = {name: (recipe.task, recipe.name) for name, path in shipped_recipes().items() for recipe in [read_recipe(path)]}
    assert found == SHIPPED


def test_a_recipe_is_found_by_path_or_by_the_name_of_a_shipped_one():
    assert find_recipe("acs-wfc-f606w") == find_recipe(str(MINE)) == MINE
    with pytest.raises(UsageError, match=r"nothing\.yaml: no such file; the recipes that .* are acs-wfc, acs"):
        find_recipe("nothing.yaml")


def test_a_recipe_that_extends_another_changes_only_what_it_says():
    small, large = read_recipe(find_recipe("acs-wfc-f606w-2-4")), read_recipe(MINE)
    assert (small.train.architecture.hidden, large.train.architecture.hidden) == (4, 32)
    assert small.train.architecture.depth == large.train.architecture.depth
    assert (small.data, small.build, small.train.schedule) == (large.data, large.build, large.train.schedule)


def test_a_shipped_recipe_can_be_extended_from_anywhere_by_its_name(tmp_path):
    for name in ("acs-wfc-f606w", "acs-wfc-f606w.yaml"):
        assert read_recipe(child(tmp_path, "name: MINE\n", name)).data == read_recipe(MINE).data


def test_an_inherited_visit_goes_with_null_and_another_comes_with_its_name(tmp_path):
    path = child(
        tmp_path,
        "data:\n  visits:\n    10420-01: null\n"
        '    mine: {proposal: 1, visit: "01", field_type: extragalactic, split: train}\n',
    )
    assert set(read_recipe(path).data.visits) == set(read_recipe(MINE).data.visits) - {"10420-01"} | {"mine"}


def test_settings_override_fields_and_take_yaml_values():
    recipe = read_recipe(MINE, ["train.augmentation.sky=null", "build.stamps.size=128", "instrument.filters=[F435W]"])
    assert recipe.train.augmentation.sky is None
    assert recipe.build.stamps.size == 128
    assert recipe.instrument.filters == ["F435W"]


@pytest.mark.parametrize(
    ("text", "expectation"),
    [
        (
            "train:\n  schedule:\n    learning_rate: -1\n",
            "mine.yaml:4: train.schedule.learning_rate: expected greater than 0, got -1",
        ),
        ("build:\n  stamp: {}\n", "mine.yaml:3: build.stamp: expected no such key; remove it or correct its name"),
        (
            "train: {schedule: {learning_rate: 1e-3}}\n",
            "train.schedule.learning_rate: expected a number, got the text '1e-3'; YAML needs 1.0e-3 for 1e-3",
        ),
        ("build: {ignore: {keep_bits: [-1]}}\n", "build.ignore.keep_bits.0: expected greater than 0, got -1"),
        ("train: {augmentation: {sky: [3.0, -0.9]}}\n", "train.augmentation.sky: expected the smaller number first"),
        ("task: paint\n", "mine.yaml:2: task: expected 'mask' or 'inpaint', got 'paint'"),
        ("build:\n  seed: 900000\n", "mine.yaml:3: build.seed: expected less than 900000, got 900000"),
        ("rehearsal: {seed: 999999}\n", "mine.yaml:2: rehearsal: expected seeds below 1000000, each of which has a patch"),
        ("build: {stamps: {size: 2048}}\n", "build.stamps that fit a chip of 2048 x 4096 pixels, got 2048 + 2 x 128"),
        (
            'data:\n  visits:\n    mine: {proposal: 1, visit: "01", field_type: extragalactic}\n',
            "mine.yaml:4: data.visits.mine: expected a split, train or test, for a visit that is named",
        ),
        (
            'data:\n  visits:\n    mine: {proposal: 10420, visit: "01", field_type: extragalactic, split: test}\n',
            "expected each visit in one rule, got 10420-01 in 10420-01 and in mine",
        ),
    ],
)
def test_a_wrong_field_is_named_with_file_line_value_and_expectation(tmp_path, text, expectation):
    assert expectation in refused(child(tmp_path, text))


def test_an_error_in_a_base_names_the_base(tmp_path):
    base = child(tmp_path, "build:\n  sky: dark\n").rename(tmp_path / "base.yaml")
    assert f"{tmp_path}/base.yaml:3: build.sky: expected 'mdrizsky' or 'measured'" in refused(child(tmp_path, "", base))


def test_an_error_in_a_setting_names_the_setting():
    assert (
        refused(MINE, "build.sky=dark") == "--set build.sky=dark: build.sky: expected 'mdrizsky' or 'measured', got 'dark'"
    )
    assert refused(MINE, "instrument.filters=[[1]]").startswith("--set instrument.filters=[[1]]: instrument.filters.0: ")
    with pytest.raises(UsageError, match=r"expected path\.to\.field=VALUE"):
        read_recipe(MINE, ["build.sky"])


def test_a_rule_that_is_to_go_and_is_not_there_is_an_error(tmp_path):
    where = "data.visits.10420-99: expected the name of an inherited rule"
    assert refused(MINE, "data.visits.10420-99=null") == f"--set data.visits.10420-99=null: {where}"
    path = child(tmp_path, "data:\n  visits:\n    10420-99: null\n")
    assert refused(path) == f"{path}:4: {where}"


def test_a_missing_section_is_named(tmp_path):
    path = tmp_path / "empty.yaml"
    path.write_text("name: X\ntask: mask\n")
    assert f"{path}: instrument: expected a value, got none; add the key" in refused(path)


def test_recipes_that_extend_each_other_are_refused(tmp_path):
    one, two = tmp_path / "one.yaml", tmp_path / "two.yaml"
    one.write_text("extends: two.yaml\n")
    two.write_text("extends: one.yaml\n")
    assert "expected another recipe, got one that extends this one" in refused(one)
    one.write_text("name: X\nextends: nowhere.yaml\n")
    assert refused(one) == f"{one}:2: extends: expected another recipe's file, got 'nowhere.yaml'"


BOMB = "a0: &a0 [1, 1]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 40))
HOSTILE = {
    "bomb": BOMB,
    "endless": "&a [*a]",
    "tag": "!!python/object/apply:os.system [ls]",
    "deep": "[" * 5000,
    "open": "{",
    "twice": "a: 1\na: 2",
    "date": "a: 2020-13-01",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_yaml_that_may_do_harm_is_refused(tmp_path, text):
    path = tmp_path / "hostile.yaml"
    path.write_text(text)
    assert f"{path}: expected a YAML document" in refused(path)


def test_editors_find_the_shipped_recipes_valid_by_the_json_schema():
    schema = recipe_json_schema()
    for path in [*shipped_recipes().values(), *(CHECKOUT / "recipes" / "base").glob("*.yaml")]:
        jsonschema.validate(yaml.safe_load(path.read_text()), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"build": {"sky": "dark"}}, schema)
    assert json.loads((locations.data_root() / "recipes" / "recipe.schema.json").read_text()) == schema


def test_one_field_of_a_rehearsals_stamps_leaves_the_others_as_they_were():
    stamps = read_recipe(find_recipe("wfc3-uvis"), ["rehearsal.stamps.validation_fraction=0.1"]).rehearsal.stamps
    assert (stamps.size, stamps.border, stamps.validation_fraction) == (128, 32, 0.1)
