"""How a camera reads its frames: where light and overscan lie, as its description says, and what counts come out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from deepcr_zoo.errors import UsageError
from deepcr_zoo.simulate.plaincameras import PlainCamera
from deepcr_zoo.zoo.instruments import Amplifier, Overscan, matches
from deepcr_zoo.zoo.sections import BIAS_SECTION, IMAGE_SECTIONS, Section, section_of

Cards = dict[str, str | int | float | bool]

_OVERSCAN_COLUMNS = 16  # of each amplifier, where the description does not fix them
_BIAS_COUNT, _BIAS_STEP = 1000.0, 37.0  # level of the first amplifier, and of each further one (assumed)
_HIGHEST = 2**16 - 1
_ANY_SHAPE = (10**6, 10**6)


@dataclass(frozen=True)
class Region:
    """The pixels of one amplifier that see light, and their bias level and gain."""

    light: Section
    dark: Section | None
    bias_count: float
    gain: float


@dataclass(frozen=True)
class Readout:
    """The geometry of a frame as read."""

    shape: tuple[int, int]
    box: Section  # rows and columns around all pixels that see light
    regions: tuple[Region, ...]
    cards: Mapping[str, str | int | float | bool] = field(default_factory=dict)  # what the header says of it

    @property
    def lit(self) -> NDArray[np.bool_]:
        """True where a pixel of the box sees light."""
        frame = np.zeros(self.shape, bool)
        for region in self.regions:
            frame[region.light] = True
        return np.asarray(frame[self.box])

    def counts(self, electrons: NDArray[np.float32], noise: NDArray[np.float32]) -> NDArray[np.uint16]:
        """Return the counts of a frame whose `box` holds these electrons; `noise`, in e-, has its whole shape."""
        frame = noise.copy()
        frame[self.box] += np.where(self.lit, electrons, np.float32(0))
        counts = frame / self.regions[0].gain + self.regions[0].bias_count
        for region in self.regions:
            for part in (region.light, region.dark):
                if part is not None:
                    counts[part] = frame[part] / region.gain + region.bias_count
        return np.asarray(np.clip(np.rint(counts), 0, _HIGHEST).astype(np.uint16))


def is_fixed(camera: PlainCamera) -> bool:
    """True if the description has whole frames only, so that no smaller one can be read."""
    known = camera.description
    return bool(known.overscan) or any(_is_section(place) for one in known.amplifiers for place in (one.image, one.bias))


def readout(camera: PlainCamera, shape: tuple[int, int]) -> Readout:
    """Return the geometry of frames of which this shape sees light."""
    known, gain = camera.description, camera.block.gain_electron_per_count
    if known.overscan:
        return _of_known_frame(camera, shape)
    if any(_is_section(one.image) for one in known.amplifiers):
        return _of_sections(camera)
    if known.bias_count is not None and not known.amplifiers:
        whole = np.s_[0 : shape[0], 0 : shape[1]]
        return Readout(shape, whole, (Region(whole, None, known.bias_count, gain),))
    return _side_by_side(known.amplifiers or [Amplifier(image=IMAGE_SECTIONS[0], bias=BIAS_SECTION)], shape, gain)


def literal(pattern: str | list[str]) -> str:
    """Return a value that a pattern of a description matches."""
    first = pattern if isinstance(pattern, str) else pattern[0]
    return first.replace("*", "").replace("?", "0").replace("[", "").split("]")[0].strip()


def _of_known_frame(camera: PlainCamera, shape: tuple[int, int]) -> Readout:
    """Return the first geometry of the description with this binning whose lit part has this shape."""
    binned: Cards = dict(zip(camera.description.binning_keywords, camera.settings.binning, strict=False))
    for geometry in camera.description.overscan:
        requires: Cards = {name: literal(value) for name, value in geometry.requires.items()}
        box = _lit_box(geometry)
        lit = tuple(part.stop - part.start for part in box)
        if lit == shape and matches({**requires, **binned}, geometry.requires):
            dark = np.s_[box[0], slice(*geometry.bias[0].level)]
            region = Region(box, dark, _BIAS_COUNT, camera.block.gain_electron_per_count)
            rows, columns = geometry.shape
            cards = {name: value for name, value in requires.items() if name not in binned}
            return Readout((rows, columns), box, (region,), cards)
    found = ", ".join(
        f"{box[0].stop - box[0].start} x {box[1].stop - box[1].start}" for box in map(_lit_box, camera.description.overscan)
    )
    binning = " x ".join(map(str, camera.settings.binning))
    raise UsageError(
        f"instrument.chip_shape: no frame of {camera.description.name} binned {binning} "
        f"(instrument.simulation.binning) has {shape[0]} x {shape[1]} pixels that see light: its frames have {found}"
    )


def _lit_box(geometry: Overscan) -> Section:
    rows = geometry.image_rows.get("1") or next(iter(geometry.image_rows.values()))
    return slice(*rows), slice(*geometry.image_columns)


def _of_sections(camera: PlainCamera) -> Readout:
    """Return the geometry of amplifiers whose sections stand in the description."""
    places, own = [], camera.block.gain_electron_per_count
    for one in camera.description.amplifiers:
        light, dark = (section_of({}, place or "", _ANY_SHAPE) for place in (one.image, one.bias))
        if light is None:
            raise UsageError(
                f"{camera.description.name}: amplifiers.image {one.image} is no section: expected all amplifiers with "
                "sections, or all with keywords"
            )
        places.append((light, dark, one.gain if isinstance(one.gain, float) else own))
    every = [part for light, dark, _ in places for part in (light, dark) if part is not None]
    rows, columns = (max(part[axis].stop for part in every) for axis in (0, 1))
    lights = [light for light, _, _ in places]
    box = tuple(slice(min(one[axis].start for one in lights), max(one[axis].stop for one in lights)) for axis in (0, 1))
    regions = [Region(light, dark, _BIAS_COUNT + i * _BIAS_STEP, gain) for i, (light, dark, gain) in enumerate(places)]
    if len(regions) == 1 and regions[0].dark is None:  # the band beside the light
        columns += _OVERSCAN_COLUMNS
    return Readout((rows, columns), (box[0], box[1]), tuple(regions))


def _side_by_side(amplifiers: list[Amplifier], shape: tuple[int, int], own_gain: float) -> Readout:
    """Return strips of columns, one for each amplifier, with their overscan behind the light, and their keywords."""
    rows, columns = shape
    edges = np.linspace(0, columns, len(amplifiers) + 1).astype(int)
    regions, cards = [], Cards()
    for number, amplifier in enumerate(amplifiers):
        light = np.s_[0:rows, int(edges[number]) : int(edges[number + 1])]
        start = columns + number * _OVERSCAN_COLUMNS
        dark = np.s_[0:rows, start : start + _OVERSCAN_COLUMNS]
        gain = amplifier.gain if isinstance(amplifier.gain, float) else own_gain
        regions.append(Region(light, dark, _BIAS_COUNT + number * _BIAS_STEP, gain))
        cards[amplifier.image] = _written(light)
        if amplifier.bias is not None:
            cards[amplifier.bias] = _written(dark)
        if isinstance(amplifier.gain, str):
            cards[amplifier.gain] = gain
    whole = rows, columns + _OVERSCAN_COLUMNS * len(amplifiers)
    return Readout(whole, np.s_[0:rows, 0:columns], tuple(regions), cards)


def _is_section(place: str | None) -> bool:
    return place is not None and place.startswith("[")


def _written(section: Section) -> str:
    rows, columns = section
    return f"[{columns.start + 1}:{columns.stop},{rows.start + 1}:{rows.stop}]"
