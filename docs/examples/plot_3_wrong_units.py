"""
What masks look like when units are wrong
=========================================

Most networks were trained on electrons, sky included. Other units give masks that look like
masks, and are wrong.
"""

# %%

import subprocess
import tempfile
from pathlib import Path

import numpy as np
from astropy.io import fits
from safetensors.numpy import load_file

import deepcr_zoo

folder = Path(tempfile.mkdtemp())
command = (
    "deepcr-zoo simulate acs-wfc-f606w --field-type extragalactic"
    " --exposures 1 --exposure-time 500 --side 512"
)
subprocess.run([*command.split(), "--output-dir", folder], check=True)
frame = next(folder.glob("*/*_flc.fits"))
electrons = fits.getdata(frame, "SCI").astype(np.float32)
truth = load_file(str(frame).replace("_flc.fits", "_truth.safetensors"))
hit = truth["cosmic_rays_1"] > 3 * truth["noise_1"]

as_given = {
    "electrons": electrons,
    "electrons per second": electrons / 500,
    "electrons + 1000": electrons + 1000,
    "sky subtracted": electrons - np.median(electrons),
}

# %%
# The same pixels in four units, for a network that takes electrons.

network = deepcr_zoo.load("ACS-WFC-2-32", engine="torch")
masks = {unit: network.mask(image) for unit, image in as_given.items()}
for unit, mask in masks.items():
    print(f"{unit:>22}: found {mask[hit].mean():6.1%}, false {mask[~hit].mean():.3%}")

part = np.s_[100:240, 100:300]
deepcr_zoo.plot.masks(electrons, masks, region=part)

# %%
# An array carries no unit, so nothing can be said against it. A file does: where its
# noise does not fit its level, ``clean_file`` says so before a network runs, and in the
# header of its products. Here the header says electrons, and the pixels are electrons per
# second.

with fits.open(frame) as hdus:
    hdus["SCI"].data = electrons / 500
    hdus.writeto(folder / "wrong_flc.fits")
done = deepcr_zoo.clean_file(folder / "wrong_flc.fits", model="ACS-WFC-2-32")
print(*done.cautions, sep="\n")

# %%
# A network that sees pixels in units of the noise does not depend on the unit.

any_ccd = deepcr_zoo.load("CCD-ANY-3-16", engine="torch")
masks = {unit: any_ccd.mask(image) for unit, image in as_given.items()}
for unit, mask in masks.items():
    print(f"{unit:>22}: found {mask[hit].mean():6.1%}, false {mask[~hit].mean():.3%}")
deepcr_zoo.plot.masks(electrons, masks, region=part)
