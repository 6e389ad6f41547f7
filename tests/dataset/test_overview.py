"""The report of a training set."""

import re

import pytest

from deepcr_zoo.dataset import overview
from deepcr_zoo.dataset.store import Rejected
from deepcr_zoo.errors import IntegrityError


def test_the_report_shows_stamps_and_lists_every_exposure(built, tmp_path):
    written = overview.write_report(built, tmp_path)
    assert [path.name for path in written] == ["stamps.png", "histograms.png", "report.md"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in written[:2])
    text = written[2].read_text()
    for visit in built.manifest.visits:
        for one in visit.record.exposures:
            assert f"| {one.name} |" in text
    assert "| extragalactic | 45 | 15 | 0 | 15 |" in text
    again = overview.write_report(built, tmp_path / "again")
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in written]


def test_the_summary_of_a_visit_is_one_line(built):
    record = built.manifest.visits[0].record
    text = overview.sentence(record)
    assert re.fullmatch(r"3 exposures, 75 stamps, 1\.\d\d% of the pixels masked, 1\.\d\d cosmic rays per cm2 and s", text)
    out = Rejected(what="x", reason="its background is odd")
    assert (
        overview.sentence(record.model_copy(update={"rejected": [out]})) == f"{text}; x is left out: its background is odd"
    )
    lost = record.model_copy(update={"rejected": [out], "rejection": "1 of 2 exposures is sound", "exposures": []})
    assert overview.sentence(lost) == "1 of 2 exposures is sound; x is left out: its background is odd"


def test_the_report_lists_rejected_and_missing_data(built):
    lacking = built.manifest.model_copy(
        update={"rejected": [Rejected(what="x_flc.fits", reason="is truncated")], "missing": ["10420-01: 3 exposures"]}
    )
    text = overview.text(lacking)
    assert "|  | x_flc.fits | is truncated |" in text
    assert "- 10420-01: 3 exposures" in text


def test_a_report_goes_through_no_link(built, tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "report.md").write_text("mine")
    (tmp_path / "report").symlink_to(mine)
    with pytest.raises(IntegrityError, match="symbolic link"):
        overview.write_report(built, tmp_path / "report")
    assert [path.read_text() for path in mine.iterdir()] == ["mine"]
