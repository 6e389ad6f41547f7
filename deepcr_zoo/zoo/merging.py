"""Comparing and merging registries: what has been released may be added to and never altered."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from deepcr_zoo.errors import UpdateError
from deepcr_zoo.zoo.names import TASKS, version_key
from deepcr_zoo.zoo.registry import LockedVersion, ModelEntry, Registry, check_consistency

MEANING = ("released", "architecture", "weights", "test_vector", "card")  # fields of a version that never change


def alterations(old: Registry, new: Registry, *, complete: bool) -> list[str]:
    """Return where `new` alters what `old` has, one sentence each; if `complete`, everything in `old` must be in `new`."""
    pairs = [(entry, new.entries.get(key)) for key, entry in old.entries.items()]
    found = [text for before, after in pairs for text in _compare_entries(before, after, complete)]
    return found or (_changed_meanings(old, new) if complete else [])


def changed_defaults(old: Registry, new: Registry) -> list[str]:
    """Return which models have another default version in `new`, one sentence each."""
    pairs = [(entry, new.entries.get(key)) for key, entry in old.entries.items()]
    return [
        f"{before.reference}: default: expected {before.default}, got {after.default}"
        for before, after in pairs
        if after is not None and after.default != before.default
    ]


def merged(base: Registry, addition: Registry) -> Registry:
    """Return two registries without `alterations` as one; `base` has precedence, except for sources and cautions it lacks.

    A name that would mean another model than in `base` raises `UpdateError`.
    """
    added = {key: _without_seed(entry) for key, entry in addition.entries.items()}
    keys = sorted(base.entries.keys() | added.keys(), key=lambda key: (TASKS.index(key.partition("/")[0]), key))
    entries, elsewhere = {}, dict(base.elsewhere)
    for key in keys:
        old = base.entries.get(key)
        entries[key] = added[key] if old is None else _merge_entries(old, added[key]) if key in added else old
        known = old.versions if old else {}
        elsewhere |= {f"{key}@{version}": addition.home for version in entries[key].versions if version not in known}
    grown = replace(base, entries=entries, elsewhere=elsewhere)
    check_consistency(grown)
    if others := _changed_meanings(base, grown):
        raise UpdateError(f"{addition.home.label} alters what names mean, and may only add: {'; '.join(others)}")
    return grown


def _changed_meanings(old: Registry, new: Registry) -> list[str]:
    """Return which names without a task mean another model, because a name was added for another task."""
    names = {name for entry in old.entries.values() for name in (entry.name, *(alias.name for alias in entry.aliases))}
    meanings = [(name, *(registry.resolve(name).entry.reference for registry in (old, new))) for name in sorted(names)]
    return [f"{name}: expected {before}, got {after}" for name, before, after in meanings if before != after]


def _compare_entries(old: ModelEntry, new: ModelEntry | None, complete: bool) -> Iterator[str]:
    if new is None:
        if complete:
            yield f"{old.reference}: is missing"
        return
    aliases = {alias.name: alias for alias in new.aliases}
    for alias in old.aliases:
        if alias.name in aliases and aliases[alias.name].version != alias.version:
            yield f"{old.reference}: alias {alias.name}: expected what it has always meant"
        elif complete and alias.name not in aliases:
            yield f"{old.reference}: alias {alias.name}: is missing"
    for version, locked in old.versions.items():
        if version in new.versions:
            yield from _compare_versions(f"{old.reference}@{version}", locked, new.versions[version], complete)
        elif complete:
            yield f"{old.reference}@{version}: is missing"


def _compare_versions(reference: str, old: LockedVersion, new: LockedVersion, complete: bool) -> Iterator[str]:
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


def _without_seed(entry: ModelEntry) -> ModelEntry:
    """Return an added entry without bundled weights, which only the package that it comes from has."""
    versions = {
        name: locked.model_copy(update={"sources": locked.sources.model_copy(update={"seed": False})})
        for name, locked in entry.versions.items()
    }
    return entry.model_copy(update={"versions": versions})


def _merge_entries(old: ModelEntry, new: ModelEntry) -> ModelEntry:
    versions = {name: _merge_versions(locked, new.versions.get(name)) for name, locked in old.versions.items()}
    versions |= {name: new.versions[name] for name in sorted(new.versions.keys() - old.versions.keys(), key=version_key)}
    known = {alias.name for alias in old.aliases}
    aliases = [*old.aliases, *(alias for alias in new.aliases if alias.name not in known)]
    return old.model_copy(update={"versions": versions, "aliases": aliases})


def _both(old: str | None, new: str | None) -> str | None:
    """Return two cautions as one: a newer one may add to what this package says, and takes nothing back."""
    if old is None or new is None:
        return old or new
    return new if old in new else f"{old}; {new}"


def _merge_versions(old: LockedVersion, new: LockedVersion | None) -> LockedVersion:
    if new is None:
        return old
    sources = old.sources.model_copy(update={"hub": old.sources.hub or new.sources.hub})
    cautions = {"warning": _both(old.warning, new.warning), "deprecated": _both(old.deprecated, new.deprecated)}
    return old.model_copy(update={"sources": sources, **cautions})
