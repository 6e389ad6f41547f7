"""Operating points keep the promise of their FPR as `clean` uses them, and are recorded once."""

import datetime
import shutil

import numpy as np
import pytest
import yaml

from deepcr_zoo import locations
from deepcr_zoo.bench.judging import Extent, benchmark
from deepcr_zoo.bench.measures import roc
from deepcr_zoo.bench.operatingpoints import FPRS, operating_points, record
from deepcr_zoo.bench.subjects import find_subject
from deepcr_zoo.errors import DeepcrZooError
from deepcr_zoo.models.model import probabilities
from deepcr_zoo.zoo.records import threshold_at
from deepcr_zoo.zoo.registry import read_registry
from tests.bench.stamps import recipe_of

NAME = "mask/ACS-WFC-F606W-2-4@1.0"


def sigmoid(logits):
    """Return probabilities computed as in the models."""
    return probabilities(logits.copy())


@pytest.fixture(scope="module")
def pixels():
    random = np.random.default_rng(4)
    labels = random.random(400_000) < 0.05
    return random.normal(np.where(labels, 3.0, -6.0), 2.5).astype(np.float32), labels


def test_probability_thresholds_keep_the_fpr_and_nearly_all_of_the_tpr(pixels):
    logits, labels = pixels
    points, cautions = operating_points({"all": roc.count(logits, labels).curve()})
    assert [point.fpr for point in points] == list(FPRS)
    assert cautions == []
    probability = sigmoid(logits)
    for point in points:
        masked = probability > np.float32(point.threshold)
        assert np.mean(masked[~labels]) <= point.fpr
        assert np.mean(masked[labels]) == point.tpr
        assert point.tpr == pytest.approx(roc.count(logits, labels).curve().at_fpr(point.fpr).tpr, abs=2e-3)


def test_an_fpr_with_too_few_clean_pixels_is_left_out_with_a_caution(pixels):
    logits, labels = (one[:30_000] for one in pixels)
    points, cautions = operating_points({"all": roc.count(logits, labels).curve()})
    assert [point.fpr for point in points] == [0.0005, 0.001, 0.005]
    assert "FPR 0.01 %" in cautions[0]
    assert "too few" in cautions[0]


def test_a_probability_that_rounds_to_one_is_not_used_as_a_threshold(pixels):
    logits, labels = pixels
    points, cautions = operating_points({"all": roc.count(logits + 40, labels).curve()})
    assert points == []
    assert len(cautions) == len(FPRS)
    assert all("rounds to 1" in caution for caution in cautions)


@pytest.fixture
def checkout(tmp_path):
    """A copy of the checkout without results."""
    for name in ("zoo", "cards"):
        shutil.copytree(
            locations.data_root() / name, tmp_path / name, ignore=shutil.ignore_patterns("weights", "*.results.yaml")
        )
    (tmp_path / "pyproject.toml").touch()
    return tmp_path


def judged(dataset):
    alone = Extent(lacosmic=False, runtime=False, gates=False)
    results = benchmark([find_subject(NAME)], dataset, recipe_of(), "deepcr-zoo bench NAME", extent=alone, device="cpu")
    assert results.methods[0].operating_points
    return results


def test_clean_finds_recorded_points_and_they_are_recorded_once(dataset, checkout):
    results = judged(dataset)
    path = record(results, NAME, checkout)
    once = path.read_bytes()
    assert record(results, NAME, checkout) == path
    assert path.read_bytes() == once
    model = read_registry(checkout).resolve(NAME)
    point = next(one for one in results.methods[0].operating_points if (one.field_type, one.fpr) == ("all", 0.005))
    threshold, where = threshold_at(model, 0.005, allow_synthetic=True)
    assert threshold == point.threshold
    assert "synthetic" in where
    with pytest.raises(DeepcrZooError, match="--allow-synthetic"):
        threshold_at(model, 0.005, allow_synthetic=False)


def test_a_later_measurement_is_appended_and_the_first_is_unchanged(dataset, checkout):
    results = judged(dataset)
    path = record(results, NAME, checkout)
    first = yaml.safe_load(path.read_text())["measurements"]
    record(results.model_copy(update={"date": results.date + datetime.timedelta(days=1)}), NAME, checkout)
    both = yaml.safe_load(path.read_text())["measurements"]
    assert both[:1] == first
    assert len(both) == 2
