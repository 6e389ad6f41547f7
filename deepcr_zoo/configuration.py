"""The user's settings file (``DEEPCR_ZOO_CONFIG``, else ``config.yaml`` in the platform's folder for settings)."""

from __future__ import annotations

import os

from pydantic import Field

from deepcr_zoo import paths
from deepcr_zoo.documents import Document, read_document
from deepcr_zoo.errors import InvalidDocumentError
from deepcr_zoo.registry import Name


class RegistryPlace(Document):
    """Where another registry is.

    A package that offers one gives this, or just the path, under the entry-point group ``deepcr_zoo.registries``.
    """

    root: str = Field(description="folder that holds zoo/ and cards/, laid out as in this repository")
    mirror: str | None = Field(
        default=None, description="folder with the bytes of its models, <task>/<name>/<version>/, as 'pull --to' writes it"
    )


class Configuration(Document):
    """A settings file."""

    registries: dict[Name, RegistryPlace] = Field(default_factory=dict, description="by the prefix of their names")


def read_configuration() -> Configuration:
    """The user's settings; the defaults if there is no file.

    Raises
    ------
    InvalidDocumentError
        If the file breaks its schema, or ``DEEPCR_ZOO_CONFIG`` names none.
    """
    path = paths.configuration_file()
    if not path.is_file() and "DEEPCR_ZOO_CONFIG" in os.environ:
        raise InvalidDocumentError(f"{path}: no such file (DEEPCR_ZOO_CONFIG): correct it, or unset it")
    return read_document(path, Configuration, path.parent) if path.is_file() else Configuration()
