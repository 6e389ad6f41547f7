"""Facts and pixels of the exposures that labels are made from."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS
from numpy.typing import NDArray
from scipy import ndimage

from deepcr_zoo.dataset import footprints
from deepcr_zoo.dataset.coordinates import check_distortion_cards, coordinates, is_substitute
from deepcr_zoo.dataset.footprints import Positions
from deepcr_zoo.dataset.identities import identify
from deepcr_zoo.dataset.labelmethods import LABEL_METHODS
from deepcr_zoo.dataset.maskfiles import NO_MASKS, MaskFiles
from deepcr_zoo.errors import InvalidFileError
from deepcr_zoo.exposures.fitsfiles import quiet_astropy
from deepcr_zoo.exposures.framekinds import frame_kind
from deepcr_zoo.exposures.noisecheck import level_cautions, overscan_noise, stated_noise
from deepcr_zoo.exposures.reading import Chip, Exposure, read_exposure
from deepcr_zoo.exposures.readingoptions import ReadingOptions
from deepcr_zoo.files import CHANGED
from deepcr_zoo.models.images import LIMIT, has_value
from deepcr_zoo.zoo.instruments import Instrument, number, text
from deepcr_zoo.zoo.recipe import InstrumentBlock, Labels
from deepcr_zoo.zoo.recipeinstruments import detector_of


@dataclass(frozen=True)
class ExposureFacts:
    """Facts from the file of an exposure; chips are in the order of EXTVER."""

    path: Path
    sha256: str
    versions: tuple[int, ...]  # EXTVER of all chips in the file, or of one where a file holds repeats
    name: str  # observation, with EXTVER where a file holds repeats; stamps are stored under it
    observation: str  # ROOTNAME, else the name of the file
    proposal: int  # 0 if the header has none
    visit: str  # upper case, for HST two characters; empty if the header has none, until visits are grouped
    target: str
    filter_name: str
    exposure_time_s: float
    read_noise_electron: float | None  # mean of the amplifiers, or of the overscan in raw frames
    start_mjd: float  # 0 if the header has none
    shapes: tuple[tuple[int, int], ...]  # rows and columns of each chip
    outlines: tuple[Positions, ...]  # convex outline of each chip on the sky; none for a dark
    cautions: tuple[str, ...]
    has_coordinates: bool = True  # False if its place on the sky is a substitute, see `coordinates`
    masks: MaskFiles = NO_MASKS  # of labels given
    truth_sha256: str | None = None  # of labels truth; None if there is no such file

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
    wcs: WCS  # sky coordinates; see `coordinates`; for darks those of the pixels
    area_cm2: float  # area of the silicon
    mdrizsky: float | None  # sky level from AstroDrizzle, e-
    saturated: NDArray[np.bool_] | None = None  # by the levels of a camera without DQ flags
    frame_shape: tuple[int, int] | None = None  # rows and columns with the overscan
    lit: tuple[slice, slice] = (slice(None), slice(None))  # the part of that frame that sees light


def name_in_records(block: InstrumentBlock) -> str:
    """Return the name of the instrument in records of visits, by which bench compares it with those of models."""
    if block.description is not None:  # its name for people may differ from one settings folder to another
        return f"{block.telescope} {block.instrument}/{block.detector}"
    return detector_of(block).name


def read_facts(
    path: Path, block: InstrumentBlock, labels: Labels = "astrodrizzle", is_dark: bool = False
) -> list[ExposureFacts]:
    """Read a file whole and check that its exposure, or each of its repeats, can be labelled.

    AstroDrizzle takes calibrated exposures alone, other labels raw frames too. Dark exposures have no place on the sky.
    """
    exposure = read_exposure(path, ReadingOptions(instrument=block.description))
    _check(exposure, block, labels, is_dark)
    chips = list(_chips(exposure, block, is_dark))
    if labels == "astrodrizzle" and not is_dark:
        for chip, pixels in zip(sorted(exposure.chips, key=lambda one: one.version), chips, strict=True):
            _check_scale(chip, pixels.wcs, block)
    repeats = exposure.instrument is not None and exposure.instrument.every_chip_is_an_exposure
    groups = [[chip] for chip in chips] if repeats else [chips]
    return [_facts(exposure, group, repeats, is_dark) for group in groups]


def read_chips(facts: ExposureFacts, block: InstrumentBlock, path: Path | None = None) -> list[ChipPixels]:
    """Read the chips of an exposure that `read_facts` has accepted, in the order of EXTVER.

    `path` is a copy of the file that may have changed; by default the file itself is read, which must be unchanged.
    """
    exposure = read_exposure(path or facts.path, ReadingOptions(instrument=block.description))
    if path is None and facts.sha256 != exposure.sha256:
        raise InvalidFileError(f"{facts.path}: {CHANGED}")
    return list(_chips(exposure, block, is_dark=not facts.outlines, versions=facts.versions))


def _facts(exposure: Exposure, chips: list[ChipPixels], repeats: bool, is_dark: bool) -> ExposureFacts:
    versions = tuple(chip.version for chip in chips)
    first = next(chip for chip in exposure.chips if chip.version == versions[0])
    identity = identify(exposure, first.keywords)
    assert first.exposure_time_s is not None  # see _check
    return ExposureFacts(
        path=exposure.path,
        sha256=exposure.sha256,
        versions=versions,
        name=f"{identity.observation}-{versions[0]}" if repeats else identity.observation,
        observation=identity.observation,
        proposal=identity.proposal,
        visit=identity.visit,
        target=identity.target,
        filter_name=exposure.filter_name,
        exposure_time_s=first.exposure_time_s,
        read_noise_electron=_read_noise(first),
        start_mjd=identity.start_mjd,
        shapes=tuple(chip.image.shape for chip in chips),
        outlines=tuple(footprints.hull(footprints.outline(chip.wcs, chip.image.shape)) for chip in chips if not is_dark),
        cautions=(
            *exposure.cautions,
            *level_cautions(chip for chip in exposure.chips if chip.version in versions),
            *_without_value(chips),
        ),
        has_coordinates=not is_substitute(exposure, first),
    )


def _read_noise(chip: Chip) -> float | None:
    """Return the mean read noise of the amplifiers, e-: of the overscan, by the header or by the camera's description."""
    if chip.overscan:
        return fmean(overscan_noise(chip)) * chip.factor("electron")
    given = stated_noise(chip)
    return fmean(given) if given else None


def _without_value(chips: Sequence[ChipPixels]) -> list[str]:
    """Return a caution about pixels that hold no value, which are ignored."""
    pixels = sum(int((~has_value(chip.image)).sum()) for chip in chips)
    return [f"{pixels:,} pixels hold no value (NaN, infinite or beyond {LIMIT:g}) and are ignored"] if pixels else []


def _chips(
    exposure: Exposure, block: InstrumentBlock, is_dark: bool, versions: tuple[int, ...] | None = None
) -> Iterator[ChipPixels]:
    """Yield the chips of some versions, or all, in the order of EXTVER."""
    detector = detector_of(block)
    with quiet_astropy(), fits.open(io.BytesIO(exposure.data)) as hdus:
        for chip in sorted(exposure.chips, key=lambda one: one.version):
            if versions is not None and chip.version not in versions:
                continue
            # the rows and columns that see light
            lit = np.s_[:, :] if chip.image_area is None else ndimage.find_objects(chip.image_area.astype(np.int8))[0]
            wcs = WCS(naxis=2) if is_dark else coordinates(exposure, chip, hdus, block)
            yield ChipPixels(
                version=chip.version,
                image=np.ma.getdata(chip.in_unit("electron"))[lit],
                quality=_flags(chip, detector)[lit],
                masked=_masked(chip)[lit],
                wcs=wcs if chip.image_area is None else wcs.slice(lit),
                area_cm2=chip.area_cm2 if chip.area_cm2 is not None else _area_cm2(chip, block),
                mdrizsky=number(hdus[chip.hdu].header, "MDRIZSKY"),
                saturated=None if detector.has_flags else chip.saturated[lit],
                frame_shape=chip.pixels.shape,
                lit=lit,
            )


def _area_cm2(chip: Chip, block: InstrumentBlock) -> float:
    """Return the area that sees light by the recipe, where the description of the instrument has no size of pixels."""
    return float(chip.lit_pixels * (block.pixel_size_um * 1e-4) ** 2 * np.prod(detector_of(block).binning(chip.keywords)))


def _check(exposure: Exposure, block: InstrumentBlock, labels: Labels, is_dark: bool) -> None:
    wanted = detector_of(block)
    if exposure.instrument is None or exposure.instrument.name != wanted.name:
        raise InvalidFileError(f"{exposure.path}: is of {exposure.description}, the recipe takes exposures of {wanted.name}")
    if is_dark:
        _check_dark(exposure)
    elif block.description is not None and (found := frame_kind(exposure.keywords)) and found[0].is_of != "other_detector":
        kind, keyword = found
        value = text(exposure.keywords, keyword)
        raise InvalidFileError(f"{exposure.path}: {keyword} is {value}: this is {kind.meaning}, no exposure of the sky")
    for chip in exposure.chips:
        is_calibrated = chip.unit.quantity == "electron" and not chip.unit.per_second
        if LABEL_METHODS[labels].is_calibrated and not is_calibrated:
            raise InvalidFileError(
                f"{chip.where}: is in {chip.unit.spellings[0]}: expected ELECTRONS, as in calibrated exposures"
            )
        if labels == "astrodrizzle":
            _check_layout(chip)
            check_distortion_cards(chip.header, chip.where)
        chip.factor("electron")  # raises without a gain
        if chip.exposure_time_s is None:
            keyword = (wanted.exposure_time_keywords or ["EXPTIME"])[0]
            raise InvalidFileError(f"{chip.where}: has no positive {keyword}: expected the exposure time in seconds")


def _check_layout(chip: Chip) -> None:
    """Refuse an image that AstroDrizzle would find elsewhere, or of another shape, than this package does."""
    if chip.hdu == 0:
        raise InvalidFileError(
            f"{chip.where}: is in the primary HDU: expected extensions SCI, as calibrated exposures have them"
        )
    if chip.image_area is not None:
        raise InvalidFileError(
            f"{chip.where}: its header says that a part of the frame sees no light (DATASEC, TRIMSEC): expected a "
            "calibrated exposure, of which all is an image"
        )


def _check_scale(chip: Chip, wcs: WCS, block: InstrumentBlock) -> None:
    """Refuse another scale than the camera's: AstroDrizzle's grid has pixels of this side, and would be of any size.

    It takes IDCSCALE, else the root of the area of a pixel (stwcs.distortion.utils.make_orthogonal_cd).
    """
    expected, matrix = block.pixel_scale_arcsec, wcs.celestial.pixel_scale_matrix * 3600
    of_area = np.sqrt(np.abs(np.linalg.det(matrix)))
    scales = [number(chip.header, "IDCSCALE") or of_area, of_area, *np.hypot(*matrix)]
    if not expected / 2 <= min(scales) or not scales[0] <= 2 * expected:
        shown = ", ".join(f"{scale:g}" for scale in scales)
        raise InvalidFileError(
            f"{chip.where}: the sides of its pixels are {shown} arcsec (IDCSCALE and WCS): expected about {expected:g}"
        )


def _check_dark(exposure: Exposure) -> None:
    """Check the keywords of a frame's kind, else the target's name; stars in a dark would be taught as cosmic rays."""
    found = frame_kind(exposure.keywords)
    if found is not None and found[0].is_of == "dark":
        return
    kind, target = text(exposure.keywords, "IMAGETYP"), text(exposure.keywords, "TARGNAME")
    if not (kind or target).upper().startswith("DARK"):
        what = f"its IMAGETYP is {kind}" if kind else f"it has no IMAGETYP, and its target is {target or 'not named'}"
        raise InvalidFileError(f"{exposure.path}: {what}: expected DARK, a dark exposure")


def _flags(chip: Chip, detector: Instrument) -> NDArray[np.integer]:
    """Return the DQ flags, all 0 in raw frames, whose DQ is not filled in yet, and for a camera that has none."""
    is_raw = chip.image_area is not None and chip.unit.quantity == "adu"
    if is_raw or (chip.quality.flags is None and not detector.has_flags):
        return np.zeros(chip.pixels.shape, dtype=np.int16)
    if chip.quality.flags is None:
        raise InvalidFileError(
            f"{chip.where}: has no DQ: expected an extension DQ,{chip.version}, as calibrated exposures have"
        )
    return chip.quality.flags


def _masked(chip: Chip) -> NDArray[np.bool_]:
    return np.zeros(chip.pixels.shape, dtype=bool) if chip.quality.masked is None else chip.quality.masked
