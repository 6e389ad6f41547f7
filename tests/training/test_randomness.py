import numpy as np
import pytest
import torch
from scipy import stats

from deepcr_zoo.training import randomness
from deepcr_zoo.training.randomness import Purpose, normal, order, uniform

MANY = torch.arange(20_000)


def first(seed, epoch, stamps, purpose):
    return uniform(seed, epoch, stamps, purpose, 1)[:, 0].numpy()


def test_the_hash_is_that_of_splitmix64():
    # what the published C code gives first for this seed
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821]
    states = torch.tensor(1234567) + torch.arange(1, 6) * randomness._GOLDEN
    assert [int(bits) % 2**64 for bits in randomness._mixed(states).tolist()] == expected


@pytest.mark.parametrize("purpose", Purpose)
def test_numbers_are_uniform(purpose):
    numbers = uniform(1, 3, MANY[:2000], purpose, 50).numpy()
    assert numbers.shape == (2000, 50)
    assert numbers.dtype == np.float64
    assert numbers.min() >= 0
    assert numbers.max() < 1
    counts, _ = np.histogram(numbers, bins=100, range=(0, 1))
    assert stats.chisquare(counts).pvalue > 1e-4


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((1, 1, MANY, Purpose.SKY), (1, 1, MANY + 1, Purpose.SKY)),
        ((1, 1, MANY, Purpose.SKY), (1, 2, MANY, Purpose.SKY)),
        ((1, 1, MANY, Purpose.SKY), (1, 1, MANY, Purpose.NOISE)),
        ((1, 1, MANY, Purpose.SKY), (2, 1, MANY, Purpose.SKY)),
        ((1, 1, MANY, Purpose.SKY), (2, 1, MANY, Purpose.ORDER)),
        ((1, 1, MANY, Purpose.ORDER), (2, 1, MANY, Purpose.SKY)),
        ((1, 2, MANY, Purpose.SKY), (1, 1, MANY + 1, Purpose.SKY)),
    ],
    ids=["stamps", "epochs", "purposes", "seeds", "seed and purpose exchanged", "seed equals purpose", "epoch and stamp"],
)
def test_neighbours_are_not_correlated(one, other):
    assert abs(stats.pearsonr(first(*one), first(*other)).statistic) < 0.03


def test_positions_are_not_correlated():
    numbers = uniform(1, 1, MANY, Purpose.NOISE, 4).numpy()
    assert np.abs(np.corrcoef(numbers.T) - np.eye(4)).max() < 0.03


def test_no_two_uses_share_a_number():
    found = [
        first(seed, epoch, torch.arange(20), purpose)
        for seed in range(8)
        for epoch in range(8)
        for purpose in Purpose
    ]  # fmt: skip
    assert len(np.unique(np.concatenate(found))) == 8 * 8 * len(Purpose) * 20


def test_a_number_does_not_depend_on_the_rest_of_the_batch():
    together = uniform(5, 2, MANY, Purpose.MASKS, 9)
    shuffled = torch.tensor([17, 3, 19_999, 0, 3])
    assert torch.equal(uniform(5, 2, shuffled, Purpose.MASKS, 9), together[shuffled])
    assert torch.equal(uniform(5, 2, torch.tensor([17]), Purpose.MASKS, 9)[0], together[17])
    assert torch.equal(uniform(5, 2, shuffled, Purpose.MASKS, 4), together[shuffled, :4])


def test_numbers_for_no_stamp_are_none():
    assert uniform(1, 1, torch.arange(0), Purpose.SKY, 3).shape == (0, 3)


def test_an_order_is_a_permutation_of_its_own_in_each_epoch_and_for_each_seed():
    orders = [order(seed, epoch, 500) for seed in (1, 2) for epoch in (1, 2, 3)]
    for one in orders:
        assert sorted(one.tolist()) == list(range(500))
    for number, one in enumerate(orders):
        for other in orders[:number]:
            assert abs(stats.spearmanr(one, other).statistic) < 0.2
    assert torch.equal(orders[0], order(1, 1, 500))


def test_normal_deviates_are_normal():
    deviates = normal(1, 1, torch.arange(200), Purpose.NOISE, 500)
    assert deviates.shape == (200, 500)
    assert abs(deviates.mean()) < 0.01
    assert deviates.var().item() == pytest.approx(1, abs=0.01)
    assert stats.kstest(deviates.flatten().numpy(), "norm").pvalue > 1e-3
    assert abs(np.corrcoef(deviates[:, :-1].flatten(), deviates[:, 1:].flatten())[0, 1]) < 0.01
