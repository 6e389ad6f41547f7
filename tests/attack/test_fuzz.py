"""Damaged and hostile files by the thousand: the only outcomes are a result and an error of this package."""

from __future__ import annotations

import json
import struct
import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deepcr_zoo.bench.results import BenchmarkResults, read_results
from deepcr_zoo.documents import parse_document
from deepcr_zoo.errors import DeepcrZooError
from deepcr_zoo.exposures.cleaning import clean_file
from deepcr_zoo.models import testvectors, weights
from deepcr_zoo.zoo import sources
from deepcr_zoo.zoo.cards import Card
from deepcr_zoo.zoo.recipe import Recipe
from deepcr_zoo.zoo.recipefiles import find_recipe, read_recipe
from deepcr_zoo.zoo.records import Results
from deepcr_zoo.zoo.registries import Configuration, default_registry
from deepcr_zoo.zoo.registry import TEST_VECTOR_FILE, WEIGHTS_FILE, ModelEntry, Preferences
from tests.fitsfiles import ACS, scene, science, write
from tests.registries import SMALL

FEW, MANY = 60, 1500
"""Examples in the fast and in the full suite."""

MODEL = default_registry().resolve(SMALL)


def fuzzed(examples: int):
    checks = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large]
    return settings(max_examples=examples, deadline=None, suppress_health_check=checks)


@st.composite
def edited(draw: st.DrawFn, data: bytes, spans: list[tuple[int, int]]) -> bytes:
    """The bytes with a few of them changed, removed or repeated, in one of the spans."""
    content = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        start, stop = draw(st.sampled_from(spans))
        place = min(draw(st.integers(start, max(start, stop - 1))), max(0, len(content) - 1))
        match draw(st.sampled_from(["bit", "byte", "cut", "repeat", "truncate"])):
            case "bit":
                content[place] ^= 1 << draw(st.integers(0, 7))
            case "byte":
                content[place] = draw(st.sampled_from([0, 9, 10, 27, 32, 39, 48, 57, 127, 128, 255]))
            case "cut":
                del content[place : place + draw(st.integers(1, 80))]
            case "repeat":
                content[place:place] = content[place : place + draw(st.integers(1, 80))]
            case "truncate" if draw(st.booleans()):
                del content[max(1, place) :]
        if not content:
            break
    return bytes(content)


# FITS


def plain_exposure(path: Path) -> Path:
    image, _ = scene(1, (48, 48))
    quality = fits.ImageHDU(np.zeros((48, 48), np.int16), name="DQ", ver=1)
    return write(path, science(image, CCDCHIP=2), quality, **ACS)


def compressed_exposure(path: Path) -> Path:
    image, _ = scene(1, (48, 48))
    hdu = fits.CompImageHDU(
        image.astype(np.int16), fits.Header({"BUNIT": "ELECTRONS"}), name="SCI", compression_type="RICE_1"
    )
    return write(path, hdu, **ACS)


def raw_frame(path: Path) -> Path:
    image, _ = scene(1, (48, 48))
    header = fits.Header({"GAIN": 1.2, "EXPTIME": 30.0, "BIASSEC": "[41:48,1:48]", "TRIMSEC": "[1:40,1:48]", "BUNIT": "ADU"})
    fits.PrimaryHDU(image.astype(np.uint16), header).writeto(path)
    return path


FITS = {}


@pytest.fixture(scope="module", autouse=True)
def small_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    for make in (plain_exposure, compressed_exposure, raw_frame):
        FITS[make.__name__] = make(folder / f"{make.__name__}.fits").read_bytes()


VALUES = [
    "1E400", "-1E400", "NaN", "1E308", "9" * 60, "-1", "0", "1", "2", "T", "F", "''", "'a'", "'\x1b[31mred'",
    "'a\nb'", "'\xe9'", "99999999999", "'[1:1,1:1]'", "'[0:99999999999,1:2]'", "1E-320", "(1,2)", "'ELECTRONS'",
    "'COUNTS/S'", "32768", "8", "-64",
]  # fmt: skip
KEYWORDS = [
    "SIMPLE", "BITPIX", "NAXIS", "NAXIS1", "NAXIS2", "PCOUNT", "GCOUNT", "BSCALE", "BZERO", "BLANK", "EXTNAME", "EXTVER",
    "BUNIT", "EXPTIME", "GAIN", "CCDGAIN", "SATURATE", "BIASSEC", "TRIMSEC", "DATASEC", "NEXTEND", "PIXVALUE", "CRVAL1",
    "XTENSION", "TFIELDS", "TFORM1", "ZIMAGE", "ZBITPIX", "ZNAXIS", "ZNAXIS1", "ZNAXIS2", "ZTILE1", "ZTILE2", "ZCMPTYPE",
    "ZVAL1", "THEAP",
    "TELESCOP", "INSTRUME", "FILTER1", "CCDCHIP", "CHECKSUM", "DATASUM", "NCOMBINE", "A_ORDER", "INHERIT", "ROOTNAME",
]  # fmt: skip


@st.composite
def with_other_cards(draw: st.DrawFn, data: bytes) -> bytes:
    """The bytes with the values of some cards replaced, or with cards more."""
    content = bytearray(data)
    cards = [place for place in range(0, len(content), 80) if content[place : place + 10][8:10] == b"= "]
    for _ in range(draw(st.integers(1, 4))):
        keyword, value = draw(st.sampled_from(KEYWORDS)), draw(st.sampled_from(VALUES))
        same = [place for place in cards if content[place : place + 8].decode("latin-1").strip() == keyword]
        place = draw(st.sampled_from(same or cards))
        card = f"{keyword:8}= {value:>20}"[:80].ljust(80).encode("latin-1")
        content[place : place + 80] = card
    return bytes(content)


def clean(data: bytes, folder: Path) -> None:
    path = folder / "x.fits"
    path.write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with suppress(DeepcrZooError):
            clean_file(path, SMALL, "medmask", overwrite=True, prob=True)


def damaged_fits():
    def damage(name: str):
        data = FITS[name]
        headers = [(place, place + 2880) for place in range(0, len(data), 2880) if b"= " in data[place : place + 400]]
        return st.one_of(with_other_cards(data), edited(data, headers), edited(data, [(0, len(data))]))

    return st.sampled_from([plain_exposure.__name__, compressed_exposure.__name__, raw_frame.__name__]).flatmap(damage)


@fuzzed(FEW)
@given(damaged_fits())
def test_a_damaged_fits_file_is_cleaned_or_refused(tmp_path, data):
    clean(data, tmp_path)


@pytest.mark.slow
@fuzzed(MANY // 4)
@given(damaged_fits())
def test_hundreds_of_damaged_fits_files_are_cleaned_or_refused(tmp_path, data):
    clean(data, tmp_path)


# Documents

DOCUMENTS = {
    Card: MODEL.card_path.read_bytes(),
    ModelEntry: (MODEL.root / "zoo" / f"{SMALL}.yaml").read_bytes(),
    Preferences: (MODEL.root / "zoo" / "preferences.yaml").read_bytes(),
    Recipe: find_recipe("acs-wfc-f606w-2-4").read_bytes(),
    Results: b"measurements: []\nparity: []\n",
    Configuration: b"registries:\n  keck: {root: /x, mirror: ~nosuchuser/x}\n",
}
SCALARS = [
    "0x" + "f" * 5000, "0b" + "1" * 5000, "1" + ":59" * 200, "1" + ":59" * 400 + ".5", ".inf", ".nan", "1e400",
    "9" * 5000, "-0", "2026-13-45", "2026-11-28T25:00:00", "!!binary 'x'", "!!set {a}", "!!timestamp x", "!!int x",
    "!!float x", "!!bool x", "~", "''", "<<", "*a", "&a b", "{a: b}", "[1]", "? a", "'\\0'", '"\\0"', '"\\ud800"',
    '"\\e[31m"', "x" * 5000, "=", "!!omap [a]", "!!pairs [a]",
]  # fmt: skip
JSON_VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=20),
        st.sampled_from([10**400, -(10**400), 1e308, ""]),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    max_leaves=6,
)


@st.composite
def other_documents(draw: st.DrawFn) -> tuple[type, bytes]:
    """A document with another value in one place, or with a few other bytes."""
    schema = draw(st.sampled_from(list(DOCUMENTS)))
    text = DOCUMENTS[schema]
    if draw(st.booleans()):
        return schema, draw(edited(text, [(0, len(text))]))
    lines = text.decode().splitlines()
    valued = [number for number, line in enumerate(lines) if ": " in line and not line.lstrip().startswith("#")]
    number = draw(st.sampled_from(valued))
    lines[number] = f"{lines[number].split(': ')[0]}: {draw(st.sampled_from(SCALARS))}"
    return schema, "\n".join(lines).encode(errors="surrogatepass")


def parse(given: tuple[type, bytes]) -> None:
    schema, text = given
    try:
        parse_document(text, schema, "mine")
    except DeepcrZooError as error:
        assert all(len(line) < 1000 and "\n" not in line for line in error.args)  # noqa: PT017


@fuzzed(FEW)
@given(other_documents())
def test_a_damaged_document_is_read_or_refused(given):
    parse(given)


@pytest.mark.slow
@fuzzed(MANY)
@given(other_documents())
def test_thousands_of_damaged_documents_are_read_or_refused(given):
    parse(given)


@fuzzed(FEW)
@given(
    st.sampled_from(["name", "data.visits", "train.schedule.learning_rate", "a.b", "instrument.filters"]),
    st.sampled_from(SCALARS),
)
def test_any_value_of_a_setting_is_read_or_refused(field, value):
    try:
        read_recipe(find_recipe("acs-wfc-f606w-2-4"), [f"{field}={value}"])
    except DeepcrZooError as error:
        assert len(str(error)) < 5000  # noqa: PT017


@fuzzed(FEW)
@given(JSON_VALUES, st.sampled_from(sorted(BenchmarkResults.model_fields)))
def test_any_json_is_read_as_results_or_refused(tmp_path, value, key):
    path = tmp_path / "results.json"
    for content in (value, {key: value}):
        path.write_text(json.dumps(content))
        with pytest.raises(DeepcrZooError):
            read_results(path)


# Safetensors

TENSORS = {name: sources.fetch(MODEL, name).data for name in (WEIGHTS_FILE, TEST_VECTOR_FILE)}


@st.composite
def other_tensors(draw: st.DrawFn) -> tuple[str, bytes]:
    """A file of tensors with another header, or with a few other bytes."""
    name = draw(st.sampled_from(list(TENSORS)))
    data = TENSORS[name]
    length = struct.unpack_from("<Q", data)[0]
    if draw(st.booleans()):
        return name, draw(edited(data, [(0, 8), (8, 8 + length), (8 + length, len(data))]))
    header = json.loads(data[8 : 8 + length])
    tensor = draw(st.sampled_from(sorted(header)))
    fact = draw(st.sampled_from(["dtype", "shape", "data_offsets"]))
    header[tensor] = draw(JSON_VALUES) if draw(st.booleans()) else {**header[tensor], fact: draw(JSON_VALUES)}
    text = json.dumps(header).encode()
    return name, struct.pack("<Q", len(text)) + text + data[8 + length :]


def read_tensors(given: tuple[str, bytes]) -> None:
    name, data = given
    try:
        if name == WEIGHTS_FILE:
            weights.read_state(data, MODEL.locked.architecture, "mask", "mine")
        else:
            testvectors.read(data, "mine")
    except DeepcrZooError as error:
        assert len(str(error)) < 1000  # noqa: PT017


@fuzzed(FEW)
@given(other_tensors())
def test_a_damaged_file_of_tensors_is_read_or_refused(given):
    read_tensors(given)


@pytest.mark.slow
@fuzzed(MANY)
@given(other_tensors())
def test_thousands_of_damaged_files_of_tensors_are_read_or_refused(given):
    read_tensors(given)
