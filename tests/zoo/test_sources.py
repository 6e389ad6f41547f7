import os
import shutil
import stat

import pytest

import deepcr_zoo
from deepcr_zoo.errors import IntegrityError, SourceError, SourceWarning, UsageError
from deepcr_zoo.files import write_atomically
from deepcr_zoo.zoo import sources
from deepcr_zoo.zoo.registries import default_registry
from deepcr_zoo.zoo.registry import WEIGHTS_FILE, LockedFile, read_registry
from tests.registries import SMALL, copy_registry, edit_entry

MODEL = default_registry().resolve(SMALL)


def all_files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def corrupt(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 255
    path.write_bytes(data)


def test_the_bundled_seed_serves_without_touching_the_cache(clean_environment):
    file = sources.fetch(MODEL, WEIGHTS_FILE)
    assert file.source == "seed"
    assert MODEL.locked.weights.mismatch(file.data) is None
    assert all_files(clean_environment) == []


def test_a_mirror_made_by_pull_to_serves_pull_from(tmp_path, clean_environment):
    path = deepcr_zoo.pull(SMALL, to=tmp_path / "mirror")
    files = ("card.yaml", "model.safetensors", "test_vector.safetensors")
    assert all_files(tmp_path / "mirror") == ["LICENSE.deepCR", *(f"{MODEL.folder}/{name}" for name in files)]
    assert path == tmp_path / "mirror" / MODEL.folder / WEIGHTS_FILE
    for address in (tmp_path / "mirror", f"file://{tmp_path}/mirror"):
        file = sources.fetch(MODEL, WEIGHTS_FILE, mirror=address, source="mirror")
        assert file.source == "mirror"
        assert file.path == clean_environment / MODEL.folder / WEIGHTS_FILE
    assert sources.fetch(MODEL, WEIGHTS_FILE).source == "cache"


def test_a_mirror_made_from_a_mirror_leaves_the_cache_alone(tmp_path, clean_environment):
    deepcr_zoo.pull(SMALL, to=tmp_path / "one")
    deepcr_zoo.pull(SMALL, to=tmp_path / "two", mirror=tmp_path / "one", source="mirror")
    assert all_files(tmp_path / "two") == all_files(tmp_path / "one")
    assert all_files(clean_environment) == []


def test_a_mirror_never_gets_a_card_that_was_edited(tmp_path):
    root = copy_registry(tmp_path / "registry")
    card = root / "cards" / SMALL / "1.0.yaml"
    card.write_text(card.read_text().replace("threshold: 0.5", "threshold: 0.9"))
    with pytest.raises(IntegrityError, match="a card is frozen"):
        sources.pull_resolved(read_registry(root).resolve(SMALL), to=tmp_path / "mirror")
    assert not (tmp_path / "mirror").exists()


def test_the_environment_can_name_the_mirror(tmp_path, monkeypatch):
    deepcr_zoo.pull(SMALL, to=tmp_path)
    monkeypatch.setenv("DEEPCR_ZOO_MIRROR", str(tmp_path))
    assert sources.fetch(MODEL, WEIGHTS_FILE).source == "mirror"


def test_a_corrupt_mirror_is_refused_and_nothing_enters_the_cache(tmp_path, clean_environment):
    corrupt(deepcr_zoo.pull(SMALL, to=tmp_path))
    with pytest.raises(IntegrityError) as raised:
        sources.fetch(MODEL, WEIGHTS_FILE, mirror=tmp_path)
    message = str(raised.value)
    assert str(tmp_path) in message
    assert f"expected sha256 {MODEL.locked.weights.sha256}, found " in message
    assert "replace that copy, or name another source" in message
    assert all_files(clean_environment) == []


def test_a_truncated_file_is_told_by_its_size(tmp_path):
    path = deepcr_zoo.pull(SMALL, to=tmp_path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(IntegrityError, match=f"expected {MODEL.locked.weights.size} bytes, found 100"):
        sources.fetch(MODEL, WEIGHTS_FILE, mirror=tmp_path)


def test_a_damaged_copy_in_the_cache_is_removed_and_replaced_by_the_next_source(clean_environment):
    cached = clean_environment / MODEL.folder / WEIGHTS_FILE
    cached.parent.mkdir(parents=True)
    shutil.copy(sources.fetch(MODEL, WEIGHTS_FILE).path, cached)
    corrupt(cached)
    with pytest.warns(SourceWarning, match="damaged copy in the cache was removed"):
        assert sources.fetch(MODEL, WEIGHTS_FILE).source == "seed"
    assert not cached.exists()


def test_a_mirror_that_lacks_the_file_leaves_the_next_source_to_serve(tmp_path):
    assert sources.fetch(MODEL, WEIGHTS_FILE, mirror=tmp_path).source == "seed"


def test_a_mirror_that_is_no_folder_is_missed_aloud(tmp_path, monkeypatch):
    with pytest.raises(
        SourceError, match="the mirror is not a folder, or cannot be read; name one that 'deepcr-zoo pull --to DIR' wrote"
    ):
        sources.fetch(MODEL, WEIGHTS_FILE, mirror=tmp_path / "nowhere")
    with pytest.raises(UsageError, match="expected a path or a file:// address"):
        sources.fetch(MODEL, WEIGHTS_FILE, mirror="http://127.0.0.1/mirror")
    monkeypatch.setenv("DEEPCR_ZOO_MIRROR", str(tmp_path / "nowhere"))
    with pytest.warns(SourceWarning, match="DEEPCR_ZOO_MIRROR: .* is not a folder"):
        assert sources.fetch(MODEL, WEIGHTS_FILE).source == "seed"


def test_a_forced_source_is_the_only_one_tried(tmp_path):
    with pytest.raises(
        SourceError, match=rf"no source could supply model.safetensors \(mirror: {tmp_path}.* does not exist\)"
    ):
        sources.fetch(MODEL, WEIGHTS_FILE, source="mirror", mirror=tmp_path)
    with pytest.raises(SourceError, match=r"cache: .* does not exist"):
        sources.fetch(MODEL, WEIGHTS_FILE, source="cache")
    with pytest.raises(SourceError, match="hub: this version is not published on the Hub"):
        sources.fetch(MODEL, WEIGHTS_FILE, source="hub")


def test_a_source_that_does_not_exist_is_wrong_usage():
    with pytest.raises(UsageError, match="expected one of cache, mirror, seed, hub"):
        sources.fetch(MODEL, WEIGHTS_FILE, source="ftp")
    with pytest.raises(UsageError, match="or set DEEPCR_ZOO_MIRROR"):
        sources.fetch(MODEL, WEIGHTS_FILE, source="mirror")


def test_when_no_source_has_the_bytes_the_reason_of_each_is_given(tmp_path):
    root = copy_registry(tmp_path)
    edit_entry(root, lambda entry: entry["versions"]["1.0"].update(sources={"seed": False}))
    with pytest.raises(SourceError, match=r"cache: .* does not exist; hub: this version is not published"):
        sources.fetch(read_registry(root).resolve(SMALL), WEIGHTS_FILE)


def test_a_corrupt_seed_is_refused(tmp_path):
    root = copy_registry(tmp_path)
    corrupt(root / "zoo" / "weights" / MODEL.folder / WEIGHTS_FILE)
    with pytest.raises(IntegrityError, match="from the seed"):
        sources.fetch(read_registry(root).resolve(SMALL), WEIGHTS_FILE)


def test_pull_to_a_place_that_cannot_be_written_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SourceError, match=r"cannot be written: .*; choose another folder with --to"):
        deepcr_zoo.pull(SMALL, to=tmp_path / "file" / "mirror")


def test_pull_needs_a_cache_that_can_be_written_but_fetch_does_not(tmp_path, monkeypatch):
    deepcr_zoo.pull(SMALL, to=tmp_path / "mirror")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DEEPCR_ZOO_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.warns(SourceWarning, match="the cache cannot be written to"):
        file = sources.fetch(MODEL, WEIGHTS_FILE, mirror=tmp_path / "mirror", source="mirror")
    assert file.path == tmp_path / "mirror" / MODEL.folder / WEIGHTS_FILE


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    target = tmp_path / "model.safetensors"
    write_atomically(b"old", target)

    def full_disk(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(b"new", target)
    assert target.read_bytes() == b"old"
    assert all_files(tmp_path) == ["model.safetensors"]


def test_files_in_the_cache_can_be_read_by_others(tmp_path):
    path = deepcr_zoo.pull(SMALL, to=tmp_path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_a_model_of_a_checkout_takes_no_copy_of_the_registry_in_use_from_the_cache(tmp_path, clean_environment):
    path = sources.fetch(default_registry().resolve(SMALL), WEIGHTS_FILE).path
    kept = clean_environment / SMALL / "1.0" / WEIGHTS_FILE
    kept.parent.mkdir(parents=True)
    shutil.copy(path, kept)
    root = copy_registry(tmp_path / "checkout")
    other = root / "zoo" / "weights" / SMALL / "1.0" / WEIGHTS_FILE
    other.write_bytes(other.read_bytes()[:-1] + b"\1")
    locked = LockedFile.of(other.read_bytes()).model_dump()
    edit_entry(root, lambda entry: entry["versions"]["1.0"].update(weights=locked))
    found = sources.fetch(read_registry(root).resolve(SMALL), WEIGHTS_FILE)
    assert (found.source, found.data) == ("seed", other.read_bytes())
    assert kept.read_bytes() == path.read_bytes()
