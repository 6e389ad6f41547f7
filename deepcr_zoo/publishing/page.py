"""The README.md of a model on the Hub, rendered from its card and its measurements, never written by hand."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources

from jinja2 import Environment, StrictUndefined

from deepcr_zoo.bench.report.wording import field_name
from deepcr_zoo.bench.results import BenchmarkResults, GateResult, MethodResult, ModelVerdict
from deepcr_zoo.errors import printable
from deepcr_zoo.models.architectures import CHANNELS
from deepcr_zoo.models.interpolation import LAYERS, MOMENTUM, STEP_SIZE, STEPS
from deepcr_zoo.zoo.cards import Card, Figure, FigureUnit
from deepcr_zoo.zoo.hub.frontmatter import Evaluation, front_matter
from deepcr_zoo.zoo.names import Task
from deepcr_zoo.zoo.records import Measurement
from deepcr_zoo.zoo.registry import ORGANISATION, Architecture, LockedFile
from deepcr_zoo.zoo.rendering import input_text, markdown_table

TEMPLATE = "page.md.jinja"

# the Hub's names of our tasks
PIPELINES: dict[Task, str] = {"mask": "image-segmentation", "inpaint": "image-to-image"}


# factor from the unit of a published figure to the unit of our own measurements, and that unit as text
PUBLISHED_UNITS: dict[FigureUnit, tuple[float, str]] = {
    "percent": (0.01, ""),
    "fraction": (1.0, ""),
    "electron^2": (1.0, ", in e-^2"),
    "(100 electron)^2": (1e4, ", in e-^2"),
}


@dataclass(frozen=True)
class PageFacts:
    card: Card
    architecture: Architecture
    weights: LockedFile
    verdict: ModelVerdict
    cautions: Sequence[str]  # warnings for users
    measurements: Sequence[Measurement]  # operating points on record
    results: BenchmarkResults | None = None
    method: str | None = None  # name of this model in `results`
    base_model: str | None = None  # ``task/name@version`` that it was fine-tuned from
    base_repository: str | None = None  # repository of that model on the Hub
    picture: str | None = None  # file with its ROC curve, beside the page
    example: str | None = None  # file with a picture of its test vector, beside the page
    remarks: Sequence[str] = ()  # bounds of gates that are not the defaults
    organisation: str = ORGANISATION  # owner of the repository that the page is for

    @property
    def is_of_the_zoo(self) -> bool:
        """True for a repository of the zoo, whose registry lists the model by its plain name."""
        return self.organisation == ORGANISATION

    @property
    def address(self) -> str:
        """Name by which any machine loads the model: a plain one if the registry lists it, else that of its repository."""
        identity = self.card.identity
        if self.is_of_the_zoo:
            return f"{identity.task}/{identity.name}@{identity.version}"
        return f"hf:{self.organisation}/{identity.task}-{identity.name}@v{identity.version}"

    @property
    def has_fresh_tests(self) -> bool:
        """True if a run was judged on other data than the test visits of its training set."""
        own = self.card.provenance.manifest_sha256
        return self.results is not None and own is not None and self.results.data.manifest_sha256 != own

    @property
    def judged(self) -> MethodResult | None:
        """Figures of this model, if there was a benchmark."""
        found = self.results.methods if self.results is not None else []
        return next((one for one in found if one.name == self.method), None)


def render(facts: PageFacts) -> bytes:
    """Return the page; the same facts give the same bytes."""
    environment = Environment(autoescape=False, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)  # noqa: S701
    environment.filters["plain"] = _plain
    template = environment.from_string(resources.files(__package__).joinpath(TEMPLATE).read_text(encoding="utf-8"))
    card = facts.card
    text = template.render(
        facts=facts,
        card=card,
        reference=f"{card.identity.task}/{card.identity.name}@{card.identity.version}",
        input_text=input_text(card),
        unit_text="any unit" if card.input.pixel_unit is None else card.input.pixel_unit,
        channels=CHANNELS[card.identity.task],
        layers=LAYERS,
        steps=STEPS,
        step_size=STEP_SIZE,
        momentum=MOMENTUM,
        published=[_published_table(one.figures) for one in card.published_evaluation],
        measured=_measured_table(facts),
        operating=[_operating_points(one) for one in facts.measurements],
        gates=_gates_table(facts.verdict),
    )
    return (_front_matter(facts) + text.strip() + "\n").encode()


def _front_matter(facts: PageFacts) -> str:
    card = facts.card
    tags = ["astronomy", "cosmic-rays", "deepcr", card.identity.task, card.instrument.telescope, card.instrument.instrument]
    return front_matter(
        name=f"{card.identity.task}/{card.identity.name}@{card.identity.version}",
        spdx=card.licence.spdx,
        tags=list(dict.fromkeys("-".join(tag.lower().split()) for tag in tags)),
        pipeline=PIPELINES[card.identity.task],
        base_model=facts.base_repository,
        evaluations=[*_published(card), *_measured(facts)],
    )


def _published(card: Card) -> Iterator[Evaluation]:
    """Yield published figures, in the units of our own: shares, and e-^2."""
    metric = "recall" if card.identity.task == "mask" else "mse"
    doi = f"https://doi.org/{card.citation[0].doi}"
    for evaluation in card.published_evaluation:
        for figure in evaluation.figures:
            factor, unit = PUBLISHED_UNITS[figure.unit]
            name, value = f"{figure.quantity}{unit}, {figure.field} (published)", float(f"{figure.value * factor:.6g}")
            source = evaluation.source
            yield Evaluation(evaluation.test_set, figure.field, metric, name, value, source=source, source_url=doi)


def _measured(facts: PageFacts) -> Iterator[Evaluation]:
    """Yield the figures of the benchmark, as shares."""
    if facts.results is None or facts.judged is None:
        return
    data = f"{facts.results.data.description} ({facts.results.data.kind})"
    for field_type, found in facts.judged.fields.items():
        where = field_name(field_type)
        for rate in found.at_fpr:
            if rate.tpr is not None:
                name = f"TPR at FPR {100 * rate.fpr:g} %, {where}"
                yield Evaluation(data, field_type, "recall", name, round(rate.tpr, 4))
        if found.inpainting is not None and found.inpainting.mse is not None:
            name = f"mean squared error of repainted pixels, e-^2, {where}"
            yield Evaluation(data, field_type, "mse", name, float(f"{found.inpainting.mse:.4g}"))


def _published_table(figures: Sequence[Figure]) -> str:
    metrics = list(dict.fromkeys(figure.label for figure in figures))
    fields = list(dict.fromkeys(figure.field for figure in figures))
    values = {(figure.field, figure.label): f"{figure.value:g}" for figure in figures}
    return markdown_table(
        ["", *metrics], [[name, *(values.get((name, metric), "-") for metric in metrics)] for name in fields]
    )


def _measured_table(facts: PageFacts) -> str | None:
    """Return a table of all methods of the benchmark, by field type."""
    results = facts.results
    if results is None or facts.judged is None:
        return None
    fprs = [rate.fpr for rate in next(iter(facts.judged.fields.values())).at_fpr]
    header = ["field type", "method", *(f"TPR at FPR {100 * fpr:g} %" for fpr in fprs)]
    if results.data.inpainting is not None:
        header.append("MSE, e-^2")
    names = {one.name: "this network" if one.name == facts.method else _plain(one.name) for one in results.methods}
    rows = [
        [_plain(field_name(field_type)), names[one.name], *_figures(one, field_type, fprs)]
        for field_type in results.data.pixels
        for one in results.methods
    ]
    return markdown_table(header, rows)


def _plain(name: str) -> str:
    """Return a name as a text without links and tags."""
    return re.sub(r"([<>\[\]`\\])", r"\\\1", printable(name))


def _figures(method: MethodResult, field_type: str, fprs: Sequence[float]) -> list[str]:
    found = method.fields[field_type]
    tprs = {rate.fpr: rate.tpr for rate in found.at_fpr}
    shown = ["-" if (tpr := tprs.get(fpr)) is None else f"{100 * tpr:.1f} %" for fpr in fprs]
    if found.inpainting is not None:
        shown.append("-" if found.inpainting.mse is None else f"{found.inpainting.mse:.4g}")
    return shown


def _operating_points(measured: Measurement) -> tuple[str, str]:
    """Return the source of operating points, and their table."""
    where = f"{measured.data.kind} data: {measured.data.description}"
    rows = [
        [field_name(point.field_type), f"{100 * point.fpr:g} %", f"{100 * point.tpr:.1f} %", f"{point.threshold:.6g}"]
        for point in measured.operating_points
    ]
    table = markdown_table(["field type", "FPR", "TPR", "threshold"], rows)
    return f"{where}; {measured.software}, {measured.date}: `{measured.command}`", table


def _gates_table(verdict: ModelVerdict) -> str:
    def label(gate: GateResult) -> str:
        return gate.gate + (f" ({field_name(gate.field_type)})" if gate.field_type else "")

    rows = [[_plain(text) for text in (label(gate), gate.measured, gate.bound, gate.verdict)] for gate in verdict.gates]
    return markdown_table(["gate", "measured", "bound", "verdict"], rows)
