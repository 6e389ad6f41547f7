"""How well masked pixels are filled: pixels without a cosmic ray are hidden, filled, and compared with their values.

As in Zhang & Bloom 2020, section 3.2 and Table 3, test stamps are drawn with replacement, and the hidden pixels are those of
the cosmic rays of another stamp, so that they have the shapes of cosmic rays. The stamp's own cosmic rays are hidden too,
but the true values under them are unknown. Where a network predicts how uncertain its values are, the true values within one
and two of its standard deviations are counted, too. Errors are in e-, and in units of the noise of each pixel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter, minimum_filter

from deepcr_zoo.bench.measures.blocks import SkyBlocks, key
from deepcr_zoo.bench.measures.bootstrap import Values, interval
from deepcr_zoo.bench.measures.judgedpixels import OnExposure, judged_stamps
from deepcr_zoo.bench.measures.stars import Images, Masks
from deepcr_zoo.bench.results import InpaintingErrors, Interval
from deepcr_zoo.dataset.reading import Dataset
from deepcr_zoo.errors import DataError, InvalidImageError
from deepcr_zoo.models.containers import Repainted
from deepcr_zoo.models.model import InpaintModel
from deepcr_zoo.models.skynoise import FrameNoise, sky_and_noise
from deepcr_zoo.zoo.recipe import FieldType

MASKS_PER_STAMP = 1
"""CR masks of other stamps that are added to each; Zhang & Bloom 2020, Table 3."""

AT_ONCE = 64
"""Stamps that are filled at a time: memory does not grow with the draws."""

MOST_SIGMA = 10.0
"""Of the noise: a simulated pixel further from its scene is saturated, and one further from its neighbours may be hot."""

LEAST_SHARED = 0.1
"""Share of a pixel's excess in a neighbour: below it the pixel is hot, since a star of FWHM 1.1 pixels gives 0.2."""

_NEIGHBOURS = np.array([[[1, 1, 1], [1, 0, 1], [1, 1, 1]]], dtype=bool)  # of each stamp

Numbers = NDArray[np.intp]
Fill = Callable[[Images, Masks, Sequence[FrameNoise]], Repainted]
"""Fills images, shape (N, S, S), where the masks are set; sky and noise of the chip of each are known."""


def by_network(model: InpaintModel) -> Fill:
    """Return the fill of a network."""

    def fill(image: Images, mask: Masks, noise: Sequence[FrameNoise]) -> Repainted:
        return model.repaint(image, mask, noise=noise if model.card.input.by_noise else None)

    return fill


def by_values(method: Callable[[Images, Masks], Images]) -> Fill:
    """Return the fill of a method that gives values alone, and takes no noise: `baselines.medmask`."""
    return lambda image, mask, _: Repainted(method(image, mask))


@dataclass(frozen=True, eq=False)
class ErrorSums:
    """Filled minus true value (e-) over the pixels of each block of sky: count and sums, each of shape (B,).

    `squared_in_noise` are the squared errors in units of the noise of each pixel. `within_1_sigma` and `within_2_sigma` are
    the pixels whose error is below the predicted uncertainty, and below twice as much; NaN of a method that predicts none.
    `scene_squared` are the squared errors of the noiseless scene, the least that is possible; NaN where it is unknown.
    """

    pixels: NDArray[np.int64]
    squared: Values
    absolute: Values
    signed: Values
    squared_in_noise: Values
    within_1_sigma: Values
    within_2_sigma: Values
    scene_squared: Values

    @classmethod
    def none(cls, blocks: int) -> ErrorSums:
        return cls(np.zeros(blocks, np.int64), *np.zeros((7, blocks)))

    @classmethod
    def of(
        cls,
        filled: Images,
        true: Images,
        pixel_noise: Images,
        block: Numbers,
        blocks: int,
        uncertainty: Images | None = None,
        scene: Images | None = None,
    ) -> ErrorSums:
        """Sum over K pixels in float64; `block` is that of each pixel, `pixel_noise` is in e-."""
        error = filled.astype(np.float64) - true
        if not np.isfinite(error).all():
            raise InvalidImageError("a pixel was filled with NaN or infinity: expected a number")

        def summed(values: Values) -> Values:
            return np.bincount(block, values, blocks).astype(np.float64)  # bincount gives integers for no pixels

        pixels = np.bincount(block, minlength=blocks).astype(np.int64)
        size, unknown = np.abs(error), np.full(len(error), np.nan)
        within = [unknown, unknown] if uncertainty is None else [size < times * uncertainty for times in (1, 2)]
        limit = unknown if scene is None else (scene.astype(np.float64) - true) ** 2
        return cls(pixels, *map(summed, (error**2, size, error, (error / pixel_noise) ** 2, *within, limit)))

    @classmethod
    def joined(cls, parts: Iterable[ErrorSums]) -> ErrorSums:
        """Return the blocks of several field types, one after the other."""
        return cls(*map(np.concatenate, zip(*(one._arrays for one in parts), strict=True)))

    def __add__(self, other: ErrorSums) -> ErrorSums:
        return ErrorSums(*(one + two for one, two in zip(self._arrays, other._arrays, strict=True)))

    def of_blocks(self, blocks: Sequence[int]) -> ErrorSums:
        """Return the sums of some blocks."""
        return ErrorSums(*(one[list(blocks)] for one in self._arrays))

    def mse(self, weights: Values | None = None, *, in_noise: bool = False) -> Values:
        """Return the mean squared error of each resampling, e-^2 or in units of the noise, shape (R,); NaN without pixels.

        `weights` are those of `bootstrap.resample`; by default all blocks count once, and R is 1.
        """
        times = np.ones((1, len(self.pixels))) if weights is None else weights
        squared, pixels = times @ (self.squared_in_noise if in_noise else self.squared), times @ self.pixels
        return np.divide(squared, pixels, out=np.full_like(squared, np.nan), where=pixels > 0)

    @property
    def _arrays(self) -> tuple[NDArray[Any], ...]:
        sums = self.squared, self.absolute, self.signed, self.squared_in_noise
        return self.pixels, *sums, self.within_1_sigma, self.within_2_sigma, self.scene_squared

    def errors(self) -> InpaintingErrors:
        pixels = int(self.pixels.sum())
        if pixels == 0:
            return InpaintingErrors(pixels=0)
        mse, mae, bias, mse_in_noise, *others = (float(one.sum()) / pixels for one in self._arrays[1:])
        one, two, scene = (None if np.isnan(figure) else figure for figure in others)
        return InpaintingErrors(
            pixels=pixels,
            mse=mse,
            mae=mae,
            bias=bias,
            mse_in_noise=mse_in_noise,
            within_1_sigma=one,
            within_2_sigma=two,
            scene_mse=scene,
        )


def mse_ratio(
    sums: ErrorSums, against: ErrorSums, weights: Values, *, in_noise: bool = False
) -> tuple[float | None, Interval | None]:
    """Return MSE / MSE of another method on the same pixels, and its interval from the blocks that hold pixels.

    Both are None without pixels, or where the other method makes no error. Both methods share the weights, so that the ratio
    varies less than the errors do.
    """
    (ratio,) = mse_ratios(sums, against, in_noise=in_noise)
    between = interval(mse_ratios(sums, against, weights, in_noise=in_noise), int(np.count_nonzero(sums.pixels)))
    return (float(ratio), between) if np.isfinite(ratio) else (None, None)


def mse_ratios(sums: ErrorSums, against: ErrorSums, weights: Values | None = None, *, in_noise: bool = False) -> Values:
    """Return the ratio of the MSEs of each resampling, shape (R,); NaN where there is none."""
    one, other = (method.mse(weights, in_noise=in_noise) for method in (sums, against))
    return np.divide(one, other, out=np.full_like(one, np.nan), where=other > 0)


@dataclass(frozen=True, eq=False)
class Draws:
    """Numbers of the stamps to fill, ascending and repeated, and of the stamps whose CR masks are added to them."""

    stamps: Numbers
    others: Numbers

    def within(self, numbers: range) -> Draws:
        part = slice(*np.searchsorted(self.stamps, [numbers.start, numbers.stop]))
        return Draws(self.stamps[part], self.others[part])

    def batches(self, size: int = AT_ONCE) -> Iterator[Draws]:
        for first in range(0, len(self.stamps), size):
            yield Draws(self.stamps[first : first + size], self.others[first : first + size])


def draw(stamps: int, count: int, seed: int) -> Draws:
    """Draw `count` of `stamps` stamps with replacement, and for each draw another stamp."""
    if stamps < 2:
        raise DataError(
            f"{stamps} stamps are too few to take inpainting masks from: expected at least 2, because each gets another's"
        )
    random = np.random.default_rng(seed)
    numbers = np.sort(random.integers(stamps, size=count))
    steps = random.integers(1, stamps, size=count)  # a step of 1 to n - 1 leads to any stamp but the same
    return Draws(numbers, (numbers + steps) % stamps)


@dataclass(frozen=True, eq=False)
class HiddenPixels:
    """Images (e-), the pixels that methods fill, and those of them that they are judged on; each of shape (N, S, S).

    `noise` is that of each image's sky, as networks take it. Errors are compared with `pixel_noise` (e-), by default that of
    the sky.
    """

    image: Images
    hidden: Masks
    judged: Masks
    noise: Sequence[FrameNoise]
    pixel_noise: Images
    scene: Images | None = None

    @classmethod
    def of(
        cls,
        image: Images,
        added: Masks,
        cosmic_rays: Masks,
        ignore: Masks,
        noise: Sequence[FrameNoise],
        scene: Images | None = None,
        pixel_noise: Images | None = None,
    ) -> HiddenPixels:
        """Hide an added mask, and the stamps' own cosmic rays, under which the truth is unknown."""
        if pixel_noise is None:
            pixel_noise = np.stack([sky_and_noise(one, image.shape[1:])[1] for one in noise])
        return cls(image, added | cosmic_rays, added & ~cosmic_rays & ~ignore, noise, pixel_noise, scene)

    def errors(self, fill: Fill, block: Numbers, blocks: int) -> ErrorSums:
        """Fill them and sum the errors; `block` is that of each stamp, shape (N,)."""
        values, unsure = fill(self.image, self.hidden, self.noise)
        of_pixels = np.repeat(block, np.count_nonzero(self.judged, axis=(1, 2)))
        uncertainty, scene = (None if one is None else one[self.judged] for one in (unsure, self.scene))
        found, true, pixel_noise = (one[self.judged] for one in (values, self.image, self.pixel_noise))
        return ErrorSums.of(found, true, pixel_noise, of_pixels, blocks, uncertainty, scene)


def judge(
    fills: Mapping[str, Fill],
    dataset: Dataset,
    field_type: FieldType,
    blocks: SkyBlocks,
    draws: Draws,
    on_exposure: OnExposure = None,
) -> dict[str, ErrorSums]:
    """Fill the same pixels of the test stamps of a field type by several methods, and sum their errors.

    `draws` are of all test stamps, in the order of `Dataset.stamps`; those of other field types are skipped.
    """
    sources = dataset.stamps("test")
    sums = dict.fromkeys(fills, ErrorSums.none(blocks.count))
    for stamps in judged_stamps(dataset, field_type, on_exposure):
        of_stamps, noise = blocks.of_stamps[key(stamps.group)], stamps.group.noise()
        truth = None if stamps.group.truth is None else stamps.group.read_truth()
        unknown = stamps.ignore if truth is None else stamps.ignore | _unpredictable(stamps.image, truth)
        for drawn in draws.within(stamps.numbers).batches():
            here = drawn.stamps - stamps.numbers.start
            added = np.stack([sources[other].cosmic_rays for other in drawn.others.tolist()]).astype(bool)
            cosmic_rays, ignore = stamps.cosmic_rays[here], unknown[here]
            hidden = HiddenPixels.of(
                stamps.image[here],
                added,
                cosmic_rays,
                ignore,
                [noise[number] for number in here],
                scene=None if truth is None else truth["scene"][here],
                pixel_noise=None if truth is None else truth["noise"][here],
            )
            for name, fill in fills.items():
                sums[name] += hidden.errors(fill, of_stamps[here], blocks.count)
    return sums


def _unpredictable(image: Images, truth: Mapping[str, Images]) -> Masks:
    """Return the pixels of simulated stamps that are saturated, hot alone, or overscan, shape (N, S, S)."""
    scene, most = truth["scene"], MOST_SIGMA * truth["noise"]
    around = minimum_filter(scene, footprint=_NEIGHBOURS, mode="mirror")  # no pixel is its own neighbour
    excess, shared = scene - around, maximum_filter(scene, footprint=_NEIGHBOURS, mode="mirror") - around
    is_hot = (excess > most) & (shared < LEAST_SHARED * excess)
    is_unlit = scene == 0  # where no cosmic ray falls either
    return np.asarray((np.abs(image - truth["cosmic_rays"] - scene) > most) | is_hot | is_unlit)
