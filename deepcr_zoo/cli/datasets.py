"""Commands of the training toolkit: recipes, simulated visits, training sets."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deepcr_zoo import batch, files, machine
from deepcr_zoo.batch import Outcome
from deepcr_zoo.cli.console import TerminalReporter, message, output, print_json, table
from deepcr_zoo.cluster import jobs_or_scheduler
from deepcr_zoo.dataset.expectations import Expected, doubts, expected, expected_rehearsal
from deepcr_zoo.errors import InvalidNameError, OutputError, UsageError
from deepcr_zoo.exposures.pictures import require_matplotlib
from deepcr_zoo.files import write_atomically
from deepcr_zoo.progress import Level
from deepcr_zoo.zoo.names import NAME_PATTERN
from deepcr_zoo.zoo.recipe import SIMULATED_FIELD_TYPES, Recipe, SimulatedFieldType
from deepcr_zoo.zoo.recipefiles import find_recipe, read_recipe, recipe_json_schema

if TYPE_CHECKING:
    from deepcr_zoo.archive.comparison import RuleComparison
    from deepcr_zoo.dataset.store import Manifest, VisitRecord

recipe_commands = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Check recipes, and start new ones.")

RecipeFile = Annotated[str, typer.Argument(metavar="RECIPE", help="a file, or the name of a shipped recipe")]
Settings = Annotated[list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="override a field of the recipe")]
OnScheduler = Annotated[
    str | None,
    typer.Option(metavar="ADDRESS", help="work on a Dask cluster in place of --jobs: tcp://HOST:PORT of its scheduler"),
]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON for machines")]

FALLBACK_EXPOSURE_TIME_S = 500.0
"""For a field type that the recipe does not rehearse."""

BYTES_PER_VISIT = 4_500_000_000
"""Memory that a visit of three full ACS/WFC frames takes at most."""

STARTER = "new-instrument.yaml"
STARTER_NAME = "INSTRUMENT-DETECTOR-FILTER-2-32"
STARTER_SIZES = "depth: 2, hidden: 32"
"""What the ending of that name says."""


@recipe_commands.command()
def check(
    file: RecipeFile,
    online: Annotated[bool, typer.Option("--online", help="compare its visits with the archive")] = False,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Check a recipe, and say how many exposures and stamps it expects.

    Exit code 1: with --online, the archive has something else than the recipe says.
    """
    path = find_recipe(file)
    recipe = read_recipe(path, settings or ())
    if not as_json:
        _print_check(path, recipe)
    archive = _compared_with_archive(recipe) if online else None
    if as_json:
        counts = {"data": expected(recipe), "rehearsal": expected_rehearsal(recipe)}
        rows = {name: [dataclasses.asdict(row) for row in rows] for name, rows in counts.items()}
        found = {} if archive is None else {"archive": [dataclasses.asdict(row) for row in archive]}
        print_json({"recipe": recipe.model_dump(mode="json"), "expected": rows, "doubts": doubts(recipe)} | found)
    elif archive is not None:
        _print_compared(archive)
    if any(row.differs for row in archive or ()):
        raise typer.Exit(1)


def _print_check(path: Path, recipe: Recipe) -> None:
    output.print(f"{path}: valid; {recipe.task}/{recipe.name}, {', '.join(recipe.instrument.filters)}; {recipe.data.source}")
    _print_expected("data", expected(recipe))
    _print_expected("rehearsal", expected_rehearsal(recipe))
    for doubt in doubts(recipe):
        message("caution", doubt, "caution")


@recipe_commands.command()
def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="name of the model, as in ACS-WFC-F606W-2-32")],
    file: Annotated[Path | None, typer.Option("--output", help="file to write [default: NAME.yaml, in lower case]")] = None,
) -> None:
    """Write a commented recipe for a new instrument, to be filled in."""
    if not re.fullmatch(NAME_PATTERN, name):
        raise InvalidNameError(f"{name}: expected letters, digits, '_' and '-', as in ACS-WFC-F606W-2-32")
    text = (files.data_root() / "recipes" / "base" / STARTER).read_text(encoding="utf-8")
    path = file or Path(f"{name.lower()}.yaml")
    if path.exists():
        raise UsageError(f"{path} exists: choose another name with --output, or remove it")
    if sizes := re.search(r"-([23])-(\d+)$", name):
        text = text.replace(STARTER_SIZES, f"depth: {sizes[1]}, hidden: {sizes[2]}")
    with _failure_is_told(path):
        write_atomically(text.replace(STARTER_NAME, name).replace("NAME.yaml", path.name).encode(), path)
    typer.echo(str(path))


@recipe_commands.command()
def schema() -> None:
    """Print the JSON Schema of recipes, for editors."""
    typer.echo(json.dumps(recipe_json_schema(), indent=2))


def simulate(
    file: RecipeFile,
    field_type: Annotated[list[str] | None, typer.Option(help=f"{', '.join(SIMULATED_FIELD_TYPES)} [default: all]")] = None,
    seed: Annotated[int | None, typer.Option(help="chooses the field and all noise [default: the rehearsal's]")] = None,
    exposures: Annotated[int | None, typer.Option(help="of each visit [default: the rehearsal's]")] = None,
    exposure_time: Annotated[float | None, typer.Option(help="seconds [default: the rehearsal's]")] = None,
    side: Annotated[int | None, typer.Option(help="pixels of a square cut-out [default: the rehearsal's]")] = None,
    full_frame: Annotated[bool, typer.Option("--full-frame", help="whole frames, all chips")] = False,
    output_dir: Annotated[Path, typer.Option(help="folder that gets a folder per visit")] = Path("simulated"),
    settings: Settings = None,
) -> None:
    """Simulate a visit of each field type with the instrument of a recipe: exposures, and the truth beside each.

    Prints the path of each ROOT_flc.fits; ROOT_truth.safetensors beside it holds cosmic rays, scene and noise in electrons.
    """
    from deepcr_zoo.simulate.cameras import simulated
    from deepcr_zoo.simulate.simulation import SimulatedVisit, write_visit

    recipe = read_recipe(find_recipe(file), settings or ())
    sizes, instrument = recipe.rehearsal, simulated(recipe.instrument)
    if full_frame and side is not None:
        raise UsageError("--full-frame and --side: expected one of them")
    visits = [
        SimulatedVisit(
            instrument,
            kind,
            sizes.seed if seed is None else seed,
            sizes.exposures if exposures is None else exposures,
            sizes.exposure_time_s.get(kind, FALLBACK_EXPOSURE_TIME_S) if exposure_time is None else exposure_time,
            None if full_frame else sizes.side if side is None else side,
        )
        for kind in _field_types(field_type, recipe)
    ]
    folders = [output_dir / f"{visit.field_type}-{visit.seed}" for visit in visits]
    if taken := [folder for folder in folders if folder.is_dir() and any(folder.iterdir())]:
        raise UsageError(
            f"{taken[0]} is not empty: choose another --output-dir or remove it, exposures of two runs do not mix"
        )
    for visit, folder in TerminalReporter().track(list(zip(visits, folders, strict=True)), "simulating", len(visits)):
        with _failure_is_told(folder):
            written = write_visit(visit, folder)
        for path in written:
            typer.echo(str(path))


def build(
    file: RecipeFile,
    data: Annotated[
        list[str] | None,
        typer.Option(
            help="exposures: folder, wildcard or file; mast: from the archive; a manifest of fetch. May be given "
            "several times"
        ),
    ] = None,
    rehearse: Annotated[bool, typer.Option("--rehearse", help="simulated visits in the place of the data")] = False,
    jobs: Annotated[int | None, typer.Option(help="visits at a time [default: as processors and memory allow]")] = None,
    scheduler: OnScheduler = None,
    report: Annotated[bool, typer.Option("--report", help="write a contact sheet, histograms and a table")] = False,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Build the training set of a recipe: labels, ignore masks, stamps, splits.

    Prints the path of its manifest. What is finished is not done again, by any recipe that needs it. Inputs that cannot be
    used are left out and named, or refused if build.quality.on_bad_file says so. Exit code 1: there is no data, a visit
    failed, or nothing is left to train on; 2: wrong usage.
    """
    from deepcr_zoo.cli.console import TerminalReporter
    from deepcr_zoo.dataset.build import assemble, label_visits
    from deepcr_zoo.dataset.fetching import exposures_of
    from deepcr_zoo.dataset.overview import write_report
    from deepcr_zoo.dataset.plans import plan_build
    from deepcr_zoo.dataset.store import MANIFEST_FILE, Home

    if report:
        require_matplotlib()
    path = find_recipe(file)
    where = jobs_or_scheduler(jobs, scheduler, default_jobs(), [Home.default().visits])
    try:
        recipe = read_recipe(path, settings or ())
        places = data or () if rehearse else exposures_of(recipe, data or (), path.parent, TerminalReporter())
        plan = plan_build(recipe, places, rehearse, where, path.parent)
        for caution in plan.cautions:
            message("caution", caution, "caution")
        failed = 0
        for outcome in TerminalReporter().track(label_visits(plan, where), "labelling", len(plan.visits)):
            failed += _tell_visit(outcome)
        if failed:
            message("error", f"{failed} of {len(plan.visits)} visits failed: the same command tries them again", "error")
            raise typer.Exit(1)
        dataset = assemble(plan)
        manifest = dataset.folder / MANIFEST_FILE
        pictures = write_report(dataset) if report else []
    except KeyboardInterrupt:
        message("interrupted", "the same command goes on where this one ended", "error")
        raise typer.Exit(batch.INTERRUPTED) from None
    if as_json:
        print_json(dataset.manifest.model_dump(mode="json") | {"path": str(manifest)})
        return
    _print_dataset(dataset.manifest)
    for written in (*pictures, manifest):
        typer.echo(str(written))


def default_jobs() -> int:
    """Visits that are labelled at a time: one per processor, and 4.5 GB of memory for each."""
    memory = machine.memory_bytes()
    return 1 if memory is None else max(1, min(machine.processors(), memory // BYTES_PER_VISIT))


@contextmanager
def _failure_is_told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from None


def _tell_visit(outcome: Outcome[VisitRecord]) -> bool:
    """Say what became of a visit; gives whether it failed."""
    from deepcr_zoo.dataset.overview import sentence

    if outcome.result is None:
        message("failed", str(outcome.error), "error")
        return True
    label = "rejected" if outcome.result.rejection else "labelled"
    level: Level = "caution" if outcome.result.rejection or outcome.result.rejected else "success"
    message(label, f"{outcome.path}: {sentence(outcome.result)}", level)
    return False


def _print_dataset(manifest: Manifest) -> None:
    from deepcr_zoo.dataset.store import STAMP_SPLITS

    shown = table("stamps", *STAMP_SPLITS)
    for kind, counts in manifest.counts.items():
        shown.add_row(kind, *(str(counts[split]) for split in STAMP_SPLITS))
    output.print(shown)
    for one in manifest.rejected:
        message("rejected", f"{one.what}: {one.reason}", "caution")
    for line in manifest.missing:
        message("missing", line, "caution")
    for caution in manifest.cautions:
        message("caution", caution, "caution")


def _field_types(names: list[str] | None, recipe: Recipe) -> list[SimulatedFieldType]:
    kinds: dict[str, SimulatedFieldType] = {kind: kind for kind in SIMULATED_FIELD_TYPES}
    if unknown := [name for name in names or () if name not in kinds]:
        raise UsageError(f"--field-type {unknown[0]}: expected one of {', '.join(kinds)}")
    return [kinds[name] for name in names or recipe.rehearsal.exposure_time_s]


def _compared_with_archive(recipe: Recipe) -> list[RuleComparison]:
    from deepcr_zoo.archive.comparison import compare
    from deepcr_zoo.archive.listing import query_of
    from deepcr_zoo.archive.mast import Archive

    return compare(recipe, Archive().search(query_of(recipe)))


def _print_compared(rows: list[RuleComparison]) -> None:
    def cell(number: float | None) -> str:
        return "-" if number is None else f"{number:g}"

    shown = table("archive", "split", "exposures", "found", "mean time (s)", "found", "differs")
    for row in rows:
        numbers = (row.expected_exposures, row.found_exposures, row.expected_time_s, row.found_time_s)
        shown.add_row(row.rule, row.split, *map(cell, numbers), "; ".join(row.differs) or "-")
    output.print(shown)


def _print_expected(what: str, rows: list[Expected]) -> None:
    if not any(row.visits for row in rows):
        return
    shown = table(what, "field type", "visits", "exposures", "stamps")
    for split in dict.fromkeys(row.split for row in rows):
        part = [row for row in rows if row.split == split]
        for row in part:
            shown.add_row(split, row.field_type, *map(str, (row.visits, row.exposures, row.stamps)))
        shown.add_row(
            split, "all", *(f"{sum(getattr(row, key) for row in part)}" for key in ("visits", "exposures", "stamps"))
        )
    output.print(shown)


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
    from deepcr_zoo.archive import manifest as manifests
    from deepcr_zoo.archive.comparison import compare
    from deepcr_zoo.cli.console import TerminalReporter
    from deepcr_zoo.dataset import fetching as archive

    if (file is None) == (manifest is None):
        raise UsageError("expected a RECIPE, or --manifest FILE, and not both")
    if settings and file is None:
        raise UsageError("--manifest takes what it lists: leave out --set")
    try:
        if manifest is not None:
            path, listed = manifest, manifests.read(manifest)
            if not dry_run:
                listed, _ = archive.download_manifest(listed, TerminalReporter(), jobs)
        else:
            recipe = read_recipe(find_recipe(file or ""), settings or ())
            if dry_run:
                listed = archive.list_products(recipe)
                path = manifests.kept_path(listed.query)
            else:
                path, listed = archive.fetch(recipe, TerminalReporter(), jobs)
            for row in compare(recipe, listed.products):
                # what is not public is told at the end
                for reason in row.differs if row.found_exposures or not listed.not_public else ():
                    message("differs", f"{row.rule}: {reason}", "caution")
        if to is not None:
            manifests.write(to, listed)
    except KeyboardInterrupt:
        message("interrupted", "the same command goes on where this one ended", "error")
        raise typer.Exit(batch.INTERRUPTED) from None
    _print(listed, to or path, dry_run, as_json)


def _print(listed: ArchiveManifest, path: Path, dry_run: bool, as_json: bool) -> None:
    from deepcr_zoo.dataset import fetching as archive

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
        folder = files.exposures_root() / archive.SOURCE
        message("archive", f"{len(listed.products)} products, {listed.bytes / 1e6:.1f} MB, in {folder}", "success")
    if listed.not_public:
        message("not public", f"left out: {', '.join(listed.not_public)}", "caution")
    typer.echo(str(path))
