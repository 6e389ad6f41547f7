"""A hostile Hub, or one in between: it chooses no file, takes neither memory nor time, and leads nowhere."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from deepcr_zoo import files
from deepcr_zoo.errors import DeepcrZooError, IntegrityError, SourceError
from deepcr_zoo.zoo import incoming, updates
from deepcr_zoo.zoo.registry import TEST_VECTOR_FILE, WEIGHTS_FILE
from deepcr_zoo.zoo.sources import pull_resolved
from tests.registries import edit_entry
from tests.zoo.hub import faults
from tests.zoo.hub.published import VERSION
from tests.zoo.test_updates import keepers_once  # noqa: F401

pytest_plugins = ["tests.zoo.hub.fixtures"]
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
    assert {path.name for path in files.cache_root().rglob("*") if path.is_file()} <= {WEIGHTS_FILE, TEST_VECTOR_FILE}


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
    assert not updates.folder().exists()


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


def test_files_that_a_list_names_outside_of_the_registry_are_not_asked_for(updating):
    files_of = [
        {"rfilename": name, "size": 3, "blobId": "0" * 40} for name in ("../evil", "/evil", "zoo/evil.pth", "LICENSE")
    ]
    head = json.dumps({"sha": "1" * 40, "siblings": files_of}).encode()
    updating.inject(faults.answering(head), where="/api/models/")
    updating.log.clear()
    with pytest.raises(DeepcrZooError):
        updates.update()
    assert {request.path.rpartition("/resolve/")[2] for request in updating.log if "/resolve/" in request.path} == {
        f"{'1' * 40}/LICENSE"
    }


@pytest.mark.parametrize("fault", [faults.endless, faults.packed])
def test_a_body_ends_where_the_registry_says(published, fault):
    published.hub.inject(fault, where="/storage/")
    begun = time.monotonic()
    with pytest.raises((SourceError, IntegrityError)):
        pull_resolved(published.model)
    assert time.monotonic() - begun < 10
    assert everything(files.cache_root()) == set()


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
    assert time.monotonic() - begun < 10


def test_a_hub_that_says_to_come_back_tomorrow_is_not_waited_for(published):
    edit_entry(published.root, lambda entry: entry["versions"][VERSION]["sources"].update(seed=True))
    published.hub.inject(faults.answering(b"", 429, Retry_After="86400"), where="/resolve/")
    begun = time.monotonic()
    assert pull_resolved(published.model).source == "seed"
    assert time.monotonic() - begun < 10


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
    assert everything(files.cache_root()) == set()
