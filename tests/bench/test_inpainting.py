import numpy as np
import pytest

from deepcr_zoo import baselines
from deepcr_zoo.bench.inpainting import added_masks, judge
from deepcr_zoo.bench.residuals import ErrorSums
from deepcr_zoo.errors import DataError, InvalidImageError
from tests.bench.stamps import EXPOSURES, STAMPS, recipe_of, write_dataset
from tests.bench.test_masks import FIELD, layers

SEED = 3


def numbers_of(dataset, field_type=FIELD):
    """Which of all test stamps are of a field type."""
    return [number for number, stamp in enumerate(dataset.stamps("test")) if stamp.visit.field_type == field_type]


def counted(fill):
    """A filling method, and what it was given."""
    given = []

    def recorded(image, mask):
        given.append((image.copy(), mask.copy()))
        return fill(image, mask)

    return recorded, given


def test_errors_are_those_of_a_sum_pixel_by_pixel_in_float64(painter, dataset):
    image, labels, ignored = layers(dataset)
    added = added_masks(dataset.stamps("test"), numbers_of(dataset), SEED)
    fills = {"network": painter.fill, "median": baselines.medmask, "biharmonic": baselines.biharmonic}
    sums = judge(fills, dataset, FIELD, SEED)
    for name, fill in fills.items():
        errors = [
            float(filled[place]) - float(true[place])
            for filled, true, new, own, bad in zip(fill(image, added | labels), image, added, labels, ignored, strict=True)
            for place in zip(*np.nonzero(new & ~own & ~bad), strict=True)
        ]
        assert sums[name].pixels == len(errors) > 100
        assert sums[name].squared == pytest.approx(sum(error**2 for error in errors), rel=1e-12)
        assert sums[name].absolute == pytest.approx(sum(map(abs, errors)), rel=1e-12)
        assert sums[name].signed == pytest.approx(sum(errors), rel=1e-9)


def test_all_methods_are_given_the_same_images_and_masks_with_the_stamps_own_cosmic_rays(dataset):
    first, given_first = counted(baselines.medmask)
    second, given_second = counted(lambda image, mask: image)
    judge({"one": first, "two": second}, dataset, FIELD, SEED)
    assert len(given_first) == len(given_second) == EXPOSURES
    for one, two in zip(given_first, given_second, strict=True):
        np.testing.assert_array_equal(one, two)
    masks = np.concatenate([mask for _, mask in given_first])
    _, labels, _ = layers(dataset)
    assert masks[labels].all()
    assert (masks & ~labels).any()


def test_a_perfect_method_has_no_error_and_a_constant_one_a_bias(dataset):
    sums = judge({"perfect": lambda image, mask: image, "brighter": lambda image, mask: image + 2}, dataset, FIELD, SEED)
    assert sums["perfect"] == ErrorSums(sums["perfect"].pixels, 0.0, 0.0, 0.0)
    brighter = sums["brighter"]
    assert brighter.signed / brighter.pixels == pytest.approx(2, rel=1e-3)  # what float32 makes of it beside 3e4
    assert brighter.squared / brighter.pixels == pytest.approx(4, rel=1e-3)


def test_the_pixels_under_own_cosmic_rays_and_ignored_ones_are_not_judged(dataset):
    image, labels, ignored = layers(dataset)

    def wrong_there(images, masks):
        start = next(n for n in range(len(image)) if np.array_equal(image[n], images[0]))
        unknown = (labels | ignored)[start : start + len(images)]
        return np.where(unknown, np.float32(1e30), images)

    sums = judge({"wrong": wrong_there}, dataset, FIELD, SEED)
    assert sums["wrong"].squared == 0
    assert sums["wrong"].pixels > 0


def test_an_added_mask_is_the_union_of_so_many_other_stamps_never_its_own(dataset):
    stamps = dataset.stamps("test")
    everything = [stamp.cosmic_rays == 1 for stamp in stamps]
    for number in range(len(stamps)):
        (one,) = added_masks(stamps, [number], SEED)
        assert [index for index, mask in enumerate(everything) if np.array_equal(mask, one)] != [number]
        assert any(np.array_equal(one, mask) for index, mask in enumerate(everything) if index != number)
        (all_others,) = added_masks(stamps, [number], SEED, len(stamps) - 1)
        others = [mask for index, mask in enumerate(everything) if index != number]
        np.testing.assert_array_equal(all_others, np.any(others, axis=0))


def test_added_masks_depend_on_seed_and_stamp_alone(dataset):
    stamps = dataset.stamps("test")
    whole = added_masks(stamps, range(len(stamps)), SEED)
    np.testing.assert_array_equal(added_masks(stamps, [7, 2], SEED), whole[[7, 2]])
    assert not np.array_equal(added_masks(stamps, range(len(stamps)), SEED + 1), whole)
    many = [added_masks(stamps, [0], seed) for seed in range(200)]
    assert len({mask.tobytes() for mask in many}) == len(stamps) - 1  # every other stamp has its turn


def test_too_few_stamps_for_the_masks_are_refused(dataset):
    stamps = dataset.stamps("test")
    with pytest.raises(DataError, match=r"there are 18 stamps to take inpainting masks from: expected at least 19, because"):
        added_masks(stamps, [0], SEED, len(stamps))
    with pytest.raises(DataError, match="expected at least 2"):
        added_masks(stamps[:1], [0], SEED)


def test_sums_add_up_and_those_over_nothing_change_nothing():
    rng = np.random.default_rng(1)
    filled, true = rng.normal(0, 100, (2, 50)).astype(np.float32)
    parts = ErrorSums.of(filled[:20], true[:20]) + ErrorSums.of(filled[20:], true[20:]) + ErrorSums.of(true[:0], true[:0])
    whole = ErrorSums.of(filled, true)
    assert parts.pixels == whole.pixels == 50
    assert (parts.squared, parts.absolute, parts.signed) == pytest.approx((whole.squared, whole.absolute, whole.signed))


def test_a_method_that_fills_with_nan_is_refused(dataset):
    with pytest.raises(InvalidImageError, match="filled with NaN or infinity"):
        judge({"nan": lambda image, mask: np.full_like(image, np.nan)}, dataset, FIELD, SEED)


def test_without_cosmic_rays_elsewhere_nothing_is_judged(tmp_path):
    dataset = write_dataset(
        tmp_path, recipe_of(), (FIELD,), lambda field_type, tensors: tensors.update(cosmic_rays=0 * tensors["cosmic_rays"])
    )
    assert judge({"median": baselines.medmask}, dataset, FIELD, SEED) == {"median": ErrorSums()}
    assert len(dataset.stamps("test")) == EXPOSURES * STAMPS
