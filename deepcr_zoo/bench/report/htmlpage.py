"""The report of a benchmark: one self-contained HTML page, and its pictures (extra ``plot``)."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from itertools import groupby
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from deepcr_zoo.bench import output
from deepcr_zoo.bench.report import tables
from deepcr_zoo.bench.report.conclusions import conclusions
from deepcr_zoo.bench.report.figures import Picture, Topic, figures
from deepcr_zoo.bench.report.tables import Table
from deepcr_zoo.bench.report.wording import field_name
from deepcr_zoo.bench.results import BaselineMethod, BenchmarkResults, MethodResult
from deepcr_zoo.zoo.cards import Card

TEMPLATE = "report.html.jinja"
FEW = 3
"""With more networks than this, the thresholds are at the end of the page."""

Facts = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Section:
    """A part of the page; facts are lists of terms and meanings under a heading, notes are items of a list.

    The tables of a folded section repeat its pictures, and are shown on request.
    """

    title: str
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()
    facts: Sequence[tuple[str, Facts]] = ()
    notes: Sequence[str] = ()
    is_folded: bool = False
    table_class: str = ""

    @property
    def anchor(self) -> str:
        """The part of its address after ``#``."""
        return "".join(letter if letter.isalnum() else "-" for letter in self.title.lower())

    @property
    def figures(self) -> list[tuple[str, list[Picture]]]:
        """Captions with the consecutive pictures that share them."""
        return [(caption, list(group)) for caption, group in groupby(self.pictures, key=lambda one: one.caption)]


def write_report(
    results: BenchmarkResults, cards: Mapping[str, Card], folder: Path, pictures: Sequence[Picture] = ()
) -> Path:
    """Write ``report.html`` and, in the folder ``report`` beside it, its pictures; remove pictures of an earlier report.

    Cards are by reference; a network may lack one. `pictures` are added to the figures drawn from the results. The same
    input gives the same bytes.
    """
    drawn = [*figures(results), *pictures]
    contents = {f"{output.PICTURES}/{one.name}.png": one.png for one in drawn}
    output.replace(
        folder,
        {**contents, output.PAGE: render(results, cards, drawn).encode(errors="backslashreplace")},
        stale=output.PICTURES,
    )
    return folder / output.PAGE


def render(results: BenchmarkResults, cards: Mapping[str, Card], pictures: Sequence[Picture]) -> str:
    """Return the page with all pictures in it."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["data"] = lambda png: base64.b64encode(png).decode()
    template = environment.from_string(resources.files(__package__).joinpath(TEMPLATE).read_text(encoding="utf-8"))
    networks = conclusions(results, cards)
    shown = [one.reference for one in networks if one.outcome != "compared"] or [one.reference for one in networks]
    title = f"{len(shown)} networks on the same pixels" if shown else "Benchmark"
    return template.render(
        results=results,
        synthetic=results.data.kind == "synthetic",
        title=f"How good is {shown[0]}?" if len(shown) == 1 else title,
        networks=networks,
        few=len(networks) <= FEW,
        sections=[
            one for one in _sections(results, cards, pictures) if one.tables or one.pictures or one.facts or one.notes
        ],
    )


def _sections(results: BenchmarkResults, cards: Mapping[str, Card], pictures: Sequence[Picture]) -> Iterator[Section]:
    """Yield the sections, the most important first."""
    of = {topic: [one for one in pictures if one.topic == topic] for topic in Topic}
    photometry, runtime = tables.photometry(results), tables.runtime(results)
    yield Section("Accuracy", [tables.headline(results)], of[Topic.INPAINTING])
    if (truth := results.against_truth) is not None:
        known = [truth.data.description, f"simulator version {truth.data.simulator_version}"]
        yield Section("Against the truth of simulated exposures", [tables.headline(truth)], notes=known)
    yield Section(Topic.ROC, pictures=of[Topic.ROC])
    yield Section(Topic.PRECISION, pictures=of[Topic.PRECISION])
    yield Section("Dilated masks", tables.dilated(results))
    structured = tables.structures(results)
    yield Section("Structured masks", [structured] if structured else [])
    yield Section(Topic.DIAGNOSTICS, tables.diagnostics(results), of[Topic.DIAGNOSTICS], is_folded=True)
    for topic in (Topic.WORST, Topic.EXAMPLES):
        yield Section(topic, pictures=of[topic])
    description = [results.photometry.description] if results.photometry else []
    yield Section(Topic.PHOTOMETRY, [photometry] if photometry else [], of[Topic.PHOTOMETRY], notes=description)
    yield Section("Speed and memory", [runtime] if runtime else [])
    yield Section("Gates", [tables.gates(verdict) for verdict in results.verdicts], table_class="gates")
    methods = [(one.name, list(_method(one, cards))) for one in results.methods]
    facts = [("Data", list(_data(results))), *methods, ("Run", list(_run(results)))]
    yield Section("Data, methods and software", facts=facts)
    yield Section("Cautions", notes=results.cautions)
    yield Section("Not judged", notes=[f"{one.reference}: {one.reason}" for one in results.excluded])
    limits = dict.fromkeys(f"{name}: {limit}" for name, card in cards.items() for limit in card.limits)
    yield Section("Limits", notes=list(limits))


def _data(results: BenchmarkResults) -> Iterator[tuple[str, str]]:
    data = results.data
    yield "kind", f"{data.kind} data"
    yield "pixels", data.description
    yield "labels", data.labels
    yield "ignored", data.ignored
    for name, one in data.pixels.items():
        counts = f"{one.cosmic_rays:,} cosmic-ray, {one.ignored:,} ignored"
        yield field_name(name), f"{one.pixels:,} pixels of {one.exposures} exposures: {counts}"
    if (added := data.inpainting) is not None:
        stamps = f"{added.stamps:,} stamps, drawn with replacement" if added.stamps else "each stamp once"
        yield "filled", f"{stamps}; masks: CR masks of {added.per_stamp} other stamps for each stamp; seed {added.seed}"
    if data.kind == "synthetic":
        yield "simulator", f"version {data.simulator_version}, seeds {', '.join(map(str, data.seeds))}"
    if data.manifest_sha256:
        yield "sha256 of the manifest", data.manifest_sha256


def _method(result: MethodResult, cards: Mapping[str, Card]) -> Iterator[tuple[str, str]]:
    method = result.method
    if isinstance(method, BaselineMethod):
        yield "method", method.name
        for name, value in method.parameters.items():
            yield name, _parameter(value)
        yield "packages", _versions(method.packages)
    else:
        if (card := cards.get(method.reference)) is not None:
            yield from _card(card)
        yield "sha256 of the weights", method.sha256
        yield "computed by", f"{method.engine} on {method.device}"
    if result.tpr_at_fpr is not None:
        yield "TPR at fixed FPR", result.tpr_at_fpr


def _card(card: Card) -> Iterator[tuple[str, str]]:
    yield "title", card.identity.title
    yield "authors", ", ".join(card.identity.authors)
    yield "provenance", card.provenance.statement
    yield "training data", card.training.data
    yield "training", card.training.method
    if card.training.unknown:
        yield "not known", "; ".join(card.training.unknown)
    yield "licence", f"{card.licence.spdx}, {card.licence.copyright}"
    yield "cite", "; ".join(f"{one.text}, doi:{one.doi}" for one in card.citation)


def _run(results: BenchmarkResults) -> Iterator[tuple[str, str]]:
    yield "date", results.date.isoformat()
    yield "command", results.command
    yield "machine", results.machine
    yield "software", _versions(results.software)
    yield "curves and all figures", "results.json, beside this page"


def _versions(packages: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in packages.items()) or "none"


def _parameter(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{field_name(name)} {one:g}" for name, one in value.items())
    return ", ".join(f"{one:g}" for one in value) if isinstance(value, list) else str(value)
