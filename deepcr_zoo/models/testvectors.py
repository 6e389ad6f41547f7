"""Test vectors: a small image and the output that every installation must reproduce.

The expected output comes from the network as it was trained (BatchNorm not folded), in float64, and so tests engines,
memory layout and folding independently.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import safetensors
import safetensors.numpy
import torch
from numpy.typing import NDArray
from torch import Tensor

from deepcr_zoo.errors import InvalidWeightsError
from deepcr_zoo.models.images import LIMIT, has_value
from deepcr_zoo.models.interpolation import LAYERS, interpolate
from deepcr_zoo.models.nets import UNet
from deepcr_zoo.models.networkinput import noise_scaling
from deepcr_zoo.models.skynoise import frame_noise
from deepcr_zoo.models.weights import TensorFacts, check_tensors, read_header
from deepcr_zoo.zoo.cards import Card

SEED = 2020  # seed of the example image in stored test vectors
_HOLE = slice(20, 24 + 2 * LAYERS)  # rows and columns that are masked where pixels start from an estimate: deeper than it
SHAPE = (128, 96)  # height and width of the example image: multiples of 4, and not square, to reveal a transposed axis
MOST_PIXELS = 4_000_000  # largest image accepted in a test vector, which may come from an untrusted file


@dataclass(frozen=True)
class VectorArrays:
    """The arrays of a test vector, all of one shape (H, W)."""

    image: NDArray[np.float32]  # in the card's input unit
    mask: NDArray[np.bool_]  # true where the example has a cosmic ray; the inpainting mask of an inpainting model
    expected: NDArray[np.float32]  # probability (mask model), or the repainted image in the card's unit (inpainting model)


def read(data: bytes, where: str) -> VectorArrays:
    """Parse a test vector file: a safetensors file with exactly the three arrays, of one shape."""
    header = read_header(data, where)
    shape = header["image"].shape if "image" in header else SHAPE
    if len(shape) != 2 or shape[0] * shape[1] > MOST_PIXELS:
        raise InvalidWeightsError(f"{where}: image: expected (H, W) of at most {MOST_PIXELS:,} pixels, got shape {shape}")
    expected = {"image": TensorFacts("F32", shape), "mask": TensorFacts("U8", shape), "expected": TensorFacts("F32", shape)}
    check_tensors(header, expected, where, "a test vector")
    try:
        arrays = safetensors.numpy.load(data)
    except safetensors.SafetensorError as error:
        raise InvalidWeightsError(f"{where}: expected a safetensors file with image, mask and expected: {error}") from None
    vector = VectorArrays(arrays["image"], arrays["mask"].astype(bool), arrays["expected"])
    _check(vector, where)
    return vector


def _check(vector: VectorArrays, where: str) -> None:
    """Refuse a test vector that no network can fail."""
    for name, values in (("image", vector.image), ("expected", vector.expected)):
        if not has_value(values).all():
            raise InvalidWeightsError(f"{where}: test vector: {name}: expected numbers between -{LIMIT:g} and {LIMIT:g}")
    if not vector.mask.any():
        raise InvalidWeightsError(f"{where}: test vector: mask: expected a cosmic ray, got none")


def serialise(vector: VectorArrays) -> bytes:
    """Return the safetensors file of a test vector."""
    return safetensors.numpy.save({"image": vector.image, "mask": vector.mask.astype(np.uint8), "expected": vector.expected})


def make(network: UNet, card: Card, seed: int) -> VectorArrays:
    """Make the test vector of a network as it was trained (from `weights.trained_network`)."""
    return make_with(copy.deepcopy(network).double(), card, seed)


def make_with(network: Callable[[Tensor], Tensor], card: Card, seed: int) -> VectorArrays:
    """Make a test vector with a function that maps channels, (1, C, H, W) in float64, to the output, (1, O, H, W)."""
    image, mask = example_image(seed)
    scaled = torch.from_numpy(image).double() / card.input.scale
    mean, deviation = torch.zeros(()), torch.ones(())
    if card.input.normalisation == "frame-standardise":
        mean, deviation = scaled.mean(), scaled.std(correction=0)
    if card.input.by_noise:
        (found,) = frame_noise(image)
        mean, deviation = torch.tensor(found.sky).double(), torch.tensor(found.noise).double()
    scaled = (scaled - mean) / deviation
    if card.input.by_noise:
        scaled = scaled.asinh()
    shown = scaled * torch.from_numpy(~mask)
    if card.identity.task == "inpaint" and card.input.by_noise:
        mask[_HOLE, _HOLE] = True
        shown = torch.from_numpy(interpolate(image, mask, noise_scaling(image, noise=(found,)))).double()
    inputs = [scaled] if card.identity.task == "mask" else [shown, torch.from_numpy(mask).double()]
    with torch.inference_mode():
        output = network(torch.stack(inputs)[None])[0, 0]  # the second one of some is the uncertainty
    if card.identity.task == "mask":
        return VectorArrays(image, mask, output.sigmoid().float().numpy())
    if card.input.by_noise:
        output = (output + shown).sinh()
    filled = (output * deviation + mean) * card.input.scale
    return VectorArrays(image, mask, np.where(mask, filled.float().numpy(), image))


def example_image(seed: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return a small image of stars and galaxies in e-, and its cosmic rays (True above 20 e-), both of shape `SHAPE`.

    Sky of 60 e-, read noise 4 e-, Moffat stars of 1.75 px FWHM, exponential galaxies, straight tracks one pixel wide. It is
    for tests and the demo, not for training.
    """
    rng = np.random.default_rng(seed)
    scene = np.full(SHAPE, 60.0)
    for flux in 10 ** rng.uniform(2.0, 4.8, size=14):
        y, x = rng.uniform(0, 1, 2) * SHAPE
        scene += flux * _moffat(y, x)
    for flux in 10 ** rng.uniform(3.0, 4.0, size=4):
        y, x = rng.uniform(0, 1, 2) * SHAPE
        scene += flux * _exponential(y, x, rng.uniform(1.5, 4.0))
    deposit = np.zeros(SHAPE)
    for _ in range(30):
        _add_track(deposit, rng)
    image = rng.poisson(scene) + deposit + rng.normal(0, 4.0, SHAPE)
    return image.astype(np.float32), deposit > 20.0


def _distance_squared(y: float, x: float) -> NDArray[np.float64]:
    rows, columns = np.indices(SHAPE)
    return np.asarray((rows - y) ** 2 + (columns - x) ** 2, dtype=np.float64)


def _moffat(y: float, x: float, core: float = 1.55, beta: float = 2.5) -> NDArray[np.float64]:
    return (beta - 1) / (np.pi * core**2) * (1 + _distance_squared(y, x) / core**2) ** -beta


def _exponential(y: float, x: float, scale: float) -> NDArray[np.float64]:
    return np.exp(-np.sqrt(_distance_squared(y, x)) / scale) / (2 * np.pi * scale**2)


def _add_track(deposit: NDArray[np.float64], rng: np.random.Generator) -> None:
    length, angle = rng.uniform(1, 14), rng.uniform(0, 2 * np.pi)
    along = np.arange(0, length, 0.25)
    start = rng.uniform(0, 1, 2) * SHAPE
    rows = (start[0] + along * np.sin(angle)).astype(int)
    columns = (start[1] + along * np.cos(angle)).astype(int)
    inside = (rows >= 0) & (rows < SHAPE[0]) & (columns >= 0) & (columns < SHAPE[1])
    energy = 10 ** rng.uniform(1.6, 3.2) * rng.uniform(0.6, 1.4, along.size) / 4
    np.add.at(deposit, (rows[inside], columns[inside]), energy[inside])
