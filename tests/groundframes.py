"""Raw frames of a ground-based camera that nothing describes: a primary image of unsigned 16-bit counts, with overscan."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from astropy.io import fits

SHAPE = (256, 288)
OVERSCAN = 16  # columns behind the light
GAIN, READ_NOISE, BIAS = 1.8, 6.0, 1000.0
SKY, SEEING = 400.0, 1.3  # e-; sigma in pixels
KEYWORDS = {
    "TELESCOP": "Test 1.0m",
    "INSTRUME": "TestCam",
    "GAIN": GAIN,
    "RDNOISE": READ_NOISE,
    "EXPTIME": 300.0,
    "FILTER": "R",
    "TRIMSEC": f"[1:{SHAPE[1]},1:{SHAPE[0]}]",
    "BIASSEC": f"[{SHAPE[1] + 1}:{SHAPE[1] + OVERSCAN},1:{SHAPE[0]}]",
}


def field(target: int, sky: float = SKY) -> np.ndarray:
    """Expected electrons of a field of stars."""
    random = np.random.default_rng([target, 1])
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    image = np.full(SHAPE, sky)
    for _ in range(40):
        row, column, flux = random.uniform(0, SHAPE[0]), random.uniform(0, SHAPE[1]), 10 ** random.uniform(3, 5)
        distance = (rows - row) ** 2 + (columns - column) ** 2
        image += flux / (2 * np.pi * SEEING**2) * np.exp(-distance / (2 * SEEING**2))
    return image


def cosmic_rays(random: np.random.Generator, count: int = 40) -> np.ndarray:
    """Electrons of straight tracks."""
    struck = np.zeros(SHAPE)
    for _ in range(count):
        row, column, angle = random.uniform(2, SHAPE[0] - 3), random.uniform(2, SHAPE[1] - 3), random.uniform(0, np.pi)
        length, charge = random.exponential(4) + 1, random.uniform(300, 3000)
        for step in np.arange(0, length, 0.5):
            place = round(row + step * np.sin(angle)), round(column + step * np.cos(angle))
            if 0 <= place[0] < SHAPE[0] and 0 <= place[1] < SHAPE[1]:
                struck[place] = charge
    return struck


def counts(electrons: np.ndarray, random: np.random.Generator, bias: float = BIAS, gain: float = GAIN) -> np.ndarray:
    """Counts as read out, with an overscan behind the columns that see light."""
    wide = np.pad(random.poisson(np.maximum(electrons, 0)).astype(float), ((0, 0), (0, OVERSCAN)))
    noisy = (wide + random.normal(0, READ_NOISE, wide.shape)) / gain + bias
    return np.clip(np.rint(noisy), 0, 65535).astype(np.uint16)


def write_frame(path: Path, target: int = 1, number: int = 0, **changes: object) -> np.ndarray:
    """Write an exposure of a target, and return where cosmic rays hit it; None as a change removes a keyword."""
    random = np.random.default_rng([target, number, 2])
    struck = cosmic_rays(random)
    stated = {**KEYWORDS, "TARGET": f"Field {target}", "DATE-OBS": f"2026-01-0{target}T0{number}:10:00", **changes}
    header = fits.Header({name: value for name, value in stated.items() if value is not None})
    path.parent.mkdir(parents=True, exist_ok=True)
    fits.PrimaryHDU(counts(field(target) + struck, random), header).writeto(path, overwrite=True)
    return struck > 0
