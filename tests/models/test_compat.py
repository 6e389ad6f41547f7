import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import deepcr_zoo
from deepcr_zoo import deepCR
from deepcr_zoo.errors import (
    AbsentAttributeError,
    CompatibilityWarning,
    DeepcrZooError,
    DeviceError,
    ModelWarning,
    UsageError,
)
from deepcr_zoo.models.baselines import medmask
from tests.models.test_upstream import write_pth
from tests.publishing.test_importing import a_network, upstream_state
from tests.scenes import star_field

IMAGE, COSMIC_RAYS = star_field((150, 140), seed=1)


def test_the_papers_usage_example_runs_as_printed():
    image = IMAGE
    mdl = deepCR(mask="ACS-WFC-F606W-2-32", inpaint="ACS-WFC-F606W-2-32", device="CPU")
    with pytest.warns(CompatibilityWarning):
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


@pytest.mark.filterwarnings("ignore::deepcr_zoo.errors.ImageWarning")  # the inpainter is not made for such values
def test_the_path_of_a_pth_file_is_a_mask_model_as_in_deepcr(tmp_path):
    path = write_pth(tmp_path / "mine_epoch50.pth")
    for mask in (str(path), path):
        with pytest.warns(ModelWarning, match="has no card") as caught:
            mdl = deepCR(mask=mask, inpaint="ACS-WFC-F606W-2-32", hidden=4)
        assert caught[0].filename == __file__
        assert mdl.scale == 1
        found, cleaned = mdl.clean(IMAGE / 100, inpaint=True)
        np.testing.assert_array_equal(found, deepcr_zoo.load("ACS-WFC-F606W-2-4").mask(IMAGE, 0.5))
        assert cleaned.shape == IMAGE.shape


@pytest.mark.filterwarnings("ignore::deepcr_zoo.errors.ModelWarning")
def test_the_path_of_a_pth_file_is_an_inpainter_too(tmp_path):
    torch.save(upstream_state(a_network("inpaint")), tmp_path / "fill.pth")
    mdl = deepCR(mask="ACS-WFC-F606W-2-4", inpaint=tmp_path / "fill.pth")
    filled = mdl.inpaint(IMAGE, COSMIC_RAYS)
    assert (filled != IMAGE).any()
    np.testing.assert_array_equal(filled[~COSMIC_RAYS], IMAGE[~COSMIC_RAYS])
    with pytest.raises(UsageError, match="expected a network for the task mask, this one is for inpaint"):
        deepCR(mask=tmp_path / "fill.pth")


def test_the_caution_of_a_pth_file_names_the_command_that_makes_it_a_model(tmp_path):
    with pytest.warns(ModelWarning, match=r"deepcr-zoo import .*mine\.pth --name NAME makes it a model"):
        deepCR(mask=write_pth(tmp_path / "mine.pth"), hidden=50)


@pytest.mark.parametrize("mask", [None, Path("ACS-WFC"), "nowhere/epoch3.pth", 3, "inpaint/ACS-WFC-F606W-3-32"])
def test_a_mask_that_is_no_model_is_refused_in_a_sentence(mask):
    with pytest.raises(UsageError, match="mask="):
        deepCR(mask=mask)


@pytest.mark.parametrize("inpaint", ["mine.pth", Path("mine.pth"), "ACS-WFC"])
def test_an_inpainter_that_is_no_model_is_refused_in_a_sentence(inpaint):
    with pytest.raises(DeepcrZooError, match="inpaint"):
        deepCR(inpaint=inpaint)


def test_models_that_are_loaded_already_are_taken():
    mdl = deepCR(deepcr_zoo.load("ACS-WFC-F606W-2-4"), deepcr_zoo.load("inpaint/ACS-WFC-F606W-2-32"))
    np.testing.assert_array_equal(mdl.clean(IMAGE, inpaint=False), deepcr_zoo.load("ACS-WFC-F606W-2-4").mask(IMAGE, 0.5))


@pytest.mark.parametrize("n_jobs", [4, -1])
def test_where_deepcr_returns_integers_the_mask_is_boolean(n_jobs):
    mdl = deepCR(mask="ACS-WFC-F606W-2-4")
    mask = mdl.clean(IMAGE, n_jobs=n_jobs)
    assert mask.dtype == bool
    assert IMAGE[mask].size == mask.sum() > 0
    flags = np.full(IMAGE.shape, 256, np.uint16)
    np.testing.assert_array_equal(flags | mask * 16, np.where(mask, 272, 256))
    np.testing.assert_array_equal(mask, mdl.clean(IMAGE))
    assert mdl.clean(IMAGE, n_jobs=n_jobs, binary=False).dtype == np.float32


def test_two_values_for_a_script_that_may_expect_one_come_with_a_warning():
    mdl = deepCR(mask="ACS-WFC-F606W-2-4", inpaint="ACS-WFC-F606W-2-32")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(3):
            mdl.clean(IMAGE)
    (note,) = caught  # Python shows it once for each line
    assert note.category is CompatibilityWarning
    assert note.filename == __file__
    assert "say inpaint=True for both or inpaint=False for the mask" in str(note.message)


@pytest.mark.parametrize(("inpainter", "choice"), [(None, None), (None, True), ("medmask", True), ("medmask", False)])
def test_a_script_that_says_what_it_expects_is_not_warned(inpainter, choice):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        deepCR("ACS-WFC-F606W-2-4", inpainter).clean(IMAGE, inpaint=choice)


@pytest.mark.parametrize(
    ("name", "scale", "norm"), [("ACS-WFC", 1, False), ("ACS-WFC-F606W-2-4", 100, False), ("WFC3-UVIS", 1, True)]
)
@pytest.mark.filterwarnings("ignore::deepcr_zoo.errors.ModelWarning")
def test_scale_and_norm_can_be_read(name, scale, norm):
    mdl = deepCR(name)
    assert (mdl.scale, mdl.norm) == (scale, norm)
    with pytest.raises(AttributeError):
        mdl.scale = 2


@pytest.mark.parametrize(
    ("name", "instead"),
    [("maskNet", "mask_model.predict"), ("inpaintNet", r"inpaint\(image, mask\)"), ("other", "one of clean")],
)
def test_an_attribute_that_does_not_exist_names_what_to_use(name, instead):
    mdl = deepCR(mask="ACS-WFC-F606W-2-4")
    with pytest.raises(AbsentAttributeError, match=f"has no attribute '{name}': .*{instead}"):
        getattr(mdl, name)
    assert not hasattr(mdl, name)


@pytest.mark.skipif(torch.cuda.is_available() or torch.backends.mps.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_an_error():
    with pytest.raises(DeviceError, match="no CUDA or MPS device was found"):
        deepCR(device="GPU")


def test_a_device_of_another_name_is_an_error():
    with pytest.raises(DeviceError, match="expected 'CPU' or 'GPU'"):
        deepCR(device="cuda")
