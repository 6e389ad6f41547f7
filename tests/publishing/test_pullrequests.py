"""Releases proposed by accounts that may not write to the repository, merged by its owner, and finished."""

import pytest
from huggingface_hub import HfApi

from deepcr_zoo.errors import HubUnreachableError, PublishError
from deepcr_zoo.publishing import upload, workflow
from deepcr_zoo.zoo.hub.repositories import HubRepository
from deepcr_zoo.zoo.registry import read_registry
from tests.publishing.releases import REPOSITORY, contents
from tests.registries import SMALL
from tests.zoo.hub import faults

pytest_plugins = ["tests.zoo.hub.fixtures"]
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture
def owner(contract_hub):
    """Owner of the repository, which is empty."""
    api = HfApi(endpoint=contract_hub.url, token="hf_write")
    api.create_repo(REPOSITORY)
    return api


@pytest.fixture(autouse=True)
def contributor(monkeypatch):
    """Whoever runs the test has an account, and may not write to the zoo's organisation."""
    monkeypatch.setenv("HF_TOKEN", "hf_other")


def pin(checkout):
    return read_registry(checkout).resolve(SMALL).locked.sources.hub


def test_a_proposal_changes_neither_the_main_branch_nor_the_registry(contract_hub, owner, release, checkout):
    proposal = workflow.propose(release, REPOSITORY)
    assert proposal.address == f"{contract_hub.url}/{REPOSITORY}/discussions/1"
    assert contents(contract_hub, "main") == {}
    assert contents(contract_hub, "refs/pr/1") == dict(release.files)
    assert contract_hub.repository(REPOSITORY).references("tags") == {}
    assert pin(checkout) is None


def test_a_proposal_that_is_open_is_not_made_again_and_one_that_was_closed_is(owner, release):
    first = workflow.propose(release, REPOSITORY)
    again = workflow.propose(release, REPOSITORY)
    assert (again.address, again.is_new) == (first.address, False)
    owner.change_discussion_status(REPOSITORY, 1, "closed")
    assert workflow.propose(release, REPOSITORY).address.endswith("/discussions/2")


def test_before_the_merge_there_is_nothing_to_finish(owner, release, checkout):
    workflow.propose(release, REPOSITORY)
    with pytest.raises(PublishError, match=r"no pull request with v1\.0, these bytes of it, is merged yet"):
        workflow.finish(release, REPOSITORY, checkout)
    assert pin(checkout) is None


def test_after_the_merge_the_entry_pins_the_merged_commit_and_the_owner_is_asked_for_the_tag(
    contract_hub, owner, release, checkout
):
    workflow.propose(release, REPOSITORY)
    owner.merge_pull_request(REPOSITORY, 1)
    merged = owner.get_discussion_details(REPOSITORY, 1).merge_commit_oid
    done = workflow.finish(release, REPOSITORY, checkout)
    assert done.publication.pin.commit == merged == contract_hub.repository(REPOSITORY).resolve("main")
    assert pin(checkout) == done.publication.pin
    assert f"the tag v1.0 is for an owner of {contract_hub.url}/{REPOSITORY} to set, on commit {merged}" in done.caution


def test_an_owner_who_finishes_sets_the_tag(contract_hub, owner, release, checkout, monkeypatch):
    workflow.propose(release, REPOSITORY)
    owner.merge_pull_request(REPOSITORY, 1)
    monkeypatch.setenv("HF_TOKEN", "hf_write")
    done = workflow.finish(release, REPOSITORY, checkout)
    assert done.caution is None
    assert contract_hub.repository(REPOSITORY).references("tags") == {"v1.0": done.publication.pin.commit}
    assert workflow.finish(release, REPOSITORY, checkout).publication.pin == done.publication.pin
    with pytest.raises(PublishError, match=r"has v1\.0 already: --finish writes its registry entry"):
        workflow.propose(release, REPOSITORY)


def test_a_later_change_of_the_main_branch_does_not_hide_the_merge(owner, release, checkout, monkeypatch):
    workflow.propose(release, REPOSITORY)
    owner.merge_pull_request(REPOSITORY, 1)
    merged = owner.get_discussion_details(REPOSITORY, 1).merge_commit_oid
    monkeypatch.setenv("HF_TOKEN", "hf_write")
    repository = HubRepository(REPOSITORY)
    repository.commit({"README.md": b"---\nlicense: mit\n---\nedited\n"}, "edited", parent=repository.head())
    assert workflow.finish(release, REPOSITORY, checkout).publication.pin.commit == merged


def test_a_repository_that_is_not_there_comes_with_two_ways_out(contract_hub, release):
    with pytest.raises(PublishError, match=r"ask its organisation to make it, or publish to a repository of your own"):
        workflow.propose(release, REPOSITORY)


def test_of_any_number_of_pull_requests_the_newest_are_looked_into(contract_hub, owner, release, checkout, monkeypatch):
    monkeypatch.setattr(upload, "MOST_COMMITS", 2)
    for _ in range(4):
        HubRepository(REPOSITORY).commit(
            {"README.md": b"---\nlicense: mit\n---\n"}, "other", parent=HubRepository(REPOSITORY).head(), pull_request=True
        )
    assert workflow.propose(release, REPOSITORY).address.endswith("/discussions/5")
    again = workflow.propose(release, REPOSITORY)
    assert (again.address.endswith("/discussions/5"), again.is_new) == (True, False)
    before = len(contract_hub.log)
    with pytest.raises(PublishError, match="no pull request with"):
        workflow.finish(release, REPOSITORY, checkout)
    assert sum("/revision/" in request.path for request in contract_hub.log[before:]) == 2


def test_a_hub_that_takes_long_over_each_pull_request_is_given_up(owner, release, monkeypatch):
    workflow.propose(release, REPOSITORY)
    monkeypatch.setattr(upload, "MOST_COMMITS_S", -1.0)
    with pytest.raises(HubUnreachableError, match="answers too slowly"):
        workflow.propose(release, REPOSITORY)


def test_the_address_of_a_proposal_is_at_the_endpoint_whatever_the_hub_says(contract_hub, owner, release):
    elsewhere = {"pullRequestUrl": "http://\x1b[2Jevil.example/discussions/1"}
    contract_hub.inject(faults.edited(lambda answer: answer.update(elsewhere)), method="POST", where="/commit/")
    assert workflow.propose(release, REPOSITORY).address == f"{contract_hub.url}/{REPOSITORY}/discussions/1"
