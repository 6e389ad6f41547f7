"""The report shows the worst stamps, with outlines of the network's mask."""

import io

import matplotlib.image
import numpy as np
import pytest

from deepcr_zoo.bench.measures.judgedpixels import judged_stamps
from deepcr_zoo.bench.report import worst
from deepcr_zoo.bench.report.figures import Topic
from deepcr_zoo.bench.report.shading import BLUE, ORANGE, RED
from deepcr_zoo.bench.report.worst import KEPT, Worst, worst_of, worst_stamps
from deepcr_zoo.bench.results import RateAtFpr
from tests.bench.reports import NETWORK, fill_results, mask_results

FIELD = "globular_cluster"


def measured(threshold):
    """Return results with one threshold of the network, for globular clusters."""
    results = mask_results()
    rate = RateAtFpr(fpr=0.001, reached_fpr=0.001, tpr=0.8, threshold=threshold)
    for name, field in results.methods[0].fields.items():
        results.methods[0].fields[name] = field.model_copy(update={"at_fpr": [rate] if name == FIELD else []})
    return results


def counted(finder, dataset, threshold):
    """Return false positives and misses of every stamp, counted one by one."""
    false, missed = {}, {}
    for stamp in dataset.stamps("test", FIELD):
        mask, label, counts = finder.logits(stamp.image) > threshold, stamp.cosmic_rays == 1, stamp.ignore == 0
        name = f"{stamp.exposure.name}, stamp {stamp.index}"
        false[name], missed[name] = int((mask & ~label & counts).sum()), int((label & ~mask & counts).sum())
    return false, missed


@pytest.mark.parametrize("threshold", [-2.0, 1.0])
def test_the_worst_stamps_are_those_with_the_most_errors_at_the_measured_threshold(dataset, finder, threshold):
    found = Worst()
    for stamps in judged_stamps(dataset, FIELD):
        found += worst_of(stamps, finder.logits(stamps.image) > threshold)
    for shown, counts, errors in zip(
        (found.false, found.missed), counted(finder, dataset, threshold), ("false", "missed"), strict=True
    ):
        assert len(shown) == KEPT
        assert [counts[one.name] for one in shown] == sorted(counts.values(), reverse=True)[:KEPT]
        assert [int(getattr(one, errors).sum()) for one in shown] == [counts[one.name] for one in shown]


@pytest.mark.slow
def test_alternative_texts_give_the_errors_and_captions_the_threshold(dataset, finder):
    pictures = [one for one in worst_stamps(finder, dataset, measured(1.0)) if FIELD in one.name]
    false, missed = counted(finder, dataset, 1.0)
    assert pictures[0].alt.startswith(f"globular cluster: {max(false.values())} pixels falsely masked (synthetic), in ")
    assert pictures[KEPT].alt.startswith(f"globular cluster: {max(missed.values())} pixels missed (synthetic), in ")
    assert all(one.topic == Topic.WORST for one in pictures)
    assert "at FPR 0.1 % of the field type" in pictures[0].caption
    others = [one for one in worst_stamps(finder, dataset, measured(1.0)) if FIELD not in one.name]
    assert all("at the default threshold, 0.5" in one.caption for one in others)
    assert len({one.name for one in [*pictures, *others]}) == 3 * 2 * KEPT


def test_a_network_without_errors_has_no_worst_stamps(dataset):
    (stamps, *_) = judged_stamps(dataset, FIELD)
    for masks in (stamps.cosmic_rays, stamps.cosmic_rays | stamps.ignore, stamps.cosmic_rays & ~stamps.ignore):
        found = worst_of(stamps, masks)
        assert (list(found.false), list(found.missed)) == ([], [])


def test_the_shown_part_is_the_one_with_the_most_errors():
    errors = np.zeros((256, 200), bool)
    errors[180:200, 5:25] = True
    errors[3, 190] = True
    rows, columns = worst._window(errors)
    assert errors[rows, columns].sum() == 400
    assert errors[rows, columns].shape == (worst.SHOWN_SIDE, worst.SHOWN_SIDE)
    errors[:] = False
    errors[255, 199] = True
    assert errors[worst._window(errors)].sum() == 1
    assert worst._window(np.ones((64, 64), bool)) == (slice(0, 64), slice(0, 64))


def test_outlines_have_the_colours_of_the_legend(dataset, finder):
    pictures = worst_stamps(finder, dataset, measured(0.0))
    image = matplotlib.image.imread(io.BytesIO(pictures[0].png))[..., :3]
    right = image[100:400, image.shape[1] // 2 :]
    left = image[100:400, : image.shape[1] // 2]
    for colour in (BLUE, ORANGE, RED):
        assert (np.abs(right - colour) < 0.02).all(axis=-1).any()
        assert not (np.abs(left - colour) < 0.02).all(axis=-1).any()
    assert NETWORK.replace("/", "-").replace("@", "-") in pictures[0].name


def test_an_inpainting_network_has_one_example_per_field_type(dataset, painter):
    pictures = worst_stamps(painter, dataset, fill_results())
    assert [one.topic for one in pictures] == [Topic.EXAMPLES] * 3
    assert len({one.png for one in pictures}) == 3
    again = worst_stamps(painter, dataset, fill_results())
    assert [one.png for one in pictures] == [one.png for one in again]
