import numpy as np
import pytest
import torch

import deepcr_zoo
from deepcr_zoo import deepCR
from deepcr_zoo.errors import DeviceError, UsageError
from deepcr_zoo.models.baselines import medmask
from tests.scenes import star_field

IMAGE, COSMIC_RAYS = star_field((150, 140), seed=1)


def test_the_papers_usage_example_runs_as_printed():
    image = IMAGE
    mdl = deepCR(mask="ACS-WFC-F606W-2-32", inpaint="ACS-WFC-F606W-2-32", device="CPU")
    mask, cleaned_image = mdl.clean(image, threshold=0.5)
    expected_mask, expected_image = deepcr_zoo.clean(IMAGE, "ACS-WFC-F606W-2-32", "ACS-WFC-F606W-2-32", 0.5)
    np.testing.assert_array_equal(mask, expected_mask)
    np.testing.assert_array_equal(cleaned_image, expected_image)
    assert mask.dtype == np.float32


def test_upstreams_default_is_the_mask_of_acs_wfc_alone():
    mask = deepCR().clean(IMAGE)
    np.testing.assert_array_equal(mask, deepcr_zoo.load("ACS-WFC").mask(IMAGE, 0.5))


def test_inpainting_without_a_named_network_uses_the_masked_median():
    mask, cleaned = deepCR(mask="ACS-WFC-F606W-2-4").clean(IMAGE, inpaint=True)
    np.testing.assert_array_equal(cleaned, medmask(IMAGE, mask))


def test_inpainting_can_be_switched_off_although_a_network_is_named():
    mdl = deepCR(mask="ACS-WFC-F606W-2-4", inpaint="ACS-WFC-F606W-2-32")
    assert mdl.clean(IMAGE, inpaint=False).shape == IMAGE.shape


def test_the_probabilistic_mask_is_the_prediction():
    mdl = deepCR(mask="ACS-WFC-F606W-2-4")
    prediction = deepcr_zoo.load("ACS-WFC-F606W-2-4").predict(IMAGE)
    np.testing.assert_allclose(mdl.clean(IMAGE, binary=False), prediction, atol=1e-6)
    np.testing.assert_allclose(mdl.clean(IMAGE, binary=False, segment=True, patch=32, n_jobs=2), prediction, atol=1e-6)
    np.testing.assert_allclose(mdl.clean(IMAGE, binary=False, segment=False), prediction, atol=1e-6)


def test_the_inpaint_method_repaints_a_given_mask():
    mdl = deepCR(mask="ACS-WFC-2-32", inpaint="ACS-WFC-F606W-2-32")
    # upstream feeds this network unscaled electrons when paired with ACS-WFC
    expected = deepcr_zoo.load("inpaint/ACS-WFC-F606W-2-32").fill(IMAGE, COSMIC_RAYS)
    np.testing.assert_array_equal(mdl.inpaint(IMAGE, COSMIC_RAYS.astype(float)), expected)


def test_a_pickled_file_is_refused():
    with pytest.raises(UsageError, match="expected a model name"):
        deepCR(mask="mine/epoch3.pth")


@pytest.mark.skipif(torch.cuda.is_available() or torch.backends.mps.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_an_error():
    with pytest.raises(DeviceError, match="no CUDA or MPS device was found"):
        deepCR(device="GPU")


def test_a_device_of_another_name_is_an_error():
    with pytest.raises(DeviceError, match="expected 'CPU' or 'GPU'"):
        deepCR(device="cuda")
