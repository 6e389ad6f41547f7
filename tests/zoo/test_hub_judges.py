"""Second opinions on the contract server, by independent tools: git-lfs, and the mirror server olah."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from deepcr_zoo import locations
from deepcr_zoo.errors import IntegrityError
from deepcr_zoo.zoo.registry import TEST_VECTOR_FILE, WEIGHTS_FILE
from deepcr_zoo.zoo.sources import pull_resolved
from tests.zoo.hub.published import PublishedModel

pytest_plugins = ["tests.zoo.hub.fixtures"]
# the client's own, on every upload
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

OLAH_CONFIG = """
[basic]
host = "127.0.0.1"
port = {port}
hf-scheme = "http"
hf-netloc = "127.0.0.1:9"
hf-lfs-netloc = "127.0.0.1:9"
mirror-netloc = "127.0.0.1:{port}"
mirror-lfs-netloc = "127.0.0.1:{port}"
repos-path = "{cache}"
mirrors-path = ["{mirrors}"]

[accessibility]
offline = true
"""
OLAH_START_S = 60


def git(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run git with git-lfs switched on, and nothing else of the person's settings."""
    lfs = ["-c", "filter.lfs.process=git-lfs filter-process", "-c", "filter.lfs.required=true"]
    settings = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    return subprocess.run(["git", *lfs, *arguments], env=os.environ | settings, capture_output=True, text=True)


@pytest.fixture
def judged(published: PublishedModel) -> Path:
    """The published repository, where git-lfs is here to judge it."""
    if not shutil.which("git-lfs"):
        pytest.skip("git-lfs is not installed (Debian: apt-get install git-lfs)")
    return published.hub.repository(published.pin.repo).folder


def test_git_finds_nothing_wrong_with_what_was_published(judged: Path) -> None:
    checked = git("-C", judged, "fsck", "--strict")
    assert (checked.returncode, checked.stdout) == (0, ""), checked.stderr


def test_git_lfs_finds_nothing_wrong_with_what_was_published(judged: Path) -> None:
    checked = git("-C", judged, "lfs", "fsck", "HEAD")
    assert (checked.returncode, checked.stdout) == (0, "Git LFS fsck OK\n"), checked.stderr


def test_git_lfs_would_find_a_damaged_object(published: PublishedModel, judged: Path) -> None:
    damage(published)
    checked = git("-C", judged, "lfs", "fsck", "HEAD")
    assert checked.returncode != 0
    assert WEIGHTS_FILE in checked.stdout


def test_a_clone_has_exactly_what_was_published(published: PublishedModel, judged: Path, tmp_path: Path) -> None:
    cloned = git("clone", "--quiet", judged.as_uri(), tmp_path / "clone")
    assert cloned.returncode == 0, cloned.stderr
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (tmp_path / "clone").glob("[!.]*")}
    assert found == {name: hashlib.sha256(data).hexdigest() for name, data in published.files.items()}


@contextmanager
def olah_serving(command: Path, repositories: Path, folder: Path) -> Iterator[str]:
    """Run olah over the contract server's repositories, which it serves from its disk; gives its address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (folder / "olah.toml").write_text(OLAH_CONFIG.format(port=port, cache=folder / "olah-cache", mirrors=repositories))
    started = [str(command), "--config", str(folder / "olah.toml"), "--log-path", str(folder / "olah-log")]
    # it keeps a database in the home folder
    environment = os.environ | {"HOME": str(folder)}
    with (
        open(folder / "olah.txt", "w+") as messages,
        subprocess.Popen(started, env=environment, stdout=messages, stderr=subprocess.STDOUT) as olah,
    ):
        try:
            if not answers(olah, port):
                pytest.skip(f"olah does not start: {(folder / 'olah.txt').read_text()[-500:]}")
            yield f"http://127.0.0.1:{port}"
        finally:
            olah.terminate()


@pytest.fixture
def mirrored(
    published: PublishedModel, olah_command: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[PublishedModel]:
    """The published model, with olah as the endpoint."""
    with olah_serving(olah_command, published.hub.root, tmp_path) as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        yield published


@pytest.mark.network
@pytest.mark.slow
def test_another_server_gives_the_locked_bytes_of_what_was_published(mirrored: PublishedModel) -> None:
    pulled = pull_resolved(mirrored.model)
    assert pulled.source == "hub"
    for name in (WEIGHTS_FILE, TEST_VECTOR_FILE):
        assert (locations.cache_root() / mirrored.model.folder / name).read_bytes() == mirrored.files[name]
    assert mirrored.hub.log == []


@pytest.mark.network
@pytest.mark.slow
def test_a_damaged_file_on_another_server_is_refused(mirrored: PublishedModel) -> None:
    damage(mirrored)
    with pytest.raises(IntegrityError, match=WEIGHTS_FILE):
        pull_resolved(mirrored.model)
    assert list(locations.cache_root().rglob("*")) == []


def damage(published: PublishedModel) -> None:
    """Change one byte of the weights where the contract server stores them."""
    sha256 = published.model.locked.weights.sha256
    stored = published.hub.repository(published.pin.repo).lfs_object(sha256)
    data = stored.read_bytes()
    stored.write_bytes(bytes([data[0] ^ 0xFF]) + data[1:])


def answers(server: subprocess.Popen[bytes], port: int) -> bool:
    """Wait until `server` takes connections; whether it does."""
    deadline = time.monotonic() + OLAH_START_S
    while server.poll() is None and time.monotonic() < deadline:
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                return True
        time.sleep(0.05)
    return False
