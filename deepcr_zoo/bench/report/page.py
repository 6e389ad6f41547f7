"""The report of a benchmark: one HTML page that needs nothing else, and its pictures (extra ``plot``)."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from itertools import groupby
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from deepcr_zoo.bench.report import figures, tables
from deepcr_zoo.bench.report.figures import Picture
from deepcr_zoo.bench.report.inshort import in_short
from deepcr_zoo.bench.report.tables import Table
from deepcr_zoo.bench.report.wording import field_name
from deepcr_zoo.bench.results import BaselineMethod, BenchmarkResults, MethodResult
from deepcr_zoo.files import write_together
from deepcr_zoo.zoo.cards import Card

PAGE, PICTURES = "report.html", "report"
TEMPLATE = "report.html.jinja"
FEW = 3
"""Of no more networks than this, the thresholds stand at the top of the page."""

Facts = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Section:
    """A part of the page; one without content is left out.

    Attributes
    ----------
    title : str
    tables : sequence of Table
    pictures : sequence of Picture
    facts : sequence of (str, facts)
        Headings and what stands below them, as terms with their meanings.
    notes : sequence of str
        Items of a list.
    folded : bool
        Whether its tables say again what its pictures do, and are seen when asked for.
    """

    title: str
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()
    facts: Sequence[tuple[str, Facts]] = ()
    notes: Sequence[str] = ()
    folded: bool = False

    @property
    def anchor(self) -> str:
        """Its name in addresses."""
        return "".join(letter if letter.isalnum() else "-" for letter in self.title.lower())

    @property
    def figures(self) -> list[tuple[str, list[Picture]]]:
        """The pictures, those in a row that have one caption together."""
        return [(caption, list(group)) for caption, group in groupby(self.pictures, key=lambda one: one.caption)]

    @property
    def has_content(self) -> bool:
        """Whether there is anything to show."""
        return bool(self.tables or self.pictures or self.facts or self.notes)


def write_report(
    results: BenchmarkResults, cards: Mapping[str, Card], folder: Path, pictures: Sequence[Picture] = ()
) -> Path:
    """Write ``report.html``, and each of its pictures as a PNG in ``report`` beside it, in place of those of an earlier one.

    Parameters
    ----------
    results : BenchmarkResults
    cards : mapping of str to Card
        Of the networks, by reference, as far as they are known.
    folder : Path
    pictures : sequence of Picture
        Of stamps (see `worst`); figures are drawn from the results.

    Returns
    -------
    Path
        Of the page. The same input gives the same bytes.

    Raises
    ------
    MissingExtraError
        If matplotlib is not installed.
    """
    drawn = [*figures.figures(results), *pictures]
    page = folder / PAGE
    contents = {folder / PICTURES / f"{one.name}.png": one.png for one in drawn}
    write_together({**contents, page: render(results, cards, drawn).encode()})
    for old in (folder / PICTURES).glob("*.png"):
        if old not in contents:
            old.unlink()
    return page


def render(results: BenchmarkResults, cards: Mapping[str, Card], pictures: Sequence[Picture]) -> str:
    """The page, with all pictures in it.

    Parameters
    ----------
    results : BenchmarkResults
    cards : mapping of str to Card
        By reference.
    pictures : sequence of Picture
        Figures and stamps.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["data"] = lambda png: base64.b64encode(png).decode()
    template = environment.from_string(resources.files(__package__).joinpath(TEMPLATE).read_text(encoding="utf-8"))
    networks = in_short(results, cards)
    return template.render(
        results=results,
        synthetic=results.data.kind == "synthetic",
        title=_title(
            [one.reference for one in networks if one.outcome != "compared"] or [one.reference for one in networks]
        ),
        networks=networks,
        few=len(networks) <= FEW,
        sections=[section for section in _sections(results, cards, pictures) if section.has_content],
    )


def _title(references: Sequence[str]) -> str:
    if len(references) == 1:
        return f"How good is {references[0]}?"
    return f"{len(references)} networks on the same pixels" if references else "Benchmark"


def _sections(results: BenchmarkResults, cards: Mapping[str, Card], pictures: Sequence[Picture]) -> Iterator[Section]:
    """In the order in which a reader asks."""
    of: dict[str, list[Picture]] = {}
    for picture in pictures:
        of.setdefault(picture.section, []).append(picture)
    photometry, runtime = tables.photometry(results), tables.runtime(results)
    yield Section("How well it does", [tables.headline(results)], of.pop(figures.INPAINTING, []))
    for title in (figures.ROC, figures.PRECISION):
        yield Section(title, pictures=of.pop(title, []))
    yield Section("Dilated masks", tables.dilated(results))
    yield Section(figures.DIAGNOSTICS, tables.diagnostics(results), of.pop(figures.DIAGNOSTICS, []), folded=True)
    photometry_pictures = of.pop(figures.PHOTOMETRY, [])
    for title, rest in of.items():  # stamps
        yield Section(title, pictures=rest)
    description = [results.photometry.description] if results.photometry else []
    yield Section(figures.PHOTOMETRY, [photometry] if photometry else [], photometry_pictures, notes=description)
    yield Section("Speed and memory", [runtime] if runtime else [])
    yield Section("Gates", [tables.gates(verdict) for verdict in results.verdicts])
    yield Section(
        "Where the figures come from", facts=[("Data", _data(results)), *_methods(results, cards), ("Run", _run(results))]
    )
    yield Section("Cautions", notes=results.cautions)
    yield Section("Not judged", notes=[f"{one.reference}: {one.reason}" for one in results.excluded])
    limits = dict.fromkeys(f"{name}: {limit}" for name, card in cards.items() for limit in card.limits)
    yield Section("Limits", notes=list(limits))


def _data(results: BenchmarkResults) -> Facts:
    data = results.data
    facts = [("kind", f"{data.kind} data"), ("pixels", data.description), ("labels", data.labels), ("ignored", data.ignored)]
    facts += [
        (
            field_name(name),
            f"{one.pixels:,} pixels of {one.exposures} exposures: {one.cosmic_rays:,} cosmic-ray, {one.ignored:,} ignored",
        )
        for name, one in data.pixels.items()
    ]
    if (added := data.inpainting) is not None:
        stamps = f"{added.stamps:,} stamps, drawn with replacement" if added.stamps else "each stamp once"
        facts.append(("filled", f"{stamps}; under the CR masks of {added.per_stamp} other stamps each; seed {added.seed}"))
    if data.kind == "synthetic":
        facts.append(("simulator", f"version {data.simulator_version}, seeds {', '.join(map(str, data.seeds))}"))
    return [*facts, *([("sha256 of the manifest", data.manifest_sha256)] if data.manifest_sha256 else [])]


def _methods(results: BenchmarkResults, cards: Mapping[str, Card]) -> Iterator[tuple[str, Facts]]:
    for one in results.methods:
        yield one.name, list(_method(one, cards))


def _method(result: MethodResult, cards: Mapping[str, Card]) -> Iterator[tuple[str, str]]:
    method = result.method
    if isinstance(method, BaselineMethod):
        yield "what", method.name
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
    yield "what", card.identity.title
    yield "authors", ", ".join(card.identity.authors)
    yield "provenance", card.provenance.statement
    yield "training data", card.training.data
    yield "training", card.training.method
    if card.training.unknown:
        yield "not known", "; ".join(card.training.unknown)
    yield "licence", f"{card.licence.spdx}, {card.licence.copyright}"
    yield "cite", "; ".join(f"{one.text}, doi:{one.doi}" for one in card.citation)


def _run(results: BenchmarkResults) -> Facts:
    return [
        ("date", results.date.isoformat()),
        ("command", results.command),
        ("machine", results.machine),
        ("software", _versions(results.software)),
        ("curves and all figures", "results.json, beside this page"),
    ]


def _versions(packages: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in packages.items()) or "none"


def _parameter(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{field_name(name)} {one:g}" for name, one in value.items())
    return ", ".join(f"{one:g}" for one in value) if isinstance(value, list) else str(value)
