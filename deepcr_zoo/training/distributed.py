"""Processes that train one network together, as ``torchrun`` starts them; a single process has nothing to share."""

from __future__ import annotations

import datetime
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from deepcr_zoo.errors import DeepcrZooError, UsageError, catching_warnings

LONGEST_TEXT_BYTES = 4096
Value = TypeVar("Value")


@dataclass(frozen=True)
class Ranks:
    """Number of this process and number of processes."""

    rank: int = 0
    count: int = 1

    @property
    def is_writer(self) -> bool:
        """True in the one process that writes files."""
        return self.rank == 0

    def share(self, batch: Tensor) -> Tensor:
        """Return this process's part of a batch."""
        return batch[self.rank :: self.count]

    def total(self, *numbers: float) -> list[float]:
        """Return sums over all processes."""
        if self.count == 1:
            return list(numbers)
        tensor = torch.tensor(numbers, dtype=torch.float64, device=_backend_device())
        dist.all_reduce(tensor)
        return tensor.tolist()

    def in_any(self, flag: bool) -> bool:
        """True if the flag is set in any process."""
        return self.total(float(flag))[0] > 0

    def average(self, tensors: list[Tensor]) -> None:
        """Replace tensors by their means over all processes."""
        for tensor in tensors if self.count > 1 else ():
            dist.all_reduce(tensor)
            tensor /= self.count

    def averaging_gradients(self, module: nn.Module) -> nn.Module:
        """Return the module, wrapped so that its gradients are averaged over all processes."""
        if self.count == 1:
            return module
        with catching_warnings():
            # torch 2.13 has renamed the argument, earlier versions have this name alone
            warnings.simplefilter("ignore", FutureWarning)
            # each process keeps its own batch statistics until they are averaged
            return nn.parallel.DistributedDataParallel(module, broadcast_buffers=False)

    def wait(self) -> None:
        """Wait until all processes have come here."""
        if self.count > 1:
            dist.barrier()

    def by_writer(self, work: Callable[[], None]) -> None:
        """Do some work in the first process; if it ends with a user's error, the others exit quietly with its exit code."""
        self._writers_value(work)

    def path_by_writer(self, work: Callable[[], Path]) -> Path:
        """Return, in all processes, the path that `work` returns in the first; errors as in `by_writer`."""
        path = self._writers_value(work)
        return Path(self.agreed("" if path is None else str(path)))

    def by_all(self, work: Callable[[], Value]) -> Value:
        """Return what `work` returns in this process; if it ends with a user's error in one, the others exit with code 1."""
        try:
            value = work()
        except DeepcrZooError:
            self.in_any(True)
            raise
        if self.in_any(False):
            raise SystemExit(1)
        return value

    def agreed(self, text: str) -> str:
        """Return the text of the first process, of at most `LONGEST_TEXT_BYTES` bytes."""
        if self.count == 1:
            return text
        buffer = torch.zeros(LONGEST_TEXT_BYTES, dtype=torch.uint8)
        encoded = os.fsencode(text)  # a path may be no text
        buffer[: len(encoded)] = torch.tensor(list(encoded), dtype=torch.uint8)
        buffer = buffer.to(_backend_device())
        dist.broadcast(buffer, 0)
        return os.fsdecode(bytes(buffer.tolist()).rstrip(b"\0"))

    def _writers_value(self, work: Callable[[], Value]) -> Value | None:
        """Return what `work` returns in the first process, None in the others."""
        try:
            value = work() if self.is_writer else None
        except DeepcrZooError as error:
            self.total(error.exit_code)
            raise
        (exit_code,) = self.total(0)
        if exit_code:
            raise SystemExit(int(exit_code))
        return value


ALONE = Ranks()


def is_one_of_several() -> bool:
    """True if ``torchrun`` has started this process."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def processes_here() -> int:
    """Return the number of processes that train together on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if is_one_of_several() else 1


def is_writer() -> bool:
    """True in the one process that writes, also before the processes have joined and after they have parted."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def joined(device: torch.device) -> Iterator[Ranks]:
    """Join the processes that ``torchrun`` has started; give `ALONE` where it has not."""
    if not is_one_of_several():
        yield ALONE
        return
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"several processes train on CPUs or CUDA devices: expected one of them, got {device}")
    # the others wait while the first builds the training set
    try:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=datetime.timedelta(days=1))
    except ValueError as error:  # such as RANK and WORLD_SIZE of something else
        reason = " ".join(str(error).split())
        raise UsageError(f"RANK and WORLD_SIZE are not those of torchrun ({reason}): unset them, or use it") from None
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()


def run_and_exit(work: Callable[[], None]) -> NoReturn:
    """Do the work of one of several processes and end the process at once.

    Threads of gloo may outlive their group and then abort a process that ends in the ordinary way (torch 2.13), after
    everything is written.
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


def _backend_device() -> torch.device:
    return torch.device("cuda" if dist.get_backend() == "nccl" else "cpu")
