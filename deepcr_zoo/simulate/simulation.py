"""Simulated visits: dithered exposures of one field, each with its own cosmic rays and noise, written as FLC files."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deepcr_zoo.errors import UsageError
from deepcr_zoo.files import write_together
from deepcr_zoo.simulate import VERSION
from deepcr_zoo.simulate.bounds import MOST_SECONDS
from deepcr_zoo.simulate.cameras import camera
from deepcr_zoo.simulate.cosmicrays import IN_ORBIT, cosmic_rays
from deepcr_zoo.simulate.detector import Defects, draw_defects, read_out, unflagged_warm_pixels
from deepcr_zoo.simulate.flc import ExposureLabel, ReadChip, flc_bytes
from deepcr_zoo.simulate.imaging import PointSpreadTransforms, render
from deepcr_zoo.simulate.optics import point_spread
from deepcr_zoo.simulate.pointing import DITHERS_ARCSEC, ChipPointing, Window, deproject, dither, identify, point_chip
from deepcr_zoo.simulate.scenes import CONTENTS, Floats, SceneSources, draw_scene
from deepcr_zoo.simulate.truth import Truth, truth_bytes, truth_path
from deepcr_zoo.zoo.recipe import MOST_SEEDS, SIMULATED_FIELD_TYPES, SimulatedFieldType, SimulatedInstrument

READOUT_S = 50.0  # time in seconds that cosmic rays still hit a chip during readout, mean over the rows (assumed)
MEAN_DEFOCUS, DEFOCUS_SCATTER = 0.03, 0.025
"""Waves rms, assumed: despace varies by some micrometres within an orbit (Cox & Lallo 2012, Proc. SPIE 8442)."""

POINTING_ERROR_PIXELS = 0.09  # sigma relative to the header, each axis: fitted to Zhang & Bloom 2020, Table 2
SKY_SCATTER = 0.15  # sigma of the natural logarithm of the sky level between visits, as zodiacal light varies (assumed)
_SCENE_MARGIN_ARCSEC = 5.0
_OVERHEAD_S = 120.0
_FIRST_MJD = 56_000.0
_LEAST_SIDE = 128

# independent random streams of a visit
_SETTING, _SCENE, _DEFECTS, _POINTING, _COSMIC_RAYS, _READING = range(6)


@dataclass(frozen=True)
class SimulatedVisit:
    """A visit to simulate.

    Attributes
    ----------
    instrument : SimulatedInstrument
    field_type : {"extragalactic", "globular_cluster", "resolved_galaxy"}
    seed : int
        Below `deepcr_zoo.zoo.recipe.MOST_SEEDS`. Field type and seed fix proposal, visit and patch of sky; no two visits
        of a camera share any of these.
    exposures : int
        Number of dithered exposures.
    exposure_time_s : float
    side : int or None
        Side of a cut-out of chip 1 in pixels; None for full frames.
    """

    instrument: SimulatedInstrument
    field_type: SimulatedFieldType
    seed: int
    exposures: int
    exposure_time_s: float
    side: int | None = None


def write_visit(visit: SimulatedVisit, folder: Path) -> list[Path]:
    """Simulate a visit and write ``ROOT_flc.fits`` and ``ROOT_truth.safetensors`` for each exposure.

    Parameters
    ----------
    visit : SimulatedVisit
    folder : Path
        Created if it does not exist; files of the same names are replaced.

    Returns
    -------
    list of Path
        The FLC files, in the order of the exposures.

    Raises
    ------
    UsageError
        If the visit cannot be simulated.
    """
    check(visit)
    simulation = _Simulation(visit)
    paths = []
    for exposure in range(visit.exposures):
        label, chips, truths = simulation.expose(exposure)
        path = folder / f"{label.root}_flc.fits"
        flc = flc_bytes(label, chips, visit.instrument, simulation.camera)
        write_together({truth_path(path): truth_bytes(truths), path: flc})
        paths.append(path)
    return paths


def check(visit: SimulatedVisit) -> None:
    """Raise `UsageError` if a visit cannot be simulated."""
    rows, columns = visit.instrument.chip_shape
    if visit.side is not None and not _LEAST_SIDE <= visit.side <= min(rows, columns):
        raise UsageError(
            f"side: expected {_LEAST_SIDE} to {min(rows, columns)} pixels, which is what a chip of "
            f"{visit.instrument.instrument}/{visit.instrument.detector} has, got {visit.side}"
        )
    if not 0 <= visit.seed < MOST_SEEDS:
        raise UsageError(f"seed: expected 0 to {MOST_SEEDS - 1}, each of which has a patch of sky, got {visit.seed}")
    if not 1 <= visit.exposures <= len(DITHERS_ARCSEC):
        raise UsageError(f"exposures: expected 1 to {len(DITHERS_ARCSEC)}, got {visit.exposures}")
    if not 0 < visit.exposure_time_s <= MOST_SECONDS:
        raise UsageError(f"exposure_time_s: expected > 0 and at most {MOST_SECONDS:g}, got {visit.exposure_time_s:g}")


@dataclass(frozen=True)
class _SimulatedChip:
    """Properties of a chip that do not change between exposures."""

    window: Window
    defects: Defects
    unflagged_excess: NDArray[np.float32]
    transfers: NDArray[np.float32]


class _Simulation:
    """A visit with its scene and detector, which simulates one exposure at a time."""

    def __init__(self, visit: SimulatedVisit) -> None:
        self.visit = visit
        self.camera = camera(visit.instrument)
        self.identity = identify(visit.field_type, visit.seed, self.camera)
        setting = self._rng(_SETTING)
        self.roll_deg = float(setting.uniform(0, 360))
        self.sky_electron_s = visit.instrument.sky_electron_s * float(np.exp(setting.normal(0, SKY_SCATTER)))
        self.chips = [self._chip(window) for window in _windows(visit, setting)]
        self.scene = self._draw_scene()
        self.scene_sky = [deproject(places / 3600, self.identity.centre) for places in (self.scene.stars, self.scene.blobs)]

    def expose(self, exposure: int) -> tuple[ExposureLabel, list[ReadChip], list[Truth]]:
        """Return the label, the chips and the truth of one exposure."""
        rng = self._rng(_POINTING, exposure)
        offset = dither(exposure, rng)
        error = rng.normal(0, POINTING_ERROR_PIXELS, 2) * self.visit.instrument.pixel_scale_arcsec
        defocus = MEAN_DEFOCUS + rng.normal(0, DEFOCUS_SCATTER)
        transforms = PointSpreadTransforms(point_spread(self.visit.instrument, defocus), self.chips[0].window.shape)
        exposed = [self._expose_chip(exposure, chip, offset, error, transforms) for chip in self.chips]
        return self._label(exposure), [chip for chip, _ in exposed], [truth for _, truth in exposed]

    def _expose_chip(
        self, exposure: int, chip: _SimulatedChip, offset: Floats, error: Floats, transforms: PointSpreadTransforms
    ) -> tuple[ReadChip, Truth]:
        visit, shape = self.visit, chip.window.shape
        seconds = visit.exposure_time_s
        light = render(self._sources(self._point(chip.window, offset + error)), transforms, shape)
        sky_electron = (self.sky_electron_s + CONTENTS[visit.field_type].diffuse_electron_s) * seconds
        scene = light + np.float32(sky_electron) + chip.unflagged_excess * np.float32(seconds)
        rng = self._rng(_COSMIC_RAYS, exposure, chip.window.chip)
        hits = cosmic_rays(shape, seconds + READOUT_S, visit.instrument, IN_ORBIT, rng)
        rng = self._rng(_READING, exposure, chip.window.chip)
        reading = read_out(scene, hits, chip.defects, chip.transfers, seconds, visit.instrument, rng)
        return ReadChip(self._point(chip.window, offset), reading, sky_electron), Truth(hits, scene, reading.noise)

    def _rng(self, stream: int, *index: int) -> np.random.Generator:
        """Return the generator of a stream, which is the same in every run."""
        visit = self.visit
        name = zlib.crc32(f"{visit.instrument.instrument}/{visit.instrument.detector}".encode())
        field = SIMULATED_FIELD_TYPES.index(visit.field_type)
        return np.random.default_rng([VERSION, name, visit.seed, field, stream, *index])

    def _chip(self, window: Window) -> _SimulatedChip:
        """Draw a chip; its defects do not depend on the window, since they are drawn for the whole chip."""
        rows, columns = self.visit.instrument.chip_shape
        rng = self._rng(_DEFECTS, window.chip)
        defects = draw_defects((rows, columns), rng)
        warm = unflagged_warm_pixels((rows, columns), rng)
        (top, left), (height, width) = window.corner, window.shape
        part = (slice(top, top + height), slice(left, left + width))
        # chip 2 is read at its lower edge, chip 1 at its upper one
        transfers = np.arange(1, rows + 1) if window.chip == 2 else np.arange(-rows, 0)
        kept = Defects(defects.quality[part], defects.excess[part])
        return _SimulatedChip(window, kept, warm[part], transfers[part[0]].astype(np.float32))

    def _draw_scene(self) -> SceneSources:
        instrument, content = self.visit.instrument, CONTENTS[self.visit.field_type]
        height = sum(chip.window.shape[0] for chip in self.chips) + instrument.chip_gap_pixels * (len(self.chips) - 1)
        width = self.chips[0].window.shape[1]
        # the corners of a distorted field bulge by a few percent
        x, y = (0.52 * side * instrument.pixel_scale_arcsec + _SCENE_MARGIN_ARCSEC for side in (width, height))
        pointing = self._point(self.chips[0].window, np.zeros(2))
        roll = np.linalg.inv(pointing.pixels_per_arcsec) / instrument.pixel_scale_arcsec
        return draw_scene(content, instrument.zeropoint_ab, (x, y), np.asarray(roll), self._rng(_SCENE))

    def _point(self, window: Window, offset_arcsec: Floats) -> ChipPointing:
        """Point a chip at an offset (x, y) from the centre of the visit."""
        instrument = self.visit.instrument
        still = point_chip(window, self.identity.centre, self.roll_deg, instrument, self.camera)
        step_deg = still.cd @ (offset_arcsec / instrument.pixel_scale_arcsec)
        aim = deproject(step_deg[None], self.identity.centre)[0]
        return point_chip(window, (float(aim[0]), float(aim[1])), self.roll_deg, instrument, self.camera)

    def _sources(self, pointing: ChipPointing) -> SceneSources:
        """Return the sources near a chip, in its pixels and in electrons."""
        seconds = self.visit.exposure_time_s
        turn = pointing.pixels_per_arcsec
        stars, blobs = (pointing.pixels(places) for places in self.scene_sky)
        star, blob = (np.isfinite(places[:, 0]) for places in (stars, blobs))
        return SceneSources(
            stars=stars[star],
            star_light=self.scene.star_light[star] * seconds,
            blobs=blobs[blob],
            blob_light=self.scene.blob_light[blob] * seconds,
            blob_covariances=turn @ self.scene.blob_covariances[blob] @ turn.T,
        )

    def _label(self, exposure: int) -> ExposureLabel:
        visit, identity = self.visit, self.identity
        step_days = (visit.exposure_time_s + _OVERHEAD_S) / 86_400
        return ExposureLabel(
            root=identity.root_name(self.camera.letter, exposure),
            identity=identity,
            number=exposure + 1,
            target="SIMULATED-" + visit.field_type.upper().replace("_", "-"),
            start_mjd=_FIRST_MJD + 0.1 * (identity.number % 10_000) + exposure * step_days,
            seconds=visit.exposure_time_s,
            filter_name=visit.instrument.simulated_filter,
            origin=(
                f"Simulated by deepcr-zoo, simulator version {VERSION}, seed {visit.seed},",
                f"field type {visit.field_type}. Not an observation.",
            ),
        )


def _windows(visit: SimulatedVisit, rng: np.random.Generator) -> list[Window]:
    """Return the windows that are read, in the order of EXTVER: chip 2 comes first in a full frame."""
    rows, columns = visit.instrument.chip_shape
    if visit.side is None:
        numbers = (2, 1) if visit.instrument.chips == 2 else (1,)
        return [Window(number, (0, 0), (rows, columns)) for number in numbers]
    corner = (int(rng.integers(0, rows - visit.side + 1)), int(rng.integers(0, columns - visit.side + 1)))
    return [Window(1, corner, (visit.side, visit.side))]
