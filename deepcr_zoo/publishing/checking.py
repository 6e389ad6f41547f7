"""Checks of everything in ``zoo/``, ``cards/`` and ``recipes/``: validity and agreement; a problem hides no other."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from deepcr_zoo.bench import gates
from deepcr_zoo.bench.exclusions import FILE as TRAINING_VISITS
from deepcr_zoo.bench.exclusions import TrainingVisits
from deepcr_zoo.bench.subjects import Subject
from deepcr_zoo.documents import read_document
from deepcr_zoo.errors import DeepcrZooError
from deepcr_zoo.files import files_below, read_file, refuse_links
from deepcr_zoo.models.model import load_resolved
from deepcr_zoo.models.verification import verify
from deepcr_zoo.publishing.releases import RECIPE_BESIDE_CARD, RESULTS_BESIDE_CARD, listed_model
from deepcr_zoo.zoo import rendering, updates
from deepcr_zoo.zoo.cards import find_open_points, read_card
from deepcr_zoo.zoo.instrumentfiles import read_offered
from deepcr_zoo.zoo.instruments import read_instruments
from deepcr_zoo.zoo.merging import alterations
from deepcr_zoo.zoo.names import TASKS, for_task
from deepcr_zoo.zoo.recipefiles import read_recipe
from deepcr_zoo.zoo.records import RESULTS_ENDING, altered_records, read_records
from deepcr_zoo.zoo.registry import (
    TEST_VECTOR_FILE,
    WEIGHTS_FILE,
    ModelEntry,
    Registry,
    entry_files,
    read_registry,
    refuse_links_in,
    reporting_unreadable,
)

BESIDE_CARD = (RECIPE_BESIDE_CARD, RESULTS_BESIDE_CARD, RESULTS_ENDING, ".yaml")
"""Ends of the names of a version's files in ``cards/``, which begin with the version."""


@dataclass(frozen=True)
class CheckedItem:
    what: str
    problems: tuple[str, ...]


def check(root: Path, before: Path | None = None) -> Iterator[CheckedItem]:
    """Check the registry, cards and recipes of a checkout, one by one.

    `before` is an earlier state of it: what that has may be added to, not altered.
    """
    linked = _item("links", partial(_links, root))
    if linked.problems:  # nothing of what they lead to is repeated
        yield linked
        return
    entries = [path for task in TASKS for path in entry_files(root, task)]
    # each entry by itself first, so that a broken one does not hide another
    broken = [item for path in entries if (item := _item(str(path.relative_to(root)), partial(_entry, path, root))).problems]
    yield from broken
    whole = _item("the registry as a whole", partial(_registry, root))
    if not broken:
        yield whole
    registry = None if broken or whole.problems else read_registry(root)
    if registry is not None:
        yield from _registered(root, registry, before)
    yield _item("zoo/instruments.yaml", partial(_instruments, root))
    with reporting_unreadable(root / "recipes"):
        recipes = [path for path in files_below(root / "recipes") if path.match("recipes/*.yaml")]
    for path in recipes:
        yield _item(f"recipes/{path.name}", partial(_recipe, path, registry))


def _registered(root: Path, registry: Registry, before: Path | None) -> Iterator[CheckedItem]:
    for reference in registry.references():
        yield _item(reference, partial(_model, registry, reference))
    yield _item("files without an entry", partial(_orphans, root, registry))
    yield _item(str(TRAINING_VISITS), partial(_training_visits, root, registry))
    if before is not None:
        yield _item(f"nothing of {before} is altered", partial(_alterations, before, registry))
    if os.path.lexists(root / "cards" / "README.md"):
        yield _item("rendered tables", partial(_rendered, root))


def _item(what: str, problems: Callable[[], Iterator[str] | None]) -> CheckedItem:
    try:
        return CheckedItem(what, tuple(problems() or ()))
    except DeepcrZooError as error:
        return CheckedItem(what, (str(error),))
    except Exception as error:  # a contributed file may cause any error, which must not hide the rest
        return CheckedItem(what, (f"{type(error).__name__}: {error}",))


def _links(root: Path) -> None:
    refuse_links_in(root)
    refuse_links(root / "recipes", root)  # a recipe that is a link is read, and nothing of it is repeated


def _entry(path: Path, root: Path) -> None:
    read_document(path, ModelEntry, root)


def _registry(root: Path) -> Iterator[str]:
    registry = read_registry(root)
    if not registry.entries:
        yield f"{root}: expected a registry, got none"


def _model(registry: Registry, reference: str) -> Iterator[str]:
    model = registry.resolve(reference)
    card = read_card(model)
    outcome = verify(model, "cpu", engine="torch")
    if outcome.verdict != "reproduces":
        yield outcome.reason or f"differs from its test vector by {outcome.max_difference:.2g}"
    if not (model.root / card.licence.file).is_file():
        yield f"licence.file: {card.licence.file} is not there"
    elif not updates.is_lock_file(card.licence.file):
        yield f"licence.file: {card.licence.file}: expected LICENSE, or a file zoo/weights/LICENSE.NAME"
    yield from (f"card: {point}" for point in find_open_points(card))
    for citation in card.citation:
        if citation.doi.lower() not in citation.bibtex.lower():
            yield f"citation: the BibTeX record of {citation.doi} has another DOI, or none"
    if card.provenance.kind == "trained":
        candidate = gates.Candidate(Subject(model), load_resolved(model, "cpu", engine="torch"))
        yield from gates.listed_verdict(listed_model(model, candidate)).failures
    for record in read_records(model).parity:
        if record.weights_sha256 != model.locked.weights.sha256:
            yield f"results: the parity record of {record.date} is of other weights"


def _orphans(root: Path, registry: Registry) -> Iterator[str]:
    """Find cards, results and weights that belong to no version of any entry."""
    folders = {reference.replace("@", "/") for reference in registry.references()}
    for path in sorted((root / "cards").glob("*/*/[!.]*")):
        place = path.relative_to(root / "cards")
        suffix = next((one for one in BESIDE_CARD if place.name.endswith(one)), "")
        if str(place.parent / place.name.removesuffix(suffix)) not in folders:
            yield f"cards/{place}: no entry in zoo/ has such a version"
    for path in sorted((root / "zoo" / "weights").glob("*/*/*/*")):
        place = path.relative_to(root / "zoo" / "weights")
        if str(place.parent) not in folders or path.name not in (WEIGHTS_FILE, TEST_VECTOR_FILE):
            yield f"zoo/weights/{place}: no entry in zoo/ has such a file"


def _training_visits(root: Path, registry: Registry) -> Iterator[str]:
    """Check that each model's training visits are in its card, or that the table names the model."""
    known = read_document(root / TRAINING_VISITS, TrainingVisits, root) if (root / TRAINING_VISITS).is_file() else None
    named = set() if known is None else known.models.keys() | known.unknown.keys()
    for reference in registry.references():
        try:
            in_card = read_card(registry.resolve(reference)).training.visits is not None
        except DeepcrZooError:
            continue  # reported with the model
        if not in_card and reference not in named:
            yield f"{reference}: what it was trained on is neither in its card (training.visits) nor in {TRAINING_VISITS}"
    for reference in sorted(named - set(registry.references())):
        yield f"{TRAINING_VISITS}: {reference}: is not in the registry"


def _alterations(before: Path, registry: Registry) -> Iterator[str]:
    earlier = read_registry(before)
    yield from alterations(earlier, registry, complete=True)
    for reference in sorted(set(earlier.references()) & set(registry.references())):
        for suffix in (RECIPE_BESIDE_CARD, RESULTS_BESIDE_CARD):
            paths = [one.resolve(reference).card_path.with_suffix(suffix) for one in (earlier, registry)]
            if paths[0].is_file() and (not paths[1].is_file() or read_file(paths[0]) != read_file(paths[1])):
                yield f"{reference}: {paths[1].name}: may be added, not altered"
    yield from altered_records(earlier, registry)  # last: it fails where results cannot be read


def _rendered(root: Path) -> Iterator[str]:
    for path, text in rendering.rendered_files(root).items():
        if rendering.present_text(path, root) != text:
            yield f"{path.relative_to(root)}: is not up to date: run 'make render'"


def _instruments(root: Path) -> None:
    if (root / "zoo" / "instruments.yaml").is_file() and read_offered(root).units is not None:
        read_instruments(root)  # the whole table, as the zoo's own


def _recipe(path: Path, registry: Registry | None) -> None:
    recipe = read_recipe(path)
    if registry is not None:
        for name in recipe.train.inherited:
            registry.resolve(for_task(name, recipe.task))
