"""YAML and JSON files with a schema: strict reading, and errors that name file, field, value and expectation."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Hashable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, GetCoreSchemaHandler, ValidationError
from pydantic_core import CoreSchema, PydanticSerializationError

from deepcr_zoo import files, locations
from deepcr_zoo.errors import InvalidDocumentError, printable


def _lists_in(schema: Any) -> Iterator[dict[str, Any]]:
    """Yield the parts of a schema that stand for lists."""
    if isinstance(schema, dict) and schema.get("type") in ("list", "tuple", "set"):
        yield schema
    inside = schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ()
    for one in inside:
        yield from _lists_in(one)


class Bounded(BaseModel):
    """Base of schemas of what others send: of a list only the first wrong element is an error, since each takes memory."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        schema = handler(source)
        for lists in _lists_in(schema):
            lists["fail_fast"] = True
        return schema


class Document(Bounded):
    """Base of every schema: unknown keys are errors, values are never coerced, instances are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def optional(default: Any, description: str, **limits: Any) -> Any:
    """Return a field that is not written where it has its default, so that hashes of documents without it stay the same."""
    return Field(default=default, description=description, exclude_if=lambda found: found == default, **limits)


LimitsT = TypeVar("LimitsT", bound="list[int] | list[float] | None")


def ascending(limits: LimitsT) -> LimitsT:
    """Check two limits, if there are some: the validator of ranges."""
    if limits is not None and limits[0] > limits[1]:
        raise ValueError("the smaller number first")
    return limits


EITHER_SPELLING = AliasChoices("normalisation", "normalization")
"""Keys of the field `normalisation`; the first is written."""

DocumentT = TypeVar("DocumentT", bound=BaseModel)


# libyaml reads about ten times as fast; a PyYAML that was built without it has only the other
_Fastest: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_Fastest):  # type: ignore[misc]
    """Safe YAML that refuses duplicate keys, of which PyYAML would keep the last, and numbers of absurd length."""

    def construct_number(self, node: yaml.Node) -> Any:
        """Return a number; PyYAML takes hours for a long one in base 60, and others have no decimal form."""
        if not isinstance(node, yaml.ScalarNode):  # PyYAML takes the value of the key = for it
            raise yaml.constructor.ConstructorError(None, None, "expected a number", node.start_mark)
        if len(node.value) > MOST_DIGITS:
            problem = f"a number has at most {MOST_DIGITS} digits, got {len(node.value)}"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
        integer = node.tag.endswith(":int")
        return self.construct_yaml_int(node) if integer else self.construct_yaml_float(node)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.constructor.ConstructorError(None, None, "a key must be a plain value", key_node.start_mark)
            if isinstance(key, int) and abs(key) > LARGEST_KEY:
                problem = f"a number as key is {LARGEST_KEY:,} at most"
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} stands twice", key_node.start_mark)
            seen.add(key)
        content: dict[Hashable, Any] = super().construct_mapping(node, deep)
        return content


for _kind in ("int", "float"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_kind}", _Loader.construct_number)


Place = tuple[Hashable, ...]
"""Keys and indices that lead to a value."""

MOST_VALUES = 100_000
"""Aliases can stand for more values than fit into memory."""

MOST_DEPTH = 50
"""Deepest nesting; libyaml would overflow the stack of the process at some ten thousand."""

MOST_BYTES = 1_000_000
"""Largest accepted document, which is read within seconds; those of the zoo have a few thousand bytes."""

MOST_DIGITS = 100
"""Longest accepted number."""

LARGEST_KEY = 2**60
"""Of larger ones, any number may have the same hash (Python's modulus), and each is compared with all before it."""

MOST_SHOWN = 120
"""Characters of a value or of another library's reason in an error text."""

MOST_PROBLEMS, MOST_ERRORS = 20, 10_000
"""Wrong fields that one error names, and the most of which the first is picked: the description of each takes memory."""


def parse_yaml(text: str | bytes, where: str | Path) -> tuple[Any, dict[Place, int]]:
    """Return the content of a YAML document and the line of each value.

    Tags, duplicate keys, and documents or values beyond the bounds above raise `InvalidDocumentError`.
    """
    try:
        if len(text) > MOST_BYTES:
            raise ValueError(f"at most {MOST_BYTES:,} bytes, got {len(text):,}")
        _check_events(text)
        loader = _Loader(text)
        node = loader.get_single_node()
        content = None if node is None else loader.construct_document(node)
        lines = [] if node is None else list(islice(_lines(node, ()), MOST_VALUES + 1))
        if len(lines) > MOST_VALUES:
            raise ValueError(f"at most {MOST_VALUES} values, each use of an alias counted")
        return content, dict(lines)
    except MemoryError:
        raise
    except Exception as error:  # beside its own, PyYAML raises anything on values that do not fit their tag
        raise InvalidDocumentError(f"{where}: expected a YAML document: {_yaml_problem(error)}") from None


def _yaml_problem(error: Exception) -> str:
    """Return the reason and the place of a YAML error, without the context that PyYAML repeats."""
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return brief(error)
    return f"{brief(getattr(error, 'problem', None) or error)} (line {mark.line + 1}, column {mark.column + 1})"


def brief(found: object) -> str:
    """Return a value or another library's reason on one line, cut to `MOST_SHOWN` characters."""
    shown = printable(" ".join(str(found)[: 2 * MOST_SHOWN].split()))
    return shown if len(shown) <= MOST_SHOWN else f"{shown[:MOST_SHOWN]}..."


def _check_events(text: str | bytes) -> None:
    """Refuse a document that is nested too deeply or has too many values, before any of it is kept."""
    loader, depth, nodes = _Loader(text), 0, 0
    while loader.check_event():
        event = loader.get_event()
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        nodes += isinstance(event, yaml.NodeEvent)
        if depth > MOST_DEPTH:
            raise ValueError(f"at most {MOST_DEPTH} levels of nesting")
        if nodes > 2 * MOST_VALUES:  # keys are nodes too
            raise ValueError(f"at most {MOST_VALUES} values")


def _lines(node: yaml.Node, place: Place) -> Iterator[tuple[Place, int]]:
    children = []
    if isinstance(node, yaml.MappingNode):
        children = [((*place, key.value), key, value) for key, value in node.value]
    elif isinstance(node, yaml.SequenceNode):
        children = [((*place, index), value, value) for index, value in enumerate(node.value)]
    for child, marked, value in children:
        yield child, marked.start_mark.line + 1
        yield from _lines(value, child)


def parse_document(text: str | bytes, schema: type[DocumentT], where: str | Path) -> DocumentT:
    """Parse YAML into `schema`; an `InvalidDocumentError` names `where` and every wrong field."""
    content, _ = parse_yaml(text, where)
    return validate(content, schema, lambda _: where)


def validate(content: Any, schema: type[DocumentT], where: Callable[[Place], str | Path]) -> DocumentT:
    """Return `content` as a document; `where` gives the origin of a field for the `InvalidDocumentError`."""
    try:
        return schema.model_validate(content)
    except ValidationError as error:
        raise InvalidDocumentError(*problems(error, where)) from None


def problems(error: ValidationError, where: Callable[[Place], str | Path]) -> list[str]:
    """Return a sentence for each wrong field, up to `MOST_PROBLEMS`."""
    found = error.errors(include_url=False, include_context=False)
    sentences = [explain(where(one["loc"]), one) for one in found[:MOST_PROBLEMS]]
    more = len(found) - MOST_PROBLEMS
    return [*sentences, f"{where(())}: and {more} more problems"] if more > 0 else sentences


def read_document(path: Path, schema: type[DocumentT], root: Path) -> DocumentT:
    """Read the YAML file at `path`; errors name it relative to `root`."""
    where = path.relative_to(root)
    return parse_document(document_bytes(path, where), schema, where)


def document_bytes(path: Path, where: str | Path, most_bytes: int = MOST_BYTES) -> bytes:
    """Return the bytes of a document; an `InvalidDocumentError` calls it `where`."""
    try:
        return files.read_file(path, most_bytes)
    except OSError as error:
        raise InvalidDocumentError(f"{where}: cannot be read: {error.strerror}") from None


_MEMORY_OF_JSON = 120
"""Bytes of memory that objects made from one byte of JSON may take: empty texts and lists take 33, errors of keys 118."""


def json_bytes(path: Path) -> bytes:
    """Return the bytes of a JSON file whose objects fit into the free memory; OSError for a larger one."""
    return files.read_file(path, memory_of_a_byte=_MEMORY_OF_JSON)


_ODD_BREAKS = re.compile("[\r\x85\u2028\u2029]")
"""Line breaks that a block of YAML would not give back."""


class _Dumper(yaml.SafeDumper):
    """Safe YAML that writes texts of several lines as blocks."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    is_block = "\n" in text and text.strip() and not text.endswith("\n\n")
    style = '"' if _ODD_BREAKS.search(text) else "|" if is_block else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def as_yaml(document: BaseModel) -> bytes:
    """Return a document as a YAML file with blank lines between sections; `parse_document` reverses it."""
    sections = document.model_dump(exclude_none=True).items()
    return "\n".join(_dumped({key: value}) for key, value in sections).encode()


def as_short_yaml(document: BaseModel) -> bytes:
    """Return the fields that were set as a YAML file; `parse_document` reverses it."""
    return _dumped(document.model_dump(mode="json", exclude_unset=True)).encode()


def _dumped(content: Any) -> str:
    return str(yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120))


def as_json(document: BaseModel) -> bytes:
    """Return a document as a JSON file whose bytes depend only on its content; what is no text in names is escaped."""
    try:
        return (document.model_dump_json(indent=1) + "\n").encode()
    except PydanticSerializationError:
        content = _as_text(document.model_dump(mode="json"))
        return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()


def _as_text(content: Any) -> Any:
    if isinstance(content, str):
        return content.encode("utf-8", "backslashreplace").decode()
    if isinstance(content, dict):
        return {_as_text(key): _as_text(value) for key, value in content.items()}
    return [*map(_as_text, content)] if isinstance(content, list) else content


def is_of_others(data: bytes, schema: type[BaseModel]) -> bool:
    """True if bytes are JSON with other content than a schema has: no file of ours, not even a damaged one."""
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        return False
    return not isinstance(content, dict) or not content.keys() <= schema.model_fields.keys()


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object without duplicate keys: a hook for `json.loads`, which would keep the last one in silence."""
    content: dict[str, Any] = {}
    for key, value in pairs:
        if key in content:
            raise ValueError(f"the key {key!r} appears twice")
        content[key] = value
    return content


def first_problem(error: ValidationError) -> str:
    """Return place and text of the first problem, for files that people do not write by hand."""
    if error.error_count() > MOST_ERRORS:
        return f"{error.error_count():,} wrong values"
    first = error.errors()[0]
    return f"{_field(first)}: {brief(first['msg'])}"


def explain(where: str | Path, error: Any) -> str:
    """Return one of pydantic's errors as a sentence that names file, field, expectation and value."""
    field, given = _field(error), shown(error["input"])
    match error["type"]:
        case "extra_forbidden":
            return f"{where}: {field}: expected no such key; remove it or correct its name"  # its value may be a secret
        case "missing":
            return f"{where}: {field}: expected a value, got none; add the key"
        case "string_type" if isinstance(error["input"], (int, float)):
            return f"{where}: {field}: expected a text, got the number {given}; put it in quotes"
        case "float_type" if _is_number(error["input"]):
            return f"{where}: {field}: expected a number, got the text {given}; YAML needs 1.0e-3 for 1e-3"
        case _:
            expectation = error["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
            # a whole section is too long to repeat, and a document that is one text may be no document, but a secret
            found = "" if isinstance(error["input"], (dict, list)) or not error["loc"] else f", got {given}"
            return f"{where}: {field}: expected {brief(expectation)}{found}"


def _field(error: Any) -> str:
    return brief(".".join(map(str, error["loc"]))) or "the document"


def shown(value: Any) -> str:
    """Return a value as in Python, cut; a text is cut before, which costs nothing however long it is."""
    if isinstance(value, int) and value.bit_length() > 8 * MOST_DIGITS:  # Python writes no longer ones
        return f"a number of {value.bit_length()} bits"
    return brief(repr(locations.without_address(value[:MOST_SHOWN]) if isinstance(value, str) else value))


def _is_number(found: Any) -> bool:
    try:
        return isinstance(found, str) and math.isfinite(float(found))
    except ValueError:
        return False
