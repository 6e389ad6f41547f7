"""Sky ranges of models: measured ones beside the card, stated ones in it, and their text."""

import datetime

import pytest

from deepcr_zoo.zoo.cards import read_card
from deepcr_zoo.zoo.records import MeasuredOn, SkyRange, SkyRecord, append, read_records, sky_range, trained_sky_range
from deepcr_zoo.zoo.registries import default_registry
from deepcr_zoo.zoo.registry import read_registry
from deepcr_zoo.zoo.rendering import card_text
from tests.registries import SMALL, copy_registry


def record(day: int, lowest: float | None, highest: float | None) -> SkyRecord:
    return SkyRecord(
        date=datetime.date(2030, 1, day),
        software="deepcr-zoo",
        command="python benchmarks/skyrange.py",
        machine="a processor",
        data=MeasuredOn(kind="synthetic", description="scenes"),
        seeds=[1],
        rule="a rule",
        lowest=lowest,
        highest=highest,
    )


@pytest.fixture
def small(tmp_path):
    copy_registry(tmp_path)
    return read_registry(tmp_path).resolve(f"mask/{SMALL}" if "/" not in SMALL else SMALL)


def test_the_newest_record_counts_and_is_shown(small):
    for one in (record(2, None, 700.0), record(1, 5.0, 100.0)):
        append(small, one)
    known = sky_range(small, read_card(small))
    assert (known.lowest, known.highest) == (None, 700.0)
    assert dict(card_text(small, read_card(small)))["sky level"] == "up to 700 e-, measured on 2030-01-02"


def test_records_are_added_and_the_rest_of_the_results_stays(small):
    before = read_records(small)
    append(small, record(1, 5.0, None))
    after = read_records(small)
    assert (after.measurements, after.parity) == (before.measurements, before.parity)
    assert after.sky == [*before.sky, record(1, 5.0, None)]


def test_a_model_without_any_limit_has_no_range(small):
    append(small, record(31, None, None))
    assert sky_range(small, read_card(small)) is None


def test_a_card_can_state_the_range_of_its_training_images():
    card = read_card(default_registry().resolve(SMALL))
    assert trained_sky_range(card) is None  # frozen before the field existed
    stated = card.model_copy(update={"training": card.training.model_copy(update={"sky_range": [4.0, 160.0]})})
    known = trained_sky_range(stated)
    assert str(known) == "4 to 160 e-"
    assert [known.holds(level) for level in (3.9, 4.0, 160.0, 161.0)] == [False, True, True, False]


@pytest.mark.parametrize(
    ("lowest", "highest", "text"), [(None, 300.0, "up to 300 e-"), (5.0, None, "from 5 e- up"), (5.0, 300.0, "5 to 300 e-")]
)
def test_a_range_reads_well(lowest, highest, text):
    assert str(SkyRange(lowest, highest, "electron", "")) == text


@pytest.mark.parametrize("name", ["inpaint/ACS-WFC-F606W-2-32", "inpaint/ACS-WFC-F606W-3-32"])
def test_the_inpainting_networks_have_a_measured_range(name):
    model = default_registry().resolve(name)
    known = sky_range(model, read_card(model))
    assert known.holds(40)
    assert not any(known.holds(level) for level in (-100, -20, 0, 10_000))
