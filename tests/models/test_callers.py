"""Scripts as public code calls deepCR, with one import changed; `.pth` files, n_jobs and attributes: test_compat.py."""

import warnings

import numpy as np
import pytest

from tests.scenes import star_field

IMAGE, COSMIC_RAYS = star_field((150, 140), seed=1)

ONE_SHOT = """
from deepcr_zoo import deepCR
mdl = deepCR(mask="ACS-WFC-F606W-2-32", inpaint="ACS-WFC-F606W-2-32", device="CPU")
mask, cleaned_image = mdl.clean(image, threshold=0.5, inpaint=True)
assert mask.sum() > 0 and cleaned_image.shape == image.shape
"""
FALL_BACK = """
from deepcr_zoo import deepCR
try:
    mdl = deepCR(mask="ACS-WFC-F606W-2-4", device="GPU")
except Exception:
    mdl = deepCR(mask="ACS-WFC-F606W-2-4", device="CPU")
mask = mdl.clean(image, threshold=0.5, inpaint=False)
assert mask.shape == image.shape
"""
AS_A_MODULE = """
import deepcr_zoo as deepCR
mdl = deepCR.deepCR(mask="ACS-WFC", device="CPU")
probability = mdl.clean(image, binary=False, segment=True, patch=256)
assert 0 < probability.max() <= 1
"""
SPECTRUM = """
from deepcr_zoo import deepCR
spectrum = np.repeat(image, 3, axis=1)[:100].astype(">f4")
mask = deepCR("ACS-WFC-F606W-2-4").clean(spectrum, inpaint=False)
spectrum[mask.astype(bool)] = np.nan
"""
ALL = (ONE_SHOT, FALL_BACK, AS_A_MODULE, SPECTRUM)


def run(script):
    """Run a script with an image, its CR mask and numpy; return the categories of its warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        exec(script, {"image": IMAGE, "cosmic_rays": COSMIC_RAYS, "np": np})
    return {one.category.__name__ for one in caught}


@pytest.mark.parametrize("script", ALL, ids=["one shot", "fall back", "as a module", "spectrum"])
def test_a_script_runs_with_one_import_changed(script):
    assert run(script) == set()


@pytest.mark.parametrize("threshold", [0.1, 0.2])
def test_wfc3_uvis_takes_low_thresholds_with_a_caution(threshold):
    script = f"from deepcr_zoo import deepCR\nassert deepCR(mask='WFC3-UVIS').clean(image, threshold={threshold}).any()"
    assert run(script) == {"ModelWarning"}


def test_a_sky_outside_of_the_cards_range_comes_with_a_caution():
    script = """
from deepcr_zoo import deepCR
mdl = deepCR(mask="ACS-WFC-F606W-2-32", inpaint="ACS-WFC-F606W-2-32")
mdl.inpaint(image - np.median(image), cosmic_rays)
"""
    assert run(script) == {"ImageWarning"}
