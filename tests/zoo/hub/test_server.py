"""The contract server itself: what the real client can do with it, and what it refuses."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_session
from huggingface_hub.errors import (
    BadRequestError,
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoFile

from deepcr_zoo.zoo.registry import CARD_FILE, WEIGHTS_FILE
from tests.zoo.hub.published import VERSION, PublishedModel
from tests.zoo.hub.server import ContractServer

pytest_plugins = ["tests.zoo.hub.fixtures"]
# the client's own, on every upload
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


def status(error: pytest.ExceptionInfo[HfHubHTTPError]) -> int:
    return error.value.response.status_code


def test_a_token_stands_for_an_account(contract_hub: ContractServer) -> None:
    api = HfApi(endpoint=contract_hub.url, token="hf_write")
    account = api.whoami()
    assert account["name"] == "keeper"
    assert [organisation["name"] for organisation in account["orgs"]] == ["deepcr-zoo"]
    with pytest.raises(HfHubHTTPError) as refused:
        api.whoami(token="hf_wrong")
    assert status(refused) == 401


def test_what_is_published_can_be_listed_and_read_back(published: PublishedModel, tmp_path: Path) -> None:
    api, repository = published.api(), published.pin.repo
    info = api.model_info(repository, revision=published.pin.commit, files_metadata=True)
    assert info.sha == published.pin.commit
    assert {file.rfilename for file in info.siblings or []} == {".gitattributes", *published.files}
    listed = {entry.path: entry for entry in api.list_repo_tree(repository, revision=VERSION)}
    card, weights = listed[CARD_FILE], listed[WEIGHTS_FILE]
    assert isinstance(card, RepoFile)
    assert (card.size, card.lfs) == (len(published.files[CARD_FILE]), None)
    assert isinstance(weights, RepoFile)
    assert weights.lfs
    assert weights.lfs.sha256 == hashlib.sha256(published.files[WEIGHTS_FILE]).hexdigest()
    for name, data in published.files.items():
        assert Path(api.hf_hub_download(repository, name, cache_dir=tmp_path / "cache")).read_bytes() == data


def test_folders_can_be_listed_and_deleted(published: PublishedModel) -> None:
    api, repository = published.api(), published.pin.repo
    added = [CommitOperationAdd(path, b"text") for path in ("a/b/one.txt", "a/two.txt")]
    api.create_commit(repository, added, commit_message="add a folder")
    shallow = {entry.path for entry in api.list_repo_tree(repository, "a")}
    deep = {entry.path for entry in api.list_repo_tree(repository, "a", recursive=True)}
    assert shallow == {"a/b", "a/two.txt"}
    assert deep == {"a/b", "a/b/one.txt", "a/two.txt"}
    api.create_commit(repository, [CommitOperationDelete("a/", is_folder=True)], commit_message="and remove it")
    assert set(api.list_repo_files(repository)) == {".gitattributes", *published.files}


def test_the_metadata_of_a_readme_is_shown_and_a_broken_one_is_refused(published: PublishedModel) -> None:
    api, repository = published.api(), published.pin.repo
    good = CommitOperationAdd("README.md", b"---\ntags: [astronomy]\n---\n# A model\n")
    api.create_commit(repository, [good], commit_message="describe it")
    assert api.model_info(repository).tags == ["astronomy"]
    broken = CommitOperationAdd("README.md", b"---\ntags: [astronomy\n---\n")
    with pytest.raises(ValueError, match="Invalid metadata"):
        api.create_commit(repository, [broken], commit_message="break it")


def test_a_commit_on_top_of_an_old_parent_is_refused(published: PublishedModel) -> None:
    api, repository = published.api(), published.pin.repo
    change = CommitOperationAdd("note.txt", b"one")
    latest = api.create_commit(repository, [change], commit_message="one", parent_commit=published.pin.commit).oid
    other = CommitOperationAdd("note.txt", b"two")
    with pytest.raises(HfHubHTTPError) as refused:
        api.create_commit(repository, [other], commit_message="two", parent_commit=published.pin.commit)
    assert status(refused) == 412
    assert api.model_info(repository).sha == latest


def test_publishing_the_same_again_makes_no_commit(published: PublishedModel) -> None:
    same = [CommitOperationAdd(name, data) for name, data in published.files.items()]
    commit = published.api().create_commit(published.pin.repo, same, commit_message="again").oid
    assert commit == published.pin.commit


def test_tags_can_be_made_listed_and_removed(published: PublishedModel) -> None:
    api, repository = published.api(), published.pin.repo
    api.create_tag(repository, tag="release/2.0", tag_message="annotated", revision=published.pin.commit)
    tags = {tag.name: tag.target_commit for tag in api.list_repo_refs(repository).tags}
    assert tags == dict.fromkeys((VERSION, "release/2.0"), published.pin.commit)
    # a slash in a revision arrives as %2F
    assert api.model_info(repository, revision="release/2.0").sha == published.pin.commit
    assert api.model_info(repository, revision="refs/tags/release/2.0").sha == published.pin.commit
    with pytest.raises(HfHubHTTPError) as refused:
        api.create_tag(repository, tag=VERSION)
    assert status(refused) == 409
    api.delete_tag(repository, tag="release/2.0")
    with pytest.raises(RevisionNotFoundError):
        api.delete_tag(repository, tag="release/2.0")
    assert [tag.name for tag in api.list_repo_refs(repository).tags] == [VERSION]


def test_a_repository_is_made_once(published: PublishedModel) -> None:
    api, repository = published.api(), published.pin.repo
    assert api.create_repo(repository, exist_ok=True).repo_id == repository
    with pytest.raises(HfHubHTTPError) as refused:
        api.create_repo(repository)
    assert status(refused) == 409


def test_only_an_owner_with_the_right_to_write_may_publish(published: PublishedModel) -> None:
    change = CommitOperationAdd("note.txt", b"text")
    for token in ("hf_read", "hf_other"):
        with pytest.raises(HfHubHTTPError) as refused:
            published.api(token).create_commit(published.pin.repo, [change], commit_message="not mine")
        assert status(refused) == 403
        with pytest.raises(HfHubHTTPError) as refused:
            published.api(token).create_repo("deepcr-zoo/other")
        assert status(refused) == 403


def test_a_private_repository_is_there_for_its_owners_alone(contract_hub: ContractServer) -> None:
    api, name = HfApi(endpoint=contract_hub.url), "deepcr-zoo/private"
    api.create_repo(name, private=True, token="hf_write")
    assert api.model_info(name, token="hf_read").private
    with pytest.raises(RepositoryNotFoundError) as refused:
        api.model_info(name, token="hf_other")
    assert status(refused) == 404
    with pytest.raises(RepositoryNotFoundError) as refused:
        api.model_info(name)
    assert status(refused) == 401


def test_a_gated_repository_shows_its_description_and_keeps_its_files(published: PublishedModel, tmp_path: Path) -> None:
    published.hub.gated.add(published.pin.repo)
    api = published.api("hf_other")
    assert api.model_info(published.pin.repo).gated
    with pytest.raises(GatedRepoError) as refused:
        api.hf_hub_download(published.pin.repo, WEIGHTS_FILE, cache_dir=tmp_path / "cache")
    assert status(refused) == 403


def test_the_storage_host_refuses_a_token(published: PublishedModel) -> None:
    address = storage_address(published)
    assert get_session().get(address, headers={"Authorization": "Bearer hf_write"}).status_code == 400
    assert published.hub.log[-1].authorised


@pytest.mark.parametrize("name", [WEIGHTS_FILE, CARD_FILE])
def test_a_download_can_be_resumed_from_any_byte(published: PublishedModel, name: str) -> None:
    address = f"{published.hub.url}/{published.pin.repo}/resolve/{VERSION}/{name}"
    data = published.files[name]
    part = get_session().get(address, headers={"Range": "bytes=100-"})
    assert (part.status_code, part.content) == (206, data[100:])
    assert part.headers["Content-Range"] == f"bytes 100-{len(data) - 1}/{len(data)}"
    assert get_session().get(address, headers={"Range": f"bytes={len(data)}-"}).status_code == 416


def test_an_upload_with_another_hash_is_refused(published: PublishedModel) -> None:
    assert get_session().put(storage_address(published), content=b"other bytes").status_code == 400


def test_a_commit_cannot_name_what_was_not_uploaded(published: PublishedModel) -> None:
    api, repository = published.api(), published.pin.repo
    operation = CommitOperationAdd("other.safetensors", b"never sent")
    api.preupload_lfs_files(repository, [operation])
    published.hub.repository(repository).lfs_object(hashlib.sha256(b"never sent").hexdigest()).unlink()
    with pytest.raises(BadRequestError, match="not uploaded"):
        api.create_commit(repository, [operation], commit_message="lost")


def storage_address(published: PublishedModel) -> str:
    sha256 = hashlib.sha256(published.files[WEIGHTS_FILE]).hexdigest()
    return f"{published.hub.storage_url}/{published.pin.repo}/{sha256}"
