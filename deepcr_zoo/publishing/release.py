"""What is published: one version of one model, complete, with what its gates say."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from deepcr_zoo.bench.results import ModelVerdict
from deepcr_zoo.cards import Card
from deepcr_zoo.errors import GateError, PublishError, UsageError
from deepcr_zoo.registry import (
    CARD_FILE,
    ORGANISATION,
    REPOSITORY_PATTERN,
    TEST_VECTOR_FILE,
    WEIGHTS_FILE,
    Architecture,
    HubPin,
    LockedFile,
    LockedVersion,
    Sources,
)
from deepcr_zoo.results import Measurement

README_FILE, LICENCE_FILE = "README.md", "LICENSE"
RECIPE_FILE, RESULTS_FILE, REPORT_FILE, REPORT_PICTURES = "recipe.yaml", "results.json", "report.html", "report"
VERSION_RESULTS_FILE = "results.yaml"
"""What is on record of a version, beside the results of one benchmark."""

LOCKED_FILES = (WEIGHTS_FILE, TEST_VECTOR_FILE, CARD_FILE)
"""What makes a version: two releases of the same version are the same if these are."""


@dataclass(frozen=True)
class Release:
    """A version that is ready to be published, or refused.

    Attributes
    ----------
    card : Card
    architecture : Architecture
    files : mapping of str to bytes
        What goes into its repository, by path.
    verdict : ModelVerdict
        What each gate says.
    summary : str
        One line for tables.
    released : datetime.date
        Day on which the version enters the registry.
    seed : bool
        Whether this package bundles it.
    warning, deprecated : str or None
        Cautions to its users.
    beside_card : mapping of str to bytes
        What is kept beside the card in a checkout, by what is put after the version: ``.recipe.yaml``.
    measurement : Measurement or None
        Operating points that the benchmark has found.
    remarks : sequence of str
        What a reviewer should know, such as gates that are not the default ones.
    repository : str or None
        Where its recipe wants it.
    """

    card: Card
    architecture: Architecture
    files: Mapping[str, bytes]
    verdict: ModelVerdict
    summary: str
    released: datetime.date
    seed: bool = False
    warning: str | None = None
    deprecated: str | None = None
    beside_card: Mapping[str, bytes] = field(default_factory=dict)
    measurement: Measurement | None = None
    remarks: Sequence[str] = ()
    repository: str | None = None

    @property
    def entry(self) -> str:
        """``task/name``."""
        return f"{self.card.identity.task}/{self.card.identity.name}"

    @property
    def reference(self) -> str:
        """``task/name@version``."""
        return f"{self.entry}@{self.card.identity.version}"

    @property
    def tag(self) -> str:
        """Of its commit."""
        return f"v{self.card.identity.version}"

    @property
    def title(self) -> str:
        """Of its commit."""
        return f"Version {self.card.identity.version} of {self.entry}"

    @property
    def repository_name(self) -> str:
        """Of its repository, within any organisation."""
        return self.entry.replace("/", "-")

    @property
    def locked_files(self) -> dict[str, bytes]:
        """Those whose hashes the registry locks."""
        return {name: self.files[name] for name in LOCKED_FILES}

    def locked(self, pin: HubPin | None) -> LockedVersion:
        """What the registry locks of it.

        Parameters
        ----------
        pin : HubPin or None
            Where the Hub has it.
        """
        return LockedVersion(
            released=self.released,
            architecture=self.architecture,
            weights=LockedFile.of(self.files[WEIGHTS_FILE]),
            test_vector=LockedFile.of(self.files[TEST_VECTOR_FILE]),
            card=LockedFile.of(self.files[CARD_FILE]),
            sources=Sources(seed=self.seed, hub=pin),
            warning=self.warning,
            deprecated=self.deprecated,
        )

    def check_gates(self) -> None:
        """Refuse a model whose gates have not all passed; nothing skips one.

        Raises
        ------
        GateError
            Naming each gate that fails, what it measured and its bound.
        """
        failing = [gate for gate in self.verdict.gates if gate.verdict == "fails"]
        if failing:
            told = "; ".join(
                f"{gate.gate}{f' ({gate.field_type})' if gate.field_type else ''}: {gate.measured}, expected {gate.bound}"
                for gate in failing
            )
            count = f"{len(failing)} of {len(self.verdict.gates)}"
            raise GateError(f"{self.verdict.reference}: {count} gates fail, so it is not published: {told}")


def read_licence(root: Path, card: Card) -> bytes:
    """The text of a model's licence.

    Parameters
    ----------
    root : Path
        Folder that the card's path starts from.
    card : Card

    Raises
    ------
    PublishError
        If there is no such file.
    """
    path = root / card.licence.file
    try:
        return path.read_bytes()
    except OSError as error:
        raise PublishError(f"licence.file: {path} cannot be read: {error.strerror}: put the licence's text there") from None


def repository_of(release: Release, given: str | None) -> str:
    """The repository that a release belongs into: the given one, else that of its recipe, else that of the zoo.

    Parameters
    ----------
    release : Release
    given : str or None
        ORG/NAME, or ORG alone.

    Raises
    ------
    UsageError
        If it is named otherwise.
    """
    wanted = given or release.repository or ORGANISATION
    organisation, slash, name = wanted.partition("/")
    repository = f"{organisation}/{release.repository_name}"
    if not re.fullmatch(REPOSITORY_PATTERN, repository) or (slash and name != release.repository_name):
        raise UsageError(
            f"repository {wanted}: expected {organisation or 'ORG'}/{release.repository_name}, the name of {release.entry} "
            "in every organisation"
        )
    return repository
