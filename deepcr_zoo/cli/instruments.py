"""Commands for cameras: describe a new one by its files, check a description, and list those that are known."""

from __future__ import annotations

import dataclasses
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Option

from deepcr_zoo import batch, files, locations
from deepcr_zoo.cli.console import message, print_facts, print_json, print_result, print_table
from deepcr_zoo.cli.options import AsJson, refuse_existing
from deepcr_zoo.documents import as_short_yaml
from deepcr_zoo.errors import InvalidFileError, MissingExtraError, OutputError, UsageError
from deepcr_zoo.files import write_atomically, write_new
from deepcr_zoo.zoo.instrumentfiles import default_instruments, is_description, read_instrument, settings_folder
from deepcr_zoo.zoo.instruments import Instrument

if TYPE_CHECKING:
    from deepcr_zoo.exposures.describing import Described
    from deepcr_zoo.exposures.inspection import InspectedChip

instrument_commands = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Describe cameras, so that clean and build read their files."
)

_SOURCES = "sources"


@instrument_commands.command()
def new(
    paths: Annotated[list[str], Argument(metavar="FILE...", help="exposures, and bias frames or flats if there are some")],
    name: Annotated[str | None, Option(help="name for people and recipes [default: telescope and instrument]")] = None,
    to: Annotated[Path | None, Option(metavar="FILE.yaml", help="file to write [default: in the settings folder]")] = None,
    overwrite: Annotated[bool, Option("--overwrite", help="replace an earlier description")] = False,
    settings: Annotated[list[str] | None, Option("--set", metavar="FIELD=VALUE", help="a fact that you know")] = None,
    as_json: AsJson = False,
) -> None:
    """Describe a camera by the headers and the noise of its files, and write the description.

    Prints what was found, with its source; what is guessed or missing is named. Descriptions in the settings folder are used
    by every command, those beside a recipe by that recipe.
    """
    from deepcr_zoo.exposures.describing import check_new, describe_camera

    request = batch.expand(paths)
    for where, why in request.empty.items():
        raise UsageError(f"{where}: {why}")
    inputs = [Path(path) for path in request.paths if not batch.is_product(path)]
    if not inputs:
        raise UsageError(f"{paths[0]}: is a product of deepcr-zoo: give the exposures")
    if to is not None and to.suffix not in (".yaml", ".yml"):
        raise UsageError(f"--to {to}: expected the name of a file, such as {to / 'mine.yaml'}")
    described = describe_camera(inputs, name, settings or ())
    path = locations.expanded(to) if to is not None else settings_folder() / f"{_file_name(described.instrument.name)}.yaml"
    if not overwrite:
        refuse_existing(path, "give --overwrite to replace it, or another --to")
    if os.path.lexists(path) and not is_description(path):
        raise OutputError(f"{path}: exists and describes no instrument, so that it is not replaced: give another --to")
    check_new(described.instrument, path, inputs, path if overwrite else None)
    with files.reporting_failures(path, "choose another file with --to"):
        (write_atomically if overwrite else write_new)(as_short_yaml(described.instrument), path)
    if as_json:
        print_json({"path": str(path)} | dataclasses.asdict(described) | {"instrument": _content(described.instrument)})
        return
    _print_described(described)
    print_result(path)


def _file_name(name: str) -> str:
    return re.sub(r"[^\w.+-]+", "-", name.lower()).strip("-.") or "instrument"


def _content(instrument: Instrument) -> dict[str, Any]:
    return instrument.model_dump(mode="json", exclude_unset=True)


def _print_described(described: Described) -> None:
    rows = []
    for field, fact in _content(described.instrument).items():
        if field != _SOURCES and fact not in ([], None):
            rows.append((field, _shown(fact), "guessed" if field in described.guessed else "", described.source(field)))
    print_table(["fact", "value", "", "source"], rows)
    for field, why in described.missing.items():
        message("missing", f"{field}: {why}", "caution")
    for field in described.guessed:
        message("guessed", f"{field}: {described.source(field).removeprefix('guessed: ')}", "caution")
    for note in described.notes:
        message("note", note)


def _shown(fact: Any) -> str:
    if isinstance(fact, dict):
        return ", ".join(f"{key} {_shown(value)}" for key, value in fact.items())
    return ", ".join(map(_shown, fact)) if isinstance(fact, list) else f"{fact:g}" if isinstance(fact, float) else str(fact)


@instrument_commands.command()
def check(
    description: Annotated[str, Argument(metavar="FILE.yaml", help="a description, or the name of a known instrument")],
    file: Annotated[Path, Argument(metavar="FILE.fits", help="an exposure of this instrument")],
    output_dir: Annotated[Path | None, Option(help="folder of the picture [default: that of the exposure]")] = None,
    as_json: AsJson = False,
) -> None:
    """Show what a description makes of an exposure: unit, gain, bias levels, usable pixels, background, noise, a picture.

    Writes ROOT_instrument.png beside the exposure (extra plot). Exit code 1: the exposure cannot be read as described.
    """
    from deepcr_zoo.exposures import inspection
    from deepcr_zoo.exposures.missing import MissingFactsError
    from deepcr_zoo.exposures.noisecheck import level_cautions
    from deepcr_zoo.exposures.reading import read_exposure
    from deepcr_zoo.exposures.readingoptions import ReadingOptions

    instrument = _described(description)
    try:
        exposure = read_exposure(file, ReadingOptions(instrument=instrument))
    except MissingFactsError as error:
        raise InvalidFileError(
            f"{error.where}: {error.clauses}: add it to the description, or give it to 'deepcr-zoo instrument new' with "
            "--overwrite, as in --set bias_count=200"
        ) from None
    if exposure.instrument != instrument:
        wanted = _shown(instrument.recognise)
        raise InvalidFileError(f"{file}: is of {exposure.description}, not of {instrument.name}: expected {wanted}")
    chips = inspection.inspect(exposure)
    cautions = [*exposure.cautions, *level_cautions(exposure.chips)]
    picture = _draw(exposure, instrument, output_dir)
    if as_json:
        shown = {"instrument": instrument.name, "filter": exposure.filter_name, "picture": picture and str(picture)}
        print_json(shown | {"chips": [dataclasses.asdict(chip) for chip in chips], "cautions": cautions})
        return
    print_facts([("instrument", instrument.name), ("filter", exposure.filter_name or "none")])
    for chip in chips:
        print_facts(_facts(chip))
    for caution in cautions:
        message("caution", caution, "caution")
    if picture is not None:
        print_result(picture)


def _described(description: str) -> Instrument:
    if (path := Path(description)).is_file():
        return read_instrument(path)
    known = default_instruments()
    if (found := known.called(description)) is not None:
        return found.instrument
    names = ", ".join(one.name for one in known)
    raise UsageError(f"{description}: no such file, and no such instrument: expected a file, or one of {names}")


def _facts(chip: InspectedChip) -> list[tuple[str, str]]:
    def number(found: float | None, unit: str) -> str:
        return "not known" if found is None else f"{found:.4g} {unit}"

    levels, noise = (", ".join(f"{one:.5g}" for one in found) for found in (chip.bias_count, chip.overscan_noise_count))
    gain = number(chip.gain, f"e- per count{f' ({chip.gain_keyword})' if chip.gain_keyword else ''}")
    facts = [
        ("image", chip.name),
        ("unit", chip.unit.lower()),
        ("exposure time", number(chip.exposure_time_s, "s")),
        ("gain", gain if chip.gain_by_noise is None else f"{gain}; the noise implies {chip.gain_by_noise:.2g}"),
        ("read noise", number(chip.read_noise_electron, "e-")),
        ("bias", f"{levels} counts, subtracted" if levels else "none subtracted"),
        ("overscan noise", f"{noise} counts" if noise else "no overscan"),
        ("pixels", f"{chip.pixels:,}, of which {chip.lit:,} see light"),
        ("searched", f"{chip.searched:,}; {chip.bad:,} are bad, {chip.saturated:,} saturated"),
    ]
    if chip.background is not None:
        background = f"level {chip.background.level:.5g}, noise {number(chip.background.noise, '')}".rstrip()
        facts.append(("background", f"{background} {chip.unit.lower()}"))
    return facts


def _draw(exposure: Any, instrument: Instrument, output_dir: Path | None) -> Path | None:
    from deepcr_zoo.exposures import checkpicture, pictures
    from deepcr_zoo.exposures.plan import target

    path = target(exposure.path, output_dir, checkpicture.ENDING)
    if os.path.lexists(path) and pictures.description(path) != checkpicture.made_by(exposure.path):
        raise OutputError(
            f"{path}: exists and is no picture of this file by this command: move it away, or give another --output-dir"
        )
    try:
        picture = checkpicture.draw_check(exposure, instrument.name)
    except MissingExtraError as error:
        message("no picture", str(error), "caution")
        return None
    with files.reporting_failures(path, "choose another --output-dir"):
        files.write_together({path: picture}, permissions=exposure.permissions)
    return path


@instrument_commands.command("list")
def list_command(as_json: AsJson = False) -> None:
    """Show the known instruments, how their headers are recognised, and the file that describes each."""
    known = default_instruments().known
    if as_json:
        print_json([{"name": one.instrument.name, "from": one.where} | _content(one.instrument) for one in known])
        return
    rows = [(one.instrument.name, _shown(one.instrument.recognise), one.where) for one in known]
    print_table(["instrument", "recognised by", "from"], rows)
