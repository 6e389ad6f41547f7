"""The picture of README.md: a part of a real exposure, its mask and cleaned image, and L.A.Cosmic beside them.

    python benchmarks/picture.py EFOSC.2022-01-28T05_05_25.843.fits.gz --box 745 865 325 485 --to docs/example.png

The box is first row, row after the last, first column, column after the last, all from 0. L.A.Cosmic has astroscrappy's
defaults (sigclip 4.5, objlim 5) and the read noise of the header.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from astropy.visualization import ZScaleInterval

from deepcr_zoo.exposures.options import CleanOptions
from deepcr_zoo.exposures.pictures import outline, plainly_drawn, png
from deepcr_zoo.exposures.viewer.seen import LACOSMIC, look_at
from deepcr_zoo.progress import NullReporter


@plainly_drawn
def draw(path: Path, box: list[int], chip: int) -> bytes:
    """Return a PNG of four panels."""
    seen = look_at(path, CleanOptions(), LACOSMIC, NullReporter())
    shown, threshold = seen.chips[chip], seen.selection.threshold
    assert shown.other is not None
    part = np.s_[box[0] : box[1], box[2] : box[3]]
    masks = shown.scores > threshold, shown.other > threshold
    image, cleaned = shown.chip.pixels[part], seen.repainted(shown.chip, masks[0])[part]
    low, high = ZScaleInterval().get_limits(shown.chip.pixels[shown.chip.searched])
    network = seen.selection.mask_reference.partition("/")[2].partition("@")[0]
    figure, axes = plt.subplots(1, 4, figsize=(12, 2.6), layout="constrained")
    for axis, pixels, title in zip(
        axes, (image, image, cleaned, image), ("exposure", f"mask: {network}", "cleaned", "mask: L.A.Cosmic"), strict=True
    ):
        axis.imshow(pixels, origin="lower", cmap="gray", vmin=low, vmax=high, interpolation="nearest")
        axis.set_title(title)
        axis.set_axis_off()
    for axis, mask in zip(axes[[1, 3]], masks, strict=True):
        outline(axis, mask[part], "red", 0.9)
    return png(figure, 90)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("exposure", type=Path)
    parser.add_argument("--box", type=int, nargs=4, required=True)
    parser.add_argument("--chip", type=int, default=0, help="number of the chip, from 0")
    parser.add_argument("--to", type=Path, required=True)
    given = parser.parse_args()
    given.to.write_bytes(draw(given.exposure, given.box, given.chip))


if __name__ == "__main__":
    main()
