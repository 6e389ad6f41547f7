"""Mask networks and L.A.Cosmic on real repeats: each exposure of a pair shows the other's cosmic rays.

The frames are those of spectrographs on the ground (WHT/ISIS, Lick/Kast) and in orbit (HST/STIS); no network of the zoo was
trained on them, none of their figures was used to choose anything. A pixel is labelled if it is connected to one that lies
more than 6 sigma above the other exposure, through pixels above 3 sigma; its neighbours, pixels between 2.5 and 3 sigma, and
those that cosmic rays of the other exposure hide are left out, as are saturated pixels of the ground, their neighbours, and
labels connected to them: the rim of a saturated region differs between exposures. Hot pixels are in both exposures and count
as clean. The sky
lines of spectra are not quite the same in both: along the slit their median difference is subtracted, and sigma is at least
what the difference scatters there.

    python benchmarks/repeats.py --data DATA --models CCD-ANY-3-16 ACS-WFC-2-32 --cosmic-conn conn/bin/python

Networks that need no unit are judged on the same frames in other units, too. A model may also be the folder of a run.
L.A.Cosmic has the best of a grid of sigclip and objlim at each FPR, chosen on these very pixels; a dash says that no setting
has so few false pixels.
"""

from __future__ import annotations

import argparse
import datetime
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from astropy.io import fits
from cosmic_conn import cosmic_conns
from networks import mask_model
from numpy.typing import NDArray
from scipy import ndimage
from synthetic_visits import command

from deepcr_zoo.bench.operatingpoints import FPRS
from deepcr_zoo.exposures.reading import read_exposure
from deepcr_zoo.machine import processor_name
from deepcr_zoo.models.baselines import Lacosmic

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]
Counts = NDArray[np.float64]

UNITS: dict[str, Callable[[Image], Image]] = {
    "electrons": lambda image: image,
    "x 0.25": lambda image: image * np.float32(0.25),
    "x 4": lambda image: image * np.float32(4),
    "+ 10,000": lambda image: image + np.float32(10_000),
    "sky subtracted": lambda image: image - np.median(image),
}
SURE, CONNECTED, DOUBTFUL = 6.0, 3.0, 2.5  # sigma of the difference
BOX = (15, 15)  # sides of the box whose median difference is that of the backgrounds
ROWS_ALONG_SLIT, COLUMNS_ALONG_SLIT = (51, 1), (1, 51)  # the same of spectra
GAUSSIAN = 1.4826  # sigma of a Gaussian, by its median absolute deviation
HIGHEST = 2**16 - 1  # counts of a saturated pixel
BLOCK = 64  # side of a block of pixels that is resampled as a whole
RESAMPLINGS = 500
BINS = 4096  # of a network's logits
SIGCLIPS = (2.5, 4.0, 5.0, 6.3, 8.0, 10.0, 14.0, 20.0, 28.0, 40.0)
OBJLIMS = (1.0, 2.0, 3.5, 5.0, 8.0)


class Network(Protocol):
    """What gives each pixel of an image in electrons a score."""

    def logits(self, image: Image) -> Image: ...


@dataclass(frozen=True)
class Amplifier:
    """A part of a raw frame and its overscan: rows and columns."""

    lit: tuple[slice, slice]
    overscan: tuple[slice, slice]


@dataclass(frozen=True)
class Pair:
    """Two exposures in electrons, shape (H, W), the pixels that are saturated in one of them, and their read noise in e-."""

    name: str
    images: tuple[Image, Image]
    saturated: Mask
    read_noise: float
    box: tuple[int, int] = BOX


@dataclass(frozen=True)
class Frame:
    """An exposure with its labels; `counted` leaves out pixels of which the pair says nothing."""

    image: Image
    read_noise: float
    struck: Mask
    counted: Mask

    @property
    def blocks(self) -> NDArray[np.int64]:
        rows, columns = (np.arange(side) // BLOCK for side in self.image.shape)
        return np.asarray(rows[:, None] * (columns[-1] + 1) + columns)


GROUND = {
    "ISIS blue": (
        ("r2324653.fit.gz", "r2324656.fit.gz"),
        (Amplifier(np.s_[0:4099, 0:483], np.s_[4104:4190, 97:483]),),
        1.2,
        5.0,
        COLUMNS_ALONG_SLIT,
    ),
    "Kast blue": (
        ("b27.fits.gz", "b28.fits.gz"),
        (
            Amplifier(np.s_[0:350, 0:1024], np.s_[0:350, 2050:2080]),
            Amplifier(np.s_[0:350, 1024:2048], np.s_[0:350, 2082:2112]),
        ),
        1.2,
        3.8,
        ROWS_ALONG_SLIT,
    ),
    "Kast red": (
        ("r534.fits.gz", "r535.fits.gz"),
        (Amplifier(np.s_[0:250, 0:1200], np.s_[0:250, 1202:1232]),),
        1.2,
        6.3,
        ROWS_ALONG_SLIT,
    ),
}
"""Files, amplifiers, gain, read noise and direction of the slit: headers, data/frames/README.md where these are silent or
wrong, and the scatter of the overscan."""

STIS = ("o56502020", "o56502030", "o56502040", "o56502050")
"""Observations whose two exposures have the same background."""


def ground_pair(name: str, folder: Path) -> Pair:
    """Return the frames of a pair without overscan and bias."""
    files, amplifiers, gain, read_noise, box = GROUND[name]
    images, saturated = [], []
    for file in files:
        raw = next(hdu.data for hdu in fits.open(folder / file) if hdu.data is not None).astype(np.float32)
        saturated.append(np.concatenate([raw[one.lit] >= HIGHEST for one in amplifiers], axis=1))
        parts = [raw[one.lit] - np.median(raw[one.overscan]) for one in amplifiers]
        images.append(np.concatenate(parts, axis=1) * np.float32(gain))
    return Pair(name, (images[0], images[1]), saturated[0] | saturated[1], read_noise, box)


def stis_pair(root: str, folder: Path) -> Pair:
    """Return the two exposures of an observation, as this package reads raw frames of STIS."""
    chips = read_exposure(folder / f"{root}_raw.fits").chips
    images = []
    for chip in chips:
        assert chip.image_area is not None  # STIS has overscan
        rows, columns = ndimage.find_objects(chip.image_area.astype(np.int8))[0]
        images.append(np.ma.getdata(chip.in_unit("electron"))[rows, columns].astype(np.float32))
    return Pair(root, (images[0], images[1]), np.zeros(images[0].shape, bool), 5.0)  # no region is saturated


def pairs(name: str, data: Path) -> list[Pair]:
    """Return the pairs of a spectrograph, below the folder with frames/ and stis_crsplit/."""
    if name in GROUND:
        return [ground_pair(name, data / "frames")]
    return [stis_pair(one, data / "stis_crsplit") for one in STIS]


def labelled(pair: Pair) -> tuple[Frame, Frame]:
    """Return both exposures with their labels."""
    one, other = pair.images
    difference = one - other
    difference -= ndimage.median_filter(difference, pair.box)
    quiet = ndimage.median_filter(np.minimum(one, other), 3)
    expected = np.sqrt(2 * pair.read_noise**2 + 2 * np.maximum(quiet, 0))
    sigma = np.maximum(expected, GAUSSIAN * ndimage.median_filter(np.abs(difference), pair.box))
    signals = difference / sigma, -difference / sigma
    struck = [ndimage.binary_propagation(one > SURE, mask=one > CONNECTED, structure=np.ones((3, 3))) for one in signals]
    frames = []
    for image, signal, mine, theirs in zip(pair.images, signals, struck, struck[::-1], strict=True):
        near = ndimage.binary_dilation(mine, np.ones((3, 3))) & ~mine
        hidden = ndimage.binary_dilation(theirs, np.ones((3, 3))) & ~mine
        doubtful = (signal > DOUBTFUL) & ~mine
        saturated = ndimage.binary_dilation(pair.saturated, np.ones((3, 3)))
        rim = ndimage.binary_propagation(saturated & mine, mask=mine, structure=np.ones((3, 3)))
        frames.append(Frame(image, pair.read_noise, mine, ~(near | hidden | doubtful | saturated | rim)))
    return frames[0], frames[1]


def by_block(frame: Frame, groups: NDArray[np.integer], count: int) -> Counts:
    """Count the pixels of each block and group, clean ones and cosmic rays: shape (blocks, count, 2)."""
    block = frame.blocks[frame.counted]
    place = (block * count + groups[frame.counted]) * 2 + frame.struck[frame.counted]
    found = np.bincount(place, minlength=(int(frame.blocks.max()) + 1) * count * 2)
    return found.reshape(-1, count, 2).astype(np.float64)


def network_counts(model: Network, frames: Sequence[Frame]) -> Counts:
    """Count pixels by block and rank of their logit, the highest first."""
    logits = [model.logits(one.image) for one in frames]
    every = np.concatenate([one[frame.counted] for one, frame in zip(logits, frames, strict=True)])
    # fine where few are false: ranks from the top, evenly in their logarithm
    ranks = np.unique(np.geomspace(1, every.size, BINS).astype(int)) - 1
    edges = np.unique(-np.partition(-every, ranks)[ranks])
    counts = [
        by_block(frame, (len(edges) - np.searchsorted(edges, one, side="right")), len(edges) + 1)
        for one, frame in zip(logits, frames, strict=True)
    ]
    return np.concatenate(counts)


def network_tpr(counts: Counts, fpr: float) -> float:
    """Return the TPR where the FPR is this, from the pixels of each rank: shape (ranks, 2)."""
    clean, hits = np.cumsum(counts, axis=0).T
    return float(np.interp(fpr, clean / clean[-1], hits / hits[-1]))


def lacosmic_counts(frames: Sequence[Frame]) -> Counts:
    """Count masked pixels by block and setting, with all pixels last: shape (blocks, settings + 1, 2)."""
    counts = []
    for frame in frames:
        every = by_block(frame, np.zeros(frame.image.shape, int), 1)[:, 0]
        found = [
            by_block(frame, Lacosmic(objlim, frame.read_noise).mask(frame.image, sigclip).astype(int), 2)[:, 1]
            for objlim, sigclip in itertools.product(OBJLIMS, SIGCLIPS)
        ]
        counts.append(np.stack([*found, every], axis=1))
    return np.concatenate(counts)


def lacosmic_tpr(counts: Counts, fpr: float) -> float:
    """Return the best TPR of the settings with at most this FPR, NaN if there is none: shape (settings + 1, 2)."""
    clean, hits = counts.T
    allowed = clean[:-1] / clean[-1] <= fpr
    return float(np.max(hits[:-1][allowed]) / hits[-1]) if allowed.any() else float("nan")


def tprs(tpr: Callable[[Counts, float], float], counts: Counts, drawn: Counts) -> Counts:
    """Return the TPR in % at each FPR, of all blocks and then of each resampling: shape (FPRs, 1 + resamplings)."""
    summed = np.tensordot(np.vstack([np.ones(len(counts)), drawn]), counts, 1)
    return 100 * np.array([[tpr(one, fpr) for one in summed] for fpr in FPRS])


def row(name: str, values: Counts, sign: str = "") -> str:
    """Return a line of the table: the value at each FPR, with the interval that holds 95 % of the resamplings."""
    parts = []
    for value, *resampled in values:
        low, high = np.quantile(resampled, [0.025, 0.975])  # NaN if one of them is
        known = np.isfinite([value, low, high]).all()
        parts.append(f"{value:{sign}.1f} ({low:{sign}.1f} to {high:{sign}.1f})" if known else "-")
    return f"| {name} | " + " | ".join(parts) + " |"


def judge(name: str, frames: Sequence[Frame], models: Mapping[str, Network]) -> Iterator[str]:
    struck = sum(int((one.struck & one.counted).sum()) for one in frames)
    counted = sum(int(one.counted.sum()) for one in frames)
    yield f"\n{name}: {len(frames)} exposures, {struck} pixels of cosmic rays, {counted} that count\n"
    yield "| method | " + " | ".join(f"TPR at FPR {100 * fpr:g} %" for fpr in FPRS) + " |"
    yield "|---" * (len(FPRS) + 1) + "|"
    blocks = sum(int(frame.blocks.max()) + 1 for frame in frames)
    drawn = np.random.default_rng(1).multinomial(blocks, np.full(blocks, 1 / blocks), RESAMPLINGS).astype(float)
    found = {label: tprs(network_tpr, network_counts(model, frames), drawn) for label, model in models.items()}
    found["L.A.Cosmic, best of the grid"] = tprs(lacosmic_tpr, lacosmic_counts(frames), drawn)
    first, *others = found
    yield from itertools.starmap(row, found.items())
    for one in others:
        yield row(f"{first} less {one}, points", found[first] - found[one], "+")


def in_other_units(name: str, frames: Sequence[Frame], models: Mapping[str, Network]) -> Iterator[str]:
    """Return a table of the TPRs on the same frames in other units, of networks that need none."""
    yield f"\n{name}: TPR at FPR {', '.join(f'{100 * fpr:g}' for fpr in FPRS)} % on the same frames in other units\n"
    yield "| network | " + " | ".join(UNITS) + " |"
    yield "|---" * (len(UNITS) + 1) + "|"
    for label, model in models.items():
        cells = []
        for change in UNITS.values():
            counts = network_counts(model, [replace(frame, image=change(frame.image)) for frame in frames])
            cells.append(" / ".join(f"{100 * network_tpr(counts.sum(axis=0), fpr):.1f}" for fpr in FPRS))
        yield f"| {label} | " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with frames/ and stis_crsplit/")
    parser.add_argument("--models", nargs="+", default=["ACS-WFC-2-32"])
    parser.add_argument("--cosmic-conn", type=Path, help="Python of an environment with this package")
    parser.add_argument("--pairs", nargs="+", choices=[*GROUND, "STIS"], default=[*GROUND, "STIS"])
    given = parser.parse_args()
    models = {one: mask_model(one) for one in given.models}
    print(f"{datetime.date.today()}, {processor_name()}: {command()}")
    unitless = {label: model for label, model in models.items() if model.card.input.normalisation == "noise"}
    judged: dict[str, Network] = {**models, **cosmic_conns(given.cosmic_conn)}
    for name in given.pairs:
        frames = [frame for pair in pairs(name, given.data) for frame in labelled(pair)]
        for line in itertools.chain(judge(name, frames, judged), in_other_units(name, frames, unitless) if unitless else ()):
            print(line, flush=True)


if __name__ == "__main__":
    main()
