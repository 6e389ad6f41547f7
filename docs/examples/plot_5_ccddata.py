"""
CCDData in, CCDData out
=======================

``deepcr_zoo.clean`` fits into a pipeline of astropy or ccdproc: data, unit, mask,
uncertainty, WCS and header come back.
"""

# %%
# Three exposures of one field, on the same pixels.

import subprocess
import tempfile
from pathlib import Path

import numpy as np
from astropy import units
from astropy.io import fits
from astropy.nddata import CCDData, StdDevUncertainty

import deepcr_zoo

folder = Path(tempfile.mkdtemp())
command = (
    "deepcr-zoo simulate practice-ccd --field-type extragalactic --exposures 3"
    " --exposure-time 900 --set build.labels=cr_split"
)
subprocess.run([*command.split(), "--output-dir", folder], check=True)
GAIN, READ_NOISE = 1.8, 6.0  # e- per count, e-


def calibrated(path):
    """Return a frame in electrons, with its uncertainty."""
    counts = fits.getdata(path).astype(float)
    header = fits.getheader(path)
    pixels = GAIN * (counts[:512, :512] - np.median(counts[:, 512:]))
    noise = np.sqrt(np.maximum(pixels, 0) + READ_NOISE**2)
    return CCDData(
        pixels, unit=units.electron, uncertainty=StdDevUncertainty(noise), meta=header
    )


frames = [calibrated(path) for path in sorted(folder.glob("*/*.fits"))]

# %%
# A list of CCDData gives a list of CCDData. ``inpaint=None`` leaves the pixels as they
# are: the average takes each pixel from the exposures where it is not masked. The last
# panel shows it.

network = deepcr_zoo.load("CCD-ANY-3-16", engine="torch")
cleaned = deepcr_zoo.clean(frames, network, inpaint=None)
for one in cleaned:
    print(type(one).__name__, one.unit, f"{one.mask.sum()} pixels masked")

average = np.ma.mean([np.ma.MaskedArray(one.data, one.mask) for one in cleaned], axis=0)
first = cleaned[0]
part = np.s_[150:310, 100:320]
deepcr_zoo.plot.masks(
    first.data, {"first exposure": first.mask}, average.filled(np.nan), region=part
)
