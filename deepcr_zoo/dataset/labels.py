"""One visit from exposures to labelled stamps: quality gate, labels, ignore masks, stamps, files."""

from __future__ import annotations

import dataclasses
import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepcr_zoo.dataset import darkpaste, drizzled, footprints, quality, repeats, splits
from deepcr_zoo.dataset.backgrounds import Candidate, without_odd_backgrounds
from deepcr_zoo.dataset.exposures import ExposureFacts, detector_of, read_facts
from deepcr_zoo.dataset.labelling import LabelledExposure, Labelling, VisitRejectedError
from deepcr_zoo.dataset.planned import PlannedVisit
from deepcr_zoo.dataset.quality import MaskCount
from deepcr_zoo.dataset.store import (
    VISIT_FILE,
    ExposureRecord,
    Home,
    Rejected,
    StoredFile,
    VisitRecord,
    disk_full_is_told,
    write_document,
    write_tensors,
)
from deepcr_zoo.files import new_folder, scratch_folder
from deepcr_zoo.simulate.simulation import write_visit
from deepcr_zoo.simulate.truth import Truth, read_truth
from deepcr_zoo.zoo.recipe import Labels

LabelMethod = Callable[[PlannedVisit, Sequence[ExposureFacts], Path, Path], Labelling]
"""Labels the sound exposures of a visit, with a folder for what it needs meanwhile, and a place for its log."""

METHODS: dict[Labels, LabelMethod] = {
    "astrodrizzle": drizzled.label,
    "cr_split": repeats.label,
    "dark_paste": darkpaste.label,
}


@dataclass(frozen=True)
class _Assessment:
    """What the quality gate found on a labelled exposure."""

    masked: MaskCount
    ignored_fraction: float
    rate: float
    rate_ratio: float = math.nan


@dataclass(frozen=True)
class _Verdict:
    """What came of an attempt to label a visit: stamps, an exposure that has to go first, or nothing at all."""

    written: tuple[ExposureRecord, ...] = ()
    software: str = ""
    largest_dither_arcsec: float = 0.0
    out_of_line: tuple[int, str] | None = None
    rejection: str | None = None


def label_visit(visit: PlannedVisit, home: Home) -> VisitRecord:
    """Label a visit and store its stamps, unless that is done already.

    Raises
    ------
    InvalidFileError
        If a file has changed or gone since the visit was planned.
    InterruptedWorkError
        If drizzlepac was killed, or the machine failed it.
    OutputError
        If the disk is full.
    """
    key = visit.key
    finished = home.finished_visit(key)
    if finished is not None:
        return finished
    target = home.visit(key)
    shutil.rmtree(target, ignore_errors=True)  # of a visit that has lost files
    with disk_full_is_told(home, visit.name), scratch_folder(target) as scratch, new_folder(target) as folder:
        record = _label(visit, key, scratch, folder, home.log(key))
        write_document(folder / VISIT_FILE, record)
    return record


def _label(visit: PlannedVisit, key: str, scratch: Path, folder: Path, log: Path) -> VisitRecord:
    """Label the sound exposures; where one is out of line, again without it, until all are sound or too few are left."""
    exposures = visit.exposures or _simulate(visit, scratch)
    sound, rejected = without_odd_backgrounds(visit, exposures)
    while True:
        if len(sound) < visit.build.quality.min_exposures:
            verdict = _Verdict(rejection=_too_few(visit, len(sound), len(exposures)))
            break
        with scratch_folder(scratch / "attempt") as attempt:
            verdict = _attempt(visit, sound, attempt, folder, log)
        if verdict.out_of_line is None:
            break
        index, reason = verdict.out_of_line
        rejected.append(Rejected(what=sound.pop(index).facts.name, reason=reason))
    return VisitRecord(
        key=key,
        name=visit.name,
        field_type=visit.field_type,
        instrument=detector_of(visit.instrument).name,
        filter_name=exposures[0].filter_name,
        stamp_size=visit.build.stamps.size,
        software=verdict.software,
        largest_dither_arcsec=verdict.largest_dither_arcsec,
        outlines=[outline.tolist() for one in sound for outline in one.facts.outlines],
        exposures=list(verdict.written),
        darks=[dark.name for dark in visit.darks],
        rejected=rejected,
        rejection=verdict.rejection,
    )


def _simulate(visit: PlannedVisit, scratch: Path) -> tuple[ExposureFacts, ...]:
    assert visit.simulated is not None
    folder = scratch / "simulated"
    folder.mkdir()
    return tuple(one for path in write_visit(visit.simulated, folder) for one in read_facts(path, visit.instrument))


def _attempt(visit: PlannedVisit, sound: list[Candidate], attempt: Path, folder: Path, log: Path) -> _Verdict:
    try:
        labelling = METHODS[visit.build.labels](visit, [one.facts for one in sound], attempt, log)
    except VisitRejectedError as error:
        return _Verdict(rejection=str(error))
    assessments = _assess(visit, labelling, sound)
    out_of_line = _out_of_line(visit, assessments, labelling)
    if out_of_line is not None:
        return _Verdict(out_of_line=out_of_line)
    written = tuple(
        _write(visit, labelling.labelled(index), one, assessment, labelling.fit_rms_pixels(index), folder)
        for index, (one, assessment) in enumerate(zip(sound, assessments, strict=True))
    )
    return _Verdict(written, labelling.software, labelling.largest_dither_arcsec)


def _assess(visit: PlannedVisit, labelling: Labelling, sound: Sequence[Candidate]) -> list[_Assessment]:
    found = []
    for index, one in enumerate(sound):
        labelled = labelling.labelled(index)
        pixels = sum(chip.image.size for chip in labelled.chips)
        chips = zip(labelled.cosmic_rays, labelled.ignored, labelled.expected, strict=True)
        counts = (quality.count_masked(*chip, visit.instrument.read_noise_electron) for chip in chips)
        masked = sum(counts, start=MaskCount())
        area_cm2 = sum(chip.area_cm2 for chip in labelled.chips) * masked.pixels / pixels
        rate = masked.groups / (area_cm2 * one.facts.exposure_time_s) if area_cm2 else 0.0
        found.append(_Assessment(masked, 1 - masked.pixels / pixels, rate))
    if not labelling.by_others:
        return found
    ratios = quality.ratios([one.rate for one in found])
    return [dataclasses.replace(one, rate_ratio=ratio) for one, ratio in zip(found, ratios, strict=True)]


def _out_of_line(visit: PlannedVisit, found: Sequence[_Assessment], labelling: Labelling) -> tuple[int, str] | None:
    """The exposure that has to go, and why; None if all are sound, or none spoils another."""
    if not labelling.by_others:
        return None
    limits = visit.build.quality
    worst = quality.worst([one.rate_ratio for one in found], limits.max_rate_ratio)
    if worst is not None:
        rate, ratio = found[worst].rate, found[worst].rate_ratio
        reason = f"its rate of {rate:.3g} cosmic rays per cm2 and s is {ratio:.2g} times what is usual in its visit"
        return worst, f"{reason} (build.quality.max_rate_ratio is {limits.max_rate_ratio:g})"
    if not any(one.masked.exceeds(limits.max_star_excess) for one in found):
        return None
    # a misaligned exposure spoils the masks of its partners too: the images tell which it is
    offsets = np.hypot(*quality.offsets([labelling.aligned(index) for index in range(len(found))]).T)
    index = int(np.argmax(offsets))
    excess = max(one.masked.star_excess or 0.0 for one in found)
    return index, (
        f"the masks of its visit cluster on stars, {excess:.2g} times as many as in dark sky "
        f"(build.quality.max_star_excess is {limits.max_star_excess:g}), and it lies farthest beside the others, by "
        f"{offsets[index]:.2f} pixels"
    )


def _write(
    visit: PlannedVisit,
    labelled: LabelledExposure,
    one: Candidate,
    assessment: _Assessment,
    fit_rms_pixels: float | None,
    folder: Path,
) -> ExposureRecord:
    """Cut an exposure up and store its stamps."""
    size, facts = visit.build.stamps.size, one.facts
    level = quality.sky_level(visit.build.sky, [chip.mdrizsky for chip in labelled.chips], one.sky_electron)
    where = [splits.positions(chip.image.shape, visit.build.stamps) for chip in labelled.chips]

    def cut(layers: Sequence[NDArray[Any]], dtype: type[np.generic]) -> NDArray[Any]:
        return np.concatenate([splits.cut(layer, at, size) for layer, at in zip(layers, where, strict=True)]).astype(dtype)

    images = [np.where(np.isfinite(chip.image), chip.image, np.float32(level.electron)) for chip in labelled.chips]
    chips = list(zip(labelled.chips, where, strict=True))
    tensors = {
        "image": cut(images, np.float32),
        "cosmic_rays": cut(labelled.cosmic_rays, np.uint8),
        "ignore": cut(labelled.ignored, np.uint8),
        "position": np.concatenate(where),
        "chip": np.concatenate([np.full(len(at), chip.version, np.int32) for chip, at in chips]),
        "corners": np.concatenate([footprints.corners(chip.wcs, at, size) for chip, at in chips]),
    }
    about = {
        "exposure": facts.name,
        "visit": visit.name,
        "field_type": visit.field_type,
        "instrument": detector_of(visit.instrument).name,
        "filter": facts.filter_name,
        "exposure_time_s": facts.exposure_time_s,
        "sky_electron": level.electron,
        "sky_source": level.source,
    }
    return ExposureRecord(
        name=facts.name,
        stamps=write_tensors(folder / f"{facts.name}.safetensors", tensors, about),
        truth=_write_truth(one.truth, cut, about, folder / f"{facts.name}.truth.safetensors"),
        count=len(tensors["image"]),
        exposure_time_s=facts.exposure_time_s,
        sky_electron=level.electron,
        sky_source=level.source,
        background_ratio=one.background_ratio,
        cosmic_ray_fraction=assessment.masked.fraction,
        cosmic_rays_per_cm2_s=assessment.rate,
        rate_ratio=assessment.rate_ratio if math.isfinite(assessment.rate_ratio) else None,
        star_excess=assessment.masked.star_excess,
        star_excess_chance=assessment.masked.chance(visit.build.quality.max_star_excess),
        ignored_fraction=assessment.ignored_fraction,
        read_noise_electron=facts.read_noise_electron,
        fit_rms_pixels=fit_rms_pixels,
        cautions=list(facts.cautions),
    )


def _write_truth(
    source: Path | None,
    cut: Callable[[Sequence[NDArray[Any]], type[np.generic]], NDArray[Any]],
    about: dict[str, Any],
    path: Path,
) -> StoredFile | None:
    if source is None:
        return None
    chips: list[Truth] = read_truth(source)
    layers = {field.name: [getattr(chip, field.name) for chip in chips] for field in dataclasses.fields(Truth)}
    return write_tensors(path, {name: cut(layer, np.float32) for name, layer in layers.items()}, about)


def _too_few(visit: PlannedVisit, left: int, all_of_them: int) -> str:
    needed = visit.build.quality.min_exposures
    sound = f"{left} of {all_of_them} exposures is sound" if left == 1 else f"{left} of {all_of_them} exposures are sound"
    count = sound if left < all_of_them else f"the visit has {left} exposure{'s' if left != 1 else ''}"
    return f"{count}, labels need {needed} (build.quality.min_exposures)"
