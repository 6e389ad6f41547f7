"""Gates of inpainting ask for an MSE below the baselines': in e-, or for any unit in units of the noise."""

from dataclasses import replace

import pytest

import deepcr_zoo
from deepcr_zoo.bench.gates import Evidence, Gate, checks_of_trained
from deepcr_zoo.bench.judging import Extent, benchmark
from deepcr_zoo.bench.results import BIHARMONIC, IN_NOISE, MEDIAN, Interval
from deepcr_zoo.bench.subjects import Subject
from deepcr_zoo.progress import NullReporter
from tests.training.stamps import BY_NOISE, recipe_of, write_dataset

SETTINGS = ("train.schedule.max_epochs=1", "benchmark.inpainting_stamps=20", "benchmark.bootstrap_blocks=100")


@pytest.fixture(scope="module", params=["e-", "noise"])
def evidence(request, tmp_path_factory):
    recipe = recipe_of("inpaint", "name=SMALL-2-2", *SETTINGS, *(BY_NOISE if request.param == "noise" else ()))
    home = tmp_path_factory.mktemp("run")
    dataset = write_dataset(home / "data", test=8, recipe=recipe)
    run = deepcr_zoo.train(recipe, dataset=dataset, runs=home / "runs", prove=False, device="cpu", reporter=NullReporter())
    subject = Subject(run)
    results = benchmark([subject], dataset, recipe, "command", extent=Extent(runtime=False), device="cpu")
    return Evidence(subject, subject.model("cpu"), recipe, results, dataset), request.param == "noise"


@pytest.mark.parametrize(("lows", "highs", "expected"), [((0.3, 1.3), (0.9, 1.5), "e-"), ((1.3, 0.3), (1.5, 0.9), "noise")])
def test_a_lead_counts_in_the_units_that_the_network_was_trained_in(lows, highs, expected, evidence):
    found, by_noise = evidence
    leads = {
        quantity: {"value": (low + high) / 2, "interval": Interval(low=low, high=high, blocks=9)}
        for quantity, low, high in zip(("MSE ratio", IN_NOISE), lows, highs, strict=True)
    }
    assert {one.against for one in found.results.comparisons} == {MEDIAN, BIHARMONIC}
    comparisons = [one.model_copy(update=leads[one.quantity]) for one in found.results.comparisons]
    results = found.results.model_copy(update={"comparisons": comparisons})
    checks = [one.result() for one in checks_of_trained(replace(found, results=results)) if one.gate is Gate.BELOW_BASELINE]
    assert len(checks) == 2  # baselines, of one field type
    assert {one.verdict for one in checks} == {"passes" if (expected == "noise") == by_noise else "fails"}
    assert {"in units of the noise" in one.bound for one in checks} == {by_noise}
