"""What a publication writes into a checkout."""

import dataclasses

import pytest
import yaml

from deepcr_zoo import locations
from deepcr_zoo.errors import GateError, OutputError, PublishError, UsageError
from deepcr_zoo.publishing.entries import check_entry, entry_text, find_checkout, write_entry
from deepcr_zoo.publishing.workflow import bundle
from deepcr_zoo.zoo.records import read_records
from deepcr_zoo.zoo.registries import default_registry
from deepcr_zoo.zoo.registry import CARD_FILE, TEST_VECTOR_FILE, WEIGHTS_FILE, HubPin, read_registry
from deepcr_zoo.zoo.sources import fetch
from tests.registries import SMALL, copy_registry

PIN = HubPin(repo="deepcr-zoo/mask-ACS-WFC-F606W-2-4", commit="1" * 40)


def as_version(release, version, **changes):
    """The same network as another version."""
    card = yaml.safe_load(release.files[CARD_FILE])
    card["identity"]["version"] = version
    identity = release.card.identity.model_copy(update={"version": version})
    return dataclasses.replace(
        release,
        card=release.card.model_copy(update={"identity": identity}),
        files={**release.files, CARD_FILE: yaml.safe_dump(card).encode()},
        seed=False,
        **changes,
    )


@pytest.mark.parametrize("entry", default_registry().entries.values(), ids=lambda entry: entry.reference)
def test_an_entry_is_written_as_people_write_it(entry):
    assert entry_text(entry) == (locations.data_root() / "zoo" / f"{entry.reference}.yaml").read_bytes()


def test_a_new_version_is_not_the_default_before_the_entry_says_so(release, checkout):
    path = checkout / "zoo" / f"{SMALL}.yaml"
    before = path.read_text()
    write_entry(as_version(release, "2.0"), PIN, checkout)
    assert path.read_text().startswith(before)  # lines are added, none is changed
    assert read_registry(checkout).resolve(SMALL).version == "1.0"
    path.write_text(path.read_text().replace('default: "1.0"', 'default: "2.0"'))
    assert read_registry(checkout).resolve(SMALL).version == "2.0"
    assert (
        read_registry(checkout).resolve(f"{SMALL}@1.0").locked
        == read_registry(copy_registry(checkout / "b")).resolve(SMALL).locked
    )


def test_the_first_version_of_a_new_name_is_its_default(release, tmp_path):
    root = tmp_path / "empty"
    for part in ("zoo", "cards"):
        (root / part).mkdir(parents=True)
    written = write_entry(release, PIN, root)
    assert [path.relative_to(root).as_posix() for path in written] == [f"cards/{SMALL}/1.0.yaml", f"zoo/{SMALL}.yaml"]
    assert read_registry(root).resolve(SMALL).locked.sources.hub == PIN


def test_recipe_and_operating_points_stand_beside_the_card(release, checkout):
    measured = read_records(read_registry(checkout).resolve(SMALL)).measurements[0]
    newer = as_version(release, "2.0", beside_card={".recipe.yaml": b"name: x\n"}, measurement=measured)
    write_entry(newer, PIN, checkout)
    folder = checkout / "cards" / SMALL
    assert {path.name for path in folder.glob("2.0*")} == {"2.0.yaml", "2.0.results.yaml", "2.0.recipe.yaml"}
    assert read_records(read_registry(checkout).resolve(f"{SMALL}@2.0")).measurements == [measured]
    assert write_entry(newer, PIN, checkout) == []


def test_what_is_on_record_of_a_version_is_not_altered_and_comments_of_an_entry_stay(release, checkout):
    newer = as_version(release, "2.0", beside_card={".benchmark.json": b"{}\n"})
    write_entry(newer, PIN, checkout)
    entry = checkout / "zoo" / f"{SMALL}.yaml"
    entry.write_text(f"# why it is here\n{entry.read_text()}")
    assert write_entry(newer, PIN, checkout) == []
    assert entry.read_text().startswith("# why it is here")
    record = checkout / "cards" / SMALL / "2.0.benchmark.json"
    with pytest.raises(PublishError, match=f"{record}: is on record for {SMALL}@2.0, which does not change"):
        write_entry(as_version(release, "2.0", beside_card={".benchmark.json": b"[]\n"}), PIN, checkout)
    assert record.read_bytes() == b"{}\n"


def test_an_entry_that_cannot_be_written_leaves_nothing(release, checkout, monkeypatch):
    def full(contents):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("deepcr_zoo.publishing.entries.write_together", full)
    with pytest.raises(OutputError, match="No space left on device; make room there, or run the command again"):
        write_entry(as_version(release, "2.0"), PIN, checkout)
    assert list(read_registry(checkout).entries[SMALL].versions) == ["1.0"]


def test_a_checkout_is_found_or_asked_for(tmp_path, monkeypatch):
    assert find_checkout(None) == locations.data_root()
    with pytest.raises(UsageError, match="expected a checkout of the repository, with its zoo/ and cards/"):
        find_checkout(tmp_path)
    monkeypatch.setattr(locations, "data_root", lambda: locations.INSTALLED_DATA)
    with pytest.raises(UsageError, match="this package is installed: name the checkout"):
        find_checkout(None)


def test_a_card_without_an_entry_is_replaced_by_no_other(release, checkout):
    newer, path = as_version(release, "2.0"), checkout / "cards" / SMALL / "2.0.yaml"
    path.write_text("mine\n")
    with pytest.raises(PublishError, match=f"{path}: is another file of {SMALL}@2.0, without a registry entry"):
        check_entry(newer, PIN.repo, checkout)
    with pytest.raises(PublishError, match="without a registry entry"):
        write_entry(newer, PIN, checkout)
    assert path.read_text() == "mine\n"
    path.write_bytes(newer.files[CARD_FILE])  # of a command that was killed before it wrote the entry
    check_entry(newer, PIN.repo, checkout)
    assert path not in write_entry(newer, PIN, checkout)


@pytest.mark.parametrize("name", ["cards/{}/1.0.recipe.yaml", "zoo/weights/{}/1.0/model.safetensors"])
def test_files_beside_the_card_without_an_entry_are_replaced_by_no_other(name, release, checkout):
    whole = dataclasses.replace(release, beside_card={".recipe.yaml": b"name: x\n"})
    (checkout / "zoo" / f"{SMALL}.yaml").unlink()
    path = checkout / name.format(SMALL)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"mine")
    with pytest.raises(PublishError, match=r"is another file of .* without a registry entry"):
        bundle(whole, checkout)
    assert path.read_bytes() == b"mine"
    assert not (checkout / "zoo" / f"{SMALL}.yaml").exists()


def test_a_bundled_release_stands_in_the_checkout_with_its_weights_and_works_without_a_hub(release, tmp_path, monkeypatch):
    root = tmp_path / "empty"
    for part in ("zoo", "cards"):
        (root / part).mkdir(parents=True)
    written = bundle(dataclasses.replace(release, seed=False), root)
    model = read_registry(root).resolve(SMALL)
    assert (model.locked.sources.seed, model.locked.sources.hub) == (True, None)
    assert {path.name for path in written} >= {WEIGHTS_FILE, TEST_VECTOR_FILE, "1.0.yaml"}
    for name, data in release.locked_files.items():
        if name != CARD_FILE:
            assert (root / "zoo" / "weights" / SMALL / "1.0" / name).read_bytes() == data
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert fetch(model, WEIGHTS_FILE).source == "seed"
    assert bundle(release, root) == []


def test_a_release_that_fails_a_gate_is_not_bundled(release, tmp_path):
    failing = release.verdict.gates[0].model_copy(update={"verdict": "fails"})
    verdict = release.verdict.model_copy(update={"gates": [failing]})
    with pytest.raises(GateError, match="1 of 1 gates fail"):
        bundle(dataclasses.replace(release, verdict=verdict), copy_registry(tmp_path))
