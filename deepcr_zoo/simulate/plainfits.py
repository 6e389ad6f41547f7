"""Exposures as a camera writes them: its keywords, as its description names them, and its counts."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from astropy.io import fits
from astropy.time import Time
from numpy.typing import NDArray

from deepcr_zoo.errors import UsageError
from deepcr_zoo.simulate.plaincameras import PlainCamera
from deepcr_zoo.simulate.readouts import Cards, Readout, literal


@dataclass(frozen=True)
class PlainLabel:
    """What the header says of an exposure."""

    root: str
    target: str
    start_mjd: float
    seconds: float
    coordinates: Cards  # WCS or the place of the slit
    origin: tuple[str, ...]  # lines on the simulation, for HISTORY


def is_raw(camera: PlainCamera, product: str) -> bool:
    """True if the camera writes counts with a bias level: it is not described in electrons, and no calibrated product."""
    return camera.description.unit_if_absent != "electron" and product not in ("flt", "flc")


def has_extensions(camera: PlainCamera) -> bool:
    """True if images are extensions called SCI, as with DQ flags; else they are primary images."""
    return camera.description.has_flags


def plain_bytes(
    camera: PlainCamera, labels: Sequence[PlainLabel], images: Sequence[NDArray[np.generic]], frame: Readout | None
) -> bytes:
    """Return the file of one exposure, or of several that are image extensions of one file."""
    header = _header(camera, labels[0], frame)
    if not has_extensions(camera):
        hdus = [fits.PrimaryHDU(images[0], header)]
    else:
        hdus = [fits.PrimaryHDU(header=header)]
        for version, (label, image) in enumerate(zip(labels, images, strict=True), 1):
            own = fits.Header({**_times(camera, label), **label.coordinates, **_binning(camera), "EXPNAME": label.root})
            if frame is None:
                own["BUNIT"] = header["BUNIT"]
            hdus.append(fits.ImageHDU(image, own, name="SCI", ver=version))
            if frame is None:
                hdus.append(fits.ImageHDU(np.zeros(image.shape, np.int16), name="DQ", ver=version))
    buffer = io.BytesIO()
    fits.HDUList(hdus).writeto(buffer, overwrite=True)  # of the buffer: astropy looks for a file with the name of its class
    return buffer.getvalue()


def _header(camera: PlainCamera, label: PlainLabel, frame: Readout | None) -> fits.Header:
    known, block = camera.description, camera.block
    header = fits.Header()
    header["SIMULATD"] = (True, "synthetic data: no telescope took this exposure")
    cards: Cards = {name: literal(value) for name, value in known.recognise.items()}
    cards |= _filters(camera)
    cards |= dict.fromkeys(known.gain_keywords, block.gain_electron_per_count)
    cards |= dict.fromkeys(known.read_noise_keywords[:1], block.read_noise_electron)
    cards |= {(known.target_keywords or ["TARGNAME"])[0]: label.target, "OBJECT": label.target}
    cards |= {"ROOTNAME": label.root, **_times(camera, label), **_binning(camera)}
    if frame is not None:
        level = block.saturation_electron / block.gain_electron_per_count + frame.regions[0].bias_count
        cards |= dict.fromkeys(known.saturation_keywords[:1], min(level, 65_535.0))
        cards |= {name: literal(value) for name, value in known.raw_when.items()} | dict(frame.cards)
    if known.unit_if_absent is None or frame is None:
        cards["BUNIT"] = "ADU" if frame is not None or known.unit_if_absent == "adu" else "ELECTRONS"
    for name, value in {**cards, **({} if has_extensions(camera) else label.coordinates)}.items():
        header[name if len(name) <= 8 and " " not in name else f"HIERARCH {name.removeprefix('HIERARCH ')}"] = value
    for line in label.origin:
        header.add_history(line)
    if not known.matches(header):
        raise UsageError(
            f"instrument: exposures of {known.name} cannot be simulated: no header could be made that its recognise matches"
        )
    return header


def _filters(camera: PlainCamera) -> Cards:
    """Return the filter in the last of the keywords, and none in the others."""
    known = camera.description
    name = camera.block.simulated_filter or camera.block.filters[0]
    if name == known.filter_if_absent or not known.filter_keywords:
        return {}
    parts = name.split("+")
    cards: Cards = {}
    if known.no_filter:
        cards |= dict.fromkeys(known.filter_keywords, literal(known.no_filter[0]))
    cards |= dict(zip(known.filter_keywords[-len(parts) :], parts, strict=False))
    return cards


def _times(camera: PlainCamera, label: PlainLabel) -> Cards:
    known = camera.description
    cards: Cards = {(known.exposure_time_keywords or ["EXPTIME"])[0]: label.seconds}
    moment = Time(label.start_mjd, format="mjd")
    date, clock = moment.isot.split("T")
    names = known.time_keywords or ["EXPSTART"]
    if "MJD" in names[0].upper() or names[0] == "EXPSTART":
        cards[names[0]] = label.start_mjd
    elif "JD" in names[0].upper():
        cards[names[0]] = float(moment.jd)
    elif len(names) > 1 and "TIME" in names[1].upper():
        cards |= {names[0]: date, names[1]: clock}
    else:
        cards[names[0]] = moment.isot
    return cards


def _binning(camera: PlainCamera) -> Cards:
    names, (x, y) = camera.description.binning_keywords, camera.settings.binning
    if len(names) == 1:
        return {names[0]: f"{x} {y}"}
    return dict(zip(names, (x, y), strict=False))
