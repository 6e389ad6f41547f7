"""Downloads that break off, are slowed down, or differ from the list."""

import email.utils
import hashlib
import json
import time

import pytest

from deepcr_zoo.archive import pace
from deepcr_zoo.archive.listing import query_of
from deepcr_zoo.archive.mast import Archive
from deepcr_zoo.archive.transfers import DownloadFolder
from deepcr_zoo.dataset.fetching import download_manifest, fetch, list_products
from deepcr_zoo.errors import ArchiveBusyError, ArchiveError, ArchiveUnreachableError, OutputError, UsageError
from deepcr_zoo.locations import exposures_root
from deepcr_zoo.progress import NullReporter

pytestmark = pytest.mark.usefixtures("impatient")


def folder():
    return exposures_root() / "mast"


def run(recipe, jobs=4):
    return fetch(recipe, NullReporter(), jobs)


def files():
    """Return the content of the whole products in the folder."""
    return {path.name: path.read_bytes() for path in folder().glob("*_flc.fits")}


@pytest.fixture
def first(archive, exposures):
    """A product, and how it is served."""
    name = min(exposures.glob("extragalactic/*_flc.fits")).name
    return name, archive.files[name]


def test_files_are_those_of_the_archive_and_are_not_fetched_again(archive, recipe):
    path, done = run(recipe)
    assert files() == {name: archive.files[name].data for name in files()}
    assert [one.sha256 for one in done.products] == [hashlib.sha256(files()[one.name]).hexdigest() for one in done.products]
    before, count = path.read_bytes(), len(archive.downloads)
    run(recipe)
    assert path.read_bytes() == before
    assert len(archive.downloads) == count == 9
    assert not list(folder().glob(".*.part"))


@pytest.mark.parametrize("jobs", [1, 3])
def test_there_are_never_more_downloads_at_once_than_asked_for(archive, recipe, jobs):
    for served in archive.files.values():
        served.chunk_delay_s = 0.001
    run(recipe, jobs)
    assert archive.most_at_once == jobs


@pytest.mark.parametrize("jobs", [0, 9])
def test_no_and_too_many_downloads_at_once_are_refused(archive, recipe, jobs):
    with pytest.raises(UsageError, match="expected 1 to 8 downloads at a time"):
        run(recipe, jobs)


def test_a_file_that_was_damaged_in_the_cache_heals(archive, one_visit, first):
    run(one_visit)
    path = folder() / first[0]
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    run(one_visit)
    assert path.read_bytes() == first[1].data


@pytest.mark.parametrize("validators", [("ETag",), ("Last-Modified",)])
def test_a_download_that_breaks_off_is_resumed(archive, one_visit, first, validators):
    name, served = first
    served.validators = validators
    served.breaks_after.append(800_000)
    run(one_visit)
    assert files()[name] == served.data
    one, other = (asked for asked in archive.downloads if asked.name == name)
    assert (one.status, other.status) == (200, 206)
    assert int(other.range.removeprefix("bytes=").removesuffix("-")) > 700_000
    assert archive.sent(name) < 1.1 * len(served.data)


@pytest.mark.parametrize("what", ["ranges", "validators"])
def test_without_ranges_or_validators_a_product_is_downloaded_anew(archive, one_visit, first, what):
    name, served = first
    served.breaks_after.append(800_000)
    if what == "ranges":
        served.takes_ranges = False
    else:
        served.validators = ()
    run(one_visit)
    assert files()[name] == served.data


def cut(served):
    """The connection is cut again and again, until the download is given up."""
    served.breaks_after.extend([800_000, 0, 0, 0, 0, 0])


@pytest.mark.parametrize("heeds_conditions", [True, False])
@pytest.mark.parametrize("validators", [("ETag", "Last-Modified"), ("ETag",), ("Last-Modified",), ()])
def test_a_product_that_changes_in_between_is_never_spliced(archive, one_visit, first, validators, heeds_conditions):
    """Same name, size and version: only ETag and Last-Modified differ."""
    name, served = first
    served.validators, served.heeds_conditions = validators, heeds_conditions
    cut(served)
    with pytest.raises(ArchiveUnreachableError):
        run(one_visit)
    assert not validators or (folder() / f".{name}.part").stat().st_size > 700_000
    served.breaks_after.clear()
    served.data = served.data[::-1]
    run(one_visit)
    assert files()[name] == served.data


def test_a_product_of_a_new_version_is_downloaded_anew(archive, one_visit, first):
    name, served = first
    cut(served)
    with pytest.raises(ArchiveUnreachableError):
        run(one_visit)
    served.breaks_after.clear()
    archive.replace(name, b"processed anew" * 1000)
    _, done = run(one_visit)
    assert files()[name] == served.data
    assert done.products[0].version == "10.4.0"


def test_missing_products_are_listed_when_the_archive_goes_away(archive, recipe, first):
    cut(first[1])
    with pytest.raises(
        ArchiveUnreachableError, match=r"(?s)broke off.*still missing are.*same command.*--data DIR"
    ) as caught:
        run(recipe, jobs=1)
    wanted = [product.name for product in Archive().search(query_of(recipe))]
    assert all(f"{name} (" in str(caught.value) for name in wanted if name not in files())
    assert len(files()) < 9


def test_a_missing_product_is_named_and_does_not_stop_the_others(archive, recipe, first):
    name, served = first
    served.status = 404
    with pytest.raises(
        ArchiveError, match=rf"(?s){name}.* lists it but does not have it.*1 of 9 products are still to come"
    ):
        run(recipe)
    assert len(files()) == 8
    assert name not in files()


def test_a_product_that_is_not_public_is_named(archive, one_visit, first):
    first[1].status = 403
    with pytest.raises(ArchiveError, match=f"{first[0]}.* does not make it public"):
        run(one_visit)


@pytest.mark.parametrize("change", [lambda data: data + b"more", lambda data: data[:-2880]])
def test_a_product_of_another_size_than_listed_is_an_error_and_not_kept(archive, one_visit, first, change):
    name, served = first
    listed = len(served.data)
    served.data = change(served.data)
    with pytest.raises(
        ArchiveError, match=f"{name}: the archive lists {listed} bytes and sends {len(served.data)}: nothing"
    ):
        run(one_visit)
    assert not list(folder().glob(f"*{name}*"))
    assert not list(folder().glob(f".*{name}*"))


def test_without_a_listed_size_that_of_the_file_counts(archive, one_visit, first):
    name, served = first
    for row in archive.listed(name):
        row["size"] = None
    served.breaks_after.append(800_000)
    _, done = run(one_visit)
    assert files()[name] == served.data
    assert done.products[0].size is None
    assert archive.sent(name) < 1.1 * len(served.data)


def test_a_rate_limit_is_obeyed_by_all_downloads(archive, recipe):
    listed = list_products(recipe)
    archive.refusals.extend([(429, "1")] * 3)
    download_manifest(listed, NullReporter(), is_fresh=True)
    assert len(files()) == 9
    # what was on the way already is answered
    waits = [asked.begun_at - archive.refused_at[-1] for asked in archive.downloads]
    assert not [wait for wait in waits if 0.1 < wait < 0.99]
    assert sum(wait >= 0.99 for wait in waits) >= 5


@pytest.mark.parametrize("wait_s", [1, None])
def test_a_busy_archive_is_searched_when_it_says(archive, recipe, wait_s):
    archive.refusals.append((503, wait_s and str(wait_s)))
    begun = time.monotonic()
    assert len(Archive().search(query_of(recipe))) == 9
    assert time.monotonic() - begun >= (wait_s or 0)


@pytest.mark.parametrize("as_date", [False, True])
def test_an_archive_that_is_busy_for_long_is_given_up_at_once(archive, recipe, as_date):
    archive.refusals.append((503, email.utils.formatdate(time.time() + 3600, usegmt=True) if as_date else "3600"))
    with pytest.raises(ArchiveBusyError, match=r"is busy \(503\): come back in 3[56]\d\d s"):
        Archive().search(query_of(recipe))


def test_an_archive_that_stays_busy_is_given_up(archive, recipe):
    archive.refusals.extend([(429, "0")] * 50)
    with pytest.raises(ArchiveBusyError, match=r"is busy \(429\)"):
        Archive().search(query_of(recipe))
    assert len(archive.refused_at) == pace.BUSY_ATTEMPTS


def test_an_archive_that_fails_is_one_sentence_with_the_list_of_visits(archive, recipe):
    archive.refusals.append((500, None))
    with pytest.raises(ArchiveUnreachableError, match=r"(?s)answers 500.*proposal 90001, visit 6E.*3 exposures.*--data DIR"):
        run(recipe)


def test_a_folder_that_cannot_be_written_is_one_sentence(archive, recipe, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("DEEPCR_ZOO_CACHE", str(tmp_path / "file"))
    with pytest.raises(OutputError, match="cannot be written"):
        run(recipe)


def test_records_of_another_product_are_ignored(archive, one_visit, first):
    run(one_visit)
    name, _ = first
    record = folder() / f"{name}.json"
    content = json.loads(record.read_text())
    content["product"]["version"] = "another"
    record.write_text(json.dumps(content))
    product = list_products(one_visit).products[0].product
    assert DownloadFolder(folder()).finished(product) is None
    record.write_text("{")
    assert DownloadFolder(folder()).finished(product) is None
