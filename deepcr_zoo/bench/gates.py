"""Gates: what must hold before a model may be published. All are asked, whatever the others say."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from deepcr_zoo.bench import exclusions
from deepcr_zoo.bench.inpaintbenchmark import BIHARMONIC, MEDIAN
from deepcr_zoo.bench.maskbenchmark import BEST
from deepcr_zoo.bench.results import (
    BenchmarkResults,
    Comparison,
    GateResult,
    MethodResult,
    ModelMethod,
    ModelVerdict,
    RateAtFpr,
)
from deepcr_zoo.bench.runs import Run
from deepcr_zoo.bench.runtime import example_frame
from deepcr_zoo.bench.subjects import Subject
from deepcr_zoo.dataset.quality import CHANCE
from deepcr_zoo.dataset.reading import Dataset
from deepcr_zoo.dataset.store import ExposureRecord, VisitRecord
from deepcr_zoo.errors import DeepcrZooError, NotMeasuredError
from deepcr_zoo.models import testvectors, verification
from deepcr_zoo.models.model import WHOLE_FRAME, InpaintModel, MaskModel
from deepcr_zoo.zoo import records as recorded
from deepcr_zoo.zoo import sources
from deepcr_zoo.zoo.cards import contract_sha256, open_points
from deepcr_zoo.zoo.recipe import EnoughTpr, Recipe
from deepcr_zoo.zoo.records import POOLED
from deepcr_zoo.zoo.registry import TEST_VECTOR_FILE, ResolvedModel

FRAME_SIDE, TILE_SIDE = 512, 64
"""Pixels: of the image on which tiles are compared with the whole, and of the tiles."""

NO_INTERVAL = "no interval: too few blocks of sky, no pixels, or an FPR that is not reached whenever blocks are resampled"

Measured = tuple[str, bool]
"""A value with its unit, and whether it is within its bound."""


@dataclass(frozen=True)
class Network:
    """What the gates of an imported model look at.

    Attributes
    ----------
    subject : Subject
    model : MaskModel or InpaintModel
        The same, loaded.
    """

    subject: Subject
    model: MaskModel | InpaintModel


@dataclass(frozen=True)
class Evidence(Network):
    """What the gates of a model that was trained here look at besides.

    Attributes
    ----------
    dataset : Dataset
        That it was judged on.
    recipe : Recipe
        Whose gates and bounds count.
    results : BenchmarkResults
        What the benchmark has found.
    """

    dataset: Dataset
    recipe: Recipe
    results: BenchmarkResults

    @property
    def figures(self) -> MethodResult:
        """Those of the model.

        Raises
        ------
        NotMeasuredError
            If the benchmark has none.
        """
        for one in self.results.methods:
            if one.name == self.subject.reference:
                return one
        raise NotMeasuredError(f"the benchmark has no figures of {self.subject.reference}")


def verdict(evidence: Evidence) -> ModelVerdict:
    """Ask all gates of a model: those of an imported one, or of one that was trained here."""
    if evidence.model.card.provenance.kind == "imported":
        return imported_verdict(evidence)
    return ModelVerdict(reference=evidence.subject.reference, gate_set="trained", gates=list(_trained(evidence)))


def imported_verdict(network: Network) -> ModelVerdict:
    """Ask all gates of an imported model, which need no benchmark."""
    return ModelVerdict(reference=network.subject.reference, gate_set="imported", gates=list(_imported(network)))


def _imported(evidence: Network) -> Iterator[GateResult]:
    yield _gate("weights are those of the registry", "same sha256 and size", lambda: _locked(evidence))
    yield _gate("the card is valid", "follows its schema, nothing left open", lambda: _card(evidence))
    yield _test_vector(evidence)
    yield _gate("gives what upstream's own code gives", "a record of its release", lambda: _parity(evidence))
    yield _tiles(evidence)
    yield _published(evidence)


def _trained(evidence: Evidence) -> Iterator[GateResult]:
    yield _gate("the card is valid", "follows its schema, nothing left open", lambda: _card(evidence))
    yield _gate("files are what they were", "same sha256", lambda: _hashes(evidence))
    yield _test_vector(evidence)
    yield _apart(evidence)
    yield _gate("labels are sound", _quality_bounds(evidence.recipe), lambda: _label_quality(evidence))
    if isinstance(evidence.model, MaskModel):
        yield from _above_lacosmic(evidence)
        yield from _star_cores(evidence)
    else:
        yield from _below_baselines(evidence)
    yield _tiles(evidence)
    yield from _no_regression(evidence)


def _gate(gate: str, bound: str, measure: Callable[[], Measured], field_type: str | None = None) -> GateResult:
    """Ask one gate; what cannot be measured does not hold."""
    try:
        measured, holds = measure()
    except DeepcrZooError as error:
        measured, holds = f"not measured: {error}", False
    return GateResult(
        gate=gate, field_type=field_type, measured=measured, bound=bound, verdict="passes" if holds else "fails"
    )


def _card(evidence: Network) -> Measured:
    card = evidence.subject.card()
    missing = open_points(card)
    return (
        f"open: {'; '.join(missing)}" if missing else f"valid, {card.licence.spdx}, {len(card.citation)} to cite"
    ), not missing


def _locked(evidence: Network) -> Measured:
    model = _of_the_zoo(evidence)
    found, wanted = evidence.model.sha256, model.locked.weights.sha256
    return f"sha256 {found[:12]}..., locked {wanted[:12]}...", found == wanted


def _hashes(evidence: Evidence) -> Measured:
    if evidence.subject.run is None:
        return _locked(evidence)
    run = Run.open(evidence.subject.run.folder)  # compares the recipe
    trained_on = evidence.dataset if evidence.dataset.manifest_sha256 == run.facts.manifest_sha256 else run.dataset()
    trained_on.verify()
    method = evidence.figures.method
    if not isinstance(method, ModelMethod) or method.sha256 != evidence.model.sha256:
        return f"weights {evidence.model.sha256[:12]}... are not those that were judged", False
    if method.contract_sha256 != contract_sha256(evidence.model.card):
        return "input, output or tolerance of the card are not those that were judged", False
    files = sum(1 for visit in trained_on.manifest.visits for _ in visit.record.exposures)
    return f"recipe, manifest and {files} files of stamps are unchanged; weights {evidence.model.sha256[:12]}...", True


def _test_vector(evidence: Network) -> GateResult:
    tolerance = evidence.model.card.test_vector.tolerance

    def measure() -> Measured:
        found = verification.compare(evidence.model, testvectors.read(_vector_bytes(evidence), evidence.subject.reference))
        return f"differs by {found.max_difference:.2g} at most", found.verdict == "reproduces"

    return _gate("reproduces its test vector", f"{tolerance:g} at most", measure)


def _vector_bytes(evidence: Network) -> bytes:
    if isinstance(evidence.subject.origin, ResolvedModel):
        return sources.fetch(evidence.subject.origin, TEST_VECTOR_FILE).data
    try:
        return (evidence.subject.origin.folder / TEST_VECTOR_FILE).read_bytes()
    except OSError as error:
        raise NotMeasuredError(f"{TEST_VECTOR_FILE} cannot be read: {error.strerror}") from None


def _parity(evidence: Network) -> Measured:
    records = recorded.read_results(_of_the_zoo(evidence)).parity
    known = [one for one in records if one.weights_sha256 == evidence.model.sha256]
    if not known:
        raise NotMeasuredError("there is no parity record of these weights; benchmarks/parity.py makes one")
    last = known[-1]
    text = f"differs from {last.package} {last.release} by {last.max_difference:.2g} at most, {last.date}"
    return f"{text}; {last.tolerance:g} is allowed", last.max_difference <= last.tolerance


def _published(evidence: Network) -> GateResult:
    """Figures with their source; where there are none, and users are warned of that, there is nothing to ask."""
    gate, bound = "its published evaluation has a source", "1 or more; where none is published, a caution to its users"

    def measure() -> Measured:
        published = evidence.model.card.published_evaluation
        warning = _of_the_zoo(evidence).locked.warning
        none = f"none is published; {f'users are told: {warning}' if warning else 'and nobody is told'}"
        return "; ".join(one.source for one in published) or none, bool(published or warning)

    asked = _gate(gate, bound, measure)
    is_told = asked.verdict == "passes" and not evidence.model.card.published_evaluation
    return asked.model_copy(update={"verdict": "not required"}) if is_told else asked


def _of_the_zoo(evidence: Network) -> ResolvedModel:
    if isinstance(evidence.subject.origin, Run):
        raise NotMeasuredError("a run is not in the registry")
    return evidence.subject.origin


def _tiles(evidence: Network) -> GateResult:
    tolerance, model = evidence.model.card.test_vector.tolerance, evidence.model

    def measure() -> Measured:
        image, mask = example_frame(FRAME_SIDE)
        tiled, whole = (
            model.predict(image, tile=tile) if isinstance(model, MaskModel) else model.fill(image, mask, tile=tile)
            for tile in (TILE_SIDE, WHOLE_FRAME)
        )
        unit = 1.0 if isinstance(model, MaskModel) else float(np.abs(whole).max())
        difference = float(np.abs(tiled - whole).max()) / unit
        return f"differ by {difference:.2g} at most", difference <= tolerance

    return _gate(f"tiles of {TILE_SIDE} pixels give what the whole image gives", f"{tolerance:g} at most", measure)


def _apart(evidence: Evidence) -> GateResult:
    """Training and test share no sky; where the recipe declares a split by observation, no observation."""
    tested = exclusions.visits_of(evidence.dataset.manifest, "test")
    manifests = [evidence.dataset.manifest]
    if evidence.subject.run is not None:
        manifests.append(evidence.subject.run.dataset().manifest)
    trained = [visit for manifest in manifests for visit in exclusions.visits_of(manifest, "train")]

    def pairs(same: Callable[[VisitRecord, VisitRecord], bool]) -> list[str]:
        return sorted({f"{one.name} and {other.name}" for one in trained for other in tested if same(one, other)})

    def measure_sky() -> Measured:
        shared = pairs(exclusions.same_sky)
        return f"{len(shared)} pairs of visits{': ' if shared else ''}{', '.join(shared)}", not shared

    def measure_observations() -> Measured:
        shared, on_sky = pairs(exclusions.same_observation), pairs(exclusions.same_sky)
        told = f"{len(shared)} observations{': ' if shared else ''}{', '.join(shared)}"
        return f"{told}; {len(on_sky)} pairs of visits share their sky, as the recipe declares", not shared

    if any(manifest.split_by == "sky" for manifest in manifests):
        return _gate("no sky is shared by training and test", "0 pairs of visits", measure_sky)
    gate = "no observation is shared by training and test (data.split_by)"
    return _gate(gate, "0 observations; their sky may be the same", measure_observations)


def _quality_bounds(recipe: Recipe) -> str:
    block = recipe.build.quality
    return (
        f"background and rate within factors of {block.max_background_ratio:g} and {block.max_rate_ratio:g} of the visit's, "
        f"star excess up to {block.max_star_excess:g} but for chance"
    )


def _label_quality(evidence: Evidence) -> Measured:
    """The exposure that is farthest out of line; one rejected by the build has no stamps and is not among them."""
    block = evidence.recipe.build.quality
    exposures = [
        exposure
        for visit in evidence.dataset.manifest.visits
        for exposure, stamps in zip(visit.record.exposures, visit.stamps, strict=True)
        if stamps.keys() - {"guard"}
    ]

    def factor(ratio: float | None) -> float:
        return 1.0 if ratio is None else max(ratio, 1 / ratio) if ratio > 0 else math.inf

    def bad_stars(one: ExposureRecord) -> bool:
        # without a chance on record the build, which knew it, has let the exposure pass
        beyond_chance = one.star_excess_chance is not None and one.star_excess_chance < CHANCE
        return one.star_excess is not None and one.star_excess > block.max_star_excess and beyond_chance

    background = max((factor(one.background_ratio) for one in exposures), default=math.inf)
    rate = max((factor(one.rate_ratio) for one in exposures), default=math.inf)
    excess = max((one.star_excess or 0.0 for one in exposures), default=math.inf)
    starry = [one.name for one in exposures if bad_stars(one)]
    holds = background <= block.max_background_ratio and rate <= block.max_rate_ratio and not starry
    text = (
        f"{len(exposures)} exposures: background within {background:.3g}, rate within {rate:.3g}, star excess {excess:.3g}"
    )
    return f"{text}{'; masked stars in ' if starry else ''}{', '.join(starry)}", holds


def _above_lacosmic(evidence: Evidence) -> Iterator[GateResult]:
    block = evidence.recipe.gates
    named = {(one.field_type, one.fpr): one for one in block.enough}
    for field_type in _field_types(evidence):
        for fpr in block.above_lacosmic_at_fpr:
            enough = next((one for key, one in named.items() if key[0] == field_type and math.isclose(key[1], fpr)), None)
            yield _enough(evidence, enough) if enough else _beats(evidence, field_type, fpr)


def _beats(evidence: Evidence, field_type: str, fpr: float) -> GateResult:
    def measure() -> Measured:
        found = _comparison(evidence, BEST, field_type, fpr)
        if found.value is None:
            raise NotMeasuredError("one of the two has no TPR at this FPR: a wider grid of sigclip may reach it")
        ours, theirs = (_rate(evidence.results, name, field_type, fpr).tpr or 0.0 for name in (found.method, BEST))
        between = found.interval
        text = f"{100 * ours:.1f} % against {100 * theirs:.1f} %: {100 * found.value:+.1f}"
        if between is None:
            raise NotMeasuredError(f"{text} points, and {NO_INTERVAL}")
        return f"{text} ({100 * between.low:+.1f} to {100 * between.high:+.1f}) points", between.low > 0

    gate = f"TPR at FPR {100 * fpr:g} % is above that of the best L.A.Cosmic"
    return _gate(gate, "above 0 points with 95 % confidence", measure, field_type)


def _enough(evidence: Evidence, enough: EnoughTpr) -> GateResult:
    def measure() -> Measured:
        found = _rate(evidence.results, evidence.subject.reference, enough.field_type, enough.fpr)
        if found.tpr is None or found.tpr_interval is None:
            raise NotMeasuredError(NO_INTERVAL)
        low, high = found.tpr_interval.low, found.tpr_interval.high
        return f"{100 * found.tpr:.1f} % ({100 * low:.1f} to {100 * high:.1f} %)", low > enough.tpr

    gate = f"TPR at FPR {100 * enough.fpr:g} % is above what the recipe names"
    return _gate(gate, f"above {100 * enough.tpr:g} % with 95 % confidence", measure, enough.field_type)


def _star_cores(evidence: Evidence) -> Iterator[GateResult]:
    most = evidence.recipe.gates.max_star_core_rate

    def measure(field_type: str) -> Measured:
        diagnostics = evidence.figures.fields[field_type].diagnostics
        if diagnostics is None:
            raise NotMeasuredError("nobody has looked at star cores")
        groups = diagnostics.star_cores
        pixels = sum(group.pixels for group in groups)
        masked = sum(group.pixels * (group.rates[0] or 0.0) for group in groups)
        if not pixels:
            return "no star core among the test stamps", True
        return f"{100 * masked / pixels:.2f} % of {pixels} pixels", masked / pixels <= most

    for field_type in _field_types(evidence):
        gate = "clean star cores are rarely masked, at the default threshold"
        yield _gate(gate, f"{100 * most:g} % at most", lambda name=field_type: measure(name), field_type)  # type: ignore[misc]


def _below_baselines(evidence: Evidence) -> Iterator[GateResult]:
    def measure(baseline: str, field_type: str) -> Measured:
        found = _comparison(evidence, baseline, field_type, None)
        if found.value is None or found.interval is None:
            raise NotMeasuredError(NO_INTERVAL)
        low, high = found.interval.low, found.interval.high
        return f"{found.value:.3f} times its MSE ({low:.3f} to {high:.3f})", high < 1

    for baseline in (MEDIAN, BIHARMONIC):
        for name in _field_types(evidence):
            gate = f"MSE is below that of {'the masked median' if baseline == MEDIAN else 'biharmonic interpolation'}"
            asked = (baseline, name)
            yield _gate(gate, "below 1 with 95 % confidence", lambda asked=asked: measure(*asked), name)  # type: ignore[misc]


def _no_regression(evidence: Evidence) -> Iterator[GateResult]:
    gate, previous = "not worse than the version before", evidence.subject.previous()
    if previous is None:
        yield GateResult(gate=gate, measured="there is no version before", bound="-", verdict="passes")
        return
    gate = f"not worse than {previous.reference}"
    is_mask = isinstance(evidence.model, MaskModel)
    fprs: list[float | None] = [*evidence.recipe.benchmark.fprs] if is_mask else [None]
    bound = "not below 0 points with 95 % confidence" if is_mask else "not above 1 with 95 % confidence"
    for field_type in _field_types(evidence):

        def measure(name: str = field_type) -> Measured:
            found = [_comparison(evidence, previous.reference, name, fpr) for fpr in fprs]
            return "; ".join(map(_difference, found)), not any(map(_is_worse, found))

        asked = _gate(gate, bound, measure, field_type)
        yield asked if evidence.recipe.gates.no_regression else asked.model_copy(update={"verdict": "not required"})


def _difference(found: Comparison) -> str:
    if found.value is None or found.interval is None:
        raise NotMeasuredError(NO_INTERVAL)
    low, high = found.interval.low, found.interval.high
    if found.fpr is None:
        return f"{found.value:.3f} times its MSE ({low:.3f} to {high:.3f})"
    return f"{100 * found.value:+.1f} ({100 * low:+.1f} to {100 * high:+.1f}) points at FPR {100 * found.fpr:g} %"


def _is_worse(found: Comparison) -> bool:
    assert found.interval is not None  # _difference has refused it before
    return found.interval.high < 0 if found.fpr is not None else found.interval.low > 1


def _comparison(evidence: Evidence, against: str, field_type: str, fpr: float | None) -> Comparison:
    for one in evidence.results.comparisons:
        if (one.method, one.against, one.field_type) == (evidence.subject.reference, against, field_type) and _same(
            one.fpr, fpr
        ):
            return one
    excluded = [one.reason for one in evidence.results.excluded if one.reference == against]
    raise NotMeasuredError("; ".join(excluded) or f"{against} was not judged beside it{_at(fpr)}")


def _rate(results: BenchmarkResults, method: str, field_type: str, fpr: float) -> RateAtFpr:
    for result in results.methods:
        for rate in result.fields[field_type].at_fpr if result.name == method else ():
            if _same(rate.fpr, fpr):
                return rate
    raise NotMeasuredError(f"there is no TPR of {method}{_at(fpr)}: add it to benchmark.fprs")


def _same(one: float | None, other: float | None) -> bool:
    return one is other is None or (one is not None and other is not None and math.isclose(one, other))


def _at(fpr: float | None) -> str:
    return "" if fpr is None else f" at FPR {100 * fpr:g} %"


def _field_types(evidence: Evidence) -> Iterable[str]:
    return (name for name in evidence.results.data.pixels if name != POOLED)
