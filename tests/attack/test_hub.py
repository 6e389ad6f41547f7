"""A hostile Hub, or one in between: it chooses no file, takes neither memory nor time, and leads nowhere."""

from __future__ import annotations

import contextlib
import errno
import gzip
import json
import resource
import time
from pathlib import Path

import pytest
from huggingface_hub import HfApi, constants
from huggingface_hub.utils import _detect_agent, httpx
from hypothesis import HealthCheck, given, settings
from starlette.responses import Response

from deepcr_zoo import locations
from deepcr_zoo.errors import (
    DeepcrZooError,
    HubError,
    HubUnreachableError,
    IntegrityError,
    OutputError,
    SourceError,
    UsageError,
)
from deepcr_zoo.publishing.upload import upload
from deepcr_zoo.zoo import incoming, sources, updates
from deepcr_zoo.zoo.hub import connection, downloads, guard, repositories
from deepcr_zoo.zoo.hub.repositories import HubRepository, whoami
from deepcr_zoo.zoo.registry import TEST_VECTOR_FILE, WEIGHTS_FILE
from deepcr_zoo.zoo.resolving import find_model
from deepcr_zoo.zoo.sources import pull_resolved
from tests.attack.hostile import hostile_json
from tests.publishing.releases import REPOSITORY
from tests.registries import edit_entry
from tests.strangers import ADDRESS
from tests.zoo.hub import faults
from tests.zoo.hub.published import VERSION
from tests.zoo.test_updates import keepers_once  # noqa: F401

pytest_plugins = ["tests.zoo.hub.fixtures", "tests.strangers"]
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


def everything(folder: Path) -> set[str]:
    """Each file and folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def strike(hub, fault) -> None:
    """Let a fault befall each answer, of the Hub and of the host where it keeps large files."""
    hub.inject(fault, where="/")
    hub.inject(fault, method="HEAD", where="/")


@pytest.fixture
def updating(contract_hub, keepers_once, tmp_path, monkeypatch):  # noqa: F811
    """A Hub with a registry, and a user who has never updated."""
    from deepcr_zoo.publishing.registryfiles import publish_registry

    monkeypatch.setenv("DEEPCR_ZOO_DATA", str(tmp_path / "data"))
    with monkeypatch.context() as keeper:
        keeper.setenv("HF_TOKEN", "hf_write")
        publish_registry(keepers_once, updates.REPOSITORY)
    return contract_hub


@pytest.mark.parametrize("header", ["ETag", "X_Linked_ETag", "X_Repo_Commit", "X_Xet_Hash", "Link", "X_Linked_Size"])
def test_no_header_chooses_where_a_file_is_written(published, tmp_path, header):
    target = tmp_path / "evil.pth"
    strike(published.hub, faults.with_headers(**{header: f'"{target}"'}))
    before = everything(tmp_path)
    try:
        pulled = pull_resolved(published.model)
    except SourceError:
        pass
    else:
        assert pulled.path.read_bytes() == published.files[WEIGHTS_FILE]
    assert not target.exists()
    assert everything(tmp_path) - before <= {"hf-home"}
    assert {path.name for path in locations.cache_root().rglob("*") if path.is_file()} <= {WEIGHTS_FILE, TEST_VECTOR_FILE}


def test_no_header_chooses_where_an_update_is_written(updating, tmp_path):
    target = tmp_path / "evil.pth"
    strike(updating, faults.with_headers(ETag=f'"{target}"', X_Linked_ETag=f'"{target}"'))
    updates.update()
    assert not target.exists()


@pytest.mark.parametrize("commit", ["../../evil", "/tmp/evil", "main", "0" * 39, "0" * 5000, 7, None])
def test_a_commit_is_forty_hexadecimal_digits(updating, commit, tmp_path):
    updating.inject(faults.answering(json.dumps({"sha": commit, "siblings": []}).encode()), where="/api/models/")
    with pytest.raises(DeepcrZooError, match="its answer is not that of a Hub"):
        updates.update()
    assert everything(updates.folder()) <= {".lock"}


@pytest.mark.parametrize(
    "listing",
    [
        b"[" * 100_000,
        b"{" * 100_000,
        b'{"sha": 1' + b"0" * 5000 + b"}",
        b'{"siblings": [{"rfilename": "LICENSE", "size": -1}]}',
        b'{"siblings": [{"rfilename": "LICENSE", "size": 1e999}]}',
        b"\xff\xfe",
        b"",
    ],
)
def test_a_list_that_is_no_list_is_one_sentence(updating, listing):
    updating.inject(faults.answering(listing), where="/api/models/")
    with pytest.raises(DeepcrZooError, match="its answer is not that of a Hub"):
        updates.update()


ENTRY = "zoo/mask/NEW-2-4.yaml"


def test_files_that_a_list_names_outside_of_the_registry_are_not_asked_for(updating):
    files_of = [{"rfilename": name, "size": 3, "blobId": "0" * 40} for name in ("../evil", "/evil", "zoo/evil.pth", ENTRY)]
    head = json.dumps({"sha": "1" * 40, "siblings": files_of}).encode()
    updating.inject(faults.answering(head), where="/api/models/")
    updating.log.clear()
    with pytest.raises(DeepcrZooError):
        updates.update()
    assert {request.path.rpartition("/resolve/")[2] for request in updating.log if "/resolve/" in request.path} == {
        f"{'1' * 40}/{ENTRY}"
    }


@pytest.mark.parametrize("fault", [faults.endless, faults.packed])
def test_a_body_ends_where_the_registry_says(published, fault):
    published.hub.inject(fault, where="/storage/")
    begun = time.monotonic()
    with pytest.raises((SourceError, IntegrityError)):
        pull_resolved(published.model)
    assert time.monotonic() - begun < 60
    assert everything(locations.cache_root()) == set()


def test_a_larger_size_than_the_registry_says_is_refused_before_it_is_read(published):
    published.hub.inject(faults.answering(bytes(10_000_000)), where="/storage/")
    with pytest.raises(IntegrityError, match=r"10000000 are announced; it was not downloaded"):
        pull_resolved(published.model)


def test_a_body_that_drips_is_given_up(published, monkeypatch):
    monkeypatch.setattr(incoming, "START_S", 0.5)
    published.hub.inject(faults.dripping, where="/storage/")
    begun = time.monotonic()
    with pytest.raises(SourceError, match="arrives too slowly"):
        pull_resolved(published.model)
    assert time.monotonic() - begun < 60


def test_a_bundled_copy_is_used_instead_of_a_slow_hub(published, monkeypatch):
    monkeypatch.setattr(sources, "HUB_BEFORE_SEED_S", 1.0)
    edit_entry(published.root, lambda entry: entry["versions"][VERSION]["sources"].update(seed=True))
    published.hub.inject(faults.dripping, where="/storage/")
    begun = time.monotonic()
    assert pull_resolved(published.model).source == "seed"
    assert time.monotonic() - begun < 60


def test_many_files_that_come_slowly_are_given_up_together(published, monkeypatch):
    monkeypatch.setattr(downloads, "LONGEST_S", 0.0)
    with pytest.raises(HubUnreachableError, match="sends files too slowly"):
        downloads.download_all(published.pin, {"model.safetensors": published.model.locked.weights.size, "README.md": 10**6})


def test_a_hub_that_says_to_come_back_tomorrow_is_not_waited_for(published):
    edit_entry(published.root, lambda entry: entry["versions"][VERSION]["sources"].update(seed=True))
    published.hub.inject(faults.answering(b"", 429, Retry_After="86400"), where="/resolve/")
    begun = time.monotonic()
    assert pull_resolved(published.model).source == "seed"
    assert time.monotonic() - begun < 60


def test_redirects_end(published):
    again = f"{published.hub.url}/{published.pin.repo}/resolve/{published.pin.commit}/{WEIGHTS_FILE}"
    published.hub.inject(faults.redirected(again), where="/resolve/")
    with pytest.raises(SourceError, match="its answer is not that of a Hub"):
        pull_resolved(published.model)
    assert len(published.hub.log) < 10


@pytest.mark.parametrize("address", ["ftp://127.0.0.1/x", "file:///etc/passwd", "http://[::1", "//", "\x00"])
def test_a_redirect_leads_to_an_address_of_the_web(published, address):
    published.hub.inject(faults.redirected(address), where="/resolve/")
    with pytest.raises(SourceError, match="cannot be used"):
        pull_resolved(published.model)


def test_wrong_bytes_of_the_right_size_are_refused(published):
    published.hub.inject(faults.corrupted, where="/storage/")
    with pytest.raises(IntegrityError, match="refused"):
        pull_resolved(published.model)
    assert everything(locations.cache_root()) == set()


JSON = hostile_json(
    "sha",
    "id",
    "siblings",
    "rfilename",
    "size",
    "lfs",
    "sha256",
    "blobId",
    "tags",
    "name",
    "ref",
    "targetCommit",
    "branches",
    "converts",
    "pullRequests",
    "title",
)


@pytest.mark.slow
@settings(max_examples=20, suppress_health_check=list(HealthCheck))
@given(JSON)
def test_any_json_is_an_answer_or_one_sentence(contract_hub, content):
    contract_hub.calm()
    contract_hub.inject(faults.answering(json.dumps(content).encode()), where="/api/models/")
    repository = HubRepository("deepcr-zoo/registry")
    asked = [repository.head, repository.commits, repository.tags, repository.pull_requests, repository.is_private]
    for ask in (*asked, lambda: repository.files("0" * 40), lambda: repository.pull_request(1)):
        with contextlib.suppress(DeepcrZooError):
            ask()


# Listings other than those of files, which the client reads


def test_a_wait_of_a_day_before_a_listing_is_not_waited_for(published):
    published.hub.inject(faults.answering(b"", 429, Retry_After="86400"), where="/commits/")
    begun = time.monotonic()
    with pytest.raises(SourceError, match=r"asks to come back in 86400 s \(429\)"):
        HubRepository(published.pin.repo).commits()
    assert time.monotonic() - begun < 60


@pytest.mark.parametrize("fault", [faults.endless, faults.packed])
def test_a_listing_without_end_is_given_up(published, monkeypatch, fault):
    monkeypatch.setattr(incoming, "MOST_ANSWER_BYTES", 1_000_000)
    published.hub.inject(fault, where="/api/models/")
    for ask in (HubRepository.commits, HubRepository.tags, HubRepository.is_private, HubRepository.exists):
        with pytest.raises(DeepcrZooError, match=r"more arrive|packed as 'gzip'"):
            ask(HubRepository(published.pin.repo))


def test_pages_without_end_are_given_up(published, monkeypatch):
    monkeypatch.setattr(connection, "QUESTION_S", 1.0)
    again = f"{published.hub.url}/api/models/{published.pin.repo}/commits/main"
    published.hub.inject(faults.with_headers(Link=f'<{again}>; rel="next"'), where="/commits/")
    with pytest.raises(SourceError, match=r"no answer within 1 s|take too long"):
        HubRepository(published.pin.repo).commits()
    count = len(published.hub.log)
    time.sleep(0.5)
    assert len(published.hub.log) <= count + 1, "pages are asked for although nobody waits"


def test_an_answer_that_is_no_listing_is_one_sentence(published):
    for answer in (b"[" * 100_000, b"null", b"7", b'[{"id": 7}]', b'{"tags": [{"name": {}}]}'):
        published.hub.calm()
        published.hub.inject(faults.answering(answer), where="/api/models/")
        for ask in (HubRepository.commits, HubRepository.tags, HubRepository.pull_requests):
            with pytest.raises(DeepcrZooError) as caught:
                ask(HubRepository(published.pin.repo))
            assert "\n" not in str(caught.value)
            assert len(str(caught.value)) < 700


def test_a_tag_names_a_commit_of_forty_digits(published):
    for commit in ("../../evil", "main", 7, None, "0" * 39):
        tag = {"name": "1.0", "ref": "refs/tags/1.0", "targetCommit": commit}
        published.hub.calm()
        published.hub.inject(
            faults.answering(json.dumps({"tags": [tag], "branches": [], "converts": []}).encode()), where="/refs"
        )
        with pytest.raises(SourceError, match="where a commit is expected"):
            HubRepository(published.pin.repo).tags()


def test_a_patience_without_end_is_refused(contract_hub, monkeypatch):
    for seconds in ("inf", "nan", "-1", "0", "1e400", "soon", "1" * 5000):
        monkeypatch.setenv("DEEPCR_ZOO_HUB_TIMEOUT", seconds)
        with pytest.raises(UsageError, match="expected a number of seconds, at most 3600"):
            HubRepository("deepcr-zoo/registry").exists()


def test_a_full_disk_is_not_blamed_on_the_hub(contract_hub):
    def full():
        raise OSError(errno.ENOSPC, "No space left on device", "/cache/xet")

    with pytest.raises(OutputError, match="/cache/xet: cannot be written: No space left on device"):
        connection.translated(full, connection.HubRequest("x/y"), connection.client())


# What the client does besides


@pytest.fixture
def telling(contract_hub, monkeypatch, tmp_path):
    """The client asks for a list of coding agents, unless told otherwise."""
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", False)
    monkeypatch.setattr(constants, "ENDPOINT", contract_hub.url)
    monkeypatch.setattr(constants, "AGENT_HARNESSES_PATH", str(tmp_path / "agents.json"))
    monkeypatch.setattr(_detect_agent, "_registry", None)


def test_the_hub_is_not_asked_for_coding_agents(published, telling, keeper):
    hub = published.hub
    assert pull_resolved(published.model).source == "hub"
    repository = HubRepository(published.pin.repo)
    for ask in (repository.exists, repository.is_private, repository.head, repository.commits, repository.tags, whoami):
        ask()
    repository.commit({"new.safetensors": b"large"}, "new", parent=repository.head())
    assert {request.method for request in hub.log} == {"GET", "POST", "PUT"}
    assert not [request.path for request in hub.log if "agent" in request.path]
    assert constants.HF_HUB_DISABLE_TELEMETRY is False
    HfApi(endpoint=hub.url).whoami()  # another program's request is as it was
    assert [request.path for request in hub.log if "agent" in request.path] == ["/api/agent-harnesses"]


def test_the_setting_of_other_programs_is_restored_after_the_last_call(contract_hub, telling):
    seen = []

    def inner():
        connection.translated(lambda: None, connection.HubRequest("x/y"), None)
        seen.append(constants.HF_HUB_DISABLE_TELEMETRY)

    connection.translated(inner, connection.HubRequest("x/y"), None)
    assert [*seen, constants.HF_HUB_DISABLE_TELEMETRY] == [True, False]


def test_an_upload_without_an_answer_is_given_up(contract_hub, keeper, release, monkeypatch):
    repository = HubRepository(REPOSITORY)
    repository.create(private=False)
    monkeypatch.setattr(repositories, "QUESTION_S", 0.5)
    monkeypatch.setattr(repositories, "REPEATS", 0)
    contract_hub.inject(faults.silent, method="POST", where="/")
    with pytest.raises(HubUnreachableError, match=r"no answer within 0\.5 s"):
        repository.commit(release.files, "files", parent=repository.head())


@pytest.mark.parametrize("fault", ["endless", "bomb", "patient", "warning"])
def test_the_answer_to_the_bytes_of_an_upload_is_bounded_as_any_other(contract_hub, keeper, release, fault, capfd):
    """The client sends them in nobody's name, and in threads of its own."""
    answer = {
        "endless": faults.endless,
        "bomb": lambda _: Response(gzip.compress(bytes(200_000_000)), headers={"Content-Encoding": "gzip"}),
        "patient": faults.answering(b"", 429, RateLimit='"api";r=0;t=3000'),
        "warning": faults.with_headers(X_HF_Warning="odd; hello \x1b[2J"),
    }[fault]
    contract_hub.inject(answer, method="PUT", times=1 if fault == "patient" else 9)
    started, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with contextlib.suppress(HubUnreachableError, HubError):
        upload(release, HubRepository(REPOSITORY))
    assert time.monotonic() - started < 60
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 150_000  # kB
    assert "\x1b[2J" not in "".join(capfd.readouterr())


@pytest.mark.parametrize(("address", "is_refused"), [("http://h.invalid/x", True), ("https://s.invalid/x", False)])
def test_a_hub_with_https_leads_no_upload_to_an_address_without_it(address, is_refused, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "https://h.invalid")
    request = httpx.Request("PUT", address)
    with guard.uploading(str), pytest.raises(OSError, match="without https") if is_refused else contextlib.nullcontext():
        guard._on_request(request)


# Models that no registry lists: whoever owns the repository says what they are


def refused(stranger, reason, *without, **changes):
    stranger.publish(*without, **changes)
    with pytest.raises(DeepcrZooError, match=reason) as caught:
        find_model(ADDRESS)
    assert "\n" not in str(caught.value)
    assert everything(locations.user_data_root()) == set()


CONFIGS = {
    "another card": ({"card": {"sha256": "0" * 64, "size": 5}}, "card.yaml is not the one that config.json states"),
    "no size": ({"weights": {"sha256": "0" * 64, "size": -1}}, r"config\.json: files\.weights\.size"),
    "a size without end": ({"weights": {"sha256": "0" * 64, "size": 9_000_000_000}}, "expected at most 500,000,000 bytes"),
    "a name for a hash": ({"weights": {"sha256": "../../evil", "size": 5}}, r"config\.json: files\.weights\.sha256"),
}


@pytest.mark.parametrize(("block", "reason"), CONFIGS.values(), ids=CONFIGS.keys())
def test_a_stranger_states_hashes_and_sizes_within_bounds(stranger, block, reason):
    own = json.loads(stranger.release.files["config.json"])["files"]
    refused(stranger, reason, config=stranger.config(files=own | block))


@pytest.mark.parametrize("config", [b"[" * 100_000, b"\xff", bytes(2_000_000)])
def test_a_strangers_config_is_json_within_bounds(stranger, config):
    refused(stranger, r"config\.json", config=config)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b"version: '1.0'", b"version: '1.1'", r"identity: expected mask/ACS-WFC-F606W-2-4@1\.0, got"),
        (b"zoo/weights/LICENSE.deepCR", b"../../.bashrc", r"licence\.file"),
        (b"zoo/weights/LICENSE.deepCR", b"/etc/LICENSE", r"licence\.file"),
    ],
)
def test_a_strangers_card_is_of_this_model_and_names_a_licence_alone(stranger, old, new, reason):
    card = stranger.release.files["card.yaml"]
    assert old in card or old.replace(b"'", b'"') in card
    changed = card.replace(old, new).replace(old.replace(b"'", b'"'), new)
    refused(stranger, reason, card=changed)


def test_a_strangers_repository_without_a_card_is_refused(stranger):
    refused(stranger, r"card\.yaml", "card.yaml")


@pytest.mark.parametrize("commit", ["../../evil", None])
def test_a_strangers_tag_names_a_commit_of_forty_digits(stranger, commit):
    stranger.publish()
    tag = {"name": "v1.0", "ref": "refs/tags/v1.0", "targetCommit": commit}
    stranger.hub.inject(faults.answering(json.dumps({"tags": [tag]}).encode()), where="/refs")
    with pytest.raises(SourceError, match="where a commit is expected"):
        find_model(ADDRESS)
    assert everything(locations.user_data_root()) == set()


@pytest.mark.parametrize("fault", [faults.endless, faults.corrupted])
def test_a_strangers_weights_are_those_that_config_json_states(stranger, fault):
    stranger.publish()
    find_model(ADDRESS)
    stranger.hub.inject(fault, where="/storage/")
    with pytest.raises((SourceError, IntegrityError)):
        sources.pull(ADDRESS)
    assert everything(locations.cache_root()) == set()


def test_a_card_that_never_ends_is_given_up(stranger):
    stranger.publish()
    stranger.hub.inject(faults.endless, where="/resolve/")
    with pytest.raises(DeepcrZooError, match="more arrive"):
        find_model(ADDRESS)
    assert everything(locations.user_data_root()) == set()


def test_an_upload_goes_by_no_library_that_writes_where_the_hub_says(contract_hub, release, monkeypatch):
    """Xet takes local:// for an address, makes that folder, and reads answers without bound."""
    monkeypatch.setenv("HF_TOKEN", "hf_write")
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    upload(release, HubRepository(REPOSITORY))
    assert any((one.method, "/storage/" in one.path) == ("PUT", True) for one in contract_hub.log)
    assert not any("/xet-" in one.path for one in contract_hub.log)
    assert constants.HF_HUB_DISABLE_XET is False  # other programs go on as they were


def batch_of(change):
    """Let a change befall the objects of the answer that says where large files go."""

    return faults.edited(lambda answer: answer.update(objects=change(answer["objects"])))


def test_an_upload_that_the_hub_asks_for_many_times_ends_with_its_command(contract_hub, release, monkeypatch):
    """The client sends the bytes in threads of its own, which nothing else could stop."""
    monkeypatch.setenv("HF_TOKEN", "hf_write")
    monkeypatch.setattr(repositories, "QUESTION_S", 1.0)
    monkeypatch.setattr(repositories, "REPEATS", 0)
    contract_hub.inject(batch_of(lambda objects: objects * 20_000), method="POST", where="/info/lfs/objects/batch")
    with pytest.raises(HubUnreachableError, match=r"no answer within|was given up|take too long"):
        upload(release, HubRepository(REPOSITORY))
    assert is_silent_within(contract_hub, seconds=60, for_seconds=3), "a Hub that nobody waits for still gets requests"


def is_silent_within(hub, seconds, for_seconds):
    """True if a Hub gets no request for some seconds."""
    until, last, count = time.monotonic() + seconds, time.monotonic(), len(hub.log)
    while time.monotonic() < until:
        time.sleep(0.2)
        if len(hub.log) != count:
            last, count = time.monotonic(), len(hub.log)
        elif time.monotonic() > last + for_seconds:
            return True
    return False


def test_an_object_that_was_not_asked_for_is_one_sentence(contract_hub, release, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_write")
    other = batch_of(lambda objects: [{**one, "oid": "0" * 64} for one in objects])
    contract_hub.inject(other, method="POST", where="/info/lfs/objects/batch")
    with pytest.raises(DeepcrZooError) as error:
        upload(release, HubRepository(REPOSITORY))
    assert "\n" not in str(error.value)
