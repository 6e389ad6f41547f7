"""Networks that see pixels in units of the noise: one marks sharp pixels, one paints at random."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import safetensors.torch
import torch

from deepcr_zoo.models.model import InpaintModel, MaskModel, load_resolved
from deepcr_zoo.models.nets import UNet
from deepcr_zoo.models.networkinput import johnson_deviation
from deepcr_zoo.publishing.importing import StatedFacts, import_file
from deepcr_zoo.training.calibration import masked_pixels
from deepcr_zoo.zoo.registry import Architecture, ResolvedModel

NAME, PAINTER, FAST, UNSURE = "ANY-2-2", "ANY-2-6", "ANY-2-3-S", "ANY-2-6-U"
SHARPNESS = 4.0  # a pixel is marked if asinh of its signal to noise exceeds the mean of its neighbours by so much


def sharp_pixels() -> UNet:
    """A mask network made by hand: the skip carries how far a pixel is above the mean of its eight neighbours."""
    network = UNet(Architecture(depth=2, hidden=2, norm="none"), "mask")
    with torch.no_grad():
        for tensor in network.state_dict().values():
            tensor.zero_()
        weights = network.state_dict()
        weights["encoder.0.conv1.weight"][0, 0] = torch.full((3, 3), -1 / 8)
        weights["encoder.0.conv1.weight"][0, 0, 1, 1] = 1
        for name in ("encoder.0.conv2", "decoder.0.conv1", "decoder.0.conv2"):
            weights[f"{name}.weight"][0, 0, 1, 1] = 1
        weights["head.weight"][0, 0] = 8
        weights["head.bias"][0] = -8 * SHARPNESS
    return network.eval()


def random_painter() -> UNet:
    """An inpainting network whose output differs from pixel to pixel."""
    torch.manual_seed(4)
    return UNet(Architecture(depth=2, hidden=6, norm="none"), "inpaint").eval()


def random_network(name: str) -> UNet:
    """One whose outputs differ from pixel to pixel: a fast mask network, or inpainting with uncertainties."""
    torch.manual_seed(5)
    if name == FAST:
        return UNet(Architecture(depth=2, hidden=3, norm="batch", stride=2), "mask").eval()
    return UNet(Architecture(depth=2, hidden=6, norm="none", outputs=2), "inpaint").eval()


def imported(folder: Path, name: str = NAME) -> ResolvedModel:
    """One of these networks, imported into the user's own registry; DEEPCR_ZOO_DATA must be of the test."""
    made = {NAME: sharp_pixels, PAINTER: random_painter}
    network = made[name]() if name in made else random_network(name)
    safetensors.torch.save_file(network.state_dict(), folder / f"{name}.safetensors")
    return import_file(folder / f"{name}.safetensors", StatedFacts(name, unit="any")).model


def loaded(folder: Path, name: str = NAME) -> MaskModel | InpaintModel:
    return load_resolved(imported(folder, name), "cpu", engine="torch")


def sky_with_tracks(shape: tuple[int, int], seed: int, sky: float = 100.0) -> tuple[np.ndarray, np.ndarray]:
    """Electrons of a field of wide stars, with the noise of a read noise of 5 e-, and where its cosmic rays are."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    scene = np.full(shape, sky)
    for _ in range(shape[0] * shape[1] // 1500):
        row, column = random.uniform(0, shape[0]), random.uniform(0, shape[1])
        scene += 10 ** random.uniform(1.5, 3.5) * np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / 8)
    image = random.poisson(scene) + random.normal(0, 5, shape)
    struck = np.zeros(shape, dtype=bool)
    places = random.integers(0, [[shape[0]], [shape[1]]], (2, shape[0] * shape[1] // 500))
    struck[tuple(places)] = True
    return image + struck * 3000.0, struck


def share_within(weights, recipe, dataset):
    """Share of the masked validation pixels whose error is below the predicted uncertainty."""
    within = total = 0
    for true, values, logarithms in masked_pixels(weights, recipe, dataset, torch.device("cpu")):
        error = abs(torch.sinh(torch.from_numpy(true)) - torch.sinh(torch.from_numpy(values))).numpy()
        within += (error < johnson_deviation(values, logarithms)).sum()
        total += error.size
    return within / total
