"""From a recipe or an archive manifest to exposures on the disk."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from deepcr_zoo import files, locations
from deepcr_zoo.archive import manifest, transfers
from deepcr_zoo.archive.listing import Product, Query, query_of
from deepcr_zoo.archive.manifest import ArchiveManifest, ManifestProduct
from deepcr_zoo.archive.mast import Archive
from deepcr_zoo.archive.pace import Pace
from deepcr_zoo.batch import PACKED_SUFFIXES
from deepcr_zoo.dataset import visits
from deepcr_zoo.errors import ArchiveError, ArchiveUnreachableError, DeepcrZooError, UsageError
from deepcr_zoo.exposures.fitsfiles import read_unchanged
from deepcr_zoo.exposures.packing import unpacked
from deepcr_zoo.progress import Reporter
from deepcr_zoo.zoo.recipe import Recipe

SOURCE = "mast"  # stands for the archive in place of a folder; a folder of this name is ``./mast``
DOWNLOADS, MOST_DOWNLOADS = 4, 8  # downloads at a time, by default and at most: many people share the archive
_ELSEWHERE = "get them elsewhere"

_MEGABYTE = 1_000_000


def list_products(recipe: Recipe, reporter: Reporter | None = None) -> ArchiveManifest:
    """Search the archive for a recipe's visits; if it cannot be reached, the error lists what to get.

    The list is kept, unless one of finished downloads is: only `fetch` replaces that.
    """
    query = query_of(recipe)
    before = manifest.read_kept(query)
    try:
        found = Archive(reporting_pace(reporter)).search(query)
    except ArchiveUnreachableError as error:
        if before is None:
            raise ArchiveUnreachableError(*error.args, *visits.no_data(recipe, _ELSEWHERE).args) from None
        raise _unfinished(error, before.products) from None
    listed = manifest.manifest_of(query, found, before)
    if not listed.products:
        hidden = f"; not public: {', '.join(listed.not_public)}" if listed.not_public else ""
        raise ArchiveError(f"the archive has no public exposures of them{hidden}", *visits.no_data(recipe, _ELSEWHERE).args)
    if before is None or not all(one.sha256 for one in before.products):  # else builds repeat what was downloaded
        manifest.write(manifest.kept_path(query), listed)
    return listed


def download_manifest(
    listed: ArchiveManifest,
    reporter: Reporter,
    jobs: int = DOWNLOADS,
    supplied: Mapping[str, Path] | None = None,
    *,
    is_fresh: bool = False,
) -> tuple[ArchiveManifest, list[Path]]:
    """Download the products of a manifest that are not there yet; return it with their hashes, and the files in its order.

    Files of the user, `supplied` by name, are checked and not downloaded. Unless the archive has just listed the manifest
    (`is_fresh`), it is asked whether anything has changed. Hashes in the manifest must come out again.
    """
    if not 1 <= jobs <= MOST_DOWNLOADS:
        raise UsageError(f"--jobs {jobs}: expected 1 to {MOST_DOWNLOADS} downloads at a time")
    supplied = supplied or {}
    _check_supplied(listed, supplied)
    wanted = [product for product in listed.products if product.name not in supplied]
    folder = transfers.DownloadFolder(locations.exposures_root() / SOURCE)
    with _reserved(folder, reporter):
        hashes = _finished(folder, wanted)
        missing = [product for product in wanted if product.name not in hashes]
        if missing and not is_fresh:
            _check_unchanged(listed.query, missing, reporter)
        if missing:
            hashes |= _download(missing, folder, reporter, jobs)
    products = [one.model_copy(update={"sha256": hashes.get(one.name, one.sha256)}) for one in listed.products]
    return listed.model_copy(update={"products": products}), [folder.file(one.product) for one in wanted]


def exposures_of(recipe: Recipe, data: Sequence[str | Path], beside: Path | None, reporter: Reporter) -> list[str | Path]:
    """Return the places of a user's data, with `SOURCE` and manifests (``*.json``) replaced by files, downloaded if missing.

    `beside` is the folder of the recipe, where relative names in it start.
    """
    places = [place for place in data if not _is_of_archive(place)]
    if len(places) == len(data):
        return list(data)
    own = visits.find_files([*places, *visits.beside(beside, recipe.data.files)], recipe.data.product)
    supplied = {_unpacked_name(path): path for path in own}
    found: list[str | Path] = []
    for place in data:
        if os.fspath(place) == SOURCE:
            found += _of_recipe(recipe, supplied, reporter)
        elif _is_of_archive(place):
            found += download_manifest(manifest.read(locations.expanded(place)), reporter, supplied=supplied)[1]
    return [*places, *found]


def fetch(recipe: Recipe, reporter: Reporter, jobs: int = DOWNLOADS) -> tuple[Path, ArchiveManifest]:
    """Search the archive for the visits of a recipe and download them; return the manifest and its path."""
    listed = list_products(recipe, reporter)
    path = manifest.kept_path(listed.query)
    # earlier hashes are dropped: that of a damaged or changed file would only be in the way of the new list
    fresh = [one.model_copy(update={"sha256": None}) for one in listed.products]
    done, _ = download_manifest(listed.model_copy(update={"products": fresh}), reporter, jobs, is_fresh=True)
    manifest.write(path, done)
    return path, done


def _of_recipe(recipe: Recipe, supplied: Mapping[str, Path], reporter: Reporter) -> list[Path]:
    """Return the exposures of a recipe: by the kept manifest, so that a build can be repeated, else by a new search."""
    query = query_of(recipe)
    before = manifest.read_kept(query)
    if before is not None and all(one.sha256 is not None or one.name in supplied for one in before.products):
        reporter.message("archive", f"as in {manifest.kept_path(query)}; deepcr-zoo fetch asks the archive anew")
        return download_manifest(before, reporter, supplied=supplied)[1]
    listed = list_products(recipe, reporter)
    if listed.not_public:
        reporter.message("not public", ", ".join(listed.not_public), "caution")
    done, found = download_manifest(listed, reporter, supplied=supplied, is_fresh=True)
    manifest.write(manifest.kept_path(query), done)
    return found


def _check_supplied(listed: ArchiveManifest, supplied: Mapping[str, Path]) -> None:
    for product in listed.products:
        path = supplied.get(product.name)
        if path is None or product.sha256 is None:
            continue
        if (found := hashlib.sha256(unpacked(read_unchanged(path), path)).hexdigest()) != product.sha256:
            raise ArchiveError(
                f"{path}: has the SHA-256 {found}, the manifest says {product.sha256}: leave it out, or make a new manifest "
                "with deepcr-zoo fetch RECIPE"
            )


def _unpacked_name(path: Path) -> str:
    name = path.name.lower()
    return name.removesuffix(path.suffix.lower()) if name.endswith(PACKED_SUFFIXES) else name


def _is_of_archive(place: str | Path) -> bool:
    text = os.fspath(place)
    return text == SOURCE or text.endswith(".json")


@contextmanager
def _reserved(folder: transfers.DownloadFolder, reporter: Reporter) -> Iterator[None]:
    waiting = f"another process downloads to {folder.folder}"
    with ExitStack() as stack:
        try:
            stack.enter_context(folder.reserved(lambda: reporter.message("waiting", waiting, "caution")))
        except OSError as error:
            raise files.write_failure(folder.folder, error, manifest.ELSEWHERE) from None
        yield


def _finished(folder: transfers.DownloadFolder, wanted: Sequence[ManifestProduct]) -> dict[str, str]:
    """Return the hashes of files that are there and agree with the manifest."""
    found = {one.name: (one.sha256, folder.finished(one.product)) for one in wanted}
    return {name: there for name, (listed, there) in found.items() if there is not None and listed in (None, there)}


def reporting_pace(reporter: Reporter | None) -> Pace:
    """Return the pace of requests; waits are reported."""
    return Pace(None if reporter is None else lambda text: reporter.message("waiting", text, "caution"))


def _check_unchanged(query: Query, missing: Sequence[ManifestProduct], reporter: Reporter) -> None:
    """Check that the archive still has the products as the manifest lists them."""
    try:
        found = {product.name: product for product in Archive(reporting_pace(reporter)).search(query)}
    except ArchiveUnreachableError as error:
        raise _unfinished(error, missing) from None
    if changes := list(_changes(missing, found)):
        raise ArchiveError(
            "the archive has changed since the manifest:",
            *(f"  {line}" for line in changes),
            "supply the earlier files with --data DIR, or make a new manifest with deepcr-zoo fetch RECIPE",
        )


def _download(
    missing: Sequence[ManifestProduct], folder: transfers.DownloadFolder, reporter: Reporter, jobs: int
) -> dict[str, str]:
    pace = reporting_pace(reporter)
    archive = Archive(pace)
    hashes: dict[str, str] = {}
    failures: list[str] = []
    products = [one.product for one in missing]
    expected = {one.name: one.sha256 for one in missing if one.sha256 is not None}
    with reporter.amount("downloading (MB)") as show:
        advance = _counter(show, sum(one.size or 0 for one in missing))
        outcomes = transfers.Downloader(folder, archive.open, pace, advance).download_all(products, jobs, expected)
        for product, outcome in outcomes:
            if isinstance(outcome, ArchiveUnreachableError):
                outcomes.close()
                raise _unfinished(outcome, [one for one in missing if one.name not in hashes])
            if isinstance(outcome, DeepcrZooError):
                failures.append(str(outcome))
            else:
                hashes[product.name] = outcome
    if failures:
        raise ArchiveError(*failures, f"{len(failures)} of {len(missing)} products are still to come")
    return hashes


def _counter(show: Callable[[int, int], None], total: int) -> Callable[[int], None]:
    """Return a function that adds bytes, and shows their sum and the total in megabytes."""
    arrived, lock = 0, threading.Lock()

    def advance(count: int) -> None:
        nonlocal arrived
        with lock:
            arrived += count
            show(arrived // _MEGABYTE, max(1, total // _MEGABYTE))

    return advance


def _changes(missing: Sequence[ManifestProduct], found: Mapping[str, Product]) -> Iterator[str]:
    def facts(product: Product) -> str:
        return f"{product.size} bytes, version {product.version or 'unknown'}, {product.uri}"

    for one in missing:
        now = found.get(one.name)
        if now is None:
            yield f"{one.name}: is not there any more"
        elif not one.is_same_file(now):
            yield f"{one.name}: {facts(one)} then, {facts(now)} now"


def _unfinished(error: ArchiveUnreachableError, missing: Sequence[ManifestProduct]) -> ArchiveUnreachableError:
    return ArchiveUnreachableError(
        *error.args,
        "still missing are",
        *(f"  {one.name} ({one.size or 'unknown'} bytes, {one.uri})" for one in missing),
        "run the same command again, it goes on where this one ended; or get them elsewhere and give their folder with "
        "--data DIR",
    )
