"""Engines compute a network, by torch or by OpenVINO.

A block is a network input: float32, shape (C, h, w), already scaled and padded. An output has the shape (outputs, h, w).
An engine holds no state between calls and can be used from several threads at once.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import islice
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deepcr_zoo.errors import MissingExtraError, UsageError
from deepcr_zoo.machine import multiplies_bfloat16
from deepcr_zoo.models.isolation import isolated
from deepcr_zoo.models.nets import UNet

ENGINES = ("auto", "torch", "openvino", "openvino-bf16")

TORCH_TILE = 256  # tile side in pixels on a CPU: a window's activations should fit into the processor's cache
OPENVINO_TILE = 512
GPU_TILE = 512

GPU_BATCH = 4  # windows per call on a GPU: enough to keep it busy while the next ones are copied, in less than 1 GB
KERNEL_CACHE = 100  # kernels that OpenVINO keeps, about six window shapes: each further shape would hold 1 MB for good
_TELEMETRY = "openvino_telemetry"
_TELEMETRY_LOCK = threading.Lock()

Block = NDArray[np.float32]


class Engine(Protocol):
    """A network that is ready to run."""

    name: str  # one of ENGINES
    device: torch.device
    tile: int  # side in pixels of the fastest tiles

    def run(self, blocks: Iterable[Block]) -> Iterator[Block]:
        """Yield the output of each block in order; all blocks have one shape.

        An engine may take a few blocks, but not all, before it yields the first output.
        """


class TorchEngine:
    """Torch on any device: one window at a time on a CPU, batches elsewhere; the network is moved to the device."""

    name = "torch"

    def __init__(self, network: UNet, device: torch.device, batch: int | None = None) -> None:
        on_cpu = device.type == "cpu"
        self.device = device
        self.tile = TORCH_TILE if on_cpu else GPU_TILE
        self.network = network.to(device)
        self._batch = batch or (1 if on_cpu else GPU_BATCH)

    def run(self, blocks: Iterable[Block]) -> Iterator[Block]:
        """See `Engine.run`; a GPU receives the next batch while it computes the current one."""
        uploaded = _uploader(self.device)
        remaining = iter(blocks)
        before: Callable[[], Block] | None = None
        while batch := list(islice(remaining, self._batch)):
            started = self._start(uploaded, batch)
            if before:
                yield from before()
            before = started
        if before:
            yield from before()

    def _start(self, uploaded: Callable[[Tensor], Tensor], blocks: list[Block]) -> Callable[[], Block]:
        """Queue one batch and return a function that waits for its output, shape (N, outputs, h, w)."""
        # not held across a yield: the caller's code would run with these settings
        with isolated(self.device), torch.inference_mode():
            batch = torch.from_numpy(np.stack(blocks)).contiguous(memory_format=torch.channels_last)
            return _download(self.network(uploaded(batch)))


class OpenVinoEngine:
    """OpenVINO on a CPU, in float32, with as many threads as torch has now; the network's BatchNorm is folded."""

    name = "openvino"
    tile = OPENVINO_TILE
    precision = "f32"  # it would choose bfloat16 or float16 by itself where the processor has them

    def __init__(self, network: UNet, device: torch.device) -> None:
        self.device = device
        self.network = network
        settings = {
            "INFERENCE_PRECISION_HINT": self.precision,
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "NUM_STREAMS": 1,
            "CPU_RUNTIME_CACHE_CAPACITY": KERNEL_CACHE,
        }
        with isolated(device):  # for copies too, which no other function isolates
            with _importing_openvino():
                from deepcr_zoo.models.graphs import graph

                core = _openvino_core()
            # dynamic shapes are as fast as fixed ones and save compiling for each image size
            self._compiled = core.compile_model(graph(network), "CPU", settings)

    def __reduce__(self) -> tuple[type[OpenVinoEngine], tuple[UNet, torch.device]]:
        """Compile copies anew: a compiled model cannot be sent to another process."""
        return type(self), (self.network, self.device)

    def run(self, blocks: Iterable[Block]) -> Iterator[Block]:
        """See `Engine.run`."""
        # one request a call: safe between threads, and its memory is freed with it
        request = self._compiled.create_infer_request()
        for block in blocks:
            with isolated(self.device):
                request.infer(np.ascontiguousarray(block[None]), share_inputs=True)
                output = request.get_output_tensor().data[0].copy()
            yield output


class Bfloat16Engine(OpenVinoEngine):
    """OpenVINO on a CPU that multiplies bfloat16: quicker, and less exact (`benchmarks/precision.py`)."""

    name = "openvino-bf16"
    precision = "bf16"


def select_engine(name: str, device: torch.device) -> Callable[[UNet, torch.device], Engine]:
    """Return the engine class for a name and a device: ``auto`` is OpenVINO on a CPU where it is installed, else torch."""
    if name not in ENGINES:
        raise UsageError(f"engine {name!r}: expected one of {', '.join(ENGINES)}")
    if name == "torch" or (name == "auto" and device.type != "cpu"):
        return TorchEngine
    if device.type != "cpu":
        raise UsageError(f"engine {name!r} does not run on {device}: give device='cpu', or engine='torch'")
    if name == Bfloat16Engine.name and not multiplies_bfloat16():
        raise UsageError(f"engine {name!r}: this processor does not multiply bfloat16 (AMX): give engine='openvino'")
    try:
        with _importing_openvino():
            import openvino  # noqa: F401
    except ImportError as error:
        if name == "auto":
            return TorchEngine
        raise MissingExtraError(f"engine {name!r} cannot be imported ({error}): run pip install 'deepcr-zoo[cpu]'") from None
    return Bfloat16Engine if name == Bfloat16Engine.name else OpenVinoEngine


@contextmanager
def _importing_openvino() -> Iterator[None]:
    """Hide the package by which OpenVINO reports its import and each conversion to its vendor, and hold off forks.

    The lock keeps one thread from showing the package again while another imports OpenVINO. A fork would copy a held lock.
    """
    with isolated(torch.device("cpu")), _TELEMETRY_LOCK, ExitStack() as undo:
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


def _uploader(device: torch.device) -> Callable[[Tensor], Tensor]:
    """Return a function that copies a batch to the device; to CUDA from pinned memory, beside the computation."""
    if device.type != "cuda":
        return lambda batch: batch.to(device)
    copies = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def upload(batch: Tensor) -> Tensor:
        with torch.cuda.stream(copies):
            on_device = batch.pin_memory().to(device, non_blocking=True)
        computation = torch.cuda.current_stream(device)
        computation.wait_stream(copies)
        on_device.record_stream(computation)
        return on_device

    return upload


def _download(output: Tensor) -> Callable[[], Block]:
    """Return a function that waits for an output; from CUDA the copy is queued now, behind the computation."""
    if output.device.type != "cuda":
        return lambda: output.cpu().numpy()
    host = torch.empty(output.shape, dtype=output.dtype, pin_memory=True)
    host.copy_(output, non_blocking=True)
    copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
    copied.record(torch.cuda.current_stream(output.device))

    def wait() -> Block:
        copied.synchronize()
        return host.numpy()

    return wait
