import hashlib
import re

import pytest

import deepcr_zoo
from deepcr_zoo import locations
from deepcr_zoo.errors import InvalidDocumentError, UnknownModelError
from deepcr_zoo.zoo.cards import read_card
from deepcr_zoo.zoo.registries import default_registry
from deepcr_zoo.zoo.registry import read_registry
from tests.conftest import ALL_MODELS
from tests.published_networks import PUBLISHED
from tests.registries import copy_registry, edit_entry


def resolve(name):
    return default_registry().resolve(name)


def test_the_registry_holds_the_ten_published_networks():
    assert set(PUBLISHED) <= set(ALL_MODELS)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_network_is_the_published_file_with_its_unit_scale_and_threshold(name):
    card = read_card(resolve(name))
    assert card.provenance.upstream is not None
    found = card.provenance.upstream.file_sha256, card.input.unit, card.input.scale, card.input.normalisation
    assert (*found, card.output.threshold) == PUBLISHED[name]


def test_the_default_of_every_published_model_is_its_version_1_0():
    assert {resolve(name.partition("@")[0]).version for name in PUBLISHED} == {"1.0"}


@pytest.mark.parametrize("name", ALL_MODELS)
def test_the_bundled_seed_is_what_the_registry_locked(name):
    model = resolve(name)
    folder = locations.data_root() / "zoo" / "weights" / model.folder
    for filename in ("model.safetensors", "test_vector.safetensors"):
        data = (folder / filename).read_bytes()
        assert model.locked_file(filename).mismatch(data) is None
        assert hashlib.sha256(data).hexdigest() == model.locked_file(filename).sha256


def test_the_papers_own_example_resolves_to_the_papers_network():
    assert resolve("ACS-WFC-F606W-2-32").reference == "mask/ACS-WFC-F606W-2-32@1.0"


def test_an_unqualified_name_means_mask_where_a_mask_model_has_it_else_inpaint():
    assert resolve("ACS-WFC-F606W-2-32").entry.task == "mask"
    assert resolve("ACS-WFC-F606W-3-32").entry.task == "inpaint"
    assert resolve("inpaint/ACS-WFC-F606W-2-32").entry.task == "inpaint"


@pytest.mark.parametrize(
    ("alias", "reference"),
    [
        ("ACS-WFC", "mask/ACS-WFC-2-32@1.0"),
        ("WFC3-UVIS", "mask/WFC3-UVIS-2-32@1.0"),
        ("decam", "mask/DECam-2-32@1.0"),
        ("ACS-WFC-F435W", "mask/ACS-WFC-F435W-2-32@1.0"),
        ("ACS-WFC-F606W", "mask/ACS-WFC-F606W-2-32@2.0"),
        ("ACS-WFC-F814W", "mask/ACS-WFC-F814W-2-32@1.0"),
    ],
)
def test_upstreams_names_resolve_with_a_note(alias, reference):
    model = resolve(alias)
    assert model.reference == reference
    assert any("alias" in note for note in model.notes)


def test_what_was_left_open_is_told():
    assert "version 1.0 is the default (there is also 2.0)" in resolve("mask/ACS-WFC-F606W-2-32").notes
    assert "version 2.0 is the newest 2.x" in resolve("ACS-WFC-F606W-2-32@2").notes
    assert resolve("mask/ACS-WFC-F606W-2-32@2.0").notes == ()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ACS-WFC-F606W-2-33", "did you mean ACS-WFC-F606W-2-32"),
        ("inpaint/ACS-WFC", "did you mean inpaint/ACS-WFC-F606W"),
        ("DECAM", "did you mean decam"),
        ("mask/ACS-WFC-F606W-3-32", "did you mean inpaint/ACS-WFC-F606W-3-32?"),
        ("ACS-WFC-F606W-2-32@3", "has no version 3; it has 1.0, 2.0"),
        ("ACS-WFC-F606W-2-32@1.1", "has no version 1.1"),
        ("ACS-WFC-F606W@1.0", "alias of mask/ACS-WFC-F606W-2-32@2.0 alone"),
        ("gemini:GMOS", "no registry called 'gemini'"),
        ("zzzzzz", r"zzzzzz: no such model; run 'deepcr-zoo list'"),
    ],
)
def test_an_unknown_name_fails_and_shows_the_way_out(name, message):
    with pytest.raises(UnknownModelError, match=re.escape(message) if "'deepcr" not in message else message):
        resolve(name)


def test_a_major_version_means_the_newest_of_it(tmp_path):
    root = copy_registry(tmp_path)

    def add_versions(entry):
        entry["versions"] |= dict.fromkeys(("1.9", "1.10", "2.0"), entry["versions"]["1.0"])

    edit_entry(root, add_versions)
    registry = read_registry(root)
    assert registry.resolve("ACS-WFC-F606W-2-4@1").version == "1.10"
    assert registry.resolve("ACS-WFC-F606W-2-4").version == "1.0"


def test_models_are_listed_by_wildcard_in_stable_order():
    assert deepcr_zoo.list_models("inpaint/*") == [
        "inpaint/ACS-WFC-F606W-2-32",
        "inpaint/ACS-WFC-F606W-3-32",
        "inpaint/CCD-ANY-3-16",
    ]
    assert deepcr_zoo.list_models("WFC3*") == ["mask/WFC3-UVIS-2-32"]
    assert deepcr_zoo.list_models("nothing") == []
    assert deepcr_zoo.list_models("decam") == ["mask/DECam-2-32"]
    assert set(deepcr_zoo.list_models()) == {name.partition("@")[0] for name in ALL_MODELS}


@pytest.mark.parametrize(
    ("exposure", "first"),
    [
        (("mask", "HST", "ACS", "WFC", "F606W"), "mask/ACS-WFC-2-32"),
        (("mask", "HST", "ACS", "WFC", "F775W"), "mask/ACS-WFC-2-32"),
        (("inpaint", "HST", "ACS", "WFC", "F814W"), "inpaint/ACS-WFC-F606W-2-32"),
        (("mask", "HST", "WFC3", "UVIS", "F336W"), "mask/WFC3-UVIS-2-32"),
        (("mask", "CTIO 4.0-m telescope", "DECam", "S1", "g"), "mask/DECam-2-32"),
    ],
)
def test_an_exposure_gets_the_preferred_model_with_a_reason(exposure, first):
    ranking = default_registry().ranking(*exposure)
    assert ranking[0].model == first
    assert ranking[0].reason


def test_every_model_has_its_place_in_the_preferences():
    registry = default_registry()
    ranked = {
        model.model for models in (*(block.models for block in registry.preferences), registry.foreign) for model in models
    }
    assert ranked == set(default_registry().entries)


def test_an_unknown_instrument_gets_no_model():
    assert default_registry().ranking("mask", "HST", "WFC3", "IR", "F160W") == []
    assert default_registry().ranking("inpaint", "HST", "WFC3", "UVIS", "F336W") == []


def pin_another_repository(entry):
    entry["versions"]["1.0"]["sources"]["hub"] = {"repo": "deepcr-zoo/mask-other", "commit": "0" * 40}


def break_version(entry):
    entry["versions"]["1.0"]["weights"]["sha256"] = "abc"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (break_version, r"zoo/mask/ACS-WFC-F606W-2-4.yaml: versions.1.0.weights.sha256: expected .*, got 'abc'"),
        (lambda e: e.update(defualt="1.0"), r"defualt: expected no such key; remove it or correct its name"),
        (lambda e: e.pop("summary"), r"summary: expected a value, got none; add the key"),
        (lambda e: e.update(default="3.0"), r"expected a version among 1.0 wherever one is named, not 3.0"),
        (
            pin_another_repository,
            r"expected a Hub repository ORG/mask-ACS-WFC-F606W-2-4 at versions.1.0, not deepcr-zoo/mask-oth",
        ),
        (lambda e: e.update(name="other"), r"expected mask/ACS-WFC-F606W-2-4, got mask/other"),
        (lambda e: e.update(default=1.0), r"default: expected a text, got the number 1.0; put it in quotes"),
        (
            lambda e: e["versions"]["1.0"]["weights"].update(size="11028"),
            r"weights.size: expected a valid integer, got '11028'",
        ),
    ],
)
def test_a_broken_entry_is_refused_with_file_field_value_and_expectation(tmp_path, change, message):
    root = copy_registry(tmp_path)
    edit_entry(root, change)
    with pytest.raises(InvalidDocumentError, match=message):
        read_registry(root)


def test_an_entry_has_no_aliases_without_bound(tmp_path):
    root = copy_registry(tmp_path)
    edit_entry(root, lambda entry: entry.update(aliases=[{"name": f"A{number}", "note": "x"} for number in range(1001)]))
    with pytest.raises(InvalidDocumentError, match=r"aliases: expected .*1000"):
        read_registry(root)


def test_two_entries_cannot_share_an_alias(tmp_path):
    root = copy_registry(tmp_path, "mask/ACS-WFC-2-32", "mask/DECam-2-32")
    edit_entry(root, lambda e: e["aliases"].append({"name": "decam", "note": "taken"}), "mask/ACS-WFC-2-32")
    with pytest.raises(InvalidDocumentError, match="aliases: expected an unused name, got 'decam'"):
        read_registry(root)


def test_a_preference_must_name_a_model_of_its_task(tmp_path):
    root = copy_registry(tmp_path)
    (root / "zoo" / "preferences.yaml").write_text(
        "preferences:\n- {task: inpaint, telescope: HST, instrument: ACS, detector: WFC, filters: ['*'], "
        "models: [{model: mask/ACS-WFC-F606W-2-4, reason: none}]}\n"
    )
    with pytest.raises(InvalidDocumentError, match="expected a model of this registry for the task inpaint"):
        read_registry(root)


@pytest.mark.parametrize("name", ["CCD-ANY-3-16", "mask/no-such-model", "inpaint/no-such-model"])
def test_a_network_for_any_camera_must_be_one_of_the_registry(name, tmp_path):
    root = copy_registry(tmp_path)
    (root / "zoo" / "preferences.yaml").write_text(f"preferences: []\nforeign: [{{model: {name}, reason: none}}]\n")
    with pytest.raises(InvalidDocumentError, match=r"preferences.yaml: .*(expected a model of this registry|pattern)"):
        read_registry(root)


def test_a_key_that_stands_twice_is_refused(tmp_path):
    root = copy_registry(tmp_path)
    path = root / "zoo" / "mask" / "ACS-WFC-F606W-2-4.yaml"
    path.write_text(path.read_text() + 'default: "2.0"\n')
    with pytest.raises(InvalidDocumentError, match="the key 'default' stands twice"):
        read_registry(root)


def test_names_cannot_differ_in_capitals_alone(tmp_path):
    root = copy_registry(tmp_path, "mask/ACS-WFC-2-32", "mask/DECam-2-32")
    edit_entry(root, lambda e: e["aliases"].append({"name": "decam-2-32", "note": "taken"}), "mask/ACS-WFC-2-32")
    with pytest.raises(InvalidDocumentError, match="aliases: expected an unused name, got 'decam-2-32'"):
        read_registry(root)


@pytest.mark.parametrize("field", ["warning", "deprecated"])
def test_a_caution_has_a_bound(field, tmp_path):
    root = copy_registry(tmp_path)
    edit_entry(root, lambda e: e["versions"]["1.0"].update({field: "x" * 501}))
    with pytest.raises(InvalidDocumentError, match=f"{field}: expected String should have at most 500 characters"):
        read_registry(root)
