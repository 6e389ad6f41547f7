from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import deepcr_zoo
from deepcr_zoo.bench.measures import roc
from deepcr_zoo.bench.measures.roc import LOWEST, RocPoint
from deepcr_zoo.errors import InvalidImageError
from tests.registries import SMALL
from tests.scenes import star_field

FPRS = [0.0, 0.0005, 0.01, 0.1, 0.29, 0.5, 0.999]
pixels = st.lists(
    st.tuples(
        # few values, so that there are ties, and any value, so that there are extremes
        st.one_of(st.integers(-3, 3).map(float), st.floats(width=32, allow_nan=False, max_value=2.0**127)),
        st.booleans(),
        st.booleans(),
    ),
    max_size=60,
)


def arrays(drawn):
    scores, labels, ignored = zip(*drawn, strict=True) if drawn else ((), (), ())
    return np.array(scores, np.float32), np.array(labels, bool), np.array(ignored, bool)


def random_image(seed, shape=(40, 50), ties=True):
    rng = np.random.default_rng(seed)
    labels = rng.random(shape) < 0.1
    scores = rng.normal(-3, 3, shape) + 4 * labels
    return (np.round(scores, 1) if ties else scores).astype(np.float32), labels, rng.random(shape) < 0.05


def brute_force(scores, labels, ignored, threshold):
    masked = (scores > threshold) & ~ignored
    return int((masked & labels).sum()), int((masked & ~labels).sum())


def assert_counts_are_right_at_every_threshold(curve, scores, labels, ignored):
    for threshold, true, false in zip(curve.thresholds, curve.true_positives, curve.false_positives, strict=True):
        assert brute_force(scores, labels, ignored, threshold) == (true, false), threshold
    assert (curve.cosmic_rays, curve.clean) == ((labels & ~ignored).sum(), (~labels & ~ignored).sum())


def best_by_brute_force(scores, labels, ignored, fpr):
    """Largest TPR of all thresholds that keep the FPR, and the lowest FPR that gives it."""
    cosmic_rays, clean = (labels & ~ignored).sum(), (~labels & ~ignored).sum()
    found = [brute_force(scores, labels, ignored, threshold) for threshold in [np.inf, *np.unique(scores), LOWEST]]
    kept = [(true / cosmic_rays, -false / clean) for true, false in found if false / clean <= fpr]
    tpr, negative = max(kept)
    return tpr, -negative


@given(pixels)
def test_counts_equal_brute_force_at_every_threshold(drawn):
    scores, labels, ignored = arrays(drawn)
    curve = roc.count(scores, labels, ignored).curve()
    assert_counts_are_right_at_every_threshold(curve, scores, labels, ignored)
    finite = np.unique(scores[~ignored & np.isfinite(scores)])
    assert set(curve.thresholds) == {*finite, LOWEST}
    assert (np.diff(curve.thresholds) < 0).all()


@given(pixels, st.sampled_from(FPRS))
def test_tpr_at_a_fixed_fpr_is_the_best_of_all_thresholds_that_keep_it(drawn, fpr):
    scores, labels, ignored = arrays(drawn)
    point = roc.count(scores, labels, ignored).curve().at_fpr(fpr)
    if not (labels & ~ignored).any() or not (~labels & ~ignored).any():
        assert point is None
        return
    assert (point.tpr, point.fpr) == best_by_brute_force(scores, labels, ignored, fpr)
    true, false = brute_force(scores, labels, ignored, np.float32(point.threshold))
    assert (true / (labels & ~ignored).sum(), false / (~labels & ~ignored).sum()) == (point.tpr, point.fpr)


@given(pixels)
def test_the_area_is_the_chance_that_a_cosmic_ray_scores_higher_with_ties_as_halves(drawn):
    scores, labels, ignored = arrays(drawn)
    area = roc.count(scores, labels, ignored).curve().area()
    scores = np.maximum(scores, LOWEST)  # minus infinity ties with it
    cosmic_rays, clean = scores[labels & ~ignored, None], scores[~labels & ~ignored]
    if cosmic_rays.size == 0 or clean.size == 0:
        assert area is None
    else:
        assert area == pytest.approx(np.mean((cosmic_rays > clean) + (cosmic_rays == clean) / 2), abs=1e-12)


def test_a_hand_computed_example():
    scores = np.array([3, 2, 2, 2, 1, 1, 0, 0, -1, 9], np.float32)
    labels = np.array([1, 1, 1, 0, 1, 0, 0, 0, 0, 0])
    ignore = np.array([0, 0, 0, 0, 0, 0, 0, 0, 0, 1])
    counts = roc.count(scores, labels, ignore)
    curve = counts.curve()
    assert counts.ignored == 1
    assert curve.thresholds.tolist() == [3, 2, 1, 0, -1, LOWEST]
    assert curve.true_positives.tolist() == [0, 1, 3, 4, 4, 4]
    assert curve.false_positives.tolist() == [0, 0, 1, 2, 4, 5]
    # the tie at 2 takes a false positive with it, so that 1 of 4 is all that there is below an FPR of 1 / 5
    assert curve.at_fpr(0.19) == RocPoint(2.0, 0.0, 0.25)
    assert curve.at_fpr(0.2) == RocPoint(1.0, 0.2, 0.75)
    # thresholds 0 and -1 both find all; 0 at the lower FPR
    assert curve.at_fpr(0.8) == RocPoint(0.0, 0.4, 1.0)
    # 3 beats 5 clean pixels; each of the twos 4 and a tie; the one 3 and a tie: 5 + 4.5 + 4.5 + 3.5 of 20
    assert curve.area() == 17.5 / 20


def test_a_threshold_masks_in_the_model_what_was_counted():
    model = deepcr_zoo.load(SMALL)
    image, labels = star_field((200, 300), seed=4)
    curve = roc.count(model.logits(image), labels).curve()
    point = curve.at_fpr(0.01)
    masked = model.logits(image) > point.threshold
    assert masked[labels].mean() == point.tpr
    assert masked[~labels].mean() == point.fpr
    # the same as a probability; rounding may tie pixels with it, never bring one in
    by_probability = model.mask(image, 1 / (1 + np.exp(-point.threshold)))
    assert not (by_probability & ~masked).any()
    assert (masked & ~by_probability).sum() <= 2


@pytest.mark.parametrize("what", ["cosmic ray", "clean", "counted"])
def test_without_a_pixel_of_a_class_there_is_no_rate_and_no_area(what):
    scores, labels, ignored = random_image(seed=1)
    ignored = {"cosmic ray": labels, "clean": ~labels, "counted": np.ones_like(labels)}[what]
    curve = roc.count(scores, labels, ignored).curve()
    assert curve.at_fpr(0.1) is None
    assert curve.area() is None
    assert curve.points() == []
    assert_counts_are_right_at_every_threshold(curve, scores, labels, ignored)


def test_pixels_without_a_value_are_masked_by_no_threshold():
    scores, labels = np.array([-np.inf, -np.inf, 1, 0], np.float32), np.array([1, 0, 1, 0])
    curve = roc.count(scores, labels).curve()
    assert curve.thresholds.tolist() == [1, 0, LOWEST]
    assert curve.true_positives.tolist() == [0, 1, 1]
    assert curve.at_fpr(0.99) == RocPoint(0.0, 0.0, 0.5)


def test_several_exposures_merge_to_what_they_are_together():
    images = [random_image(seed, ties=seed % 2) for seed in range(5)]
    together = roc.count(*(np.stack(part) for part in zip(*images, strict=True)))
    merged = roc.merge(roc.count(*image) for image in images)
    for field in ("scores", "cosmic_rays", "clean", "ignored", "significant_bits"):
        np.testing.assert_array_equal(getattr(merged, field), getattr(together, field))
    assert merged.significant_bits == 24


def test_stamps_count_like_the_chip_they_tile():
    scores, labels, ignored = random_image(seed=7, shape=(64, 96))
    chip = roc.count(scores, labels, ignored)
    stamps = roc.count(*(part.reshape(2, 32, 3, 32).swapaxes(1, 2).reshape(6, 32, 32) for part in (scores, labels, ignored)))
    np.testing.assert_array_equal(stamps.curve().true_positives, chip.curve().true_positives)
    np.testing.assert_array_equal(stamps.curve().false_positives, chip.curve().false_positives)


def test_nothing_at_all_merges_to_no_pixels():
    nothing = roc.merge([])
    assert nothing.scores.size == nothing.ignored == 0
    assert nothing.curve().at_fpr(0.1) is None


@settings(max_examples=30)
@given(pixels, pixels, st.integers(1, 20))
def test_few_thresholds_are_as_exact_as_all_of_them(first, second, limit):
    parts = [arrays(first), arrays(second)]
    counts = roc.merge([roc.count(*parts[0], limit=limit), roc.count(*parts[1])], limit=limit)
    together = [np.concatenate(pair) for pair in zip(*parts, strict=True)]
    assert_counts_are_right_at_every_threshold(counts.curve(), *together)
    assert counts.scores.size <= limit or counts.significant_bits == 1


def test_a_bound_on_thresholds_bounds_the_memory_and_costs_next_to_nothing():
    scores, labels, ignored = random_image(seed=3, shape=(300, 400), ties=False)
    exact, bounded = (roc.count(scores, labels, ignored, limit=limit) for limit in (10**6, 5000))
    assert exact.scores.size > 100_000
    assert bounded.scores.size <= 5000
    assert bounded.significant_bits < exact.significant_bits == 24
    for fpr in (0.0005, 0.01, 0.1):
        best, kept = exact.curve().at_fpr(fpr), bounded.curve().at_fpr(fpr)
        assert kept.fpr <= fpr
        assert best.tpr - 0.005 <= kept.tpr <= best.tpr
    assert bounded.curve().area() == pytest.approx(exact.curve().area(), abs=1e-5)


def test_the_points_of_a_drawing_are_few_exact_and_hold_the_ends():
    scores, labels, ignored = random_image(seed=5, shape=(300, 400), ties=False)
    points = roc.count(scores, labels, ignored).curve().points()
    assert len(points) < 50 * np.log10((~labels & ~ignored).sum()) + 3
    for point in points[::20]:
        true, false = brute_force(scores, labels, ignored, np.float32(point.threshold))
        assert (true / (labels & ~ignored).sum(), false / (~labels & ~ignored).sum()) == (point.tpr, point.fpr)
    assert points[0].fpr == 0
    assert points[-1].tpr == 1
    assert all(a.fpr <= b.fpr and a.tpr < b.tpr for a, b in pairwise(points))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores": np.zeros((2, 2))}, "the scores are float64: expected float32"),
        ({"scores": np.full((2, 2), np.nan, np.float32)}, "NaN or infinity"),
        ({"scores": np.full((2, 2), np.inf, np.float32)}, "NaN or infinity"),
        ({"cosmic_rays": np.zeros((2, 3), bool)}, r"the CR mask has shape \(2, 3\): expected \(2, 2\)"),
        ({"ignore": np.full((2, 2), 7)}, "the ignore mask holds other values than 0 and 1"),
        ({"ignore": np.full((2, 2), 0.5)}, "the ignore mask holds other values than 0 and 1"),
    ],
)
def test_what_cannot_be_counted_is_refused(change, message):
    usable = {"scores": np.zeros((2, 2), np.float32), "cosmic_rays": np.eye(2, dtype=bool), "ignore": np.zeros((2, 2))}
    with pytest.raises(InvalidImageError, match=message):
        roc.count(**{**usable, "ignore": np.zeros((2, 2), bool), **change})


def test_a_score_of_nan_may_stand_where_it_is_ignored():
    scores = np.array([np.nan, 1, 0], np.float32)
    counts = roc.count(scores, [1, 1, 0], [1, 0, 0])
    assert counts.ignored == 1
    assert counts.curve().at_fpr(0.5).tpr == 1
