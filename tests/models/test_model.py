import warnings
from functools import cache

import numpy as np
import pytest
import torch
from astropy import units as u
from hypothesis import given, settings
from hypothesis import strategies as st

import deepcr_zoo
from deepcr_zoo.errors import (
    DeviceError,
    ImageWarning,
    InvalidImageError,
    InvalidWeightsError,
    ModelWarning,
    UnknownModelError,
    UsageError,
)
from deepcr_zoo.models.model import InpaintModel, MaskModel, load_files, load_resolved
from deepcr_zoo.zoo import sources
from deepcr_zoo.zoo.cards import read_card
from deepcr_zoo.zoo.registries import default_registry
from deepcr_zoo.zoo.registry import WEIGHTS_FILE, Architecture, read_registry
from tests.conftest import ALL_MODELS
from tests.registries import SMALL, copy_registry, edit_card, edit_entry
from tests.scenes import star_field
from tests.threads import at_once

pytestmark = pytest.mark.filterwarnings("ignore::deepcr_zoo.errors.ModelWarning")
MASKS = [name for name in ALL_MODELS if name.startswith("mask/")]
INPAINTERS = [name for name in ALL_MODELS if name.startswith("inpaint/")]
TILES = [1, 37, 64, 100, 256, 300, 1000]
REACH = 9
"""Pixels around a pixel that the depth-2 networks see: half their receptive field of 18."""


@cache
def load(name):
    return deepcr_zoo.load(name)


@pytest.fixture(scope="module")
def small():
    return load(SMALL)


@pytest.fixture(scope="module")
def painter():
    return load("inpaint/ACS-WFC-F606W-2-32")


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("shape", [(300, 517), (41, 1501)])
def test_a_tiled_mask_equals_the_whole_frame_for_every_tile_size(name, shape):
    model = load(name)
    image, _ = star_field(shape, seed=1)
    whole = model.predict(image, tile=0)
    for tile in [*TILES, None] if name == SMALL else [64, None]:
        assert np.abs(model.predict(image, tile=tile) - whole).max() <= 1e-6, tile


@pytest.mark.parametrize("name", INPAINTERS)
@pytest.mark.parametrize("shape", [(300, 517), (41, 1501)])
def test_a_tiled_inpainting_equals_the_whole_frame(name, shape):
    model = load(name)
    image, cosmic_rays = star_field(shape, seed=2)
    whole = model.fill(image, cosmic_rays, tile=0)
    for tile in (37, 100, None):
        filled = model.fill(image, cosmic_rays, tile=tile)
        assert np.abs(filled - whole).max() <= 1e-6 * np.abs(whole[cosmic_rays]).max(), tile


@settings(max_examples=25)
@given(st.integers(1, 400), st.integers(1, 400), st.integers(1, 450), st.integers(0, 1000))
def test_no_shape_and_no_tile_size_shows_a_seam(small, height, width, tile, seed):
    image, _ = star_field((height, width), seed)
    whole = small.predict(image, tile=0)
    assert whole.shape == image.shape
    assert np.abs(small.predict(image, tile=tile) - whole).max() <= 1e-6


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (3, 2), (5, 5), (17, 1)])
@pytest.mark.parametrize("name", ["mask/WFC3-UVIS-2-32", SMALL])
def test_images_of_a_few_pixels_work(name, shape):
    probability = load(name).predict(np.full(shape, 50.0))
    assert probability.shape == shape
    assert np.isfinite(probability).all()


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (7, 5)])
@pytest.mark.parametrize("name", INPAINTERS)
def test_inpainting_of_a_few_pixels_works(name, shape):
    mask = np.zeros(shape, bool)
    mask[0, 0] = True
    filled = load(name).fill(np.full(shape, 50.0), mask)
    assert np.isfinite(filled).all()


def test_probability_logits_and_mask_agree(small):
    image, cosmic_rays = star_field((128, 128), seed=3)
    logits, probability = small.logits(image), small.predict(image)
    np.testing.assert_allclose(probability, 1 / (1 + np.exp(-logits.astype(float))), atol=1e-6)
    assert probability.dtype == logits.dtype == np.float32
    np.testing.assert_array_equal(small.mask(image), probability > 0.5)
    np.testing.assert_array_equal(small.mask(image, 0.9), probability > 0.9)
    assert small.mask(image)[cosmic_rays].mean() > 0.5
    assert small.mask(image)[~cosmic_rays].mean() < 0.05


@pytest.mark.parametrize("name", [SMALL, "mask/ACS-WFC-F606W-2-32"])
def test_tiled_logits_equal_those_of_the_whole_frame_and_give_the_probability(name):
    model = load(name)
    image, _ = star_field((150, 301), seed=3)
    whole = model.logits(image, tile=0)
    assert np.abs(model.logits(image, tile=64) - whole).max() <= 1e-5 * np.abs(whole).max()
    expected = torch.from_numpy(whole).sigmoid().numpy()
    np.testing.assert_allclose(model.predict(image, tile=0), expected, rtol=1e-6)


def test_logits_rank_where_probabilities_tie():
    model = load("ACS-WFC-F606W-2-32")
    image, _ = star_field((256, 256), seed=4)
    certain = model.predict(image) == 1
    assert certain.sum() > 1
    assert len(np.unique(model.logits(image)[certain])) == certain.sum()


def test_the_card_sets_the_default_threshold():
    model = load("WFC3-UVIS")
    image, _ = star_field((128, 128), seed=5)
    assert model.threshold == 0.15
    np.testing.assert_array_equal(model.mask(image), model.predict(image) > 0.15)


@pytest.mark.parametrize("threshold", [-0.1, 1.1, np.nan, "0.5"])
def test_a_threshold_that_is_no_probability_is_wrong_usage(small, threshold):
    with pytest.raises(UsageError, match="expected a probability between 0 and 1"):
        small.mask(np.zeros((8, 8)), threshold)


def test_a_tile_must_not_be_negative(small):
    with pytest.raises(UsageError, match="tile is -1"):
        small.predict(np.zeros((8, 8)), tile=-1)


def test_a_stack_is_the_images_one_by_one(small, painter):
    images = np.stack([star_field((64, 80), seed)[0] for seed in range(3)])
    np.testing.assert_array_equal(small.predict(images), np.stack([small.predict(image) for image in images]))
    masks = small.mask(images)
    filled = np.stack([painter.fill(image, mask) for image, mask in zip(images, masks, strict=True)])
    np.testing.assert_array_equal(painter.fill(images, masks), filled)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e38])
@pytest.mark.parametrize("tile", [0, 64])
def test_a_bad_pixel_is_never_marked_and_disturbs_nothing_beyond_the_receptive_field(small, value, tile):
    image, _ = star_field((200, 210), seed=6)
    clean = small.predict(image, tile=tile)
    image[100, 105] = value
    probability = small.predict(image, tile=tile)
    assert np.isfinite(probability).all()
    assert probability[100, 105] == 0
    assert small.logits(image)[100, 105] == -np.inf
    far = np.ones(image.shape, bool)
    far[100 - REACH : 101 + REACH, 105 - REACH : 106 + REACH] = False
    assert np.abs(probability - clean)[far].max() <= 1e-6
    assert np.abs(probability - clean).max() < 0.5  # and little inside it: upstream blanks 18 x 18 pixels


def test_one_nan_does_not_blank_a_frame_that_is_standardised_as_a_whole():
    model = load("WFC3-UVIS")
    image, _ = star_field((200, 210), seed=7)
    clean = model.predict(image)
    image[20, 30] = np.nan
    assert np.abs(model.predict(image) - clean)[60:, 60:].max() < 1e-3


def test_wfc3_uvis_is_standardised_over_the_whole_frame_before_tiling():
    model = load("WFC3-UVIS")
    image, _ = star_field((256, 400), seed=8)
    image[:, :100] += 500
    by_hand = (image - image.mean(dtype=float)) / image.std(dtype=float)
    # an image that is standardised already is left as it is
    np.testing.assert_allclose(model.predict(image, tile=64), model.predict(by_hand, tile=0), atol=2e-5)
    assert np.abs(model.predict(image[:, 200:]) - model.predict(image)[:, 200:]).max() > 1e-3


def test_an_image_without_a_valid_pixel_gives_an_empty_mask_and_a_warning(small, painter):
    empty = np.full((32, 32), np.nan)
    with pytest.warns(ImageWarning, match="no valid pixel"):
        assert not small.mask(empty).any()
    with pytest.warns(ImageWarning, match="no valid pixel"):
        assert load("WFC3-UVIS").predict(empty).max() == 0


def test_a_constant_frame_is_no_cosmic_ray():
    assert not load("WFC3-UVIS").mask(np.full((64, 64), 7.0)).any()


def test_filling_changes_only_masked_pixels(painter):
    image, cosmic_rays = star_field((150, 131), seed=9)
    filled = painter.fill(image, cosmic_rays)
    np.testing.assert_array_equal(filled[~cosmic_rays], image[~cosmic_rays])
    assert (filled[cosmic_rays] != image[cosmic_rays]).all()
    # the cosmic rays are gone: what is left is near the sky or a star
    assert np.median(filled[cosmic_rays]) < np.median(image[cosmic_rays]) / 2
    assert painter.fill(image, np.zeros_like(cosmic_rays)) is not image
    np.testing.assert_array_equal(painter.fill(image, np.zeros_like(cosmic_rays)), image)


def test_filling_keeps_nan_outside_the_mask_and_fills_it_inside(painter):
    image, cosmic_rays = star_field((64, 64), seed=10)
    image[10, 10] = image[40, 40] = np.nan
    cosmic_rays[:] = False
    cosmic_rays[40, 38:43] = True
    filled = painter.fill(image, cosmic_rays)
    assert np.isnan(filled[10, 10])
    assert np.isfinite(filled[cosmic_rays]).all()
    assert np.isnan(filled).sum() == 1


def test_filling_a_frame_without_a_valid_pixel_warns_and_gives_numbers(painter):
    assert np.isfinite(painter.fill(np.full((16, 16), 50.0), np.ones((16, 16)))).all()
    with pytest.warns(ImageWarning, match="no valid pixel"):
        assert np.isfinite(painter.fill(np.full((16, 16), np.nan), np.ones((16, 16)))).all()


def test_a_bad_pixel_beside_a_cosmic_ray_does_not_spread_it_into_the_fill(painter):
    image = np.random.default_rng(0).normal(60, 4, (64, 64)).astype(np.float32)
    mask = np.zeros((64, 64), bool)
    mask[30:36, 30:36] = True
    image[mask] = 3000
    undisturbed = painter.fill(image, mask)[mask].mean()
    image[28:30, 28:38] = image[36:38, 28:38] = np.nan
    assert undisturbed == pytest.approx(60, abs=10)
    assert painter.fill(image, mask)[mask].mean() == pytest.approx(undisturbed, abs=10)


def test_the_callers_array_is_never_changed(small, painter):
    image, cosmic_rays = star_field((80, 80), seed=12)
    before = image.copy()
    image.flags.writeable = cosmic_rays.flags.writeable = False
    small.predict(image)
    small.predict(image, tile=0)
    painter.fill(image, cosmic_rays)
    deepcr_zoo.clean(image, small, "medmask")
    np.testing.assert_array_equal(image, before)


def test_a_wrong_unit_is_an_error(small):
    with pytest.raises(InvalidImageError, match="the model expects electron"):
        small.predict(np.zeros((8, 8)) * u.adu)
    assert small.predict(np.zeros((8, 8)) * u.electron).shape == (8, 8)


def test_a_model_may_be_used_from_several_threads_at_once(small):
    images = [star_field((300, 300), seed)[0] for seed in range(6)]
    expected = [small.predict(image) for image in images]
    for one, other in zip(expected, at_once(small.predict, images), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_model_keeps_no_state_between_calls():
    model = deepcr_zoo.load("WFC3-UVIS")
    before = dict(vars(model))
    model.predict(star_field((64, 64), seed=11)[0])
    assert vars(model) == before


def test_no_gradients_are_recorded_and_the_network_is_folded():
    network = deepcr_zoo.load(SMALL, "cpu", engine="torch")._engine.network
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in network.modules())


def test_load_gives_the_model_of_the_task_and_says_which():
    mask, inpaint = deepcr_zoo.load("ACS-WFC-F606W-2-32"), deepcr_zoo.load("inpaint/ACS-WFC-F606W-2-32")
    assert isinstance(mask, MaskModel)
    assert isinstance(inpaint, InpaintModel)
    assert repr(mask).startswith("<MaskModel mask/ACS-WFC-F606W-2-32@1.0 on ")
    with pytest.raises(UnknownModelError):
        deepcr_zoo.load("nothing-like-it")


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "tpu", "CUDA:99", ""])
def test_an_unknown_device_is_an_error_never_a_silent_cpu(device):
    with pytest.raises(DeviceError, match=r"does not exist here: expected auto or one of .*cpu"):
        deepcr_zoo.load(SMALL, device=device)


def test_a_device_may_be_given_as_torch_has_it():
    assert deepcr_zoo.load(SMALL, device=torch.device("cpu")).device.type == "cpu"


def test_a_caution_of_the_registry_becomes_a_warning():
    with pytest.warns(ModelWarning, match="DECam-2-32@1.0: preliminary"):
        deepcr_zoo.load("decam")


def test_a_deprecated_version_still_loads_and_says_so(tmp_path):
    root = copy_registry(tmp_path)
    edit_entry(root, lambda entry: entry["versions"]["1.0"].update(deprecated="use 2.0"))
    with pytest.warns(ModelWarning, match="deprecated: use 2.0"):
        load_resolved(read_registry(root).resolve(SMALL))


@pytest.mark.parametrize("scale", [1.0, 10000.0, 150.0])
def test_a_card_with_the_wrong_input_scale_is_refused_at_load_time(tmp_path, scale):
    root = copy_registry(tmp_path)
    edit_card(root, lambda card: card["input"].update(scale=scale))
    with pytest.raises(InvalidWeightsError, match="the weights were trained at another input scale"):
        load_resolved(read_registry(root).resolve(SMALL))


def test_weights_of_another_architecture_are_refused(tmp_path):
    root = copy_registry(tmp_path)
    edit_entry(root, lambda entry: entry["versions"]["1.0"]["architecture"].update(hidden=8))
    with pytest.raises(InvalidWeightsError, match=r"expected F32 of shape \(8,\), got F32 of shape \(4,\)"):
        load_resolved(read_registry(root).resolve(SMALL))


def files_of(name):
    """Weights, card and architecture of a model of the seed."""
    model = default_registry().resolve(name)
    return sources.fetch(model, WEIGHTS_FILE, source="seed").data, read_card(model), model.locked.architecture


@pytest.mark.parametrize("name", [SMALL, "inpaint/ACS-WFC-F606W-2-32"])
def test_a_model_of_files_is_that_of_the_registry_under_another_name(name):
    known, made = deepcr_zoo.load(name, engine="torch"), load_files(*files_of(name), "mask/mine@run-1", engine="torch")
    assert type(made) is type(known)
    assert (made.reference, made.sha256, made.card) == ("mask/mine@run-1", known.sha256, known.card)
    image, mask = star_field((128, 128), seed=0)
    one, other = (m.predict(image) if isinstance(m, MaskModel) else m.fill(image, mask) for m in (known, made))
    np.testing.assert_array_equal(one, other)


def test_files_that_do_not_belong_together_are_refused():
    data, card, architecture = files_of(SMALL)
    with pytest.raises(InvalidWeightsError, match=r"mine: .*expected F32 of shape"):
        load_files(data, card, Architecture(depth=2, hidden=8, norm="batch"), "mine")
    with pytest.raises(InvalidWeightsError, match="mine: expected a safetensors file"):
        load_files(data[:100], card, architecture, "mine")
    with pytest.raises(DeviceError, match="does not exist here"):
        load_files(data, card, architecture, "mine", "gpu")


def test_a_missing_device_is_reported_before_anything_is_fetched(monkeypatch, tmp_path):
    monkeypatch.setenv("DEEPCR_ZOO_MIRROR", str(tmp_path / "not-there"))
    with pytest.raises(DeviceError, match="does not exist here"):
        deepcr_zoo.load(SMALL, device="gpu", source="mirror")


# Sky levels


SKY = np.random.default_rng(4).normal(0, 7, (96, 96)).astype(np.float32)


@pytest.mark.parametrize("level", [0.0, -20.0, -100.0, 10_000.0])
def test_an_inpainting_network_warns_once_where_its_sky_range_ends(level):
    network = load("inpaint/ACS-WFC-F606W-2-32")
    mask = np.zeros((3, 96, 96), dtype=bool)
    mask[:, 40:43, 40] = True
    expected = r"ACS-WFC-F606W-2-32@1.0 does well at sky levels of 15 to 300 e- .*, this image has"
    with pytest.warns(ImageWarning, match=expected) as caught:
        network.fill(np.stack([SKY + level] * 3), mask)
    assert len(caught) == 1
    network.fill(SKY + level, np.zeros(SKY.shape, dtype=bool))  # nothing is repainted: ImageWarning is an error in tests
    network.fill(SKY + 40, mask[0])


def test_a_mask_network_warns_beyond_the_sky_level_that_was_measured():
    network = load("mask/ACS-WFC-F606W-2-4")
    assert network.sky_range.holds(40)
    assert not network.sky_range.holds(5000)
    with pytest.warns(ImageWarning, match=r"does well at sky levels of up to"):
        network.mask(SKY + 5000)
    network.mask(SKY + 40)


def test_a_warning_points_at_the_line_of_the_caller():
    finder, painter = load("mask/ACS-WFC-F606W-2-4"), load("inpaint/ACS-WFC-F606W-2-32")
    compatible = deepcr_zoo.deepCR(finder, painter)
    bright, mask = SKY + 20_000, SKY > 20
    calls = [
        lambda: finder.logits(bright),
        lambda: finder.predict(bright),
        lambda: finder.mask(bright),
        lambda: painter.fill(bright, mask),
        lambda: deepcr_zoo.clean(bright, finder, painter),
        lambda: compatible.clean(bright, inpaint=True),
        lambda: compatible.inpaint(bright, mask),
        lambda: finder.mask(np.full((9, 9), np.nan)),
        lambda: deepcr_zoo.clean(np.full((9, 9), np.nan), finder),
        lambda: deepcr_zoo.load("DECam-2-32", engine="torch"),
        lambda: deepcr_zoo.deepCR("DECam-2-32"),
    ]
    for call in calls:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            call()
        assert {(note.filename, note.lineno) for note in caught} == {(__file__, call.__code__.co_firstlineno)}


def test_the_compatible_class_and_clean_warn_as_the_network_does():
    compatible = deepcr_zoo.deepCR("ACS-WFC-F606W-2-4", inpaint="ACS-WFC-F606W-2-32")
    image = SKY.copy()
    image[40, 40:44] += 3000
    with pytest.warns(ImageWarning, match="does well at sky levels"):
        compatible.clean(image)
    with pytest.warns(ImageWarning, match="does well at sky levels"):
        deepcr_zoo.clean(image, "ACS-WFC-F606W-2-4", "ACS-WFC-F606W-2-32")
    deepcr_zoo.clean(image, "ACS-WFC-F606W-2-4", "medmask")
