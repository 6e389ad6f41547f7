from collections import Counter

import numpy as np
import pytest

import deepcr_zoo
from benchmarks.masks import judge
from deepcr_zoo.errors import DatasetError, UsageError
from deepcr_zoo.models.model import WHOLE_FRAME
from tests.bench.stamps import EXPOSURES, SIDE, SKY_ELECTRON, STAMPS, recipe_of, write_dataset

FIELD = "globular_cluster"


def layers(dataset, field_type=FIELD):
    """Image, labels and ignored pixels of the test stamps, each (N, S, S), by the other way of reading them."""
    stamps = list(dataset.stamps("test", field_type))
    image, labels, ignored = (
        np.stack([getattr(one, name) for one in stamps]) for name in ("image", "cosmic_rays", "ignore")
    )
    return image, labels == 1, ignored == 1


def tallies(counts):
    """Pixels by score, of each class, as dictionaries."""
    return [
        {float(score): int(number) for score, number in zip(counts.scores, tally, strict=True) if number}
        for tally in (counts.cosmic_rays, counts.clean)
    ]


def expected_tallies(logits, labels, ignored):
    return [dict(Counter(logits[kind & ~ignored].tolist())) for kind in (labels, ~labels)]


def test_counts_are_those_of_every_test_stamp_by_itself_without_ignored_pixels(finder, dataset):
    image, labels, ignored = layers(dataset)
    assert len(image) == EXPOSURES * STAMPS
    assert ignored.any()
    logits = np.stack([finder.logits(one, tile=WHOLE_FRAME) for one in image])
    counts = judge(finder, dataset, FIELD)
    assert tallies(counts) == expected_tallies(logits, labels, ignored)
    assert counts.ignored == ignored.sum()
    assert counts.cosmic_rays.sum() + counts.clean.sum() + counts.ignored == image.size


def test_tpr_and_fpr_are_those_of_a_count_at_every_threshold(finder, dataset):
    image, labels, ignored = layers(dataset)
    logits = finder.logits(image)
    curve = judge(finder, dataset, FIELD).curve()
    for index in np.linspace(0, curve.thresholds.size - 1, 60).astype(int):
        above = (logits > curve.thresholds[index]) & ~ignored
        assert curve.true_positives[index] == np.count_nonzero(above & labels)
        assert curve.false_positives[index] == np.count_nonzero(above & ~labels)
    fpr = 0.005
    allowed = [
        np.count_nonzero((logits > one) & labels & ~ignored)
        for one in np.unique(logits)[-2000:]
        if np.count_nonzero((logits > one) & ~labels & ~ignored) / np.count_nonzero(~labels & ~ignored) <= fpr
    ]
    assert curve.at_fpr(fpr).tpr == max(allowed) / np.count_nonzero(labels & ~ignored)


def test_stamps_that_are_all_alike_are_ties_not_lost_pixels(finder, tmp_path):
    def copied(field_type, tensors):
        tensors.update({name: np.stack([tensor[1]] * len(tensor)) for name, tensor in tensors.items()})
        tensors["image"][:, : SIDE // 2] = SKY_ELECTRON
        tensors["ignore"][:] = 0

    dataset = write_dataset(tmp_path, recipe_of(), (FIELD,), copied)
    image, labels, ignored = layers(dataset)
    counts = judge(finder, dataset, FIELD)
    assert counts.scores.size < image.size / STAMPS
    assert tallies(counts) == expected_tallies(finder.logits(image), labels, ignored)
    assert (counts.ignored, counts.cosmic_rays.sum()) == (0, labels.sum())


def test_a_changed_image_is_what_the_network_sees_and_labels_stay(finder, dataset):
    image, labels, ignored = layers(dataset)
    counts = judge(finder, dataset, FIELD, change=lambda stamps, exposure: stamps + 2 * np.float32(exposure.sky_electron))
    shifted = finder.logits(image + np.float32(2 * SKY_ELECTRON))
    assert tallies(counts) == expected_tallies(shifted, labels, ignored)
    assert tallies(counts) != tallies(judge(finder, dataset, FIELD))


def test_every_exposure_is_reported_once_in_order(finder, dataset):
    seen = []
    judge(finder, dataset, FIELD, on_exposure=lambda group: seen.append((group.visit.field_type, group.exposure.name)))
    assert seen == [(FIELD, f"exposure-{number}") for number in range(EXPOSURES)]


def test_a_field_type_without_test_stamps_counts_nothing(finder, tmp_path):
    counts = judge(finder, write_dataset(tmp_path, recipe_of(), (FIELD,)), "extragalactic")
    assert (counts.scores.size, counts.ignored) == (0, 0)
    assert counts.curve().at_fpr(0.005) is None


def test_a_missing_file_is_named(finder, tmp_path):
    dataset = write_dataset(tmp_path, recipe_of(), (FIELD,))
    file = next(dataset.home.visits.glob("*/exposure-1.safetensors"))
    file.unlink()
    with pytest.raises(DatasetError, match=rf"{file}: is missing"):
        judge(finder, dataset, FIELD)


@pytest.mark.filterwarnings("ignore::deepcr_zoo.errors.ModelWarning")
@pytest.mark.parametrize(
    ("name", "message"),
    [("WFC3-UVIS-2-32", "is normalised by the whole frame"), ("DECam-2-32", "takes adu, and stamps are in electrons")],
)
def test_a_network_that_cannot_be_judged_on_stamps_in_electrons_is_refused(name, message, dataset):
    model = deepcr_zoo.load(f"mask/{name}", "cpu", engine="torch", source="seed")
    with pytest.raises(UsageError, match=message):
        judge(model, dataset, FIELD)
