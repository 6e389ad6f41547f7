"""Gates: the requirements a model must meet before it may be published. Every gate is checked, even after one fails."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import partial
from itertools import product
from typing import NamedTuple

import numpy as np

from deepcr_zoo.bench import exclusions
from deepcr_zoo.bench.maskbenchmark import BEST
from deepcr_zoo.bench.results import (
    BIHARMONIC,
    IN_NOISE,
    MEDIAN,
    NOT_MEASURED,
    BenchmarkResults,
    Comparison,
    GateResult,
    Interval,
    MethodResult,
    ModelMethod,
    ModelVerdict,
    RateAtFpr,
)
from deepcr_zoo.bench.runs import Run
from deepcr_zoo.bench.runtime import example_frame
from deepcr_zoo.bench.subjects import Subject
from deepcr_zoo.dataset.quality import CHANCE, beyond_chance
from deepcr_zoo.dataset.reading import Dataset
from deepcr_zoo.dataset.store import ExposureRecord, Manifest
from deepcr_zoo.errors import DeepcrZooError, NotMeasuredError
from deepcr_zoo.files import read_file
from deepcr_zoo.models import testvectors, verification
from deepcr_zoo.models.model import WHOLE_FRAME, InpaintModel, MaskModel
from deepcr_zoo.zoo import sources
from deepcr_zoo.zoo.cards import contract_sha256, find_open_points
from deepcr_zoo.zoo.recipe import EnoughTpr, Recipe
from deepcr_zoo.zoo.records import POOLED, read_records
from deepcr_zoo.zoo.registry import TEST_VECTOR_FILE, ResolvedModel

FRAME_SIDE, TILE_SIDE = 512, 64
"""Sides of the image and the tiles of `Gate.TILES`, pixels."""

NO_INTERVAL = "no interval: too few blocks of sky, no pixels, or an FPR that is not reached whenever blocks are resampled"


class Gate(StrEnum):
    """All gates, by the text that results and pages show; a check fills the braces."""

    WEIGHTS = "weights are those of the registry"
    CARD = "the card is valid"
    FILES = "files are what they were"
    TEST_VECTOR = "reproduces its test vector"
    PARITY = "gives what upstream's own code gives"
    PUBLISHED_EVALUATION = "its published evaluation has a source"
    TILES = "tiles of {side} pixels give what the whole image gives"
    SEPARATE_SKY = "no sky is shared by training and test"
    SEPARATE_OBSERVATIONS = "no observation is shared by training and test (data.split_by)"
    LABELS = "labels are sound"
    ABOVE_LACOSMIC = "TPR at FPR {percent:g} % is above that of the best L.A.Cosmic"
    ABOVE_LACOSMIC_IN_TRUTH = (
        "TPR at FPR {percent:g} % is above that of the best L.A.Cosmic, against the truth of simulated exposures"
    )
    ENOUGH_TPR = "TPR at FPR {percent:g} % is above what the recipe names"
    STAR_CORES = "clean star cores are rarely masked, at the default threshold"
    STRUCTURES = "few masked pixels lie in lines, along trails or on the same pixels again, at the default threshold"
    BELOW_BASELINE = "MSE is below that of {baseline}"
    NO_REGRESSION = "not worse than {previous}"


_SKY = Gate.SEPARATE_SKY, "0 pairs of visits"
_OBSERVATIONS = Gate.SEPARATE_OBSERVATIONS, "0 observations; their sky may be the same"


class Measured(NamedTuple):
    """A value with its unit, and whether it is within its bound."""

    text: str
    holds: bool
    is_required: bool = True


@dataclass(frozen=True)
class Candidate:
    """A loaded model, which is all that the gates of an imported model need."""

    subject: Subject
    model: MaskModel | InpaintModel

    @property
    def tolerance(self) -> float:
        """The largest difference from its test vector that the card allows."""
        return self.model.card.test_vector.tolerance


@dataclass(frozen=True)
class Judged(Candidate):
    """A model trained here, with its recipe (for the bounds) and the results of its benchmark."""

    recipe: Recipe
    results: BenchmarkResults

    @property
    def name(self) -> str:
        """Name of the model in the results."""
        return self.subject.reference

    @property
    def method(self) -> MethodResult:
        """The results of the model; `NotMeasuredError` if the benchmark has none."""
        for one in self.results.methods:
            if one.name == self.name:
                return one
        raise NotMeasuredError(f"the benchmark has no figures of {self.name}")

    @property
    def field_types(self) -> list[str]:
        """The field types that are judged, without the pooled one."""
        return [name for name in self.results.data.pixels if name != POOLED]


@dataclass(frozen=True)
class Listed(Judged):
    """A model trained here and listed in the registry, whose run and data may be elsewhere."""

    @property
    def name(self) -> str:
        """Name that its weights had in the benchmark; `NotMeasuredError` unless they have one and the card is the same."""
        judged = (self.model.sha256, contract_sha256(self.model.card))
        methods = [(one.name, one.method) for one in self.results.methods if isinstance(one.method, ModelMethod)]
        names = [name for name, method in methods if (method.sha256, method.contract_sha256) == judged]
        if len(names) != 1:
            raise NotMeasuredError("the benchmark on record is not of these weights and this card")
        return names[0]


@dataclass(frozen=True)
class Evidence(Judged):
    """A model trained here, with all that its gates need."""

    dataset: Dataset


@dataclass(frozen=True)
class Check:
    """One gate for one model, with what measures it; `details` fill the braces of its text."""

    gate: Gate
    bound: str
    measure: Callable[[], Measured]
    field_type: str | None = None
    is_required: bool = True
    details: Mapping[str, object] = field(default_factory=dict)

    def result(self) -> GateResult:
        """Measure; a gate that cannot be measured fails."""
        try:
            measured = self.measure()
        except DeepcrZooError as error:
            measured = Measured(f"{NOT_MEASURED}{error}", holds=False)
        is_required = self.is_required and measured.is_required
        return GateResult(
            gate=self.gate.format(**self.details),
            field_type=self.field_type,
            measured=measured.text,
            bound=self.bound,
            verdict="not required" if not is_required else "passes" if measured.holds else "fails",
        )


def verdict(evidence: Evidence) -> ModelVerdict:
    """Check all gates of a model, imported or trained here."""
    if evidence.model.card.provenance.kind == "imported":
        return imported_verdict(evidence)
    gates = [check.result() for check in checks_of_trained(evidence)]
    return ModelVerdict(reference=evidence.subject.reference, gate_set="trained", gates=gates)


def imported_verdict(candidate: Candidate) -> ModelVerdict:
    """Check all gates of an imported model, which need no benchmark."""
    gates = [check.result() for check in checks_of_imported(candidate)]
    return ModelVerdict(reference=candidate.subject.reference, gate_set="imported", gates=gates)


def listed_verdict(listed: Listed) -> ModelVerdict:
    """Check the gates of a model trained here and listed in the registry.

    Those of its training set are on record, from the day on which it entered the registry; all others are checked anew.
    """
    gates = [check.result() for check in checks_of_listed(listed)]
    return ModelVerdict(reference=listed.subject.reference, gate_set="trained", gates=gates)


def checks_of_listed(listed: Listed) -> Iterator[Check]:
    data = listed.recipe.data
    separation = _SKY if data.simulated is not None or data.split_by == "sky" else _OBSERVATIONS
    yield from _checks(
        listed,
        files=partial(_weights, listed),
        separation=Check(*separation, partial(_recorded, listed, separation[0])),
        labels=partial(_recorded, listed, Gate.LABELS),
    )


def _recorded(listed: Listed, gate: Gate) -> Measured:
    """Return what is on record of a gate that needs the training set."""
    recorded = [one.gates for one in listed.results.verdicts if one.reference == listed.name]
    found = [one for gates in recorded for one in gates if one.gate == gate]
    if len(found) != 1:
        raise NotMeasuredError("it is not on record beside the card")
    return Measured(f"{found[0].measured} (on {listed.results.date})", found[0].verdict == "passes")


def checks_of_imported(candidate: Candidate) -> Iterator[Check]:
    tolerance, of_tiles = f"{candidate.tolerance:g} at most", {"side": TILE_SIDE}
    has_source = "1 or more; where none is published, a caution to its users"
    yield Check(Gate.WEIGHTS, "same sha256 and size", partial(_weights, candidate))
    yield Check(Gate.CARD, "follows its schema, nothing left open", partial(_card, candidate))
    yield Check(Gate.TEST_VECTOR, tolerance, partial(_test_vector, candidate))
    yield Check(Gate.PARITY, "a record of its release", partial(_parity, candidate))
    yield Check(Gate.TILES, tolerance, partial(_tiles, candidate), details=of_tiles)
    yield Check(Gate.PUBLISHED_EVALUATION, has_source, partial(_published_evaluation, candidate))


def checks_of_trained(evidence: Evidence) -> Iterator[Check]:
    datasets = _datasets(evidence)
    files, labels = partial(_files, evidence, datasets), partial(_labels, evidence.recipe, datasets)
    yield from _checks(evidence, files=files, separation=_separation(datasets), labels=labels)


def _checks(
    judged: Judged, *, files: Callable[[], Measured], separation: Check, labels: Callable[[], Measured]
) -> Iterator[Check]:
    """Yield the checks of a model trained here, with those that its training set is needed for."""
    tolerance, of_tiles = f"{judged.tolerance:g} at most", {"side": TILE_SIDE}
    yield Check(Gate.CARD, "follows its schema, nothing left open", partial(_card, judged))
    yield Check(Gate.FILES, "same sha256", files)
    yield Check(Gate.TEST_VECTOR, tolerance, partial(_test_vector, judged))
    yield separation
    yield Check(Gate.LABELS, _label_bounds(judged.recipe), labels)
    yield from _mask_quality(judged) if isinstance(judged.model, MaskModel) else _inpainting_quality(judged)
    yield Check(Gate.TILES, tolerance, partial(_tiles, judged), details=of_tiles)
    yield from _no_regression(judged)


def _mask_quality(judged: Judged) -> Iterator[Check]:
    block, sure = judged.recipe.gates, "with 95 % confidence"
    for name in judged.field_types:
        for fpr in block.above_lacosmic_at_fpr:
            enough = next((one for one in block.enough if one.field_type == name and math.isclose(one.fpr, fpr)), None)
            if enough is None:
                gate, bound, measure = Gate.ABOVE_LACOSMIC, f"above 0 points {sure}", partial(_lead, judged, name, fpr)
            else:
                bound = f"above {100 * enough.tpr:g} % {sure}"
                gate, measure = Gate.ENOUGH_TPR, partial(_enough_tpr, judged, enough)
            yield Check(gate, bound, measure, name, details={"percent": 100 * fpr})
    truth = judged.recipe.benchmark.truth
    for name, fpr in product(truth.visits if truth else (), block.above_lacosmic_at_fpr):
        details, measure = {"percent": 100 * fpr}, partial(_lead_in_truth, judged, name, fpr)
        yield Check(Gate.ABOVE_LACOSMIC_IN_TRUTH, f"above 0 points {sure}", measure, name, details=details)
    for name in judged.field_types:
        bound = f"{100 * block.max_star_core_rate:g} % at most"
        yield Check(Gate.STAR_CORES, bound, partial(_star_cores, judged, name), name)
    for name in judged.field_types:
        bound = f"{100 * block.max_structured_share:g} % of them at most"
        yield Check(Gate.STRUCTURES, bound, partial(_structures, judged, name), name)


def _inpainting_quality(judged: Judged) -> Iterator[Check]:
    bound = "below 1 with 95 % confidence" + (", in units of the noise" if _is_judged_in_noise(judged) else "")
    for method, baseline in ((MEDIAN, "the masked median"), (BIHARMONIC, "biharmonic interpolation")):
        for name in judged.field_types:
            measure = partial(_mse_ratio, judged, method, name)
            yield Check(Gate.BELOW_BASELINE, bound, measure, name, details={"baseline": baseline})


def _is_judged_in_noise(judged: Judged) -> bool:
    """True for inpainting in units of the noise: in e- the cameras with the brightest pixels would decide alone."""
    return isinstance(judged.model, InpaintModel) and judged.model.card.input.by_noise


def _card(candidate: Candidate) -> Measured:
    card = candidate.subject.card()
    if missing := find_open_points(card):
        advice = "fill in each field and delete its line in open_points"
        return Measured(f"open: {'; '.join(missing)}; {advice}", holds=False)
    return Measured(f"valid, {card.licence.spdx}, {len(card.citation)} to cite", holds=True)


def _weights(candidate: Candidate) -> Measured:
    found, locked = candidate.model.sha256, _resolved(candidate).locked.weights.sha256
    return Measured(f"sha256 {found[:12]}..., locked {locked[:12]}...", found == locked)


def _files(evidence: Evidence, datasets: Sequence[Dataset]) -> Measured:
    if evidence.subject.run is None:
        return _weights(evidence)
    Run.open(evidence.subject.run.folder)  # compares the recipe
    for dataset in datasets:
        dataset.verify()
    method, weights = evidence.method.method, f"weights {evidence.model.sha256[:12]}..."
    if not isinstance(method, ModelMethod) or method.sha256 != evidence.model.sha256:
        return Measured(f"{weights} are not those that were judged", holds=False)
    if method.contract_sha256 != contract_sha256(evidence.model.card):
        return Measured("input, output or tolerance of the card are not those that were judged", holds=False)
    files = sum(len(visit.record.exposures) for dataset in datasets for visit in dataset.manifest.visits)
    return Measured(f"recipe, manifest and {files} files of stamps are unchanged; {weights}", holds=True)


def _test_vector(candidate: Candidate) -> Measured:
    origin = candidate.subject.origin
    if isinstance(origin, ResolvedModel):
        data = sources.fetch(origin, TEST_VECTOR_FILE).data
    else:
        try:
            data = read_file(origin.folder / TEST_VECTOR_FILE)
        except OSError as error:
            raise NotMeasuredError(f"{TEST_VECTOR_FILE} cannot be read: {error.strerror}") from None
    found = verification.compare(candidate.model, testvectors.read(data, candidate.subject.reference))
    return Measured(f"differs by {found.max_difference:.2g} at most", found.verdict == "reproduces")


def _parity(candidate: Candidate) -> Measured:
    records = read_records(_resolved(candidate)).parity
    known = [one for one in records if one.weights_sha256 == candidate.model.sha256]
    if not known:
        raise NotMeasuredError("there is no parity record of these weights; benchmarks/parity.py makes one")
    last = known[-1]
    text = f"differs from {last.package} {last.release} by {last.max_difference:.2g} at most, {last.date}"
    return Measured(f"{text}; {last.tolerance:g} is allowed", last.max_difference <= last.tolerance)


def _published_evaluation(candidate: Candidate) -> Measured:
    """Check that published figures have a source; a model without any must carry a warning for its users instead."""
    warning = _resolved(candidate).locked.warning
    if published := candidate.model.card.published_evaluation:
        return Measured("; ".join(one.source for one in published), holds=True)
    if warning:
        return Measured(f"none is published; users are warned: {warning}", holds=True, is_required=False)
    return Measured("none is published, and users are not warned", holds=False)


def _resolved(candidate: Candidate) -> ResolvedModel:
    if isinstance(candidate.subject.origin, Run):
        raise NotMeasuredError("a run is not in the registry")
    return candidate.subject.origin


def _tiles(candidate: Candidate) -> Measured:
    """Compare tiles with the whole image: in probability, or relative to the largest filled value."""
    model, (image, mask) = candidate.model, example_frame(FRAME_SIDE)
    tiled, whole = (
        model.predict(image, tile=tile) if isinstance(model, MaskModel) else model.fill(image, mask, tile=tile)
        for tile in (TILE_SIDE, WHOLE_FRAME)
    )
    unit = 1.0 if isinstance(model, MaskModel) else float(np.abs(whole[mask]).max())
    difference = float(np.abs(tiled - whole).max()) / unit
    return Measured(f"differ by {difference:.2g} at most", difference <= candidate.tolerance)


def _separation(datasets: Sequence[Dataset]) -> Check:
    """Return the check that training and test share no sky, or no observation where the recipe declares such a split."""
    manifests = [dataset.manifest for dataset in datasets]
    if any(manifest.split_by == "sky" for manifest in manifests):
        return Check(*_SKY, partial(_shared_sky, manifests))
    return Check(*_OBSERVATIONS, partial(_shared_observations, manifests))


def _datasets(evidence: Evidence) -> list[Dataset]:
    """Return the training set that a model was judged on, and that of a run if it is another."""
    run, judged_on = evidence.subject.run, evidence.dataset
    is_same = run is None or run.facts.manifest_sha256 == judged_on.manifest_sha256
    return [judged_on] if run is None or is_same else [judged_on, run.dataset()]


def _shared_sky(manifests: list[Manifest]) -> Measured:
    shared = _pairs(manifests, exclusions.sky_comparison(manifests[0]))
    return Measured(f"{len(shared)} pairs of visits{': ' if shared else ''}{', '.join(shared)}", not shared)


def _shared_observations(manifests: list[Manifest]) -> Measured:
    shared = _pairs(manifests, exclusions.same_observation)
    on_sky = _pairs(manifests, exclusions.sky_comparison(manifests[0]))
    text = f"{len(shared)} observations{': ' if shared else ''}{', '.join(shared)}"
    return Measured(f"{text}; {len(on_sky)} pairs of visits share their sky, as the recipe declares", not shared)


def _pairs(manifests: list[Manifest], are_same: exclusions.Comparison) -> list[str]:
    """Return the pairs of training visits of any manifest and test visits of the first that are the same.

    A telescope has not seen what is simulated.
    """
    comparable = [one for one in manifests if one.is_synthetic == manifests[0].is_synthetic]
    trained = [visit for manifest in comparable for visit in exclusions.visits_of(manifest, "train")]
    tested = exclusions.visits_of(manifests[0], "test")
    return sorted({f"{one.name} and {other.name}" for one in trained for other in tested if are_same(one, other)})


def _label_bounds(recipe: Recipe) -> str:
    block = recipe.build.quality
    return (
        f"background and rate within factors of {block.max_background_ratio:g} and {block.max_rate_ratio:g} of the visit's, "
        f"star excess up to {block.max_star_excess:g}, rate and excess but for chance"
    )


def _labels(recipe: Recipe, datasets: Sequence[Dataset]) -> Measured:
    """Check the most extreme exposures; those rejected by the build have no stamps and do not count."""
    block = recipe.build.quality
    visits = [visit for dataset in datasets for visit in dataset.manifest.visits]
    pairs = (pair for visit in visits for pair in zip(visit.record.exposures, visit.stamps, strict=True))
    exposures = [exposure for exposure, stamps in pairs if stamps.keys() - {"guard"}]

    def factor(ratio: float | None) -> float:
        return 1.0 if ratio is None else max(ratio, 1 / ratio) if ratio > 0 else math.inf

    def has_masked_stars(one: ExposureRecord) -> bool:
        # without a recorded chance, the build has already let the exposure pass
        is_beyond = one.star_excess_chance is not None and one.star_excess_chance < CHANCE
        return one.star_excess is not None and one.star_excess > block.max_star_excess and is_beyond

    sky = max((factor(one.background_ratio) for one in exposures), default=math.inf)
    rate = max((beyond_chance(factor(one.rate_ratio), one.rate_chance) for one in exposures), default=math.inf)
    excess = max((one.star_excess or 0.0 for one in exposures), default=math.inf)
    starry = [one.name for one in exposures if has_masked_stars(one)]
    text = f"{len(exposures)} exposures: background within {sky:.3g}, rate within {rate:.3g}, star excess {excess:.3g}"
    holds = sky <= block.max_background_ratio and rate <= block.max_rate_ratio and not starry
    return Measured(f"{text}{'; masked stars in ' if starry else ''}{', '.join(starry)}", holds)


def _lead(judged: Judged, field_type: str, fpr: float) -> Measured:
    found = _comparison(judged, BEST, field_type, fpr)
    if found.value is None:
        return _lead_over_more_false_pixels(judged, field_type, fpr)
    ours, theirs = (_rate(judged.results, name, field_type, fpr).tpr or 0.0 for name in (found.method, BEST))
    text = f"{100 * ours:.1f} % against {100 * theirs:.1f} %: {100 * found.value:+.1f}"
    if found.interval is None:
        raise NotMeasuredError(f"{text} points, and {NO_INTERVAL}")
    return Measured(f"{text} {_points(found.interval)} points", found.interval.low > 0)


def _lead_over_more_false_pixels(judged: Judged, field_type: str, fpr: float) -> Measured:
    """Compare with L.A.Cosmic at a higher FPR, where no setting has so few false pixels: with fewer it finds no more."""
    ours = _rate(judged.results, judged.name, field_type, fpr)
    best = [one.fields[field_type] for one in judged.results.methods if one.name == BEST]
    higher = [rate for one in best for rate in one.at_fpr if rate.fpr > fpr and rate.tpr_interval is not None]
    theirs = min(higher, key=lambda rate: rate.fpr, default=None)
    if ours.tpr_interval is None:
        raise NotMeasuredError(f"{judged.name} has no TPR at this FPR")
    if theirs is not None and theirs.tpr_interval is not None:
        text = f"{_tpr(ours)} against at most {_tpr(theirs)}, its TPR at FPR {100 * theirs.fpr:g} %: its grid ends above"
        return Measured(text, ours.tpr_interval.low > theirs.tpr_interval.high)
    least = min((point for one in best for point in one.curve), key=lambda point: (point.fpr, -point.tpr), default=None)
    if least is None or least.fpr <= fpr:
        raise NotMeasuredError("L.A.Cosmic has no TPR at this FPR: a wider grid of sigclip may reach it")
    text = f"{_tpr(ours)} against at most {100 * least.tpr:.1f} %, its TPR at FPR {100 * least.fpr:.2g} %, its lowest"
    return Measured(text, ours.tpr_interval.low > least.tpr)


def _lead_in_truth(judged: Judged, field_type: str, fpr: float) -> Measured:
    results = judged.results.against_truth
    if results is None:
        raise NotMeasuredError("the benchmark has no figures against the truth: run it again")
    return _lead(replace(judged, results=results), field_type, fpr)


def _enough_tpr(judged: Judged, enough: EnoughTpr) -> Measured:
    found = _rate(judged.results, judged.name, enough.field_type, enough.fpr)
    if found.tpr is None or found.tpr_interval is None:
        raise NotMeasuredError(NO_INTERVAL)
    return Measured(_tpr(found), found.tpr_interval.low > enough.tpr)


def _tpr(found: RateAtFpr) -> str:
    """Return a TPR with its interval, both of which are known."""
    assert found.tpr is not None
    assert found.tpr_interval is not None
    return f"{100 * found.tpr:.1f} % ({100 * found.tpr_interval.low:.1f} to {100 * found.tpr_interval.high:.1f} %)"


def _star_cores(judged: Judged, field_type: str) -> Measured:
    diagnostics = judged.method.fields[field_type].diagnostics
    if diagnostics is None:
        raise NotMeasuredError("the benchmark has no figures of star cores")
    groups = diagnostics.star_cores
    pixels = sum(group.pixels for group in groups)
    masked = sum(group.pixels * (group.rates[0] or 0.0) for group in groups)
    if not pixels:
        return Measured("no star core among the test stamps", holds=True)
    text = f"{100 * masked / pixels:.2f} % of {pixels} pixels"
    return Measured(text, masked / pixels <= judged.recipe.gates.max_star_core_rate)


def _structures(judged: Judged, field_type: str) -> Measured:
    found = judged.method.fields[field_type].structures
    if found is None:
        raise NotMeasuredError("the benchmark has no figures of structures")
    labels = judged.results.data.structures.get(field_type)
    text = (
        f"{100 * found.share:.2f} % of {found.masked} pixels (in lines {found.in_lines}, along trails {found.in_trails}, on "
        f"the same pixels {found.persistent})"
    )
    text += "" if labels is None else f"; of the labels {100 * labels.share:.2f} %"
    return Measured(text, found.share <= judged.recipe.gates.max_structured_share)


def _mse_ratio(judged: Judged, baseline: str, field_type: str) -> Measured:
    found = _comparison(judged, baseline, field_type, None)
    return Measured(_difference(found), found.interval is not None and found.interval.high < 1)


def _no_regression(judged: Judged) -> Iterator[Check]:
    previous = judged.subject.previous()
    if previous is None:
        measured = Measured("there is no version before", holds=True)
        yield Check(Gate.NO_REGRESSION, "-", lambda: measured, details={"previous": "the version before"})
        return
    is_mask, is_required = isinstance(judged.model, MaskModel), judged.recipe.gates.no_regression
    bound = "not below 0 points with 95 % confidence" if is_mask else "not above 1 with 95 % confidence"
    bound += ", in units of the noise" if _is_judged_in_noise(judged) else ""
    for name in judged.field_types:
        measure = partial(_regression, judged, previous.reference, name)
        yield Check(Gate.NO_REGRESSION, bound, measure, name, is_required, {"previous": previous.reference})


def _regression(judged: Judged, previous: str, field_type: str) -> Measured:
    is_mask = isinstance(judged.model, MaskModel)
    lowest = min(judged.recipe.gates.above_lacosmic_at_fpr)  # below it there may be too few pixels
    fprs = [fpr for fpr in judged.recipe.benchmark.fprs if fpr >= lowest] if is_mask else [None]
    found = [_comparison(judged, previous, field_type, fpr) for fpr in fprs]
    return Measured("; ".join(map(_difference, found)), not any(map(_is_worse, found)))


def _difference(found: Comparison) -> str:
    if found.value is None or found.interval is None:
        raise NotMeasuredError(NO_INTERVAL)
    if found.fpr is None:
        return f"{found.value:.3f} times its MSE ({found.interval.low:.3f} to {found.interval.high:.3f})"
    return f"{100 * found.value:+.1f} {_points(found.interval)} points at FPR {100 * found.fpr:g} %"


def _points(interval: Interval) -> str:
    """Return an interval of shares in percentage points: ``(-1.2 to +3.4)``."""
    return f"({100 * interval.low:+.1f} to {100 * interval.high:+.1f})"


def _is_worse(found: Comparison) -> bool:
    assert found.interval is not None  # _difference has raised before
    return found.interval.high < 0 if found.fpr is not None else found.interval.low > 1


def _comparison(judged: Judged, against: str, field_type: str, fpr: float | None) -> Comparison:
    quantity = "TPR difference" if fpr is not None else IN_NOISE if _is_judged_in_noise(judged) else "MSE ratio"
    wanted = (judged.name, against, field_type, quantity)
    for one in judged.results.comparisons:
        if (one.method, one.against, one.field_type, one.quantity) == wanted and math.isclose(one.fpr or 0, fpr or 0):
            return one
    excluded = [one.reason for one in judged.results.excluded if one.reference == against]
    at = "" if fpr is None else f" at FPR {100 * fpr:g} %"
    raise NotMeasuredError("; ".join(excluded) or f"{against} was not judged beside it{at}")


def _rate(results: BenchmarkResults, method: str, field_type: str, fpr: float) -> RateAtFpr:
    for result in results.methods:
        for rate in result.fields[field_type].at_fpr if result.name == method else ():
            if math.isclose(rate.fpr, fpr):
                return rate
    raise NotMeasuredError(f"there is no TPR of {method} at FPR {100 * fpr:g} %: add it to benchmark.fprs")
