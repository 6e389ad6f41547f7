"""
Clean a long-slit spectrum
==========================

Sky lines and traces are sharp in one direction. Methods that look for sharp edges mask
them.
"""

# %%

import subprocess
import tempfile
from pathlib import Path

import astroscrappy
import numpy as np
from astropy.io import fits
from safetensors.numpy import load_file

import deepcr_zoo

folder = Path(tempfile.mkdtemp())
command = (
    "deepcr-zoo simulate practice-ccd --field-type spectrum --exposures 1"
    " --exposure-time 1200"
)
subprocess.run([*command.split(), "--output-dir", folder / "nights"], check=True)
frame = next(folder.glob("nights/*/*.fits"))
done = deepcr_zoo.clean_file(frame, output_dir=folder / "cleaned")
deepcr_zoo.plot.cleaned(done)

# %%
# L.A.Cosmic beside it, with astroscrappy's defaults and the gain and read noise of the
# camera.

truth = load_file(frame.with_name(f"{frame.stem}_truth.safetensors"))
hit = truth["cosmic_rays_1"] > 3 * truth["noise_1"]
light = tuple(slice(side) for side in hit.shape)
counts = fits.getdata(frame).astype(np.float32)
image = counts[light] - np.median(counts[:, hit.shape[1] :])
masks = {
    "CCD-ANY-3-16": fits.getdata(
        folder / "cleaned" / f"{frame.stem}_crmask.fits", "CRMASK"
    )[light]
    > 0
}
masks["L.A.Cosmic"], _ = astroscrappy.detect_cosmics(image, gain=1.8, readnoise=6.0)

for name, mask in masks.items():
    print(f"{name}: found {mask[hit].mean():.1%}, false {mask[~hit].mean():.3%}")
deepcr_zoo.plot.masks(image, {**masks, "the truth": hit}, region=np.s_[150:310, 100:320])
