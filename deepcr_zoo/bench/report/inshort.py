"""What a benchmark says of each network, in a few sentences: may it be used, for what, and at which threshold?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from deepcr_zoo.bench.report.tables import Table, operating_points
from deepcr_zoo.bench.report.wording import USUAL_FPR, field_name, fpr_name, percent_with_interval, significant
from deepcr_zoo.bench.results import BenchmarkResults, GateResult, MethodResult, ModelMethod, ModelVerdict
from deepcr_zoo.zoo.cards import Card
from deepcr_zoo.zoo.records import POOLED

Outcome = Literal["passes", "fails", "compared"]


@dataclass(frozen=True)
class InShort:
    """A network in short.

    Attributes
    ----------
    reference : str
    outcome : {"passes", "fails", "compared"}
    verdict : str
    failed : sequence of str
        Each gate that fails, and by how much.
    purpose, threshold : str or None
        What it is for and what it is set to, if its card is known.
    performance : str or None
    thresholds : Table or None
        Its operating points.
    """

    reference: str
    outcome: Outcome
    verdict: str
    failed: Sequence[str]
    purpose: str | None
    threshold: str | None
    performance: str | None
    thresholds: Table | None


def in_short(results: BenchmarkResults, cards: Mapping[str, Card]) -> list[InShort]:
    """Every network of the results, those that were asked for first.

    Parameters
    ----------
    results : BenchmarkResults
    cards : mapping of str to Card
        By reference, as far as they are known.
    """
    verdicts = {one.reference: one for one in results.verdicts}
    networks = [(one, one.method.reference) for one in results.methods if isinstance(one.method, ModelMethod)]
    networks.sort(key=lambda network: network[1] not in verdicts)
    return [_of_network(results, one, verdicts.get(name), cards.get(name)) for one, name in networks]


def _of_network(results: BenchmarkResults, method: MethodResult, verdict: ModelVerdict | None, card: Card | None) -> InShort:
    assert isinstance(method.method, ModelMethod)
    outcome, sentence, failed = _judged(verdict)
    if outcome == "passes" and results.data.kind == "synthetic":
        sentence += ", on synthetic data: a rehearsal"
    return InShort(
        reference=method.method.reference,
        outcome=outcome,
        verdict=sentence,
        failed=failed,
        purpose=_purpose(card) if card else None,
        threshold=_threshold(card) if card else None,
        performance=_filling(results, method) if results.data.inpainting is not None else _finding(results, method),
        thresholds=operating_points(method.operating_points) if method.operating_points else None,
    )


def _judged(verdict: ModelVerdict | None) -> tuple[Outcome, str, list[str]]:
    if verdict is None:
        return "compared", "compared, not gated: nothing here says whether it may be published", []
    required = [one for one in verdict.gates if one.verdict != "not required"]
    failed = [_failure(one) for one in required if one.verdict == "fails"]
    if failed:
        return "fails", f"fails {len(failed)} of {len(required)} gates", failed
    return "passes", f"passes all {len(required)} gates", []


def _failure(gate: GateResult) -> str:
    where = f", {field_name(gate.field_type)}" if gate.field_type else ""
    measured = gate.measured if gate.measured.startswith("not measured") else f"measured {gate.measured}"
    return f"{gate.gate}{where}: {measured}; bound: {gate.bound}"


def _purpose(card: Card) -> str:
    made_for = card.instrument
    filters = "any filter" if made_for.filters == ["*"] else ", ".join(made_for.filters)
    what = "finds cosmic rays in" if card.identity.task == "mask" else "fills masked pixels of"
    unit = {"electron": "electrons"}.get(card.input.unit, card.input.unit)
    return (
        f"{what} {made_for.telescope} {made_for.instrument}/{made_for.detector} images, {filters}; "
        f"{made_for.data_product}; pixel values in {unit}"
    )


def _threshold(card: Card) -> str:
    if card.output.threshold is None:
        return "none: it fills the pixels of the mask that it is given"
    return f"{card.output.threshold:g} unless you say otherwise ({card.output.threshold_choice})"


def _finding(results: BenchmarkResults, method: MethodResult) -> str | None:
    """TPR at the usual FPR beside that of the best baseline."""
    field_type = POOLED if POOLED in results.data.pixels else next(iter(results.data.pixels))
    fprs = [rate.fpr for rate in method.fields[field_type].at_fpr]
    if not fprs:
        return None
    fpr = USUAL_FPR if USUAL_FPR in fprs else fprs[0]
    known = {
        one.name: rate
        for one in results.methods
        for rate in one.fields[field_type].at_fpr
        if rate.fpr == fpr and rate.tpr is not None
    }
    if method.name not in known:
        return None
    own = known[method.name]
    baselines = {one.name: known[one.name] for one in results.methods if one.method.kind == "baseline" and one.name in known}
    sentence = f"at {fpr_name(fpr)} it finds {percent_with_interval(own.tpr, own.tpr_interval)} of the cosmic-ray pixels"
    if baselines:
        name, best = max(baselines.items(), key=lambda item: item[1].tpr or 0.0)
        sentence += f"; {name}: {percent_with_interval(best.tpr, best.tpr_interval)}"
    return f"{sentence} ({field_name(field_type)})"


def _filling(results: BenchmarkResults, method: MethodResult) -> str | None:
    """MSE beside that of the best baseline."""
    field_type = POOLED if POOLED in results.data.pixels else next(iter(results.data.pixels))
    known = {one.name: errors.mse for one in results.methods if (errors := one.fields[field_type].inpainting)}
    if known.get(method.name) is None:
        return None
    sentence = f"mean squared error of filled pixels {significant(known[method.name])} (e-)²"
    baselines = [
        (mse, one.name)
        for one in results.methods
        if one.method.kind == "baseline" and (mse := known.get(one.name)) is not None
    ]
    if baselines:
        mse, name = min(baselines)
        sentence += f"; {name}: {significant(mse)} (e-)²"
    return f"{sentence} ({field_name(field_type)})"
