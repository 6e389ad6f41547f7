"""Torch computes as in a fresh process: settings of the calling code change no result, and stay as they were."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch

from deepcr_zoo.models.computations import computing, denormals


@contextmanager
def isolated(device: torch.device) -> Iterator[None]:
    """Build or run a network on a device, whatever the caller has set; the caller's settings are restored."""
    with (
        computing(_set_for_process),
        torch.device("cpu"),  # where new tensors go
        torch.autocast(device.type, enabled=False),
        torch.inference_mode(False),  # parameters that are made in this mode could not be shared between processes
        torch.no_grad(),
    ):
        yield


@contextmanager
def isolated_training(device: torch.device) -> Iterator[None]:
    """Train a network on a device, whatever the caller has set; the caller's settings are restored."""
    dtype = torch.get_default_dtype()
    with (
        # a default device costs time in every call
        nullcontext() if torch.get_default_device().type == "cpu" else torch.device("cpu"),
        torch.autocast(device.type, enabled=False),
        torch.inference_mode(False),
        torch.enable_grad(),
        np.errstate(divide="warn", over="warn", under="ignore", invalid="warn"),
        denormals(),
        _set_for_process() if device.type == "cpu" else nullcontext(),
    ):
        torch.set_default_dtype(torch.float32)
        try:
            yield
        finally:
            torch.set_default_dtype(dtype)


def _set_for_process() -> ExitStack:
    """Set torch to full precision and its usual kernels in all threads; closing the result restores the settings."""
    undo = ExitStack()
    for place, name, wanted in _process_settings():
        found = getattr(place, name)
        if found not in wanted:
            setattr(place, name, wanted[0])
            undo.callback(setattr, place, name, found)
    return undo


def _process_settings() -> Iterator[tuple[Any, str, tuple[Any, ...]]]:
    """Yield where torch keeps a setting, its name, and the values that give the right results, best first.

    By default CUDA convolutions use TF32, whose errors of 1e-3 would break parity and tiling.
    """
    yield torch.backends.mkldnn, "enabled", (True,)
    for operation in ("conv", "matmul"):  # some 1x1 convolutions are matrix products; torch before 2.9 has neither
        if place := getattr(torch.backends.mkldnn, operation, None):
            yield place, "fp32_precision", ("ieee", "none")
    if torch.cuda.is_available():
        try:
            torch.backends.cudnn.allow_tf32  # noqa: B018 - an error where the caller has used the newer name
            yield torch.backends.cudnn, "allow_tf32", (False,)
        except RuntimeError:
            yield getattr(torch.backends.cudnn, "conv"), "fp32_precision", ("ieee",)  # noqa: B009 - torch's stubs lack it
