"""One file, cleaned: an exposure in, its cosmic-ray mask and a cleaned copy out."""

from __future__ import annotations

import logging
import os
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from deepcr_zoo.errors import ImageWarning, ModelWarning, OutputError, UsageError
from deepcr_zoo.exposures import pictures, products
from deepcr_zoo.exposures.pictures import Panels
from deepcr_zoo.exposures.plan import Plan, finished, make_plan, not_ours, stale
from deepcr_zoo.exposures.products import ChipMask, Count
from deepcr_zoo.exposures.provenance import MaskProvenance
from deepcr_zoo.exposures.reading import Chip, Exposure, read_exposure
from deepcr_zoo.exposures.selection import AUTO, NO_INPAINTING, Selection, check_request, select
from deepcr_zoo.files import sweep_partial, write_together
from deepcr_zoo.models import baselines
from deepcr_zoo.models.engines import select_engine
from deepcr_zoo.models.imagecleaning import filler
from deepcr_zoo.models.images import read_image
from deepcr_zoo.models.model import MaskModel, load, select_device
from deepcr_zoo.zoo.registries import default_registry

SUSPICIOUS_FRACTION = 0.2
"""A larger share of masked pixels is a sign of a wrong unit or model: cosmic rays hit 1.5 to 3 % of the pixels of HST's
CCDs in 1000 s (ACS Instrument Handbook 2005, on cosmic rays)."""

_TOUCHING = np.ones((3, 3))

log = logging.getLogger("deepcr_zoo.exposures.cleaning")


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
    engine: str = "auto",
) -> CleanedFile:
    """Find and repaint the cosmic rays of an exposure in a FITS file; the same as ``deepcr-zoo clean``.

    Writes ``ROOT_crclean.fits`` and ``ROOT_crmask.fits``; none of them where something goes wrong. The input is never
    written. If the products exist and were made in the same way from the same input, nothing is done.

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
        Replace products that were made otherwise, and make those again that are finished. Files that are no products
        are never replaced.
    dq_only : bool
        Leave the pixel values of the copy as they are; only the DQ bit is set.
    prob : bool
        Write the probability into the mask file too.
    preview : bool
        Write ``ROOT_crpreview.png``.
    device, engine : str
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
    MissingExtraError
        If a picture or a method needs an optional dependency that is not installed.
    UsageError
        If the arguments contradict each other or are out of range.
    """
    started = time.perf_counter()
    check_options(model, inpaint, threshold, fpr, allow_synthetic, grow, dq_only, preview, device, engine)
    exposure = read_exposure(Path(path))
    wanted = NO_INPAINTING if dq_only else inpaint
    selection = select(exposure, default_registry(), model, wanted, threshold, fpr, allow_synthetic)
    plan = make_plan(exposure, selection, grow, output_dir, dq_only, prob, preview)
    cautions = [*selection.cautions, *stale(plan, exposure, output_dir)]
    status: Literal["cleaned", "finished"] = "finished"
    found = finished(plan, overwrite)
    if found is None:
        status = "cleaned"
        for reason in selection.reasons:
            log.info("%s: %s", path, reason)
        found, more = _make(exposure, selection, plan, device, engine)
        cautions += more
    for caution in cautions:
        log.warning("%s: %s", path, caution)
    return CleanedFile(
        path=os.fspath(path),
        status=status,
        outputs=[str(output) for output in (plan.mask, plan.copy, plan.picture) if output],
        model=selection.mask.reference,
        inpaint=selection.inpaint_reference,
        threshold=selection.threshold,
        pixels=found.masked,
        fraction=found.fraction,
        rate=found.rate,
        seconds=time.perf_counter() - started,
        reasons=list(selection.reasons),
        cautions=cautions,
        advice=products.drizzle_advice(exposure) if plan.copy else "",
    )


def check_options(
    model: str,
    inpaint: str,
    threshold: float | None,
    fpr: float | None,
    allow_synthetic: bool,
    grow: int,
    dq_only: bool,
    preview: bool,
    device: str,
    engine: str,
) -> None:
    """Refuse what is wrong for every file, before any is read; the parameters and errors are those of `clean_file`."""
    if grow < 0:
        raise UsageError(f"grow is {grow}: expected a number of pixels, 0 or more")
    if dq_only and inpaint not in (AUTO, NO_INPAINTING):
        raise UsageError(f"inpaint={inpaint} and dq_only are given: expected one of the two, dq_only repaints nothing")
    check_request(default_registry(), model, inpaint, threshold, fpr, allow_synthetic)
    select_engine(engine, select_device(device), hidden=0)
    if preview:
        pictures.require_matplotlib()
    if inpaint == "biharmonic":
        baselines.require_scikit_image()


def _make(exposure: Exposure, selection: Selection, plan: Plan, device: str, engine: str) -> tuple[Count, list[str]]:
    """Clean an exposure and write all of its products, or none; gives what was found, and what to be cautious of."""
    mask_model = _model(selection.mask.reference, device, engine)
    unit = selection.card.input.unit
    fill = _fill(selection, device, engine) if plan.repaints else None
    chip_masks, filled, panels = [], [], []
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", ImageWarning)
        for chip in exposure.chips:
            image = chip.in_unit(unit)
            found = _find(chip, image, mask_model, plan.mask_provenance)
            chip_masks.append(found)
            cleaned = None if fill is None else fill(image, found.mask)
            if cleaned is not None:
                filled.append(chip.from_unit(cleaned, unit, found.mask))
            if plan.picture:
                panels.append(Panels(f"{chip.name or 'chip'} {chip.version}", np.ma.getdata(image), found.mask, cleaned))
    cautions = [*dict.fromkeys(str(warning.message) for warning in told), *_suspicions(chip_masks)]
    everything = [*selection.cautions, *cautions]
    contents = {}
    if plan.copy:
        contents[plan.copy] = products.cleaned_file(
            exposure, chip_masks, filled if fill else None, plan.copy_provenance, everything
        )
    if plan.picture:
        contents[plan.picture] = pictures.draw(panels, _heading(exposure, selection), plan.picture_made_by)
    contents[plan.mask] = products.mask_file(exposure, chip_masks, plan.mask_provenance, everything)
    _write(contents)
    return products.count(chip_masks), cautions


def _find(chip: Chip, image: Any, model: MaskModel, provenance: MaskProvenance) -> ChipMask:
    probability = model.predict(image)
    mask = probability > provenance.threshold
    _, events = ndimage.label(mask, _TOUCHING)
    if provenance.grow:
        valid = read_image(image, None).valid
        mask = ndimage.binary_dilation(mask, _TOUCHING, iterations=provenance.grow) & (True if valid is None else valid[0])
    return ChipMask(chip, mask, events, probability if provenance.probability else None)


def _suspicions(chip_masks: list[ChipMask]) -> list[str]:
    shares = [(found.chip, products.count([found]).fraction) for found in chip_masks]
    return [
        f"{chip.name or 'image'},{chip.version}: {share:.0%} of the pixels are masked, which no cosmic rays do: "
        "check unit, gain, bias and model"
        for chip, share in shares
        if share > SUSPICIOUS_FRACTION
    ]


def _heading(exposure: Exposure, selection: Selection) -> str:
    return f"{exposure.path.name}: {selection.mask.reference}, threshold {selection.threshold:g}"


def _write(contents: dict[Path, bytes]) -> None:
    folder = next(iter(contents)).parent
    try:
        for path in contents:
            if os.path.lexists(path) and not path.is_file():
                raise not_ours(path)
            sweep_partial(path)
        write_together(contents)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written to: {error.strerror}; choose another --output-dir") from None


@lru_cache(maxsize=4)
def _model(reference: str, device: str, engine: str) -> Any:
    """A model for many files; its cautions stand in the selection."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ModelWarning)
        return load(reference, device, engine=engine)


def _fill(selection: Selection, device: str, engine: str) -> Callable[[Any, Any], NDArray[np.float32]]:
    named = selection.inpaint_reference
    inpaint = _model(named, device, engine) if selection.network else named
    return filler(inpaint, selection.card.input.unit, device)
