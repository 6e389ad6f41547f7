"""A second look: does the Hub give back what was published, to somebody who has nothing of it?"""

from __future__ import annotations

from deepcr_zoo import testvectors, verification
from deepcr_zoo.errors import IntegrityError
from deepcr_zoo.hub import downloads
from deepcr_zoo.models import load_files
from deepcr_zoo.publishing.release import Release
from deepcr_zoo.registry import TEST_VECTOR_FILE, WEIGHTS_FILE, HubPin


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
