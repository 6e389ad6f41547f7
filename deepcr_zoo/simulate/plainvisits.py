"""Simulated visits of any camera: exposures of one field as it would write them, each with its truth."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
from astropy.io.fits import VerifyError
from numpy.typing import NDArray
from scipy.spatial import QhullError

from deepcr_zoo.documents import brief
from deepcr_zoo.errors import UsageError
from deepcr_zoo.files import write_together
from deepcr_zoo.machine import memory_shortage
from deepcr_zoo.simulate.bounds import MOST_ELECTRONS, MOST_SECONDS
from deepcr_zoo.simulate.cosmicrays import IN_ORBIT, cosmic_rays
from deepcr_zoo.simulate.detector import bloom
from deepcr_zoo.simulate.electronics import electronic_noise
from deepcr_zoo.simulate.groundscenes import field_content
from deepcr_zoo.simulate.imaging import PointSpreadTransforms, render
from deepcr_zoo.simulate.nebulae import Nebula
from deepcr_zoo.simulate.optics import point_spread
from deepcr_zoo.simulate.particles import ground_particles
from deepcr_zoo.simulate.plaincameras import PlainCamera
from deepcr_zoo.simulate.plainfits import PlainLabel, is_raw, plain_bytes
from deepcr_zoo.simulate.pointing import cell, deproject
from deepcr_zoo.simulate.readouts import Cards, is_fixed, readout
from deepcr_zoo.simulate.satellites import satellite_trails
from deepcr_zoo.simulate.scenes import SceneSources, draw_scene
from deepcr_zoo.simulate.seeing import Blur, core_variance, seeing_spread, wandering
from deepcr_zoo.simulate.spectra import draw_echelle, draw_spectra
from deepcr_zoo.simulate.truth import Truth, truth_bytes, truth_path
from deepcr_zoo.zoo.recipe import ANY_PRODUCT, FIELD_TYPES, MOST_SEEDS, FieldType, InstrumentBlock, SimulatedFieldType

VERSION = 2
"""Raised whenever the pixels of these exposures change; those of HST have a version of their own."""

MOST_EXPOSURES = 20
_FIRST_MJD, _OVERHEAD_S, _NIGHT_DAYS = 60_000.2, 60.0, 1.0
_LEAST_SIDE = 128
_MARGIN_PIXELS = 40.0  # sources beside the chip
_FULL_WELL = 1.1  # where charge blooms / saturation
_FLAT_SLOPE = 0.01  # change of the sensitivity over the frame (assumed)
_WARM_ELECTRON_S, _WARM_INDEX, _WARMEST = 0.1, 1.3, 20.0  # excess of warm pixels, Pareto (assumed)
_COLUMN_ELECTRON_S = (0.1, 1.0)  # excess of bad columns (assumed)
_HIGHEST_ZENITH_ANGLE = 50.0  # degrees
_DEFOCUS, _DEFOCUS_SCATTER = 0.03, 0.02  # waves rms, of a telescope in orbit (assumed)
_PIXEL_BYTES = 80  # of all layers of an exposure
_SOURCE_BYTES = 6000  # of a galaxy and its parts, measured
_DRIFT_PIXELS = 0.03  # sigma of the pointing of repeats (assumed)

# independent random streams of a visit
_SETTING, _SCENE, _DETECTOR, _EXPOSURE, _COSMIC_RAYS, _READING, _BLUR, _NEBULA, _SATELLITES = range(9)

Image = NDArray[np.float32]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class PlainVisit:
    """A visit of any camera to simulate; field type and seed fix all that is drawn."""

    instrument: InstrumentBlock
    field_type: FieldType
    seed: int
    exposures: int
    exposure_time_s: float
    side: int | None = None  # largest side, pixels; None for whole frames
    same_pixels: bool = False  # True if the exposures are repeats without dithers
    product: str = ANY_PRODUCT  # end of the file names

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns that see light."""
        rows, columns = self.instrument.chip_shape
        if self.side is None or is_fixed(PlainCamera(self.instrument)):
            return rows, columns
        return min(rows, self.side), min(columns, self.side)


def write_plain_visit(visit: PlainVisit, folder: Path) -> list[Path]:
    """Simulate a visit, write its files with ``ROOT_truth.safetensors`` beside each, and return their paths."""
    check(visit)
    with _as_described(visit):
        return _write(_Simulation(visit), visit, folder)


@contextmanager
def _as_described(visit: PlainVisit) -> Iterator[None]:
    """Raise `UsageError` where a description has keywords or sections of which no frame can be made."""
    try:
        yield
    except (ValueError, ArithmeticError, VerifyError, QhullError, np.linalg.LinAlgError) as error:
        name, problem = PlainCamera(visit.instrument).description.name, brief(" ".join(str(error).split()))
        raise UsageError(f"instrument: exposures of {name} cannot be simulated: {problem}") from None


def _write(simulation: _Simulation, visit: PlainVisit, folder: Path) -> list[Path]:
    exposed = [simulation.expose(number) for number in range(visit.exposures)]
    known = simulation.camera.description
    groups = [exposed] if known.every_chip_is_an_exposure else [[one] for one in exposed]
    paths = []
    for group in groups:
        labels, images, truths = zip(*group, strict=True)
        path = folder / f"{labels[0].root}{'' if visit.product == ANY_PRODUCT else '_' + visit.product}.fits"
        content = plain_bytes(simulation.camera, labels, images, simulation.frame)
        write_together({truth_path(path): truth_bytes(truths), path: content})
        paths.append(path)
    return paths


def check(visit: PlainVisit) -> None:
    """Raise `UsageError` if a visit cannot be simulated."""
    if visit.side is not None and visit.side < _LEAST_SIDE:
        raise UsageError(f"side: expected {_LEAST_SIDE} pixels or more, got {visit.side}")
    if not 0 <= visit.seed < MOST_SEEDS:
        raise UsageError(f"seed: expected 0 to {MOST_SEEDS - 1}, got {visit.seed}")
    if not 1 <= visit.exposures <= MOST_EXPOSURES:
        raise UsageError(f"exposures: expected 1 to {MOST_EXPOSURES}, got {visit.exposures}")
    if not 0 < visit.exposure_time_s <= MOST_SECONDS:
        raise UsageError(f"exposure_time_s: expected > 0 and at most {MOST_SECONDS:g}, got {visit.exposure_time_s:g}")
    settings = PlainCamera(visit.instrument).settings
    pixels = math.prod(visit.shape) * math.prod(settings.binning)
    sources = pixels * 1e-6 * (settings.sources_per_megapixel or 0.0)
    needed = pixels * _PIXEL_BYTES + sources * _SOURCE_BYTES
    if short := memory_shortage(needed):
        raise UsageError(
            f"a frame of {pixels:.2g} pixels and {sources:.2g} sources takes {needed / 1e9:.2g} GB, {short}: simulate a "
            "smaller side, or fewer sources"
        )


@dataclass(frozen=True, eq=False)
class _Detector:
    """Flaws of the detector, which are the same in all visits of a camera, shape (H, W)."""

    sensitivity: Image
    excess: Image  # dark current of warm pixels and bad columns, e- per second


@dataclass(frozen=True, eq=False)
class _Conditions:
    """What differs between exposures."""

    number: int  # of the exposure, from 0
    offset: Floats  # x and y, unbinned pixels
    fwhm_pixels: float
    transparency: float
    sky: float  # factor
    zenith_angle_deg: float
    rng: np.random.Generator


class _Simulation:
    """A visit with its scene and detector, which simulates one exposure at a time."""

    def __init__(self, visit: PlainVisit) -> None:
        self.visit = visit
        self.camera = PlainCamera(visit.instrument)
        self.settings = self.camera.settings
        self.frame = readout(self.camera, visit.shape) if is_raw(self.camera, visit.product) else None
        self.shape = visit.shape if self.frame is None else self.frame.lit.shape
        x, y = self.settings.binning
        self.unbinned = self.shape[0] * y, self.shape[1] * x
        setting = self._rng(_SETTING)
        self.zenith_angle_deg = float(setting.uniform(0, _HIGHEST_ZENITH_ANGLE))
        self.fwhm_pixels = self.camera.fwhm_pixels * float(np.exp(setting.normal(0, self.settings.seeing_spread)))
        self.detector = self._draw_detector()
        self.scene = _ImageScene(self) if visit.field_type in get_args(SimulatedFieldType) else _SlitScene(self)

    def expose(self, number: int) -> tuple[PlainLabel, NDArray[np.generic], Truth]:
        """Return the label, the pixels and the truth of one exposure."""
        seconds, block = self.visit.exposure_time_s, self.visit.instrument
        now = self._conditions(number)
        light, sky = (self._binned(layer) for layer in self.scene.layers(now))
        scene = (light * now.transparency + sky * now.sky) * np.float32(seconds) * self.detector.sensitivity
        scene += (self.camera.dark_electron_s + self.detector.excess) * np.float32(seconds)
        hits = self._binned(self._particles(number, now))
        if self.frame is not None:
            scene, hits = (np.where(self.frame.lit, layer, np.float32(0)) for layer in (scene, hits))
        if self.settings.unlit_columns:
            scene[:, -self.settings.unlit_columns :] = hits[:, -self.settings.unlit_columns :] = 0
        rng = self._rng(_READING, number)
        charge = rng.poisson(np.clip(scene, 0, MOST_ELECTRONS)).astype(np.float32) + hits
        bloom(charge, _FULL_WELL * block.saturation_electron)
        noise = np.sqrt(scene + np.float32(block.read_noise_electron**2))
        return self._label(number, now), self._read(charge, rng), Truth(hits, scene, noise)

    def _read(self, charge: Image, rng: np.random.Generator) -> NDArray[np.generic]:
        shape = charge.shape if self.frame is None else self.frame.shape
        noise = electronic_noise(shape, self.visit.instrument.read_noise_electron, self.settings, rng)
        if self.frame is not None:
            return self.frame.counts(charge, noise)
        electrons = charge + noise
        is_counted = self.camera.description.unit_if_absent == "adu"
        return np.asarray(electrons / np.float32(self.visit.instrument.gain_electron_per_count) if is_counted else electrons)

    def _particles(self, number: int, now: _Conditions) -> Image:
        rng, seconds = self._rng(_COSMIC_RAYS, number), self.visit.exposure_time_s
        if self.settings.site == "orbit":
            return cosmic_rays(self.unbinned, seconds, self.camera, IN_ORBIT, rng)
        return ground_particles(self.unbinned, seconds, self.camera, self.settings, now.zenith_angle_deg, rng)

    def _conditions(self, number: int) -> _Conditions:
        settings, rng = self.settings, self._rng(_EXPOSURE, number)
        step = rng.uniform(-1, 1, 2) * settings.dither_pixels * (number > 0)
        drift = rng.normal(0, _DRIFT_PIXELS, 2)
        steady = settings.site == "orbit"
        return _Conditions(
            number=number,
            offset=drift if self.visit.same_pixels else step + drift,
            fwhm_pixels=self.fwhm_pixels * (1.0 if steady else float(np.exp(rng.normal(0, settings.seeing_variation)))),
            transparency=1.0 if steady else float(rng.uniform(settings.least_transparency, 1)),
            sky=1.0 if steady else float(np.exp(rng.normal(0, settings.sky_variation))),
            zenith_angle_deg=self.zenith_angle_deg,
            rng=rng,
        )

    def _rng(self, stream: int, *index: int) -> np.random.Generator:
        """Return the generator of a stream, which is the same in every run."""
        block, field = self.visit.instrument, FIELD_TYPES.index(self.visit.field_type)
        name = zlib.crc32(f"{block.telescope}/{block.instrument}/{block.detector}".encode())
        own = () if stream == _DETECTOR else (self.visit.seed, field)
        return np.random.default_rng([VERSION, name, stream, *own, *index])

    def _binned(self, layer: Image) -> Image:
        (rows, columns), (x, y) = self.shape, self.settings.binning
        if (x, y) == (1, 1):
            return layer
        return np.asarray(layer.reshape(rows, y, columns, x).sum(axis=(1, 3)))

    def _draw_detector(self) -> _Detector:
        """Draw flat field and warm pixels of the whole chip, of which a frame may be a part, and the frame's bad columns."""
        rng, settings = self._rng(_DETECTOR), self.settings
        rows, columns = (max(sides) for sides in zip(self.visit.instrument.chip_shape, self.shape, strict=True))
        tilt = rng.uniform(-1, 1, 2) * _FLAT_SLOPE / 2
        y, x = np.linspace(-1, 1, rows)[:, None], np.linspace(-1, 1, columns)
        flat = (1 + tilt[0] * y + tilt[1] * x) * (1 + settings.flat_residual * rng.standard_normal((rows, columns)))
        excess = np.zeros((rows, columns), np.float32)
        count = round(settings.warm_pixels * rows * columns)
        warm = rng.integers(0, rows, count), rng.integers(0, columns, count)
        excess[warm] = np.minimum(_WARM_ELECTRON_S * (1 + rng.pareto(_WARM_INDEX, count)), _WARMEST)
        for _ in range(settings.bad_columns):
            column = rng.integers(self.shape[1] // 8, self.shape[1] - self.shape[1] // 8)
            excess[rng.integers(0, self.shape[0] // 2) :, column] += rng.uniform(*_COLUMN_ELECTRON_S)
        part = np.s_[: self.shape[0], : self.shape[1]]
        return _Detector(flat[part].astype(np.float32), excess[part])

    def _label(self, number: int, now: _Conditions) -> PlainLabel:
        visit = self.visit
        step_days = (visit.exposure_time_s + _OVERHEAD_S) / 86_400
        kind = visit.field_type.upper().replace("_", "-")
        return PlainLabel(
            root=_root(self.camera, visit, number),
            target=f"SIMULATED-{kind}-{visit.seed}",
            start_mjd=_FIRST_MJD + _NIGHT_DAYS * (visit.seed % 1000) + number * step_days,
            seconds=visit.exposure_time_s,
            coordinates=self.scene.coordinates(now),
            origin=(
                f"Simulated by deepcr-zoo, simulator of any camera, version {VERSION},",
                f"seed {visit.seed}, field type {visit.field_type}. Not an observation.",
            ),
        )

    @property
    def centre(self) -> tuple[float, float]:
        """Right ascension and declination of the field, degrees: no two neighbouring seeds overlap."""
        extent = max(side * scale for side, scale in zip(self.shape[::-1], self.camera.scale_arcsec, strict=True)) / 3600
        number = self.visit.seed * len(FIELD_TYPES) + FIELD_TYPES.index(self.visit.field_type)
        return cell(number, self.settings.field_step_deg or max(0.1, round(2 * extent, 2)))

    def stream(self, stream: int = _SCENE, *index: int) -> np.random.Generator:
        """Return the generator of the scene, or of another stream."""
        return self._rng(stream, *index)


class _ImageScene:
    """Stars and galaxies on a flat sky."""

    def __init__(self, simulation: _Simulation) -> None:
        self.simulation = simulation
        visit, camera = simulation.visit, simulation.camera
        self.scale = camera.block.pixel_scale_arcsec
        rows, columns = simulation.unbinned
        self.middle = np.array([columns - 1, rows - 1]) / 2
        sky = camera.sky_electron_s * visit.exposure_time_s
        noise = float(np.sqrt(sky + visit.instrument.read_noise_electron**2))
        (field,) = (one for one in get_args(SimulatedFieldType) if one == visit.field_type)
        density = camera.settings.sources_per_megapixel
        sources = None if density is None else density * 1e-6 * (60 / self.scale) ** 2
        content = field_content(field, camera.zeropoint_ab, visit.exposure_time_s, noise, sources)
        x, y = ((side / 2 + _MARGIN_PIXELS) * self.scale for side in (columns, rows))
        self.sources = draw_scene(content, camera.zeropoint_ab, (x, y), np.eye(2), simulation.stream())
        self.noise_electron_s = noise / visit.exposure_time_s
        length = simulation.settings.trailing_pixels
        self.trail = wandering(length, simulation.stream(_BLUR)) if length else None
        brightness = simulation.settings.nebula_electron_s
        self.nebula = Nebula(simulation.unbinned, brightness, simulation.stream(_NEBULA)) if brightness else None

    def layers(self, now: _Conditions) -> tuple[Image, Image]:
        """Return the light of the sources and the sky, e- per second, of unbinned pixels."""
        simulation, optics = self.simulation, self.simulation.camera.optics
        shape, settings = simulation.unbinned, simulation.settings
        if optics is not None:
            kernel, width = point_spread(optics, _DEFOCUS + now.rng.normal(0, _DEFOCUS_SCATTER)), 2.0
        else:
            blur = Blur(settings.defocus_pixels, self.trail)
            kernel = seeing_spread(now.fwhm_pixels, settings.moffat_beta, simulation.camera, blur)
            width = now.fwhm_pixels
        placed = SceneSources(
            stars=self.sources.stars / self.scale + self.middle + now.offset,
            star_light=self.sources.star_light,
            blobs=self.sources.blobs / self.scale + self.middle + now.offset,
            blob_light=self.sources.blob_light,
            blob_covariances=self.sources.blob_covariances / self.scale**2,
        )
        light = render(placed, PointSpreadTransforms(kernel, shape), shape, core_variance(width))
        if self.nebula is not None:
            light += self.nebula.light(now.offset, core_variance(width))
        if settings.satellites:
            rng = simulation.stream(_SATELLITES, now.number)
            noise, beta = self.noise_electron_s, settings.moffat_beta
            light += satellite_trails(shape, settings.satellites, noise, width, beta, rng)
        sky = simulation.camera.sky_electron_s / float(np.prod(settings.binning))
        return light, np.full(shape, sky, np.float32)

    def coordinates(self, now: _Conditions) -> Cards:
        """Return the WCS of the header: east is to the left, north is up."""
        simulation = self.simulation
        if not simulation.settings.wcs:
            return {}
        x, y = simulation.settings.binning
        error = now.rng.normal(0, simulation.settings.wcs_error_arcsec, 2) / 3600
        if simulation.visit.same_pixels:
            error = np.zeros(2)
        ra, dec = deproject(error[None], simulation.centre)[0]
        middle = (self.middle + now.offset + 0.5) / (x, y) + 0.5
        if simulation.visit.same_pixels:
            middle = (self.middle + 0.5) / (x, y) + 0.5
        box = (slice(0, 0), slice(0, 0)) if simulation.frame is None else simulation.frame.box
        scale = self.scale / 3600
        return {
            "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CUNIT1": "deg", "CUNIT2": "deg", "RADESYS": "ICRS",
            "CRPIX1": float(middle[0] + box[1].start), "CRPIX2": float(middle[1] + box[0].start),
            "CRVAL1": float(ra), "CRVAL2": float(dec),
            "CD1_1": -scale * x, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": scale * y,
        }  # fmt: skip


class _SlitScene:
    """Spectra along a slit."""

    def __init__(self, simulation: _Simulation) -> None:
        self.simulation = simulation
        self.turned = simulation.settings.dispersion == "y"
        shape = simulation.unbinned[::-1] if self.turned else simulation.unbinned
        draw = draw_echelle if simulation.settings.spectra == "echelle" else draw_spectra
        self.slit = draw(shape, simulation.settings.site, simulation.stream())

    def layers(self, now: _Conditions) -> tuple[Image, Image]:
        """Return the light of the objects and the sky, e- per second, of unbinned pixels."""
        light = self.slit.light(now.fwhm_pixels, self.simulation.settings.moffat_beta)
        return (light.T, self.slit.sky.T) if self.turned else (light, self.slit.sky)

    def coordinates(self, now: _Conditions) -> Cards:
        """Return the place of the slit, and a header of wavelengths along x."""
        ra, dec = self.simulation.centre
        place: Cards = {"RA_APER": ra, "DEC_APER": dec, "PA_APER": 0.0}
        return place if self.turned else {"CTYPE1": "LAMBDA", "CTYPE2": "ANGLE", **place}


def _root(camera: PlainCamera, visit: PlainVisit, number: int) -> str:
    """Return the name of an exposure; HST's hold the visit in two characters after the fourth."""
    kind = FIELD_TYPES.index(visit.field_type)
    if camera.description.telescope == "HST":
        return f"s{visit.seed // 100:04d}"[:4] + f"{visit.seed % 100:02d}{kind}{number:02d}"
    return f"sim{kind}{visit.seed:06d}e{number + 1:02d}"
