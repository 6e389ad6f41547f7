"""Students: networks that learn the probabilities of a larger one beside the labels."""

import numpy as np
import pytest
import torch

import deepcr_zoo
from deepcr_zoo.errors import InvalidDocumentError, RunError, TrainingError
from deepcr_zoo.training.objectives import NATIVE, Feed
from deepcr_zoo.training.runs import new_run
from deepcr_zoo.training.stamps import open_stamps
from deepcr_zoo.training.state import teacher_of
from deepcr_zoo.zoo.runfolders import FACTS_FILE
from tests.training.stamps import CPU, recipe_of, write_dataset

TEACHER = "train.teacher=ACS-WFC-F606W-2-4@1.0"


def feeds(dataset, *settings):
    """Examples of the training stamps with a teacher and without."""
    recipe = recipe_of("mask", "train.augmentation.sky=null", TEACHER, *settings)
    source = open_stamps(dataset, "train", CPU)
    return Feed(recipe, source, teacher_of(recipe, CPU)), Feed(recipe, source)


def test_targets_are_the_labels_and_the_probabilities_that_the_teacher_has_in_use(dataset):
    taught, plain = feeds(dataset, "train.teacher_share=0.3")
    numbers = torch.arange(6)
    found, labels = taught.examples(numbers, 1), plain.examples(numbers, 1)
    image = labels.input[:, 0].numpy() * plain.recipe.train.input.scale
    probability = deepcr_zoo.load("mask/ACS-WFC-F606W-2-4@1.0", "cpu", engine="torch").predict(image)
    expected = 0.3 * probability + 0.7 * labels.target[:, 0].numpy()
    np.testing.assert_allclose(found.target[:, 0].numpy(), expected, atol=1e-5)
    assert torch.equal(found.input, labels.input)
    assert not found.target.requires_grad


def test_validation_is_against_the_labels_alone(tmp_path):
    dataset = write_dataset(tmp_path / "home", recipe=recipe_of("mask"))
    losses = {}
    for share in ("0.5", "1.0"):
        recipe = recipe_of("mask", TEACHER, f"train.teacher_share={share}", "train.schedule.max_epochs=1")
        run = deepcr_zoo.train(recipe, dataset=dataset, runs=tmp_path / share, prove=False, device="cpu")
        network, feed = run.model("cpu", "torch"), Feed(recipe, open_stamps(dataset, "validation", CPU))
        examples = feed.examples(torch.arange(len(feed)), NATIVE)
        logits = network.logits(examples.input[:, 0].numpy() * recipe.train.input.scale)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(
            torch.from_numpy(logits)[:, None], examples.target, reduction="none"
        )[examples.counted].mean()
        assert run.history()[-1].validation_loss == pytest.approx(float(loss), rel=1e-3)
        losses[share] = run.history()[-1].train_loss
        assert f"against {float(share):g} of the probability of ACS-WFC-F606W-2-4@1.0" in run.card().training.method
    assert losses["0.5"] != losses["1.0"]


def test_a_teacher_that_sees_other_input_is_refused_before_the_training():
    recipe = recipe_of("mask", "train.teacher=WFC3-UVIS-2-32@1.0", "train.input.scale=7")
    with pytest.raises(TrainingError, match=r"train\.teacher: mask/WFC3-UVIS-2-32@1\.0 has input\.scale"):
        teacher_of(recipe, CPU)


def test_inpainting_has_no_teacher():
    with pytest.raises(InvalidDocumentError, match=r"train\.teacher with task mask"):
        recipe_of("inpaint", "train.teacher=ACS-WFC-F606W-2-32@1.0")


@pytest.mark.parametrize("field", ["teacher", "init_from"])
def test_a_model_to_learn_from_is_named_with_its_version(field):
    """Another version may become the default between two starts of a run."""
    for name in ("ACS-WFC-F606W-2-4", "ACS-WFC-F606W-2-4@1"):
        with pytest.raises(InvalidDocumentError, match=rf"train\.{field}"):
            recipe_of("mask", f"train.{field}={name}")


def test_a_run_goes_on_with_the_same_teacher_alone(tmp_path):
    dataset = write_dataset(tmp_path / "home", recipe=recipe_of("mask"))
    recipe = recipe_of("mask", TEACHER, "train.schedule.max_epochs=1")
    stopped = new_run(recipe, dataset, tmp_path, "train")
    assert list(stopped.facts.inherited) == ["ACS-WFC-F606W-2-4@1.0"]
    facts = stopped.folder / FACTS_FILE
    sha256 = stopped.facts.inherited["ACS-WFC-F606W-2-4@1.0"]
    facts.write_text(facts.read_text().replace(sha256, "0" * 64))
    with pytest.raises(RunError, match="has other weights here"):
        deepcr_zoo.resume(stopped.folder, dataset=dataset, prove=False)
    facts.write_text(facts.read_text().replace("0" * 64, sha256))
    facts.write_text(facts.read_text().replace("ACS-WFC-F606W-2-4@1.0", "DECam-2-32@1.0"))
    with pytest.raises(RunError, match=r"names a model that its recipe does not: DECam-2-32@1\.0"):
        deepcr_zoo.resume(stopped.folder, dataset=dataset, prove=False)
    facts.write_text(facts.read_text().replace("DECam-2-32@1.0", "ACS-WFC-F606W-2-4@1.0"))
    assert len(deepcr_zoo.resume(stopped.folder, dataset=dataset, prove=False).history()) == 1
