"""What is known of an exposure before it is labelled: that it can be used, what it shows, and where on the sky."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS
from numpy.typing import NDArray

from deepcr_zoo.dataset import footprints
from deepcr_zoo.dataset.footprints import Positions
from deepcr_zoo.errors import InvalidDocumentError, InvalidFileError
from deepcr_zoo.fitsfiles import extension_name, extension_version, quiet_astropy, reason, root_name
from deepcr_zoo.frames import Exposure, read_exposure
from deepcr_zoo.instruments import Instrument, Keywords, default_instruments, positive, text, value
from deepcr_zoo.recipe import InstrumentBlock


@dataclass(frozen=True)
class ExposureFacts:
    """What an exposure's file says of itself.

    Attributes
    ----------
    path : Path
    sha256 : str
        Hash of the file.
    name : str
        ROOTNAME, else the name of the file; stamps are kept under it.
    proposal : int
        0 if the header does not tell.
    visit : str
        Two characters, upper case.
    target, filter_name : str
    exposure_time_s : float
    read_noise_electron : float or None
        Mean of the amplifiers; None if the header does not tell.
    start_mjd : float
        Beginning of the exposure; 0 if the header does not tell.
    outlines : tuple of ndarray of float64, shape (K, 2)
        Convex outline of each chip on the sky, in the order of EXTVER.
    cautions : tuple of str
    """

    path: Path
    sha256: str
    name: str
    proposal: int
    visit: str
    target: str
    filter_name: str
    exposure_time_s: float
    read_noise_electron: float | None
    start_mjd: float
    outlines: tuple[Positions, ...]
    cautions: tuple[str, ...]


@dataclass(frozen=True)
class ChipPixels:
    """A chip of a calibrated exposure.

    Attributes
    ----------
    version : int
        EXTVER.
    image : ndarray of float32, shape (H, W)
        e-.
    quality : ndarray of int, shape (H, W)
        DQ flags.
    wcs : WCS
    area_cm2 : float
        Of the silicon.
    mdrizsky : float or None
        Sky level that AstroDrizzle has found, e-.
    """

    version: int
    image: NDArray[np.float32]
    quality: NDArray[np.integer]
    wcs: WCS
    area_cm2: float
    mdrizsky: float | None


def detector_of(block: InstrumentBlock) -> Instrument:
    """What ``zoo/instruments.yaml`` knows of a recipe's instrument.

    Raises
    ------
    InvalidDocumentError
        If it is not there, or nothing is known of its saturation and cosmic-ray bits.
    """
    wanted = (block.telescope, block.instrument, block.detector)
    for known in default_instruments().instruments:
        if (known.telescope, known.instrument, known.detector) == wanted:
            return known
    raise InvalidDocumentError(
        f"instrument: {' '.join(wanted)} is not in zoo/instruments.yaml: expected one of "
        f"{', '.join(f'{one.telescope} {one.instrument} {one.detector}' for one in default_instruments().instruments)}; "
        "add it there, each fact with its source"
    )


def read_facts(path: Path, block: InstrumentBlock) -> ExposureFacts:
    """Read an exposure whole and make sure that it can be labelled.

    Raises
    ------
    InvalidFileError
        If it is damaged, no single calibrated exposure of the recipe's detector, not in electrons, or lacks DQ,
        exposure time or a place on the sky.
    """
    exposure = read_exposure(path)
    _check(exposure, block)
    keywords = exposure.keywords
    with _hdus(exposure) as hdus:
        outlines = tuple(footprints.hull(footprints.outline(chip.wcs, chip.image.shape)) for chip in _chips(exposure, hdus))
    proposal, start = value(keywords, "PROPOSID"), value(keywords, "EXPSTART")
    name = text(keywords, "ROOTNAME")
    if not re.fullmatch(r"\w[\w.+-]*", name):
        name = root_name(path)
    time = exposure.chips[0].exposure_time_s
    assert time is not None
    return ExposureFacts(
        path=path,
        sha256=exposure.sha256,
        name=name.lower(),
        proposal=proposal if isinstance(proposal, int) else 0,
        visit=visit_code(text(keywords, "LINENUM").partition(".")[0] or name[4:6]),
        target=text(keywords, "TARGNAME"),
        filter_name=exposure.filter_name,
        exposure_time_s=time,
        read_noise_electron=read_noise(keywords),
        start_mjd=float(start) if isinstance(start, (int, float)) else 0.0,
        outlines=outlines,
        cautions=exposure.cautions,
    )


def read_chips(path: Path, sha256: str | None = None) -> list[ChipPixels]:
    """The chips of an exposure that `read_facts` has accepted, in the order of EXTVER.

    Raises
    ------
    InvalidFileError
        If the file is not the one of this hash any more.
    """
    exposure = read_exposure(path)
    if sha256 not in (None, exposure.sha256):
        raise InvalidFileError(f"{path}: has changed since its visit was planned: run again when it is at rest")
    with _hdus(exposure) as hdus:
        return list(_chips(exposure, hdus))


def read_noise(keywords: Keywords) -> float | None:
    """Mean read noise of the amplifiers, e-; None if the header gives none.

    READNSEA to READNSED of ACS and WFC3, which calibration fills in; 0 stands in raw files (from memory).
    """
    given = [noise for amplifier in "ABCD" if (noise := positive(keywords, f"READNSE{amplifier}")) is not None]
    return fmean(given) if given else None


def visit_code(visit: str) -> str:
    """A visit as file names have it: two characters, upper case."""
    return visit.strip().upper().zfill(2)


@contextmanager
def _hdus(exposure: Exposure) -> Iterator[fits.HDUList]:
    with quiet_astropy(), fits.open(io.BytesIO(exposure.data)) as hdus:
        yield hdus


def _chips(exposure: Exposure, hdus: fits.HDUList) -> Iterator[ChipPixels]:
    flags = {extension_version(hdu): hdu for hdu in hdus if extension_name(hdu) == "DQ"}
    for chip in sorted(exposure.chips, key=lambda one: one.version):
        if chip.version not in flags:
            raise InvalidFileError(
                f"{chip.where}: has no DQ: expected an extension DQ,{chip.version}, as calibrated exposures have"
            )
        assert chip.area_cm2 is not None  # the detector is known
        quality = _flags(flags[chip.version], chip.pixels.shape, chip.where)
        wcs = _sky_coordinates(hdus, chip.hdu, chip.where)
        sky = value(hdus[chip.hdu].header, "MDRIZSKY")
        yield ChipPixels(
            version=chip.version,
            image=np.asarray(chip.in_unit("electron")),
            quality=quality,
            wcs=wcs,
            area_cm2=chip.area_cm2,
            mdrizsky=float(sky) if isinstance(sky, (int, float)) else None,
        )


def _check(exposure: Exposure, block: InstrumentBlock) -> None:
    wanted = detector_of(block)
    if exposure.instrument is None or exposure.instrument.name != wanted.name:
        raise InvalidFileError(f"{exposure.path}: is of {exposure.description}, the recipe takes exposures of {wanted.name}")
    for chip in exposure.chips:
        if chip.unit.quantity != "electron" or chip.unit.per_second:
            raise InvalidFileError(
                f"{chip.where}: is in {chip.unit.spellings[0]}: expected ELECTRONS, as in calibrated exposures"
            )
        if chip.exposure_time_s is None:
            raise InvalidFileError(f"{chip.where}: has no positive EXPTIME: expected the exposure time in seconds")


def _flags(hdu: fits.ImageHDU, shape: tuple[int, ...], where: str) -> NDArray[np.integer]:
    try:
        flags = hdu.data
    except Exception as error:  # astropy raises anything on damaged data
        raise InvalidFileError(f"{where}: its DQ is truncated or damaged: {reason(error)}") from None
    if flags is None or flags.shape != shape or not np.issubdtype(flags.dtype, np.integer):
        found = "nothing" if flags is None else f"{flags.dtype.name} of shape {flags.shape}"
        raise InvalidFileError(f"{where}: its DQ holds {found}: expected flags (integers) of shape {shape}")
    return np.asarray(flags)


def _sky_coordinates(hdus: fits.HDUList, index: int, where: str) -> WCS:
    try:
        wcs = WCS(hdus[index].header, hdus)
        if wcs.has_celestial and np.isfinite(wcs.all_pix2world([[0.0, 0.0]], 0)).all():
            return wcs
        problem = "no right ascension and declination"
    except Exception as error:  # astropy and its libraries raise anything on odd headers
        problem = reason(error)
    raise InvalidFileError(f"{where}: its place on the sky (WCS) cannot be read: {problem}")
