"""Speed and memory of methods on this machine, each measured in a process of its own."""

from __future__ import annotations

import multiprocessing
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from numpy.typing import NDArray

from deepcr_zoo.bench.results import Runtime
from deepcr_zoo.errors import DeepcrZooError, ImageWarning
from deepcr_zoo.machine import processor_name, safe_children
from deepcr_zoo.models import testvectors
from deepcr_zoo.models.baselines import Lacosmic
from deepcr_zoo.models.model import InpaintModel, MaskModel

SIDE = 1024
REPEATS = 3
ENOUGH_S = 5.0
"""After so many seconds no further repeat begins: those of a slow method differ little."""
LIMIT_S = 600.0
SEED = 1
STATUS = Path("/proc/self/status")
"""Memory of this process, on Linux."""

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]
Work = Callable[[Image, Mask], object]
"""Takes an image and its CR mask, each (H, W), and masks or fills it."""

Method = Callable[[], Work]
"""Prepares a method in the process that is measured; must be picklable, as ``partial(network, run.model)`` is."""


def network(load: Callable[[str], MaskModel | InpaintModel], device: str = "cpu") -> Work:
    """Load a network, by ``partial(models.load, reference)`` or a run's ``model``; loading is not timed."""
    model = load(device)
    if isinstance(model, InpaintModel):
        return model.fill
    return lambda image, mask: model.mask(image)


def lacosmic(settings: Lacosmic, sigclip: float) -> Work:
    return lambda image, mask: settings.mask(image, sigclip)


def classical(fill: Work) -> Work:
    """Return a fill that needs no preparation: `baselines.medmask`, `baselines.biharmonic`."""
    return fill


@dataclass(frozen=True)
class Timed:
    """Seconds of each repeat, and the largest memory of the process: interpreter, packages, image and method.

    `peak_bytes` is None where the system does not report it.
    """

    seconds: list[float]
    peak_bytes: int | None


def measure(
    methods: Mapping[str, Method],
    side: int = SIDE,
    repeats: int = REPEATS,
    limit_s: float = LIMIT_S,
    on_method: Callable[[str], object] = lambda name: None,
) -> tuple[list[Runtime], list[str]]:
    """Time methods on one synthetic image, one after the other; return their runtimes, and cautions about what is missing.

    A first repeat does not count; a slow method is repeated less often. One that takes longer than `limit_s` in all is
    given up.
    """
    runtimes, cautions = [], []
    for name, method in methods.items():
        outcome = _in_a_process(method, side, repeats, limit_s)
        if isinstance(outcome, Timed):
            seconds, peak, size = outcome.seconds, outcome.peak_bytes, side**2 / 1e6
            speed = size / statistics.median(seconds)
            runtimes.append(Runtime(method=name, megapixels=size, seconds=seconds, megapixels_per_s=speed, peak_bytes=peak))
            if peak is None:
                cautions.append(f"largest memory of {name} was not measured: this system does not report it")
        else:
            cautions.append(f"runtime of {name} was not measured: {outcome}")
        on_method(name)
    return runtimes, cautions


def machine_name(device: torch.device) -> str:
    """Name the machine, such as: a processor, 2 threads; an accelerator."""
    processor = f"{processor_name()}, {torch.get_num_threads()} threads"
    if device.type == "cpu":
        return processor
    return f"{processor}; {torch.cuda.get_device_name(device) if device.type == 'cuda' else device.type}"


def example_frame(side: int) -> tuple[Image, Mask]:
    """Return the example image of the test vectors and its CR mask, repeated until they fill a square."""
    rows, columns = testvectors.SHAPE
    tiles = (-(-side // rows), -(-side // columns))
    image, mask = (np.tile(layer, tiles)[:side, :side] for layer in testvectors.example_image(SEED))
    return np.ascontiguousarray(image), np.ascontiguousarray(mask)


def _in_a_process(method: Method, side: int, repeats: int, limit_s: float) -> Timed | str:
    """Return the measurements of a spawned process, or why there are none."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_report, args=(sender, method, side, repeats, torch.get_num_threads()))
    with safe_children(), _without_script():
        process.start()
    sender.close()  # so that the end of the process is the end of what can be received
    try:
        if not receiver.poll(limit_s):
            return f"it took more than {limit_s:g} s"
        outcome: Timed | str = receiver.recv()
        return outcome
    except EOFError:
        process.join()
        return f"its process ended with exit code {process.exitcode}, perhaps for want of memory"
    finally:
        process.kill()
        process.join()
        receiver.close()


@contextmanager
def _without_script() -> Iterator[None]:
    """Hide the script of the user, which a spawned process would run again: it need not be guarded for one measurement."""
    script, sys.modules["__main__"] = sys.modules["__main__"], ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script


def _report(sender: Connection, method: Method, side: int, repeats: int, threads: int) -> None:
    torch.set_num_threads(threads)
    warnings.simplefilter("ignore", ImageWarning)  # the image is of another camera
    try:
        outcome: Timed | str = _timed(method(), side, repeats)
    except Exception as error:
        outcome = str(error) if isinstance(error, DeepcrZooError) else f"{type(error).__name__}: {error}"
    sender.send(outcome)


def _timed(work: Work, side: int, repeats: int) -> Timed:
    image, mask = example_frame(side)
    seconds: list[float] = []
    while len(seconds) < 2 or (len(seconds) <= repeats and sum(seconds) < ENOUGH_S):
        start = time.perf_counter()
        work(image, mask)
        seconds.append(time.perf_counter() - start)
    return Timed(seconds[1:], _peak_bytes())


def _peak_bytes() -> int | None:
    """Return the largest memory of this process so far; None where the system does not report it."""
    for line in STATUS.read_text().splitlines() if STATUS.exists() else []:
        if line.startswith("VmHWM:"):  # getrusage counts what the parent had when it started this process
            return int(line.split()[1]) * 1024
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, kibibytes elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
