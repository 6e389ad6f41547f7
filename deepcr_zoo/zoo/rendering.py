"""Text rendered from the registry, the cards and the schemas.

``python -m deepcr_zoo.zoo.rendering`` updates README.md, the guide, cards/README.md and the recipe schema of a checkout.
"""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from pydantic import BaseModel

from deepcr_zoo import files, locations
from deepcr_zoo.documents import document_bytes
from deepcr_zoo.zoo.cards import Card, PublishedEvaluation, read_card
from deepcr_zoo.zoo.instruments import Instrument, InstrumentTable, read_instruments
from deepcr_zoo.zoo.names import TASKS
from deepcr_zoo.zoo.recipefiles import recipe_json_schema
from deepcr_zoo.zoo.records import sky_range
from deepcr_zoo.zoo.registry import RankedModel, Registry, ResolvedModel, read_registry


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    return "\n".join(map(markdown_row, [header, ["---"] * len(header), *rows]))


def markdown_row(cells: Iterable[str]) -> str:
    """Return a row of a Markdown table: a cell is one line, and a bar in it ends no cell."""
    shown = (" ".join(cell.split()).replace("|", r"\|") for cell in cells)
    return f"| {' | '.join(shown)} |"


def summary_table(registry: Registry) -> str:
    """Return a Markdown table of all models, each with what it is for."""
    rows = [[f"`{entry.reference}`", entry.summary] for entry in registry.entries.values()]
    return markdown_table(["model", "for"], rows)


def models_table(registry: Registry) -> str:
    """Return a Markdown table of all models and versions."""
    rows = []
    for entry in registry.entries.values():
        versions = [registry.resolve(f"{entry.reference}@{version}") for version in entry.versions]
        cards = [read_card(version) for version in versions]
        thresholds = ["-" if card.output.threshold is None else f"{card.output.threshold:g}" for card in cards]
        aliases = "".join(f"<br>alias {alias}" for alias in entry.alias_texts)
        cells = [
            f"`{entry.reference}`{aliases}",
            "<br>".join(f"{v.version} (default)" if v.version == entry.default else v.version for v in versions),
            "<br>".join(dict.fromkeys(input_text(card) for card in cards)),
            "<br>".join(thresholds if len(set(thresholds)) > 1 else thresholds[:1]),
            entry.summary,
            "<br>".join(dict.fromkeys(f"[{c.citation[0].text}](https://doi.org/{c.citation[0].doi})" for c in cards)),
        ]
        rows.append(cells)
    return markdown_table(["model", "versions", "input", "threshold", "for", "cite"], rows)


def preferences_table(registry: Registry) -> str:
    """Return a Markdown table of the preferred models for each instrument and filter, with the reasons."""
    rows = []
    shares = Counter((block.task, block.instrument, block.detector) for block in registry.preferences)
    for block in registry.preferences:
        camera = f"{block.instrument}/{block.detector}" if block.detector != "*" else block.instrument
        rest = "any other" if shares[block.task, block.instrument, block.detector] > 1 else "any"
        filters = ", ".join(rest if name == "*" else name for name in block.filters)
        rows.append([camera, filters, block.task, _ranked(block.models)])
    for_any = [(task, registry.for_any_camera(task)) for task in TASKS]
    rows += [["any camera, after its own", "any", task, _ranked(found)] for task, found in for_any if found]
    return markdown_table(["instrument", "filter", "task", "models, best first"], rows)


def _ranked(models: Sequence[RankedModel]) -> str:
    return "<br>".join(f"`{one.model}`: {one.reason}" for one in models)


def instruments_table(table: InstrumentTable, registry: Registry) -> str:
    """Return a Markdown table of the detectors whose files are recognised."""
    rows = []
    for known in table.instruments:
        shapes = dict.fromkeys("x".join(map(str, reversed(geometry.shape))) for geometry in known.overscan)
        cells = [
            known.name,
            ", ".join(f"{keyword} {value}" for keyword, value in known.recognise.items()),
            ", else ".join(known.gain_keywords) + (" (a setting)" if known.gain_by_chip else ""),
            "none: DQ holds codes" if known.cosmic_ray_bit is None else str(known.cosmic_ray_bit),
            " and ".join(shapes) or "refused",
            _networks(known, registry),
        ]
        rows.append(cells)
    header = ["detector", "recognised by", "gain", "cosmic-ray bit in DQ", "raw frames", "networks"]
    return markdown_table(header, rows)


def _networks(known: Instrument, registry: Registry) -> str:
    own = {block.task for block in registry.preferences if block.instrument == known.instrument}
    others = {task for task in TASKS if registry.for_any_camera(task)}
    found = [task if task in own else f"{task} for any CCD" for task in TASKS if task in own | others]
    return ", ".join(found) or "none: name one"


def card_fields_table() -> str:
    """Return a Markdown table of every field of a card and its meaning."""
    return markdown_table(["field", "meaning"], [[f"`{name}`", meaning] for name, meaning in _fields(Card)])


def input_text(card: Card) -> str:
    """Return the input unit and its normalisation, as in ``electron (divided by 100 inside)``."""
    if card.input.by_noise:
        masked = ", masked pixels interpolated" if card.identity.task == "inpaint" else ""
        return f"any unit, gain and bias level (asinh((pixel - sky) / noise) of the whole exposure inside{masked})"
    steps = [f"divided by {card.input.scale:g}"] if card.input.scale != 1 else []
    steps += ["standardised over the whole frame"] if card.input.normalisation == "frame-standardise" else []
    return card.input.unit + (f" ({' and '.join(steps)} inside)" if steps else "")


def camera_text(card: Card) -> str:
    """Return the camera and the filters that a network was made for."""
    made_for = card.instrument
    filters = "all filters" if made_for.filters == ["*"] else f"filter {', '.join(made_for.filters)}"
    return f"{made_for.telescope} {made_for.instrument}/{made_for.detector}, {filters}"


def output_text(card: Card) -> str:
    """Return what comes out, with the default threshold of a probability."""
    threshold = card.output.threshold
    return card.output.quantity + ("" if threshold is None else f", threshold {threshold:g}")


def card_text(model: ResolvedModel, card: Card) -> list[tuple[str, str]]:
    """Return a card as pairs of label and text."""
    locked, sizes = model.locked, model.locked.architecture
    sky = sky_range(model, card)
    return [
        ("model", model.reference),
        ("title", card.identity.title),
        ("authors", ", ".join(card.identity.authors)),
        ("versions", ", ".join(model.entry.versions) + f" (default {model.entry.default})"),
        ("made for", f"{camera_text(card)}; {card.instrument.data_product}"),
        ("input", input_text(card)),
        *([] if sky is None else [("sky level", f"{sky}, {sky.source}")]),
        ("output", output_text(card)),
        *([("threshold", card.output.threshold_choice)] if card.output.threshold_choice else []),
        ("architecture", sizes.description),
        ("provenance", card.provenance.statement),
        ("training", " ".join([f"{card.training.data}.", f"{card.training.method}.", *_unknown(card)])),
        *[("published", _evaluation_text(evaluation)) for evaluation in card.published_evaluation],
        *[("limit", limit) for limit in card.limits],
        *[("caution", caution) for caution in model.cautions],
        ("licence", f"{card.licence.spdx}, {card.licence.copyright}"),
        *[("cite", f"{citation.text}, https://doi.org/{citation.doi}") for citation in card.citation],
        ("sha256", locked.weights.sha256),
        ("size", f"{locked.weights.size:,} bytes"),
    ]  # fmt: skip


def _unknown(card: Card) -> list[str]:
    return [f"Not known: {', '.join(card.training.unknown)}."] if card.training.unknown else []


def replace_block(text: str, what: str, block: str) -> str:
    """Replace the text between the markers of `what` in a Markdown text."""
    start, end = (f"<!-- rendered from {what}: {mark} -->" for mark in ("start", "end"))
    if start not in text or end not in text:
        raise ValueError(f"expected the markers {start} and {end}")
    before, _, rest = text.partition(start)
    _, _, after = rest.partition(end)
    return f"{before}{start}\n{block}\n{end}{after}"


def rendered_files(root: Path) -> dict[Path, str]:
    """Return the content that each file with a rendered block should have."""
    registry = read_registry(root)
    blocks = {
        "README.md": {"the models": summary_table(registry)},
        "docs/guide/models.md": {"the registry": models_table(registry), "the preferences": preferences_table(registry)},
        "docs/guide/clean.md": {"the instruments": instruments_table(read_instruments(root), registry)},
        "cards/README.md": {"the card schema": card_fields_table()},
    }
    schema = json.dumps(recipe_json_schema(), indent=2) + "\n"
    return {
        root / "recipes" / "recipe.schema.json": schema,
        **{root / name: _with_blocks(root / name, root, parts) for name, parts in blocks.items()},
    }


def _with_blocks(path: Path, root: Path, blocks: dict[str, str]) -> str:
    text = present_text(path, root)
    for what, block in blocks.items():
        text = replace_block(text, what, block)
    return text


def present_text(path: Path, root: Path) -> str:
    """Return a file of a checkout, which may be of others: a regular file below it, of a bounded size."""
    files.refuse_links(path, root)
    return io.TextIOWrapper(io.BytesIO(document_bytes(path, path)), encoding="utf-8").read()  # line breaks as in a text


def _evaluation_text(evaluation: PublishedEvaluation) -> str:
    figures = [f"{figure.field}: {figure.label}: {figure.value:g}" for figure in evaluation.figures]
    return "\n".join([f"{evaluation.source}. {evaluation.note}", f"Measured on {evaluation.test_set}.", *figures])


def _fields(schema: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, field in schema.model_fields.items():
        yield f"{prefix}{name}", (field.description or "") + ("" if field.is_required() else " (optional)")
        for part in [field.annotation, *getattr(field.annotation, "__args__", [])]:
            if isinstance(part, type) and issubclass(part, BaseModel):
                yield from _fields(part, f"{prefix}{name}.")


if __name__ == "__main__":
    with files.reporting_failures(locations.data_root(), "make it writable"):
        files.write_together({path: text.encode() for path, text in rendered_files(locations.data_root()).items()})
