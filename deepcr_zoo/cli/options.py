"""Options that several commands share."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from deepcr_zoo import machine
from deepcr_zoo.errors import UsageError, command
from deepcr_zoo.files import sweep_partial
from deepcr_zoo.zoo.networksettings import without_passwords

RecipeFile = Annotated[str, Argument(metavar="RECIPE", help="a file, or the name of a shipped recipe")]
Settings = Annotated[list[str] | None, Option("--set", metavar="FIELD=VALUE", help="override a field of the recipe")]
Device = Annotated[str, Option(help="auto, cpu, cuda, cuda:N or mps")]
Engine = Annotated[str, Option(help="auto, torch, openvino or openvino-bf16, which is quicker and less exact")]
OnScheduler = Annotated[str | None, Option(metavar="ADDRESS", help="instead of --jobs: Dask scheduler, tcp://HOST:PORT")]
AsJson = Annotated[bool, Option("--json", help="print JSON for machines")]

_SCHEME = r"(?<![\w+.-])(?P<scheme>[A-Za-z][\w+.-]*)://"
_LOGIN, _QUERY = re.compile(_SCHEME + r"(?:(?<!file://)\S*|[^/\s]*)@"), re.compile("@?" + _SCHEME + r"\S*\?")

BYTES_PER_VISIT = 4_500_000_000
"""Largest memory use of a visit of three full ACS/WFC frames."""


def default_jobs() -> int:
    """Return the number of visits to label at a time: one per processor, each with enough memory."""
    memory = machine.memory_bytes()
    return 1 if memory is None else max(1, min(machine.processors(), memory // BYTES_PER_VISIT))


def this_command() -> str:
    """Return the command line, as records of results hold it: they are published, so addresses lose their logins."""
    return without_passwords(command(*sys.argv[1:]))


def refuse_existing(path: Path, way_out: str) -> None:
    """Raise `UsageError` if a file exists that would be new; what killed processes left of it, unfinished, is removed."""
    sweep_partial(path)
    if os.path.lexists(path):
        raise UsageError(f"{path} exists: {way_out}")


def refuse_secrets(arguments: Iterable[str]) -> None:
    """Raise `UsageError` for an address with a login or a query: no command takes one, and many would keep it."""
    for argument in arguments:
        if found := _LOGIN.search(argument) or _QUERY.match(argument):
            raise UsageError(
                f"{found['scheme']}://...: no argument may be an address with a name, a password or a query: download what "
                "it names, and give the file"
            )
