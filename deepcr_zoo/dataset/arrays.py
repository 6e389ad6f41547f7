"""Training sets of arrays: images with CR masks and ignore masks, without files and headers."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy.wcs import WCS
from numpy.typing import NDArray

from deepcr_zoo._version import __version__
from deepcr_zoo.dataset import footprints, quality, store
from deepcr_zoo.dataset.cutting import cut_stamps, stamp_positions
from deepcr_zoo.dataset.given import check_marked, scene
from deepcr_zoo.dataset.reading import Dataset
from deepcr_zoo.dataset.sky import measure_sky
from deepcr_zoo.errors import InvalidImageError, UsageError
from deepcr_zoo.files import new_folder, reporting_failures
from deepcr_zoo.models.images import Mask, read_image, read_mask
from deepcr_zoo.zoo.recipe import Recipe, Split

_CAMERA, _LARGEST, _SCALE_ARCSEC = "arrays", 1e9, 0.05
_SPACING = 4  # stamps from one image to the next: no block of sky holds two images


def arrays_recipe(
    name: str,
    shape: Sequence[int],
    *,
    train: Mapping[str, Any] | None = None,
    read_noise_electron: float = 5.0,
    stamp_size: int | None = None,
    validation_fraction: float = 0.2,
) -> Recipe:
    """Return a recipe for images in arrays, which have no instrument and no files.

    Parameters
    ----------
    name : str
        Name of the model.
    shape : sequence of int
        Rows and columns of each image, pixels.
    train : mapping, optional
        The recipe's ``train`` block; by default a network of depth 2 with 32 channels.
    read_noise_electron : float
        For L.A.Cosmic, e-.
    stamp_size : int, optional
        Side of a stamp, pixels; by default the largest multiple of 4 that an image holds, and 256 at most.
    validation_fraction : float
        Share of the images that are not for testing.

    Returns
    -------
    Recipe

    Raises
    ------
    UsageError
        If images are smaller than 32 pixels.
    """
    side = stamp_size or min(256, min(shape) // 4 * 4)
    if side < 32 or min(shape) < side:
        raise UsageError(f"images of {' x '.join(map(str, shape))} pixels: expected stamps of 32 pixels or more in them")
    facts = {"telescope": _CAMERA, "instrument": _CAMERA, "detector": _CAMERA}
    described = {
        "recognise": {"INSTRUME": _CAMERA},
        "filter_keywords": ["FILTER"],
        "gain_keywords": ["GAIN"],
        "chip_shape": list(shape),
        "has_flags": False,
        "cosmic_ray_bit": None,
    }
    sources = dict.fromkeys(described, "images in arrays have no headers")
    block = {
        **facts,
        "filters": ["any"],
        "pixel_scale_arcsec": _SCALE_ARCSEC,
        "pixel_size_um": 15.0,
        "gain_electron_per_count": 1.0,
        "read_noise_electron": read_noise_electron,
        "saturation_electron": _LARGEST,
        "chips": 1,
        "chip_shape": list(shape),
        "description": {"name": "images in arrays", **facts, **described, "sources": sources},
    }
    visits = {"arrays": {"field_type": "extragalactic", "test_fraction": 0.2}}
    return Recipe.model_validate(
        {
            "name": name,
            "task": "mask",
            "instrument": block,
            "data": {"product": "*", "source": "arrays", "split_by": "observation", "visits": visits},
            "build": {
                "labels": "given",
                "ignore": {"saturation_electron": _LARGEST},
                "stamps": {"size": side, "border": 0, "validation_fraction": validation_fraction},
                "sky": "measured",
                "quality": {"min_exposures": 1},
            },
            "train": {"architecture": {"depth": 2, "hidden": 32, "norm": "batch"}, **(train or {})},
            "publish": {"summary": f"{name}: trained on images and masks in arrays"},
            "rehearsal": {"stamps": {"size": 32, "border": 32}},
        }
    )


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
    pairs = _pairs(images, masks, ignore, sky, recipe)
    home = home or store.Home.default()
    home.make()
    members = [_visit(recipe, split, uses, exposure_time_s, home) for split, uses in _split(pairs, recipe, test_fraction)]
    recorded = store.recipe_key(recipe, False)
    records = [[visit.record.key, visit.stamps] for visit in members]
    manifest = store.Manifest(
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
        cautions=[*_repeats(pairs), "images in arrays: whether training and test show the same sky is not known"],
    )
    folder = home.dataset(recipe.name, manifest.key)
    with reporting_failures(folder, store.ELSEWHERE):
        folder.mkdir(parents=True, exist_ok=True)
        store.write_document(folder / store.MANIFEST_FILE, manifest)
    return Dataset(folder, home, manifest)


@dataclass(frozen=True, eq=False)
class _Pair:
    """An image with its masks, shape (H, W), and the hash of all three."""

    image: NDArray[np.float32]
    cosmic_rays: Mask
    ignore: Mask
    sky_electron: float
    digest: str


Uses = Sequence[tuple[_Pair, store.StampSplit]]


def _pairs(images: Any, masks: Any, ignore: Any, sky: Any, recipe: Recipe) -> list[_Pair]:
    stack = read_image(images, "electron")
    cosmic_rays = read_mask(masks, stack.shape)
    ignored = np.zeros(cosmic_rays.shape, bool) if ignore is None else read_mask(ignore, stack.shape)
    if stack.valid is not None:
        ignored = ignored | ~stack.valid
    if not len(stamp_positions(stack.pixels.shape[1:], recipe.build.stamps)):
        size = recipe.build.stamps.size
        raise UsageError(f"images of {stack.pixels.shape[1:]} pixels: expected space for a stamp of {size} pixels")
    levels = [None] * len(ignored) if sky is None else np.broadcast_to(np.asarray(sky, float), len(ignored)).tolist()
    try:
        check_marked(list(cosmic_rays), list(ignored), "the CR mask")
    except Exception as error:
        raise InvalidImageError(str(error)) from None
    return [_pair(*one) for one in zip(stack.pixels, cosmic_rays, ignored, levels, strict=True)]


def _pair(image: NDArray[np.float32], cosmic_rays: Mask, ignored: Mask, sky: float | None) -> _Pair:
    level = measure_sky([image], [ignored]) if sky is None else sky
    level = level if math.isfinite(level) else 0.0
    digest = hashlib.sha256(image.tobytes() + cosmic_rays.tobytes() + ignored.tobytes()).hexdigest()
    return _Pair(image, cosmic_rays, ignored, level, digest)


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
    yield "train", [(one, "train" if n < training - validating else "validation") for n, one in enumerate(pairs[:training])]
    if tests:
        yield "test", [(one, "test") for one in pairs[training:]]


def _visit(recipe: Recipe, split: Split, uses: Uses, exposure_time_s: float, home: store.Home) -> store.DatasetVisit:
    block, build = recipe.instrument, recipe.build
    digests = [pair.digest for pair, _ in uses]
    content = {
        "format": store.FORMAT,
        "arrays": digests,
        "sky": [pair.sky_electron for pair, _ in uses],
        "name": recipe.name,
        "split": split,
        "stamps": build.stamps.model_dump(mode="json", exclude={"validation_fraction"}),
        "read_noise": block.read_noise_electron,
        "exposure_time": exposure_time_s,
    }
    key = store.key_of(content)
    record = home.finished_visit(key)
    if record is None:
        target = home.visit(key)
        with reporting_failures(target, store.ELSEWHERE), new_folder(target) as folder:
            names = _names(digests)
            records = []
            for number, ((pair, _), name) in enumerate(zip(uses, names, strict=True)):
                wcs = _place(number, len(uses), pair.image.shape, build.stamps.size)
                records.append(_store(recipe, pair, name, wcs, exposure_time_s, folder))
            record = store.VisitRecord(
                key=key,
                name=f"{recipe.name}-{split}-{key[:8]}",
                field_type=next(iter(recipe.data.visits.values())).field_type,
                instrument=f"{block.telescope} {block.instrument}/{block.detector}",
                filter_name=block.filters[0],
                stamp_size=build.stamps.size,
                software=f"deepcr-zoo {__version__}",
                exposures=records,
            )
            store.write_document(folder / store.VISIT_FILE, record)
    stamps = [{use: list(range(one.count))} for (_, use), one in zip(uses, record.exposures, strict=True)]
    return store.DatasetVisit(record=record, split=split, stamps=stamps)


def _store(recipe: Recipe, pair: _Pair, name: str, wcs: WCS, exposure_time_s: float, folder: Any) -> store.ExposureRecord:
    block, size = recipe.instrument, recipe.build.stamps.size
    at = stamp_positions(pair.image.shape, recipe.build.stamps)
    image = np.where(pair.ignore & ~np.isfinite(pair.image), np.float32(pair.sky_electron), pair.image)
    image = np.where(np.abs(image) > _LARGEST, np.float32(pair.sky_electron), image)
    tensors: dict[str, NDArray[Any]] = {
        "image": cut_stamps(image, at, size).astype(np.float32),
        "cosmic_rays": cut_stamps(pair.cosmic_rays, at, size).astype(np.uint8),
        "ignore": cut_stamps(pair.ignore, at, size).astype(np.uint8),
        "position": at,
        "chip": np.ones(len(at), np.int32),
        "corners": footprints.corners(wcs, at, size),
    }
    expected = scene(image, pair.cosmic_rays, pair.ignore)
    masked = quality.count_masked(pair.cosmic_rays, pair.ignore, expected, block.read_noise_electron)
    area_cm2 = masked.pixels * (block.pixel_size_um * 1e-4) ** 2
    observed = area_cm2 * exposure_time_s
    return store.ExposureRecord(
        name=name,
        stamps=store.write_tensors(folder / f"{name}.safetensors", tensors, {"exposure": name, "recipe": recipe.name}),
        count=len(at),
        exposure_time_s=exposure_time_s,
        sky_electron=pair.sky_electron,
        sky_source="measured",
        background_ratio=None,
        cosmic_ray_fraction=masked.fraction,
        cosmic_rays_per_cm2_s=masked.groups / observed if observed else 0.0,
        rate_ratio=None,
        star_excess=masked.star_excess,
        star_excess_chance=masked.chance(recipe.build.quality.max_star_excess),
        ignored_fraction=1 - masked.pixels / pair.image.size,
    )


def _place(number: int, count: int, shape: tuple[int, int], size: int) -> WCS:
    """Return substitute coordinates: images lie on a grid around (0, 0), too far apart to share a block of sky."""
    columns = math.ceil(math.sqrt(count))
    step = _SPACING * math.ceil(max(shape) / size) * size
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval = ["RA---TAN", "DEC--TAN"], [0.0, 0.0]
    wcs.wcs.crpix = [1 - step * (number % columns), 1 - step * (number // columns)]
    wcs.wcs.cd = np.diag([-1.0, 1.0]) * _SCALE_ARCSEC / 3600
    return wcs


def _names(digests: Sequence[str]) -> list[str]:
    """Return a name for each image: the start of its hash, by which bench finds images that were trained on."""
    seen: Counter[str] = Counter()
    names = []
    for digest in digests:
        seen[digest] += 1
        names.append(f"image{digest[:16]}" + (f"-{seen[digest]}" if seen[digest] > 1 else ""))
    return names


def _repeats(pairs: Sequence[_Pair]) -> list[str]:
    most = Counter(pair.digest for pair in pairs)
    again = sum(count - 1 for count in most.values())
    return [f"{again} images are repeats of others: training and test may share them"] if again else []
