""".pth files: what torch would do with one is checked and bounded before it is loaded. The only module that unpickles.

torch unpickles with ``weights_only=True``, which builds tensors and runs no code of the file. It would still allocate what a
file asks for.
"""

from __future__ import annotations

import io
import pickletools
import zipfile
from typing import Any

import torch
from torch import Tensor

from deepcr_zoo.documents import LARGEST_KEY
from deepcr_zoo.errors import ConversionError, UsageError

SAFE_SINCE = "2.10"  # weights_only=True could still run code in earlier releases of torch: CVE-2025-32434, CVE-2026-24747
EXPECTED = "expected what torch.save(model.state_dict(), path) writes"

MOST_OPERATIONS = 1_000_000  # of all pickles in a file; that of deepCR's largest network has 2,000
MOST_NESTED = 1_000  # values in a tuple and the tuples in it: one that holds the same tuple again and again hides any number
_MAGIC = 0x1950A86A20F9469CFC6C  # with which torch before 1.6 began (MAGIC_NUMBER of torch.serialization)
PICKLES = 5  # at the beginning of a file of torch before 1.6: the fourth holds the tensors, without their bytes
PROTOCOL = 2  # of torch.save
_ZIP = b"PK\x03\x04"
_NEEDED = {
    "collections OrderedDict",
    *(f"torch._utils _rebuild_{kind}" for kind in ("tensor_v2", "parameter")),
    *(f"torch {kind}Storage" for kind in ("Float", "Double", "Half", "Long")),
}
"""All that plain tensors are made of; with others torch would also make bytes of any number, and tensors without values."""


def load(data: bytes) -> Any:
    """Return the content of a .pth file, whose tensors together are no larger than the file."""
    if torch.__version__ < SAFE_SINCE:
        raise UsageError(f".pth files need torch {SAFE_SINCE} or newer to be safe, and this is {torch.__version__}")
    try:
        plain = _unpacked(data) if data.startswith(_ZIP) else data
        _check_operations(plain)
        content = torch.load(io.BytesIO(plain), map_location="cpu", weights_only=True)
    except Exception:  # torch raises nearly every class where a file is malformed
        raise ConversionError(
            f"the file does not hold tensors alone, or is damaged: it was not loaded; {EXPECTED}"
        ) from None
    if isinstance(content, dict):  # an OrderedDict of others may have attributes in place of its methods
        content = dict(dict.items(content))
    tensors = [one for one in content.values() if isinstance(one, Tensor)] if isinstance(content, dict) else []
    # the strides of a tensor may repeat one number without end
    if sum(tensor.numel() * tensor.element_size() for tensor in tensors) > len(data):
        raise ConversionError(f"the file announces tensors larger than itself: they were not used; {EXPECTED}")
    return content


def _unpacked(data: bytes) -> bytes:
    """Return a zip file anew, with each record once and not packed; it must not be larger than before."""
    copy = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as found, zipfile.ZipFile(copy, "w") as plain:
        records = {record.filename: record for record in found.infolist()}
        are_ambiguous = len({name.lower() for name in records}) < len(records)  # torch takes names in any case
        if are_ambiguous or sum(record.file_size for record in records.values()) > len(data):
            raise zipfile.BadZipFile
        for name, record in records.items():
            plain.writestr(name, found.read(record))
    return copy.getvalue()


def _check_operations(data: bytes) -> None:
    """Raise a ValueError if a file uses more than plain tensors are made of."""
    number = 0
    for pickle in _pickles(data):
        nested = _Nested()
        for operation, argument, _ in pickletools.genops(pickle):
            number += 1
            code = operation.name
            is_foreign = (
                (code.endswith("GLOBAL") and argument not in _NEEDED)
                or (code == "PROTO" and argument != PROTOCOL)
                or "FLOAT" in code  # numbers of which many have one hash, as -1 and -2 have: keys may be made of them
                or (isinstance(argument, int) and not 0 <= argument <= LARGEST_KEY and argument != _MAGIC)
            )
            if number > MOST_OPERATIONS or is_foreign or nested.after(operation, argument) > MOST_NESTED:
                raise ValueError(code)


class _Nested:
    """The stack of an unpickler, with the number of values that each entry holds: a tuple is hashed value by value."""

    def __init__(self) -> None:
        self._stack: list[int] = []
        self._below: list[list[int]] = []  # what lies under each mark
        self._kept: dict[Any, int] = {}

    def after(self, operation: pickletools.OpcodeInfo, argument: Any) -> int:
        """Return the number of values in what is on top of the stack after an operation."""
        code = operation.name
        if code.endswith("PUT"):
            self._kept[argument] = self._stack[-1]
        elif code.endswith("GET"):
            self._stack.append(self._kept[argument])
        elif code == "MARK":
            self._below.append(self._stack)
            self._stack = []
        else:
            held = sum(self._taken(operation.stack_before))
            self._stack += [1 + held if code.startswith("TUPLE") else 1] * len(operation.stack_after)
        return self._stack[-1] if self._stack else 0

    def _taken(self, before: list[Any]) -> list[int]:
        above: list[int] = []
        if pickletools.markobject in before:
            above, self._stack = self._stack, self._below.pop()
            before = before[: before.index(pickletools.markobject)]
        first = len(self._stack) - len(before)
        if first < 0:
            raise ValueError("the stack is empty")
        taken = self._stack[first:] + above
        del self._stack[first:]
        return taken


def _pickles(data: bytes) -> list[io.BytesIO]:
    if data.startswith(_ZIP):
        with zipfile.ZipFile(io.BytesIO(data)) as records:
            return [io.BytesIO(records.read(name)) for name in records.namelist() if name.lower().endswith(".pkl")]
    return [io.BytesIO(data)] * PICKLES  # each begins where the one before has ended
