"""Which products are wanted of an exposure, and which of them are there already."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from astropy.io import fits

from deepcr_zoo.errors import InvalidFileError, OutputError
from deepcr_zoo.exposures import pictures
from deepcr_zoo.exposures.fitsfiles import root_name
from deepcr_zoo.exposures.products import Count
from deepcr_zoo.exposures.provenance import FORMAT, CleanedProvenance, MaskProvenance, Provenance, difference
from deepcr_zoo.exposures.reading import Exposure
from deepcr_zoo.exposures.selection import NO_INPAINTING, Selection

MASK_ENDING, COPY_ENDING, PICTURE_ENDING = "_crmask.fits", "_crclean.fits", "_crpreview.png"


@dataclass(frozen=True)
class Plan:
    """The products that are wanted of an exposure.

    Attributes
    ----------
    mask, copy, picture : Path, or None if not wanted
    mask_provenance, copy_provenance : what they are to say of themselves
    """

    mask: Path
    copy: Path | None
    picture: Path | None
    mask_provenance: MaskProvenance
    copy_provenance: CleanedProvenance

    @property
    def paths(self) -> list[Path]:
        """What is written, the mask last: where it stands, the others do."""
        return [path for path in (self.copy, self.picture, self.mask) if path]

    @property
    def picture_made_by(self) -> str:
        """What the picture is to say of itself."""
        return f"format {FORMAT}, {self.copy_provenance}"

    @property
    def repaints(self) -> bool:
        """Whether pixel values change."""
        return self.copy_provenance.inpainter != NO_INPAINTING


def make_plan(
    exposure: Exposure,
    selection: Selection,
    grow: int,
    output_dir: str | os.PathLike[str] | None,
    dq_only: bool,
    prob: bool,
    preview: bool,
) -> Plan:
    """The products that are wanted; the parameters are those of `filecleaning.clean_file`.

    Raises
    ------
    InvalidFileError
        If only the DQ is to be changed, and is not known to hold bits.
    """
    if dq_only and exposure.cosmic_ray_bit is None:
        raise InvalidFileError(
            f"{exposure.path}: the DQ of {exposure.description} is not known to hold bits: leave out --dq-only"
        )
    common = dataclasses.asdict(
        Provenance(
            model=selection.mask.reference,
            model_sha256=selection.mask.locked.weights.sha256,
            threshold=selection.threshold,
            grow=grow,
            input_sha256=exposure.sha256,
        )
    )
    network = selection.network
    return Plan(
        mask=target(exposure.path, output_dir, MASK_ENDING),
        copy=target(exposure.path, output_dir, COPY_ENDING) if dq_only or selection.inpaint else None,
        picture=target(exposure.path, output_dir, PICTURE_ENDING) if preview else None,
        mask_provenance=MaskProvenance(**common, probability=prob),
        copy_provenance=CleanedProvenance(
            **common,
            inpainter=selection.inpaint_reference,
            inpainter_sha256=network.locked.weights.sha256 if network else "",
        ),
    )


def clashes(paths: Iterable[str], output_dir: str | os.PathLike[str] | None) -> dict[str, str]:
    """Files whose products would land on those of an earlier one, and why they cannot be cleaned."""
    taken: dict[Path, str] = {}
    refused = {}
    for path in paths:
        if (first := taken.setdefault(target(Path(path), output_dir, "").absolute(), path)) != path:
            refused[path] = f"would become the same products as {first}: clean it into another --output-dir"
    return refused


def target(path: Path, output_dir: str | os.PathLike[str] | None, ending: str) -> Path:
    """Where a product of a file goes."""
    folder = path.parent if output_dir is None else Path(output_dir).expanduser()
    return folder / (root_name(path) + ending)


def finished(plan: Plan, overwrite: bool) -> Count | None:
    """What the products that are there already found; None if they are to be made.

    Raises
    ------
    OutputError
        If one of them was made otherwise and may not be overwritten, or is no product at all.
    """
    differs = {path: _difference(path, plan) for path in plan.paths if os.path.lexists(path)}
    for path, problem in differs.items():
        if problem is not None and not overwrite:
            raise OutputError(
                f"{path}: exists and was made otherwise ({problem}): give --overwrite to replace it, or another --output-dir"
            )
    if overwrite or len(differs) < len(plan.paths):
        return None
    return Count.from_header(fits.getheader(plan.mask))


def _difference(path: Path, plan: Plan) -> str | None:
    """How a product that exists differs from the one that is wanted; None if it does not."""
    if path == plan.picture:
        made_by = pictures.description(path)
        if made_by is None:
            raise not_ours(path)
        return None if made_by == plan.picture_made_by else "it shows another result"
    header = _product_header(path)
    if header is None:
        raise not_ours(path)
    return difference(plan.mask_provenance if path == plan.mask else plan.copy_provenance, header)


def _product_header(path: Path) -> Any:
    """The primary header of a product; None if the file is none."""
    try:
        header = fits.getheader(path)
    except OSError:
        return None
    return header if "CRMODEL" in header else None


def not_ours(path: Path) -> OutputError:
    """The error for a file that stands where a product would go."""
    return OutputError(f"{path}: exists and is no product of deepcr-zoo: move it away, or give another --output-dir")


def stale(plan: Plan, exposure: Exposure, output_dir: str | os.PathLike[str] | None) -> list[str]:
    """Tell of a copy from another run that stays beside the new mask."""
    other = target(exposure.path, output_dir, COPY_ENDING)
    header = None if plan.copy or not other.is_file() else _product_header(other)
    if header is None:
        return []
    fields = {field.name: getattr(plan.mask_provenance, field.name) for field in dataclasses.fields(Provenance)}
    problem = difference(Provenance(**fields), header)
    return [] if problem is None else [f"{other.name} stays as it is and was made otherwise ({problem})"]
