"""Exposures out: the mask file and the cleaned copy, with provenance and valid checksums."""

from __future__ import annotations

import datetime
import io
import os
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.utils.exceptions import AstropyWarning
from numpy.typing import NDArray

from deepcr_zoo.errors import InvalidFileError
from deepcr_zoo.frames import Chip, Exposure, extension_name
from deepcr_zoo.instruments import default_instruments
from deepcr_zoo.provenance import SOFTWARE, CleanedProvenance, MaskProvenance, Provenance

FITS_BLOCK = 2880
"""Bytes of a FITS block (FITS standard 4.0, section 3.1); an empty primary header is one."""

DRIZZLE_DEFAULT_BIT = 4096
"""AstroDrizzle clears this DQ bit unless told otherwise (resetbits, drizzlepac documentation)."""

DRIZZLE_ADVICE = "run AstroDrizzle with resetbits=0, because its default, 4096, erases the cosmic-ray flags"

# keywords that place an image on the sky or the detector, and in time
_CARRIED = re.compile(
    r"WCSAXES|C(TYPE|RVAL|RPIX|DELT|UNIT)\d|(CD|PC|LTM)\d_\d|LTV\d|[AB]P?_(ORDER|\d_\d)|LONPOLE|LATPOLE|RADESYS|EQUINOX"
    r"|ORIENTAT|EXPTIME|EXPSTART|EXPEND|CCDCHIP"
)
_IDENTITY = ("TELESCOP", "INSTRUME", "DETECTOR", "ROOTNAME", "FILTER", "FILTER1", "FILTER2", "TARGNAME")


@dataclass(frozen=True)
class ChipMask:
    """What was found on one chip.

    Attributes
    ----------
    chip : Chip
    mask : ndarray of bool, shape (H, W)
        CR mask (True = cosmic ray), dilated if that was asked for.
    events : int
        Separate cosmic rays: groups of pixels that touch, before dilation.
    probability : ndarray of float32, shape (H, W), or None
        Kept only if it is to be written.
    """

    chip: Chip
    mask: NDArray[np.bool_]
    events: int
    probability: NDArray[np.float32] | None


@dataclass(frozen=True)
class Count:
    """Cosmic rays of one chip or of several.

    Attributes
    ----------
    masked : int
        Masked pixels.
    fraction : float
        Their share of the pixels that see light.
    rate : float or None
        Separate cosmic rays per cm2 of detector and second of exposure; None where area or exposure time is not known.
    """

    masked: int
    fraction: float
    rate: float | None

    @classmethod
    def from_header(cls, header: Mapping[str, Any]) -> Count:
        """What `cards` put into a header."""
        return cls(header["CRNPIX"], header["CRFRAC"], header.get("CRRATE"))

    def cards(self) -> dict[str, tuple[Any, str]]:
        """FITS keywords with their values and comments."""
        rate = {} if self.rate is None else {"CRRATE": (self.rate, "[cm-2 s-1] groups of masked pixels")}
        return {
            "CRNPIX": (self.masked, "[pixel] masked pixels"),
            "CRFRAC": (self.fraction, "masked pixels / pixels that see light"),
            **rate,
        }


def count(chip_masks: Sequence[ChipMask]) -> Count:
    """Sum up some chips."""
    chips = [found.chip for found in chip_masks]
    exposed = [chip.area_cm2 and chip.exposure_time_s and chip.area_cm2 * chip.exposure_time_s for chip in chips]
    lit = sum(chip.pixels.size if chip.image_area is None else int(chip.image_area.sum()) for chip in chips)
    masked = sum(int(found.mask.sum()) for found in chip_masks)
    events = sum(found.events for found in chip_masks)
    return Count(masked, masked / lit, events / sum(filter(None, exposed)) if all(exposed) else None)


def mask_file(
    exposure: Exposure, chip_masks: Sequence[ChipMask], provenance: MaskProvenance, cautions: Iterable[str]
) -> bytes:
    """A FITS file with a tile-compressed CRMASK extension (uint8) per chip, and CRPROB (float32) if it was kept."""
    primary = fits.PrimaryHDU()
    for keyword in _IDENTITY:
        if keyword in exposure.keywords:
            primary.header[keyword] = exposure.keywords[keyword]
    primary.header["CRFILE"] = exposure.path.name
    _describe(primary.header, provenance, count(chip_masks), cautions)
    hdus = [primary]
    with _as_stored(exposure.data) as source:
        for found in chip_masks:
            place = fits.Header([card for card in source[found.chip.hdu].header.cards if _CARRIED.fullmatch(card.keyword)])
            hdus += _layers(found, place)
    return b"".join(_new_bytes(hdu) for hdu in hdus)


def cleaned_file(
    exposure: Exposure,
    chip_masks: Sequence[ChipMask],
    filled: Sequence[NDArray[np.float64]] | None,
    provenance: CleanedProvenance,
    cautions: Iterable[str],
) -> bytes:
    """A copy of the input: masked pixels repainted, their cosmic-ray DQ bit set, all else as it was.

    Parameters
    ----------
    exposure : Exposure
    chip_masks : sequence of ChipMask
    filled : sequence of ndarray, or None
        For each chip the new values of its masked pixels, in the file's own unit; None to leave the pixels as they are.
    provenance : CleanedProvenance
    cautions : iterable of str
        What the user was warned of; goes into HISTORY.

    Raises
    ------
    InvalidFileError
        If a DQ extension does not fit its chip, or cannot hold the bit.
    """
    bit = cosmic_ray_bit(exposure)
    with _as_stored(exposure.data) as hdus, fits.open(io.BytesIO(exposure.data), lazy_load_hdus=False) as images:
        edited = {0}
        for index, found in enumerate(chip_masks):
            science = _editable(hdus, images, found.chip.hdu)
            if filled is not None:
                _repaint(science, found.mask, filled[index])
            science.header.update({**provenance.cards(), **count([found]).cards()})
            edited |= {found.chip.hdu} if bit is None else {found.chip.hdu, _flag(hdus, images, found, bit, exposure)}
        _describe_copy(hdus, provenance, count(chip_masks), bit, cautions)
        return b"".join(
            _new_bytes(hdu) if index in edited or "CHECKSUM" not in hdu.header else _old_bytes(hdu, exposure.data)
            for index, hdu in enumerate(hdus)
        )


def cosmic_ray_bit(exposure: Exposure) -> int | None:
    """The DQ bit that marks cosmic rays in this file; None if its DQ, if any, is not known to hold bits."""
    if exposure.instrument is not None:
        return exposure.instrument.cosmic_ray_bit
    with _as_stored(exposure.data) as hdus:
        foreign = any(extension_name(hdu) == "DQ" for hdu in hdus)
    return None if foreign else default_instruments().generic.cosmic_ray_bit


def _as_stored(data: bytes) -> fits.HDUList:
    """The HDUs as they are stored: no scaling, compressed images as the tables that they are."""
    return fits.open(io.BytesIO(data), lazy_load_hdus=False, do_not_scale_image_data=True, disable_image_compression=True)


def _editable(hdus: fits.HDUList, images: fits.HDUList, index: int) -> Any:
    """An image HDU of `hdus` that can be edited; a compressed one is replaced by a plain one."""
    if not isinstance(hdus[index], fits.PrimaryHDU | fits.ImageHDU):
        hdus[index] = fits.ImageHDU(images[index].data, images[index].header)
    return hdus[index]


def _repaint(science: Any, mask: NDArray[np.bool_], values: NDArray[np.float64]) -> None:
    """Put new values into the masked pixels alone, as they are stored; the others keep their bits."""
    stored = science.data
    scaled = stored.dtype.kind == "i" and science.header.get("BZERO") is not None
    zero, step = (science.header["BZERO"], science.header.get("BSCALE", 1)) if scaled else (0, 1)
    values = (values - zero) / step
    if stored.dtype.kind in "iu":
        limits = np.iinfo(stored.dtype)
        values = np.clip(np.rint(values), limits.min, limits.max)  # NaN stays NaN
    stored[mask] = np.where(np.isfinite(values), values, stored[mask])


def _flag(hdus: fits.HDUList, images: fits.HDUList, found: ChipMask, bit: int, exposure: Exposure) -> int:
    """Set the bit on masked pixels of the chip's DQ extension, which is added if there is none; gives its index."""
    version = found.chip.version
    index = next((i for i, hdu in enumerate(hdus) if extension_name(hdu) == "DQ" and hdu.ver == version), None)
    if index is None:
        hdus.append(fits.ImageHDU(np.where(found.mask, bit, 0).astype(np.int16), name="DQ", ver=version))
        return len(hdus) - 1
    quality = _editable(hdus, images, index)
    if quality.header["NAXIS"] == 0:
        # a constant array of the HST pipelines: PIXVALUE stands for every pixel
        quality.data = np.full(found.mask.shape, quality.header.get("PIXVALUE", 0), dtype=np.int16)
        for keyword in ("NPIX1", "NPIX2", "PIXVALUE"):
            quality.header.remove(keyword, ignore_missing=True)
    where, kind = f"{exposure.path}: DQ,{version}", quality.data.dtype
    if quality.data.shape != found.mask.shape:
        raise InvalidFileError(f"{where}: has the shape {quality.data.shape}: expected {found.mask.shape}, that of its chip")
    if kind.kind not in "iu" or bit > np.iinfo(kind).max:
        raise InvalidFileError(f"{where}: holds {kind}, which has no room for the bit {bit}: use --inpaint none")
    quality.data[found.mask] |= kind.type(bit)
    return index


def _describe_copy(
    hdus: fits.HDUList, provenance: CleanedProvenance, found: Count, bit: int | None, cautions: Iterable[str]
) -> None:
    primary = hdus[0].header
    if len(hdus) > 1 and "EXTEND" not in primary:
        primary.set("EXTEND", True, after=f"NAXIS{primary['NAXIS'] or ''}")
    if isinstance(primary.get("NEXTEND"), int):
        primary["NEXTEND"] = max(primary["NEXTEND"], len(hdus) - 1)
    if "CRTHRESH" in primary and hdus[0].is_image and primary["NAXIS"] == 0:
        primary.add_history(f"the calibration pipeline's CRTHRESH was {primary['CRTHRESH']!r}")
    _describe(primary, provenance, found, cautions)
    if bit is not None:
        primary["CRBIT"] = (bit, "DQ bit that marks them")
    if bit == DRIZZLE_DEFAULT_BIT:
        primary.add_history(f"{DRIZZLE_ADVICE[0].upper()}{DRIZZLE_ADVICE[1:]}.")


def _describe(header: fits.Header, provenance: Provenance, found: Count, cautions: Iterable[str]) -> None:
    header["DATE"] = (_now(), "date this file was written (UTC)")
    header.update({**provenance.cards(), **found.cards()})
    header.add_history(f"{SOFTWARE}: cosmic rays found by {provenance.model}, threshold {provenance.threshold:g}")
    if isinstance(provenance, CleanedProvenance):
        repainted = (
            f"repainted by {provenance.inpainter}" if provenance.inpainter != "none" else "not repainted, only flagged"
        )
        header.add_history(f"masked pixels were {repainted}; they are no measurements")
    for caution in cautions:
        header.add_history(f"WARNING {caution}")


def _now() -> str:
    """Time of writing; SOURCE_DATE_EPOCH fixes it, for files that are the same to the byte."""
    fixed = os.environ.get("SOURCE_DATE_EPOCH")
    moment = datetime.datetime.fromtimestamp(int(fixed), datetime.UTC) if fixed else datetime.datetime.now(datetime.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S")


def _layers(found: ChipMask, place: fits.Header) -> list[Any]:
    """The extensions of a chip: its mask, and its probability if that was kept."""
    # RICE: gzip would put the time of day into the file; the noise of a probability does not compress
    mask = fits.CompImageHDU(found.mask.astype(np.uint8), place.copy(), name="CRMASK", compression_type="RICE_1")
    mask.header.update(count([found]).cards())
    layers = [mask]
    if found.probability is not None:
        layers.append(fits.ImageHDU(found.probability, place.copy(), name="CRPROB"))
    for hdu in layers:
        hdu.ver = found.chip.version
    return layers


def _old_bytes(hdu: Any, data: bytes) -> bytes:
    place = hdu.fileinfo()
    return data[place["hdrLoc"] : place["datLoc"] + place["datSpan"]]


def _new_bytes(hdu: Any) -> bytes:
    """An HDU with a new checksum, as it stands in a file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AstropyWarning)  # oddities of the input are copied as they are
        # read back as it is stored: the checksum of a compressed image is that of its table
        with _as_stored(_lone_file(hdu)) as stored:
            new = stored[0 if isinstance(hdu, fits.PrimaryHDU) else 1]
            new.add_checksum(when=f"HDU checksum updated {_now()}")
            data = _lone_file(new)
    return data if isinstance(hdu, fits.PrimaryHDU) else data[FITS_BLOCK:]


def _lone_file(hdu: Any) -> bytes:
    """A file that holds one HDU, and before it an empty primary where one is needed."""
    buffer = io.BytesIO()
    before = [] if isinstance(hdu, fits.PrimaryHDU) else [fits.PrimaryHDU()]
    fits.HDUList([*before, hdu]).writeto(buffer, output_verify="ignore")
    return buffer.getvalue()
