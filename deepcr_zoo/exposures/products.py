"""Mask files and cleaned copies of exposures, with provenance and valid checksums."""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from deepcr_zoo.documents import brief
from deepcr_zoo.errors import DeepcrZooError, ImageWarning, InvalidFileError, printable, warn
from deepcr_zoo.exposures.extensions import constant_flags
from deepcr_zoo.exposures.fitsfiles import (
    FITS_BLOCK,
    extension_name,
    extension_version,
    image_values,
    is_image,
    quiet_astropy,
)
from deepcr_zoo.exposures.provenance import SOFTWARE, Cards, CleanedProvenance, MaskProvenance, Provenance, header_text
from deepcr_zoo.exposures.reading import Chip, Exposure
from deepcr_zoo.files import moment_of_writing
from deepcr_zoo.models.skynoise import FrameNoise
from deepcr_zoo.zoo.instruments import Keywords, number, text, value

DRIZZLE_DEFAULT_BIT = 4096
"""DQ bit that AstroDrizzle clears by default (resetbits, drizzlepac documentation)."""

HISTORY_COLUMNS = 72
"""Characters of a HISTORY card (FITS standard 4.0, section 4.4.2.4)."""

MASK_EXTENSION, PROBABILITY_EXTENSION = "CRMASK", "CRPROB"

# keywords that place an image on the sky or the detector, and in time
_CARRIED = re.compile(
    r"WCSAXES|C(TYPE|RVAL|RPIX|DELT|UNIT)\d|(CD|PC|LTM)\d_\d|LTV\d|[AB]P?_(ORDER|\d_\d)|LONPOLE|LATPOLE|RADESYS|EQUINOX"
    r"|ORIENTAT|EXPTIME|EXPSTART|EXPEND|CCDCHIP|CCDNUM"
)
_IDENTITY = ("TELESCOP", "INSTRUME", "DETECTOR", "ROOTNAME", "TARGNAME", "FILTER", "FILTER1", "FILTER2", "OPT_ELEM")


@dataclass(frozen=True)
class ChipMask:
    """Cosmic rays of one chip; arrays have the shape (H, W)."""

    chip: Chip
    mask: NDArray[np.bool_]  # True = cosmic ray; dilated if requested
    events: int  # separate cosmic rays: groups of pixels that touch, before dilation
    probability: NDArray[np.float32] | None  # None if it is not written
    noise: FrameNoise = ()  # sky and noise of each amplifier in the unit that networks took, if their input depends on them

    def cards(self) -> Cards:
        """Return FITS keywords with values and comments."""
        found: Cards = {}
        for amplifier, one in enumerate(self.noise, 1):
            found[f"CRSKY{amplifier}"] = (one.sky, f"sky of amplifier {amplifier}, without bias if known")
            found[f"CRNOIS{amplifier}"] = (one.noise, "noise of a pixel of this sky, same unit")
        return found


@dataclass(frozen=True)
class Count:
    """Number of masked pixels and rate of cosmic rays of one or more chips."""

    masked: int
    fraction: float  # of the pixels that see light
    rate: float | None  # cm-2 s-1; None if the detector's area or the exposure time is unknown

    @classmethod
    def from_header(cls, header: Keywords) -> Count | None:
        """Read the count from the keywords that `cards` returns; None if they are damaged."""
        masked, fraction, rate = (number(header, keyword) for keyword in ("CRNPIX", "CRFRAC", "CRRATE"))
        if masked is None or fraction is None or (rate is None and "CRRATE" in header):
            return None
        return cls(int(masked), fraction, rate)

    def cards(self) -> Cards:
        """Return FITS keywords with values and comments."""
        rate = {} if self.rate is None else {"CRRATE": (self.rate, "[cm-2 s-1] groups of masked pixels")}
        return {
            "CRNPIX": (self.masked, "[pixel] masked pixels"),
            "CRFRAC": (self.fraction, "masked pixels / pixels that see light"),
            **rate,
        }


def count(chip_masks: Sequence[ChipMask]) -> Count:
    """Count the cosmic rays of some chips."""
    chips = [found.chip for found in chip_masks]
    exposed = [chip.area_cm2 and chip.exposure_time_s and chip.area_cm2 * chip.exposure_time_s for chip in chips]
    masked = sum(int(found.mask.sum()) for found in chip_masks)
    events = sum(found.events for found in chip_masks)
    rate = events / sum(filter(None, exposed)) if all(exposed) else None
    return Count(masked, masked / sum(chip.lit_pixels for chip in chips), rate)


def mask_file(
    exposure: Exposure, chip_masks: Sequence[ChipMask], provenance: MaskProvenance, cautions: Iterable[str]
) -> bytes:
    """Return a FITS file with a tile-compressed CRMASK extension (uint8) per chip, and CRPROB (float32) if present."""
    with _from_damaged_headers(exposure), quiet_astropy():
        primary = fits.PrimaryHDU()
        primary.header.update({keyword: header_text(text(exposure.keywords, keyword)) for keyword in _IDENTITY})
        primary.header["CRFILE"] = header_text(exposure.path.name)
        _describe(primary.header, provenance, count(chip_masks), cautions)
        hdus = [primary]
        for found in chip_masks:
            place = fits.Header([card for card in found.chip.header.cards if _CARRIED.fullmatch(card.keyword)])
            hdus += _layers(found, place, provenance)
        return b"".join(_new_bytes(hdu) for hdu in hdus)


@dataclass(frozen=True)
class NewPixels:
    """The masked pixels of a chip in the file's own unit, shape (masked pixels,), and their uncertainty if it is known."""

    values: NDArray[np.float64]
    uncertainty: NDArray[np.float64] | None = None


def cleaned_file(
    exposure: Exposure,
    chip_masks: Sequence[ChipMask],
    filled: Sequence[NewPixels] | None,
    provenance: CleanedProvenance,
    cautions: Iterable[str],
) -> bytes:
    """Return a copy of the input with masked pixels repainted and their cosmic-ray DQ bit set; all else is unchanged.

    `filled` holds the new pixels of each chip; None leaves the pixels unchanged. Known uncertainties go into ERR, if it
    exists. The cautions go into HISTORY.
    """
    with (
        _from_damaged_headers(exposure),
        quiet_astropy(),
        _as_stored(exposure.data) as hdus,
        fits.open(io.BytesIO(exposure.data), lazy_load_hdus=True) as images,  # parsed only as far as it is used
    ):
        before = value(hdus[0].header, "CRTHRESH")
        edited, flags, errors, left = {0}, _places(hdus, "DQ"), _places(hdus, "ERR"), list(cautions)
        for index, found in enumerate(chip_masks):
            science = _editable(hdus, images, found.chip.hdu, found.chip.where)
            if filled is not None:
                _repaint(science, found.mask, filled[index].values)
                place, unsure = errors.get(found.chip.version), filled[index].uncertainty
                if place is not None and unsure is not None and is_image(images[place]) and images[place].shape:
                    if caution := _repaint_error(hdus, images, place, found, unsure):
                        left.append(caution)
                    else:
                        edited.add(place)
            science.hdu.header.update({**provenance.cards(), **count([found]).cards(), **found.cards()})
            edited.add(found.chip.hdu)
            if exposure.cosmic_ray_bit is not None:
                edited.add(_flag(hdus, images, flags.get(found.chip.version), found, exposure.cosmic_ray_bit))
        _describe_copy(hdus, provenance, count(chip_masks), exposure, left)
        if before is not None:
            hdus[0].header.add_history(f"CRTHRESH was {before!r} before, a setting of the calibration pipeline")
        return b"".join(
            _new_bytes(hdu) if index in edited or "CHECKSUM" not in hdu.header else _old_bytes(hdu, exposure.data)
            for index, hdu in enumerate(hdus)
        )


def drizzle_advice(exposure: Exposure) -> str:
    """Return advice for drizzling the copy with AstroDrizzle; empty if it does not apply to the instrument."""
    known = exposure.instrument
    concerned = known is not None and known.is_shipped and exposure.cosmic_ray_bit == DRIZZLE_DEFAULT_BIT
    return "run AstroDrizzle with resetbits=0: its default, 4096, erases the cosmic-ray flags" if concerned else ""


@contextmanager
def _from_damaged_headers(exposure: Exposure) -> Iterator[None]:
    """Raise `InvalidFileError` where astropy cannot write what it has read."""
    try:
        yield
    except (DeepcrZooError, MemoryError):
        raise
    except Exception as error:  # astropy raises anything on damaged headers
        raise InvalidFileError(
            f"{exposure.path}: its headers are damaged, so that they cannot be written again: {brief(error)}"
        ) from error


@dataclass(frozen=True)
class _Editable:
    """An image HDU that can be edited; its values are ``step * stored + zero``."""

    hdu: Any
    zero: float
    step: float


def _as_stored(data: bytes) -> fits.HDUList:
    """Open the HDUs as they are stored: no scaling, compressed images as tables."""
    return fits.open(io.BytesIO(data), lazy_load_hdus=False, do_not_scale_image_data=True, disable_image_compression=True)


def _editable(hdus: fits.HDUList, images: fits.HDUList, index: int, where: str) -> _Editable:
    """Return the image at `index` of `hdus`; a compressed one is replaced by a plain one first. `where` names it."""
    stored = hdus[index]
    if isinstance(stored, fits.PrimaryHDU | fits.ImageHDU):
        zero, step = number(stored.header, "BZERO"), number(stored.header, "BSCALE")
        return _Editable(stored, 0 if zero is None else zero, 1 if step is None else step)
    hdus[index] = fits.ImageHDU(image_values(images[index], where), images[index].header)
    return _Editable(hdus[index], 0, 1)


def _repaint(science: _Editable, mask: NDArray[np.bool_], values: NDArray[np.float64]) -> None:
    """Put new values into the masked pixels, as stored values; the others keep their bits."""
    stored = science.hdu.data.reshape(mask.shape)  # a view: an image may have further axes of length 1
    known = np.isfinite(values)
    place = tuple(index[known] for index in np.nonzero(mask))
    if stored.dtype.kind in "iu":
        stored[place] = _integers(values[known], science, stored.dtype)
    else:
        stored[place] = (values[known] - science.zero) / science.step


def _integers(values: NDArray[np.float64], science: _Editable, dtype: np.dtype[Any]) -> list[int]:
    """Return the integers that stand for these values, none of which means that there is no value (BLANK)."""
    limits, blank = np.iinfo(dtype), number(science.hdu.header, "BLANK")
    if science.step == 1 and float(science.zero).is_integer():
        # in whole numbers: 2**63, the BZERO of unsigned 64-bit numbers, would swallow the value
        found = [round(value) - int(science.zero) for value in values.tolist()]
    else:
        found = [round(value) for value in ((values - science.zero) / science.step).tolist()]
    within = (min(max(value, int(limits.min)), int(limits.max)) for value in found)
    return [value - (1 if value > limits.min else -1) if value == blank else value for value in within]


def _repaint_error(
    hdus: fits.HDUList, images: fits.HDUList, index: int, found: ChipMask, uncertainty: NDArray[np.float64]
) -> str | None:
    """Put uncertainties, in the unit of the image, into the ERR extension at `index`; return why it stays, if it does."""
    where, stored = f"{found.chip.label}: its ERR extension", images[index]
    unit, expected = (printable(text(header, "BUNIT")) for header in (stored.header, found.chip.header))
    shape = tuple(stored.shape)
    if shape[-2:] != found.mask.shape or np.prod(shape) != found.mask.size:
        problem = f"{where} has the shape {shape}, its chip {found.mask.shape}"
    elif unit and unit.lower() != expected.lower():
        problem = f"{where} is in {unit}, its chip in {expected or 'no unit'}"
    else:
        _repaint(_editable(hdus, images, index, where), found.mask, uncertainty)
        return None
    caution = f"{problem}: it stays as it is where pixels are repainted"
    warn(caution, ImageWarning)
    return caution


def _places(hdus: fits.HDUList, name: str) -> dict[int, int]:
    """Return the index of the first extension of this name and each number."""
    places: dict[int, int] = {}
    for index, hdu in enumerate(hdus):
        if extension_name(hdu) == name:
            places.setdefault(extension_version(hdu), index)
    return places


def _flag(hdus: fits.HDUList, images: fits.HDUList, index: int | None, found: ChipMask, bit: int) -> int:
    """Set the bit on masked pixels of the DQ extension at `index`, which is added if None; return its index."""
    if index is None:
        hdus.append(fits.ImageHDU(np.where(found.mask, bit, 0).astype(np.int16), name="DQ", ver=found.chip.version))
        return len(hdus) - 1
    where = f"{found.chip.where}: its DQ extension"
    if not is_image(images[index]):
        raise InvalidFileError(f"{where} is no image: use --inpaint none for the mask alone")
    quality = _editable(hdus, images, index, where).hdu
    if quality.header["NAXIS"] == 0:
        # a constant array of the HST pipelines: PIXVALUE stands for every pixel
        quality.data = np.full(found.mask.shape, constant_flags(quality.header), dtype=np.int16)
        for keyword in ("NPIX1", "NPIX2", "PIXVALUE"):
            quality.header.remove(keyword, ignore_missing=True)
    kind, shape = quality.data.dtype, found.mask.shape
    if quality.data.shape[-2:] != shape or quality.data.size != found.mask.size:
        raise InvalidFileError(f"{where} has the shape {quality.data.shape}: expected {shape}, that of its chip")
    if kind.kind not in "iu" or bit > np.iinfo(kind).max:
        raise InvalidFileError(f"{where} holds {kind}, which has no room for the bit {bit}: use --inpaint none")
    quality.data.reshape(shape)[found.mask] |= kind.type(bit)  # a view
    return index


def _describe_copy(
    hdus: fits.HDUList, provenance: CleanedProvenance, found: Count, exposure: Exposure, cautions: Iterable[str]
) -> None:
    primary = hdus[0].header
    if len(hdus) > 1 and "EXTEND" not in primary:
        primary.set("EXTEND", True, after=f"NAXIS{primary['NAXIS'] or ''}")
    if isinstance(value(primary, "NEXTEND"), int):
        primary["NEXTEND"] = max(primary["NEXTEND"], len(hdus) - 1)
    _describe(primary, provenance, found, cautions)
    if exposure.cosmic_ray_bit is not None:
        primary["CRBIT"] = (exposure.cosmic_ray_bit, "DQ bit that marks them")
    if advice := drizzle_advice(exposure):
        _add_history(primary, advice)


def _describe(header: fits.Header, provenance: Provenance, found: Count, cautions: Iterable[str]) -> None:
    header["DATE"] = (_now(), "date this file was written (UTC)")
    header.update({**provenance.cards(), **found.cards()})
    _add_history(header, f"{SOFTWARE}: cosmic rays found by {provenance.model}, threshold {provenance.threshold:g}")
    if isinstance(provenance, CleanedProvenance):
        repainted = (
            f"repainted by {provenance.inpainter}" if provenance.inpainter != "none" else "not repainted, only flagged"
        )
        _add_history(header, f"masked pixels were {repainted}; they are no measurements")
    for caution in cautions:
        _add_history(header, f"WARNING {caution}")


def _add_history(header: fits.Header, line: str) -> None:
    """Add HISTORY cards wrapped at blanks; astropy would break words."""
    for part in textwrap.wrap(header_text(line), HISTORY_COLUMNS):
        header.add_history(part)


def _now() -> str:
    return moment_of_writing().strftime("%Y-%m-%dT%H:%M:%S")


def _layers(found: ChipMask, place: fits.Header, provenance: MaskProvenance) -> list[Any]:
    """Return the extensions of a chip: its mask, and its probability if present."""
    # RICE: gzip would put the time of day into the file; the noise of a probability does not compress
    mask = fits.CompImageHDU(found.mask.astype(np.uint8), place.copy(), name=MASK_EXTENSION, compression_type="RICE_1")
    mask.header.update({**provenance.cards(), **count([found]).cards(), **found.cards()})
    layers = [mask]
    if found.probability is not None:
        layers.append(fits.ImageHDU(found.probability, place.copy(), name=PROBABILITY_EXTENSION))
    for hdu in layers:
        hdu.ver = found.chip.version
        hdu.header["CREXT"] = (header_text(found.chip.name) or "PRIMARY", "extension of the exposure")
    return layers


def _old_bytes(hdu: Any, data: bytes) -> bytes:
    place = hdu.fileinfo()
    return data[place["hdrLoc"] : place["datLoc"] + place["datSpan"]]


def _new_bytes(hdu: Any) -> bytes:
    """Return the bytes of an HDU with a new checksum."""
    # read back as it is stored: the checksum of a compressed image is that of its table
    with _as_stored(_lone_file(hdu)) as stored:
        new = stored[0 if isinstance(hdu, fits.PrimaryHDU) else 1]
        new.add_checksum(when=f"HDU checksum updated {_now()}")
        data = _lone_file(new)
    return data if isinstance(hdu, fits.PrimaryHDU) else data[FITS_BLOCK:]


def _lone_file(hdu: Any) -> bytes:
    """Return a file that holds one HDU, after an empty primary (of one block) if it is an extension."""
    buffer = io.BytesIO()
    before = [] if isinstance(hdu, fits.PrimaryHDU) else [fits.PrimaryHDU()]
    # overwrite is for the buffer: astropy looks for a file with the name of its class in the present folder
    fits.HDUList([*before, hdu]).writeto(buffer, output_verify="ignore", overwrite=True)
    return buffer.getvalue()
