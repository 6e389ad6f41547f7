"""The masks of L.A.Cosmic on the test stamps of a training set, kept on disk: they take longest in a benchmark.

They are kept in the user's own folder of training sets: one of others may hold masks that are not those of L.A.Cosmic.

L.A.Cosmic gets the stamps of an exposure put together to the pieces of chips that they were cut from, as its users give it
whole chips; networks get each stamp by itself, as in training.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepcr_zoo import batch
from deepcr_zoo.bench.measures.stars import Images, Masks
from deepcr_zoo.bench.results import BaselineMethod
from deepcr_zoo.dataset.reading import Dataset, ExposureStamps
from deepcr_zoo.dataset.store import ELSEWHERE, ExposureRecord, Home, key_of
from deepcr_zoo.errors import DatasetError, InterruptedWorkError
from deepcr_zoo.files import opened_file, reporting_failures, sweep_leftovers, write_atomically
from deepcr_zoo.machine import memory_shortage
from deepcr_zoo.models.baselines import Lacosmic, require_astroscrappy
from deepcr_zoo.models.npzfiles import read_array
from deepcr_zoo.zoo.recipe import FieldType, Recipe

FORMAT = 2
"""Part of the hash in the file names; raised when masks on disk can no longer be used."""

BYTES_PER_PIXEL = 50
"""Memory that L.A.Cosmic takes for each pixel of an image: measured with 2000 x 2000 pixels and astroscrappy 1.3."""

OnDone = Callable[[int, int], Any]
"""Called with the sets of masks that exist, and how many there are in all."""


def masked_as_chips(
    image: Images, position: NDArray[np.int32], chip: NDArray[np.int32], mask: Callable[[Images], Sequence[Masks]]
) -> Masks:
    """Put the stamps of each chip together, mask them, and cut the masks up again, shape (T, N, S, S).

    `position` holds row and column of each stamp's first pixel on its chip, shape (N, 2), and `chip` the chip of each stamp.
    `mask` returns T masks of an image in which pixels between stamps are NaN.
    """
    # filters of L.A.Cosmic do not reach the edges of an image: on single stamps it masks the wings of stars
    side, position = image.shape[1], position.astype(np.int64)  # differences of int32 may overflow
    found: list[Any] = [None] * len(image)
    for one in np.unique(chip):
        numbers = np.flatnonzero(chip == one)
        first = position[numbers].min(axis=0)
        places = [tuple(slice(start, start + side) for start in place) for place in (position[numbers] - first).tolist()]
        shape = position[numbers].max(axis=0) - first + side
        _check_memory(shape.tolist(), f"chip {one}")
        frame = np.full(shape, np.nan, dtype=np.float32)
        for number, place in zip(numbers, places, strict=True):
            frame[place] = image[number]
        masks = np.stack(mask(frame))
        for number, place in zip(numbers, places, strict=True):
            found[number] = masks[:, *place]
    return np.stack(found, axis=1)


def _check_memory(shape: Sequence[int], what: str) -> None:
    """Refuse positions that put stamps together to an image that does not fit into memory."""
    needed = BYTES_PER_PIXEL * math.prod(shape)
    if short := memory_shortage(needed):
        raise DatasetError(
            f"the stamps of {what} span {shape[0]:,} x {shape[1]:,} pixels: L.A.Cosmic needs {needed / 1e9:.3g} GB, "
            f"{short}: expected stamps of a chip beside each other"
        )


@dataclass(frozen=True)
class MaskSet:
    """The masks of one exposure with one objlim, at ascending sigclips, and where they are kept."""

    path: Path
    group: ExposureStamps
    method: Lacosmic
    sigclips: tuple[float, ...]

    def kept(self) -> Masks | None:
        """Read the masks, shape (T, N, S, S); None if there is no file, or it is damaged."""
        side = self.group.visit.stamp_size
        try:
            planes = _read_planes(self.path, (-(-len(self.sigclips) // 8), len(self.group.indices), side, side))
        except Exception:  # zipfile, its decompressors and numpy raise anything on damaged files
            return None
        return np.unpackbits(planes, axis=0, count=len(self.sigclips)).view(bool)

    def compute(self) -> Masks:
        """Compute and keep the masks, shape (T, N, S, S)."""
        layers = self.group.read("image", "position", "chip")
        masks = masked_as_chips(**layers, mask=lambda frame: [self.method.mask(frame, sigclip) for sigclip in self.sigclips])
        data = io.BytesIO()
        # the bits of a pixel side by side: few patterns occur, because masks of rising sigclip nearly contain one another
        np.savez_compressed(data, planes=np.packbits(masks, axis=0))
        with reporting_failures(self.path, ELSEWHERE):
            write_atomically(data.getvalue(), self.path)
        return masks


def _read_planes(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Read the array that `MaskSet.compute` writes; no other type or shape is unpacked."""

    def accept(found: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        if (found, dtype) != (shape, np.dtype(np.uint8)):
            raise ValueError(f"an array of {dtype} of shape {found}")

    with opened_file(path) as file:
        return read_array(file, "planes", accept)


def lacosmic_of(exposure: ExposureRecord, recipe: Recipe, objlim: float) -> Lacosmic:
    """Return L.A.Cosmic for the stamps of an exposure, with gain 1 because they are in electrons.

    The read noise is that of the header; of the recipe's instrument where the header or its record has none.
    """
    read_noise = exposure.read_noise_electron
    return Lacosmic(objlim, recipe.instrument.read_noise_electron if read_noise is None else read_noise)


def lacosmic_masks(group: ExposureStamps, method: Lacosmic, sigclips: Sequence[float]) -> Masks:
    """Return the masks of an exposure's stamps at **ascending** sigclips, shape (T, N, S, S), computed once and kept."""
    wanted = _mask_set(group, method, sigclips)
    kept = wanted.kept()
    return wanted.compute() if kept is None else kept


def objlims_of(recipe: Recipe, field_type: FieldType) -> list[float]:
    """Return the objlims to try, ascending, the paper's among them."""
    return sorted({*recipe.benchmark.lacosmic_objlims, recipe.benchmark.lacosmic_objlim[field_type]})


def prepare(dataset: Dataset, recipe: Recipe, jobs: int = 1, on_done: OnDone | None = None) -> None:
    """Compute and keep all masks of the recipe's grid that are missing, in `jobs` processes.

    After an interruption the next call continues from there. InterruptedWorkError says why masks could not be computed.
    """
    sets = [
        _mask_set(group, lacosmic_of(group.exposure, recipe, objlim), recipe.benchmark.lacosmic_sigclips)
        for group in dataset.exposures("test")
        for objlim in objlims_of(recipe, group.visit.field_type)
    ]
    sweep_leftovers(Home.default().baselines)
    missing = {str(one.path): one for one in sets if one.kept() is None}
    if missing:
        Home.default().make()
    report = on_done or (lambda done, of: None)
    report(len(sets) - len(missing), len(sets))
    for done, outcome in enumerate(batch.run(partial(_compute, missing), list(missing), jobs), len(sets) - len(missing) + 1):
        if outcome.error is not None:
            raise InterruptedWorkError(f"L.A.Cosmic has no masks for every test exposure: {outcome.error}")
        report(done, len(sets))


def described(dataset: Dataset, recipe: Recipe, objlims: Mapping[FieldType, float]) -> BaselineMethod:
    """Return all parameters of L.A.Cosmic on the test stamps, and whether read noises are of headers or the recipe."""
    require_astroscrappy()
    exposures = [group.exposure for group in dataset.exposures("test")]
    noise = {one.name: lacosmic_of(one, recipe, 0.0).readnoise for one in exposures}
    of_files = sum(one.read_noise_electron is not None for one in exposures)
    return BaselineMethod(
        name="lacosmic",
        parameters={
            **asdict(Lacosmic(0.0, 0.0)),
            "objlim": {str(field_type): objlim for field_type, objlim in objlims.items()},
            "readnoise": noise if len(set(noise.values())) > 1 else next(iter(noise.values()), None),
            "readnoise_source": f"files of {of_files} exposures, recipe for {len(exposures) - of_files}",
            "sigclip": sorted(recipe.benchmark.lacosmic_sigclips),
        },
        packages={"astroscrappy": version("astroscrappy")},
    )


def _mask_set(group: ExposureStamps, method: Lacosmic, sigclips: Sequence[float]) -> MaskSet:
    ascending = tuple(sorted(map(float, sigclips)))
    require_astroscrappy()
    key = key_of(
        {
            "format": FORMAT,
            "stamps": group.exposure.stamps.sha256,
            "indices": group.indices,
            "method": asdict(method),
            "sigclips": ascending,
            "astroscrappy": version("astroscrappy"),
        }
    )
    return MaskSet(Home.default().baselines / f"{key}.npz", group, method, ascending)


def _compute(sets: Mapping[str, MaskSet], path: str) -> None:
    sets[path].compute()
