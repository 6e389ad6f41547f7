"""Places of pixels on the sky, and substitutes for frames that have none: spectra, and cameras whose headers have no WCS."""

from __future__ import annotations

import hashlib
import re
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS

from deepcr_zoo.dataset.footprints import hull, outline
from deepcr_zoo.dataset.identities import identify
from deepcr_zoo.documents import brief
from deepcr_zoo.errors import InvalidFileError
from deepcr_zoo.exposures.fitsfiles import extension_name, image_values, is_image, reason
from deepcr_zoo.exposures.reading import Chip, Exposure
from deepcr_zoo.files import real_path
from deepcr_zoo.zoo.instruments import MOST_LEVEL, Keywords, number, positive, text
from deepcr_zoo.zoo.recipe import InstrumentBlock

_TEXTS = re.compile(r"(CTYPE|CUNIT|CPDIS|D2IMDIS)\d|RADESYS")
_NUMBERS = re.compile(
    r"WCSAXES|(CRVAL|CRPIX|CDELT|CROTA|CPERR|D2IMERR)\d|(CD|PC|PV)\d_\d{1,2}|(A|B|AP|BP)_(ORDER|\d_\d)|LONPOLE|LATPOLE"
    r"|EQUINOX|AXISCORR|(DP|D2IM)\d\.(EXTVER|NAXES|AXIS\.\d)"
)
"""Keywords of coordinates that are read (FITS standard 4.0, chapter 8; Shupe et al. 2005; tables of distortions of HST)."""

_MOST = {re.compile("WCSAXES"): 4, re.compile(".*_ORDER"): 9, re.compile(r"(DP|D2IM)\d\..*"): 1000}
"""Largest numbers of axes, orders of polynomials (Shupe et al. 2005), extensions and axes of tables."""

_OF_DISTORTIONS = re.compile(r"(A|B|AP|BP)_\w+|D[PQ]\d\w*|C[PQ](DIS|ERR)\w*|DVERR\w*|D2IM\d\w*|P[VS]\d+_\w+|WCSAXES\w*")
_PLAIN_DISTORTIONS = re.compile(r"(A|B|AP|BP)_\w+|CP(DIS|ERR)\w*|P[VS]\d{1,2}_\d{1,2}[A-Z]?|WCSAXES[A-Z]?")
"""Keywords that wcslib takes for parts of distortions, and those of them that hold a number or a text of their own."""

_DISTORTIONS = ("WCSDVARR", "D2IMARR")  # names of extensions

_PLACE = ("RA_APER", "DEC_APER", "PA_APER")
_WAVELENGTHS = ("WAVE", "LAMB", "AWAV")  # of CTYPE (FITS standard 4.0, Table 25); LAMBDA is of older writers


def coordinates(exposure: Exposure, chip: Chip, hdus: fits.HDUList, block: InstrumentBlock) -> WCS:
    """Return the sky coordinates of a chip, or a substitute that keeps blocks, guards and overlaps meaningful.

    Frames of wavelength and position along a slit have those of an image around the slit. Without a WCS, all exposures of a
    target (or else of a folder) have the same place, which its name chooses: what shows the same stays in one split.
    """
    is_spectrum = text(chip.keywords, "CTYPE1")[:4] in _WAVELENGTHS
    if is_spectrum and (block.description is None or _is_placed(chip.keywords)):
        return _slit_coordinates(chip, block)
    if block.description is None or has_coordinates(chip.keywords):
        return _sky_coordinates(hdus, chip)
    return _substitute(exposure, chip, block)


def is_substitute(exposure: Exposure, chip: Chip) -> bool:
    """True if the place of an exposure on the sky is not known, so that `coordinates` returns a substitute."""
    known = exposure.instrument
    return known is not None and not known.is_shipped and not (_is_placed(chip.keywords) or has_coordinates(chip.keywords))


def has_coordinates(keywords: Keywords) -> bool:
    """True if a header announces right ascension and declination."""
    return any(text(keywords, f"CTYPE{axis}").upper().startswith("RA--") for axis in (1, 2))


def _is_placed(keywords: Keywords) -> bool:
    """True if a header gives the place of a slit."""
    return all(number(keywords, name) is not None for name in _PLACE)


def _substitute(exposure: Exposure, chip: Chip, block: InstrumentBlock) -> WCS:
    name = identify(exposure, chip.keywords).target or real_path(exposure.path).parent.name
    random = np.random.default_rng(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big"))
    place = [random.uniform(0, 360), float(np.degrees(np.arcsin(random.uniform(-0.9, 0.9))))]
    return _tangent(chip, block, place, np.diag([-1.0, 1.0]))


def _slit_coordinates(chip: Chip, block: InstrumentBlock) -> WCS:
    """Return the coordinates of an image around a slit (RA_APER, DEC_APER, PA_APER); wavelengths run across the slit."""
    keywords = chip.keywords
    place = [found for name in _PLACE if (found := number(keywords, name)) is not None]
    if len(place) < 3:
        raise InvalidFileError(
            f"{chip.where}: is a spectrum without RA_APER, DEC_APER and PA_APER: expected the slit's place"
        )
    angle = np.radians(place[2])
    return _tangent(chip, block, place[:2], np.array([[-np.cos(angle), np.sin(angle)], [np.sin(angle), np.cos(angle)]]))


def _tangent(chip: Chip, block: InstrumentBlock, place: list[float], turn: Any) -> WCS:
    """Return a tangent plane around a place (degrees) with pixels of the recipe's scale, times their binning."""
    detector = block.description
    if detector is not None:
        binning = list(detector.binning(chip.keywords))
    else:
        binning = [positive(chip.keywords, name) or 1.0 for name in ("BINAXIS1", "BINAXIS2")]
    height, width = chip.pixels.shape
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval, wcs.wcs.crpix = place, [(width + 1) / 2, (height + 1) / 2]
    wcs.wcs.cd = block.pixel_scale_arcsec / 3600 * turn * np.array(binning)
    return wcs


def _plain(header: fits.Header) -> fits.Header:
    """Return the cards of coordinates that are as they should be; others make astropy's libraries leave their memory.

    A value of another kind raises `ValueError`.
    """
    plain = fits.Header()
    for card in header.cards:
        is_text, is_number = _TEXTS.fullmatch(card.keyword), _NUMBERS.fullmatch(card.keyword)
        counted = next((most for pattern, most in _MOST.items() if pattern.fullmatch(card.keyword)), None)
        least, most = (-MOST_LEVEL, MOST_LEVEL) if counted is None else (0, counted)
        if is_number and not (isinstance(card.value, int | float) and least <= card.value <= most):
            raise ValueError(f"{card.keyword} is {brief(card.value)}: expected {most:g} at most")
        if is_text and not isinstance(card.value, str):
            raise ValueError(f"{card.keyword} is {brief(card.value)}: expected a text")
        if card.keyword in plain:
            raise ValueError(f"{card.keyword} stands twice: expected it once")
        if is_text or is_number:
            plain.append(card)
    return plain


def check_distortion_cards(header: fits.Header, where: str) -> None:
    """Refuse cards of distortions that calibrated exposures do not have: drizzlepac hands the whole header to wcslib.

    They make it leave its memory. `InvalidFileError` names the first one.
    """
    seen = set()
    for card in header.cards:
        if not _OF_DISTORTIONS.fullmatch(card.image[:8].rstrip().upper()):
            continue
        keyword = card.keyword.upper()
        kinds = str if keyword.startswith(("CPDIS", "PS")) else (int, float)
        is_plain = not card.field_specifier and isinstance(card.value, kinds)
        is_known = (
            _NUMBERS.fullmatch(keyword) if card.field_specifier else _PLAIN_DISTORTIONS.fullmatch(keyword) and is_plain
        )
        counted = keyword[:7] if keyword.startswith("WCSAXES") else keyword  # also of other coordinates, WCSAXESA
        most = next((most for pattern, most in _MOST.items() if pattern.fullmatch(counted)), None)
        is_small = most is None or (isinstance(card.value, int | float) and 0 <= card.value <= most)
        if not is_known or not is_small or keyword in seen:
            raise InvalidFileError(f"{where}: its header has {brief(card.image.rstrip())}, as no calibrated exposure has it")
        seen.add(keyword)


def _check_distortions(hdus: fits.HDUList, where: str) -> None:
    """Read the images of distortions that astropy takes from other extensions, with the checks of other images."""
    for hdu in hdus:
        if is_image(hdu) and extension_name(hdu) in _DISTORTIONS:
            image_values(hdu, f"{where}: its extension {extension_name(hdu)}")


def _sky_coordinates(hdus: fits.HDUList, chip: Chip) -> WCS:
    _check_distortions(hdus, chip.where)
    try:
        wcs = WCS(_plain(hdus[chip.hdu].header), hdus)
        if wcs.has_celestial:
            hull(outline(wcs, chip.pixels.shape))
            return wcs
        problem = "no right ascension and declination"
    except Exception as error:  # astropy and its libraries raise anything on odd headers
        problem = reason(error)
    raise InvalidFileError(f"{chip.where}: its place on the sky (WCS) cannot be read: {problem}")
