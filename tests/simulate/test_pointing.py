import warnings

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS, FITSFixedWarning

from deepcr_zoo.errors import UsageError
from deepcr_zoo.simulate.cameras import camera
from deepcr_zoo.simulate.pointing import Window, identify, point_chip
from deepcr_zoo.simulate.simulation import write_visit
from deepcr_zoo.zoo.recipe import MOST_SEEDS, SIMULATED_FIELD_TYPES
from tests.simulate.visits import instrument, small_visit

ACS = camera(instrument())


def test_no_two_visits_share_a_key_or_a_patch_of_sky():
    seeds = [*range(0, 700), *range(MOST_SEEDS - 700, MOST_SEEDS)]
    found = [identify(field_type, seed, ACS) for seed in seeds for field_type in SIMULATED_FIELD_TYPES]
    assert len({(one.proposal, one.visit) for one in found}) == len(found)
    sky = SkyCoord([one.centre for one in found], unit="deg")
    _, distance, _ = sky.match_to_catalog_sky(sky, nthneighbor=2)
    assert distance.arcmin.min() > 5.5  # the diagonal of a full ACS frame is 4.8
    assert len({one.root_name("j", 0) for one in found}) == len(found)
    assert all(len(one.root_name("j", 0)) == 9 and one.root_name("j", 0)[4:6] == one.visit for one in found)


def test_both_cameras_have_proposals_of_their_own():
    uvis = camera(instrument("wfc3-uvis"))
    last, first = identify("resolved_galaxy", MOST_SEEDS - 1, ACS), identify("extragalactic", 0, uvis)
    assert last.proposal < first.proposal


def test_an_unknown_camera_is_refused_with_those_that_are_known():
    with pytest.raises(UsageError, match="expected one of HST ACS/WFC, HST WFC3/UVIS"):
        camera(instrument().model_copy(update={"telescope": "JWST"}))


@pytest.mark.parametrize(("name", "corner"), [("acs-wfc", (0, 0)), ("acs-wfc", (900, 2500)), ("wfc3-uvis", (0, 0))])
def test_pixels_are_where_the_header_says(name, corner):
    block = instrument(name)
    window = Window(1, corner, (400, 500))
    chip = point_chip(window, (150.0, 40.0), 33.0, block, camera(block))
    pixels = np.random.default_rng(1).uniform((-80, -80), (580, 480), (500, 2))
    sky = wcs_of(chip).all_pix2world(pixels, 0)
    np.testing.assert_allclose(chip.pixels(sky), pixels, atol=0.01)
    np.testing.assert_allclose(wcs_of(chip).all_pix2world([[249.5, 199.5]], 0), [(150.0, 40.0)], atol=2e-5)


def wcs_of(chip):
    header = fits.Header({"CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP", "A_ORDER": 4, "B_ORDER": 4})
    for axis in (0, 1):
        header[f"CRPIX{axis + 1}"], header[f"CRVAL{axis + 1}"] = chip.crpix[axis], chip.crval[axis]
        header[f"CD{axis + 1}_1"], header[f"CD{axis + 1}_2"] = chip.cd[axis]
    for letter, terms in (("A", chip.a), ("B", chip.b)):
        header.update({f"{letter}_{i}_{j}": value for (i, j), value in terms.items()})
    return WCS(header)


@pytest.mark.parametrize("name", ["acs-wfc", "wfc3-uvis"])
def test_the_two_chips_are_as_far_apart_as_the_recipe_says(name):
    block = instrument(name)
    rows, columns = block.chip_shape
    lower, upper = (
        wcs_of(point_chip(Window(number, (0, 0), (rows, columns)), (150.0, 40.0), 33.0, block, camera(block)))
        for number in (2, 1)
    )
    middle = (columns - 1) / 2
    x, y = lower.all_world2pix(*upper.all_pix2world(middle, -0.5, 0), 0)
    assert y - (rows - 0.5) == pytest.approx(block.chip_gap_pixels, abs=0.5)
    assert x == pytest.approx(middle, abs=1)


def test_exposures_of_a_visit_are_dithered_by_their_headers(tmp_path):
    paths = write_visit(small_visit(exposures=3, side=128), tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FITSFixedWarning)
        places = [WCS(fits.getheader(path, ("SCI", 1))).all_pix2world(64, 64, 0) for path in paths]
    offsets = SkyCoord(places[0][0], places[0][1], unit="deg").separation(SkyCoord(places, unit="deg")).arcsec
    assert offsets[0] == 0
    assert all(0.05 < offset < 1.5 for offset in offsets[1:])
