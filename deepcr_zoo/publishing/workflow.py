"""Publishing from beginning to end: gates, upload, read-back, registry entry."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from deepcr_zoo import locations
from deepcr_zoo.bench.runs import Run
from deepcr_zoo.bench.subjects import find_subject
from deepcr_zoo.errors import PublishError, UsageError
from deepcr_zoo.publishing.entries import check_entry, write_entry
from deepcr_zoo.publishing.pullrequests import Proposal, find_merged, open_pull_request
from deepcr_zoo.publishing.releases import Release, release_of_model, release_of_run
from deepcr_zoo.publishing.upload import Publication, read_back, upload
from deepcr_zoo.zoo import sources
from deepcr_zoo.zoo.hub.repositories import HubRepository, whoami
from deepcr_zoo.zoo.names import version_key
from deepcr_zoo.zoo.registries import default_registry
from deepcr_zoo.zoo.registry import CONFIG_FILE, TEST_VECTOR_FILE, WEIGHTS_FILE, Registry


@dataclass(frozen=True)
class Published:
    """A release that is on the Hub and in a checkout."""

    publication: Publication
    written: list[Path]  # files of the checkout that changed
    caution: str | None = None  # what others have still to do


def find_release(given: str | os.PathLike[str]) -> Release:
    """Return the release of a run's folder, or of a version of the registry."""
    if not Path(given).is_dir() and (Path(given).is_file() or "*" in os.fspath(given) or len(Path(given).parts) > 2):
        raise UsageError(f"{given}: no such folder: expected that of a run, which 'train' prints, or NAME@VERSION")
    origin = find_subject(given).origin
    return release_of_run(origin) if isinstance(origin, Run) else release_of_model(origin)


def publish(release: Release, repository: str, checkout: Path, *, private: bool = False) -> Published:
    """Publish a release, and write its registry entry into a checkout once the Hub has given it back unchanged."""
    release = release.in_repository(repository)
    release.check_gates()
    check_entry(release, repository, checkout)
    whoami()
    publication = upload(release, HubRepository(repository), private=private)
    read_back(release, publication.pin, also=(CONFIG_FILE,))
    return Published(publication, write_entry(release, publication.pin, checkout))


def bundle(release: Release, checkout: Path) -> list[Path]:
    """Write a release into a checkout with its weights, which the package then brings along; return the changed files."""
    release = replace(release, seed=True)
    release.check_gates()
    check_entry(release, None, checkout)
    return write_entry(release, None, checkout)


def propose(release: Release, repository: str) -> Proposal:
    """Open a pull request on the Hub with a release; no registry entry is written before it is merged."""
    release = release.in_repository(repository)
    release.check_gates()
    check_entry(release, repository, locations.data_root())
    whoami()
    return open_pull_request(release, HubRepository(repository))


def finish(release: Release, repository: str, checkout: Path) -> Published:
    """Write the registry entry of a release whose pull request was merged."""
    release.check_gates()
    check_entry(release, repository, checkout)
    publication, caution = find_merged(release, HubRepository(repository))
    read_back(release, publication.pin)
    return Published(publication, write_entry(release, publication.pin, checkout), caution)


def tag_registered(name: str) -> Publication:
    """Set the tag of NAME@VERSION on the commit that its entry pins: a keeper's step after a proposal was merged."""
    model = default_registry().resolve(name)
    pin, tag = model.locked.sources.hub, f"v{model.version}"
    if pin is None:
        raise PublishError(f"{model.reference} is on no Hub yet: publish it first")
    for filename in (WEIGHTS_FILE, TEST_VECTOR_FILE):
        sources.fetch(model, filename, source="hub", keep=False)  # raises if the Hub's bytes are not those of the registry
    whoami()
    repository = HubRepository(pin.repo)
    there = repository.tags().get(tag)
    if there not in (None, pin.commit):
        raise PublishError(f"{repository.address}: {tag} names commit {there}, the registry {pin.commit}: ask its owners")
    if there is None:
        repository.tag(tag, pin.commit)
    return Publication(pin, repository.address, is_new=there is None)


def seed_references(registry: Registry) -> Iterator[str]:
    """Yield ``task/name@version`` of every version that this package bundles, older versions first."""
    for entry in registry.entries.values():
        for version in sorted(entry.versions, key=version_key):
            if entry.versions[version].sources.seed:
                yield f"{entry.reference}@{version}"
