"""A registry that grows: what may be added to it, and what must stay as it is.

Names and versions may be added, and to a known version a source or a caution. What a name or a version means never changes,
and which version is the default changes with a release of this package alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from deepcr_zoo.errors import UpdateError
from deepcr_zoo.names import TASKS, version_key
from deepcr_zoo.registry import LockedVersion, ModelEntry, Registry, check_consistency

MEANING = ("released", "architecture", "weights", "test_vector", "card")
"""Fields of a version that never change."""


def alterations(old: Registry, new: Registry, *, complete: bool) -> list[str]:
    """Where a registry alters what another has already said, one sentence each; none if it only adds.

    Parameters
    ----------
    old, new : Registry
    complete : bool
        Whether all that `old` has must be in `new`, too.
    """
    found = [text for entry in old.entries.values() for text in _of_entry(entry, new.entries.get(entry.reference), complete)]
    return found or (_other_meanings(old, new) if complete else [])


def _other_meanings(old: Registry, new: Registry) -> list[str]:
    """Names without a task that would mean another model, because a name was added for another task."""
    names = {name for entry in old.entries.values() for name in (entry.name, *(alias.name for alias in entry.aliases))}

    def meaning(registry: Registry, name: str) -> str:
        return registry.resolve(name).entry.reference

    changed = [name for name in sorted(names) if meaning(old, name) != meaning(new, name)]
    return [f"{name}: expected {meaning(old, name)}, got {meaning(new, name)}" for name in changed]


def changed_defaults(old: Registry, new: Registry) -> list[str]:
    """Which models would have another default version, one sentence each."""
    pairs = [(entry, new.entries.get(entry.reference)) for entry in old.entries.values()]
    return [
        f"{before.reference}: default: expected {before.default}, got {after.default}"
        for before, after in pairs
        if after is not None and after.default != before.default
    ]


def _of_entry(old: ModelEntry, new: ModelEntry | None, complete: bool) -> Iterator[str]:
    if new is None:
        if complete:
            yield f"{old.reference}: is missing"
        return
    aliases = {alias.name: alias for alias in new.aliases}
    for alias in old.aliases:
        if alias.name in aliases and aliases[alias.name].version != alias.version:
            yield f"{old.reference}: alias {alias.name}: expected what it has always meant"
        elif alias.name not in aliases and complete:
            yield f"{old.reference}: alias {alias.name}: is missing"
    for version, locked in old.versions.items():
        if version in new.versions:
            yield from _of_version(f"{old.reference}@{version}", locked, new.versions[version], complete)
        elif complete:
            yield f"{old.reference}@{version}: is missing"


def _of_version(reference: str, old: LockedVersion, new: LockedVersion, complete: bool) -> Iterator[str]:
    for field in MEANING:
        if getattr(new, field) != getattr(old, field):
            yield f"{reference}: {field}: expected {getattr(old, field)}, got {getattr(new, field)}"
    if old.sources.hub is not None and new.sources.hub not in (None, old.sources.hub):
        yield f"{reference}: sources.hub: expected {old.sources.hub}, got {new.sources.hub}"
    for field, before, after in (
        ("sources.hub", old.sources.hub, new.sources.hub),
        ("warning", old.warning, new.warning),
        ("deprecated", old.deprecated, new.deprecated),
    ):
        if complete and before is not None and after is None:
            yield f"{reference}: {field}: is missing"


def merged(base: Registry, addition: Registry) -> Registry:
    """Both registries as one: where they overlap `base` counts, but for sources and cautions that it lacks.

    Parameters
    ----------
    base, addition : Registry
        Without `alterations`.

    Raises
    ------
    InvalidDocumentError
        If a name that was added is taken.
    UpdateError
        If a name would mean another model than in `base`.
    """
    keys = sorted(base.entries.keys() | addition.entries.keys(), key=lambda key: (TASKS.index(_task(key)), key))
    entries, elsewhere = {}, dict(base.elsewhere)
    for key in keys:
        old, new = base.entries.get(key), addition.entries.get(key)
        entries[key] = _merged(old, _without_bytes(new)) if old and new else old or _without_bytes(addition.entries[key])
        known = old.versions if old else {}
        elsewhere |= {f"{key}@{version}": addition.home for version in entries[key].versions if version not in known}
    grown = replace(base, entries=entries, elsewhere=elsewhere)
    check_consistency(grown)
    if others := _other_meanings(base, grown):
        raise UpdateError(f"{addition.home.label} alters what names mean, and may only add: {'; '.join(others)}")
    return grown


def _task(key: str) -> str:
    return key.partition("/")[0]


def _without_bytes(entry: ModelEntry) -> ModelEntry:
    """What is added brings no bundled weights, whatever it says of the package that it comes from."""
    versions = {
        name: locked.model_copy(update={"sources": locked.sources.model_copy(update={"seed": False})})
        for name, locked in entry.versions.items()
    }
    return entry.model_copy(update={"versions": versions})


def _merged(old: ModelEntry, new: ModelEntry) -> ModelEntry:
    versions = {name: _with_additions(locked, new.versions.get(name)) for name, locked in old.versions.items()}
    versions |= {name: new.versions[name] for name in sorted(new.versions.keys() - old.versions.keys(), key=version_key)}
    known = {alias.name for alias in old.aliases}
    aliases = [*old.aliases, *(alias for alias in new.aliases if alias.name not in known)]
    return old.model_copy(update={"versions": versions, "aliases": aliases})


def _with_additions(old: LockedVersion, new: LockedVersion | None) -> LockedVersion:
    if new is None:
        return old
    sources = old.sources.model_copy(update={"hub": old.sources.hub or new.sources.hub})
    return old.model_copy(
        update={
            "sources": sources,
            "warning": new.warning or old.warning,
            "deprecated": new.deprecated or old.deprecated,
        }
    )
