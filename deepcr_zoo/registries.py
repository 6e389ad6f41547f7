"""Which registries there are: the zoo's own, with the update that was kept, and those of other packages and of institutes.

Names with a prefix, ``keck:mask/NAME``, mean a model of another registry; names without one always mean the zoo's own.
"""

from __future__ import annotations

import os
import re
import warnings
from collections import Counter
from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from deepcr_zoo.configuration import RegistryPlace, read_configuration
from deepcr_zoo.errors import DeepcrZooError, SourceWarning, UsageError
from deepcr_zoo.names import NAME_PATTERN
from deepcr_zoo.registry import Origin, Registry, read_registry
from deepcr_zoo.updates import shipped_registry, with_update

ENTRY_POINTS = "deepcr_zoo.registries"
"""Group under which a package offers a registry; the name of the entry point is the prefix of its models' names."""


@cache
def default_registry() -> Registry:
    """The zoo's own registry, as shipped and updated, which knows the others by their prefixes."""
    own = with_update(shipped_registry())
    return Registry(own.home, own.entries, own.preferences, own.elsewhere, others=other_registries)


@cache
def other_registries() -> Mapping[str, Registry]:
    """Registries of packages, and of the settings file, which counts where both have the same prefix.

    One that cannot be read is left out with a warning: it must not stop work with the others.

    Raises
    ------
    InvalidDocumentError
        If the settings file breaks its schema.
    """
    found: dict[str, Registry] = {}
    points = sorted(entry_points(group=ENTRY_POINTS), key=lambda point: point.name)
    settings, offered = read_configuration().registries, Counter(point.name for point in points)
    for point in points:
        package = f"package {point.dist.name} {point.dist.version}" if point.dist else point.value
        if offered[point.name] > 1 or point.name in settings:
            why = "the settings name another one" if point.name in settings else "another package has the same prefix"
            warnings.warn(f"the registry {point.name!r} of {package} is not used: {why}", SourceWarning, stacklevel=2)
            continue
        try:
            found[point.name] = _read(point.name, _place(point), package)
        except Exception as error:  # whatever another package's code may raise
            warnings.warn(f"the registry {point.name!r} of {package} is not used: {error}", SourceWarning, stacklevel=2)
    for name, place in settings.items():
        try:
            found[name] = _read(name, place, "settings")
        except DeepcrZooError as error:
            warnings.warn(f"the registry {name!r} of the settings is not used: {error}", SourceWarning, stacklevel=2)
    return found


def forget_registries() -> None:
    """Read all registries again when they are next asked for."""
    default_registry.cache_clear()
    other_registries.cache_clear()


def list_models(pattern: str = "*") -> list[str]:
    """Names of the models that match a wildcard pattern.

    Parameters
    ----------
    pattern : str
        Shell wildcards, matched against ``NAME``, ``task/NAME`` and aliases: ``"*F606W*"``, ``"inpaint/*"``. With a prefix,
        ``"keck:*"``, those of another registry.

    Returns
    -------
    list of str
        ``task/NAME`` of each, in stable order.
    """
    prefix, colon, rest = pattern.rpartition(":")
    if not colon:
        return [entry.reference for entry in default_registry().find(pattern)]
    registry = other_registries().get(prefix)
    return [] if registry is None else [f"{prefix}:{entry.reference}" for entry in registry.find(rest)]


def _place(point: EntryPoint) -> RegistryPlace:
    """What an entry point leads to: a path, a `RegistryPlace`, or a function that gives one."""
    offered: Any = point.load()
    offered = offered() if callable(offered) else offered
    return offered if isinstance(offered, RegistryPlace) else RegistryPlace(root=os.fspath(offered))


def _read(name: str, place: RegistryPlace, label: str) -> Registry:
    if not re.fullmatch(NAME_PATTERN, name):
        raise UsageError(f"{name!r}: expected letters, digits, '_' and '-' as the prefix of a registry")
    root = Path(place.root).expanduser()
    if not (root / "zoo").is_dir() or not (root / "cards").is_dir():
        raise UsageError(f"{root}: expected the folder of a registry, with zoo/ and cards/")
    mirror = None if place.mirror is None else Path(place.mirror).expanduser()
    if mirror is not None and not mirror.is_dir():
        raise UsageError(f"{mirror}: expected the folder of a mirror, as 'deepcr-zoo pull --to' writes it")
    return read_registry(root, Origin(root, label, registry=name, mirror=mirror))
