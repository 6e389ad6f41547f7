"""Lock and cards on the Hub, where ``deepcr-zoo update`` finds them: the registry grows between releases of the package."""

from __future__ import annotations

from pathlib import Path

from deepcr_zoo.errors import PublishError
from deepcr_zoo.files import temporary_folder
from deepcr_zoo.publishing.releases import README_FILE
from deepcr_zoo.publishing.upload import Publication, prepare, refuse_files_of_others
from deepcr_zoo.zoo import updates
from deepcr_zoo.zoo.cards import read_card
from deepcr_zoo.zoo.hub.frontmatter import front_matter
from deepcr_zoo.zoo.hub.repositories import HubRepository, whoami
from deepcr_zoo.zoo.merging import alterations
from deepcr_zoo.zoo.records import altered_records
from deepcr_zoo.zoo.registry import HubPin, Registry, read_registry
from deepcr_zoo.zoo.rendering import models_table
from deepcr_zoo.zoo.updates import fetch_lock, shipped_registry

TITLE = "Registry of {count} versions of {models} models"


def registry_files(checkout: Path) -> dict[str, bytes]:
    """Return the published files of a checkout's registry, by path; every card is checked against the lock."""
    registry = read_registry(checkout)
    for reference in registry.references():
        read_card(registry.resolve(reference))
    return {README_FILE: _page(registry), **updates.lock_files(checkout)}


def publish_registry(checkout: Path, repository: str, *, private: bool = False) -> Publication:
    """Publish lock and cards of a checkout to ORG/NAME; published content may be added to, not altered or removed."""
    files, registry = registry_files(checkout), read_registry(checkout)
    _refuse_unpublished(registry)
    whoami()
    remote = HubRepository(repository)
    prepare(remote, private)
    head = remote.head()
    if remote.holds(head, files):
        return Publication(HubPin(repo=repository, commit=head), remote.address, is_new=False)
    there = remote.files(head)
    if updates.has_entries(there):
        _refuse_alterations(remote, head, registry)
    else:
        refuse_files_of_others(remote, files, there)
    title = TITLE.format(count=len(registry.references()), models=len(registry.entries))
    made = remote.commit(files, title, parent=head)
    return Publication(HubPin(repo=repository, commit=made.id), remote.address, is_new=True)


def _refuse_unpublished(registry: Registry) -> None:
    """Refuse versions that no Hub has: users of an older package could not get their bytes."""
    bundled = set(shipped_registry().references())
    for entry in registry.entries.values():
        for version, locked in entry.versions.items():
            if locked.sources.hub is None and f"{entry.reference}@{version}" not in bundled:
                raise PublishError(f"{entry.reference}@{version} is on no Hub: publish it before the registry that names it")


def _refuse_alterations(remote: HubRepository, head: str, registry: Registry) -> None:
    with temporary_folder() as scratch:
        fetch_lock(remote, head, scratch)
        published = read_registry(scratch)
        problems = [*alterations(published, registry, complete=True), *altered_records(published, registry)]
    if problems:
        raise PublishError(
            f"{remote.address}: this checkout's registry alters what is published, and may only add: {'; '.join(problems)}"
        )


def _page(registry: Registry) -> bytes:
    tags, task = ["astronomy", "cosmic-rays", "deepcr"], "image-segmentation"
    block = front_matter(name="registry", spdx="BSD-3-Clause", tags=tags, pipeline=task, base_model=None, evaluations=[])
    text = (
        "# Registry of deepcr-zoo\n\nThe lock (`zoo/`) and the cards (`cards/`) of the zoo's models, for `deepcr-zoo "
        "update`: names, versions, hashes, and where the bytes are. Rendered from them:\n\n"
    )
    return f"{block}{text}{models_table(registry)}\n".encode()
