"""FITS exposures as the archives have them, small, for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from astropy.io import fits

from tests.scenes import star_field

SHAPE = (64, 96)
ACS = {
    "TELESCOP": "HST",
    "INSTRUME": "ACS     ",
    "DETECTOR": "WFC",
    "FILTER1": "CLEAR1L",
    "FILTER2": "F606W",
    "EXPTIME": 512.0,
    "CCDGAIN": 2.0,
    "BLEVCORR": "COMPLETE",
    "CRTHRESH": 0.75,
    "ROOTNAME": "jtest0001",
}
WFC3 = {"TELESCOP": "HST", "INSTRUME": "WFC3", "DETECTOR": "UVIS", "FILTER": "F606W", "EXPTIME": 512.0, "CCDGAIN": 1.5}
WFPC2 = {"TELESCOP": "HST", "INSTRUME": "WFPC2", "FILTNAM1": "F606W", "FILTNAM2": "", "EXPTIME": 512.0, "ATODGAIN": 7.0}
STIS = {"TELESCOP": "HST", "INSTRUME": "STIS", "DETECTOR": "CCD", "FILTER": "Clear", "OPT_ELEM": "G430M", "CCDGAIN": 1}
DECAM = {
    "TELESCOP": "CTIO 4.0-m telescope",
    "INSTRUME": "DECam",
    "FILTER": "g DECam SDSS c0001 4720.0 1520.0",
    "EXPTIME": 90.0,
}


def scene(seed: int = 1, shape: tuple[int, int] = SHAPE) -> tuple[np.ndarray, np.ndarray]:
    """Electrons (float32) and the cosmic rays in them."""
    return star_field(shape, seed)


def science(image: np.ndarray, unit: str | None = "ELECTRONS", version: int = 1, **keywords: object) -> fits.ImageHDU:
    header = fits.Header({"BUNIT": unit} if unit else {})
    header.update(
        {"CRPIX1": 48.0, "CRVAL1": 150.1, "CTYPE1": "RA---TAN-SIP", "A_ORDER": 2, "A_0_2": 2.1e-6, "LTV1": 0.0, **keywords}
    )
    return fits.ImageHDU(image, header, name="SCI", ver=version)


def write(path: Path, *hdus: fits.ImageHDU, checksum: bool = True, **keywords: object) -> Path:
    """A file with these extensions; keywords go into the primary header."""
    header = fits.Header({name: value for name, value in keywords.items() if value is not None})
    fits.HDUList([fits.PrimaryHDU(header=header), *hdus]).writeto(path, checksum=checksum, overwrite=True)
    return path


def acs_flc(path: Path, seed: int = 1, shape: tuple[int, int] = SHAPE, **changes: object) -> Path:
    """A two-chip ACS exposure: SCI, ERR and DQ, the second chip before the first, and a table of the WCS history."""
    hdus: list[fits.ImageHDU | fits.BinTableHDU] = []
    rng = np.random.default_rng(seed)
    for version in (2, 1):
        image, _ = scene(10 * seed + version, shape)
        quality = rng.choice([0, 16], size=shape, p=[0.96, 0.04]).astype(np.int16)
        quality[:3, :3], quality[-3:, -3:] = 256, 2048
        error = fits.ImageHDU(np.sqrt(np.abs(image) + 25), name="ERR", ver=version)
        hdus += [science(image, version=version, CCDCHIP=3 - version), error, fits.ImageHDU(quality, name="DQ", ver=version)]
    columns = [fits.Column("WCS_key", "A", array=["O", "A"]), fits.Column("offsets", "PD()", array=_offsets())]
    hdus.append(fits.BinTableHDU.from_columns(columns, name="WCSCORR"))
    return write(path, *hdus, **{**ACS, "NEXTEND": 7, **changes})


def _offsets() -> np.ndarray:
    offsets = np.empty(2, dtype=object)
    offsets[:] = [np.array([1.5, 2.5]), np.array([3.5])]
    return offsets
