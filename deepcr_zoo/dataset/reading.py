"""Reading training sets: stamps come straight from the files, which are never loaded whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepcr_zoo.dataset import store
from deepcr_zoo.dataset.stampfiles import StampFile, stamps_of, truth_of
from deepcr_zoo.errors import DatasetError
from deepcr_zoo.files import sha256_of
from deepcr_zoo.models.skynoise import FrameNoise, frame_noise
from deepcr_zoo.zoo.recipe import FieldType, Recipe


@dataclass(frozen=True)
class Stamp:
    """One labelled stamp: its layers, shape (S, S), and its index among the stamps of the exposure.

    `image` is in e-, with the sky level where there is no value; such pixels are ignored. In `cosmic_rays` 1 is a cosmic
    ray, in `ignore` 1 is excluded from loss and metrics.
    """

    image: NDArray[np.float32]
    cosmic_rays: NDArray[np.uint8]
    ignore: NDArray[np.uint8]
    exposure: store.ExposureRecord
    visit: store.VisitRecord
    index: int


@dataclass(frozen=True)
class ExposureStamps:
    """The stamps of one exposure for one use: their file, the file of the simulated truth if any, and their indices."""

    stamps: StampFile
    truth: StampFile | None
    exposure: store.ExposureRecord
    visit: store.VisitRecord
    indices: tuple[int, ...]

    @property
    def path(self) -> Path:
        """Path of the file of stamps."""
        return self.stamps.path

    def read(self, *names: str) -> dict[str, NDArray[Any]]:
        """Return tensors of these stamps, shape (N, ...); all of `store.LAYERS` if none is named."""
        return {name: tensor[list(self.indices)] for name, tensor in self.stamps.read(*names).items()}

    def noise(self) -> list[FrameNoise]:
        """Return sky and noise (e-) of the chip of each of these stamps, measured in all stamps of the chip."""
        return [_noise_of_stamps(self.stamps)[index] for index in self.indices]

    def read_truth(self) -> dict[str, NDArray[np.float32]]:
        """Return the simulated cosmic_rays, scene and noise, e-, shape (N, S, S)."""
        if self.truth is None:
            raise DatasetError(f"{self.exposure.name} is a real exposure: its true cosmic rays are unknown")
        return {name: tensor[list(self.indices)] for name, tensor in self.truth.read().items()}


@lru_cache(maxsize=1024)
def _noise_of_stamps(stamps: StampFile) -> list[FrameNoise]:
    """Return sky and noise of the chip of each stamp in a file."""
    layers = stamps.read("image", "ignore", "chip")
    image, used, chips = layers["image"], layers["ignore"] == 0, layers["chip"]
    of_chip = {chip: frame_noise(image[chips == chip], used[chips == chip]) for chip in np.unique(chips)}
    return [of_chip[chip] for chip in chips]


class Stamps(Sequence[Stamp]):
    """Stamps that are read one at a time; pickling leaves out the open files."""

    def __init__(self, groups: Sequence[ExposureStamps]) -> None:
        self._places = [(group, index) for group in groups for index in group.indices]
        self._open: dict[Path, dict[str, Any]] = {}

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, number: Any) -> Any:
        if isinstance(number, slice):
            return [self[one] for one in range(*number.indices(len(self)))]
        group, index = self._places[number]
        if group.path not in self._open:
            self._open[group.path] = group.stamps.slices("image", "cosmic_rays", "ignore")
        layers = {name: tensor[index] for name, tensor in self._open[group.path].items()}
        return Stamp(**layers, exposure=group.exposure, visit=group.visit, index=index)

    def noise(self, number: int) -> FrameNoise:
        """Return sky and noise (e-) of the chip of a stamp, as `ExposureStamps.noise`."""
        group, index = self._places[number]
        return _noise_of_stamps(group.stamps)[index]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_open": {}}


@dataclass(frozen=True)
class Dataset:
    """A training set.

    Attributes
    ----------
    folder : Path
        Folder of the manifest.
    home : Home
        Folder of all training sets, which holds the visits.
    manifest : Manifest
        Visits, and the use of each stamp.
    """

    folder: Path
    home: store.Home
    manifest: store.Manifest

    @classmethod
    def open(cls, folder: Path, home: store.Home | None = None) -> Dataset:
        """Open a training set by its folder.

        Parameters
        ----------
        folder : Path
        home : Home, optional
            By default the home that the folder lies in.

        Raises
        ------
        DatasetError
            If the manifest is missing or not of this format.
        """
        return cls(folder, home or store.Home(folder.absolute().parent.parent), store.read_manifest(folder))

    @property
    def manifest_sha256(self) -> str:
        """Hash of the manifest's file."""
        return sha256_of(self.folder / store.MANIFEST_FILE)

    def exposures(self, split: store.StampSplit, field_type: FieldType | None = None) -> Iterator[ExposureStamps]:
        """Yield the exposures that have stamps of a split, of one field type or all, in the order of the manifest."""
        for visit in self.manifest.visits:
            if field_type not in (None, visit.record.field_type):
                continue
            for exposure, indices in zip(visit.record.exposures, visit.stamps, strict=True):
                if chosen := indices.get(split):
                    place = (self.home, visit.record, exposure)
                    yield ExposureStamps(stamps_of(*place), truth_of(*place), exposure, visit.record, tuple(chosen))

    def stamps(self, split: store.StampSplit, field_type: FieldType | None = None) -> Stamps:
        """Return the stamps of a split, of one field type or all, in the order of the manifest."""
        return Stamps(list(self.exposures(split, field_type)))

    def check_recipe(self, recipe: Recipe, rehearsal: bool) -> None:
        """Check that this is the training set of a recipe, or of its rehearsal.

        Parameters
        ----------
        recipe : Recipe
        rehearsal : bool

        Raises
        ------
        DatasetError
            If it was built from another recipe, or with other settings.
        """
        if self.manifest.recipe_key != store.recipe_key(recipe, rehearsal):
            name = f"the rehearsal of {recipe.name}" if rehearsal else recipe.name
            raise DatasetError(
                f"{self.folder}: was built from another recipe than {name}, or with other settings of instrument, data or "
                "build: leave it out, and the right one is built"
            )

    def verify(self, *splits: store.StampSplit) -> None:
        """Compare files with their hashes in the manifest; one that has not changed since it was compared is not read again.

        Every file is compared before it is read in any case; this names all that differ, before long work begins.

        Parameters
        ----------
        *splits : str
            Compare the files that have stamps of these splits; all files by default.

        Raises
        ------
        DatasetError
            If files are missing or differ; it names each.
        """
        problems = []
        for visit in self.manifest.visits:
            for exposure, uses in zip(visit.record.exposures, visit.stamps, strict=True):
                if splits and not uses.keys() & set(splits):
                    continue
                place = (self.home, visit.record, exposure)
                for file in filter(None, (stamps_of(*place), truth_of(*place))):
                    try:
                        file.check()
                    except DatasetError as error:
                        problems.append(str(error))
        if problems:
            raise DatasetError(*problems)
