"""Settings of the calling code change no result and stay as they were; forked processes compute as well."""

import locale
import os
import random
import signal
import subprocess
import sys
import threading
import warnings
from contextlib import contextmanager
from functools import cache

import numpy as np
import pytest
import torch

import deepcr_zoo
from deepcr_zoo.models import isolation
from tests.fitsfiles import acs_flc
from tests.registries import SMALL
from tests.scenes import star_field

pytestmark = pytest.mark.filterwarnings("ignore::deepcr_zoo.errors.ModelWarning")
INPAINTER = "inpaint/ACS-WFC-F606W-2-32"
ENGINES = ["torch", "openvino"]
LONGEST_S = 300  # a process that hangs ends here


@cache
def scene():
    """An image with invalid and denormal pixels, and its cosmic rays."""
    image, cosmic_rays = star_field((150, 140), seed=1)
    image[5:8, 7], image[20, 20:40] = np.nan, 1e-42
    return image, cosmic_rays


def results(mask_model, *inpainters):
    image, cosmic_rays = scene()
    cleaned = deepcr_zoo.clean(star_field((64, 60), seed=1)[0], mask_model, inpaint="medmask")[1]
    return mask_model.predict(image), mask_model.mask(image), cleaned, *(one.fill(image, cosmic_rays) for one in inpainters)


def load(engine):
    """A mask model, and with torch an inpainting model: its conversion for OpenVINO is the same and takes long."""
    return [deepcr_zoo.load(name, "cpu", engine=engine) for name in (SMALL, INPAINTER)[: 2 if engine == "torch" else 1]]


@cache
def plain(engine):
    """Models that were loaded without any setting, and what they give."""
    models = load(engine)
    return models, results(*models)


@contextmanager
def kept(read, write, value):
    """A setting with this value, which must still have it at the end."""
    before = read()
    write(value)
    try:
        yield
        assert read() == value
    finally:
        write(before)


def attribute(place, name, value):
    return lambda: kept(lambda: getattr(place, name), lambda found: setattr(place, name, found), value)


@contextmanager
def flushed_denormals():
    torch.set_flush_denormal(True)
    try:
        yield
        assert torch.tensor(1e-310, dtype=torch.float64) * 1 == 0
    finally:
        torch.set_flush_denormal(False)


@contextmanager
def default_device(name):
    torch.set_default_device(name)
    try:
        yield
        assert torch.get_default_device().type == name
    finally:
        torch.set_default_device(None)


@contextmanager
def warnings_as_errors():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@contextmanager
def signals_in_the_middle():
    before = signal.signal(signal.SIGALRM, lambda *arguments: None)
    signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


SETTINGS = {
    "autocast to bfloat16": lambda: torch.autocast("cpu", torch.bfloat16),
    "autocast to float16": lambda: torch.autocast("cpu", torch.float16),
    "float64 by default": lambda: kept(torch.get_default_dtype, torch.set_default_dtype, torch.float64),
    "float16 by default": lambda: kept(torch.get_default_dtype, torch.set_default_dtype, torch.float16),
    "meta by default": lambda: default_device("meta"),
    "cpu by default": lambda: default_device("cpu"),
    "meta in a block": lambda: torch.device("meta"),
    "inference_mode": torch.inference_mode,
    "no_grad": torch.no_grad,
    "enable_grad": torch.enable_grad,
    "detect_anomaly": lambda: torch.autograd.set_detect_anomaly(True),
    "deterministic algorithms": lambda: kept(
        torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms, True
    ),
    "denormals are zero": flushed_denormals,
    "short matrix products": lambda: kept(torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, "medium"),
    "no oneDNN": attribute(torch.backends.mkldnn, "enabled", False),
    "numpy raises": lambda: np.errstate(all="raise"),
    "warnings are errors": warnings_as_errors,
    "signals in the middle": signals_in_the_middle,
    "threads take turns": lambda: kept(sys.getswitchinterval, sys.setswitchinterval, 0.001),
    "no stdout": attribute(sys, "stdout", None),
}
if hasattr(torch.backends.mkldnn, "conv"):
    SETTINGS["short convolutions"] = attribute(torch.backends.mkldnn.conv, "fp32_precision", "bf16")


@pytest.mark.parametrize("engine", ["torch", pytest.param("openvino", marks=pytest.mark.slow)])
@pytest.mark.parametrize("setting", SETTINGS)
def test_a_setting_of_the_caller_changes_no_bit_of_a_result(setting, engine):
    models, expected = plain(engine)
    with SETTINGS[setting]():
        used = results(*models)
        loaded = results(*load(engine))
    for found in (used, loaded):
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("engine", ENGINES)
def test_another_number_of_threads_gives_the_same_mask(engine):
    models, expected = plain(engine)
    with kept(torch.get_num_threads, torch.set_num_threads, 3):
        used = results(*models)
        loaded = results(*load(engine))
    for found in (used, loaded):
        np.testing.assert_allclose(found[0], expected[0], rtol=0, atol=1e-6)  # kernels may round otherwise
        np.testing.assert_array_equal(found[1], expected[1])


def umask():
    """The process's umask, which can only be read by setting it."""
    found = os.umask(0o022)
    os.umask(found)
    return found


def state():
    """What belongs to the whole process or to this thread, by name."""
    image_mode = torch.empty(0)
    return {
        "Python's random numbers": random.getstate(),
        "numpy's random numbers": str(np.random.get_state()),
        "torch's random numbers": torch.get_rng_state().tolist(),
        "numpy's errors": np.geterr(),
        "numpy's printing": np.get_printoptions(),
        "warnings": list(warnings.filters),
        "environment": dict(os.environ),
        "working directory": os.getcwd(),
        "locale": locale.setlocale(locale.LC_ALL),
        "processors": os.sched_getaffinity(0),
        "signals": [signal.getsignal(number) for number in signal.valid_signals()],
        "stdout": (sys.stdout, sys.stderr, sys.excepthook),
        "path": list(sys.path),
        "recursion": sys.getrecursionlimit(),
        "umask": umask(),
        "threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "default tensor": (image_mode.dtype, image_mode.device, image_mode.requires_grad, image_mode.is_inference()),
        "modes": (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu")),
        "determinism": (torch.are_deterministic_algorithms_enabled(), torch.get_float32_matmul_precision()),
        "oneDNN": (torch.backends.mkldnn.enabled, torch.backends.mkldnn.deterministic),
        "cuDNN": (torch.backends.cudnn.enabled, torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32),
        "denormals": float(torch.tensor(1e-310, dtype=torch.float64, device="cpu") * 1),
        "Python's threads": threading.active_count(),
    }


@pytest.mark.parametrize("engine", ENGINES)
def test_the_state_of_the_process_stays_as_it_was(engine, tmp_path):
    exposure = acs_flc(tmp_path / "one_flc.fits")

    def use():
        results(*load(engine))
        deepcr_zoo.clean_file(exposure, engine=engine, output_dir=tmp_path / "out", device="cpu", overwrite=True)
        return state()

    before = use()  # libraries set filters of warnings when they are first imported
    after = use()
    assert {name: after[name] for name in before if after[name] != before[name]} == {}


@pytest.mark.parametrize("engine", ENGINES)
def test_a_first_load_leaves_the_process_as_it_was_and_its_folder_may_be_gone(engine, tmp_path):
    code = f"""
import os, random, sys, tempfile, warnings
import numpy, torch
warnings.simplefilter("error")
numpy.seterr(all="raise")
import deepcr_zoo
assert "deepcr_zoo.models.engines" not in sys.modules
gone = tempfile.mkdtemp(dir={str(tmp_path)!r})
os.chdir(gone)
def state():
    return torch.get_rng_state().tolist(), random.getstate(), str(numpy.random.get_state()), numpy.geterr(), \\
        torch.get_num_threads(), dict(os.environ), os.sched_getaffinity(0), torch.get_default_dtype()
torch.manual_seed(0)
before = state()
model = deepcr_zoo.load("{SMALL}", "cpu", engine="{engine}")
os.rmdir(gone)
assert model.mask(numpy.full((64, 64), 50.0)).sum() == 0
for one, other in zip(before, state(), strict=True):
    assert one == other, (one, other)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=LONGEST_S, env=checkout_on_path())


def checkout_on_path():
    return os.environ | {"PYTHONPATH": os.pathsep.join([*sys.path[:1], os.getcwd()])}


def test_the_settings_of_the_process_are_restored_when_the_last_of_several_threads_has_finished():
    cpu = torch.device("cpu")
    with attribute(torch.backends.mkldnn, "enabled", False)():
        inside, go_on = threading.Event(), threading.Event()

        def first():
            with isolation.isolated(cpu):
                inside.set()
                go_on.wait(LONGEST_S)

        thread = threading.Thread(target=first)
        thread.start()
        inside.wait(LONGEST_S)
        with isolation.isolated(cpu):
            go_on.set()
            thread.join()
            assert torch.backends.mkldnn.enabled  # still needed here
        assert not torch.backends.mkldnn.enabled


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_fork_waits_for_computations_before_it_takes_the_locks_of_pools_and_logs():
    program = "import deepcr_zoo, concurrent.futures.thread, logging, tests.models.forks as forks; forks.check_locks()"
    command = [sys.executable, "-W", "ignore", "-c", program]
    done = subprocess.run(command, env=checkout_on_path(), capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "both ended\n", done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.parametrize(
    ("engine", "parent"),
    [
        pytest.param("openvino", "openvino", marks=pytest.mark.slow),
        ("torch", "torch"),
        pytest.param("torch", "deepcr_zoo.models.model", marks=pytest.mark.slow),
        pytest.param("torch", "deepcr_zoo.exposures", marks=pytest.mark.slow),
        pytest.param("openvino", "quiet", marks=pytest.mark.slow),
        pytest.param("openvino", "busy", marks=pytest.mark.slow),
        pytest.param("torch", "quiet", marks=pytest.mark.slow),
        pytest.param("torch", "busy", marks=pytest.mark.slow),
    ],
)
def test_forked_processes_give_the_same_masks_and_do_not_hang(engine, parent, tmp_path):
    exposure = acs_flc(tmp_path / "one_flc.fits")
    command = [sys.executable, "-W", "ignore", "-m", "tests.models.forks", engine, str(exposure), parent]
    done = subprocess.run(
        command, cwd=tmp_path, env=checkout_on_path(), capture_output=True, text=True, timeout=LONGEST_S, check=False
    )
    assert done.stdout == "the same masks\n", done.stderr
