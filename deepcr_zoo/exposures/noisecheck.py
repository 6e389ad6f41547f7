"""Level and noise of an image's background, and what is wrong where they do not fit: a pedestal, a wrong gain or time.

A single exposure in electrons has the noise ``sqrt(level + read noise^2)``. A pedestal raises the level and leaves the
noise as it is; a wrong gain or exposure time multiplies both.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy.stats import sigma_clip
from numpy.typing import NDArray

from deepcr_zoo.exposures.reading import Chip
from deepcr_zoo.models.images import Mask, has_value
from deepcr_zoo.zoo.instruments import Keywords, positive

# benchmarks/levels.py measures sound and faulty frames against these bounds
TOO_QUIET = 0.4  # of the expected noise: averages of 6 exposures and resampled images are at this bound, faults far below
TOO_QUIET_READOUT = 0.7  # of the same, for whole numbers: a converter gives these, averaging and resampling do not
TOO_NOISY = 3.0  # times the expected noise
UNEVENNESS = 0.05  # sensitivity varies by a few percent from pixel to pixel where no flat field is divided out
TOO_LOW = 50.0  # times the noise below zero; frames whose sky was subtracted lie within a few
IS_A_LEVEL = 4.0  # times the noise: what is lower may be the rest of a subtracted sky, and its noise says nothing

_BLOCK = 32  # side of the blocks in which an image is sampled, pixels
_MOST_BLOCKS = 400  # blocks of a large image: 0.4 Mpixel give the noise to 1 % in a few milliseconds
_DARK_SHARE = 0.25  # of the blocks: sources cover the others in spectra and in crowded fields
_LEAST_PIXELS = 500  # usable pixels in the dark blocks, below which nothing is measured
_LEAST_CHANGES = 0.05  # share of neighbours that differ, below which the noise is lost in the steps of integers
_CLIP_SIGMA, _CLIP_ROUNDS = 3.0, 5
_CLIPPED_SIGMA = 0.9866  # standard deviation of a unit Gaussian cut at 3 sigma
_NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1))  # steps along the rows, the columns and both diagonals


@dataclass(frozen=True)
class ReadNoise:
    """Least and greatest read noise that a detector can have, e-."""

    least: float
    most: float


UNKNOWN = ReadNoise(0.5, 15.0)
"""From scientific CMOS detectors to old CCDs."""

_AMPLIFIERS_DIFFER = 1.5
"""READNSE of HST is the mean of an amplifier over years."""


def level_problem(
    image: NDArray[np.floating], usable: Mask | None, read_noise: ReadNoise = UNKNOWN, is_readout: bool = False
) -> str | None:
    """Return what is wrong with level or scale of an image (H, W) in electrons, and the likely cause; None if nothing is.

    A readout is an image of whole numbers in the unit of its file.
    """
    return _problem(measure_background(image, usable), read_noise, is_readout)


def _problem(background: Background | None, read_noise: ReadNoise, is_readout: bool) -> str | None:
    if background is None or background.noise is None:
        return None
    level, noise = background.level, background.noise
    least = np.sqrt(max(level, 0) + read_noise.least**2)
    most = np.hypot(TOO_NOISY * np.sqrt(max(level, 0) + read_noise.most**2), UNEVENNESS * level)
    if noise < TOO_QUIET * read_noise.least:
        return (
            f"the noise of the background is {noise:.2g} e-, below the read noise of any detector of its kind: the image "
            "seems to be divided by its exposure time or by a gain; check unit, exposure time and gain"
        )
    if level < -TOO_LOW * noise:
        return (
            f"the background is at {level:,.0f} e-, {-level / noise:,.0f} times its noise below zero: BZERO was lost, or "
            "too much bias or sky was subtracted; check these"
        )
    if noise < (TOO_QUIET_READOUT if is_readout else TOO_QUIET) * least:
        return (
            f"the noise of the background, {noise:.2g} e-, is {noise / least:.2g} of what its level of {level:,.0f} e- "
            "would give: the image seems to hold a pedestal (bias or BZERO not subtracted), or to be divided by its "
            "exposure time; check bias, unit and exposure time"
        )
    if noise > most and level > IS_A_LEVEL * noise:
        return (
            f"the noise of the background, {noise:,.0f} e-, is {noise / least:.2g} times what its level of {level:,.0f} e- "
            "would give: gain or exposure time seem too large; check unit, gain and exposure time"
        )
    return None


def level_cautions(chips: Iterable[Chip]) -> Iterator[str]:
    """Yield a caution for each chip whose level or scale cannot be, and one if gains are implausible.

    Chips of unknown or implausible gain are not judged.
    """
    chips = list(chips)
    for chip in chips:
        if chip.has_electrons:
            sample = chip.part(_sampled(chip.pixels.shape))
            problem = _problem(_background_electron(sample), read_noise_of(chip), _is_whole(sample.pixels))
            if problem is not None:
                yield f"{chip.label}: {problem}"
    gains = [chip.gain for chip in chips if chip.gain is not None and not chip.has_electrons]
    if gains:
        named = dict.fromkeys(f"{gain.keyword or 'the gain'} is {gain.electron_per_count:g} e- per count" for gain in gains)
        yield (f"{', '.join(named)}, which is implausible: no level in electrons was checked; give the true gain")


def _background_electron(sample: Chip) -> Background | None:
    side = _side(sample.pixels.shape)
    image = sample.in_unit("electron")
    return _background(_blocks(np.ma.getdata(image), side), _blocks(~np.ma.getmaskarray(image), side))


def _is_whole(pixels: NDArray[np.floating]) -> bool:
    """True if all pixels with a value hold whole numbers."""
    values = pixels[has_value(pixels)]
    return bool(np.array_equal(values, np.rint(values)))


def read_noise_of(chip: Chip) -> ReadNoise:
    """Return the range of a chip's read noise, by READNSEA to READNSED (HST), or by the description of its camera."""
    given = stated_noise(chip)
    if not given:
        return UNKNOWN
    return ReadNoise(min(given) / _AMPLIFIERS_DIFFER, max(given) * _AMPLIFIERS_DIFFER)


def overscan_noise(chip: Chip) -> tuple[float, ...]:
    """Return the read noise of each amplifier in the unit of the file: the deviation of its overscan, clipped at 3 sigma."""
    return tuple(float(np.std(sigma_clip(part, sigma=3, masked=False))) for part in chip.overscan if part.size)


def stated_noise(chip: Chip) -> list[float]:
    """Return the read noise of a chip's amplifiers by the header, else that of its camera's description, e-; or nothing."""
    known = chip.read_noise_electron
    return _amplifier_noise(chip.keywords) or ([] if known is None else [known])


def _amplifier_noise(keywords: Keywords) -> list[float]:
    """Return the read noise of each amplifier, e-, which HST's calibration fills in (READNSEA to D); a 0 is none."""
    return [noise for amplifier in "ABCD" if (noise := positive(keywords, f"READNSE{amplifier}")) is not None]


@dataclass(frozen=True)
class Background:
    """Background of an image, in the unit of its pixels."""

    level: float  # median where the image is darkest
    noise: float | None  # sigma of one pixel, from differences of neighbours; None if integers are too coarse to tell


def measure_background(image: NDArray[np.floating], usable: Mask | None = None) -> Background | None:
    """Return the background of an image (H, W) from its usable pixels; None if there are too few.

    The noise comes from differences of neighbouring pixels along the direction with the least structure, so that gradients
    and the lines of a spectrum do not count. Only pairs with a low sum count: sums and differences of noise are independent,
    so the choice leaves out sources and does not change the noise.
    """
    places, side = _sampled(image.shape), _side(image.shape)
    return _background(_blocks(image[places], side), None if usable is None else _blocks(usable[places], side))


def _side(shape: tuple[int, ...]) -> int:
    return min(_BLOCK, *shape)


def _sampled(shape: tuple[int, ...]) -> tuple[NDArray[np.intp], ...]:
    """Return the index of blocks spread over an image: all of a small one."""
    side = _side(shape)
    starts = [np.arange(0, size - side + 1, side) for size in shape]
    step = max(1, int(np.ceil(np.sqrt(starts[0].size * starts[1].size / _MOST_BLOCKS))))
    return np.ix_(*((some[::step, None] + np.arange(side)).ravel() for some in starts))


def _blocks(mosaic: NDArray[Any], side: int) -> NDArray[Any]:
    """Return the blocks that an image of adjacent blocks holds, shape (N, B, B)."""
    rows, columns = (size // side for size in mosaic.shape)
    return mosaic.reshape(rows, side, columns, side).swapaxes(1, 2).reshape(-1, side, side)


def _background(blocks: NDArray[np.floating], usable: Mask | None) -> Background | None:
    """Return the background from blocks of an image, shape (N, B, B)."""
    values = blocks.astype(np.float64)
    dark = _dark_blocks(values if usable is None else np.where(usable, values, np.nan))
    if dark is None:
        return None
    scales = [_scale(_dark_differences(dark, *step)) for step in _NEIGHBOURS]
    found = [scale for scale in scales if scale is not None]
    return Background(float(np.nanmedian(dark)), min(found) / np.sqrt(2) if found else None)


def _dark_blocks(blocks: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Return the darkest blocks, shape (N, B, B), NaN where a pixel is not usable."""
    # half of a block must be usable, and no block constant: such are the unexposed edges that a pipeline fills
    filled = np.isfinite(blocks).sum(axis=(1, 2)) >= blocks[0].size / 2
    blocks = blocks[filled]
    blocks = blocks[np.nanmin(blocks, axis=(1, 2)) < np.nanmax(blocks, axis=(1, 2))] if len(blocks) else blocks
    if not len(blocks):
        return None
    wanted = max(1, round(_DARK_SHARE * len(blocks)))
    dark = blocks[np.argsort(medians(blocks.reshape(len(blocks), -1)), kind="stable")[:wanted]]
    return dark if np.isfinite(dark).sum() >= _LEAST_PIXELS else None


def medians(rows: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return the median of each row (N, M) without NaN, shape (N,); NaN where a row holds nothing else."""
    ordered = np.sort(rows, axis=1)  # NaN comes last
    numbers = (~np.isnan(ordered)).sum(axis=1)
    each = np.arange(len(rows))
    return np.asarray((ordered[each, np.maximum(numbers - 1, 0) // 2] + ordered[each, numbers // 2]) / 2)


def _dark_differences(blocks: NDArray[np.float64], down: int, right: int) -> NDArray[np.float64]:
    """Return the differences of pairs of pixels whose sum is below the median of its block."""
    side = blocks.shape[1]
    one = blocks[:, : side - down, max(0, -right) : side - max(0, right)]
    other = blocks[:, down:, max(0, right) : side + min(0, right)]
    sums = one + other
    dark = sums <= medians(sums.reshape(len(sums), -1))[:, None, None]
    return (one - other)[dark]


def _scale(differences: NDArray[np.float64]) -> float | None:
    """Return the sigma of values around their median, clipped; None if nearly all are the same."""
    if not differences.size or np.count_nonzero(differences) < _LEAST_CHANGES * differences.size:
        return None
    size = np.abs(differences - np.median(differences))
    sigma = float(np.quantile(size, 0.955)) / 2  # not the MAD, which integers of low noise make zero
    for _ in range(_CLIP_ROUNDS):
        kept = size[size <= _CLIP_SIGMA * sigma]
        if not kept.any():
            return None
        sigma = float(np.sqrt(np.mean(kept**2))) / _CLIPPED_SIGMA
    return sigma
