"""``make demo``: pull and verify two models, clean an exposure, print what was found and draw it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from astropy.io import fits
from typer import Argument, Option

from deepcr_zoo.cli.console import hiding_logs, print_error, print_line
from deepcr_zoo.errors import DeepcrZooError, OutputError
from deepcr_zoo.exposures.cleaning import CleanedFile, clean_file
from deepcr_zoo.exposures.options import AUTO
from deepcr_zoo.exposures.plan import MadeOtherwiseError
from deepcr_zoo.files import read_file, reporting_failures, temporary_folder, write_together
from deepcr_zoo.models.verification import verify
from deepcr_zoo.simulate.cameras import simulated
from deepcr_zoo.simulate.simulation import SimulatedVisit, write_visit
from deepcr_zoo.simulate.truth import read_truth, truth_path
from deepcr_zoo.zoo import sources
from deepcr_zoo.zoo.recipefiles import find_recipe, read_recipe
from deepcr_zoo.zoo.registries import default_registry

MASK, INPAINT = "mask/ACS-WFC-F606W-2-32", "inpaint/ACS-WFC-F606W-2-32"

RECIPE = "acs-wfc-f606w"
"""Recipe whose instrument is simulated."""

SEED = 2020

SIGMA = 3.0
"""Only cosmic rays above this multiple of the noise are counted."""


def demo(
    folder: Annotated[Path, Argument(help="folder for the products and the picture")] = Path("demo"),
    exposure: Annotated[Path | None, Option("--fits", help="an exposure of your own")] = None,
    side: Annotated[int | None, Option(help="simulate a cut-out with this side in pixels, not the full frame")] = None,
) -> None:
    """Clean an exposure, your own or a simulated one, and draw input, mask and result."""
    try:
        with hiding_logs():
            _demo(folder, exposure, side)
    except DeepcrZooError as error:
        print_error(error)
        sys.exit(error.exit_code)


def _demo(folder: Path, exposure: Path | None, side: int | None) -> None:
    for name in (MASK, INPAINT):
        _pull_and_verify(name)
    done = _clean(exposure, folder) if exposure else _clean_simulated(folder, side)
    for note in (*done.reasons, *done.cautions, *filter(None, [done.advice])):
        print_line(f"  {note}")
    print_line(
        f"{done.pixels} pixels ({done.fraction:.1%}) of {done.path} marked as cosmic ray, {done.rate or 0:.2f} per cm2 s"
    )
    for output in done.outputs:
        print_line(f"  {output}")
    print_line(f"picture: {done.outputs[-1]}")


def _pull_and_verify(name: str) -> None:
    model = default_registry().resolve(name)
    pulled = sources.pull_resolved(model)
    outcome = verify(model)
    print_line(f"{model.reference} ({'; '.join(model.notes)}), from the {pulled.source}: {pulled.path}")
    print_line(f"  sha256 {model.locked.weights.sha256}")
    if outcome.max_difference is None:
        raise DeepcrZooError(f"{model.reference} fails: {outcome.reason}")
    print_line(f"  {outcome.verdict} its test vector, largest difference {outcome.max_difference:.1e}")


def _clean(exposure: Path, folder: Path, mask: str = AUTO, inpaint: str = AUTO) -> CleanedFile:
    try:
        return clean_file(exposure, mask, inpaint, output_dir=folder, preview=True)
    except MadeOtherwiseError:
        raise OutputError(
            f"{folder}: has products of {exposure.name} that were made otherwise, which the demo does not replace: "
            "name another folder, or remove them"
        ) from None


def _clean_simulated(folder: Path, side: int | None) -> CleanedFile:
    """Simulate an exposure of galaxies, clean it, and compare with the truth."""
    instrument = simulated(read_recipe(find_recipe(RECIPE)).instrument)
    visit = SimulatedVisit(instrument, "extragalactic", SEED, exposures=1, exposure_time_s=500.0, side=side)
    print_line(f"simulating a {visit.exposure_time_s:g} s exposure, seed {visit.seed}")
    exposure = _write_visit(visit, folder)
    done = _clean(exposure, folder, MASK, INPAINT)
    hits = found = 0
    for version, truth in enumerate(read_truth(truth_path(exposure)), 1):
        hit = truth.cosmic_rays > SIGMA * truth.noise
        hits += int(hit.sum())
        found += int((hit & (fits.getdata(done.outputs[0], ("CRMASK", version)) == 1)).sum())
    print_line(f"{found} of the {hits} pixels that a simulated cosmic ray hit with more than {SIGMA:g} sigma were found")
    return done


def _write_visit(visit: SimulatedVisit, folder: Path) -> Path:
    """Write a simulated exposure and its truth unless they are there; other files of these names are not replaced."""
    with temporary_folder() as made:
        (exposure,) = write_visit(visit, made)
        new = {folder / path.name: path.read_bytes() for path in (truth_path(exposure), exposure)}
    with reporting_failures(folder, "name another folder"):
        missing = {path: data for path, data in new.items() if not os.path.lexists(path)}
        if other := [path for path, data in new.items() if path not in missing and read_file(path) != data]:
            raise OutputError(
                f"{other[0]}: is not what the demo writes, and is not replaced: name another folder, or remove it"
            )
        write_together(missing, new=missing)
    return folder / exposure.name


if __name__ == "__main__":
    typer.run(demo)
