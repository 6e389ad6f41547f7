"""Commands for data: recipes, simulated visits, downloads and training sets."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

from deepcr_zoo import files, locations
from deepcr_zoo.batch import Outcome
from deepcr_zoo.cli.cluster import jobs_or_scheduler
from deepcr_zoo.cli.console import (
    TerminalReporter,
    interruptible,
    message,
    print_json,
    print_line,
    print_result,
    print_table,
    whole,
)
from deepcr_zoo.cli.options import AsJson, OnScheduler, RecipeFile, Settings, default_jobs, refuse_existing
from deepcr_zoo.dataset.expectations import Expected, doubts, expected, expected_rehearsal, expected_truth
from deepcr_zoo.dataset.labelmethods import LABEL_METHODS, why_not_of
from deepcr_zoo.errors import InvalidNameError, UsageError
from deepcr_zoo.exposures.pictures import require_matplotlib
from deepcr_zoo.files import write_new
from deepcr_zoo.progress import Level
from deepcr_zoo.zoo.instrumentfiles import instruments_beside
from deepcr_zoo.zoo.names import NAME_PATTERN
from deepcr_zoo.zoo.recipe import FIELD_TYPES, FieldType, Recipe
from deepcr_zoo.zoo.recipefiles import find_recipe, read_recipe, recipe_json_schema

if TYPE_CHECKING:
    from deepcr_zoo.archive.comparison import RuleComparison
    from deepcr_zoo.archive.manifest import ArchiveManifest
    from deepcr_zoo.dataset.store import Manifest, VisitRecord

recipe_commands = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Check recipes, and start new ones.")

FALLBACK_EXPOSURE_TIME_S = 500.0
"""For a field type that the recipe does not rehearse."""

STARTER, DESCRIBED_STARTER = "new-instrument.yaml", "described-camera.yaml"
STARTER_NAME = "INSTRUMENT-DETECTOR-FILTER-2-32"
STARTER_SIZES = "depth: 2, hidden: 32"
"""The sizes at the end of that name."""


@recipe_commands.command()
def check(
    file: RecipeFile,
    online: Annotated[bool, Option("--online", help="compare its visits with the archive")] = False,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Check a recipe, and show how many exposures and stamps it expects.

    Exit code 1: with --online, the archive differs from the recipe.
    """
    path = find_recipe(file)
    recipe = read_recipe(path, settings or ())
    if not as_json:
        _print_check(path, recipe)
    archive = _compared_with_archive(recipe) if online else None
    if as_json:
        counts = {"data": expected(recipe), "truth": expected_truth(recipe), "rehearsal": expected_rehearsal(recipe)}
        rows = {name: [dataclasses.asdict(row) for row in rows] for name, rows in counts.items()}
        found = {} if archive is None else {"archive": [dataclasses.asdict(row) for row in archive]}
        print_json({"recipe": recipe.model_dump(mode="json"), "expected": rows, "doubts": doubts(recipe)} | found)
    elif archive is not None:
        _print_comparison(archive)
    if any(row.differs for row in archive or ()):
        raise typer.Exit(1)


def _print_check(path: Path, recipe: Recipe) -> None:
    print_line(f"{path}: valid; {recipe.task}/{recipe.name}, {', '.join(recipe.instrument.filters)}; {recipe.data.source}")
    _print_expected("data", expected(recipe))
    _print_expected("truth", expected_truth(recipe))
    _print_expected("rehearsal", expected_rehearsal(recipe))
    for doubt in doubts(recipe):
        message("caution", doubt, "caution")


@recipe_commands.command()
def new(
    name: Annotated[str, Argument(metavar="NAME", help="name of the model, as in ACS-WFC-F606W-2-32")],
    file: Annotated[Path | None, Option("--output", help="file to write [default: NAME.yaml, in lower case]")] = None,
    instrument: Annotated[str | None, Option(help="name of a described camera, see instrument list")] = None,
    filters: Annotated[list[str] | None, Option("--filter", help="with --instrument: filter; may be repeated")] = None,
    labels: Annotated[str | None, Option(help="with --instrument: label method [default: dithers]")] = None,
) -> None:
    """Write a commented recipe for a new instrument, to be filled in."""
    if not re.fullmatch(NAME_PATTERN, name):
        raise InvalidNameError(f"{name}: expected letters, digits, '_' and '-', as in ACS-WFC-F606W-2-32")
    path = Path(f"{name.lower()}.yaml") if file is None else locations.expanded(file)
    starter = STARTER if instrument is None else DESCRIBED_STARTER
    text = (locations.data_root() / "recipes" / "base" / starter).read_text(encoding="utf-8")
    if instrument is not None:
        text = _with_instrument(text, instrument, filters or [], labels or "dithers", path)
    elif filters or labels:
        raise UsageError(
            "--filter and --labels are for --instrument: give the name of a described camera, or leave them out"
        )
    refuse_existing(path, "choose another name with --output, or remove it")
    if sizes := re.search(r"-([23])-(\d+)$", name):
        text = text.replace(STARTER_SIZES, f"depth: {sizes[1]}, hidden: {sizes[2]}")
    with files.reporting_failures(path, "choose another file with --output"):
        write_new(text.replace(STARTER_NAME, name).replace("NAME.yaml", path.name).encode(), path)
    print_result(path)


def _with_instrument(text: str, instrument: str, filters: list[str], labels: str, path: Path) -> str:
    """Return the starter of a described camera with its name, filters and label method."""
    known = instruments_beside([path.parent])
    found = known.called(instrument)
    if found is None:
        raise UsageError(f"--instrument {instrument}: expected one of {', '.join(one.name for one in known)}")
    if not filters:
        raise UsageError("--instrument needs --filter NAME: the filter of the training data, as the headers spell it")
    method = next((one for one in LABEL_METHODS if one == labels), None)
    if method is None:
        raise UsageError(f"--labels {labels}: expected one of {', '.join(sorted(LABEL_METHODS))}")
    if (why := why_not_of(method, found.instrument.telescope, found.instrument.name)) is not None:
        raise UsageError(f"--labels {labels}: {why}")
    filled = {
        "name: INSTRUMENT  ": f"name: {json.dumps(found.instrument.name)}  ",
        "filters: [FILTER]  ": f"filters: {json.dumps(filters)}  ",
        "labels: dithers  ": f"labels: {labels}  ",
    }
    for placeholder, value in filled.items():
        text = text.replace(placeholder, value)
    return text


@recipe_commands.command()
def schema() -> None:
    """Print the JSON Schema of recipes, for editors."""
    print_json(recipe_json_schema())


def simulate(
    file: RecipeFile,
    field_type: Annotated[
        list[str] | None, Option(help=f"{', '.join(FIELD_TYPES)} [default: those of the rehearsal]")
    ] = None,
    seed: Annotated[int | None, Option(help="chooses the field and all noise [default: the rehearsal's]")] = None,
    visits: Annotated[int, Option(min=1, max=100_000, help="visits of each field type, with seeds that count up")] = 1,
    exposures: Annotated[int | None, Option(help="exposures of each visit [default: the rehearsal's]")] = None,
    exposure_time: Annotated[float | None, Option(help="seconds [default: the rehearsal's]")] = None,
    side: Annotated[int | None, Option(help="pixels of a square cut-out [default: the rehearsal's]")] = None,
    full_frame: Annotated[bool, Option("--full-frame", help="whole frames, all chips")] = False,
    output_dir: Annotated[Path, Option(help="folder for the visits, one folder each")] = Path("simulated"),
    settings: Settings = None,
) -> None:
    """Simulate visits of each field type with the camera of a recipe, with the truth beside each exposure.

    Prints the path of each exposure: ROOT_flc.fits of ACS/WFC and WFC3/UVIS, else a file as the camera is described.
    ROOT_truth.safetensors beside it holds cosmic rays, scene and noise in electrons.
    """
    from deepcr_zoo.simulate import visits as simulation

    recipe = read_recipe(find_recipe(file), settings or ())
    sizes = recipe.rehearsal
    if full_frame and side is not None:
        raise UsageError("--full-frame and --side: expected one of them")
    first = sizes.seed if seed is None else seed
    simulated = [
        simulation.visit_of(
            recipe,
            kind,
            number,
            sizes.exposures if exposures is None else exposures,
            sizes.exposure_time_s.get(kind, FALLBACK_EXPOSURE_TIME_S) if exposure_time is None else exposure_time,
            None if full_frame else sizes.side if side is None else side,
            LABEL_METHODS[recipe.build.labels].same_pixels,
        )
        for kind in _field_types(field_type, recipe)
        for number in range(first, first + visits)
    ]
    for visit in simulated:
        simulation.check(visit)
    folders = [locations.expanded(output_dir) / f"{visit.field_type}-{visit.seed}" for visit in simulated]
    files.sweep_partial(*folders)
    if taken := [folder for folder in folders if not files.is_free(folder)]:
        raise UsageError(
            f"{taken[0]} is no empty folder: choose another --output-dir or remove it, exposures of two runs do not mix; to "
            "go on with a run that was killed, give --seed and --visits of what is left"
        )
    for visit, folder in TerminalReporter().track(list(zip(simulated, folders, strict=True)), "simulating", len(simulated)):
        with files.reporting_failures(folder, "choose another --output-dir"), files.whole_folder(folder) as unfinished:
            written = simulation.write(visit, unfinished)
        for path in written:
            print_result(folder / path.name)


def build(
    file: RecipeFile,
    data: Annotated[
        list[str] | None,
        Option(help="exposures: folder, wildcard or file; mast: from the archive; a manifest of fetch; may be repeated"),
    ] = None,
    rehearse: Annotated[bool, Option("--rehearse", help="simulated visits in place of the data")] = False,
    jobs: Annotated[int | None, Option(help="visits at a time [default: as processors and memory allow]")] = None,
    scheduler: OnScheduler = None,
    report: Annotated[bool, Option("--report", help="write a contact sheet, histograms and a table")] = False,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Build the training set of a recipe: labels, ignore masks, stamps, splits.

    Prints the path of its manifest. Finished visits are not labelled again, by any recipe that needs them. Unusable inputs
    are left out and named, or refused if build.quality.on_bad_file says so. Exit code 1: there is no data, a visit
    failed, or nothing is left to train on; 2: wrong usage.
    """
    from deepcr_zoo.dataset.build import assemble, label_visits
    from deepcr_zoo.dataset.fetching import exposures_of
    from deepcr_zoo.dataset.overview import write_report
    from deepcr_zoo.dataset.plans import plan_build
    from deepcr_zoo.dataset.store import MANIFEST_FILE, Home

    if report:
        require_matplotlib()
    path = find_recipe(file)
    where = jobs_or_scheduler(jobs, scheduler, default_jobs(), [Home.default().visits])
    with interruptible():
        recipe = read_recipe(path, settings or ())
        places = data or () if rehearse else exposures_of(recipe, data or (), path.parent, TerminalReporter())
        plan = plan_build(recipe, places, rehearse, where, path.parent)
        for caution in plan.cautions:
            message("caution", caution, "caution")
        failed = 0
        for outcome in TerminalReporter().track(label_visits(plan, where), "labelling", len(plan.visits)):
            failed += outcome.result is None
            _print_visit(outcome)
        if failed:
            message("error", f"{failed} of {len(plan.visits)} visits failed: the same command tries them again", "error")
            raise typer.Exit(1)
        dataset = assemble(plan)
        pictures = write_report(dataset) if report else []
    manifest = dataset.folder / MANIFEST_FILE
    if as_json:
        print_json(dataset.manifest.model_dump(mode="json") | {"path": str(manifest)})
        return
    _print_dataset(dataset.manifest)
    for written in (*pictures, manifest):
        print_result(written)


def _print_visit(outcome: Outcome[VisitRecord]) -> None:
    from deepcr_zoo.dataset.overview import sentence

    if outcome.result is None:
        message("failed", str(outcome.error), "error")
        return
    label = "rejected" if outcome.result.rejection else "labelled"
    level: Level = "caution" if outcome.result.rejection or outcome.result.rejected else "success"
    message(label, f"{outcome.path}: {sentence(outcome.result)}", level)


def _print_dataset(manifest: Manifest) -> None:
    from deepcr_zoo.dataset import leftout
    from deepcr_zoo.dataset.store import STAMP_SPLITS

    rows = [(kind, *(str(counts[split]) for split in STAMP_SPLITS)) for kind, counts in manifest.counts.items()]
    print_table(["stamps", *map(whole, STAMP_SPLITS)], rows)
    for line in leftout.lines(manifest.rejected):
        message("rejected", line, "caution")
    for visit in manifest.missing:
        message("missing", visit, "caution")
    for caution in manifest.cautions:
        message("caution", caution, "caution")


def _field_types(names: list[str] | None, recipe: Recipe) -> list[FieldType]:
    kinds: dict[str, FieldType] = {kind: kind for kind in FIELD_TYPES}
    if unknown := [name for name in names or () if name not in kinds]:
        raise UsageError(f"--field-type {unknown[0]}: expected one of {', '.join(kinds)}")
    return [kinds[name] for name in names or recipe.rehearsal.exposure_time_s]


def _compared_with_archive(recipe: Recipe) -> list[RuleComparison]:
    from deepcr_zoo.archive.comparison import compare
    from deepcr_zoo.archive.listing import query_of
    from deepcr_zoo.archive.mast import Archive
    from deepcr_zoo.dataset.fetching import reporting_pace

    return compare(recipe, Archive(reporting_pace(TerminalReporter())).search(query_of(recipe)))


def _print_comparison(rows: list[RuleComparison]) -> None:
    def cell(number: float | None) -> str:
        return "-" if number is None else f"{number:g}"

    cells = []
    for row in rows:
        numbers = (row.expected_exposures, row.found_exposures, row.expected_time_s, row.found_time_s)
        cells.append((row.rule, row.split, *map(cell, numbers), "; ".join(row.differs) or "-"))
    headers = map(whole, ("exposures", "found", "mean time (s)", "found"))
    print_table(["archive", "split", *headers, "differs"], cells)


def _print_expected(what: str, rows: list[Expected]) -> None:
    if not any(row.visits for row in rows):
        return
    counted = ("visits", "exposures", "stamps")
    cells = []
    for split in dict.fromkeys(row.split for row in rows):
        part = [row for row in rows if row.split == split]
        cells += [(split, row.field_type, *(str(getattr(row, name)) for name in counted)) for row in part]
        cells.append((split, "all", *(str(sum(getattr(row, name) for row in part)) for name in counted)))
    print_table([what, "field type", *map(whole, counted)], cells)


def fetch(
    file: Annotated[str | None, Argument(metavar="RECIPE", help="file, or name of a shipped recipe")] = None,
    manifest: Annotated[Path | None, Option(metavar="FILE", help="download what this manifest lists")] = None,
    to: Annotated[Path | None, Option("--output", help="write a copy of the manifest, to keep it")] = None,
    dry_run: Annotated[bool, Option("--dry-run", help="list products and their sizes, download nothing")] = False,
    jobs: Annotated[int, Option(help="downloads at a time, 8 at most")] = 4,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Download the exposures of a recipe's visits from the archive (MAST), into the cache.

    Prints the path of the manifest: names, sizes, versions and SHA-256 of the files, which --manifest here and --data of
    build and train repeat. Complete files are not downloaded again, partial ones are resumed. Exit code 1: the archive is
    unreachable, or does not deliver what it lists; 2: wrong usage.
    """
    from deepcr_zoo.archive import manifest as manifests
    from deepcr_zoo.archive.comparison import compare
    from deepcr_zoo.dataset import fetching as archive

    if (file is None) == (manifest is None):
        raise UsageError("expected a RECIPE, or --manifest FILE, and not both")
    if settings and file is None:
        raise UsageError("--manifest takes what it lists: leave out --set")
    if to is not None:
        manifests.check_copy(to := locations.expanded(to))
    with interruptible():
        if manifest is not None:
            path, listed = manifest, manifests.read(manifest)
            if not dry_run:
                listed, _ = archive.download_manifest(listed, TerminalReporter(), jobs)
        else:
            recipe = read_recipe(find_recipe(file or ""), settings or ())
            if dry_run:
                listed = archive.list_products(recipe, TerminalReporter())
                path = manifests.kept_path(listed.query)
            else:
                path, listed = archive.fetch(recipe, TerminalReporter(), jobs)
            for row in compare(recipe, listed.products):
                # products that are not public are listed at the end
                for reason in row.differs if row.found_exposures or not listed.not_public else ():
                    message("differs", f"{row.rule}: {reason}", "caution")
        if to is not None:
            manifests.write_copy(to, listed)
    _print_archive_manifest(listed, to or path, dry_run, as_json)


def _print_archive_manifest(listed: ArchiveManifest, path: Path, dry_run: bool, as_json: bool) -> None:
    from deepcr_zoo.dataset import fetching as archive

    if as_json:
        print_json(listed.model_dump(mode="json") | {"path": str(path), "bytes": listed.bytes})
        return
    if dry_run:
        rows = []
        for one in listed.products:
            time = "-" if one.exposure_time_s is None else f"{one.exposure_time_s:g}"
            size = "-" if one.size is None else f"{one.size / 1e6:.1f}"
            rows.append((one.name, str(one.proposal), one.visit, one.filter_name, time, size))
        rows.append(("all", "", "", "", "", f"{listed.bytes / 1e6:.1f}"))
        print_table(["product", whole("proposal"), "visit", "filter", whole("exposure time (s)"), whole("MB")], rows)
    else:
        folder = locations.exposures_root() / archive.SOURCE
        message("archive", f"{len(listed.products)} products, {listed.bytes / 1e6:.1f} MB, in {folder}", "success")
    if listed.not_public:
        message("not public", f"left out: {', '.join(listed.not_public)}", "caution")
    print_result(path)
