"""Releases and .pth files of others: none runs code, unpacks without end, or takes more memory than its own size."""

from __future__ import annotations

import gzip
import hashlib
import io
import pickle
import struct
import subprocess
import sys
import tarfile
import time
import tracemalloc
import zipfile
from collections import OrderedDict
from contextlib import suppress
from itertools import islice, product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from deepcr_zoo.errors import ConversionError, DeepcrZooError
from deepcr_zoo.models import pthfiles
from deepcr_zoo.models.upstream import convert_state
from deepcr_zoo.publishing import sdists
from deepcr_zoo.publishing.convert import convert_new
from deepcr_zoo.publishing.sdists import read_upstream
from deepcr_zoo.zoo.cards import UpstreamFile
from deepcr_zoo.zoo.registries import default_registry
from tests.attack.test_fuzz import FEW, MANY, edited, fuzzed
from tests.registries import SMALL

MEGABYTE = 1_000_000
BIAS = "module.inc.conv.conv.0.bias"
DIRECTION, LENGTH = "module.inc.conv.conv.0.weight_v", "module.inc.conv.conv.0.weight_g"
FILTERS = torch.zeros(8, 1, 3, 3)

# Source distributions


def tar(*members, form=tarfile.PAX_FORMAT):
    """The bytes of a .tar file; members are names or headers, with their bytes."""
    content = b""
    for header, data in members:
        if isinstance(header, str):
            header = tarfile.TarInfo(header)
            header.size = len(data)
        content += header.tobuf(form) + data + bytes(-len(data) % 512)
    return content + bytes(1024)


def reading(folder, unpacked, file_bytes=b"weights", *, packed=None):
    """Read pack-1.0/net.pth of a release with this content."""
    packed = gzip.compress(unpacked, 1) if packed is None else packed
    (folder / "pack-1.0.tar.gz").write_bytes(packed)
    hashes = [hashlib.sha256(data).hexdigest() for data in (packed, file_bytes)]
    upstream = UpstreamFile(package="pack", release="1.0", sdist_sha256=hashes[0], file="net.pth", file_sha256=hashes[1])
    return read_upstream(upstream, folder)


SOUND = tar(("pack-1.0/setup.py", b"raise SystemExit"), ("pack-1.0/net.pth", b"weights"))


def header(**values):
    made = tarfile.TarInfo("pack-1.0/net.pth")
    for name, value in values.items():
        setattr(made, name, value)
    return made


def test_a_release_that_is_not_in_the_folder_is_not_fetched_so_that_none_of_its_code_runs(tmp_path, monkeypatch):
    def refused(*_, **__):
        raise AssertionError("a program was started")

    monkeypatch.setattr(subprocess, "Popen", refused)
    card = default_registry().resolve(SMALL).card_path
    with pytest.raises(ConversionError, match=r"deepCR-0.*\.tar\.gz: found no such file: download it .*not with pip"):
        convert_new(card, tmp_path, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_code_of_a_release_in_the_folder_does_not_run(tmp_path):
    code = f"open({str(tmp_path / 'owned')!r}, 'w')".encode()
    unpacked = tar(("pack-1.0/setup.py", code), ("pack-1.0/pyproject.toml", b""), ("pack-1.0/net.pth", b"weights"))
    assert reading(tmp_path, unpacked) == b"weights"
    assert [path.name for path in tmp_path.iterdir()] == ["pack-1.0.tar.gz"]


@pytest.mark.parametrize(
    "unpacked",
    [
        b"not a tar",
        b"",
        SOUND[:700],
        tar((header(type=tarfile.SYMTYPE, linkname="net.pth"), b"")),
        tar((header(type=tarfile.LNKTYPE, linkname="/etc/passwd"), b"")),
        tar((header(type=tarfile.DIRTYPE), b"")),
        tar((header(type=tarfile.FIFOTYPE), b"")),
        tar((header(size=2**60), b""), form=tarfile.GNU_FORMAT),
        tar((header(size=-(2**40)), b""), form=tarfile.GNU_FORMAT),
        tar(
            (header(pax_headers={"GNU.sparse.realsize": str(2**50), "GNU.sparse.map": "0,1", "GNU.sparse.major": "0"}), b"")
        ),
        tar((header(pax_headers={"size": "x"}), b"")),
    ],
    ids=["text", "nothing", "cut", "link", "hard-link", "folder", "pipe", "huge", "negative", "sparse", "no-size"],
)
def test_an_archive_without_the_plain_file_is_refused_in_one_sentence(tmp_path, unpacked):
    with pytest.raises(ConversionError, match=r"pack-1.0.tar.gz: .*expected "):
        reading(tmp_path, unpacked)


@pytest.mark.parametrize(
    "packed",
    [b"", b"\x1f\x8b\x08", gzip.compress(SOUND)[:60], gzip.compress(SOUND)[:-9] + b"123456789"],
    ids=["nothing", "start", "cut", "another-check-sum"],
)
def test_a_damaged_gzip_file_is_refused_in_one_sentence(tmp_path, packed):
    with pytest.raises(ConversionError, match=r"expected a .tar.gz file"):
        reading(tmp_path, b"", b"other", packed=packed)


@pytest.mark.parametrize("name", ["pack-1.0/net.pth", "pack-1.0/first"])
def test_an_archive_that_unpacks_to_too_much_is_given_up(tmp_path, monkeypatch, name):
    monkeypatch.setattr(sdists._Unpacked, "_left", 3 * MEGABYTE)
    bomb = tar((name, bytes(40 * MEGABYTE)), ("pack-1.0/net.pth", b"weights"))
    tracemalloc.start()
    try:
        with pytest.raises(ConversionError, match=r"at most 200,000,000 bytes once unpacked: it is larger or damaged"):
            reading(tmp_path, bomb)
        assert tracemalloc.get_traced_memory()[1] < 20 * MEGABYTE
    finally:
        tracemalloc.stop()


def test_an_archive_of_too_many_members_is_not_read_to_its_end(tmp_path, monkeypatch):
    monkeypatch.setattr(sdists, "MOST_MEMBERS", 10)
    members = [(f"pack-1.0/{number}", b"") for number in range(10)]
    with pytest.raises(ConversionError, match=r"expected a file net.pth, found none"):
        reading(tmp_path, tar(*members, ("pack-1.0/net.pth", b"weights")))
    assert reading(tmp_path, tar(*members[1:], ("pack-1.0/net.pth", b"weights"))) == b"weights"


def check_edited_archives(data, folder):
    unpacked = data.draw(edited(SOUND, [(0, 512), (1024, 1536)]))
    with suppress(DeepcrZooError):
        assert reading(folder, unpacked) == b"weights"


@fuzzed(FEW)
@given(data=st.data())
def test_an_edited_archive_gives_the_file_or_one_sentence(data, tmp_path_factory):
    check_edited_archives(data, tmp_path_factory.mktemp("sdist"))


@pytest.mark.slow
@fuzzed(MANY)
@given(data=st.data())
def test_many_edited_archives_give_the_file_or_one_sentence(data, tmp_path_factory):
    check_edited_archives(data, tmp_path_factory.mktemp("sdist"))


# .pth files


def pth(content, **options):
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


SMALL_STATE = {BIAS: torch.zeros(8), DIRECTION: FILTERS, LENGTH: torch.ones(8, 1, 1, 1)}
CONTENTS = {
    "text keys and a number": {BIAS: torch.zeros(8), 3: torch.zeros(2)},
    "repeated without end": {
        BIAS: torch.zeros(8),
        DIRECTION: torch.zeros(1).expand(1 << 20, 1 << 20, 3, 3),
        LENGTH: FILTERS,
    },
    "as many channels": {BIAS: torch.zeros(1).expand(1 << 40)},
    "repeated counts": {BIAS: torch.zeros(8), "module.inc.conv.conv.1.num_batches_tracked": torch.zeros(1).expand(1 << 40)},
    "length without axes": {**SMALL_STATE, LENGTH: torch.zeros(())},
    "too few lengths": {**SMALL_STATE, LENGTH: torch.zeros(5, 1, 1, 1)},
    "direction without axes": {**SMALL_STATE, DIRECTION: torch.zeros(())},
    "length is a number": {**SMALL_STATE, LENGTH: 3},
    "sparse": {**SMALL_STATE, DIRECTION: FILTERS.to_sparse()},
    "without values": {BIAS: torch.zeros(8, device="meta")},
    "complex": {BIAS: torch.zeros(8, dtype=torch.complex64)},
    "text": {BIAS: "x"},
    "list": [1],
    "nested": {BIAS: {BIAS: torch.zeros(8)}},
    "none": None,
}


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "old"])
@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
def test_a_file_with_anything_but_plain_tensors_of_its_own_size_is_one_sentence(content, zipped):
    data = pth(content, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ConversionError, match="expected"):
        convert_state(data)


PICKLES = [
    *(
        b"",
        b"\x80\x02.",
        b"\x80\x02h\x05.",
        b"\x80\x02K\x01s.",
        b"\x80\x02}q\x00(X\x01\x00\x00\x00au.",
        b"\x80\x02X\xff\xff\xff\xff.",
    ),
    *(
        b"\x80\x02X\x02\x00\x00\x00\xff\xff.",
        b"\x80\x02" + b"(" * 100_000 + b".",
        b"\x80\x02N0" * 10,
        pickle.dumps({"a": 1}),
    ),
    *(
        b"\x80\x02ctorch._utils\n_rebuild_qtensor\n.",
        b"cos\nsystem\n(S'id'\ntR.",
        b"\x80\x02c__builtin__\nbytearray\n\x8a\x06\0\0\0\0\0\x01\x85R.",
        b"PK\x03\x04" + bytes(100),
    ),
]


@pytest.mark.parametrize("data", PICKLES, ids=range(len(PICKLES)))
def test_a_malformed_file_is_one_sentence(data):
    for file in (data, zipped({"archive/data.pkl": data, "archive/version": b"3\n"})):
        with pytest.raises(ConversionError, match="expected"):
            convert_state(file)


def zipped(records, method=zipfile.ZIP_STORED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in records.items():
            archive.writestr(name, data)
    return buffer.getvalue()


@pytest.mark.parametrize("name", ["data.pkl", "DATA.PKL", "data.pkL"])
def test_bytes_that_a_file_asks_for_without_having_them_are_not_made(name):
    asking = b"\x80\x02cbuiltins\nbytearray\nJ\x00\xca\x9a\x3b\x85R."  # bytearray(1,000,000,000)
    tracemalloc.start()
    try:
        with pytest.raises(ConversionError, match="does not hold tensors alone"):
            convert_state(zipped({f"archive/{name}": asking, "archive/version": b"3\n", "archive/byteorder": b"little"}))
        assert tracemalloc.get_traced_memory()[1] < 5 * MEGABYTE
    finally:
        tracemalloc.stop()


TWICE_THE_ONE_BEFORE = b"".join(b"h" + bytes([n]) + b"\x86q" + bytes([n + 1]) for n in range(60))
WIDE = b"".join(b"(" + (b"h" + bytes([n])) * 100 + b"tq" + bytes([n + 1]) for n in range(9))
DEEP = b"\x85" * 900_000


SAME_HASH = b"".join(
    b"\x8a\x0a" + (n * (2**61 - 1)).to_bytes(10, "little", signed=True) + b"K\x01s" for n in range(1, 100_000)
)
SAME_PLACE = b"".join(b"K\x01p%d\n" % (n * (2**61 - 1)) for n in range(1, 100_000))


FLOATS = [b"G" + struct.pack(">d", 1.5 * 2.0**power) for power in (0, 61)]
NEGATIVE = [b"J" + struct.pack("<i", number) for number in (-1, -2)]
SAME_FLOATS, SAME_NEGATIVE = (
    b"".join(b"(" + b"".join(one) + b"tK\x01s" for one in islice(product(pair, repeat=14), 10_000))
    for pair in (FLOATS, NEGATIVE)
)


@pytest.mark.parametrize(
    "numbers",
    [SAME_HASH, SAME_PLACE, SAME_FLOATS, SAME_NEGATIVE],
    ids=["keys", "places", "tuples of floats", "tuples of negative numbers"],
)
def test_numbers_of_one_hash_are_refused_at_once(numbers):
    begun = time.process_time()
    with pytest.raises(ConversionError, match="does not hold tensors alone"):
        convert_state(zipped({"archive/data.pkl": b"\x80\x02}" + numbers + b".", "archive/version": b"3\n"}))
    assert time.process_time() - begun < 5


@pytest.mark.parametrize("tuples", [TWICE_THE_ONE_BEFORE, WIDE, DEEP], ids=["twice", "wide", "deep"])
def test_a_tuple_that_no_time_would_be_enough_to_hash_is_no_key(tuples):
    asking = b"\x80\x02})q\x00" + tuples + b"K\x01s."
    with pytest.raises(ConversionError, match="does not hold tensors alone"):
        convert_state(zipped({"archive/data.pkl": asking, "archive/version": b"3\n", "archive/byteorder": b"little"}))


def test_names_that_differ_in_capitals_alone_are_refused():
    with zipfile.ZipFile(io.BytesIO(pth({BIAS: torch.zeros(3)}))) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    (pickle,) = (name for name in records if name.endswith(".pkl"))
    with pytest.raises(ConversionError, match="does not hold tensors alone"):
        convert_state(zipped({**records, pickle.upper(): records[pickle]}))


def test_packed_records_larger_than_the_file_are_not_unpacked():
    data = pth({BIAS: torch.zeros(10 * MEGABYTE)})
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        packed = zipped({name: archive.read(name) for name in archive.namelist()}, zipfile.ZIP_DEFLATED)
    assert len(packed) < MEGABYTE
    with pytest.raises(ConversionError, match="does not hold tensors alone, or is damaged"):
        convert_state(packed)


def test_a_file_of_too_many_operations_is_given_up():
    with pytest.raises(ConversionError, match="does not hold tensors alone, or is damaged"):
        convert_state(b"\x80\x02" + b"N0" * MEGABYTE + b"N.")


def test_tensors_that_share_their_bytes_are_kept_apart():
    shared = torch.zeros(8)
    state = {BIAS: shared, "module.inc.conv.conv.1.bias": shared}
    _, converted = convert_state(pth(state))
    first, second = converted.values()
    first += 1
    assert second.sum() == 0


def check_edited_files(data, file):
    with suppress(DeepcrZooError):
        convert_state(data.draw(edited(file, [(0, 600), (0, len(file))])))


@pytest.mark.parametrize("new", [True, False], ids=["zip", "old"])
@fuzzed(FEW)
@given(data=st.data())
def test_an_edited_pth_file_is_a_network_or_one_sentence(data, new):
    check_edited_files(data, pth(SMALL_STATE, _use_new_zipfile_serialization=new))


@pytest.mark.slow
@pytest.mark.parametrize("new", [True, False], ids=["zip", "old"])
@fuzzed(MANY)
@given(data=st.data())
def test_many_edited_pth_files_are_networks_or_one_sentence(data, new):
    check_edited_files(data, pth(SMALL_STATE, _use_new_zipfile_serialization=new))


def test_a_pth_file_of_others_is_one_sentence_of_the_compatible_class(tmp_path):
    path = tmp_path / "mine.pth"
    path.write_bytes(pth(CONTENTS["as many channels"]))
    script = f"from deepcr_zoo import deepCR; deepCR(mask={str(path)!r}, device='CPU')"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "mine.pth': the file announces tensors larger than itself" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("attributes", [{"values": OrderedDict}, {"values": 3}, {"keys": 3}], ids=str)
def test_attributes_of_a_dictionary_hide_no_tensors(attributes, tmp_path):
    state = OrderedDict({"inc.conv.conv.3.weight": torch.zeros(1).expand(10**7, 10**7, 3, 3), BIAS: torch.zeros(4)})
    vars(state).update(attributes)
    torch.save(state, tmp_path / "net.pth")
    with pytest.raises(ConversionError, match="larger than itself"):
        pthfiles.load((tmp_path / "net.pth").read_bytes())
