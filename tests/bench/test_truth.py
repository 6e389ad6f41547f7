"""Networks against the truth of simulated exposures, beside the labels of real ones."""

import pytest

from deepcr_zoo.bench.gates import Evidence, Gate, checks_of_trained
from deepcr_zoo.bench.judging import Extent, benchmark
from deepcr_zoo.bench.maskbenchmark import BEST
from deepcr_zoo.bench.report.htmlpage import render
from deepcr_zoo.bench.results import BenchmarkResults, Interval, read_results, write_results
from deepcr_zoo.bench.subjects import find_subject
from deepcr_zoo.dataset.reading import Dataset
from deepcr_zoo.errors import InvalidDocumentError, TrainingError
from deepcr_zoo.training.pipeline import train
from tests.bench.stamps import recipe_of

TRUTH = (
    "benchmark.truth={visits: {extragalactic: {test: 1}}, exposure_time_s: {extragalactic: 400}, side: 512, seed: 3100}",
    "build.stamps={size: 128, border: 32, validation_fraction: 0.2}",
    "benchmark.lacosmic_objlims=[2.0, 5.0]",
    "benchmark.lacosmic_sigclips=[4.0, 10.0]",
)
MODEL = "mask/ACS-WFC-F606W-2-4"


@pytest.fixture(scope="module")
def recipe():
    return recipe_of(*TRUTH)


@pytest.fixture(scope="module")
def results(recipe, dataset, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEEPCR_ZOO_DATA", str(tmp_path_factory.mktemp("data")))
        extent = Extent(runtime=False, gates=False)
        return benchmark([find_subject(MODEL)], dataset, recipe, "bench", extent=extent, device="cpu", engine="torch")


def test_the_truth_is_that_of_simulated_exposures_and_stands_beside_the_labels(results):
    truth = results.truth
    assert truth.data.kind == "synthetic"
    assert truth.data.seeds == [3100]
    assert truth.data.labels != results.data.labels
    assert [one.name for one in truth.methods] == [one.name for one in results.methods]
    network = truth.methods[0].fields["extragalactic"]
    assert 0.5 < network.at_fpr[-1].tpr <= 1
    assert truth.data.pixels["extragalactic"].cosmic_rays > 500


def test_results_with_a_truth_are_read_as_they_were_written_and_drawn(results, tmp_path):
    write_results(results, tmp_path / "results.json")
    assert read_results(tmp_path / "results.json") == results
    page = render(results, {}, [])
    assert "Against the truth of simulated exposures" in page
    without = results.model_copy(update={"truth": None})
    assert "Against the truth" not in render(without, {}, [])


def test_field_types_of_the_truth_are_the_same_for_all_methods(results, tmp_path):
    one = results.truth.methods[0].model_copy(update={"fields": {}})
    broken = results.model_copy(update={"truth": results.truth.model_copy(update={"methods": [one]})})
    write_results(broken, tmp_path / "results.json")
    with pytest.raises(InvalidDocumentError, match="field types of data"):
        read_results(tmp_path / "results.json")


def _verdicts(results: BenchmarkResults, recipe, dataset: Dataset):
    subject = find_subject(MODEL)
    evidence = Evidence(subject, subject.model("cpu", "torch"), recipe, results, dataset)
    checks = [one for one in checks_of_trained(evidence) if one.gate == Gate.ABOVE_LACOSMIC_IN_TRUTH]
    assert [one.details["percent"] for one in checks] == [0.05, 0.5]
    return [one.result() for one in checks]


def test_a_lead_over_lacosmic_against_the_labels_alone_is_not_enough(results, recipe, dataset):
    for low, high, expected in ((0.01, 0.05, "passes"), (-0.01, 0.05, "fails")):
        lead = {"value": (low + high) / 2, "interval": Interval(low=low, high=high, blocks=9)}
        comparisons = [one.model_copy(update=lead if one.against == BEST else {}) for one in results.truth.comparisons]
        truth = results.truth.model_copy(update={"comparisons": comparisons})
        found = _verdicts(results.model_copy(update={"truth": truth}), recipe, dataset)
        assert [one.verdict for one in found] == [expected, expected]


def test_results_from_before_the_recipe_named_a_truth_fail_its_gates(results, recipe, dataset):
    found = _verdicts(results.model_copy(update={"truth": None}), recipe, dataset)
    assert {one.verdict for one in found} == {"fails"}
    assert "run it again" in found[0].measured


def test_a_truth_without_test_visits_is_refused():
    with pytest.raises(InvalidDocumentError, match="one for testing or more, got none of extragalactic"):
        recipe_of("benchmark.truth={visits: {extragalactic: {train: 1}}, exposure_time_s: {extragalactic: 400}}")


def test_a_set_for_judging_alone_trains_nothing(recipe, tmp_path, monkeypatch):
    monkeypatch.setenv("DEEPCR_ZOO_DATA", str(tmp_path / "data"))
    with pytest.raises(TrainingError, match="has no train stamp"):
        train(recipe.of_truth, runs=tmp_path / "runs")
