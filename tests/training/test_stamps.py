import pytest
import torch

from deepcr_zoo import machine
from deepcr_zoo.errors import DatasetError, TrainingError
from deepcr_zoo.training.stamps import LAYERS, MappedStamps, ResidentStamps, open_stamps
from tests.training.stamps import CPU, SIDE, SKY_ELECTRON, sources, write_dataset

KINDS = [ResidentStamps, MappedStamps]
every_kind = pytest.mark.parametrize("kind", KINDS)


@every_kind
def test_stamps_are_those_of_the_dataset_in_its_order(kind, dataset):
    source, _ = sources(dataset, kind)
    expected = dataset.stamps("train")
    batch = source.take(torch.arange(len(source)))
    assert len(source) == len(expected) == 24
    for number, stamp in enumerate(expected):
        for name in LAYERS:
            assert (getattr(batch, name)[number].numpy() == getattr(stamp, name)).all()
        assert batch.sky[number] == stamp.exposure.sky_electron
    assert set(batch.sky.tolist()) == set(SKY_ELECTRON)


@every_kind
def test_some_stamps_are_taken_in_any_order(kind, dataset):
    source, _ = sources(dataset, kind)
    everything, numbers = source.take(torch.arange(24)), torch.tensor([20, 3, 3, 11])
    batch = source.take(numbers)
    assert torch.equal(batch.numbers, numbers)
    for name in (*LAYERS, "sky"):
        assert torch.equal(getattr(batch, name), getattr(everything, name)[numbers])
    assert torch.equal(source.cosmic_rays(numbers), batch.cosmic_rays)


def test_mapped_stamps_equal_resident_ones(dataset):
    numbers = torch.tensor([5, 23, 0])
    resident, mapped = (sources(dataset, kind)[0].take(numbers) for kind in KINDS)
    for name in ("numbers", *LAYERS, "sky"):
        one, other = getattr(resident, name), getattr(mapped, name)
        assert one.dtype == other.dtype
        assert torch.equal(one, other)
    assert (resident.image.dtype, resident.cosmic_rays.dtype, resident.sky.dtype) == (
        torch.float32,
        torch.bool,
        torch.float32,
    )
    assert resident.image.shape == (3, SIDE, SIDE)


def test_stamps_are_resident_where_they_fit_and_mapped_where_not(dataset, monkeypatch):
    assert isinstance(open_stamps(dataset, "train", CPU), ResidentStamps)
    needed = 24 * SIDE**2 * 6
    for memory, kind in ((4 * needed + 4, ResidentStamps), (4 * needed, MappedStamps), (None, MappedStamps)):
        monkeypatch.setattr(machine, "memory_bytes", lambda memory=memory: memory)
        source = open_stamps(dataset, "train", CPU)
        assert isinstance(source, kind)
        assert source.is_resident == (kind is ResidentStamps)


def test_an_empty_split_is_refused(folder):
    dataset = write_dataset(folder, validation=0)
    assert len(open_stamps(dataset, "train", CPU)) == 24
    with pytest.raises(TrainingError, match=f"{dataset.folder}: has no validation stamp"):
        open_stamps(dataset, "validation", CPU)


def test_a_split_with_every_pixel_ignored_is_refused(folder):
    def ignore_validation(exposure, tensors):
        tensors["ignore"][1:3] = 1

    dataset = write_dataset(folder, validation=4, change=ignore_validation)
    assert len(open_stamps(dataset, "train", CPU)) == 24
    with pytest.raises(TrainingError, match="every pixel of every validation stamp is ignored"):
        open_stamps(dataset, "validation", CPU)


def test_one_pixel_that_counts_is_enough(folder):
    def ignore_nearly_all(exposure, tensors):
        tensors["ignore"][:] = 1
        tensors["ignore"][-1, 5, 7] = exposure == 0

    assert len(open_stamps(write_dataset(folder, change=ignore_nearly_all), "train", CPU)) == 24


@every_kind
def test_a_missing_file_is_an_error(kind, folder):
    dataset = write_dataset(folder)
    path = next(iter(dataset.exposures("train"))).path
    path.unlink()
    with pytest.raises(DatasetError, match=f"{path}: is missing"):
        open_stamps(dataset, "train", CPU)
    with pytest.raises(DatasetError, match=f"{path}: is missing"):
        sources(dataset, kind)[0].take(torch.arange(2))
