"""The conclusions about each network: whether it passes its gates, its purpose, its accuracy and its threshold."""

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
class Conclusion:
    """A network in a few sentences; purpose and threshold need its card."""

    reference: str
    outcome: Outcome
    verdict: str
    failed: Sequence[str]
    purpose: str | None
    threshold: str | None
    accuracy: str | None
    thresholds: Table | None


def conclusions(results: BenchmarkResults, cards: Mapping[str, Card]) -> list[Conclusion]:
    """Return the conclusions about all networks, judged ones first; cards are by reference, as far as they are known."""
    verdicts = {one.reference: one for one in results.verdicts}
    networks = [(one, one.method.reference) for one in results.methods if isinstance(one.method, ModelMethod)]
    found = []
    for method, reference in sorted(networks, key=lambda network: network[1] not in verdicts):
        card, (outcome, sentence, failed) = cards.get(reference), _outcome(verdicts.get(reference))
        if outcome == "passes" and results.data.kind == "synthetic":
            sentence += ", on synthetic data (a rehearsal)"
        purpose, threshold = (_purpose(card), _threshold(card)) if card else (None, None)
        accuracy = _finding(results, method) if results.data.inpainting is None else _filling(results, method)
        table = operating_points(method.operating_points) if method.operating_points else None
        found.append(Conclusion(reference, outcome, sentence, failed, purpose, threshold, accuracy, table))
    return found


def _outcome(verdict: ModelVerdict | None) -> tuple[Outcome, str, list[str]]:
    if verdict is None:
        return "compared", "compared only: its gates were not checked", []
    required = [one for one in verdict.gates if one.verdict != "not required"]
    if failed := [_failure(one) for one in required if one.verdict == "fails"]:
        return "fails", f"fails {len(failed)} of {len(required)} gates", failed
    return "passes", f"passes all {len(required)} gates", []


def _failure(gate: GateResult) -> str:
    where = f", {field_name(gate.field_type)}" if gate.field_type else ""
    return f"{gate.gate}{where}: {'measured ' if gate.was_measured else ''}{gate.measured}; bound: {gate.bound}"


def _purpose(card: Card) -> str:
    made_for = card.instrument
    filters = "any filter" if made_for.filters == ["*"] else ", ".join(made_for.filters)
    task = "finds cosmic rays in" if card.identity.task == "mask" else "fills masked pixels of"
    unit = {"electron": "electrons", "any": "any unit"}.get(card.input.unit, card.input.unit)
    return (
        f"{task} {made_for.telescope} {made_for.instrument}/{made_for.detector} images, {filters}; "
        f"{made_for.data_product}; pixel values in {unit}"
    )


def _threshold(card: Card) -> str:
    if card.output.threshold is None:
        return "none: it fills the pixels of a given mask"
    return f"{card.output.threshold:g} by default ({card.output.threshold_choice})"


def _finding(results: BenchmarkResults, method: MethodResult) -> str | None:
    """Return the TPR at the usual FPR, with that of the best baseline."""
    field_type = _main_field(results)
    fprs = [rate.fpr for rate in method.fields[field_type].at_fpr]
    fpr = USUAL_FPR if USUAL_FPR in fprs else next(iter(fprs), None)
    rates = [(one.name, rate) for one in results.methods for rate in one.fields[field_type].at_fpr]
    known = {name: rate for name, rate in rates if rate.fpr == fpr and rate.tpr is not None}
    if fpr is None or method.name not in known:
        return None
    own = known[method.name]
    sentence = f"at {fpr_name(fpr)} it finds {percent_with_interval(own.tpr, own.tpr_interval)} of the cosmic-ray pixels"
    if baselines := [one.name for one in results.methods if one.method.kind == "baseline" and one.name in known]:
        name = max(baselines, key=lambda one: known[one].tpr or 0.0)
        sentence += f"; {name}: {percent_with_interval(known[name].tpr, known[name].tpr_interval)}"
    return f"{sentence} ({field_name(field_type)})"


def _filling(results: BenchmarkResults, method: MethodResult) -> str | None:
    """Return the MSE, with that of the best baseline."""
    field_type = _main_field(results)
    errors = {one.name: one.fields[field_type].inpainting for one in results.methods}
    known = {name: one.mse for name, one in errors.items() if one is not None and one.mse is not None}
    if method.name not in known:
        return None
    sentence = f"mean squared error of filled pixels {significant(known[method.name])} (e-)²"
    baselines = [one.name for one in results.methods if one.method.kind == "baseline" and one.name in known]
    if baselines:
        mse, name = min((known[name], name) for name in baselines)
        sentence += f"; {name}: {significant(mse)} (e-)²"
    return f"{sentence} ({field_name(field_type)})"


def _main_field(results: BenchmarkResults) -> str:
    return POOLED if POOLED in results.data.pixels else next(iter(results.data.pixels))
