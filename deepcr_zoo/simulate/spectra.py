"""Spectra: of a long slit, with traces, extended emission and sky lines over its height, or of an echelle's many orders.

All numbers are assumed: they give spectra of many kinds rather than those of one spectrograph.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, special

from deepcr_zoo.simulate.charge import Floats
from deepcr_zoo.simulate.draws import log_uniform
from deepcr_zoo.simulate.seeing import moffat

_TRACES = (1, 3)  # fewest and most, also of the following
_EMISSION, _ABSORPTION = (2, 10), (8, 40)
_SKY_LINES = {"ground": (15, 60), "orbit": (0, 2)}
_LOG_CONTINUUM = (-2.0, 0.6)  # log10 of e- per second and pixel on the ridge
_LOG_SKY_LINE = (-2.0, 1.0)
_SKY_CONTINUUM = {"ground": 0.03, "orbit": 0.001}  # e- per second and pixel
_LINE_SIGMA = (0.9, 2.2)  # pixels
_EXTENDED = 0.4  # share of traces that are wider than a star
_EXTENT = (4.0, 40.0)  # sigma of these along the slit, pixels
_TILT, _BEND = 0.004, 3.0  # rows per column; largest bow of a trace, rows
_SLIT_BEND = 3.0  # largest bow of the lines, columns
_SLIT = (0.6, 0.98)  # share of the rows that the slit lights
_ORDERS = (12.0, 45.0)  # rows from one order of an echelle to the next
_ORDER_HEIGHT = (0.35, 0.8)  # of the slit / that distance
_ORDER_TILT, _ORDER_BEND = 0.03, 15.0  # rows per column; largest bow of an order, rows


@dataclass(frozen=True, eq=False)
class Trace:
    """The spectrum of an object along the columns: the row of its ridge, its light, and its width."""

    rows: Floats  # (W,)
    light: Floats  # (W,) e- per second on the ridge
    extent_pixels: float | None  # sigma along the slit; None for a star


@dataclass(frozen=True, eq=False)
class LongSlit:
    """What a slit sees, wavelengths along x; e- per second and pixel."""

    traces: tuple[Trace, ...]
    extended: NDArray[np.float32]  # (H, W): emission lines of gas that fills a part of the slit
    sky: NDArray[np.float32]  # (H, W)
    slit: Floats  # (H,): share of the light that the slit lets through

    def light(self, fwhm_pixels: float, beta: float) -> NDArray[np.float32]:
        """Return the light of the objects, shape (H, W), for stars of this FWHM."""
        image = self.extended.copy()
        rows = np.arange(len(self.slit))[:, None]
        for trace in self.traces:
            offset = rows - trace.rows
            if trace.extent_pixels is None:
                profile = moffat(offset, fwhm_pixels, beta)
            else:
                profile = np.exp(-0.5 * (offset / trace.extent_pixels) ** 2)
            image += (profile * trace.light).astype(np.float32)
        return np.asarray(image * self.slit[:, None].astype(np.float32))


def draw_spectra(shape: tuple[int, int], site: str, rng: np.random.Generator) -> LongSlit:
    """Draw what a slit sees on a detector of this shape."""
    rows, columns = shape
    slit = _slit(rows, rng)
    bow = rng.uniform(-_SLIT_BEND, _SLIT_BEND) * ((np.arange(rows) - rows / 2) / (rows / 2)) ** 2
    traces = tuple(_trace(shape, rng) for _ in range(rng.integers(_TRACES[0], _TRACES[1] + 1)))
    lines = np.zeros(columns)
    for _ in range(rng.integers(_SKY_LINES[site][0], _SKY_LINES[site][1] + 1)):
        lines += 10 ** rng.uniform(*_LOG_SKY_LINE) * _line(columns, rng.uniform(0, columns), rng.uniform(*_LINE_SIGMA))
    sky = np.stack([np.interp(np.arange(columns) - shift, np.arange(columns), lines) for shift in bow])
    sky = (sky + _SKY_CONTINUUM[site]) * slit[:, None]
    return LongSlit(traces, _gas(shape, traces[0], rng), sky.astype(np.float32), slit)


def draw_echelle(shape: tuple[int, int], site: str, rng: np.random.Generator) -> LongSlit:
    """Draw the orders of an echelle spectrum on a detector of this shape."""
    rows, columns = shape
    step = rng.uniform(*_ORDERS)
    half = step * rng.uniform(*_ORDER_HEIGHT) / 2
    x = (np.arange(columns) - columns / 2) / (columns / 2)
    shape_of_all = rng.normal(0, _ORDER_TILT) * columns / 2 * x + rng.uniform(-_ORDER_BEND, _ORDER_BEND) * x**2
    brightness, place = rng.uniform(*_LOG_CONTINUUM), rng.uniform(-0.3, 0.3) * half
    y = np.arange(rows)[:, None]
    traces, sky = [], np.zeros(shape, np.float32)
    for middle in np.arange(rng.uniform(0, step) - _ORDER_BEND, rows + _ORDER_BEND, step):
        ridge = middle + shape_of_all
        blaze = np.sinc(np.clip(0.9 * (x - rng.normal(0, 0.1)), -0.95, 0.95)) ** 2
        traces.append(_order(ridge + place, 10 ** (brightness + rng.normal(0, 0.1)) * blaze, rng))
        lines = np.full(columns, _SKY_CONTINUUM[site])
        for _ in range(rng.integers(0, _SKY_LINES[site][1] // 4 + 1)):
            lines += 10 ** rng.uniform(*_LOG_SKY_LINE) * _line(columns, rng.uniform(0, columns), rng.uniform(*_LINE_SIGMA))
        lit = special.expit((half - np.abs(y - ridge)) / 0.7)
        sky += (lit * lines * blaze).astype(np.float32)
    return LongSlit(tuple(traces), np.zeros(shape, np.float32), sky, np.ones(rows))


def _order(rows: Floats, light: Floats, rng: np.random.Generator) -> Trace:
    columns = len(rows)
    for _ in range(rng.integers(*_ABSORPTION)):
        light = light * (1 - rng.uniform(0.03, 0.8) * _line(columns, rng.uniform(0, columns), rng.uniform(1.0, 6.0)))
    return Trace(rows, light, None)


def _slit(rows: int, rng: np.random.Generator) -> Floats:
    """Return the light along the slit: its ends are soft, and two bars may cross it."""
    height = rng.uniform(*_SLIT) * rows
    middle = rng.uniform(height / 2, rows - height / 2)
    lit = np.abs(np.arange(rows) - middle) < height / 2
    if rng.random() < 0.5:
        for bar in rng.uniform(0, rows, 2):
            lit &= np.abs(np.arange(rows) - bar) > rng.uniform(3, 8)
    return np.asarray(ndimage.gaussian_filter1d(lit.astype(float), 1.0))


def _trace(shape: tuple[int, int], rng: np.random.Generator) -> Trace:
    rows, columns = shape
    x = (np.arange(columns) - columns / 2) / (columns / 2)
    ridge = rng.uniform(0.2, 0.8) * rows + rng.normal(0, _TILT) * columns / 2 * x + rng.uniform(-_BEND, _BEND) * x**2
    light = 10 ** (rng.uniform(*_LOG_CONTINUUM) + rng.normal(0, 0.25) * x + rng.normal(0, 0.15) * x**2)
    for _ in range(rng.integers(*_ABSORPTION)):
        light *= 1 - rng.uniform(0.03, 0.6) * _line(columns, rng.uniform(0, columns), rng.uniform(1.0, 4.0))
    continuum = light.copy()
    for _ in range(rng.integers(*_EMISSION)):
        strength = 10 ** rng.uniform(-0.5, 1.3) * continuum.mean()
        light += strength * _line(columns, rng.uniform(0, columns), rng.uniform(*_LINE_SIGMA))
    extent = log_uniform(_EXTENT, rng) if rng.random() < _EXTENDED else None
    return Trace(np.asarray(ridge), np.asarray(light), extent)


def _gas(shape: tuple[int, int], trace: Trace, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return emission lines of gas around an object, with knots and velocities of its own along the slit."""
    rows, columns = shape
    image = np.zeros(shape, np.float32)
    if rng.random() < 0.4:
        return image
    along = np.arange(rows)
    brightness = np.exp(-np.abs(along - trace.rows.mean()) / rng.uniform(10, rows / 6))
    knots = np.exp(ndimage.gaussian_filter1d(rng.standard_normal(rows), 5.0) * 4)
    velocity = ndimage.gaussian_filter1d(rng.standard_normal(rows), 25.0) * rng.uniform(0, 60)
    for _ in range(rng.integers(1, 5)):
        centre, width = rng.uniform(0, columns), rng.uniform(1.0, 3.0)
        level = 10 ** rng.uniform(-2.0, 0.3) * brightness * knots
        profile = np.exp(-0.5 * ((np.arange(columns) - centre - velocity[:, None]) / width) ** 2)
        image += (level[:, None] * profile).astype(np.float32)
    return image


def _line(columns: int, centre: float, sigma: float) -> Floats:
    return np.asarray(np.exp(-0.5 * ((np.arange(columns) - centre) / sigma) ** 2))
