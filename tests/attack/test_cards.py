"""Claims of a card that can be computed are computed; documents are bounded, and errors about them are short."""

from __future__ import annotations

import math
import os
import re
import time
import tracemalloc

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from deepcr_zoo import batch, locations
from deepcr_zoo.dataset.visits import find_files
from deepcr_zoo.documents import MOST_BYTES, Document, as_yaml, first_problem, parse_document, parse_yaml, read_document
from deepcr_zoo.errors import InvalidDocumentError, InvalidWeightsError, UsageError
from deepcr_zoo.models.model import load_files
from deepcr_zoo.simulate.visits import visit_of, write
from deepcr_zoo.zoo import sources
from deepcr_zoo.zoo.cards import Card
from deepcr_zoo.zoo.recipe import Recipe
from deepcr_zoo.zoo.recipefiles import find_recipe, read_recipe
from deepcr_zoo.zoo.registries import default_registry
from deepcr_zoo.zoo.registry import WEIGHTS_FILE, ModelEntry
from deepcr_zoo.zoo.rendering import markdown_table
from tests.described import describe, settings_of, write_recipe
from tests.registries import SMALL

MODEL = default_registry().resolve(SMALL)
WEIGHTS = sources.fetch(MODEL, WEIGHTS_FILE).data


def card_with(place, value):
    content = yaml.safe_load(MODEL.card_path.read_bytes())
    *parents, last = place.split(".")
    block = content
    for name in parents:
        block = block[name]
    block[last] = value
    return yaml.safe_dump(content).encode()


@pytest.mark.parametrize(
    ("name", "place", "value"),
    [(SMALL, "input.halo", 0), (SMALL, "input.halo", 8), ("inpaint/ACS-WFC-F606W-3-32", "input.multiple", 2)],
)
def test_a_card_cannot_claim_less_context_than_its_network_needs(name, place, value):
    model = default_registry().resolve(name)
    content = yaml.safe_load(model.card_path.read_bytes())
    block, field = place.split(".")
    content[block][field] = value
    card = parse_document(yaml.safe_dump(content).encode(), Card, "mine")
    data = sources.fetch(model, WEIGHTS_FILE).data
    with pytest.raises(InvalidWeightsError, match=rf"mine: {place}: expected \d+"):
        load_files(data, card, model.locked.architecture, "mine", "cpu")


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("test_vector.tolerance", 0.99),
        ("test_vector.tolerance", 0.002),
        ("training.sky_range", [3.0, 1.0]),
        ("instrument.exposure_time_s", [500.0, 20.0]),
        ("input.scale", 10**400),
    ],
)
def test_a_card_cannot_claim_what_makes_its_proof_worthless(place, value):
    with pytest.raises(InvalidDocumentError, match=f"mine: .*{place}|a number has at most"):
        parse_document(card_with(place, value), Card, "mine")


@pytest.mark.parametrize(
    "value",
    [
        "0x" + "f" * 5000,
        "0b" + "1" * 20_000,
        "1" + ":59" * 400,
        "1" + ":59" * 400 + ".5",
        "1" * 5000,
        "1." + "0" * 5000,
        "!!bool x",
    ],
    ids=lambda value: value[:6],
)
@pytest.mark.parametrize("schema", [Card, ModelEntry, Recipe])
def test_a_number_of_absurd_length_is_refused_in_one_short_sentence(value, schema):
    with pytest.raises(InvalidDocumentError) as raised:
        parse_document(f"name: {value}".encode(), schema, "mine")
    assert len(str(raised.value)) < 300


@pytest.mark.parametrize(
    "text", [b"a: 1" + b":1" * 499_000, b'a: "' + b"\n x" * 300_000 + b'"', b"a: !" + b"x" * 900_000 + b" 1"]
)
def test_a_document_within_the_bound_is_read_or_refused_within_seconds(text):
    started = time.process_time()
    try:
        parse_yaml(text[:MOST_BYTES], "mine")
    except InvalidDocumentError as error:
        assert len(str(error)) < 300  # noqa: PT017
    assert time.process_time() - started < 5


def test_an_error_repeats_at_most_one_line_of_a_document():
    text = b"identity:\n" + b"  secret: |\n" + b"    line\n" * 500 + b"more: " + b"x" * 100_000 + b"\n"
    with pytest.raises(InvalidDocumentError) as raised:
        parse_document(text, Card, "mine")
    assert all(len(line) < 400 for line in raised.value.args)
    assert len(raised.value.args) <= 21


def test_an_error_names_at_most_twenty_fields():
    text = "\n".join(f"key{number}: 1" for number in range(1000)).encode()
    with pytest.raises(InvalidDocumentError, match=r"mine: and \d{3} more problems$") as raised:
        parse_document(text, Card, "mine")
    assert len(raised.value.args) == 21


def test_keys_of_a_document_cannot_obey_a_terminal_or_fake_a_line():
    with pytest.raises(InvalidDocumentError) as raised:
        parse_document(b'"x\\n\\e[31mall is well": 1\nidentity: "\\e]0;t\\a"', Card, "mine")
    assert all(line.isprintable() for line in raised.value.args)


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")], ids=["pipe", "zero"])
def test_a_document_that_is_no_file_is_refused_at_once(make, tmp_path):
    make(tmp_path / "x.yaml")
    with pytest.raises(InvalidDocumentError, match=r"x\.yaml: cannot be read: is a (pipe|device), not a file"):
        read_document(tmp_path / "x.yaml", Card, tmp_path)
    with pytest.raises(InvalidDocumentError, match=r"x\.yaml: (cannot be read: is a pipe, not a file|expected a recipe)"):
        read_recipe(tmp_path / "x.yaml")


def test_a_document_of_ten_gigabytes_is_refused_before_it_is_read(tmp_path):
    with open(tmp_path / "x.yaml", "wb") as file:
        file.truncate(10**10)
    with pytest.raises(InvalidDocumentError, match=r"x\.yaml: cannot be read: has 10,000,000,000 bytes, at most 1,000,000"):
        read_document(tmp_path / "x.yaml", Card, tmp_path)


def test_a_setting_of_absurd_length_is_refused():
    with pytest.raises(InvalidDocumentError, match="a number has at most 100 digits"):
        read_recipe(find_recipe("acs-wfc-f606w-2-4"), ["train.seed=0x" + "f" * 5000])


def test_a_bar_or_a_line_break_ends_no_cell_of_a_table():
    table = markdown_table(["a", "b"], [["x|y", "one\n| two"]])
    assert table.splitlines()[2:] == [r"| x\|y | one \| two |"]


@pytest.mark.parametrize("field", ["data.product", "build.dark_paste.product"])
@pytest.mark.parametrize("value", ["/../../evil", "..", "a/b", "a b", "", "x" * 40, "a\\b"])
def test_a_recipe_cannot_lead_files_that_are_written_elsewhere(field, value):
    with pytest.raises(InvalidDocumentError, match=rf"--set {field}.*: {field}: expected .*pattern"):
        read_recipe(find_recipe("acs-wfc"), [f"{field}={value!r}"])


@pytest.mark.parametrize(
    "setting",
    [
        "instrument.pixel_size_um=1.0e+5",
        "instrument.pixel_scale_arcsec=1.0e+9",
        "instrument.silicon_um=1.0e+9",
        "instrument.dark_electron_s=1.0e+30",
        "instrument.read_noise_electron=1.0e+300",
        "instrument.gain_electron_per_count=1.0e-300",
        "rehearsal.exposure_time_s={extragalactic: 1.0e+9}",
        "instrument.simulation={muons_per_cm2_min: 1.0e+9}",
        "instrument.simulation={dither_pixels: 1.0e+9}",
    ],
)
def test_a_recipe_cannot_describe_what_no_camera_is(setting):
    field = setting.partition("=")[0]
    with pytest.raises(InvalidDocumentError, match=f"{field}.*: expected (less|greater) than"):
        read_recipe(find_recipe("acs-wfc"), [setting])
    assert read_recipe(find_recipe("acs-wfc")).task == "mask"


class Texts(Document):
    texts: list[str]


@given(st.lists(st.text(st.sampled_from("\n\r\t \x85\u2028\x1b\0#:-'\"|>&ab"), max_size=6), max_size=3))
def test_any_text_that_is_written_is_read_back(texts):
    assert parse_document(as_yaml(Texts(texts=texts)), Texts, "mine").texts == texts


@pytest.mark.parametrize(
    ("settings", "seconds", "problem"),
    [
        (["instrument.simulation.muons_per_cm2_min=1.0e+6"], 1e6, r"expected at most 1e\+07; lower the rate"),
        (["instrument.simulation.compton_electrons_per_cm2_min=1.0e+6"], 1e6, "Compton electrons: expected at most"),
        (["instrument.simulation.alphas_per_cm2_day=1.0e+6"], 1e5, "deposits of alpha particles: expected at most"),
        (
            ["instrument.simulation.site=orbit", "instrument.cosmic_rays_per_cm2_s=10000.0"],
            1e4,
            "cosmic rays: expected at most",
        ),
        (["instrument.silicon_um=10000.0"], 1e6, "collisions of cosmic rays: expected at most"),
        (["instrument.pixel_scale_arcsec=10000.0"], 100.0, "stars: expected at most"),
        (["instrument.chip_shape=[65536, 65536]", "instrument.simulation.binning=[32, 32]"], 100.0, "GB of memory are free"),
        ([], 1e7, r"exposure_time_s: expected > 0 and at most 1e\+06"),
        ([], math.inf, "exposure_time_s: expected > 0"),
        ([], math.nan, "exposure_time_s: expected > 0"),
    ],
)
def test_a_recipe_cannot_make_the_simulator_take_all_memory(settings, seconds, problem, tmp_path, monkeypatch):
    describe(settings_of(tmp_path / "settings", monkeypatch) / "my.yaml")
    recipe = read_recipe(write_recipe(tmp_path / "r.yaml"), settings)
    side = None if "65536" in str(settings) else 256
    with pytest.raises(UsageError, match=problem):
        write(visit_of(recipe, "extragalactic", 5, 1, seconds, side), tmp_path / "visit")
    assert not (tmp_path / "visit").exists()


@pytest.mark.parametrize("pattern", ["**/x/**/*.fits", "**/../**/*.fits", "*/../*/../*/../*.fits", "**/../x.fits[1]"])
def test_wildcards_that_visit_a_folder_many_times_are_refused(pattern, tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "a.fits").touch()
    place = f"{tmp_path}/{pattern}"
    (tmp_path / "list.txt").write_text(place)
    expected = "expected one ** at most, and no .. after a wildcard: name the folders"
    assert batch.expand([f"@{tmp_path / 'list.txt'}"]).empty == {place: expected}
    with pytest.raises(UsageError, match=re.escape(f"{place}: {expected}")):
        find_files([place], "*")


def test_wildcards_for_all_folders_follow_no_links_in_circles(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.fits").touch()
        for other in "cdefgh":
            (tmp_path / name / other).symlink_to(tmp_path)
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "x.fits").touch()
    expected = [str(tmp_path / name / "x.fits") for name in "ab"]
    assert batch.wildcard_files(f"{tmp_path}/**/*.fits") == batch.wildcard_files(f"{tmp_path}/**") == expected


def test_wildcards_that_meet_links_to_the_same_folder_search_it_once(tmp_path):
    (tmp_path / "x.fits").touch()
    for name in "abcdefgh":
        (tmp_path / name).symlink_to(tmp_path)
    assert batch.wildcard_files(f"{tmp_path}/{'*/' * 12}*.fits") == [f"{tmp_path}/{'a/' * 12}x.fits"]


def test_a_pattern_of_many_folders_ends(tmp_path):
    (tmp_path / "a").symlink_to(tmp_path)
    assert batch.wildcard_files(f"{tmp_path}/{'*/' * 1500}x.fits") == []


@pytest.mark.parametrize("name", ["a" * 100_000, "x.fits" + "[a]" * 30_000 + "x", "a:" * 50_000, "https://" + "b" * 100_000])
def test_a_name_of_any_length_in_a_list_costs_nothing(name, tmp_path):
    (tmp_path / "list.txt").write_text(name)
    begun = time.process_time()
    assert set(batch.expand([f"@{tmp_path / 'list.txt'}"]).empty.values()) == {"no file can have this name"}
    locations.without_address(name)
    assert time.process_time() - begun < 5


def test_a_list_asks_for_few_searches(tmp_path):
    (tmp_path / "x[1].fits").touch()
    items = [f"{tmp_path}/x[1].fits", *(f"{tmp_path}/{number}*" for number in range(101))]
    (tmp_path / "list.txt").write_text("\n".join(items))
    with pytest.raises(UsageError, match="expected at most 100 names with wildcards, got 101"):
        batch.expand([f"@{tmp_path / 'list.txt'}"])
    (tmp_path / "list.txt").write_text("\n".join(items[:-1]))
    assert batch.expand([f"@{tmp_path / 'list.txt'}"]).paths == [f"{tmp_path}/x[1].fits"]


def test_keys_of_one_hash_are_refused_at_once():
    begun = time.process_time()
    with pytest.raises(InvalidDocumentError, match="a number as key is 1,152,921,504,606,846,976 at most"):
        parse_yaml("".join(f"{n * (2**61 - 1)}: 1\n" for n in range(1, 25_000)), "x.yaml")
    assert time.process_time() - begun < 10


def test_a_recipe_names_few_folders():
    with pytest.raises(InvalidDocumentError, match=r"data\.files: .*1000"):
        read_recipe(find_recipe("wfc3-uvis"), [f"data.files={['/*'] * 1001}"])


def test_a_number_that_is_a_mapping_is_refused():
    with pytest.raises(InvalidDocumentError, match="expected a number"):
        parse_yaml('a: !!int {=: "' + "1:" * 5000 + '1"}', "x.yaml")


def test_several_wildcards_for_all_folders_in_a_row_are_one(tmp_path):
    deep = tmp_path.joinpath(*"abcdefghijklmnopqrst")
    deep.mkdir(parents=True)
    (deep / "a.fits").touch()
    place = f"{tmp_path}/{'**/' * 30}*.fits"
    assert batch.expand([place]).paths == [str(deep / "a.fits")]
    assert find_files([place], "*") == [deep / "a.fits"]


def test_a_long_path_of_a_setting_is_one_sentence():
    with pytest.raises(UsageError, match=r"expected path\.to\.field=VALUE"):
        read_recipe(find_recipe("acs-wfc-f606w"), ["train" + ".a" * 3000 + "=1"])


def test_recipes_that_extend_each_other_without_end_are_not_all_read(tmp_path):
    for number in range(200):
        (tmp_path / f"{number}.yaml").write_text(f"extends: {number + 1}.yaml\n")
    with pytest.raises(InvalidDocumentError, match="expected at most 20 recipes that extend each other"):
        read_recipe(tmp_path / "0.yaml")


class Listed(Document):
    numbers: list[int]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"numbers": [' + ",".join(["null"] * 100_000) + "]}", "numbers.0: "),
        ("{" + ",".join(f'"{number}": 0' for number in range(100_000)) + "}", "100,001 wrong values"),
    ],
)
def test_errors_of_many_wrong_values_take_no_more_memory_than_the_values(text, told):
    tracemalloc.start()
    try:
        with pytest.raises(ValidationError) as error:
            Listed.model_validate_json(text)
        assert first_problem(error.value).startswith(told)
        assert tracemalloc.get_traced_memory()[1] < 40 * len(text)
    finally:
        tracemalloc.stop()
