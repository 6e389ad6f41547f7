"""One file, cleaned: an exposure in, its cosmic-ray mask and a cleaned copy out."""

from __future__ import annotations

import dataclasses
import logging
import os
import time
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from astropy.io import fits
from scipy import ndimage

from deepcr_zoo import pictures, products
from deepcr_zoo.cleaning import filler
from deepcr_zoo.errors import ModelWarning, OutputError, UsageError
from deepcr_zoo.files import sweep_partial, write_together
from deepcr_zoo.frames import Chip, Exposure, read_exposure, root_name
from deepcr_zoo.models import MaskModel, load
from deepcr_zoo.products import ChipMask, Count
from deepcr_zoo.provenance import CleanedProvenance, MaskProvenance, Provenance, difference
from deepcr_zoo.registry import default_registry
from deepcr_zoo.selection import AUTO, NO_INPAINTING, Selection, select

MASK_ENDING, CLEANED_ENDING, PREVIEW_ENDING = "_crmask.fits", "_crclean.fits", "_crpreview.png"

SUSPICIOUS_FRACTION = 0.2
"""A larger share of masked pixels is a sign of a wrong unit or model: cosmic rays hit 1.5 to 3 % of the pixels of HST's
CCDs in 1000 s (ACS Instrument Handbook 2005, on cosmic rays)."""

_TOUCHING = np.ones((3, 3))

log = logging.getLogger("deepcr_zoo")


@dataclass(frozen=True)
class CleanedFile:
    """What became of one file.

    Attributes
    ----------
    path : str
    status : {"cleaned", "finished"}
        Finished: the products were there already, made in the same way.
    outputs : list of str
        Paths of the products.
    model : str
        Mask model, ``task/name@version``.
    inpaint : str
        Inpainting model or method, or ``none``.
    threshold : float
    pixels : int
        Masked pixels of all chips.
    fraction : float
        Their share of the pixels that see light.
    rate : float or None
        Cosmic rays per cm2 and second; None where the detector's area or the exposure time is not known.
    seconds : float
        Time that it took.
    reasons : list of str
        How models and threshold were chosen.
    cautions : list of str
        What may make the result worse than expected; stands in the products' HISTORY too.
    advice : str
        What to mind when the products are used; empty if there is nothing.
    """

    path: str
    status: Literal["cleaned", "finished"]
    outputs: list[str]
    model: str
    inpaint: str
    threshold: float
    pixels: int
    fraction: float
    rate: float | None
    seconds: float
    reasons: list[str]
    cautions: list[str]
    advice: str


def clean_file(
    path: str | os.PathLike[str],
    model: str = AUTO,
    inpaint: str = AUTO,
    threshold: float | None = None,
    *,
    fpr: float | None = None,
    allow_synthetic: bool = False,
    grow: int = 0,
    output_dir: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    dq_only: bool = False,
    prob: bool = False,
    preview: bool = False,
    device: str = "auto",
) -> CleanedFile:
    """Find and repaint the cosmic rays of an exposure in a FITS file; the same as ``deepcr-zoo clean``.

    Writes ``ROOT_crmask.fits`` and ``ROOT_crclean.fits``, all or none. The input is never written. If the products exist
    and were made in the same way from the same input, nothing is done.

    Parameters
    ----------
    path : path
        FITS file, plain, gzipped or fpacked.
    model : str
        Name of a mask model, or ``"auto"`` for the registry's first choice for the instrument and filter.
    inpaint : str
        Name of an inpainting model, ``"medmask"``, ``"biharmonic"``, ``"none"`` (then only the mask is written), or
        ``"auto"`` for the instrument's own network where the zoo has one, else ``"medmask"``.
    threshold : float, optional
        Probability above which a pixel is masked; the default is the card's.
    fpr : float, optional
        False-positive rate; the threshold is then the one that was measured to give it.
    allow_synthetic : bool
        Accept operating points that were measured on synthetic data.
    grow : int
        Pixels by which the mask is dilated, in all eight directions.
    output_dir : path, optional
        Folder of the products; the default is that of the input.
    overwrite : bool
        Replace products that were made otherwise, and make those again that are finished.
    dq_only : bool
        Leave the pixel values of the copy as they are; only the DQ bit is set.
    prob : bool
        Write the probability into the mask file too.
    preview : bool
        Write ``ROOT_crpreview.png``.
    device : str
        See `deepcr_zoo.load`.

    Returns
    -------
    CleanedFile

    Raises
    ------
    InvalidFileError
        If the file is damaged, changes while it is read, or holds nothing that can be cleaned.
    OutputError
        If a product cannot be written, or would replace one that was made otherwise.
    NoModelError
        If no model or operating point is known for what was asked.
    UsageError
        If the arguments contradict each other or are out of range.
    """
    started = time.perf_counter()
    if grow < 0:
        raise UsageError(f"grow is {grow}: expected a number of pixels, 0 or more")
    if dq_only and inpaint not in (AUTO, NO_INPAINTING):
        raise UsageError(f"inpaint={inpaint} and dq_only are given: expected one of the two, dq_only repaints nothing")
    exposure = read_exposure(Path(path))
    selection = select(
        exposure, default_registry(), model, NO_INPAINTING if dq_only else inpaint, threshold, fpr, allow_synthetic
    )
    targets = _targets(exposure, selection, grow, output_dir, dq_only, prob)
    picture = _target(exposure.path, output_dir, PREVIEW_ENDING) if preview else None
    found = None if overwrite else _finished(targets, picture)
    status: Literal["cleaned", "finished"] = "finished"
    cautions = list(selection.cautions)
    if found is None:
        status = "cleaned"
        found, cautions = _make(exposure, selection, grow, device, targets, picture)
    for caution in cautions:
        log.warning("%s: %s", path, caution)
    bit = products.cosmic_ray_bit(exposure) if len(targets) > 1 else None
    return CleanedFile(
        path=os.fspath(path),
        status=status,
        outputs=[str(target) for target in [*targets, *filter(None, [picture])]],
        model=selection.mask.reference,
        inpaint=selection.inpaint_reference,
        threshold=selection.threshold,
        pixels=found.masked,
        fraction=found.fraction,
        rate=found.rate,
        seconds=time.perf_counter() - started,
        reasons=list(selection.reasons),
        cautions=cautions,
        advice=products.DRIZZLE_ADVICE if bit == products.DRIZZLE_DEFAULT_BIT else "",
    )


def check_targets(paths: Iterable[str], output_dir: str | os.PathLike[str] | None) -> None:
    """Refuse inputs whose products would replace each other.

    Raises
    ------
    OutputError
        Naming the first two such inputs.
    """
    taken: dict[Path, str] = {}
    for path in paths:
        target = _target(Path(path), output_dir, MASK_ENDING)
        if (first := taken.setdefault(target.absolute(), path)) != path:
            raise OutputError(f"{first} and {path} would both become {target}: clean them into different folders")


def _target(path: Path, output_dir: str | os.PathLike[str] | None, ending: str) -> Path:
    folder = path.parent if output_dir is None else Path(output_dir)
    return folder / (root_name(path) + ending)


def _targets(
    exposure: Exposure,
    selection: Selection,
    grow: int,
    output_dir: str | os.PathLike[str] | None,
    dq_only: bool,
    prob: bool,
) -> dict[Path, Provenance]:
    """The FITS products that are wanted, the mask first, and what they are to say of themselves."""
    common = dataclasses.asdict(
        Provenance(
            model=selection.mask.reference,
            model_sha256=selection.mask.locked.weights.sha256,
            threshold=selection.threshold,
            grow=grow,
            input_sha256=exposure.sha256,
        )
    )
    targets: dict[Path, Provenance] = {
        _target(exposure.path, output_dir, MASK_ENDING): MaskProvenance(**common, probability=prob)
    }
    if dq_only or selection.inpaint is not None:
        if dq_only and products.cosmic_ray_bit(exposure) is None:
            raise UsageError(f"{exposure.path}: dq_only: the DQ of {exposure.description} is not known to hold bits")
        targets[_target(exposure.path, output_dir, CLEANED_ENDING)] = CleanedProvenance(
            **common,
            inpainter=selection.inpaint_reference,
            inpainter_sha256=selection.network.locked.weights.sha256 if selection.network else "",
        )
    return targets


def _finished(targets: dict[Path, Provenance], picture: Path | None) -> Count | None:
    """What the products that are there already found; None if some are missing.

    Raises
    ------
    OutputError
        If one of them was made otherwise.
    """
    headers = [_existing_header(path, provenance) for path, provenance in targets.items() if path.exists()]
    if len(headers) < len(targets) or (picture and not picture.exists()):
        return None
    return Count.from_header(headers[0])


def _existing_header(path: Path, provenance: Provenance) -> fits.Header:
    try:
        header = fits.getheader(path)
    except OSError:
        header = fits.Header()
    if "CRMODEL" not in header:
        problem = "is no product of deepcr-zoo"
    elif differs := difference(provenance, header):
        problem = f"was made otherwise ({differs})"
    else:
        return header
    raise OutputError(f"{path}: exists and {problem}: give --overwrite to replace it, or another --output-dir")


def _make(
    exposure: Exposure,
    selection: Selection,
    grow: int,
    device: str,
    targets: dict[Path, Provenance],
    picture: Path | None,
) -> tuple[Count, list[str]]:
    """Clean an exposure and write all of its products, or none; gives what was found, and all cautions."""
    prob = any(isinstance(provenance, MaskProvenance) and provenance.probability for provenance in targets.values())
    mask_model = _loaded_once(selection.mask.reference, device)
    assert isinstance(mask_model, MaskModel)
    unit = selection.card.input.unit
    fill = None
    if selection.inpaint is not None:
        inpaint = _loaded_once(selection.inpaint_reference, device) if selection.network else selection.inpaint_reference
        fill = filler(inpaint, unit, device)
    chip_masks, filled, panels = [], [], []
    for chip in exposure.chips:
        image = chip.in_unit(unit)
        found = _find(chip, image, mask_model, selection.threshold, grow, prob)
        cleaned = None if fill is None else fill(image, found.mask)
        chip_masks.append(found)
        if cleaned is not None:
            filled.append(chip.from_unit(cleaned, unit, found.mask))
        if picture:
            panels.append(pictures.Panels(f"chip {chip.version}", np.ma.getdata(image), found.mask, cleaned))
    cautions = [*selection.cautions, *_suspicions(chip_masks)]
    contents = {}
    for path, provenance in targets.items():
        if isinstance(provenance, CleanedProvenance):
            contents[path] = products.cleaned_file(exposure, chip_masks, filled or None, provenance, cautions)
        elif isinstance(provenance, MaskProvenance):
            contents[path] = products.mask_file(exposure, chip_masks, provenance, cautions)
    if picture:
        contents[picture] = pictures.draw(panels, f"{exposure.path.name}, {selection.mask.reference}")
    _write(contents)
    return products.count(chip_masks), cautions


def _find(chip: Chip, image: Any, model: MaskModel, threshold: float, grow: int, keep_probability: bool) -> ChipMask:
    probability = model.predict(image)
    mask = probability > threshold
    _, events = ndimage.label(mask, _TOUCHING)
    if grow:
        mask = ndimage.binary_dilation(mask, _TOUCHING, iterations=grow) & np.isfinite(chip.pixels)
        mask &= True if chip.image_area is None else chip.image_area
    return ChipMask(chip, mask, events, probability if keep_probability else None)


def _suspicions(chip_masks: list[ChipMask]) -> list[str]:
    shares = {found.chip.version: products.count([found]).fraction for found in chip_masks}
    return [
        f"chip {version}: {share:.0%} of the pixels are masked, which no cosmic rays do: check unit, gain, bias and model"
        for version, share in shares.items()
        if share > SUSPICIOUS_FRACTION
    ]


def _write(contents: dict[Path, bytes]) -> None:
    try:
        for path in contents:
            sweep_partial(path)
        write_together(contents)
    except OSError as error:
        folder = next(iter(contents)).parent
        raise OutputError(f"{folder}: cannot be written to: {error.strerror}; choose another --output-dir") from None


@lru_cache(maxsize=4)
def _loaded_once(reference: str, device: str) -> Any:
    """A model for many files; its cautions stand in the selection already."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ModelWarning)
        return load(reference, device)
