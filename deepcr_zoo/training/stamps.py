"""Training stamps: all on the device where they fit, else read from their files batch by batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from deepcr_zoo import machine
from deepcr_zoo.dataset.reading import Dataset, ExposureStamps, Stamps
from deepcr_zoo.dataset.store import StampSplit
from deepcr_zoo.errors import TrainingError
from deepcr_zoo.training.distributed import processes_here
from deepcr_zoo.zoo.recipe import Normalisation

# share of the memory for the stamps of a split; the network, its gradients and everything else need the rest
SHARE_OF_MEMORY = 0.25
LAYERS = ("image", "cosmic_rays", "ignore")
BYTES_PER_PIXEL = 4 + 1 + 1


@dataclass(frozen=True)
class StampBatch:
    numbers: Tensor  # numbers of the stamps in the split, int64, shape (N,)
    image: Tensor  # electrons, float32, shape (N, S, S)
    cosmic_rays: Tensor  # CR mask, bool, shape (N, S, S)
    ignore: Tensor  # ignore mask, bool, shape (N, S, S)
    sky: Tensor  # sky level in electrons, float32, shape (N,)
    noise: Tensor | None = None  # measured sky and noise of the chip in electrons, float32, shape (N, 2), if they are used

    def with_image(self, image: Tensor) -> StampBatch:
        return replace(self, image=image)


class ResidentStamps:
    """Stamps that are all on the device; stamps are taken by their numbers in the split."""

    is_resident = True

    def __init__(
        self, groups: Sequence[ExposureStamps], device: torch.device, normalisation: Normalisation = "scale"
    ) -> None:
        layers: dict[str, list[Tensor]] = {name: [] for name in LAYERS}
        for group in groups:
            for name, tensor in group.read(*LAYERS).items():
                layers[name].append(torch.from_numpy(tensor).to(device))
        self.device = device
        self._image = torch.cat(layers["image"])
        self._cosmic_rays = torch.cat(layers["cosmic_rays"]).bool()
        self._ignore = torch.cat(layers["ignore"]).bool()
        self._sky = torch.tensor(_sky_levels(groups), device=device)
        self._noise = _noise(groups, normalisation)

    def __len__(self) -> int:
        return len(self._image)

    def take(self, numbers: Tensor) -> StampBatch:
        numbers = numbers.to(self.device)
        image, cosmic_rays, ignore, sky = (
            layer[numbers] for layer in (self._image, self._cosmic_rays, self._ignore, self._sky)
        )
        return StampBatch(numbers, image, cosmic_rays, ignore, sky, _of(self._noise, numbers))

    def cosmic_rays(self, numbers: Tensor) -> Tensor:
        """Return the CR masks of some stamps, bool, shape (N, S, S), on the device."""
        return self._cosmic_rays[numbers.to(self.device)]


class MappedStamps:
    """Stamps that stay in their files, mapped into memory: the same results for training sets of any size."""

    is_resident = False

    def __init__(
        self, groups: Sequence[ExposureStamps], device: torch.device, normalisation: Normalisation = "scale"
    ) -> None:
        self.device = device
        self._stamps = Stamps(groups)
        self._sky = torch.tensor(_sky_levels(groups))
        self._noise = _noise(groups, normalisation)

    def __len__(self) -> int:
        return len(self._stamps)

    def take(self, numbers: Tensor) -> StampBatch:
        numbers = numbers.cpu()
        stamps = [self._stamps[number] for number in numbers.tolist()]
        image, cosmic_rays, ignore = (self._stacked([getattr(stamp, name) for stamp in stamps]) for name in LAYERS)
        sky = self._sky[numbers].to(self.device)
        numbers = numbers.to(self.device)
        return StampBatch(numbers, image, cosmic_rays.bool(), ignore.bool(), sky, _of(self._noise, numbers))

    def cosmic_rays(self, numbers: Tensor) -> Tensor:
        return self._stacked([self._stamps[number].cosmic_rays for number in numbers.tolist()]).bool()

    def _stacked(self, arrays: list[np.ndarray]) -> Tensor:
        return torch.from_numpy(np.stack(arrays)).to(self.device)


StampSource = ResidentStamps | MappedStamps


def open_stamps(
    dataset: Dataset, split: StampSplit, device: torch.device, normalisation: Normalisation = "scale"
) -> StampSource:
    """Return the stamps of a split; TrainingError if there is none, or every pixel of each is ignored."""
    groups = list(dataset.exposures(split))
    if not groups:
        raise TrainingError(
            f"{dataset.folder}: has no {split} stamp: see the counts in its manifest, and give the recipe more visits"
        )
    if not any((group.read("ignore")["ignore"] == 0).any() for group in groups):
        problem = f"every pixel of every {split} stamp is ignored"
        raise TrainingError(f"{dataset.folder}: {problem}: see build.ignore of the recipe")
    pixels = sum(len(group.indices) for group in groups) * dataset.manifest.stamp_size**2
    fits = pixels * BYTES_PER_PIXEL < SHARE_OF_MEMORY * _memory_bytes(device)
    return (ResidentStamps if fits else MappedStamps)(groups, device, normalisation)


def _memory_bytes(device: torch.device) -> float:
    """Return the memory for everything; 0, so that stamps stay in their files, where the system does not report it."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return (machine.memory_bytes() or 0) / processes_here()  # each process has all stamps


def _noise(groups: Sequence[ExposureStamps], normalisation: Normalisation) -> Tensor | None:
    if normalisation != "noise":
        return None
    measured = [(found.sky, found.noise) for group in groups for (found,) in group.noise()]
    return torch.tensor(measured, dtype=torch.float32)


def _of(noise: Tensor | None, numbers: Tensor) -> Tensor | None:
    return None if noise is None else noise[numbers.cpu()].to(numbers.device)


def _sky_levels(groups: Sequence[ExposureStamps]) -> list[float]:
    return [group.exposure.sky_electron for group in groups for _ in group.indices]
