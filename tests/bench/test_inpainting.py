import numpy as np
import pytest
from scipy import ndimage

from deepcr_zoo.bench.measures.blocks import SkyBlocks, key
from deepcr_zoo.bench.measures.inpainting import (
    AT_ONCE,
    Draws,
    ErrorSums,
    by_values,
    draw,
    judge,
    mse_ratio,
    mse_ratios,
)
from deepcr_zoo.errors import DataError, InvalidImageError
from deepcr_zoo.models import baselines
from deepcr_zoo.models.containers import Repainted
from deepcr_zoo.models.skynoise import frame_noise
from deepcr_zoo.zoo.recipe import SIMULATED_FIELD_TYPES
from tests.bench.stamps import EXPOSURES, FIELD, SIDE, STAMPS, layers, recipe_of, with_truth, write_dataset

SEED = 3
COUNT = 40
BLOCKS = 4


def drawn_from(dataset, count=COUNT, seed=SEED):
    return draw(len(dataset.stamps("test")), count, seed)


def numbers_of(dataset, field_type=FIELD):
    """Which of all test stamps are of a field type."""
    return [number for number, stamp in enumerate(dataset.stamps("test")) if stamp.visit.field_type == field_type]


def blocks_of(dataset, field_type=FIELD):
    """The first block holds the first stamp of each exposure, and so on; the last one holds nothing."""
    groups = dataset.exposures("test", field_type)
    return SkyBlocks({key(group): np.arange(len(group.indices)) for group in groups}, np.zeros(BLOCKS, np.intp))


def judged(fills, dataset, field_type=FIELD, draws=None, **more):
    fills = {name: by_values(fill) for name, fill in fills.items()}
    return judge(fills, dataset, field_type, blocks_of(dataset, field_type), draws or drawn_from(dataset), **more)


def pairs_of(dataset, field_type=FIELD, draws=None):
    """Each drawn stamp of a field type with its added mask, one at a time."""
    stamps, draws = dataset.stamps("test"), draws or drawn_from(dataset)
    return [
        (stamps[stamp], stamps[other].cosmic_rays == 1)
        for stamp, other in zip(draws.stamps.tolist(), draws.others.tolist(), strict=True)
        if stamps[stamp].visit.field_type == field_type
    ]


def counted(fill):
    """A filling method, and what it was given."""
    given = []

    def recorded(image, mask):
        given.append((image.copy(), mask.copy()))
        return fill(image, mask)

    return recorded, given


@pytest.mark.parametrize("name", ["network", "median", "biharmonic"])
def test_errors_are_those_of_a_sum_pixel_by_pixel_in_float64_block_by_block(name, painter, dataset):
    fill = {"network": painter.fill, "median": baselines.medmask, "biharmonic": baselines.biharmonic}[name]
    errors = [[] for _ in range(BLOCKS)]
    for stamp, added in pairs_of(dataset):
        own, ignored = stamp.cosmic_rays == 1, stamp.ignore == 1
        filled = fill(stamp.image, added | own)
        errors[stamp.index - 1] += [  # the first stamp of an exposure is for nothing
            float(filled[place]) - float(stamp.image[place])
            for place in zip(*np.nonzero(added & ~own & ~ignored), strict=True)
        ]
    sums = judged({name: fill}, dataset)[name]
    assert sums.pixels.tolist() == [len(one) for one in errors]
    assert sums.pixels[:STAMPS].min() > 10
    assert sums.squared == pytest.approx([sum(error**2 for error in one) for one in errors], rel=1e-12)
    assert sums.absolute == pytest.approx([sum(map(abs, one)) for one in errors], rel=1e-12)
    assert sums.signed == pytest.approx([sum(one) for one in errors], rel=1e-9)


def test_all_methods_are_given_the_same_images_and_masks_with_the_stamps_own_cosmic_rays(dataset):
    first, given_first = counted(baselines.medmask)
    second, given_second = counted(lambda image, mask: image)
    judged({"one": first, "two": second}, dataset)
    images, masks = (np.concatenate(layer) for layer in zip(*given_first, strict=True))
    for one, two in zip((images, masks), zip(*given_second, strict=True), strict=True):
        np.testing.assert_array_equal(one, np.concatenate(two))
    expected = pairs_of(dataset)
    np.testing.assert_array_equal(images, [stamp.image for stamp, _ in expected])
    np.testing.assert_array_equal(masks, [added | (stamp.cosmic_rays == 1) for stamp, added in expected])


def test_every_draw_belongs_to_one_field_type(dataset):
    fills = [counted(lambda image, mask: image) for _ in SIMULATED_FIELD_TYPES]
    for field_type, (fill, _) in zip(SIMULATED_FIELD_TYPES, fills, strict=True):
        judged({"one": fill}, dataset, field_type)
    assert sum(len(image) for _, given in fills for image, _ in given) == COUNT


def test_many_draws_are_filled_a_few_at_a_time(dataset):
    fill, given = counted(lambda image, mask: image)
    number = numbers_of(dataset)[0]
    draws = Draws(np.full(2 * AT_ONCE + 1, number), np.full(2 * AT_ONCE + 1, number + 1))
    sums = judged({"one": fill}, dataset, draws=draws)
    assert [len(image) for image, _ in given] == [AT_ONCE, AT_ONCE, 1]
    assert sums["one"].pixels.tolist() == [(2 * AT_ONCE + 1) * len(given[2][1][0][judged_of(dataset, number)]), 0, 0, 0]


def judged_of(dataset, number):
    """Pixels that are judged where the next stamp's cosmic rays are added to a stamp."""
    stamp, other = dataset.stamps("test")[number], dataset.stamps("test")[number + 1]
    return (other.cosmic_rays == 1) & (stamp.cosmic_rays == 0) & (stamp.ignore == 0)


def test_a_perfect_method_has_no_error_and_a_constant_one_a_bias(dataset):
    sums = judged({"perfect": lambda image, mask: image, "brighter": lambda image, mask: image + 2}, dataset)
    assert not np.any([sums["perfect"].squared, sums["perfect"].absolute, sums["perfect"].signed])
    pixels, brighter = sums["perfect"].pixels[:STAMPS], sums["brighter"]
    assert brighter.signed[:STAMPS] / pixels == pytest.approx(2, rel=1e-3)  # what float32 makes of it beside 3e4
    assert brighter.squared[:STAMPS] / pixels == pytest.approx(4, rel=1e-3)


def test_the_pixels_under_own_cosmic_rays_and_ignored_ones_are_not_judged(dataset):
    image, labels, ignored = layers(dataset)

    def wrong_there(images, masks):
        number = [next(n for n in range(len(image)) if np.array_equal(image[n], one)) for one in images]
        return np.where((labels | ignored)[number], np.float32(1e30), images)

    sums = judged({"wrong": wrong_there}, dataset)["wrong"]
    assert sums.squared.sum() == 0
    assert sums.pixels.sum() > 0


def test_draws_are_fixed_by_the_seed_and_never_add_a_stamp_to_itself():
    draws, again, other = draw(18, 9600, SEED), draw(18, 9600, SEED), draw(18, 9600, SEED + 1)
    np.testing.assert_array_equal(draws.stamps, again.stamps)
    np.testing.assert_array_equal(draws.others, again.others)
    assert not np.array_equal(draws.stamps, other.stamps)
    assert not np.array_equal(draws.others, other.others)
    assert (draws.stamps != draws.others).all()


def test_every_pair_of_stamps_is_drawn_equally_often():
    draws, stamps = draw(5, 20_000, SEED), 5
    pairs = np.zeros((stamps, stamps))
    np.add.at(pairs, (draws.stamps, draws.others), 1)
    different = pairs[~np.eye(stamps, dtype=bool)]
    expected = 20_000 / different.size
    assert np.sum((different - expected) ** 2 / expected) < 43.8  # chi squared of 19 degrees of freedom, 0.1 %


def test_the_parts_of_draws_are_the_whole():
    draws = draw(18, 100, SEED)
    parts = [batch for numbers in (range(5), range(5, 6), range(6, 18)) for batch in draws.within(numbers).batches(7)]
    assert max(len(part.stamps) for part in parts) == 7
    np.testing.assert_array_equal(np.concatenate([part.stamps for part in parts]), draws.stamps)
    np.testing.assert_array_equal(np.concatenate([part.others for part in parts]), draws.others)
    assert set(draws.within(range(5, 6)).stamps) == {5}


def test_a_stamp_alone_is_refused():
    with pytest.raises(DataError, match=r"1 stamps are too few to take inpainting masks from: expected at least 2, because"):
        draw(1, 10, SEED)


def test_sums_add_up_and_those_over_nothing_change_nothing():
    rng = np.random.default_rng(1)
    filled, true = rng.normal(0, 100, (2, 50)).astype(np.float32)
    block = rng.integers(3, size=50)
    noise = rng.uniform(1, 9, 50).astype(np.float32)
    parts = (slice(20), slice(20, 50), slice(0))
    of_parts = [ErrorSums.of(filled[part], true[part], noise[part], block[part], 3) for part in parts]
    added, whole = sum(of_parts, ErrorSums.none(3)), ErrorSums.of(filled, true, noise, block, 3)
    assert added.pixels.tolist() == whole.pixels.tolist() == np.bincount(block).tolist()
    for name in ("squared", "absolute", "signed", "squared_in_noise"):
        assert getattr(added, name) == pytest.approx(getattr(whole, name))
    joined = ErrorSums.joined([whole, added])
    assert (len(joined.pixels), joined.pixels.sum()) == (6, 100)


def test_the_ratio_of_resampled_errors_is_that_of_the_blocks_drawn():
    rng = np.random.default_rng(2)
    true, good, bad = rng.normal(0, 1, (3, 3000)).astype(np.float32)
    good, bad = true + good, true + 2 * bad
    block = np.repeat(np.arange(10), 300)
    one, other = (ErrorSums.of(filled, true, np.full_like(true, 3), block, 10) for filled in (good, bad))
    weights = rng.multinomial(10, [0.1] * 10, size=500).astype(float)
    chosen = np.concatenate([np.flatnonzero(block == b) for b in range(10) for _ in range(int(weights[0, b]))])
    expected = np.mean((good - true)[chosen].astype(float) ** 2) / np.mean((bad - true)[chosen].astype(float) ** 2)
    assert mse_ratios(one, other, weights)[0] == pytest.approx(expected, rel=1e-5)
    assert len(set(chosen)) < len(true)
    ratio, between = mse_ratio(one, other, weights)
    assert ratio == pytest.approx(np.sum(one.squared) / np.sum(other.squared))
    assert between.low < ratio < between.high
    assert (between.blocks, between.low > 0.2, between.high < 0.3) == (10, True, True)
    assert mse_ratio(one, other, weights, in_noise=True)[0] == pytest.approx(ratio)  # all pixels have the same noise
    assert mse_ratio(one, one, weights)[1].low == 1  # resampled together: a method is never better than itself


def test_of_few_blocks_with_pixels_or_none_there_is_no_interval():
    error = np.ones(7, np.float32)
    few = ErrorSums.of(2 * error, 0 * error, error, np.arange(7), 10)
    weights = np.ones((20, 10))
    assert mse_ratio(few, few, weights) == (1.0, None)
    assert mse_ratio(ErrorSums.none(10), ErrorSums.none(10), weights) == (None, None)
    perfect = ErrorSums.of(error, error, error, np.arange(7), 10)
    assert mse_ratio(few, perfect, weights) == (None, None)


def test_a_method_that_fills_with_nan_is_refused(dataset):
    with pytest.raises(InvalidImageError, match="filled with NaN or infinity"):
        judged({"nan": lambda image, mask: np.full_like(image, np.nan)}, dataset)


def test_the_true_values_within_a_predicted_uncertainty_are_counted(dataset):
    random = np.random.default_rng(1)

    def too_sure(sigma):
        def fill(image, mask, noise):
            values = image + np.where(mask, random.normal(0, 5, image.shape), 0)
            return Repainted(values.astype(np.float32), np.where(mask, sigma, np.nan).astype(np.float32))

        return fill

    fills = {"calibrated": too_sure(5), "too sure": too_sure(2.5), "says nothing": by_values(baselines.medmask)}
    sums = judge(fills, dataset, FIELD, blocks_of(dataset), drawn_from(dataset, 2000))
    errors = {name: ErrorSums.of_blocks(one, range(STAMPS)).errors() for name, one in sums.items()}
    found = {name: (one.within_1_sigma, one.within_2_sigma) for name, one in errors.items()}
    assert found["calibrated"] == pytest.approx((0.683, 0.954), abs=0.02)
    assert found["too sure"] == pytest.approx((0.383, 0.683), abs=0.02)
    assert found["says nothing"] == (None, None)


def test_in_units_of_the_noise_each_pixel_counts_by_its_own_and_real_ones_by_that_of_the_sky(dataset, tmp_path):
    def brighter(image, mask):
        return image + np.float32(6)

    (real,) = judged({"one": brighter}, dataset).values()
    noise = frame_noise(next(iter(dataset.exposures("test", FIELD))).read("image")["image"])[0].noise
    assert real.of_blocks([0]).errors().mse_in_noise == pytest.approx((6 / noise) ** 2, rel=0.3)

    def truth(image):
        half = np.where(np.arange(image.shape[-1]) < image.shape[-1] // 2, np.float32(2), np.float32(4))
        return {"cosmic_rays": image * 0, "scene": image, "noise": image * 0 + half}

    simulated = with_truth(write_dataset(tmp_path, recipe_of()), truth)
    (found,) = judged({"one": brighter}, simulated).values()
    pixels = found.pixels[:STAMPS]
    left = (found.squared_in_noise[:STAMPS] - 36 / 16 * pixels) / (36 / 4 - 36 / 16)
    np.testing.assert_allclose(left, np.round(left), atol=0.01)  # a whole number of pixels has the lesser noise
    assert ((left > 0) & (left < pixels)).all()


def test_the_noiseless_scene_of_simulated_stamps_has_the_least_error(dataset, tmp_path):
    assert judged({"median": baselines.medmask}, dataset)["median"].of_blocks([0]).errors().scene_mse is None
    simulated = with_truth(
        write_dataset(tmp_path, recipe_of()),
        lambda image: {"cosmic_rays": image * 0, "scene": image - np.float32(3), "noise": image * 0 + 3},
    )
    perfect = judged({"scene": lambda image, mask: np.where(mask, image - 3, image)}, simulated)["scene"].of_blocks([0])
    assert perfect.errors().scene_mse == pytest.approx(9)
    assert perfect.errors().mse == pytest.approx(9)


def test_simulated_pixels_that_the_scene_does_not_explain_are_not_judged(tmp_path):
    """They are saturated."""

    def truth(image):
        off = np.where(np.arange(image.shape[-1]) < image.shape[-1] // 2, np.float32(31), np.float32(29))
        return {"cosmic_rays": image * 0, "scene": image + off, "noise": image * 0 + 3}

    plain = write_dataset(tmp_path / "plain", recipe_of())
    simulated = with_truth(write_dataset(tmp_path / "simulated", recipe_of()), truth)
    everything, found = (
        judged({"median": baselines.medmask}, one)["median"].of_blocks([0]).errors() for one in (plain, simulated)
    )
    assert 0 < found.pixels < everything.pixels
    assert found.scene_mse == pytest.approx(29**2)


def test_hot_pixels_are_not_judged_and_the_sharpest_stars_are(tmp_path):
    """A star of FWHM 1.1 pixels has a fifth of its peak beside it, a hot pixel nothing."""

    sky = np.float32(0.5)

    def errors_of_nothing(name, kernel):
        light = np.full((SIDE, SIDE), sky, np.float32)
        light[::3, ::3] += 1000  # on the edge too
        light = ndimage.convolve(light - sky, np.float32(kernel)) + sky

        def flat(field_type, tensors):
            tensors["image"] = 0 * tensors["image"] + light

        dataset = write_dataset(tmp_path / name, recipe_of(), change=flat)
        simulated = with_truth(dataset, lambda image: {"cosmic_rays": image * 0, "scene": image, "noise": image * 0 + 3})
        sums = judged({"nothing": lambda image, mask: 0 * image}, simulated)["nothing"]
        return sums.of_blocks(range(BLOCKS)).errors()

    empty = errors_of_nothing("empty", np.zeros((3, 3)))
    stars = errors_of_nothing("stars", [[0.04, 0.2, 0.04], [0.2, 1, 0.2], [0.04, 0.2, 0.04]])
    hot = errors_of_nothing("hot", [[0, 0, 0], [0, 1, 0], [0, 0.05, 0]])  # trailed by the transfer of its charge
    assert stars.pixels == empty.pixels
    assert stars.mse > 1000**2 / 9 * 0.7
    assert 0 < hot.pixels < empty.pixels
    assert hot.mse <= 50**2


def test_overscan_is_not_judged(tmp_path):
    def half_lit(image):
        lit = np.arange(image.shape[-1]) < image.shape[-1] // 2
        return {"cosmic_rays": image * 0, "scene": np.where(lit, image, np.float32(0)), "noise": image * 0 + 1e5}

    plain = with_truth(
        write_dataset(tmp_path / "plain", recipe_of()),
        lambda image: {"cosmic_rays": image * 0, "scene": image, "noise": image * 0 + 1e5},
    )
    simulated = with_truth(write_dataset(tmp_path / "simulated", recipe_of()), half_lit)
    everything, found = (
        judged({"median": baselines.medmask}, one)["median"].of_blocks(range(BLOCKS)).errors() for one in (plain, simulated)
    )
    assert 0.3 * everything.pixels < found.pixels < 0.7 * everything.pixels


def test_a_method_is_given_sky_and_noise_of_the_chip_of_each_stamp(dataset):
    given = []

    def fill(image, mask, noise):
        given.extend(noise)
        return Repainted(image)

    judge({"one": fill}, dataset, FIELD, blocks_of(dataset), drawn_from(dataset))
    stamps, drawn = dataset.stamps("test"), drawn_from(dataset).stamps.tolist()
    assert given == [stamps.noise(number) for number in drawn if stamps[number].visit.field_type == FIELD]


def test_every_exposure_is_reported_once_even_if_no_stamp_of_it_is_drawn(dataset):
    seen = []
    judged({}, dataset, draws=draw(18, 1, SEED), on_exposure=lambda group: seen.append(group.path))
    assert seen == [group.path for group in dataset.exposures("test", FIELD)]
    assert len(seen) == EXPOSURES


def test_without_cosmic_rays_elsewhere_nothing_is_judged(tmp_path):
    dataset = write_dataset(
        tmp_path, recipe_of(), (FIELD,), lambda field_type, tensors: tensors.update(cosmic_rays=0 * tensors["cosmic_rays"])
    )
    sums = judged({"median": baselines.medmask}, dataset)["median"]
    assert sums.pixels.sum() == sums.squared.sum() == 0
    assert np.isnan(sums.mse()).all()
