"""Noise of the electronics that read a detector."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import signal

from deepcr_zoo.zoo.simulation import SimulationBlock


def electronic_noise(
    shape: tuple[int, int], read_noise_electron: float, settings: SimulationBlock, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Return the noise of a frame in e-, shape (H, W): read noise, correlated along rows or not, and bands."""
    noise = rng.standard_normal(shape, np.float32)
    if memory := np.float32(settings.noise_correlation):
        fresh = np.sqrt(1 - memory**2)
        start = noise[:, :1] * memory  # the first pixel of a row has the same sigma as the others
        rest, _ = signal.lfilter([fresh], [1, -memory], noise[:, 1:], axis=1, zi=start)
        noise = np.concatenate([noise[:, :1], rest], axis=1)
    noise *= np.float32(read_noise_electron)
    if settings.banding_electron:
        noise += rng.standard_normal((shape[0], 1), np.float32) * np.float32(settings.banding_electron)
    return noise
