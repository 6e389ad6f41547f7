"""Fresh test visits of a run: simulated, judged, and what is published of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from deepcr_zoo.bench.benchdata import find_data
from deepcr_zoo.bench.freshtests import with_fresh_tests
from deepcr_zoo.bench.results import read_results
from deepcr_zoo.bench.runs import Run
from deepcr_zoo.bench.subjects import find_subject
from deepcr_zoo.cli.main import app
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


def typed(*words, status=0):
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == status, f"{words}\n{done.output}"
    return done


def test_there_are_as_many_and_none_to_train_on():
    recipe = read_recipe(find_recipe("ccd-any"))
    fresh = with_fresh_tests(recipe, 400_000)
    simulated = fresh.data.simulated
    assert simulated.seed == 400_000
    assert {kind: vars(one) for kind, one in simulated.visits.items()} == {
        kind: {"train": 0, "validation": 0, "test": one.test} for kind, one in recipe.data.simulated.visits.items()
    }
    assert fresh.train == recipe.train
    assert fresh.gates == recipe.gates


@pytest.mark.parametrize(
    ("name", "seed", "problem"),
    [
        ("ccd-any", 20_000, r"a seed of none of its own visits \(20000 to 22274\), got 20000"),
        ("ccd-any", 19_781, "got 19781"),
        ("ccd-any", 899_900, "seeds below 900000, got up to"),
        ("acs-wfc-f606w", 400_000, r"simulates its test visits \(data\.simulated\)"),
    ],
)
def test_seeds_of_the_recipe_and_recipes_of_real_exposures_are_refused(name, seed, problem):
    with pytest.raises(UsageError, match=problem):
        with_fresh_tests(read_recipe(find_recipe(name)), seed)


@pytest.mark.slow
def test_a_run_is_judged_on_fresh_visits_beside_its_own_and_published_with_them(tmp_path, monkeypatch):
    monkeypatch.setenv("DEEPCR_ZOO_DATA", str(tmp_path / "data"))
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(RECIPE.format(ccd_any=find_recipe("ccd-any")))
    folder = Path(typed("train", recipe, "--runs", tmp_path / "runs", "--no-prove").stdout.split()[-1])
    run, quick = Run.open(folder), ["--no-runtime", "--against", "none"]
    typed("bench", folder, *quick, status=1)  # two epochs pass no gate
    own = run.results()
    typed("bench", folder, "--fresh", 500_000, *quick, status=1)
    fresh = run.results()
    assert fresh.data.seeds == [500_000, 500_001]
    assert fresh.data.manifest_sha256 != own.data.manifest_sha256
    assert fresh.cautions[-1] == f"{run.reference}: judged on other visits than the test visits of its run"
    [kept] = folder.glob("results-*.json")
    assert read_results(kept) == own
    typed("bench", folder, "--fresh", 500_000, *quick, status=1)  # the same again replaces itself
    assert [*folder.glob("results-*.json")] == [kept]

    release = release_of_run(run)
    gates = {one.gate: one for one in release.verdict.gates}
    assert gates["no sky is shared by training and test"].verdict == "passes"
    assert gates["files are what they were"].measured.startswith("recipe, manifest and 5 files of stamps are unchanged")
    assert gates["labels are sound"].measured.startswith("7 exposures")
    assert release.measurement is None or release.measurement.seeds == fresh.data.seeds

    edited = json.loads((folder / "results.json").read_text())
    edited["data"]["manifest_sha256"] = "a" * 64
    (folder / "results.json").write_text(json.dumps(edited))
    with pytest.raises(PublishError, match="was benchmarked on another training set than its own"):
        release_of_run(run)


@pytest.mark.parametrize(
    ("given", "problem"),
    [("ccd-any", "leave out --data"), (None, "models of the zoo bring no data")],
)
def test_fresh_visits_are_those_of_a_run(given, problem):
    with pytest.raises(UsageError, match=problem):
        find_data(given, [find_subject("ACS-WFC-F606W-2-4")], fresh=500_000, reporter=NullReporter())
