"""Origin of an exposure by the keywords of its camera."""

from types import SimpleNamespace

import pytest

from deepcr_zoo.dataset import visits
from deepcr_zoo.dataset.identities import identify
from deepcr_zoo.dataset.store import Home
from deepcr_zoo.errors import InvalidFileError, UsageError
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


def test_a_name_of_a_file_that_is_no_text_is_refused_where_the_header_has_no_other(tmp_path):
    assert identity(tmp_path / "a\udcff.fits", {"ROOTNAME": "a2"}).observation == "a2"
    with pytest.raises(InvalidFileError, match="its name is no text, by which training sets could know it: rename it"):
        identity(tmp_path / "b\udcff.fits", {})


def test_a_folder_of_training_sets_whose_name_is_no_text_is_refused(tmp_path):
    with pytest.raises(UsageError, match="its name is no text, by which runs could know it: name another DEEPCR_ZOO_DATA"):
        Home(tmp_path / "d\udcff")


def test_two_visits_never_have_one_name_also_where_a_file_is_called_like_a_second_pointing():
    def visit(observation):
        return (SimpleNamespace(proposal=0, visit="", filter_name="R", observation=observation),)

    for order in (["m51-p2", "m51", "m51"], ["m51", "m51", "m51-p2"], ["m51", "m51-p2", "m51", "m51"]):
        names = visits._names([visit(one) for one in order], "observation")
        assert len(set(names)) == len(order), names
