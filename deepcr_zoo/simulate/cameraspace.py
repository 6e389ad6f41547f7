"""Cameras of a space: a site, optics, a detector and its electronics, drawn for a visit by its field type and seed."""

from __future__ import annotations

from typing import Any

import numpy as np

from deepcr_zoo.simulate.draws import log_uniform
from deepcr_zoo.zoo.cameraspace import CameraSpace
from deepcr_zoo.zoo.recipe import FIELD_TYPES, FieldType, InstrumentBlock
from deepcr_zoo.zoo.simulation import SimulationBlock

VERSION = 3
"""Raised whenever other cameras are drawn."""

_HIGHEST_COUNT = 57_000.0  # full well: charge blooms a tenth above it, and 16 bits end at 65,535 counts, bias included
_CHARGE_SPREAD = 4.5, 6.0, 0.3  # um: of thin silicon, how much more at 300 um, and the scatter of its logarithm (assumed)
_THICK_UM = 300.0
_FIELD_STEP_DEG = 1.0
_BINNINGS = ((2, 2), (2, 2), (1, 2), (2, 1))
_TRAIL, _DEFOCUS = (3.0, 60.0), (2.0, 9.0)  # pixels: from slips of the guiding to frames without it
_NEBULA = (0.1, 10.0)  # mean light / the sky's, at least that of read noise
_SATELLITES = 1.0
_BANDING = (0.3, 1.5)  # sigma of bands / read noise
_UNLIT = (30, 90)  # columns
_WAVELENGTH_UM = 0.6
_BAND = {"wavelength_um": _WAVELENGTH_UM, "bandwidth_um": 0.2}
_WIDEST_DIFFRACTION = 3.0  # pixels: wide stars need no mirror
_CORRELATION = (0.1, 0.6)
_MUONS, _ELECTRONS, _ALPHAS = (0.2, 0.7), (0.2, 0.7), (0.0, 0.004)  # shares of particles, before they are made to sum to 1


def draw_camera(
    space: CameraSpace, block: InstrumentBlock, field_type: FieldType, seed: int
) -> tuple[InstrumentBlock, float]:
    """Return a camera that writes files as that of `block`, and the exposure time of its frames in seconds."""
    rng = np.random.default_rng([VERSION, FIELD_TYPES.index(field_type), seed])

    def draw(name: str) -> float:
        return log_uniform(getattr(space, name), rng)

    binning = _BINNINGS[rng.integers(len(_BINNINGS))] if rng.random() < space.binned else (1, 1)
    seconds, scale, pixel_um, silicon_um = map(
        draw, ("exposure_time_s", "pixel_scale_arcsec", "pixel_size_um", "silicon_um")
    )
    read_noise = draw("read_noise_electron")
    gain = min(draw("gain_electron_per_count"), 1.2 * read_noise)
    sky = draw("sky_electron")
    thin, more, scatter = _CHARGE_SPREAD
    spread = (thin + more * np.sqrt(silicon_um / _THICK_UM)) * np.exp(rng.normal(0, scatter))
    settings: dict[str, Any] = {
        "seeing_arcsec": min(draw("fwhm_pixels") * scale * float(np.sqrt(np.prod(binning))), 100.0),
        "moffat_beta": draw("moffat_beta"),
        "seeing_spread": 0.0,
        "binning": list(binning),
        "field_step_deg": _FIELD_STEP_DEG,
        "dispersion": "xy"[rng.integers(2)],
        "warm_pixels": draw("warm_pixels"),
        "bad_columns": int(rng.integers(space.most_bad_columns + 1)),
        **_rare(space, sky, read_noise, seconds, binning, rng),
    }
    sources = draw(f"{'sparse' if field_type == 'extragalactic' else 'crowded'}_per_megapixel")
    settings["sources_per_megapixel"] = min(sources * _blurred(settings, scale), space.crowded_per_megapixel[1])
    site, rates = _site(space, draw("cosmic_rays_per_megapixel"), pixel_um, seconds, rng)
    settings |= site
    optics: dict[str, float] = {}
    if site["site"] == "orbit" and rng.random() < space.diffracted:
        optics = _mirror(min(settings["seeing_arcsec"], _WIDEST_DIFFRACTION * scale), rng)
        settings["seeing_arcsec"] = None
    camera = block.model_copy(
        update={
            # flaws of a detector belong to its name
            "detector": f"{block.detector}-{FIELD_TYPES.index(field_type)}-{seed}",
            "pixel_scale_arcsec": scale,
            "pixel_size_um": pixel_um,
            "silicon_um": silicon_um,
            "charge_spread_um": float(spread),
            "read_noise_electron": read_noise,
            "gain_electron_per_count": gain,
            "saturation_electron": min(draw("saturation_electron"), _HIGHEST_COUNT * gain),
            "sky_electron_s": sky / seconds,
            "zeropoint_ab": draw("zeropoint_ab"),
            **rates,
            **optics,
            "simulation": SimulationBlock.model_validate(settings),
        }
    )
    return camera, seconds


def _blurred(settings: dict[str, Any], scale: float) -> float:
    """Return by how much trails and rings spread the light of a star: else hardly one would rise above the noise."""
    fwhm = settings["seeing_arcsec"] / scale
    return float(1 + settings["trailing_pixels"] / fwhm + np.pi * (settings["defocus_pixels"] / fwhm) ** 2)


def _rare(
    space: CameraSpace, sky: float, read_noise: float, seconds: float, binning: tuple[int, int], rng: np.random.Generator
) -> dict[str, Any]:
    """Return what only a share of cameras and frames has."""

    def some(share: float, limits: tuple[float, float]) -> float:
        value = log_uniform(limits, rng)
        return value if rng.random() < share else 0.0

    level = max(sky, read_noise**2) / seconds / float(np.prod(binning))
    return {
        "trailing_pixels": some(space.trailed, _TRAIL),
        "defocus_pixels": some(space.defocused, _DEFOCUS),
        "nebula_electron_s": min(level * some(space.nebulous, _NEBULA), 1e6),
        "satellites": _SATELLITES if rng.random() < space.with_satellites else 0.0,
        "banding_electron": read_noise * some(space.banded, _BANDING),
        "unlit_columns": int(rng.integers(*_UNLIT)) if rng.random() < space.overscanned else 0,
        "noise_correlation": some(space.correlated, _CORRELATION),
        "spectra": "echelle" if rng.random() < space.echelle else "long_slit",
    }


def _site(
    space: CameraSpace, per_megapixel: float, pixel_um: float, seconds: float, rng: np.random.Generator
) -> tuple[dict[str, Any], dict[str, float | None]]:
    """Return the site with the rates of its particles on the ground, and that in orbit, as settings and block have them."""
    per_cm2_s = per_megapixel / (1e6 * (pixel_um * 1e-4) ** 2) / seconds
    shares = np.array([rng.uniform(*one) for one in (_MUONS, _ELECTRONS, _ALPHAS)])
    muons, electrons, alphas = (min(share * per_cm2_s, 1e4) for share in shares / shares.sum())
    if rng.random() < space.in_orbit:
        return {"site": "orbit"}, {"cosmic_rays_per_cm2_s": min(per_cm2_s, 1e4)}
    on_ground = {
        "site": "ground",
        "muons_per_cm2_min": muons * 60,
        "compton_electrons_per_cm2_min": electrons * 60,
        "alphas_per_cm2_day": min(alphas * 86_400, 1e6),
    }
    return on_ground, {"cosmic_rays_per_cm2_s": None}


def _mirror(fwhm_arcsec: float, rng: np.random.Generator) -> dict[str, float]:
    """Return the optics whose diffraction makes a star so wide."""
    aperture = _WAVELENGTH_UM * 1e-6 / (fwhm_arcsec / 3600 * np.pi / 180)
    return {"aperture_m": aperture, "obstruction": float(rng.uniform(0.1, 0.45)), **_BAND}
