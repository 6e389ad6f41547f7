"""Models straight from a repository on the Hub, which no registry lists."""

import hashlib
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import deepcr_zoo
from deepcr_zoo import clean_file, locations
from deepcr_zoo.errors import (
    HubError,
    HubUnreachableError,
    IntegrityError,
    InvalidDocumentError,
    InvalidNameError,
    InvalidWeightsError,
    ModelWarning,
)
from deepcr_zoo.models.verification import verify
from deepcr_zoo.zoo.cards import read_card
from deepcr_zoo.zoo.hub import downloads
from deepcr_zoo.zoo.resolving import find_model
from tests.fitsfiles import acs_flc
from tests.registries import SMALL
from tests.scenes import star_field
from tests.strangers import ADDRESS
from tests.zoo.hub import faults

pytest_plugins = ["tests.zoo.hub.fixtures", "tests.strangers"]
IMAGE, _ = star_field((64, 60), seed=3)


@pytest.fixture
def commit(stranger):
    return stranger.publish()


def test_a_published_model_is_loaded_by_repository_and_tag_with_a_caution(commit):
    with pytest.warns(ModelWarning, match=f"{ADDRESS}: no registry vouches for it: stranger alone .*{commit}"):
        model = deepcr_zoo.load(ADDRESS)
    np.testing.assert_array_equal(model.predict(IMAGE), deepcr_zoo.load(SMALL).predict(IMAGE))
    assert model.reference == ADDRESS
    assert verify(find_model(ADDRESS)).verdict == "reproduces"


@pytest.mark.filterwarnings("ignore::deepcr_zoo.errors.ModelWarning")
def test_the_first_use_fixes_the_bytes_and_later_ones_need_no_hub(stranger, commit, monkeypatch):
    deepcr_zoo.load(ADDRESS)
    tag = {"name": "v1.0", "ref": "refs/tags/v1.0", "targetCommit": "0" * 40}  # its owner has moved it
    stranger.hub.inject(faults.answering(json.dumps({"tags": [tag]}).encode()), where="/refs")
    assert find_model(ADDRESS).locked.sources.hub.commit == commit
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    deepcr_zoo.load(ADDRESS)


def test_of_two_first_uses_at_the_same_moment_one_holds(commit, monkeypatch):
    download, quicker = downloads.download_all, []

    def while_another_asks(pin, sizes):
        found = download(pin, sizes)
        if not quicker:
            quicker.append(pin)
            lock = find_model(ADDRESS).root / "lock.yaml"
            lock.write_text(lock.read_text().replace(commit, "a1" * 20))  # the tag was there before it was moved
        return found

    monkeypatch.setattr(downloads, "download_all", while_another_asks)
    assert find_model(ADDRESS).locked.sources.hub.commit == "a1" * 20
    (find_model(ADDRESS).root / "lock.yaml").unlink()  # as of one that was killed before its last file
    assert find_model(ADDRESS).locked.sources.hub.commit == commit


def test_first_uses_of_several_threads_leave_lock_card_and_licence(commit, monkeypatch):
    download, together = downloads.download_all, threading.Barrier(4, timeout=60)

    def at_the_same_moment(pin, sizes):
        found = download(pin, sizes)
        together.wait()
        return found

    monkeypatch.setattr(downloads, "download_all", at_the_same_moment)
    with ThreadPoolExecutor(4) as threads:
        roots = [model.root for model in threads.map(find_model, [ADDRESS] * 4)]
    kept = {file.name for file in roots[0].iterdir() if not file.name.startswith(".")}
    assert kept == {"lock.yaml", "card.yaml", "zoo"}
    assert (roots[0] / read_card(find_model(ADDRESS)).licence.file).is_file()


def test_pull_puts_the_weights_into_the_cache_or_a_mirror(stranger, commit, tmp_path):
    path = deepcr_zoo.pull(ADDRESS)
    assert path == locations.cache_root() / "hf/stranger" / SMALL / "1.0" / "model.safetensors"
    assert path.read_bytes() == stranger.release.files["model.safetensors"]
    copied = deepcr_zoo.pull(ADDRESS, to=tmp_path / "mirror")
    assert copied.read_bytes() == path.read_bytes()
    assert (tmp_path / "mirror/hf/stranger/LICENSE.deepCR").read_bytes() == stranger.release.files["LICENSE"]


def test_the_card_is_that_of_the_repository(stranger, commit):
    card = read_card(find_model(ADDRESS))
    assert card.input.scale == 100
    locked = find_model(ADDRESS).locked
    assert locked.card.sha256 == hashlib.sha256(stranger.release.files["card.yaml"]).hexdigest()


@pytest.mark.filterwarnings("ignore::deepcr_zoo.errors.ModelWarning")
def test_a_card_that_has_changed_counts_from_the_next_file_on(stranger, commit, tmp_path):
    path = acs_flc(tmp_path / "x_flc.fits")
    clean_file(path, model=ADDRESS, inpaint="none", output_dir=tmp_path / "before")
    folder = find_model(ADDRESS).root  # whose owner has published it anew, with the same weights
    lock, old = (folder / "lock.yaml").read_text(), (folder / "card.yaml").read_bytes()
    new = old.replace(b"scale: 100", b"scale: 200")
    for fact in (lambda card: str(len(card)), lambda card: hashlib.sha256(card).hexdigest()):
        lock = lock.replace(fact(old), fact(new))
    (folder / "card.yaml").write_bytes(new)
    (folder / "lock.yaml").write_text(lock)
    with pytest.raises(InvalidWeightsError, match="trained at another input scale"):
        clean_file(path, model=ADDRESS, inpaint="none", output_dir=tmp_path / "after")


@pytest.mark.parametrize("name", ["lock.yaml", "card.yaml"])
def test_a_damaged_lock_or_card_is_named_with_its_folder_and_a_way_out(commit, name):
    folder = find_model(ADDRESS).root
    (folder / name).write_text("released: 0")
    with pytest.raises(InvalidDocumentError) as raised:
        find_model(ADDRESS)
    assert str(raised.value).startswith(f"{folder / name}: ")
    assert str(raised.value).endswith(f"; remove {folder}: the next use asks the Hub again")


@pytest.mark.parametrize(
    "text",
    [
        "hf:stranger/mask-ACS-WFC-F606W-2-4",
        "hf:stranger/mask-ACS-WFC-F606W-2-4@main",
        "hf:stranger/ACS-WFC-F606W-2-4@v1.0",
        "hf:mask-X@v1.0",
        "hf:../mask-X@v1.0",
        "hf:a/b/mask-X@v1.0",
        "hf:a/mask-X/..@v1.0",
        "hf:a/mask-X@v1.0\n",
        "hf:",
        f"hf:{'a' * 5000}/mask-X@v1.0",
        f"hf:a/mask-{'x' * 5000}@v1.0",
    ],
)
def test_an_address_without_owner_task_or_version_is_refused_with_an_example(text):
    with pytest.raises(InvalidNameError, match=r"as in hf:ORG/mask-NAME@v1\.0"):
        find_model(text)


def test_a_version_that_is_not_there_names_those_that_are(commit):
    with pytest.raises(HubError, match=r"has no tag v2\.0, it has v1\.0"):
        find_model(ADDRESS.replace("v1.0", "v2.0"))


def test_no_hub_is_one_sentence(stranger, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(HubUnreachableError, match="cannot be used"):
        deepcr_zoo.load(ADDRESS)


def test_a_repository_made_by_an_earlier_publish_says_what_its_owner_must_do(stranger):
    earlier = {"weights": "model.safetensors", "test_vector": "test_vector.safetensors", "card": "card.yaml"}
    stranger.publish(config=stranger.config(files=earlier))
    with pytest.raises(IntegrityError, match=r"config\.json: files\.weights: .*ask its owner to publish a new version"):
        find_model(ADDRESS)
