"""Draft cards of trained networks: facts of the run are filled in, and what only a person can add is marked as open."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from torch import Tensor

from deepcr_zoo import simulate
from deepcr_zoo._version import __version__
from deepcr_zoo.bench.runs import EpochRecord
from deepcr_zoo.dataset.descriptions import describe_labels
from deepcr_zoo.dataset.store import DatasetVisit, Manifest, StampSplit
from deepcr_zoo.models import testvectors, weights
from deepcr_zoo.models.architectures import halo, multiple
from deepcr_zoo.training.state import decays
from deepcr_zoo.zoo import cards
from deepcr_zoo.zoo.recipe import ANY_PRODUCT, AugmentationBlock, Recipe, ScheduleBlock, Split
from deepcr_zoo.zoo.registries import default_registry
from deepcr_zoo.zoo.registry import Architecture

# Zhang & Bloom 2020, the source of the networks and their training: cited where the recipe cites nothing
METHOD_DOI = "10.3847/1538-4357/ab3fa6"

THRESHOLD = 0.5
# for float32, folded, any engine: ten times what networks of 32 channels need, and just what those of 4 channels do
TOLERANCE = 1e-4
_MOST_NAMED = 60  # visits in the description of the data
TO_DO = "TODO"  # text of a field that a person must fill in
LICENCE = "BSD-3-Clause"  # the licence whose text is in this repository


@dataclass(frozen=True)
class DraftFacts:
    """Facts of a run that are not in its recipe."""

    recipe_sha256: str  # hash of the resolved recipe
    manifest: Manifest
    manifest_sha256: str
    history: Sequence[EpochRecord]  # all epochs, at least one
    date: datetime.date  # day on which the training ended
    visits: list[str] | None
    """All visits that the network was trained on; None if they are not known of the model that it started from."""

    def visits_for(self, split: Split) -> list[DatasetVisit]:
        """Return the visits for training or testing that have stamps."""
        return [visit for visit in self.manifest.visits if visit.split == split and visit.record.exposures]


def draft_card(recipe: Recipe, version: str, state: Mapping[str, Tensor], facts: DraftFacts) -> cards.Card:
    """Return the draft of a card for weights that include BatchNorm; its `open_points` list what it lacks."""
    publish, is_rehearsal, is_synthetic = recipe.publish, facts.manifest.rehearsal, facts.manifest.is_synthetic
    return cards.Card(
        identity=cards.CardIdentity(
            name=recipe.name,
            task=recipe.task,
            version=version,
            title=publish.summary + (" (rehearsal on simulated exposures)" if is_rehearsal else ""),
            authors=publish.authors or [TO_DO],
        ),
        provenance=cards.CardProvenance(
            kind="trained",
            statement=f"Trained with deepcr-zoo {__version__} on {'simulated' if is_synthetic else 'real'} exposures by the "
            f"recipe {recipe.name}, finished on {facts.date.isoformat()}.",
            recipe_sha256=facts.recipe_sha256,
            manifest_sha256=facts.manifest_sha256,
        ),
        instrument=_instrument(recipe, facts),
        input=_input(recipe, state),
        output=_output(recipe),
        training=cards.CardTraining(
            data=_data(recipe, facts),
            visits=facts.visits,
            sky_range=_sky_range(recipe, facts),
            method=_method(recipe, facts.history),
            unknown=[] if facts.visits is not None else [f"which visits {_named(recipe.train.inherited)} trained on"],
            source="resolved recipe, manifest of the training set and metrics of the run",
        ),
        published_evaluation=[],
        limits=_limits(recipe, is_rehearsal),
        licence=_licence(publish.licence),
        citation=[_citation(doi) for doi in publish.citations or [METHOD_DOI]],
        test_vector=cards.CardTestVector(
            description="stars, galaxies and cosmic-ray tracks on a sky of 60, in the input unit "
            f"(deepcr_zoo.models.testvectors.example_image, seed {testvectors.SEED}); expected output in float64, "
            "BatchNorm not folded",
            tolerance=TOLERANCE,
        ),
        open_points=_open_points(recipe, is_rehearsal) or None,
    )


def draft_test_vector(data: bytes, card: cards.Card, architecture: Architecture) -> bytes:
    """Return the test vector file that belongs to a draft card and its weights file."""
    network = weights.trained_network(data, architecture, card.identity.task, card.identity.name)
    return testvectors.serialise(testvectors.make(network, card, testvectors.SEED))


def _instrument(recipe: Recipe, facts: DraftFacts) -> cards.CardInstrument:
    block, visits = recipe.instrument, facts.visits_for("train")
    times = [sum(one.exposure_time_s for one in visit.record.exposures) / len(visit.record.exposures) for visit in visits]
    times = [time for time in times if time > 0]  # 0 if it is not known, of images in arrays
    return cards.CardInstrument(
        telescope=block.telescope,
        instrument=block.instrument,
        detector=block.detector,
        # the recipe may ask for more filters than there were exposures of
        filters=sorted({visit.record.filter_name for visit in visits}) or block.filters,
        exposure_time_s=[round(min(times), 1), round(max(times), 1)] if times else None,
        data_product=_product(recipe.data.product),
    )


def _product(product: str) -> str:
    if product == "raw":
        return "raw frames, overscan subtracted (raw)"
    if product == ANY_PRODUCT:
        return "exposures as read out or calibrated"
    return f"calibrated exposures in native geometry ({product})"


def _input(recipe: Recipe, state: Mapping[str, Tensor]) -> cards.CardInput:
    given, architecture = recipe.train.input, recipe.train.architecture
    variance = weights.input_variance(state, given.scale)
    return cards.CardInput(
        unit=given.unit,
        normalisation=given.normalisation,
        scale=given.scale,
        multiple=multiple(architecture),
        halo=halo(architecture),
        fingerprint=None if variance is None else cards.Fingerprint(input_variance=float(f"{variance:.3g}")),
    )


def _output(recipe: Recipe) -> cards.CardOutput:
    if recipe.task == "inpaint":
        return cards.CardOutput(quantity="pixel value", uncertainty=recipe.train.architecture.outputs == 2)
    return cards.CardOutput(
        quantity="cosmic-ray probability",
        threshold=THRESHOLD,
        threshold_choice=f"{THRESHOLD}, where the network holds a cosmic ray as likely as none; not tuned to an error rate",
    )


def _data(recipe: Recipe, facts: DraftFacts) -> str:
    manifest, visits = facts.manifest, facts.visits_for("train")
    kind = f"simulated exposures (simulator version {simulate.VERSION})" if manifest.is_synthetic else "exposures"
    software = sorted({visit.record.software for visit in visits})
    exposures = sum(len(visit.record.exposures) for visit in visits)
    parts = [
        f"{exposures} {kind} of {_count(len(visits), 'visit')} ({_names([visit.record.name for visit in visits])})",
        f"{_stamps(manifest, 'train')} for training and {_stamps(manifest, 'validation')} for validation, of "
        f"{manifest.stamp_size} x {manifest.stamp_size} pixels",
        f"labels: {describe_labels(recipe, software)}",
    ]
    if tests := facts.visits_for("test"):
        parts.append(f"{_count(len(tests), 'other visit')} kept for testing, {_stamps(manifest, 'test')}")
    if manifest.split_by == "observation":
        parts.append("training and test are split by observation and may show the same sky")
    return "; ".join(parts)


def _names(visits: Sequence[str]) -> str:
    """Return the names of visits, or of the first and last where there are very many: the card lists them all."""
    if len(visits) <= _MOST_NAMED:
        return ", ".join(visits)
    return f"{visits[0]} to {visits[-1]}"


def _sky_range(recipe: Recipe, facts: DraftFacts) -> list[float] | None:
    """Return the lowest and the highest sky level that training showed to the network, augmentation included."""
    trained = facts.visits_for("train")
    skies = [
        exposure.sky_electron
        for visit in trained
        for exposure, indices in zip(visit.record.exposures, visit.stamps, strict=True)
        if indices.get("train")
    ]
    if not skies or recipe.train.input.unit != "electron":
        return None
    alphas = recipe.train.augmentation.sky or [0.0]
    shown = [sky * (1 + alpha) for sky in skies for alpha in alphas]
    return [float(f"{level:.3g}") for level in (min(shown), max(shown))]


def _stamps(manifest: Manifest, split: StampSplit) -> str:
    """Return a text such as ``630 stamps (210 extragalactic, ...)``."""
    counts = {field_type: of_type[split] for field_type, of_type in manifest.counts.items() if of_type[split]}
    kinds = ", ".join(f"{count} {field_type.replace('_', ' ')}" for field_type, count in counts.items())
    return _count(sum(counts.values()), "stamp") + (f" ({kinds})" if kinds else "")


def _named(models: Sequence[str]) -> str:
    return f"{' and '.join(models)} {'was' if len(models) == 1 else 'were'}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _method(recipe: Recipe, history: Sequence[EpochRecord]) -> str:
    train, schedule = recipe.train, recipe.train.schedule
    best = next(record for record in reversed(history) if record.is_best)
    kept = f"{_count(len(history), 'epoch')} of at most {schedule.max_epochs}; weights of epoch {best.epoch}, "
    parts = [
        _objective(recipe),
        f"Adam at {history[0].learning_rate:g}, batches of {schedule.batch_size} stamps",
        *([] if train.architecture.norm == "none" else [_freeze(recipe, history)]),
        _decay(schedule, history),
        *([] if schedule.gradient_clip is None else [f"gradients clipped at a norm of {schedule.gradient_clip:g}"]),
        _augmentation(train.augmentation),
        f"from {f'the weights of {train.init_from}' if train.init_from else 'random weights'}, seed {train.seed}",
        f"convolutions in {' and '.join(sorted({record.precision for record in history}))}",
        kept + f"of the lowest validation loss, {best.validation_loss:.4g}",
    ]
    return "; ".join(parts)


def _decay(schedule: ScheduleBlock, history: Sequence[EpochRecord]) -> str:
    if schedule.decay == "cosine":
        return f"learning rate falling along a half cosine over {_count(schedule.max_epochs, 'epoch')}"
    return (
        f"learning rate x {schedule.decay_factor:g} when the validation loss has not improved by "
        f"{100 * schedule.decay_min_improvement:g} % for more than {_count(schedule.decay_patience_epochs, 'epoch')}, "
        f"which came {_count(len(decays(history)), 'time')}"
    )


def _objective(recipe: Recipe) -> str:
    """Return the loss, and the pixel values that it compares where these are no multiples of those of the image."""
    train = recipe.train
    sources = "" if train.source_weight == 1 else f"; clean pixels of sources weigh {train.source_weight:g} times as much"
    if recipe.task == "mask":
        taught = f", against {train.teacher_share:g} of the probability of {train.teacher} and the rest of the label"
        pixels = "Binary cross-entropy over all pixels that are not ignored"
        return pixels + ("" if train.teacher is None else taught) + sources
    fewest, most = train.augmentation.inpainting_masks
    predicted = "Gaussian negative log-likelihood of value and predicted uncertainty"
    loss = "Mean squared error" if train.architecture.outputs == 1 else predicted
    return (
        f"{loss} on added masks (Zhang & Bloom 2020, Eq. 2), each the union of {fewest} to {most} CR masks of "
        "other stamps, with the stamp's own cosmic rays masked"
        + (", of asinh((pixel - sky) / noise)" if train.input.by_noise else "")
        + sources
    )


def _freeze(recipe: Recipe, history: Sequence[EpochRecord]) -> str:
    schedule = recipe.train.schedule
    thawed = sum(not record.frozen for record in history)
    if not thawed:
        return "BatchNorm frozen from the start"
    training = f"BatchNorm with momentum {schedule.batchnorm_momentum:g} in training mode for {_count(thawed, 'epoch')}"
    if thawed == len(history):
        return f"{training}, never frozen"
    if not schedule.restart_at_freeze:
        return f"{training}, then frozen"
    return f"{training}, then frozen, with a new Adam at {history[thawed].learning_rate:g}"


def _augmentation(settings: AugmentationBlock) -> str:
    parts = []
    if settings.sky is not None:
        lowest, highest = settings.sky
        noise = ", with its shot noise" if settings.shot_noise else ""
        parts.append(f"sky level augmentation with alpha in [{lowest:g}, {highest:g}]{noise}")
    if settings.noise_error:
        parts.append(f"errors of {100 * settings.noise_error:g} % of the measured noise")
    parts += ["flips and turns by 90 degrees"] if settings.flips else []
    return " and ".join(parts) or "no augmentation"


def _limits(recipe: Recipe, is_rehearsal: bool) -> list[str]:
    rehearsed = f"Trained on simulated exposures (simulator version {simulate.VERSION}): a rehearsal, not for science."
    limits = [*([rehearsed] if is_rehearsal else []), *recipe.publish.limits]
    return limits or [TO_DO]


def _licence(spdx: str) -> cards.Licence:
    if spdx == LICENCE:
        return cards.Licence(spdx=spdx, copyright="Copyright (c) 2026, the deepcr-zoo contributors", file="LICENSE")
    return cards.Licence(spdx=spdx, copyright=TO_DO, file=TO_DO)


def _open_points(recipe: Recipe, is_rehearsal: bool) -> list[str]:
    """Return the fields that the recipe leaves open, and what is missing."""
    publish = recipe.publish
    missing = {
        "identity.authors": None if publish.authors else "the recipe has no publish.authors",
        "limits": None if publish.limits or is_rehearsal else "the recipe has no publish.limits",
    }
    if publish.licence != LICENCE:
        missing["licence.copyright"] = f"the copyright line of {publish.licence}"
        missing["licence.file"] = f"the licence text of {publish.licence}, which this repository does not have"
    return [f"{field}: {text}" for field, text in missing.items() if text is not None]


def _citation(doi: str) -> cards.Citation:
    """Return the citation that the cards of the zoo have, else one made of the DOI alone."""
    if known := _known_citations().get(doi):
        return known
    bibtex = f"@misc{{{re.sub(r'[^A-Za-z0-9.]+', '-', doi)},\n  doi = {{{doi}}},\n  url = {{https://doi.org/{doi}}},\n}}\n"
    return cards.Citation(doi=doi, text=f"https://doi.org/{doi}", bibtex=bibtex)


@cache
def _known_citations() -> dict[str, cards.Citation]:
    registry = default_registry()
    known = [cards.read_card(registry.resolve(reference)) for reference in registry.references()]
    return {citation.doi: citation for card in known for citation in card.citation}
