"""Registry entry and card of a release in a checkout, ready to be committed."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from deepcr_zoo import files
from deepcr_zoo.documents import as_yaml
from deepcr_zoo.errors import OutputError, PublishError, UsageError
from deepcr_zoo.files import write_together
from deepcr_zoo.publishing.releases import Release
from deepcr_zoo.zoo.merging import MEANING
from deepcr_zoo.zoo.names import VERSION_PATTERN
from deepcr_zoo.zoo.records import Results, read_results
from deepcr_zoo.zoo.registry import CARD_FILE, HubPin, LockedVersion, ModelEntry, Registry, read_registry


def find_checkout(given: Path | None) -> Path:
    """The checkout that entries are written into: the given folder, else that of this package.

    Raises
    ------
    UsageError
        If it is none.
    """
    if given is None and files.data_root() == files.PACKAGE / "_data":
        raise UsageError("this package is installed: name the checkout that the registry entry goes into, with --into DIR")
    root = given or files.data_root()
    if not (root / "zoo").is_dir() or not (root / "cards").is_dir():
        raise UsageError(f"{root}: expected a checkout of the repository, with its zoo/ and cards/")
    return root


def check_entry(release: Release, repository: str, checkout: Path) -> None:
    """Refuse a release whose version a checkout has with other bytes, or elsewhere on the Hub, before anything is uploaded.

    Raises
    ------
    PublishError
    """
    known = _known(release, read_registry(checkout))
    if known is None:
        return
    if known.sources.hub is not None and known.sources.hub.repo != repository:
        raise PublishError(
            f"{release.reference} is published in {known.sources.hub.repo}: leave out --repo, or name that one"
        )
    ours = release.locked(None)
    if wrong := [name for name in MEANING if name != "released" and getattr(known, name) != getattr(ours, name)]:
        raise PublishError(
            f"{checkout / 'zoo' / release.entry}.yaml has {release.reference} already, with other {', '.join(wrong)}: a "
            "version never changes; set identity.version in card.yaml to another one"
        )


def _check_pin(known: LockedVersion | None, release: Release, pin: HubPin) -> None:
    """A place on the Hub is added once."""
    there = known and known.sources.hub
    if there and there != pin:
        raise PublishError(f"{release.reference} is pinned to {there.repo} at commit {there.commit}, not to {pin.commit}")


def write_entry(release: Release, pin: HubPin, checkout: Path) -> list[Path]:
    """Write card, results and recipe of a release, and last the registry entry that pins it.

    A new version does not become the default: the entry says which one is, and that is for people to change.

    Returns
    -------
    list of Path
        What was written.

    Raises
    ------
    OutputError
        If it cannot be written; then nothing was.
    PublishError
        If the entry pins another commit.
    """
    registry = read_registry(checkout)
    _check_pin(_known(release, registry), release, pin)
    card = checkout / "cards" / release.entry / f"{release.card.identity.version}.yaml"
    contents = {card.with_suffix(suffix): data for suffix, data in release.beside_card.items()}
    if release.measurement is not None:
        contents[card.with_suffix(".results.yaml")] = _results(release, registry)
    contents[card] = release.files[CARD_FILE]
    contents[checkout / "zoo" / f"{release.entry}.yaml"] = entry_text(_grown(release, registry, pin))
    changed = {path: data for path, data in contents.items() if not path.is_file() or path.read_bytes() != data}
    try:
        write_together(changed)
    except OSError as error:
        raise OutputError(f"{checkout}: cannot be written: {error.strerror}: run the command again, or --into DIR") from None
    return list(changed)


class _EntryDumper(yaml.SafeDumper):
    """Versions in double quotes, as people write them."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"' if _VERSION.fullmatch(text) else None)


_VERSION = re.compile(VERSION_PATTERN)
_EntryDumper.add_representer(str, _text)


def entry_text(entry: ModelEntry) -> bytes:
    """A registry entry as its file has it: what is read from such a file is written as it was."""
    content = entry.model_dump(exclude_none=True)
    if not content["aliases"]:
        del content["aliases"]
    return yaml.dump(content, Dumper=_EntryDumper, sort_keys=False, allow_unicode=True, width=120).encode()


def _known(release: Release, registry: Registry) -> LockedVersion | None:
    entry = registry.entries.get(release.entry)
    return None if entry is None else entry.versions.get(release.card.identity.version)


def _grown(release: Release, registry: Registry, pin: HubPin) -> ModelEntry:
    identity, known = release.card.identity, _known(release, registry)
    locked = release.locked(pin)
    if known is not None:
        locked = known.model_copy(update={"sources": known.sources.model_copy(update={"hub": pin})})
    entry = registry.entries.get(release.entry)
    if entry is None:
        return ModelEntry(
            name=identity.name,
            task=identity.task,
            summary=release.summary,
            default=identity.version,
            versions={identity.version: locked},
        )
    return entry.model_copy(update={"versions": {**entry.versions, identity.version: locked}})


def _results(release: Release, registry: Registry) -> bytes:
    """What is on record of a version, with what was measured of this release."""
    known = _known(release, registry)
    before = Results() if known is None else read_results(registry.resolve(release.reference))
    assert release.measurement is not None
    if any(release.measurement.repeats(one) for one in before.measurements):
        return as_yaml(before)
    return as_yaml(before.model_copy(update={"measurements": [*before.measurements, release.measurement]}))
