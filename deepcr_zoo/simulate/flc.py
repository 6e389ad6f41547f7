"""Calibrated exposures as FITS files that AstroDrizzle reads (``*_flc.fits``)."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from astropy.io import fits
from astropy.time import Time
from numpy.typing import NDArray

from deepcr_zoo.simulate.cameras import Camera
from deepcr_zoo.simulate.detector import Reading
from deepcr_zoo.simulate.pointing import ChipPointing, VisitIdentity
from deepcr_zoo.zoo.recipe import SimulatedInstrument

Cards = dict[str, str | int | float | bool]


@dataclass(frozen=True)
class ExposureLabel:
    """Contents of the primary header of an exposure."""

    root: str  # ROOTNAME
    identity: VisitIdentity
    number: int  # of the exposure in its visit, from 1
    target: str
    start_mjd: float
    seconds: float
    filter_name: str
    origin: tuple[str, ...]  # lines on the simulation, for HISTORY


@dataclass(frozen=True)
class ReadChip:
    """A chip, its pointing according to the header, and its sky level in e-."""

    pointing: ChipPointing
    reading: Reading
    sky_electron: float


def flc_bytes(label: ExposureLabel, chips: Sequence[ReadChip], instrument: SimulatedInstrument, camera: Camera) -> bytes:
    """Return the file of an exposure: SCI, ERR and DQ of each chip, EXTVER in the order of `chips`."""
    hdus: list[fits.PrimaryHDU | fits.ImageHDU] = [fits.PrimaryHDU(header=_primary(label, chips, instrument, camera))]
    for version, chip in enumerate(chips, 1):
        common = _chip_cards(label, chip, camera)
        science = {**common, **_science(chip, label.seconds, instrument)}
        layers: tuple[tuple[str, NDArray[np.generic], Cards], ...] = (
            ("SCI", chip.reading.electrons, science),
            ("ERR", chip.reading.error, {**common, "BUNIT": "ELECTRONS"}),
            ("DQ", chip.reading.quality, common),
        )
        hdus += [fits.ImageHDU(pixels, fits.Header(cards), name=name, ver=version) for name, pixels, cards in layers]
    buffer = io.BytesIO()
    fits.HDUList(hdus).writeto(buffer, overwrite=True)  # of the buffer: astropy looks for a file with the name of its class
    return buffer.getvalue()


def _primary(
    label: ExposureLabel, chips: Sequence[ReadChip], instrument: SimulatedInstrument, camera: Camera
) -> fits.Header:
    is_full = len(chips) == instrument.chips and list(chips[0].pointing.window.shape) == instrument.chip_shape
    aperture = camera.full_frame if is_full else camera.cutout
    start = Time(label.start_mjd, format="mjd").isot
    header = fits.Header()
    header["SIMULATD"] = (True, "synthetic data: no telescope took this exposure")
    cards: Cards = {
        **camera.keywords,
        **{keyword: value.format(filter=label.filter_name) for keyword, value in camera.filter_keywords.items()},
        "FILENAME": f"{label.root}_flc.fits",
        "FILETYPE": "SCI",
        "ROOTNAME": label.root,
        "TARGNAME": label.target,
        "RA_TARG": label.identity.centre[0],
        "DEC_TARG": label.identity.centre[1],
        "PROPOSID": label.identity.proposal,
        "LINENUM": f"{label.identity.visit.upper()}.{label.number:03d}",
        "EXPTIME": label.seconds,
        "EXPSTART": label.start_mjd,
        "EXPEND": label.start_mjd + label.seconds / 86_400,
        "DATE-OBS": start[:10],
        "TIME-OBS": start[11:19],
        "SUBARRAY": not is_full,
        "APERTURE": aperture,
        "PROPAPER": aperture,
        "PA_V3": chips[0].pointing.orientation_deg % 360,
        "CCDGAIN": instrument.gain_electron_per_count,
        **{f"ATODGN{amplifier}": instrument.gain_electron_per_count for amplifier in "ABCD"},
        **{f"READNSE{amplifier}": instrument.read_noise_electron for amplifier in "ABCD"},
        "PHOTMODE": f"{instrument.instrument} {instrument.detector} {label.filter_name}",
        "NEXTEND": 3 * len(chips),
    }
    header.update(cards)
    for line in label.origin:
        header.add_history(line)
    return header


def _chip_cards(label: ExposureLabel, chip: ReadChip, camera: Camera) -> Cards:
    """Geometry: TAN with SIP, and what STWCS needs in addition (``IDCSCALE``, ``ORIENTAT``)."""
    pointing = chip.pointing
    suffix = "-SIP" if pointing.a else ""
    cards: Cards = {
        "INHERIT": True,
        "EXPNAME": label.root,
        "CCDCHIP": pointing.window.chip,
        **dict.fromkeys(("BINAXIS1", "BINAXIS2", "NCOMBINE"), 1),
        "WCSAXES": 2,
        "CTYPE1": f"RA---TAN{suffix}",
        "CTYPE2": f"DEC--TAN{suffix}",
        "RADESYS": "ICRS",
        "WCSNAME": "SIMULATED",
        "VAFACTOR": 1.0,
        "ORIENTAT": pointing.orientation_deg,
        "IDCSCALE": camera.nominal_scale_arcsec,
        "IDCXREF": pointing.crpix[0],
        "IDCYREF": pointing.crpix[1],
        "RA_APER": label.identity.centre[0],
        "DEC_APER": label.identity.centre[1],
        "PA_APER": pointing.orientation_deg,
        "LTV1": float(-pointing.window.corner[1]),
        "LTV2": float(-pointing.window.corner[0]),
        **dict.fromkeys(("LTM1_1", "LTM2_2"), 1.0),
    }
    for axis in (1, 2):
        cards[f"CUNIT{axis}"] = "deg"
        cards[f"CRPIX{axis}"] = pointing.crpix[axis - 1]
        cards[f"CRVAL{axis}"] = pointing.crval[axis - 1]
        cards |= {f"CD{axis}_{column}": float(pointing.cd[axis - 1, column - 1]) for column in (1, 2)}
    for name, terms in (("A", pointing.a), ("B", pointing.b)):
        if terms:
            cards[f"{name}_ORDER"] = max(i + j for i, j in terms)
        cards |= {f"{name}_{i}_{j}": coefficient for (i, j), coefficient in terms.items()}
    return cards


def _science(chip: ReadChip, seconds: float, instrument: SimulatedInstrument) -> Cards:
    """Flux scale from the AB zero point (ACS Data Handbook), and statistics of the pixels."""
    pivot_angstrom = instrument.wavelength_um * 1e4
    return {
        "PHOTFLAM": float(10 ** (-0.4 * (instrument.zeropoint_ab + 5 * np.log10(pivot_angstrom) + 2.408))),
        "PHOTPLAM": pivot_angstrom,
        "PHOTZPT": -21.1,
        "PHOTBW": instrument.bandwidth_um * 1e4 / np.sqrt(12),
        "BUNIT": "ELECTRONS",
        "NGOODPIX": int((chip.reading.quality == 0).sum()),
        "MEANDARK": instrument.dark_electron_s * seconds,
        **dict.fromkeys(("MEANBLEV", "MEANFLSH"), 0.0),
        "MDRIZSKY": chip.sky_electron,
    }
