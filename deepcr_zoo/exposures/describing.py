"""Describe a camera by its files: facts of the headers, compared with the pixels as the product reads them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

from deepcr_zoo.documents import parse_yaml
from deepcr_zoo.errors import InvalidDocumentError, InvalidFileError, UsageError
from deepcr_zoo.exposures.inspection import InspectedChip, gain_of_pair, inspect
from deepcr_zoo.exposures.missing import MissingFactsError
from deepcr_zoo.exposures.proposals import Draft, propose
from deepcr_zoo.exposures.reading import Exposure, read_exposure
from deepcr_zoo.exposures.readingoptions import ReadingOptions
from deepcr_zoo.exposures.survey import Survey, SurveyedFile, survey
from deepcr_zoo.models.images import has_value
from deepcr_zoo.zoo.instrumentfiles import KnownInstrument, KnownInstruments, default_instruments
from deepcr_zoo.zoo.instruments import Instrument
from deepcr_zoo.zoo.sections import section_of

MOST_MEASURED = 6
"""Files of which pixels are read; headers are read of all."""

_GAINS_AGREE = 1.5  # times: the noise of spectra and crowded fields gives the gain no better
_READ_NOISES_AGREE = 1.5  # times
_LEVELS_DIFFER = 1.5  # times the noise of a pixel; a slope along the overscan of one amplifier is smaller
GIVEN = "given by a person"
"""Source of a fact that no file states."""

_FIELDS = {"--bias": "bias_count", "--unit": "unit_if_absent", "--gain": "gain_electron_per_count"}
"""Fields of a description that make options of `clean` unnecessary."""


@dataclass(frozen=True)
class Described:
    """A proposed description of a camera."""

    instrument: Instrument
    guessed: list[str]  # fields that no header states
    missing: dict[str, str]  # what no header says, by the field that would hold it
    notes: list[str]  # what a person should look at

    def source(self, name: str) -> str:
        """Return where a fact was found."""
        return self.instrument.sources.get(name, "")


def describe_camera(paths: Sequence[Path], name: str | None = None, settings: Sequence[str] = ()) -> Described:
    """Propose the description of the camera that took these exposures and calibration frames.

    `settings` are facts that a person gives, ``field=VALUE``; they replace those of headers. Raises `UsageError` if the
    files are of several cameras, or of none that headers name.
    """
    surveyed = survey(paths)
    draft = propose(surveyed, name)
    for setting in settings:
        _set(draft, setting)
    _measure_bias(surveyed, draft)
    _part_overscan(surveyed, draft)
    _compare(surveyed, draft)
    return Described(draft.instrument(), draft.guessed, draft.missing, draft.notes)


def check_new(described: Instrument, where: Path, paths: Sequence[Path], replaced: Path | None) -> None:
    """Raise an error if another description has this name or headers already; `replaced` is the one that may be replaced."""
    known = tuple(one for one in default_instruments().known if replaced is None or one.where != str(replaced))
    for image, path in ((image, one.path) for one in survey(paths).files for image in one.images[:1]):
        if (other := KnownInstruments(known).recognise(image)) is not None:
            place = next(one.where for one in known if one.instrument == other)
            raise UsageError(f"{path}: is of {other.name}, which {place} describes: clean and build can read it already")
    KnownInstruments.merged([*known, KnownInstrument(described, str(where))])


def _set(draft: Draft, setting: str) -> None:
    name, equals, stated = setting.partition("=")
    if not equals or name not in Instrument.model_fields or name == "sources":
        raise UsageError(f"{setting}: expected FIELD=VALUE with one of {', '.join(Instrument.model_fields)}")
    content, _ = parse_yaml(stated, setting)
    draft.add(name, content, GIVEN)
    try:
        draft.instrument()
    except InvalidDocumentError as error:
        raise UsageError(f"{setting}: {error}") from None


def _measure_bias(surveyed: Survey, draft: Draft) -> None:
    """Take the bias level from bias frames, where headers show no overscan."""
    frames = [one for one in surveyed.files if one.is_bias]
    if "bias_count" not in draft.missing or not frames:
        return
    options = ReadingOptions(instrument=draft.instrument(), bias=0.0, unit=draft.facts.get("unit_if_absent"))
    levels = [float(np.median(read_exposure(one.path, options).chips[0].pixels)) for one in frames[:MOST_MEASURED]]
    draft.add("bias_count", round(median(levels), 1), f"median of the bias frame {frames[0].path.name}")


def _part_overscan(surveyed: Survey, draft: Draft) -> None:
    """Describe two amplifiers where the halves of the overscan columns that no header parts have different levels."""
    amplifiers, file = draft.facts.get("amplifiers", []), surveyed.lights[0]
    is_one_band = len(amplifiers) == 1 and "bias" not in amplifiers[0] and len(file.images) == 1
    exposure = _read(file, draft) if is_one_band else None
    if exposure is None or len(set(surveyed.shapes)) > 1:
        return
    if not exposure.chips[0].overscan:
        return  # its counts are not raw
    shape, band = file.shapes[0], exposure.chips[0].overscan[0]
    light = section_of(file.images[0], amplifiers[0]["image"], shape)
    if light is None or band.shape[0] != shape[0] or light[1].start != 0:
        return  # no columns behind the light
    halves = np.array_split(band, 2, axis=1)
    if not all(half.size and has_value(half).all() for half in halves):
        return  # a single column, or one without values, has no halves to compare
    levels = [float(np.median(half)) for half in halves]
    if abs(levels[0] - levels[1]) < _LEVELS_DIFFER * max(float(np.std(half)) for half in halves):
        return
    rows = f"{light[0].start + 1}:{light[0].stop}"
    width, first = light[1].stop, halves[0].shape[1]
    images = (1, width // 2), (width // 2 + 1, width)
    biases = (width + 1, width + first), (width + first + 1, width + band.shape[1])
    sections = [
        {"image": f"[{image[0]}:{image[1]},{rows}]", "bias": f"[{bias[0]}:{bias[1]},{rows}]"}
        for image, bias in zip(images, biases, strict=True)
    ]
    listed = " and ".join(f"{level:g}" for level in levels)
    draft.guess("amplifiers", sections, f"the overscan has two levels, {listed}: an amplifier for each half of the columns")


def _compare(surveyed: Survey, draft: Draft) -> None:
    """Compare gain and read noise with the pixels of exposures and flats; add what no header gives."""
    read = [(one, found) for one in _spread(surveyed) if (found := _read(one, draft)) is not None]
    chips = [chip for one, exposure in read if one.is_of_the_sky for chip in inspect(exposure)]
    by_noise = _gain_of_flats(read) or [chip.gain_by_noise for chip in chips if chip.gain_by_noise is not None]
    gain = median(by_noise) if by_noise else None
    stated = [chip.gain for chip in chips if chip.gain is not None]
    if gain is not None and "gain_electron_per_count" in draft.missing:
        reason = f"from level and noise of the background of {surveyed.named}"
        draft.guess("gain_electron_per_count", float(f"{gain:.3g}"), reason)
    elif gain is not None and stated:
        agrees = 1 / _GAINS_AGREE < median(stated) / gain < _GAINS_AGREE
        doubt = "" if agrees else ": it may be a setting, or the bias level is wrong; compare with the manual"
        draft.notes.append(
            f"the noise of the background implies a gain of about {gain:.2g} e- per count, the header has "
            f"{median(stated):g}{doubt}"
        )
    _compare_read_noise(draft, chips, gain)


def _compare_read_noise(draft: Draft, chips: Sequence[InspectedChip], gain: float | None) -> None:
    measured = [noise * used for chip in chips for noise in chip.overscan_noise_count if (used := chip.gain or gain)]
    if not measured:
        return
    noise, stated = median(measured), [one for chip in chips if (one := chip.read_noise_electron) is not None]
    if "read_noise_electron" in draft.missing:
        draft.guess("read_noise_electron", float(f"{noise:.3g}"), "the noise of the overscan, times the gain")
    elif stated and not 1 / _READ_NOISES_AGREE < median(stated) / noise < _READ_NOISES_AGREE:
        draft.notes.append(
            f"the noise of the overscan is {noise:.2g} e-, the header has a read noise of {median(stated):g} e-: gain, read "
            "noise or overscan may be wrong"
        )


def _spread(surveyed: Survey) -> list[SurveyedFile]:
    """Return the files whose pixels are measured: flats, if there are two or more, and exposures over the whole list."""
    flats = [one for one in surveyed.files if one.kind is not None and "FLAT*" in one.kind.values][:2]
    lights = [one for one in surveyed.files if one.is_of_the_sky]
    step = max(1, -(-len(lights) // MOST_MEASURED))
    return [*(flats if len(flats) > 1 else []), *lights[::step]]


def _read(file: SurveyedFile, draft: Draft) -> Exposure | None:
    try:
        return read_exposure(file.path, ReadingOptions(instrument=draft.instrument()))
    except MissingFactsError as error:
        for one in error.missing:
            draft.missing.setdefault(_FIELDS.get(one.option.split()[0], one.option), f"{one.what}: or give {one.option}")
    except InvalidFileError as error:
        draft.notes.append(f"it cannot be read: {error}")
    return None


def _gain_of_flats(read: Sequence[tuple[SurveyedFile, Exposure]]) -> list[float]:
    flats = [exposure for file, exposure in read if not file.is_of_the_sky]
    if len(flats) < 2:
        return []
    pairs = zip(flats[0].chips, flats[1].chips, strict=False)
    return [gain for one, other in pairs if (gain := gain_of_pair(one, other)) is not None]
