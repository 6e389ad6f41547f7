"""Stars that the telescope drew out into trails: the share of their flux that masks take away, on a real frame (LCO 0.4 m).

A trail is a group of pixels above 3 sigma, of the image smoothed over 3 x 3 pixels, around a source of the frame's own
catalogue. All trails of a frame are as long: groups shorter than half of the middle length are left out, which are
faint stars of which one end is seen, and cosmic rays that the catalogue holds. The frame is calibrated; its gain is 1.
Networks mask at their default threshold, L.A.Cosmic with the defaults of astroscrappy (sigclip 4.5, objlim 5).

    python benchmarks/trails.py ../shared/data/frames/banzai_test_frame.fits.fz --models CCD-ANY-2-32 ACS-WFC-2-32
"""

from __future__ import annotations

import argparse
import datetime
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.stats import sigma_clipped_stats
from networks import mask_model
from numpy.typing import NDArray
from scipy import ndimage
from synthetic_visits import command

from deepcr_zoo.machine import processor_name
from deepcr_zoo.models.baselines import Lacosmic

ABOVE = 3.0  # sigma
LOST = 0.02  # share of the flux that no trail may lose
SIGCLIP, OBJLIM = 4.5, 5.0


def trails(image: NDArray[np.float32], places: NDArray[np.integer], sky: float) -> list[NDArray[np.bool_]]:
    """Return the pixels of each trail; `places` are rows and columns of sources."""
    smooth = ndimage.uniform_filter(image - sky, 3)
    spread = sigma_clipped_stats(smooth)[2]
    label, _ = ndimage.label(smooth > ABOVE * spread, np.ones((3, 3)))
    found = [label == number for number in sorted(set(label[places[:, 0], places[:, 1]].tolist()) - {0})]
    lengths = [max(np.ptp(side) + 1 for side in np.nonzero(one)) for one in found]
    return [one for one, length in zip(found, lengths, strict=True) if length >= np.median(lengths) / 2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("frame", type=Path)
    parser.add_argument("--models", nargs="+", default=["ACS-WFC-2-32"])
    given = parser.parse_args()
    with fits.open(given.frame) as hdus:
        image = hdus["SCI"].data.astype(np.float32)
        catalogue = hdus["CAT"].data
        read_noise = float(hdus["SCI"].header["RDNOISE"])
    places = np.stack([catalogue["YPEAK"], catalogue["XPEAK"]], axis=1).astype(int) - 1
    sky = sigma_clipped_stats(image)[1]
    found = trails(image, places, sky)
    masks = {one: mask_model(one).mask(image) for one in given.models}
    masks["L.A.Cosmic"] = Lacosmic(OBJLIM, read_noise).mask(image, SIGCLIP)
    print(f"{datetime.date.today()}, {processor_name()}: {command()}\n")
    print(f"| method | pixels masked | of {len(found)} trails, those that lose more than {100 * LOST:g} % | most lost |")
    print("|---|---|---|---|")
    for name, mask in masks.items():
        lost = np.array([(image - sky)[trail & mask].sum() / (image - sky)[trail].sum() for trail in found])
        print(f"| {name} | {int(mask.sum())} | {int((lost > LOST).sum())} | {100 * lost.max():.1f} % |")


if __name__ == "__main__":
    main()
