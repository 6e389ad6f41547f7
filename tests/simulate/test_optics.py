import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from deepcr_zoo.simulate.optics import HALF_WIDTH, OVERSAMPLING, point_spread
from tests.simulate.visits import instrument

CENTRE = HALF_WIDTH * OVERSAMPLING


@pytest.fixture(scope="module", params=["acs-wfc", "wfc3-uvis"])
def camera(request):
    block = instrument(request.param)
    return block, point_spread(block, 0.0)


def enclosed(kernel, radius_pixels):
    y, x = np.indices(kernel.shape) - CENTRE
    return float(kernel[np.hypot(x, y) <= radius_pixels * OVERSAMPLING].sum() / kernel.sum())


def test_the_light_of_a_star_is_all_there_wherever_it_stands_in_its_pixel(camera):
    _, kernel = camera
    sums = [kernel[y::OVERSAMPLING, x::OVERSAMPLING].sum() for y in range(OVERSAMPLING) for x in range(OVERSAMPLING)]
    np.testing.assert_allclose(sums, 1, atol=2e-3)
    assert kernel.min() >= 0


def test_a_star_is_about_as_wide_as_diffraction_pixels_and_diffusion_make_it(camera):
    block, kernel = camera
    radii = np.arange(0, 4, 0.02) * OVERSAMPLING
    angles = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    y, x = (CENTRE + np.outer(radii, turn(angles)) for turn in (np.sin, np.cos))
    profile = map_coordinates(kernel, [y, x], order=1).mean(axis=1)
    width_arcsec = 2 * radii[np.argmax(profile < profile[0] / 2)] / OVERSAMPLING * block.pixel_scale_arcsec
    diffraction = 1.02 * block.wavelength_um * 1e-6 / block.aperture_m * 206_265
    spread = 2.355 * np.hypot(0.8 * block.charge_spread_um / block.pixel_size_um, 1 / np.sqrt(12)) * block.pixel_scale_arcsec
    assert width_arcsec == pytest.approx(np.hypot(diffraction, spread), rel=0.15)


def test_a_tenth_of_an_arcsec_around_a_star_holds_what_the_handbooks_say(camera):
    # measured on stars (Sirianni et al. 2005 for ACS): about 0.7 and 0.92 at 600 nm
    block, kernel = camera
    assert 0.6 < enclosed(kernel, 0.1 / block.pixel_scale_arcsec) < 0.8
    assert 0.9 < enclosed(kernel, 0.5 / block.pixel_scale_arcsec) < 0.95


def test_a_telescope_out_of_focus_spreads_the_light():
    block = instrument()
    assert point_spread(block, 0.1).max() < 0.9 * point_spread(block, 0.0).max()
