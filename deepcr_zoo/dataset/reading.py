"""Reading training sets: stamps straight from the files, without loading them whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from deepcr_zoo.dataset.store import (
    MANIFEST_FILE,
    ExposureRecord,
    Home,
    Manifest,
    StampSplit,
    StoredFile,
    VisitRecord,
    read_manifest,
    recipe_key,
)
from deepcr_zoo.errors import DatasetError
from deepcr_zoo.files import sha256_of
from deepcr_zoo.zoo.recipe import FieldType, Recipe

_REBUILD = "run the build again: it makes what is missing"


@dataclass(frozen=True)
class Stamp:
    """One labelled stamp.

    Attributes
    ----------
    image : ndarray of float32, shape (S, S)
        e-; pixels without a value hold the sky level, and are ignored.
    cosmic_rays : ndarray of uint8, shape (S, S)
        CR mask, 1 = cosmic ray.
    ignore : ndarray of uint8, shape (S, S)
        1 = excluded from loss and metrics.
    exposure : ExposureRecord
        With its sky level and exposure time.
    visit : VisitRecord
        With its field type.
    index : int
        Among the stamps of the exposure.
    """

    image: NDArray[np.float32]
    cosmic_rays: NDArray[np.uint8]
    ignore: NDArray[np.uint8]
    exposure: ExposureRecord
    visit: VisitRecord
    index: int


@dataclass(frozen=True)
class ExposureStamps:
    """The stamps of one exposure that are for the same.

    Attributes
    ----------
    path : Path
        Their file.
    truth : Path or None
        The file with what was simulated.
    exposure : ExposureRecord
    visit : VisitRecord
    indices : tuple of int
        Which stamps of the file.
    """

    path: Path
    truth: Path | None
    exposure: ExposureRecord
    visit: VisitRecord
    indices: tuple[int, ...]

    def read(self, *names: str) -> dict[str, NDArray[Any]]:
        """Tensors of these stamps, shape (N, ...), all if none is named (see `store.TENSORS`).

        Raises
        ------
        DatasetError
            If the file is missing or damaged.
        """
        return {name: tensor[list(self.indices)] for name, tensor in read_tensors(self.path, names).items()}

    def read_truth(self) -> dict[str, NDArray[np.float32]]:
        """What was simulated, e-, shape (N, S, S): cosmic_rays, scene, noise.

        Raises
        ------
        DatasetError
            If the exposure was not simulated, or the file is missing or damaged.
        """
        if self.truth is None:
            raise DatasetError(f"{self.exposure.name} is a real exposure: nobody knows its cosmic rays")
        return {name: tensor[list(self.indices)] for name, tensor in read_tensors(self.truth, ()).items()}


class Stamps(Sequence[Stamp]):
    """Stamps that are read when they are asked for; goes to other processes without its open files."""

    def __init__(self, groups: Sequence[ExposureStamps]) -> None:
        self._groups = list(groups)
        self._places = [(group, index) for group in self._groups for index in group.indices]
        self._open: dict[Path, dict[str, Any]] = {}

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, number: Any) -> Any:
        if isinstance(number, slice):
            return [self[one] for one in range(*number.indices(len(self)))]
        group, index = self._places[number]
        if group.path not in self._open:
            file = _opened(group.path)
            self._open[group.path] = {name: file.get_slice(name) for name in ("image", "cosmic_rays", "ignore")}
        layers = {name: tensor[index] for name, tensor in self._open[group.path].items()}
        return Stamp(**layers, exposure=group.exposure, visit=group.visit, index=index)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_open": {}}


@dataclass(frozen=True)
class Dataset:
    """A training set.

    Attributes
    ----------
    folder : Path
    home : Home
    manifest : Manifest
    """

    folder: Path
    home: Home
    manifest: Manifest

    @classmethod
    def open(cls, folder: Path, home: Home | None = None) -> Dataset:
        """Open a training set by its folder.

        Raises
        ------
        DatasetError
            If its manifest is missing or not of this format.
        """
        return cls(folder, home or Home(folder.absolute().parents[1]), read_manifest(folder))

    @property
    def manifest_sha256(self) -> str:
        """Hash of the manifest's file."""
        return sha256_of(self.folder / MANIFEST_FILE)

    def exposures(self, split: StampSplit, field_type: FieldType | None = None) -> Iterator[ExposureStamps]:
        """The exposures that have stamps for something, of one field type or all, in the order of the manifest."""
        for visit in self.manifest.visits:
            if field_type not in (None, visit.record.field_type):
                continue
            folder = self.home.visit(visit.record.key)
            for exposure, indices in zip(visit.record.exposures, visit.stamps, strict=True):
                if chosen := indices.get(split):
                    truth = folder / exposure.truth.name if exposure.truth else None
                    yield ExposureStamps(folder / exposure.stamps.name, truth, exposure, visit.record, tuple(chosen))

    def stamps(self, split: StampSplit, field_type: FieldType | None = None) -> Stamps:
        """The stamps for something, of one field type or all, in the order of the manifest."""
        return Stamps(list(self.exposures(split, field_type)))

    def check_recipe(self, recipe: Recipe, rehearsal: bool) -> None:
        """Make sure that this is the training set of a recipe.

        Raises
        ------
        DatasetError
            If it was built from another one, or from other settings.
        """
        if self.manifest.recipe_key != recipe_key(recipe, rehearsal):
            what = "the rehearsal of " if rehearsal else ""
            raise DatasetError(
                f"{self.folder}: was built from another recipe than {what}{recipe.name}, or with other settings of "
                "instrument, data or build: leave it out, and the right one is built"
            )

    def verify(self) -> None:
        """Compare every file with its hash in the manifest.

        Raises
        ------
        DatasetError
            Naming each that is missing or differs.
        """
        problems = []
        for visit in self.manifest.visits:
            folder = self.home.visit(visit.record.key)
            for exposure in visit.record.exposures:
                files = (exposure.stamps, exposure.truth)
                problems += [problem for file in files if file and (problem := _difference(folder / file.name, file))]
        if problems:
            raise DatasetError("\n".join(problems) + f"\nremove the folder of each such visit and {_REBUILD}")


def read_tensors(path: Path, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Tensors of a file, all if none is named.

    Raises
    ------
    DatasetError
        If the file is missing or damaged.
    """
    file = _opened(path)
    return {name: file.get_tensor(name) for name in names or file.keys()}


def _opened(path: Path) -> Any:
    try:
        return safe_open(path, framework="numpy")
    except FileNotFoundError:
        raise DatasetError(f"{path}: is missing: {_REBUILD}") from None
    except (OSError, SafetensorError) as error:
        raise DatasetError(f"{path}: cannot be read: {error}; remove its folder and {_REBUILD}") from None


def _difference(path: Path, recorded: StoredFile) -> str | None:
    try:
        found = sha256_of(path)
    except OSError as error:
        return f"{path}: cannot be read: {error.strerror}"
    return None if found == recorded.sha256 else f"{path}: differs from the manifest: expected sha256 {recorded.sha256}"
