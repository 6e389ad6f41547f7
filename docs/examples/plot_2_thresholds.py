"""
Choose a threshold
==================

A network gives a probability. The threshold decides how many cosmic rays are found, and how
many good pixels are lost.
"""

# %%
# An exposure with its truth, 512 x 512 pixels in electrons.

import subprocess
import tempfile
from pathlib import Path

import astroscrappy
import matplotlib.pyplot as plt
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
image = fits.getdata(frame, "SCI").astype(np.float32)
truth = load_file(str(frame).replace("_flc.fits", "_truth.safetensors"))
hit = truth["cosmic_rays_1"] > 3 * truth["noise_1"]

# %%
# The probability of each pixel, and the share of hit pixels that is found (TPR) and of
# other pixels that is masked (FPR) at each threshold. L.A.Cosmic runs with ten values of
# ``sigclip`` beside it.

model = deepcr_zoo.load("ACS-WFC-2-32", engine="torch")
probability = model.predict(image)


def rates(mask):
    """Return FPR and TPR."""
    return mask[~hit].mean(), mask[hit].mean()


curve = np.array([rates(probability > one) for one in np.linspace(0.005, 0.995, 100)])

lacosmic = []
for sigclip in np.geomspace(2, 20, 10):
    mask, _ = astroscrappy.detect_cosmics(
        image, sigclip=sigclip, objlim=2, readnoise=5.0, gain=1.0
    )
    lacosmic.append(rates(mask))

figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
axes.plot(*curve.T, label="ACS-WFC-2-32")
axes.plot(*np.transpose(lacosmic), "s--", label="L.A.Cosmic, objlim 2")
default = model.card.output.threshold
axes.plot(*rates(probability > default), "ko", label=f"threshold {default:g}")
axes.set(xscale="log", xlim=(3e-6, 0.02), xlabel="FPR", ylabel="TPR")
_ = axes.legend()

# %%
# One exposure is one draw. The benchmark of the zoo has many, with intervals (*Prove a
# network*). ``clean`` takes the threshold of the card, another one with ``--threshold``,
# or the one that was measured for a rate with ``--fpr``.

masks = {f"above {one}": probability > one for one in (0.1, 0.9)}
deepcr_zoo.plot.masks(image, masks, region=np.s_[100:240, 100:300])
