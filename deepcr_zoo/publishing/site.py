"""The zoo as a static site: a list of all models, and a page for each version with the text of its page on the Hub."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup

from deepcr_zoo import files, locations
from deepcr_zoo.bench.report import figures
from deepcr_zoo.bench.report.figures import Topic
from deepcr_zoo.errors import OutputError
from deepcr_zoo.exposures.pictures import require_matplotlib
from deepcr_zoo.progress import Reporter
from deepcr_zoo.publishing.example import EXAMPLE_FILE
from deepcr_zoo.publishing.releases import README_FILE, Release, release_of_model
from deepcr_zoo.zoo.registry import Registry, ResolvedModel
from deepcr_zoo.zoo.rendering import input_text

TEMPLATE = "site.html.jinja"
CURVES = (Topic.ROC, Topic.PRECISION)


@dataclass(frozen=True)
class Row:
    """A version in the list of models."""

    reference: str
    address: str  # of its page, from the top of the site
    summary: str
    input: str
    threshold: str
    size_mb: float
    is_default: bool


def write_site(registry: Registry, folder: Path, reporter: Reporter) -> list[Path]:
    """Write the site of a registry into a new folder, and return its pages; the same registry gives the same bytes.

    `OutputError` if the folder exists and is not empty, `MissingExtraError` without matplotlib.
    """
    require_matplotlib()
    folder = Path(os.path.abspath(locations.expanded(folder)))  # which has a name, also as "."
    if not files.is_free(folder):
        raise OutputError(f"{folder}: exists and is no empty folder: choose another --output-dir, or remove it")
    references = registry.references()
    with files.reporting_failures(folder, "choose another --output-dir"), files.whole_folder(folder) as unfinished:
        rows = []
        for reference in reporter.track(references, "pages", len(references)):
            model = registry.resolve(reference)
            release = release_of_model(model)
            rows.append(_row(model, release))
            _write(unfinished / rows[-1].address, _model_files(release))
        _write(unfinished, {"index.html": _page("All models", "", rows=rows)})
    return [folder / "index.html", *(folder / row.address / "index.html" for row in rows)]


def _row(model: ResolvedModel, release: Release) -> Row:
    threshold = release.card.output.threshold
    return Row(
        release.reference,
        f"{release.entry}/{release.card.identity.version}",
        release.summary,
        input_text(release.card),
        "-" if threshold is None else f"{threshold:g}",
        model.locked.weights.size / 1e6,
        model.locked == model.entry.versions[model.entry.default],
    )


def _model_files(release: Release) -> dict[str, bytes]:
    """Return a page and its pictures."""
    curves = dict(_curves(release))
    text = release.files[README_FILE].decode().partition("\n---\n")[2]
    page = _page(release.reference, _html(text), curves=list(curves), top="../../../")
    return {"index.html": page, EXAMPLE_FILE: release.files[EXAMPLE_FILE], **curves}


def _curves(release: Release) -> Iterator[tuple[str, bytes]]:
    """Yield the curves of its benchmark, if it has one, by the names of their files."""
    results = release.facts.results
    if results is not None:
        curves = [plot for plot in figures.plots(results) if plot.topic in CURVES and plot.name.endswith("-all")]
        yield from ((f"{picture.name}.png", picture.png) for picture in figures.drawn(results, curves))


def _html(markdown: str) -> Markup:
    """Return a page of the Hub as HTML: its tags are texts, and links lead to web pages and files alone."""
    return Markup(MarkdownIt("commonmark", {"html": False}).enable("table").render(markdown))  # noqa: S704 - no tag passes


def _page(title: str, body: Markup | str, **content: object) -> bytes:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(resources.files(__package__).joinpath(TEMPLATE).read_text(encoding="utf-8"))
    return template.render(title=title, body=body, **{"rows": [], "curves": [], "top": "", **content}).encode()


def _write(folder: Path, contents: Mapping[str, bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
