"""Torch as an engine, on any device."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from deepcr_zoo.models.engines import Block
from deepcr_zoo.models.isolation import isolated
from deepcr_zoo.models.nets import UNet

CPU_TILE = 256  # side in pixels: a window's activations should fit into the processor's cache
GPU_TILE = 512

GPU_BATCH = 4  # windows per call on a GPU: enough to keep it busy while the next ones are copied, in less than 1 GB


class TorchEngine:
    """Torch on any device: one window at a time on a CPU, batches elsewhere; the network is moved to the device."""

    name = "torch"

    def __init__(self, network: UNet, device: torch.device, batch: int | None = None) -> None:
        on_cpu = device.type == "cpu"
        self.device = str(device)
        self.tile = CPU_TILE if on_cpu else GPU_TILE
        self.network = network.to(device)
        self._device = device
        self._batch = batch or (1 if on_cpu else GPU_BATCH)

    def run(self, blocks: Iterable[Block]) -> Iterator[Block]:
        """See `engines.Engine.run`; a GPU receives the next batch while it computes the current one."""
        uploaded = _uploader(self._device)
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
        with isolated(self._device), torch.inference_mode():
            batch = torch.from_numpy(np.stack(blocks)).contiguous(memory_format=torch.channels_last)
            return _download(self.network(uploaded(batch)))


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
