"""Counts and figures of masks agree with numpy on the same stamps."""

from collections import Counter

import numpy as np
import pytest
from scipy import ndimage
from scipy.special import expit

import deepcr_zoo
from deepcr_zoo.bench.measures.blocks import sky_blocks
from deepcr_zoo.bench.measures.detectionresults import best_sweep_field, calibration, network_field, sweep_field
from deepcr_zoo.bench.measures.detections import detect, masks_of, network
from deepcr_zoo.bench.measures.judgedpixels import check_input
from deepcr_zoo.errors import DatasetError, UsageError
from deepcr_zoo.models.model import WHOLE_FRAME
from tests.bench.stamps import EXPOSURES, FIELD, SIDE, SKY_ELECTRON, STAMPS, layers, recipe_of, write_dataset

FPRS = (0.005, 0.02, 0.1)
SIGCLIPS = (1.0, 3.0, 6.0)


def pseudo_masks(shift=0.0):
    """Masks of a method without scores: pixels brighter than so many times 50 e-."""
    return masks_of(lambda stamps: np.stack([stamps.image > 50 * one + 20 + shift for one in SIGCLIPS]), SIGCLIPS)


@pytest.fixture(scope="module")
def found(finder, dataset):
    methods = {"network": network(finder, labels_are_truth=False), "bright": pseudo_masks(), "brighter": pseudo_masks(40.0)}
    return detect(methods, dataset, FIELD, sky_blocks(dataset, FIELD))


def counts_of(finder, dataset, on_exposure=None):
    """Count the test stamps of a field type by the logits of a network."""
    blocks = sky_blocks(dataset, FIELD)
    return detect({"network": network(finder, labels_are_truth=False)}, dataset, FIELD, blocks, on_exposure)["network"].exact


def tallies(counts):
    """Pixels by score, of each class, as dictionaries."""
    return [
        {float(score): int(number) for score, number in zip(counts.scores, tally, strict=True) if number}
        for tally in (counts.cosmic_rays, counts.clean)
    ]


def expected_tallies(logits, labels, ignored):
    return [dict(Counter(logits[kind & ~ignored].tolist())) for kind in (labels, ~labels)]


def test_counts_are_those_of_every_test_stamp_by_itself_without_ignored_pixels(found, finder, dataset):
    image, labels, ignored = layers(dataset)
    assert len(image) == EXPOSURES * STAMPS
    assert ignored.any()
    logits = np.stack([finder.logits(one, tile=WHOLE_FRAME) for one in image])
    counts = found["network"].exact
    assert tallies(counts) == expected_tallies(logits, labels, ignored)
    assert counts.ignored == ignored.sum()
    assert counts.cosmic_rays.sum() + counts.clean.sum() + counts.ignored == image.size


def test_tpr_and_fpr_are_those_of_a_count_at_every_threshold(found, finder, dataset):
    image, labels, ignored = layers(dataset)
    logits = finder.logits(image)
    curve = found["network"].exact.curve()
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
        copies = {name: np.stack([tensor[1]] * len(tensor)) for name, tensor in tensors.items() if name != "corners"}
        tensors.update(copies)
        tensors["image"][:, : SIDE // 2] = SKY_ELECTRON
        tensors["ignore"][:] = 0

    dataset = write_dataset(tmp_path, recipe_of(), (FIELD,), copied)
    image, labels, ignored = layers(dataset)
    counts = counts_of(finder, dataset)
    assert counts.scores.size < image.size / STAMPS
    assert tallies(counts) == expected_tallies(finder.logits(image), labels, ignored)
    assert (counts.ignored, counts.cosmic_rays.sum()) == (0, labels.sum())


def test_every_exposure_is_reported_once_in_order(dataset):
    seen = []

    def report(group):
        seen.append((group.visit.field_type, group.exposure.name))

    detect({}, dataset, FIELD, sky_blocks(dataset, FIELD), report)
    assert seen == [(FIELD, f"exposure-{number}") for number in range(EXPOSURES)]


def test_a_field_type_without_test_stamps_counts_nothing(tmp_path):
    dataset = write_dataset(tmp_path, recipe_of(), (FIELD,))
    methods = {"bright": pseudo_masks()}
    assert detect(methods, dataset, "extragalactic", sky_blocks(dataset, "extragalactic")) == {}


def test_a_missing_file_is_named(tmp_path):
    dataset = write_dataset(tmp_path, recipe_of(), (FIELD,))
    blocks = sky_blocks(dataset, FIELD)
    file = next(dataset.home.visits.glob("*/exposure-1.safetensors"))
    file.unlink()
    with pytest.raises(DatasetError, match=rf"{file}: is missing"):
        detect({}, dataset, FIELD, blocks)


@pytest.mark.filterwarnings("ignore::deepcr_zoo.errors.ModelWarning")
@pytest.mark.parametrize(
    ("name", "message"),
    [("WFC3-UVIS-2-32", "is normalised by the whole frame"), ("DECam-2-32", "takes adu, and stamps are in electrons")],
)
def test_a_network_that_cannot_be_judged_on_stamps_in_electrons_is_refused(name, message):
    with pytest.raises(UsageError, match=message):
        check_input(deepcr_zoo.load(f"mask/{name}", "cpu", engine="torch", source="seed"))


def dilated(mask):
    return ndimage.binary_dilation(mask, np.ones((1, 3, 3), bool))


def test_rates_of_a_network_are_those_of_a_count_undilated_and_dilated_in_both_conventions(found, finder, dataset):
    image, labels, ignored = layers(dataset)
    logits, clean, struck = finder.logits(image), ~labels & ~ignored, labels & ~ignored
    result = network_field(found["network"], FPRS, finder.threshold)
    for fpr, rate, paper, honest in zip(FPRS, result.at_fpr, result.dilated.paper, result.dilated.honest, strict=True):
        mask = logits > rate.threshold
        assert (rate.tpr, rate.reached_fpr) == (mask[struck].mean(), mask[clean].mean())
        wide = dilated(mask)
        assert (paper.reached_fpr, paper.threshold) == (rate.reached_fpr, rate.threshold)
        assert paper.tpr == pytest.approx(wide[struck].mean(), abs=5e-3)  # between two edges of fine bins
        wide = dilated(logits > honest.threshold)
        assert honest.reached_fpr == wide[clean].mean() <= fpr
        assert honest.tpr == wide[struck].mean()
        tighter = dilated(logits > honest.threshold - 1 / 64)
        assert tighter[clean].mean() > fpr


def test_average_precision_is_the_mean_precision_over_the_cosmic_rays(found, finder, dataset):
    image, labels, ignored = layers(dataset)
    scores, truth = finder.logits(image)[~ignored], labels[~ignored]
    expected = np.mean([truth[scores >= one].mean() for one in scores[truth]])
    assert network_field(found["network"], FPRS, 0.5).average_precision == pytest.approx(expected, rel=1e-9)


def test_precision_along_the_curve_is_a_share_of_masked_pixels(found, finder, dataset):
    image, labels, ignored = layers(dataset)
    logits = finder.logits(image)[~ignored]
    for point in network_field(found["network"], FPRS, 0.5).curve[::5]:
        masked = logits > point.threshold
        expected = labels[~ignored][masked].mean() if masked.any() else None
        assert point.precision == (expected if expected is None else pytest.approx(expected, rel=1e-9))


def test_precision_at_a_tpr_is_that_of_the_highest_threshold_that_reaches_it(found, finder, dataset):
    image, labels, ignored = layers(dataset)
    logits, truth = finder.logits(image)[~ignored], labels[~ignored]
    (one,) = network_field(found["network"], FPRS, 0.5).at_tpr
    assert one.tpr == 0.95
    masked = logits > one.threshold
    assert masked[truth].mean() >= 0.95 > (logits > logits[masked].min())[truth].mean()
    assert one.precision == pytest.approx(truth[masked].mean(), rel=1e-9)
    assert one.fpr == pytest.approx(masked[~truth].mean(), rel=1e-9)


def test_cosmic_rays_are_found_where_half_of_their_pixels_are_masked(found, finder, dataset):
    image, labels, ignored = layers(dataset)
    mask, by_size = finder.mask(image), network_field(found["network"], FPRS, finder.threshold).diagnostics.whole_cosmic_rays
    half = []
    for one, struck, bad in zip(mask, labels, ignored, strict=True):
        label, count = ndimage.label(struck, np.ones((3, 3)))
        half += [
            one[(label == number) & ~bad].mean() >= 0.5 for number in range(1, count + 1) if ((label == number) & ~bad).any()
        ]
    assert sum(group.pixels for group in by_size) == len(half)
    every = sum(group.pixels * group.rates[0] for group in by_size if group.pixels)
    assert every == pytest.approx(sum(half), abs=1)
    bright = sweep_field(found["bright"], FPRS).diagnostics.whole_cosmic_rays
    assert [group.pixels for group in bright] == [group.pixels for group in by_size]


def test_regions_hold_every_pixel_once(found, finder, dataset):
    image, labels, ignored = layers(dataset)
    outer = np.ones(image.shape[1:], bool)
    outer[8:-8, 8:-8] = False
    mask = finder.mask(image)
    diagnostics = network_field(found["network"], FPRS, finder.threshold).diagnostics
    for region, part in zip(diagnostics.regions, (outer, ~outer), strict=True):
        struck, clean = labels & ~ignored & part, ~labels & ~ignored & part
        assert (region.cosmic_rays, region.clean) == (struck.sum(), clean.sum())
        assert region.tprs[0] == pytest.approx(mask[struck].mean(), abs=2e-3)
        assert region.fprs[0] == pytest.approx(mask[clean].mean(), abs=2e-3)
    sizes = diagnostics.cosmic_ray_size
    assert sum(group.pixels for group in sizes) == (labels & ~ignored).sum()


def test_calibration_counts_all_pixels_and_what_they_are(found, finder, dataset):
    image, labels, ignored = layers(dataset)
    probability, truth = expit(finder.logits(image)[~ignored].astype(float)), labels[~ignored]
    bins = calibration(found["network"].classes)
    assert sum(one.pixels for one in bins) == truth.size
    for one in bins:
        inside = (probability > one.low) & (probability <= one.high)
        assert one.pixels == pytest.approx(inside.sum(), abs=2)
        if one.pixels > 50:
            assert one.observed == pytest.approx(truth[inside].mean(), abs=0.02)
            assert one.predicted == pytest.approx(probability[inside].mean(), rel=0.02, abs=1e-6)


def test_masks_without_scores_have_a_point_per_threshold(found, dataset):
    image, labels, ignored = layers(dataset)
    field = sweep_field(found["bright"], FPRS)
    for point in field.curve:
        mask = image > 50 * point.threshold + 20
        assert (point.fpr, point.tpr) == (mask[~labels & ~ignored].mean(), mask[labels & ~ignored].mean())
    assert field.diagnostics.regions[0].tprs[0] is None  # there is no default threshold


def test_the_best_sweep_is_chosen_at_each_fpr(found):
    each = {1.0: sweep_field(found["bright"], FPRS), 2.0: sweep_field(found["brighter"], FPRS)}
    best, chosen = best_sweep_field({1.0: found["bright"], 2.0: found["brighter"]}, FPRS)
    for index, objlim in enumerate(chosen):
        tprs = {one: field.at_fpr[index].tpr for one, field in each.items() if field.at_fpr[index].tpr is not None}
        assert objlim == (max(tprs, key=tprs.get) if tprs else None)
        assert best.at_fpr[index].tpr == (max(tprs.values()) if tprs else None)
    assert all(one.tpr < two.tpr and one.fpr <= two.fpr for one, two in zip(best.curve, best.curve[1:], strict=False))


def test_counts_of_exposures_add_up_and_those_of_field_types_stand_beside_each_other(finder, dataset, found):
    other = detect(
        {"network": network(finder, labels_are_truth=False)}, dataset, "extragalactic", sky_blocks(dataset, "extragalactic")
    )["network"]
    one = found["network"]
    both = one.beside(other)
    assert len(both.blocks.pixels) == len(one.blocks.pixels) + len(other.blocks.pixels)
    np.testing.assert_array_equal(both.classes.masked, one.classes.masked + other.classes.masked)
    assert both.exact.cosmic_rays.sum() == one.exact.cosmic_rays.sum() + other.exact.cosmic_rays.sum()
