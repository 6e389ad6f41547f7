"""A release into its repository: one commit, then a tag that never moves.

The tag decides: until it is there nothing is published, and whoever sets it first has published the version. So an upload
may be cut off at any moment: what was uploaded stays, the next try goes on from there, and no tag is ever without its files.
"""

from __future__ import annotations

from dataclasses import dataclass

from deepcr_zoo.errors import HubConflictError, PublishError
from deepcr_zoo.hub.repositories import Commit, HubRepository
from deepcr_zoo.publishing.release import (
    RECIPE_FILE,
    REPORT_FILE,
    REPORT_PICTURES,
    RESULTS_FILE,
    VERSION_RESULTS_FILE,
    Release,
)
from deepcr_zoo.registry import HubPin

TRIES = 5
"""Of a commit on a main branch that others change, too."""

OURS = (REPORT_FILE, RESULTS_FILE, VERSION_RESULTS_FILE, RECIPE_FILE)
"""Files that belong to one version alone, as its pictures do: a version without them removes those of the one before."""


@dataclass(frozen=True)
class Publication:
    """Where a release is now.

    Attributes
    ----------
    pin : HubPin
    address : str
        Of the repository, for people.
    is_new : bool
        False if it had been published before.
    """

    pin: HubPin
    address: str
    is_new: bool


def upload(release: Release, repository: HubRepository, *, private: bool = False) -> Publication:
    """Publish a release; of one that is published already nothing is changed.

    Parameters
    ----------
    release : Release
    repository : HubRepository
        Made if it is not there.
    private : bool
        Whether only its owners may see a repository that is made.

    Raises
    ------
    PublishError
        If the version is published with other bytes, or another upload of it with other bytes comes in between.
    HubUnreachableError, HubError
        If the Hub does not answer, or refuses.
    """
    if not repository.exists():
        repository.create(private)
    elif private and not repository.is_private():
        raise PublishError(f"{repository.address} is public: make it private in a browser, or leave out --private")
    if (found := published(release, repository)) is not None:
        return found
    commit = _commit(release, repository)
    if not repository.holds(commit, release.files):
        raise PublishError(
            f"{repository.address}: commit {commit} has not all files of {release.tag} (does a .gitignore there leave some "
            "out?): nothing was tagged; mend the repository and run the command again"
        )
    try:
        repository.tag(release.tag, commit)
    except HubConflictError:
        found = published(release, repository)  # somebody was quicker
        if found is None:
            raise
        return found
    return Publication(HubPin(repo=repository.name, commit=commit), repository.address, is_new=True)


def published(release: Release, repository: HubRepository) -> Publication | None:
    """Where a release is published already; None if it is not.

    Raises
    ------
    PublishError
        If its version is published with other bytes.
    """
    commit = repository.tags().get(release.tag)
    if commit is None:
        return None
    found = repository.files(commit)
    wrong = [name for name, data in release.locked_files.items() if name not in found or not found[name].holds(data)]
    if wrong:
        raise PublishError(
            f"{repository.address} has {release.tag} already (commit {commit}), with other bytes of {', '.join(wrong)}: a "
            "version never changes; publish these as another version (identity.version in card.yaml)"
        )
    return Publication(HubPin(repo=repository.name, commit=commit), repository.address, is_new=False)


def _commit(release: Release, repository: HubRepository) -> str:
    """The commit of a release: that of a try which was cut off before its tag, else a new one."""
    before = _uploads(release, repository)
    for known in before:
        if repository.holds(known.id, release.files):
            return known.id
    for _ in range(TRIES):
        head = repository.head()
        stale = stale_files(release, repository, head)
        try:
            return repository.commit(release.files, release.title, parent=head, without=stale).id
        except HubConflictError:
            _refuse_rivals(release, repository, before)
    raise HubConflictError(f"{repository.address} is changed by others all the time: run the command again later")


def _uploads(release: Release, repository: HubRepository) -> list[Commit]:
    """Commits of the main branch that are, by their title, uploads of this version."""
    return [commit for commit in repository.commits() if commit.title == release.title]


def _refuse_rivals(release: Release, repository: HubRepository, before: list[Commit]) -> None:
    """Leave the version to whoever has uploaded other bytes of it since we began."""
    for rival in _uploads(release, repository):
        if rival not in before and not repository.holds(rival.id, release.locked_files):
            raise PublishError(
                f"{repository.address}: somebody else has just uploaded other bytes of {release.tag} (commit {rival.id}): "
                "agree with them, and publish these as another version"
            )


def stale_files(release: Release, repository: HubRepository, head: str) -> list[str]:
    """What the version before has left that this one does not have."""
    old = [path for path in repository.files(head) if path not in release.files]
    return [path for path in old if path in OURS or path.startswith(f"{REPORT_PICTURES}/")]
