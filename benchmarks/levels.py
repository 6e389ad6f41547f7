"""Noise of the background / what its level would give, of simulated frames that are sound and that are not.

Ratios are to the least and to the greatest expected noise (see `deepcr_zoo.exposures.noisecheck`); a caution falls below
0.4 of the least (0.7 for whole numbers) and, where there is a level, above 3 times the greatest.

    python benchmarks/levels.py
"""

from __future__ import annotations

import argparse
import datetime
import platform
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from itertools import product
from pathlib import Path

import numpy as np
from astropy.io import fits
from scipy import ndimage

from deepcr_zoo.exposures.noisecheck import UNKNOWN, ReadNoise, level_problem, measure_background
from deepcr_zoo.machine import processor_name
from deepcr_zoo.simulate.cameras import simulated
from deepcr_zoo.simulate.simulation import SimulatedVisit, write_visit
from deepcr_zoo.zoo.recipe import SIMULATED_FIELD_TYPES
from deepcr_zoo.zoo.recipefiles import find_recipe, read_recipe

SHAPE = (512, 512)
SKIES = (0.1, 1.0, 5.0, 40.0, 200.0, 1000.0, 10_000.0)
READ_NOISES = (2.0, 5.0, 15.0)
GAINS = (0.5, 1.2, 2.0, 5.0)
TIMES_S = (0.5, 10.0, 400.0, 2000.0)

Exposure = tuple[np.ndarray, ReadNoise]
Frame = Exposure | tuple[np.ndarray, ReadNoise, bool]
"""Electrons, read noise, and whether it was read out as whole numbers."""


def blank(sky: float, read_noise: float, rng: np.random.Generator, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """An empty field, e-."""
    return np.asarray(rng.poisson(sky, shape) + rng.normal(0, read_noise, shape))


def crowded(sky: float, read_noise: float, rng: np.random.Generator) -> np.ndarray:
    """A star on every 30 pixels, FWHM 2.4 pixels."""
    light = np.zeros(SHAPE)
    number = light.size // 30
    light[rng.integers(0, SHAPE[0], number), rng.integers(0, SHAPE[1], number)] = 20 * (
        1 + rng.pareto(0.7, number).clip(0, 5e3)
    )
    scene = ndimage.gaussian_filter(light, 1.0) * 2 * np.pi + sky
    return np.asarray(rng.poisson(scene) + rng.normal(0, read_noise, SHAPE))


def spectrum(sky: float, read_noise: float, rng: np.random.Generator) -> np.ndarray:
    """A trace along the rows, sky lines along the columns, bad columns."""
    rows, columns = np.arange(SHAPE[0])[:, None], np.arange(SHAPE[1])
    scene = sky + 3000 * np.exp(-0.5 * ((rows - 250) / 3) ** 2) * np.ones(SHAPE)
    for centre, height in zip(rng.uniform(0, SHAPE[1], 60), 10 ** rng.uniform(1, 4.5, 60), strict=True):
        scene += height * np.exp(-0.5 * ((columns - centre) / 1.5) ** 2)
    image: np.ndarray = rng.poisson(scene) + rng.normal(0, read_noise, SHAPE)
    image[:, rng.integers(0, SHAPE[1], 5)] += 1e4
    return image


def binned(image: np.ndarray, side: int) -> np.ndarray:
    """Sums of side x side pixels."""
    rows, columns = (size // side for size in image.shape)
    return np.asarray(image[: rows * side, : columns * side].reshape(rows, side, columns, side).sum(axis=(1, 3)))


def resampled(image: np.ndarray) -> np.ndarray:
    """Turned by 7 degrees with linear interpolation, which correlates the noise of neighbours."""
    return np.asarray(ndimage.rotate(image, 7, reshape=False, order=1, mode="mirror"))


def visits(options: argparse.Namespace) -> Iterator[tuple[str, Exposure]]:
    """Cut-outs of simulated HST exposures of all field types, e-; read noise as in their headers."""
    for recipe, field_type, seconds in product(("acs-wfc-f606w", "wfc3-uvis"), SIMULATED_FIELD_TYPES, TIMES_S):
        instrument = simulated(read_recipe(find_recipe(recipe)).instrument)
        visit = SimulatedVisit(instrument, field_type, options.seed, 1, seconds, SHAPE[0])
        with tempfile.TemporaryDirectory() as folder:
            image = fits.getdata(write_visit(visit, Path(folder))[0], 1).astype(float)
        noise = instrument.read_noise_electron
        yield f"{instrument.instrument}/{instrument.detector}", (image, ReadNoise(noise / 1.5, noise * 1.5))


def sound(rng: np.random.Generator, options: argparse.Namespace) -> Iterator[tuple[str, Frame]]:
    """Frames without a fault: what they are, and the frame."""
    for name, (image, noise) in visits(options):
        yield f"simulated {name}, all field types, 0.5 to 2000 s", (image, noise)
        for gain in GAINS:
            yield "the same, whole numbers at 0.5 to 5 e-", (np.round(image / gain) * gain, noise, True)
        yield "the same, sky subtracted", (image - np.median(image), noise)
        yield "the same, turned by 7 degrees (linear interpolation)", (resampled(image), noise)
    for sky, read_noise in product(SKIES, READ_NOISES):
        image = blank(sky, read_noise, rng)
        fields = crowded(sky, read_noise, rng), spectrum(sky, read_noise, rng)
        yield "blank", (image, UNKNOWN)
        for gain in GAINS:
            for kind, drawn in (("blank", image), ("crowded", fields[0]), ("spectrum", fields[1])):
                yield f"{kind}, whole numbers at 0.5 to 5 e-", (np.round(drawn / gain) * gain, UNKNOWN, True)
        yield "crowded", (fields[0], UNKNOWN)
        yield "spectrum with sky lines and bad columns", (fields[1], UNKNOWN)
        yield "binned 2 x 2 or 4 x 4", (binned(blank(sky, read_noise, rng, (2048, 2048)), int(rng.choice([2, 4]))), UNKNOWN)
        for level in (0, -20, -100):
            yield "sky subtracted, level 0, -20, -100 e-", (image - sky + level, UNKNOWN)
        yield "turned by 7 degrees (linear interpolation)", (resampled(image), UNKNOWN)
        yield "not flat-fielded, 3 % from pixel to pixel", (image * rng.normal(1, 0.03, SHAPE), UNKNOWN)
        frames = [blank(sky, read_noise, rng) for _ in range(16)]
        yield "mean of 5", (np.mean(frames[:5], axis=0), UNKNOWN)
        for number in (2, 4, 16):
            yield f"sum of {number}", (np.sum(frames[:number], axis=0), UNKNOWN)
            yield f"mean of {number}", (np.mean(frames[:number], axis=0), UNKNOWN)


def faulty(rng: np.random.Generator, options: argparse.Namespace) -> Iterator[tuple[str, Frame]]:
    """Frames with a fault, of a sky of 40 e- and a read noise of 5 e- if nothing else is said."""
    for _ in range(4):
        image = blank(40, 5, rng)
        yield "BZERO of 32768 left over", (image + 32768, UNKNOWN)
        for bias in (300, 1000, 2500, 10_000):
            for gain in (1, 2):
                raw = np.round(image / gain + bias) * gain
                yield f"bias of {bias} counts left in, gain {gain}, whole numbers", (raw, UNKNOWN, True)
        for bias, sky in product((1000, 10_000), (200, 1000)):
            image_and_bias = blank(sky, 5, rng) + bias
            yield f"bias of {bias} e- left in, sky {sky} e-", (image_and_bias, UNKNOWN)
            yield f"the same, whole numbers, sky {sky} e-", (np.round(image_and_bias), UNKNOWN, True)
        for seconds in (5, 20, 50, 400):
            yield f"divided by {seconds} s", (image / seconds, UNKNOWN)
            yield f"divided by {seconds} s, read noise known", (image / seconds, ReadNoise(5 / 1.5, 5 * 1.5))
        for factor in (2, 10, 70):
            yield f"{factor} times the gain", (image * factor, UNKNOWN)
            yield f"{factor} times the gain, sky 1000 e-", (blank(1000, 5, rng) * factor, UNKNOWN)
            yield f"divided by {factor} in place of multiplied, sky 1000 e-", (blank(1000, 5, rng) / factor, UNKNOWN)


def row(name: str, frames: list[Frame]) -> str:
    """A line of the table."""
    ratios, cautions = [], 0
    for image, read_noise, *is_readout in frames:
        found = measure_background(image)
        cautions += level_problem(image, None, read_noise, *is_readout) is not None
        if found is not None and found.noise is not None:
            level = max(found.level, 0)
            ratios.append([found.noise / np.hypot(np.sqrt(level), one) for one in (read_noise.least, read_noise.most)])
    low, high = np.array(ratios).T
    ranges = [f"{ratio.min():.3f} to {ratio.max():.2f}" for ratio in (low, high)]
    return f"| {' | '.join([name, str(len(frames)), *ranges, str(cautions)])} |"


def main() -> None:
    """Measure all frames and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    packages = ", ".join(f"{name} {version(name)}" for name in ("deepcr-zoo", "numpy", "scipy"))
    print(f"{datetime.date.today()}, {processor_name()}, Python {platform.python_version()}, {packages}")
    print(f"\n`python benchmarks/levels.py --seed {options.seed}`\n")
    print("| frames | number | noise / least expected | noise / greatest expected | cautions |\n|---|---|---|---|---|")
    for kind in (sound, faulty):
        groups: dict[str, list[Frame]] = {}
        for name, frame in kind(np.random.default_rng(options.seed), options):
            groups.setdefault(name, []).append(frame)
        for name, frames in groups.items():
            print(row(name, frames), flush=True)


if __name__ == "__main__":
    main()
