"""Reading of recipe files: a recipe may extend another, ``--set`` overrides fields, and errors name file and line."""

from __future__ import annotations

import os
import re
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

from deepcr_zoo import files, locations
from deepcr_zoo.documents import Place, brief, document_bytes, parse_yaml, shown, validate
from deepcr_zoo.errors import InvalidDocumentError, UsageError
from deepcr_zoo.zoo.recipe import Recipe
from deepcr_zoo.zoo.recipeinstruments import NAME, Content, fill_from_description

EXTENDS = "extends"  # key that names the recipe to start from: a shipped recipe, or a file relative to the one with the key
MOST_RECIPES, MOST_PARTS = 20, 20  # recipes that extend each other, and parts of the path of a field
VISITS: Place = ("data", "visits")  # place where null removes an inherited rule
Origins = dict[Place, str]  # origin of each field: ``FILE:LINE``, or the ``--set`` option


def shipped_recipes() -> dict[str, Path]:
    """Return the recipes that ship with this package, by name."""
    return {
        path.stem: path for path in sorted((locations.data_root() / "recipes").glob("*.yaml"), key=lambda path: path.stem)
    }


def find_recipe(given: str | Path) -> Path:
    """Return the file of a recipe.

    Parameters
    ----------
    given : path
        Path of a recipe, or the name of a shipped recipe.

    Returns
    -------
    Path

    Raises
    ------
    UsageError
        If there is no such file.
    """
    path, shipped = Path(given), shipped_recipes()
    if isinstance(given, str) and given in shipped:
        return shipped[given]  # whatever files others have put here: ./NAME means the file
    if path.is_file():
        return path
    if (name := str(given).removesuffix(".yaml")) in shipped:
        return shipped[name]
    where = locations.without_address(str(given))
    raise UsageError(f"{where}: no such file; the recipes that ship with this package are {', '.join(shipped)}")


def read_recipe(path: str | os.PathLike[str], settings: Sequence[str] = ()) -> Recipe:
    """Read a recipe and the recipes it extends.

    Parameters
    ----------
    path : path-like
    settings : sequence of str
        Overrides, ``path.to.field=VALUE``; the value is YAML.

    Returns
    -------
    Recipe

    Raises
    ------
    InvalidDocumentError
        If the recipe is invalid; the message names file, line, field, value and expectation.
    UsageError
        If a setting is not of the form ``path.to.field=VALUE``.
    """
    path = Path(path)
    outside = {path} if _is_outside(path, path) else set()  # by a link
    try:
        content, origins = _read(path, (), outside)
        for setting in settings:
            _merge(content, *_override(setting), origins)
        origin = origins.get(("instrument", NAME), str(path))
        fill_from_description(content, origin, {path.parent, Path(origin.rpartition(":")[0]).parent})
        return validate(content, Recipe, lambda place: _origin(place, origins, path))
    except InvalidDocumentError as error:
        raise InvalidDocumentError(*dict.fromkeys(_without_content(str(part), outside) for part in error.args)) from None


def _without_content(problem: str, outside: set[Path]) -> str:
    """Return a problem without what it repeats of files outside of the recipe's folder: a recipe of others may name any."""
    for path in outside:
        if where := re.match(rf"{re.escape(str(path))}(:\d+)?: ", problem):
            reason = "its content is not shown, since it lies outside of the recipe's folder"
            return f"{where[0]}expected a recipe, found what does not fit; {reason}"
    return problem


def _is_outside(path: Path, top: Path) -> bool:
    known = (top.parent, locations.data_root() / "recipes")
    return not any(files.lies_within(path, folder) for folder in known)


def _read(path: Path, ancestors: tuple[Path, ...], outside: set[Path]) -> tuple[Content, Origins]:
    if files.real_path(path) in map(files.real_path, ancestors):
        raise InvalidDocumentError(f"{path}: {EXTENDS}: expected another recipe, got one that extends this one")
    if len(ancestors) >= MOST_RECIPES:
        raise InvalidDocumentError(f"{path}: {EXTENDS}: expected at most {MOST_RECIPES} recipes that extend each other")
    content, lines = parse_yaml(document_bytes(path, path), path)
    if not isinstance(content, dict):
        raise InvalidDocumentError(f"{path}: expected a recipe, which starts with 'name: ...', got no mapping")
    if path in outside and not (content.keys() <= {EXTENDS, *Recipe.model_fields} and _has_text_keys(content)):
        raise InvalidDocumentError(f"{path}: expected a recipe")
    origins = {place: f"{path}:{line}" for place, line in lines.items()}
    base = content.pop(EXTENDS, None)
    if base is None:
        return content, origins
    beside = path.parent / str(base)
    where = beside if beside.is_file() else shipped_recipes().get(str(base).removesuffix(".yaml"), beside)
    if not isinstance(base, str) or not where.is_file():
        raise InvalidDocumentError(f"{origins[(EXTENDS,)]}: {EXTENDS}: expected another recipe's file, got {shown(base)}")
    if _is_outside(where, (*ancestors, path)[0]):
        outside.add(where)
    merged, inherited = _read(where, (*ancestors, path), outside)
    _merge(merged, content, origins, inherited)
    return merged, inherited


def _merge(base: Content, content: Mapping[Hashable, Any], origins: Origins, inherited: Origins, at: Place = ()) -> None:
    """Merge `content` into `base`: mappings are joined, other values are replaced."""
    for key, value in content.items():
        place = (*at, key)
        inherited[place] = origins.get(place) or origins.get((*at, str(key))) or inherited.get(place, "")
        old = base.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            _merge(old, value, origins, inherited, place)
        elif value is None and at == VISITS and key not in base:
            raise InvalidDocumentError(
                f"{inherited[place]}: {'.'.join(map(str, place))}: expected the name of an inherited rule"
            )
        else:
            base[key] = value
            for other in [other for other in inherited if len(other) > len(place) and other[: len(place)] == place]:
                del inherited[other]
            inherited.update({other: origin for other, origin in origins.items() if other[: len(place)] == place})


def _override(setting: str) -> tuple[Content, Origins]:
    field, equals, text = setting.partition("=")
    keys, origin = tuple(field.split(".")), f"--set {brief(locations.without_address(setting))}"
    if not equals or not all(keys) or len(keys) > MOST_PARTS:
        raise UsageError(f"{origin}: expected path.to.field=VALUE, as in train.schedule.batch_size=8")
    content, _ = parse_yaml(text, origin)
    for key in reversed(keys):
        content = {key: content}
    return content, {keys[:end]: origin for end in range(1, len(keys) + 1)}


def _has_text_keys(content: Any) -> bool:
    """True if all keys are texts, at any depth: the line of another one is not found again (`_origin`)."""
    if isinstance(content, dict):
        return all(isinstance(key, str) and _has_text_keys(value) for key, value in content.items())
    return not isinstance(content, list) or all(map(_has_text_keys, content))


def _origin(place: Place, origins: Origins, path: Path) -> str:
    """Return the origin of a field, or of the closest section around it."""
    known = (origins.get(place[:end]) for end in range(len(place), 0, -1))
    return next((origin for origin in known if origin), str(path))


def recipe_json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a recipe file: nothing is required, since it may extend another; null removes a rule."""
    schema = Recipe.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["properties"] = {EXTENDS: {"type": "string", "description": "recipe to start from"}, **schema["properties"]}
    for definition in (schema, *schema["$defs"].values()):
        definition.pop("required", None)
    named = {"type": "string", "description": "name of a described instrument, whose facts fill the other fields"}
    block = schema["$defs"]["InstrumentBlock"]
    block["properties"] = {NAME: named, **block["properties"]}
    rules = schema["$defs"]["DataBlock"]["properties"]["visits"]
    rules["additionalProperties"] = {"anyOf": [rules["additionalProperties"], {"type": "null"}]}
    return schema
