"""Expectations of recipes, and the commands around them."""

import json

import pytest
from typer.testing import CliRunner

from deepcr_zoo.cli.main import app
from deepcr_zoo.dataset.expectations import doubts, expected, expected_rehearsal, expected_truth
from deepcr_zoo.errors import OutputError
from deepcr_zoo.zoo.recipefiles import find_recipe, read_recipe


def run(*arguments):
    return CliRunner().invoke(app, ["recipe", *arguments])


def totals(name):
    rows = expected(read_recipe(find_recipe(name)))
    return {split: sum(row.stamps for row in rows if row.split == split) for split in ("train", "test")}


def test_the_stamps_of_table_1_are_counted_with_and_without_its_short_visit():
    assert totals("acs-wfc-f606w-inpaint-2-32") == {"train": 8190, "test": 3360}
    assert totals("acs-wfc-f606w") == {"train": 7350, "test": 3360}


def test_the_visits_of_kwon_2021_are_all_there():
    rows = expected(read_recipe(find_recipe("acs-wfc")))
    assert sum(row.visits for row in rows if row.split == "train") == 38
    assert sum(row.visits for row in rows if row.split == "test") == 12


def test_a_rehearsal_is_counted_by_its_own_sizes():
    rows = expected_rehearsal(read_recipe(find_recipe("wfc3-uvis"), ["rehearsal.exposures=4", "rehearsal.visits.train=3"]))
    assert {(row.split, row.exposures, row.stamps) for row in rows} == {("train", 12, 12 * 49), ("test", 4, 4 * 49)}


def test_simulated_visits_are_counted_also_those_of_the_truth():
    recipe = read_recipe(find_recipe("ccd-any"), ["data.simulated.visits={spectrum: {train: 3, validation: 2, test: 4}}"])
    rows = {(row.split, row.field_type): (row.visits, row.exposures, row.stamps) for row in expected(recipe)}
    assert rows["train", "spectrum"] == (5, 5, 5 * 16)
    assert rows["test", "spectrum"] == (4, 4, 4 * 16)
    assert totals("ccd-any")["train"] > 20_000
    truth = expected_truth(read_recipe(find_recipe("acs-wfc-f606w"), ["benchmark.truth.exposures=2"]))
    assert [(row.split, row.visits, row.exposures, row.stamps) for row in truth] == [("test", 3, 6, 6 * 9)] * 3
    assert expected_truth(recipe) == []
    assert '"truth": [' in run("check", "acs-wfc-f606w", "--json").output


def test_uncertain_parts_of_a_recipe_are_listed():
    assert any("visits by query" in doubt for doubt in doubts(read_recipe(find_recipe("wfc3-uvis"))))
    assert not any("query" in doubt for doubt in doubts(read_recipe(find_recipe("acs-wfc-f606w"))))
    new = read_recipe(find_recipe("acs-wfc-f606w"), ["instrument.detector=HRC"])
    assert [doubt for doubt in doubts(new) if "HST ACS HRC is not described yet" in doubt]


def test_visits_that_are_simulated_need_no_check_against_the_archive():
    given, simulated = (doubts(read_recipe(find_recipe(name))) for name in ("acs-wfc-f606w", "acs-wfc-f606w-3-16"))
    assert any("checked against the archive" in doubt for doubt in given)
    assert not any("checked against the archive" in doubt for doubt in simulated)


@pytest.mark.parametrize(
    ("setting", "what"),
    [
        ("rehearsal.side=352", "a rehearsal"),
        ("rehearsal.stamps.size=480", "a rehearsal"),
        ("build.stamps.size=1504", "a training"),
    ],
)
def test_chips_that_leave_no_training_stamp_are_doubtful(setting, what):
    recipe = find_recipe("acs-wfc-f606w")
    assert any(f"{what} would have no stamps: chips of" in doubt for doubt in doubts(read_recipe(recipe, [setting])))
    assert not any("no stamps" in doubt for doubt in doubts(read_recipe(recipe)))


@pytest.mark.parametrize(("seed", "reserved"), [(1000, False), (899_991, False), (899_992, True), (900_000, True)])
def test_a_rehearsal_on_reserved_seeds_is_doubtful(seed, reserved):
    recipe = read_recipe(find_recipe("acs-wfc-f606w"), [f"rehearsal.seed={seed}"])
    assert any("independent evaluation" in doubt for doubt in doubts(recipe)) == reserved


def test_check_prints_the_counts_and_takes_settings():
    done = run("check", "acs-wfc-f606w", "--json", "--set", "data.visits.10775-06=null")
    assert done.exit_code == 0
    answer = json.loads(done.stdout)
    assert sum(row["stamps"] for row in answer["expected"]["data"] if row["split"] == "test") == 3360 - 4 * 210
    assert answer["recipe"]["name"] == "ACS-WFC-F606W-2-32"
    assert "7350" in run("check", "acs-wfc-f606w").stdout


def test_a_new_recipe_is_commented_and_valid_and_never_replaces_another(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run("new", "CAM-F1-2-32").stdout == "cam-f1-2-32.yaml\n"
    assert (tmp_path / "cam-f1-2-32.yaml").read_text().count("#") > 20
    assert read_recipe(tmp_path / "cam-f1-2-32.yaml").name == "CAM-F1-2-32"
    assert "cam-f1-2-32.yaml exists" in str(run("new", "CAM-F1-2-32").exception)
    assert "expected letters" in str(run("new", "a/b").exception)


def test_the_schema_is_printed_for_editors():
    assert json.loads(run("schema").stdout)["properties"]["extends"]["type"] == "string"


def test_a_new_recipe_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("no folder")
    error = run("new", "CAM-F1-2-32", "--output", str(tmp_path / "file" / "mine.yaml")).exception
    assert isinstance(error, OutputError)
    assert str(error).startswith(f"{tmp_path}/file/mine.yaml: cannot be written: ")


@pytest.mark.parametrize("words", [["check", "nothing"], ["check"]])
def test_wrong_usage_has_exit_code_2(words):
    done = run(*words)
    assert getattr(done.exception, "exit_code", done.exit_code) == 2
