import os
import subprocess
import sys
import time
from functools import partial

import numpy as np
import pytest
import torch

from deepcr_zoo.bench import runtime
from deepcr_zoo.bench.runtime import Timed, classical, example_frame, lacosmic, machine_name, measure, network
from deepcr_zoo.errors import UsageError
from deepcr_zoo.machine import processor_name
from deepcr_zoo.models import model
from deepcr_zoo.models.baselines import Lacosmic
from tests.conftest import CHECKOUT

SIDE = 160
MB = 1_000_000
OURS, GREED = 800 * MB, 300 * MB


def refused():
    raise UsageError("this is not what it takes: expected something else")


def killed():
    os.kill(os.getpid(), 9)


def endless():
    time.sleep(60)


def greedy(image, mask):
    """Takes memory for a moment."""
    return np.ones(GREED, np.uint8).sum()


@pytest.fixture(scope="module")
def measured():
    """Methods that work and methods that do not, measured from a larger process; names in the order of the reports."""
    reported = []
    methods = {
        "refused": refused,
        "network": partial(network, partial(model.load, "mask/ACS-WFC-F606W-2-4", source="seed")),
        "killed": killed,
        "greedy": partial(classical, greedy),
    }
    large = np.ones(OURS, np.uint8)
    runtimes, cautions = measure(methods, SIDE, repeats=2, on_method=reported.append)
    assert large.all()
    return {one.method: one for one in runtimes}, cautions, reported


@pytest.mark.slow
def test_each_method_is_timed_after_a_first_call_that_does_not_count(measured):
    runtimes, _, _ = measured
    for one in runtimes.values():
        assert len(one.seconds) == 2
        assert min(one.seconds) > 0
        assert one.megapixels == SIDE**2 / 1e6
        assert one.megapixels_per_s == pytest.approx(one.megapixels / np.median(one.seconds))


@pytest.mark.slow
def test_peak_memory_is_that_of_the_method_not_that_of_who_asks(measured):
    network, greedy = (measured[0][name].peak_bytes for name in ("network", "greedy"))
    assert 50 * MB < network < OURS
    assert GREED + 50 * MB < greedy < OURS


@pytest.mark.slow
def test_a_method_that_fails_or_dies_is_a_caution_and_the_others_go_on(measured):
    runtimes, cautions, reported = measured
    assert list(runtimes) == ["network", "greedy"]
    assert reported == ["refused", "network", "killed", "greedy"]
    assert cautions == [
        "runtime of refused was not measured: this is not what it takes: expected something else",
        "runtime of killed was not measured: its process ended with exit code -9, perhaps for want of memory",
    ]


def test_where_the_system_does_not_report_memory_the_speed_is_measured_and_a_caution_says_so(monkeypatch):
    monkeypatch.setattr(runtime, "_in_a_process", lambda *method: Timed([1.0, 2.0], None))
    (one,), cautions = measure({"network": refused}, SIDE)
    assert (one.peak_bytes, one.seconds) == (None, [1.0, 2.0])
    assert cautions == ["largest memory of network was not measured: this system does not report it"]


@pytest.mark.slow
def test_without_the_module_resource_training_can_be_imported_and_there_is_no_largest_memory():
    code = """
import sys
from pathlib import Path
sys.modules["resource"] = None
import deepcr_zoo
assert deepcr_zoo.train
from deepcr_zoo.bench import runtime
runtime.STATUS = Path("/nowhere")
assert runtime._timed(lambda image, mask: None, 64, 1).peak_bytes is None
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_method_that_does_not_end_is_given_up():
    caution = "runtime of endless was not measured: it took more than 0.2 s"
    assert measure({"endless": endless}, SIDE, limit_s=0.2) == ([], [caution])


@pytest.mark.parametrize("name", ["finder", "painter"])
def test_what_is_timed_is_what_a_network_gives(name, request):
    model = request.getfixturevalue(name)
    image, mask = example_frame(SIDE)
    expected = model.mask(image) if name == "finder" else model.fill(image, mask)
    np.testing.assert_array_equal(network(lambda device: model)(image, mask), expected)


def test_a_slow_method_is_repeated_less_often(monkeypatch):
    calls = []
    for enough, expected in ((60.0, 3), (0.0, 1)):
        monkeypatch.setattr(runtime, "ENOUGH_S", enough)
        assert len(runtime._timed(lambda image, mask: calls.append(1), 64, 3).seconds) == expected
    assert len(calls) == 4 + 2, "a first call does not count"


def test_what_is_timed_is_the_mask_of_lacosmic():
    image, mask = example_frame(SIDE)
    settings = Lacosmic(2.0, 4.0)
    np.testing.assert_array_equal(lacosmic(settings, 5.0)(image, mask), settings.mask(image, 5.0))


def test_the_image_has_the_side_that_was_asked_for_and_its_cosmic_rays():
    image, mask = example_frame(200)
    assert image.shape == mask.shape == (200, 200)
    assert 0.005 < mask.mean() < 0.05
    assert image[mask].mean() > 2 * np.median(image)


def test_a_machine_is_called_by_its_processor():
    assert machine_name(torch.device("cpu")) == f"{processor_name()}, {torch.get_num_threads()} threads"


@pytest.mark.slow
def test_a_script_that_measures_is_not_run_again(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from functools import partial\n"
        "from deepcr_zoo.bench.runtime import classical, measure\n"
        "from deepcr_zoo.models.baselines import medmask\n"
        "print('once', measure({'medmask': partial(classical, medmask)}, 32)[1])\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, cwd=CHECKOUT)
    assert (done.stdout, done.stderr) == ("once []\n", "")
