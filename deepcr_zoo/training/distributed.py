"""Several processes that train one network, as ``torchrun`` starts them; one process is the same with nothing to share."""

from __future__ import annotations

import datetime
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import NoReturn, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from deepcr_zoo.errors import DeepcrZooError, UsageError

LONGEST_TEXT = 4096

Made = TypeVar("Made")


@dataclass(frozen=True)
class Ranks:
    """Which of how many processes this is.

    Attributes
    ----------
    rank, count : int
    """

    rank: int = 0
    count: int = 1

    @property
    def is_writer(self) -> bool:
        """Whether this is the one process that writes."""
        return self.rank == 0

    def share(self, batch: Tensor) -> Tensor:
        """The part of this process in a batch that all have chosen together."""
        return batch[self.rank :: self.count]

    def total(self, *numbers: float) -> list[float]:
        """Sums over all processes."""
        if self.count == 1:
            return list(numbers)
        tensor = torch.tensor(numbers, dtype=torch.float64, device=_device_of_backend())
        dist.all_reduce(tensor)
        return tensor.tolist()

    def average(self, tensors: list[Tensor]) -> None:
        """Replace tensors by their means over all processes."""
        for tensor in tensors if self.count > 1 else ():
            dist.all_reduce(tensor)
            tensor /= self.count

    def together(self, module: nn.Module) -> nn.Module:
        """The module, with gradients averaged over all processes."""
        if self.count == 1:
            return module
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", FutureWarning
            )  # torch 2.13 calls it otherwise, torch before knows this name alone
            # each process keeps its own batch statistics until they are averaged
            return nn.parallel.DistributedDataParallel(module, broadcast_buffers=False)

    def wait(self) -> None:
        """Until all processes are here."""
        if self.count > 1:
            dist.barrier()

    def by_writer(self, work: Callable[[], str]) -> str:
        """What the first process makes; where it fails of a user's mistake, the others end quietly with its exit code.

        Raises
        ------
        DeepcrZooError
            In the first process, as `work` raises it.
        SystemExit
            In the others.
        """
        failure: DeepcrZooError | None = None
        said = ""
        if self.is_writer:
            try:
                said = f"+{work()}"
            except DeepcrZooError as error:
                failure, said = error, f"-{error.exit_code}"
        said = self.agreed(said)
        if failure is not None:
            raise failure
        if said.startswith("-"):
            raise SystemExit(int(said[1:]))
        return said[1:]

    def by_all(self, work: Callable[[], Made]) -> Made:
        """What each process makes for itself; where one fails of a user's mistake, the others end and do not wait for it.

        Raises
        ------
        DeepcrZooError
            In each process whose `work` raises it.
        SystemExit
            In the others.
        """
        made: list[Made] = []
        failure: DeepcrZooError | None = None
        try:
            made.append(work())
        except DeepcrZooError as error:
            failure = error
        failed = self.total(float(failure is not None))[0]
        if failure is not None:
            raise failure
        if failed:
            raise SystemExit(1)
        return made[0]

    def agreed(self, text: str) -> str:
        """What the first process says, at most `LONGEST_TEXT` bytes."""
        if self.count == 1:
            return text
        said = torch.zeros(LONGEST_TEXT, dtype=torch.uint8)
        encoded = text.encode()
        said[: len(encoded)] = torch.tensor(list(encoded), dtype=torch.uint8)
        said = said.to(_device_of_backend())
        dist.broadcast(said, 0)
        return bytes(said.tolist()).rstrip(b"\0").decode()


ALONE = Ranks()


def is_one_of_several() -> bool:
    """Whether ``torchrun`` has started this process."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def processes_here() -> int:
    """How many processes train together on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if is_one_of_several() else 1


def is_writer() -> bool:
    """Whether this is the one process that writes, before the processes have joined and after they have parted."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def joined(device: torch.device) -> Iterator[Ranks]:
    """The processes that ``torchrun`` has started; `ALONE` where it has not.

    Raises
    ------
    UsageError
        If the device is neither a CPU nor CUDA.
    """
    if not is_one_of_several():
        yield ALONE
        return
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"several processes train on CPUs or CUDA devices: expected one of them, got {device}")
    # the others wait while one of them builds the training set
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=datetime.timedelta(days=1))
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()


def run_to_the_end(work: Callable[[], None]) -> NoReturn:
    """Do the work of one of several processes, and end the process.

    At once, because threads of gloo may outlive their group: they abort a process that ends in the ordinary way now and then
    (torch 2.13), after everything is done and written.
    """
    code = 0
    try:
        work()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _device_of_backend() -> torch.device:
    return torch.device("cuda" if dist.get_backend() == "nccl" else "cpu")


SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Request:
    """Whether somebody has asked to stop."""

    def __init__(self) -> None:
        self.made = False

    def __call__(self) -> bool:
        """Whether somebody has."""
        return self.made


@contextmanager
def stop_requested() -> Iterator[Request]:
    """Note the first signal instead of dying of it; a second one does what it always does.

    Yields
    ------
    Request
        Which tells when it is called. Outside of the main thread no signal arrives, and it is always False.
    """
    request = Request()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}

    def note(number: int, frame: FrameType | None) -> None:
        request.made = True
        for one, handler in before.items():
            signal.signal(one, handler)

    for number in SIGNALS:
        signal.signal(number, note)
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
