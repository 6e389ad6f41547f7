"""
Clean an exposure of any camera
===============================

A frame as the camera wrote it goes in. A mask and a cleaned copy come out.
"""

# %%
# The camera of this frame does not exist: raw counts with an overscan, and keywords of
# its own. The zoo has no network for it, so that ``clean_file`` takes the one for any
# CCD.

import subprocess
import tempfile
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

import deepcr_zoo

folder = Path(tempfile.mkdtemp())
command = "deepcr-zoo simulate practice-ccd --exposures 1"
subprocess.run([*command.split(), "--output-dir", folder / "nights"], check=True)
frame = next(folder.glob("nights/*/*.fits"))

done = deepcr_zoo.clean_file(frame, output_dir=folder / "cleaned")
done

# %%
# Look at a part at full size. The pixels are in counts, as in the file.

part = np.s_[150:310, 100:320]
deepcr_zoo.plot.cleaned(done, region=part)

# %%
# The simulator wrote the truth beside the frame: the charge of the cosmic rays and the
# noise of each pixel, both in electrons. A pixel counts as hit where a cosmic ray adds
# more than three sigma.

from astropy.io import fits

truth = load_file(frame.with_name(f"{frame.stem}_truth.safetensors"))
hit = truth["cosmic_rays_1"] > 3 * truth["noise_1"]
light = tuple(
    slice(side) for side in hit.shape
)  # without the overscan, which is never searched
mask = fits.getdata(folder / "cleaned" / f"{frame.stem}_crmask.fits", "CRMASK")[light] > 0

print(
    f"found {mask[hit].mean():.1%} of {hit.sum()} hit pixels, false {mask[~hit].mean():.3%}"
)
image = fits.getdata(frame)[light]
deepcr_zoo.plot.masks(image, {"the network": mask, "the truth": hit}, region=part)
