"""The registries in use: the zoo's own with the kept update, those of other packages and those of the settings file.

A prefix, as in ``keck:mask/NAME``, names another registry; names without one always mean the zoo's own.
"""

from __future__ import annotations

import os
import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import Field

from deepcr_zoo.documents import Document, read_document
from deepcr_zoo.errors import DeepcrZooError, InvalidDocumentError, SourceWarning, UsageError, warn
from deepcr_zoo.files import is_file, is_folder
from deepcr_zoo.locations import NO_SETTINGS, configuration_file, data_root, directory, user_data_root
from deepcr_zoo.zoo import updates
from deepcr_zoo.zoo.names import NAME_PATTERN, TASKS
from deepcr_zoo.zoo.registry import Name, Origin, Registry, entry_files, read_registry, reporting_unreadable

ENTRY_POINTS = "deepcr_zoo.registries"
"""Entry-point group of packages that offer a registry; the entry point's name is the prefix of its models' names."""


LOCAL = "local"
"""Prefix of the models that the user has imported from files."""

RESERVED = (LOCAL, "hf")  # "hf:" begins the address of a repository on the Hub


class RegistryPlace(Document):
    """Location of another registry; a package offers it, or just the path, as an entry point of `ENTRY_POINTS`."""

    root: str = Field(description="folder with zoo/ and cards/, laid out as in this repository")
    mirror: str | None = Field(
        default=None, description="folder of its models' files, <task>/<name>/<version>/, as 'pull --to' writes it"
    )


class Configuration(Document):
    registries: dict[Name, RegistryPlace] = Field(default={}, description="registries by the prefix of their names")


def read_configuration() -> Configuration:
    """Return the user's settings, or the defaults; a ``DEEPCR_ZOO_CONFIG`` that names no file is an error.

    Settings at the platform's place that cannot be read are left out with a warning.
    """
    path, is_named = configuration_file(), "DEEPCR_ZOO_CONFIG" in os.environ
    try:
        with reporting_unreadable(path):
            exists = is_file(path)
            if exists and not is_named:
                os.close(os.open(path, os.O_RDONLY))
    except InvalidDocumentError as error:
        if is_named:
            raise
        warn(f"the settings are not used: {error}", SourceWarning)
        return Configuration()
    if not exists and is_named and path.name != NO_SETTINGS:
        raise InvalidDocumentError(f"{path}: no such file (DEEPCR_ZOO_CONFIG): correct it, or unset it")
    is_empty = not exists or path.stat().st_size == 0
    return Configuration() if is_empty else read_document(path, Configuration, path.parent)


def default_registry() -> Registry:
    """Return the zoo's own registry, as shipped and updated; it also resolves the prefixes of other registries.

    The result is cached for as long as the settings and the files that it was read from stay the same.

    Returns
    -------
    Registry
    """
    return _default_registry(state_of_settings())


def other_registries() -> Mapping[str, Registry]:
    """Return the registries of other packages and of the settings file, by prefix; the settings file has precedence.

    A registry that cannot be read is left out with a warning, so that the others stay usable. The result is cached for as
    long as the settings and the files of these registries stay the same.
    """
    return _other_registries(*state_of_others())


def list_models(pattern: str = "*") -> list[str]:
    """Return the names of the models that match a wildcard pattern.

    Parameters
    ----------
    pattern : str
        Shell wildcards, matched against ``NAME``, ``task/NAME`` and aliases: ``"*F606W*"``, ``"inpaint/*"``. A prefix, as in
        ``"keck:*"``, selects another registry.

    Returns
    -------
    list of str
        ``task/NAME`` of each, in stable order.
    """
    if not isinstance(pattern, str):
        raise UsageError(f"pattern is {type(pattern).__name__}: expected a text, as in '*F606W*'")
    prefix, colon, rest = pattern.rpartition(":")
    if not colon:
        return [entry.reference for entry in default_registry().find(pattern)]
    registry = other_registries().get(prefix)
    return [] if registry is None else [f"{prefix}:{entry.reference}" for entry in registry.find(rest)]


def state_of_settings() -> tuple[object, ...]:
    """Return what the zoo's own registry and the choice of others depend on."""
    files = ((path, state_of_file(path)) for path in (configuration_file(), updates.current_file()))
    return (data_root(), tuple(sys.path), *files)


def local_root() -> Path:
    """Return the folder of the registry that `import` writes."""
    return user_data_root() / "models"


def state_of_others() -> tuple[tuple[_Offer, ...], tuple[object, ...], tuple[object, ...]]:
    """Return what the other registries depend on: who offers them, the state of theirs, and that of the user's own."""
    points = sorted(entry_points(group=ENTRY_POINTS), key=lambda point: point.name)
    offers = _offers(state_of_settings(), tuple(points))
    return offers, tuple(map(_state_of_offer, offers)), _state_of_registry(local_root())


def _state_of_registry(root: Path) -> tuple[object, ...]:
    """Return the state of what is read of a registry in a folder: its entries, preferences and instruments."""
    folder = root / "zoo"
    try:
        entries = [path for task in TASKS for path in entry_files(root, task)]
    except InvalidDocumentError as error:
        return (folder, str(error))
    paths = (root, folder, root / "cards", folder / "preferences.yaml", folder / "instruments.yaml", *entries)
    return tuple((path, state_of_file(path)) for path in paths)


def state_of_file(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


@lru_cache(maxsize=4)
def _default_registry(state: tuple[object, ...]) -> Registry:
    own = updates.with_update(updates.shipped_registry())
    return replace(own, others=other_registries)


class _Offer(NamedTuple):
    """A registry that a package or the settings file offers."""

    name: str
    place: RegistryPlace
    label: str
    owner: str  # for warnings


@lru_cache(maxsize=4)
def _offers(state: tuple[object, ...], points: Sequence[EntryPoint]) -> tuple[_Offer, ...]:
    found: list[_Offer] = []
    settings, offered = read_configuration().registries, Counter(point.name for point in points)
    for point in points:
        package = f"package {point.dist.name} {point.dist.version}" if point.dist else point.value
        try:
            if point.name in settings:
                raise UsageError("the settings name another one")
            if offered[point.name] > 1:
                raise UsageError("another package has the same prefix")
            found.append(_Offer(point.name, _load(point), package, package))
        except Exception as error:  # another package's code may raise anything
            warn(f"the registry {point.name!r} of {package} is not used: {error}", SourceWarning)
    return (*found, *(_Offer(name, place, "settings", "the settings") for name, place in settings.items()))


def _state_of_offer(offer: _Offer) -> tuple[object, ...]:
    try:
        mirror = None if offer.place.mirror is None else directory(offer.place.mirror).exists()
        return (mirror, _state_of_registry(directory(offer.place.root)))
    except (DeepcrZooError, OSError) as error:
        return (str(error),)


@lru_cache(maxsize=4)
def _other_registries(offers: Sequence[_Offer], states: Sequence[object], local_state: object) -> Mapping[str, Registry]:
    found: dict[str, Registry] = {}
    for name, place, label, owner in offers:
        try:
            found[name] = _read(name, place, label)
        except (DeepcrZooError, OSError) as error:
            warn(f"the registry {name!r} of {owner} is not used: {error}", SourceWarning)
    try:
        if is_folder(local_root() / "zoo"):
            found[LOCAL] = read_registry(local_root(), Origin(local_root(), "imported here", registry=LOCAL))
    except (DeepcrZooError, OSError) as error:
        warn(f"your imported models are not used: {error}", SourceWarning)
    return found


def _load(point: EntryPoint) -> RegistryPlace:
    """Return the place behind an entry point: a path, a `RegistryPlace`, or a function that returns one."""
    offered: Any = point.load()
    offered = offered() if callable(offered) else offered
    return offered if isinstance(offered, RegistryPlace) else RegistryPlace(root=os.fspath(offered))


def _read(name: str, place: RegistryPlace, label: str) -> Registry:
    if name in RESERVED:
        raise UsageError("this prefix is one of deepcr-zoo itself: choose another")
    if not re.fullmatch(NAME_PATTERN, name):
        raise UsageError(f"{name!r}: expected letters, digits, '_' and '-' as the prefix of a registry")
    root = directory(place.root)
    with reporting_unreadable(root):
        if not is_folder(root / "zoo") or not is_folder(root / "cards"):
            raise UsageError(f"{root}: expected the folder of a registry, with zoo/ and cards/")
    mirror = None if place.mirror is None else directory(place.mirror)
    with reporting_unreadable(root if mirror is None else mirror):
        if mirror is not None and not is_folder(mirror):
            raise UsageError(f"{mirror}: expected the folder of a mirror, as 'deepcr-zoo pull --to' writes it")
    return read_registry(root, Origin(root, label, registry=name, mirror=mirror))
