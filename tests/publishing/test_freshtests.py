"""Fresh test visits of a run: simulated, judged, and what is published of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from deepcr_zoo.bench.benchdata import find_data
from deepcr_zoo.bench.freshtests import JUDGING_CHANGES, with_fresh_tests
from deepcr_zoo.bench.results import read_results
from deepcr_zoo.bench.runs import Run
from deepcr_zoo.bench.subjects import find_subject
from deepcr_zoo.cli.main import app
from deepcr_zoo.dataset.plans import plan_build
from deepcr_zoo.errors import PublishError, UsageError
from deepcr_zoo.progress import NullReporter
from deepcr_zoo.publishing.releases import release_of_run
from deepcr_zoo.zoo.recipefiles import find_recipe, read_recipe

RECIPE = """
extends: {ccd_any}
name: CCD-TINY-2-4
data:
  simulated:
    side: 160
    visits:
      extragalactic: {{train: 2, validation: 1, test: 1}}
      globular_cluster: {{train: 0, validation: 0, test: 1}}
      resolved_galaxy: {{train: 0, validation: 0, test: 0}}
      spectrum: {{train: 0, validation: 0, test: 0}}
build: {{stamps: {{size: 64}}}}
train: {{architecture: {{depth: 2, hidden: 4}}, schedule: {{max_epochs: 2, freeze_after_epochs: 1, batch_size: 4}}}}
benchmark: {{lacosmic_sigclips: [5.0, 10.0], lacosmic_objlims: [5.0], bootstrap_blocks: 100}}
"""


def page(release):
    return release.files["README.md"].decode()


def kept(folder):
    return {path.stem.removeprefix("results-"): read_results(path) for path in folder.glob("results-*.json")}


def typed(*words, status=0):
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == status, f"{words}\n{done.output}"
    return done


def first_seed(weights_sha256):
    return with_fresh_tests(read_recipe(find_recipe("ccd-any")), weights_sha256).data.simulated.seed


def test_there_are_as_many_and_none_to_train_on():
    recipe = read_recipe(find_recipe("ccd-any"))
    fresh = with_fresh_tests(recipe, "ab" * 32)
    assert {kind: vars(one) for kind, one in fresh.data.simulated.visits.items()} == {
        kind: {"train": 0, "validation": 0, "test": one.test} for kind, one in recipe.data.simulated.visits.items()
    }
    assert fresh.train == recipe.train
    assert fresh.gates == recipe.gates


def test_seeds_follow_from_the_weights_and_are_none_of_the_recipe():
    assert first_seed("ab" * 32) == first_seed("ab" * 32) != first_seed("ac" * 32)
    # 900,000 seeds, of which 2,275 are of the recipe, and a block of 220 fits between
    found = {first_seed(f"{number:064x}") for number in (*range(19_779, 19_783), 0, 897_286)}
    assert found == {19_779, 19_780, 22_275, 22_276, 0, 899_780}


def test_fresh_visits_that_led_to_another_way_of_judging_are_replaced_by_others(monkeypatch):
    count = sum(one.test for one in read_recipe(find_recipe("ccd-any")).data.simulated.visits.values())
    before = first_seed("ab" * 32)
    monkeypatch.setitem(JUDGING_CHANGES, "mask", 1)
    assert abs(first_seed("ab" * 32) - before) >= count


def test_a_recipe_of_real_exposures_has_no_fresh_ones():
    with pytest.raises(UsageError, match=r"simulates its test visits \(data\.simulated\)"):
        with_fresh_tests(read_recipe(find_recipe("acs-wfc-f606w")), "ab" * 32)


@pytest.mark.slow
def test_a_run_is_judged_on_fresh_visits_beside_its_own_and_published_with_them(tmp_path, monkeypatch):
    monkeypatch.setenv("DEEPCR_ZOO_DATA", str(tmp_path / "data"))
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(RECIPE.format(ccd_any=find_recipe("ccd-any")))
    folder = Path(typed("train", recipe, "--runs", tmp_path / "runs", "--no-prove").stdout.split()[-1])
    run, quick = Run.open(folder), ["--no-runtime", "--against", "none"]
    typed("bench", folder, *quick, status=1)  # two epochs pass no gate
    own = run.results()
    assert "simulated for this benchmark" not in page(release_of_run(run))
    typed("bench", folder, "--fresh", *quick, status=1)
    fresh = run.results()
    first = with_fresh_tests(run.recipe, run.model("cpu", "torch").sha256).data.simulated.seed
    assert fresh.data.seeds == [first, first + 1]
    assert fresh.cautions[-1] == f"{run.reference}: judged on other data than the test visits of its run"
    assert kept(folder) == {own.data.manifest_sha256[:8]: own}

    release = release_of_run(run)
    gates = {one.gate: one for one in release.verdict.gates}
    assert gates["no sky is shared by training and test"].verdict == "passes"
    assert gates["files are what they were"].measured.startswith("recipe, manifest and 7 files of stamps are unchanged")
    assert gates["labels are sound"].measured.startswith("7 exposures")
    assert "with seeds that follow from the hash of the weights" in page(release)
    assert release.remarks[0] == f"judged on fresh test visits (seeds {first} to {first + 1}), not on its own"

    # either benchmark can be repeated, and keeps the other
    typed("bench", folder, "--fresh", *quick, status=1)
    assert kept(folder).keys() == {own.data.manifest_sha256[:8]}
    typed("bench", folder, *quick, status=1)
    assert kept(folder).keys() == {own.data.manifest_sha256[:8], fresh.data.manifest_sha256[:8]}
    typed("bench", folder, "--fresh", *quick, status=1)

    written = (folder / "results.json").read_text()
    edited = json.loads(written)
    edited["data"]["manifest_sha256"] = "a" * 64
    (folder / "results.json").write_text(json.dumps(edited))
    with pytest.raises(PublishError, match="was benchmarked on another training set than its own"):
        release_of_run(run)
    (folder / "results.json").write_text(written)
    (plan_build(with_fresh_tests(run.recipe, run.model("cpu", "torch").sha256)).folder / "manifest.json").unlink()
    with pytest.raises(PublishError, match=f"deepcr-zoo bench {folder} --fresh makes what is missing"):
        release_of_run(run)


@pytest.mark.parametrize(
    ("given", "problem"),
    [("ccd-any", "leave out --data"), (None, "models of the zoo bring no data")],
)
def test_fresh_visits_are_those_of_a_run(given, problem):
    with pytest.raises(UsageError, match=problem):
        find_data(given, [find_subject("ACS-WFC-F606W-2-4")], fresh=True, reporter=NullReporter())
