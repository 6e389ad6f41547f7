"""The headers of several files of one camera: which keywords they have, what stays the same and what varies."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from deepcr_zoo.exposures.extensions import FLAGS, science_images
from deepcr_zoo.exposures.fitsfiles import extension_name, opened, read_unchanged
from deepcr_zoo.exposures.framekinds import frame_kind
from deepcr_zoo.exposures.keywordnames import EXPOSURE_TIME, NO_VALUE
from deepcr_zoo.exposures.packing import unpacked
from deepcr_zoo.zoo.instruments import FrameKind, Keywords, number, text

Accept = Callable[[Keywords, str], bool]
"""True if a keyword of a header holds a fact."""


@dataclass(frozen=True)
class SurveyedFile:
    """Headers and shapes of the science images of a file."""

    path: Path
    images: tuple[Keywords, ...]  # header of each image, then that of the primary
    shapes: tuple[tuple[int, int], ...]
    is_ambiguous: bool  # True if it holds several images, and nothing says which are exposures
    has_flags: bool
    kind: FrameKind | None  # if it is a calibration frame
    is_bias: bool  # by its kind, or because it was not exposed

    @property
    def is_of_the_sky(self) -> bool:
        """True unless the header says that it is a calibration frame."""
        return not self.is_bias and (self.kind is None or self.kind.is_of == "other_detector")


@dataclass(frozen=True)
class Survey:
    """Files of one camera."""

    files: tuple[SurveyedFile, ...]

    @property
    def lights(self) -> tuple[SurveyedFile, ...]:
        """The exposures of the sky, or all files if there is none."""
        return tuple(one for one in self.files if one.is_of_the_sky) or self.files

    @property
    def images(self) -> list[Keywords]:
        """Headers of all images of the exposures."""
        return [image for one in self.lights for image in one.images]

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """Rows and columns of all images of the exposures."""
        return [shape for one in self.lights for shape in one.shapes]

    @property
    def named(self) -> str:
        """The exposures, for the sources of facts."""
        first, *more = (one.path.name for one in self.lights)
        return f"{first} and {len(more)} more" if more else first

    def first(self, names: Iterable[str], accept: Accept) -> str | None:
        """Return the first keyword that holds a fact in every image, else the first that does so in some."""
        names = list(names)
        everywhere = (name for name in names if all(accept(image, name) for image in self.images))
        somewhere = (name for name in names if any(accept(image, name) for image in self.images))
        return next(everywhere, None) or next(somewhere, None)

    def values(self, name: str) -> list[str]:
        """Return the different values of a keyword in all images, in order; empty where one has none."""
        return list(dict.fromkeys(text(image, name) for image in self.images))

    def constant(self, name: str) -> str | None:
        """Return the value of a keyword if it is one that means something and all images have it."""
        (value, *others) = self.values(name)
        return None if others or value.upper() in NO_VALUE else value


def survey(paths: Sequence[Path]) -> Survey:
    """Read the headers of files; an `InvalidFileError` names one that is no FITS file or holds no image."""
    return Survey(tuple(map(_read, paths)))


def has_text(image: Keywords, name: str) -> bool:
    """True if a keyword has a value that means something."""
    return text(image, name).upper() not in NO_VALUE


def _is_unexposed(image: Keywords) -> bool:
    times = [time for name in EXPOSURE_TIME.names if (time := number(image, name)) is not None]
    return bool(times) and max(times) == 0


def _read(path: Path) -> SurveyedFile:
    with opened(unpacked(read_unchanged(path), path), path) as (hdus, _, _):
        indices, missing = science_images(hdus, (), path, lambda _: None)
        images = tuple(ChainMap(hdus[index].header.copy(), hdus[0].header.copy()) for index in indices)
        kind = frame_kind(images[0])
        return SurveyedFile(
            path=path,
            images=images,
            shapes=tuple(hdus[index].shape[-2:] for index in indices),
            is_ambiguous=bool(missing),
            has_flags=any(extension_name(hdu) in FLAGS for hdu in hdus),
            kind=None if kind is None else kind[0],
            is_bias=(kind is not None and "BIAS*" in kind[0].values) or _is_unexposed(images[0]),
        )
