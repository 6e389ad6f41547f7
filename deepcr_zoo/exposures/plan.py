"""Plan of the products of an exposure, and checks of those that exist."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deepcr_zoo.batch import COPY_ENDING, MASK_ENDING
from deepcr_zoo.errors import InvalidFileError, OutputError, UsageError
from deepcr_zoo.exposures import pictures
from deepcr_zoo.exposures.fitsfiles import (
    extension_name,
    extension_version,
    first_header,
    image_values,
    is_checksum_failure,
    opened,
    read_unchanged,
    root_name,
)
from deepcr_zoo.exposures.options import NO_INPAINTING, CleanOptions
from deepcr_zoo.exposures.products import MASK_EXTENSION, Count
from deepcr_zoo.exposures.provenance import FORMAT, CleanedProvenance, MaskProvenance, Provenance, difference
from deepcr_zoo.exposures.reading import Exposure
from deepcr_zoo.exposures.selection import Selection
from deepcr_zoo.locations import expanded
from deepcr_zoo.zoo.cards import contract_sha256, read_card
from deepcr_zoo.zoo.registries import LOCAL
from deepcr_zoo.zoo.registry import FolderModel, ResolvedModel

PICTURE_ENDING = "_crpreview.png"


class MadeOtherwiseError(OutputError):
    """A product that exists and was made from another file, or otherwise."""


@dataclass(frozen=True)
class Plan:
    """The products to make of an exposure, and their provenance; a path is None if the product is not wanted."""

    mask: Path
    copy: Path | None
    picture: Path | None
    mask_provenance: MaskProvenance
    copy_provenance: CleanedProvenance

    @property
    def paths(self) -> list[Path]:
        """The files to write; the mask comes last, so that its presence means that all are there."""
        return [path for path in (self.copy, self.picture, self.mask) if path]

    @property
    def picture_made_by(self) -> str:
        """The provenance stored in the picture, in Latin-1 as texts of PNG files are (PNG specification, section 11.3)."""
        return f"format {FORMAT}, {self.copy_provenance}".encode("latin-1", "backslashreplace").decode("latin-1")

    @property
    def repaints(self) -> bool:
        """True if pixel values change."""
        return self.copy_provenance.inpainter != NO_INPAINTING


def make_plan(exposure: Exposure, selection: Selection, options: CleanOptions) -> Plan:
    """Return the products that the options ask for."""
    if options.dq_only and exposure.cosmic_ray_bit is None:
        raise InvalidFileError(
            f"{exposure.path}: the DQ of {exposure.description} is not known to hold bits: leave out --dq-only"
        )
    common = dataclasses.asdict(
        Provenance(
            model=selection.mask_reference,
            model_sha256=selection.mask_sha256,
            threshold=selection.threshold,
            grow=options.grow,
            reading="; ".join(
                filter(None, [str(options.reading), _description(exposure), *_own_cards(selection), _rounding(options)])
            ),
            input_sha256=exposure.sha256,
        )
    )
    network = selection.network
    output_dir = options.output_dir
    return Plan(
        mask=target(exposure.path, output_dir, MASK_ENDING),
        copy=target(exposure.path, output_dir, COPY_ENDING) if options.dq_only or selection.inpaint else None,
        picture=target(exposure.path, output_dir, PICTURE_ENDING) if options.preview else None,
        mask_provenance=MaskProvenance(**common, probability=options.prob),
        copy_provenance=CleanedProvenance(
            **common,
            inpainter=selection.inpaint_reference,
            inpainter_sha256=network.locked.weights.sha256 if network else "",
        ),
    )


def check_given_mask(plan: Plan, options: CleanOptions) -> None:
    """Raise `UsageError` if a product would replace the mask that is given."""
    if options.mask is not None and any(path.exists() and path.samefile(options.mask) for path in plan.paths):
        raise UsageError(f"{options.mask}: the mask that is given would be replaced: give another --output-dir")


def _description(exposure: Exposure) -> str:
    """Return a hash of the description of an instrument that does not ship: another one may give other results."""
    if exposure.instrument is None or exposure.instrument.is_shipped:
        return ""
    facts = json.dumps(exposure.instrument.facts, sort_keys=True)
    return f"instrument {hashlib.sha256(facts.encode()).hexdigest()[:8]}"


def _own_cards(selection: Selection) -> list[str]:
    """Return hashes of what cards say of input and output, of networks whose names no registry of others locks for ever."""
    return [f"card {contract_sha256(read_card(one))[:8]}" for one in selection.networks if _may_change(one)]


def _rounding(options: CleanOptions) -> str:
    """Return an engine whose values differ from those of the others by more than a float's rounding."""
    return f"engine {options.engine}" if options.engine.endswith("bf16") else ""


def _may_change(model: ResolvedModel) -> bool:
    return isinstance(model, FolderModel) or model.origin.registry == LOCAL


def clashes(paths: Iterable[str], output_dir: str | os.PathLike[str] | None) -> dict[str, str]:
    """Return the files whose products would overwrite those of an earlier file, each with an error text."""
    taken: dict[Path, str] = {}
    refused = {}
    for path in paths:
        product = target(Path(path), output_dir, "")
        if (first := taken.setdefault(Path(os.path.realpath(product.parent), product.name), path)) != path:
            refused[path] = f"would become the same products as {first}: clean it into another --output-dir"
    return refused


def target(path: Path, output_dir: str | os.PathLike[str] | None, ending: str) -> Path:
    """Return the path of a file's product."""
    folder = path.parent if output_dir is None else expanded(output_dir)
    return folder / (root_name(path) + ending)


def check_existing(plan: Plan, overwrite: bool) -> None:
    """Raise `OutputError` for files in the places of products that are none, or that were made otherwise."""
    differs = {path: _difference(path, plan) for path in plan.paths if os.path.lexists(path)}
    for path, problem in differs.items():
        if problem is not None and not overwrite:
            raise MadeOtherwiseError(
                f"{path}: exists and was made otherwise ({problem}): give --overwrite to replace it, or another --output-dir"
            )


def finished(plan: Plan, overwrite: bool) -> Count | None:
    """Return the count stored in products that are finished; None if they must be made."""
    check_existing(plan, overwrite)
    if overwrite or not all(map(os.path.lexists, plan.paths)):
        return None
    return Count.from_header(_product_header(plan.mask))


def damaged(plan: Plan, exposure: Exposure) -> dict[Path, str]:
    """Return what is wrong with each product that is not whole; `MadeOtherwiseError` for a whole one that was changed."""
    problems = {path: _damage(path, plan, exposure) for path in plan.paths if os.path.lexists(path)}
    return {path: problem for path, problem in problems.items() if problem}


def _damage(path: Path, plan: Plan, exposure: Exposure) -> str | None:
    if path == plan.picture:
        return None if pictures.is_whole(path) else "it ends too early"
    data = read_unchanged(path)
    try:
        with opened(data, path) as (hdus, _, cautions):
            expected, found = _extensions(path, plan, exposure), len(hdus) - 1
            # extensions that are copied keep the checksums of the exposure, right or wrong
            changes = [one.partition(":")[0] for one in cautions if is_checksum_failure(one) if one not in exposure.cautions]
            if found < expected:  # taken out, or cut off between two of them
                changes.append(f"it has {found} extensions: expected {expected}")
            if path == plan.mask and not changes:
                changes = _other_count(hdus, path)
        if changes:
            raise MadeOtherwiseError(
                f"{path}: was changed by hand, or damaged ({changes[0]}): --overwrite makes it again, clean --mask takes a "
                "corrected mask of another name"
            )
        return None
    except InvalidFileError as error:
        return str(error).removeprefix(f"{path}: ")


def _other_count(hdus: Any, path: Path) -> list[str]:
    """Return that a mask file has another number of masked pixels than its header says, if it has."""
    masks = [image_values(hdu, str(path)) for hdu in hdus if extension_name(hdu) == MASK_EXTENSION]
    found, stated = sum(int(np.count_nonzero(mask)) for mask in masks), Count.from_header(hdus[0].header)
    return (
        [] if stated is None or stated.masked == found else [f"{found} pixels are masked, its header says {stated.masked}"]
    )


def _extensions(path: Path, plan: Plan, exposure: Exposure) -> int:
    """Return how many extensions a product has at least."""
    if path == plan.mask:
        return len(exposure.chips) * (2 if plan.mask_provenance.probability else 1)
    with opened(exposure.data, exposure.path) as (hdus, _, _):
        flagged = {extension_version(hdu) for hdu in hdus if extension_name(hdu) == "DQ"}
        added = {chip.version for chip in exposure.chips} - flagged if exposure.cosmic_ray_bit is not None else set()
        return len(hdus) - 1 + len(added)


def _difference(path: Path, plan: Plan) -> str | None:
    """Return how an existing product differs from the planned one; None if it does not."""
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
    """Return the primary header of a product; None if the file is not one."""
    try:
        header = first_header(path)
    except MemoryError:
        raise
    except Exception:  # astropy raises anything on damaged files
        return None
    return header if header is not None and "CRMODEL" in header else None


def not_ours(path: Path) -> OutputError:
    """Return the error for a file of the user's at the path of a product."""
    return OutputError(f"{path}: exists and is no product of deepcr-zoo: move it away, or give another --output-dir")


def stale(plan: Plan, exposure: Exposure, output_dir: str | os.PathLike[str] | None) -> list[str]:
    """Return cautions if a cleaned copy or a picture from another run stays beside the new mask."""
    picture = target(exposure.path, output_dir, PICTURE_ENDING)
    made_by = None if plan.picture else pictures.description(picture)
    left = [] if made_by in (None, plan.picture_made_by) else [f"{picture.name} stays as it is and shows another result"]
    other = target(exposure.path, output_dir, COPY_ENDING)
    header = None if plan.copy or not other.is_file() else _product_header(other)
    if header is None:
        return left
    fields = {field.name: getattr(plan.mask_provenance, field.name) for field in dataclasses.fields(Provenance)}
    problem = difference(Provenance(**fields), header)
    return left if problem is None else [*left, f"{other.name} stays as it is and was made otherwise ({problem})"]
