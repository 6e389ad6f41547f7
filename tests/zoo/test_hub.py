"""Downloads from a Hub: the real client, over HTTP, against the contract server."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd

from deepcr_zoo import locations
from deepcr_zoo.errors import HubError, HubUnreachableError, IntegrityError, SourceError, UsageError
from deepcr_zoo.zoo.hub import connection
from deepcr_zoo.zoo.hub.downloads import download
from deepcr_zoo.zoo.hub.repositories import HubRepository
from deepcr_zoo.zoo.registry import TEST_VECTOR_FILE, WEIGHTS_FILE, HubPin
from deepcr_zoo.zoo.sources import fetch, pull_resolved
from tests.registries import edit_entry
from tests.zoo.hub import faults
from tests.zoo.hub.published import VERSION, PublishedModel
from tests.zoo.hub.server import LoggedRequest

pytest_plugins = ["tests.zoo.hub.fixtures"]
# the client's own, on every upload
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

PULL = """
import sys
from pathlib import Path
from deepcr_zoo.zoo.registry import read_registry
from deepcr_zoo.zoo.sources import pull_resolved
print(pull_resolved(read_registry(Path(sys.argv[1])).resolve(sys.argv[2])).source)
"""
LOAD = """
import sys
from pathlib import Path
from deepcr_zoo.models.model import load_resolved
from deepcr_zoo.zoo.registry import read_registry
print(load_resolved(read_registry(Path(sys.argv[1])).resolve(sys.argv[2]), "cpu").sha256)
"""
KILLED_WHILE_WRITING = """
import os, signal
os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)
"""

LONGEST_WAIT_S = connection.PATIENCE_S + 5
"""How long a user may wait for a Hub that does not answer (the client alone: more than 20 s)."""


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of temporary files, to see what is left there."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def silent_host() -> Iterator[str]:
    """A host that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def dead_host() -> str:
    """A host where nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


def in_cache() -> dict[str, bytes]:
    """Every file below the cache, hidden ones too."""
    root = locations.cache_root()
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def get(published: PublishedModel, filename: str = WEIGHTS_FILE, pin: HubPin | None = None) -> bytes:
    """A file of the size of the weights."""
    return download(pin or published.pin, filename, len(published.files[WEIGHTS_FILE]))


def downloads(published: PublishedModel) -> list[LoggedRequest]:
    return [request for request in published.hub.log if request.path.startswith("/storage/")]


def start(script: str, published: PublishedModel, *prefix: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*prefix, sys.executable, "-c", script, str(published.root), published.model.reference],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(script: str, published: PublishedModel, *prefix: str, **environment: str) -> tuple[str, str, int]:
    """What a child process printed, what it said on stderr, and how it ended."""
    with start(script, published, *prefix, **environment) as child:
        output, messages = child.communicate(timeout=60)
        return output.strip(), messages, child.returncode


# What a pull gives


def test_a_pull_gives_exactly_the_locked_bytes_and_keeps_them_in_the_cache(published: PublishedModel) -> None:
    pulled = pull_resolved(published.model)
    folder = published.model.folder
    assert pulled.source == "hub"
    assert pulled.path == locations.cache_root() / folder / WEIGHTS_FILE
    assert in_cache() == {str(folder / name): published.files[name] for name in (WEIGHTS_FILE, TEST_VECTOR_FILE)}


def test_a_second_pull_makes_no_request(published: PublishedModel) -> None:
    pull_resolved(published.model)
    published.hub.log.clear()
    assert pull_resolved(published.model).source == "cache"
    assert published.hub.log == []


def test_a_moved_tag_does_not_change_what_a_pinned_version_gives(published: PublishedModel) -> None:
    api, repository = published.api(), published.pin.repo
    other = CommitOperationAdd(WEIGHTS_FILE, published.files[WEIGHTS_FILE][::-1])
    later = api.create_commit(repository, [other], commit_message="other weights").oid
    api.delete_tag(repository, tag=VERSION)
    api.create_tag(repository, tag=VERSION, revision=later)
    assert api.model_info(repository, revision=VERSION).sha == later != published.pin.commit
    assert fetch(published.model, WEIGHTS_FILE).data == published.files[WEIGHTS_FILE]


def test_the_endpoint_and_the_token_come_from_the_environment(
    published: PublishedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    published.hub.private.add(published.pin.repo)
    monkeypatch.setenv("HF_TOKEN", "hf_read")
    assert get(published) == published.files[WEIGHTS_FILE]


def test_an_endpoint_may_end_in_a_slash(published: PublishedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", f"{published.hub.url}/")
    assert get(published) == published.files[WEIGHTS_FILE]


def test_the_token_never_reaches_the_storage_host(published: PublishedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_read")
    pull_resolved(published.model)
    at_the_storage = {request.authorised for request in downloads(published)}
    at_the_hub = {request.authorised for request in published.hub.log if request not in downloads(published)}
    assert (at_the_hub, at_the_storage) == ({True}, {False})


# Bytes that are wrong


def test_a_file_corrupted_once_is_fetched_again(published: PublishedModel) -> None:
    published.hub.inject(faults.corrupted, times=1)
    assert fetch(published.model, WEIGHTS_FILE).data == published.files[WEIGHTS_FILE]
    assert len(downloads(published)) == 2
    assert list(in_cache().values()) == [published.files[WEIGHTS_FILE]]


def test_a_file_that_is_always_corrupted_is_refused_and_nothing_of_it_stays(
    published: PublishedModel, scratch: Path
) -> None:
    published.hub.inject(faults.corrupted)
    right = published.files[WEIGHTS_FILE]
    wrong = right[:-1] + bytes([right[-1] ^ 0xFF])
    with pytest.raises(IntegrityError) as refused:
        pull_resolved(published.model)
    for named in (WEIGHTS_FILE, hashlib.sha256(right).hexdigest(), hashlib.sha256(wrong).hexdigest(), "hub"):
        assert named in str(refused.value)
    assert len(downloads(published)) == 2
    assert list(locations.cache_root().rglob("*")) == []
    assert list(scratch.iterdir()) == []


def test_a_file_truncated_once_by_the_hub_is_fetched_again(published: PublishedModel) -> None:
    published.hub.inject(faults.truncated, times=1)
    assert fetch(published.model, WEIGHTS_FILE).data == published.files[WEIGHTS_FILE]


def test_a_file_that_the_hub_always_truncates_is_an_error_and_nothing_of_it_stays(
    published: PublishedModel, scratch: Path
) -> None:
    published.hub.inject(faults.truncated)
    size = len(published.files[WEIGHTS_FILE])
    with pytest.raises(IntegrityError, match=rf"{WEIGHTS_FILE}.*expected {size} bytes, found {size // 2}\b"):
        pull_resolved(published.model)
    assert list(locations.cache_root().rglob("*")) == []
    assert list(scratch.iterdir()) == []


def test_a_download_that_breaks_off_is_taken_up_again(published: PublishedModel) -> None:
    published.hub.inject(faults.broken_off, times=1)
    assert fetch(published.model, WEIGHTS_FILE).data == published.files[WEIGHTS_FILE]
    assert len(downloads(published)) == 2


def test_a_file_that_the_hub_announces_with_a_larger_size_is_not_fetched(published: PublishedModel) -> None:
    size = len(published.files[WEIGHTS_FILE])
    with pytest.raises(IntegrityError, match=rf"{WEIGHTS_FILE}: expected at most {size - 1} bytes, {size} are announced"):
        download(published.pin, WEIGHTS_FILE, size - 1)


# A Hub that refuses


def test_a_bad_token_is_named(published: PublishedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_expired")
    with pytest.raises(HubError, match=rf"{published.pin.repo} refused the request \(401\): check HF_TOKEN"):
        get(published)


def test_a_token_with_letters_that_no_token_has_is_named_and_not_shown(published: PublishedModel, monkeypatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_s3crété")
    with pytest.raises(HubError, match=r"^the token of the Hub has letters that no token has: correct HF_TOKEN") as caught:
        get(published)
    assert "s3cr" not in str(caught.value)


@pytest.mark.parametrize("token", [None, "hf_other"])
def test_a_private_repository_asks_for_a_token_that_may_read_it(
    published: PublishedModel, token: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    published.hub.private.add(published.pin.repo)
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(HubError, match=rf"{published.pin.repo} .*private: set HF_TOKEN to a token that may read it"):
        get(published)


@pytest.mark.parametrize(("token", "status"), [(None, 401), ("hf_other", 403)])
def test_a_gated_repository_says_to_accept_its_terms(
    published: PublishedModel, token: str | None, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    published.hub.gated.add(published.pin.repo)
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(HubError, match=rf"{published.pin.repo} is gated: accept its terms .* HF_TOKEN"):
        get(published)
    assert published.hub.log[-1].status == status


def test_a_repository_that_is_gone_is_named(published: PublishedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(published.hub.repository(published.pin.repo).folder)
    monkeypatch.setenv("HF_TOKEN", "hf_read")
    with pytest.raises(HubError, match=rf"{published.pin.repo} does not exist"):
        get(published)
    assert [request.status for request in published.hub.log] == [404]


def test_a_commit_that_is_gone_is_named(published: PublishedModel) -> None:
    gone = published.pin.model_copy(update={"commit": "0" * 40})
    with pytest.raises(HubError, match=rf"{gone.repo} has no commit {gone.commit}"):
        get(published, pin=gone)


def test_a_file_that_is_missing_is_named(published: PublishedModel) -> None:
    with pytest.raises(HubError, match=rf"{published.pin.repo} has no file missing.safetensors .*{published.pin.commit}"):
        get(published, "missing.safetensors")


@pytest.mark.parametrize(("change", "filename"), [({"commit": "0" * 40}, WEIGHTS_FILE), ({}, "missing.safetensors")])
def test_what_is_gone_comes_with_a_way_out(published: PublishedModel, change: dict[str, str], filename: str) -> None:
    with pytest.raises(HubError, match="name another source"):
        get(published, filename, published.pin.model_copy(update=change))


def test_a_refusal_reaches_the_user_of_a_pull(published: PublishedModel) -> None:
    published.hub.private.add(published.pin.repo)
    with pytest.raises(SourceError, match=rf"{published.model.reference}: no source .* \(cache: .* hub: .*set HF_TOKEN"):
        pull_resolved(published.model)


# A Hub that is not there


def test_a_hub_that_is_down_is_an_error_at_once(published: PublishedModel) -> None:
    published.hub.inject(faults.unavailable, where="/resolve/")
    with pytest.raises(HubUnreachableError, match=rf"{published.hub.url} answered with status 503"):
        get(published)
    assert len(published.hub.log) == 1


@pytest.mark.parametrize("ask", [get, lambda published: HubRepository(published.pin.repo).head()])
def test_a_login_page_is_not_taken_for_an_answer_of_the_hub(
    published: PublishedModel, ask: Callable[[PublishedModel], object]
) -> None:
    for where in ("/api/", "/resolve/"):
        published.hub.inject(faults.login_page, where=where)
    with pytest.raises(HubUnreachableError, match=rf"{published.hub.url} cannot be used: .*Hub"):
        ask(published)


@pytest.mark.parametrize("host", ["dead_host", "silent_host"])
def test_a_host_that_does_not_answer_costs_a_few_seconds(
    published: PublishedModel, host: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DEEPCR_ZOO_HUB_TIMEOUT")
    url = request.getfixturevalue(host)
    monkeypatch.setenv("HF_ENDPOINT", url)
    begun = time.monotonic()
    with pytest.raises(SourceError, match=rf"hub: {url} cannot be used"):
        pull_resolved(published.model)
    assert time.monotonic() - begun < LONGEST_WAIT_S


def test_the_patience_with_a_silent_host_can_be_set(
    published: PublishedModel, silent_host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", silent_host)
    monkeypatch.setenv("DEEPCR_ZOO_HUB_TIMEOUT", "0.2")
    begun = time.monotonic()
    with pytest.raises(HubUnreachableError, match=r"no answer within 0\.2 s \(DEEPCR_ZOO_HUB_TIMEOUT changes that\)"):
        get(published)
    assert time.monotonic() - begun < LONGEST_WAIT_S
    monkeypatch.setenv("DEEPCR_ZOO_HUB_TIMEOUT", "soon")
    with pytest.raises(UsageError, match="expected a number of seconds"):
        get(published)


def test_a_password_in_the_endpoint_is_never_shown(
    published: PublishedModel, dead_host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", dead_host.replace("://", "://user:secret@"))
    with pytest.raises(HubUnreachableError) as unreachable:
        get(published)
    monkeypatch.setenv("HF_ENDPOINT", published.hub.url.replace("://", "://user:secret@"))
    published.hub.inject(faults.unavailable)
    with pytest.raises(SourceError) as unavailable:
        get(published)
    assert "secret" not in str(unreachable.value) + str(unavailable.value)


def test_offline_the_cache_serves_without_a_request(published: PublishedModel) -> None:
    pull_resolved(published.model)
    published.hub.log.clear()
    assert run(PULL, published, HF_HUB_OFFLINE="1")[0] == "cache"
    assert published.hub.log == []


def test_offline_the_seed_serves_without_a_request(published: PublishedModel) -> None:
    edit_entry(published.root, lambda entry: entry["versions"][VERSION]["sources"].update(seed=True))
    assert run(PULL, published, HF_HUB_OFFLINE="1")[0] == "seed"
    assert published.hub.log == []


def test_offline_a_model_that_is_not_here_is_an_error_without_a_request(published: PublishedModel) -> None:
    _, messages, status = run(PULL, published, HF_HUB_OFFLINE="1")
    assert status != 0
    assert "the Hub is switched off (HF_HUB_OFFLINE)" in messages
    assert published.hub.log == []


# A cache that is shared, interrupted or cannot be written to


@pytest.fixture
def read_only_cache() -> Iterator[list[str]]:
    """Make the cache read-only; gives the prefix of a command that cannot override that, even when root runs the tests."""
    prefix = []
    if os.geteuid() == 0:
        if not shutil.which("setpriv"):
            pytest.skip("root overrides permissions, and setpriv (util-linux) is not here to give that up")
        prefix = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    cache = locations.cache_root()
    cache.chmod(0o555)
    try:
        if subprocess.run([*prefix, "touch", str(cache / "probe")], capture_output=True).returncode == 0:
            pytest.skip("the user who runs the tests can write to a read-only folder, with setpriv too")
        yield prefix
    finally:
        cache.chmod(0o755)


@pytest.mark.slow
def test_with_a_read_only_cache_a_model_loads_from_verified_bytes(
    published: PublishedModel, read_only_cache: list[str]
) -> None:
    sha256, messages, status = run(LOAD, published, *read_only_cache)
    assert status == 0, messages
    assert sha256 == published.model.locked.weights.sha256
    assert "SourceWarning" in messages
    assert f"{locations.cache_root() / published.model.folder}: the cache cannot be written to" in messages


def test_with_a_read_only_cache_a_pull_says_where_else_the_files_can_go(
    published: PublishedModel, read_only_cache: list[str]
) -> None:
    _, messages, status = run(PULL, published, *read_only_cache)
    assert status != 0
    assert f"SourceError: {locations.cache_root()}: the cache cannot be written to" in messages.replace(
        "deepcr_zoo.errors.", ""
    )
    assert "--to" in messages


@pytest.mark.slow
def test_two_processes_may_pull_into_one_cache_at_once(published: PublishedModel) -> None:
    published.hub.inject(faults.Together(clients=2))
    with start(PULL, published) as first, start(PULL, published) as second:
        answers = [child.communicate(timeout=60)[0].strip() for child in (first, second)]
    assert answers == ["hub", "hub"]
    folder = published.model.folder
    assert in_cache() == {str(folder / name): published.files[name] for name in (WEIGHTS_FILE, TEST_VECTOR_FILE)}


@pytest.mark.slow
def test_a_pull_killed_while_it_downloads_leaves_nothing_and_the_next_one_works(
    published: PublishedModel, tmp_path: Path
) -> None:
    published.hub.inject(faults.stalled, times=1)
    # what a killed process cannot remove goes with the test's own folder
    with start(PULL, published, TMPDIR=str(tmp_path)) as child:
        while not downloads(published):
            assert child.poll() is None, child.communicate()
            time.sleep(0.01)
        child.kill()
    assert in_cache() == {}
    assert pull_resolved(published.model).path.read_bytes() == published.files[WEIGHTS_FILE]


def test_a_pull_killed_while_it_writes_leaves_no_wrong_file_and_the_next_one_works(published: PublishedModel) -> None:
    assert run(KILLED_WHILE_WRITING + PULL, published)[2] == -signal.SIGKILL
    weights = locations.cache_root() / published.model.folder / WEIGHTS_FILE
    assert not weights.exists()
    assert pull_resolved(published.model).path.read_bytes() == published.files[WEIGHTS_FILE]
