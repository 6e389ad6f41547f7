"""``deepcr-zoo build``: what it says, and what it exits with; the building itself is tested in tests/dataset/."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from deepcr_zoo.cli.main import app
from deepcr_zoo.cli.options import default_jobs

SMALL = (
    "rehearsal.side=256",
    "rehearsal.stamps={size: 64, border: 32}",
    "rehearsal.exposure_time_s={extragalactic: 300}",
    "rehearsal.visits={train: 1, test: 1}",
)


def build(*arguments, settings=()):
    options = [word for setting in settings for word in ("--set", setting)]
    return CliRunner().invoke(app, ["build", *map(str, arguments), *options])


@pytest.mark.slow
def test_a_rehearsal_ends_in_a_manifest_and_pictures_and_is_not_done_twice():
    done = build("acs-wfc-f606w", "--rehearse", "--report", settings=SMALL)
    assert done.exit_code == 0, done.output
    assert "extragalactic" in done.stdout
    sheet, histograms, table, manifest = map(Path, done.stdout.split()[-4:])
    assert json.loads(manifest.read_text())["rehearsal"] is True
    assert all(picture.read_bytes().startswith(b"\x89PNG") for picture in (sheet, histograms))
    assert "simulated" in table.read_text()
    again = build("acs-wfc-f606w-2-4", "--rehearse", "--json", settings=SMALL)
    labels = [visit["record"] for visit in json.loads(again.stdout)["visits"]]
    assert labels == [visit["record"] for visit in json.loads(manifest.read_text())["visits"]]


def test_without_data_what_is_missing_is_listed_and_how_to_supply_it():
    done = build("acs-wfc-f606w")
    message = str(done.exception)
    assert done.exception.exit_code == 1
    assert "10420" in message
    assert "--data" in message
    assert "--rehearse" in message
    assert message.count("F606W") >= 14


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("acs-wfc-f606w", "--rehearse", "--data", "x"), "--rehearse"),
        (("acs-wfc-f606w", "--rehearse", "--jobs", "0"), "jobs"),
        (("acs-wfc-f606w", "--data", "nowhere"), "nowhere"),
    ],
)
def test_wrong_usage_is_named_and_has_exit_code_2(arguments, words):
    error = build(*arguments).exception
    assert words in str(error)
    assert error.exit_code == 2


def test_there_is_a_process_for_a_visit_at_least():
    assert default_jobs() >= 1
