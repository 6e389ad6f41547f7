"""The grammar of model names: ``[REGISTRY:][mask/|inpaint/]NAME[@VERSION]``."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal, get_args

from deepcr_zoo.errors import InvalidNameError

Task = Literal["mask", "inpaint"]
TASKS: tuple[Task, ...] = get_args(Task)

NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9_-]*"
VERSION_PATTERN = r"[0-9]+\.[0-9]+"

_REQUEST = re.compile(
    rf"(?:(?P<registry>{NAME_PATTERN}):)?"
    r"(?:(?P<task>mask|inpaint)/)?"
    rf"(?P<name>{NAME_PATTERN})"
    rf"(?:@(?P<version>[0-9]+|{VERSION_PATTERN}))?"
)


@dataclass(frozen=True)
class ModelRequest:
    """What a user asked for; parts that were left open are None.

    Attributes
    ----------
    name : str
        Model name or alias, such as ``ACS-WFC-F606W-2-32``.
    task : {"mask", "inpaint"} or None
    version : str or None
        ``"1.0"`` for one version, ``"1"`` for the newest 1.x.
    registry : str or None
        Name of another package's registry.
    """

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
    """Split a name into its parts.

    Raises
    ------
    InvalidNameError
        If `text` does not follow the grammar.
    """
    match = _REQUEST.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise InvalidNameError(
            f"{text!r} is not a model name: expected [REGISTRY:][mask/|inpaint/]NAME[@VERSION], "
            "for example inpaint/ACS-WFC-F606W-3-32@1.0; run 'deepcr-zoo list' to see the names"
        )
    task: Task | None = next((known for known in TASKS if known == match["task"]), None)
    return ModelRequest(match["name"], task, match["version"], match["registry"])


def for_task(text: str, task: Task) -> str:
    """The same name; one that names no task means a model for this one.

    Raises
    ------
    InvalidNameError
        If `text` does not follow the grammar.
    """
    request = parse(text)
    return replace(request, task=request.task or task).text


def version_key(version: str) -> tuple[int, ...]:
    """Sort key that puts version 1.10 after 1.9."""
    return tuple(int(part) for part in version.split("."))
