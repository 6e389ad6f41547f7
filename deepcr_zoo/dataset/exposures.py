"""Facts and pixels of the exposures that labels are made from."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np
from astropy.io import fits
from astropy.stats import sigma_clip
from astropy.wcs import WCS
from numpy.typing import NDArray
from scipy import ndimage

from deepcr_zoo.dataset import footprints
from deepcr_zoo.dataset.footprints import Positions
from deepcr_zoo.dataset.labelmethods import LABEL_METHODS
from deepcr_zoo.errors import InvalidDocumentError, InvalidFileError
from deepcr_zoo.exposures.fitsfiles import quiet_astropy, reason, root_name
from deepcr_zoo.exposures.noisecheck import amplifier_noise, level_cautions
from deepcr_zoo.exposures.reading import Chip, Exposure, read_exposure
from deepcr_zoo.models.images import LIMIT, has_value
from deepcr_zoo.zoo.instruments import Instrument, Keywords, default_instruments, number, positive, text
from deepcr_zoo.zoo.recipe import InstrumentBlock, Labels, visit_code


@dataclass(frozen=True)
class ExposureFacts:
    """Facts from the file of an exposure; chips are in the order of EXTVER."""

    path: Path
    sha256: str
    versions: tuple[int, ...]  # EXTVER of all chips in the file, or of one where a file holds repeats
    name: str  # observation, with EXTVER where a file holds repeats; stamps are stored under it
    observation: str  # ROOTNAME, else the name of the file
    proposal: int  # 0 if the header has none
    visit: str  # two characters, upper case
    target: str
    filter_name: str
    exposure_time_s: float
    read_noise_electron: float | None  # mean of the amplifiers, or of the overscan in raw frames
    start_mjd: float  # 0 if the header has none
    shapes: tuple[tuple[int, int], ...]  # rows and columns of each chip
    outlines: tuple[Positions, ...]  # convex outline of each chip on the sky; none for a dark
    cautions: tuple[str, ...]

    def read_noise_or(self, electron: float) -> float:
        """Return the read noise, e-, or this value if the file gives none."""
        return electron if self.read_noise_electron is None else self.read_noise_electron


@dataclass(frozen=True)
class ChipPixels:
    """The part of a chip that sees light; arrays have shape (H, W)."""

    version: int  # EXTVER
    image: NDArray[np.float32]  # e-, without bias and overscan
    quality: NDArray[np.integer]  # DQ flags; all 0 in raw frames
    masked: NDArray[np.bool_]  # masked without a flag (MASK, BPM)
    wcs: WCS  # sky coordinates; for spectra see `_slit_coordinates`, for darks those of the pixels
    area_cm2: float  # area of the silicon
    mdrizsky: float | None  # sky level from AstroDrizzle, e-


def detector_of(block: InstrumentBlock) -> Instrument:
    """Return the entry of ``zoo/instruments.yaml`` for a recipe's instrument."""
    names = (block.telescope, block.instrument, block.detector)
    if known := default_instruments().named(*names):
        return known
    raise InvalidDocumentError(
        f"instrument: {' '.join(names)} is not in zoo/instruments.yaml: expected one of "
        f"{', '.join(f'{one.telescope} {one.instrument} {one.detector}' for one in default_instruments().instruments)}; "
        "add it there, each fact with its source"
    )


def read_facts(
    path: Path, block: InstrumentBlock, labels: Labels = "astrodrizzle", is_dark: bool = False
) -> list[ExposureFacts]:
    """Read a file whole and check that its exposure, or each of its repeats, can be labelled.

    AstroDrizzle takes calibrated exposures alone, other labels raw frames too. Dark exposures have no place on the sky.
    """
    exposure = read_exposure(path)
    _check(exposure, block, labels)
    if is_dark:
        _check_dark(exposure)
    chips = list(_chips(exposure, block, is_dark))
    repeats = exposure.instrument is not None and exposure.instrument.every_chip_is_an_exposure
    groups = [[chip] for chip in chips] if repeats else [chips]
    return [_facts(exposure, group, repeats, is_dark) for group in groups]


def read_chips(facts: ExposureFacts, block: InstrumentBlock, path: Path | None = None) -> list[ChipPixels]:
    """Read the chips of an exposure that `read_facts` has accepted, in the order of EXTVER.

    `path` is a copy of the file that may have changed; by default the file itself is read, which must be unchanged.
    """
    exposure = read_exposure(path or facts.path)
    if path is None and facts.sha256 != exposure.sha256:
        raise InvalidFileError(f"{facts.path}: has changed since its visit was planned: run again when it is at rest")
    return list(_chips(exposure, block, is_dark=not facts.outlines, versions=facts.versions))


def _read_noise(keywords: Keywords) -> float | None:
    """Return the mean read noise of the amplifiers, e-, or None if calibration has not filled it in."""
    given = amplifier_noise(keywords)
    return fmean(given) if given else None


def _facts(exposure: Exposure, chips: list[ChipPixels], repeats: bool, is_dark: bool) -> ExposureFacts:
    keywords, versions = exposure.keywords, tuple(chip.version for chip in chips)
    first = next(chip for chip in exposure.chips if chip.version == versions[0])
    proposal = number(keywords, "PROPOSID") or 0.0
    observation = text(keywords, "ROOTNAME")
    if not re.fullmatch(r"\w[\w.+-]*", observation):
        observation = root_name(exposure.path)
    assert first.exposure_time_s is not None  # see _check
    return ExposureFacts(
        path=exposure.path,
        sha256=exposure.sha256,
        versions=versions,
        name=f"{observation}-{versions[0]}".lower() if repeats else observation.lower(),
        observation=observation.lower(),
        proposal=int(proposal) if proposal.is_integer() else 0,
        visit=visit_code(text(keywords, "LINENUM").partition(".")[0] or observation[4:6]),
        target=text(keywords, "TARGNAME"),
        filter_name=exposure.filter_name,
        exposure_time_s=first.exposure_time_s,
        read_noise_electron=_overscan_noise(first) if first.image_area is not None else _read_noise(keywords),
        start_mjd=number(first.keywords, "EXPSTART") or 0.0,
        shapes=tuple(chip.image.shape for chip in chips),
        outlines=tuple(footprints.hull(footprints.outline(chip.wcs, chip.image.shape)) for chip in chips if not is_dark),
        cautions=(
            *exposure.cautions,
            *level_cautions(chip for chip in exposure.chips if chip.version in versions),
            *_without_value(chips),
        ),
    )


def _without_value(chips: Sequence[ChipPixels]) -> list[str]:
    """Return a caution about pixels that hold no value, which are ignored."""
    pixels = sum(int((~has_value(chip.image)).sum()) for chip in chips)
    return [f"{pixels:,} pixels hold no value (NaN, infinite or beyond {LIMIT:g}) and are ignored"] if pixels else []


def _overscan_noise(chip: Chip) -> float:
    """Return the mean read noise of the amplifiers, e-: the standard deviation of the overscan, clipped at 3 sigma."""
    found = [float(np.std(sigma_clip(columns, sigma=3, masked=False))) for columns in chip.overscan]
    return fmean(found) * chip.factor("electron")


def _chips(
    exposure: Exposure, block: InstrumentBlock, is_dark: bool, versions: tuple[int, ...] | None = None
) -> Iterator[ChipPixels]:
    """Yield the chips of some versions, or all, in the order of EXTVER."""
    with quiet_astropy(), fits.open(io.BytesIO(exposure.data)) as hdus:
        for chip in sorted(exposure.chips, key=lambda one: one.version):
            if versions is not None and chip.version not in versions:
                continue
            assert chip.area_cm2 is not None  # see _check
            # the rows and columns that see light
            lit = np.s_[:, :] if chip.image_area is None else ndimage.find_objects(chip.image_area.astype(np.int8))[0]
            wcs = WCS(naxis=2) if is_dark else _slit_coordinates(chip, block) or _sky_coordinates(hdus, chip.hdu, chip.where)
            yield ChipPixels(
                version=chip.version,
                image=np.ma.getdata(chip.in_unit("electron"))[lit],
                quality=_flags(chip)[lit],
                masked=_masked(chip)[lit],
                wcs=wcs if chip.image_area is None else wcs.slice(lit),
                area_cm2=chip.area_cm2,
                mdrizsky=number(hdus[chip.hdu].header, "MDRIZSKY"),
            )


def _check(exposure: Exposure, block: InstrumentBlock, labels: Labels) -> None:
    wanted = detector_of(block)
    if exposure.instrument is None or exposure.instrument.name != wanted.name:
        raise InvalidFileError(f"{exposure.path}: is of {exposure.description}, the recipe takes exposures of {wanted.name}")
    for chip in exposure.chips:
        is_calibrated = chip.unit.quantity == "electron" and not chip.unit.per_second
        if LABEL_METHODS[labels].is_calibrated and not is_calibrated:
            raise InvalidFileError(
                f"{chip.where}: is in {chip.unit.spellings[0]}: expected ELECTRONS, as in calibrated exposures"
            )
        chip.factor("electron")  # raises without a gain
        if chip.exposure_time_s is None:
            raise InvalidFileError(f"{chip.where}: has no positive EXPTIME: expected the exposure time in seconds")


def _check_dark(exposure: Exposure) -> None:
    """Check IMAGETYP (as in IRAF's ccdred), else the target's name; stars in a dark would be taught as cosmic rays."""
    kind, target = text(exposure.keywords, "IMAGETYP"), text(exposure.keywords, "TARGNAME")
    if not (kind or target).upper().startswith("DARK"):
        found = f"its IMAGETYP is {kind}" if kind else f"it has no IMAGETYP, and its target is {target or 'not named'}"
        raise InvalidFileError(f"{exposure.path}: {found}: expected DARK, a dark exposure")


def _flags(chip: Chip) -> NDArray[np.integer]:
    """Return the DQ flags, all 0 in raw frames, whose DQ is not filled in yet."""
    if chip.image_area is not None:
        return np.zeros(chip.pixels.shape, dtype=np.int16)
    if chip.quality.flags is None:
        raise InvalidFileError(
            f"{chip.where}: has no DQ: expected an extension DQ,{chip.version}, as calibrated exposures have"
        )
    return chip.quality.flags


def _masked(chip: Chip) -> NDArray[np.bool_]:
    return np.zeros(chip.pixels.shape, dtype=bool) if chip.quality.masked is None else chip.quality.masked


def _slit_coordinates(chip: Chip, block: InstrumentBlock) -> WCS | None:
    """Return substitute coordinates of a frame of wavelength and position along a slit; None for an image of the sky.

    Blocks, guards and overlaps need coordinates that move and turn with the slit. They are those of an image around it
    (RA_APER, DEC_APER, PA_APER), with wavelength as the direction across the slit.
    """
    keywords = chip.keywords
    if text(keywords, "CTYPE1")[:4] not in ("WAVE", "LAMB", "AWAV"):
        return None
    place = [found for name in ("RA_APER", "DEC_APER", "PA_APER") if (found := number(keywords, name)) is not None]
    if len(place) < 3:
        raise InvalidFileError(
            f"{chip.where}: is a spectrum without RA_APER, DEC_APER and PA_APER: expected the slit's place"
        )
    binning = [positive(keywords, name) or 1.0 for name in ("BINAXIS1", "BINAXIS2")]
    height, width = chip.pixels.shape
    angle, scale = np.radians(place[2]), block.pixel_scale_arcsec / 3600
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval, wcs.wcs.crpix = place[:2], [(width + 1) / 2, (height + 1) / 2]
    turn = np.array([[-np.cos(angle), np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    wcs.wcs.cd = scale * turn * np.array(binning)
    return wcs


def _sky_coordinates(hdus: fits.HDUList, index: int, where: str) -> WCS:
    try:
        wcs = WCS(hdus[index].header, hdus)
        if wcs.has_celestial and np.isfinite(wcs.all_pix2world([[0.0, 0.0]], 0)).all():
            return wcs
        problem = "no right ascension and declination"
    except Exception as error:  # astropy and its libraries raise anything on odd headers
        problem = reason(error)
    raise InvalidFileError(f"{where}: its place on the sky (WCS) cannot be read: {problem}")
