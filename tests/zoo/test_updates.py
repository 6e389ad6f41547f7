"""Registry updates: published by a keeper, fetched by a user, against the contract server."""

import datetime
import shutil
import socket
from dataclasses import replace

import pytest
from huggingface_hub import HfApi

import deepcr_zoo
from deepcr_zoo import files, locations
from deepcr_zoo.documents import as_yaml
from deepcr_zoo.errors import (
    HubConflictError,
    HubError,
    HubUnreachableError,
    IntegrityError,
    InvalidDocumentError,
    PublishError,
    SourceWarning,
    UpdateError,
)
from deepcr_zoo.publishing.registryfiles import publish_registry
from deepcr_zoo.zoo import updates
from deepcr_zoo.zoo.hub.repositories import HubRepository
from deepcr_zoo.zoo.merging import merged
from deepcr_zoo.zoo.records import MeasuredOn, Results, SkyRecord
from deepcr_zoo.zoo.registries import default_registry
from deepcr_zoo.zoo.registry import LockedFile, read_registry
from tests.registries import SMALL, copy_registry, edit, edit_card, edit_entry
from tests.zoo.hub import faults

pytest_plugins = ["tests.zoo.hub.fixtures"]
pytestmark = [
    pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning"),
    pytest.mark.usefixtures("keeper"),
]

NEW = "mask/NEWCAM-2-4"
LOCK = f"zoo/{SMALL}.yaml"
OLD = (SMALL, "mask/ACS-WFC-F606W-2-32", "inpaint/ACS-WFC-F606W-3-32")


@pytest.fixture(autouse=True)
def users_data(tmp_path, monkeypatch):
    """A user who has never updated."""
    monkeypatch.setenv("DEEPCR_ZOO_DATA", str(tmp_path / "data"))
    return updates.folder()


@pytest.fixture(scope="module")
def keepers_once(tmp_path_factory):
    """The checkout of a keeper: some of what ships, and a new model."""
    root = copy_registry(tmp_path_factory.mktemp("keepers"), *OLD)
    shutil.copy(locations.data_root() / "LICENSE", root / "LICENSE")
    shutil.copy(locations.data_root() / "zoo" / "training_visits.yaml", root / "zoo")
    add_model(root)
    return root


@pytest.fixture
def keepers(keepers_once, tmp_path):
    """A copy of that checkout for one test."""
    return shutil.copytree(keepers_once, tmp_path / "keepers")


def add_model(root, name=NEW):
    """A copy of a small model under another name."""
    shutil.copytree(root / "cards" / SMALL, root / "cards" / name)
    shutil.copy(root / LOCK, root / "zoo" / f"{name}.yaml")
    edit_entry(root, lambda entry: entry.update(name=name.partition("/")[2]), name)
    edit_card(root, lambda card: card["identity"].update(name=name.partition("/")[2]), name)
    pinned(root, name)


def add_version(root, version="1.1"):
    """A copy of version 1.0 as another version."""
    folder = root / "cards" / SMALL
    shutil.copy(folder / "1.0.yaml", folder / f"{version}.yaml")
    edit_entry(root, lambda entry: entry["versions"].update({version: dict(entry["versions"]["1.0"])}))
    edit_card(root, lambda card: card["identity"].update(version=version), version=version)
    pinned(root, SMALL, version)


def pinned(root, name, version="1.0"):
    """As if it had been published."""
    pin = {"repo": f"deepcr-zoo/{name.replace('/', '-')}", "commit": "2" * 40}
    edit_entry(root, lambda entry: entry["versions"][version]["sources"].update(hub=pin), name)


def push(hub, files):
    """Put files into the registry's repository past all checks, as anyone with its password could."""
    repository = HubRepository(updates.REPOSITORY)
    return repository.commit(files, "past all checks", parent=repository.head()).id


def test_an_update_brings_names_and_versions_and_says_where_they_come_from(contract_hub, keepers):
    add_version(keepers)
    commit = publish_registry(keepers, updates.REPOSITORY).pin.commit
    shipped = default_registry().references()
    found = updates.update()
    assert (found.kept.commit, found.is_new, sorted(found.added)) == (commit, True, [f"{SMALL}@1.1", f"{NEW}@1.0"])
    registry = default_registry()
    assert set(registry.references()) == {*shipped, f"{SMALL}@1.1", f"{NEW}@1.0"}
    origins = {reference: registry.origin(reference).label for reference in registry.references()}
    assert {reference for reference, label in origins.items() if label == f"update {commit[:8]}"} == set(found.added)
    assert {label for reference, label in origins.items() if reference in shipped} == {"shipped"}
    assert NEW in deepcr_zoo.list_models("*NEWCAM*")
    assert registry.resolve(SMALL).version == "1.0"
    assert registry.resolve(f"{NEW}@1.0").card_path.is_relative_to(updates.folder() / commit)


def test_an_update_that_is_known_already_brings_nothing_and_offline_nothing_changes(contract_hub, keepers, monkeypatch):
    publish_registry(keepers, updates.REPOSITORY)
    first = updates.update()
    again = updates.update()
    assert (again.added, again.is_new, again.kept.commit) == ([], False, first.kept.commit)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{listener.getsockname()[1]}")
    contract_hub.log.clear()
    assert f"{NEW}@1.0" in default_registry().references()
    with pytest.raises(HubUnreachableError):
        updates.update()
    assert f"{NEW}@1.0" in default_registry().references()
    assert contract_hub.log == []


def test_without_an_update_the_registry_is_the_shipped_one(users_data):
    assert not users_data.exists()
    assert default_registry().elsewhere == {}


def alter_hash(root):
    edit_entry(root, lambda entry: entry["versions"]["1.0"]["weights"].update(sha256="0" * 64))


def alter_default(root):
    add_version(root)
    edit_entry(root, lambda entry: entry.update(default="1.1"))


def alter_card(root):
    edit_card(root, lambda card: card["output"].update(threshold=0.9))


def alter_architecture(root):
    edit_entry(root, lambda entry: entry["versions"]["1.0"]["architecture"].update(hidden=8))


def alter_alias(root):
    name = "mask/ACS-WFC-F606W-2-32"
    edit_entry(root, lambda entry: entry["aliases"][0].update(version="1.0"), name)


@pytest.mark.parametrize(
    ("alter", "message"),
    [
        (alter_hash, r"2-4@1\.0: weights: expected sha256="),
        (alter_default, r"2-4: default: expected 1\.0, got 1\.1"),
        (alter_card, r"2-4@1\.0: card: expected sha256="),
        (alter_architecture, r"2-4@1\.0: architecture: expected depth=2 hidden=4"),
        (alter_alias, r"2-32: alias ACS-WFC-F606W: expected what it has always meant"),
    ],
)
def test_an_update_that_alters_what_ships_is_refused_whole(alter, message, contract_hub, keepers, users_data):
    publish_registry(keepers, updates.REPOSITORY)
    alter(keepers)
    push(contract_hub, updates.lock_files(keepers))
    with pytest.raises(UpdateError, match=message) as refused:
        updates.update()
    assert "nothing was changed" in str(refused.value)
    assert not (users_data / updates.CURRENT).exists()
    assert default_registry().elsewhere == {}


def test_an_update_that_alters_or_drops_what_an_update_has_brought_is_refused_and_that_one_stays(contract_hub, keepers):
    kept = publish_registry(keepers, updates.REPOSITORY).pin.commit
    updates.update()
    edit_entry(keepers, lambda entry: entry["versions"]["1.0"]["weights"].update(sha256="0" * 64), NEW)
    push(contract_hub, updates.lock_files(keepers))
    with pytest.raises(UpdateError, match=r"NEWCAM-2-4@1\.0: weights"):
        updates.update()
    repository = HubRepository(updates.REPOSITORY)
    repository.commit({}, "gone", parent=repository.head(), without=[f"zoo/{NEW}.yaml", f"cards/{NEW}/1.0.yaml"])
    with pytest.raises(UpdateError, match="NEWCAM-2-4: is missing"):
        updates.update()
    assert updates.current().commit == kept
    assert f"{NEW}@1.0" in default_registry().references()


def test_an_update_adds_to_a_caution_and_takes_none_back():
    shipped, name = default_registry(), "mask/DECam-2-32"
    entry = shipped.entries[name]
    before = entry.versions["1.0"]
    for warning, expected in (
        ("harmless", f"{before.warning}; harmless"),
        (None, before.warning),
        (f"{before.warning}, as found in 2027", f"{before.warning}, as found in 2027"),
    ):
        changed = entry.model_copy(update={"versions": {"1.0": before.model_copy(update={"warning": warning})}})
        both = merged(shipped, replace(shipped, entries={name: changed}))
        assert both.entries[name].versions["1.0"].warning == expected


def test_an_update_may_add_a_source_and_a_caution_to_what_ships(contract_hub, keepers):
    pin = {"repo": "deepcr-zoo/mask-ACS-WFC-F606W-2-4", "commit": "1" * 40}
    edit_entry(keepers, lambda entry: entry["versions"]["1.0"]["sources"].update(hub=pin))
    edit_entry(keepers, lambda entry: entry["versions"]["1.0"].update(warning="known to be bad on Mondays"))
    publish_registry(keepers, updates.REPOSITORY)
    updates.update()
    model = default_registry().resolve(SMALL)
    assert model.locked.sources.hub.commit == "1" * 40
    assert model.cautions == ["mask/ACS-WFC-F606W-2-4@1.0: known to be bad on Mondays"]
    assert model.locked.sources.seed
    assert model.root == locations.data_root()


@pytest.mark.parametrize(
    ("name", "text", "error", "message"),
    [
        (
            LOCK,
            b"name: !!python/object/apply:os.system [id]\n",
            InvalidDocumentError,
            r"expected a YAML document",
        ),
        (LOCK, b"name: ACS-WFC-F606W-2-4\n", InvalidDocumentError, r"2-4\.yaml: task: expected a value"),
        (
            f"cards/{SMALL}/1.0.yaml",
            b"identity: {}\n",
            InvalidDocumentError,
            r"identity\.name: expected a value",
        ),
        (LOCK, b"#" * (updates.MOST_BYTES + 1), UpdateError, r"2-4\.yaml: expected at most 1,000,000 bytes, got 1000001"),
    ],
)
def test_a_hostile_or_broken_file_is_refused_and_named(name, text, error, message, contract_hub, keepers, users_data):
    publish_registry(keepers, updates.REPOSITORY)
    push(contract_hub, {name: text})
    with pytest.raises(error, match=message):
        updates.update()
    assert [path for path in users_data.rglob("*") if path.is_file() and path.name != ".lock"] == []


def test_files_that_no_registry_has_are_never_written(contract_hub, keepers, users_data, tmp_path):
    publish_registry(keepers, updates.REPOSITORY)
    odd = ["zoo/mask/evil.py", "zoo/preferences.yaml", "cards/mask/x/1.0.yaml.sh", "deepcr_zoo/models.py", "zoo/mask/.yaml"]
    push(contract_hub, dict.fromkeys(odd, b"text"))
    kept = updates.update().kept
    written = {path.relative_to(users_data / kept.commit).as_posix() for path in (users_data / kept.commit).rglob("*.*")}
    assert not written & set(odd)
    for outside in ("../evil.yaml", "zoo/mask/../../evil.yaml", "/zoo/mask/x.yaml", "zoo\\mask\\x.yaml"):
        assert not updates.is_lock_file(outside)


def test_a_card_that_differs_from_its_lock_is_refused(contract_hub, keepers):
    edit_entry(keepers, lambda entry: entry["versions"]["1.0"].update(card=LockedFile.of(b"x").model_dump()), NEW)
    with pytest.raises(IntegrityError, match="a card is frozen"):
        publish_registry(keepers, updates.REPOSITORY)
    add_version(keepers)
    edit(keepers / "cards" / SMALL / "1.0.yaml", lambda card: card["output"].update(threshold=0.7))
    with pytest.raises(IntegrityError):
        publish_registry(keepers, updates.REPOSITORY)


def test_bytes_that_differ_from_the_commit_are_refused(contract_hub, keepers):
    publish_registry(keepers, updates.REPOSITORY)
    contract_hub.inject(faults.corrupted, where=f"/resolve/{HubRepository(updates.REPOSITORY).head()}/{LOCK}")
    with pytest.raises(UpdateError, match=r"2-4\.yaml: got other bytes than the commit has"):
        updates.update()


def test_a_repository_without_a_registry_is_refused(contract_hub, keeper):
    HfApi(endpoint=contract_hub.url, token="hf_write").create_repo("deepcr-zoo/empty")
    with pytest.raises(UpdateError, match="expected the files of a registry, got 0"):
        updates.update("deepcr-zoo/empty")
    remote = HubRepository("deepcr-zoo/empty")
    remote.commit({"LICENSE": b"of something else"}, "a licence", parent=remote.head())
    with pytest.raises(UpdateError, match="expected the files of a registry, got 1 of them"):
        updates.update("deepcr-zoo/empty")
    with pytest.raises(HubError, match="does not exist, or is private"):
        updates.update("deepcr-zoo/nothing")


def test_a_kept_update_that_is_damaged_is_left_out_with_a_warning_and_mended_by_the_next(contract_hub, keepers, users_data):
    commit = publish_registry(keepers, updates.REPOSITORY).pin.commit
    updates.update()
    card = users_data / commit / "cards" / NEW / "1.0.yaml"
    card.write_bytes(card.read_bytes()[:100])
    updates.update()
    assert card.stat().st_size > 100
    (users_data / updates.CURRENT).write_text("{}")
    with pytest.warns(SourceWarning, match=r"is not used: .*current\.json is damaged: run 'deepcr-zoo update'"):
        assert default_registry().elsewhere == {}
    updates.update()
    shutil.rmtree(users_data / commit)
    with pytest.warns(SourceWarning, match="is missing: run 'deepcr-zoo update'"):
        assert default_registry().elsewhere == {}
    updates.update()
    assert f"{NEW}@1.0" in default_registry().references()


@pytest.mark.slow
def records(*dates):
    """A file of results with an operating point for each date."""
    return Results(
        sky=[
            SkyRecord(
                date=datetime.date.fromisoformat(date), software="x", command="x", machine="x", seeds=[1], rule="x",
                highest=100.0,
                data=MeasuredOn(kind="synthetic", description="x"),
            )
            for date in dates
        ]
    )  # fmt: skip


@pytest.mark.parametrize(
    "later", [*(pytest.param(one, marks=pytest.mark.slow) for one in ([], ["2026-01-02"])), ["2026-01-02", "2026-01-01"]]
)
def test_results_of_a_version_grow_and_are_never_altered(later, contract_hub, keepers):
    path = keepers / "cards" / NEW / "1.0.results.yaml"
    path.write_bytes(as_yaml(records("2026-01-01")))
    publish_registry(keepers, updates.REPOSITORY)
    first = updates.update().kept.commit
    path.write_bytes(as_yaml(records(*later)))
    message = rf"{NEW}@1\.0: results: expected those that are there first"
    with pytest.raises(PublishError, match=message):
        publish_registry(keepers, updates.REPOSITORY)
    push(contract_hub, {f"cards/{NEW}/1.0.results.yaml": as_yaml(records(*later))})
    with pytest.raises(UpdateError, match=message):
        updates.update()
    assert updates.current().commit == first
    push(contract_hub, {f"cards/{NEW}/1.0.results.yaml": as_yaml(records("2026-01-01", "2026-01-02"))})
    assert updates.update().kept.commit != first
    push(contract_hub, {f"cards/{NEW}/1.0.results.yaml": b"sky: nonsense\n"})
    with pytest.raises(InvalidDocumentError, match=r"results\.yaml: sky"):
        updates.update()


@pytest.mark.slow
def test_older_updates_are_removed_and_all_can_be_forgotten(contract_hub, keepers, users_data):
    first = publish_registry(keepers, updates.REPOSITORY).pin.commit
    updates.update()
    add_version(keepers)
    second = publish_registry(keepers, updates.REPOSITORY).pin.commit
    assert updates.update().added == [f"{SMALL}@1.1"]
    assert {path.name for path in users_data.iterdir()} == {
        first,
        second,
        updates.CURRENT,
        files.LOCK_FILE,
    }  # one may be in use
    add_version(keepers, "1.2")
    third = publish_registry(keepers, updates.REPOSITORY).pin.commit
    updates.update()
    assert {path.name for path in users_data.iterdir()} == {second, third, updates.CURRENT, files.LOCK_FILE}
    updates.forget()
    assert default_registry().elsewhere == {}
    assert {path.name for path in users_data.iterdir()} == {files.LOCK_FILE}


def test_a_keeper_cannot_publish_an_alteration_and_a_retry_is_no_commit(contract_hub, keepers):
    first = publish_registry(keepers, updates.REPOSITORY)
    assert publish_registry(keepers, updates.REPOSITORY) == type(first)(first.pin, first.address, is_new=False)
    edit_entry(keepers, lambda entry: entry["versions"]["1.0"]["weights"].update(sha256="0" * 64), NEW)
    with pytest.raises(PublishError, match=r"alters what is published, and may only add: mask/NEWCAM-2-4@1\.0: weights"):
        publish_registry(keepers, updates.REPOSITORY)
    (keepers / "zoo" / f"{NEW}.yaml").unlink()
    with pytest.raises(PublishError, match="NEWCAM-2-4: is missing"):
        publish_registry(keepers, updates.REPOSITORY)
    assert HubRepository(updates.REPOSITORY).head() == first.pin.commit


def test_an_update_that_would_give_a_bare_name_another_meaning_is_refused(contract_hub, keepers):
    publish_registry(keepers, updates.REPOSITORY)
    name = "mask/ACS-WFC-F606W-3-32"  # which has meant the inpainting network
    shutil.copytree(keepers / "cards" / NEW, keepers / "cards" / name)
    shutil.copy(keepers / "zoo" / f"{NEW}.yaml", keepers / "zoo" / f"{name}.yaml")
    edit_entry(keepers, lambda entry: entry.update(name="ACS-WFC-F606W-3-32"), name)
    edit_card(keepers, lambda card: card["identity"].update(name="ACS-WFC-F606W-3-32"), name)
    pinned(keepers, name)
    with pytest.raises(PublishError, match="ACS-WFC-F606W-3-32: expected inpaint/ACS-WFC-F606W-3-32, got mask/"):
        publish_registry(keepers, updates.REPOSITORY)
    push(contract_hub, updates.lock_files(keepers))
    with pytest.raises(UpdateError, match="ACS-WFC-F606W-3-32: expected inpaint/ACS-WFC-F606W-3-32, got mask/"):
        updates.update()


def test_a_release_with_another_default_keeps_the_update_that_was_fetched_before(contract_hub, keepers, monkeypatch):
    add_version(keepers)
    publish_registry(keepers, updates.REPOSITORY)
    updates.update()
    newer = updates.shipped_registry()  # a release later, in which 1.1 ships and is the default
    entry = read_registry(updates.folder() / updates.current().commit).entries[SMALL]
    newer.entries[SMALL] = entry.model_copy(update={"default": "1.1"})
    monkeypatch.setattr(updates, "shipped_registry", lambda: newer)
    assert f"{NEW}@1.0" in default_registry().references()
    assert default_registry().entries[SMALL].default == "1.1"
    edit_entry(keepers, lambda entry: entry.update(default="1.1"))
    push(contract_hub, updates.lock_files(keepers))
    assert updates.update().is_new


def test_a_registry_that_names_what_is_on_no_hub_is_not_published(contract_hub, keepers):
    edit_entry(keepers, lambda entry: entry["versions"]["1.0"].update(sources={"seed": True}), NEW)
    with pytest.raises(PublishError, match=r"NEWCAM-2-4@1\.0 is on no Hub: publish it before"):
        publish_registry(keepers, updates.REPOSITORY)


def test_a_keeper_who_was_overtaken_is_told(contract_hub, keepers, monkeypatch):
    first = publish_registry(keepers, updates.REPOSITORY).pin.commit
    push(contract_hub, {"zoo/training_visits.yaml": (keepers / "zoo" / "training_visits.yaml").read_bytes() + b"\n"})
    add_version(keepers)
    monkeypatch.setattr(HubRepository, "head", lambda self: first)
    with pytest.raises(HubConflictError, match="has changed in between"):
        publish_registry(keepers, updates.REPOSITORY)
