"""The draft card says the facts of the run, and what is open."""

import dataclasses
import datetime

import numpy as np
import pytest
import torch

from deepcr_zoo.bench.runs import EpochRecord
from deepcr_zoo.dataset.store import DatasetVisit, ExposureRecord, Manifest, StoredFile, VisitRecord
from deepcr_zoo.documents import as_yaml, parse_document
from deepcr_zoo.errors import InvalidWeightsError
from deepcr_zoo.models import testvectors, weights
from deepcr_zoo.models.model import load_files
from deepcr_zoo.models.nets import UNet
from deepcr_zoo.training.draftcard import DraftFacts, draft_card, draft_test_vector
from deepcr_zoo.zoo.cards import Card, find_open_points
from deepcr_zoo.zoo.recipe import Recipe
from deepcr_zoo.zoo.recipefiles import find_recipe, read_recipe
from deepcr_zoo.zoo.registry import Architecture

AUTHORS = "publish.authors=[A. Stronomer]"
RECIPE_HASH, MANIFEST_HASH = "a" * 64, "b" * 64
COUNTS = {"train": 6, "validation": 2, "test": 0, "guard": 1}


def recipe_of(name: str = "acs-wfc-f606w-2-4", *settings: str) -> Recipe:
    return read_recipe(find_recipe(name), settings)


def exposure(name: str, time: float) -> ExposureRecord:
    return ExposureRecord(
        name=name,
        stamps=StoredFile(name=f"{name}.safetensors", sha256="c" * 64, bytes=1),
        count=9,
        exposure_time_s=time,
        sky_electron=50.0,
        sky_source="mdrizsky",
        background_ratio=1.0,
        cosmic_ray_fraction=0.01,
        cosmic_rays_per_cm2_s=1.0,
        rate_ratio=1.0,
        star_excess=1.0,
        ignored_fraction=0.0,
    )


def visit(name: str, split: str, *times: float, filter_name: str = "F606W", rejection: str | None = None) -> DatasetVisit:
    exposures = [exposure(f"{name}{number}", time) for number, time in enumerate(times)]
    record = VisitRecord(
        key=name,
        name=name,
        field_type="extragalactic",
        instrument="HST ACS/WFC",
        filter_name=filter_name,
        stamp_size=64,
        software="drizzlepac 3.11.0",
        exposures=exposures,
        rejection=rejection,
    )
    return DatasetVisit(record=record, split=split, stamps=[{split: [0]} for _ in exposures])


def manifest_of(*visits: DatasetVisit, rehearsal: bool = False) -> Manifest:
    return Manifest.model_construct(
        name="ACS-WFC-F606W-2-4",
        key="d" * 32,
        rehearsal=rehearsal,
        stamp_size=64,
        counts={"extragalactic": COUNTS},
        visits=list(visits),
        rejected=[],
        missing=[],
        cautions=[],
    )


def history_of(rates: list[float], freeze: int = 2, best: int = 1) -> list[EpochRecord]:
    """Epochs at these learning rates, frozen after some."""
    return [
        EpochRecord(
            epoch=epoch,
            frozen=epoch > freeze,
            learning_rate=rate,
            train_loss=0.3,
            validation_loss=0.2 if epoch == best else 0.25,
            is_best=epoch in (1, best),
            precision="float32",
            seconds=1.0,
            stamps_per_second=6.0,
        )
        for epoch, rate in enumerate(rates, 1)
    ]


def facts_of(manifest: Manifest | None = None, history: list[EpochRecord] | None = None) -> DraftFacts:
    return DraftFacts(
        recipe_sha256=RECIPE_HASH,
        manifest=manifest or manifest_of(visit("v1", "train", 400.0, 500.0), visit("v2", "train", 100.0)),
        manifest_sha256=MANIFEST_HASH,
        history=history or history_of([0.005, 0.005, 0.002, 0.002]),
        date=datetime.date(2026, 11, 23),
        visits=["10001-01", "10001-02"],
    )


def network_of(recipe: Recipe, seed: int = 1) -> UNet:
    """A network with random weights, whose running statistics are not those it started with."""
    torch.manual_seed(seed)
    network = UNet(recipe.train.architecture, recipe.task)
    for norm in (one for one in network.modules() if isinstance(one, torch.nn.BatchNorm2d)):
        norm.running_mean.uniform_(-0.2, 0.2)
        norm.running_var.uniform_(0.5, 2.0)
    return network.eval()


def card_of(recipe: Recipe, facts: DraftFacts | None = None, network: UNet | None = None) -> Card:
    return draft_card(recipe, "1.0", (network or network_of(recipe)).state_dict(), facts or facts_of())


def test_the_card_states_the_sky_levels_that_training_showed():
    assert card_of(recipe_of()).training.sky_range == [5.0, 200.0]  # 50 e-, and alpha from -0.9 to 3


@pytest.mark.parametrize("name", ["acs-wfc-f606w-2-4", "acs-wfc-f606w-inpaint-3-32", "wfc3-uvis"])
@pytest.mark.parametrize("norm", ["batch", "none"])
def test_a_draft_is_a_valid_card_and_survives_its_file(name, norm):
    card = card_of(recipe_of(name, f"train.architecture.norm={norm}"))
    assert parse_document(as_yaml(card), Card, "card.yaml") == card
    assert Card.model_validate(card.model_dump()) == card
    assert (card.input.fingerprint is None) == (norm == "none")


def test_the_statement_names_what_the_network_was_made_of():
    provenance = card_of(recipe_of()).provenance
    for text in ("ACS-WFC-F606W-2-4", "2026-11-23", "deepcr-zoo 0", "real exposures"):
        assert text in provenance.statement
    assert (provenance.recipe_sha256, provenance.manifest_sha256) == (RECIPE_HASH, MANIFEST_HASH)


def test_a_draft_lists_every_visit_that_the_network_was_trained_on_or_says_that_they_are_unknown():
    assert card_of(recipe_of()).training.visits == ["10001-01", "10001-02"]
    recipe = recipe_of("acs-wfc-f606w-2-4", "train.init_from=DECam-2-32@1.0")
    card = card_of(recipe, facts=dataclasses.replace(facts_of(), visits=None))
    assert card.training.visits is None
    assert card.training.unknown == ["which visits DECam-2-32@1.0 was trained on"]


def test_exposure_times_and_filters_are_those_of_the_training_visits_that_are_used():
    manifest = manifest_of(
        visit("v1", "train", 400.0, 500.0, filter_name="F814W"),
        visit("v2", "train", 100.0),
        visit("v3", "test", 9000.0, filter_name="F435W"),
        visit("v4", "train", rejection="too short", filter_name="F435W"),
    )
    instrument = card_of(recipe_of(), facts_of(manifest)).instrument
    assert instrument.exposure_time_s == [100.0, 450.0]
    assert instrument.filters == ["F606W", "F814W"]


@pytest.mark.parametrize(("depth", "multiple", "halo"), [(2, 2, 16), (3, 4, 24)])
def test_multiple_and_halo_follow_from_the_depth(depth, multiple, halo):
    card = card_of(recipe_of("acs-wfc-f606w-2-4", f"train.architecture.depth={depth}"))
    assert (card.input.multiple, card.input.halo) == (multiple, halo)


def test_a_rehearsal_says_so_in_title_provenance_data_and_limits():
    card = card_of(recipe_of(), facts_of(manifest_of(visit("v1", "train", 400.0), rehearsal=True)))
    assert "rehearsal" in card.identity.title
    assert "simulated exposures" in card.provenance.statement
    assert "simulated exposures" in card.training.data
    assert "not for science" in card.limits[0]
    assert "Trained on F606W alone." in card.limits
    assert not any("simulated" in text for text in [*card_of(recipe_of()).limits, card_of(recipe_of()).training.data])


def test_the_method_is_what_happened_not_what_was_planned():
    recipe = recipe_of("acs-wfc-f606w-2-4", "train.init_from=ACS-WFC-F606W-2-4@1.0", "train.augmentation.flips=true")
    history = history_of([0.005, 0.005, 0.005, 0.002, 0.002, 0.0002], freeze=3, best=5)
    method = card_of(recipe, facts_of(history=history)).training.method
    assert "in training mode for 3 epochs, then frozen, with a new Adam at 0.002" in method
    assert "which came 1 time" in method
    assert "6 epochs of at most 60; weights of epoch 5, of the lowest validation loss, 0.2" in method
    assert "the weights of ACS-WFC-F606W-2-4@1.0" in method
    assert "flips" in method


def test_a_network_that_was_never_frozen_or_always_was_is_described_so():
    def method(freeze: int) -> str:
        return card_of(recipe_of(), facts_of(history=history_of([0.005, 0.005], freeze))).training.method

    assert "for 2 epochs, never frozen" in method(5)
    assert "BatchNorm frozen from the start" in method(0)


def test_a_draft_lists_what_a_person_must_fill_in():
    draft = card_of(recipe_of("acs-wfc-f606w-2-4", "publish.authors=[]"))
    assert draft.open_points == ["identity.authors: the recipe has no publish.authors"]
    finished = card_of(recipe_of("acs-wfc-f606w-2-4", AUTHORS))
    assert finished.open_points is None
    assert find_open_points(finished) == []
    bare = card_of(recipe_of("acs-wfc-f606w-2-4", AUTHORS, "publish.limits=[]", "publish.licence=MIT"))
    fields = ["limits", "licence.copyright", "licence.file"]
    assert [point.partition(":")[0] for point in bare.open_points] == fields
    # a line of open_points that is deleted before its field is filled in does not finish the card
    unlisted = find_open_points(bare.model_copy(update={"open_points": None}))
    assert [point.partition(":")[0] for point in unlisted] == ["limits.0", *fields[1:]]


def test_known_papers_are_cited_in_full_and_others_by_their_doi():
    card = card_of(recipe_of("acs-wfc-f606w-2-4", "publish.citations=[10.3847/1538-4357/ab3fa6, 10.5555/12_3]"))
    assert card.citation[0].text == "Zhang & Bloom 2020, ApJ 889, 24"
    assert card.citation[1].text == "https://doi.org/10.5555/12_3"
    assert "doi = {10.5555/12_3}" in card.citation[1].bibtex
    assert card_of(recipe_of("acs-wfc-f606w-2-4", "publish.citations=[]")).citation == card.citation[:1]


@pytest.mark.parametrize("name", ["acs-wfc-f606w-2-4", "acs-wfc-f606w-inpaint-3-32"])
def test_the_model_of_the_three_files_reproduces_its_test_vector(name):
    recipe = recipe_of(name)
    network = network_of(recipe)
    card, data = card_of(recipe, network=network), weights.serialise(network.state_dict())
    vector = testvectors.read(draft_test_vector(data, card, recipe.train.architecture), name)
    model = load_files(data, card, recipe.train.architecture, name, "cpu")
    found = model.predict(vector.image) if recipe.task == "mask" else model.fill(vector.image, vector.mask)
    unit = 1 if recipe.task == "mask" else np.abs(vector.expected).max()
    assert np.abs(found - vector.expected).max() / unit <= card.test_vector.tolerance
    assert np.ptp(vector.expected) > 1e-3


def test_a_draft_ties_the_weights_to_their_input_scale():
    recipe = recipe_of()
    network = network_of(recipe)
    data = weights.serialise(network.state_dict())
    other = card_of(recipe_of("acs-wfc-f606w-2-4", "train.input.scale=150.0"), network=network)
    wrong = other.model_copy(update={"input": other.input.model_copy(update={"scale": 100.0})})
    with pytest.raises(InvalidWeightsError, match="trained at another input scale"):
        load_files(data, wrong, recipe.train.architecture, "draft", "cpu")


def test_a_test_vector_of_another_architecture_is_refused():
    recipe = recipe_of()
    network = network_of(recipe)
    with pytest.raises(InvalidWeightsError, match="expected"):
        draft_test_vector(
            weights.serialise(network.state_dict()),
            card_of(recipe, network=network),
            Architecture(depth=2, hidden=8, norm="batch"),
        )
