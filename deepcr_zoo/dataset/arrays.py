"""Training sets of arrays: images with CR masks and ignore masks, without files and headers."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.wcs import WCS
from numpy.typing import NDArray

from deepcr_zoo._version import __version__
from deepcr_zoo.dataset import store
from deepcr_zoo.dataset.arrayrecipes import SCALE_ARCSEC
from deepcr_zoo.dataset.cutting import stamp_positions
from deepcr_zoo.dataset.exposures import ChipPixels, name_in_records
from deepcr_zoo.dataset.given import scene, why_no_masks
from deepcr_zoo.dataset.labelling import LabelledExposure
from deepcr_zoo.dataset.labels import assess, finished_or_made
from deepcr_zoo.dataset.reading import Dataset
from deepcr_zoo.dataset.sky import measure_sky
from deepcr_zoo.dataset.stamplayers import stamp_layers
from deepcr_zoo.errors import InvalidImageError, UsageError
from deepcr_zoo.files import reporting_failures
from deepcr_zoo.models.images import LIMIT, Mask, read_labelled
from deepcr_zoo.zoo.recipe import Recipe, Split

_SPACING = 4  # stamps from one image to the next: no block of sky holds two images


def training_set(
    recipe: Recipe,
    images: Any,
    masks: Any,
    ignore: Any = None,
    *,
    sky: Any = None,
    exposure_time_s: float = 0.0,
    test_fraction: float = 0.2,
    home: store.Home | None = None,
) -> Dataset:
    """Write images and masks in arrays as a training set, for `deepcr_zoo.train` and `deepcr_zoo.bench.benchmark`.

    The first images are for training, then some for validation, and the last for testing: keep images of one field together.

    Parameters
    ----------
    recipe : Recipe
        Of `arrays_recipe`, or another one with ``build.labels: given``.
    images : array_like, shape (N, H, W)
        Pixel values, e-, sky included. Pixels without a value are ignored.
    masks : array_like, shape (N, H, W)
        CR masks, 1 = cosmic ray.
    ignore : array_like, shape (N, H, W), optional
        Ignore masks, 1 = excluded from loss and metrics.
    sky : array_like, shape (N,), optional
        Sky levels, e-; measured by default.
    exposure_time_s : float
        Of each image; 0 if it is not known.
    test_fraction : float
        Share of the images for testing.
    home : Home, optional
        Folder of all training sets; by default `Home.default`.

    Returns
    -------
    Dataset

    Raises
    ------
    InvalidImageError
        If arrays are not of one shape, masks hold other values than 0 and 1, or mark most pixels.
    UsageError
        If the recipe is not for given masks, or too few images are left for training.
    """
    if recipe.build.labels != "given":
        raise UsageError(f"{recipe.name}: build.labels is {recipe.build.labels}: expected given, for masks of your own")
    if not 0 <= exposure_time_s < math.inf:
        raise UsageError(f"exposure_time_s: expected seconds, 0 or more, got {exposure_time_s}")
    pairs = _pairs(images, masks, ignore, sky, recipe)
    home = home or store.Home.default()
    home.make()
    members = [_visit(recipe, split, uses, exposure_time_s, home) for split, uses in _split(pairs, recipe, test_fraction)]
    manifest = _manifest(recipe, members, _repeats(pairs))
    folder = home.dataset(recipe.name, manifest.key)
    with reporting_failures(folder, store.ELSEWHERE):
        folder.mkdir(parents=True, exist_ok=True)
        store.write_document(folder / store.MANIFEST_FILE, manifest)
    return Dataset(folder, home, manifest)


def _manifest(recipe: Recipe, members: list[store.DatasetVisit], cautions: Sequence[str]) -> store.Manifest:
    recorded = store.recipe_key(recipe, False)
    records = [[visit.record.key, visit.stamps] for visit in members]
    return store.Manifest(
        name=recipe.name,
        key=store.key_of({"format": store.FORMAT, "recipe": recorded, "visits": records}),
        rehearsal=False,
        recipe_key=recorded,
        stamp_size=recipe.build.stamps.size,
        split_by="observation",
        counts=store.count_stamps(members),
        visits=members,
        rejected=[],
        missing=[],
        cautions=[*cautions, "images in arrays: whether training and test show the same sky is not known"],
    )


@dataclass(frozen=True, eq=False)
class _Pair:
    """An image with its masks, shape (H, W), the hash of its pixels, by which it is known, and that of all three."""

    image: NDArray[np.float32]
    cosmic_rays: Mask
    ignore: Mask
    sky_electron: float
    identity: str
    digest: str


Uses = Sequence[tuple[_Pair, store.StampSplit]]


def _pairs(images: Any, masks: Any, ignore: Any, sky: Any, recipe: Recipe) -> list[_Pair]:
    stack, cosmic_rays, ignored = read_labelled(images, masks, ignore, "electron")
    if not len(stamp_positions(stack.pixels.shape[1:], recipe.build.stamps)):
        size = recipe.build.stamps.size
        raise UsageError(f"images of {stack.pixels.shape[1:]} pixels: expected space for a stamp of {size} pixels")
    levels = [None] * len(ignored) if sky is None else _levels(sky, len(ignored))
    if why := why_no_masks(list(cosmic_rays), list(ignored)):
        raise InvalidImageError(why)
    return [_pair(*one) for one in zip(stack.pixels, cosmic_rays, ignored, levels, strict=True)]


def _levels(sky: Any, count: int) -> list[float]:
    """Return the sky level that is given for each image."""
    try:
        levels = np.broadcast_to(np.asarray(sky, np.float64), (count,))
    except (TypeError, ValueError):
        levels = np.empty(0)
    if not len(levels) or not (np.abs(levels) <= LIMIT).all():
        raise InvalidImageError(f"sky: expected a level for each of the {count} images, or one for all, up to {LIMIT:g} e-")
    return [float(level) for level in levels]


def _pair(image: NDArray[np.float32], cosmic_rays: Mask, ignored: Mask, sky: float | None) -> _Pair:
    level = measure_sky([image], [ignored]) if sky is None else sky
    level = level if math.isfinite(level) else 0.0
    identity = hashlib.sha256(image.tobytes()).hexdigest()
    digest = hashlib.sha256(image.tobytes() + cosmic_rays.tobytes() + ignored.tobytes()).hexdigest()
    return _Pair(image, cosmic_rays, ignored, level, identity, digest)


def _split(pairs: Sequence[_Pair], recipe: Recipe, test_fraction: float) -> Iterator[tuple[Split, Uses]]:
    """Yield the images of the training visit and of the test visit, if any, with their uses."""
    if not 0 <= test_fraction < 1:
        raise UsageError(f"test_fraction: expected a share of 0 or more and below 1, got {test_fraction}")
    fraction = recipe.build.stamps.validation_fraction
    tests = round(test_fraction * len(pairs))
    training = len(pairs) - tests
    validating = max(1, round(fraction * training)) if fraction else 0
    if training <= validating:
        raise UsageError(f"{len(pairs)} images: expected more, {tests} are for testing and {validating} for validation")
    if again := {one.identity for one in pairs[:training]} & {one.identity for one in pairs[training:]}:
        raise InvalidImageError(
            f"{len(again)} of the images for testing are among those for training too: leave them out, or set test_fraction"
        )
    yield "train", [(one, "train" if n < training - validating else "validation") for n, one in enumerate(pairs[:training])]
    if tests:
        yield "test", [(one, "test") for one in pairs[training:]]


def _visit(recipe: Recipe, split: Split, uses: Uses, exposure_time_s: float, home: store.Home) -> store.DatasetVisit:
    build, block = recipe.build, recipe.instrument
    field_type = next(iter(recipe.data.visits.values())).field_type
    content = {
        "format": store.FORMAT,
        "arrays": [pair.digest for pair, _ in uses],
        "shape": uses[0][0].image.shape,
        "sky": [pair.sky_electron for pair, _ in uses],
        "name": recipe.name,
        "split": split,
        "stamps": build.stamps.model_dump(mode="json", exclude={"validation_fraction"}),
        "field_type": field_type,
        "instrument": [name_in_records(block), block.filters[0], block.pixel_size_um],
        "read_noise": block.read_noise_electron,
        "exposure_time": exposure_time_s,
    }
    key = store.key_of(content)

    def make(_: Path, folder: Path) -> store.VisitRecord:
        names = _names([pair.identity for pair, _ in uses])
        places = [_place(number, len(uses), pair.image.shape, build.stamps.size) for number, (pair, _) in enumerate(uses)]
        return store.VisitRecord(
            key=key,
            name=f"{recipe.name}-{split}-{key[:8]}",
            field_type=field_type,
            instrument=name_in_records(block),
            filter_name=block.filters[0],
            stamp_size=build.stamps.size,
            software=f"deepcr-zoo {__version__}",
            exposures=[
                _store(recipe, pair, name, wcs, exposure_time_s, folder)
                for (pair, _), name, wcs in zip(uses, names, places, strict=True)
            ],
        )

    record = finished_or_made(home, key, make)
    stamps = [{use: list(range(one.count))} for (_, use), one in zip(uses, record.exposures, strict=True)]
    return store.DatasetVisit(record=record, split=split, stamps=stamps)


def _store(recipe: Recipe, pair: _Pair, name: str, wcs: WCS, exposure_time_s: float, folder: Path) -> store.ExposureRecord:
    block, build = recipe.instrument, recipe.build
    labelled = _labelled(pair, wcs, block.pixel_size_um)
    tensors = stamp_layers(labelled, build.stamps, pair.sky_electron)
    return store.ExposureRecord(
        name=name,
        stamps=store.write_tensors(folder / f"{name}.safetensors", tensors, {"exposure": name, "recipe": recipe.name}),
        count=len(tensors["image"]),
        exposure_time_s=exposure_time_s,
        sky_electron=pair.sky_electron,
        sky_source="measured",
        background_ratio=None,
        **assess(labelled, block.read_noise_electron, exposure_time_s).fields(build.quality),
    )


def _labelled(pair: _Pair, wcs: WCS, pixel_size_um: float) -> LabelledExposure:
    chip = ChipPixels(
        version=1,
        image=pair.image,
        quality=np.zeros(pair.image.shape, np.uint8),
        masked=pair.ignore,
        wcs=wcs,
        area_cm2=pair.image.size * (pixel_size_um * 1e-4) ** 2,
        mdrizsky=None,
    )
    expected = scene(pair.image, pair.cosmic_rays, pair.ignore)
    return LabelledExposure([chip], [pair.cosmic_rays], [pair.ignore], [expected])


def _place(number: int, count: int, shape: tuple[int, int], size: int) -> WCS:
    """Return substitute coordinates: images lie on a grid around (0, 0), too far apart to share a block of sky."""
    columns = math.ceil(math.sqrt(count))
    step = _SPACING * math.ceil(max(shape) / size) * size
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval = ["RA---TAN", "DEC--TAN"], [0.0, 0.0]
    wcs.wcs.crpix = [1 - step * (number % columns), 1 - step * (number // columns)]
    wcs.wcs.cd = np.diag([-1.0, 1.0]) * SCALE_ARCSEC / 3600
    return wcs


def _names(identities: Sequence[str]) -> list[str]:
    """Return a name for each image: the start of its hash, by which bench finds images that were trained on."""
    seen: Counter[str] = Counter()
    names = []
    for identity in identities:
        seen[identity] += 1
        names.append(f"image{identity[:16]}" + (f"-{seen[identity]}" if seen[identity] > 1 else ""))
    return names


def _repeats(pairs: Sequence[_Pair]) -> list[str]:
    most = Counter(pair.identity for pair in pairs)
    again = sum(count - 1 for count in most.values())
    return [f"{again} images are repeats of others: training and validation may share them"] if again else []
