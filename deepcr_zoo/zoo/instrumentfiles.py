"""The instruments in use: those that ship, those of the settings folder and of other packages, and those beside a recipe.

A user's file ``NAME.yaml`` describes one instrument, as a block of ``zoo/instruments.yaml`` does.
"""

from __future__ import annotations

import os
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from deepcr_zoo import files
from deepcr_zoo.documents import MOST_BYTES, Document, document_bytes, parse_document, read_document
from deepcr_zoo.errors import DeepcrZooError, InvalidDocumentError, SourceWarning, warn
from deepcr_zoo.locations import configuration_file
from deepcr_zoo.zoo.instruments import Instrument, Keywords, Patterns, shipped_table
from deepcr_zoo.zoo.registries import other_registries, state_of_file, state_of_others, state_of_settings
from deepcr_zoo.zoo.registry import reporting_unreadable

SHIPPED = "zoo/instruments.yaml"
FOLDER = "instruments"
"""Folder beside the settings file, and beside a recipe, whose YAML files describe an instrument each."""

_SIGN = b"\nrecognise:"
"""What a description has and a recipe has not; files beside a recipe may be either."""


class OfferedInstruments(Document):
    """``zoo/instruments.yaml`` of another registry; its other sections, as the zoo's own table has, are not used."""

    instruments: list[Instrument]
    units: Any = None
    combined: Any = None
    generic: Any = None
    frame_kinds: Any = None


@dataclass(frozen=True)
class KnownInstrument:
    """An instrument and the file that describes it."""

    instrument: Instrument
    where: str


@dataclass(frozen=True)
class KnownInstruments:
    """Instruments of several files, which agree on what each name and header means."""

    known: tuple[KnownInstrument, ...]

    @classmethod
    def merged(cls, known: Iterable[KnownInstrument]) -> KnownInstruments:
        """Merge descriptions; copies count once, and two that share a name or headers are an `InvalidDocumentError`."""
        kept: list[KnownInstrument] = []
        taken: dict[Hashable, tuple[KnownInstrument, str]] = {}
        for one in known:
            signs = _signs(one.instrument)
            first, shared = next((taken[sign] for sign in signs if sign in taken), (one, ""))
            if first.instrument != one.instrument:
                raise InvalidDocumentError(
                    f"{one.where}: {one.instrument.name} and {first.instrument.name} of {first.where} have the same "
                    f"{shared}: change or remove one"
                )
            if first is one:
                kept.append(one)
                taken.update({sign: (one, what) for sign, what in signs.items()})
        return cls(tuple(kept))

    def __iter__(self) -> Iterator[Instrument]:
        """Iterate over the instruments, the shipped ones first."""
        return (one.instrument for one in self.known)

    def recognise(self, keywords: Keywords) -> Instrument | None:
        """Return the instrument that these headers belong to; an `InvalidDocumentError` if it is more than one."""
        found = [one for one in self.known if one.instrument.matches(keywords)]
        if len(found) > 1:
            names = " and ".join(f"{one.instrument.name} ({one.where})" for one in found[:2])
            raise InvalidDocumentError(f"this header is of {names}: make recognise of one of them narrower")
        return found[0].instrument if found else None

    def named(self, telescope: str, instrument: str, detector: str) -> Instrument | None:
        """Return the detector with these names, as cards and recipes give them."""
        wanted = (telescope, instrument, detector)
        return next((one for one in self if (one.telescope, one.instrument, one.detector) == wanted), None)

    def called(self, name: str) -> KnownInstrument | None:
        """Return the instrument with this name, in any case."""
        return next((one for one in self.known if _folded(one.instrument.name) == _folded(name)), None)


def default_instruments() -> KnownInstruments:
    """Return the instruments that ship, those of the settings folder, and those of other registries.

    Files that cannot be read are left out with a warning. The result is cached until settings or files change.
    """
    return _default_instruments((state_of_settings(), state_of_others(), _state_of_folder(settings_folder())))


def instruments_beside(folders: Iterable[Path]) -> KnownInstruments:
    """Return the default instruments and those of the YAML files in these folders of recipes, and below `FOLDER` in them."""
    found = list(default_instruments().known)
    searched = [place for folder in folders for place in (folder, folder / FOLDER)]
    for path, beside in {files.real_path(path): place for place in searched for path in _yaml_files(place)}.items():
        if path.exists() and not (files.is_file(path) and path.stat().st_size <= MOST_BYTES):
            continue  # something else, such as a folder or a pipe of this name
        content = document_bytes(path, path)
        if _describes(content) and not any(one.where == str(path) for one in found):
            found.append(KnownInstrument(_parsed(content, path, beside), str(path)))
    return KnownInstruments.merged(found)


def settings_folder() -> Path:
    """Return the folder of the user's descriptions of instruments."""
    return configuration_file().parent / FOLDER


def read_instrument(path: Path) -> Instrument:
    """Read a user's description of an instrument; an `InvalidDocumentError` names every wrong field."""
    return _parsed(document_bytes(path, path), path, path.parent)


def _parsed(content: bytes, path: Path, folder: Path) -> Instrument:
    """Return a description; of one to which a link leads out of its folder nothing is repeated: it may be any file."""
    try:
        return parse_document(content, Instrument, path)
    except InvalidDocumentError:
        if files.lies_within(path, folder):
            raise
        reason = f"its content is not shown, since it lies outside of {folder}"
        raise InvalidDocumentError(f"{path}: expected a description of an instrument; {reason}") from None


def is_description(path: Path) -> bool:
    """True for a file that describes an instrument, perhaps with mistakes, and is nothing else."""
    try:
        return _describes(files.read_file(path, MOST_BYTES))
    except OSError:
        return False


def _describes(content: bytes) -> bool:
    return _SIGN in b"\n" + content


def read_offered(root: Path) -> OfferedInstruments:
    """Read the instruments that a registry describes under ``root/zoo``."""
    return read_document(root / SHIPPED, OfferedInstruments, root)


@lru_cache(maxsize=4)
def _default_instruments(state: tuple[object, ...]) -> KnownInstruments:
    found = [KnownInstrument(one, SHIPPED) for one in shipped_table().instruments]
    try:
        paths = _yaml_files(settings_folder())
    except InvalidDocumentError as error:
        warn(f"no description of an instrument in the settings is used: {error}", SourceWarning)
        paths = []
    for path in paths:
        try:
            found.append(KnownInstrument(read_instrument(path), str(path)))
        except InvalidDocumentError as error:
            warn(f"a description of an instrument is not used: {error}", SourceWarning)
    for prefix, registry in other_registries().items():
        try:
            found += _offered(registry.home.root)
        except DeepcrZooError as error:
            warn(f"the instruments of the registry {prefix!r} are not used: {error}", SourceWarning)
    return KnownInstruments.merged(found)


def _offered(root: Path) -> list[KnownInstrument]:
    path = root / SHIPPED
    return [KnownInstrument(one, str(path)) for one in read_offered(root).instruments] if files.is_file(path) else []


def _yaml_files(folder: Path) -> list[Path]:
    """Return the YAML files in a folder, if it exists; one that cannot be read is an `InvalidDocumentError`."""
    with reporting_unreadable(folder):
        names = os.listdir(folder) if files.is_folder(folder) else []
    return sorted(folder / name for name in names if name.endswith(".yaml") and not name.startswith("."))


def _state_of_folder(folder: Path) -> tuple[object, ...]:
    try:
        return (folder, *((path, state_of_file(path)) for path in _yaml_files(folder)))
    except InvalidDocumentError as error:
        return (folder, str(error))


def _signs(one: Instrument) -> dict[Hashable, str]:
    """Return what no other description may have, with what it is called."""
    names = (one.telescope, one.instrument, one.detector)
    return {
        ("name", _folded(one.name)): f"name, {one.name}",
        ("detector", names): f"telescope, instrument and detector, {' '.join(names)}",
        ("recognise", _canonical(one.recognise)): "keywords under recognise",
    }


def _folded(name: str) -> str:
    return " ".join(name.casefold().split())


def _canonical(patterns: Patterns) -> Hashable:
    wanted = {name.upper(): [one] if isinstance(one, str) else one for name, one in patterns.items()}
    return tuple(sorted((name, tuple(sorted(one.upper() for one in ones))) for name, ones in wanted.items()))
