"""Labelling of one visit: reject unsound exposures, label the others, cut and store their stamps."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.distance import pdist

from deepcr_zoo.dataset import darkpaste, dithered, drizzled, given, quality, repeats, store, truthlabels, visitdefects
from deepcr_zoo.dataset.alignment import measure_offsets
from deepcr_zoo.dataset.backgrounds import CandidateExposure, without_odd_backgrounds
from deepcr_zoo.dataset.exposures import ExposureFacts, name_in_records, read_facts
from deepcr_zoo.dataset.labelling import LabelledExposure, LabellingInMemory, VisitRejectedError
from deepcr_zoo.dataset.labelmethods import LABEL_METHODS
from deepcr_zoo.dataset.planned import PlannedVisit
from deepcr_zoo.dataset.sky import choose_sky_level
from deepcr_zoo.dataset.stamplayers import Cut, cutter, stamp_layers
from deepcr_zoo.dataset.visitdefects import ChipDefects, find_shared, with_defects
from deepcr_zoo.dataset.visits import SAME_PIXELS
from deepcr_zoo.files import new_folder, remove_own_folder, reporting_failures, scratch_folder
from deepcr_zoo.simulate import visits
from deepcr_zoo.simulate.truth import Truth, read_truth
from deepcr_zoo.zoo.recipe import Labels, QualityBlock

Labelling = drizzled.DrizzledLabelling | LabellingInMemory
Labeller = Callable[[PlannedVisit, Sequence[ExposureFacts], Path, Path], Labelling | quality.Outlier]
"""Label the sound exposures of a visit, with a scratch folder and a path for a log, or return one that is not sound."""

LABELLERS: dict[Labels, Labeller] = {
    "astrodrizzle": drizzled.label,
    "cr_split": repeats.label,
    "dark_paste": darkpaste.label,
    "dithers": dithered.label,
    "given": given.label,
    "truth": truthlabels.label,
}
"""The code of each of the `labelmethods.LABEL_METHODS`; apart from them, because labellers read exposures by these facts."""


@dataclass(frozen=True)
class Assessment:
    """What the masks of an exposure say of it."""

    masked: quality.MaskCount
    ignored_fraction: float
    cm2_s: float  # area that was searched x exposure time
    rate_ratio: float = math.nan
    rate_chance: float | None = None

    @property
    def rate(self) -> float:
        """Cosmic rays per cm2 and s."""
        return self.masked.groups / self.cm2_s if self.cm2_s else 0.0

    def fields(self, limits: QualityBlock) -> dict[str, Any]:
        """Return fields of the exposure's record."""
        return {
            "cosmic_ray_fraction": self.masked.fraction,
            "cosmic_rays_per_cm2_s": self.rate,
            "rate_ratio": self.rate_ratio if math.isfinite(self.rate_ratio) else None,
            "rate_chance": self.rate_chance,
            "star_excess": self.masked.star_excess,
            "star_excess_chance": self.masked.chance(limits.max_star_excess),
            "ignored_fraction": self.ignored_fraction,
        }


def label_visit(visit: PlannedVisit, home: store.Home) -> store.VisitRecord:
    """Label a visit and store its stamps, or return the record of the finished visit."""
    key = visit.key
    return finished_or_made(home, key, lambda scratch, folder: _label(visit, key, scratch, folder, home.log(key)))


def finished_or_made(home: store.Home, key: str, make: Callable[[Path, Path], store.VisitRecord]) -> store.VisitRecord:
    """Return the record of a finished visit, or that of `make`, which writes stamps to the second of two folders."""
    target = home.visit(key)
    judged = _moment(target)
    finished = home.finished_visit(key)
    if finished is not None:
        return finished
    if judged is not None and _moment(target) == judged:  # it has lost files; another process may have made it again
        with reporting_failures(target, store.ELSEWHERE):
            remove_own_folder(target, store.is_of_visit)
    with reporting_failures(target, store.ELSEWHERE), scratch_folder(target) as scratch, new_folder(target) as folder:
        record = make(scratch, folder)
        store.write_document(folder / store.VISIT_FILE, record)
    return record


def _moment(folder: Path) -> tuple[int, int] | None:
    """Return what another folder in its place would not share; None if there is none."""
    try:
        found = folder.stat()
    except OSError:
        return None
    return found.st_ino, found.st_ctime_ns


def _label(visit: PlannedVisit, key: str, scratch: Path, folder: Path, log: Path) -> store.VisitRecord:
    """Label the sound exposures; if one is an outlier, label again without it."""
    exposures = visit.exposures or _simulate(visit, scratch)
    sound, rejected = without_odd_backgrounds(visit, exposures)
    stored: dict[str, Any] = {"software": ""}
    rejection = None
    try:
        while isinstance(outcome := _attempt(visit, sound, len(exposures), scratch, folder, log), quality.Outlier):
            rejected.append(store.Rejected(what=sound.pop(outcome.index).facts.name, reason=outcome.reason))
        stored = outcome
    except VisitRejectedError as error:
        rejection = str(error)
    return store.VisitRecord(
        key=key,
        name=visit.name,
        field_type=visit.field_type,
        instrument=name_in_records(visit.instrument),
        filter_name=exposures[0].filter_name,
        stamp_size=visit.build.stamps.size,
        outlines=[outline.tolist() for one in sound for outline in one.facts.outlines],
        **stored,
        darks=[dark.name for dark in visit.darks],
        rejected=rejected,
        rejection=rejection,
    )


def _simulate(visit: PlannedVisit, scratch: Path) -> tuple[ExposureFacts, ...]:
    assert visit.simulated is not None
    folder = scratch / "simulated"
    folder.mkdir()
    written = visits.write(visit.simulated, folder)
    return tuple(one for path in written for one in read_facts(path, visit.instrument, visit.build.labels))


def _attempt(
    visit: PlannedVisit, sound: Sequence[CandidateExposure], planned: int, scratch: Path, folder: Path, log: Path
) -> dict[str, Any] | quality.Outlier:
    """Label exposures and store their stamps; return fields of the visit's record, or an outlier among the exposures."""
    if len(sound) < visit.build.quality.min_exposures:
        raise VisitRejectedError(_too_few(visit, len(sound), planned))
    with scratch_folder(scratch / "attempt") as attempt:
        labelling = LABELLERS[visit.build.labels](visit, [one.facts for one in sound], attempt, log)
        if isinstance(labelling, quality.Outlier):
            return labelling
        noise = [one.facts.read_noise_or(visit.instrument.read_noise_electron) for one in sound]
        defects = find_shared(visit, (labelling.labelled(index) for index in range(len(sound))), noise)
        assessments = _assess(visit, labelling, sound, defects)
        if labelling.compares_exposures and (
            outlier := _find_outlier(visit, assessments, labelling, all(one.facts.has_coordinates for one in sound))
        ):
            return outlier
        records = [
            _store(
                visit,
                with_defects(visit, labelling.labelled(index), defects),
                one,
                assessment,
                _alignment(labelling, index),
                folder,
            )
            for index, (one, assessment) in enumerate(zip(sound, assessments, strict=True))
        ]
    return {
        "exposures": records,
        "software": labelling.software,
        "largest_dither_arcsec": labelling.largest_dither_arcsec,
        "defects": visitdefects.records(defects),
    }


def assess(labelled: LabelledExposure, read_noise_electron: float, exposure_time_s: float) -> Assessment:
    """Count what the masks of an exposure mark; the rate is 0 if its exposure time is not known."""
    pixels = sum(chip.image.size for chip in labelled.chips)
    chips = zip(labelled.cosmic_rays, labelled.ignored, labelled.expected, strict=True)
    counts = (quality.count_masked(*chip, read_noise_electron) for chip in chips)
    masked = sum(counts, start=quality.MaskCount())
    area_cm2 = sum(chip.area_cm2 for chip in labelled.chips) * masked.pixels / pixels
    return Assessment(masked, 1 - masked.pixels / pixels, area_cm2 * exposure_time_s)


def _assess(
    visit: PlannedVisit, labelling: Labelling, sound: Sequence[CandidateExposure], defects: ChipDefects
) -> list[Assessment]:
    found = []
    for index, one in enumerate(sound):
        labelled = with_defects(visit, labelling.labelled(index), defects)
        found.append(assess(labelled, visit.instrument.read_noise_electron, one.facts.exposure_time_s))
    if not labelling.compares_exposures:
        return found
    rates = [one.rate for one in found]
    mean = float(np.mean(rates))  # where most exposures are too short for one cosmic ray, the median is zero
    usual = [rate or mean for rate in quality.typical_values(rates)]
    return [
        dataclasses.replace(one, rate_ratio=ratio, rate_chance=quality.chance_of_count(one.masked.groups, rate * one.cm2_s))
        for one, rate, ratio in zip(found, usual, quality.ratios_to_typical(rates), strict=True)
    ]


def _alignment(labelling: Labelling, index: int) -> dict[str, Any]:
    """Return fields of an exposure's record."""
    return {"fit_rms_pixels": labelling.fit_rms_pixels(index), "dither": labelling.comparison(index)}


def _find_outlier(
    visit: PlannedVisit, found: Sequence[Assessment], labelling: Labelling, has_coordinates: bool
) -> quality.Outlier | None:
    """Return the exposure that spoils the labels of the others, by its rate of cosmic rays or its alignment."""
    limits = visit.build.quality
    ratios = [quality.beyond_chance(one.rate_ratio, one.rate_chance) for one in found]
    worst = quality.find_worst(ratios, limits.max_rate_ratio)
    if worst is not None:
        rate, ratio = found[worst].rate, found[worst].rate_ratio
        others = ", ".join(f"{one.rate:.3g}" for number, one in enumerate(found) if number != worst)
        reason = f"its rate of {rate:.3g} cosmic rays per cm2 and s is {ratio:.2g} times what is usual in its visit"
        return quality.Outlier(
            worst, f"{reason}, whose others have {others} (build.quality.max_rate_ratio is {limits.max_rate_ratio:g})"
        )
    same_pixels = LABEL_METHODS[visit.build.labels].same_pixels
    excesses = [one.masked.star_excess or 0.0 for one in found]
    # without a WCS nothing else has shown that exposures are not dithered
    doubted = same_pixels and not has_coordinates and max(excesses) > limits.max_star_excess
    beyond_chance = any(one.masked.exceeds(limits.max_star_excess) for one in found)
    if not (beyond_chance or doubted):
        return None
    # a misaligned exposure spoils the masks of its partners too: only the images show which one it is
    shifts = measure_offsets([labelling.aligned(index) for index in range(len(found))])
    if same_pixels and pdist(shifts).min() > SAME_PIXELS:
        raise VisitRejectedError(
            f"no two of its exposures lie on the same pixels, by their stars, and labels {visit.build.labels} compare "
            "repeats: choose build.labels dithers for dithered exposures"
        )
    if not beyond_chance:
        return None
    offsets = np.hypot(*shifts.T)
    index = int(np.argmax(offsets))
    excess = max(excesses)
    return quality.Outlier(
        index,
        f"the masks of its visit cluster on stars, {excess:.2g} times as many as in dark sky "
        f"(build.quality.max_star_excess is {limits.max_star_excess:g}), and it lies farthest beside the others, by "
        f"{offsets[index]:.2f} pixels",
    )


def _store(
    visit: PlannedVisit,
    labelled: LabelledExposure,
    one: CandidateExposure,
    assessment: Assessment,
    alignment: Mapping[str, Any],
    folder: Path,
) -> store.ExposureRecord:
    facts = one.facts
    sky = choose_sky_level(visit.build.sky, [chip.mdrizsky for chip in labelled.chips], one.sky_electron)
    tensors = stamp_layers(labelled, visit.build.stamps, sky.electron)
    both: dict[str, Any] = {"exposure_time_s": facts.exposure_time_s, "sky_electron": sky.electron, "sky_source": sky.source}
    about = {
        "exposure": facts.name,
        "visit": visit.name,
        "field_type": visit.field_type,
        "instrument": name_in_records(visit.instrument),
        "filter": facts.filter_name,
        **both,
    }
    repeat = f"-{facts.versions[0]}"
    rootname = facts.name.removesuffix(repeat if facts.name.endswith(f"{facts.observation}{repeat}") else "")
    return store.ExposureRecord(
        name=facts.name,
        rootname=None if rootname == store.without_number(facts.name) else rootname,
        stamps=store.write_tensors(folder / f"{facts.name}.safetensors", tensors, about),
        truth=_store_truth(one, cutter(labelled, visit.build.stamps), about, folder / f"{facts.name}.truth.safetensors"),
        count=len(tensors["image"]),
        **both,
        background_ratio=one.background_ratio,
        **assessment.fields(visit.build.quality),
        read_noise_electron=facts.read_noise_electron,
        **alignment,
        cautions=list(facts.cautions),
    )


def _store_truth(one: CandidateExposure, cut: Cut, about: dict[str, Any], path: Path) -> store.StoredFile | None:
    if one.truth is None:
        return None
    found = read_truth(one.truth)
    chips: list[Truth] = [found[version - 1] for version in one.facts.versions]
    layers = {field.name: [getattr(chip, field.name) for chip in chips] for field in dataclasses.fields(Truth)}
    return store.write_tensors(path, {name: cut(layer, np.float32) for name, layer in layers.items()}, about)


def _too_few(visit: PlannedVisit, left: int, planned: int) -> str:
    needed = visit.build.quality.min_exposures
    sound = f"{left} of {planned} exposures is sound" if left == 1 else f"{left} of {planned} exposures are sound"
    count = sound if left < planned else f"the visit has {left} exposure{'s' if left != 1 else ''}"
    return f"{count}, labels need {needed} (build.quality.min_exposures)"
