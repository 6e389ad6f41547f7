"""AstroDrizzle labels the cosmic rays of a visit: in a process of its own, on copies, with its output in a log.

The only module that imports drizzlepac (extra ``build``), and only in that process.
"""

from __future__ import annotations

import errno
import json
import math
import os
import re
import subprocess
import sys
import threading
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from deepcr_zoo.errors import DrizzleError, InterruptedWorkError
from deepcr_zoo.exposures.fitsfiles import read_unchanged, unpacked
from deepcr_zoo.machine import require
from deepcr_zoo.zoo.recipe import DrizzleBlock, TweakReg

_JOB, _RESULT = "job.json", "result.json"
_SHIFTS = "shifts.txt"

_DISK_FULL = re.compile(rf"\[Errno ({errno.ENOSPC}|{errno.EDQUOT}|{errno.EFBIG})\]|\d+ requested and \d+ written")
"""What Python and numpy say of a disk without space."""

_NOT_ITS_FAULT = 75
"""Exit status where the machine is to blame, and another attempt may succeed: EX_TEMPFAIL of sysexits.h."""


_ALWAYS: dict[str, Any] = {
    "output": "final",
    "updatewcs": False,  # would want reference files from the archive
    "wcskey": "",
    "build": False,
    "clean": False,  # masks and blotted images are intermediate files
    "preserve": False,
    "restore": False,
    "overwrite": False,
    "num_cores": 1,
    "in_memory": False,
    "context": False,
    "static": False,
    "skysub": True,
    "skymethod": "localmin",
    "stepsize": 10,
    "driz_separate": True,
    "median": True,
    "blot": True,
    "driz_cr": True,
    "driz_cr_corr": True,
    "driz_combine": False,
}
"""Parameters of AstroDrizzle that are no matter of a recipe."""


@dataclass(frozen=True)
class ChipLabel:
    """What AstroDrizzle found on one chip of one exposure.

    Attributes
    ----------
    cosmic_rays : ndarray of bool, shape (H, W)
        CR mask, True = cosmic ray.
    blotted : ndarray of float32, shape (H, W)
        The visit's median as this chip would have seen it, e-, sky included.
    """

    cosmic_rays: NDArray[np.bool_]
    blotted: NDArray[np.float32]


@dataclass(frozen=True)
class DrizzledVisit:
    """A visit that went through AstroDrizzle; its pixels stay on the disk.

    Attributes
    ----------
    folder : Path
        Where its files are.
    software : str
        Name and version.
    fit_rms_pixels : tuple of float, or None
        Of each exposure's alignment, the larger of both axes (infinite if it could not be aligned); None without TweakReg.
    """

    folder: Path
    software: str
    fit_rms_pixels: tuple[float, ...] | None

    def rms(self, index: int) -> float | None:
        """How well an exposure was aligned, pixels; None without TweakReg."""
        return None if self.fit_rms_pixels is None else self.fit_rms_pixels[index]

    def exposure(self, index: int) -> Path:
        """The copy of an exposure, with the astrometry that its label was made with, and MDRIZSKY."""
        return self.folder / f"{_stem(index)}_flc.fits"

    def resampled(self, index: int) -> NDArray[np.float32]:
        """An exposure on the grid of the visit, zero where it has seen nothing, shape (H, W)."""
        return _read(self.folder / f"{_stem(index)}_single_sci.fits").astype(np.float32)

    def label(self, exposure: int, version: int) -> ChipLabel:
        """The label of one chip.

        Parameters
        ----------
        exposure : int
            Index in the list of exposures that was drizzled.
        version : int
            EXTVER of the chip.
        """
        stem = f"{_stem(exposure)}_sci{version}"
        # 1 = good, 0 = cosmic ray
        good = _read(self.folder / f"{stem}_crmask.fits")
        return ChipLabel(good == 0, _read(self.folder / f"{stem}_blt.fits").astype(np.float32))


@dataclass(frozen=True)
class _Job:
    files: list[str]
    astrodrizzle: dict[str, Any]
    tweakreg: dict[str, Any] | None
    max_fit_rms_pixels: float


def require_drizzlepac() -> None:
    """Make sure that labels can be made.

    Raises
    ------
    MissingExtraError
        If drizzlepac is not installed.
    """
    require("drizzlepac", "labels need drizzlepac", "build")


def drizzle_visit(
    exposures: Sequence[Path],
    folder: Path,
    settings: DrizzleBlock,
    good_bits: int,
    tweakreg: TweakReg | None,
    log: Path,
) -> DrizzledVisit:
    """Align the exposures of a visit if asked to, and let AstroDrizzle tell which pixels are cosmic rays.

    Parameters
    ----------
    exposures : sequence of Path
        Calibrated exposures (plain or gzipped); they are copied, never changed.
    folder : Path
        An empty folder for the copies and all that drizzlepac writes.
    settings : DrizzleBlock
    good_bits : int
        DQ bits that do not make a pixel bad.
    tweakreg : TweakReg or None
        None trusts the astrometry of the headers.
    log : Path
        What drizzlepac says; it stays.

    Returns
    -------
    DrizzledVisit
        Not drizzled where an alignment is worse than the settings allow: see `fit_rms_pixels`.

    Raises
    ------
    DrizzleError
        If drizzlepac fails.
    InterruptedWorkError
        If it is killed, or the machine fails it.
    OSError
        If the disk is full.
    MissingExtraError
        If it is not installed.
    """
    require_drizzlepac()
    # names of our own: drizzlepac takes commas, brackets and @ in names for more than letters
    copies = [f"{_stem(index)}_flc.fits" for index in range(len(exposures))]
    for path, copy in zip(exposures, copies, strict=True):
        (folder / copy).write_bytes(unpacked(read_unchanged(path), path))
    parameters = {
        "resetbits": settings.resetbits,
        "combine_type": settings.combine_type,
        "driz_cr_snr": settings.driz_cr_snr,
        "driz_cr_grow": settings.driz_cr_grow,
        "driz_sep_bits": str(good_bits),
        "final_bits": str(good_bits),
    }
    job = _Job(copies, _ALWAYS | parameters, _tweakreg_parameters(tweakreg), settings.max_fit_rms_pixels)
    (folder / _JOB).write_text(json.dumps(asdict(job)))
    _in_own_process(folder, log, "\n".join(f"{copy}: {path}" for path, copy in zip(exposures, copies, strict=True)))
    result = json.loads((folder / _RESULT).read_text())
    rms = result["fit_rms_pixels"]
    return DrizzledVisit(folder, result["software"], rms and tuple(math.inf if one is None else one for one in rms))


def _in_own_process(folder: Path, log: Path, heading: str) -> None:
    environment = os.environ | {"MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1", "TMPDIR": str(folder)}
    # the package must be found from inside the visit's folder, from wherever it was imported here
    package = Path(__file__).resolve().parents[2]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(package), os.environ.get("PYTHONPATH")]))
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "w", encoding="utf-8") as said:
        said.write(heading + "\n")
        said.flush()
        process = subprocess.Popen(
            [sys.executable, "-m", "deepcr_zoo.dataset.drizzle"],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,  # closed by our end, which ends it too
            stdout=said,
            stderr=subprocess.STDOUT,
        )
        try:
            status = process.wait()
        except BaseException:
            process.kill()
            process.wait()
            raise
        finally:
            assert process.stdin is not None
            process.stdin.close()
    if status != 0 or not (folder / _RESULT).is_file():
        raise _failure(status, log)


def _failure(status: int, log: Path) -> Exception:
    """What went wrong: with the visit for good, or with the machine for now."""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    where = f"all that it said is in {log}"
    if status < 0:
        return InterruptedWorkError(
            f"drizzlepac was killed by signal {-status}, perhaps for want of memory: run again, with fewer --jobs; {where}"
        )
    if status != _NOT_ITS_FAULT:
        return DrizzleError(f"drizzlepac failed: {lines[-1][:300]}; {where}")
    if _DISK_FULL.search(lines[-1]):
        return OSError(errno.ENOSPC, lines[-1])
    return InterruptedWorkError(
        f"drizzlepac failed: {lines[-1][:300]}: run again, and if it happens again leave the visit out with "
        f"--set data.visits.NAME=null; {where}"
    )


def _tweakreg_parameters(settings: TweakReg | None) -> dict[str, Any] | None:
    if settings is None:
        return None
    return {
        "updatehdr": True,
        "updatewcs": False,
        "wcsname": "TWEAK",
        "reusename": True,
        "interactive": False,
        "see2dplot": False,
        "residplot": "No plot",
        # its first guess of a shift is off by up to 1.4 pixels (drizzlepac 3.11.0), more than its default of 1 forgives
        "tolerance": 2.0,
        "shiftfile": True,
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


# from here on in the other process


def _main() -> int:
    """Work on the job in the current folder; gives the exit status."""
    threading.Thread(target=_end_with_parent, args=(sys.stdin,), daemon=True).start()
    try:
        _work()
    except (OSError, MemoryError, ImportError):  # no fault of the visit: nothing that is kept
        traceback.print_exc()
        return _NOT_ITS_FAULT
    return 0


def _work() -> None:
    job = _Job(**json.loads(Path(_JOB).read_text()))
    import drizzlepac
    from drizzlepac import astrodrizzle, tweakreg

    rms = None
    if job.tweakreg is not None:
        try:
            tweakreg.TweakReg(job.files, configobj=None, **job.tweakreg)
        except Exception as error:  # it raises anything where it finds no stars
            raise RuntimeError(f"TweakReg could not align the exposures, check its threshold: {error}") from error
        rms = _fit_rms(job.files)
    if rms is None or all(one is not None and one <= job.max_fit_rms_pixels for one in rms):
        astrodrizzle.AstroDrizzle(job.files, configobj=None, **job.astrodrizzle)
    result = {"software": f"drizzlepac {drizzlepac.__version__}", "fit_rms_pixels": rms}
    Path(_RESULT).write_text(json.dumps(result))


def _fit_rms(files: Sequence[str]) -> list[float | None]:
    """RMS of each file's fit by TweakReg's shift file (last two columns, pixels); None where there is no fit."""
    lines = Path(_SHIFTS).read_text().splitlines() if Path(_SHIFTS).is_file() else []
    rows = {words[0]: [float(word) for word in words[1:]] for line in lines if (words := line.split()) and words[0] in files}
    # without a fit the shift is NaN, and yet the RMS 0
    return [max(row[-2:]) if (row := rows.get(name)) and all(map(math.isfinite, row)) else None for name in files]


def _end_with_parent(pipe: TextIO) -> None:
    """End at once when the process that asked for this is gone: it alone holds the other end of the pipe."""
    pipe.read()
    os._exit(1)


if __name__ == "__main__":
    sys.exit(_main())
