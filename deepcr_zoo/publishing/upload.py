"""Upload of a release into its repository: one commit, then a tag that never moves.

The tag decides: until it is set nothing is published, and the first to set it has published the version. An upload may
therefore break off at any moment: uploaded files stay, the next try goes on from there, and no tag lacks its files.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from deepcr_zoo.bench.results import RESULTS_FILE
from deepcr_zoo.errors import HubConflictError, HubUnreachableError, IntegrityError, PublishError
from deepcr_zoo.models import testvectors, verification
from deepcr_zoo.models.model import load_files
from deepcr_zoo.publishing.releases import README_FILE, REPORT_FILE, REPORT_PICTURES, VERSION_RESULTS_FILE, Release
from deepcr_zoo.zoo.hub import downloads
from deepcr_zoo.zoo.hub.repositories import HubRepository, RemoteFile
from deepcr_zoo.zoo.registry import CARD_FILE, CONFIG_FILE, TEST_VECTOR_FILE, WEIGHTS_FILE, HubPin
from deepcr_zoo.zoo.runfolders import RECIPE_FILE

_OURS = {CARD_FILE, CONFIG_FILE, TEST_VECTOR_FILE, WEIGHTS_FILE}  # by which a repository is known for one of models

TRIES = 5  # tries of a commit on a main branch that others change, too
MOST_COMMITS, MOST_COMMITS_S = 100, 300.0  # that are looked into: a Hub may list any number, and each is a question
STARTING_PAGE = 300  # bytes of a README.md at most that a browser writes into a new repository

# files of a single version, as its pictures are: a version without them removes those of the one before
VERSION_FILES = (REPORT_FILE, RESULTS_FILE, VERSION_RESULTS_FILE, RECIPE_FILE)


@dataclass(frozen=True)
class Publication:
    """Place of a release on the Hub; `is_new` is False if it had been published before."""

    pin: HubPin
    address: str
    is_new: bool


def prepare(repository: HubRepository, private: bool) -> None:
    """Make a repository if there is none; `PublishError` if it must be private and is not, whoever has made it."""
    if not repository.exists():
        repository.create(private)
    if private and not repository.is_private():
        raise PublishError(f"{repository.address} is public: make it private in a browser, or leave out --private")


def upload(release: Release, repository: HubRepository, *, private: bool = False) -> Publication:
    """Publish a release, unless it is published already; the repository is created if it does not exist.

    PublishError if the version is published with other bytes, or is uploaded with other bytes at the same time.
    """
    prepare(repository, private)
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
        found = published(release, repository)  # another upload was quicker
        if found is None:
            raise
        return found
    return Publication(HubPin(repo=repository.name, commit=commit), repository.address, is_new=True)


def published(release: Release, repository: HubRepository) -> Publication | None:
    """Return where a release is published, None if it is not; PublishError if its version has other bytes there.

    Its page may be another one, as it is rendered otherwise from time to time.
    """
    commit = repository.tags().get(release.tag)
    if commit is None:
        return None
    there = f"{repository.address} has {release.tag} already (commit {commit})"
    found = repository.files(commit)
    if wrong := _other_bytes(release.locked_files, found):
        raise PublishError(
            f"{there}, with other bytes of {', '.join(wrong)}: a version never changes; publish these as another version "
            "(identity.version in card.yaml)"
        )
    # else another program has set the tag: of the page it is enough that there is one, it may be rendered otherwise today
    missing = [f"no {name}" for name in (README_FILE, CONFIG_FILE) if name not in found]
    other = [] if CONFIG_FILE not in found else _other_bytes({CONFIG_FILE: release.files[CONFIG_FILE]}, found)
    if problems := [*missing, *(f"another {name}" for name in other)]:
        raise PublishError(
            f"{there}, with {' and '.join(problems)}: publish these as another version (identity.version in card.yaml), or, "
            "if another program has set that tag, delete it and run the command again"
        )
    return Publication(HubPin(repo=repository.name, commit=commit), repository.address, is_new=False)


def _other_bytes(wanted: Mapping[str, bytes], found: Mapping[str, RemoteFile]) -> list[str]:
    """Return the names of files that are missing or have other bytes."""
    return [name for name, data in wanted.items() if name not in found or not found[name].holds(data)]


def _commit(release: Release, repository: HubRepository) -> str:
    """Return the commit of an earlier try that ended before its tag, else make a new one."""
    before = _uploads(release, repository)
    for place in holders(repository, before, release.files):
        return before[place]
    for _ in range(TRIES):
        head = repository.head()
        there = repository.files(head)
        stale = stale_files(release, there)
        if not there.keys() >= _OURS:
            refuse_files_of_others(repository, [*release.files, *stale], there)
        try:
            return repository.commit(release.files, release.title, parent=head, without=stale).id
        except HubConflictError:
            _refuse_rivals(release, repository, before)
    raise HubConflictError(f"{repository.address} is changed by others all the time: run the command again later")


def refuse_files_of_others(repository: HubRepository, replaced: Iterable[str], there: Mapping[str, RemoteFile]) -> None:
    """Raise PublishError if a repository that holds nothing of this package has files that would be replaced."""
    size = there[README_FILE].size if README_FILE in there else None
    is_started = size is not None and size <= STARTING_PAGE
    lost = sorted(path for path in replaced if path in there and not (path == README_FILE and is_started))
    if lost:
        raise PublishError(
            f"{repository.address} has no model or registry of deepcr-zoo, but files of its own which this would replace or "
            f"remove: {', '.join(lost[:5])}: give another --repo, or move them away"
        )


def holders(repository: HubRepository, commits: Sequence[str], files: Mapping[str, bytes]) -> Iterator[int]:
    """Yield the place of each of the first commits that has all these files; `HubUnreachableError` if it takes too long."""
    until = time.monotonic() + MOST_COMMITS_S
    for place, commit in enumerate(commits[:MOST_COMMITS]):
        if time.monotonic() > until:
            raise HubUnreachableError(f"{repository.address} answers too slowly: run the command again later")
        if repository.holds(commit, files):
            yield place


def _uploads(release: Release, repository: HubRepository) -> list[str]:
    """Return the commits of the main branch that are uploads of this version by their title, newest first."""
    return [commit.id for commit in repository.commits() if commit.title == release.title]


def _refuse_rivals(release: Release, repository: HubRepository, before: list[str]) -> None:
    """Give up if others have uploaded other bytes of this version since this upload began."""
    rivals = [commit for commit in _uploads(release, repository) if commit not in before][:MOST_COMMITS]
    alike = set(holders(repository, rivals, release.locked_files))
    for place, rival in enumerate(rivals):
        if place not in alike:
            raise PublishError(
                f"{repository.address}: another account has just uploaded other bytes of {release.tag} (commit {rival}): "
                "agree with its owner, and publish these as another version"
            )


def stale_files(release: Release, there: Iterable[str]) -> list[str]:
    """Return those of the files of a repository that an earlier version has left and this one does not have."""
    old = [path for path in there if path not in release.files]
    return [path for path in old if path in VERSION_FILES or re.fullmatch(rf"{REPORT_PICTURES}/[^/]+\.png", path)]


def read_back(release: Release, pin: HubPin, also: Sequence[str] = ()) -> None:
    """Download the locked files of a release and others, compare every byte, and run the network on its test vector."""
    sent = release.locked_files | {name: release.files[name] for name in also}
    got = downloads.download_all(pin, {name: len(data) for name, data in sent.items()})
    for name, data in sent.items():
        if got[name] != data:
            raise IntegrityError(f"{pin.repo} at commit {pin.commit}: {name}: the Hub gives back other bytes: run it again")
    model = load_files(got[WEIGHTS_FILE], release.card, release.architecture, release.reference, "cpu", engine="torch")
    found = verification.compare(model, testvectors.read(got[TEST_VECTOR_FILE], release.reference))
    if found.verdict != "reproduces":
        raise IntegrityError(
            f"{release.reference}: what the Hub gives back differs from the test vector by {found.max_difference:.2g}, "
            f"{found.tolerance:g} is allowed"
        )
