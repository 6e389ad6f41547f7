import hashlib
import io
import tarfile

import pytest
import yaml

from deepcr_zoo import locations
from deepcr_zoo.errors import ConversionError, IntegrityError
from deepcr_zoo.models import testvectors
from deepcr_zoo.publishing.convert import convert, convert_new, write_weights
from deepcr_zoo.publishing.sdists import read_upstream
from deepcr_zoo.zoo.cards import UpstreamFile, read_card
from deepcr_zoo.zoo.registries import default_registry
from tests.conftest import ALL_MODELS
from tests.registries import SMALL

IMPORTED = [name for name in ALL_MODELS if read_card(default_registry().resolve(name)).provenance.kind == "imported"]


@pytest.mark.network
@pytest.mark.parametrize("name", IMPORTED)
def test_converting_the_upstream_file_again_gives_the_locked_bytes(name, upstream_sdists):
    model = default_registry().resolve(name)
    converted = convert(read_card(model), upstream_sdists)
    assert model.locked.weights.mismatch(converted.weights) is None
    assert converted.architecture == model.locked.architecture


@pytest.mark.network
def test_importing_a_model_gives_its_files_and_the_registry_entry(tmp_path, upstream_sdists):
    model = default_registry().resolve(SMALL)
    entry = yaml.safe_load(convert_new(model.card_path, upstream_sdists, tmp_path))["1.0"]
    locked = model.locked.model_dump(exclude_none=True)
    assert entry["weights"] == locked["weights"]
    assert entry["card"] == locked["card"]
    assert entry["architecture"] == locked["architecture"]
    made = testvectors.read((tmp_path / model.folder / "test_vector.safetensors").read_bytes(), "made")
    shipped = testvectors.read(
        (locations.data_root() / "zoo/weights" / model.folder / "test_vector.safetensors").read_bytes(), ""
    )
    assert abs(made.expected - shipped.expected).max() < 1e-6


@pytest.mark.network
def test_importing_never_overwrites_other_bytes(tmp_path, upstream_sdists):
    model = default_registry().resolve(SMALL)
    weights = tmp_path / model.folder / "model.safetensors"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"released before")
    with pytest.raises(ConversionError, match="a version never changes meaning"):
        convert_new(model.card_path, upstream_sdists, tmp_path)
    assert weights.read_bytes() == b"released before"


@pytest.mark.network
def test_a_link_in_the_folder_of_a_mirror_is_not_written_through(tmp_path, upstream_sdists):
    model = default_registry().resolve(SMALL)
    mirror, elsewhere = tmp_path / "mirror", tmp_path / "elsewhere"
    elsewhere.mkdir()
    mirror.mkdir()
    (mirror / "mask").symlink_to(elsewhere)
    with pytest.raises(IntegrityError, match="is a symbolic link"):
        write_weights(convert(read_card(model), upstream_sdists), mirror)
    assert not any(elsewhere.iterdir())


@pytest.mark.network
def test_a_network_with_batch_norm_needs_a_fingerprint_in_its_card(tmp_path, upstream_sdists):
    card = yaml.safe_load(default_registry().resolve(SMALL).card_path.read_text())
    del card["input"]["fingerprint"]
    path = tmp_path / SMALL / "1.0.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(yaml.safe_dump(card))
    with pytest.raises(ConversionError, match=r"if input\.scale is right, add input_variance: 8\.91e\+04"):
        convert_new(path, upstream_sdists, tmp_path)


def test_a_card_must_stand_where_its_identity_says(tmp_path):
    card = default_registry().resolve(SMALL).card_path
    (tmp_path / "1.0.yaml").write_bytes(card.read_bytes())
    with pytest.raises(ConversionError, match=f"expected the card at .../{SMALL}/1.0.yaml"):
        convert_new(tmp_path / "1.0.yaml", tmp_path, tmp_path)


def a_release(folder, files):
    """A source distribution with the given files, and what a card would say of the first."""
    archive = folder / "pack-1.0.tar.gz"
    with tarfile.open(archive, "w:gz") as content:
        for name, data in files.items():
            member = tarfile.TarInfo(f"pack-1.0/{name}")
            member.size = len(data)
            content.addfile(member, io.BytesIO(data))
    name, data = next(iter(files.items()))
    return UpstreamFile(
        package="pack",
        release="1.0",
        sdist_sha256=hashlib.sha256(archive.read_bytes()).hexdigest(),
        file=name,
        file_sha256=hashlib.sha256(data).hexdigest(),
    )


def test_the_hash_of_the_release_and_of_the_file_are_both_checked(tmp_path):
    upstream = a_release(tmp_path, {"net.pth": b"weights"})
    assert read_upstream(upstream, tmp_path) == b"weights"
    for change, message in [
        ({"sdist_sha256": "0" * 64}, "pack-1.0.tar.gz: expected sha256 0000"),
        ({"file_sha256": "0" * 64}, "net.pth: expected sha256 0000"),
        ({"file": "other.pth"}, "expected a file other.pth, found none"),
    ]:
        with pytest.raises(ConversionError, match=message):
            read_upstream(upstream.model_copy(update=change), tmp_path)
