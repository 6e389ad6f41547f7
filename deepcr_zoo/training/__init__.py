"""Training: the two phases of Zhang & Bloom 2020, for mask and for inpainting networks; every piece is usable alone."""
