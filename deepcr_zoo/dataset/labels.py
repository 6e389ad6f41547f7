"""One visit from exposures to labelled stamps: quality gate, AstroDrizzle, ignore masks, stamps, files."""

from __future__ import annotations

import dataclasses
import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepcr_zoo.dataset import alignment, coverage, drizzle, footprints, ignore, quality, sky, stamps
from deepcr_zoo.dataset.coverage import GoodPixels
from deepcr_zoo.dataset.drizzle import DrizzledVisit
from deepcr_zoo.dataset.exposures import ChipPixels, ExposureFacts, detector_of, read_chips, read_facts
from deepcr_zoo.dataset.quality import MaskCount
from deepcr_zoo.dataset.store import (
    FORMAT,
    VISIT_FILE,
    ExposureRecord,
    Home,
    Rejected,
    StoredFile,
    VisitRecord,
    disk_full_is_told,
    key_of,
    write_document,
    write_tensors,
)
from deepcr_zoo.errors import DrizzleError, InterruptedWorkError
from deepcr_zoo.files import new_folder, scratch_folder
from deepcr_zoo.recipe import BuildBlock, FieldType, IgnoreBlock, InstrumentBlock, Split, TweakReg
from deepcr_zoo.simulate import VERSION as SIMULATOR
from deepcr_zoo.simulate.truth import Truth, read_truth, truth_path
from deepcr_zoo.simulate.visits import SimulatedVisit, write_visit


@dataclass(frozen=True)
class PlannedVisit:
    """A visit that is to be labelled.

    Attributes
    ----------
    name : str
    field_type : FieldType
    split : Split
    exposures : tuple of ExposureFacts
        Its files; none if it is to be simulated.
    simulated : SimulatedVisit or None
    tweakreg : TweakReg or None
    instrument : InstrumentBlock
    build : BuildBlock
    """

    name: str
    field_type: FieldType
    split: Split
    exposures: tuple[ExposureFacts, ...]
    simulated: SimulatedVisit | None
    tweakreg: TweakReg | None
    instrument: InstrumentBlock
    build: BuildBlock

    @property
    def key(self) -> str:
        """The hash of all that the stamps depend on."""
        build = self.build
        whole = self.instrument.model_dump(mode="json")
        if self.simulated is None:
            origin: Any = [exposure.sha256 for exposure in self.exposures]
            instrument = {name: whole[name] for name in ("telescope", "instrument", "detector", "read_noise_electron")}
        else:
            origin = {"simulator": SIMULATOR, **{k: v for k, v in vars(self.simulated).items() if k != "instrument"}}
            instrument = whole
        return key_of(
            {
                "format": FORMAT,
                "origin": origin,
                "name": self.name,
                "field_type": self.field_type,
                "instrument": instrument,
                "detector": detector_of(self.instrument).model_dump(mode="json", exclude={"sources"}),
                "tweakreg": self.tweakreg and self.tweakreg.model_dump(mode="json"),
                "drizzle": build.drizzle.model_dump(mode="json"),
                "ignore": build.ignore.model_dump(mode="json"),
                "stamps": build.stamps.model_dump(mode="json", exclude={"validation_fraction"}),
                "sky": build.sky,
                "quality": build.quality.model_dump(mode="json", exclude={"on_bad_file"}),
            }
        )


@dataclass(frozen=True)
class _Candidate:
    """An exposure that has not been rejected so far."""

    facts: ExposureFacts
    truth: Path | None
    measured_electron: float
    background_ratio: float | None


@dataclass(frozen=True)
class _Labelled:
    """All chips of an exposure with their labels, in the order of EXTVER."""

    chips: list[ChipPixels]
    cosmic_rays: list[NDArray[np.bool_]]
    ignored: list[NDArray[np.bool_]]
    blotted: list[NDArray[np.float32]]


@dataclass(frozen=True)
class _Assessment:
    """What the quality gate found on a drizzled exposure."""

    masked: MaskCount
    ignored_fraction: float
    rate: float
    rate_ratio: float = 1.0


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
    """Drizzle the sound exposures; where one is out of line, again without it, until all are sound or too few are left."""
    exposures = visit.exposures or _simulate(visit, scratch)
    sound, rejected = _without_odd_backgrounds(visit, exposures)
    while True:
        if len(sound) < visit.build.quality.min_exposures:
            verdict = _Verdict(rejection=_too_few(visit, len(sound), len(exposures)))
            break
        with scratch_folder(scratch / "drizzle") as attempt:
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
        rejected=rejected,
        rejection=verdict.rejection,
    )


def _simulate(visit: PlannedVisit, scratch: Path) -> tuple[ExposureFacts, ...]:
    assert visit.simulated is not None
    folder = scratch / "simulated"
    folder.mkdir()
    return tuple(read_facts(path, visit.instrument) for path in write_visit(visit.simulated, folder))


def _without_odd_backgrounds(
    visit: PlannedVisit, exposures: Sequence[ExposureFacts]
) -> tuple[list[_Candidate], list[Rejected]]:
    """The exposures whose background is that of their visit, and the others."""
    kept = _kept_bits(visit)
    measured = [_measured_level(visit, exposure, kept) for exposure in exposures]
    left = [index for index, level in enumerate(measured) if math.isfinite(level)]
    rejected = [
        Rejected(what=exposure.name, reason="all of its pixels are to be ignored")
        for exposure, level in zip(exposures, measured, strict=True)
        if not math.isfinite(level)
    ]
    while len(left) >= visit.build.quality.min_exposures:
        rates = [measured[index] / exposures[index].exposure_time_s for index in left]
        odd = _odd_background(visit, rates, [exposures[index].exposure_time_s for index in left])
        if odd is None:
            break
        rejected.append(Rejected(what=exposures[left[odd[0]]].name, reason=odd[1]))
        del left[odd[0]]
    rates = [measured[index] / exposures[index].exposure_time_s for index in left]
    truths = [truth_path(exposures[index].path) if visit.simulated else None for index in left]
    return [
        _Candidate(exposures[index], truth, measured[index], ratio if math.isfinite(ratio) else None)
        for index, truth, ratio in zip(left, truths, quality.ratios(rates) if left else (), strict=True)
    ], rejected


def _odd_background(visit: PlannedVisit, rates: Sequence[float], times_s: Sequence[float]) -> tuple[int, str] | None:
    """The exposure whose background (e-/s) is farthest out of line, and why it has to go; None if there is none."""
    limit, ratios = visit.build.quality.max_background_ratio, quality.ratios(rates)
    # what is off by less than the read noise is not off: near zero a ratio means nothing
    off = [abs(rate - usual) * time for rate, usual, time in zip(rates, quality.usual(rates), times_s, strict=True)]
    within = visit.instrument.read_noise_electron
    index = quality.worst([1.0 if one < within else ratio for one, ratio in zip(off, ratios, strict=True)], limit)
    if index is None:
        return None
    reason = f"its background of {rates[index]:.3g} e-/s is {ratios[index]:.2g} times what is usual in its visit"
    return index, f"{reason} (build.quality.max_background_ratio is {limit:g})"


def _measured_level(visit: PlannedVisit, exposure: ExposureFacts, kept: int) -> float:
    chips = read_chips(exposure.path, exposure.sha256)
    ignored = [ignore.ignore_mask(chip.image, chip.quality, kept, visit.build.ignore) for chip in chips]
    return sky.measure([chip.image for chip in chips], ignored)


def _good_bits(visit: PlannedVisit) -> int:
    """DQ bits that AstroDrizzle shall not take for bad pixels: those of saturation and cosmic rays."""
    detector = detector_of(visit.instrument)
    known = detector.saturation is not None and detector.cosmic_ray_bit is not None
    return ignore.kept_bits(IgnoreBlock() if known else visit.build.ignore, detector)


def _attempt(visit: PlannedVisit, sound: list[_Candidate], attempt: Path, folder: Path, log: Path) -> _Verdict:
    files = [one.facts.path for one in sound]
    good_bits = _good_bits(visit)
    try:
        drizzled = drizzle.drizzle_visit(files, attempt, visit.build.drizzle, good_bits, visit.tweakreg, log)
    except DrizzleError as error:
        # names within the data folder: the same bytes wherever it is
        told = str(error).replace(str(log), f"{log.parent.name}/{log.name}")
        return _Verdict(rejection=f"{told} (to try again, remove visits/{log.stem} from the data folder)")
    except InterruptedWorkError as error:
        raise InterruptedWorkError(f"{visit.name}: {error}") from None
    if drizzled.fit_rms_pixels and max(drizzled.fit_rms_pixels) > visit.build.drizzle.max_fit_rms_pixels:
        return _Verdict(rejection=_badly_aligned(visit, drizzled.fit_rms_pixels, sound))
    good = [_good_pixels(read_chips(drizzled.exposure(index)), good_bits) for index in range(len(sound))]
    if not any(len(stamps.positions(chip.good.shape, visit.build.stamps)) for chips in good for chip in chips):
        size, border = visit.build.stamps.size, visit.build.stamps.border
        return _Verdict(rejection=f"its chips are too small for stamps of {size} pixels within borders of {border}")
    assessments = _assess(visit, drizzled, good, sound)
    out_of_line = _out_of_line(visit, assessments, drizzled)
    if out_of_line is not None:
        return _Verdict(out_of_line=out_of_line)
    written = tuple(
        _write(visit, _labelled(visit, drizzled, good, index), one, assessment, drizzled.rms(index), folder)
        for index, (one, assessment) in enumerate(zip(sound, assessments, strict=True))
    )
    return _Verdict(written, drizzled.software, _largest_dither(good))


def _good_pixels(chips: Sequence[ChipPixels], good_bits: int) -> list[GoodPixels]:
    return [GoodPixels((chip.quality.astype(np.int64) & ~good_bits) == 0, chip.wcs) for chip in chips]


def _labelled(visit: PlannedVisit, drizzled: DrizzledVisit, good: list[list[GoodPixels]], index: int) -> _Labelled:
    """The labels of an exposure; what no other exposure has seen has none, and is ignored."""
    others = [chip for other, chips in enumerate(good) if other != index for chip in chips]
    kept = _kept_bits(visit)
    chips = read_chips(drizzled.exposure(index))
    labels = [drizzled.label(index, chip.version) for chip in chips]
    ignored = [
        ignore.ignore_mask(chip.image, chip.quality, kept, visit.build.ignore) | ~coverage.seen_by_others(own, others)
        for chip, own in zip(chips, good[index], strict=True)
    ]
    return _Labelled(chips, [label.cosmic_rays for label in labels], ignored, [label.blotted for label in labels])


def _assess(
    visit: PlannedVisit, drizzled: DrizzledVisit, good: list[list[GoodPixels]], sound: Sequence[_Candidate]
) -> list[_Assessment]:
    found = []
    for index, one in enumerate(sound):
        labelled = _labelled(visit, drizzled, good, index)
        pixels = sum(chip.image.size for chip in labelled.chips)
        chips = zip(labelled.cosmic_rays, labelled.ignored, labelled.blotted, strict=True)
        counts = (quality.count_masked(*chip, visit.instrument.read_noise_electron) for chip in chips)
        masked = sum(counts, start=MaskCount())
        area_cm2 = sum(chip.area_cm2 for chip in labelled.chips) * masked.pixels / pixels
        rate = masked.groups / (area_cm2 * one.facts.exposure_time_s) if area_cm2 else 0.0
        found.append(_Assessment(masked, 1 - masked.pixels / pixels, rate))
    ratios = quality.ratios([one.rate for one in found])
    return [dataclasses.replace(one, rate_ratio=ratio) for one, ratio in zip(found, ratios, strict=True)]


def _out_of_line(visit: PlannedVisit, found: Sequence[_Assessment], drizzled: DrizzledVisit) -> tuple[int, str] | None:
    """The exposure that has to go, and why; None if all are sound."""
    limits = visit.build.quality
    worst = quality.worst([one.rate_ratio for one in found], limits.max_rate_ratio)
    if worst is not None:
        rate, ratio = found[worst].rate, found[worst].rate_ratio
        reason = f"its rate of {rate:.3g} cosmic rays per cm2 and s is {ratio:.2g} times what is usual in its visit"
        return worst, f"{reason} (build.quality.max_rate_ratio is {limits.max_rate_ratio:g})"
    if not any(one.masked.exceeds(limits.max_star_excess) for one in found):
        return None
    # a misaligned exposure spoils the masks of its partners too: the images tell which it is
    offsets = np.hypot(*alignment.offsets([drizzled.resampled(index) for index in range(len(found))]).T)
    index = int(np.argmax(offsets))
    excess = max(one.masked.star_excess or 0.0 for one in found)
    return index, (
        f"the masks of its visit cluster on stars, {excess:.2g} times as many as in dark sky "
        f"(build.quality.max_star_excess is {limits.max_star_excess:g}), and it lies farthest beside the others, by "
        f"{offsets[index]:.2f} pixels"
    )


def _write(
    visit: PlannedVisit,
    labelled: _Labelled,
    one: _Candidate,
    assessment: _Assessment,
    fit_rms_pixels: float | None,
    folder: Path,
) -> ExposureRecord:
    """Cut an exposure up and store its stamps."""
    size, facts = visit.build.stamps.size, one.facts
    level = sky.sky_level(visit.build.sky, [chip.mdrizsky for chip in labelled.chips], one.measured_electron)
    where = [stamps.positions(chip.image.shape, visit.build.stamps) for chip in labelled.chips]

    def cut(layers: Sequence[NDArray[Any]], dtype: type[np.generic]) -> NDArray[Any]:
        return np.concatenate([stamps.cut(layer, at, size) for layer, at in zip(layers, where, strict=True)]).astype(dtype)

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


def _kept_bits(visit: PlannedVisit) -> int:
    return ignore.kept_bits(visit.build.ignore, detector_of(visit.instrument))


def _largest_dither(good: list[list[GoodPixels]]) -> float:
    """Largest distance between exposures, arcsec, at the middle of their first chips."""
    middles = []
    for chips in good:
        height, width = chips[0].good.shape
        middles.append(chips[0].wcs.all_pix2world([[width / 2, height / 2]], 0)[0])
    return max((float(footprints.distance_arcsec(one, other)) for one, other in combinations(middles, 2)), default=0.0)


def _too_few(visit: PlannedVisit, left: int, all_of_them: int) -> str:
    needed = visit.build.quality.min_exposures
    sound = f"{left} of {all_of_them} exposures is sound" if left == 1 else f"{left} of {all_of_them} exposures are sound"
    count = sound if left < all_of_them else f"the visit has {left} exposure{'s' if left != 1 else ''}"
    return f"{count}, labels need {needed} (build.quality.min_exposures)"


def _badly_aligned(visit: PlannedVisit, rms: Sequence[float], sound: Sequence[_Candidate]) -> str:
    worst = int(np.argmax(rms))
    found = f"with an RMS of {rms[worst]:.2f} pixels" if math.isfinite(rms[worst]) else "not at all, it found too few stars"
    return (
        f"TweakReg aligned {sound[worst].facts.name} {found}: expected {visit.build.drizzle.max_fit_rms_pixels:g} or better "
        "(build.drizzle.max_fit_rms_pixels)"
    )
