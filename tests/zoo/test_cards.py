import typing

import pytest
from pydantic import BaseModel

from deepcr_zoo import locations
from deepcr_zoo.errors import IntegrityError, InvalidDocumentError
from deepcr_zoo.zoo.cards import Card, find_open_points, read_card
from deepcr_zoo.zoo.registries import default_registry
from deepcr_zoo.zoo.registry import read_registry
from tests.conftest import ALL_MODELS
from tests.registries import SMALL, copy_registry, edit_card


@pytest.mark.parametrize("name", ALL_MODELS)
def test_every_version_has_a_valid_card_that_the_registry_locked(name):
    model = default_registry().resolve(name)
    card = read_card(model)
    assert f"{card.identity.task}/{card.identity.name}@{card.identity.version}" == model.reference
    assert (locations.data_root() / card.licence.file).is_file()
    assert card.citation[0].doi in card.citation[0].bibtex
    assert 2 ** (model.locked.architecture.depth - 1) == card.input.multiple
    # what a pixel can reach: two 3x3 convolutions per block, doubled at each lower resolution, and the upsampling
    reach = {2: 2 + 4 + 2 + 1, 3: 2 + 4 + 8 + 4 + 2 + 2}[model.locked.architecture.depth]
    assert card.input.halo >= reach


def test_a_card_on_disk_without_an_entry_is_noticed():
    folder = locations.data_root() / "cards"
    on_disk = {str(path.relative_to(folder)) for path in folder.rglob("*.yaml")}
    known = {str(default_registry().resolve(name).folder) for name in ALL_MODELS}
    recipes = {name for name in on_disk if name.endswith(".recipe.yaml")}  # of networks that this project has trained
    trained = {name.removesuffix(".recipe.yaml") for name in recipes}
    assert trained <= known
    without_thresholds = {name for name in trained if name.startswith("inpaint/")}
    results = {f"{name}.results.yaml" for name in known - without_thresholds}
    assert on_disk - recipes == {f"{name}.yaml" for name in known} | results


def schemas(schema):
    yield schema
    for field in schema.model_fields.values():
        for part in (field.annotation, *typing.get_args(field.annotation)):
            if isinstance(part, type) and issubclass(part, BaseModel):
                yield from schemas(part)


@pytest.mark.parametrize("schema", [*schemas(Card)])
def test_every_field_of_a_card_has_a_documented_meaning(schema):
    assert all(field.description for field in schema.model_fields.values())


def test_published_figures_are_marked_as_published_and_carry_their_source():
    for name in ALL_MODELS:
        for evaluation in read_card(default_registry().resolve(name)).published_evaluation:
            assert evaluation.note.startswith("Published figures, not measured here.")
            assert "20" in evaluation.source


def test_inpainting_cards_say_what_repainted_values_are_worth_in_photometry():
    for name in ALL_MODELS:
        card = read_card(default_registry().resolve(name))
        assert (card.identity.task == "inpaint") == any("photometry" in limit for limit in card.limits)


def set_in(path, value):
    def change(card):
        *parents, last = (int(key) if key.isdecimal() else key for key in path.split("."))
        for parent in parents:
            card = card[parent]
        if value is None:
            del card[last]
        else:
            card[last] = value

    return change


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("input.unit", "photons", "input.unit: expected 'electron', 'adu' or 'any', got 'photons'"),
        ("input.scale", -1.0, "input.scale: expected greater than 0, got -1.0"),
        ("input.scale", float("inf"), "input.scale: expected a finite number, got inf"),
        ("output.threshold", 1.5, "output.threshold: expected less than or equal to 1, got 1.5"),
        (
            "output.threshold",
            None,
            "the document: expected output.threshold and output.threshold_choice exactly if identity.task is mask",
        ),
        ("licence", None, "licence: expected a value, got none; add the key"),
        ("training.secret", "x", "training.secret: expected no such key; remove it or correct its name"),
        ("provenance.kind", "trained", "provenance: expected an upstream file exactly if kind is imported"),
        (
            "published_evaluation.0.figures.0.metric",
            "TPR at FPR 0.05 % (%)",
            "published_evaluation.0.figures.0.unit: expected a value, got none; add the key",
        ),
        ("identity.version", "1.1", f"identity: expected {SMALL}@1.0, got {SMALL}@1.1"),
    ],
)
def test_a_card_that_breaks_the_schema_fails_with_file_field_value_and_expectation(tmp_path, path, value, message):
    root = copy_registry(tmp_path)
    edit_card(root, set_in(path, value))
    with pytest.raises(InvalidDocumentError) as raised:
        read_card(read_registry(root).resolve(SMALL))
    assert str(raised.value) == f"cards/{SMALL}/1.0.yaml: {message}"


def test_placeholders_are_open_points_and_their_field_is_named():
    card = read_card(default_registry().resolve(SMALL))
    assert find_open_points(card) == []
    todo = ["TODO", " tbd\n", "FixMe", "xxx", "?", "..."]
    assert find_open_points(card.model_copy(update={"limits": ["TODO is no limit", *todo]})) == [
        f"limits.{index}: {text!r} is a placeholder" for index, text in enumerate(todo, start=1)
    ]
    identity = card.identity.model_copy(update={"title": "TODO"})
    draft = card.model_copy(update={"identity": identity, "open_points": ["licence.file: the text of GPL-3.0"]})
    assert find_open_points(draft) == ["licence.file: the text of GPL-3.0", "identity.title: 'TODO' is a placeholder"]


@pytest.mark.parametrize("text", ["? [a, b]\n: 1\n", "{{ name }}: 1\n"])
def test_a_key_that_is_no_plain_value_is_refused(tmp_path, text):
    root = copy_registry(tmp_path)
    (root / "cards" / SMALL / "1.0.yaml").write_text(text)
    with pytest.raises(InvalidDocumentError, match="a key must be a plain value"):
        read_card(read_registry(root).resolve(SMALL))


def test_a_card_that_was_edited_after_its_release_is_refused(tmp_path):
    root = copy_registry(tmp_path)
    card = root / "cards" / SMALL / "1.0.yaml"
    card.write_text(card.read_text().replace("scale: 100.0", "scale: 1.0"))
    with pytest.raises(IntegrityError, match="a card is frozen with its version"):
        read_card(read_registry(root).resolve(SMALL))


def test_a_missing_card_is_named(tmp_path):
    root = copy_registry(tmp_path)
    (root / "cards" / SMALL / "1.0.yaml").unlink()
    with pytest.raises(InvalidDocumentError, match=r"cards/.*1\.0\.yaml: cannot be read: No such file"):
        read_card(read_registry(root).resolve(SMALL))


def test_a_card_that_is_not_yaml_is_named(tmp_path):
    root = copy_registry(tmp_path)
    (root / "cards" / SMALL / "1.0.yaml").write_bytes(b"\xff\xfe: [")
    with pytest.raises(InvalidDocumentError, match="expected a YAML document"):
        read_card(read_registry(root).resolve(SMALL))
