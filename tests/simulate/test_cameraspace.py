"""Cameras drawn from a space, and what only some of them have: blurs, nebulae, trails, echelle orders, correlated noise."""

from pathlib import Path

import numpy as np
import pytest

from deepcr_zoo.simulate.cameraspace import draw_camera
from deepcr_zoo.simulate.electronics import electronic_noise
from deepcr_zoo.simulate.nebulae import Nebula
from deepcr_zoo.simulate.plaincameras import PlainCamera
from deepcr_zoo.simulate.satellites import satellite_trails
from deepcr_zoo.simulate.seeing import Blur, seeing_spread, wandering
from deepcr_zoo.simulate.spectra import draw_echelle
from deepcr_zoo.simulate.truth import read_truth, truth_path
from deepcr_zoo.simulate.visits import visit_of, write
from deepcr_zoo.zoo.cameraspace import CameraSpace
from deepcr_zoo.zoo.recipefiles import find_recipe, read_recipe
from deepcr_zoo.zoo.simulation import SimulationBlock

SPACE = CameraSpace()


@pytest.fixture(scope="module")
def recipe():
    return read_recipe(find_recipe("ccd-any"))


def test_a_drawn_camera_lies_within_the_space(recipe):
    for seed in range(200):
        camera, seconds = draw_camera(SPACE, recipe.instrument, "extragalactic", seed)
        binning = np.sqrt(np.prod(camera.simulation.binning))
        found = {
            "exposure_time_s": seconds,
            "fwhm_pixels": _fwhm_arcsec(camera) / camera.pixel_scale_arcsec / binning,
            "sky_electron": camera.sky_electron_s * seconds,
            **{name: getattr(camera, name) for name in ("pixel_size_um", "silicon_um", "read_noise_electron")},
        }
        for name, value in found.items():
            low, high = getattr(SPACE, name)
            assert low * (1 - 1e-9) <= value <= high * (1 + 1e-9), name
        assert camera.gain_electron_per_count <= 1.2 * camera.read_noise_electron


def _fwhm_arcsec(camera):
    """The seeing, or what diffraction makes of the mirror."""
    if camera.simulation.seeing_arcsec is not None:
        return camera.simulation.seeing_arcsec
    return np.degrees(camera.wavelength_um * 1e-6 / camera.aperture_m) * 3600


def test_the_same_seed_draws_the_same_camera_and_another_seed_another(recipe):
    one, again, other = (draw_camera(SPACE, recipe.instrument, "spectrum", seed) for seed in (3, 3, 4))
    assert one == again
    assert one[0].detector != other[0].detector
    assert one[0].read_noise_electron != other[0].read_noise_electron


def test_a_visit_of_a_space_is_written_with_its_truth_and_repeats_to_the_byte(recipe, tmp_path):
    visit = visit_of(recipe, "resolved_galaxy", 7, 1, 0.0, 160)
    (path,), (again,) = (write(visit, tmp_path / name) for name in ("one", "two"))
    (truth,) = read_truth(truth_path(path))
    assert truth.cosmic_rays.max() > 100
    assert path.read_bytes() == again.read_bytes()


def moments(kernel):
    offsets = np.arange(kernel.shape[0]) - kernel.shape[0] // 2
    y, x = np.meshgrid(offsets, offsets, indexing="ij")
    return [(kernel * one).sum() / kernel.sum() for one in (x * x, y * y)]


def test_a_trailed_star_is_long_along_its_trail_alone(recipe):
    camera = PlainCamera(recipe.instrument)
    even = Blur(trail=np.stack([np.linspace(-4, 4, 500), np.zeros(500)], axis=1))
    sharp, trailed = (moments(seeing_spread(2.0, 4.0, camera, blur)) for blur in (Blur(), even))
    along, across = (after - before for before, after in zip(sharp, trailed, strict=True))
    assert along == pytest.approx(8**2 / 12 * 16, rel=0.15)  # of an even line, in sub-pixels
    assert abs(across) < 0.05 * along


def test_trails_have_their_length_are_nearly_straight_and_uneven():
    paths = [wandering(40.0, np.random.default_rng(seed)) for seed in range(50)]
    ends = np.array([np.hypot(*(path[-1] - path[0])) for path in paths])
    assert ends == pytest.approx(40, rel=0.2)
    across = [np.sqrt(np.linalg.eigvalsh(np.cov(path.T))[0]) for path in paths]
    assert 0.2 < np.median(across) < 2
    speeds = [np.hypot(*np.diff(path, axis=0).T) for path in paths]
    assert np.median([speed.std() / speed.mean() for speed in speeds]) > 0.3
    angles = np.array([np.arctan2(*(path[-1] - path[0])) for path in paths])
    assert abs(np.exp(1j * angles).mean()) < 0.4


def test_a_star_out_of_focus_is_a_ring(recipe):
    kernel = seeing_spread(1.2, 4.0, PlainCamera(recipe.instrument), Blur(defocus=6.0))
    middle = kernel.shape[0] // 2
    assert kernel[middle, middle] < 0.5 * kernel[middle, middle + 4 * 4]
    assert kernel[middle, middle + 9 * 4] < 0.1 * kernel[middle, middle + 4 * 4]


@pytest.mark.parametrize("correlation", [0.0, 0.5])
def test_read_noise_has_its_sigma_and_its_correlation_along_rows(correlation):
    settings = SimulationBlock(noise_correlation=correlation)
    noise = electronic_noise((400, 400), 6.0, settings, np.random.default_rng(1))
    assert noise.std() == pytest.approx(6.0, rel=0.01)
    assert np.corrcoef(noise[:, 1:].ravel(), noise[:, :-1].ravel())[0, 1] == pytest.approx(correlation, abs=0.01)
    assert np.corrcoef(noise[1:].ravel(), noise[:-1].ravel())[0, 1] == pytest.approx(0, abs=0.01)


def test_rows_share_the_level_of_bands():
    noise = electronic_noise((300, 900), 1.0, SimulationBlock(banding_electron=5.0), np.random.default_rng(1))
    assert noise.mean(axis=1).std() == pytest.approx(5.0, rel=0.15)
    assert (noise - noise.mean(axis=1, keepdims=True)).std() == pytest.approx(1.0, rel=0.02)


def test_a_nebula_has_its_mean_and_moves_with_the_sky():
    nebula = Nebula((128, 96), 3.0, np.random.default_rng(1))
    here, there = (nebula.light(np.array(offset), 1.0) for offset in ([0.0, 0.0], [5.0, 2.0]))
    assert here.mean() == pytest.approx(3.0, rel=1e-3)
    assert np.allclose(np.roll(here, (2, 5), axis=(0, 1)), there, atol=1e-3)
    assert here.std() > 0.5


def test_the_trail_of_a_satellite_is_a_line_as_wide_as_a_star():
    trails = satellite_trails((200, 200), 1.0, 10.0, 3.0, 4.0, np.random.default_rng(6))
    bright = trails > trails.max() / 2
    assert 20 < bright.sum() < 200 * 12
    rows, columns = np.nonzero(bright)
    points = np.stack([rows, columns]) - [[rows.mean()], [columns.mean()]]
    long, short = np.linalg.svd(points, compute_uv=False) / np.sqrt(len(rows))
    assert short < 6 < long


def test_an_echelle_has_many_orders_and_no_light_between_them():
    slit = draw_echelle((300, 200), "ground", np.random.default_rng(2))
    column = slit.light(2.5, 4.0)[:, 100] + slit.sky[:, 100]
    assert len(slit.traces) > 6
    assert column.min() < 0.2 * np.median(np.sort(column)[-len(slit.traces) :])


def test_a_range_out_of_bounds_is_refused_with_the_bounds(tmp_path):
    file = Path(tmp_path / "r.yaml")
    file.write_text(find_recipe("ccd-any").read_text())
    with pytest.raises(Exception, match=r"fwhm_pixels between 0\.5 and 30, got 0.1 to 6"):
        read_recipe(file, ["data.simulated.cameras.fwhm_pixels=[0.1, 6.0]"])
    with pytest.raises(Exception, match="the smaller number first"):
        read_recipe(file, ["data.simulated.cameras.fwhm_pixels=[6.0, 2.0]"])
