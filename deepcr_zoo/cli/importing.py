"""The command that makes a model of a user's own network file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from deepcr_zoo.cli.console import message, print_json, print_note, print_result
from deepcr_zoo.cli.options import AsJson
from deepcr_zoo.errors import UsageError
from deepcr_zoo.zoo.cards import INPUT_UNITS


def import_file(
    file: Annotated[Path, Argument(metavar="FILE", help="network of the deepCR family, .pth or .safetensors")],
    name: Annotated[str, Option(help="name of the model, such as CSST-2-50")],
    version: Annotated[str, Option(help="version of the model")] = "1.0",
    unit: Annotated[
        str,
        Option(help="unit of the pixel values: electron, adu, or any where the network sees asinh((pixel - sky) / noise)"),
    ] = "electron",
    scale: Annotated[float, Option(help="number that pixel values are divided by")] = 1.0,
    norm: Annotated[bool, Option("--norm", help="pixel values are standardised over the whole frame")] = False,
    threshold: Annotated[float, Option(help="mask above this probability")] = 0.5,
    licence: Annotated[str, Option(help="SPDX identifier")] = "not stated",
    author: Annotated[str, Option(help="who made the network, and holds its copyright")] = "not stated",
    as_json: AsJson = False,
) -> None:
    """Make a model of a network file of yours: checked, with a card and a test vector, in a registry of your own.

    Prints its name, local:TASK/NAME@VERSION, which every other command and deepcr_zoo.load take. The file is not changed.
    """
    known = next((one for one in INPUT_UNITS if one == unit), None)
    if known is None:
        raise UsageError(f"--unit {unit}: expected one of {', '.join(INPUT_UNITS)}")
    from deepcr_zoo.publishing import importing

    facts = importing.StatedFacts(name, version, known, scale, norm, threshold, licence, author)
    made = importing.import_file(file, facts)
    sizes = made.architecture
    print_note(sizes.description)
    print_note(f"the converted network agrees with the file's own layers to {made.difference:.1g}")
    if made.deviation is not None:
        stated, unit_text = ("--unit any", "times the noise, compressed") if unit == "any" else (f"--scale {scale:g}", unit)
        spread = f"the output of its first layer had a standard deviation of about {made.deviation:.2g} {unit_text}"
        message("check", f"if {stated} is right, {spread} in training, near to that of the images", "caution")
    if as_json:
        print_json({"model": made.model.reference, "card": str(made.model.card_path), "difference": made.difference})
    else:
        print_result(made.model.reference)
