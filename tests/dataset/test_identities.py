"""Origin of an exposure by the keywords of its camera."""

import pytest

from deepcr_zoo.dataset.identities import identify
from deepcr_zoo.exposures.reading import read_exposure
from deepcr_zoo.exposures.readingoptions import ReadingOptions
from deepcr_zoo.zoo.instruments import Instrument
from tests.described import CAMERA, SAID
from tests.groundframes import write_frame


def identity(path, keywords, **facts):
    sources = {**CAMERA["sources"], **dict.fromkeys(facts, SAID)}
    camera = Instrument.model_validate({**CAMERA, **facts, "sources": sources})
    write_frame(path, **keywords)
    exposure = read_exposure(path, ReadingOptions(instrument=camera))
    return identify(exposure, exposure.chips[0].keywords)


@pytest.mark.parametrize(
    ("keywords", "names", "mjd"),
    [
        ({"DATE-OBS": "2026-01-01T12:00:00"}, ["DATE-OBS"], 61041.5),
        ({"DATE-OBS": "2026-01-01T12:00:00.000Z"}, ["DATE-OBS"], 61041.5),
        ({"DATE-OBS": "2026-01-01", "UT": "12:00:00.0"}, ["DATE-OBS", "UT"], 61041.5),
        ({"DATE-OBS": "2026-01-01"}, ["DATE-OBS", "UT"], 61041.0),
        ({"MJD-OBS": 61041.5}, ["MJD-OBS", "DATE-OBS"], 61041.5),
        ({"MJD-OBS": 0.0, "DATE-OBS": "2026-01-01"}, ["MJD-OBS", "DATE-OBS"], 61041.0),
        ({"JD": 2461042.0}, ["JD"], 61041.5),
        ({"DATE-OBS": "01/01/26"}, ["DATE-OBS"], 0.0),
        ({"DATE-OBS": "1949-12-31T00:00:00"}, ["DATE-OBS"], 33281.0),
    ],
)
def test_the_start_is_read_as_mjd_jd_or_date_and_clock(keywords, names, mjd, tmp_path):
    found = identity(tmp_path / "a.fits", keywords, time_keywords=names)
    assert found.start_mjd == pytest.approx(mjd, abs=1e-6)


def test_proposal_visit_and_target_come_from_the_keywords_of_the_description(tmp_path):
    keywords = {"PROPID": 123, "BLOCK": "b7.1", "OBJECT": "M 31"}
    named = {"proposal_keywords": ["PROPID"], "visit_keywords": ["BLOCK"], "target_keywords": ["OBJECT"]}
    found = identity(tmp_path / "a.fits", keywords, **named)
    assert (found.observation, found.proposal, found.visit, found.target) == ("a", 123, "B7", "M 31")
    plain = identity(tmp_path / "b.fits", {"PROPID": "LCO2021B-002"}, proposal_keywords=["PROPID"])
    assert (plain.proposal, plain.visit, plain.target) == (0, "", "Field 1")
