"""Files of stamps, each compared with its record before it is read: training sets may come from others, or be damaged."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from deepcr_zoo.dataset import store
from deepcr_zoo.errors import DatasetError
from deepcr_zoo.files import sha256_of

REBUILD = "run the build again: it makes what is missing"
_MAKE_ANEW = f"move its folder away and {REBUILD}"
_VALUES_AT_A_TIME = 64 * 256**2

_FileState = tuple[int, ...]


@dataclass(frozen=True)
class StampFile:
    """A file of tensors, and what its training set records of it."""

    path: Path
    recorded: store.StoredFile
    count: int  # stamps
    side: int  # of a stamp, pixels
    layout: tuple[store.Layer, ...]

    def read(self, *names: str) -> dict[str, NDArray[Any]]:
        """Return tensors, all if none is named."""
        file = self._opened()
        return {name: file.get_tensor(name) for name in names or (layer.name for layer in self.layout)}

    def slices(self, *names: str) -> dict[str, Any]:
        """Return tensors that are read when they are indexed."""
        file = self._opened()
        return {name: file.get_slice(name) for name in names}

    def check(self) -> None:
        """Raise `DatasetError` if the file is missing or differs from its record.

        It is read whole the first time, and again after it has changed.
        """
        try:
            found = os.stat(self.path)
            _compare(self, (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns))
        except FileNotFoundError:
            raise DatasetError(f"{self.path}: is missing: {REBUILD}") from None
        except (OSError, ValueError, SafetensorError) as error:  # ValueError: a name with a zero byte
            reason = error.strerror if isinstance(error, OSError) else error
            raise DatasetError(f"{self.path}: cannot be read: {reason}; {_MAKE_ANEW}") from None

    def _opened(self) -> Any:
        self.check()
        return safe_open(self.path, framework="numpy")


def stamps_of(home: store.Home, visit: store.VisitRecord, exposure: store.ExposureRecord) -> StampFile:
    """Return the file with the stamps of an exposure."""
    path = home.visit(visit.key) / exposure.stamps.name
    return StampFile(path, exposure.stamps, exposure.count, visit.stamp_size, store.LAYERS)


def truth_of(home: store.Home, visit: store.VisitRecord, exposure: store.ExposureRecord) -> StampFile | None:
    """Return the file with the truth of an exposure, None of a real one."""
    if exposure.truth is None:
        return None
    path = home.visit(visit.key) / exposure.truth.name
    return StampFile(path, exposure.truth, exposure.count, visit.stamp_size, store.TRUTH_LAYERS)


@cache
def _compare(file: StampFile, state: _FileState) -> None:
    """Compare hash, tensors and values with the record; `state` is another one after each change of the file."""
    if sha256_of(file.path) != file.recorded.sha256:  # refuses what is no regular file
        raise DatasetError(f"{file.path}: differs from the manifest: expected sha256 {file.recorded.sha256}; {_MAKE_ANEW}")
    opened = safe_open(file.path, framework="numpy")
    if problem := next(_problems(opened, file), None):
        raise DatasetError(f"{file.path}: {problem}; {_MAKE_ANEW}")


def _problems(opened: Any, file: StampFile) -> Iterator[str]:
    """Yield what differs from the layout; no tensor is allocated before its shape is known to be right."""
    names = {layer.name for layer in file.layout}
    if extra := sorted(set(opened.keys()) ^ names):
        yield f"expected the tensors {', '.join(sorted(names))}: {extra[0]!r} is missing or not one of them"
    for layer in file.layout:
        tensor, shape = opened.get_slice(layer.name), layer.shape(file.count, file.side)
        if (found := (tensor.get_dtype(), tuple(tensor.get_shape()))) != (layer.dtype, shape):
            yield f"{layer.name}: expected {layer.dtype} of shape {shape}, got {found[0]} of shape {found[1]}"
        at_a_time = max(1, _VALUES_AT_A_TIME // math.prod(shape[1:]))
        for start in range(0, file.count, at_a_time):
            values = tensor[start : min(start + at_a_time, file.count)]
            if not layer.values.hold(values).all():
                yield f"{layer.name}: expected {layer.values.expected}"
