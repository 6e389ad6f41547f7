import numpy as np
import pytest
import torch
from scipy import stats

from deepcr_zoo.training.augmentation import augment, inpainting_masks
from deepcr_zoo.training.stamps import StampBatch
from deepcr_zoo.zoo.recipe import AugmentationBlock
from tests.training.stamps import SIDE, sources, write_dataset

NOTHING = AugmentationBlock(sky=None)
MANY = torch.arange(400)


def batch_of(image, numbers=None, sky=100.0):
    numbers = torch.arange(len(image)) if numbers is None else numbers
    masks = torch.zeros(image.shape, dtype=torch.bool)
    return StampBatch(numbers, image, masks, masks, torch.full((len(image),), sky))


def distinct(count, side=4):
    """Return stamps whose pixels all differ, with masks that mark the same pixels."""
    image = torch.arange(side**2).view(1, side, side).expand(count, -1, -1).float().contiguous()
    return StampBatch(torch.arange(count), image, image % 3 == 0, image > 5, torch.full((count,), 100.0))


def part(batch, places):
    """Some stamps of a batch, in another order."""
    layers = (batch.numbers, batch.image, batch.cosmic_rays, batch.ignore, batch.sky)
    return StampBatch(*(layer[places] for layer in layers))


def assert_same(one, other):
    for name in ("numbers", "image", "cosmic_rays", "ignore", "sky"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name


def test_without_settings_stamps_stay_as_they_are():
    batch = distinct(5)
    assert_same(augment(batch, 1, 1, NOTHING), batch)


def test_alpha_times_the_sky_is_added():
    sky = torch.linspace(20, 200, 400)
    image = torch.rand(400, 4, 4) * 1000
    zeros = torch.zeros(image.shape, dtype=torch.bool)
    varied = augment(StampBatch(MANY, image, zeros, zeros, sky), 1, 1, AugmentationBlock())
    added = varied.image - image
    alpha = (added / sky[:, None, None]).mean(dim=(1, 2))
    torch.testing.assert_close(added, (alpha * sky)[:, None, None].expand_as(added), rtol=1e-3, atol=2e-3)
    assert alpha.min() >= -0.9
    assert alpha.max() < 3
    assert stats.kstest((alpha + 0.9) / 3.9, "uniform").pvalue > 1e-3
    assert not varied.cosmic_rays.any()


def test_alpha_is_another_in_each_epoch_and_for_each_seed():
    zeros = torch.zeros(400, 1, 1)
    one, *others = (
        augment(batch_of(zeros), seed, epoch, AugmentationBlock()).image for seed, epoch in ((1, 1), (1, 2), (2, 1))
    )
    for other in others:
        assert (one != other).all()


@pytest.mark.parametrize("shot_noise", [False, True])
def test_a_stamp_is_varied_alike_in_any_batch(shot_noise):
    settings = AugmentationBlock(shot_noise=shot_noise, flips=True)
    batch = distinct(40)
    together = augment(batch, 3, 2, settings)
    places = torch.tensor([7, 39, 0, 7])
    assert_same(augment(part(batch, places), 3, 2, settings), part(together, places))
    assert_same(augment(part(batch, places[:1]), 3, 2, settings), part(together, places[:1]))


def test_shot_noise_has_the_variance_of_the_sky_that_was_added():
    settings = AugmentationBlock(sky=[2, 2], shot_noise=True)
    noise = augment(batch_of(torch.zeros(40, 64, 64)), 1, 1, settings).image - 200
    assert abs(noise.mean()) < 0.2
    assert noise.var().item() == pytest.approx(200, rel=0.02)
    per_stamp = noise.flatten(1)
    assert np.abs(np.corrcoef(per_stamp) - np.eye(40)).max() < 0.1  # no two stamps have the same noise
    assert abs(np.corrcoef(noise[:, :, :-1].flatten(), noise[:, :, 1:].flatten())[0, 1]) < 0.02  # nor neighbouring pixels


def test_there_is_no_shot_noise_where_sky_was_taken_away():
    image = torch.rand(10, 8, 8) * 100
    settings = AugmentationBlock(sky=[-0.9, -0.1])
    noisy = settings.model_copy(update={"shot_noise": True})
    assert torch.equal(augment(batch_of(image), 1, 1, noisy).image, augment(batch_of(image), 1, 1, settings).image)


def test_flips_and_turns_reach_all_eight_positions_equally():
    batch = distinct(4000)
    turned = augment(batch, 1, 1, NOTHING.model_copy(update={"flips": True}))
    upright = batch.image[0]
    positions = [torch.rot90(side, quarter) for side in (upright, upright.flip(0)) for quarter in range(4)]
    counts = [int((turned.image == position).all(dim=(1, 2)).sum()) for position in positions]
    assert sum(counts) == 4000
    assert stats.chisquare(counts).pvalue > 1e-3


def test_masks_turn_with_the_image():
    turned = augment(distinct(100), 1, 1, NOTHING.model_copy(update={"flips": True}))
    assert torch.equal(turned.cosmic_rays, turned.image % 3 == 0)
    assert torch.equal(turned.ignore, turned.image > 5)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """40 stamps, each with one cosmic ray in a pixel of its own."""

    def one_pixel_each(exposure, tensors):
        tensors["cosmic_rays"][:] = 0
        for index, mask in enumerate(tensors["cosmic_rays"]):
            mask.flat[100 * exposure + index] = 1

    return sources(write_dataset(tmp_path_factory.mktemp("pixels") / "home", train=40, change=one_pixel_each))[0]


def drawn(source, masks):
    """Which stamps each mask is made of, bool, shape (N, stamps)."""
    pixel_of_stamp = source.cosmic_rays(torch.arange(len(source))).flatten(1).int().argmax(1)
    assert len(pixel_of_stamp.unique()) == len(source)
    found = masks.flatten(1)[:, pixel_of_stamp]
    assert (found.sum(1) == masks.sum(dim=(1, 2))).all()
    return found


def test_an_inpainting_mask_is_never_of_the_stamp_itself_and_equally_of_all_others(source):
    numbers = torch.arange(len(source))
    times = sum(drawn(source, inpainting_masks(source, numbers, 1, epoch, [1, 1])).int() for epoch in range(200))
    assert times.sum() == 200 * 40
    assert not times.diagonal().any()
    assert stats.chisquare(times.sum(0)).pvalue > 1e-3
    steps = torch.stack([times[number].roll(-int(number)) for number in numbers]).sum(0)[1:]
    assert stats.chisquare(steps).pvalue > 1e-3


def test_inpainting_masks_are_of_as_many_stamps_as_the_limits_say(source):
    numbers = torch.arange(len(source))
    counts = torch.cat([drawn(source, inpainting_masks(source, numbers, 1, e, [1, 9])).sum(1) for e in range(20)])
    assert set(counts.tolist()) == set(range(1, 10))
    # one can be drawn twice: 39 others, 1 to 9 draws
    expected = np.mean([39 * (1 - (38 / 39) ** draws) for draws in range(1, 10)])
    assert counts.float().mean().item() == pytest.approx(expected, rel=0.05)
    three = drawn(source, inpainting_masks(source, numbers, 1, 1, [3, 3])).sum(1)
    assert three.max() == 3
    assert three.float().mean() > 2.8


def test_inpainting_masks_do_not_depend_on_the_batch(source):
    together = inpainting_masks(source, torch.arange(40), 1, 5, [1, 9])
    numbers = torch.tensor([31, 2, 2])
    assert together.shape == (40, SIDE, SIDE)
    assert together.dtype == torch.bool
    assert torch.equal(inpainting_masks(source, numbers, 1, 5, [1, 9]), together[numbers])


def test_inpainting_masks_differ_between_epochs_and_seeds(source):
    numbers = torch.arange(40)
    one, *others = (inpainting_masks(source, numbers, seed, epoch, [4, 9]) for seed, epoch in ((1, 1), (1, 2), (2, 1)))
    for other in others:
        assert (one != other).any(dim=(1, 2)).all()
