"""Archive manifests: names, sizes, hashes and versions of downloads, so that a build can be repeated."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from deepcr_zoo import files, locations
from deepcr_zoo.archive.listing import Product, Query
from deepcr_zoo.documents import Document, as_json, first_problem, json_bytes
from deepcr_zoo.errors import ArchiveError, OutputError

ELSEWHERE = "name another folder with DEEPCR_ZOO_CACHE"
"""The way out where downloads and manifests cannot be written."""


class ManifestProduct(Product):
    """A product of a manifest."""

    sha256: str | None = Field(description="of its file; null until it is downloaded")

    @property
    def product(self) -> Product:
        """The product as the archive lists it."""
        return Product.model_validate(self.model_dump(exclude={"sha256"}))


class ArchiveManifest(Document):
    """Products of a query, with the hashes of those that were downloaded; independent of time, place and order."""

    format: Literal[1] = 1
    archive: Literal["MAST"] = "MAST"
    query: Query
    products: list[ManifestProduct] = Field(description="by name")
    not_public: list[str] = Field(description="names of products that were left out because they are not public")

    @property
    def bytes(self) -> int:
        """Total of the sizes that the archive lists."""
        return sum(product.size or 0 for product in self.products)


def manifest_of(query: Query, found: Sequence[Product], before: ArchiveManifest | None = None) -> ArchiveManifest:
    """Return the manifest of the products found; hashes of an earlier one are kept where the listed file is the same."""
    known = {} if before is None else {product.name: product for product in before.products}

    def with_hash(product: Product) -> ManifestProduct:
        earlier = known.get(product.name)
        sha256 = earlier.sha256 if earlier is not None and earlier.is_same_file(product) else None
        return ManifestProduct(**product.model_dump(), sha256=sha256)

    return ArchiveManifest(
        query=query,
        products=[with_hash(product) for product in sorted(found, key=lambda one: one.name) if product.is_public],
        not_public=sorted(product.name for product in found if not product.is_public),
    )


def kept_path(query: Query) -> Path:
    """Return the path of a query's manifest in the cache."""
    return locations.exposures_root() / "manifests" / f"{query.name}.json"


def read_kept(query: Query) -> ArchiveManifest | None:
    """Return the manifest of an earlier search; None if there is none, or if it cannot be read."""
    try:
        return read(kept_path(query))
    except ArchiveError:
        return None


def read(path: Path) -> ArchiveManifest:
    """Read a manifest."""
    try:
        found = ArchiveManifest.model_validate_json(json_bytes(path))
    except OSError as error:
        raise ArchiveError(f"{path}: cannot be read: {error.strerror}") from None
    except ValidationError as error:
        raise ArchiveError(f"{path}: expected a manifest of deepcr-zoo fetch: {first_problem(error)}") from None
    if again := [name for name, times in Counter(one.name for one in found.products).items() if times > 1]:
        raise ArchiveError(f"{path}: lists {again[0]} more than once: remove all entries but one, or make a new manifest")
    return found


def write(path: Path, manifest: ArchiveManifest) -> None:
    """Write a manifest as JSON; its bytes depend on its content alone."""
    with files.reporting_failures(path, ELSEWHERE):
        files.write_atomically(as_json(manifest), path)


def write_copy(path: Path, manifest: ArchiveManifest) -> None:
    """Write a copy of a manifest for the user, who may have other files: only a manifest is replaced, by no mere list."""
    check_copy(path)
    _check_hashes_stay(path, manifest)
    with files.reporting_failures(path, "name another file with --output"):
        files.write_atomically(as_json(manifest), path)


def check_copy(path: Path) -> None:
    """Raise `OutputError` if there is something other than a manifest at the place of a copy."""
    if os.path.lexists(path):
        try:
            read(path)
        except ArchiveError:
            reason = "exists and is not a manifest of deepcr-zoo fetch"
            raise OutputError(f"{path}: {reason}: move it away, or name another file with --output") from None


def _check_hashes_stay(path: Path, manifest: ArchiveManifest) -> None:
    """Raise `OutputError` if a manifest would replace one of another search, or hashes of files by others or by none."""
    if not os.path.lexists(path):
        return
    before, hashes = read(path), {product.name: product.sha256 for product in manifest.products}
    if before.query != manifest.query:
        raise OutputError(f"{path}: is the manifest of another search: name another file with --output, or remove it")
    if before.products and hashes.keys() - {product.name for product in before.products}:
        raise OutputError(f"{path}: lists fewer products than the archive: name another file with --output, or remove it")
    for product in before.products:
        found = hashes.get(product.name)
        if product.sha256 and found is None:
            raise OutputError(
                f"{path}: has hashes that this list of products does not have, as that of {product.name}: name another file "
                "with --output, or download them without --dry-run"
            )
        if product.sha256 and found != product.sha256:
            raise OutputError(
                f"{path}: has another hash of {product.name}, which the archive has made anew since: name another file with "
                "--output, or remove it"
            )
