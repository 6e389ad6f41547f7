"""Commands that show masks: in the browser, and as regions for other viewers."""

from __future__ import annotations

import os
import signal
import time
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from types import FrameType
from typing import Annotated

from typer import Argument, Option

from deepcr_zoo.cli.console import TerminalReporter, message, print_note, print_result
from deepcr_zoo.cli.options import Device, Engine
from deepcr_zoo.errors import OutputError, UsageError
from deepcr_zoo.locations import expanded


def view(
    file: Annotated[Path, Argument(metavar="FILE", help="FITS file of an exposure")],
    model: Annotated[str, Option(help="mask model or run; auto: the zoo's first choice for the instrument")] = "auto",
    inpaint: Annotated[str, Option(help="model, medmask, biharmonic or none, as of clean")] = "auto",
    threshold: Annotated[float | None, Option(help="threshold to begin with [default: the card's]")] = None,
    mask: Annotated[Path | None, Option(help="begin with this mask file, instead of a network's")] = None,
    compare: Annotated[str | None, Option(help="show another method beside: lacosmic, or a mask model")] = None,
    output_dir: Annotated[Path | None, Option(help="folder of clean's products and of the mask [default: of FILE]")] = None,
    ignore_dq: Annotated[str | None, Option(help="DQ bits that leave a pixel usable, as of clean")] = None,
    extension: Annotated[list[str] | None, Option(help="science image, as of clean; may be repeated")] = None,
    unit: Annotated[str | None, Option(help="unit of the pixels, in place of BUNIT")] = None,
    gain: Annotated[str | None, Option(help="e- per count, in place of the header's")] = None,
    bias: Annotated[str | None, Option(help="bias level of raw counts, or overscan")] = None,
    exposure_time: Annotated[float | None, Option(help="seconds, in place of EXPTIME")] = None,
    port: Annotated[int, Option(min=0, max=65535, help="port of 127.0.0.1; 0: a free one")] = 0,
    browser: Annotated[bool, Option("--browser/--no-browser", help="open the page")] = True,
    device: Device = "auto",
    engine: Engine = "auto",
) -> None:
    """Show an exposure, its cosmic rays and its cleaned image in the browser, and correct the mask by hand.

    Prints the address of the page, which only this machine can open. A corrected mask is saved as ROOT_crcorrected.fits;
    clean --mask takes it. Nothing else is written. Ctrl-C ends it.
    """
    from deepcr_zoo.exposures import CleanOptions
    from deepcr_zoo.exposures.fitsfiles import check_kind
    from deepcr_zoo.exposures.viewer.seen import look_at
    from deepcr_zoo.exposures.viewer.server import Viewer

    options = CleanOptions(
        model=model,
        inpaint=inpaint,
        threshold=threshold,
        mask=mask,
        output_dir=output_dir,
        ignore_dq=ignore_dq,
        extension=extension,
        unit=unit,
        gain=gain,
        bias=bias,
        exposure_time=exposure_time,
        device=device,
        engine=engine,
    )
    if output_dir is not None and os.path.lexists(place := expanded(output_dir)) and not place.is_dir():
        raise OutputError(f"{output_dir}: is no folder: choose another --output-dir")
    options.check()
    check_kind(file)
    with _noted_interrupts() as interrupted, Viewer(output_dir, port) as viewer, viewer.serving():
        print_result(viewer.address)
        print_note("open this address in a browser of this machine; Ctrl-C ends the viewer")
        with _opened(viewer.address) if browser else nullcontext():
            seen = look_at(file, options, compare)
            viewer.show(seen)
            for caution in viewer.cautions:
                message("caution", caution, "caution")
            seen.find(TerminalReporter())
            while not interrupted():
                time.sleep(1)


class _Interrupted(BaseException):
    """Ctrl-C; after a KeyboardInterrupt in code that a library compiles, Python ends by the signal though it was caught."""


@contextmanager
def _noted_interrupts() -> Iterator[Callable[[], bool]]:
    """End a block at Ctrl-C in peace; the yielded function is True if one came while a library swallowed its exception."""
    noted = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal noted
        noted = True
        raise _Interrupted

    before = signal.signal(signal.SIGINT, note)
    try:
        with suppress(_Interrupted):
            yield lambda: noted
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _opened(address: str) -> Iterator[None]:
    """Open a browser by a file of this user that leads to an address: every user can see the arguments of a process."""
    with ExitStack() as held:
        try:
            page = Path(held.enter_context(TemporaryDirectory(prefix="deepcr-zoo-"))) / "view.html"
            page.write_text(
                f'<!doctype html><meta http-equiv="refresh" content="0; url={address}"><a href="{address}">The viewer</a>\n'
            )
        except OSError as error:
            message("caution", f"no browser is opened, which needs a temporary file: {error.strerror}", "caution")
        else:
            Thread(target=webbrowser.open, args=[page.as_uri()], daemon=True).start()  # it may wait for the browser's end
        yield


def regions(
    masks: Annotated[list[Path], Argument(metavar="MASK...", help="mask files of clean or of the viewer")],
    output_dir: Annotated[Path | None, Option(help="folder of the region files [default: of each mask file]")] = None,
    overwrite: Annotated[bool, Option("--overwrite", help="replace region files")] = False,
) -> None:
    """Write a box around each cosmic ray of mask files, as region files for DS9, ginga and CARTA.

    Prints the path of each, ROOT_EXTVER.reg: one for each chip, in image coordinates.
    """
    from deepcr_zoo.exposures.regions import write_regions

    names = [mask.name for mask in masks]
    if output_dir is not None and len(set(names)) < len(names):
        raise UsageError("two mask files have the same name: give them another --output-dir each")
    for mask in masks:
        written = write_regions(mask, output_dir, overwrite=overwrite)
        for caution in written.cautions:
            message("caution", caution, "caution")
        for path in written.paths:
            print_result(path)
