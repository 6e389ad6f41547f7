"""Masks beside masked pixels: what a mask of star cores, bad columns or hot pixels does to the pixels around it.

Judged are the pixels within 7 x 7 of masked ones, on simulated exposures of ACS/WFC. *All unmasked*: the sound image without
a mask. *Replaced*: masked pixels hold values of their neighbours. *As found*: what the networks of this package see.

    python benchmarks/masked.py
"""

from __future__ import annotations

import argparse
import datetime
import platform
import warnings
from collections.abc import Callable, Iterator
from importlib.metadata import version

import numpy as np
import torch
from networks import mask_model
from scipy import ndimage
from skyrange import CLEAN, FOUND, TRUE_SKY, Scene, scenes

from deepcr_zoo.errors import ImageWarning
from deepcr_zoo.machine import processor_name
from deepcr_zoo.models.images import near, replace_from_neighbours

CORES = (3000, 10_000, 40_000)  # e-, above which a core is masked
EXCESSES = (300, 5000, 100_000)  # e-, of hot pixels
EDGE = 24  # columns of overscan
READ_NOISE = 4.0
TOUCHING = np.ones((3, 3))

Masked = tuple[str, np.ndarray, np.ndarray]


def masked_images(image: np.ndarray, scene: Scene, rng: np.random.Generator) -> Iterator[Masked]:
    """A name, the image with what is wrong at the masked pixels, and the mask."""
    for limit in CORES:
        core = scene.light > limit
        yield f"star cores above {limit:,} e-", image, core
        yield f"star cores above {limit:,} e-, values lost (0)", np.where(core, 0, image), core
    for name, mask in areas(image.shape, rng):
        yield f"{name}, dead (0)", np.where(mask, 0, image), mask
        for excess in EXCESSES:
            yield f"{name}, hot by {excess:,} e-", image + excess * mask, mask
    edge = np.zeros(image.shape, dtype=bool)
    edge[:, :EDGE] = True
    yield f"overscan of {EDGE} columns", np.where(edge, rng.normal(0, READ_NOISE, image.shape), image), edge


def areas(shape: tuple[int, int], rng: np.random.Generator) -> Iterator[tuple[str, np.ndarray]]:
    """Columns, pixels and squares, by name."""
    starts = rng.choice(shape[1] - 3, 30, replace=False)
    for width in (1, 3):
        columns = np.zeros(shape, dtype=bool)
        columns[:, (starts[:, None] + np.arange(width)).ravel()] = True
        yield f"30 columns of width {width}", columns
    yield "1 % of the pixels", rng.random(shape) < 0.01
    centres = np.zeros(shape, dtype=bool)
    centres[rng.integers(5, shape[0] - 5, 60), rng.integers(5, shape[1] - 5, 60)] = True
    yield "60 squares of 7 x 7", near(centres, 7)


def rates(find: Callable[..., np.ndarray], fields: list[Scene]) -> dict[str, np.ndarray]:
    """TP, FP, TP, ..., then all cosmic-ray and clean pixels, beside each kind of mask."""
    sums: dict[str, np.ndarray] = {}
    for seed, scene in enumerate(fields):
        image, _, noise = scene.drawn(TRUE_SKY, TRUE_SKY, seed)
        image = (image + scene.hits).astype(np.float32)
        real = scene.hits > FOUND * noise
        clean = ~ndimage.binary_dilation(scene.hits > CLEAN * noise, TOUCHING)
        sound = find(image)
        for name, values, mask in masked_images(image, scene, np.random.default_rng(seed)):
            given = values.astype(np.float32)
            beside = near(mask) & ~mask
            found = [sound, find(replace_from_neighbours(given, mask, ~mask)), find(np.ma.MaskedArray(given, mask))]
            counts = [(one & kind & beside).sum() for one in found for kind in (real, clean)]
            sums[name] = sums.get(name, 0) + np.array([*counts, (real & beside).sum(), (clean & beside).sum()])
    return sums


def main() -> None:
    """Measure each network and print Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=["ACS-WFC-2-32"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", ImageWarning)
    software = ", ".join(f"{name} {version(name)}" for name in ("deepcr-zoo", "torch", "numpy"))
    print(f"{datetime.date.today()}, {processor_name()}, 1 thread, Python {platform.python_version()}, {software}")
    print(f"\n`python benchmarks/masked.py {' '.join(options.models)} --seeds {' '.join(map(str, options.seeds))}`")
    fields = scenes("acs-wfc-f606w", tuple(options.seeds))
    for name in options.models:
        model = mask_model(name)
        print(f"\n| {model.reference}, masked | all unmasked: TPR / FPR, % | replaced | as found |\n|---|---|---|---|")
        for kind, (*counts, real, clean) in rates(model.mask, fields).items():
            pairs = zip(counts[::2], counts[1::2], strict=True)
            cells = [f"{100 * tp / max(real, 1):.1f} / {100 * fp / clean:.3f}" for tp, fp in pairs]
            print(f"| {kind} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
