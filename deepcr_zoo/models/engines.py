"""Engines compute a network, by torch (`torchengine`) or by OpenVINO; either is loaded when it is chosen.

A block is a network input: float32, shape (C, h, w), already scaled and padded. An output has the shape (outputs, h, w).
An engine holds no state between calls and can be used from several threads at once.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from deepcr_zoo.errors import MissingExtraError, UsageError
from deepcr_zoo.machine import multiplies_bfloat16
from deepcr_zoo.models.architectures import PlainNetwork
from deepcr_zoo.models.computations import computing
from deepcr_zoo.models.forks import threads

ENGINES = ("auto", "torch", "openvino", "openvino-bf16")

OPENVINO_TILE = 512  # side of a tile in pixels
KERNEL_CACHE = 100  # kernels that OpenVINO keeps, about six window shapes: each further shape would hold 1 MB for good
_TELEMETRY = "openvino_telemetry"
_TELEMETRY_LOCK = threading.Lock()

Block = NDArray[np.float32]


class Engine(Protocol):
    """A network that is ready to run."""

    name: str  # one of ENGINES
    device: str  # as torch names it
    tile: int  # side in pixels of the fastest tiles

    def run(self, blocks: Iterable[Block]) -> Iterator[Block]:
        """Yield the output of each block in order; all blocks have one shape.

        An engine may take a few blocks, but not all, before it yields the first output.
        """


class OpenVinoEngine:
    """OpenVINO on a CPU, in float32, with as many threads as `forks.threads` gives now."""

    name = "openvino"
    tile = OPENVINO_TILE
    precision = "f32"  # it would choose bfloat16 or float16 by itself where the processor has them

    def __init__(self, network: PlainNetwork, device: str = "cpu") -> None:
        self.device = device
        self.network = network
        settings = {
            "INFERENCE_PRECISION_HINT": self.precision,
            "INFERENCE_NUM_THREADS": threads(),
            "NUM_STREAMS": 1,
            "CPU_RUNTIME_CACHE_CAPACITY": KERNEL_CACHE,
        }
        with computing():  # for copies too, which no other function isolates
            with _importing_openvino():
                from deepcr_zoo.models.graphs import graph

                core = _openvino_core()
            # dynamic shapes are as fast as fixed ones and save compiling for each image size
            self._compiled = core.compile_model(graph(network), "CPU", settings)

    def __reduce__(self) -> tuple[type[OpenVinoEngine], tuple[PlainNetwork, str]]:
        """Compile copies anew: a compiled model cannot be sent to another process."""
        return type(self), (self.network, self.device)

    def run(self, blocks: Iterable[Block]) -> Iterator[Block]:
        """See `Engine.run`."""
        # one request a call: safe between threads, and its memory is freed with it
        request = self._compiled.create_infer_request()
        for block in blocks:
            with computing():
                request.infer(np.ascontiguousarray(block[None]), share_inputs=True)
                output = request.get_output_tensor().data[0].copy()
            yield output


class Bfloat16Engine(OpenVinoEngine):
    """OpenVINO on a CPU that multiplies bfloat16: quicker, and less exact (`benchmarks/precision.py`)."""

    name = "openvino-bf16"
    precision = "bf16"


def select_engine(name: str, device: str) -> Callable[[PlainNetwork, str], Engine]:
    """Return what makes an engine, by its name: ``auto`` is OpenVINO on a CPU where it is installed, else torch."""
    if name not in ENGINES:
        raise UsageError(f"engine {name!r}: expected one of {', '.join(ENGINES)}")
    on_cpu = device == "cpu"
    if name == "torch" or (name == "auto" and not on_cpu):
        return _torch_engine
    if not on_cpu:
        raise UsageError(f"engine {name!r} does not run on {device}: give device='cpu', or engine='torch'")
    if name == Bfloat16Engine.name and not multiplies_bfloat16():
        raise UsageError(f"engine {name!r}: this processor does not multiply bfloat16 (AMX): give engine='openvino'")
    try:
        with _importing_openvino():
            import openvino  # noqa: F401
    except ImportError as error:
        if name == "auto":
            return _torch_engine
        raise MissingExtraError(f"engine {name!r} cannot be imported ({error}): run pip install 'deepcr-zoo[cpu]'") from None
    return Bfloat16Engine if name == Bfloat16Engine.name else OpenVinoEngine


def _torch_engine(network: PlainNetwork, device: str) -> Engine:
    import torch

    from deepcr_zoo.models.isolation import isolated
    from deepcr_zoo.models.nets import network_of
    from deepcr_zoo.models.torchengine import TorchEngine

    target = torch.device(device)
    with isolated(target):
        return TorchEngine(network_of(network), target)


@contextmanager
def _importing_openvino() -> Iterator[None]:
    """Hide the package by which OpenVINO reports its import and each conversion to its vendor, and hold off forks.

    The lock keeps one thread from showing the package again while another imports OpenVINO. A fork would copy a held lock.
    """
    with computing(), _TELEMETRY_LOCK, ExitStack() as undo:
        if _TELEMETRY not in sys.modules:
            undo.callback(sys.modules.pop, _TELEMETRY, None)
            sys.modules[_TELEMETRY] = None  # type: ignore[assignment]
        yield


def _openvino_core() -> Any:
    """Return a new core with the CPU's part of OpenVINO loaded.

    That part gives a stack for signals to the thread that loads it, and takes it back with the core: the next signal would
    kill the process. So a thread that ends at once loads it. A core that is shared would keep threads, for which the
    processes of a later fork would wait for ever.
    """
    import openvino

    core = openvino.Core()
    with ThreadPoolExecutor(max_workers=1) as loading:
        loading.submit(core.get_property, "CPU", "FULL_DEVICE_NAME").result()
    return core
