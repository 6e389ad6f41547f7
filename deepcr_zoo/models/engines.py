"""What computes a network: blocks of pixels in, the network's output out, by torch or by OpenVINO.

A block is a float32 array of shape (C, h, w), already scaled and padded; an output has the shape (h, w). An engine holds no
state between calls and may be used from several threads at once.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deepcr_zoo.errors import MissingExtraError, UsageError
from deepcr_zoo.models.nets import UNet

ENGINES = ("auto", "torch", "openvino")
"""What `select_engine` takes."""

TORCH_TILE = 256
"""Tile side in pixels on a CPU, where a window's activations should stay in the processor's cache."""
OPENVINO_TILE = 512
GPU_TILE = 512

GPU_BATCH = 4
"""Windows per call on a GPU: a few keep it busy while the next ones are copied, and take less than 1 GB."""

OPENVINO_HIDDEN = 32
"""Channels of the first layer from which OpenVINO wins back its longer loading (0.15 s) within one 2048 x 2048 image."""

KERNEL_CACHE = 100
"""Kernels that OpenVINO keeps, about six window shapes: each further shape would take 1 MB for good."""

EXAMPLE_SIDE = 32
"""Pixels of the image that the network is traced with; it fixes no shape, and a small one is quick."""

Block = NDArray[np.float32]


class Engine(Protocol):
    """A network, ready to run.

    Attributes
    ----------
    name : str
        ``torch`` or ``openvino``.
    device : torch.device
    tile : int
        Side in pixels of the tiles that it is fastest with.
    """

    name: str
    device: torch.device
    tile: int

    def run(self, blocks: Iterable[Block]) -> Iterator[Block]:
        """Give the output, shape (h, w), of each block, shape (C, h, w), in order; all blocks have one shape.

        A few blocks may be taken before the first output is given, never all.
        """


class TorchEngine:
    """Torch on any device: one window at a time on a CPU, batches elsewhere.

    Parameters
    ----------
    network : UNet
        From `weights.inference_network`; moved to `device`.
    device : torch.device
    batch : int, optional
        Windows per call; the default is the device's.
    """

    name = "torch"

    def __init__(self, network: UNet, device: torch.device, batch: int | None = None) -> None:
        on_cpu = device.type == "cpu"
        self.device = device
        self.tile = TORCH_TILE if on_cpu else GPU_TILE
        self.network = network.to(device)
        self._batch = batch or (1 if on_cpu else GPU_BATCH)

    def run(self, blocks: Iterable[Block]) -> Iterator[Block]:
        """See `Engine.run`; on a GPU a batch is prepared and copied while the one before it is computed."""
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
        """Queue one batch; the function that is returned waits for its output, shape (N, h, w)."""
        # never held across a yield: the caller's code runs there, with the caller's settings
        with torch.inference_mode(), _full_precision(self.device):
            batch = torch.from_numpy(np.stack(blocks)).contiguous(memory_format=torch.channels_last)
            return _download(self.network(uploaded(batch))[:, 0])


class OpenVinoEngine:
    """OpenVINO on a CPU, converted from the torch network, in float32, with as many threads as torch has now.

    Parameters
    ----------
    network : UNet
        From `weights.inference_network`.
    device : torch.device
        The CPU.
    """

    name = "openvino"
    tile = OPENVINO_TILE

    def __init__(self, network: UNet, device: torch.device) -> None:
        self.device = device
        self.network = network
        openvino = _import_openvino()
        traced, example = _traced(network)
        # weights of its own: torch moves the network's when it is sent to another process
        model = openvino.convert_model(traced, example_input=example, share_weights=False)
        settings = {
            "INFERENCE_PRECISION_HINT": "f32",  # else bfloat16 or float16 where the processor has them
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "NUM_STREAMS": 1,
            "CPU_RUNTIME_CACHE_CAPACITY": KERNEL_CACHE,
        }
        # shapes stay open: as fast as a model compiled for one shape, and nothing to compile when an image has another
        self._compiled = openvino.Core().compile_model(model, "CPU", settings)

    def __reduce__(self) -> tuple[type[OpenVinoEngine], tuple[UNet, torch.device]]:
        """Copies, to other processes too, are compiled anew: a compiled model cannot be sent."""
        return type(self), (self.network, self.device)

    def run(self, blocks: Iterable[Block]) -> Iterator[Block]:
        """See `Engine.run`."""
        # a request of its own for every call: safe between threads, and its memory goes with it
        request = self._compiled.create_infer_request()
        for block in blocks:
            request.infer(np.ascontiguousarray(block[None]), share_inputs=True)
            yield request.get_output_tensor().data[0, 0].copy()


def select_engine(name: str, device: torch.device, hidden: int) -> Callable[[UNet, torch.device], Engine]:
    """Turn an engine's name into what makes the engine of a network.

    Parameters
    ----------
    name : {"auto", "torch", "openvino"}
        ``auto`` is OpenVINO where it is faster and installed, else torch.
    device : torch.device
    hidden : int
        The network's `Architecture.hidden`.

    Raises
    ------
    UsageError
        If there is no such engine, or it does not run on the device.
    MissingExtraError
        If OpenVINO is named and cannot be imported.
    """
    if name not in ENGINES:
        raise UsageError(f"engine {name!r}: expected one of {', '.join(ENGINES)}")
    openvino_is_faster = device.type == "cpu" and hidden >= OPENVINO_HIDDEN
    if name == "torch" or (name == "auto" and not openvino_is_faster):
        return TorchEngine
    if device.type != "cpu":
        raise UsageError(f"engine 'openvino' does not run on {device}: give device='cpu', or engine='torch'")
    try:
        _import_openvino()
    except ImportError as error:
        if name == "auto":
            return TorchEngine
        raise MissingExtraError(f"engine 'openvino' is not here ({error}): run pip install 'deepcr-zoo[cpu]'") from None
    return OpenVinoEngine


def _import_openvino() -> Any:
    # without this package OpenVINO cannot report its import and every conversion to its maker, as it does unasked
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


def _traced(network: UNet) -> tuple[Any, Tensor]:
    """The network in the form that OpenVINO converts, and the input that it was traced with."""
    example = torch.zeros(1, next(network.parameters()).shape[1], EXAMPLE_SIDE, EXAMPLE_SIDE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # OpenVINO has no other quick way in
        # OpenVINO would trace by itself, but let torch check the trace, which costs half a second of imports
        return torch.jit.trace(network, example, check_trace=False), example  # type: ignore[no-untyped-call]


def _full_precision(device: torch.device) -> AbstractContextManager[None]:
    """Keep CUDA from rounding convolutions to TF32, its default, which is off by 1e-3 and would break parity and tiling."""
    if device.type != "cuda":
        return nullcontext()
    now = torch.backends.cudnn
    return now.flags(now.enabled, now.benchmark, deterministic=now.deterministic, allow_tf32=False)


def _uploader(device: torch.device) -> Callable[[Tensor], Tensor]:
    """A function that brings a batch to the device; to CUDA beside the computation, from pinned memory."""
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
    """A function that waits for an output and gives it; from CUDA the copy is queued at once, behind the computation."""
    if output.device.type != "cuda":
        return lambda: output.cpu().numpy()
    host = torch.empty(output.shape, pin_memory=True)
    host.copy_(output, non_blocking=True)
    copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
    copied.record(torch.cuda.current_stream(output.device))

    def wait() -> Block:
        copied.synchronize()
        return host.numpy()

    return wait
