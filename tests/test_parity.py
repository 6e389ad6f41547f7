"""Each seed model gives what upstream's own network class gives on upstream's own file."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest

import deepcr_zoo
from deepcr_zoo import sources, testvectors
from deepcr_zoo.cards import read_card
from deepcr_zoo.registry import TEST_VECTOR_FILE, default_registry
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


def scaled_as_published(scale: float, normalisation: str, image: np.ndarray) -> np.ndarray:
    """The input scaling of the table of published networks, in float32 as upstream does it."""
    scaled = image / np.float32(scale)
    return (scaled - scaled.mean()) / scaled.std() if normalisation == "frame-standardise" else scaled


def padded_like_ours(batch: np.ndarray, multiple: int) -> np.ndarray:
    height, width = batch.shape[-2:]
    return np.pad(batch, ((0, 0), (0, -height % multiple), (0, -width % multiple)), mode="edge")


@pytest.mark.network
@pytest.mark.parametrize("name", PUBLISHED)
def test_a_seed_model_agrees_with_upstreams_own_network(name: str, upstream_sdists: Path, tmp_path: Path) -> None:
    resolved = default_registry().resolve(name)
    card, architecture = read_card(resolved), resolved.locked.architecture
    upstream, task = card.provenance.upstream, resolved.entry.task
    assert upstream is not None
    _, _, scale, normalisation, threshold = PUBLISHED[name]
    with tarfile.open(upstream_sdists / f"deepCR-{upstream.release}.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    folder = tmp_path / f"deepCR-{upstream.release}"

    vector = testvectors.read(sources.fetch(resolved, TEST_VECTOR_FILE).data, name)
    cases = {"test vector": (vector.image, vector.mask)}
    cases |= {str(shape): star_field(shape, seed) for seed, shape in enumerate(SHAPES)}
    inputs = {}
    for key, (image, cosmic_rays) in cases.items():
        scaled = scaled_as_published(scale, normalisation, image)
        channels = [scaled] if task == "mask" else [scaled * ~cosmic_rays, cosmic_rays]
        inputs[key] = padded_like_ours(np.stack(channels).astype(np.float32), card.input.multiple)
    np.savez(tmp_path / "input.npz", **inputs)
    module, network = CLASSES[upstream.release, task, architecture.depth, architecture.norm]
    script = Path(__file__).parent / "upstream" / "run_network.py"
    arguments = [folder, module, network, 1 if task == "mask" else 2, architecture.hidden, folder / upstream.file]
    files = [tmp_path / "input.npz", tmp_path / "output.npz"]
    subprocess.run([sys.executable, script, *map(str, arguments), *files], check=True)

    references = np.load(tmp_path / "output.npz")
    model = deepcr_zoo.load(name)
    tolerance = 1e-4 if architecture.hidden == 4 else 1e-5
    for key, (image, cosmic_rays) in cases.items():
        reference = references[key][: image.shape[0], : image.shape[1]]
        if task == "mask":
            found = model.predict(image)
            tie = np.abs(reference - threshold) < tolerance
            np.testing.assert_array_equal(model.mask(image)[~tie], (reference > threshold)[~tie])
            assert (reference > threshold).any()  # the scene holds cosmic rays that upstream finds
            unit = 1.0
        else:
            found = model.fill(image, cosmic_rays)
            np.testing.assert_array_equal(found[~cosmic_rays], image[~cosmic_rays])
            reference = np.where(cosmic_rays, reference * np.float32(scale), image)
            unit = np.abs(reference[cosmic_rays]).max()
        assert np.abs(found - reference).max() <= tolerance * unit, key
        if key == "test vector":
            assert np.abs(vector.expected - reference).max() <= tolerance * unit
