"""A star field with cosmic rays, of any size, for tests."""

from __future__ import annotations

import numpy as np


def star_field(shape: tuple[int, int], seed: int, sky: float = 50.0) -> tuple[np.ndarray, np.ndarray]:
    """An image in electrons (float32) and where its cosmic rays are (bool)."""
    rng = np.random.default_rng(seed)
    height, width = shape
    image = rng.normal(sky, 8.0, shape)
    for _ in range(height * width // 2000):
        y, x = rng.integers(0, height), rng.integers(0, width)
        rows, columns = np.mgrid[max(0, y - 6) : min(height, y + 7), max(0, x - 6) : min(width, x + 7)]
        image[rows, columns] += 10 ** rng.uniform(1, 4.5) * np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / 2)
    cosmic_rays = np.zeros(shape, dtype=bool)
    for _ in range(max(2, height * width // 3000)):
        y, x, angle = rng.uniform(0, height), rng.uniform(0, width), rng.uniform(0, 2 * np.pi)
        along = np.arange(rng.integers(2, 15))
        rows, columns = (y + along * np.sin(angle)).astype(int), (x + along * np.cos(angle)).astype(int)
        inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
        image[rows[inside], columns[inside]] += 10 ** rng.uniform(2.3, 3.5, inside.sum())
        cosmic_rays[rows[inside], columns[inside]] = True
    return image.astype(np.float32), cosmic_rays
