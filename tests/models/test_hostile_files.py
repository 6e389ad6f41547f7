"""Hostile files are refused with a clear error before they can do harm."""

import json
import os
import struct
import tracemalloc

import pytest
import safetensors.numpy
import yaml

from deepcr_zoo.documents import MOST_BYTES, parse_document, parse_yaml
from deepcr_zoo.errors import IntegrityError, InvalidDocumentError, InvalidWeightsError, SourceError
from deepcr_zoo.models import testvectors, weights
from deepcr_zoo.zoo import sources
from deepcr_zoo.zoo.cards import Card
from deepcr_zoo.zoo.recipefiles import find_recipe, read_recipe
from deepcr_zoo.zoo.registries import default_registry
from deepcr_zoo.zoo.registry import TEST_VECTOR_FILE, WEIGHTS_FILE, Architecture, ModelEntry
from tests.registries import SMALL

MODEL = default_registry().resolve(SMALL)
ARCHITECTURE = Architecture(depth=2, hidden=4, norm="batch")
TERA = 10**12


WEIGHTS = sources.fetch(MODEL, WEIGHTS_FILE).data
HEADER_BYTES = struct.unpack_from("<Q", WEIGHTS)[0]
HEADER, BODY = json.loads(WEIGHTS[8 : 8 + HEADER_BYTES]), WEIGHTS[8 + HEADER_BYTES :]


def safetensors_of(header, body=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def weights_with(body=BODY, **changes):
    """The weights of a network whose header declares its last bias otherwise."""
    return safetensors_of({**HEADER, "head.bias": {**HEADER["head.bias"], **changes}}, body)


# Weights


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "has 0 bytes, and announces a header larger"),
        (b"\x80\x04\x95pickle", "announces a header larger"),
        (struct.pack("<Q", TERA) + b"{}", "has 10 bytes, and announces a header larger than that"),
        (safetensors_of(b" " * 2_000_000), "announces a header larger than that or 1,000,000"),
        (safetensors_of(b"[" * 100_000), "recursion"),
        (safetensors_of(b"[]"), "should be a valid dictionary"),
        (safetensors_of(b'{"a": 1, "a": 2}'), "the key 'a' appears twice"),
        (
            safetensors_of(json.dumps(HEADER).encode().replace(b"{", b'{"head.bias": 0, ', 1), BODY),
            "the key 'head.bias' appears twice",
        ),
        (safetensors_of({"a": {"dtype": "F32"}}), "Field required"),
        (weights_with(shape=[TERA]), "less than 2147483648"),
        (weights_with(shape=[-1]), "greater than or equal to 0"),
        # from here on safetensors judges, or the architecture
        (weights_with(shape=[2**30, 2**30]), "expected F32 of shape"),
        (weights_with(dtype="object"), "expected F32 of shape"),
        (weights_with(data_offsets=[0, 2**62]), "expected a safetensors file: "),
        (weights_with(data_offsets=[-4, 0]), "expected a safetensors file: "),
        (weights_with(data_offsets=[0, 4]), "expected a safetensors file: "),
        (weights_with(data_offsets=None), "expected a safetensors file: "),
        (weights_with(BODY + b"more"), "expected a safetensors file: "),
        (weights_with(BODY[:-4]), "expected a safetensors file: "),
    ],
)
def test_a_broken_safetensors_file_is_refused_by_its_header(data, message):
    tracemalloc.start()
    with pytest.raises(InvalidWeightsError, match=f"mine: .*({message})") as raised:
        weights.read_state(data, ARCHITECTURE, "mask", "mine")
    assert "\n" not in str(raised.value)
    assert tracemalloc.get_traced_memory()[1] < 100_000_000
    tracemalloc.stop()


def test_tensors_of_another_network_are_refused_before_they_are_allocated(monkeypatch):
    def too_late(_):
        raise AssertionError("was allocated")

    monkeypatch.setattr("safetensors.torch.load", too_late)
    with pytest.raises(InvalidWeightsError, match=r"decoder\.0\.conv1\.bias: expected F32 of shape \(8,\), got F32 of"):
        weights.read_state(WEIGHTS, Architecture(depth=2, hidden=8, norm="batch"), "mask", "mine")
    with pytest.raises(InvalidWeightsError, match="expected no such tensor"):
        weights.read_state(WEIGHTS, Architecture(depth=2, hidden=4, norm="none"), "mask", "mine")


@pytest.mark.parametrize("shape", [(1, 2**31 - 1), (5000, 5000), (3,)])
def test_a_test_vector_of_an_absurd_size_is_refused(shape):
    data = safetensors_of({"image": {"dtype": "F32", "shape": list(shape), "data_offsets": [0, 4]}}, b"0000")
    with pytest.raises(InvalidWeightsError):
        testvectors.read(data, "mine")


def test_a_test_vector_with_arrays_of_different_shapes_is_refused():
    arrays = safetensors.numpy.load(sources.fetch(MODEL, TEST_VECTOR_FILE).data)
    data = safetensors.numpy.save({**arrays, "mask": arrays["mask"][:5].copy()})
    with pytest.raises(InvalidWeightsError, match=r"mask: expected U8 of shape \(128, 96\), got U8 of shape \(5, 96\)"):
        testvectors.read(data, "mine")


# Documents


def bomb(levels=12):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, levels)]
    return "\n".join(lines).encode()


CARD = yaml.safe_load(MODEL.card_path.read_bytes())
ENTRY = yaml.safe_load((MODEL.root / "zoo" / f"{SMALL}.yaml").read_bytes())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"!!python/object/apply:os.system ['id']", "could not determine a constructor for the tag"),
        (b"identity: !!python/name:os.system", "could not determine a constructor for the tag"),
        (b"identity: !include /etc/passwd", "could not determine a constructor for the tag"),
        (bomb(), "at most 100000 values, each use of an alias counted"),
        (b"a: &a {b: *a}", "mine: "),
        (b"[" * 100_000, "at most 50 levels of nesting"),
        (b"- " * 20_000, "at most 50 levels of nesting"),
        (b"{a: " * 51 + b"1" + b"}" * 51, "at most 50 levels of nesting"),
        (b"[" + b"1," * 250_000 + b"1]", "at most 100000 values"),
        (b"a: " + b"9" * 5000, "expected a YAML document"),
        (b"# " + b"x" * MOST_BYTES, "at most 1,000,000 bytes"),
        (b"\xc3\x28", "expected a YAML document"),
        (b"a: 2026-13-45", "expected a YAML document"),
    ],
)
@pytest.mark.parametrize("schema", [Card, ModelEntry])
def test_a_hostile_yaml_document_is_refused(text, message, schema):
    with pytest.raises(InvalidDocumentError, match=message):
        parse_document(text, schema, "mine")


def changed(document, path, value):
    copy = yaml.safe_load(yaml.safe_dump(document))
    *parents, last = path.split(".")
    place = copy
    for key in parents:
        place = place[int(key) if key.isdigit() and isinstance(place, list) else key]
    place[last] = value
    return yaml.safe_dump(copy).encode()


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("identity.name", "../../etc/passwd"),
        ("identity.version", "1.0/../2.0"),
        ("licence.file", "../../../etc/passwd"),
        ("licence.file", "/etc/passwd"),
        ("licence.file", "zoo/..\\secret"),
        ("provenance.upstream.file", "../../x.pth"),
        ("provenance.upstream.package", "--index-url=http://127.0.0.1"),
        ("provenance.upstream.release", "1.0; rm -rf /"),
        ("input.scale", 1e308),
        ("input.scale", float("inf")),
        ("input.scale", float("nan")),
        ("input.halo", 10**9),
        ("input.multiple", 10**9),
        ("output.threshold", 2.0),
        ("test_vector.tolerance", 1e9),
        ("citation.0.doi", "javascript:alert(1)"),
    ],
)
def test_a_card_with_a_path_or_a_number_that_could_do_harm_is_refused(path, value):
    with pytest.raises(InvalidDocumentError, match=path.replace(".", r"\.")):
        parse_document(changed(CARD, path, value), Card, "mine")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("name", "../evil"),
        ("versions.1.0.architecture.hidden", 10**9),
        ("versions.1.0.weights.size", 10**18),
        ("versions.1.0.sources.hub", {"repo": "../..", "commit": "0" * 40}),
        ("versions.1.0.sources.hub", {"repo": "http://evil/x", "commit": "0" * 40}),
        ("versions.1.0.sources.hub", {"repo": "a/b", "commit": "main"}),
    ],
)
def test_an_entry_with_a_path_or_a_number_that_could_do_harm_is_refused(path, value):
    copy = yaml.safe_load(yaml.safe_dump(ENTRY))
    place = copy
    keys = path.replace("1.0", "1_0").split(".")
    for key in keys[:-1]:
        place = place[key.replace("1_0", "1.0")]
    place[keys[-1]] = value
    with pytest.raises(InvalidDocumentError):
        parse_document(yaml.safe_dump(copy).encode(), ModelEntry, "mine")


@pytest.mark.parametrize(
    ("setting", "field"),
    [
        ("rehearsal.side=1000000000", "rehearsal.side"),
        ("rehearsal.visits.train=1000000", "rehearsal"),
        ("train.schedule.batch_size=1000000000", "train.schedule.batch_size"),
        ("train.architecture.hidden=100000", "train.architecture.hidden"),
        ("build.stamps.size=1000000000", "build.stamps.size"),
        ("benchmark.bootstrap_blocks=1000000000", "benchmark.bootstrap_blocks"),
        ("benchmark.inpainting_stamps=1000000000000", "benchmark.inpainting_stamps"),
        ("instrument.chip_shape=[1000000000, 1000000000]", "instrument.chip_shape"),
        ("train.input.scale=1.0e+300", "train.input.scale"),
        ("name=../../evil", "name"),
        ("publish.repository=../..", "publish.repository"),
    ],
)
def test_a_recipe_with_a_number_or_a_name_that_could_do_harm_is_refused(setting, field):
    with pytest.raises(InvalidDocumentError, match=field.replace(".", r"\.")):
        read_recipe(find_recipe("acs-wfc-f606w-2-4"), [setting])


def test_a_recipe_with_a_tag_or_a_bomb_is_refused(tmp_path):
    for text in (b"name: !!python/object/apply:os.system ['id']", bomb()):
        (tmp_path / "x.yaml").write_bytes(text)
        with pytest.raises(InvalidDocumentError, match=r"x\.yaml: expected a YAML document"):
            read_recipe(tmp_path / "x.yaml")


def test_a_bomb_costs_no_memory():
    tracemalloc.start()
    with pytest.raises(InvalidDocumentError):
        parse_yaml(bomb(30), "mine")
    assert tracemalloc.get_traced_memory()[1] < 100_000_000
    tracemalloc.stop()


# A mirror


@pytest.fixture
def mirror(tmp_path):
    sources.pull_resolved(MODEL, to=tmp_path / "mirror")
    return tmp_path / "mirror"


def replaced_by_link(path, target):
    path.rename(target)
    path.symlink_to(target)


@pytest.mark.parametrize("part", [WEIGHTS_FILE, "", "..", "../.."])
def test_symbolic_links_in_a_mirror_are_refused_even_if_the_bytes_are_right(part, mirror, tmp_path):
    link = (mirror / MODEL.folder / part).resolve()
    replaced_by_link(link, tmp_path / "elsewhere")
    with pytest.raises(IntegrityError, match="is a symbolic link: expected plain files and folders alone"):
        sources.fetch(MODEL, WEIGHTS_FILE, mirror=mirror, source="mirror")


def test_a_mirror_may_itself_be_reached_by_a_link(mirror, tmp_path):
    replaced_by_link(mirror, tmp_path / "elsewhere")
    assert sources.fetch(MODEL, WEIGHTS_FILE, mirror=mirror, source="mirror").source == "mirror"


def test_a_pipe_in_a_mirror_is_not_read(mirror):
    path = mirror / MODEL.folder / WEIGHTS_FILE
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(SourceError, match="is no regular file"):
        sources.fetch(MODEL, WEIGHTS_FILE, mirror=mirror, source="mirror")


def test_a_file_of_another_size_is_not_read(mirror):
    path = mirror / MODEL.folder / WEIGHTS_FILE
    os.truncate(path, TERA)  # without any blocks
    with pytest.raises(IntegrityError, match=rf"expected {MODEL.locked.weights.size} bytes, found {TERA}"):
        sources.fetch(MODEL, WEIGHTS_FILE, mirror=mirror, source="mirror")
