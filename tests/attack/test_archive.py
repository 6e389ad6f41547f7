"""A hostile archive, or one in between: no answer takes memory, disk or hours, and each is one sentence."""

from __future__ import annotations

import contextlib
import errno
import gzip
import json
import re
import shutil
import threading
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deepcr_zoo.archive import mast, transfers
from deepcr_zoo.archive.listing import Query, query_of
from deepcr_zoo.archive.manifest import kept_path
from deepcr_zoo.archive.mast import Archive
from deepcr_zoo.archive.pace import Pace
from deepcr_zoo.dataset.fetching import fetch
from deepcr_zoo.errors import ArchiveError, ArchiveUnreachableError, InterruptedWorkError, OutputError
from deepcr_zoo.locations import exposures_root
from deepcr_zoo.progress import NullReporter
from deepcr_zoo.zoo import incoming
from tests.archive.fixtures import impatient, one_visit  # noqa: F401
from tests.attack.hostile import hostile_json

pytestmark = pytest.mark.usefixtures("impatient")


def run(recipe):
    return fetch(recipe, NullReporter(), 1)


def search(recipe, pace=None):
    return Archive(pace).search(query_of(recipe))


def left_behind():
    """Bytes of exposures, whole or not."""
    return sum(path.stat().st_size for path in (exposures_root() / "mast").glob("*.fits*")) + sum(
        path.stat().st_size for path in (exposures_root() / "mast").glob(".*.part")
    )


def answering(body, *, to, headers=None, pause_s=0.0):
    """Answer requests whose path contains `to` with these pieces, for ever if they never end."""

    def answer(handler):
        if to not in handler.path:
            return False
        handler.send_response(200)
        for name, text in (headers or {}).items():
            handler.send_header(name, text)
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.close_connection = True
        try:
            for piece in body():
                handler.wfile.write(piece)
                time.sleep(pause_s)
        except OSError:  # the client went away
            pass
        return True

    return answer


def for_ever(piece):
    def pieces():
        while True:
            yield piece

    return pieces


def once(piece):
    return lambda: iter([piece])


# Answers to searches


@pytest.mark.parametrize("value", [None, float("inf"), float("nan"), -float("inf")])
def test_an_exposure_time_that_is_no_number_is_none(archive, recipe, value):
    for row in archive.observations:
        row["t_exptime"] = value
    assert {one.exposure_time_s for one in search(recipe)} == {None}


@pytest.mark.parametrize("size", [float("inf"), 1e300, 2**62])
def test_a_size_without_bound_is_one_sentence(archive, recipe, size):
    for rows in archive.products.values():
        for row in rows:
            row["size"] = size
    with pytest.raises(ArchiveError, match=r"lists a size of|cannot be understood") as caught:
        search(recipe)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("field", ["proposal_id", "obs_id", "filters", "target_name"])
@pytest.mark.parametrize("value", [None, "²", "9" * 5000, "\x1b[2J\n"])
def test_a_fact_that_is_nonsense_hides_its_observation_alone(archive, recipe, field, value):
    archive.observations[0][field] = value
    assert len(search(recipe)) <= 9


@pytest.mark.parametrize(
    "answer",
    [
        b"[" * 200_000,
        b'{"status": ' + b'{"a":' * 100_000,
        b"\xff\xfe",
        b"null",
        b"7",
        b'{"status": "COMPLETE", "data": [1], "fields": [2], "paging": 3}',
        b'{"status": "COMPLETE", "data": [{"obsid": {}}], "fields": [{"name": "obsid", "type": []}]}',
        json.dumps({"status": "ERROR", "msg": "x" * 1_000_000}).encode(),
    ],
)
def test_an_answer_that_is_no_list_is_one_short_sentence(archive, recipe, answer):
    archive.other_answers.append(answer)
    with pytest.raises(ArchiveError) as caught:
        search(recipe)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_an_answer_without_end_is_given_up(archive, recipe, monkeypatch):
    monkeypatch.setattr(mast, "MOST_ANSWER_BYTES", 1_000_000)
    archive.instead = answering(for_ever(b" " * 100_000), to="/invoke")
    with pytest.raises(ArchiveError, match=r"search for exposures: the archive at \S+ cannot be used: .*more arrive"):
        search(recipe)


def test_pages_without_end_are_given_up(archive, recipe, monkeypatch):
    monkeypatch.setattr(mast, "MOST_ANSWER_BYTES", 1_000_000)
    page = {"status": "COMPLETE", "data": [], "fields": [], "msg": "x" * 100_000}
    page["paging"] = {"page": 1, "pageSize": 10, "pagesFiltered": 10**9, "rows": 10**10}
    archive.instead = answering(once(json.dumps(page).encode()), to="/invoke")
    with pytest.raises(ArchiveError, match="its pages have more bytes together than can be meant"):
        search(recipe)


def test_an_answer_that_drips_is_given_up(archive, recipe, monkeypatch):
    monkeypatch.setattr(incoming, "START_S", 0.3)
    archive.instead = answering(for_ever(b" "), to="/invoke", pause_s=0.02)
    with pytest.raises(ArchiveUnreachableError, match="does not answer in time"):
        search(recipe)


@pytest.mark.parametrize("path", ["/invoke", "/Download"])
def test_a_packed_answer_is_refused_before_it_is_unpacked(archive, one_visit, path):  # noqa: F811
    bomb = gzip.compress(bytes(10_000_000))
    archive.instead = answering(once(bomb), to=path, headers={"Content-Encoding": "gzip"})
    with pytest.raises(ArchiveError, match="packed as 'gzip'"):
        run(one_visit)


JSON = hostile_json(
    "status",
    "data",
    "fields",
    "name",
    "type",
    "paging",
    "page",
    "pageSize",
    "pagesFiltered",
    "rows",
    "msg",
    "obsid",
    "obs_id",
    "proposal_id",
    "t_exptime",
)


@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(JSON | st.fixed_dictionaries({"status": st.just("COMPLETE"), "data": JSON, "fields": JSON, "paging": JSON}))
def test_any_json_is_an_answer_or_one_sentence(archive, recipe, content):
    archive.other_answers.clear()
    archive.other_answers.append(json.dumps(content).encode())
    with contextlib.suppress(ArchiveError):
        search(recipe)


# Waiting


def test_a_search_that_never_ends_is_reported_and_given_up(archive, recipe, monkeypatch):
    monkeypatch.setattr(mast, "SEARCH_S", 1.5)
    monkeypatch.setattr(mast, "POLL_S", 0.1)
    monkeypatch.setattr(incoming, "REPORT_EVERY_S", 0.4)
    archive.polls_before_results, told = 10**9, []
    with pytest.raises(ArchiveUnreachableError, match="does not answer in time"):
        search(recipe, Pace(told.append))
    assert told[0].startswith(f"the archive at {archive.url} works on the search, for at most 1 s more")
    count = len(archive.searches)
    assert count <= 16
    time.sleep(0.5)
    assert len(archive.searches) <= count + 1, "it asks on although nobody waits"


def test_a_long_wait_is_reported_with_its_time_and_can_be_stopped(archive, recipe):
    told, ended = [], []
    archive.refusals.append((503, "599"))
    pace = Pace(told.append)

    def ask():
        with pytest.raises(InterruptedWorkError):
            search(recipe, pace)
        ended.append(True)

    thread = threading.Thread(target=ask)
    thread.start()
    until = time.monotonic() + 60
    while not told and time.monotonic() < until:
        time.sleep(0.01)
    pace.stop()
    thread.join(10)
    assert ended
    assert told[0].startswith("the archive asks to wait, for at most 599 s more")


@pytest.mark.parametrize("retry_after", ["²", "1e400", "-5", "Mon, 99 Foo 99999 99:99:99 GMT", "inf", ""])
def test_a_retry_after_that_is_no_time_is_ignored(archive, recipe, retry_after):
    archive.refusals.append((429, retry_after))
    assert len(search(recipe)) == 9


def test_a_retry_after_of_ages_is_given_up_at_once(archive, recipe):
    archive.refusals.append((429, "9" * 5000))
    with pytest.raises(ArchiveUnreachableError, match=r"is busy \(429\)"):
        search(recipe)


def test_a_search_that_finds_more_than_any_visits_have_is_given_up(archive, recipe, monkeypatch):
    monkeypatch.setattr(mast, "MOST_ROWS", 8)
    with pytest.raises(ArchiveError, match=r"finds more than 8 entries: name fewer visits at a time"):
        search(recipe)
    monkeypatch.setattr(mast, "MOST_ROWS", 9)
    assert len(search(recipe)) == 9, "what is no exposure of the query does not count"


def test_a_search_asks_no_further_question_when_it_has_taken_too_long(archive, recipe, monkeypatch):
    monkeypatch.setattr(mast, "LONGEST_SEARCH_S", 0.0)
    with pytest.raises(ArchiveError, match=r"takes more than 0 s: name fewer visits at a time"):
        search(recipe)


# Downloads


@pytest.fixture
def first(archive, exposures):
    name = min(exposures.glob("extragalactic/*_flc.fits")).name
    return name, archive.files[name]


def test_a_part_without_proof_of_the_same_version_is_not_spliced(archive, one_visit, first):  # noqa: F811
    name, served = first
    served.confirms, served.heeds_conditions = False, False
    old, new = served.data, bytes(len(served.data))
    served.breaks_after.append(800_000)

    def replace_after_break(handler):
        if "Range" in handler.headers:
            served.data = new
        return False

    archive.instead = replace_after_break
    run(one_visit)
    assert (exposures_root() / "mast" / name).read_bytes() in (old, new)


def test_a_body_without_end_stops_at_the_listed_size(archive, one_visit, first):  # noqa: F811
    _, served = first
    archive.instead = answering(for_ever(bytes(1 << 20)), to="/Download")
    with pytest.raises(ArchiveError, match=rf"the archive lists {len(served.data)} bytes and sends more: nothing was kept"):
        run(one_visit)
    assert left_behind() == 0


def test_a_body_without_end_and_without_a_listed_size_is_given_up(archive, one_visit, monkeypatch):  # noqa: F811
    monkeypatch.setattr(transfers, "MOST_UNLISTED_BYTES", 10_000_000)
    for rows in archive.products.values():
        for row in rows:
            row["size"] = None
    archive.instead = answering(for_ever(bytes(1 << 20)), to="/Download")
    with pytest.raises(ArchiveError, match="sends more"):
        run(one_visit)
    assert left_behind() == 0


def test_a_body_that_drips_is_given_up_although_bytes_arrive(archive, one_visit, monkeypatch):  # noqa: F811
    monkeypatch.setattr(incoming, "START_S", 0.3)
    archive.instead = answering(for_ever(b"S"), to="/Download", pause_s=0.02)
    begun = time.monotonic()
    with pytest.raises(ArchiveUnreachableError, match="arrives too slowly"):
        run(one_visit)
    assert time.monotonic() - begun < 60


def check_given_up(archive, recipe, served, breaks):
    """A product whose connections break after so many bytes each is given up after a few."""
    served.breaks_after.extend(breaks)
    with pytest.raises(ArchiveUnreachableError, match="broke off"):
        run(recipe)
    assert len(archive.downloads) < 20


def test_connections_that_bring_a_byte_each_are_given_up(archive, one_visit, first):  # noqa: F811
    _, served = first
    check_given_up(archive, one_visit, served, range(1, 200))


def test_connections_that_bring_a_byte_each_of_an_unlisted_size_are_given_up(archive, one_visit, first):  # noqa: F811
    name, served = first
    for row in archive.listed(name):
        row["size"] = None
    check_given_up(archive, one_visit, served, range(1, 200))


def test_what_comes_again_and_again_from_its_start_is_given_up(archive, one_visit, first):  # noqa: F811
    _, served = first
    served.validators = ()  # without one, nothing is resumed
    check_given_up(archive, one_visit, served, [100_000, 200_000] * 50)


def test_a_full_disk_is_named_before_the_download(archive, one_visit, monkeypatch):  # noqa: F811
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 10_000))
    with pytest.raises(OutputError, match="bytes are to come, and its disk has 10,000 bytes left: make room there"):
        run(one_visit)
    assert left_behind() == 0


def test_a_disk_that_fills_up_is_not_blamed_on_the_archive(archive, one_visit, monkeypatch):  # noqa: F811
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(transfers.os, "fsync", full)
    with pytest.raises(OutputError, match="No space left on device") as caught:
        run(one_visit)
    assert "archive" not in str(caught.value)


@pytest.mark.parametrize("detector", ["../../../../tmp/x", "/etc/x", "a\0b", "x" * 500, "..", "\u202e"])
def test_the_camera_of_a_recipe_chooses_no_place_for_what_is_kept(detector):
    kept = kept_path(Query(telescope="HST", instrument="ACS/WFC", detector=detector, product="flc", visits=[]))
    assert kept.parent == exposures_root() / "manifests"
    assert re.fullmatch(r"[A-Za-z0-9-]{1,100}\.json", kept.name)
