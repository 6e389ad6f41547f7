"""Inpainting on real repeats: what is repainted in one exposure of a pair is compared with the other.

The pairs and their labels are those of `repeats.py`; no network of the zoo was trained on them, and none of these figures
was used to choose anything. The mask is the label and its neighbours, so that no faint rest of a track is left. Pixels of
the label are judged that no cosmic ray hits in the other exposure. The truth is the other exposure and the median difference
of both around the pixel; its noise, and what the sky lines differ, is in all errors, so that a perfect method has a mean
squared error of about 1 in units of the noise.

    python benchmarks/repainted_repeats.py --data DATA --models CCD-ANY-3-16 ACS-WFC-F606W-2-32
"""

from __future__ import annotations

import argparse
import datetime
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from networks import inpainter
from numpy.typing import NDArray
from repeats import GROUND, Image, Mask, Pair, labelled, pairs
from scipy import ndimage
from synthetic_visits import command

from deepcr_zoo.bench.results import BIHARMONIC, MEDIAN
from deepcr_zoo.machine import processor_name
from deepcr_zoo.models.baselines import biharmonic, medmask
from deepcr_zoo.models.model import InpaintModel

Values = NDArray[np.float64]
RESAMPLINGS, SEED = 500, 1
BASELINES = {MEDIAN: medmask, BIHARMONIC: biharmonic}


@dataclass(frozen=True)
class Hidden:
    """An exposure, the pixels that are repainted, and of those that are judged: true values, noise and block of each."""

    image: Image
    mask: Mask
    judged: Mask
    true: Values
    noise: Values
    block: NDArray[np.int64]


def hidden(pair: Pair) -> Iterator[Hidden]:
    """Yield both exposures of a pair."""
    frames = labelled(pair)
    for frame, other in (frames, frames[::-1]):
        difference = frame.image - other.image
        judged = frame.struck & frame.counted & ~ndimage.binary_dilation(other.struck, np.ones((3, 3)))
        expected = (other.image + ndimage.median_filter(difference, pair.box))[judged].astype(np.float64)
        noise = np.sqrt(np.maximum(expected, 0) + pair.read_noise**2)
        mask = ndimage.binary_dilation(frame.struck, np.ones((3, 3)))
        yield Hidden(frame.image, mask, judged, expected, noise, frame.blocks[judged])


def errors(method: str, models: Mapping[str, InpaintModel], one: Hidden) -> tuple[Values, Values]:
    """Return errors, and predicted uncertainties (NaN without), in units of the noise of the judged pixels."""
    if method in models:
        values, unsure = models[method].repaint(one.image, one.mask)
    else:
        values, unsure = BASELINES[method](one.image[None], one.mask[None])[0], None
    error = (values[one.judged] - one.true) / one.noise
    return error, np.full_like(error, np.nan) if unsure is None else unsure[one.judged] / one.noise


def judge(name: str, exposures: list[Hidden], models: Mapping[str, InpaintModel]) -> Iterator[str]:
    """Yield the table of a spectrograph; the first method is compared with each."""
    firsts = np.cumsum([0, *(int(one.block.max()) + 1 for one in exposures)])
    numbers = np.concatenate([one.block + at for one, at in zip(exposures, firsts, strict=False)])
    _, block = np.unique(numbers, return_inverse=True)
    blocks = int(block.max()) + 1
    drawn = np.random.default_rng(SEED).multinomial(blocks, np.full(blocks, 1 / blocks), RESAMPLINGS)
    first, *others = [*models, *BASELINES]
    found = {method: [errors(method, models, one) for one in exposures] for method in (first, *others)}
    yield f"\n{name}: {len(exposures)} exposures, {len(block):,} pixels of cosmic rays\n"
    yield f"| method | mean squared error | that of {first} / this | median error | bias | within 1, 2 sigma (%) |"
    yield "|---" * 6 + "|"
    of_first = np.bincount(block, np.concatenate([error for error, _ in found[first]]) ** 2)
    for method, parts in found.items():
        error, unsure = (np.concatenate(part) for part in zip(*parts, strict=True))
        squared = np.bincount(block, error**2)
        low, high = np.quantile(drawn @ of_first / (drawn @ squared), [0.025, 0.975])
        ratio = "-" if method == first else f"{of_first.sum() / squared.sum():.2f} ({low:.2f} to {high:.2f})"
        within = ", ".join(f"{100 * np.mean(abs(error) < times * unsure):.0f}" for times in (1, 2))
        shown = [f"{np.mean(error**2):.2f}", ratio, f"{np.median(abs(error)):.2f}", f"{np.mean(error):+.2f}"]
        yield f"| {method} | " + " | ".join([*shown, "-" if np.isnan(unsure).all() else within]) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with frames/ and stis_crsplit/")
    parser.add_argument("--models", nargs="+", default=["CCD-ANY-3-16", "ACS-WFC-F606W-2-32"])
    parser.add_argument("--pairs", nargs="+", choices=[*GROUND, "STIS"], default=[*GROUND, "STIS"])
    given = parser.parse_args()
    models = {f"inpaint/{one}": inpainter(f"inpaint/{one}") for one in given.models}
    print(f"{datetime.date.today()}, {processor_name()}: {command()}")
    for name in given.pairs:
        exposures = [one for pair in pairs(name, given.data) for one in hidden(pair)]
        for line in judge(name, exposures, models):
            print(line, flush=True)


if __name__ == "__main__":
    main()
