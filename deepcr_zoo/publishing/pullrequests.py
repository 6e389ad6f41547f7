"""Releases proposed as pull requests on the Hub, by accounts that may not write to the repository."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from deepcr_zoo.errors import HubConflictError, HubError, PublishError
from deepcr_zoo.publishing.releases import Release
from deepcr_zoo.publishing.upload import Publication, holders, published, stale_files
from deepcr_zoo.zoo.hub.repositories import HubRepository, PullRequest
from deepcr_zoo.zoo.registry import HubPin


@dataclass(frozen=True)
class Proposal:
    """An open pull request; `is_new` is False if it was open already."""

    address: str
    is_new: bool


def open_pull_request(release: Release, repository: HubRepository) -> Proposal:
    """Open a pull request with a release, unless one with the same bytes is open already."""
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
    stale = stale_files(release, repository.files(head))
    made = repository.commit(release.files, release.title, parent=head, without=stale, pull_request=True)
    return Proposal(made.pull_request or repository.address, is_new=True)


def find_merged(release: Release, repository: HubRepository) -> tuple[Publication, str | None]:
    """Return where a release is once its pull request was merged, and a caution if this account may not set its tag."""
    if not repository.exists():
        raise PublishError(f"{repository.address} does not exist, or is private: set HF_TOKEN to a token that may read it")
    if (found := published(release, repository)) is not None:
        return found, None
    for known in _pull_requests(release, repository):
        if known.merged_as is not None and repository.holds(known.merged_as, release.locked_files):
            publication = Publication(HubPin(repo=repository.name, commit=known.merged_as), repository.address, is_new=True)
            return publication, _tag(release, repository, known.merged_as)
    raise PublishError(f"{repository.address}: no pull request with {release.tag}, these bytes of it, is merged yet")


def _pull_requests(release: Release, repository: HubRepository) -> Iterator[PullRequest]:
    """Yield the newest pull requests with these bytes of this version, the newest first."""
    listed = repository.pull_requests()
    numbers = sorted(listed, reverse=True)
    for place in holders(repository, [listed[number] for number in numbers], release.locked_files):
        yield repository.pull_request(numbers[place])


def _tag(release: Release, repository: HubRepository, commit: str) -> str | None:
    """Set the tag; return a caution if the Hub refuses."""
    try:
        repository.tag(release.tag, commit)
    except HubConflictError:
        published(release, repository)  # raises if a tag of other bytes was set meanwhile
    except HubError as error:
        return f"the tag {release.tag} is for an owner of {repository.address} to set, on commit {commit}: {error}"
    return None
