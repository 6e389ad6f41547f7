"""A release as a pull request on the Hub, for those who may not write to its repository."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from deepcr_zoo.errors import HubConflictError, HubError, PublishError
from deepcr_zoo.hub.repositories import HubRepository, PullRequest
from deepcr_zoo.publishing.release import Release
from deepcr_zoo.publishing.upload import Publication, published, stale_files
from deepcr_zoo.registry import HubPin


@dataclass(frozen=True)
class Proposal:
    """A pull request.

    Attributes
    ----------
    address : str
    is_new : bool
        False if it was open already.
    """

    address: str
    is_new: bool


def propose(release: Release, repository: HubRepository) -> Proposal:
    """Open a pull request with a release; one that is open already, with the same bytes, is not opened again.

    Raises
    ------
    PublishError
        If there is no such repository, or the version is published already.
    HubUnreachableError, HubError
        If the Hub does not answer, or refuses.
    """
    if not repository.exists():
        raise PublishError(
            f"{repository.address} does not exist, or is private: ask its organisation to make it, or publish to a "
            f"repository of your own: --repo YOU/{release.repository_name}, without --pr"
        )
    if (found := published(release, repository)) is not None:
        raise PublishError(f"{found.address} has {release.tag} already: --finish writes its registry entry")
    for known in _pull_requests(release, repository):
        if known.is_open:
            return Proposal(known.address, is_new=False)
    head = repository.head()
    stale = stale_files(release, repository, head)
    made = repository.commit(release.files, release.title, parent=head, without=stale, pull_request=True)
    return Proposal(made.url or repository.address, is_new=True)


def merged(release: Release, repository: HubRepository) -> tuple[Publication, str | None]:
    """Where a release is, once its pull request was merged; sets the tag.

    Returns
    -------
    publication : Publication
    caution : str or None
        Why there is no tag, if this account may not set one.

    Raises
    ------
    PublishError
        If no such pull request was merged.
    HubUnreachableError, HubError
        If the Hub does not answer, or refuses.
    """
    if not repository.exists():
        raise PublishError(f"{repository.address} does not exist, or is private: set HF_TOKEN to a token that may read it")
    if (found := published(release, repository)) is not None:
        return found, None
    for known in _pull_requests(release, repository):
        if known.merged_as is not None and repository.holds(known.merged_as, release.locked_files):
            publication = Publication(HubPin(repo=repository.name, commit=known.merged_as), repository.address, is_new=True)
            return publication, _tagged(release, repository, known.merged_as)
    raise PublishError(f"{repository.address}: no pull request with {release.tag}, these bytes of it, is merged yet")


def _pull_requests(release: Release, repository: HubRepository) -> Iterator[PullRequest]:
    """Those that propose this version with these bytes."""
    for number, commit in sorted(repository.pull_requests().items()):
        if repository.holds(commit, release.locked_files):
            yield repository.pull_request(number)


def _tagged(release: Release, repository: HubRepository, commit: str) -> str | None:
    try:
        repository.tag(release.tag, commit)
    except HubConflictError:
        published(release, repository)  # refuses a tag of other bytes, which was set meanwhile
    except HubError as error:
        return f"the tag {release.tag} is for an owner of {repository.address} to set, on commit {commit}: {error}"
    return None
