"""The command that downloads exposures from the archive."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deepcr_zoo import batch, paths
from deepcr_zoo.cli_toolkit import AsJson, Settings
from deepcr_zoo.console import note, output, print_json, table
from deepcr_zoo.errors import UsageError
from deepcr_zoo.recipefile import find_recipe, read_recipe

if TYPE_CHECKING:
    from deepcr_zoo.archive.manifest import ArchiveManifest


def fetch(
    file: Annotated[
        str | None,
        typer.Argument(metavar="RECIPE", help="a file, or the name of a shipped recipe; not needed with --manifest"),
    ] = None,
    manifest: Annotated[
        Path | None, typer.Option(metavar="FILE", help="exactly what this manifest lists, which an earlier fetch has made")
    ] = None,
    to: Annotated[Path | None, typer.Option("--output", help="write a copy of the manifest, to keep it")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="list products and their sizes, download nothing")] = False,
    jobs: Annotated[int, typer.Option(help="downloads at a time, 8 at most")] = 4,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Download the exposures of a recipe's visits from the archive (MAST), into the cache.

    Prints the path of the manifest: names, sizes, versions and SHA-256 of what was taken, which --manifest here and --data
    of build and train repeat. What is there is not downloaded again, what broke off is resumed. Exit code 1: the archive
    is out of reach, or does not give what it lists; 2: wrong usage.
    """
    from deepcr_zoo.archive import fetch as archive
    from deepcr_zoo.archive import manifest as manifests
    from deepcr_zoo.archive.comparison import compare
    from deepcr_zoo.archive.watching import OnConsole

    if (file is None) == (manifest is None):
        raise UsageError("expected a RECIPE, or --manifest FILE, and not both")
    if settings and file is None:
        raise UsageError("--manifest takes what it lists: leave out --set")
    try:
        if manifest is not None:
            path, listed = manifest, manifests.read(manifest)
            if not dry_run:
                listed, _ = archive.take(listed, OnConsole(), jobs)
        else:
            recipe = read_recipe(find_recipe(file or ""), settings or ())
            if dry_run:
                listed = archive.list_products(recipe)
                path = manifests.kept_path(listed.query)
            else:
                path, listed = archive.fetch(recipe, OnConsole(), jobs)
            for row in compare(recipe, listed.products):
                # what is not public is told at the end
                for reason in row.differs if row.found_exposures or not listed.not_public else ():
                    note("differs", f"{row.rule}: {reason}", "yellow")
        if to is not None:
            manifests.write(to, listed)
    except KeyboardInterrupt:
        note("interrupted", "the same command goes on where this one ended", "bold red")
        raise typer.Exit(batch.INTERRUPTED) from None
    _print(listed, to or path, dry_run, as_json)


def _print(listed: ArchiveManifest, path: Path, dry_run: bool, as_json: bool) -> None:
    from deepcr_zoo.archive import fetch as archive

    if as_json:
        print_json(listed.model_dump(mode="json") | {"path": str(path), "bytes": listed.bytes})
        return
    if dry_run:
        shown = table("product", "proposal", "visit", "filter", "exposure time (s)", "MB")
        for one in listed.products:
            time = "-" if one.exposure_time_s is None else f"{one.exposure_time_s:g}"
            size = "-" if one.size is None else f"{one.size / 1e6:.1f}"
            shown.add_row(one.name, str(one.proposal), one.visit, one.filter_name, time, size)
        shown.add_row("all", "", "", "", "", f"{listed.bytes / 1e6:.1f}")
        output.print(shown)
    else:
        folder = paths.exposures_root() / archive.SOURCE
        note("archive", f"{len(listed.products)} products, {listed.bytes / 1e6:.1f} MB, in {folder}", "green")
    if listed.not_public:
        note("not public", f"left out: {', '.join(listed.not_public)}", "yellow")
    typer.echo(str(path))
