"""From a recipe, or a manifest, to exposures on the disk."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from deepcr_zoo import files
from deepcr_zoo.archive import manifest, transfers
from deepcr_zoo.archive.listing import Product, Query, query_of
from deepcr_zoo.archive.manifest import ArchiveManifest, Taken
from deepcr_zoo.archive.mast import Archive
from deepcr_zoo.archive.pace import Pace
from deepcr_zoo.dataset import visits
from deepcr_zoo.errors import ArchiveError, ArchiveUnreachableError, DeepcrZooError, OutputError, UsageError
from deepcr_zoo.files import sha256_of
from deepcr_zoo.progress import Reporter
from deepcr_zoo.zoo.recipe import Recipe

SOURCE = "mast"
"""What stands for the archive in the place of a folder; a folder of this name is ``./mast``."""

DOWNLOADS, MOST_DOWNLOADS = 4, 8
"""At a time, by default and at most: the archive is everybody's."""

NOTHING: Mapping[str, Path] = {}

ELSEWHERE = "get them elsewhere"

_MEGABYTE = 1_000_000


def search(query: Query) -> list[Product]:
    """All that the archive has of a query, also what is not public.

    Raises
    ------
    ArchiveError
        As `Archive.search` raises it.
    MissingExtraError
        If astroquery is not installed.
    """
    return Archive(Pace()).search(query)


def list_products(recipe: Recipe) -> ArchiveManifest:
    """Search the archive for the visits of a recipe, and keep what it lists; nothing is downloaded.

    Raises
    ------
    ArchiveUnreachableError
        With the exact list of what is wanted, and how to supply it.
    ArchiveError
        If the archive has nothing, or answers what cannot be understood.
    """
    query = query_of(recipe)
    before = manifest.kept(query)
    try:
        found = search(query)
    except ArchiveUnreachableError as error:
        if before is None:
            raise ArchiveUnreachableError(f"{error}\n{visits.no_data(recipe, ELSEWHERE)}") from None
        raise _still_to_come(error, before.products) from None
    listed = manifest.manifest_of(query, found, before)
    if not listed.products:
        hidden = f"; not public: {', '.join(listed.not_public)}" if listed.not_public else ""
        raise ArchiveError(f"the archive has nothing that everybody gets{hidden}\n{visits.no_data(recipe, ELSEWHERE)}")
    manifest.write(manifest.kept_path(query), listed)
    return listed


def take(
    listed: ArchiveManifest,
    reporter: Reporter,
    jobs: int = DOWNLOADS,
    supplied: Mapping[str, Path] = NOTHING,
    *,
    is_fresh: bool = False,
) -> tuple[ArchiveManifest, list[Path]]:
    """Download exactly the products of a manifest, as far as they are not there; its hashes must come out again.

    Parameters
    ----------
    listed : ArchiveManifest
    reporter : Reporter
    jobs : int
        Downloads at a time.
    supplied : mapping of str to Path
        Files that the user has, by name: they are not downloaded, and must be what the manifest says.
    is_fresh : bool
        Whether the archive has just listed this; else it is asked again, if anything is to be downloaded.

    Returns
    -------
    ArchiveManifest
        With the hash of everything that was downloaded.
    list of Path
        The files, in the order of the manifest, without those that were supplied.

    Raises
    ------
    ArchiveUnreachableError
        With the names of all that is still to come.
    ArchiveError
        If products are missing in the archive, or are not what the manifest says.
    UsageError
        If that are more downloads at a time than `MOST_DOWNLOADS`.
    """
    if not 1 <= jobs <= MOST_DOWNLOADS:
        raise UsageError(f"--jobs {jobs}: expected 1 to {MOST_DOWNLOADS} downloads at a time")
    _check_supplied(listed, supplied)
    wanted = [one for one in listed.products if one.name not in supplied]
    shelf = transfers.Shelf(files.exposures_root() / SOURCE)
    with _reserved(shelf, reporter):
        hashes = _finished(shelf, wanted)
        missing = [one for one in wanted if one.name not in hashes]
        if missing and not is_fresh:
            _check_unchanged(listed.query, missing)
        if missing:
            hashes |= _download(missing, shelf, reporter, jobs)
    products = [one.model_copy(update={"sha256": hashes.get(one.name, one.sha256)}) for one in listed.products]
    return listed.model_copy(update={"products": products}), [shelf.file(one.product) for one in wanted]


def exposures_of(recipe: Recipe, data: Sequence[str | Path], beside: Path | None, reporter: Reporter) -> list[str | Path]:
    """What users give as data, with the archive and manifests of it replaced by files: what is missing is downloaded.

    Parameters
    ----------
    recipe : Recipe
    data : sequence of path-like
        `SOURCE`, manifests (``*.json``), and whatever `dataset.plans.plan_build` takes.
    beside : Path, optional
        Folder of the recipe, which relative names in it start at.
    reporter : Reporter

    Raises
    ------
    DeepcrZooError
        As `list_products` and `take` raise.
    """
    places = [place for place in data if not _is_of_archive(place)]
    if len(places) == len(data):
        return list(data)
    there = visits.find_files([*places, *visits.beside(beside, recipe.data.files)], recipe.data.product)
    supplied = {path.name.lower().removesuffix(".gz"): path for path in there}
    files: list[str | Path] = []
    for place in data:
        if os.fspath(place) == SOURCE:
            files += _of_recipe(recipe, supplied, reporter)
        elif _is_of_archive(place):
            files += take(manifest.read(Path(place).expanduser()), reporter, supplied=supplied)[1]
    return [*places, *files]


def fetch(recipe: Recipe, reporter: Reporter, jobs: int = DOWNLOADS) -> tuple[Path, ArchiveManifest]:
    """Search the archive for the visits of a recipe, and download them; gives the manifest and where it is kept.

    Raises
    ------
    ArchiveError
        As `list_products` and `take` raise.
    """
    listed = list_products(recipe)
    path = manifest.kept_path(listed.query)
    # what the archive lists now is what is wanted: hashes of a damaged or changed file must not be in the way
    fresh = [one.model_copy(update={"sha256": None}) for one in listed.products]
    done, _ = take(listed.model_copy(update={"products": fresh}), reporter, jobs, is_fresh=True)
    manifest.write(path, done)
    return path, done


def _of_recipe(recipe: Recipe, supplied: Mapping[str, Path], reporter: Reporter) -> list[Path]:
    """The exposures of a recipe: those of the manifest that is kept, so that a build can be repeated, else of a search."""
    query = query_of(recipe)
    before = manifest.kept(query)
    if before is not None and all(one.sha256 is not None or one.name in supplied for one in before.products):
        reporter.message("archive", f"as in {manifest.kept_path(query)}; deepcr-zoo fetch asks the archive anew")
        return take(before, reporter, supplied=supplied)[1]
    listed = list_products(recipe)
    if listed.not_public:
        reporter.message("not public", ", ".join(listed.not_public), "caution")
    done, files = take(listed, reporter, supplied=supplied, is_fresh=True)
    manifest.write(manifest.kept_path(query), done)
    return files


def _check_supplied(listed: ArchiveManifest, supplied: Mapping[str, Path]) -> None:
    for one in listed.products:
        path = supplied.get(one.name)
        if path is None or one.sha256 is None or path.suffix == ".gz":  # packed by somebody: nobody knows that hash
            continue
        if (found := sha256_of(path)) != one.sha256:
            raise ArchiveError(
                f"{path}: has the SHA-256 {found}, the manifest says {one.sha256}: leave it out, or make a new manifest "
                "with deepcr-zoo fetch RECIPE"
            )


def _is_of_archive(place: str | Path) -> bool:
    text = os.fspath(place)
    return text == SOURCE or text.endswith(".json")


@contextmanager
def _reserved(shelf: transfers.Shelf, reporter: Reporter) -> Iterator[None]:
    def told() -> None:
        reporter.message("waiting", f"another process downloads to {shelf.folder}", "caution")

    with ExitStack() as stack:
        try:
            stack.enter_context(shelf.reserved(told))
        except OSError as error:
            reason = f"cannot be written: {error.strerror}"
            raise OutputError(f"{shelf.folder}: {reason}; name another folder with DEEPCR_ZOO_CACHE") from None
        yield


def _finished(shelf: transfers.Shelf, wanted: Sequence[Taken]) -> dict[str, str]:
    """Hashes of what is there as the manifest says."""
    found = {one.name: (one.sha256, shelf.finished(one.product)) for one in wanted}
    return {name: there for name, (said, there) in found.items() if there is not None and said in (None, there)}


def _check_unchanged(query: Query, missing: Sequence[Taken]) -> None:
    """Make sure that the archive still has what a manifest says of it."""
    try:
        found = {product.name: product for product in search(query)}
    except ArchiveUnreachableError as error:
        raise _still_to_come(error, missing) from None
    if changes := list(_changes(missing, found)):
        raise ArchiveError(
            "the archive has changed since the manifest:\n"
            + "\n".join(f"  {line}" for line in changes)
            + "\nsupply the files of then with --data DIR, or make a new manifest with deepcr-zoo fetch RECIPE"
        )


def _download(missing: Sequence[Taken], shelf: transfers.Shelf, reporter: Reporter, jobs: int) -> dict[str, str]:
    pace = Pace()
    archive = Archive(pace)
    hashes: dict[str, str] = {}
    failures: list[str] = []
    products = [one.product for one in missing]
    expected = {one.name: one.sha256 for one in missing if one.sha256 is not None}
    with reporter.amount("downloading (MB)") as tell:
        told = _counter(tell, sum(one.size or 0 for one in missing))
        outcomes = transfers.download_all(products, shelf, archive.open, pace, jobs, told, expected)
        for product, outcome in outcomes:
            if isinstance(outcome, ArchiveUnreachableError):
                outcomes.close()
                raise _still_to_come(outcome, [one for one in missing if one.name not in hashes])
            if isinstance(outcome, DeepcrZooError):
                failures.append(str(outcome))
            else:
                hashes[product.name] = outcome
    if failures:
        raise ArchiveError("\n".join([*failures, f"{len(failures)} of {len(missing)} products are still to come"]))
    return hashes


def _counter(tell: Callable[[int, int], None], total: int) -> Callable[[int], None]:
    arrived, lock = 0, threading.Lock()

    def told(count: int) -> None:
        nonlocal arrived
        with lock:
            arrived += count
            tell(arrived // _MEGABYTE, max(1, total // _MEGABYTE))

    return told


def _changes(missing: Sequence[Taken], found: Mapping[str, Product]) -> Iterator[str]:
    for one in missing:
        now = found.get(one.name)
        if now is None:
            yield f"{one.name}: is not there any more"
        elif not one.is_same_file(now):
            yield f"{one.name}: {_facts(one)} then, {_facts(now)} now"


def _facts(product: Product) -> str:
    return f"{product.size} bytes, version {product.version or 'unknown'}, {product.uri}"


def _still_to_come(error: ArchiveUnreachableError, missing: Sequence[Taken]) -> ArchiveUnreachableError:
    return ArchiveUnreachableError(
        f"{error}\nstill wanted are\n"
        + "\n".join(f"  {one.name} ({one.size or 'unknown'} bytes, {one.uri})" for one in missing)
        + "\nrun the same command again, it goes on where this one ended; or get them elsewhere and give their folder with "
        "--data DIR"
    )
