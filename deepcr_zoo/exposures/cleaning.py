"""Clean one file: an exposure in, its cosmic-ray mask and a cleaned copy out."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from deepcr_zoo.errors import DeepcrZooError, InvalidFileError, MissingExtraError, in_turn
from deepcr_zoo.exposures import products
from deepcr_zoo.exposures.making import check_room, make
from deepcr_zoo.exposures.missing import MissingFactsError
from deepcr_zoo.exposures.options import AUTO, NO_INPAINTING, CleanOptions, in_python, named_model
from deepcr_zoo.exposures.pictures import png
from deepcr_zoo.exposures.plan import check_given_mask, damaged, finished, make_plan, stale
from deepcr_zoo.exposures.reading import Exposure, read_exposure
from deepcr_zoo.exposures.selection import ranked_models, select
from deepcr_zoo.files import sweep_partial
from deepcr_zoo.models.baselines import CLASSICAL
from deepcr_zoo.models.notebooks import html_table
from deepcr_zoo.progress import logger
from deepcr_zoo.zoo.cards import read_card
from deepcr_zoo.zoo.instruments import Instrument
from deepcr_zoo.zoo.registries import default_registry
from deepcr_zoo.zoo.registry import Registry, ResolvedModel

log = logger(__name__)

NOTEBOOK_DPI = 60.0


@dataclass(frozen=True)
class CleanedFile:
    """Result of cleaning one file.

    Attributes
    ----------
    path : str
    status : {"cleaned", "finished"}
        "finished" if the products existed already, made in the same way.
    outputs : list of str
        Paths of the products.
    model : str
        Mask model, ``task/name@version``; ``mask/FILE`` for a mask that was given.
    inpaint : str
        Inpainting model or method, or ``none``.
    threshold : float
    pixels : int
        Number of masked pixels in all chips.
    fraction : float
        Masked pixels divided by pixels that see light.
    rate : float or None
        Cosmic rays per cm2 and second; None if the detector's area or the exposure time is unknown.
    seconds : float
        Run time.
    reasons : list of str
        How models and threshold were chosen.
    cautions : list of str
        Reasons why the result may be worse than expected; also in the products' HISTORY.
    advice : str
        How to use the products correctly; may be empty.
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

    def _repr_html_(self) -> str:
        """Return what notebooks show: the facts, and a picture if matplotlib is installed and the files are there."""
        from deepcr_zoo.exposures import plot

        picture = None
        with suppress(MissingExtraError, InvalidFileError, OSError):
            picture = png(plot.cleaned(self), NOTEBOOK_DPI)
        rate = "unknown" if self.rate is None else f"{self.rate:.3g} cm-2 s-1"
        rows = [
            ("mask", f"{self.model}, threshold {self.threshold:g}"),
            ("repainted by", self.inpaint),
            ("masked pixels", f"{self.pixels:,} ({self.fraction:.3%})"),
            ("cosmic rays", rate),
            *(("product", path) for path in self.outputs),
            *(("caution", caution) for caution in self.cautions),
        ]
        return html_table(self.path, rows, picture)


def clean_file(
    path: str | os.PathLike[str],
    model: str = AUTO,
    inpaint: str = AUTO,
    threshold: float | None = None,
    *,
    mask: str | os.PathLike[str] | None = None,
    fpr: float | None = None,
    allow_synthetic: bool = False,
    grow: int = 0,
    output_dir: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    dq_only: bool = False,
    ignore_dq: str | int | Sequence[int] | None = None,
    extension: str | int | Sequence[str | int] | None = None,
    unit: str | None = None,
    gain: float | str | Sequence[float] | None = None,
    bias: float | str | None = None,
    exposure_time: float | None = None,
    prob: bool = False,
    preview: bool = False,
    device: str = "auto",
    engine: str = "auto",
) -> CleanedFile:
    """Find and repaint the cosmic rays of an exposure in a FITS file; the same as ``deepcr-zoo clean``.

    Writes ``ROOT_crclean.fits`` and ``ROOT_crmask.fits``, or neither if something fails. The input is never written.
    If the products exist and were made in the same way from the same input, nothing is done.

    Parameters
    ----------
    path : path
        FITS file, plain or packed (gzip, bzip2, xz, fpack).
    model : str
        Name of a mask model, or ``"auto"`` for the registry's first choice for the instrument and filter.
    inpaint : str
        Name of an inpainting model, ``"medmask"``, ``"biharmonic"``, ``"none"`` (then only the mask is written), or
        ``"auto"`` for the instrument's own network where the zoo has one, else ``"medmask"``.
    threshold : float, optional
        Probability above which a pixel is masked; the default is the card's.
    mask : path, optional
        Mask of the cosmic rays instead of a network's, such as one that ``deepcr-zoo view`` saved: a FITS file with CRMASK
        extensions or one image for each chip, or an npz file of arrays; 1 and True are cosmic rays.
    fpr : float, optional
        False-positive rate; selects the threshold that was measured to give it.
    allow_synthetic : bool
        Accept operating points that were measured on synthetic data.
    grow : int
        Pixels by which the mask is dilated, in all eight directions.
    output_dir : path, optional
        Folder of the products; the default is that of the input.
    overwrite : bool
        Replace products that were made otherwise or are finished. Files that are not products are never replaced.
    dq_only : bool
        Set the DQ bit in the copy and leave its pixel values unchanged.
    ignore_dq : str, int or sequence of int, optional
        DQ bits that leave a pixel usable, such as ``"16,64"``; ``"none"``: every flagged pixel is left out; ``"all"``: DQ,
        MASK and BPM extensions are not used. The default is the instrument's: bits of cosmic rays and, for example, of
        warm pixels. A pixel that is not usable is never masked and never repainted, nor is one near saturation.
    extension : str, int or sequence of these, optional
        Science images by number, ``NAME``, ``NAME,VERSION`` or wildcard; the default is all SCI extensions, else the
        primary image or the only one.
    unit : str, optional
        Unit of the pixels, such as ``"electron"`` or ``"counts"``, in place of BUNIT.
    gain : float, str or sequence of float, optional
        Electrons per count, in place of the headers' gain: one number, or one for each image.
    bias : float or "overscan", optional
        Bias level of raw counts, or ``"overscan"`` to measure it in the overscan by DATASEC, TRIMSEC and BIASSEC.
    exposure_time : float, optional
        Seconds, in place of EXPTIME.
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
        If the file is damaged, changes while it is read, or holds no exposure that can be cleaned.
    OutputError
        If a product cannot be written, or would replace one that was made otherwise.
    NoModelError
        If the registry has no model or operating point for the request.
    MissingExtraError
        If a picture or a method needs an optional dependency that is not installed.
    UsageError
        If the arguments contradict each other or are out of range.
    """
    options = CleanOptions(
        model=model,
        inpaint=inpaint,
        threshold=threshold,
        mask=mask,
        fpr=fpr,
        allow_synthetic=allow_synthetic,
        grow=grow,
        output_dir=output_dir,
        overwrite=overwrite,
        dq_only=dq_only,
        ignore_dq=ignore_dq,
        extension=extension,
        unit=unit,
        gain=gain,
        bias=bias,
        exposure_time=exposure_time,
        prob=prob,
        preview=preview,
        device=device,
        engine=engine,
    )
    try:
        return check_and_clean(path, options)
    except DeepcrZooError as error:
        error.args = tuple(in_python(part) if isinstance(part, str) else part for part in error.args)
        raise


def check_and_clean(path: str | os.PathLike[str], options: CleanOptions) -> CleanedFile:
    """Clean a file with options that have not been checked in this process."""
    options.check()
    return clean_with(path, options)


def clean_with(
    path: str | os.PathLike[str], options: CleanOptions, on_choice: Callable[[str], None] | None = None
) -> CleanedFile:
    """Clean a file with checked options; `on_choice` receives each reason for a choice before the work begins.

    Threads take turns: warnings belong to a process, and a file would get those of another thread's.
    """
    with in_turn():
        return _clean(path, options, on_choice)


def _clean(path: str | os.PathLike[str], options: CleanOptions, on_choice: Callable[[str], None] | None) -> CleanedFile:
    started = time.perf_counter()
    exposure = read_as_asked(Path(path), options)
    selection = select(exposure, default_registry(), options)
    plan = make_plan(exposure, selection, options)
    check_given_mask(plan, options)
    cautions = [*selection.cautions, *stale(plan, exposure, options.output_dir)]
    status: Literal["cleaned", "finished"] = "finished"
    count = finished(plan, options.overwrite)
    if not options.overwrite and (problems := damaged(plan, exposure)):
        again = [f"{path.name} is made again: it is damaged ({problem})" for path, problem in problems.items()]
        count, cautions = None, [*cautions, *again]
    if count is None:
        check_room(exposure, plan)
        status = "cleaned"
        for reason in selection.reasons:
            log.info("%s: %s", path, reason)
            if on_choice is not None:
                on_choice(reason)
        count, more = make(exposure, selection, plan, options)
        cautions += more
    with suppress(OSError):  # of a run that was killed after a product had its name, before its unfinished one was gone
        sweep_partial(*plan.paths)
    for caution in cautions:
        log.warning("%s: %s", path, caution)
    return CleanedFile(
        path=os.fspath(path),
        status=status,
        outputs=[str(output) for output in (plan.mask, plan.copy, plan.picture) if output],
        model=selection.mask_reference,
        inpaint=selection.inpaint_reference,
        threshold=selection.threshold,
        pixels=count.masked,
        fraction=count.fraction,
        rate=count.rate,
        seconds=time.perf_counter() - started,
        reasons=list(selection.reasons),
        cautions=cautions,
        advice=products.drizzle_advice(exposure) if plan.copy else "",
    )


def read_as_asked(path: Path, options: CleanOptions) -> Exposure:
    """Read an exposure; what is missing of unit, gain and bias is asked for only if a network or method needs it."""
    try:
        return read_exposure(path, options.reading)
    except MissingFactsError as error:
        registry = default_registry()
        if _takes_any_unit(options, error.instrument, registry):
            return read_exposure(path, replace(options.reading, as_stored=True))
        raise


def _takes_any_unit(options: CleanOptions, instrument: Instrument | None, registry: Registry) -> bool:
    """True if neither unit, gain nor bias is needed: the mask is given, or its model needs none of them."""
    if options.mask is not None:
        needs_none = options.inpainter in (AUTO, NO_INPAINTING, *CLASSICAL)
        return needs_none or _needs_no_unit(named_model(registry, "inpaint", options.inpainter)[0])
    ranked = ranked_models(instrument, registry, "mask") if options.model == AUTO else []
    if options.model == AUTO and not ranked:
        return False
    return _needs_no_unit(registry.resolve(ranked[0].model) if ranked else named_model(registry, "mask", options.model)[0])


def _needs_no_unit(model: ResolvedModel) -> bool:
    return read_card(model).input.pixel_unit is None
