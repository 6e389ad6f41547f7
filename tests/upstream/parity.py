"""Outputs of upstream's own network classes with upstream's own files, to compare with ours."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deepcr_zoo.models import testvectors
from deepcr_zoo.models.model import InpaintModel, MaskModel
from deepcr_zoo.zoo import sources
from deepcr_zoo.zoo.cards import read_card
from deepcr_zoo.zoo.registry import TEST_VECTOR_FILE, ResolvedModel
from tests.published_networks import PUBLISHED
from tests.scenes import star_field

# module and class of each (release, task, depth, normalisation)
CLASSES = {
    ("0.1.5", "mask", 2, "batch"): ("unet", "UNet2Sigmoid"),
    ("0.3.1", "mask", 2, "batch"): ("unet_batchnorm", "UNet2SigmoidBatchNorm"),
    ("0.3.1", "mask", 2, "none"): ("unet", "UNet2Sigmoid"),
    ("0.3.1", "inpaint", 2, "batch"): ("unet_batchnorm", "UNet2BatchNorm"),
    ("0.3.1", "inpaint", 3, "batch"): ("unet_batchnorm", "UNet3BatchNorm"),
}
SHAPES = [(512, 512), (300, 516), (64, 64), (300, 517)]
TEST_VECTOR = "test vector"


@dataclass(frozen=True, eq=False)
class Case:
    """An image, and upstream's output for it; arrays have the shape (H, W)."""

    name: str
    image: np.ndarray
    cosmic_rays: np.ndarray  # also the inpainting mask
    reference: np.ndarray  # probability, or the filled image
    unit: float  # of differences: 1, or the largest filled value

    def found(self, model: MaskModel | InpaintModel) -> np.ndarray:
        """Return the output of one of our models."""
        return model.predict(self.image) if isinstance(model, MaskModel) else model.fill(self.image, self.cosmic_rays)

    def difference(self, model: MaskModel | InpaintModel) -> float:
        """Return the largest difference, in units of `unit`."""
        return float(np.abs(self.found(model) - self.reference).max() / self.unit)


def tolerance(model: ResolvedModel) -> float:
    """Return the largest difference allowed: with few channels each weighs more."""
    return 1e-4 if model.locked.architecture.hidden == 4 else 1e-5


def run_upstream(model: ResolvedModel, sdists: Path, folder: Path) -> list[Case]:
    """Run upstream's network on the test vector and on star fields, in a process that imports none of our code.

    `sdists` holds upstream's releases; `folder` is empty and takes files.
    """
    architecture, upstream = model.locked.architecture, read_card(model).provenance.upstream
    assert upstream is not None
    with tarfile.open(sdists / f"deepCR-{upstream.release}.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    images = dict(_images(model))
    np.savez(folder / "input.npz", **{name: _network_input(model, *layers) for name, layers in images.items()})
    release = folder / f"deepCR-{upstream.release}"
    module, network = CLASSES[upstream.release, model.entry.task, architecture.depth, architecture.norm]
    arguments = [release, module, network, 1 if model.entry.task == "mask" else 2, architecture.hidden]
    files = [release / upstream.file, folder / "input.npz", folder / "output.npz"]
    script = Path(__file__).parent / "run_network.py"
    subprocess.run([sys.executable, script, *map(str, arguments), *files], check=True)
    outputs = np.load(folder / "output.npz")
    return [_case(model, name, *layers, outputs[name]) for name, layers in images.items()]


def _images(model: ResolvedModel) -> Iterator[tuple[str, tuple[np.ndarray, np.ndarray]]]:
    vector = testvectors.read(sources.fetch(model, TEST_VECTOR_FILE).data, model.reference)
    yield TEST_VECTOR, (vector.image, vector.mask)
    for seed, shape in enumerate(SHAPES):
        yield f"star field of {shape[0]} x {shape[1]} pixels, seed {seed}", star_field(shape, seed)


def _network_input(model: ResolvedModel, image: np.ndarray, cosmic_rays: np.ndarray) -> np.ndarray:
    """Scale by the table of published networks, in float32 as upstream does, and pad as we do."""
    _, _, scale, normalisation, _ = PUBLISHED[model.reference]
    scaled = image / np.float32(scale)
    if normalisation == "frame-standardise":
        scaled = (scaled - scaled.mean()) / scaled.std()
    channels = [scaled] if model.entry.task == "mask" else [scaled * ~cosmic_rays, cosmic_rays]
    multiple, (height, width) = read_card(model).input.multiple, image.shape
    padding = ((0, 0), (0, -height % multiple), (0, -width % multiple))
    return np.pad(np.stack(channels).astype(np.float32), padding, mode="edge")


def _case(model: ResolvedModel, name: str, image: np.ndarray, cosmic_rays: np.ndarray, output: np.ndarray) -> Case:
    reference = output[: image.shape[0], : image.shape[1]]
    if model.entry.task == "mask":
        return Case(name, image, cosmic_rays, reference, 1.0)
    scale = PUBLISHED[model.reference][2]
    reference = np.where(cosmic_rays, reference * np.float32(scale), image)
    return Case(name, image, cosmic_rays, reference, float(np.abs(reference[cosmic_rays]).max()))
