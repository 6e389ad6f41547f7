"""Sky and noise of whole exposures, and networks that see pixels in their units."""

from functools import cache

import numpy as np
import pytest
from astropy import units as u
from astropy.nddata import CCDData
from scipy.ndimage import gaussian_filter

import deepcr_zoo
from deepcr_zoo.errors import UsageError
from deepcr_zoo.models.model import WHOLE_FRAME
from deepcr_zoo.models.skynoise import frame_noise
from deepcr_zoo.models.verification import verify
from tests.noisenetworks import NAME, PAINTER, imported, loaded, sky_with_tracks

SIDE, SKY, READ_NOISE = 500, 100.0, 5.0
NOISE = np.hypot(np.sqrt(SKY), READ_NOISE)
pytestmark = pytest.mark.filterwarnings("ignore:.*imported from a file")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("any")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEEPCR_ZOO_DATA", str(folder / "data"))
        yield folder


@pytest.fixture(scope="module")
def finder(data):
    return loaded(data)


@pytest.fixture(scope="module")
def painter(data):
    return loaded(data, PAINTER)


@pytest.fixture(scope="module")
def field():
    return sky_with_tracks((203, 310), seed=5)


# The measurement


def exposed(scene, seed=1):
    random = np.random.default_rng(seed)
    return random.poisson(np.maximum(SKY + scene, 0)) + random.normal(0, READ_NOISE, (SIDE, SIDE))


def stars(count):
    random = np.random.default_rng(2)
    points = np.zeros((SIDE, SIDE))
    np.add.at(points, tuple(random.integers(0, SIDE, (2, count))), 10 ** random.uniform(1.5, 4.5, count))
    return gaussian_filter(points, 1.3)


@cache
def tracks():
    """Cosmic rays on 5 % of the pixels."""
    random, struck = np.random.default_rng(3), np.zeros((SIDE, SIDE))
    for _ in range(1690):
        start, angle = random.uniform(0, SIDE, 2), random.uniform(0, np.pi)
        path = (start + np.outer(np.arange(random.integers(2, 15)), [np.sin(angle), np.cos(angle)])).astype(int) % SIDE
        np.add.at(struck, tuple(path.T), random.exponential(300))
    assert 0.048 < (struck > 0).mean() < 0.06
    return struck


def galaxy():
    rows, columns = np.mgrid[:SIDE, :SIDE]
    return 3000 * np.exp(-np.hypot(rows - SIDE / 2, columns - SIDE / 2) / 20)


def gradient():
    return np.linspace(-0.15, 0.15, SIDE)[:, None] * np.full(SIDE, SKY)


def traces():
    rows, columns = np.mgrid[:SIDE, :SIDE]
    return sum(2000 * np.exp(-(((rows - row - 10 * np.sin(columns / 200)) / 3) ** 2) / 2) for row in range(20, SIDE, 60))


@pytest.mark.parametrize(
    ("scene", "worst"),
    [
        (lambda: np.zeros((SIDE, SIDE)), 0.05),
        (tracks, 0.05),
        (lambda: stars(1000), 0.1),
        (lambda: stars(1000) + tracks(), 0.1),
        (lambda: stars(7600), 0.7),  # half of the pixels are more than 1 sigma above the sky
        (galaxy, 0.15),
        (gradient, 0.1),
        (traces, 0.15),
    ],
    ids=["sky", "tracks", "stars", "stars and tracks", "crowded", "galaxy", "gradient", "echelle orders"],
)
def test_sky_and_noise_are_those_of_the_background_whatever_lies_on_it(scene, worst):
    (found,) = frame_noise(exposed(scene()).astype(np.float32))
    assert abs(found.sky - SKY) < worst * NOISE
    assert found.noise == pytest.approx(NOISE, rel=0.15 if worst > 0.5 else 0.05)


def test_five_percent_of_cosmic_rays_change_sky_and_noise_by_less_than_two_percent_of_the_noise():
    for scene in (np.zeros((SIDE, SIDE)), stars(1000), galaxy()):
        clean, struck = (frame_noise((exposed(scene) + more).astype(np.float32))[0] for more in (0.0, tracks()))
        assert struck.sky == pytest.approx(clean.sky, abs=0.02 * NOISE)
        assert struck.noise == pytest.approx(clean.noise, rel=0.02)


@pytest.mark.parametrize("axis", [0, 1])
def test_lines_along_the_slit_or_the_dispersion_are_no_noise(axis):
    lines = np.random.default_rng(4).uniform(0, 60, SIDE)
    (found,) = frame_noise(exposed(np.expand_dims(lines, axis) * np.ones((SIDE, SIDE))).astype(np.float32))
    assert found.noise == pytest.approx(np.hypot(np.sqrt(SKY + 15), READ_NOISE), rel=0.05)


def test_a_saturated_region_and_a_masked_one_count_for_nothing():
    image = exposed(stars(1000)).astype(np.float32)
    (expected,) = frame_noise(image)
    image[50:230, 150:360] = 65535
    assert abs(frame_noise(image)[0].sky - expected.sky) < 0.05 * NOISE
    assert frame_noise(image)[0].noise == pytest.approx(expected.noise, rel=0.03)
    for value in (np.nan, -np.inf, 0, 1e12):
        image[50:230, 150:360] = value
        usable = np.ones(image.shape, dtype=bool)
        usable[50:230, 150:360] = False
        (found,) = frame_noise(image, usable)
        assert abs(found.sky - expected.sky) < 0.05 * NOISE
        assert found.noise == pytest.approx(expected.noise, rel=0.03)


@pytest.mark.parametrize("factor", [0.25, 4.0, 1 / 3])
@pytest.mark.parametrize("pedestal", [0.0, 10_000.0, -SKY])
def test_a_gain_scales_sky_and_noise_and_a_pedestal_moves_the_sky(factor, pedestal):
    image = exposed(stars(1000)).astype(np.float32)
    (expected,), (found,) = frame_noise(image), frame_noise(((image + pedestal) * factor).astype(np.float32))
    assert found.sky == pytest.approx((expected.sky + pedestal) * factor, abs=1e-3 * NOISE * factor)
    assert found.noise == pytest.approx(expected.noise * factor, rel=1e-3)


def test_whole_numbers_hide_no_noise():
    image = exposed(np.zeros((SIDE, SIDE)))
    for gain in (1.0, 4.0, 10.0):
        (found,) = frame_noise(np.rint(image / gain).astype(np.float32))
        assert found.noise == pytest.approx(NOISE / gain, rel=0.05)
        assert abs(found.sky * gain - SKY) < 0.1 * NOISE
    assert frame_noise(np.rint(image / 400).astype(np.float32))[0].noise == 1  # its least step


@pytest.mark.parametrize("value", [7.0, np.nan])
def test_frames_without_noise_give_numbers_that_divide(value):
    (found,) = frame_noise(np.full((16, 16), value, dtype=np.float32), np.full((16, 16), value == 7))
    assert (found.sky, found.noise) == (7.0 if value == 7 else 0.0, 1.0)
    assert frame_noise(np.full((1, 1), 7, dtype=np.float32))[0].noise == 1


def test_stamps_of_an_exposure_give_its_sky_and_noise():
    image = exposed(stars(1000)).astype(np.float32)
    stamps = image[:448, :448].reshape(7, 64, 7, 64).swapaxes(1, 2).reshape(49, 64, 64)
    (whole,), (found,) = frame_noise(image), frame_noise(stamps)
    assert found.sky == pytest.approx(whole.sky, abs=0.03 * NOISE)
    assert found.noise == pytest.approx(whole.noise, rel=0.02)


def test_amplifiers_have_their_own_sky_and_noise():
    image = exposed(stars(1000))
    halves = [(slice(None), slice(0, 250)), (slice(None), slice(250, SIDE))]
    image[halves[1]] = image[halves[1]] * 2 + 700
    one, other = frame_noise(image.astype(np.float32), None, halves)
    assert (one.section, other.section) == tuple(halves)
    assert other.sky == pytest.approx(2 * one.sky + 700, abs=0.1 * NOISE)
    assert other.noise == pytest.approx(2 * one.noise, rel=0.02)


# Networks


def test_a_network_for_any_unit_finds_the_same_under_gain_pedestal_and_sky_subtraction(finder, field):
    image, struck = field
    mask = finder.mask(image)
    assert mask[struck].mean() > 0.9
    assert mask[~struck].mean() < 0.002
    for changed in (image * 0.25, image * 4, image / 3 + 10_000, image + 10_000, image - 100.3, (image - 100) * 2.5):
        np.testing.assert_array_equal(finder.mask(changed), mask)
        assert np.abs(finder.logits(changed) - finder.logits(image)).max() < 0.1  # of a range of 100
    counts = np.rint(image / 1.7 + 1000).astype(np.uint16)
    assert (finder.mask(counts) != mask).mean() < 2e-4


@pytest.mark.parametrize("tile", [64, 96, None])
def test_tiles_of_a_network_for_any_unit_equal_the_whole_frame(tile, finder, painter, field):
    image, struck = field
    whole = finder.logits(image, tile=WHOLE_FRAME)
    assert np.abs(finder.logits(image, tile=tile) - whole).max() < 1e-4
    assert np.abs(painter.fill(image, struck, tile=tile) - painter.fill(image, struck, tile=WHOLE_FRAME)).max() < 1e-3


def test_a_network_for_any_unit_reproduces_its_test_vector(data):
    for name in (NAME, PAINTER):
        assert verify(imported(data, name)).verdict == "reproduces"


def test_all_containers_give_what_the_array_gives_in_their_own_unit(finder, field):
    image, _ = field
    plain, cleaned = deepcr_zoo.clean(image, finder)
    for unit in (u.electron, u.adu, u.adu / u.s, u.Jy):
        done = deepcr_zoo.clean(CCDData(image, unit=unit), finder)
        np.testing.assert_array_equal(done.mask, plain)
        np.testing.assert_allclose(done.data, cleaned, rtol=1e-6)
        assert done.unit == unit
        mask, filled = deepcr_zoo.clean(image * unit, finder)
        np.testing.assert_array_equal(mask, plain)
        assert filled.unit == unit
    hidden = np.zeros(image.shape, dtype=bool)
    hidden[:60] = True
    masked = deepcr_zoo.clean(np.ma.MaskedArray(np.where(hidden, 1e5, image), hidden), finder)[0]
    assert not masked[hidden].any()
    assert (masked != plain)[63:].mean() < 2e-4


def test_a_painter_for_any_unit_fits_every_mask_model(finder, painter, field):
    image, struck = field
    filled = painter.fill(image, struck)
    errors = np.abs(filled - (image - 3000 * struck))[struck]
    assert np.median(errors) < 2 * NOISE
    assert errors.max() < 150  # random weights, on the slopes of stars too
    np.testing.assert_allclose(painter.fill(image * 3 - 500, struck), filled * 3 - 500, atol=0.1)
    _, of_any = deepcr_zoo.clean(image, finder, painter)
    mask, of_electrons = deepcr_zoo.clean(image * u.electron, "ACS-WFC-F606W-2-4", painter)
    np.testing.assert_allclose(of_electrons.value, painter.fill(image, mask), rtol=1e-5)
    np.testing.assert_allclose(of_any, painter.fill(image, finder.mask(image)))
    _, of_thousands = deepcr_zoo.clean(image / 1000 * u.Unit("1000 electron"), "ACS-WFC-F606W-2-4", painter)
    np.testing.assert_allclose(of_thousands.value * 1000, of_electrons.value, rtol=1e-4)
    with pytest.raises(UsageError, match="takes electron, the mask model any unit: name an inpainter for the same unit"):
        deepcr_zoo.clean(image, finder, "ACS-WFC-F606W-2-32")


def test_a_part_of_an_exposure_is_seen_in_the_units_of_the_whole(finder, field):
    image, _ = field
    galaxy = image + np.linspace(0, 3000, image.shape[1])
    measured = frame_noise(galaxy.astype(np.float32))
    part, whole = finder.logits(galaxy[:, 200:], noise=[measured]), finder.logits(galaxy)[:, 200:]
    assert np.abs(part - whole)[:, 16:].max() < 1e-3
    assert np.abs(finder.logits(galaxy[:, 200:]) - whole)[:, 16:].max() > 1


def test_noise_that_no_image_has_is_refused(finder, field):
    measured = frame_noise(field[0].astype(np.float32))
    for model, noise in ((finder, [measured] * 2), (deepcr_zoo.load("ACS-WFC-F606W-2-4"), [measured])):
        with pytest.raises(UsageError, match="expected one for each image of a model with the normalisation noise"):
            model.mask(field[0], noise=noise)
