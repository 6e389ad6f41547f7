import astropy.units as u
import numpy as np
import pytest

import deepcr_zoo
from deepcr_zoo.errors import ModelWarning, UnknownModelError, UsageError
from deepcr_zoo.models.baselines import biharmonic, medmask
from tests.registries import SMALL
from tests.scenes import star_field

IMAGE, COSMIC_RAYS = star_field((150, 140), seed=1)


def test_clean_masks_with_one_model_and_repaints_with_another():
    mask, cleaned = deepcr_zoo.clean(IMAGE, "ACS-WFC-F606W-2-32", "ACS-WFC-F606W-2-32")
    expected_mask = deepcr_zoo.load("mask/ACS-WFC-F606W-2-32").mask(IMAGE)
    np.testing.assert_array_equal(mask, expected_mask)
    np.testing.assert_array_equal(cleaned, deepcr_zoo.load("inpaint/ACS-WFC-F606W-2-32").fill(IMAGE, expected_mask))
    # the cosmic rays stood out by hundreds of electrons
    assert np.abs(cleaned - 50)[COSMIC_RAYS & mask].mean() < 0.2 * np.abs(IMAGE - 50)[COSMIC_RAYS & mask].mean()


@pytest.mark.parametrize(("inpaint", "method"), [("medmask", medmask), ("biharmonic", biharmonic)])
def test_clean_repaints_with_a_classical_method(inpaint, method):
    mask, cleaned = deepcr_zoo.clean(IMAGE, SMALL, inpaint)
    np.testing.assert_array_equal(cleaned, method(IMAGE, mask))


def test_clean_can_leave_the_image_alone():
    mask, cleaned = deepcr_zoo.clean(IMAGE, SMALL, inpaint=None, threshold=0.9)
    assert cleaned is None
    np.testing.assert_array_equal(mask, deepcr_zoo.load(SMALL).mask(IMAGE, 0.9))


def test_clean_takes_models_that_are_loaded_already():
    model = deepcr_zoo.load(SMALL)
    mask, _ = deepcr_zoo.clean(IMAGE, model)
    np.testing.assert_array_equal(mask, model.mask(IMAGE))


@pytest.mark.parametrize("inpaint", ["medmask", "biharmonic", "ACS-WFC-F606W-2-32"])
def test_a_quantity_is_cleaned_in_the_unit_of_the_model_whatever_repaints_it(inpaint):
    mask, cleaned = deepcr_zoo.clean(u.Quantity(IMAGE / 1000, 1000 * u.electron), SMALL, inpaint)
    expected_mask, expected = deepcr_zoo.clean(IMAGE, SMALL, inpaint)
    np.testing.assert_array_equal(mask, expected_mask)
    np.testing.assert_allclose(cleaned, expected, rtol=1e-4)


def test_models_for_different_units_do_not_mix():
    with pytest.warns(ModelWarning), pytest.raises(UsageError, match="takes electron, the mask model adu"):
        deepcr_zoo.clean(IMAGE, "decam", "ACS-WFC-F606W-2-32")


def test_a_model_of_the_wrong_task_is_refused():
    with pytest.raises(
        UsageError, match="mask='inpaint/ACS-WFC-F606W-3-32': expected the name of a model for the task mask"
    ):
        deepcr_zoo.clean(IMAGE, "inpaint/ACS-WFC-F606W-3-32")
    with pytest.raises(UsageError, match="expected the name of a model for the task inpaint"):
        deepcr_zoo.clean(IMAGE, SMALL, inpaint=deepcr_zoo.load(SMALL))
    with pytest.raises(UnknownModelError, match="inpaint/ACS-WFC: no such model"):
        deepcr_zoo.clean(IMAGE, SMALL, inpaint="ACS-WFC")
