"""The grammar of model names: ``[REGISTRY:][mask/|inpaint/]NAME[@VERSION]``."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal, get_args

from deepcr_zoo.errors import InvalidNameError
from deepcr_zoo.locations import without_address

Task = Literal["mask", "inpaint"]
TASKS: tuple[Task, ...] = get_args(Task)
NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9_-]*"
VERSION_PATTERN = r"[0-9]{1,4}\.[0-9]{1,4}"
PINNED_PATTERN = rf"({NAME_PATTERN}:)?((mask|inpaint)/)?{NAME_PATTERN}@{VERSION_PATTERN}"
"""A name with its whole version: it means the same weights tomorrow."""

_REQUEST = re.compile(
    rf"(?:(?P<registry>{NAME_PATTERN}):)?"
    r"(?:(?P<task>mask|inpaint)/)?"
    rf"(?P<name>{NAME_PATTERN})"
    rf"(?:@(?P<version>[0-9]{{1,4}}|{VERSION_PATTERN}))?"
)


@dataclass(frozen=True)
class ModelRequest:
    """A parsed model name; omitted parts are None. The version is ``1.0``, or ``1`` for the newest 1.x."""

    name: str
    task: Task | None = None
    version: str | None = None
    registry: str | None = None

    @property
    def text(self) -> str:
        """The name as it is written."""
        registry = f"{self.registry}:" if self.registry else ""
        task = f"{self.task}/" if self.task else ""
        return f"{registry}{task}{self.name}" + (f"@{self.version}" if self.version else "")


def parse(text: str) -> ModelRequest:
    """Split a name into its parts; one that breaks the grammar raises `InvalidNameError`."""
    match = _REQUEST.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        shown = without_address(text) if isinstance(text, str) else text
        raise InvalidNameError(
            f"{shown!r} is not a model name: expected [REGISTRY:][mask/|inpaint/]NAME[@VERSION], "
            "for example inpaint/ACS-WFC-F606W-3-32@1.0; run 'deepcr-zoo list' to see the names"
        )
    task: Task | None = next((known for known in TASKS if known == match["task"]), None)
    return ModelRequest(match["name"], task, match["version"], match["registry"])


def is_name(text: str) -> bool:
    """True for a text that follows the grammar, whether there is such a model or not."""
    return _REQUEST.fullmatch(text) is not None


def for_task(text: str, task: Task) -> ModelRequest:
    """Parse a name; one without a task gets this one."""
    request = parse(text)
    return replace(request, task=request.task or task)


def version_key(version: str) -> tuple[int, ...]:
    """Return a sort key that puts version 1.10 after 1.9."""
    return tuple(int(part) for part in version.split("."))
