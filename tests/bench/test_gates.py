"""Every gate passes and fails where it should, with its measured value and its bound."""

import dataclasses
import json
import shutil

import pytest

import deepcr_zoo
from deepcr_zoo.bench.gates import Evidence, Gate, checks_of_trained, verdict
from deepcr_zoo.bench.judging import Extent, benchmark
from deepcr_zoo.bench.maskbenchmark import BEST
from deepcr_zoo.bench.results import CurvePoint, Interval, RateAtFpr, StructuredPixels
from deepcr_zoo.bench.runs import Run
from deepcr_zoo.bench.subjects import Subject, find_subject
from deepcr_zoo.errors import DatasetError
from deepcr_zoo.progress import NullReporter
from deepcr_zoo.zoo.recipe import EnoughTpr
from deepcr_zoo.zoo.registries import default_registry
from deepcr_zoo.zoo.registry import TEST_VECTOR_FILE
from deepcr_zoo.zoo.runfolders import FACTS_FILE
from tests.training.stamps import recipe_of, write_dataset

RECIPE = recipe_of(
    "mask",
    "name=SMALL-2-2",
    "train.schedule.max_epochs=2",
    "train.schedule.freeze_after_epochs=1",
    "benchmark.bootstrap_blocks=100",
    "benchmark.lacosmic_sigclips=[2.5, 60.0]",
    "benchmark.lacosmic_objlims=[2.0]",
)


@pytest.fixture(scope="module")
def evidence(tmp_path_factory):
    """A small network, trained and judged on made-up stamps, beside L.A.Cosmic."""
    home = tmp_path_factory.mktemp("run")
    dataset = write_dataset(home / "data", test=8, recipe=RECIPE)
    run = deepcr_zoo.train(RECIPE, dataset=dataset, runs=home / "runs", prove=False, device="cpu", reporter=NullReporter())
    subject = Subject(run)
    results = benchmark([subject], dataset, RECIPE, "command", extent=Extent(runtime=False), device="cpu")
    return Evidence(subject, subject.model("cpu"), RECIPE, results, dataset)


def checked(evidence, gate, **changes):
    """Return the results of one gate, with parts of the evidence replaced."""
    checks = checks_of_trained(Evidence(**{**vars(evidence), **changes}))
    return [check.result() for check in checks if check.gate is gate]


def only(evidence, gate, **changes):
    """Return the result of a gate that is checked once."""
    (result,) = checked(evidence, gate, **changes)
    return result


def with_network(evidence, **changes):
    """Results in which something of the network's own is replaced."""
    network, *others = evidence.results.methods
    return evidence.results.model_copy(update={"methods": [network.model_copy(update=changes), *others]})


def with_lead(evidence, low, high, against=BEST):
    """Results in which the network is ahead of another method by some points, with an interval."""
    lead = {"value": (low + high) / 2, "interval": Interval(low=low, high=high, blocks=9)}
    comparisons = [one.model_copy(update=lead if one.against == against else {}) for one in evidence.results.comparisons]
    return evidence.results.model_copy(update={"comparisons": comparisons})


def test_the_benchmark_checks_all_gates_of_a_run_and_too_few_blocks_of_sky_fail_it(evidence):
    (found,) = evidence.results.verdicts
    assert (found.reference, found.gate_set, found.passes) == (evidence.subject.reference, "trained", False)
    scored = [f"TPR at FPR {fpr} % is above that of the best L.A.Cosmic" for fpr in ("0.05", "0.5")]
    failed = {one.gate for one in found.gates if one.verdict == "fails"}
    assert failed <= {*scored, Gate.STAR_CORES}
    assert set(scored) <= failed
    assert all(not one.was_measured for one in found.gates if one.gate in scored)
    assert len(found.gates) == len(list(checks_of_trained(evidence)))


def test_a_significant_lead_over_lacosmic_passes_and_any_other_fails(evidence):
    for low, high, expected in ((0.01, 0.05, "passes"), (-0.01, 0.05, "fails"), (0.0, 0.05, "fails")):
        found = checked(evidence, Gate.ABOVE_LACOSMIC, results=with_lead(evidence, low, high))
        assert [one.verdict for one in found] == [expected] * 2
        assert f"{100 * low:+.1f} to {100 * high:+.1f}" in found[0].measured


def test_where_no_setting_of_lacosmic_has_so_few_false_pixels_its_tpr_with_more_is_the_bound(evidence):
    """With fewer false pixels it finds no more."""
    field_type = next(name for name in evidence.results.data.pixels if name != "all")

    def at(fpr, tpr):
        interval = None if tpr is None else Interval(low=tpr - 0.02, high=tpr + 0.02, blocks=9)
        return RateAtFpr(fpr=fpr, reached_fpr=fpr, tpr=tpr, threshold=1.0, tpr_interval=interval)

    def found(ours, theirs, *curve):
        rates = {evidence.subject.reference: [at(0.0005, ours), at(0.005, 0.9)], BEST: [at(0.0005, None), at(0.005, theirs)]}

        def measured(name, curve):
            points = [CurvePoint(threshold=9, fpr=fpr, tpr=tpr) for fpr, tpr in curve] if name == BEST else []
            return {"at_fpr": rates[name], "curve": points}

        methods = [
            one.model_copy(
                update={"fields": {field_type: one.fields[field_type].model_copy(update=measured(one.name, curve))}}
            )
            for one in evidence.results.methods
            if one.name in rates
        ]
        unknown = {"value": None, "interval": None}
        comparisons = [
            one.model_copy(update=unknown if (one.against, one.fpr) == (BEST, 0.0005) else {})
            for one in evidence.results.comparisons
        ]
        results = evidence.results.model_copy(update={"methods": methods, "comparisons": comparisons})
        checks = checked(evidence, Gate.ABOVE_LACOSMIC, results=results)
        return next(one for one in checks if "0.05 %" in one.gate and one.field_type == field_type)

    above, beside = found(0.8, 0.7), found(0.8, 0.77)
    assert (above.verdict, beside.verdict) == ("passes", "fails")
    assert "80.0 % (78.0 to 82.0 %) against at most 70.0 % (68.0 to 72.0 %), its TPR at FPR 0.5 %" in above.measured
    assert "no TPR at this FPR" in found(0.8, None).measured
    lowest = found(0.8, None, (0.02, 0.6), (0.01, 0.3), (0.01, 0.4))
    assert (lowest.verdict, found(0.8, None, (0.01, 0.79)).verdict) == ("passes", "fails")
    assert "80.0 % (78.0 to 82.0 %) against at most 40.0 %, its TPR at FPR 1 %, its lowest" in lowest.measured


def test_a_tpr_that_the_recipe_calls_enough_replaces_the_lead_over_lacosmic(evidence):
    field_type = next(name for name in evidence.results.data.pixels if name != "all")
    network = evidence.results.methods[0]
    rates = [
        one.model_copy(update={"tpr": 0.8, "tpr_interval": Interval(low=0.7, high=0.9, blocks=9)})
        for one in network.fields[field_type].at_fpr
    ]
    fields = {name: one.model_copy(update={"at_fpr": rates}) for name, one in network.fields.items()}
    results = with_network(evidence, fields=fields)
    for tpr, expected in ((0.69, "passes"), (0.71, "fails")):
        enough = [EnoughTpr(field_type=field_type, fpr=0.0005, tpr=tpr)]
        block = evidence.recipe.gates.model_copy(update={"enough": enough})
        recipe = evidence.recipe.model_copy(update={"gates": block})
        found = only(evidence, Gate.ENOUGH_TPR, results=results, recipe=recipe)
        assert (found.gate, found.verdict) == ("TPR at FPR 0.05 % is above what the recipe names", expected)
        assert "FPR 0.5 %" in only(evidence, Gate.ABOVE_LACOSMIC, results=results, recipe=recipe).gate


def test_masked_star_cores_are_weighed_by_their_pixels(evidence):
    field_type = next(name for name in evidence.results.data.pixels if name != "all")
    network = evidence.results.methods[0]
    for rates, expected in (((0.0, 0.02), "passes"), ((0.05, 0.0), "fails")):
        diagnostics = network.fields[field_type].diagnostics
        bins = [
            one.model_copy(update={"pixels": pixels, "rates": [rate, *one.rates[1:]]})
            for one, pixels, rate in zip(diagnostics.star_cores, (300, 100), rates, strict=False)
        ]
        diagnostics = diagnostics.model_copy(update={"star_cores": bins})
        fields = {**network.fields, field_type: network.fields[field_type].model_copy(update={"diagnostics": diagnostics})}
        found = only(evidence, Gate.STAR_CORES, results=with_network(evidence, fields=fields))
        assert found.verdict == expected
        assert found.measured == f"{100 * (300 * rates[0] + 100 * rates[1]) / 400:.2f} % of 400 pixels"


def test_masks_in_lines_along_trails_or_on_the_same_pixels_fail(evidence):
    field_type = next(name for name in evidence.results.data.pixels if name != "all")
    network = evidence.results.methods[0]
    assert network.fields[field_type].structures is not None
    for parts, expected in (((10, 10, 29), "passes"), ((0, 0, 51), "fails"), ((51, 0, 0), "fails"), ((0, 51, 0), "fails")):
        found = StructuredPixels(masked=1000, in_lines=parts[0], in_trails=parts[1], persistent=parts[2])
        fields = {**network.fields, field_type: network.fields[field_type].model_copy(update={"structures": found})}
        gate = only(evidence, Gate.STRUCTURES, results=with_network(evidence, fields=fields))
        assert gate.verdict == expected
        assert gate.measured.startswith(f"{sum(parts) / 10:.2f} % of 1000 pixels (in lines {parts[0]}, ")
        assert "of the labels" in gate.measured


def test_missing_figures_and_other_weights_do_not_pass(evidence):
    network = evidence.results.methods[0]
    fields = {name: one.model_copy(update={"diagnostics": None}) for name, one in network.fields.items()}
    method = network.method.model_copy(update={"sha256": "0" * 64})
    results = with_network(evidence, fields=fields, method=method)
    assert only(evidence, Gate.STAR_CORES, results=results).verdict == "fails"
    assert "are not those that were judged" in only(evidence, Gate.FILES, results=results).measured


def test_figures_count_only_for_the_input_and_output_they_were_measured_with(evidence):
    method = evidence.results.methods[0].method
    for contract in (None, "0" * 64):
        changed = method.model_copy(update={"contract_sha256": contract})
        found = only(evidence, Gate.FILES, results=with_network(evidence, method=changed))
        text = "input, output or tolerance of the card are not those that were judged"
        assert (found.verdict, found.measured) == ("fails", text)


def test_figures_of_another_model_do_not_count(evidence):
    results = evidence.results.model_copy(update={"methods": evidence.results.methods[1:]})
    assert "the benchmark has no figures of" in only(evidence, Gate.FILES, results=results).measured


def test_a_run_is_compared_with_the_default_or_the_newest_version_before_its_own(evidence, monkeypatch):
    entry = default_registry().entries["mask/ACS-WFC-F606W-2-32"].model_copy(update={"name": "SMALL-2-2"})
    registry = dataclasses.replace(default_registry(), entries={entry.reference: entry})
    monkeypatch.setattr("deepcr_zoo.bench.subjects.default_registry", lambda: registry)
    card = evidence.subject.card()

    def version_before(own):
        identity = card.identity.model_copy(update={"version": own})
        monkeypatch.setattr(type(evidence.subject), "card", lambda self: card.model_copy(update={"identity": identity}))
        previous = evidence.subject.previous()
        return previous and previous.reference

    assert version_before("1.0") is None  # it is the default itself, published
    assert version_before("0.9") == "mask/SMALL-2-2@1.0"  # a smaller number does not evade the comparison
    assert version_before("2.0") == version_before("3.0") == "mask/SMALL-2-2@1.0"
    registry.entries[entry.reference] = entry.model_copy(update={"default": "2.0"})
    assert version_before("3.0") == "mask/SMALL-2-2@2.0"
    assert version_before("2.0") == "mask/SMALL-2-2@1.0"


def test_a_card_with_open_points_fails_and_names_them(evidence, tmp_path):
    recipe = RECIPE.model_copy(update={"publish": RECIPE.publish.model_copy(update={"authors": []})})
    dataset = write_dataset(tmp_path / "data", test=8, recipe=recipe)
    run = deepcr_zoo.train(recipe, dataset=dataset, runs=tmp_path, prove=False, device="cpu", reporter=NullReporter())
    gate = only(evidence, Gate.CARD, subject=Subject(run))
    assert gate.verdict == "fails"
    assert "open: identity.authors: the recipe has no publish.authors" in gate.measured
    assert "delete its line in open_points" in gate.measured


def test_changed_stamps_and_a_missing_test_vector_fail_and_the_other_gates_are_checked_nevertheless(evidence, tmp_path):
    dataset = write_dataset(tmp_path / "data", test=8, recipe=RECIPE)
    folder = shutil.copytree(evidence.subject.run.folder, tmp_path / evidence.subject.run.folder.name)
    facts = json.loads((folder / FACTS_FILE).read_text())
    (folder / FACTS_FILE).write_text(json.dumps({**facts, "dataset": str(dataset.folder)}))
    (file,) = list(dataset.home.visits.glob("*/*.safetensors"))[:1]
    file.write_bytes(file.read_bytes()[:-1] + b"\1")
    with pytest.raises(DatasetError):
        dataset.verify()
    (folder / TEST_VECTOR_FILE).unlink()
    changed = Evidence(**{**vars(evidence), "subject": Subject(Run.open(folder)), "dataset": dataset})
    found = {check.gate: check.result() for check in checks_of_trained(changed)}
    assert found[Gate.FILES].verdict == found[Gate.TEST_VECTOR].verdict == "fails"
    assert file.name in found[Gate.FILES].measured
    assert TEST_VECTOR_FILE in found[Gate.TEST_VECTOR].measured
    assert found[Gate.CARD].verdict == "passes"
    assert found.keys() == {check.gate for check in checks_of_trained(evidence)}


def test_unusual_labels_fail_and_name_the_exposure(evidence):
    manifest = evidence.dataset.manifest

    def with_first(**changes):
        visit = manifest.visits[0]
        exposures = [visit.record.exposures[0].model_copy(update=changes), *visit.record.exposures[1:]]
        record = visit.record.model_copy(update={"exposures": exposures})
        visits = [visit.model_copy(update={"record": record}), *manifest.visits[1:]]
        dataset = type(evidence.dataset)(
            evidence.dataset.folder, evidence.dataset.home, manifest.model_copy(update={"visits": visits})
        )
        return only(evidence, Gate.LABELS, dataset=dataset)

    assert with_first().verdict == "passes"
    assert with_first(background_ratio=2.5).verdict == "fails"
    assert with_first(rate_ratio=0.3).verdict == "fails"
    assert with_first(rate_ratio=0.3, rate_chance=1e-6).verdict == "fails"
    assert with_first(rate_ratio=0.3, rate_chance=0.2).verdict == "passes"
    assert with_first(star_excess=9.0, star_excess_chance=0.5).verdict == "passes"
    starry = with_first(star_excess=9.0, star_excess_chance=1e-6)
    assert starry.verdict == "fails"
    assert manifest.visits[0].record.exposures[0].name in starry.measured


def test_sky_in_both_training_and_test_fails(evidence):
    manifest = evidence.dataset.manifest
    trained = next(visit for visit in manifest.visits if visit.split == "train")
    visits = [
        *manifest.visits,
        trained.model_copy(update={"split": "test", "stamps": [{"test": [0]}] * len(trained.stamps)}),
    ]
    dataset = type(evidence.dataset)(
        evidence.dataset.folder, evidence.dataset.home, manifest.model_copy(update={"visits": visits})
    )
    gate = only(evidence, Gate.SEPARATE_SKY, dataset=dataset)
    assert gate.verdict == "fails"
    assert trained.record.name in gate.measured


def test_simulated_visits_share_their_sky_if_they_have_the_same_seed_wherever_it_lies(evidence):
    dataset = evidence.dataset
    trained = next(visit for visit in dataset.manifest.visits if visit.split == "train")
    for name, verdict_of_gate in ((trained.record.name, "fails"), ("simulated-extragalactic-99999", "passes")):
        record = trained.record.model_copy(update={"key": "another", "name": name})
        tested = trained.model_copy(
            update={"split": "test", "record": record, "stamps": [{"test": [0]}] * len(trained.stamps)}
        )
        manifest = dataset.manifest.model_copy(update={"visits": [trained, tested], "simulated": True})
        found = only(evidence, Gate.SEPARATE_SKY, dataset=type(dataset)(dataset.folder, dataset.home, manifest))
        assert found.verdict == verdict_of_gate


def by_observation(dataset, name):
    """The same training set, split by observation, with a test visit of this name on the sky of a training visit."""
    manifest = dataset.manifest
    outlines = [[[40.0, 1.0], [40.1, 1.0], [40.1, 1.1], [40.0, 1.1]]]
    first = next(visit for visit in manifest.visits if visit.split == "train")
    trained = first.model_copy(update={"record": first.record.model_copy(update={"outlines": outlines})})
    exposures = [one.model_copy(update={"name": name}) for one in first.record.exposures]
    record = trained.record.model_copy(update={"name": name, "key": "another", "exposures": exposures})
    tested = trained.model_copy(update={"split": "test", "record": record, "stamps": [{"test": [0]}] * len(trained.stamps)})
    changed = manifest.model_copy(update={"visits": [trained, tested], "split_by": "observation"})
    return trained.record.exposures[0].name, type(dataset)(dataset.folder, dataset.home, changed)


def test_a_split_by_observation_may_share_sky_but_no_observation(evidence, monkeypatch):
    monkeypatch.setattr(type(evidence.subject), "run", None)
    trained, dataset = by_observation(evidence.dataset, "another")
    gate = only(evidence, Gate.SEPARATE_OBSERVATIONS, dataset=dataset)
    assert gate.verdict == "passes"
    assert "1 pairs of visits share their sky, as the recipe declares" in gate.measured
    _, dataset = by_observation(evidence.dataset, trained)
    gate = only(evidence, Gate.SEPARATE_OBSERVATIONS, dataset=dataset)
    assert gate.verdict == "fails"
    assert f"and {trained}" in gate.measured


def test_a_first_version_cannot_be_a_regression(evidence):
    found = only(evidence, Gate.NO_REGRESSION)
    assert (found.gate, found.verdict) == ("not worse than the version before", "passes")


def test_an_imported_model_passes_gates_of_its_own(evidence, finder):
    found = verdict(Evidence(**{**vars(evidence), "subject": find_subject(finder.reference), "model": finder}))
    assert (found.gate_set, found.passes) == ("imported", True)
    assert len(found.gates) == 6
    assert any("differs from deepCR" in gate.measured for gate in found.gates)
