"""The scripts in benchmarks/ that judge on simulated visits or time the training."""

import os
import shutil
import subprocess
import sys
import tarfile

import numpy as np
import pytest
import torch

from deepcr_zoo.bench.measures import roc
from deepcr_zoo.machine import multiplies_bfloat16
from deepcr_zoo.models.baselines import Lacosmic
from deepcr_zoo.zoo.cards import read_card
from deepcr_zoo.zoo.registries import default_registry
from tests.bench.stamps import FIELD, SKY_ELECTRON, layers
from tests.conftest import CHECKOUT
from tests.scenes import star_field

SCRIPTS = CHECKOUT / "benchmarks"


@pytest.mark.parametrize("script", ["labels.py", pytest.param("realism.py", marks=pytest.mark.slow)])
def test_reserved_seeds_are_refused_before_anything_is_made(script, tmp_path):
    command = [sys.executable, SCRIPTS / script, "--seeds", "500", "900000", "--cache", tmp_path / "cache"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr == "--seeds 900000: seeds from 900000 up are reserved for --independent evaluation\n"
    assert list(tmp_path.iterdir()) == []


def test_published_figures_are_those_of_the_card_in_the_band_if_it_tells_bands_apart(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    from realism import published

    first, later = (read_card(default_registry().resolve(f"ACS-WFC-F606W-2-32@{version}")) for version in ("1.0", "2.0"))
    assert published(first, "globular_cluster", 0.0005, "F606W") == 93.3
    assert published(first, "resolved_galaxy", 0.005, "F606W") == 91.2
    assert published(later, "extragalactic", 0.0005, "F606W") == 88.6
    assert published(first, "extragalactic", 0.001, "F606W") is None


def test_a_spread_needs_two_values_and_all_of_them(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    from spreads import spread

    assert spread([0.5]) is None
    assert spread([0.5, None, 0.7]) is None
    assert spread([0.2, 0.4]).standard_error == pytest.approx(0.1)
    assert (spread([0.2, 0.4]).mean, spread([0.2, 0.4]).values) == (pytest.approx(0.3), [0.2, 0.4])


def test_the_spread_over_seeds_is_that_of_each_seeds_own_tpr(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    from realism import FPRS, spreads_of

    images = [star_field((100, 120), seed) for seed in (1, 2)]
    curves = [roc.count(image.astype(np.float32), labels).curve() for image, labels in images]
    for fpr, several in zip(FPRS, spreads_of(curves), strict=True):
        alone = [curve.at_fpr(fpr).tpr for curve in curves]
        assert several.values == alone
        assert several.mean == pytest.approx(np.mean(alone))
        assert several.standard_error == pytest.approx(np.std(alone, ddof=1) / np.sqrt(2))


def test_a_sweep_counts_what_each_sigclip_masks_and_leaves_ignored_pixels_out(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    from realism import sweep, together

    method = Lacosmic(objlim=2.0, readnoise=4.1)
    image, labels = star_field((120, 150), seed=2)
    ignore = np.zeros_like(labels)
    ignore[:40] = True
    swept = sweep(method, image, labels, ignore, sigclips=(8.0, 3.0))
    assert swept.thresholds.tolist() == [3.0, 8.0]
    for sigclip, (false, true) in zip(swept.thresholds, swept.masked.T, strict=True):
        mask = method.mask(image, sigclip)[40:]
        assert (true, false) == ((mask & labels[40:]).sum(), (mask & ~labels[40:]).sum())
    assert swept.pixels.tolist() == [(~labels[40:]).sum(), labels[40:].sum()]
    np.testing.assert_array_equal(together([swept, swept]).masked, 2 * swept.masked)


def test_with_more_sky_the_network_sees_another_image_and_labels_stay(monkeypatch, finder, dataset):
    monkeypatch.syspath_prepend(SCRIPTS)
    from rehearsal import judge

    image, labels, ignored = layers(dataset)
    for alpha in (0, 2):
        counts = judge(finder, dataset, FIELD, alpha)
        expected = roc.count(finder.logits(image + np.float32(alpha * SKY_ELECTRON)), labels, ignored)
        for name in ("scores", "cosmic_rays", "clean", "ignored"):
            np.testing.assert_array_equal(getattr(counts, name), getattr(expected, name))


@pytest.mark.slow
@pytest.mark.network
def test_training_is_timed_beside_upstreams_own_network_in_both_phases(upstream_sdists, tmp_path):
    with tarfile.open(upstream_sdists / "deepCR-0.3.1.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    folder = tmp_path / "deepCR-0.3.1"
    shutil.copy(folder / "PKG-INFO", folder / "deepCR.egg-info")  # so that it counts as installed
    options = ["--cases", "2:32", "--batch", "4", "--steps", "2", "--repeats", "1", "--threads", "1"]
    done = subprocess.run(
        [sys.executable, SCRIPTS / "training.py", *options],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), str(CHECKOUT)])},
    )
    heading, *table = [line for line in done.stdout.splitlines() if line]
    assert "deepCR 0.3.1" in heading
    rows = [line.split(" | ")[1].split(":")[0] for line in table if line.startswith("| 2-2, ")]
    assert rows == ["phase 1", "phase 2", "the recipe", "float32", *(["bfloat16"] if multiplies_bfloat16() else [])]
    steps = [line.split(":")[0] for line in done.stderr.splitlines() if " s, loss " in line]
    assert (
        steps == ["2-2, 32 x 32, deepCR 0.3.1", "2-2, 32 x 32, ours"] * 6
    )  # in turns; the first of each phase is a warm-up


def test_the_speed_of_a_schedule_is_that_of_all_its_epochs_together(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    from training import Case, rows

    times = {False: [(2.0, 2.0), (3.0, 1.0), (2.0, 1.0)], True: [(2.0, 0.5)]}
    *phases, schedule = (row.split(" | ")[-1].strip(" |*") for row in rows(Case(2, 32), times, 4))
    assert phases == ["2.00 (1.00 - 3.00)", "4.00 (4.00 - 4.00)"]
    assert float(schedule) == 60 / (20 / 2 + 40 / 4)


def test_epochs_of_the_paper_s_size_are_timed_in_both_phases(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    from training import Case, epochs_of_the_paper

    records = epochs_of_the_paper(Case(2, 32), torch.device("cpu"), stamps=26, batch=16, seed=1)
    assert [record.frozen for record in records] == [False] * 3 + [True] * 3
    assert all(record.stamps_per_second * record.seconds == pytest.approx(16) for record in records)
