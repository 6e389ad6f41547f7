"""Scripts of the deepCR package that train and evaluate on arrays, with one import changed."""

import ast
import inspect
import math
import tarfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import deepcr_zoo
from deepcr_zoo.bench.compat import roc as plain_roc
from deepcr_zoo.dataset import arrays_recipe, training_set
from deepcr_zoo.dataset.store import Home
from deepcr_zoo.errors import AbsentAttributeError, InvalidDocumentError, InvalidImageError, UsageError
from deepcr_zoo.models.nets import UNet
from deepcr_zoo.models.upstream import _renamed, upstream_state
from deepcr_zoo.models.weights import serialise
from deepcr_zoo.training.compat import deepCR, roc, roc_lacosmic, train
from deepcr_zoo.zoo.registry import Architecture
from tests.scenes import star_field
from tests.training.stamps import made_up


class Brightness:
    """A model whose probability is the pixel value."""

    def predict(self, image):
        return image


PIXELS = np.array([[[0.1, 0.9], [0.4, 0.6]]], np.float32)
STRUCK = np.array([[[0, 1], [1, 0]]])


def test_roc_gives_percentages_at_each_threshold_in_the_given_order():
    tpr, fpr = roc(Brightness(), PIXELS, STRUCK, thresholds=np.array([0.5, 0.0, 0.95]))
    assert tpr.tolist() == [50, 100, 0]
    assert fpr.tolist() == [50, 100, 0]


def test_ignored_pixels_are_in_neither_rate():
    tpr, fpr = roc(Brightness(), PIXELS, STRUCK, np.array([[[0, 0], [1, 1]]]), thresholds=np.array([0.5]))
    assert (tpr.tolist(), fpr.tolist()) == ([100], [0])


def test_a_dilated_mask_holds_the_neighbours_too():
    image = np.zeros((1, 5, 5), np.float32)
    image[0, 2, 2] = 1
    (tpr, fpr), (wider_tpr, wider_fpr) = roc(Brightness(), image, image.astype(int), thresholds=np.array([0.5]), dilate=True)
    assert (tpr.tolist(), fpr.tolist(), wider_tpr.tolist()) == ([100], [0], [100])
    assert wider_fpr[0] == pytest.approx(100 * 4 / 24)


def test_the_rates_of_lacosmic_fall_with_sigclip():
    made = made_up(2, 100.0, 1)
    tpr, fpr = roc_lacosmic(made["image"], made["cosmic_rays"], np.array([3.0, 300.0]), made["ignore"])
    assert tpr[0] > 50 > tpr[1]
    assert fpr[0] >= fpr[1]


@pytest.mark.parametrize("names", ["a.npy", Path("a.npy"), ["a.npy"], [Path("a.npy")]])
def test_names_of_files_are_refused_with_what_to_do(names):
    with pytest.raises(InvalidImageError, match=r"read files with numpy\.load"):
        plain_roc(Brightness(), names, names)
    with pytest.raises(InvalidImageError, match=r"read files with numpy\.load"):
        train(names, names)


def test_no_images_are_refused():
    with pytest.raises(InvalidImageError):
        plain_roc(Brightness(), [], [])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        *(({"directory": one}, "directory is .*: expected a path") for one in (5, None, b"x")),
        *(({"name": one}, "name is .*: expected") for one in (5, None, "a/b", "../x", "a\0b", "", ".x", "x" * 101)),
        *(({"epoch": one}, "epoch is .*: expected a whole number") for one in ("x", None, math.nan, [3], True)),
        *(({"aug_sky": one}, "aug_sky is .*: expected two numbers") for one in (5, None, "ab", (1,), (1, 2, 3))),
    ],
)
def test_arguments_of_other_types_are_refused_before_the_training(options, expected):
    with pytest.raises(UsageError, match=expected):
        train(PIXELS, STRUCK, **options)


def test_simulation_is_refused_with_what_to_do():
    with pytest.raises(UsageError, match="labels dark_paste"):
        train(PIXELS, STRUCK, mode="simulate")
    with pytest.raises(UsageError, match="expected sky too"):
        train(PIXELS, STRUCK, aug_sky=(-0.9, 3))


@pytest.mark.parametrize("norm", ["batch", "none"])
def test_weights_in_upstreams_file_take_pixels_that_are_not_scaled(norm):
    architecture = Architecture(depth=2, hidden=2, norm=norm)
    network = UNet(architecture, "mask").double().eval()
    pixels = torch.rand(1, 1, 16, 16, dtype=torch.float64) * 500
    state = upstream_state(architecture, network.state_dict(), 120.0)
    content = {name.removeprefix("module."): one for name, one in state.items()}
    other = UNet(architecture, "mask").double().eval()
    found, renamed = _renamed(content)
    other.load_state_dict(renamed)
    assert found == architecture
    assert torch.allclose(network(pixels / 120), other(pixels), atol=1e-9)


def test_masks_of_good_pixels_and_other_recipes_are_refused(tmp_path):
    made = made_up(4, 100.0, 1)
    recipe = arrays_recipe("Mine-2-4", (32, 32))
    with pytest.raises(InvalidImageError, match=r"marks .* % of the pixels"):
        training_set(recipe, made["image"], 1 - made["cosmic_rays"], home=Home(tmp_path))
    with pytest.raises(UsageError, match="expected more"):
        training_set(recipe, made["image"][:1], made["cosmic_rays"][:1], home=Home(tmp_path))
    with pytest.raises(UsageError, match="expected stamps of 32 pixels"):
        arrays_recipe("Mine-2-4", (20, 20))


def test_numbers_that_no_image_has_are_one_sentence(tmp_path):
    made, recipe = made_up(6, 100.0, 1), arrays_recipe("Mine-2-4", (32, 32))
    images, masks = made["image"], made["cosmic_rays"]
    for sky in ([1.0, 2.0], "dark", np.nan, [None] * 6, 1e300, np.ones((6, 1))):
        with pytest.raises(InvalidImageError, match="sky: expected a level for each of the 6 images"):
            training_set(recipe, images, masks, sky=sky, home=Home(tmp_path))
    for seconds in (-1.0, np.nan, np.inf):
        with pytest.raises(UsageError, match="exposure_time_s: expected seconds"):
            training_set(recipe, images, masks, exposure_time_s=seconds, home=Home(tmp_path))


def test_an_image_for_training_and_for_testing_is_refused(tmp_path):
    made, recipe = made_up(6, 100.0, 1), arrays_recipe("Mine-2-4", (32, 32))
    twice = [np.concatenate([made[name]] * 2) for name in ("image", "cosmic_rays")]
    with pytest.raises(InvalidImageError, match="6 of the images for testing are among those for training too"):
        training_set(recipe, *twice, test_fraction=0.5, home=Home(tmp_path))


def test_an_image_is_known_by_its_pixels_whatever_its_mask(tmp_path):
    made, recipe = made_up(6, 100.0, 1), arrays_recipe("Mine-2-4", (32, 32))
    images, masks = (np.concatenate([made[name]] * 2) for name in ("image", "cosmic_rays"))
    masks[6:, 0, 0] = 1 - masks[6:, 0, 0]
    with pytest.raises(InvalidImageError, match="6 of the images for testing are among those for training too"):
        training_set(recipe, images, masks, test_fraction=0.5, home=Home(tmp_path))


def test_the_same_bytes_in_another_shape_or_of_another_camera_are_another_training_set(tmp_path):
    made, home = made_up(8, 100.0, 1), Home(tmp_path)
    images, masks = made["image"], made["cosmic_rays"]
    recipe = arrays_recipe("Mine-2-4", (32, 32))
    training_set(recipe, images, masks, home=home)
    other = recipe.model_copy(update={"instrument": recipe.instrument.model_copy(update={"filters": ["OTHER"]})})
    filters = {visit.record.filter_name for visit in training_set(other, images, masks, home=home).manifest.visits}
    assert filters == {"OTHER"}
    wide = [np.concatenate([one, one[::-1]], axis=2) for one in (images, masks)]
    tall = [one.reshape(8, 64, 32) for one in wide]
    before = training_set(arrays_recipe("Mine-2-4", (32, 32)), *tall, home=home)
    after = training_set(arrays_recipe("Mine-2-4", (32, 32)), *wide, home=home)
    assert np.array_equal(next(iter(before.stamps("train"))).image, tall[0][0, :32])
    assert np.array_equal(next(iter(after.stamps("train"))).image, wide[0][0, :, :32])


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"epoch": 0}, "max_epochs"),
        ({"batch_size": 0}, "batch_size"),
        ({"hidden": 10**9}, "hidden"),
        ({"lr": float("nan")}, "learning_rate"),
        ({"lr_decay_factor": 2}, "decay_factor"),
        ({"epoch_phase0": -5}, "freeze_after_epochs"),
        ({"sky": 1.0, "aug_sky": (3, -0.9)}, "augmentation.sky"),
    ],
    ids=str,
)
def test_settings_of_deepcr_that_cannot_be_are_one_sentence(options, field):
    with pytest.raises(InvalidDocumentError, match=f"the recipe of arrays: train.*{field}: expected"):
        train(np.ones((2, 32, 32), np.float32), np.zeros((2, 32, 32)), **options)


def test_whole_numbers_of_numpy_are_settings(tmp_path):
    integer = np.int64(4)
    train(np.ones((2, 32, 32), np.float32), np.zeros((2, 32, 32)), hidden=integer, epoch=integer, batch_size=integer)


def test_thresholds_and_radii_that_are_none_are_one_sentence():
    model = Brightness()
    for thresholds in ([], np.nan, "abc", [[0.5]]):
        with pytest.raises(UsageError, match="thresholds: expected a number"):
            roc(model, PIXELS, STRUCK, thresholds=thresholds)
    with pytest.raises(UsageError, match="sigclip: expected a number"):
        roc_lacosmic(PIXELS, STRUCK, [])
    for radius in (-1, 0.5):
        with pytest.raises(UsageError, match="rad: expected a whole number"):
            roc(model, PIXELS, STRUCK, dilate=True, rad=radius)
    with pytest.raises(InvalidImageError):
        roc(model, [], [])


def test_arrays_become_a_training_set_of_the_same_pixels_in_order(tmp_path):
    made = made_up(10, 100.0, 1)
    made["image"][0, 3, 4] = np.nan
    recipe = arrays_recipe("Mine-2-4", (32, 32))
    dataset = training_set(recipe, made["image"], made["cosmic_rays"], made["ignore"], home=Home(tmp_path))
    dataset.check_recipe(recipe, False)
    dataset.verify()
    stamps = [*dataset.stamps("train"), *dataset.stamps("validation"), *dataset.stamps("test")]
    assert [len(dataset.stamps(split)) for split in ("train", "validation", "test")] == [6, 2, 2]
    assert np.array_equal([one.cosmic_rays for one in stamps], made["cosmic_rays"])
    assert np.array_equal([one.image for one in stamps][1:], made["image"][1:])
    assert stamps[0].ignore[3, 4] == 1
    assert np.isfinite(stamps[0].image).all()
    again = training_set(recipe, made["image"], made["cosmic_rays"], made["ignore"], home=Home(tmp_path))
    assert again.folder == dataset.folder


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::deepcr_zoo.errors.ImageWarning")  # made-up images span few sky levels
def test_a_script_of_deepcr_trains_saves_and_loads_its_network(tmp_path, monkeypatch):
    monkeypatch.setenv("DEEPCR_ZOO_DATA", str(tmp_path / "data"))
    made = made_up(12, 100.0, 1)
    trainer = train(made["image"], made["cosmic_rays"], ignore=made["ignore"], hidden=2, epoch=2, directory=str(tmp_path))
    with pytest.raises(UsageError, match="call train"):
        trainer.save()
    with pytest.raises(AbsentAttributeError, match="train_phase1"):
        _ = trainer.train_phase1
    trainer.train()
    filename = trainer.save()
    assert filename.endswith("_model_epoch2")
    assert trainer.epoch_mask == len(trainer.validation_loss) == 2
    with pytest.warns(UserWarning, match="has no card"):
        model = deepCR(mask=str(tmp_path / f"{filename}.pth"), hidden=2)
    expected = trainer.run.model("cpu").predict(made["image"])
    assert model.mask_model.predict(made["image"]) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_the_network_of_another_training_of_the_day_keeps_its_file(kind, tmp_path, monkeypatch):
    architecture = Architecture(depth=2, hidden=2, norm="batch")
    run = SimpleNamespace(
        folder=tmp_path / "run",
        recipe=SimpleNamespace(train=SimpleNamespace(architecture=architecture, input=SimpleNamespace(scale=3.0))),
        history=lambda: [],
    )
    run.folder.mkdir()
    saved = []
    for _ in range(2):
        (run.folder / "model.safetensors").write_bytes(serialise(UNet(architecture, "mask").state_dict()))
        trainer = train(np.ones((2, 32, 32), np.float32), np.zeros((2, 32, 32)), hidden=2, directory=str(tmp_path))
        trainer._run = run
        saved += [trainer.save(), trainer.save()]  # saved twice it is still one file
        first = tmp_path / f"{saved[0]}.pth"
        if len(saved) == 2 and kind != "file":
            first.rename(tmp_path / "theirs")
            first.mkdir() if kind == "folder" else first.symlink_to(tmp_path / "theirs")
    theirs = first if kind == "file" else tmp_path / "theirs"
    assert saved == [saved[0], saved[0], f"{saved[0]}_2", f"{saved[0]}_2"]
    assert theirs.read_bytes() != (tmp_path / f"{saved[0]}_2.pth").read_bytes()
    assert len(list(tmp_path.glob("*.pth"))) == 2


@pytest.mark.parametrize(
    ("images", "options"),
    [
        ((PIXELS,), {}),
        ((PIXELS, STRUCK), {}),
        ((PIXELS, STRUCK), {"ignore": STRUCK}),
        ((), {"image": PIXELS, "mask": STRUCK}),
    ],
)
def test_arguments_of_deepcr_in_the_train_of_recipes_name_the_trainer_of_arrays(images, options):
    with pytest.raises(UsageError, match=r"deepcr_zoo\.training\.compat\.train has the signature of deepCR's"):
        deepcr_zoo.train(*images, **options)


@pytest.mark.network
@pytest.mark.parametrize(("ours", "file"), [(train, "training"), (roc, "evaluate"), (roc_lacosmic, "evaluate")])
def test_signatures_are_those_of_deepcr(ours, file, upstream_sdists):
    with tarfile.open(upstream_sdists / "deepCR-0.3.1.tar.gz") as release:
        source = release.extractfile(f"deepCR-0.3.1/deepCR/{file}.py").read()
    (theirs,) = (one for one in ast.parse(source).body if getattr(one, "name", None) == ours.__name__)
    function = theirs.body[0] if isinstance(theirs, ast.ClassDef) else theirs
    defaults = [eval(ast.unparse(one), {"np": np}) for one in function.args.defaults]
    mine = list(inspect.signature(ours).parameters.values())
    assert [one.name for one in mine] == [one.arg for one in function.args.args if one.arg != "self"]
    found = [one.default for one in mine if one.default is not one.empty]
    assert all(np.array_equal(one, other) for one, other in zip(found, defaults, strict=True))


def test_percentages_of_a_network_are_those_of_its_masks():
    model = deepCR("ACS-WFC-F606W-2-4")
    image, struck = star_field((64, 64), seed=1)
    tpr, fpr = roc(model, image[None], struck[None], thresholds=np.array([0.5]))
    found = model.clean(image, inpaint=False) > 0
    assert tpr[0] == pytest.approx(100 * found[struck].mean())
    assert fpr[0] == pytest.approx(100 * found[~struck].mean())
