"""Other releases of the same version, and what a repository of the contract server holds."""

from __future__ import annotations

import dataclasses

from deepcr_zoo.zoo.registry import CARD_FILE

REPOSITORY = "deepcr-zoo/mask-ACS-WFC-F606W-2-4"


def with_another_card(release, text="# another\n"):
    """The same version with other bytes."""
    return dataclasses.replace(release, files={**release.files, CARD_FILE: release.files[CARD_FILE] + text.encode()})


def contents(hub, commit, name=REPOSITORY):
    """What a commit holds, by path, as its users mean it; None for an LFS object that is missing."""
    repository = hub.repository(name)
    found = {}
    for entry in repository.entries(commit):
        stored = None if entry.pointer is None else repository.lfs_object(entry.pointer.sha256)
        if not entry.is_folder and entry.path != ".gitattributes":
            found[entry.path] = repository.content(entry) if stored is None or stored.exists() else None
    return found


def titles(hub, name=REPOSITORY):
    repository = hub.repository(name)
    return [one.title for one in repository.history(repository.resolve("main"))]
