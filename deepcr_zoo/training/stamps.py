"""Stamps for the trainer: all on the device where they fit, else read from their files as they are needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from deepcr_zoo import machine
from deepcr_zoo.dataset.reading import Dataset, ExposureStamps, Stamps
from deepcr_zoo.dataset.store import StampSplit
from deepcr_zoo.errors import TrainingError
from deepcr_zoo.training.distributed import processes_here

SHARE_OF_MEMORY = 0.25
"""Of the memory that stamps of a split may take; networks, gradients and everything else need the rest."""

LAYERS = ("image", "cosmic_rays", "ignore")


@dataclass(frozen=True)
class StampBatch:
    """Some stamps.

    Attributes
    ----------
    numbers : Tensor of int64, shape (N,)
        Of the stamps, in their split.
    image : Tensor of float32, shape (N, S, S)
        e-.
    cosmic_rays, ignore : Tensor of bool, shape (N, S, S)
        CR mask and ignore mask.
    sky : Tensor of float32, shape (N,)
        Sky level, e-.
    """

    numbers: Tensor
    image: Tensor
    cosmic_rays: Tensor
    ignore: Tensor
    sky: Tensor

    def with_image(self, image: Tensor) -> StampBatch:
        """The same with another image."""
        return replace(self, image=image)


class StampSource(Protocol):
    """The stamps of a split, by number."""

    device: torch.device
    is_resident: bool

    def __len__(self) -> int:
        """How many there are."""

    def take(self, numbers: Tensor) -> StampBatch:
        """Some of them, on the device."""

    def cosmic_rays(self, numbers: Tensor) -> Tensor:
        """CR masks of some of them, bool, shape (N, S, S), on the device."""


class ResidentStamps:
    """Stamps that are all on the device.

    Parameters
    ----------
    groups : sequence of ExposureStamps
    device : torch.device
    """

    def __init__(self, groups: Sequence[ExposureStamps], device: torch.device) -> None:
        layers: dict[str, list[Tensor]] = {name: [] for name in LAYERS}
        for group in groups:
            for name, tensor in group.read(*LAYERS).items():
                layers[name].append(torch.from_numpy(tensor).to(device))
        self.device = device
        self.is_resident = True
        self._image = torch.cat(layers["image"])
        self._cosmic_rays = torch.cat(layers["cosmic_rays"]).bool()
        self._ignore = torch.cat(layers["ignore"]).bool()
        self._sky = torch.tensor(_sky_levels(groups), device=device)

    def __len__(self) -> int:
        return len(self._image)

    def take(self, numbers: Tensor) -> StampBatch:
        """Some stamps."""
        numbers = numbers.to(self.device)
        layers = (self._image, self._cosmic_rays, self._ignore, self._sky)
        return StampBatch(numbers, *(layer[numbers] for layer in layers))

    def cosmic_rays(self, numbers: Tensor) -> Tensor:
        """CR masks of some stamps."""
        return self._cosmic_rays[numbers.to(self.device)]


class MappedStamps:
    """Stamps that stay in their files, which are mapped into memory; same results, for training sets of any size.

    Parameters
    ----------
    groups : sequence of ExposureStamps
    device : torch.device
    """

    def __init__(self, groups: Sequence[ExposureStamps], device: torch.device) -> None:
        self.device = device
        self.is_resident = False
        self._stamps = Stamps(groups)
        self._sky = torch.tensor(_sky_levels(groups))

    def __len__(self) -> int:
        return len(self._stamps)

    def take(self, numbers: Tensor) -> StampBatch:
        """Some stamps, read from their files."""
        numbers = numbers.cpu()
        stamps = [self._stamps[number] for number in numbers.tolist()]
        image, cosmic_rays, ignore = (self._stacked([getattr(one, name) for one in stamps]) for name in LAYERS)
        sky = self._sky[numbers].to(self.device)
        return StampBatch(numbers.to(self.device), image, cosmic_rays.bool(), ignore.bool(), sky)

    def cosmic_rays(self, numbers: Tensor) -> Tensor:
        """CR masks of some stamps, read from their files."""
        return self._stacked([self._stamps[number].cosmic_rays for number in numbers.tolist()]).bool()

    def _stacked(self, arrays: list[np.ndarray]) -> Tensor:
        return torch.from_numpy(np.stack(arrays)).to(self.device)


def open_stamps(dataset: Dataset, split: StampSplit, device: torch.device) -> StampSource:
    """The stamps of a split.

    Raises
    ------
    TrainingError
        If there is none, or every pixel of each is ignored.
    DatasetError
        If a file is missing or damaged.
    """
    groups = list(dataset.exposures(split))
    if not groups:
        raise TrainingError(
            f"{dataset.folder}: has no {split} stamp: see the counts in its manifest, and give the recipe more visits"
        )
    if not any((group.read("ignore")["ignore"] == 0).any() for group in groups):
        raise TrainingError(
            f"{dataset.folder}: every pixel of every {split} stamp is ignored: see build.ignore of the recipe"
        )
    stamps, side = sum(len(group.indices) for group in groups), dataset.manifest.stamp_size
    fits = stamps * side**2 * (4 + 1 + 1) < SHARE_OF_MEMORY * _memory(device)
    return (ResidentStamps if fits else MappedStamps)(groups, device)


def _memory(device: torch.device) -> float:
    """Bytes that there are for everything; where the system does not tell, stamps stay in their files."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return (machine.memory_bytes() or 0) / processes_here()  # each process has all stamps


def _sky_levels(groups: Sequence[ExposureStamps]) -> list[float]:
    return list(chain.from_iterable([group.exposure.sky_electron] * len(group.indices) for group in groups))
