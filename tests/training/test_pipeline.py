"""Whole runs: from a recipe and its training set to a model, its evaluation and its pictures."""

import errno
import json
import math
import os
import re
import shutil
from contextlib import ExitStack, nullcontext
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import yaml

from deepcr_zoo.bench.judging import Extent, benchmark
from deepcr_zoo.bench.proof import prove_alone
from deepcr_zoo.bench.runs import Run
from deepcr_zoo.bench.subjects import find_subject
from deepcr_zoo.dataset.build import build_dataset
from deepcr_zoo.documents import parse_document
from deepcr_zoo.errors import DatasetError, InvalidDocumentError, OutputError, RunError, TrainingError, UsageError
from deepcr_zoo.models import testvectors
from deepcr_zoo.models.model import MaskModel
from deepcr_zoo.progress import NullReporter
from deepcr_zoo.training.checkpoints import condition, reporting_run_failures
from deepcr_zoo.training.pipeline import resume, train
from deepcr_zoo.zoo.cards import Card
from tests.models.test_isolation import SETTINGS, state
from tests.registries import SMALL
from tests.training.stamps import recipe_of, same_bytes, write_dataset

FILES = {
    ".lock",
    ".deepcr-zoo-bench.json",
    "recipe.yaml",
    "run.json",
    "environment.json",
    "metrics.jsonl",
    "checkpoint.json",
    "model.safetensors",
    "test_vector.safetensors",
    "card.yaml",
    "results.json",
    "loss.png",
    "stamps.png",
}


@pytest.mark.parametrize(
    ("call", "options", "expected"),
    [
        (train, {"recipe": "x", "data": "night"}, "data is str: expected a list"),
        (train, {"recipe": "x", "runs": 5}, "runs is int: expected a path"),
        (train, {"recipe": "x", "jobs": "2"}, "jobs is str: expected a whole number"),
        (train, {"recipe": "x", "rehearse": "no"}, "rehearse is str: expected True or False"),
        (train, {"recipe": "x", "dataset": "folder"}, "dataset is str: expected a training set"),
        (train, {"recipe": None}, "recipe is NoneType: expected a recipe"),
        (resume, {"folder": 5}, "folder is int: expected a path"),
        (resume, {"folder": "x", "recipe": 5}, "recipe is int: expected a recipe"),
        (resume, {}, "missing a required argument: 'folder'"),
        (build_dataset, {"recipe": "acs-wfc-f606w-2-4"}, "recipe is str: expected a recipe, as"),
        (build_dataset, {"recipe": recipe_of("mask"), "home": "folder"}, "home is str: expected a folder"),
        (benchmark, {"subjects": "run", "dataset": 1, "recipe": 1, "command": ""}, "subjects is str: expected a list"),
    ],
)
def test_arguments_of_other_types_are_refused_before_anything_is_done(call, options, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=f"{call.__name__}: {expected}"):
        call(**options)
    assert not list(tmp_path.iterdir())


class Listener(NullReporter):
    """Keeps the messages."""

    def __init__(self):
        self.messages = []

    def message(self, label, text, level="info"):
        self.messages.append(f"{label} {text}")


@pytest.fixture(scope="module")
def recipe():
    return recipe_of("mask")


@pytest.fixture(scope="module")
def dataset(recipe, tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("home") / "home", test=6, recipe=recipe)


@pytest.fixture(scope="module")
def run(recipe, dataset, tmp_path_factory):
    """A run that tests read and do not change."""
    return train(recipe, dataset=dataset, runs=tmp_path_factory.mktemp("runs"), prove=False)


@pytest.fixture
def copied(run, tmp_path):
    """A copy of that run, for tests that change it."""
    return Run.open(shutil.copytree(run.folder, tmp_path / run.folder.parent.name / run.folder.name))


def test_a_run_holds_all_that_came_out_of_its_recipe(run):
    files = {path.name for path in run.folder.iterdir()}
    assert files - {path.name for path in run.folder.glob("checkpoint-*.safetensors")} == FILES
    assert run.folder.parent.name == run.recipe.name == run.facts.name
    assert len(list(run.folder.glob("checkpoint-*.safetensors"))) == 1
    assert len((run.folder / "metrics.jsonl").read_text().splitlines()) == 4
    assert [record.frozen for record in run.history()] == [False, False, True, True]
    assert set(run.results().data.pixels) == {"extragalactic", "all"}


def test_notebooks_show_a_run_with_its_results(run):
    shown = run._repr_html_()
    assert "4 of at most 4" in shown
    assert f"{min(record.validation_loss for record in run.history()):.4g}" in shown
    assert run.results()._repr_html_() in shown


def test_notebooks_show_a_run_whose_results_are_damaged_without_them(copied):
    (copied.folder / "results.json").write_text("{")
    assert "4 of at most 4" in copied._repr_html_()


def test_the_recipe_of_a_run_is_the_one_that_was_trained(run, recipe):
    written = yaml.safe_load((run.folder / "recipe.yaml").read_text())
    assert written["train"]["schedule"]["max_epochs"] == 4
    assert Run.open(run.folder).recipe == run.recipe == recipe


def test_the_model_of_a_run_reproduces_its_test_vector(run):
    model = run.model(device="cpu", engine="torch")
    assert isinstance(model, MaskModel)
    vector = testvectors.read((run.folder / "test_vector.safetensors").read_bytes(), "test vector")
    card = parse_document((run.folder / "card.yaml").read_bytes(), Card, "card.yaml")
    np.testing.assert_allclose(model.predict(vector.image), vector.expected, atol=card.test_vector.tolerance)
    assert card.identity.version == "2.0"  # the registry has a 1.0 of this name


def test_the_same_recipe_gives_the_same_model(run, recipe, dataset, tmp_path):
    again = train(recipe, dataset=dataset, runs=tmp_path, prove=False)
    assert again.folder.name.rpartition("-")[2] == run.folder.name.rpartition("-")[2]
    for name in ("model.safetensors", "test_vector.safetensors", "recipe.yaml", "card.yaml"):
        assert same_bytes(run.folder / name, again.folder / name), name
    losses = [[record.validation_loss for record in one.history()] for one in (run, again)]
    assert losses[0] == losses[1]


DISTURBING = (
    "autocast to bfloat16",
    "float64 by default",
    "inference_mode",
    "denormals are zero",
    "short matrix products",
    "no oneDNN",
    "numpy raises",
    "deterministic algorithms",
    "signals in the middle",
    "meta by default",
)


def test_settings_of_the_caller_change_no_byte_of_a_run_and_stay(run, recipe, dataset, copied, tmp_path):
    for name in ("results.json", "card.yaml", "model.safetensors", "test_vector.safetensors"):
        (copied.folder / name).unlink()
    with ExitStack() as entered:
        for name in DISTURBING:
            entered.enter_context(SETTINGS[name]())
        before = state()
        made = [train(recipe, dataset=dataset, runs=tmp_path / "runs", prove=False), resume(copied.folder, prove=False)]
        after = state()
    assert {name: after[name] for name in before if after[name] != before[name]} == {}
    for name in ("model.safetensors", "test_vector.safetensors"):
        assert all(same_bytes(run.folder / name, one.folder / name) for one in made), name


def test_another_seed_gives_another_model(run, dataset, tmp_path):
    other = train(recipe_of("mask", "train.seed=2"), dataset=dataset, runs=tmp_path, prove=False)
    assert other.folder.name.rpartition("-")[2] != run.folder.name.rpartition("-")[2]
    assert not same_bytes(run.folder / "model.safetensors", other.folder / "model.safetensors")


def test_a_finished_run_stays_as_it_is(run):
    before = {path: path.stat().st_mtime_ns for path in run.folder.iterdir()}
    assert resume(run.folder, prove=False) == run
    assert {path: path.stat().st_mtime_ns for path in run.folder.iterdir()} == before


@pytest.mark.parametrize("harm", [Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:-8] + b"\1" * 8)])
def test_a_finished_run_whose_weights_are_lost_or_damaged_is_made_again(harm, run, copied):
    harm(copied.folder / "model.safetensors")
    assert not copied.is_finished
    resume(copied.folder, prove=False)
    assert copied.is_finished
    assert same_bytes(run.folder / "model.safetensors", copied.folder / "model.safetensors")


def test_what_a_kill_before_the_evaluation_has_left_out_is_made_by_resuming(run, copied):
    for name in ("results.json", "card.yaml", "loss.png", "stamps.png", "model.safetensors"):
        (copied.folder / name).unlink()
    assert not copied.is_trained
    with pytest.raises(RunError, match="has no model yet: deepcr-zoo train --resume"):
        copied.model()
    resume(copied.folder, prove=False)
    assert {path.name for path in copied.folder.iterdir()} == {path.name for path in run.folder.iterdir()}
    assert same_bytes(run.folder / "model.safetensors", copied.folder / "model.safetensors")


EDITS = {
    "title": ("title: .*", "title: Mine, with limits", None),
    "other name": ("name: .*", "name: Mine-2-4", None),
    "other version": ("version: .*", "version: '7.0'", None),
    "a mistake": ("title: .*", "title: [1", InvalidDocumentError),
}


@pytest.mark.parametrize("lost", [(), ("model.safetensors",)])
@pytest.mark.parametrize("edit", EDITS)
def test_a_card_that_somebody_has_edited_outlives_a_kill_in_the_evaluation_and_lost_weights(edit, lost, copied):
    wanted, text, error = EDITS[edit]
    card = copied.folder / "card.yaml"
    edited = re.sub(wanted, text, card.read_text(), count=1)
    assert text in edited
    card.write_text(edited)
    for name in ("results.json", "test_vector.safetensors", *lost):
        (copied.folder / name).unlink()
    with nullcontext() if error is None else pytest.raises(error, match=r"card\.yaml"):
        resume(copied.folder, prove=False)
    assert card.read_text() == edited
    assert copied.is_finished == (error is None)


def test_the_benchmark_of_another_model_does_not_replace_that_of_a_run(copied, recipe, dataset):
    before = {path: path.read_bytes() for path in copied.folder.iterdir() if path.is_file()}
    alone = Extent(against=[], lacosmic=False, runtime=False)
    with pytest.raises(OutputError, match="is the folder of a run, whose own benchmark would be replaced"):
        prove_alone([find_subject(SMALL)], dataset, recipe, "", copied.folder, extent=alone, reporter=NullReporter())
    both = [find_subject(copied.folder), find_subject(SMALL)]
    with pytest.raises(OutputError, match="is the folder of a run, whose own benchmark would be replaced"):
        prove_alone(both, dataset, recipe, "", copied.folder, extent=alone, reporter=NullReporter())
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize("field", ["recipe_sha256", "manifest_sha256"])
def test_a_card_of_another_run_is_replaced(field, run, copied):
    card = copied.folder / "card.yaml"
    content = yaml.safe_load(card.read_text())
    content["provenance"][field] = "0" * 64
    card.write_text(yaml.safe_dump(content))
    (copied.folder / "results.json").unlink()
    resume(copied.folder, prove=False)
    assert same_bytes(card, run.folder / "card.yaml")


def test_an_inpainting_run_is_judged_beside_the_classical_methods(tmp_path):
    recipe = recipe_of("inpaint", "benchmark.inpainting_stamps=20")
    dataset = write_dataset(tmp_path / "home", test=6, recipe=recipe)
    run = train(recipe, dataset=dataset, runs=tmp_path / "runs", prove=False)
    results = run.results()
    assert [method.name for method in results.methods] == [run.reference, "masked median", "biharmonic"]
    pixels = {method.fields["all"].inpainting.pixels for method in results.methods}
    assert len(pixels) == 1
    assert pixels.pop() > 0


def test_without_test_stamps_there_are_no_results_and_a_message_says_so(tmp_path):
    recipe = recipe_of("mask", "train.schedule.max_epochs=1")
    dataset = write_dataset(tmp_path / "home", recipe=recipe)
    listener = Listener()
    run = train(recipe, dataset=dataset, runs=tmp_path / "runs", reporter=listener, prove=False)
    assert run.is_trained
    assert not run.is_evaluated
    assert any(line.startswith("caution not evaluated: ") for line in listener.messages)


def test_a_training_set_of_another_recipe_is_refused(recipe, tmp_path):
    dataset = write_dataset(tmp_path / "home", test=6, recipe=recipe_of("mask", "build.drizzle.driz_cr_snr=3.5 3.0"))
    with pytest.raises(DatasetError, match="was built from another recipe than ACS-WFC-F606W-2-4"):
        train(recipe, dataset=dataset, runs=tmp_path / "runs", prove=False)
    assert not (tmp_path / "runs").exists()


def test_recipes_that_differ_in_training_alone_share_a_training_set(dataset):
    dataset.check_recipe(recipe_of("mask", "train.schedule.learning_rate=0.1", "rehearsal.seed=5"), False)
    with pytest.raises(DatasetError):
        dataset.check_recipe(recipe_of("mask"), True)


def test_a_run_whose_training_set_was_changed_is_not_resumed(copied, dataset, tmp_path):
    home = shutil.copytree(dataset.home.root, tmp_path / "home")
    manifest = home / dataset.folder.relative_to(dataset.home.root) / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"stamp_size":32', '"stamp_size": 32').replace("none", "other"))
    facts = copied.folder / "run.json"
    facts.write_text(facts.read_text().replace(str(dataset.folder), str(manifest.parent)))
    (copied.folder / "results.json").unlink()
    with pytest.raises(RunError, match=f"{manifest}: differs from the training set of"):
        resume(copied.folder, prove=False)


def test_a_run_whose_recipe_was_changed_is_not_resumed(copied):
    path = copied.folder / "recipe.yaml"
    path.write_text(path.read_text().replace("max_epochs: 4", "max_epochs: 8"))
    with pytest.raises(RunError, match=r"recipe\.yaml: was changed after the run had started"):
        resume(copied.folder)


def test_a_run_is_not_resumed_with_another_recipe(run, recipe):
    assert resume(run.folder, recipe=recipe) == run
    with pytest.raises(RunError, match="is a run of another recipe"):
        resume(run.folder, recipe=recipe_of("mask", "train.seed=2"))


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(RunError, match="expected the folder of a run"):
        resume(tmp_path)


def test_a_loss_that_is_not_finite_ends_the_run_and_keeps_the_batch(dataset, tmp_path):
    steep = recipe_of("mask", "train.schedule.learning_rate=1.0e+30", "train.precision=float32")
    problem = r"the loss of epoch 1, batch \d+ is nan; the batch is in not-finite.safetensors, there is no checkpoint yet"
    with pytest.raises(TrainingError, match=problem):
        train(steep, dataset=dataset, runs=tmp_path / "runs", prove=False)
    (bad,) = (tmp_path / "runs").rglob("not-finite.safetensors")
    tensors = safetensors.numpy.load(bad.read_bytes())
    assert np.isfinite(tensors["input"]).all()
    assert tensors["counted"].shape == tensors["target"].shape


def test_a_loss_that_is_not_finite_after_a_checkpoint_leaves_that_intact(dataset, tmp_path, monkeypatch):
    recipe = recipe_of("mask", "train.precision=float32")  # in which it is asked once an epoch
    losses = iter([1.0, math.nan])
    monkeypatch.setattr("deepcr_zoo.training.loop.validation_loss", lambda *_, **__: next(losses))
    with pytest.raises(TrainingError, match="the validation loss after epoch 2 is nan; the last checkpoint is intact"):
        train(recipe, dataset=dataset, runs=tmp_path, prove=False)
    assert len(list(tmp_path.rglob("checkpoint-0001-000000.safetensors"))) == 1


def test_without_a_checkpoint_none_is_called_intact(recipe, dataset, tmp_path, monkeypatch):
    monkeypatch.setattr("deepcr_zoo.training.loop.validation_loss", lambda *_, **__: math.nan)
    with pytest.raises(
        TrainingError, match="the validation loss after epoch 1 is nan; there is no checkpoint yet; a smaller"
    ):
        train(recipe, dataset=dataset, runs=tmp_path, prove=False)


def test_a_damaged_checkpoint_is_not_called_intact(tmp_path):
    (tmp_path / "checkpoint.json").write_text("{}")
    assert condition(tmp_path) == "the last checkpoint is damaged"
    damaged = r"Read-only file system; the last checkpoint is damaged: make it writable, then"
    with pytest.raises(OutputError, match=damaged), reporting_run_failures(tmp_path):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))
    (tmp_path / "checkpoint.json").unlink()
    none = r"there is no checkpoint yet: make room, then .* starts it again"
    with pytest.raises(OutputError, match=none), reporting_run_failures(tmp_path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_what_no_training_set_can_mend_is_told_before_one_is_built(tmp_path):
    with pytest.raises(TrainingError, match="validation_fraction of the stamps is 0: expected more"):
        train(recipe_of("mask", "build.stamps.validation_fraction=0"), data=["gone"], runs=tmp_path)


FITS = ("train.architecture.hidden=4", "train.init_from=ACS-WFC-F606W-2-4@1.0")


def test_fine_tuning_starts_from_the_weights_of_the_zoo(tmp_path, dataset):
    recipe = recipe_of("mask", *FITS, "train.start_frozen=true", "train.schedule.learning_rate=1.0e-9")
    run = train(recipe, dataset=dataset, runs=tmp_path, prove=False)
    import deepcr_zoo

    image = np.random.default_rng(1).normal(60, 8, (64, 64)).astype(np.float32)
    zoo = deepcr_zoo.load("ACS-WFC-F606W-2-4@1.0", device="cpu", engine="torch")
    np.testing.assert_allclose(run.model("cpu", "torch").logits(image), zoo.logits(image), atol=1e-3)
    assert [record.frozen for record in run.history()] == [True] * 4


MISFITS = {
    "train.architecture.hidden=8": "has architecture depth=2 hidden=4 norm='batch' outputs=1 stride=1: "
    "expected depth=2 hidden=8 norm='batch' outputs=1 stride=1",
    "train.input.scale=1.0": "has input.scale 100: expected 1,",
    "train.init_from=WFC3-UVIS-2-32@1.0": "has architecture",
}


@pytest.mark.parametrize("setting", MISFITS)
def test_a_model_of_the_zoo_that_does_not_fit_the_recipe_is_refused(setting, dataset, tmp_path):
    with pytest.raises(TrainingError, match=MISFITS[setting]):
        train(recipe_of("mask", *FITS, setting), dataset=dataset, runs=tmp_path, prove=False)
    assert not list(tmp_path.iterdir())


def test_the_environment_says_with_what_a_run_was_made(run):
    (environment,) = json.loads((run.folder / "environment.json").read_text())
    assert environment["device"] == "cpu"
    assert environment["packages"].keys() >= {"torch", "numpy"}
    assert environment["processes"] == 1


def test_numbers_of_the_results_are_those_of_a_count_by_hand(run, dataset):
    model = run.model("cpu", "torch")
    scores, labels = [], []
    for stamp in dataset.stamps("test"):
        counted = stamp.ignore == 0
        scores.append(model.logits(stamp.image)[counted])
        labels.append(stamp.cosmic_rays[counted] == 1)
    scores, labels = np.concatenate(scores), np.concatenate(labels)
    for rate in run.results().methods[0].fields["all"].at_fpr:
        thresholds = [one for one in np.unique(scores) if (scores[~labels] > one).mean() <= rate.fpr]
        assert rate.tpr == pytest.approx(max((scores[labels] > one).mean() for one in thresholds))
