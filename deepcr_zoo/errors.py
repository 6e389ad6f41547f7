"""Errors and warnings that a user can cause, one class for each kind of mistake.

Each message says in one sentence, or a short list, what was wrong, where, what was expected and what to do.
"""

import os
import shlex
import sys
import threading
import unicodedata
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from inspect import signature
from numbers import Integral
from typing import ParamSpec, TypeVar

_PACKAGE = os.path.dirname(__file__) + os.sep

Kind = tuple[tuple[type, ...], str]
"""Types that an argument may have, and the words for them."""

SWITCH: Kind = ((bool,), "True or False")
TEXT: Kind = ((str,), "a text")
PATH: Kind = ((str, os.PathLike), "a path")
COUNT: Kind = ((Integral,), "a whole number")
SEVERAL: Kind = ((list, tuple), "a list")

Parameters = ParamSpec("Parameters")
ReturnT = TypeVar("ReturnT")


def command(*words: object) -> str:
    """Return a command of this program as messages show it: what is pasted into a shell runs no part of a name."""
    return shlex.join(["deepcr-zoo", *map(str, words)])


class DeepcrZooError(Exception):
    """Base of all errors that the command line shows without a traceback; several arguments are several lines."""

    exit_code = 1

    def __str__(self) -> str:
        return "\n".join(map(str, self.args))


class UsageError(DeepcrZooError):
    """Invalid or contradictory arguments."""

    exit_code = 2


class InvalidNameError(DeepcrZooError):
    """A text that does not follow the grammar ``[REGISTRY:][mask/|inpaint/]NAME[@VERSION]``."""


class UnknownModelError(DeepcrZooError):
    """A valid name that matches no registry entry, alias or version."""


class InvalidDocumentError(DeepcrZooError):
    """A YAML or JSON file that breaks its schema."""


class IntegrityError(DeepcrZooError):
    """Bytes that differ from what was locked or agreed, or a link where a plain file is expected."""


class SourceError(DeepcrZooError):
    """A model whose files no source could supply."""


class HubError(SourceError):
    """A request that the Hub refused, or something that it does not have."""


class HubUnreachableError(SourceError):
    """A Hub that does not answer, or offline mode."""


class HubConflictError(HubError):
    """A repository on the Hub that has changed in between."""


class GateError(DeepcrZooError):
    """A model that must not be published because a gate fails."""


class PublishError(DeepcrZooError):
    """A model that cannot be published as it is, or to this place."""


class UpdateError(DeepcrZooError):
    """Registry files that are incomplete or would alter what a name means."""


class InvalidWeightsError(DeepcrZooError):
    """Weights that do not fit the architecture or the input scale in registry and card, or that give no numbers."""


class DeviceError(UsageError):
    """A device that this machine does not have."""


class InvalidImageError(DeepcrZooError):
    """An image or mask with an unusable shape, type or unit."""


class InvalidFileError(DeepcrZooError):
    """A FITS file that is damaged or holds nothing that can be cleaned."""


class NotAnExposureError(InvalidFileError):
    """A sound FITS file that is not a single exposure: a drizzled image, a table, a product of deepcr-zoo."""


class OutputError(DeepcrZooError):
    """A product that cannot be written or would replace another file."""


class InUseError(DeepcrZooError):
    """A folder that another process is writing to."""


class NoModelError(DeepcrZooError):
    """A request for which the registry has no model or no operating point."""


class MissingExtraError(DeepcrZooError):
    """An optional dependency that is not installed."""


class ConversionError(DeepcrZooError):
    """An upstream file that is missing, differs from its card or holds no network of the deepCR package."""


class AbsentAttributeError(UsageError, AttributeError):
    """An attribute of the deepCR package's class that has another name or no equivalent here."""


class DrizzleError(DeepcrZooError):
    """A visit that Drizzlepac could not label."""


class InterruptedWorkError(DeepcrZooError):
    """Work that did not finish for a reason other than its input; the same command resumes it."""


class StoppedError(InterruptedWorkError):
    """Work that was stopped by the user and saved."""

    exit_code = 130


class ClusterError(DeepcrZooError):
    """A Dask cluster that is unreachable or lost, or whose workers cannot do the work."""


class MissingDataError(DeepcrZooError):
    """Exposures that a recipe needs and that were not supplied."""


class ArchiveError(DeepcrZooError):
    """An archive that does not have the requested data, or has other data."""


class ArchiveUnreachableError(ArchiveError):
    """An archive that does not answer, or a connection that breaks."""


class ArchiveBusyError(ArchiveUnreachableError):
    """An archive that asks clients to wait.

    Attributes
    ----------
    wait_s : float or None
        Requested waiting time in seconds, if the archive gave one.
    """

    def __init__(self, message: str, wait_s: float | None = None) -> None:
        super().__init__(message)
        self.wait_s = wait_s


class DataError(DeepcrZooError):
    """Exposures that cannot make a sound training set."""


class DatasetError(DeepcrZooError):
    """A training set that is incomplete or differs from its manifest."""


class TrainingError(DeepcrZooError):
    """A training that cannot start or continue."""


class RunError(DeepcrZooError):
    """A run folder that is incomplete, damaged or of another recipe."""


class NotMeasuredError(DeepcrZooError):
    """A figure that has not been measured, or cannot be."""


class ModelWarning(UserWarning):
    """A caution that the registry attaches to this version of a model, or that a file without a card needs."""


class CompatibilityWarning(UserWarning):
    """A difference from the deepCR package that a script written for it may not expect."""


class ImageWarning(UserWarning):
    """An image whose result may be worse than the user expects."""


class MachineWarning(UserWarning):
    """Work for which the memory of this machine may not be enough."""


class SourceWarning(UserWarning):
    """A local copy that was damaged or could not be kept; the result is not affected."""


WARNINGS = (ModelWarning, CompatibilityWarning, ImageWarning, MachineWarning, SourceWarning)
"""All warnings of this package."""


def check_kinds(values: Mapping[str, object], kinds: Mapping[str, Kind]) -> None:
    """Raise `UsageError` if a value is of another type than stated; True and False are no numbers."""
    for name, value in values.items():
        known, expected = kinds.get(name, ((object, bool), ""))
        if not isinstance(value, known) or (isinstance(value, bool) and bool not in known):
            raise UsageError(f"{name} is {type(value).__name__}: expected {expected}")


def with_kinds(
    kinds: Mapping[str, Kind], advice: str = ""
) -> Callable[[Callable[Parameters, ReturnT]], Callable[Parameters, ReturnT]]:
    """Return a decorator: a call with other arguments, or of other types, is a `UsageError` before anything is done."""

    def decorate(function: Callable[Parameters, ReturnT]) -> Callable[Parameters, ReturnT]:
        @wraps(function)
        def checked(*args: Parameters.args, **options: Parameters.kwargs) -> ReturnT:
            try:
                given = signature(function).bind(*args, **options).arguments
                check_kinds(given, kinds)
            except (TypeError, UsageError) as error:
                raise UsageError("; ".join(filter(None, (f"{function.__name__}: {error}", advice)))) from None
            return function(*args, **options)

        return checked

    return decorate


def printable(text: str) -> str:
    """Return a text as one line, with control and invisible characters escaped as in Python.

    These include line breaks, bidirectional marks and bytes that are no text.
    """
    return "".join(character if _is_shown(character) else _escaped(character) for character in text)


def _is_shown(character: str) -> bool:
    return character.isprintable() or unicodedata.category(character) == "Zs"  # blanks of any width


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


_warnings_turn = threading.RLock()


@contextmanager
def in_turn() -> Iterator[None]:
    """Hold off other threads that catch warnings: these belong to the process, and each would get those of the others."""
    with _warnings_turn:
        yield


@contextmanager
def catching_warnings(record: bool = False) -> Iterator[list[warnings.WarningMessage]]:
    """Do as `warnings.catch_warnings`, in turns: threads would restore each other's settings."""
    with in_turn(), warnings.catch_warnings(record=record) as caught:
        yield [] if caught is None else caught


@contextmanager
def collecting_warnings(*categories: type[Warning]) -> Iterator[dict[tuple[type[Warning], str], None]]:
    """Collect warnings of these categories, each once, in the mapping that is yielded; others are issued as usual."""
    collected: dict[tuple[type[Warning], str], None] = {}
    with catching_warnings(record=True) as caught:
        for category in categories:
            warnings.simplefilter("always", category)
        yield collected
    for one in caught:
        if issubclass(one.category, categories):
            collected[one.category, str(one.message)] = None
        else:
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)


def _forget_turn() -> None:
    """Let a forked process warn: the thread whose turn it was is not in it."""
    global _warnings_turn
    _warnings_turn = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_turn)


def warn(message: str, category: type[Warning]) -> None:
    """Warn at the caller's line, the innermost one outside this package, however deep inside the cause lies."""
    frame, level = sys._getframe(), 1  # skip_file_prefixes of warnings.warn needs Python 3.12
    while frame.f_back and frame.f_code.co_filename.startswith(_PACKAGE):
        frame, level = frame.f_back, level + 1
    warnings.warn(printable(message), category, stacklevel=level)
