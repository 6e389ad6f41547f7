"""Releases into repositories: the real client, over HTTP, against the contract server."""

import dataclasses
import threading

import pytest
from huggingface_hub import CommitOperationAdd, HfApi

from deepcr_zoo.errors import GateError, HubError, HubUnreachableError, IntegrityError, PublishError, UsageError
from deepcr_zoo.publishing import workflow
from deepcr_zoo.publishing.registryfiles import publish_registry
from deepcr_zoo.publishing.releases import repository_of
from deepcr_zoo.publishing.upload import _OURS, upload
from deepcr_zoo.zoo.hub.repositories import HubRepository
from deepcr_zoo.zoo.registry import CARD_FILE, WEIGHTS_FILE, read_registry
from deepcr_zoo.zoo.sources import fetch, pull_resolved
from tests.publishing.releases import REPOSITORY, contents, titles, with_another_card
from tests.registries import SMALL
from tests.zoo.hub import faults

pytest_plugins = ["tests.zoo.hub.fixtures"]
pytestmark = [
    pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning"),  # the client's own, on every upload
    pytest.mark.usefixtures("keeper"),
]


def entry(checkout):
    return read_registry(checkout).resolve(SMALL).locked


def tags(hub):
    repository = hub.repository(REPOSITORY)
    return repository.references("tags") if repository.exists() else {}


def test_a_release_is_one_commit_and_one_tag_and_its_entry_pins_the_commit(contract_hub, release, checkout):
    done = workflow.publish(release, REPOSITORY, checkout)
    assert titles(contract_hub) == ["Version 1.0 of mask/ACS-WFC-F606W-2-4", "initial commit"]
    assert tags(contract_hub) == {"v1.0": done.publication.pin.commit}
    assert contents(contract_hub, "v1.0") == dict(release.files)
    assert entry(checkout).sources.hub == done.publication.pin
    assert done.written == [checkout / "zoo" / f"{SMALL}.yaml"]
    texts = {"README.md", "LICENSE", "card.yaml", "results.yaml", "config.json"}
    assert texts | {"model.safetensors", "test_vector.safetensors", "example.png"} == set(release.files)


def test_what_was_published_comes_back_from_an_empty_cache(contract_hub, release, checkout):
    pin = workflow.publish(release, REPOSITORY, checkout).publication.pin
    model = read_registry(checkout).resolve(SMALL)
    assert fetch(model, WEIGHTS_FILE, source="hub").data == release.files[WEIGHTS_FILE]
    assert contents(contract_hub, pin.commit) == dict(release.files)


def test_pull_takes_the_hub_once_it_has_the_model_and_the_seed_where_it_does_not_answer(
    contract_hub, release, checkout, clean_environment, monkeypatch, tmp_path
):
    model = read_registry(checkout).resolve(SMALL)
    assert pull_resolved(model, to=tmp_path / "one").source == "seed"
    workflow.publish(release, REPOSITORY, checkout)
    model = read_registry(checkout).resolve(SMALL)
    assert pull_resolved(model, to=tmp_path / "two").source == "hub"
    assert fetch(model, WEIGHTS_FILE).source == "seed"  # loading needs no network
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert pull_resolved(model, to=tmp_path / "three").source == "seed"


def test_a_release_that_is_published_already_changes_nothing(contract_hub, release, checkout):
    first = workflow.publish(release, REPOSITORY, checkout)
    before = contract_hub.repository(REPOSITORY).history("main")
    text = (checkout / "zoo" / f"{SMALL}.yaml").read_bytes()
    again = workflow.publish(release, REPOSITORY, checkout)
    assert (first.publication.is_new, again.publication.is_new) == (True, False)
    assert again.publication.pin == first.publication.pin
    assert again.written == []
    assert contract_hub.repository(REPOSITORY).history("main") == before
    assert (checkout / "zoo" / f"{SMALL}.yaml").read_bytes() == text


def test_a_page_that_is_rendered_otherwise_today_is_no_other_version(contract_hub, release, checkout):
    first = workflow.publish(release, REPOSITORY, checkout)
    later = dataclasses.replace(release, files={**release.files, "README.md": b"---\nlicense: mit\n---\nnewer\n"})
    assert workflow.publish(later, REPOSITORY, checkout).publication.pin == first.publication.pin
    assert contents(contract_hub, "main")["README.md"] == release.files["README.md"]


def test_a_published_version_is_never_overwritten(contract_hub, release, checkout):
    workflow.publish(release, REPOSITORY, checkout)
    with pytest.raises(PublishError, match=r"has v1\.0 already .* with other bytes of card\.yaml: a version never changes"):
        upload(with_another_card(release), HubRepository(REPOSITORY))
    assert contents(contract_hub, "v1.0") == contents(contract_hub, "main") == dict(release.files)


@pytest.mark.parametrize(
    ("there", "problem"),
    [
        ({"README.md": b"# theirs"}, "no config.json"),
        ({"README.md": b"# theirs", "config.json": b"{}"}, "another config.json"),
        ({"config.json": None}, "no README.md"),
        ({}, "no README.md and no config.json"),
    ],
)
def test_a_tag_of_another_program_on_the_same_weights_is_not_this_version(there, problem, contract_hub, release, checkout):
    repository = HubRepository(REPOSITORY)
    repository.create(private=False)
    files = {name: release.files[name] if data is None else data for name, data in there.items()}
    theirs = repository.commit({**release.locked_files, **files}, "by another program", parent=repository.head())
    repository.tag(release.tag, theirs.id)
    with pytest.raises(PublishError, match=rf"has v1\.0 already .*, with {problem}: publish these as another version .* or"):
        workflow.publish(release, REPOSITORY, checkout)
    assert entry(checkout).sources.hub is None
    assert tags(contract_hub) == {"v1.0": theirs.id}


def test_a_version_that_the_checkout_has_with_other_bytes_is_refused_before_anything_is_sent(
    contract_hub, release, checkout
):
    with pytest.raises(PublishError, match=r"has mask/ACS-WFC-F606W-2-4@1\.0 already, with other card"):
        workflow.publish(with_another_card(release), REPOSITORY, checkout)
    assert contract_hub.log == []


def test_a_release_whose_gates_have_not_all_passed_is_refused_with_each_gate_that_fails(contract_hub, release, checkout):
    gates = [
        gate.model_copy(update={"verdict": "fails", "measured": "too little"}) if number in (1, 3) else gate
        for number, gate in enumerate(release.verdict.gates)
    ]
    failing = dataclasses.replace(release, verdict=release.verdict.model_copy(update={"gates": gates}))
    for publish in (lambda: workflow.publish(failing, REPOSITORY, checkout), lambda: workflow.propose(failing, REPOSITORY)):
        with pytest.raises(GateError) as refused:
            publish()
        assert "2 of 6 gates fail, so it is not published" in str(refused.value)
        assert str(refused.value).count("too little, expected") == 2
    assert contract_hub.log == []


@pytest.mark.parametrize(
    ("fault", "method", "where"),
    [
        (faults.forbidden, "PUT", "/storage/"),
        (faults.unavailable, "POST", "/commit/"),
        (faults.broken_off, "POST", "/tag/"),
        (faults.login_page, "POST", "/preupload/"),
    ],
)
def test_an_upload_that_breaks_off_leaves_no_tag_and_the_next_one_goes_on(
    fault, method, where, contract_hub, release, checkout
):
    contract_hub.inject(fault, method=method, where=where)
    with pytest.raises((HubUnreachableError, HubError)):
        workflow.publish(release, REPOSITORY, checkout)
    assert entry(checkout).sources.hub is None
    contract_hub.calm()
    for name, commit in tags(contract_hub).items():  # the fault spoils answers, what was asked for may have been done
        assert contents(contract_hub, commit) == dict(release.files), name
    assert len(titles(contract_hub)) <= 2
    workflow.publish(release, REPOSITORY, checkout)
    assert titles(contract_hub) == ["Version 1.0 of mask/ACS-WFC-F606W-2-4", "initial commit"]
    assert contents(contract_hub, tags(contract_hub)["v1.0"]) == dict(release.files)


def test_what_was_committed_before_the_tag_is_tagged_and_not_committed_again(contract_hub, release, checkout):
    repository = HubRepository(REPOSITORY)
    repository.create(private=False)
    commit = repository.commit(release.files, release.title, parent=repository.head()).id
    repository.commit({"notes.txt": b"later"}, "something else", parent=commit)
    assert workflow.publish(release, REPOSITORY, checkout).publication.pin.commit == commit
    assert titles(contract_hub) == ["something else", release.title, "initial commit"]


def test_an_unfinished_upload_of_other_bytes_is_left_behind(contract_hub, release, checkout):
    repository = HubRepository(REPOSITORY)
    repository.create(private=False)
    repository.commit(with_another_card(release).files, release.title, parent=repository.head())
    workflow.publish(release, REPOSITORY, checkout)
    assert contents(contract_hub, "v1.0") == dict(release.files)


def test_what_the_version_before_alone_has_is_removed_and_other_files_stay(contract_hub, release, checkout):
    repository = HubRepository(REPOSITORY)
    repository.create(private=False)
    old = {"report/old.png": b"\x89PNG\0", "report.html": b"old", **dict.fromkeys(_OURS, b"old")}
    theirs = {"notes.txt": b"of the organisation", "report/thesis.pdf": b"of a user"}
    repository.commit({**old, **theirs}, "Version 0.9", parent=repository.head())
    workflow.publish(release, REPOSITORY, checkout)
    assert contents(contract_hub, "v1.0") == {**release.files, **theirs}


@pytest.mark.parametrize("mine", ["README.md", "LICENSE", "config.json", "report/mine.png", WEIGHTS_FILE, "card.yaml"])
def test_files_of_the_user_in_a_repository_of_something_else_are_not_replaced(mine, contract_hub, release, checkout):
    repository = HubRepository(REPOSITORY)
    repository.create(private=False)
    content = {mine: b"mine " * 100, "notes.txt": b"mine"}
    repository.commit(content, "my work", parent=repository.head())
    with pytest.raises(PublishError, match=rf"has no model .*, but files of its own which this would .*: {mine}: give"):
        workflow.publish(release, REPOSITORY, checkout)
    assert titles(contract_hub) == ["my work", "initial commit"]


@pytest.mark.parametrize("more", [(), ("LICENSE",), ("LICENSE", "card.yaml")])
def test_a_page_of_the_user_is_not_replaced_by_that_of_a_registry(more, contract_hub, checkout):
    repository = HubRepository(REPOSITORY)
    repository.create(private=False)
    repository.commit(dict.fromkeys(["README.md", *more], b"mine " * 100), "my work", parent=repository.head())
    with pytest.raises(PublishError, match=r"has no model or registry of deepcr-zoo, but .*: .*README\.md: give another"):
        publish_registry(checkout, REPOSITORY)
    assert titles(contract_hub) == ["my work", "initial commit"]


def test_the_page_that_a_browser_writes_into_a_new_repository_is_replaced(contract_hub, release, checkout):
    repository = HubRepository(REPOSITORY)
    repository.create(private=False)
    repository.commit({"README.md": b"---\nlicense: bsd-3-clause\n---\n"}, "initial commit", parent=repository.head())
    workflow.publish(release, REPOSITORY, checkout)
    assert contents(contract_hub, "v1.0") == dict(release.files)


def test_wrong_bytes_that_come_back_write_no_entry(contract_hub, release, checkout):
    contract_hub.inject(faults.corrupted)
    before = (checkout / "zoo" / f"{SMALL}.yaml").read_bytes()
    with pytest.raises(IntegrityError, match=r"model\.safetensors: the Hub gives back other bytes"):
        workflow.publish(release, REPOSITORY, checkout)
    assert (checkout / "zoo" / f"{SMALL}.yaml").read_bytes() == before
    contract_hub.calm()
    assert not workflow.publish(release, REPOSITORY, checkout).publication.is_new


def test_a_private_repository_is_for_its_owners(contract_hub, release, checkout):
    workflow.publish(release, REPOSITORY, checkout, private=True)
    assert contract_hub.private == {REPOSITORY}
    with pytest.raises(Exception, match="404"):
        HfApi(endpoint=contract_hub.url, token="hf_other").model_info(REPOSITORY)


def test_a_repository_that_is_public_is_not_taken_for_a_private_one(contract_hub, release, checkout):
    HubRepository(REPOSITORY).create(private=False)
    with pytest.raises(PublishError, match="is public: make it private in a browser, or leave out --private"):
        workflow.publish(release, REPOSITORY, checkout, private=True)
    assert titles(contract_hub) == ["initial commit"]


def test_a_registry_is_not_published_in_public_by_mistake(contract_hub, checkout):
    HubRepository(REPOSITORY).create(private=False)
    with pytest.raises(PublishError, match="is public: make it private in a browser, or leave out --private"):
        publish_registry(checkout, REPOSITORY, private=True)
    assert titles(contract_hub) == ["initial commit"]


def test_a_repository_that_another_makes_public_meanwhile_gets_nothing(contract_hub, release, checkout, monkeypatch):
    def quicker(self):
        self.create(private=False)
        return False  # as it was at the look

    monkeypatch.setattr(HubRepository, "exists", quicker)
    with pytest.raises(PublishError, match="is public: make it private in a browser, or leave out --private"):
        workflow.publish(release, REPOSITORY, checkout, private=True)
    assert titles(contract_hub) == ["initial commit"]


def test_a_repository_that_leaves_a_file_out_gets_no_tag(contract_hub, release, checkout, monkeypatch):
    real = HubRepository.commit

    def without_test_vector(self, files, title, **more):
        return real(self, {name: data for name, data in files.items() if "test_vector" not in name}, title, **more)

    monkeypatch.setattr(HubRepository, "commit", without_test_vector)
    with pytest.raises(PublishError, match=r"has not all files of v1\.0 .* nothing was tagged"):
        workflow.publish(release, REPOSITORY, checkout)
    assert tags(contract_hub) == {}


def test_a_version_that_is_pinned_stays_where_it_is(contract_hub, release, checkout):
    workflow.publish(release, REPOSITORY, checkout)
    with pytest.raises(PublishError, match=f"is published in {REPOSITORY}: leave out --repo, or name that one"):
        workflow.publish(release, "keeper/mask-ACS-WFC-F606W-2-4", checkout)


@pytest.mark.parametrize(
    ("token", "message"),
    [("hf_read", r"refused the request \(403\): check HF_TOKEN"), (None, "not logged in: set HF_TOKEN")],
)
def test_without_a_token_that_may_write_it_is_refused(token, message, contract_hub, release, checkout, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(HubError, match=message):
        workflow.publish(release, REPOSITORY, checkout)
    assert entry(checkout).sources.hub is None


def test_a_repository_has_the_name_of_its_model_in_every_organisation(release):
    assert repository_of(release, None) == REPOSITORY
    assert repository_of(release, "keck") == repository_of(release, "keck/mask-ACS-WFC-F606W-2-4")
    assert repository_of(dataclasses.replace(release, repository="keck"), None) == "keck/mask-ACS-WFC-F606W-2-4"
    for wrong in ("keck/other", "/mask-ACS-WFC-F606W-2-4"):
        with pytest.raises(UsageError, match=r"expected .*/mask-ACS-WFC-F606W-2-4, the name of"):
            repository_of(release, wrong)


def race(*calls):
    """What each of several calls gave or raised, run at once."""
    outcomes = [None] * len(calls)

    def run(number, call):
        try:
            outcomes[number] = call()
        except Exception as error:
            outcomes[number] = error

    threads = [threading.Thread(target=run, args=(number, call)) for number, call in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return outcomes


@pytest.mark.parametrize(("where", "same"), [("/refs", True), ("/refs", False), ("/commit/main", False), ("/tag/", True)])
def test_of_two_who_publish_the_same_version_at_once_one_wins_and_the_other_fails(where, same, contract_hub, release):
    other = release if same else with_another_card(release)
    HubRepository(REPOSITORY).create(private=False)
    method = "GET" if where == "/refs" else "POST"
    contract_hub.inject(faults.Together(clients=2), method=method, where=where, times=2)
    outcomes = race(*(lambda one=one: upload(one, HubRepository(REPOSITORY)) for one in (release, other)))
    winners = [one for one in outcomes if not isinstance(one, Exception)]
    losers = [one for one in outcomes if isinstance(one, Exception)]
    assert (len(winners), len(losers)) == ((2, 0) if same else (1, 1)), outcomes
    won = (release, other)[outcomes.index(winners[0])]
    assert {one.pin.commit for one in winners} == {tags(contract_hub)["v1.0"]}
    assert contents(contract_hub, "v1.0") == dict(won.files)
    for error in losers:
        assert isinstance(error, PublishError)
        assert "other bytes" in str(error)


def test_the_first_to_set_the_tag_has_published_the_version(contract_hub, release):
    other = with_another_card(release)

    class Slow(HubRepository):
        def tag(self, name, commit):
            upload(other, HubRepository(REPOSITORY))  # starts after this upload's commit, and ends before its tag
            super().tag(name, commit)

    with pytest.raises(PublishError, match=r"has v1\.0 already"):
        upload(release, Slow(REPOSITORY))
    assert contents(contract_hub, "v1.0") == dict(other.files)


def test_a_commit_on_a_branch_that_others_change_too_is_tried_again(contract_hub, release, monkeypatch):
    repository = HubRepository(REPOSITORY)
    repository.create(private=False)
    api, heads = HfApi(endpoint=contract_hub.url, token="hf_write"), []

    def head_that_moves(self):
        found = contract_hub.repository(REPOSITORY).resolve("main")
        if not heads:
            api.create_commit(REPOSITORY, [CommitOperationAdd("notes.txt", b"x")], commit_message="in between")
        heads.append(found)
        return found

    monkeypatch.setattr(HubRepository, "head", head_that_moves)
    upload(release, repository)
    assert len(heads) == 2
    assert titles(contract_hub) == [release.title, "in between", "initial commit"]
    assert contents(contract_hub, "v1.0")[CARD_FILE] == release.files[CARD_FILE]
