"""YAML files with a schema: read strictly, and say exactly which field of which file is wrong."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from deepcr_zoo.errors import InvalidDocumentError


class Document(BaseModel):
    """Base of every schema: unknown keys are errors, values are never coerced, instances are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


DocumentT = TypeVar("DocumentT", bound=BaseModel)


class _Loader(yaml.SafeLoader):
    """Safe YAML that refuses duplicate keys (the last one would win in silence)."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.constructor.ConstructorError(None, None, "a key must be a plain value", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} stands twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def parse_document(text: str | bytes, schema: type[DocumentT], where: str | Path) -> DocumentT:
    """Parse YAML into `schema`; `where` names the file in errors.

    Raises
    ------
    InvalidDocumentError
        Naming the file, the path of each wrong field, what was expected and what stands there.
    """
    try:
        content = yaml.load(text, Loader=_Loader)  # noqa: S506 - it is a SafeLoader
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidDocumentError(f"{where}: expected a YAML document: {' '.join(str(error).split())}") from None
    try:
        return schema.model_validate(content)
    except ValidationError as error:
        raise InvalidDocumentError("\n".join(_explain(where, line) for line in error.errors())) from None


def read_document(path: Path, schema: type[DocumentT], root: Path) -> DocumentT:
    """Read the YAML file at `path`; errors name it relative to `root`."""
    where = path.relative_to(root)
    try:
        text = path.read_bytes()
    except OSError as error:
        raise InvalidDocumentError(f"{where}: cannot be read: {error.strerror}") from None
    return parse_document(text, schema, where)


def _explain(where: str | Path, error: Any) -> str:
    field = ".".join(str(part) for part in error["loc"]) or "the document"
    match error["type"]:
        case "extra_forbidden":
            return f"{where}: {field}: expected no such key, got {error['input']!r}; remove it or correct its name"
        case "missing":
            return f"{where}: {field}: expected a value, got none; add the key"
        case "string_type" if isinstance(error["input"], (int, float)):
            return f"{where}: {field}: expected a text, got the number {error['input']!r}; put it in quotes"
        case _:
            expectation = error["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
            # of a whole section only the expectation is worth reading
            found = "" if isinstance(error["input"], (dict, list)) else f", got {error['input']!r}"
            return f"{where}: {field}: expected {expectation}{found}"
