"""Masks that users give beside their exposures, for training (`build.given`)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deepcr_zoo.batch import FITS_ENDINGS
from deepcr_zoo.errors import InvalidFileError
from deepcr_zoo.exposures.fitsfiles import root_name
from deepcr_zoo.exposures.maskfiles import MaskFile, find_mask
from deepcr_zoo.zoo.recipe import GivenBlock


@dataclass(frozen=True)
class MaskFiles:
    """The masks of an exposure."""

    cosmic_rays: MaskFile | None = None
    ignore: MaskFile | None = None

    @property
    def identity(self) -> list[Any]:
        """What labels depend on."""
        return [one and [one.sha256, one.part] for one in (self.cosmic_rays, self.ignore)]

    @property
    def cautions(self) -> tuple[str, ...]:
        """Such as that a mask was made for another exposure."""
        return tuple(caution for one in (self.cosmic_rays, self.ignore) if one for caution in one.cautions)


NO_MASKS = MaskFiles()


def find_masks(exposure: Path, sha256: str, block: GivenBlock) -> MaskFiles:
    """Return the masks of an exposure, whose file has this hash; `InvalidFileError` if one cannot be read."""

    def find(ending: str) -> MaskFile:
        path, part = _place(exposure, ending)
        if not path.is_file():
            raise InvalidFileError(f"{exposure}: has no {path.name} beside it: expected its mask (build.given)")
        return MaskFile(path, part, sha256) if path == exposure else find_mask(path, sha256, part)

    return MaskFiles(find(block.mask), find(block.ignore) if block.ignore else None)


def places(exposure: Path, block: GivenBlock) -> list[Path]:
    """Return the files in which the masks of an exposure are looked for."""
    return [_place(exposure, ending)[0] for ending in (block.mask, block.ignore) if ending]


def is_mask(path: Path, block: GivenBlock) -> bool:
    """True if a file has the name of a mask, packed or not, even where its exposure is missing."""
    endings = [ending.partition("[")[0] for ending in (block.mask, block.ignore) if ending]
    return root_name(path).endswith(tuple(root_name(Path(end)) for end in endings if end not in FITS_ENDINGS))


def _place(exposure: Path, ending: str) -> tuple[Path, str]:
    end, _, part = ending.partition("[")
    path = exposure if end in FITS_ENDINGS else exposure.with_name(f"{root_name(exposure)}{end}")
    return path, part.removesuffix("]")
