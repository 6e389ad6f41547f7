"""A model is never judged on what it was trained on."""

import pytest

from deepcr_zoo import locations
from deepcr_zoo.bench.exclusions import (
    FILE,
    TrainedOn,
    TrainingVisits,
    _is_same_name,
    _shortened,
    of_model,
    reason_to_exclude,
    seen_in_training,
)
from deepcr_zoo.bench.judging import Extent, benchmark
from deepcr_zoo.bench.subjects import find_subject
from deepcr_zoo.documents import read_document
from deepcr_zoo.errors import UsageError
from deepcr_zoo.zoo.cards import read_card
from deepcr_zoo.zoo.registries import default_registry
from deepcr_zoo.zoo.registry import read_registry
from tests.bench.stamps import recipe_of, write_dataset
from tests.registries import SMALL, copy_registry, edit_card

FIELD = ("globular_cluster",)


def real(dataset, name):
    """Return the same training set with all visits real and of this name."""
    manifest = dataset.manifest
    visits = [one.model_copy(update={"record": one.record.model_copy(update={"name": name})}) for one in manifest.visits]
    changed = manifest.model_copy(update={"rehearsal": False, "visits": visits})
    return type(dataset)(dataset.folder, dataset.home, changed)


def test_every_network_of_the_zoo_has_its_training_visits_listed_or_declared_unknown():
    known = read_document(locations.data_root() / FILE, TrainingVisits, locations.data_root())
    registry = default_registry()
    by_card = {name for name in registry.references() if read_card(registry.resolve(name)).training.visits is not None}
    assert known.models.keys() | known.unknown.keys() | by_card == set(registry.references())


def test_a_visit_that_a_model_was_trained_on_excludes_it_and_other_visits_do_not(dataset):
    trained_on = of_model(default_registry().resolve("mask/ACS-WFC-F606W-2-32@1.0"))
    assert "10420-01" in trained_on.visits
    reason = reason_to_exclude(trained_on, real(dataset, "10420-01-F606W"))
    assert "10420-01" in reason
    assert reason_to_exclude(trained_on, real(dataset, "99999-01-F606W")) is None
    assert reason_to_exclude(trained_on, dataset) is None  # simulated


def test_visits_listed_by_a_card_take_precedence_over_the_table(dataset, tmp_path):
    root = copy_registry(tmp_path)
    model = read_registry(root).resolve(SMALL)
    assert "neither its card nor a zoo/training_visits.yaml" in of_model(model).unknown
    edit_card(root, lambda card: card["training"].update(visits=["10420-01", "simulated-globular_cluster-1005"]))
    trained_on = of_model(read_registry(root).resolve(SMALL))
    assert (set(trained_on.visits), trained_on.unknown) == ({"10420-01", "simulated-globular_cluster-1005"}, None)
    assert "the card of mask/ACS-WFC-F606W-2-4@1.0" in reason_to_exclude(trained_on, real(dataset, "10420-01-F814W"))
    assert reason_to_exclude(trained_on, real(dataset, "10420-02-F606W")) is None
    (visit,) = [one.record.name for one in dataset.manifest.visits if "globular" in one.record.name and one.split == "test"]
    simulated = TrainedOn("HST ACS/WFC", {visit: "its card"})
    assert "its card" in reason_to_exclude(simulated, dataset)


def test_a_card_lists_the_visits_of_its_training_set_and_of_the_models_that_it_started_or_learned_from(dataset):
    registry = default_registry()
    new = seen_in_training(recipe_of(), dataset, registry)
    assert new == sorted(one.record.name for one in dataset.manifest.visits if one.split == "train")
    tuned = seen_in_training(recipe_of("train.init_from=ACS-WFC-F606W-2-4@1.0"), dataset, registry)
    assert set(tuned) == {*new, *of_model(registry.resolve(SMALL)).visits}
    assert seen_in_training(recipe_of("train.init_from=DECam-2-32@1.0"), dataset, registry) is None
    assert seen_in_training(recipe_of("train.teacher=ACS-WFC-F606W-2-4@1.0"), dataset, registry) == tuned
    both = ("train.init_from=ACS-WFC-F606W-2-4@1.0", "train.teacher=DECam-2-32@1.0")
    assert seen_in_training(recipe_of(*both), dataset, registry) is None


def test_visit_10190_28_is_for_testing_in_one_paper_and_for_training_in_the_next():
    registry = default_registry()
    assert "10190-28" not in of_model(registry.resolve("mask/ACS-WFC-F606W-2-32@1.0")).visits
    assert "10190-28" in of_model(registry.resolve("mask/ACS-WFC-F606W-2-32@2.0")).visits


def test_unknown_training_counts_against_a_model_on_real_exposures_of_its_instrument(dataset):
    unknown = TrainedOn("HST ACS/WFC", {}, unknown="its visits were never published")
    assert "its visits were never published" in reason_to_exclude(unknown, real(dataset, "99999-01-F606W"))
    assert reason_to_exclude(TrainedOn("HST WFC3/UVIS", {}, unknown="-"), real(dataset, "99999-01-F606W")) is None
    assert reason_to_exclude(unknown, dataset) is None


def test_a_training_set_with_the_same_visit_for_training_excludes_its_model(tmp_path):
    recipe = recipe_of()
    tested = write_dataset(tmp_path / "test", recipe, FIELD)
    trained = write_dataset(tmp_path / "train", recipe, FIELD, test=False)
    reason = reason_to_exclude(TrainedOn("HST ACS/WFC", {}, (trained.manifest,)), tested)
    assert "it was trained on" in reason
    assert reason_to_exclude(TrainedOn("HST ACS/WFC", {}, (tested.manifest,)), tested) is None


def test_where_observations_are_split_another_observation_of_the_visit_does_not_exclude_a_model(dataset, tmp_path):
    def by_observation(dataset, *observations):
        manifest = real(dataset, f"07353-02-G430M-{observations[0]}").manifest
        visits = []
        for visit in manifest.visits:
            names = [f"{one}-{number}" for one in observations for number in (1, 2)]
            exposures = [visit.record.exposures[0].model_copy(update={"name": name}) for name in names]
            visits.append(visit.model_copy(update={"record": visit.record.model_copy(update={"exposures": exposures})}))
        changed = manifest.model_copy(update={"split_by": "observation", "visits": visits})
        return type(dataset)(dataset.folder, dataset.home, changed)

    tested = by_observation(dataset, "o56502050")
    for listed, excluded in {
        "07353-02-o56502050": True,
        "07353-02-o56502020": False,
        "07353-02": True,  # all that the visit has
        "07353-03": False,
    }.items():
        assert (reason_to_exclude(TrainedOn("HST STIS/CCD", {listed: "its card"}), tested) is not None) is excluded
    whole_visit = real(dataset, "07353-02-G430M")
    assert reason_to_exclude(TrainedOn("HST STIS/CCD", {"07353-02-o56502020": "its card"}), whole_visit) is not None
    # two observations on the same pixels are one visit, which is named by the first
    trained = by_observation(write_dataset(tmp_path, recipe_of(), FIELD, test=False), "o56502020", "o56502050")
    assert seen_in_training(recipe_of(), trained, default_registry()) == ["07353-02-o56502020", "07353-02-o56502050"]
    assert reason_to_exclude(TrainedOn("HST STIS/CCD", {}, (trained.manifest,)), tested) is not None


def test_a_model_that_cannot_be_judged_is_named_with_its_reason(dataset):
    alone = Extent(lacosmic=False, runtime=False, gates=False)
    subjects = [find_subject(name) for name in ("mask/ACS-WFC-F606W-2-4", "mask/WFC3-UVIS-2-32", "mask/DECam-2-32")]
    results = benchmark(subjects, dataset, recipe_of(), "command", extent=alone, device="cpu")
    assert [one.reference for one in results.excluded] == ["mask/WFC3-UVIS-2-32@1.0", "mask/DECam-2-32@1.0"]
    assert "normalised by the whole frame" in results.excluded[0].reason
    with pytest.raises(UsageError, match=r"WFC3-UVIS-2-32@1\.0 is not judged: .* normalised by the whole frame"):
        benchmark(subjects[1:2], dataset, recipe_of(), "command", extent=alone, device="cpu")


def test_many_simulated_visits_that_follow_each_other_are_one_name_that_excludes_each(dataset):
    names = [f"simulated-{FIELD[0]}-{number}" for number in range(995, 1009)]
    others = ["10420-01", "10420-02", "simulated-spectrum-1", "simulated-spectrum-2"]
    (row,) = set(_shortened(sorted([*names, *others]))) - set(others)
    assert row == f"simulated-{FIELD[0]}-995..1008"
    assert _shortened(sorted([*names, *others])).count(row) == 1
    gap = sorted([*names[:5], *names[6:]])
    assert _shortened(gap) == gap
    tested = next(group.visit.name for group in dataset.exposures("test", FIELD[0]))
    number = int(tested.rpartition("-")[2])
    assert not _is_same_name(row, f"simulated-{FIELD[0]}-{'1' * 5000}")
    for first, last, is_excluded in ((number - 3, number, True), (number + 1, number + 9, False), (0, 10**8, True)):
        trained_on = TrainedOn("HST ACS/WFC", {f"simulated-{FIELD[0]}-{first}..{last}": "its card"})
        assert (reason_to_exclude(trained_on, dataset) is not None) == is_excluded
