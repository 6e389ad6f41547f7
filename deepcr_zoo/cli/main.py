"""The command line: the app with all commands, and those that find, verify and convert models and clean exposures.

Results go to stdout, messages and warnings to stderr. Exit codes: 0 done, 1 some inputs failed, 2 wrong usage.
"""

from __future__ import annotations

import dataclasses
import errno
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Argument, Option

from deepcr_zoo._version import __version__
from deepcr_zoo.batch import UNWRITABLE_NAME
from deepcr_zoo.cli import console
from deepcr_zoo.cli.bench import bench
from deepcr_zoo.cli.console import (
    TerminalReporter,
    hiding_logs,
    interruptible,
    message,
    open_closed_streams,
    print_error,
    print_facts,
    print_json,
    print_line,
    print_note,
    print_result,
    print_table,
    print_usage_error,
    whole,
)
from deepcr_zoo.cli.datasets import build, fetch, recipe_commands, simulate
from deepcr_zoo.cli.importing import import_file
from deepcr_zoo.cli.instruments import instrument_commands
from deepcr_zoo.cli.options import AsJson, Device, Engine, OnScheduler, refuse_secrets
from deepcr_zoo.cli.publishing import check, publish, site, update
from deepcr_zoo.cli.training import train
from deepcr_zoo.cli.viewing import regions, view
from deepcr_zoo.errors import DeepcrZooError, ModelWarning, UsageError
from deepcr_zoo.files import FULL, moment_of_writing
from deepcr_zoo.zoo.cards import read_card
from deepcr_zoo.zoo.hub.connection import without_secrets
from deepcr_zoo.zoo.registries import default_registry, other_registries
from deepcr_zoo.zoo.registry import ModelEntry, Registry, ResolvedModel
from deepcr_zoo.zoo.rendering import card_text, input_text
from deepcr_zoo.zoo.resolving import find_model
from deepcr_zoo.zoo.sources import SOURCES, Source, pull_resolved

_STATES_OF_MACHINES = {
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP, errno.EIO, errno.ESTALE, errno.EMFILE),
    *FULL,
}
"""Errors of files that are no fault of this package, wherever they come up."""

_USAGE_ERROR: Any = typer.BadParameter.__base__
"""Class of mistakes in the arguments, for which typer has no public name."""

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,  # the grammar of names is full of brackets
    pretty_exceptions_enable=False,
    help="Cosmic-ray rejection networks for telescope images: find, get and verify them, and clean exposures with them.",
)

app.add_typer(recipe_commands, name="recipe")
app.add_typer(instrument_commands, name="instrument")
for command in (view, regions, simulate, fetch, build, train, bench, publish, update, check, site):
    app.command()(command)
app.command("import")(import_file)

NAME_HELP = "[mask/|inpaint/]NAME[@VERSION], a run, or hf:ORG/TASK-NAME@vVERSION"
Names = Annotated[list[str] | None, Argument(metavar="NAME...", help=NAME_HELP)]
All = Annotated[bool, Option("--all", help="every version of every model")]
FromMirror = Annotated[str | None, Option("--from", help="folder or file:// address of a mirror")]
FromSource = Annotated[str | None, Option("--source", help=f"use this source alone: {', '.join(SOURCES)}")]


@app.command("list")
def list_command(
    pattern: Annotated[str, Argument(help="wildcards, matched against NAME, task/NAME and aliases")] = "*",
    as_json: AsJson = False,
) -> None:
    """Show the models whose name matches PATTERN."""
    found = [(registry, entry) for registry in _searched(pattern) for entry in registry.find(pattern.rpartition(":")[2])]
    if not found:
        raise UsageError(f"no model matches {pattern!r}; try wildcards, as in '*F606W*'")
    if as_json:
        print_json([_entry_json(registry, entry) for registry, entry in found])
        return
    rows = []
    for registry, entry in found:
        card = read_card(registry.resolve(entry.reference))
        versions = [f"{v} (default)" if v == entry.default and len(entry.versions) > 1 else v for v in entry.versions]
        origins = [registry.origin(f"{entry.reference}@{version}").label for version in entry.versions]
        details = [entry.summary, f"input {input_text(card)}", *(f"alias {alias}" for alias in entry.alias_texts)]
        name = f"{registry.home.registry}:{entry.reference}" if registry.home.registry else entry.reference
        rows.append((name, versions, list(dict.fromkeys(origins)), details))
    print_table(["model", "versions", "from", "for"], rows)


def _searched(pattern: str) -> list[Registry]:
    """Return the registries to search: all, or that of the pattern's prefix."""
    prefix, colon, _ = pattern.rpartition(":")
    others = other_registries()
    return [others[prefix]] if colon and prefix in others else [] if colon else [default_registry(), *others.values()]


def _entry_json(registry: Registry, entry: ModelEntry) -> dict[str, Any]:
    origins = {version: registry.origin(f"{entry.reference}@{version}").label for version in entry.versions}
    more = {"hub_repository": entry.hub_repository, "registry": registry.home.registry, "from": origins}
    return entry.model_dump(mode="json") | more


@app.command()
def info(name: Annotated[str, Argument(help=NAME_HELP)], as_json: AsJson = False) -> None:
    """Show the card of a model."""
    model = _resolve(name)
    card = read_card(model)
    if as_json:
        print_json(card.model_dump(mode="json") | {"locked": model.locked.model_dump(mode="json")})
        return
    print_facts(card_text(model, card))


@app.command()
def pull(
    names: Names = None,
    all_models: All = False,
    to: Annotated[Path | None, Option(help="write a mirror into this folder instead of the cache")] = None,
    mirror: FromMirror = None,
    source: FromSource = None,
    as_json: AsJson = False,
) -> None:
    """Download and verify models; prints the path of each weights file."""

    def work(model: ResolvedModel) -> dict[str, Any]:
        pulled = pull_resolved(model, to=to, mirror=mirror, source=_source(source))
        print_note(f"{model.reference}: sha256 and size verified, from the {pulled.source}" + (f", into {to}" if to else ""))
        if not as_json:
            print_result(pulled.path)
        return {"model": model.reference, "path": str(pulled.path), "source": pulled.source}

    _, failed = _for_each(names, all_models, work, "pulling", as_json)
    if failed:
        raise typer.Exit(1)


@app.command()
def verify(
    names: Names = None,
    all_models: All = False,
    device: Device = "auto",
    engine: Engine = "auto",
    mirror: FromMirror = None,
    source: FromSource = None,
    as_json: AsJson = False,
) -> None:
    """Verify the hash of models, run each on its test vector and compare."""
    from deepcr_zoo.models import verification

    def work(model: ResolvedModel) -> dict[str, Any]:
        outcome = verification.verify(model, device, engine=engine, source=_source(source), mirror=mirror)
        return dataclasses.asdict(outcome)

    rows, failed = _for_each(names, all_models, work, "verifying", as_json)
    if not as_json:
        cells = []
        for row in rows:
            numbers = (row[key] for key in ("max_difference", "tolerance", "flipped_pixels"))
            cells.append((row["model"], row["verdict"], *("-" if one is None else f"{one:.2g}" for one in numbers)))
        print_table(["model", *map(whole, ("verdict", "max difference", "allowed", "flipped"))], cells)
        for row in rows:
            if row["reason"]:
                message("fails", row["reason"], "error")
    if failed or any(row["verdict"] != "reproduces" for row in rows):
        raise typer.Exit(1)


@app.command()
def convert(
    names: Names = None,
    all_models: All = False,
    card: Annotated[Path | None, Option(exists=True, dir_okay=False, help="card of a new model to import")] = None,
    to: Annotated[Path | None, Option(help="write the converted weights into this folder, as a mirror")] = None,
    sdists: Annotated[Path, Option(help="folder with the .tar.gz files of upstream's releases")] = Path("upstream-sdists"),
    as_json: AsJson = False,
) -> None:
    """Convert upstream .pth files, named by the models' cards, to safetensors, and compare with the registry."""
    from deepcr_zoo.publishing import convert as conversion

    if card is not None:
        if names or all_models or to is None:
            raise UsageError("--card makes one new model: give it with --to and without names or --all")
        for line in conversion.convert_new(card, sdists, to).splitlines():
            print_line(line)
        return

    def work(model: ResolvedModel) -> dict[str, Any]:
        converted = conversion.convert(read_card(model), sdists)
        if to:
            conversion.write_weights(converted, to)
        return {"model": model.reference, "differs": model.locked.weights.mismatch(converted.weights)}

    rows, failed = _for_each(names, all_models, work, "converting", as_json)
    for row in rows if not as_json else ():
        print_line(f"{row['model']}: " + (f"differs: {row['differs']}" if row["differs"] else "matches the registry"))
    if failed or any(row["differs"] for row in rows):
        raise typer.Exit(1)


@app.command()
def clean(
    files: Annotated[list[str], Argument(metavar="FILE...", help="FITS files, wildcards, folders or @list.txt")],
    model: Annotated[str, Option(help="mask model or run; auto: the zoo's first choice for the instrument")] = "auto",
    inpaint: Annotated[
        str, Option(help="model, medmask, biharmonic or none; auto: the instrument's network or medmask")
    ] = "auto",
    threshold: Annotated[float | None, Option(help="mask above this probability [default: the card's]")] = None,
    mask: Annotated[Path | None, Option(help="mask file of the one FILE, instead of a network's")] = None,
    fpr: Annotated[float | None, Option(help="use the threshold measured to give this false-positive rate")] = None,
    allow_synthetic: Annotated[bool, Option("--allow-synthetic", help="with --fpr: accept synthetic data")] = False,
    grow: Annotated[int, Option(help="dilate the mask by this number of pixels")] = 0,
    output_dir: Annotated[Path | None, Option(help="folder of the products [default: that of the input]")] = None,
    overwrite: Annotated[bool, Option("--overwrite", help="replace products, finished or made otherwise")] = False,
    dq_only: Annotated[bool, Option("--dq-only", help="set the DQ bit in the copy, repaint nothing")] = False,
    ignore_dq: Annotated[
        str | None, Option(help="DQ bits that leave a pixel usable, such as 16,64; or none, all [default: the instrument's]")
    ] = None,
    extension: Annotated[
        list[str] | None, Option(help="science image: number, NAME, NAME,VERSION or wildcard; may be repeated")
    ] = None,
    unit: Annotated[str | None, Option(help="unit of the pixels, in place of BUNIT")] = None,
    gain: Annotated[
        str | None, Option(help="e- per count, in place of the header's: one, or one per image as 1.1,1.2")
    ] = None,
    bias: Annotated[str | None, Option(help="bias level of raw counts, or overscan to measure it there")] = None,
    exposure_time: Annotated[float | None, Option(help="seconds, in place of EXPTIME")] = None,
    prob: Annotated[bool, Option("--prob", help="write the probability into the mask file")] = False,
    preview: Annotated[bool, Option("--preview", help="write a PNG beside the products")] = False,
    device: Device = "auto",
    engine: Engine = "auto",
    jobs: Annotated[int | None, Option(help="processes; they share the processors [default: 1]")] = None,
    scheduler: OnScheduler = None,
    as_json: Annotated[bool, Option("--json", help="print a line of JSON per file")] = False,
) -> None:
    """Find and repaint the cosmic rays of exposures.

    Writes ROOT_crmask.fits, and ROOT_crclean.fits unless --inpaint none is given. A second run skips finished files.
    Subfolders are not searched. Exit code 1: some files failed, each is named; 2: wrong usage.
    """
    from deepcr_zoo import batch
    from deepcr_zoo.cli import cluster
    from deepcr_zoo.cli.cleanreport import CleanReport
    from deepcr_zoo.exposures import CleanOptions, cleaning, plan

    where = cluster.jobs_or_scheduler(jobs, scheduler, 1, [output_dir] if output_dir else [])
    request = batch.expand(files)
    report = CleanReport(as_json, request.named)
    options = CleanOptions(
        model=model,
        inpaint=inpaint,
        threshold=threshold,
        mask=mask,
        fpr=fpr,
        allow_synthetic=allow_synthetic,
        grow=grow,
        output_dir=output_dir,
        overwrite=overwrite,
        dq_only=dq_only,
        ignore_dq=ignore_dq,
        extension=extension,
        unit=unit,
        gain=gain,
        bias=bias,
        exposure_time=exposure_time,
        prob=prob,
        preview=preview,
        device=device,
        engine=engine,
    )
    if mask is not None and len(request.paths) > 1:
        raise UsageError(f"--mask {mask}: is the mask of one exposure: expected one FILE, got {len(request.paths)}")
    options, how = options.pinned()  # once for all files
    for note in how:
        print_note(note)
    work = partial(cleaning.check_and_clean, options=options)
    if scheduler is None:  # workers of a cluster check for themselves: they have their own devices and extras
        options.check()
        # choices are shown at once only if the work runs in this process
        work = partial(cleaning.clean_with, options=options, on_choice=report.choice if where == 1 else None)
    refused = {**request.empty, **plan.clashes(request.paths, output_dir)}
    paths = [path for path in request.paths if path not in refused]
    with interruptible():
        try:
            for line in request.left_out:
                message("left out", line, "caution")
            for name, reason in refused.items():
                report.add(batch.Outcome(name, None, f"{name}: {reason}"))
            for outcome in TerminalReporter().track(batch.run(work, paths, where), "cleaning", len(paths)):
                report.add(outcome)
        except KeyboardInterrupt:
            report.summarise()
            raise
    report.summarise()
    if report.failed:
        raise typer.Exit(1)


@app.callback(invoke_without_command=True)
def version(show: Annotated[bool, Option("--version", help="print the version")] = False) -> None:
    """Handle options that need no command."""
    if show:
        print_result(__version__)
        raise typer.Exit


def main() -> None:
    """Run the command line; a user's mistake is one line on stderr, not a traceback."""
    open_closed_streams()
    try:
        with _warnings_as_messages(), hiding_logs():
            _check_surroundings()
            refuse_secrets(sys.argv[1:])
            sys.exit(app(standalone_mode=False))
    except _USAGE_ERROR as error:
        print_usage_error(error)
        sys.exit(error.exit_code)
    except DeepcrZooError as error:
        print_error(error)
        sys.exit(error.exit_code)
    except UnicodeEncodeError:
        message("error", UNWRITABLE_NAME, "error")
        sys.exit(1)
    except UnicodeDecodeError:
        if "--install-completion" not in sys.argv:
            raise
        advice = "'deepcr-zoo --show-completion' prints the lines to put into it"
        message("error", f"the start file of your shell is no UTF-8, and stays as it is: {advice}", "error")
        sys.exit(1)
    except BrokenPipeError:
        # the reader has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        if error.errno not in _STATES_OF_MACHINES:
            raise
        message("error", f"{error.filename or 'the output'}: {error.strerror}", "error")
        sys.exit(1)


def _check_surroundings() -> None:
    """Check what libraries would end the process for: the present folder, and numbers in the environment."""
    if not os.environ.get("SOURCE_DATE_EPOCH", "0"):
        del os.environ["SOURCE_DATE_EPOCH"]  # numpy takes an empty one for a number
    moment_of_writing()
    try:
        Path.home()
    except RuntimeError:
        raise UsageError("this user has no home folder, where settings and models are: set HOME to a folder") from None
    try:
        os.getcwd()
    except FileNotFoundError:
        raise UsageError("the present folder was removed: change to one that exists") from None


def _for_each(
    names: list[str] | None, all_models: bool, work: Callable[[ResolvedModel], dict[str, Any]], verb: str, as_json: bool
) -> tuple[list[dict[str, Any]], list[str]]:
    """Do `work` for every model, whatever fails; return the results, and the names of the models that failed."""
    rows: list[dict[str, Any]] = []
    failures: list[dict[str, Any]] = []
    wanted = _wanted(names, all_models)
    for name in TerminalReporter().track(wanted, verb, len(wanted)):
        try:
            rows.append(work(_resolve(name)))
        except UsageError:
            raise
        except DeepcrZooError as error:
            print_error(error)
            failures.append({"model": name, "error": str(error)})
    if as_json:
        print_json(rows + failures)
    failed = [failure["model"] for failure in failures]
    if failed:
        message("error", f"{len(failed)} of {len(rows) + len(failed)} failed: {', '.join(failed)}", "error")
    return rows, failed


def _wanted(names: list[str] | None, all_models: bool) -> list[str]:
    if bool(names) == all_models:
        raise UsageError("name one model or more, or give --all (not both)")
    return names or default_registry().references()


def _resolve(name: str) -> ResolvedModel:
    """Resolve a name; print what was chosen, and cautions."""
    model = find_model(name)
    if model.notes:
        print_note(f"{name} -> {model.reference}: {'; '.join(model.notes)}")
    for caution in model.cautions:
        message("caution", caution, "caution")
    return model


def _source(name: str | None) -> Source | None:
    for source in SOURCES:
        if source == name:
            return source
    if name is not None:
        raise UsageError(f"--source {name}: expected one of {', '.join(SOURCES)}")
    return None


@contextmanager
def _warnings_as_messages() -> Iterator[None]:
    """Show warnings as messages on stderr, except model warnings, which commands print themselves."""
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        warnings.simplefilter("ignore", ModelWarning)
        yield


def _show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    """Show a warning; one of the Hub's client may repeat what the Hub answers, such as a token."""
    console.message("warning", without_secrets(str(message)), "caution")
