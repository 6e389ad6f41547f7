"""A release into its repository: one commit, then a tag that never moves.

The tag decides: until it is there nothing is published, and whoever sets it first has published the version. So an upload
may be cut off at any moment: what was uploaded stays, the next try goes on from there, and no tag is ever without its files.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from deepcr_zoo.bench.results import RESULTS_FILE
from deepcr_zoo.errors import HubConflictError, HubError, IntegrityError, PublishError
from deepcr_zoo.models import testvectors, verification
from deepcr_zoo.models.model import load_files
from deepcr_zoo.publishing.releases import (
    RECIPE_FILE,
    REPORT_FILE,
    REPORT_PICTURES,
    VERSION_RESULTS_FILE,
    Release,
)
from deepcr_zoo.zoo.hub import downloads
from deepcr_zoo.zoo.hub.repositories import Commit, HubRepository, PullRequest
from deepcr_zoo.zoo.registry import TEST_VECTOR_FILE, WEIGHTS_FILE, HubPin

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


def read_back(release: Release, pin: HubPin) -> None:
    """Download the locked files of a release anew, compare every byte, and run the network on its test vector.

    Raises
    ------
    IntegrityError
        If something differs.
    HubUnreachableError, HubError
        If the Hub does not answer, or refuses.
    """
    got = downloads.download_all(pin, {name: len(data) for name, data in release.locked_files.items()})
    for name, data in release.locked_files.items():
        if got[name] != data:
            raise IntegrityError(f"{pin.repo} at commit {pin.commit}: {name}: the Hub gives back other bytes: run it again")
    model = load_files(got[WEIGHTS_FILE], release.card, release.architecture, release.reference, "cpu", engine="torch")
    found = verification.compare(model, testvectors.read(got[TEST_VECTOR_FILE], release.reference))
    if found.verdict != "reproduces":
        raise IntegrityError(
            f"{release.reference}: what the Hub gives back differs from the test vector by {found.max_difference:.2g}, "
            f"{found.tolerance:g} is allowed"
        )
