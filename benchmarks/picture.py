"""The picture of README.md: a part of a real exposure, the masks of a network and of L.A.Cosmic, and the cleaned image.

    python benchmarks/picture.py EFOSC.2022-01-28T05_05_25.843.fits.gz --box 745 865 325 485 --to docs/example.png

The box is first row, row after the last, first column, column after the last, all from 0. L.A.Cosmic has astroscrappy's
defaults (sigclip 4.5, objlim 5) and the read noise of the header.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from deepcr_zoo import plot
from deepcr_zoo.exposures.options import CleanOptions
from deepcr_zoo.exposures.viewer.seen import LACOSMIC, look_at
from deepcr_zoo.progress import NullReporter


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("exposure", type=Path)
    parser.add_argument("--box", type=int, nargs=4, required=True)
    parser.add_argument("--to", type=Path, required=True)
    given = parser.parse_args()
    seen = look_at(given.exposure, CleanOptions(), LACOSMIC)
    seen.find(NullReporter())
    shown, threshold = seen.chips[0], seen.selection.threshold
    assert shown.other is not None
    network = seen.selection.mask_reference.partition("/")[2].partition("@")[0]
    masks = {network: shown.scores > threshold, "L.A.Cosmic": shown.other > threshold}
    cleaned = seen.repainted(shown.chip, masks[network])
    top, bottom, left, right = given.box
    plot.masks(shown.chip.pixels, masks, cleaned, region=np.s_[top:bottom, left:right]).savefig(given.to, dpi=80)


if __name__ == "__main__":
    main()
