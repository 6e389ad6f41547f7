"""What was taken from an archive, so that a build can be repeated: names, sizes, hashes, versions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from deepcr_zoo import files
from deepcr_zoo.archive.listing import Product, Query
from deepcr_zoo.documents import Document, as_json, first_problem
from deepcr_zoo.errors import ArchiveError, OutputError
from deepcr_zoo.files import sweep_partial, write_atomically

FORMAT: Literal[1] = 1


class Taken(Product):
    """A product of a manifest."""

    sha256: str | None = Field(description="of its file; null as long as it is not downloaded")

    @property
    def product(self) -> Product:
        """The same as the archive lists it."""
        return Product.model_validate(self.model_dump(exclude={"sha256"}))


class ArchiveManifest(Document):
    """What a query has found, and what of it was downloaded; nothing in it depends on when, where or in which order."""

    format: Literal[1] = FORMAT
    archive: Literal["MAST"] = "MAST"
    query: Query
    products: list[Taken] = Field(description="by name")
    not_public: list[str] = Field(description="products that were left out because not everybody gets them")

    @property
    def bytes(self) -> int:
        """Size of all products, as far as the archive told."""
        return sum(one.size or 0 for one in self.products)


def manifest_of(query: Query, found: Sequence[Product], before: ArchiveManifest | None = None) -> ArchiveManifest:
    """The manifest of what a query has found; hashes of an earlier one are taken over where the archive lists the same."""
    known = {} if before is None else {one.name: one for one in before.products}

    def taken(product: Product) -> Taken:
        earlier = known.get(product.name)
        sha256 = earlier.sha256 if earlier is not None and earlier.is_same_file(product) else None
        return Taken(**product.model_dump(), sha256=sha256)

    return ArchiveManifest(
        query=query,
        products=[taken(one) for one in sorted(found, key=lambda one: one.name) if one.is_public],
        not_public=sorted(one.name for one in found if not one.is_public),
    )


def kept_path(query: Query) -> Path:
    """Where the manifest of a query is kept."""
    return files.exposures_root() / "manifests" / f"{query.name}.json"


def kept(query: Query) -> ArchiveManifest | None:
    """The manifest of an earlier search, if there is one that can be read."""
    try:
        return read(kept_path(query))
    except ArchiveError:
        return None


def read(path: Path) -> ArchiveManifest:
    """Read a manifest.

    Raises
    ------
    ArchiveError
        If it cannot be read, or is none.
    """
    try:
        return ArchiveManifest.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ArchiveError(f"{path}: cannot be read: {error.strerror}") from None
    except ValidationError as error:
        raise ArchiveError(f"{path}: expected a manifest of deepcr-zoo fetch: {first_problem(error)}") from None


def write(path: Path, manifest: ArchiveManifest) -> None:
    """Write a manifest, as JSON whose bytes depend on its content alone.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    try:
        sweep_partial(path)
        write_atomically(as_json(manifest), path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from None
