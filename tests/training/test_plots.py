"""Pictures of a run show what they say, to the pixel."""

import dataclasses
import io

import matplotlib.image
import numpy as np
import pytest

import deepcr_zoo
from deepcr_zoo.bench.report.shading import BLUE, GREY, ORANGE, RED
from deepcr_zoo.bench.runs import EpochRecord
from deepcr_zoo.errors import TrainingError
from deepcr_zoo.training import plots
from deepcr_zoo.training.plots import GAP, LEFT, TOP, plot_loss, plot_test_stamps
from tests.training.stamps import SIDE

SHOWN = plots.STAMPS_PER_FIELD_TYPE
ZOOM = plots.PANEL_PIXELS // SIDE
CYAN, STAR, PURPLE = (23, 190, 207), (214, 39, 40), (148, 103, 189)
"""Of the freeze, the best epoch and the decays."""


@pytest.fixture
def tested(dataset):
    """The made-up training set, its validation stamps for testing."""
    manifest = dataset.manifest
    visits = []
    for visit in manifest.visits:
        stamps = [{"train": one["train"], "test": one["validation"]} for one in visit.stamps]
        visits.append(visit.model_copy(update={"stamps": stamps}))
    return dataclasses.replace(dataset, manifest=manifest.model_copy(update={"visits": visits}))


@pytest.fixture(scope="module")
def finder():
    return deepcr_zoo.load("ACS-WFC-F606W-2-4", engine="torch")


@pytest.fixture(scope="module")
def painter():
    return deepcr_zoo.load("inpaint/ACS-WFC-F606W-2-32", engine="torch")


def pixels(path):
    """Red, green and blue, 0 to 255."""
    return np.round(matplotlib.image.imread(io.BytesIO(path.read_bytes()), format="png")[..., :3] * 255).astype(int)


def panel(path, row, column):
    """A panel as it stands in the picture, one value for each pixel of its stamp."""
    top, left = TOP + row * (plots.PANEL_PIXELS + GAP), LEFT + column * (plots.PANEL_PIXELS + GAP)
    found = pixels(path)[top : top + plots.PANEL_PIXELS, left : left + plots.PANEL_PIXELS]
    return found[ZOOM // 2 :: ZOOM, ZOOM // 2 :: ZOOM][::-1]  # the first row of an image is below


def is_colour(picture, colour):
    return (np.abs(picture - np.array(colour) * 255) <= 1).all(axis=-1)


def history_of(rates, freeze, best):
    return [
        EpochRecord(
            epoch=epoch,
            frozen=epoch > freeze,
            learning_rate=rate,
            train_loss=1 / epoch,
            validation_loss=0.05 if epoch == best else 1.2 / epoch,
            is_best=epoch <= best,
            precision="float32",
            seconds=1.0,
            stamps_per_second=1.0,
        )
        for epoch, rate in enumerate(rates, 1)
    ]


def has(path, colour):
    return bool((pixels(path) == colour).all(axis=-1).any())


def test_the_loss_curve_marks_the_freeze_and_the_decays_only_where_there_are_any(tmp_path):
    path = tmp_path / "loss.png"
    plot_loss(history_of([0.005] * 10, freeze=10, best=3), path)
    assert pixels(path).shape[1] == 800
    assert not has(path, CYAN)
    assert not has(path, PURPLE)
    plot_loss(history_of([0.005] * 4 + [0.002] * 6, freeze=4, best=3), path)
    assert has(path, CYAN)
    assert not has(path, PURPLE)  # a new start at the freeze is no decay
    plot_loss(history_of([0.005] * 4 + [0.002] * 3 + [0.0002] * 3, freeze=4, best=3), path)
    assert has(path, CYAN)
    assert has(path, PURPLE)


def test_the_best_epoch_stands_where_it_was(tmp_path):
    places = []
    for best in (2, 18):
        plot_loss(history_of([0.005] * 20, freeze=20, best=best), tmp_path / "loss.png")
        lower = pixels(tmp_path / "loss.png")[:380]  # without the legend
        places.append(np.argwhere((lower == STAR).all(axis=-1))[:, 1].mean())
    assert places[0] < 200
    assert places[1] > 650


def test_a_history_of_one_epoch_can_be_drawn(tmp_path):
    plot_loss(history_of([0.005], freeze=1, best=1), tmp_path / "loss.png")
    assert has(tmp_path / "loss.png", STAR)


def test_the_sheet_of_a_mask_network_shows_hits_misses_and_false_alarms(tested, finder, tmp_path):
    path = tmp_path / "stamps.png"
    plot_test_stamps(finder, tested, path)
    stamps = tested.stamps("test")
    seen = dict.fromkeys(("found", "missed", "false"), 0)
    for row, stamp in enumerate(stamps[number] for number in (2, 6)):  # a quarter and three quarters of nine
        mask, label, counted = finder.mask(stamp.image), stamp.cosmic_rays == 1, stamp.ignore == 0
        drawn = panel(path, row, 3)
        for what, (chosen, colour) in {
            "found": (mask & label, BLUE),
            "missed": (label & ~mask, ORANGE),
            "false": (mask & ~label, RED),
        }.items():
            np.testing.assert_array_equal(is_colour(drawn, colour), chosen & counted, err_msg=what)
            seen[what] += int((chosen & counted).sum())
        np.testing.assert_array_equal(is_colour(drawn, GREY), ~counted)
        np.testing.assert_array_equal(is_colour(panel(path, row, 1), (0, 0, 0)), label)
    assert seen["found"] > 20


def test_the_sheet_of_an_inpainting_network_judges_the_added_mask_alone(tested, painter, tmp_path):
    path = tmp_path / "stamps.png"
    plot_test_stamps(painter, tested, path)
    stamps = tested.stamps("test")
    for row, stamp in enumerate(stamps[number] for number in (2, 6)):
        own, counted = stamp.cosmic_rays == 1, stamp.ignore == 0
        hidden = panel(path, row, 1)
        np.testing.assert_array_equal(is_colour(hidden, ORANGE), own & counted)
        added = is_colour(hidden, BLUE)
        assert added.sum() > 20
        np.testing.assert_array_equal(is_colour(panel(path, row, 3), GREY), ~added)
        before, after = panel(path, row, 0), panel(path, row, 2)
        np.testing.assert_array_equal(before[~added & ~own & counted], after[~added & ~own & counted])
        assert after[own].mean() < before[own].mean() / 2


def test_the_same_pictures_have_the_same_bytes(tested, finder, painter, tmp_path):
    for model in (finder, painter):
        for name in ("one.png", "two.png"):
            plot_test_stamps(model, tested, tmp_path / name)
        assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    assert b"matplotlib" not in (tmp_path / "one.png").read_bytes().lower()


def test_a_field_type_with_one_test_stamp_gets_one_row_and_without_any_nothing_is_drawn(dataset, tested, finder, tmp_path):
    first = [{"test": one["test"][:1]} if number == 0 else {} for number, one in enumerate(tested.manifest.visits[0].stamps)]
    visits = [tested.manifest.visits[0].model_copy(update={"stamps": first})]
    single = dataclasses.replace(tested, manifest=tested.manifest.model_copy(update={"visits": visits}))
    plot_test_stamps(finder, single, tmp_path / "one.png")
    plot_test_stamps(finder, tested, tmp_path / "all.png")
    rows = (len(pixels(tmp_path / "all.png")) - len(pixels(tmp_path / "one.png"))) / (plots.PANEL_PIXELS + GAP)
    assert rows == SHOWN - 1
    with pytest.raises(TrainingError, match="has no test stamp to show"):
        plot_test_stamps(finder, dataset, tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()
