"""What a file does not say and the user can: collected, and refused in one sentence with the options that supply it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from deepcr_zoo.errors import InvalidFileError
from deepcr_zoo.zoo.instruments import Instrument

_OF_THE_CAMERA = ("--bias", "--extension", "--unit counts")
"""Options that a description of the camera makes unnecessary."""


@dataclass(frozen=True)
class Missing:
    """One fact that is missing, as a clause ("it has no BUNIT"), and the option that supplies it."""

    what: str
    option: str


class MissingFactsError(InvalidFileError):
    """A sound file that does not say enough of its pixels; `instrument` is that of its headers, if known."""

    def __init__(self, where: str, missing: Sequence[Missing], instrument: Instrument | None) -> None:
        self.where = where
        self.missing = tuple(missing)
        self.instrument = instrument
        options = dict.fromkeys(one.option for one in missing)
        is_of_the_camera = instrument is None and any(option.startswith(_OF_THE_CAMERA) for option in options)
        once = "; 'deepcr-zoo instrument new' describes the camera for all its files" if is_of_the_camera else ""
        super().__init__(f"{where}: {self.clauses}: give {' '.join(options)}{once}")

    @property
    def clauses(self) -> str:
        """What is missing, each fact once."""
        return "; ".join(dict.fromkeys(one.what for one in self.missing))

    def __reduce__(self) -> tuple[Any, ...]:
        """Keep what is missing, and the message, when the error goes to another process."""
        return type(self), (self.where, self.missing, self.instrument), {"args": self.args}
