"""Run AstroDrizzle on a visit: in a process of its own, on copies, with its output in a log.

The only module that imports drizzlepac (extra ``build``), and only in that process.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import math
import os
import re
import signal
import site
import subprocess
import sys
import threading
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from deepcr_zoo.dataset.confinement import confine
from deepcr_zoo.errors import DrizzleError, InterruptedWorkError, InvalidFileError, printable
from deepcr_zoo.exposures.fitsfiles import extension_name, image_values, is_image, quiet_astropy, read_unchanged
from deepcr_zoo.exposures.packing import unpacked
from deepcr_zoo.files import CHANGED, refuse_links
from deepcr_zoo.machine import require
from deepcr_zoo.zoo.recipe import DrizzleBlock, TweakReg

_JOB, _RESULT = "job.json", "result.json"
_SHIFTS = "shifts.txt"
_OLD_DISTORTION, _DISTORTION = "DGEOFILE", "NPOLFILE"
_TAKEN = ("SCI", "ERR", "DQ", "SAMP", "TIME", "D2IMARR", "WCSDVARR")
"""Extensions of calibrated exposures that are images (ACS and WFC3 Data Handbooks)."""

_DISK_FULL = re.compile(rf"\[Errno ({errno.ENOSPC}|{errno.EDQUOT}|{errno.EFBIG})\]|\d+ requested and \d+ written")
"""Messages of Python and numpy about a full disk."""

_CRASHES = {getattr(signal, name, 0) for name in ("SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGSEGV")}
"""Of its C code: another attempt would end alike."""

_TEMPORARY_FAILURE = 75  # exit status if the machine is to blame and another attempt may succeed: EX_TEMPFAIL of sysexits.h

# parameters of AstroDrizzle that a recipe does not set
_FIXED: dict[str, Any] = {
    "output": "final",
    "updatewcs": False,  # needs reference files from the archive
    "wcskey": "",
    "clean": False,  # masks and blotted images are intermediate files
    "num_cores": 1,
    "skymethod": "localmin",
    "stepsize": 10,
    **dict.fromkeys(("skysub", "driz_separate", "median", "blot", "driz_cr", "driz_cr_corr"), True),
    **dict.fromkeys(("build", "preserve", "restore", "overwrite", "in_memory", "context", "static", "driz_combine"), False),
}


@dataclass(frozen=True)
class DrizzledVisit:
    """A visit processed by AstroDrizzle; its pixels stay in `folder`.

    `fit_rms_pixels` holds the RMS of each exposure's alignment, the larger of both axes, infinite if it could not be
    aligned; it is None without TweakReg.
    """

    folder: Path
    software: str
    fit_rms_pixels: tuple[float, ...] | None

    def exposure(self, index: int) -> Path:
        """Return the copy of an exposure, with MDRIZSKY and the astrometry of its label."""
        return self.folder / f"{_stem(index)}_flc.fits"

    def resampled(self, index: int) -> NDArray[np.float32]:
        """Return an exposure on the grid of the visit, zero where it has no data, shape (H, W)."""
        return _read(self.folder / f"{_stem(index)}_single_sci.fits").astype(np.float32)

    def label(self, index: int, version: int) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        """Return the CR mask of a chip (H, W), and the visit's median as this chip would have seen it, e-, sky included."""
        stem = f"{_stem(index)}_sci{version}"
        good = _read(self.folder / f"{stem}_crmask.fits")  # 1 = good, 0 = cosmic ray
        return good == 0, _read(self.folder / f"{stem}_blt.fits").astype(np.float32)


def require_drizzlepac() -> None:
    """Raise MissingExtraError if drizzlepac is not installed."""
    require("drizzlepac", "labels need drizzlepac", "build")


def drizzle_visit(
    exposures: Sequence[tuple[Path, str]],
    folder: Path,
    settings: DrizzleBlock,
    good_bits: int,
    tweakreg: TweakReg | None,
    log: Path,
) -> DrizzledVisit:
    """Align copies of calibrated exposures in an empty folder (unless `tweakreg` is None) and run AstroDrizzle on them.

    `exposures` holds each file and its SHA-256 when it was checked; one that has changed since raises InvalidFileError.
    AstroDrizzle does not run if an alignment is worse than the settings allow: see `fit_rms_pixels`. A DrizzleError is a
    fault of the visit; an InterruptedWorkError or OSError is one of the machine.
    """
    require_drizzlepac()
    # new names: drizzlepac gives commas, brackets and @ in names a meaning
    copies = [f"{_stem(index)}_flc.fits" for index in range(len(exposures))]
    for (path, sha256), copy in zip(exposures, copies, strict=True):
        data = read_unchanged(path)
        if hashlib.sha256(data).hexdigest() != sha256:
            raise InvalidFileError(f"{path}: {CHANGED}")
        _write_images(unpacked(data, path), path, folder / copy)
    parameters = settings.model_dump(include={"resetbits", "combine_type", "driz_cr_snr", "driz_cr_grow"})
    bits = dict.fromkeys(("driz_sep_bits", "final_bits"), str(good_bits))
    job = {
        "files": copies,
        "astrodrizzle": _FIXED | parameters | bits,
        "tweakreg": tweakreg and _tweakreg_parameters(tweakreg),
        "max_fit_rms_pixels": settings.max_fit_rms_pixels,
    }
    (folder / _JOB).write_text(json.dumps(job))
    _run_process(
        folder, log, "\n".join(f"{copy}: {printable(str(path))}" for (path, _), copy in zip(exposures, copies, strict=True))
    )
    result = json.loads((folder / _RESULT).read_text())
    rms = result["fit_rms_pixels"]
    return DrizzledVisit(folder, result["software"], rms and tuple(math.inf if one is None else one for one in rms))


def _write_images(data: bytes, path: Path, copy: Path) -> None:
    """Write what AstroDrizzle needs of an exposure: its headers and images; DrizzleError if one cannot be unpacked.

    Tables stay away, and pixels of the primary HDU: drizzlepac's libraries run the formats of the columns of some as code.
    The instrument is the one that this package has read, of the first chip if that names one. An old-style distortion table
    without a new one is cleared: drizzlepac does without, once it has asked.
    """
    with quiet_astropy(), fits.open(io.BytesIO(data)) as hdus:
        primary = fits.PrimaryHDU(header=hdus[0].header)
        if _OLD_DISTORTION in primary.header and _DISTORTION not in primary.header:
            primary.header[_OLD_DISTORTION] = "N/A"
        taken = [hdu for hdu in hdus[1:] if is_image(hdu) and extension_name(hdu) in _TAKEN]
        images = [_without_compression(hdu, path) if isinstance(hdu, fits.CompImageHDU) else hdu for hdu in taken]
        first = next((image.header for image in images if extension_name(image) == "SCI"), primary.header)
        primary.header.update({name: first[name] for name in ("TELESCOP", "INSTRUME", "DETECTOR") if name in first})
        written = io.BytesIO()  # astropy tells of a full disk in other words
        # overwrite is for the buffer: astropy looks for a file with the name of its class in the present folder
        fits.HDUList([primary, *images]).writeto(written, output_verify="ignore", overwrite=True)
    copy.write_bytes(written.getbuffer())


def _without_compression(hdu: fits.CompImageHDU, path: Path) -> fits.ImageHDU:
    try:
        return fits.ImageHDU(image_values(hdu, f"{path}: {extension_name(hdu)}"), hdu.header)
    except InvalidFileError as error:  # of an extension that was not read before
        raise DrizzleError(str(error)) from None


def environment(folder: Path) -> dict[str, str]:
    """Return the environment of the process that runs drizzlepac in a folder."""
    own = {"MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1", "PYTHONSAFEPATH": "1", "TMPDIR": str(folder)}
    own |= {"PYTHONDONTWRITEBYTECODE": "1"}  # it writes below the folder alone
    # parameters that the user has saved for drizzlepac (~/.teal) are no part of a recipe; packages below ~ are found still
    own |= {"HOME": str(folder), "PYTHONUSERBASE": site.getuserbase()}
    # it starts in the visit's folder and must import the package from the same place as this process
    package = Path(__file__).resolve().parents[2]
    return os.environ | own | {"PYTHONPATH": os.pathsep.join(filter(None, [str(package), os.environ.get("PYTHONPATH")]))}


def _run_process(folder: Path, log: Path, heading: str) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    refuse_links(log.parent, log.parent.parent)
    log.unlink(missing_ok=True)
    with open(log, "x", encoding="utf-8") as output:  # a new file: others may have put a link to any there
        output.write(heading + "\n")
        output.flush()
        with subprocess.Popen(
            [sys.executable, "-m", "deepcr_zoo.dataset.drizzle"],
            cwd=folder,
            env=environment(folder),
            stdin=subprocess.PIPE,  # closed when this process ends, which ends the other one too
            stdout=output,
            stderr=subprocess.STDOUT,
        ) as process:
            try:
                status = process.wait()
            except BaseException:
                process.kill()
                process.wait()
                raise
    if status != 0 or not (folder / _RESULT).is_file():
        raise _failure(status, log)


def _failure(status: int, log: Path) -> Exception:
    """Return the error for an exit status: DrizzleError rejects the visit, any other error is temporary."""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    where = f"all that it said is in {log}"
    if -status in _CRASHES:
        return DrizzleError(f"drizzlepac crashed ({signal.Signals(-status).name}); {where}")
    if status < 0:
        return InterruptedWorkError(
            f"drizzlepac was killed by signal {-status}, perhaps for want of memory: run again with more, or with fewer "
            f"jobs; {where}"
        )
    if status != _TEMPORARY_FAILURE:
        return DrizzleError(f"drizzlepac failed: {lines[-1][:300]}; {where}")
    if _DISK_FULL.search(lines[-1]):
        return OSError(errno.ENOSPC, lines[-1])
    return InterruptedWorkError(
        f"drizzlepac failed: {lines[-1][:300]}: run again, and if it happens again leave the visit out with "
        f"--set data.visits.NAME=null; {where}"
    )


def _tweakreg_parameters(settings: TweakReg) -> dict[str, Any]:
    return {
        "wcsname": "TWEAK",
        "residplot": "No plot",
        **dict.fromkeys(("updatehdr", "reusename", "shiftfile"), True),
        **dict.fromkeys(("updatewcs", "interactive", "see2dplot"), False),
        # its first guess of a shift is off by up to 1.4 pixels (drizzlepac 3.11.0), more than its default of 1 allows
        "tolerance": 2.0,
        "outshifts": _SHIFTS,
        "imagefindcfg": {"conv_width": settings.conv_width, "threshold": settings.threshold},
    }


def _stem(exposure: int) -> str:
    return f"exposure{exposure:02d}"


def _read(path: Path) -> NDArray[Any]:
    try:
        return np.asarray(fits.getdata(path))
    except OSError as error:
        raise DrizzleError(f"{path.name}: drizzlepac left no such file: {error}") from None


# the functions below run in the other process


def _main() -> int:
    """Do the job in the current folder and return the exit status."""
    threading.Thread(target=_end_with_parent, args=(_taken_from_stdin(),), daemon=True).start()
    refused = confine(Path.cwd())  # it removes and replaces files that headers name
    try:
        for module in ("astrodrizzle", "tweakreg"):
            import_module(f"drizzlepac.{module}")
        refused().clear()  # as they are imported, libraries try programs and sockets: no fault of a header
        _do_job()
    except EOFError as error:
        raise RuntimeError("it asked a question, which nobody can answer here") from error
    except (OSError, MemoryError, ImportError) as error:
        if refused():
            raise RuntimeError(f"its headers ask for what no exposure needs: {refused()[0]}") from error
        traceback.print_exc()  # the machine failed: the visit is not rejected
        return _TEMPORARY_FAILURE
    return 0


def _do_job() -> None:
    job = json.loads(Path(_JOB).read_text())
    import drizzlepac
    from drizzlepac import astrodrizzle, tweakreg

    rms = None
    if job["tweakreg"] is not None:
        try:
            tweakreg.TweakReg(job["files"], configobj=None, **job["tweakreg"])
        except Exception as error:  # it raises any exception if it finds no stars
            raise RuntimeError(f"TweakReg could not align the exposures, check its threshold: {error}") from error
        rms = _fit_rms(job["files"])
    if rms is None or all(one is not None and one <= job["max_fit_rms_pixels"] for one in rms):
        astrodrizzle.AstroDrizzle(job["files"], configobj=None, **job["astrodrizzle"])
    result = {"software": f"drizzlepac {drizzlepac.__version__}", "fit_rms_pixels": rms}
    Path(_RESULT).write_text(json.dumps(result))


def _fit_rms(files: Sequence[str]) -> list[float | None]:
    """Read the RMS of each file's fit from TweakReg's shift file (last two columns, pixels); None if there is no fit."""
    lines = Path(_SHIFTS).read_text().splitlines() if Path(_SHIFTS).is_file() else []
    rows = {words[0]: [float(word) for word in words[1:]] for line in lines if (words := line.split()) and words[0] in files}
    # without a fit the shift is NaN although the RMS is 0
    return [max(row[-2:]) if (row := rows.get(name)) and all(map(math.isfinite, row)) else None for name in files]


def _taken_from_stdin() -> int:
    """Return a descriptor of the pipe at stdin, which is empty from then on: `input()` fails and does not wait."""
    pipe, nothing = os.dup(0), os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return pipe


def _end_with_parent(pipe: int) -> None:
    """End at once when the parent process is gone, which alone holds the other end of the pipe."""
    while os.read(pipe, 4096):
        pass
    os._exit(1)


if __name__ == "__main__":
    sys.exit(_main())
