"""Each engine reproduces the stored test vectors and agrees with the other engine."""

import builtins
import copy
import logging
import os
import pickle
import subprocess
import sys
from functools import cache
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pytest
import torch

import deepcr_zoo
from deepcr_zoo.errors import MissingExtraError, UsageError
from deepcr_zoo.machine import multiplies_bfloat16
from deepcr_zoo.models import engines, testvectors
from deepcr_zoo.models.engines import select_engine
from deepcr_zoo.models.model import MaskModel
from deepcr_zoo.models.torchengine import TorchEngine
from deepcr_zoo.models.verification import verify
from deepcr_zoo.zoo import sources
from deepcr_zoo.zoo.cards import read_card
from deepcr_zoo.zoo.registries import default_registry
from deepcr_zoo.zoo.registry import TEST_VECTOR_FILE
from tests.conftest import ALL_MODELS
from tests.fitsfiles import acs_flc
from tests.registries import SMALL
from tests.scenes import star_field
from tests.threads import at_once

pytestmark = pytest.mark.filterwarnings("ignore::deepcr_zoo.errors.ModelWarning")
WIDE = "mask/ACS-WFC-2-32"
CPU = torch.device("cpu")
BOTH = ["torch", "openvino"]
SHAPES = [(512, 512), (300, 517), (64, 64), (1, 1)]
WHOLE_COPIES = (512, 480)
FEW = ("mask/ACS-WFC-F606W-2-4@1.0", "mask/ACS-WFC-2-32@1.0", "inpaint/ACS-WFC-F606W-2-32@1.0")
FEW_AT_ONCE = [pytest.param(name, marks=() if name in FEW else pytest.mark.slow) for name in ALL_MODELS]
"""All models; a few of them in the quick tests."""


@cache
def load(name, engine):
    return deepcr_zoo.load(name, "cpu", engine=engine)


@pytest.fixture(params=BOTH)
def wide(request):
    return load(WIDE, request.param)


def apply(model, image, cosmic_rays):
    return model.predict(image) if isinstance(model, MaskModel) else model.fill(image, cosmic_rays)


def tolerance(name):
    return 1e-4 if name.endswith("2-4") else 1e-5


def blocks(count, side=200):
    """Network inputs of one shape, as float32."""
    rng = np.random.default_rng(0)
    return [rng.normal(60, 9, (1, side, side)).astype(np.float32) for _ in range(count)]


@pytest.mark.parametrize("engine", BOTH)
@pytest.mark.parametrize("name", ALL_MODELS)
def test_every_model_reproduces_its_test_vector_with_every_engine(name, engine):
    outcome = verify(default_registry().resolve(name), "cpu", engine=engine)
    assert outcome.verdict == "reproduces"
    assert outcome.max_difference <= tolerance(name)
    assert outcome.flipped_pixels in (0, None)


@pytest.mark.parametrize("engine", BOTH)
@pytest.mark.parametrize("name", FEW_AT_ONCE)
def test_a_part_or_a_mosaic_of_the_test_vector_gives_what_is_stored_for_it(name, engine):
    resolved = default_registry().resolve(name)
    card = read_card(resolved).input
    vector = testvectors.read(sources.fetch(resolved, TEST_VECTOR_FILE).data, name)
    for shape in [(512, 512), (300, 517), (64, 64), WHOLE_COPIES]:
        # where the whole frame counts, only a mosaic of whole copies has the values of the test vector; its noise, which is
        # measured in a part of the pixels, is another
        if card.normalisation == "scale" or (shape == WHOLE_COPIES and not card.by_noise):
            check_mosaic(load(name, engine), name, vector, shape)


def check_mosaic(model, name, vector, shape):
    card = model.card.input
    height, width = vector.image.shape
    # the copies start where the pooling does; near their edges they have other neighbours than the test vector had
    assert height % card.multiple == width % card.multiple == 0
    inside = np.zeros((height, width), bool)
    inside[card.halo : -card.halo, card.halo : -card.halo] = True
    image, mask, expected, inside = (
        np.tile(array, (-(-shape[0] // height), -(-shape[1] // width)))[: shape[0], : shape[1]]
        for array in (vector.image, vector.mask, vector.expected, inside)
    )
    inside[-card.halo :] = inside[:, -card.halo :] = False
    found = apply(model, image, mask)
    unit = 1.0 if isinstance(model, MaskModel) else np.abs(expected).max()
    assert inside.any()
    assert np.abs(found - expected)[inside].max() <= tolerance(name) * unit


@pytest.mark.parametrize("bad", [pytest.param(False, marks=pytest.mark.slow), True], ids=["all valid", "with NaN"])
@pytest.mark.parametrize("name", FEW_AT_ONCE)
def test_the_engines_agree_on_images_of_all_sizes(name, bad):
    by_torch, by_openvino = (load(name, engine) for engine in BOTH)
    for seed, shape in enumerate(SHAPES):
        image, cosmic_rays = star_field(shape, seed)
        if bad and image.size > 1:
            image[np.random.default_rng(seed).random(shape) < 0.01] = np.nan
        expected, found = apply(by_torch, image, cosmic_rays), apply(by_openvino, image, cosmic_rays)
        unit = 1.0 if isinstance(by_torch, MaskModel) else np.nanmax(np.abs(expected))
        np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance(name) * unit)


@pytest.mark.parametrize("tile", [1, 64, 100, 256, 300, 1000, None])
def test_openvino_shows_no_seam(tile):
    model = load(WIDE, "openvino")
    image, _ = star_field((300, 617), seed=1)
    assert np.abs(model.predict(image, tile=tile) - model.predict(image, tile=0)).max() <= 1e-6


def test_several_threads_get_what_one_gets(wide):
    images = [star_field((200 + 30 * seed, 300), seed)[0] for seed in range(6)]
    expected = [wide.predict(image) for image in images]
    for one, other in zip(expected, at_once(wide.predict, images), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_call_leaves_nothing_behind_that_changes_the_next(wide):
    image, _ = star_field((300, 300), seed=1)
    before = wide.predict(image)
    attributes = dict(vars(wide._engine))
    for shape in [(64, 64), (1, 1), (517, 300)]:
        wide.predict(star_field(shape, seed=2)[0])
    np.testing.assert_array_equal(wide.predict(image), before)
    assert vars(wide._engine) == attributes


def test_copies_of_a_model_work_and_leave_it_as_it_was(wide):
    image, _ = star_field((200, 200), seed=1)
    before = wide.predict(image)
    np.testing.assert_array_equal(copy.deepcopy(wide).predict(image), before)
    # what multiprocessing does, which moves torch's weights into shared memory
    np.testing.assert_array_equal(ForkingPickler.loads(ForkingPickler.dumps(wide)).predict(image), before)
    np.testing.assert_array_equal(wide.predict(image), before)
    np.testing.assert_array_equal(wide.predict(image, tile=64), before)


@pytest.mark.parametrize("engine", BOTH)
@pytest.mark.slow
def test_no_engine_uses_more_threads_than_torch_is_allowed(engine):
    code = f"""
import time, numpy, torch
torch.set_num_threads(1)
import deepcr_zoo
model = deepcr_zoo.load("{WIDE}", "cpu", engine="{engine}")
image = numpy.zeros((700, 700), numpy.float32)
model.predict(image)
wall, processor = time.perf_counter(), time.process_time()
for _ in range(4):
    model.predict(image)
print((time.process_time() - processor) / (time.perf_counter() - wall))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 1.2  # processors in use


def test_torch_gives_the_same_in_batches_which_a_gpu_gets():
    network = load(SMALL, "torch")._engine.network
    inputs = blocks(7)
    expected = list(TorchEngine(network, CPU).run(inputs))
    assert [output.shape for output in expected] == [(1, 200, 200)] * 7
    for batch in (2, 3, 7, 10):
        for one, other in zip(expected, TorchEngine(network, CPU, batch).run(inputs), strict=True):
            np.testing.assert_allclose(other, one, rtol=0, atol=1e-5 * np.abs(one).max())


@pytest.mark.parametrize(("batch", "ahead"), [(1, 2), (3, 6)])
def test_torch_takes_one_batch_ahead_and_no_more(batch, ahead):
    taken = 0

    def counted():
        nonlocal taken
        for block in blocks(12, side=16):
            taken += 1
            yield block

    network = load(SMALL, "torch")._engine.network
    outputs = TorchEngine(network, CPU, batch).run(counted())
    next(outputs)
    assert taken == ahead
    assert len(list(outputs)) == 11


@pytest.mark.parametrize("engine", BOTH)
def test_no_blocks_give_no_outputs(engine):
    assert list(load(SMALL, engine)._engine.run([])) == []


@pytest.mark.parametrize("name", [WIDE, SMALL])
def test_auto_takes_openvino_on_a_cpu_and_every_model_says_what_it_has(name, caplog):
    with caplog.at_level(logging.INFO, "deepcr_zoo"):
        model = deepcr_zoo.load(name, "cpu")
    assert model.engine == "openvino"
    assert repr(model) == f"<MaskModel {name}@1.0 on cpu with openvino>"
    assert "engine openvino on cpu" in caplog.text


def test_without_openvino_auto_is_torch_and_openvino_an_error_with_the_way_out(monkeypatch):
    import_ = builtins.__import__

    def without_openvino(name, *arguments, **keywords):
        if name == "openvino":
            raise ModuleNotFoundError("No module named 'openvino'")
        return import_(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", without_openvino)
    assert deepcr_zoo.load(WIDE, "cpu").engine == "torch"
    with pytest.raises(MissingExtraError, match=r"pip install 'deepcr-zoo\[cpu\]'"):
        deepcr_zoo.load(WIDE, "cpu", engine="openvino")


def test_openvino_runs_without_docstrings():
    code = f"import deepcr_zoo; print(deepcr_zoo.load({WIDE!r}, 'cpu', engine='openvino').engine)"
    assert subprocess.run([sys.executable, "-OO", "-c", code], capture_output=True, text=True).stdout == "openvino\n"


def test_bfloat16_is_refused_where_the_processor_has_none(monkeypatch):
    monkeypatch.setattr(engines, "multiplies_bfloat16", lambda: False)
    with pytest.raises(UsageError, match=r"does not multiply bfloat16 \(AMX\): give engine='openvino'"):
        deepcr_zoo.load(SMALL, "cpu", engine="openvino-bf16")


@pytest.mark.skipif(not multiplies_bfloat16(), reason="this processor does not multiply bfloat16")
@pytest.mark.parametrize("name", [WIDE, SMALL])
def test_bfloat16_is_near_and_copies_keep_it(name):
    image, _ = star_field((300, 400), seed=1)
    exact, quick = (deepcr_zoo.load(name, "cpu", engine=engine) for engine in ("openvino", "openvino-bf16"))
    assert (quick.engine, pickle.loads(pickle.dumps(quick)).engine) == ("openvino-bf16", "openvino-bf16")
    assert np.abs(exact.predict(image) - quick.predict(image)).max() > 0
    assert (exact.mask(image) != quick.mask(image)).mean() < 0.002


def test_an_unknown_engine_is_an_error_that_names_the_choices():
    with pytest.raises(UsageError, match="engine 'tensorrt': expected one of auto, torch, openvino"):
        deepcr_zoo.load(SMALL, engine="tensorrt")


@pytest.mark.parametrize("device", ["cuda:0", "mps"])
def test_openvino_is_for_the_cpu(device):
    with pytest.raises(UsageError, match=f"does not run on {device}: give device='cpu', or engine='torch'"):
        select_engine("openvino", device)
    assert select_engine("auto", device) is select_engine("torch", device)


def test_torch_is_not_loaded_where_openvino_computes(tmp_path):
    exposure = acs_flc(tmp_path / "x_flc.fits")
    code = f"""
import sys, numpy, deepcr_zoo
from deepcr_zoo.models import model
model.may_have_gpu = lambda: False
image = numpy.full((64, 64), 50.0)
network = deepcr_zoo.load("{SMALL}")
assert network.engine == "openvino"
deepcr_zoo.clean(image, network, "inpaint/ACS-WFC-F606W-2-32")
deepcr_zoo.clean_file({str(exposure)!r}, "{SMALL}")
assert "torch" not in sys.modules
assert str(network.device) == "cpu"  # torch's
assert "torch" in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_openvino_cannot_report_what_it_does(tmp_path):
    code = f"""
import sys, deepcr_zoo
deepcr_zoo.load("{WIDE}", "cpu", engine="torch")
assert "openvino" not in sys.modules
assert deepcr_zoo.load("{WIDE}", "cpu").engine == "openvino"
assert "openvino_telemetry" not in sys.modules  # hidden while OpenVINO was imported, and no longer
"""
    # it is silent in a CI run anyway
    environment = {key: value for key, value in os.environ.items() if key != "CI"} | {"HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert not (tmp_path / "intel").exists()  # where it keeps the identity of a user


def test_a_signal_does_no_harm_where_networks_of_openvino_were_loaded_and_dropped():
    code = f"""
import signal, deepcr_zoo
handled = []
signal.signal(signal.SIGTERM, lambda number, frame: handled.append(number))
first, second = (deepcr_zoo.load("{SMALL}", "cpu", engine="openvino") for _ in range(2))
del first
signal.raise_signal(signal.SIGTERM)
del second
signal.raise_signal(signal.SIGTERM)
assert len(handled) == 2
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_an_interruption_at_any_moment_of_a_conversion_is_an_error_that_can_be_caught():
    code = f"""
import os, signal, threading, time
import deepcr_zoo
deepcr_zoo.load("{SMALL}", "cpu", engine="openvino")
begun = time.perf_counter()
deepcr_zoo.load("{SMALL}", "cpu", engine="openvino")
duration = time.perf_counter() - begun
caught = 0
for part in range(20):
    timer = threading.Timer(duration * part / 20, os.kill, [os.getpid(), signal.SIGINT])
    try:
        timer.start()
        deepcr_zoo.load("{SMALL}", "cpu", engine="openvino")
        timer.join()
        time.sleep(1)
    except KeyboardInterrupt:
        caught += 1
assert caught == 20, caught
"""
    subprocess.run([sys.executable, "-c", code], check=True)
