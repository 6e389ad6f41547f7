"""``make demo``: pull two models, verify them, clean an exposure, say what was found and draw it."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from astropy.io import fits
from rich.console import Console

from deepcr_zoo import sources, testvectors
from deepcr_zoo.errors import DeepcrZooError, NoModelError
from deepcr_zoo.filecleaning import CleanedFile, clean_file
from deepcr_zoo.registry import default_registry
from deepcr_zoo.verification import verify

MASK, INPAINT = "mask/ACS-WFC-F606W-2-32", "inpaint/ACS-WFC-F606W-2-32"

FALLBACK = "mask/ACS-WFC-2-32"
"""For exposures of instruments that the zoo has no network for."""

PATCHES = (2, 4)
"""Rows and columns of example images that make a chip of the synthetic exposure."""


def demo(
    folder: Annotated[Path, typer.Argument(help="folder for the products and the picture")] = Path("demo"),
    exposure: Annotated[Path | None, typer.Option("--fits", help="an exposure of your own")] = None,
) -> None:
    """Clean an exposure, your own or a synthetic one, and draw input, mask and result."""
    logging.getLogger("deepcr_zoo").addHandler(logging.NullHandler())  # the cautions are printed below
    try:
        _demo(Console(markup=False, highlight=False, soft_wrap=True), folder, exposure)
    except DeepcrZooError as error:
        sys.exit(f"error {error}")


def _demo(console: Console, folder: Path, exposure: Path | None) -> None:
    for name in (MASK, INPAINT):
        _pull_and_verify(console, name)
    if exposure is None:
        exposure, cosmic_rays = _write_synthetic(folder)
        done = clean_file(exposure, MASK, INPAINT, output_dir=folder, overwrite=True, preview=True)
        found = [fits.getdata(done.outputs[0], ("CRMASK", version)) for version in (1, 2)]
        hits = sum(int((mask.astype(bool) & truth).sum()) for mask, truth in zip(found, cosmic_rays, strict=True))
        total = sum(int(truth.sum()) for truth in cosmic_rays)
        console.print(f"{hits} of the {total} pixels that a simulated track hit with more than 20 e- were found")
    else:
        done = _clean_own(console, folder, exposure)
    for note in (*done.reasons, *done.cautions, *filter(None, [done.advice])):
        console.print(f"  {note}")
    console.print(
        f"{done.pixels} pixels ({done.fraction:.1%}) of {done.path} marked as cosmic ray, {done.rate or 0:.2f} per cm2 s"
    )
    for output in done.outputs:
        console.print(f"  {output}")
    console.print(f"picture: {done.outputs[-1]}")


def _pull_and_verify(console: Console, name: str) -> None:
    model = default_registry().resolve(name)
    pulled = sources.pull_resolved(model)
    outcome = verify(model)
    console.print(f"{model.reference} ({'; '.join(model.notes)}), from the {pulled.source}: {pulled.path}")
    console.print(f"  sha256 {model.locked.weights.sha256}")
    if outcome.max_difference is None:
        raise DeepcrZooError(f"{model.reference} fails: {outcome.reason}")
    console.print(f"  {outcome.verdict} its test vector, largest difference {outcome.max_difference:.1e}")


def _clean_own(console: Console, folder: Path, exposure: Path) -> CleanedFile:
    try:
        return clean_file(exposure, output_dir=folder, overwrite=True, preview=True)
    except NoModelError as error:
        console.print(f"{error}; the demo takes {FALLBACK}")
        return clean_file(exposure, FALLBACK, output_dir=folder, overwrite=True, preview=True)


def _write_synthetic(folder: Path) -> tuple[Path, list[np.ndarray]]:
    """A two-chip ACS exposure of stars, galaxies and tracks, and where its cosmic rays are."""
    header = fits.Header(
        {"TELESCOP": "HST", "INSTRUME": "ACS", "DETECTOR": "WFC", "FILTER1": "CLEAR1L", "FILTER2": "F606W", "EXPTIME": 500.0}
    )
    hdus: list[fits.PrimaryHDU | fits.ImageHDU] = [fits.PrimaryHDU(header=header)]
    truth = []
    for version in (1, 2):
        seeds = np.arange(np.prod(PATCHES)).reshape(PATCHES) + 100 * version
        patches = [[testvectors.example_image(int(seed)) for seed in row] for row in seeds]
        image = np.block([[image for image, _ in row] for row in patches])
        truth.append(np.block([[cosmic_rays for _, cosmic_rays in row] for row in patches]))
        layers = {"SCI": image, "ERR": np.sqrt(np.maximum(image, 0) + 16), "DQ": np.zeros(image.shape, np.int16)}
        for name, pixels in layers.items():
            unit = fits.Header() if name == "DQ" else fits.Header({"BUNIT": "ELECTRONS"})
            hdus.append(fits.ImageHDU(pixels, unit, name=name, ver=version))
    path = folder / "demo_flc.fits"
    os.makedirs(folder, exist_ok=True)
    fits.HDUList(hdus).writeto(path, overwrite=True, checksum=True)
    return path, truth


if __name__ == "__main__":
    typer.run(demo)
