"""Registry entry and card of a release, written into a checkout and ready to be committed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import yaml

from deepcr_zoo import files, locations
from deepcr_zoo.documents import as_yaml
from deepcr_zoo.errors import PublishError, UsageError
from deepcr_zoo.files import read_file, refuse_others, write_together
from deepcr_zoo.publishing.releases import Release
from deepcr_zoo.zoo.merging import MEANING
from deepcr_zoo.zoo.names import VERSION_PATTERN
from deepcr_zoo.zoo.records import RESULTS_ENDING, Results, read_records, with_record
from deepcr_zoo.zoo.registry import (
    CARD_FILE,
    TEST_VECTOR_FILE,
    WEIGHTS_FILE,
    HubPin,
    LockedVersion,
    ModelEntry,
    Registry,
    read_registry,
)


def find_checkout(given: Path | None) -> Path:
    """Return the checkout that entries are written into: the given folder, else that of this package."""
    if given is None and locations.data_root() == locations.INSTALLED_DATA:
        raise UsageError("this package is installed: name the checkout that the registry entry goes into, with --into DIR")
    root = given or locations.data_root()
    if not (root / "zoo").is_dir() or not (root / "cards").is_dir():
        raise UsageError(f"{root}: expected a checkout of the repository, with its zoo/ and cards/")
    return root


def check_entry(release: Release, repository: str | None, checkout: Path) -> None:
    """Refuse a release, before any upload, if the checkout has its version with other bytes or elsewhere on the Hub."""
    _check_against(read_registry(checkout), release, repository, checkout)


def _check_against(registry: Registry, release: Release, repository: str | None, checkout: Path) -> LockedVersion | None:
    """Do as `check_entry`, and return what the registry of the checkout locks of the version."""
    known = _locked(release, registry)
    if known is None:
        _check_unlisted(release, {_card_path(release, checkout): release.files[CARD_FILE]})
        return None
    if repository is not None and (pin := known.sources.hub) is not None and pin.repo != repository:
        raise PublishError(f"{release.reference} is published in {pin.repo}: leave out --repo, or name that one")
    ours = release.locked(None)
    if wrong := [name for name in MEANING if name != "released" and getattr(known, name) != getattr(ours, name)]:
        raise PublishError(
            f"{checkout / 'zoo' / release.entry}.yaml has {release.reference} already, with other {', '.join(wrong)}: a "
            "version never changes; set identity.version in card.yaml to another one"
        )
    return known


def write_entry(release: Release, pin: HubPin | None, checkout: Path) -> list[Path]:
    """Write card, results and recipe of a release, last the registry entry that pins it; return the changed files.

    Without a pin, the entry says that the weights are bundled, and they are written too. If one file cannot be written,
    none is. A new version does not become the default: people change that in the entry.
    """
    with (
        files.reporting_failures(checkout, "run the command again, with another --into if that stays"),
        files.locked(checkout),
    ):
        return _write_entry(release, pin, checkout)


def _write_entry(release: Release, pin: HubPin | None, checkout: Path) -> list[Path]:
    registry = read_registry(checkout)
    known = _check_against(registry, release, None, checkout)  # again: others may have written there since
    if known and known.sources.hub and pin is not None and known.sources.hub != pin:
        there = known.sources.hub
        raise PublishError(f"{release.reference} is pinned to {there.repo} at commit {there.commit}, not to {pin.commit}")
    card = _card_path(release, checkout)
    beside = {card.with_suffix(suffix): data for suffix, data in release.beside_card.items()}
    contents = dict(beside)
    if release.measurement is not None:
        recorded = Results() if known is None else read_records(registry.resolve(release.reference))
        contents[card.with_suffix(RESULTS_ENDING)] = as_yaml(with_record(recorded, release.measurement))
    contents[card] = release.files[CARD_FILE]
    if pin is None:
        shelf = checkout / "zoo" / "weights" / release.entry / release.card.identity.version
        contents |= {shelf / name: release.files[name] for name in (WEIGHTS_FILE, TEST_VECTOR_FILE)}
    if known is None:
        _check_unlisted(release, contents)
    else:
        refuse_others(
            beside, f"is on record for {release.reference}, which does not change: publish a new version", PublishError
        )
    entry = _pinned_entry(release, registry, pin)
    if entry != registry.entries.get(release.entry):  # else its file stays, with comments that people have put there
        contents[checkout / "zoo" / f"{release.entry}.yaml"] = entry_text(entry)
    changed = {path: data for path, data in contents.items() if not path.is_file() or read_file(path) != data}
    write_together(changed)
    return list(changed)


def _card_path(release: Release, checkout: Path) -> Path:
    return checkout / "cards" / release.entry / f"{release.card.identity.version}.yaml"


def _check_unlisted(release: Release, contents: Mapping[Path, bytes]) -> None:
    """Refuse to replace files that no entry locks: they are somebody's work, or of an upload that was interrupted."""
    reason = f"is another file of {release.reference}, without a registry entry: move it away, or set identity.version in "
    refuse_others(contents, f"{reason}card.yaml to another version", PublishError)


class _EntryDumper(yaml.SafeDumper):
    """Writes versions in double quotes, as people do."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = '"' if re.fullmatch(VERSION_PATTERN, text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_EntryDumper.add_representer(str, _represent_text)


def entry_text(entry: ModelEntry) -> bytes:
    """Return the file of a registry entry; a file that was read is written unchanged."""
    content = entry.model_dump(exclude_none=True)
    if not content["aliases"]:
        del content["aliases"]
    return yaml.dump(content, Dumper=_EntryDumper, sort_keys=False, allow_unicode=True, width=120).encode()


def _locked(release: Release, registry: Registry) -> LockedVersion | None:
    entry = registry.entries.get(release.entry)
    return None if entry is None else entry.versions.get(release.card.identity.version)


def _pinned_entry(release: Release, registry: Registry, pin: HubPin | None) -> ModelEntry:
    identity, known, entry = release.card.identity, _locked(release, registry), registry.entries.get(release.entry)
    locked = release.locked(pin)
    if known is not None:
        source = {"seed": True} if pin is None else {"hub": pin}
        locked = known.model_copy(update={"sources": known.sources.model_copy(update=source)})
    if entry is None:
        return ModelEntry(
            name=identity.name,
            task=identity.task,
            summary=release.summary,
            default=identity.version,
            versions={identity.version: locked},
        )
    return entry.model_copy(update={"versions": {**entry.versions, identity.version: locked}})
