"""Training sets of recipes whose exposures are simulated, labelled by their truth."""

import os
import re

import numpy as np
import pytest
import safetensors.numpy
from astropy.io import fits

from deepcr_zoo.bench.benchdata import check_data, describe
from deepcr_zoo.dataset.build import build_dataset
from deepcr_zoo.dataset.labels import label_visit
from deepcr_zoo.dataset.overview import write_report
from deepcr_zoo.dataset.plans import plan_build
from deepcr_zoo.dataset.store import MANIFEST_FILE, Home, recipe_key
from deepcr_zoo.errors import DataError, InterruptedWorkError, InvalidDocumentError, UsageError
from deepcr_zoo.simulate.visits import visit_of, write
from deepcr_zoo.training.runs import new_run
from deepcr_zoo.zoo.recipefiles import find_recipe, read_recipe

SMALL = [
    "data.simulated.side=160",
    "build.stamps.size=64",
    "data.simulated.visits.extragalactic={train: 2, validation: 1, test: 1}",
    "data.simulated.visits.globular_cluster={train: 0, validation: 0, test: 0}",
    "data.simulated.visits.resolved_galaxy={train: 0, validation: 0, test: 0}",
    "data.simulated.visits.spectrum={train: 1, validation: 0, test: 1}",
]


def recipe_with(*settings):
    return read_recipe(find_recipe("ccd-any"), [*SMALL, *settings])


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    recipe = recipe_with()
    return recipe, build_dataset(recipe, home=Home(tmp_path_factory.mktemp("home")))


def test_every_visit_has_a_camera_of_its_own_and_a_use_as_a_whole(built):
    _, dataset = built
    uses = {visit.record.name: [*visit.stamps[0]] for visit in dataset.manifest.visits}
    assert uses == {
        "simulated-extragalactic-20000": ["train"],
        "simulated-extragalactic-20001": ["train"],
        "simulated-extragalactic-20002": ["validation"],
        "simulated-extragalactic-20003": ["test"],
        "simulated-spectrum-20004": ["train"],
        "simulated-spectrum-20005": ["test"],
    }
    assert len({visit.record.instrument for visit in dataset.manifest.visits}) == 6
    assert dataset.manifest.simulated
    assert not dataset.manifest.rehearsal


def test_labels_are_the_charge_above_the_noise(built):
    recipe, dataset = built
    certain, doubtful = recipe.build.truth.snr
    for group in [*dataset.exposures("train"), *dataset.exposures("test")]:
        layers, truth = group.read("cosmic_rays", "ignore"), group.read_truth()
        sigma = truth["cosmic_rays"] / truth["noise"]
        assert np.array_equal(layers["cosmic_rays"] == 1, sigma > certain)
        assert np.array_equal(layers["ignore"] == 1, (sigma > doubtful) & (sigma <= certain))


def test_the_results_call_the_data_synthetic(built):
    recipe, dataset = built
    check_data(dataset, recipe)
    data = describe(dataset, recipe, None)
    assert data.kind == "synthetic"
    assert data.seeds == [20003, 20005]
    assert data.description.startswith("test stamps of CCD-ANY-2-32, simulated, ")
    assert data.labels.startswith("the truth of simulated exposures, written by deepcr-zoo")


def test_data_beside_simulated_visits_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"data\.simulated of the recipe simulates its exposures"):
        plan_build(recipe_with(), [tmp_path], home=Home(tmp_path))


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        (["data.simulated.seed=899999"], "expected below|seeds below 900000"),
        (["data.simulated.cameras=null"], "exposure_time_s of extragalactic, globular_cluster, resolved_galaxy, spectrum"),
        (["data.simulated=null"], "either visits, one rule or more, or simulated"),
        (["data.visits={a: {field_type: spectrum}}"], "either visits, one rule or more, or simulated"),
    ],
)
def test_simulated_data_that_cannot_be_is_refused(settings, problem):
    with pytest.raises(InvalidDocumentError, match=problem):
        recipe_with(*settings)


def test_other_visits_are_another_training_set():
    assert recipe_key(recipe_with(), False) != recipe_key(recipe_with("data.simulated.seed=30000"), False)
    assert recipe_key(recipe_with(), False) != recipe_key(recipe_with("data.simulated.cameras.in_orbit=0.5"), False)
    assert recipe_key(recipe_with(), False) == recipe_key(recipe_with("train.seed=5"), False)
    muons = (recipe_with(f"instrument.simulation={{muons_per_cm2_min: {rate}}}") for rate in (1, 500))
    assert len({recipe_key(one, False) for one in muons}) == 2


def test_simulated_exposures_in_a_folder_are_labelled_by_the_truth_beside_them(tmp_path):
    recipe = read_recipe(find_recipe("practice-ccd"), ["build.labels=truth", "build.quality.min_exposures=1"])
    for seed in (1, 2, 3, 4):
        write(visit_of(recipe, "extragalactic", seed, 1, 600.0, 256), tmp_path / "nights" / str(seed))
    (tmp_path / "nights" / "4").rename(tmp_path / "without")
    dataset = build_dataset(recipe, [tmp_path / "nights"], home=Home(tmp_path / "home"))
    assert len(dataset.manifest.visits) == 3
    assert not dataset.manifest.simulated
    before = dataset.manifest.visits
    truth = next((tmp_path / "nights").rglob("*_truth.safetensors"))
    arrays = safetensors.numpy.load_file(truth)
    safetensors.numpy.save_file({**arrays, "cosmic_rays_1": arrays["cosmic_rays_1"] * 2}, truth)
    after = build_dataset(recipe, [tmp_path / "nights"], home=Home(tmp_path / "home")).manifest.visits
    assert sum(one.record.key == other.record.key for one, other in zip(before, after, strict=True)) == 2
    for truth in (tmp_path / "without").glob("*.safetensors"):
        truth.unlink()
    left_out = build_dataset(recipe, [tmp_path / "nights", tmp_path / "without"], home=Home(tmp_path / "home")).manifest
    assert len(left_out.visits) == 3
    assert any("truth" in one.reason for one in left_out.rejected)
    one, other, *_ = sorted((tmp_path / "nights").rglob("*_truth.safetensors"))
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)
    swapped = build_dataset(recipe, [tmp_path / "nights"], home=Home(tmp_path / "home")).manifest
    assert any("is not the truth of" in one.reason for one in swapped.rejected)  # each with ten bright pixels or more


def test_a_name_that_ends_with_a_number_is_an_observation_of_its_own(tmp_path):
    recipe = read_recipe(find_recipe("practice-ccd"), ["build.labels=truth", "build.quality.min_exposures=1"])
    for night in ("第一夜", "ночь"):
        write(visit_of(recipe, "extragalactic", len(night), 1, 600.0, 256), tmp_path / night)
        fits.delval(next((tmp_path / night).glob("*.fits")), "ROOTNAME")  # the name of the file stands for it
        for path in (tmp_path / night).iterdir():
            path.rename(path.with_name(re.sub(r"sim\d+e01", "obs-0001", path.name)))
    write(visit_of(recipe, "extragalactic", 9, 1, 600.0, 256), tmp_path / "plain")
    visits = build_dataset(recipe, [*tmp_path.iterdir()], home=Home(tmp_path / "home")).manifest.visits
    names = {one.observation for visit in visits for one in visit.record.exposures}
    assert len(names) == 3
    assert {"obs-0001", "sim0000009e01"} < names
    assert any(re.fullmatch(r"[0-9a-f]{8}-obs-0001", name) for name in names)


def test_a_truth_that_changes_after_its_visit_was_planned_is_not_taken(tmp_path):
    recipe = read_recipe(find_recipe("practice-ccd"), ["build.labels=truth", "build.quality.min_exposures=1"])
    write(visit_of(recipe, "extragalactic", 1, 1, 600.0, 256), tmp_path / "night")
    home = Home(tmp_path / "home")
    (visit,) = plan_build(recipe, [tmp_path / "night"], home=home).visits
    (truth,) = (tmp_path / "night").glob("*_truth.safetensors")
    arrays = safetensors.numpy.load_file(truth)
    safetensors.numpy.save_file({**arrays, "cosmic_rays_1": arrays["cosmic_rays_1"] * 0}, truth)
    with pytest.raises(InterruptedWorkError, match=r"_truth\.safetensors: has changed since its visit was planned"):
        label_visit(visit, home)
    assert not home.visit(visit.key).exists()
    truth.write_bytes(b"")
    os.truncate(truth, 30_000_000)  # a file of holes
    with pytest.raises(DataError, match=r"_truth\.safetensors: cannot be read: is made of holes"):
        plan_build(recipe, [tmp_path / "night"], home=home)


@pytest.mark.slow
def test_a_second_build_leaves_the_manifest_by_which_runs_know_their_training_set(tmp_path, monkeypatch):
    recipe = read_recipe(find_recipe("practice-ccd"), ["build.labels=truth", "build.quality.min_exposures=1"])
    for seed in (1, 2):
        write(visit_of(recipe, "extragalactic", seed, 1, 600.0, 256), tmp_path / "nights" / str(seed))
    (tmp_path / "nights" / "damaged.fits").write_text("not found")
    monkeypatch.chdir(tmp_path)
    home = Home(tmp_path / "home")
    first = build_dataset(recipe, ["nights"], home=home)
    write_report(first)
    run = new_run(recipe, first, tmp_path / "runs", "")
    before = {path: path.read_bytes() for path in first.folder.rglob("*.*")}
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "another.fits").write_text("not found")
    second = build_dataset(recipe, [tmp_path / "nights", "more"], home=home)
    assert {path: path.read_bytes() for path in first.folder.rglob("*.*")} == before
    assert run.dataset().manifest == first.manifest
    assert run.dataset(second).folder == first.folder
    # what this build has left out is told all the same
    left_out = [str(tmp_path / "nights" / "damaged.fits"), "more/another.fits"]
    assert sorted(one.what for one in second.manifest.rejected) == sorted(left_out)
    assert "more/another.fits" in write_report(second)[-1].read_text()
    # a manifest of other stamps is replaced, with the report on it
    path = first.folder / MANIFEST_FILE
    path.write_text(path.read_text().replace(first.manifest.visits[0].record.software, "another"))
    build_dataset(recipe, ["nights"], home=home)
    assert path.read_bytes() == before[path]
    assert [one.name for one in first.folder.rglob("*.*")] == [MANIFEST_FILE]
